"""The commands of the admin interface. Each declares which right it needs: a part of the gateway, and a verb."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from aiohttp import web

from gateway.admin import queries, sender_routes
from gateway.admin.decisions import COMMAND as DECIDE
from gateway.admin.decisions import Decision, Order, decide
from gateway.admin.interface import AdminDeps, Answer, Route, bad_request, read_json, wrong_members
from gateway.admin.journal import Actor
from gateway.admin.problems import AdminRefusal, Code
from gateway.domain.ids import DeliveryId, MessageId
from gateway.domain.staff import Part, Verb
from gateway.records.logs import Subject

_LONGEST_PROVIDER_REFERENCE: Final = 100
_ORDER_KEYS: Final = frozenset({"deliveryId", "decision", "reason"})
_OPTIONAL_ORDER_KEYS: Final = frozenset({"providerReference", "dryRun"})


async def list_doubts(_request: web.Request, _actor: Actor, deps: AdminDeps) -> Answer:
    """`GET /ops/doubts`: the deliveries that wait for a person."""
    return Answer(body=await queries.doubts(deps.deliver.ledger))


async def list_late(_request: web.Request, _actor: Actor, deps: AdminDeps) -> Answer:
    """`GET /ops/late`: what is past its deadline."""
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
        registration_version=deps.registration().version,
        started_at=deps.started_at,
        now=deps.deliver.clock(),
    )
    return Answer(body=body)


async def decide_doubt(request: web.Request, actor: Actor, deps: AdminDeps) -> Answer:
    """`POST /ops/decide`: a person's decision on a delivery that waits for one."""
    order = _order(await read_json(request))
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
    *sender_routes.ROUTES,
)


def _order(body: Mapping[str, Any]) -> Order:
    """
    Return what was ordered.

    Raises:
        AdminRefusal: bad-request, with every wrong member.
    """
    wrong = wrong_members(body, _ORDER_KEYS, _OPTIONAL_ORDER_KEYS)
    delivery_id = _uuid(body.get("deliveryId"))
    if delivery_id is None:
        wrong.setdefault("deliveryId", "must be the id of a delivery")
    decision = next((each for each in Decision if each == body.get("decision")), None)
    if decision is None:
        wrong.setdefault("decision", f"must be one of {', '.join(Decision)}")
    provider_reference = body.get("providerReference")
    if provider_reference is not None and (decision is not Decision.ACCEPTED or not _is_reference(provider_reference)):
        wrong["providerReference"] = (
            f"goes with {Decision.ACCEPTED} and has 1 to {_LONGEST_PROVIDER_REFERENCE} visible ASCII characters"
        )
    dry_run = body.get("dryRun", False)
    if not isinstance(dry_run, bool):
        wrong["dryRun"] = "must be true or false"
    if wrong or delivery_id is None or decision is None:
        raise bad_request(wrong)
    return Order(
        delivery_id=DeliveryId(delivery_id),
        decision=decision,
        reason=body["reason"],
        provider_reference=provider_reference,
        dry_run=dry_run,
    )


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
