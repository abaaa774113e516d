"""What a sender sees of a message, as JSON (field names of the sender interface)."""

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from gateway.domain.ids import MessageId
from gateway.domain.status import MessageStatus, NextAction, is_final
from gateway.errors import Kind, Refusal
from gateway.stores.model import DeliveryRecord, MessageRecord, TimelineEntry

_TIMELINE_FIELDS: Final = ("number", "channel", "status", "reason", "code", "barcode", "nextChannel", "messageStatus")
_CURSOR_VERSION: Final = "1"
_LONGEST: Final = 18  # digits of a position; what is longer fits no ledger


def when(at: datetime | None) -> str | None:
    """Return a time as the interface writes it: UTC, milliseconds, ending in Z."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def has_ended(record: MessageRecord) -> bool:
    """Tell whether nothing more will happen to a message by itself."""
    if is_final(record.status):
        return True
    arrived = record.status in (MessageStatus.DELIVERED, MessageStatus.RETURNED)
    return arrived and all(delivery.next_action is NextAction.NONE for delivery in record.deliveries)


def summary(record: MessageRecord) -> dict[str, Any]:
    """Return a message as lists and status answers show it; no personal data."""
    return {
        "messageId": str(record.message_id),
        "reference": record.reference,
        "profile": record.profile,
        "status": record.status,
        "final": has_ended(record),
        "acceptedAt": when(record.accepted_at),
        "deliveries": [_delivery(delivery) for delivery in record.deliveries],
        "copy": {
            "state": record.copy_state,
            "until": when(record.copy_until),
            "retrievals": record.retrievals,
        },
    }


def whole(record: MessageRecord, timeline: Sequence[TimelineEntry]) -> dict[str, Any]:
    """Return a message with its documents, timeline and receipt."""
    view = summary(record)
    view["documents"] = [
        {"part": document.part, "sha256": document.sha256.hex(), "size": document.size_bytes}
        for document in record.documents
        if document.kind == "document"
    ]
    view["skippedChannels"] = [{"channel": skip.channel, "why": skip.why} for skip in record.route.skipped]
    view["timeline"] = [_timeline(entry) for entry in timeline]
    view["receipt"] = record.receipt_jws
    return view


def _delivery(delivery: DeliveryRecord) -> dict[str, Any]:
    return {
        "deliveryId": str(delivery.delivery_id),
        "number": delivery.number,
        "channel": delivery.channel,
        "provider": delivery.provider,
        "status": delivery.status,
        "reason": delivery.reason,
        "barcode": delivery.barcode,
        "readSeenAt": when(delivery.read_seen_at),
    }


def _timeline(entry: TimelineEntry) -> dict[str, Any]:
    what = json.loads(entry.entry)["what"]
    return {"at": when(entry.at), "event": entry.event} | {key: what[key] for key in _TIMELINE_FIELDS if key in what}


def parse_message_id(text: str) -> MessageId | None:
    """Return the id in `text`, or None when it is none."""
    try:
        return MessageId(UUID(text))
    except ValueError:
        return None


def write_cursor(position: int) -> str:
    """Return an opaque cursor."""
    return base64.urlsafe_b64encode(f"{_CURSOR_VERSION}:{position}".encode()).decode().rstrip("=")


def read_cursor(text: str) -> int:
    """
    Return the position in a cursor.

    Raises:
        Refusal: bad-request, it is none of ours.
    """
    try:
        version, _, position = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition(":")
        if version == _CURSOR_VERSION and position.isascii() and position.isdigit() and len(position) <= _LONGEST:
            found = int(position)
            if write_cursor(found) == text:  # the decoder overlooks what is no Base64
                return found
    except (ValueError, binascii.Error):
        pass
    raise Refusal(Kind.BAD_REQUEST, "cursor is not one that this gateway gave; start without a cursor")
