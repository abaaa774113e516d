-- Small documents lie in the ledger itself: recorded and destroyed with their message, in its own transactions.

-- True: there is no blob, and no row in `blob`; the sealed bytes are an enclosure.
ALTER TABLE document ADD COLUMN enclosed boolean NOT NULL DEFAULT false;

-- The sealed bytes of enclosed documents. A row comes with its message and goes with its key, so the table stays as
-- small as what is kept, and is not by month. EXTERNAL: what is sealed cannot be made smaller, so it is not tried.
CREATE TABLE enclosure (
  document_id uuid PRIMARY KEY,
  sealed bytea STORAGE EXTERNAL NOT NULL
) WITH (
  autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0,
  toast.autovacuum_vacuum_scale_factor = 0.01, toast.autovacuum_vacuum_cost_delay = 0
);

GRANT SELECT, INSERT, DELETE ON enclosure TO gateway_app;
