"""What is kept: log entries, and the personal values of a message, sealed."""
