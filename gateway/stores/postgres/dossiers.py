"""Dossiers: which files a sender says it handles, about whom."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from gateway.crypto.vault import DekRow
from gateway.domain.ids import EnterpriseNumber
from gateway.stores.model import DossierRecord
from gateway.stores.postgres.keys import add_deks
from gateway.stores.postgres.rows import floor_ms, floor_ms_or_null
from gateway.stores.postgres.sessions import Row, Transaction

_INSERT: Final = """
INSERT INTO dossier (
  dossier_id, sender, category, recipient_index, recipient_index_version, from_on, until_on, registered_at, ended_at,
  dek_id, sealed_recipient
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""
_SELECT: Final = """
SELECT
  dossier_id, sender, category, recipient_index, recipient_index_version, from_on, until_on, registered_at, ended_at,
  dek_id, sealed_recipient
FROM dossier
"""
_ONE: Final = _SELECT + "WHERE dossier_id = $1 AND sender = $2 FOR UPDATE"
_ABOUT: Final = (
    _SELECT
    + """
JOIN unnest($3::integer[], $4::bytea[]) WITH ORDINALITY AS candidate (version, index, place)
  ON recipient_index = candidate.index AND recipient_index_version = candidate.version
WHERE sender = $1 AND ($2::text IS NULL OR category = $2)
ORDER BY candidate.place, registered_at, dossier_id
"""
)
_END: Final = "UPDATE dossier SET ended_at = $2 WHERE dossier_id = $1 AND ended_at IS NULL"


async def add_dossiers(tx: Transaction, dossiers: Iterable[DossierRecord], deks: Sequence[DekRow]) -> None:
    """See `Ledger.add_dossiers`."""
    await add_deks(tx, deks)
    await tx.connection.executemany(_INSERT, [_row_of(dossier) for dossier in dossiers])


async def end_dossier(
    tx: Transaction, sender: EnterpriseNumber, dossier_id: UUID, at: datetime, categories: Collection[str] | None
) -> DossierRecord | None:
    """See `Ledger.end_dossier`; one that ended before keeps its end."""
    row = await tx.connection.fetchrow(_ONE, dossier_id, sender)
    found = None if row is None else _dossier_of(row)
    if found is None or (categories is not None and found.category not in categories):
        return None
    await tx.connection.execute(_END, dossier_id, floor_ms(at))
    return found


async def find_dossiers(
    tx: Transaction, sender: EnterpriseNumber, category: str | None, recipient: Collection[tuple[int, bytes]]
) -> list[DossierRecord]:
    """See `Ledger.find_dossiers`."""
    versions, indexes = [version for version, _ in recipient], [index for _, index in recipient]
    return [_dossier_of(row) for row in await tx.connection.fetch(_ABOUT, sender, category, versions, indexes)]


def _row_of(dossier: DossierRecord) -> Row:
    return (
        dossier.dossier_id,
        dossier.sender,
        dossier.category,
        dossier.recipient_index,
        dossier.recipient_index_version,
        dossier.from_on,
        dossier.until_on,
        floor_ms(dossier.registered_at),
        floor_ms_or_null(dossier.ended_at),
        dossier.dek_id,
        dossier.sealed_recipient,
    )


def _dossier_of(row: Row) -> DossierRecord:
    # fmt: off
    (
        dossier_id, sender, category, recipient_index, recipient_index_version, from_on, until_on, registered_at,
        ended_at, dek_id, sealed_recipient,
    ) = row
    # fmt: on
    return DossierRecord(
        dossier_id=dossier_id,
        sender=EnterpriseNumber(sender),
        category=category,
        recipient_index=recipient_index,
        recipient_index_version=recipient_index_version,
        from_on=from_on,
        until_on=until_on,
        registered_at=registered_at,
        ended_at=ended_at,
        dek_id=dek_id,
        sealed_recipient=sealed_recipient,
    )
