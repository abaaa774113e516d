"""The sender edge: mutual TLS and HTTP in front of the first spine."""
