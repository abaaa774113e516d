"""Erasure: keys first, with the enclosures, then blobs; and tombstones, which forbid what no document needs."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from gateway.domain.ids import DocumentId
from gateway.stores.model import LogEntry, MessageRecord
from gateway.stores.postgres.keys import destroy_document_keys
from gateway.stores.postgres.logs import append
from gateway.stores.postgres.messages import SELECT_MESSAGES, load_messages
from gateway.stores.postgres.rows import floor_ms
from gateway.stores.postgres.sessions import Transaction

_DUE: Final = (
    SELECT_MESSAGES
    + "WHERE copy_state IN ('kept', 'awaiting-erasure') AND copy_until <= $1 ORDER BY copy_until, position LIMIT $2"
)
# With the message locked, nobody adds a document to it, and its log entries get positions in the order of numbers.
_LOCK: Final = "SELECT 1 FROM message WHERE message_id = $1 AND revision = $2 FOR NO KEY UPDATE"
_MARK_MESSAGE: Final = "UPDATE message SET copy_state = 'erased', revision = revision + 1 WHERE message_id = $1"
# The enclosures go with the keys; of the other documents the blobs are left to erase.
_MARK_DOCUMENTS: Final = """
WITH marked AS (
  UPDATE document SET key_destroyed_at = $2, blob_erased_at = CASE WHEN enclosed THEN $2 ELSE blob_erased_at END
  WHERE message_id = $1 AND key_destroyed_at IS NULL RETURNING document_id, enclosed
)
DELETE FROM enclosure WHERE document_id IN (SELECT document_id FROM marked WHERE enclosed)
"""
_END_RETRIEVAL: Final = "DELETE FROM retrieval WHERE message_id = $1"
_BLOBS: Final = """
SELECT document_id FROM document WHERE key_destroyed_at IS NOT NULL AND blob_erased_at IS NULL
ORDER BY key_destroyed_at LIMIT $1
"""
_MARK_BLOB: Final = """
UPDATE document SET blob_erased_at = $2
WHERE message_id = (SELECT message_id FROM blob WHERE blob_id = $1) AND document_id = $1 AND blob_erased_at IS NULL
"""
# In order of id, so that no two of them, nor one of them and a message, wait for each other.
_FORBID: Final = """
INSERT INTO blob (blob_id, message_id, at) SELECT blob_id, NULL, $2 FROM unnest($1::uuid[]) AS asked (blob_id)
ORDER BY blob_id
ON CONFLICT (blob_id) DO NOTHING
"""
_FORBIDDEN: Final = "SELECT blob_id FROM blob WHERE blob_id = ANY($1::uuid[]) AND message_id IS NULL"


async def due_erasures(tx: Transaction, now: datetime, limit: int) -> list[MessageRecord]:
    """See `Ledger.due_erasures`."""
    return await load_messages(tx, await tx.connection.fetch(_DUE, floor_ms(now), limit))


async def destroy_keys(tx: Transaction, message: MessageRecord, at: datetime, entries: Sequence[LogEntry]) -> bool:
    """See `Ledger.destroy_keys`."""
    message_id = message.message_id
    if await tx.connection.fetchval(_LOCK, message_id, message.revision) is None:
        return False
    await tx.connection.execute(_MARK_MESSAGE, message_id)
    await destroy_document_keys(tx, message_id)
    await tx.connection.execute(_MARK_DOCUMENTS, message_id, floor_ms(at))
    await tx.connection.execute(_END_RETRIEVAL, message_id)
    await append(tx, entries)
    return True


async def blobs_to_erase(tx: Transaction, limit: int) -> list[DocumentId]:
    """See `Ledger.blobs_to_erase`."""
    return [DocumentId(document_id) for (document_id,) in await tx.connection.fetch(_BLOBS, limit)]


async def blob_erased(tx: Transaction, document_id: DocumentId, at: datetime) -> None:
    """See `Ledger.blob_erased`."""
    await tx.connection.execute(_MARK_BLOB, document_id, floor_ms(at))


async def tombstone(tx: Transaction, blob_ids: Sequence[UUID], at: datetime) -> list[UUID]:
    """See `Ledger.tombstone`; a message that is being recorded with one of them is waited for."""
    asked = list(dict.fromkeys(blob_ids))
    await tx.connection.execute(_FORBID, asked, floor_ms(at))
    forbidden = {blob_id for (blob_id,) in await tx.connection.fetch(_FORBIDDEN, asked)}
    return [blob_id for blob_id in asked if blob_id in forbidden]
