"""The published contract of the sender interface: OpenAPI, schemas, a signed example, and a page to read them on."""
