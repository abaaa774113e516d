-- Times are Unix milliseconds, UTC. Ids are the 16 bytes of a UUID. Columns named sealed_* hold ciphertext only.

CREATE TABLE schema_migration (
  version INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  applied_at INTEGER NOT NULL
) STRICT;

CREATE TABLE kek (
  kek_id BLOB PRIMARY KEY,
  sender_id BLOB NOT NULL,
  year INTEGER NOT NULL,
  master_id TEXT NOT NULL,
  wrapped BLOB NOT NULL,
  UNIQUE (sender_id, year)
) STRICT, WITHOUT ROWID;

-- A key is destroyed by writing zeros over `wrapped` in place, and its row stays. Rows are never deleted and only ever
-- added at the end: rebalancing a b-tree can leave copies of neighbouring rows in the unused part of a page, where
-- secure_delete does not find them again. See README.md, "Destroyed keys".
CREATE TABLE dek (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  dek_id BLOB NOT NULL UNIQUE,
  kek_id BLOB NOT NULL REFERENCES kek (kek_id),
  purpose TEXT NOT NULL CHECK (purpose IN ('document', 'meta', 'log')),
  destroyed INTEGER NOT NULL DEFAULT 0 CHECK (destroyed IN (0, 1)), -- both take no room in a row, so its size stays
  wrapped BLOB NOT NULL
) STRICT;
CREATE TRIGGER dek_never_goes BEFORE DELETE ON dek
BEGIN
  SELECT RAISE(ABORT, 'keys are overwritten, never deleted');
END;

CREATE TABLE index_key (
  purpose TEXT NOT NULL,
  version INTEGER NOT NULL,
  master_id TEXT NOT NULL,
  wrapped BLOB NOT NULL,
  PRIMARY KEY (purpose, version)
) STRICT, WITHOUT ROWID;

-- The log key of a sender and year.
CREATE TABLE log_key (
  sender_id BLOB NOT NULL,
  year INTEGER NOT NULL,
  dek_id BLOB NOT NULL REFERENCES dek (dek_id),
  PRIMARY KEY (sender_id, year)
) STRICT, WITHOUT ROWID;

CREATE TABLE message (
  position INTEGER PRIMARY KEY AUTOINCREMENT, -- order of commit; the cursor of lists
  message_id BLOB NOT NULL UNIQUE,
  revision INTEGER NOT NULL DEFAULT 0, -- counts changes; a change names the revision it saw
  sender TEXT NOT NULL,
  profile TEXT NOT NULL,
  party TEXT NOT NULL, -- who handed it over
  registration_version INTEGER NOT NULL,
  reference TEXT NOT NULL,
  category TEXT NOT NULL,
  legal_basis TEXT NOT NULL,
  language TEXT NOT NULL,
  lane TEXT NOT NULL,
  status TEXT NOT NULL,
  accepted_at INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  deliver_not_before INTEGER,
  deliver_before INTEGER,
  retention_s INTEGER NOT NULL,
  billing_reference TEXT,
  route TEXT NOT NULL, -- JSON, see rows.py
  letterhead TEXT NOT NULL, -- JSON, see rows.py
  print_options TEXT NOT NULL, -- JSON, see rows.py
  dossier_rule INTEGER NOT NULL, -- 1: a dossier must still be in force at a deferred dispatch
  content_sha256 BLOB NOT NULL,
  message_sha256 BLOB NOT NULL,
  recipient_index BLOB,
  recipient_index_version INTEGER,
  meta_dek_id BLOB NOT NULL,
  sealed_recipient BLOB NOT NULL,
  sealed_subject BLOB NOT NULL,
  sealed_purpose BLOB NOT NULL,
  sealed_signed_message BLOB NOT NULL,
  receipt_jws TEXT NOT NULL,
  receipt_xml BLOB NOT NULL,
  copy_state TEXT NOT NULL,
  copy_until INTEGER,
  retrievals INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX message_by_sender ON message (sender, profile, position, accepted_at);
-- Lists by status: nearly all messages are delivered, so the few others are what an index must find.
CREATE INDEX message_by_status ON message (sender, profile, status, position) WHERE status <> 'delivered';
CREATE INDEX message_by_recipient ON message (recipient_index) WHERE recipient_index IS NOT NULL;
CREATE INDEX message_to_erase ON message (copy_until) WHERE copy_state IN ('kept', 'awaiting-erasure');

-- Outlives the message: a reference is burnt for as long as metadata is kept.
CREATE TABLE reference (
  sender TEXT NOT NULL,
  profile TEXT NOT NULL,
  reference TEXT NOT NULL,
  message_id BLOB NOT NULL,
  content_sha256 BLOB NOT NULL,
  PRIMARY KEY (sender, profile, reference)
) STRICT, WITHOUT ROWID;

-- A document's id is also the id of its blob, or of its enclosure. Cover pages are documents that we made, for one delivery.
CREATE TABLE document (
  document_id BLOB PRIMARY KEY,
  message_id BLOB NOT NULL,
  delivery_id BLOB, -- of a cover page
  number INTEGER NOT NULL,
  part TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('document', 'cover')),
  media_type TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  sha256 BLOB NOT NULL,
  main INTEGER NOT NULL,
  signed INTEGER NOT NULL,
  pages INTEGER,
  sealed_filename BLOB NOT NULL,
  dek_id BLOB NOT NULL,
  key_destroyed_at INTEGER,
  blob_erased_at INTEGER, -- of an enclosed one: when its key was destroyed
  enclosed INTEGER NOT NULL DEFAULT 0 -- 1: there is no blob; the sealed bytes are an enclosure
) STRICT, WITHOUT ROWID;
CREATE INDEX document_by_message ON document (message_id, number);
CREATE INDEX document_blob_to_erase ON document (key_destroyed_at)
  WHERE key_destroyed_at IS NOT NULL AND blob_erased_at IS NULL;

