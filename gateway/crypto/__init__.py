"""Signatures, certificates, sealing and receipts: everything that must be exactly right for ten years."""
