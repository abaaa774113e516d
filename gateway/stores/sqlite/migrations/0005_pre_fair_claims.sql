-- Claims are dealt out fairly: each delivery knows its sender, and each provider whose turn it is.
ALTER TABLE delivery ADD COLUMN sender TEXT NOT NULL DEFAULT '';
UPDATE delivery SET sender = coalesce(
  (SELECT message.sender FROM message WHERE message.message_id = delivery.message_id), ''
);

DROP INDEX delivery_due;
CREATE INDEX delivery_due ON delivery (provider, lane, due_at) WHERE next_action IN ('send', 'reconcile', 'poll');
CREATE INDEX delivery_due_by_sender ON delivery (provider, lane, sender, due_at)
  WHERE next_action IN ('send', 'reconcile', 'poll');
CREATE INDEX delivery_leased ON delivery (lease_until) WHERE lease_until IS NOT NULL;

CREATE TABLE turn (
  provider TEXT PRIMARY KEY,
  last_single TEXT NOT NULL,
  last_bulk TEXT NOT NULL,
  singles INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
