"""What the gateway means, free of I/O: identifiers, messages, rights, states and rules."""
