"""Signed statements about messages: each is kept as it was first given."""

from collections.abc import Iterable
from typing import Final

from gateway.domain.ids import MessageId
from gateway.stores.model import EvidenceRecord
from gateway.stores.postgres.rows import floor_ms
from gateway.stores.postgres.sessions import Transaction

_SELECT: Final = "SELECT number, jws, signed_at FROM evidence WHERE message_id = $1 ORDER BY number"
_INSERT: Final = """
INSERT INTO evidence (message_id, number, jws, signed_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (message_id, number) DO NOTHING
"""


async def evidence(tx: Transaction, message_id: MessageId) -> list[EvidenceRecord]:
    """See `Ledger.evidence`."""
    return [
        EvidenceRecord(message_id=message_id, number=number, jws=jws, signed_at=signed_at)
        for number, jws, signed_at in await tx.connection.fetch(_SELECT, message_id)
    ]


async def add_evidence(tx: Transaction, statements: Iterable[EvidenceRecord]) -> None:
    """See `Ledger.add_evidence`. In one order always, so that two who add the same wait for each other only once."""
    rows = sorted((each.message_id, each.number, each.jws, floor_ms(each.signed_at)) for each in statements)
    await tx.connection.executemany(_INSERT, rows)
