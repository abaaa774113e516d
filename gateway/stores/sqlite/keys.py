"""Wrapped keys as rows: of senders, of blind indexes, of data."""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

import apsw

from gateway.crypto.vault import DekRow, IndexKeyRow, KekRow
from gateway.stores.sqlite.rows import Row

_KEK: Final = "SELECT kek_id, sender_id, year, master_id, wrapped FROM kek WHERE kek_id = ?"
_KEK_FOR: Final = "SELECT kek_id, sender_id, year, master_id, wrapped FROM kek WHERE sender_id = ? AND year = ?"
_ADD_KEK: Final = """
INSERT INTO kek (kek_id, sender_id, year, master_id, wrapped) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (sender_id, year) DO NOTHING
"""

_INDEX_KEYS: Final = "SELECT purpose, version, master_id, wrapped FROM index_key WHERE purpose = ? ORDER BY version"
_INDEX_KEY: Final = "SELECT purpose, version, master_id, wrapped FROM index_key WHERE purpose = ? AND version = ?"
_ADD_INDEX_KEY: Final = """
INSERT INTO index_key (purpose, version, master_id, wrapped) VALUES (?, ?, ?, ?)
ON CONFLICT (purpose, version) DO NOTHING
"""

_DEK: Final = "SELECT dek_id, kek_id, purpose, wrapped FROM dek WHERE dek_id = ? AND destroyed = 0"
_ADD_DEK: Final = "INSERT INTO dek (dek_id, kek_id, purpose, wrapped) VALUES (?, ?, ?, ?)"
_DESTROY: Final = """
UPDATE dek SET destroyed = 1, wrapped = zeroblob(length(wrapped))
WHERE destroyed = 0 AND dek_id IN (SELECT dek_id FROM document WHERE message_id = ?)
"""

_LOG_KEY: Final = """
SELECT dek.dek_id, dek.kek_id, dek.purpose, dek.wrapped
FROM log_key JOIN dek ON dek.dek_id = log_key.dek_id
WHERE log_key.sender_id = ? AND log_key.year = ? AND dek.destroyed = 0
"""
_ADD_LOG_KEY: Final = "INSERT INTO log_key (sender_id, year, dek_id) VALUES (?, ?, ?)"


def kek(connection: apsw.Connection, kek_id: UUID) -> KekRow | None:
    """See `Ledger.kek`."""
    row = connection.execute(_KEK, (kek_id.bytes,)).fetchone()
    return None if row is None else _kek_of(row)


def kek_for(connection: apsw.Connection, sender_id: UUID, year: int) -> KekRow | None:
    """See `Ledger.kek_for`."""
    row = connection.execute(_KEK_FOR, (sender_id.bytes, year)).fetchone()
    return None if row is None else _kek_of(row)


def add_kek(connection: apsw.Connection, row: KekRow) -> KekRow:
    """See `Ledger.add_kek`."""
    connection.execute(_ADD_KEK, (row.kek_id.bytes, row.sender_id.bytes, row.year, row.master_id, row.wrapped))
    return row if connection.changes() else _kek_of(connection.execute(_KEK_FOR, (row.sender_id.bytes, row.year)).get)


def index_keys(connection: apsw.Connection, purpose: str) -> list[IndexKeyRow]:
    """See `Ledger.index_keys`."""
    return [_index_key_of(row) for row in connection.execute(_INDEX_KEYS, (purpose,))]


def add_index_key(connection: apsw.Connection, row: IndexKeyRow) -> IndexKeyRow:
    """See `Ledger.add_index_key`."""
    connection.execute(_ADD_INDEX_KEY, (row.purpose, row.version, row.master_id, row.wrapped))
    if connection.changes():
        return row
    return _index_key_of(connection.execute(_INDEX_KEY, (row.purpose, row.version)).get)


def dek(connection: apsw.Connection, dek_id: UUID) -> DekRow | None:
    """See `Ledger.dek`."""
    row = connection.execute(_DEK, (dek_id.bytes,)).fetchone()
    return None if row is None else _dek_of(row)


def deks(connection: apsw.Connection, dek_ids: Iterable[UUID]) -> dict[UUID, DekRow]:
    """Return those of these data keys that were not destroyed, by their ids."""
    found = (dek(connection, dek_id) for dek_id in dek_ids)
    return {row.dek_id: row for row in found if row is not None}


def add_deks(connection: apsw.Connection, rows: Iterable[DekRow]) -> None:
    """Add data keys."""
    connection.executemany(_ADD_DEK, ((row.dek_id.bytes, row.kek_id.bytes, row.purpose, row.wrapped) for row in rows))


def destroy_document_keys(connection: apsw.Connection, message_id: UUID) -> None:
    """Write zeros over the keys of all documents of a message; they leave the file with the next checkpoint."""
    connection.execute(_DESTROY, (message_id.bytes,))


def log_key(connection: apsw.Connection, sender_id: UUID, year: int) -> DekRow | None:
    """See `Ledger.log_key`."""
    row = connection.execute(_LOG_KEY, (sender_id.bytes, year)).fetchone()
    return None if row is None else _dek_of(row)


def add_log_key(connection: apsw.Connection, sender_id: UUID, year: int, row: DekRow) -> DekRow:
    """See `Ledger.add_log_key`."""
    earlier = log_key(connection, sender_id, year)
    if earlier is not None:
        return earlier
    add_deks(connection, [row])
    connection.execute(_ADD_LOG_KEY, (sender_id.bytes, year, row.dek_id.bytes))
    return row


def _kek_of(row: Row) -> KekRow:
    kek_id, sender_id, year, master_id, wrapped = row
    return KekRow(
        kek_id=UUID(bytes=kek_id), sender_id=UUID(bytes=sender_id), year=year, master_id=master_id, wrapped=wrapped
    )


def _index_key_of(row: Row) -> IndexKeyRow:
    purpose, version, master_id, wrapped = row
    return IndexKeyRow(purpose=purpose, version=version, master_id=master_id, wrapped=wrapped)


def _dek_of(row: Row) -> DekRow:
    dek_id, kek_id, purpose, wrapped = row
    return DekRow(dek_id=UUID(bytes=dek_id), kek_id=UUID(bytes=kek_id), purpose=purpose, wrapped=wrapped)
