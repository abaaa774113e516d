"""
What `gateway verify` reads: every message with all that belongs to it, and the rows that belong to nothing.

Nothing here trusts what it reads: a row that is no message any more is told by its id and left at that. The walk goes
by id, which is the order of time, because that is the order of the partitions.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final
from uuid import UUID

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
from gateway.stores.postgres.accepting import find_reference
from gateway.stores.postgres.batching import proving_batches
from gateway.stores.postgres.enclosing import enclosure_sizes
from gateway.stores.postgres.logs import timeline
from gateway.stores.postgres.messages import SELECT_MESSAGES, load_messages
from gateway.stores.postgres.sessions import Row, Transaction

_LONGEST_S: Final = 3_600.0  # of one statement that goes over whole tables
_NO_LIMITS: Final = "SET LOCAL statement_timeout = 0; SET LOCAL transaction_timeout = 0"
_BEFORE_ALL: Final = UUID(int=0)

_IDS: Final = "SELECT message_id, meta_dek_id FROM message WHERE message_id > $1 ORDER BY message_id LIMIT $2"
_ONE: Final = SELECT_MESSAGES + "WHERE message_id = $1"
_OWNED: Final = "SELECT document_id, dek_id FROM document WHERE message_id = $1"
# A destroyed key is all zeros; one that is only marked as destroyed can still be opened.
_KEYS: Final = """
SELECT dek_id, kek_id, purpose, wrapped FROM dek WHERE dek_id = ANY($1::uuid[])
  AND (NOT destroyed OR wrapped <> decode(repeat('00', length(wrapped)), 'hex'))
"""
_ERASED: Final = """
SELECT message_id, document_id FROM document WHERE message_id = ANY($1::uuid[]) AND blob_erased_at IS NOT NULL
"""
_ATTEMPTS: Final = """
SELECT delivery_id, number, action, started_at, ended_at, outcome FROM attempt
WHERE message_id = ANY($1::uuid[]) ORDER BY delivery_id, number
"""
_LEASES: Final = """
SELECT delivery_id, lease_until FROM queue WHERE delivery_id = ANY($1::uuid[]) AND lease_until IS NOT NULL
"""
_RETRIEVALS: Final = "SELECT delivery_id FROM retrieval WHERE delivery_id = ANY($1::uuid[])"

_LISTINGS: Final[Mapping[Listing, str]] = {
    Listing.KEYS: """
SELECT dek_id, dek_id FROM dek
WHERE dek_id > $1 AND (NOT destroyed OR wrapped <> decode(repeat('00', length(wrapped)), 'hex'))
ORDER BY dek_id LIMIT $2
""",
    Listing.KEYS_OF_DOSSIERS: """
SELECT dossier_id, dek_id FROM dossier WHERE dossier_id > $1 ORDER BY dossier_id LIMIT $2
""",
    Listing.KEYS_OF_LOGS: "SELECT dek_id, dek_id FROM log_key WHERE dek_id > $1 ORDER BY dek_id LIMIT $2",
    Listing.TOMBSTONES: """
SELECT blob_id, blob_id FROM blob WHERE blob_id > $1 AND message_id IS NULL ORDER BY blob_id LIMIT $2
""",
    Listing.STRAY_REFERENCES: """
SELECT message_id, message_id FROM reference WHERE message_id > $1 AND NOT EXISTS (
  SELECT FROM message WHERE message.message_id = reference.message_id AND message.sender = reference.sender
    AND message.profile = reference.profile AND message.reference = reference.reference)
ORDER BY message_id LIMIT $2
""",
    Listing.STRAY_DOCUMENTS: """
SELECT document_id, document_id FROM document WHERE document_id > $1
  AND NOT EXISTS (SELECT FROM message WHERE message.message_id = document.message_id)
ORDER BY document_id LIMIT $2
""",
    Listing.STRAY_ENCLOSURES: """
SELECT document_id, document_id FROM enclosure WHERE document_id > $1 AND NOT EXISTS (
  SELECT FROM document WHERE document.document_id = enclosure.document_id AND document.enclosed)
ORDER BY document_id LIMIT $2
""",
    Listing.STRAY_DELIVERIES: """
SELECT delivery_id, delivery_id FROM delivery WHERE delivery_id > $1
  AND NOT EXISTS (SELECT FROM message WHERE message.message_id = delivery.message_id)
ORDER BY delivery_id LIMIT $2
""",
    Listing.STRAY_ATTEMPTS: """
SELECT DISTINCT delivery_id, delivery_id FROM attempt WHERE delivery_id > $1 AND NOT EXISTS (
  SELECT FROM delivery WHERE delivery.message_id = attempt.message_id AND delivery.delivery_id = attempt.delivery_id)
ORDER BY delivery_id LIMIT $2
""",
    Listing.STRAY_RETRIEVALS: """
SELECT delivery_id, delivery_id FROM retrieval WHERE delivery_id > $1
  AND NOT EXISTS (SELECT FROM delivery WHERE delivery.delivery_id = retrieval.delivery_id)
ORDER BY delivery_id LIMIT $2
""",
    Listing.MISQUEUED: """