-- The sealed bytes of enclosed documents. A row comes with its message and goes with its key. Not WITHOUT ROWID: there
-- the inner pages of the tree would hold such rows too, and be many.
CREATE TABLE enclosure (
  document_id BLOB PRIMARY KEY,
  sealed BLOB NOT NULL
) STRICT;

-- A delivery is also its own queue entry: next_action, due_at, lease.
CREATE TABLE delivery (
  delivery_id BLOB PRIMARY KEY,
  message_id BLOB NOT NULL,
  number INTEGER NOT NULL,
  channel TEXT NOT NULL,
  provider TEXT NOT NULL,
  lane TEXT NOT NULL,
  status TEXT NOT NULL,
  status_at INTEGER NOT NULL,
  reason TEXT,
  code TEXT, -- the provider's word for the reason
  provider_reference TEXT,
  barcode TEXT,
  handed_over_at INTEGER,
  posted_at INTEGER,
  read_seen_at INTEGER,
  attempts INTEGER NOT NULL DEFAULT 0,
  first_attempt_at INTEGER,
  next_action TEXT NOT NULL,
  due_at INTEGER,
  deadline_at INTEGER, -- late after this
  lease_token INTEGER NOT NULL DEFAULT 0, -- grows with each claim; the fence
  lease_until INTEGER,
  worker TEXT,
  sender TEXT NOT NULL DEFAULT '', -- of the message; senders take turns
  UNIQUE (message_id, number)
) STRICT, WITHOUT ROWID;
-- Provider first: what waits for a provider that is down costs the others nothing.
CREATE INDEX delivery_due ON delivery (provider, lane, due_at) WHERE next_action IN ('send', 'reconcile', 'poll');
CREATE INDEX delivery_due_by_sender ON delivery (provider, lane, sender, due_at)
  WHERE next_action IN ('send', 'reconcile', 'poll');
