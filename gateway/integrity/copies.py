"""What is wrong with the documents of a message: copy, keys, blobs or enclosures, codes that open them. Pure."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from gateway.crypto.sealing import sealed_size
from gateway.domain.deadlines import ERASED_WITHIN
from gateway.domain.retention import CopyState
from gateway.domain.status import MessageStatus, NextAction, is_final
from gateway.integrity.findings import Code, Finding
from gateway.stores.model import AuditedMessage, DocumentRecord, MessageRecord

_LEAVING: Final = frozenset({CopyState.KEPT, CopyState.AWAITING_ERASURE})


def copy_findings(audited: AuditedMessage, sizes: Mapping[UUID, int], now: datetime) -> Iterator[Finding]:
    """Yield what is wrong with the documents of a message; `sizes` holds the bytes of those blobs that are there."""
    message = audited.message
    yield from _copy(message, now)
    if message.meta_dek_id not in audited.keys:
        yield Finding(code=Code.KEY_MISSING, id=str(message.message_id), detail="of the message itself")
    for document in message.documents:
        yield from _key(document, message, has_key=document.dek_id in audited.keys)
        if document.enclosed:
            yield from _enclosure(document, audited)
        else:
            yield from _blob(document, sizes.get(document.document_id), audited, now)
    yield from _retrievals(audited)


def is_needed(document: DocumentRecord, message: MessageRecord) -> bool:
    """Tell whether a document must still be there to be read."""
    return message.copy_state is not CopyState.ERASED and document.key_destroyed_at is None


def _copy(message: MessageRecord, now: datetime) -> Iterator[Finding]:
    state, until = message.copy_state, message.copy_until
    is_open = any(delivery.next_action is not NextAction.NONE for delivery in message.deliveries)
    if state in _LEAVING and until is None:
        yield _wrong(message, "never to be erased")
    elif is_final(message.status):
        if state is CopyState.IN_DELIVERY:
            yield _wrong(message, "never to be erased")
    elif message.status in (MessageStatus.DELIVERED, MessageStatus.RETURNED):
        if state is CopyState.IN_DELIVERY and not is_open:
            yield _wrong(message, "never to be erased")
    elif state is not CopyState.IN_DELIVERY:
        yield _wrong(message, "still needed")
    if state in _LEAVING and until is not None and until < now - ERASED_WITHIN:
        yield Finding(code=Code.ERASURE_LATE, id=str(message.message_id), detail=f"{state} until {until:%Y-%m-%d}")


def _wrong(message: MessageRecord, why: str) -> Finding:
    detail = f"message {message.status}, copy {message.copy_state}, {why}"
    return Finding(code=Code.COPY_WRONG, id=str(message.message_id), detail=detail)


def _key(document: DocumentRecord, message: MessageRecord, *, has_key: bool) -> Iterator[Finding]:
    if is_needed(document, message):
        if not has_key:
            yield Finding(code=Code.KEY_MISSING, id=str(document.document_id))
    elif has_key or document.key_destroyed_at is None or message.copy_state is not CopyState.ERASED:
        standing = "destroyed" if document.key_destroyed_at is not None else "not noted as destroyed"
        detail = f"copy {message.copy_state}, key {standing}"
        yield Finding(code=Code.KEY_NOT_DESTROYED, id=str(document.document_id), detail=detail)


def _blob(
    document: DocumentRecord, size_bytes: int | None, audited: AuditedMessage, now: datetime
) -> Iterator[Finding]:
    blob_id, destroyed_at = str(document.document_id), document.key_destroyed_at
    if document.document_id in audited.blobs_erased:
        if size_bytes is not None:
            yield Finding(code=Code.BLOB_NOT_ERASED, id=blob_id)
        elif is_needed(document, audited.message):
            yield Finding(code=Code.BLOB_MISSING, id=blob_id, detail="noted as erased")
    elif size_bytes is None:
        if is_needed(document, audited.message):
            yield Finding(code=Code.BLOB_MISSING, id=blob_id)
    elif destroyed_at is not None and destroyed_at < now - ERASED_WITHIN:
        yield Finding(code=Code.ERASURE_LATE, id=blob_id, detail="the blob of a destroyed key")
    elif size_bytes != sealed_size(document.size_bytes):
        detail = f"{size_bytes} bytes instead of {sealed_size(document.size_bytes)}"
        yield Finding(code=Code.BLOB_SIZE_WRONG, id=blob_id, detail=detail)


def _enclosure(document: DocumentRecord, audited: AuditedMessage) -> Iterator[Finding]:
    document_id, size_bytes = str(document.document_id), audited.enclosures.get(document.document_id)
    if not is_needed(document, audited.message):
        if size_bytes is not None:
            yield Finding(code=Code.ENCLOSURE_NOT_ERASED, id=document_id)
    elif size_bytes is None:
        yield Finding(code=Code.ENCLOSURE_MISSING, id=document_id)
    elif size_bytes != sealed_size(document.size_bytes):
        detail = f"{size_bytes} bytes instead of {sealed_size(document.size_bytes)}"
        yield Finding(code=Code.ENCLOSURE_SIZE_WRONG, id=document_id, detail=detail)


def _retrievals(audited: AuditedMessage) -> Iterator[Finding]:
    if audited.message.copy_state is CopyState.ERASED:
        for delivery_id in audited.retrievals:
            yield Finding(code=Code.RETRIEVAL_STRAY, id=str(delivery_id), detail="the copy is erased")
        return
    for document in audited.message.documents:
        if document.kind == "cover" and document.delivery_id not in audited.retrievals:
            yield Finding(code=Code.RETRIEVAL_MISSING, id=str(document.delivery_id))
