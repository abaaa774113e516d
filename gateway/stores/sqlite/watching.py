"""What waits, what is late, what needs a person; and the proof that commits work."""

from datetime import datetime, timedelta
from typing import Any, Final

import apsw

from gateway.domain.ids import DeliveryId
from gateway.domain.status import DeliveryStatus
from gateway.stores.model import Claim, DeliveryRecord, LateCounts, LateDeliveries, LateErasures, QueueDepth
from gateway.stores.sqlite.rows import SELECT_DELIVERIES, delivery_of, from_ms, from_ms_or_null, to_ms

_TO_DECIDE: Final = (
    SELECT_DELIVERIES
    + "WHERE next_action <> 'none' AND next_action = 'decide' ORDER BY deadline_at IS NULL, deadline_at, delivery_id"
)
_LATE: Final = (
    SELECT_DELIVERIES
    + "WHERE next_action <> 'none' AND deadline_at < :now AND (deadline_at, delivery_id) > (:deadline_at, :delivery_id)"
    " ORDER BY deadline_at, delivery_id LIMIT :limit"
)
_LATE_DELIVERIES: Final = """
SELECT channel, status, next_action, count(*), min(deadline_at) FROM delivery
WHERE next_action <> 'none' AND deadline_at < ? GROUP BY channel, status, next_action
"""
_LATE_COPIES: Final = """
SELECT count(*), min(copy_until) FROM message WHERE copy_state IN ('kept', 'awaiting-erasure') AND copy_until < ?
"""
_LATE_BLOBS: Final = """
SELECT count(*), min(key_destroyed_at) FROM document
WHERE key_destroyed_at IS NOT NULL AND blob_erased_at IS NULL AND key_destroyed_at < ?
"""
_LEASE_LATE: Final = """
UPDATE delivery SET lease_token = lease_token + 1, lease_until = :until, worker = :worker
WHERE delivery_id = :delivery_id AND next_action IN ('send', 'reconcile', 'poll') AND deadline_at < :late_at
  AND (lease_until IS NULL OR lease_until <= :now) AND status IN carray(:statuses)
RETURNING
  delivery_id, message_id, number, channel, provider, lane, status, status_at, reason, code, provider_reference,
  barcode, handed_over_at, posted_at, read_seen_at, attempts, first_attempt_at, next_action, due_at, deadline_at,
  lease_token, lease_until
"""
_EVERY_LATE: Final = (-(2**63), b"")  # before the first
_NO_LIMIT: Final = -1  # as SQLite has it
_DEPTHS: Final = """
SELECT channel, next_action, count(*), min(due_at) FROM delivery
WHERE next_action <> 'none' GROUP BY next_action, channel
"""
_BEAT: Final = "INSERT INTO heartbeat (id, at) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET at = excluded.at"


def to_decide(connection: apsw.Connection) -> list[DeliveryRecord]:
    """See `Ledger.to_decide`."""
    return [delivery_of(row) for row in connection.execute(_TO_DECIDE)]


def late(
    connection: apsw.Connection, now: datetime, *, after: DeliveryRecord | None, limit: int | None
) -> list[DeliveryRecord]:
    """See `Ledger.late`."""
    deadline_at, delivery_id = _EVERY_LATE
    if after is not None and after.deadline_at is not None:
        deadline_at, delivery_id = to_ms(after.deadline_at), after.delivery_id.bytes
    names = {
        "now": to_ms(now),
        "deadline_at": deadline_at,
        "delivery_id": delivery_id,
        "limit": _NO_LIMIT if limit is None else limit,
    }
    return [delivery_of(row) for row in connection.execute(_LATE, names)]


def late_counts(connection: apsw.Connection, now: datetime, *, erased_within: timedelta) -> LateCounts:
    """See `Ledger.late_counts`."""
    erased_by = to_ms(now - erased_within)
    return LateCounts(
        deliveries=tuple(
            LateDeliveries(
                channel=channel, status=status, action=action, count=count, oldest_deadline_at=from_ms(oldest)
            )
            for channel, status, action, count, oldest in connection.execute(_LATE_DELIVERIES, (to_ms(now),))
        ),
        copies=_erasures(connection, _LATE_COPIES, erased_by),
        blobs=_erasures(connection, _LATE_BLOBS, erased_by),
    )


def _erasures(connection: apsw.Connection, query: str, erased_by: int) -> LateErasures:
    row: Any = connection.execute(query, (erased_by,)).fetchone()
    count, oldest = row
    return LateErasures(count=count, oldest_due_at=from_ms_or_null(oldest))


def claim_late(
    connection: apsw.Connection,
    worker: str,
    delivery_id: DeliveryId,
    *,
    late_at: datetime,
    now: datetime,
    lease: timedelta,
) -> Claim | None:
    """See `Ledger.claim_late`; `late_at` is the caller's time, `now` the store's."""
    row = connection.execute(
        _LEASE_LATE,
        {
            "until": to_ms(now + lease),
            "worker": worker,
            "delivery_id": delivery_id.bytes,
            "late_at": to_ms(late_at),
            "now": to_ms(now),
            "statuses": apsw.carray(tuple(status.value for status in DeliveryStatus)),
        },
    ).fetchone()
    if row is None:
        return None
    return Claim(delivery=delivery_of(row[:-2]), worker=worker, lease_token=row[-2], lease_until=from_ms(row[-1]))


def queue_depths(connection: apsw.Connection) -> list[QueueDepth]:
    """See `Ledger.queue_depths`."""
    return [
        QueueDepth(channel=channel, action=action, count=count, oldest_due_at=from_ms_or_null(oldest))
        for channel, action, count, oldest in connection.execute(_DEPTHS)
    ]


def heartbeat(connection: apsw.Connection, at: datetime) -> None:
    """See `Ledger.heartbeat`."""
    connection.execute(_BEAT, (to_ms(at),))
