"""
Documents and deliveries as rows, and what all rows share; each statement stands beside the function that knows its
columns. Times are kept to the millisecond, rounded down.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from gateway.domain.ids import DeliveryId, DocumentId, EnterpriseNumber, MessageId
from gateway.domain.message import Channel, Lane
from gateway.domain.status import DeliveryStatus, NextAction
from gateway.stores.model import DeliveryRecord, DocumentRecord
from gateway.stores.postgres.sessions import Row, Transaction


def floor_ms(at: datetime) -> datetime:
    """Return an aware time, rounded down to the millisecond."""
    return at.replace(microsecond=at.microsecond // 1_000 * 1_000)


def floor_ms_or_null(at: datetime | None) -> datetime | None:
    """Return an aware time, rounded down to the millisecond, or NULL."""
    return None if at is None else floor_ms(at)


_INSERT_DOCUMENT: Final = """
INSERT INTO document (
  document_id, message_id, delivery_id, number, part, kind, media_type, size_bytes, sha256, main, signed, pages,
  sealed_filename, dek_id, key_destroyed_at, enclosed
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
"""
_SELECT_DOCUMENTS: Final = """
SELECT
  message_id, document_id, delivery_id, number, part, kind, media_type, size_bytes, sha256, main, signed, pages,
  sealed_filename, dek_id, key_destroyed_at, enclosed
FROM document WHERE message_id = ANY($1::uuid[]) ORDER BY message_id, number, document_id
"""


async def insert_document(tx: Transaction, message_id: MessageId, document: DocumentRecord) -> None:
    """Add one document of a message; the caller holds its blob."""
    await insert_documents(tx, message_id, [document])


async def insert_documents(tx: Transaction, message_id: MessageId, documents: Iterable[DocumentRecord]) -> None:
    """Add documents of a message; the caller holds the blobs of those that have one."""
    await tx.connection.executemany(
        _INSERT_DOCUMENT,
        [
            (
                document.document_id,
                message_id,
                document.delivery_id,
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
                document.dek_id,
                floor_ms_or_null(document.key_destroyed_at),
                document.enclosed,
            )
            for document in documents
        ],
    )


async def documents_of(tx: Transaction, message_ids: Collection[UUID]) -> Mapping[UUID, list[DocumentRecord]]:
    """Return the documents of each message, in order."""
    found: defaultdict[UUID, list[DocumentRecord]] = defaultdict(list)
    for row in await tx.connection.fetch(_SELECT_DOCUMENTS, message_ids):
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
        document_id=DocumentId(document_id),
        delivery_id=None if delivery_id is None else DeliveryId(delivery_id),
        number=number,
        part=part,
        kind=kind,
        media_type=media_type,
        size_bytes=size_bytes,
        sha256=sha256,
        main=main,
        signed=signed,
        pages=pages,
        sealed_filename=sealed_filename,
        dek_id=dek_id,
        key_destroyed_at=key_destroyed_at,
        enclosed=enclosed,
    )


_INSERT_DELIVERY: Final = """
INSERT INTO delivery (
  delivery_id, message_id, number, channel, provider, lane, status, status_at, reason, code, provider_reference,
  barcode, handed_over_at, posted_at, read_seen_at, attempts, first_attempt_at, next_action, due_at, deadline_at
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
"""
_INSERT_QUEUED: Final = """
INSERT INTO queue (
  delivery_id, message_id, sender, channel, provider, lane, status, next_action, due_at, deadline_at
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
SELECT_DELIVERIES: Final = """
SELECT
  delivery.delivery_id, delivery.message_id, delivery.number, delivery.channel, delivery.provider, delivery.lane,
  delivery.status, delivery.status_at, delivery.reason, delivery.code, delivery.provider_reference, delivery.barcode,
  delivery.handed_over_at, delivery.posted_at, delivery.read_seen_at, delivery.attempts, delivery.first_attempt_at,
  delivery.next_action, delivery.due_at, delivery.deadline_at
FROM delivery
"""
_OF_MESSAGES: Final = SELECT_DELIVERIES + "WHERE message_id = ANY($1::uuid[]) ORDER BY message_id, number"


async def insert_delivery(tx: Transaction, sender: EnterpriseNumber, delivery: DeliveryRecord) -> None:
    """Add one delivery of a sender's message; see `insert_deliveries`."""
    await insert_deliveries(tx, sender, [delivery])


async def insert_deliveries(tx: Transaction, sender: EnterpriseNumber, deliveries: Collection[DeliveryRecord]) -> None:
    """Add deliveries of a sender's message; from the commit on, a worker may claim those on which something is due."""
    await tx.connection.executemany(
        _INSERT_DELIVERY,
        [
            (
                delivery.delivery_id,
                delivery.message_id,
                delivery.number,
                delivery.channel,
                delivery.provider,
                delivery.lane,
                delivery.status,
                floor_ms(delivery.status_at),
                delivery.reason,
                delivery.code,
                delivery.provider_reference,
                delivery.barcode,
                floor_ms_or_null(delivery.handed_over_at),
                floor_ms_or_null(delivery.posted_at),
                floor_ms_or_null(delivery.read_seen_at),
                delivery.attempts,
                floor_ms_or_null(delivery.first_attempt_at),
                delivery.next_action,
                floor_ms_or_null(delivery.due_at),
                floor_ms_or_null(delivery.deadline_at),
            )
            for delivery in deliveries
        ],
    )
    queued = [delivery for delivery in deliveries if delivery.next_action is not NextAction.NONE]
    if queued:
        await tx.connection.executemany(
            _INSERT_QUEUED,
            [
                (
                    delivery.delivery_id,
                    delivery.message_id,
                    sender,
                    delivery.channel,
                    delivery.provider,
                    delivery.lane,
                    delivery.status,
                    delivery.next_action,
                    floor_ms_or_null(delivery.due_at),
                    floor_ms_or_null(delivery.deadline_at),
                )
                for delivery in queued
            ],
        )


async def deliveries_of(tx: Transaction, message_ids: Collection[UUID]) -> Mapping[UUID, list[DeliveryRecord]]:
    """Return the deliveries of each message, in order."""
    found: defaultdict[UUID, list[DeliveryRecord]] = defaultdict(list)
    for row in await tx.connection.fetch(_OF_MESSAGES, message_ids):
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
        delivery_id=DeliveryId(delivery_id),
        message_id=MessageId(message_id),
        number=number,
        channel=Channel(channel),
        provider=provider,
        lane=Lane(lane),
        status=DeliveryStatus(status),
        status_at=status_at,
        reason=reason,
        code=code,
        provider_reference=provider_reference,
        barcode=barcode,
        handed_over_at=handed_over_at,
        posted_at=posted_at,
        read_seen_at=read_seen_at,
        attempts=attempts,
        first_attempt_at=first_attempt_at,
        next_action=NextAction(next_action),
        due_at=due_at,
        deadline_at=deadline_at,
    )
