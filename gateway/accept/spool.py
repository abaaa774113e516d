"""Each document through its checks and its seal: small ones are enclosed in their message, others become blobs."""

import asyncio
import hashlib
import hmac
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Final

from gateway.accept.stages import (
    AcceptDeps,
    Order,
    RawPart,
    Spooled,
)
from gateway.crypto.sealing import BlobHeader, seal, sealed_size
from gateway.crypto.vault import Dek
from gateway.domain.ids import DocumentId, MessageId, sender_uuid
from gateway.domain.message import DocumentEntry
from gateway.errors import FieldError, Kind, Refusal, StoreUnavailable
from gateway.records import personal
from gateway.stores.model import DocumentRecord

_log: Final = logging.getLogger(__name__)
_PDF: Final = "application/pdf"
_PDF_MAGIC: Final = b"%PDF-"
_ENCLOSED_TOGETHER: Final = 2  # times what one enclosed document may have: that much of a message is held in memory


async def spool(order: Order, parts: AsyncIterator[RawPart], deps: AcceptDeps) -> Spooled:
    """
    Stream each document through its checks and its seal; memory has a bound, whatever their size.

    Raises:
        Refusal: multipart-invalid, document-mismatch, document-too-large, document-not-acceptable; no blob is kept.
    """
    entries = order.signed.message.documents
    enclosed = which_are_enclosed(entries, deps.settings.enclose_up_to_bytes)
    sender_id = sender_uuid(order.signed.sender.enterprise_number)
    message_id = MessageId(deps.ids())
    meta = await deps.vault.new_dek(sender_id, "meta")
    documents: list[DocumentRecord] = []
    enclosures: dict[DocumentId, bytes] = {}
    deks: list[Dek] = []
    try:
        for number, (entry, is_enclosed) in enumerate(zip(entries, enclosed, strict=True), start=1):
            part = await expected_part(parts, entry)
            dek = await deps.vault.new_dek(sender_id, "document")
            document_id = DocumentId(deps.ids())
            documents.append(_document_record(document_id, number, entry, dek, meta, enclosed=is_enclosed))
            deks.append(dek)
            sealed = _sealed(part, entry, document_id, dek, deps)
            if is_enclosed:
                enclosures[document_id] = b"".join([piece async for piece in sealed])
            else:
                # The store keeps nothing when its source raises, so one that fails its check at the end is not stored.
                await deps.blobs.put(document_id, sealed)
        await no_more_parts(parts)
    except BaseException:
        # Their keys were never written, so these bytes can never be read; the sweeper takes what a crash leaves here.
        await asyncio.shield(discard(documents, deps))
        raise
    return Spooled(
        order=order,
        message_id=message_id,
        documents=tuple(documents),
        enclosures=enclosures,
        deks=tuple(deks),
        meta=meta,
    )


def which_are_enclosed(entries: Sequence[DocumentEntry], limit_bytes: int) -> list[bool]:
    """Tell of each document whether it is enclosed: it is small when sealed, and those before it left it room."""
    left_bytes, enclosed = _ENCLOSED_TOGETHER * limit_bytes, []
    for entry in entries:
        size_bytes = sealed_size(entry.size_bytes)
        enclosed.append(size_bytes <= min(limit_bytes, left_bytes))
        left_bytes -= size_bytes if enclosed[-1] else 0
    return enclosed


async def discard(documents: Sequence[DocumentRecord], deps: AcceptDeps) -> None:
    """Remove the blobs of a message that was not recorded; one that cannot be removed now is left to the sweeper."""
    for document in documents:
        if document.enclosed:
            continue  # it never left the memory of its request
        try:
            await deps.blobs.erase(document.document_id)
        except StoreUnavailable as error:
            # The sender is to hear why its message was refused, not that there is something left to tidy up.
            _log.warning(
                "blob of a refused message stays for the sweeper",
                extra={"document": str(document.document_id), "error": str(error)},
            )


