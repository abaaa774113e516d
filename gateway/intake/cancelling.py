"""Stopping a message, for as long as no provider was called for it."""

from datetime import datetime
from typing import Final

from aiohttp import web

from gateway.domain.retention import keep_copy
from gateway.domain.status import DeliveryStatus, MessageStatus, NextAction
from gateway.errors import Kind, LeaseLost, Refusal
from gateway.intake import views
from gateway.intake.caller import Caller
from gateway.intake.handlers import IntakeDeps, own_message
from gateway.records.logs import Subject
from gateway.stores.model import (
    DeliveryChange,
    DeliveryRecord,
    Log,
    LogEntry,
    MessageRecord,
    Settlement,
)

_CAN_BE_STOPPED: Final = frozenset({MessageStatus.ACCEPTED, MessageStatus.SCHEDULED})


async def cancel(request: web.Request, caller: Caller, deps: IntakeDeps) -> web.Response:
    """`POST /api/v1/messages/{messageId}/cancel`: stop it; one that is stopped already is answered the same."""
    record = await stopped(await own_message(request, caller, deps), caller, deps)
    return web.json_response(views.whole(record, await deps.ledger.timeline(record.message_id)))


async def stopped(record: MessageRecord, caller: Caller, deps: IntakeDeps) -> MessageRecord:
    """
    Stop a message of the caller, and return it as it stands then.

    Raises:
        Refusal: already-dispatched; not-found, when it went in this moment.
    """
    # It ends: whoever is faster than we are moves the message on, and no move leads back to where it can be stopped.
    while record.status is not MessageStatus.CANCELLED:
        if record.status not in _CAN_BE_STOPPED:
            raise _too_late(record)
        if await _was_stopped(record, caller, deps):
            deps.on_cancelled(record)
        found = await deps.ledger.message(record.message_id)
        if found is None:
            raise Refusal(Kind.NOT_FOUND, "no message of this caller's sender and profiles has this messageId")
        record = found
    return record


async def _was_stopped(record: MessageRecord, caller: Caller, deps: IntakeDeps) -> bool:
    now = deps.clock()
    (delivery,) = record.deliveries  # no provider was called, so none can have been followed by another
    settlement = Settlement(
        change=DeliveryChange(
            status=DeliveryStatus.CANCELLED,
            next_action=NextAction.NONE,
            due_at=None,
            deadline_at=None,
            at=now,
        ),
        message_revision=record.revision,
        message_status=MessageStatus.CANCELLED,
        keep=keep_copy(
            MessageStatus.CANCELLED,
            (),
            retention=record.retention,
            keep_undelivered=deps.keep_undelivered,
            now=now,
        ),
        logs=(_entry(record, delivery, caller, deps, now),),
    )
    try:
        return await deps.ledger.cancel(record.message_id, settlement)
    except LeaseLost:
        return False  # it changed since it was read


def _entry(
    record: MessageRecord, delivery: DeliveryRecord, caller: Caller, deps: IntakeDeps, now: datetime
) -> LogEntry:
    return deps.logbook.entry(
        Log.TRAFFIC,
        "cancelled",
        who={"party": caller.peer.party, "sender": record.sender, "profile": record.profile},
        what={
            "message": str(record.message_id),
            "delivery": str(delivery.delivery_id),
            "number": delivery.number,
            "channel": delivery.channel,
            "provider": delivery.provider,
            "status": DeliveryStatus.CANCELLED,
            "messageStatus": MessageStatus.CANCELLED,
        },
        result="cancelled",
        subject=Subject(
            sender=record.sender,
            profile=record.profile,
            message_id=record.message_id,
            delivery_id=delivery.delivery_id,
        ),
        at=now,
    )


def _too_late(record: MessageRecord) -> Refusal:
    return Refusal(
        Kind.ALREADY_DISPATCHED,
        f"the message is {record.status}; it could be stopped until a provider was called for it",
        extra={"messageId": str(record.message_id), "messageStatus": record.status},
    )
