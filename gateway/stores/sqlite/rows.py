"""
Documents and deliveries as rows, and what all rows share; each statement stands beside the function that knows its
columns. Times are kept to the millisecond, rounded down.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import apsw

from gateway.domain.ids import DeliveryId, DocumentId, MessageId
from gateway.domain.message import Channel, Lane
from gateway.domain.status import DeliveryStatus, NextAction
from gateway.stores.model import DeliveryRecord, DocumentRecord

Row = tuple[Any, ...]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


def to_ms(at: datetime) -> int:
    """Return an aware time as Unix milliseconds, rounded down."""
    return (at - _EPOCH) // _MS


def to_ms_or_null(at: datetime | None) -> int | None:
    """Return an aware time as Unix milliseconds, rounded down, or NULL."""
    return None if at is None else to_ms(at)


def from_ms(ms: int) -> datetime:
    """Return the UTC time of Unix milliseconds."""
    return _EPOCH + ms * _MS


def from_ms_or_null(ms: int | None) -> datetime | None:
    """Return the UTC time of Unix milliseconds, or None."""
    return None if ms is None else from_ms(ms)


def blobs(values: Collection[bytes]) -> "apsw.CArrayBinding":  # a class that only the stubs of apsw name
    """Return the parameter of an `IN carray(?)`; there must be at least one value."""
    return apsw.carray(tuple(values))


_INSERT_DOCUMENT: Final = """
INSERT INTO document (
  document_id, message_id, delivery_id, number, part, kind, media_type, size_bytes, sha256, main, signed, pages,
  sealed_filename, dek_id, key_destroyed_at, enclosed
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_SELECT_DOCUMENTS: Final = """
SELECT
  message_id, document_id, delivery_id, number, part, kind, media_type, size_bytes, sha256, main, signed, pages,
  sealed_filename, dek_id, key_destroyed_at, enclosed
FROM document WHERE message_id IN carray(?) ORDER BY message_id, number, document_id
"""


def insert_document(connection: apsw.Connection, message_id: MessageId, document: DocumentRecord) -> None:
    """Add a document of a message; the caller has looked for tombstones."""
    connection.execute(
        _INSERT_DOCUMENT,
        (
            document.document_id.bytes,
            message_id.bytes,
            None if document.delivery_id is None else document.delivery_id.bytes,
            document.number,
            document.part,
            document.kind,
            document.media_type,
            document.size_bytes,
            document.sha256,
            document.main,
            document.signed,
            document.pages,
            document.sealed_filename,
            document.dek_id.bytes,
            to_ms_or_null(document.key_destroyed_at),
            document.enclosed,
        ),
    )


def documents_of(connection: apsw.Connection, message_ids: Collection[bytes]) -> Mapping[bytes, list[DocumentRecord]]:
    """Return the documents of each message, in order."""
    found: defaultdict[bytes, list[DocumentRecord]] = defaultdict(list)
    for row in connection.execute(_SELECT_DOCUMENTS, (blobs(message_ids),)):
        found[row[0]].append(_document_of(row))
    return found


def _document_of(row: Row) -> DocumentRecord:
    # fmt: off
    (
        _, document_id, delivery_id, number, part, kind, media_type, size_bytes, sha256, main, signed, pages,
        sealed_filename, dek_id, key_destroyed_at, enclosed,
    ) = row
    # fmt: on
    return DocumentRecord(
        document_id=DocumentId(UUID(bytes=document_id)),
        delivery_id=None if delivery_id is None else DeliveryId(UUID(bytes=delivery_id)),
        number=number,
        part=part,
        kind=kind,
        media_type=media_type,
        size_bytes=size_bytes,
        sha256=sha256,
        main=bool(main),
        signed=bool(signed),
        pages=pages,
        sealed_filename=sealed_filename,
        dek_id=UUID(bytes=dek_id),
        key_destroyed_at=from_ms_or_null(key_destroyed_at),
        enclosed=bool(enclosed),
    )


_INSERT_DELIVERY: Final = """
INSERT INTO delivery (
  delivery_id, message_id, number, channel, provider, lane, status, status_at, reason, code, provider_reference,
  barcode, handed_over_at, posted_at, read_seen_at, attempts, first_attempt_at, next_action, due_at, deadline_at,
  sender
) VALUES (
  ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
  (SELECT sender FROM message WHERE message_id = ?2)
)
"""
SELECT_DELIVERIES: Final = """
SELECT
  delivery_id, message_id, number, channel, provider, lane, status, status_at, reason, code, provider_reference,
  barcode, handed_over_at, posted_at, read_seen_at, attempts, first_attempt_at, next_action, due_at, deadline_at
FROM delivery
"""
_OF_MESSAGES: Final = SELECT_DELIVERIES + "WHERE message_id IN carray(?) ORDER BY message_id, number"


def insert_delivery(connection: apsw.Connection, delivery: DeliveryRecord) -> None:
    """Add a delivery of a message that is there; from the commit on, a worker may claim it."""
    connection.execute(
        _INSERT_DELIVERY,
        (
            delivery.delivery_id.bytes,
            delivery.message_id.bytes,
            delivery.number,
            delivery.channel,
            delivery.provider,
            delivery.lane,
            delivery.status,
            to_ms(delivery.status_at),
            delivery.reason,
            delivery.code,
            delivery.provider_reference,
            delivery.barcode,
            to_ms_or_null(delivery.handed_over_at),
            to_ms_or_null(delivery.posted_at),
            to_ms_or_null(delivery.read_seen_at),
            delivery.attempts,
            to_ms_or_null(delivery.first_attempt_at),
            delivery.next_action,
            to_ms_or_null(delivery.due_at),
            to_ms_or_null(delivery.deadline_at),
        ),
    )


def deliveries_of(connection: apsw.Connection, message_ids: Collection[bytes]) -> Mapping[bytes, list[DeliveryRecord]]:
    """Return the deliveries of each message, in order."""
    found: defaultdict[bytes, list[DeliveryRecord]] = defaultdict(list)
    for row in connection.execute(_OF_MESSAGES, (blobs(message_ids),)):
        found[row[1]].append(delivery_of(row))
    return found


def delivery_of(row: Row) -> DeliveryRecord:
    """Return the delivery in a row of `SELECT_DELIVERIES`."""
    # fmt: off
    (
        delivery_id, message_id, number, channel, provider, lane, status, status_at, reason, code, provider_reference,
        barcode, handed_over_at, posted_at, read_seen_at, attempts, first_attempt_at, next_action, due_at, deadline_at,
    ) = row
    # fmt: on
    return DeliveryRecord(
        delivery_id=DeliveryId(UUID(bytes=delivery_id)),
        message_id=MessageId(UUID(bytes=message_id)),
        number=number,
        channel=Channel(channel),
        provider=provider,
        lane=Lane(lane),
        status=DeliveryStatus(status),
        status_at=from_ms(status_at),
        reason=reason,
        code=code,
        provider_reference=provider_reference,
        barcode=barcode,
        handed_over_at=from_ms_or_null(handed_over_at),
        posted_at=from_ms_or_null(posted_at),
        read_seen_at=from_ms_or_null(read_seen_at),
        attempts=attempts,
        first_attempt_at=from_ms_or_null(first_attempt_at),
        next_action=NextAction(next_action),
        due_at=from_ms_or_null(due_at),
        deadline_at=from_ms_or_null(deadline_at),
    )
