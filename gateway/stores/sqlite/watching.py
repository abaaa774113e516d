"""What waits, what is late, what needs a person; and the few rows the gateway keeps about itself."""

import hmac
from datetime import datetime
from typing import Final

import apsw

from gateway.stores.ledger import DeliveryRecord, QueueDepth
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
_NEWEST_REGISTRATION: Final = "SELECT version, digest FROM registration_version ORDER BY version DESC LIMIT 1"
_ADD_REGISTRATION: Final = "INSERT INTO registration_version (version, digest, at, author) VALUES (?, ?, ?, ?)"
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


def registration_version(connection: apsw.Connection, digest: bytes, *, author: str, at: datetime) -> int:
    """See `Ledger.registration_version`."""
    newest = connection.execute(_NEWEST_REGISTRATION).fetchone()
    if newest is not None and hmac.compare_digest(newest[1], digest):
        return int(newest[0])
    version = 1 if newest is None else int(newest[0]) + 1
    connection.execute(_ADD_REGISTRATION, (version, digest, to_ms(at), author))
    return version


def heartbeat(connection: apsw.Connection, at: datetime) -> None:
    """See `Ledger.heartbeat`."""
    connection.execute(_BEAT, (to_ms(at),))
