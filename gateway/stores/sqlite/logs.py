"""Log entries as rows. They are only ever added; triggers hold that."""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

import apsw

from gateway.domain.ids import DeliveryId, MessageId
from gateway.stores.model import LogEntry, TimelineEntry
from gateway.stores.sqlite.rows import Row, from_ms, to_ms

_INSERT: Final = """
INSERT INTO log_entry (
  entry_id, log, at, event, sender, profile, message_id, delivery_id, about_index, about_index_version, entry,
  leaf_sha256, dek_id, sealed_clear
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_TIMELINE: Final = """
SELECT at, event, delivery_id, entry FROM log_entry WHERE message_id = ? AND log = 'traffic' ORDER BY position
"""


def append(connection: apsw.Connection, entries: Iterable[LogEntry]) -> None:
    """Add log entries, in order."""
    connection.executemany(_INSERT, (_row_of(entry) for entry in entries))


def timeline(connection: apsw.Connection, message_id: MessageId) -> list[TimelineEntry]:
    """See `Ledger.timeline`."""
    return [
        TimelineEntry(
            at=from_ms(at),
            event=event,
            delivery_id=None if delivery_id is None else DeliveryId(UUID(bytes=delivery_id)),
            entry=entry,
        )
        for at, event, delivery_id, entry in connection.execute(_TIMELINE, (message_id.bytes,))
    ]


def _row_of(entry: LogEntry) -> Row:
    return (
        entry.entry_id.bytes,
        entry.log,
        to_ms(entry.at),
        entry.event,
        entry.sender,
        entry.profile,
        None if entry.message_id is None else entry.message_id.bytes,
        None if entry.delivery_id is None else entry.delivery_id.bytes,
        entry.about_index,
        entry.about_index_version,
        entry.entry,
        entry.leaf_sha256,
        None if entry.dek_id is None else entry.dek_id.bytes,
        entry.sealed_clear,
    )
