"""Signed statements about messages: each is kept as it was first given."""

from collections.abc import Iterable
from typing import Final

import apsw

from gateway.domain.ids import MessageId
from gateway.stores.model import EvidenceRecord
from gateway.stores.sqlite.rows import from_ms, to_ms

_SELECT: Final = "SELECT number, jws, signed_at FROM evidence WHERE message_id = ? ORDER BY number"
_INSERT: Final = """
INSERT INTO evidence (message_id, number, jws, signed_at) VALUES (?, ?, ?, ?)
ON CONFLICT (message_id, number) DO NOTHING
"""


def evidence(connection: apsw.Connection, message_id: MessageId) -> list[EvidenceRecord]:
    """See `Ledger.evidence`."""
    return [
        EvidenceRecord(message_id=message_id, number=number, jws=jws, signed_at=from_ms(signed_at))
        for number, jws, signed_at in connection.execute(_SELECT, (message_id.bytes,))
    ]


def add_evidence(connection: apsw.Connection, statements: Iterable[EvidenceRecord]) -> None:
    """See `Ledger.add_evidence`."""
    connection.executemany(
        _INSERT, ((each.message_id.bytes, each.number, each.jws, to_ms(each.signed_at)) for each in statements)
    )