async def expected_part(parts: AsyncIterator[RawPart], entry: DocumentEntry) -> RawPart:
    """
    Return the next part, which must be the one of this manifest entry.

    Raises:
        Refusal: multipart-invalid.
    """
    part = await anext(parts, None)
    if part is None:
        raise Refusal(
            Kind.MULTIPART_INVALID,
            f"the part {entry.part} of the manifest did not arrive; send one part per Document, in manifest order",
        )
    if (part.name, part.filename, part.media_type) != (entry.part, entry.filename, entry.media_type):
        wrong = "name" if part.name != entry.part else "filename" if part.filename != entry.filename else "Content-Type"
        raise Refusal(
            Kind.MULTIPART_INVALID,
            f"the {wrong} of the part at the place of {entry.part} differs from its Document in the manifest; "
            "parts come in manifest order, with the same name, filename and Content-Type",
        )
    return part


async def no_more_parts(parts: AsyncIterator[RawPart]) -> None:
    """
    Hold the parts to be at their end.

    Raises:
        Refusal: multipart-invalid.
    """
    if await anext(parts, None) is not None:
        raise Refusal(Kind.MULTIPART_INVALID, "there are more parts than the manifest has Documents; remove the others")


def _document_record(
    document_id: DocumentId, number: int, entry: DocumentEntry, dek: Dek, meta: Dek, *, enclosed: bool
) -> DocumentRecord:
    return DocumentRecord(
        document_id=document_id,
        number=number,
        part=entry.part,
        media_type=entry.media_type,
        size_bytes=entry.size_bytes,
        sha256=bytes.fromhex(entry.sha256),
        main=entry.main,
        signed=entry.signed,
        sealed_filename=personal.seal_filename(meta, document_id, entry.filename),
        dek_id=dek.row.dek_id,
        enclosed=enclosed,
    )


def _sealed(
    part: RawPart, entry: DocumentEntry, document_id: DocumentId, dek: Dek, deps: AcceptDeps
) -> AsyncIterator[bytes]:
    header = BlobHeader(
        blob_id=document_id,
        dek_id=dek.row.dek_id,
        sender_id=dek.sender_id,
        created_at=deps.clock(),
    )
    return seal(checked(part.chunks, entry), header, dek.key)


async def checked(chunks: AsyncIterator[bytes], entry: DocumentEntry) -> AsyncIterator[bytes]:
    """
    Yield the chunks of a document; at their end they have proved to be what the manifest says.

    Raises:
        Refusal: document-mismatch, document-not-acceptable.
    """
    digest, size_bytes, head = hashlib.sha256(), 0, b""
    async for chunk in chunks:
        size_bytes += len(chunk)
        if size_bytes > entry.size_bytes:
            raise _mismatch(entry, f"it has more than the {entry.size_bytes} bytes of the manifest")
        digest.update(chunk)
        if len(head) < len(_PDF_MAGIC):
            head = (head + chunk[: len(_PDF_MAGIC)])[: len(_PDF_MAGIC)]
        yield chunk
    if size_bytes != entry.size_bytes:
        raise _mismatch(entry, f"it has {size_bytes} bytes where the manifest says {entry.size_bytes}")
    if not hmac.compare_digest(digest.hexdigest(), entry.sha256):
        raise _mismatch(entry, "its SHA-256 differs from the manifest; compute it over the very bytes that are sent")
    if entry.media_type == _PDF and head != _PDF_MAGIC:
        raise Refusal(
            Kind.DOCUMENT_NOT_ACCEPTABLE,
            f"{entry.part} says {_PDF} but does not begin like a PDF; correct the media type or the document",
        )


def _mismatch(entry: DocumentEntry, what: str) -> Refusal:
    return Refusal(
        Kind.DOCUMENT_MISMATCH, f"{entry.part}: {what}", errors=[FieldError(pointer=f"/{entry.part}", detail=what)]
    )
