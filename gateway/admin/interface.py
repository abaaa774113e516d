"""
What the commands of the admin interface share: what they need, what they answer, and how they read what was asked.

A command returns what is told to the caller and what the admin log keeps of it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

from aiohttp import web

from gateway.admin.decisions import Decided
from gateway.admin.journal import ABOUT_NO_MESSAGE, Actor
from gateway.admin.problems import AdminRefusal, Code
from gateway.crypto.jws import strict_json
from gateway.deliver.stages import DeliverDeps
from gateway.domain.ids import EnterpriseNumber, holds_ssin
from gateway.domain.registration import Registration
from gateway.domain.staff import Part, SecurityMatrix, Staff, Verb
from gateway.errors import FieldError
from gateway.records.logs import Subject
from gateway.records.registrations import Occasion, Reloaded

SHORTEST_REASON: Final = 3
LONGEST_REASON: Final = 500


class Changes(Protocol):
    """Puts in force what stands in the gateway's files; see `gateway.reloading`."""

    async def look(self) -> Reloaded:
        """Return what putting the registration files in force would change."""
        ...

    async def apply(self, occasion: Occasion, *, digest: str | None = None) -> Reloaded:
        """Put the registration files in force; with `digest`, only those that it begins."""
        ...

    async def reload(self, occasion: Occasion, *, dry_run: bool = False) -> Reloaded:
        """Put everything in force that can change without a restart."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminDeps:
    """
    What commands need. `staff`, `matrix` and `registration` are asked anew by each, so changes hold at once.

    `on_decided` is told of every decision after its commit, to wake the workers and count it. `close_connections`
    closes those of a sender, and returns how many.
    """

    deliver: DeliverDeps
    staff: Callable[[], Staff]
    matrix: Callable[[], SecurityMatrix]
    registration: Callable[[], Registration]
    changes: Changes
    close_connections: Callable[[EnterpriseNumber], int]
    version: str
    started_at: datetime
    on_decided: Callable[[Decided], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    What a command came to.

    `what` and `subject` are for the admin log; `in_log`: the entry is there already, written with the change itself.
    """

    body: Mapping[str, Any]
    what: Mapping[str, str | int] = field(default_factory=dict)
    subject: Subject = ABOUT_NO_MESSAGE
    in_log: bool = False


Handler = Callable[[web.Request, Actor, AdminDeps], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A command: where it is asked for, its name in the admin log, and the right it needs."""

    method: str
    path: str
    command: str
    part: Part
    verb: Verb
    handler: Handler


async def read_json(request: web.Request) -> dict[str, Any]:
    """
    Return the object in the body of a request.

    Raises:
        AdminRefusal: unsupported-media-type, bad-request.
    """
    if request.content_type != "application/json":
        raise AdminRefusal(Code.UNSUPPORTED_MEDIA_TYPE, "send application/json")
    try:
        body = strict_json(await request.read())
    except ValueError as error:
        raise AdminRefusal(Code.BAD_REQUEST, f"the body is not acceptable JSON: {error}") from error
    if not isinstance(body, dict):
        raise AdminRefusal(Code.BAD_REQUEST, "the body must be an object")
    return body


def wrong_members(body: Mapping[str, Any], required: frozenset[str], optional: frozenset[str]) -> dict[str, str]:
    """Return the members of an object that are missing or not known, and why not; its reason is looked at too."""
    known = required | optional
    wrong = dict.fromkeys(required - body.keys(), "is missing")
    wrong |= {name: f"is not known; known are {', '.join(sorted(known))}" for name in body.keys() - known}
    why_not = reason_refused(body.get("reason"))
    if why_not is not None:
        wrong.setdefault("reason", why_not)
    return wrong


def bad_request(wrong: Mapping[str, str]) -> AdminRefusal:
    """Return the refusal of an object with these wrong members."""
    errors = [FieldError(pointer=f"/{name}", detail=detail) for name, detail in sorted(wrong.items())]
    return AdminRefusal(Code.BAD_REQUEST, "some members are wrong; see errors for each", errors=errors)


def reason_refused(reason: object) -> str | None:
    """Return why a text cannot be the reason of a command, which the admin log keeps for ten years, or None."""
    if not isinstance(reason, str) or not SHORTEST_REASON <= len(reason) <= LONGEST_REASON:
        return f"must have {SHORTEST_REASON} to {LONGEST_REASON} characters"
    if reason != reason.strip() or not reason.isprintable():
        return "must be one line of printable characters without spaces around it"
    if holds_ssin("".join(reason.split())):
        return "must not hold a personal number; the log keeps it for ten years"
    return None
