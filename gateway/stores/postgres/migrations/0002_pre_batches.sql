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

-- The message that stands for an item of a batch. Not by month: an item may stand for an older message.
CREATE TABLE batch_item (
  batch_id uuid NOT NULL,
  number integer NOT NULL,
  message_id uuid NOT NULL,
  is_proof boolean NOT NULL, -- true: it was taken over as this item; false: it was there before
  PRIMARY KEY (batch_id, number)
);
CREATE UNIQUE INDEX batch_item_proving ON batch_item (message_id) WHERE is_proof;

GRANT SELECT, INSERT ON batch, batch_item TO gateway_app;
