"""
What `gateway verify` reads: every message with all that belongs to it, and the rows that belong to nothing.

Nothing here trusts what it reads: a row that is no message any more is told by its id and left at that.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final
from uuid import UUID

import apsw

from gateway.crypto.vault import DekRow
from gateway.domain.ids import DeliveryId, DocumentId, EnterpriseNumber
from gateway.stores.model import (
    AttemptRecord,
    AuditedMessage,
    AuditPage,
    Listed,
    Listing,
    MessageRecord,
    UnreadableMessage,
)
from gateway.stores.sqlite.accepting import find_reference
from gateway.stores.sqlite.batching import proving_batches
from gateway.stores.sqlite.enclosing import enclosure_sizes
from gateway.stores.sqlite.logs import timeline
from gateway.stores.sqlite.messages import SELECT_MESSAGES, load_messages
from gateway.stores.sqlite.rows import Row, blobs, from_ms, from_ms_or_null

_POSITIONS: Final = "SELECT position, message_id, meta_dek_id FROM message WHERE position > ? ORDER BY position LIMIT ?"
_ONE: Final = SELECT_MESSAGES + "WHERE position = ?"
_OWNED: Final = """
SELECT document_id, dek_id FROM document WHERE message_id = ? AND length(document_id) = 16 AND length(dek_id) = 16
"""
# A destroyed key is all zeros; one that is only marked as destroyed can still be opened.
_OPENABLE: Final = "(destroyed = 0 OR wrapped <> zeroblob(length(wrapped)))"
_KEYS: Final = f"""
SELECT dek_id, kek_id, purpose, wrapped FROM dek WHERE dek_id IN carray(?) AND {_OPENABLE}
"""  # noqa: S608 -- put together from constants
_ERASED: Final = """
SELECT message_id, document_id FROM document WHERE message_id IN carray(?) AND blob_erased_at IS NOT NULL
"""
_ATTEMPTS: Final = """
SELECT delivery_id, number, action, started_at, ended_at, outcome FROM attempt
WHERE delivery_id IN carray(?) ORDER BY delivery_id, number
"""
_LEASES: Final = (
    "SELECT delivery_id, lease_until FROM delivery WHERE delivery_id IN carray(?) AND lease_until IS NOT NULL"
)
_RETRIEVALS: Final = "SELECT delivery_id FROM retrieval WHERE delivery_id IN carray(?)"

_LISTINGS: Final[Mapping[Listing, str]] = {
    Listing.KEYS: f"SELECT dek_id, dek_id FROM dek WHERE dek_id > ? AND {_OPENABLE} ORDER BY dek_id LIMIT ?",  # noqa: S608 -- put together from constants
    Listing.KEYS_OF_DOSSIERS: "SELECT dossier_id, dek_id FROM dossier WHERE dossier_id > ? ORDER BY dossier_id LIMIT ?",
    Listing.KEYS_OF_LOGS: "SELECT dek_id, dek_id FROM log_key WHERE dek_id > ? ORDER BY dek_id LIMIT ?",
    Listing.TOMBSTONES: "SELECT blob_id, blob_id FROM tombstone WHERE blob_id > ? ORDER BY blob_id LIMIT ?",
    Listing.STRAY_REFERENCES: """
SELECT message_id, message_id FROM reference WHERE message_id > ? AND NOT EXISTS (
  SELECT 1 FROM message WHERE message.message_id = reference.message_id AND message.sender = reference.sender
    AND message.profile = reference.profile AND message.reference = reference.reference)
ORDER BY message_id LIMIT ?
""",
    Listing.STRAY_DOCUMENTS: """
SELECT document_id, document_id FROM document WHERE document_id > ?
  AND NOT EXISTS (SELECT 1 FROM message WHERE message.message_id = document.message_id)
ORDER BY document_id LIMIT ?
""",
    Listing.STRAY_ENCLOSURES: """
