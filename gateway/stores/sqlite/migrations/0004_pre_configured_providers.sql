-- The providers that were configured when a gateway last started on this ledger.
CREATE TABLE configured_provider (
  name TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
