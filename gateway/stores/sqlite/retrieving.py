"""How recipients of paper letters find their authentic copy: keyed hashes only."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import apsw

from gateway.domain.ids import DeliveryId, MessageId
from gateway.stores.model import LogEntry, RetrievalRecord
from gateway.stores.sqlite.logs import append
from gateway.stores.sqlite.rows import Row, from_ms, from_ms_or_null, to_ms, to_ms_or_null

_INSERT: Final = """
INSERT INTO retrieval (
  delivery_id, message_id, token_hash, number_hash, code_hash, index_version, created_at, failures, locked_until
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_FIND: Final = """
SELECT delivery_id, message_id, token_hash, number_hash, code_hash, index_version, created_at, failures, locked_until
FROM retrieval WHERE (token_hash = :hash OR number_hash = :hash) AND index_version = :version
"""
_FAILED: Final = "UPDATE retrieval SET failures = failures + 1, locked_until = ? WHERE delivery_id = ?"
_CLEAR: Final = "UPDATE retrieval SET failures = 0, locked_until = NULL WHERE delivery_id = ?"
# The revision stays: a recipient who reads a letter must not make a worker's settlement fail.
_COUNT: Final = """
UPDATE message SET retrievals = retrievals + 1
WHERE message_id = (SELECT message_id FROM delivery WHERE delivery_id = ?)
"""


def insert_retrieval(connection: apsw.Connection, retrieval: RetrievalRecord) -> None:
    """Add what opens the copy of one delivery."""
    connection.execute(
        _INSERT,
        (
            retrieval.delivery_id.bytes,
            retrieval.message_id.bytes,
            retrieval.token_hash,
            retrieval.number_hash,
            retrieval.code_hash,
            retrieval.index_version,
            to_ms(retrieval.created_at),
            retrieval.failures,
            to_ms_or_null(retrieval.locked_until),
        ),
    )


def retrieval(connection: apsw.Connection, hashes: Collection[tuple[int, bytes]]) -> RetrievalRecord | None:
    """See `Ledger.retrieval`."""
    for version, candidate in hashes:
        row = connection.execute(_FIND, {"version": version, "hash": candidate}).fetchone()
        if row is not None:
            return _retrieval_of(row)
    return None


def retrieval_failed(connection: apsw.Connection, delivery_id: DeliveryId, locked_until: datetime) -> None:
    """See `Ledger.retrieval_failed`."""
    connection.execute(_FAILED, (to_ms(locked_until), delivery_id.bytes))


def retrieved(connection: apsw.Connection, delivery_id: DeliveryId, entries: Sequence[LogEntry]) -> None:
    """See `Ledger.retrieved`."""
    connection.execute(_CLEAR, (delivery_id.bytes,))
    connection.execute(_COUNT, (delivery_id.bytes,))
    append(connection, entries)


def _retrieval_of(row: Row) -> RetrievalRecord:
    # fmt: off
    (
        delivery_id, message_id, token_hash, number_hash, code_hash, index_version, created_at, failures, locked_until,
    ) = row
    # fmt: on
    return RetrievalRecord(
        delivery_id=DeliveryId(UUID(bytes=delivery_id)),
        message_id=MessageId(UUID(bytes=message_id)),
        token_hash=token_hash,
        number_hash=number_hash,
        code_hash=code_hash,
        index_version=index_version,
        created_at=from_ms(created_at),
        failures=failures,
        locked_until=from_ms_or_null(locked_until),
    )
