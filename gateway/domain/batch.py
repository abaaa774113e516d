"""A batch as its sender signed it: up to 500 messages under one signature, each named by reference and digest."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.domain.ids import EnterpriseNumber

MAX_ITEMS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchItem:
    """One message of a batch; `sha256` is of the octets of its part, in 64 lower-case hexadecimal digits."""

    number: int
    reference: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """All signed fields of a batch; items are numbered from 1 without gap. No personal data."""

    gateway: str
    reference: str
    created_at: datetime
    sender: EnterpriseNumber
    ovo_code: str | None = None
    profile: str | None = None
    items: tuple[BatchItem, ...]

    def item(self, number: int) -> BatchItem | None:
        """Return the item of this number, if there is one."""
        return self.items[number - 1] if 1 <= number <= len(self.items) else None
