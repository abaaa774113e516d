"""Simulators of the providers, real HTTP servers for demo, tests and load; see README.md."""
