-- Batches: up to 500 messages under one signature.

-- A batch of which an item was taken over: its octets as signed, which prove its items. No personal data. Not by month,
-- like references: of a sender and profile, one reference is one batch, whenever it came.
CREATE TABLE batch (
  batch_id uuid PRIMARY KEY,
  sender text NOT NULL,
  profile text NOT NULL,
  party text NOT NULL, -- who handed it over
  reference text NOT NULL,
  content_sha256 bytea NOT NULL,
  accepted_at timestamptz NOT NULL,
  part bytea NOT NULL,
  UNIQUE (sender, profile, reference)
);

-- What became of an item of a batch: the message that stands for it, or why it was refused when it came last. Not by
-- month: an item may stand for an older message.
CREATE TABLE batch_item (
  batch_id uuid NOT NULL,
  number integer NOT NULL,
  message_id uuid,
  is_proof boolean NOT NULL, -- true: it was taken over as this item; false: it was there before, or was refused
  refused_as text, -- the code of the problem, nothing of the item itself
  refused_at timestamptz,
  PRIMARY KEY (batch_id, number),
  CHECK ((message_id IS NULL) = (refused_as IS NOT NULL)),
  CHECK ((message_id IS NULL) = (refused_at IS NOT NULL)),
  CHECK (message_id IS NOT NULL OR NOT is_proof)
);
CREATE UNIQUE INDEX batch_item_proving ON batch_item (message_id) WHERE is_proof;

GRANT SELECT, INSERT ON batch, batch_item TO gateway_app;
GRANT UPDATE (message_id, is_proof, refused_as, refused_at) ON batch_item TO gateway_app; -- of one that was refused
