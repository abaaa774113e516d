"""Enclosures: the sealed bytes of small documents, kept beside their message until its keys are destroyed."""

from collections.abc import Collection, Mapping
from typing import Final
from uuid import UUID

from gateway.domain.ids import DocumentId
from gateway.stores.postgres.sessions import Transaction

_INSERT: Final = "INSERT INTO enclosure (document_id, sealed) VALUES ($1, $2)"
_SELECT: Final = "SELECT sealed FROM enclosure WHERE document_id = $1"
_SIZES: Final = "SELECT document_id, length(sealed) FROM enclosure WHERE document_id = ANY($1::uuid[])"


async def insert_enclosures(tx: Transaction, enclosures: Mapping[DocumentId, bytes]) -> None:
    """Add the sealed bytes of the enclosed documents of a message."""
    if enclosures:
        await tx.connection.executemany(_INSERT, list(enclosures.items()))


async def enclosure(tx: Transaction, document_id: DocumentId) -> bytes | None:
    """See `Ledger.enclosure`."""
    sealed: bytes | None = await tx.connection.fetchval(_SELECT, document_id)
    return sealed


async def enclosure_sizes(tx: Transaction, document_ids: Collection[UUID]) -> Mapping[DocumentId, int]:
    """Return the size in bytes of those of these documents' enclosures that are there."""
    rows = await tx.connection.fetch(_SIZES, document_ids)
    return {DocumentId(document_id): size_bytes for document_id, size_bytes in rows}
