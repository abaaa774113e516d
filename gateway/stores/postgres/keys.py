"""Wrapped keys as rows: of senders, of blind indexes, of data."""

from collections.abc import Collection, Iterable
from typing import Final
from uuid import UUID

from gateway.crypto.vault import DekRow, IndexKeyRow, KekRow
from gateway.stores.postgres.sessions import Row, Transaction

_KEK: Final = "SELECT kek_id, sender_id, year, master_id, wrapped FROM kek WHERE kek_id = $1"
_KEK_FOR: Final = "SELECT kek_id, sender_id, year, master_id, wrapped FROM kek WHERE sender_id = $1 AND year = $2"
_ADD_KEK: Final = """
INSERT INTO kek (kek_id, sender_id, year, master_id, wrapped) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (sender_id, year) DO NOTHING
"""

_INDEX_KEYS: Final = "SELECT purpose, version, master_id, wrapped FROM index_key WHERE purpose = $1 ORDER BY version"
_INDEX_KEY: Final = "SELECT purpose, version, master_id, wrapped FROM index_key WHERE purpose = $1 AND version = $2"
_ADD_INDEX_KEY: Final = """
INSERT INTO index_key (purpose, version, master_id, wrapped) VALUES ($1, $2, $3, $4)
ON CONFLICT (purpose, version) DO NOTHING
"""

_DEK: Final = "SELECT dek_id, kek_id, purpose, wrapped FROM dek WHERE dek_id = $1 AND NOT destroyed"
_DEKS: Final = "SELECT dek_id, kek_id, purpose, wrapped FROM dek WHERE dek_id = ANY($1) AND NOT destroyed"
_ADD_DEK: Final = "INSERT INTO dek (dek_id, kek_id, purpose, wrapped) VALUES ($1, $2, $3, $4)"
_DESTROY: Final = """
UPDATE dek SET destroyed = true, wrapped = decode(repeat('00', length(wrapped)), 'hex')
WHERE NOT destroyed AND dek_id IN (SELECT dek_id FROM document WHERE message_id = $1)
"""

_LOG_KEY: Final = """
SELECT dek.dek_id, dek.kek_id, dek.purpose, dek.wrapped
FROM log_key JOIN dek ON dek.dek_id = log_key.dek_id
WHERE log_key.sender_id = $1 AND log_key.year = $2 AND NOT dek.destroyed
"""
# Its key comes after it, in the same transaction: of two that come together, the second leaves no key behind.
_ADD_LOG_KEY: Final = """
INSERT INTO log_key (sender_id, year, dek_id) VALUES ($1, $2, $3) ON CONFLICT (sender_id, year) DO NOTHING
RETURNING dek_id
"""


async def kek(tx: Transaction, kek_id: UUID) -> KekRow | None:
    """See `Ledger.kek`."""
    row = await tx.connection.fetchrow(_KEK, kek_id)
    return None if row is None else _kek_of(row)


async def kek_for(tx: Transaction, sender_id: UUID, year: int) -> KekRow | None:
    """See `Ledger.kek_for`."""
    row = await tx.connection.fetchrow(_KEK_FOR, sender_id, year)
    return None if row is None else _kek_of(row)


async def add_kek(tx: Transaction, row: KekRow) -> KekRow:
    """See `Ledger.add_kek`."""
    await tx.connection.execute(_ADD_KEK, row.kek_id, row.sender_id, row.year, row.master_id, row.wrapped)
    return await kek_for(tx, row.sender_id, row.year) or row


async def index_keys(tx: Transaction, purpose: str) -> list[IndexKeyRow]:
    """See `Ledger.index_keys`."""
    return [_index_key_of(row) for row in await tx.connection.fetch(_INDEX_KEYS, purpose)]


async def add_index_key(tx: Transaction, row: IndexKeyRow) -> IndexKeyRow:
    """See `Ledger.add_index_key`."""
    await tx.connection.execute(_ADD_INDEX_KEY, row.purpose, row.version, row.master_id, row.wrapped)
    in_force = await tx.connection.fetchrow(_INDEX_KEY, row.purpose, row.version)
    return row if in_force is None else _index_key_of(in_force)


async def dek(tx: Transaction, dek_id: UUID) -> DekRow | None:
    """See `Ledger.dek`."""
    row = await tx.connection.fetchrow(_DEK, dek_id)
    return None if row is None else _dek_of(row)


async def deks(tx: Transaction, dek_ids: Collection[UUID]) -> dict[UUID, DekRow]:
    """Return those of these data keys that were not destroyed, by their ids."""
    return {row.dek_id: row for row in map(_dek_of, await tx.connection.fetch(_DEKS, list(dek_ids)))}


async def add_deks(tx: Transaction, rows: Iterable[DekRow]) -> None:
    """Add data keys."""
    await tx.connection.executemany(_ADD_DEK, [(row.dek_id, row.kek_id, row.purpose, row.wrapped) for row in rows])


async def destroy_document_keys(tx: Transaction, message_id: UUID) -> None:
    """Write zeros over the keys of all documents of a message; the old rows leave the table with the next VACUUM."""
    await tx.connection.execute(_DESTROY, message_id)


async def log_key(tx: Transaction, sender_id: UUID, year: int) -> DekRow | None:
    """See `Ledger.log_key`."""
    row = await tx.connection.fetchrow(_LOG_KEY, sender_id, year)
    return None if row is None else _dek_of(row)


async def add_log_key(tx: Transaction, sender_id: UUID, year: int, row: DekRow) -> DekRow:
    """See `Ledger.add_log_key`."""
    if await tx.connection.fetchval(_ADD_LOG_KEY, sender_id, year, row.dek_id) is not None:
        await add_deks(tx, [row])
    return await log_key(tx, sender_id, year) or row


def _kek_of(row: Row) -> KekRow:
    kek_id, sender_id, year, master_id, wrapped = row
    return KekRow(kek_id=kek_id, sender_id=sender_id, year=year, master_id=master_id, wrapped=wrapped)


def _index_key_of(row: Row) -> IndexKeyRow:
    purpose, version, master_id, wrapped = row
    return IndexKeyRow(purpose=purpose, version=version, master_id=master_id, wrapped=wrapped)


def _dek_of(row: Row) -> DekRow:
    dek_id, kek_id, purpose, wrapped = row
    return DekRow(dek_id=dek_id, kek_id=kek_id, purpose=purpose, wrapped=wrapped)
