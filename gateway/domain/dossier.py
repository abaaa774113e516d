"""When a dossier is in force."""

from datetime import date, datetime
from typing import Protocol

from gateway.domain.calendar import day_of, start_of


class DossierTerm(Protocol):
    """The dates of a dossier; `until_on` is the last day in force."""

    @property
    def from_on(self) -> date:
        """The first day, as the sender says."""
        ...

    @property
    def until_on(self) -> date | None:
        """The last day, or None: until ended."""
        ...

    @property
    def registered_at(self) -> datetime:
        """When the gateway learnt of it; it never reaches further back."""
        ...

    @property
    def ended_at(self) -> datetime | None:
        """When the sender ended it."""
        ...


def in_force(dossier: DossierTerm, now: datetime) -> bool:
    """Tell whether a dossier is in force at `now`, counted from the later of its `from_on` and its registration."""
    begins_at = max(start_of(dossier.from_on), dossier.registered_at)
    if now < begins_at or (dossier.ended_at is not None and dossier.ended_at <= now):
        return False
    return dossier.until_on is None or day_of(now) <= dossier.until_on
