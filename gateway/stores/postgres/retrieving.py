"""How recipients of paper letters find their authentic copy: keyed hashes only."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from gateway.domain.ids import DeliveryId, MessageId
from gateway.stores.model import LogEntry, RetrievalRecord
from gateway.stores.postgres.logs import append
from gateway.stores.postgres.rows import floor_ms, floor_ms_or_null
from gateway.stores.postgres.sessions import Row, Transaction

_INSERT: Final = """
INSERT INTO retrieval (
  delivery_id, message_id, token_hash, number_hash, code_hash, index_version, created_at, failures, locked_until
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
_FIND: Final = """
SELECT
  retrieval.delivery_id, retrieval.message_id, retrieval.token_hash, retrieval.number_hash, retrieval.code_hash,
  retrieval.index_version, retrieval.created_at, retrieval.failures, retrieval.locked_until
FROM unnest($1::integer[], $2::bytea[]) WITH ORDINALITY AS candidate (version, hash, place)
JOIN retrieval ON (retrieval.token_hash = candidate.hash OR retrieval.number_hash = candidate.hash)
  AND retrieval.index_version = candidate.version
ORDER BY candidate.place LIMIT 1
"""
_FAILED: Final = "UPDATE retrieval SET failures = failures + 1, locked_until = $2 WHERE delivery_id = $1"
# The message first, as in every change of one.
_LOCK: Final = """
SELECT message_id FROM message WHERE message_id = (SELECT message_id FROM delivery WHERE delivery_id = $1)
FOR NO KEY UPDATE
"""
# The revision stays: a recipient who reads a letter must not make a worker's settlement fail.
_COUNT: Final = "UPDATE message SET retrievals = retrievals + 1 WHERE message_id = $1"
_CLEAR: Final = "UPDATE retrieval SET failures = 0, locked_until = NULL WHERE delivery_id = $1"


async def insert_retrieval(tx: Transaction, retrieval: RetrievalRecord) -> None:
    """Add what opens the copy of one delivery."""
    await tx.connection.execute(
        _INSERT,
        retrieval.delivery_id,
        retrieval.message_id,
        retrieval.token_hash,
        retrieval.number_hash,
        retrieval.code_hash,
        retrieval.index_version,
        floor_ms(retrieval.created_at),
        retrieval.failures,
        floor_ms_or_null(retrieval.locked_until),
    )


async def retrieval(tx: Transaction, hashes: Collection[tuple[int, bytes]]) -> RetrievalRecord | None:
    """See `Ledger.retrieval`."""
    versions, candidates = [version for version, _ in hashes], [candidate for _, candidate in hashes]
    row = await tx.connection.fetchrow(_FIND, versions, candidates)
    return None if row is None else _retrieval_of(row)


async def retrieval_failed(tx: Transaction, delivery_id: DeliveryId, locked_until: datetime) -> None:
    """See `Ledger.retrieval_failed`."""
    await tx.connection.execute(_FAILED, delivery_id, floor_ms(locked_until))


async def retrieved(tx: Transaction, delivery_id: DeliveryId, entries: Sequence[LogEntry]) -> None:
    """See `Ledger.retrieved`."""
    message_id = await tx.connection.fetchval(_LOCK, delivery_id)
    await tx.connection.execute(_COUNT, message_id)
    await tx.connection.execute(_CLEAR, delivery_id)
    await append(tx, entries)


def _retrieval_of(row: Row) -> RetrievalRecord:
    # fmt: off
    (
        delivery_id, message_id, token_hash, number_hash, code_hash, index_version, created_at, failures, locked_until,
    ) = row
    # fmt: on
    return RetrievalRecord(
        delivery_id=DeliveryId(delivery_id),
        message_id=MessageId(message_id),
        token_hash=token_hash,
        number_hash=number_hash,
        code_hash=code_hash,
        index_version=index_version,
        created_at=created_at,
        failures=failures,
        locked_until=locked_until,
    )
