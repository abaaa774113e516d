"""Enclosures: the sealed bytes of small documents, kept beside their message until its keys are destroyed."""

from collections.abc import Collection, Mapping
from typing import Final
from uuid import UUID

import apsw

from gateway.domain.ids import DocumentId
from gateway.stores.sqlite.rows import blobs

_INSERT: Final = "INSERT INTO enclosure (document_id, sealed) VALUES (?, ?)"
_SELECT: Final = "SELECT sealed FROM enclosure WHERE document_id = ?"
_REMOVE: Final = """
DELETE FROM enclosure WHERE document_id IN (SELECT document_id FROM document WHERE message_id = ? AND enclosed = 1)
"""
_SIZES: Final = "SELECT document_id, length(sealed) FROM enclosure WHERE document_id IN carray(?)"


def insert_enclosures(connection: apsw.Connection, enclosures: Mapping[DocumentId, bytes]) -> None:
    """Add the sealed bytes of the enclosed documents of a message."""
    connection.executemany(_INSERT, ((document_id.bytes, sealed) for document_id, sealed in enclosures.items()))


def enclosure(connection: apsw.Connection, document_id: DocumentId) -> bytes | None:
    """See `Ledger.enclosure`."""
    row = connection.execute(_SELECT, (document_id.bytes,)).fetchone()
    return None if row is None else bytes(row[0])


def remove_enclosures(connection: apsw.Connection, message_id: UUID) -> None:
    """Remove the sealed bytes of the enclosed documents of a message, which no key opens any more."""
    connection.execute(_REMOVE, (message_id.bytes,))


def enclosure_sizes(connection: apsw.Connection, document_ids: Collection[UUID]) -> Mapping[DocumentId, int]:
    """Return the size in bytes of those of these documents' enclosures that are there."""
    if not document_ids:
        return {}
    rows = connection.execute(_SIZES, (blobs([document_id.bytes for document_id in document_ids]),))
    return {DocumentId(UUID(bytes=document_id)): size_bytes for document_id, size_bytes in rows}
