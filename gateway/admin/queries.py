"""What operators see, as JSON: ids, states, codes and times; never personal data, never content."""

import json
import platform
import ssl
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import aiohttp

from gateway.admin.decisions import Decided, Standing, possible_decisions
from gateway.crypto.values import format_instant
from gateway.domain.deadlines import BLOB_DUTY, COPY_DUTY, ERASED_WITHIN, Duty, duty_of
from gateway.domain.ids import EnterpriseNumber, MessageId
from gateway.domain.status import is_final
from gateway.stores.ledger import Ledger
from gateway.stores.model import (
    DeliveryRecord,
    LateErasures,
    MessageRecord,
    QueueDepth,
    TimelineEntry,
)

MOST_ROWS: Final = 1_000  # of one list; its `total` tells of more
MOST_ERASURES: Final = 100  # messages; their `count` tells of more
_TIMELINE_FIELDS: Final = (
    "delivery", "number", "channel", "provider", "status", "messageStatus", "attempt", "reason", "code", "nextChannel",
)  # fmt: skip


async def doubts(ledger: Ledger) -> dict[str, Any]:
    """Return the deliveries that wait for a person, the most urgent first, and what can be decided about each."""
    waiting = await ledger.to_decide()
    shown = waiting[:MOST_ROWS]
    senders = await _senders(shown, ledger)
    rows = [
        {
            **_where(delivery, senders),
            "since": _at(delivery.status_at),
            "deadlineAt": _at(delivery.deadline_at),
            "canBeDecided": list(possible_decisions(delivery)),
        }
        for delivery in shown
    ]
    return {"doubts": rows, "total": len(waiting)}


async def late(ledger: Ledger, now: datetime) -> dict[str, Any]:
    """
    Return what is past its deadline, the latest first: deliveries that have not ended, with who owes the next step and
    what an operator may do; and erasures.
    """
    counts = await ledger.late_counts(now, erased_within=ERASED_WITHIN)
    shown = await ledger.late(now, limit=MOST_ROWS)
    senders = await _senders(shown, ledger)
    return {
        "late": [{**_where(delivery, senders), **_lateness(delivery, now)} for delivery in shown],
        "total": sum(group.count for group in counts.deliveries),
        "erasures": {
            "copies": {
                **_erasures(counts.copies, COPY_DUTY),
                "messages": await _copies(ledger, now) if counts.copies.count else [],
            },
            "blobs": _erasures(counts.blobs, BLOB_DUTY),
        },
    }


def _lateness(delivery: DeliveryRecord, now: datetime) -> dict[str, Any]:
    duty = duty_of(delivery.status, delivery.next_action)
    return {
        "owner": duty.owner if duty is not None else None,
        "since": _at(delivery.status_at),
        "nextAction": delivery.next_action,
        "dueAt": _at(delivery.due_at),
        "deadlineAt": _at(delivery.deadline_at),
        "lateSeconds": int((now - (delivery.deadline_at or now)).total_seconds()),
        "then": duty.then if duty is not None else None,
        "advice": duty.advice if duty is not None else None,
        "canBeDecided": list(possible_decisions(delivery)),
    }


def _erasures(late: LateErasures, duty: Duty) -> dict[str, Any]:
    return {
        "count": late.count,
        "owner": duty.owner,
        "oldestDueAt": _at(late.oldest_due_at),
        "then": duty.then,
        "advice": duty.advice,
    }


async def _copies(ledger: Ledger, now: datetime) -> list[dict[str, Any]]:
    overdue = await ledger.due_erasures(now - ERASED_WITHIN, MOST_ERASURES)
    return [
        {
            "messageId": str(record.message_id),
            "sender": record.sender,
            "profile": record.profile,
            "copyState": record.copy_state,
            "until": _at(record.copy_until),
        }
        for record in overdue
    ]


async def message(ledger: Ledger, record: MessageRecord) -> dict[str, Any]:
    """Return one message with its deliveries and timeline."""
    return {
        "messageId": str(record.message_id),
        "reference": record.reference,
        "sender": record.sender,
        "profile": record.profile,
        "category": record.category,
        "lane": record.lane,
        "status": record.status,
        "final": is_final(record.status),
        "acceptedAt": _at(record.accepted_at),
        "deliverNotBefore": _at(record.deliver_not_before),
        "deliverBefore": _at(record.deliver_before),
        "registrationVersion": record.registration_version,
        "documents": sum(document.kind == "document" for document in record.documents),
        "copy": {"state": record.copy_state, "until": _at(record.copy_until)},
        "deliveries": [_delivery(delivery) for delivery in record.deliveries],
        "timeline": [_timeline(entry) for entry in await ledger.timeline(record.message_id)],
    }


