"""
Log entries as rows. They are only ever added: gateways have no right to change or remove one.

The entries about a message are numbered under the lock of the message's row, which is held until the commit, so what
is added to a timeline always comes at its end, whatever commits when. The lock is taken before the transaction writes
anything, hence before it has the number that positions begin with: in the feed, too, the entries about one message
stand in the order of its timeline.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from gateway.domain.ids import DeliveryId, MessageId
from gateway.stores.model import LogEntry, TimelineEntry
from gateway.stores.postgres.rows import floor_ms
from gateway.stores.postgres.sessions import Transaction

_INSERT: Final = """
INSERT INTO log_entry (
  filed_under, number, entry_id, log, at, event, sender, profile, message_id, delivery_id, about_index,
  about_index_version, entry, leaf_sha256, dek_id, sealed_clear, position
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, position_of($17))
"""
_LOCK: Final = """
SELECT message_id FROM message WHERE message_id = ANY($1::uuid[]) ORDER BY message_id FOR NO KEY UPDATE
"""
_NUMBER: Final = """
UPDATE message SET entries = entries + added.count
FROM unnest($1::uuid[], $2::integer[]) AS added (message_id, count) WHERE message.message_id = added.message_id
RETURNING message.message_id, entries - added.count
"""
_TIMELINE: Final = """
SELECT at, event, delivery_id, entry FROM log_entry WHERE filed_under = $1 AND log = 'traffic'
ORDER BY number NULLS FIRST, position
"""


async def append(tx: Transaction, entries: Sequence[LogEntry]) -> None:
    """Add log entries, in order. Those about a message that is not recorded get no number."""
    added = Counter(entry.message_id for entry in entries if entry.message_id is not None)
    before: dict[UUID, int] = {}
    if added:
        recorded = [row[0] for row in await tx.connection.fetch(_LOCK, list(added))]
        if recorded:
            rows = await tx.connection.fetch(_NUMBER, recorded, [added[message_id] for message_id in recorded])
            before = {row[0]: row[1] for row in rows}
    await insert_entries(tx, entries, before)


async def insert_entries(tx: Transaction, entries: Sequence[LogEntry], before: Mapping[UUID, int]) -> None:
    """Add log entries, in order; `before` tells how many there are already about each message that is recorded."""
    numbers = dict(before)
    rows = []
    for entry in entries:
        number = None
        if entry.message_id in numbers:
            number = numbers[entry.message_id] = numbers[entry.message_id] + 1
        rows.append(
            (
                entry.message_id or entry.entry_id,
                number,
                entry.entry_id,
                entry.log,
                floor_ms(entry.at),
                entry.event,
                entry.sender,
                entry.profile,
                entry.message_id,
                entry.delivery_id,
                entry.about_index,
                entry.about_index_version,
                entry.entry,
                entry.leaf_sha256,
                entry.dek_id,
                entry.sealed_clear,
                tx.place(),
            )
        )
    if rows:
        await tx.connection.executemany(_INSERT, rows)


async def timeline(tx: Transaction, message_id: MessageId) -> list[TimelineEntry]:
    """See `Ledger.timeline`."""
    return [
        TimelineEntry(
            at=at, event=event, delivery_id=None if delivery_id is None else DeliveryId(delivery_id), entry=entry
        )
        for at, event, delivery_id, entry in await tx.connection.fetch(_TIMELINE, message_id)
    ]
