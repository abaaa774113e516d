"""The document-delivery gateway: hands every letter of a public body to its recipient, once."""
