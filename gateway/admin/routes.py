"""
The commands of the admin interface. Each declares which right it needs: a part of the gateway, and a verb.

A command returns what is told to the caller and what the admin log keeps of it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from aiohttp import web

from gateway.admin import queries
from gateway.admin.decisions import COMMAND as DECIDE
from gateway.admin.decisions import Decided, Decision, Order, decide
from gateway.admin.journal import ABOUT_NO_MESSAGE, Actor
from gateway.admin.problems import AdminRefusal, Code
from gateway.crypto.jws import strict_json
from gateway.deliver import DeliverDeps
from gateway.domain.ids import DeliveryId, MessageId, holds_ssin
from gateway.domain.staff import Part, SecurityMatrix, Staff, Verb
from gateway.errors import FieldError
from gateway.records.logs import Subject

SHORTEST_REASON: Final = 3
LONGEST_REASON: Final = 500
_LONGEST_PROVIDER_REFERENCE: Final = 100
_ORDER_KEYS: Final = frozenset({"deliveryId", "decision", "reason"})
_OPTIONAL_ORDER_KEYS: Final = frozenset({"providerReference", "dryRun"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminDeps:
    """
    What commands need. `staff`, `matrix` and `registration_version` are asked anew by each, so changes hold at once.

    `on_decided` is told of every decision after its commit, to wake the workers and count it.
    """

    deliver: DeliverDeps
    staff: Callable[[], Staff]
    matrix: Callable[[], SecurityMatrix]
    registration_version: Callable[[], int]
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


async def list_doubts(_request: web.Request, _actor: Actor, deps: AdminDeps) -> Answer:
    """`GET /ops/doubts`: the deliveries that wait for a person."""
    return Answer(body=await queries.doubts(deps.deliver.ledger))


async def list_late(_request: web.Request, _actor: Actor, deps: AdminDeps) -> Answer:
    """`GET /ops/late`: the deliveries past their deadline."""
    return Answer(body=await queries.late(deps.deliver.ledger, deps.deliver.clock()))


async def show_message(request: web.Request, _actor: Actor, deps: AdminDeps) -> Answer:
    """`GET /ops/show/{messageId}`: what became of one message."""
    message_id = _uuid(request.match_info["messageId"])
    record = await deps.deliver.ledger.message(MessageId(message_id)) if message_id is not None else None
    if record is None:
        raise AdminRefusal(Code.NOT_FOUND, "there is no message with this messageId")
    return Answer(
        body=await queries.message(deps.deliver.ledger, record),
        what={"message": str(record.message_id)},
        subject=Subject(sender=record.sender, profile=record.profile, message_id=record.message_id),
    )


async def show_status(_request: web.Request, _actor: Actor, deps: AdminDeps) -> Answer:
    """`GET /status`: what runs, since when, and how much is to be done."""
    body = await queries.status(
        deps.deliver.ledger,
        gateway=deps.deliver.logbook.gateway,
        version=deps.version,
        registration_version=deps.registration_version(),
        started_at=deps.started_at,
        now=deps.deliver.clock(),
    )
    return Answer(body=body)


async def decide_doubt(request: web.Request, actor: Actor, deps: AdminDeps) -> Answer:
    """`POST /ops/decide`: a person's decision on a delivery that waits for one."""
    order = _order(await _read_json(request))
    done = await decide(order, actor, deps.deliver)
    if not order.dry_run:
        deps.on_decided(done)
    return Answer(body=queries.decided(done), in_log=True)


ROUTES: Final = (
    Route(
        method="GET",
        path="/ops/doubts",
        command="ops-doubts",
        part=Part.MESSAGES,
        verb=Verb.READ,
        handler=list_doubts,
    ),
    Route(
        method="POST",
        path="/ops/decide",
        command=DECIDE,
        part=Part.MESSAGES,
        verb=Verb.MODIFY,
        handler=decide_doubt,
    ),
    Route(method="GET", path="/ops/late", command="ops-late", part=Part.MESSAGES, verb=Verb.READ, handler=list_late),
    Route(
        method="GET",
        path="/ops/show/{messageId}",
        command="ops-show",
        part=Part.MESSAGES,
        verb=Verb.READ,
        handler=show_message,
    ),
    Route(method="GET", path="/status", command="status", part=Part.GATEWAY, verb=Verb.READ, handler=show_status),
)


async def _read_json(request: web.Request) -> dict[str, Any]:
    if request.content_type != "application/json":
        raise AdminRefusal(Code.UNSUPPORTED_MEDIA_TYPE, "send application/json")
    try:
        body = strict_json(await request.read())
    except ValueError as error:
        raise AdminRefusal(Code.BAD_REQUEST, f"the body is not acceptable JSON: {error}") from error
    if not isinstance(body, dict):
        raise AdminRefusal(Code.BAD_REQUEST, "the body must be an object")
    return body


def _order(body: Mapping[str, Any]) -> Order:
    """
    Return what was ordered.

    Raises:
        AdminRefusal: bad-request, with every wrong member.
    """
    known = _ORDER_KEYS | _OPTIONAL_ORDER_KEYS
    wrong = dict.fromkeys(_ORDER_KEYS - body.keys(), "is missing")
    wrong |= {name: f"is not known; known are {', '.join(sorted(known))}" for name in body.keys() - known}
    delivery_id = _uuid(body.get("deliveryId"))
    if delivery_id is None:
        wrong.setdefault("deliveryId", "must be the id of a delivery")
    decision = next((each for each in Decision if each == body.get("decision")), None)
    if decision is None:
        wrong.setdefault("decision", f"must be one of {', '.join(Decision)}")
    why_not = reason_refused(body.get("reason"))
    if why_not is not None:
        wrong.setdefault("reason", why_not)
    provider_reference = body.get("providerReference")
    if provider_reference is not None and (decision is not Decision.ACCEPTED or not _is_reference(provider_reference)):
        wrong["providerReference"] = (
            f"goes with {Decision.ACCEPTED} and has 1 to {_LONGEST_PROVIDER_REFERENCE} visible ASCII characters"
        )
    dry_run = body.get("dryRun", False)
    if not isinstance(dry_run, bool):
        wrong["dryRun"] = "must be true or false"
    if wrong or delivery_id is None or decision is None:
        errors = [FieldError(pointer=f"/{name}", detail=detail) for name, detail in sorted(wrong.items())]
        raise AdminRefusal(Code.BAD_REQUEST, "some members are wrong; see errors for each", errors=errors)
    return Order(
        delivery_id=DeliveryId(delivery_id),
        decision=decision,
        reason=body["reason"],
        provider_reference=provider_reference,
        dry_run=dry_run,
    )


def reason_refused(reason: object) -> str | None:
    """Return why a text cannot be the reason of a command, which the admin log keeps for ten years, or None."""
    if not isinstance(reason, str) or not SHORTEST_REASON <= len(reason) <= LONGEST_REASON:
        return f"must have {SHORTEST_REASON} to {LONGEST_REASON} characters"
    if reason != reason.strip() or not reason.isprintable():
        return "must be one line of printable characters without spaces around it"
    if holds_ssin("".join(reason.split())):
        return "must not hold a personal number; the log keeps it for ten years"
    return None


def _is_reference(value: object) -> bool:
    return (
        isinstance(value, str)
        and 1 <= len(value) <= _LONGEST_PROVIDER_REFERENCE
        and value.isascii()
        and value.isprintable()
        and " " not in value
    )


def _uuid(text: object) -> UUID | None:
    if not isinstance(text, str):
        return None
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text else None
