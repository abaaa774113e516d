"""What differs from one gateway to another in the contract: its name, its address, its limits."""

from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import Self

from gateway.config import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """
    The facts of one gateway. Limits are in bytes and counts.

    `created_at_past` and `created_at_future` bound the age of a new message.
    """

    gateway: str
    public_url: str
    version: str
    documents: int
    message_bytes: int
    manifest_bytes: int
    batch_items: int
    batch_bytes: int
    batch_manifest_bytes: int
    created_at_past: timedelta
    created_at_future: timedelta

    @classmethod
    def of(cls, config: Config, public_url: str) -> Self:
        """Return the facts of the gateway so configured, at that address. Reads the installed version: blocks."""
        limits = config.limits
        return cls(
            gateway=config.gateway.name,
            public_url=public_url,
            version=version("document-gateway"),
            documents=limits.documents,
            message_bytes=limits.message_bytes,
            manifest_bytes=limits.manifest_bytes,
            batch_items=limits.batch_items,
            batch_bytes=limits.batch_bytes,
            batch_manifest_bytes=limits.batch_manifest_bytes,
            created_at_past=limits.created_at_past,
            created_at_future=limits.created_at_future,
        )
