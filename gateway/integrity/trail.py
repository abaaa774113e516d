"""What is wrong with what a message leaves behind for later: its reference and its traffic log. Pure."""

import json
from collections.abc import Iterator
from typing import Any, Final

from gateway.domain.status import DeliveryStatus, MessageStatus
from gateway.integrity.findings import Code, Finding
from gateway.stores.model import AuditedMessage, DeliveryRecord, TimelineEntry

_ACCEPTED: Final = "accepted"
_STATUSES: Final = frozenset({*map(str, DeliveryStatus), *map(str, MessageStatus)})
_BEFORE_THE_CALL: Final = frozenset({MessageStatus.ACCEPTED, MessageStatus.SCHEDULED})


def trail_findings(audited: AuditedMessage) -> Iterator[Finding]:
    """Yield what is wrong with the reference and the traffic log of a message."""
    yield from _reference(audited)
    timeline = audited.timeline
    first = timeline[0] if timeline else None
    if first is None or first.event != _ACCEPTED or first.delivery_id is not None:
        yield Finding(code=Code.ACCEPTANCE_UNLOGGED, id=str(audited.message.message_id))
    for delivery in audited.message.deliveries:
        yield from _delivery(delivery, timeline)
    yield from _message(audited)


def _reference(audited: AuditedMessage) -> Iterator[Finding]:
    message, known = audited.message, audited.reference
    if known is None:
        yield Finding(code=Code.REFERENCE_MISSING, id=str(message.message_id))
    elif known.message_id != message.message_id:
        yield Finding(code=Code.REFERENCE_DIFFERS, id=str(message.message_id), detail=f"names {known.message_id}")
    elif known.content_sha256 != message.content_sha256:
        yield Finding(code=Code.REFERENCE_DIFFERS, id=str(message.message_id), detail="other content")


def _delivery(delivery: DeliveryRecord, timeline: tuple[TimelineEntry, ...]) -> Iterator[Finding]:
    """What a settlement wrote must be told; that a call begins is not told, and neither is a first wait."""
    if delivery.status is DeliveryStatus.DISPATCHING:
        return
    about = [entry for entry in timeline if entry.delivery_id == delivery.delivery_id]
    told = [status for entry in about if (status := _told(entry, "status")) is not None]
    if not told and delivery.status is DeliveryStatus.WAITING and delivery.attempts == 0:
        return
    if not told or told[-1] != delivery.status:
        detail = f"{delivery.status}, last told {told[-1] if told else 'nothing'}"
        yield Finding(code=Code.STATUS_UNLOGGED, id=str(delivery.delivery_id), detail=detail)


def _message(audited: AuditedMessage) -> Iterator[Finding]:
    message = audited.message
    told = [status for entry in audited.timeline if (status := _told(entry, "messageStatus")) is not None]
    if not told or told[-1] == message.status:
        return
    if message.status is MessageStatus.IN_DELIVERY and told[-1] in _BEFORE_THE_CALL:
        return  # a call began
    detail = f"message {message.status}, last told {told[-1]}"
    yield Finding(code=Code.STATUS_UNLOGGED, id=str(message.message_id), detail=detail)


def _told(entry: TimelineEntry, name: str) -> str | None:
    """Return the status that an entry tells under a name, or None; an entry that is no JSON tells nothing."""
    try:
        body: Any = json.loads(entry.entry)
    except ValueError:
        return None
    what = body.get("what") if isinstance(body, dict) else None
    status = what.get(name) if isinstance(what, dict) else None
    return status if status in _STATUSES else None
