"""
Putting a registration in force: a numbered version in the ledger, together with its entry in the admin log.

Files are the source; what holds is the version with the highest number, on every replica. The same text keeps its
number, and what messages under way need is not taken away from them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.config.registration_files import RegistrationFiles
from gateway.domain.needs import Need, unmet_needs
from gateway.domain.registration import Registration
from gateway.errors import GatewayError
from gateway.records.logs import LogBook, Subject
from gateway.stores.ledger import Ledger
from gateway.stores.model import Log, LogEntry, RegistrationVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """Who puts something in force, and why; `command` is its name in the admin log, `who` its actor there."""

    command: str
    author: str
    who: Mapping[str, str]
    reason: str

    def entry(self, logbook: LogBook, *, result: str, what: Mapping[str, str | int]) -> LogEntry:
        """Return the admin-log entry about it."""
        said = {"reason": self.reason, **what}
        return logbook.entry(Log.ADMIN, self.command, who=self.who, what=said, result=result, subject=Subject())


def by_itself(what: str, gateway: str) -> Occasion:
    """Return the occasion of something that no member of staff ordered: a start, a signal."""
    return Occasion(command=what, author=what, who={"gateway": gateway}, reason=what)


@dataclass(eq=False)
class StillNeeded(GatewayError):
    """Messages under way need what would be taken away; nothing was changed."""

    needs: Sequence[Need]

    def __str__(self) -> str:
        """Return what, and how many messages need it."""
        told = "; ".join(f"{need.what} ({need.messages} messages under way)" for need in self.needs)
        return f"messages under way need what is no longer there: {told}"


class Overtaken(GatewayError):
    """Somebody else put another registration in force in the same moment; nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """
    What putting files in force changed, or would change: the number of the registration, and a line for each change.

    `needs` is what keeps it from being done, where it was only looked at.
    """

    number_before: int
    number_after: int
    digest: str
    changes: tuple[str, ...]
    needs: tuple[Need, ...] = ()

    @property
    def is_change(self) -> bool:
        """Whether anything differs, be it only a comment in the files."""
        return bool(self.changes) or self.number_before != self.number_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """From the registration in force, if there is one, to the next; `is_new`: it gets a number of its own."""

    before: RegistrationVersion | None
    files: RegistrationFiles

    @property
    def is_new(self) -> bool:
        """Whether the text differs from the one in force."""
        return self.before is None or self.before.digest != self.files.digest

    @property
    def number_before(self) -> int:
        """The number in force, 0 when there is none."""
        return self.before.version if self.before is not None else 0

    @property
    def number_after(self) -> int:
        """The number that the files have, or will have."""
        return self.number_before + self.is_new

    @property
    def told(self) -> dict[str, str | int]:
        """What the admin log keeps of it; the text itself is in the ledger."""
        return {
            "versionBefore": self.number_before,
            "versionAfter": self.number_after,
            "digest": self.files.digest.hex(),
        }


async def next_step(files: RegistrationFiles, ledger: Ledger) -> Step:
    """Return what putting these files in force would be."""
    return Step(before=await ledger.registration_in_force(), files=files)


async def require_needs_met(registration: Registration, providers: Collection[str], ledger: Ledger) -> None:
    """
    Return when messages under way find everything they need.

    A message that is being accepted in this very moment keeps the registration that it was authorised under.

    Raises:
        StillNeeded: with all that is missing.
    """
    needs = unmet_needs(await ledger.live_uses(), registration, providers)
    if needs:
        raise StillNeeded(needs)


async def take_step(step: Step, occasion: Occasion, entries: Sequence[LogEntry], at: datetime, ledger: Ledger) -> None:
    """
    Commit a step together with the log entries about it; of one that is not new, the entries alone.

    Raises:
        Overtaken: nothing was changed.
        StoreUnavailable: it may or may not be in force.
    """
    if not step.is_new:
        await ledger.append(entries)
        return
    new = RegistrationVersion(
        version=step.number_after,
        digest=step.files.digest,
        author=occasion.author,
        at=at,
        text=step.files.text,
    )
    if not await ledger.add_registration(new, entries):
        raise Overtaken("another registration was put in force in this moment; look at it, then try again")
