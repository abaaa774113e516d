"""What the admin log says of a command: who gave it, in which role, about what, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.domain.staff import Role
from gateway.records.logs import LogBook, Subject
from gateway.records.registrations import Occasion
from gateway.stores.model import Log, LogEntry

ABOUT_NO_MESSAGE: Final = Subject()


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """The person who gives a command, and the role that permits it."""

    name: str
    uid: int
    role: Role


def command_entry(
    logbook: LogBook,
    command: str,
    actor: Actor,
    *,
    result: str,
    what: Mapping[str, str | int] | None = None,
    subject: Subject = ABOUT_NO_MESSAGE,
) -> LogEntry:
    """Return the entry of a command that a member of staff was permitted to give."""
    return logbook.entry(Log.ADMIN, command, who=_who(actor), what=what or {}, result=result, subject=subject)


def occasion_of(command: str, actor: Actor, reason: str) -> Occasion:
    """Return the occasion of a command that puts something in force."""
    return Occasion(command=command, author=actor.name, who=_who(actor), reason=reason)


def _who(actor: Actor) -> dict[str, str]:
    return {"person": actor.name, "uid": str(actor.uid), "role": str(actor.role)}


def refusal_entry(logbook: LogBook, command: str, uid: int, *, name: str | None, result: str) -> LogEntry:
    """Return the entry of a command that was refused to a stranger, or to a person without a role for it."""
    who = {"uid": str(uid)} | ({"person": name} if name is not None else {})
    return logbook.entry(Log.ADMIN, command, who=who, what={}, result=result, subject=ABOUT_NO_MESSAGE)
