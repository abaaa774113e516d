"""The demonstration: a whole gateway with simulated providers on this machine, and a few real letters."""