async def status(
    ledger: Ledger, *, gateway: str, version: str, registration_version: int, started_at: datetime, now: datetime
) -> dict[str, Any]:
    """Return what runs here, since when, and how much is to be done."""
    depths = await ledger.queue_depths()
    late_counts = await ledger.late_counts(now, erased_within=ERASED_WITHIN)
    return {
        "gateway": gateway,
        "versions": {
            "gateway": version,
            "python": platform.python_version(),
            "aiohttp": aiohttp.__version__,
            "openssl": ssl.OPENSSL_VERSION,
        },
        "registrationVersion": registration_version,
        "startedAt": _at(started_at),
        "uptimeSeconds": int((now - started_at).total_seconds()),
        "queues": [_queue(depth) for depth in depths],
        "toDecide": len(await ledger.to_decide()),
        "late": sum(group.count for group in late_counts.deliveries),
        "lateErasures": late_counts.copies.count + late_counts.blobs.count,
    }


def decided(done: Decided) -> dict[str, Any]:
    """Return what a decision changed, or would change."""
    return {
        "deliveryId": str(done.order.delivery_id),
        "messageId": str(done.message_id),
        "channel": done.channel,
        "decision": done.order.decision,
        "dryRun": done.order.dry_run,
        "before": _standing(done.before),
        "after": _standing(done.after),
        "nextChannel": done.next_channel,
    }


async def _senders(
    deliveries: Sequence[DeliveryRecord], ledger: Ledger
) -> Mapping[MessageId, tuple[EnterpriseNumber, str]]:
    records = await ledger.messages_by_id({delivery.message_id for delivery in deliveries})
    return {record.message_id: (record.sender, record.profile) for record in records}


def _where(
    delivery: DeliveryRecord, senders: Mapping[MessageId, tuple[EnterpriseNumber, str]]
) -> dict[str, str | int | None]:
    sender, profile = senders.get(delivery.message_id, (None, None))
    return {
        "deliveryId": str(delivery.delivery_id),
        "messageId": str(delivery.message_id),
        "sender": sender,
        "profile": profile,
        "channel": delivery.channel,
        "provider": delivery.provider,
        "providerReference": delivery.provider_reference,
        "status": delivery.status,
        "reason": delivery.reason,
        "code": delivery.code,
        "attempts": delivery.attempts,
    }


def _delivery(delivery: DeliveryRecord) -> dict[str, Any]:
    return {
        "deliveryId": str(delivery.delivery_id),
        "number": delivery.number,
        "channel": delivery.channel,
        "provider": delivery.provider,
        "providerReference": delivery.provider_reference,
        "barcode": delivery.barcode,
        "status": delivery.status,
        "statusAt": _at(delivery.status_at),
        "reason": delivery.reason,
        "code": delivery.code,
        "attempts": delivery.attempts,
        "firstAttemptAt": _at(delivery.first_attempt_at),
        "handedOverAt": _at(delivery.handed_over_at),
        "nextAction": delivery.next_action,
        "dueAt": _at(delivery.due_at),
        "deadlineAt": _at(delivery.deadline_at),
        "canBeDecided": list(possible_decisions(delivery)),
    }


def _timeline(entry: TimelineEntry) -> dict[str, Any]:
    body = json.loads(entry.entry)
    what = {name: body["what"][name] for name in _TIMELINE_FIELDS if name in body["what"]}
    return {"at": _at(entry.at), "event": entry.event, "result": body["res"], **what}


def _queue(depth: QueueDepth) -> dict[str, Any]:
    return {
        "channel": depth.channel,
        "action": depth.action,
        "count": depth.count,
        "oldestDueAt": _at(depth.oldest_due_at),
    }


def _standing(standing: Standing) -> dict[str, Any]:
    return {
        "status": standing.status,
        "nextAction": standing.next_action,
        "reason": standing.reason,
        "dueAt": _at(standing.due_at),
        "deadlineAt": _at(standing.deadline_at),
        "messageStatus": standing.message_status,
    }


def _at(at: datetime | None) -> str | None:
    return format_instant(at) if at is not None else None