CREATE INDEX delivery_leased ON delivery (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX delivery_waiting ON delivery (next_action, channel, due_at) WHERE next_action <> 'none';
CREATE INDEX delivery_deadline ON delivery (deadline_at) WHERE next_action <> 'none';

-- Where the turns stand for a provider: after whom each lane goes on, and how long bulk has waited for its place.
CREATE TABLE turn (
  provider TEXT PRIMARY KEY,
  last_single TEXT NOT NULL, -- the sender whose single letter was claimed last; '' before the first
  last_bulk TEXT NOT NULL,
  singles INTEGER NOT NULL -- single letters claimed since a bulk letter was, counted as far as that matters
) STRICT, WITHOUT ROWID;

CREATE TABLE attempt (
  delivery_id BLOB NOT NULL,
  number INTEGER NOT NULL,
  action TEXT NOT NULL,
  worker TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  deadline_at INTEGER NOT NULL,
  ended_at INTEGER,
  outcome TEXT,
  code TEXT,
  PRIMARY KEY (delivery_id, number)
) STRICT, WITHOUT ROWID;

-- Traffic, privacy and admin log. `entry` is the canonical JSON that the leaf commits to; it holds no personal value.
CREATE TABLE log_entry (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  entry_id BLOB NOT NULL UNIQUE,
  log TEXT NOT NULL CHECK (log IN ('traffic', 'privacy', 'admin')),
  at INTEGER NOT NULL,
  event TEXT NOT NULL,
  sender TEXT,
  profile TEXT,
  message_id BLOB,
  delivery_id BLOB,
  about_index BLOB,
  about_index_version INTEGER,
  entry BLOB NOT NULL,
  leaf_sha256 BLOB NOT NULL,
  dek_id BLOB,
  sealed_clear BLOB
) STRICT;
CREATE INDEX log_entry_by_message ON log_entry (message_id, position) WHERE message_id IS NOT NULL;
CREATE INDEX log_entry_about ON log_entry (about_index, position) WHERE about_index IS NOT NULL;
CREATE TRIGGER log_entry_never_changes BEFORE UPDATE ON log_entry
BEGIN
  SELECT RAISE(ABORT, 'log entries never change');
END;
CREATE TRIGGER log_entry_never_goes BEFORE DELETE ON log_entry
BEGIN
  SELECT RAISE(ABORT, 'log entries are never deleted one by one');
END;

CREATE TABLE dossier (
  dossier_id BLOB PRIMARY KEY,
  sender TEXT NOT NULL,
  category TEXT NOT NULL,
  recipient_index BLOB NOT NULL,
  recipient_index_version INTEGER NOT NULL,
  from_on TEXT NOT NULL, -- ISO 8601 date
  until_on TEXT, -- last day in force; NULL: until ended
  registered_at INTEGER NOT NULL,
  ended_at INTEGER,
  dek_id BLOB NOT NULL,
  sealed_recipient BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX dossier_by_recipient ON dossier (sender, recipient_index, category);

CREATE TABLE quota (
  sender TEXT NOT NULL,
  profile TEXT NOT NULL,
  day TEXT NOT NULL, -- ISO 8601 date in Europe/Brussels
  messages INTEGER NOT NULL,
  paper INTEGER NOT NULL,
  PRIMARY KEY (sender, profile, day)
) STRICT, WITHOUT ROWID;

-- What the recipient of a paper letter can open with the code on its cover page. Keyed hashes only.
CREATE TABLE retrieval (
  delivery_id BLOB PRIMARY KEY,
  message_id BLOB NOT NULL,
  token_hash BLOB NOT NULL UNIQUE,
  number_hash BLOB NOT NULL UNIQUE,
  code_hash BLOB NOT NULL,
  index_version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  failures INTEGER NOT NULL DEFAULT 0,
  locked_until INTEGER
) STRICT, WITHOUT ROWID;

-- A blob under a tombstone can no longer be committed; only then is it removed.
CREATE TABLE tombstone (
  blob_id BLOB PRIMARY KEY,
  at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The highest version is in force.
CREATE TABLE registration_version (
  version INTEGER PRIMARY KEY,
  digest BLOB NOT NULL, -- SHA-256 of files
  at INTEGER NOT NULL,
  author TEXT NOT NULL,
  files TEXT -- canonical JSON of {file name: text}, see config/registration_files.py; NULL: from before it was kept
) STRICT;
CREATE TRIGGER registration_version_never_changes BEFORE UPDATE ON registration_version
BEGIN
  SELECT RAISE(ABORT, 'a registration in force is followed by another, never changed');
END;
CREATE TRIGGER registration_version_never_goes BEFORE DELETE ON registration_version
BEGIN
  SELECT RAISE(ABORT, 'messages name the registration they were accepted under');
END;

CREATE TABLE suspension (
  sender TEXT PRIMARY KEY,
  at INTEGER NOT NULL,
  reason TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The providers that were configured when a gateway last started: messages under way may need one that is gone.
CREATE TABLE configured_provider (
  name TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- Readiness proves that a commit is durable by moving this one row.
CREATE TABLE heartbeat (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  at INTEGER NOT NULL
) STRICT;

-- An epoch lasts until a backup is restored; cursors into feeds name theirs.
CREATE TABLE epoch (
  number INTEGER PRIMARY KEY,
  epoch_id BLOB NOT NULL,
  begun_at INTEGER NOT NULL
) STRICT;

-- How far the log has been numbered; one row.
CREATE TABLE feed_progress (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  position INTEGER NOT NULL -- of the last log entry that was looked at
) STRICT;

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

-- A batch of which an item was taken over: its octets as signed, which prove its items. No personal data.
CREATE TABLE batch (
  batch_id BLOB PRIMARY KEY,
  sender TEXT NOT NULL,
  profile TEXT NOT NULL,
  party TEXT NOT NULL, -- who handed it over
  reference TEXT NOT NULL,
  content_sha256 BLOB NOT NULL,
  accepted_at INTEGER NOT NULL,
  part BLOB NOT NULL,
  UNIQUE (sender, profile, reference)
) STRICT;
CREATE TRIGGER batch_never_changes BEFORE UPDATE ON batch
BEGIN
  SELECT RAISE(ABORT, 'batches never change');
END;

-- What became of an item of a batch: the message that stands for it, or why it was refused when it came last.
CREATE TABLE batch_item (
  batch_id BLOB NOT NULL,
  number INTEGER NOT NULL,
  message_id BLOB,
  is_proof INTEGER NOT NULL, -- 1: it was taken over as this item; 0: it was there before, or was refused
  refused_as TEXT, -- the code of the problem, nothing of the item itself
  refused_at INTEGER,
  PRIMARY KEY (batch_id, number),
  CHECK ((message_id IS NULL) = (refused_as IS NOT NULL)),
  CHECK ((message_id IS NULL) = (refused_at IS NOT NULL)),
  CHECK (message_id IS NOT NULL OR is_proof = 0)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER batch_item_keeps_message BEFORE UPDATE ON batch_item WHEN OLD.message_id IS NOT NULL
BEGIN
  SELECT RAISE(ABORT, 'the message that stands for an item never changes');
END;
CREATE UNIQUE INDEX batch_item_proving ON batch_item (message_id) WHERE is_proof = 1;
