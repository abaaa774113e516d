"""Dossiers: which files a sender says it handles, about whom."""

from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime
from typing import Final
from uuid import UUID

import apsw

from gateway.crypto.vault import DekRow
from gateway.domain.ids import EnterpriseNumber
from gateway.stores.model import DossierRecord
from gateway.stores.sqlite.keys import add_deks
from gateway.stores.sqlite.rows import Row, from_ms, from_ms_or_null, to_ms, to_ms_or_null

_INSERT: Final = """
INSERT INTO dossier (
  dossier_id, sender, category, recipient_index, recipient_index_version, from_on, until_on, registered_at, ended_at,
  dek_id, sealed_recipient
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_SELECT: Final = """
SELECT
  dossier_id, sender, category, recipient_index, recipient_index_version, from_on, until_on, registered_at, ended_at,
  dek_id, sealed_recipient
FROM dossier
"""
_ONE: Final = _SELECT + "WHERE dossier_id = ? AND sender = ?"
_ABOUT: Final = (
    _SELECT
    + """
WHERE sender = :sender AND recipient_index = :recipient AND recipient_index_version = :version
  AND (:category IS NULL OR category = :category)
ORDER BY registered_at, dossier_id
"""
)
_END: Final = "UPDATE dossier SET ended_at = ? WHERE dossier_id = ? AND ended_at IS NULL"


def add_dossiers(connection: apsw.Connection, dossiers: Iterable[DossierRecord], deks: Sequence[DekRow]) -> None:
    """See `Ledger.add_dossiers`."""
    add_deks(connection, deks)
    connection.executemany(_INSERT, (_row_of(dossier) for dossier in dossiers))


def end_dossier(
    connection: apsw.Connection,
    sender: EnterpriseNumber,
    dossier_id: UUID,
    at: datetime,
    categories: Collection[str] | None,
) -> DossierRecord | None:
    """See `Ledger.end_dossier`; one that ended before keeps its end."""
    row = connection.execute(_ONE, (dossier_id.bytes, sender)).fetchone()
    found = None if row is None else _dossier_of(row)
    if found is None or (categories is not None and found.category not in categories):
        return None
    connection.execute(_END, (to_ms(at), dossier_id.bytes))
    return found


def find_dossiers(
    connection: apsw.Connection,
    sender: EnterpriseNumber,
    category: str | None,
    recipient: Collection[tuple[int, bytes]],
) -> list[DossierRecord]:
    """See `Ledger.find_dossiers`."""
    return [
        _dossier_of(row)
        for version, index in recipient
        for row in connection.execute(
            _ABOUT, {"sender": sender, "category": category, "version": version, "recipient": index}
        )
    ]


def _row_of(dossier: DossierRecord) -> Row:
    return (
        dossier.dossier_id.bytes,
        dossier.sender,
        dossier.category,
        dossier.recipient_index,
        dossier.recipient_index_version,
        dossier.from_on.isoformat(),
        None if dossier.until_on is None else dossier.until_on.isoformat(),
        to_ms(dossier.registered_at),
        to_ms_or_null(dossier.ended_at),
        dossier.dek_id.bytes,
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
        dossier_id=UUID(bytes=dossier_id),
        sender=EnterpriseNumber(sender),
        category=category,
        recipient_index=recipient_index,
        recipient_index_version=recipient_index_version,
        from_on=date.fromisoformat(from_on),
        until_on=None if until_on is None else date.fromisoformat(until_on),
        registered_at=from_ms(registered_at),
        ended_at=from_ms_or_null(ended_at),
        dek_id=UUID(bytes=dek_id),
        sealed_recipient=sealed_recipient,
    )
