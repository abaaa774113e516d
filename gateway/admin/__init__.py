"""For those who operate the gateway: its admin interface, the commands that use it, metrics and health."""