SELECT document_id, document_id FROM enclosure WHERE document_id > ? AND NOT EXISTS (
  SELECT 1 FROM document WHERE document.document_id = enclosure.document_id AND document.enclosed = 1)
ORDER BY document_id LIMIT ?
""",
    Listing.STRAY_DELIVERIES: """
SELECT delivery_id, delivery_id FROM delivery WHERE delivery_id > ?
  AND NOT EXISTS (SELECT 1 FROM message WHERE message.message_id = delivery.message_id)
ORDER BY delivery_id LIMIT ?
""",
    Listing.STRAY_ATTEMPTS: """
SELECT DISTINCT delivery_id, delivery_id FROM attempt WHERE delivery_id > ?
  AND NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.delivery_id = attempt.delivery_id)
ORDER BY delivery_id LIMIT ?
""",
    Listing.STRAY_RETRIEVALS: """
SELECT delivery_id, delivery_id FROM retrieval WHERE delivery_id > ?
  AND NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.delivery_id = retrieval.delivery_id)
ORDER BY delivery_id LIMIT ?
""",
    # A delivery is its own queue entry here.
    Listing.MISQUEUED: "SELECT delivery_id, delivery_id FROM delivery WHERE delivery_id > ? AND false LIMIT ?",
}

_FEEDS_WITH_GAPS: Final = """
WITH kept AS (
  SELECT sender, count(*) AS events, min(number) AS oldest, max(number) AS newest FROM feed_event GROUP BY sender
)
SELECT coalesce(feed.sender, kept.sender) FROM feed FULL JOIN kept ON kept.sender = feed.sender
WHERE feed.sender IS NULL
  OR coalesce(kept.events, 0) <> last_number - removed_through
  OR kept.oldest <> removed_through + 1 OR kept.newest <> last_number
