"""What goes to the provider: the letter with its documents, each unsealed only while it is read."""

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO

from pypdf import PdfReader
from pypdf.errors import PyPdfError

from gateway.adapters.base import Parcel, ParcelDocument
from gateway.crypto.sealing import unseal
from gateway.deliver.stages import DeliverDeps, Letter
from gateway.domain.ids import sender_uuid
from gateway.domain.message import Channel
from gateway.domain.status import Reason
from gateway.errors import KeyringRefused, Refused
from gateway.records import personal
from gateway.stores.model import DocumentRecord


async def parcel_for(letter: Letter, deps: DeliverDeps) -> Parcel:
    """
    Return the letter as its provider gets it: a cover page first, which is made now if there was none.

    Raises:
        Refused: it cannot be printed as it is; no provider was asked.
        KeyringRefused, SealBroken, BlobMissing: a document cannot be read.
        LeaseLost: somebody else holds the delivery.
        StoreUnavailable: it cannot be read now.
    """
    record, delivery = letter.record, letter.delivery
    if delivery.channel is Channel.PRINT:
        record = await deps.covers.ensure(letter)
    chosen = [document for document in record.documents if document.delivery_id in (None, delivery.delivery_id)]
    chosen.sort(key=lambda document: (document.kind != "cover", document.number))
    documents = [await _parcel_document(document, letter, deps) for document in chosen]
    return Parcel(
        delivery_id=delivery.delivery_id,
        message_id=record.message_id,
        channel=delivery.channel,
        sender=record.sender,
        sender_name=record.letterhead.sender_name,
        display_name=record.letterhead.display_name,
        profile=record.profile,
        category=record.category,
        recipient=letter.recipient,
        attention_of=letter.attention_of,
        subject=letter.subject,
        language=record.language,
        print_options=record.print_options,
        return_address=record.letterhead.return_address,
        ebox=record.route.ebox.get(delivery.channel),
        documents=tuple(documents),
    )


async def _parcel_document(document: DocumentRecord, letter: Letter, deps: DeliverDeps) -> ParcelDocument:
    sender_id = sender_uuid(letter.record.sender)
    # A cover page that was made just now came with a key of its own.
    row = letter.deks.get(document.dek_id) or await deps.ledger.dek(document.dek_id)
    if row is None:
        raise KeyringRefused(f"the key of document {document.document_id} is gone while it is still needed")
    dek = await deps.vault.open_dek(row, sender_id)

    def read() -> AsyncIterator[bytes]:
        return unseal(
            deps.documents.open(document),
            dek.key,
            expect_blob_id=document.document_id,
            expect_dek_id=document.dek_id,
            expect_sender_id=sender_id,
        )

    pages = document.pages
    if pages is None and letter.delivery.channel is Channel.PRINT:
        content = b"".join([chunk async for chunk in read()])
        pages = await asyncio.to_thread(_page_count, content)
    return ParcelDocument(
        filename=personal.open_filename(letter.meta, document),
        media_type=document.media_type,
        size_bytes=document.size_bytes,
        sha256=document.sha256,
        main=document.main,
        signed=document.signed,
        pages=pages,
        is_cover=document.kind == "cover",
        open=read,
    )


def _page_count(content: bytes) -> int:
    try:
        return len(PdfReader(BytesIO(content), strict=False).pages)
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Refused(reason=Reason.REFUSED, code="pdf-unreadable") from error
