"""Erasure: keys first, with the enclosures, then blobs; and tombstones, which forbid what no document needs."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import apsw

from gateway.domain.ids import DocumentId
from gateway.stores.encoding import swept
from gateway.stores.model import LogEntry, MessageRecord
from gateway.stores.sqlite.enclosing import remove_enclosures
from gateway.stores.sqlite.keys import destroy_document_keys
from gateway.stores.sqlite.logs import append
from gateway.stores.sqlite.messages import SELECT_MESSAGES, load_messages
from gateway.stores.sqlite.rows import blobs, to_ms

_DUE: Final = (
    SELECT_MESSAGES
    + "WHERE copy_state IN ('kept', 'awaiting-erasure') AND copy_until <= ? ORDER BY copy_until, position LIMIT ?"
)
_MARK_MESSAGE: Final = """
UPDATE message SET copy_state = 'erased', revision = revision + 1 WHERE message_id = ? AND revision = ?
"""
_MARK_DOCUMENTS: Final = """
UPDATE document SET key_destroyed_at = :at, blob_erased_at = iif(enclosed, :at, blob_erased_at)
WHERE message_id = :message_id AND key_destroyed_at IS NULL
"""
_END_RETRIEVAL: Final = """
DELETE FROM retrieval WHERE delivery_id IN (SELECT delivery_id FROM delivery WHERE message_id = ?)
"""
_BLOBS: Final = """
SELECT document_id FROM document WHERE key_destroyed_at IS NOT NULL AND blob_erased_at IS NULL
ORDER BY key_destroyed_at LIMIT ?
"""
_MARK_BLOB: Final = "UPDATE document SET blob_erased_at = ? WHERE document_id = ? AND blob_erased_at IS NULL"
_IS_NEEDED: Final = "SELECT count(*) FROM document WHERE document_id = ? AND enclosed = 0"
_FORBID: Final = "INSERT INTO tombstone (blob_id, at) VALUES (?, ?) ON CONFLICT (blob_id) DO NOTHING"
_FORBIDDEN: Final = "SELECT count(*) FROM tombstone WHERE blob_id IN carray(?)"


def due_erasures(connection: apsw.Connection, now: datetime, limit: int) -> list[MessageRecord]:
    """See `Ledger.due_erasures`."""
    return load_messages(connection, connection.execute(_DUE, (to_ms(now), limit)).fetchall())


def destroy_keys(
    connection: apsw.Connection, message: MessageRecord, at: datetime, entries: Sequence[LogEntry]
) -> bool:
    """See `Ledger.destroy_keys`."""
    message_id = message.message_id.bytes
    connection.execute(_MARK_MESSAGE, (message_id, message.revision))
    if not connection.changes():
        return False
    # By the rows of now, not by `message`: a cover page may have come since it was read.
    destroy_document_keys(connection, message.message_id)
    connection.execute(_MARK_DOCUMENTS, {"at": to_ms(at), "message_id": message_id})
    remove_enclosures(connection, message.message_id)
    connection.execute(_END_RETRIEVAL, (message_id,))
    append(connection, entries)
    return True


def blobs_to_erase(connection: apsw.Connection, limit: int) -> list[DocumentId]:
    """See `Ledger.blobs_to_erase`."""
    return [DocumentId(UUID(bytes=row[0])) for row in connection.execute(_BLOBS, (limit,))]


def blob_erased(connection: apsw.Connection, document_id: DocumentId, at: datetime) -> None:
    """See `Ledger.blob_erased`."""
    connection.execute(_MARK_BLOB, (to_ms(at), document_id.bytes))


def tombstone(connection: apsw.Connection, blob_ids: Sequence[UUID], at: datetime) -> list[UUID]:
    """See `Ledger.tombstone`."""
    forbidden = []
    for blob_id in dict.fromkeys(blob_ids):
        if not connection.execute(_IS_NEEDED, (blob_id.bytes,)).get:
            connection.execute(_FORBID, (blob_id.bytes, to_ms(at)))
            forbidden.append(blob_id)
    return forbidden


def refuse_tombstones(connection: apsw.Connection, blob_ids: Collection[UUID]) -> None:
    """
    Check that every blob may still be committed.

    Raises:
        StoreUnavailable: one may not; the sender sends again, and its documents get new ids.
    """
    if blob_ids and connection.execute(_FORBIDDEN, (blobs([blob_id.bytes for blob_id in blob_ids]),)).get:
        raise swept()
