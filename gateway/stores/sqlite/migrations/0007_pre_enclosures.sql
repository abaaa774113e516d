-- Small documents lie in the ledger itself: recorded and destroyed with their message, in its own transactions.
ALTER TABLE document ADD COLUMN enclosed INTEGER NOT NULL DEFAULT 0;

CREATE TABLE enclosure (
  document_id BLOB PRIMARY KEY,
  sealed BLOB NOT NULL
) STRICT;