ORDER BY 1
"""


def walk(connection: apsw.Connection, *, after_position: int, limit: int) -> AuditPage:
    """See `Ledger.walk`."""
    found: Sequence[Row] = connection.execute(_POSITIONS, (after_position, limit)).fetchall()
    messages: list[MessageRecord] = []
    unreadable: list[UnreadableMessage] = []
    for position, message_id, meta_dek_id in found:
        record = _read(connection, position)
        if record is None:
            unreadable.append(_unreadable(connection, message_id, meta_dek_id))
        else:
            messages.append(record)
    return AuditPage(
        messages=tuple(_audited(connection, messages)),
        unreadable=tuple(unreadable),
        next_position=found[-1][0] if len(found) == limit else None,
    )


def listed(connection: apsw.Connection, what: Listing, *, after: UUID | None, limit: int) -> list[Listed]:
    """See `Ledger.listed`."""
    rows = connection.execute(_LISTINGS[what], (b"" if after is None else after.bytes, limit))
    return [Listed(row=UUID(bytes=row), id=UUID(bytes=listed_id)) for row, listed_id in rows]


def feeds_with_gaps(connection: apsw.Connection) -> list[EnterpriseNumber]:
    """See `Ledger.feeds_with_gaps`."""
    return [EnterpriseNumber(sender) for (sender,) in connection.execute(_FEEDS_WITH_GAPS)]


def _read(connection: apsw.Connection, position: int) -> MessageRecord | None:
    """Return the message at a position, or None when its row, or one of its documents or deliveries, is broken."""
    with suppress(ValueError, KeyError, TypeError):
        (message,) = load_messages(connection, connection.execute(_ONE, (position,)).fetchall())
        return message
    return None


def _unreadable(connection: apsw.Connection, message_id: bytes, meta_dek_id: bytes) -> UnreadableMessage:
    rows: Sequence[Row] = connection.execute(_OWNED, (message_id,)).fetchall()
    return UnreadableMessage(
        message_id=message_id.hex(),
        documents=tuple(UUID(bytes=document_id) for document_id, _ in rows),
        keys=tuple(UUID(bytes=dek_id) for dek_id in (meta_dek_id, *(dek_id for _, dek_id in rows))),
    )


def _audited(connection: apsw.Connection, messages: Sequence[MessageRecord]) -> list[AuditedMessage]:
    if not messages:
        return []
    ids = [message.message_id.bytes for message in messages]
    deliveries = [delivery.delivery_id.bytes for message in messages for delivery in message.deliveries]
    erased: defaultdict[bytes, set[DocumentId]] = defaultdict(set)
    for message_id, document_id in connection.execute(_ERASED, (blobs(ids),)):
        erased[message_id].add(DocumentId(UUID(bytes=document_id)))
    keys = _keys(connection, messages)
    attempts = _attempts(connection, deliveries)
    leases = _leases(connection, deliveries)
    retrievals = _retrievals(connection, deliveries)
    proofs = proving_batches(connection, [message.message_id for message in messages])
    sizes = enclosure_sizes(
        connection, [each.document_id for message in messages for each in message.documents if each.enclosed]
    )
    audited = []
    for message in messages:
        own = [delivery.delivery_id for delivery in message.deliveries]
        own_keys = [message.meta_dek_id, *(document.dek_id for document in message.documents)]
        audited.append(
            AuditedMessage(
                message=message,
                reference=find_reference(connection, message.sender, message.profile, message.reference),
                keys={dek_id: keys[dek_id] for dek_id in own_keys if dek_id in keys},
                blobs_erased=frozenset(erased[message.message_id.bytes]),
                attempts=tuple(attempt for delivery_id in own for attempt in attempts[delivery_id]),
                leases={delivery_id: leases[delivery_id] for delivery_id in own if delivery_id in leases},
                retrievals=frozenset(own) & retrievals,
                timeline=tuple(timeline(connection, message.message_id)),
                enclosures={
                    each.document_id: sizes[each.document_id] for each in message.documents if each.document_id in sizes
                },
                batch=proofs.get(message.message_id),
            )
        )
    return audited


def _keys(connection: apsw.Connection, messages: Iterable[MessageRecord]) -> dict[UUID, DekRow]:
    ids = [message.meta_dek_id.bytes for message in messages]
    ids += [document.dek_id.bytes for message in messages for document in message.documents]
    return {
        UUID(bytes=dek_id): DekRow(
            dek_id=UUID(bytes=dek_id), kek_id=UUID(bytes=kek_id), purpose=purpose, wrapped=wrapped
        )
        for dek_id, kek_id, purpose, wrapped in connection.execute(_KEYS, (blobs(ids),))
    }


def _attempts(connection: apsw.Connection, deliveries: Sequence[bytes]) -> Mapping[DeliveryId, list[AttemptRecord]]:
    found: defaultdict[DeliveryId, list[AttemptRecord]] = defaultdict(list)
    for row in _about(connection, _ATTEMPTS, deliveries):
        delivery_id, number, action, started_at, ended_at, outcome = row
        attempt = AttemptRecord(
            delivery_id=DeliveryId(UUID(bytes=delivery_id)),
            number=number,
            action=action,
            started_at=from_ms(started_at),
            ended_at=from_ms_or_null(ended_at),
            outcome=outcome,
        )
        found[attempt.delivery_id].append(attempt)
    return found


def _leases(connection: apsw.Connection, deliveries: Sequence[bytes]) -> Mapping[DeliveryId, datetime]:
    rows = _about(connection, _LEASES, deliveries)
    return {DeliveryId(UUID(bytes=delivery_id)): from_ms(until) for delivery_id, until in rows}


def _retrievals(connection: apsw.Connection, deliveries: Sequence[bytes]) -> frozenset[DeliveryId]:
    return frozenset(DeliveryId(UUID(bytes=row[0])) for row in _about(connection, _RETRIEVALS, deliveries))


def _about(connection: apsw.Connection, statement: str, deliveries: Sequence[bytes]) -> Iterable[Row]:
    return connection.execute(statement, (blobs(deliveries),)) if deliveries else ()