SELECT found.delivery_id, found.delivery_id FROM (
  SELECT coalesce(waiting.delivery_id, queue.delivery_id) AS delivery_id
  FROM (SELECT * FROM delivery WHERE next_action <> 'none') AS waiting
  FULL JOIN queue ON queue.delivery_id = waiting.delivery_id
  WHERE (waiting.message_id, waiting.status, waiting.next_action, waiting.due_at, waiting.deadline_at)
    IS DISTINCT FROM (queue.message_id, queue.status, queue.next_action, queue.due_at, queue.deadline_at)
) AS found WHERE found.delivery_id > $1 ORDER BY found.delivery_id LIMIT $2
""",
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


async def walk(tx: Transaction, *, after_position: int, limit: int) -> AuditPage:
    """See `Ledger.walk`; a position is the id of a message as a number."""
    found = await tx.connection.fetch(_IDS, UUID(int=after_position), limit)
    messages: list[MessageRecord] = []
    unreadable: list[UnreadableMessage] = []
    for message_id, meta_dek_id in found:
        record = await _read(tx, message_id)
        if record is None:
            unreadable.append(await _unreadable(tx, message_id, meta_dek_id))
        else:
            messages.append(record)
    return AuditPage(
        messages=tuple(await _audited(tx, messages)),
        unreadable=tuple(unreadable),
        next_position=found[-1][0].int if len(found) == limit else None,
    )


async def listed(tx: Transaction, what: Listing, *, after: UUID | None, limit: int) -> list[Listed]:
    """See `Ledger.listed`."""
    await tx.connection.execute(_NO_LIMITS)
    rows = await tx.connection.fetch(_LISTINGS[what], after or _BEFORE_ALL, limit, timeout=_LONGEST_S)
    return [Listed(row=row, id=listed_id) for row, listed_id in rows]


async def feeds_with_gaps(tx: Transaction) -> list[EnterpriseNumber]:
    """See `Ledger.feeds_with_gaps`."""
    await tx.connection.execute(_NO_LIMITS)
    return [EnterpriseNumber(row[0]) for row in await tx.connection.fetch(_FEEDS_WITH_GAPS, timeout=_LONGEST_S)]


async def _read(tx: Transaction, message_id: UUID) -> MessageRecord | None:
    """Return a message, or None when its row, or one of its documents or deliveries, is broken."""
    with suppress(ValueError, KeyError, TypeError):
        (message,) = await load_messages(tx, await tx.connection.fetch(_ONE, message_id))
        return message
    return None


async def _unreadable(tx: Transaction, message_id: UUID, meta_dek_id: UUID) -> UnreadableMessage:
    rows = await tx.connection.fetch(_OWNED, message_id)
    return UnreadableMessage(
        message_id=message_id.hex,
        documents=tuple(document_id for document_id, _ in rows),
        keys=(meta_dek_id, *(dek_id for _, dek_id in rows)),
    )


async def _audited(tx: Transaction, messages: Sequence[MessageRecord]) -> list[AuditedMessage]:
    ids = [message.message_id for message in messages]
    deliveries = [delivery.delivery_id for message in messages for delivery in message.deliveries]
    erased: defaultdict[UUID, set[DocumentId]] = defaultdict(set)
    for message_id, document_id in await tx.connection.fetch(_ERASED, ids):
        erased[message_id].add(DocumentId(document_id))
    keys = await _keys(tx, messages)
    attempts: defaultdict[UUID, list[AttemptRecord]] = defaultdict(list)
    for row in await tx.connection.fetch(_ATTEMPTS, ids):
        attempts[row[0]].append(_attempt_of(row))
    leases = {DeliveryId(row[0]): row[1] for row in await tx.connection.fetch(_LEASES, deliveries)}
    retrievals = {DeliveryId(row[0]) for row in await tx.connection.fetch(_RETRIEVALS, deliveries)}
    proofs = await proving_batches(tx, [message.message_id for message in messages])
    sizes = await enclosure_sizes(
        tx, [each.document_id for message in messages for each in message.documents if each.enclosed]
    )
    audited = []
    for message in messages:
        own = [delivery.delivery_id for delivery in message.deliveries]
        own_keys = [message.meta_dek_id, *(document.dek_id for document in message.documents)]
        audited.append(
            AuditedMessage(
                message=message,
                reference=await find_reference(tx, message.sender, message.profile, message.reference),
                keys={dek_id: keys[dek_id] for dek_id in own_keys if dek_id in keys},
                blobs_erased=frozenset(erased[message.message_id]),
                attempts=tuple(attempt for delivery_id in own for attempt in attempts[delivery_id]),
                leases={delivery_id: leases[delivery_id] for delivery_id in own if delivery_id in leases},
                retrievals=frozenset(own) & retrievals,
                timeline=tuple(await timeline(tx, message.message_id)),
                enclosures={
                    each.document_id: sizes[each.document_id] for each in message.documents if each.document_id in sizes
                },
                batch=proofs.get(message.message_id),
            )
        )
    return audited


async def _keys(tx: Transaction, messages: Iterable[MessageRecord]) -> dict[UUID, DekRow]:
    ids = [dek_id for each in messages for dek_id in (each.meta_dek_id, *(one.dek_id for one in each.documents))]
    return {
        dek_id: DekRow(dek_id=dek_id, kek_id=kek_id, purpose=purpose, wrapped=wrapped)
        for dek_id, kek_id, purpose, wrapped in await tx.connection.fetch(_KEYS, ids)
    }


def _attempt_of(row: Row) -> AttemptRecord:
    delivery_id, number, action, started_at, ended_at, outcome = row
    return AttemptRecord(
        delivery_id=DeliveryId(delivery_id),
        number=number,
        action=action,
        started_at=started_at,
        ended_at=ended_at,
        outcome=outcome,
    )
