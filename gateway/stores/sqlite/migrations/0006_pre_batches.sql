-- Batches: up to 500 messages under one signature.
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
