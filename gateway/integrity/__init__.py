"""The integrity checker: walks ledger, blobs and keys, and names every promise that is broken."""
