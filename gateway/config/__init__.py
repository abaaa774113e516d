"""
What the gateway reads from files: its own configuration, the senders' registrations, its staff.

`gateway_file` reads `gateway.toml`, `senders` the registrations and categories, `staff` the persons and the security
matrix; `reader` and `values` are how any of them is read: every mistake at once, each with file, key and fix.
"""

from gateway.config.gateway_file import (
    Admin,
    ClientCa,
    Config,
    Environment,
    Gateway,
    Identifiers,
    Intake,
    Ops,
    Portal,
    Receipts,
    Stores,
    load,
)
from gateway.config.limits import Limits, Retention, Workers
from gateway.config.providers import EboxProvider, PrintRestProvider, Provider
from gateway.config.reader import ConfigInvalid, describe
from gateway.config.values import Address

__all__ = [
    "Address", "Admin", "ClientCa", "Config", "ConfigInvalid", "EboxProvider", "Environment", "Gateway", "Identifiers",
    "Intake", "Limits", "Ops", "Portal", "PrintRestProvider", "Provider", "Receipts", "Retention", "Stores", "Workers",
    "describe", "load",
]  # fmt: skip
