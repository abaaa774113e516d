"""What waits, what is late, what needs a person; and the proof that commits work."""

from datetime import datetime, timedelta
from typing import Final

from gateway.domain.ids import DeliveryId
from gateway.stores.model import Claim, DeliveryRecord, LateCounts, LateDeliveries, LateErasures, QueueDepth
from gateway.stores.postgres.claiming import KNOWN_STATUSES, claims_of
from gateway.stores.postgres.rows import SELECT_DELIVERIES, delivery_of, floor_ms, floor_ms_or_null
from gateway.stores.postgres.sessions import Row, Transaction

_OF_QUEUE: Final = (
    SELECT_DELIVERIES
    + "JOIN queue ON queue.message_id = delivery.message_id AND queue.delivery_id = delivery.delivery_id\n"
)
_TO_DECIDE: Final = (
    _OF_QUEUE + "WHERE queue.next_action = 'decide' ORDER BY queue.deadline_at NULLS LAST, queue.delivery_id"
)
_LATE: Final = (
    _OF_QUEUE
    + """
WHERE queue.deadline_at < $1
  AND ($2::timestamptz IS NULL OR (queue.deadline_at, queue.delivery_id) > ($2, $3::uuid))
ORDER BY queue.deadline_at, queue.delivery_id LIMIT $4
"""
)
_LATE_DELIVERIES: Final = """
SELECT channel, status, next_action, count(*), min(deadline_at) FROM queue
WHERE deadline_at < $1 GROUP BY channel, status, next_action
"""
_LATE_COPIES: Final = """
SELECT count(*), min(copy_until) FROM message WHERE copy_state IN ('kept', 'awaiting-erasure') AND copy_until < $1
"""
_LATE_BLOBS: Final = """
SELECT count(*), min(key_destroyed_at) FROM document
WHERE key_destroyed_at IS NOT NULL AND blob_erased_at IS NULL AND key_destroyed_at < $1
"""
_LEASE_LATE: Final = """
WITH store AS MATERIALIZED (SELECT date_trunc('milliseconds', coalesce($1::timestamptz, clock_timestamp())) AS now)
UPDATE queue SET
  lease_token = nextval('lease_token'), lease_until = date_trunc('milliseconds', store.now + $4::interval), worker = $5
FROM store
WHERE delivery_id = $2 AND next_action IN ('send', 'reconcile', 'poll') AND deadline_at < $3
  AND (lease_until IS NULL OR lease_until <= store.now) AND status = ANY($6::text[])
RETURNING delivery_id, message_id, lease_token, lease_until
"""
_DEPTHS: Final = "SELECT channel, next_action, count(*), min(due_at) FROM queue GROUP BY next_action, channel"
_BEAT: Final = "INSERT INTO heartbeat (id, at) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET at = excluded.at"


async def to_decide(tx: Transaction) -> list[DeliveryRecord]:
    """See `Ledger.to_decide`."""
    return [delivery_of(row) for row in await tx.connection.fetch(_TO_DECIDE)]


async def late(
    tx: Transaction, now: datetime, *, after: DeliveryRecord | None, limit: int | None
) -> list[DeliveryRecord]:
    """See `Ledger.late`."""
    deadline_at = None if after is None else floor_ms_or_null(after.deadline_at)
    delivery_id = None if after is None else after.delivery_id
    rows = await tx.connection.fetch(_LATE, floor_ms(now), deadline_at, delivery_id, limit)
    return [delivery_of(row) for row in rows]


async def late_counts(tx: Transaction, now: datetime, *, erased_within: timedelta) -> LateCounts:
    """See `Ledger.late_counts`."""
    erased_by = floor_ms(now - erased_within)
    return LateCounts(
        deliveries=tuple(
            LateDeliveries(channel=channel, status=status, action=action, count=count, oldest_deadline_at=oldest)
            for channel, status, action, count, oldest in await tx.connection.fetch(_LATE_DELIVERIES, floor_ms(now))
        ),
        copies=_erasures(await tx.connection.fetch(_LATE_COPIES, erased_by)),
        blobs=_erasures(await tx.connection.fetch(_LATE_BLOBS, erased_by)),
    )


def _erasures(rows: list[Row]) -> LateErasures:
    ((count, oldest),) = rows
    return LateErasures(count=count, oldest_due_at=oldest)


async def claim_late(
    tx: Transaction, worker: str, delivery_id: DeliveryId, *, late_at: datetime, lease: timedelta
) -> Claim | None:
    """See `Ledger.claim_late`; `late_at` is the caller's time."""
    leased = await tx.connection.fetch(
        _LEASE_LATE, tx.now_or_null, delivery_id, floor_ms(late_at), lease, worker, KNOWN_STATUSES
    )
    return next(iter(await claims_of(tx, worker, leased)), None)


async def queue_depths(tx: Transaction) -> list[QueueDepth]:
    """See `Ledger.queue_depths`."""
    return [
        QueueDepth(channel=channel, action=action, count=count, oldest_due_at=oldest)
        for channel, action, count, oldest in await tx.connection.fetch(_DEPTHS)
    ]


async def heartbeat(tx: Transaction, at: datetime) -> None:
    """See `Ledger.heartbeat`."""
    await tx.connection.execute(_BEAT, floor_ms(at))
