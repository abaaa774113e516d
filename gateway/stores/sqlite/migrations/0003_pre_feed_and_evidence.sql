-- Each sender's feed of events, the epoch of the ledger, and the signed statements about messages.

-- An epoch lasts until a backup is restored; cursors into feeds name theirs.
CREATE TABLE epoch (
  number INTEGER PRIMARY KEY,
  epoch_id BLOB NOT NULL,
  begun_at INTEGER NOT NULL
) STRICT;
INSERT INTO epoch (number, epoch_id, begun_at) VALUES (1, randomblob(16), 0); -- 0: when the ledger was made

-- How far the log has been numbered; one row.
CREATE TABLE feed_progress (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  position INTEGER NOT NULL -- of the last log entry that was looked at
) STRICT;
INSERT INTO feed_progress (id, position) VALUES (1, 0);

CREATE TABLE feed (
  sender TEXT PRIMARY KEY,
  last_number INTEGER NOT NULL,
  removed_through INTEGER NOT NULL DEFAULT 0 -- events with these numbers were removed when their time was over
) STRICT, WITHOUT ROWID;

CREATE TABLE feed_event (
  sender TEXT NOT NULL,
  number INTEGER NOT NULL, -- from 1, without gap
  profile TEXT,
  position INTEGER NOT NULL, -- of the log entry
  numbered_at INTEGER NOT NULL,
  PRIMARY KEY (sender, number)
) STRICT, WITHOUT ROWID;

-- What was once stated about the n-th traffic-log entry of a message is what will always be stated.
CREATE TABLE evidence (
  message_id BLOB NOT NULL,
  number INTEGER NOT NULL,
  jws TEXT NOT NULL,
  signed_at INTEGER NOT NULL,
  PRIMARY KEY (message_id, number)
) STRICT;
CREATE TRIGGER evidence_never_changes BEFORE UPDATE ON evidence
BEGIN
  SELECT RAISE(ABORT, 'statements never change');
END;
