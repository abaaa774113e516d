"""What waits, what is late, what needs a person; and the proof that commits work."""

from datetime import datetime
from typing import Final

import apsw

from gateway.stores.model import DeliveryRecord, QueueDepth
from gateway.stores.sqlite.rows import SELECT_DELIVERIES, delivery_of, from_ms_or_null, to_ms

_TO_DECIDE: Final = (
    SELECT_DELIVERIES
    + "WHERE next_action <> 'none' AND next_action = 'decide' ORDER BY deadline_at IS NULL, deadline_at, delivery_id"
)
_LATE: Final = SELECT_DELIVERIES + "WHERE next_action <> 'none' AND deadline_at < ? ORDER BY deadline_at, delivery_id"
_DEPTHS: Final = """
SELECT channel, next_action, count(*), min(due_at) FROM delivery
WHERE next_action <> 'none' GROUP BY next_action, channel
"""
_BEAT: Final = "INSERT INTO heartbeat (id, at) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET at = excluded.at"


def to_decide(connection: apsw.Connection) -> list[DeliveryRecord]:
    """See `Ledger.to_decide`."""
    return [delivery_of(row) for row in connection.execute(_TO_DECIDE)]


def late(connection: apsw.Connection, now: datetime) -> list[DeliveryRecord]:
    """See `Ledger.late`."""
    return [delivery_of(row) for row in connection.execute(_LATE, (to_ms(now),))]


def queue_depths(connection: apsw.Connection) -> list[QueueDepth]:
    """See `Ledger.queue_depths`."""
    return [
        QueueDepth(channel=channel, action=action, count=count, oldest_due_at=from_ms_or_null(oldest))
        for channel, action, count, oldest in connection.execute(_DEPTHS)
    ]


def heartbeat(connection: apsw.Connection, at: datetime) -> None:
    """See `Ledger.heartbeat`."""
    connection.execute(_BEAT, (to_ms(at),))
