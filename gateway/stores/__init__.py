"""The three stores - ledger, blobs, keyring - as narrow Protocols, and their implementations."""
