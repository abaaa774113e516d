"""
The letter behind the right code: whether it may be shown, what it holds, and a log entry for each look at it.

The entry is committed before anything is shown or sent.
"""

import hashlib
import hmac
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from gateway.crypto.sealing import SealBroken, unseal
from gateway.crypto.vault import Dek, Vault
from gateway.domain.ids import DeliveryId, MessageId, sender_uuid
from gateway.domain.message import Recipient
from gateway.domain.retention import CopyState
from gateway.errors import StoreUnavailable
from gateway.portal.access import Via
from gateway.records import personal
from gateway.records.logs import LogBook, Subject
from gateway.stores.documents import Documents
from gateway.stores.ledger import Ledger
from gateway.stores.model import (
    DocumentRecord,
    Log,
    LogEntry,
    MessageRecord,
)

PURPOSE: Final = "retrieval by recipient"


class Availability(StrEnum):
    """Whether the recipient can have the copy now."""

    READY = "ready"
    NOT_YET = "not-yet"
    GONE = "gone"


def availability(record: MessageRecord | None, now: datetime) -> Availability:
    """Return whether a message's authentic copy can be fetched: from dispatch, until the sender's term ends."""
    if record is None:
        return Availability.GONE
    if record.copy_state is CopyState.IN_DELIVERY:
        return Availability.NOT_YET
    is_over = record.copy_until is not None and record.copy_until <= now
    return Availability.READY if record.copy_state is CopyState.KEPT and not is_over else Availability.GONE


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OpenDocument:
    """One document of an open letter."""

    record: DocumentRecord
    filename: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OpenLetter:
    """A letter with its personal values unsealed; `sent_at` is when it was posted or, failing that, taken over."""

    record: MessageRecord
    delivery_id: DeliveryId
    meta: Dek
    recipient: Recipient
    subject: str
    sent_at: datetime
    documents: tuple[OpenDocument, ...]

    def document(self, number: int) -> OpenDocument | None:
        """Return the document of this number; cover pages have none here."""
        return next((document for document in self.documents if document.record.number == number), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Letters:
    """Opens letters for those who may see them."""

    ledger: Ledger
    documents: Documents
    vault: Vault
    logbook: LogBook
    clock: Callable[[], datetime]

    async def find(self, message_id: MessageId) -> tuple[MessageRecord | None, Availability]:
        """Return a message, and whether its copy can be fetched now."""
        record = await self.ledger.message(message_id)
        return record, availability(record, self.clock())

    async def open(self, record: MessageRecord, delivery_id: DeliveryId) -> OpenLetter:
        """
        Unseal what a letter says on its outside.

        Raises:
            StoreUnavailable, KeyringRefused, SealBroken: it cannot be read now.
        """
        row = await self.ledger.dek(record.meta_dek_id)
        if row is None:
            raise StoreUnavailable(f"the key of message {record.message_id} is gone while its copy is kept")
        meta = await self.vault.open_dek(row, sender_uuid(record.sender))
        recipient, _ = personal.open_recipient(meta, record)
        posted = [delivery.posted_at for delivery in record.deliveries if delivery.delivery_id == delivery_id]
        return OpenLetter(
            record=record,
            delivery_id=delivery_id,
            meta=meta,
            recipient=recipient,
            subject=personal.open_value(meta, record.message_id, "sealed_subject", record.sealed_subject).decode(),
            sent_at=next((at for at in posted if at is not None), record.accepted_at),
            documents=tuple(
                OpenDocument(record=document, filename=personal.open_filename(meta, document))
                for document in record.documents
                if document.kind == "document"
            ),
        )

    async def note_opened(self, letter: OpenLetter, via: Via) -> None:
        """Count and log that the letter is about to be shown; earlier wrong codes are forgotten."""
        traffic = self.logbook.entry(
            Log.TRAFFIC,
            "retrieved",
            who={"role": "recipient"},
            what={**_what(letter), "messageStatus": letter.record.status},
            result="opened",
            subject=_subject(letter),
        )
        privacy = await self._privacy_entry(letter, "letter-opened", {"via": str(via)})
        await self.ledger.retrieved(letter.delivery_id, [traffic, privacy])

    async def note_downloaded(self, letter: OpenLetter, document: DocumentRecord) -> None:
        """Log that a document is about to be sent."""
        what = {"document": str(document.document_id), "part": document.part}
        await self.ledger.append([await self._privacy_entry(letter, "document-downloaded", what)])

    async def note_receipt(self, letter: OpenLetter) -> None:
        """Log that the letter's receipt is about to be sent."""
        await self.ledger.append([await self._privacy_entry(letter, "receipt-downloaded", {})])

    async def content(self, letter: OpenLetter, document: DocumentRecord) -> AsyncGenerator[bytes, None]:
        """
        Yield the very bytes of a document, the last of them only once all are proven.

        Raises:
            SealBroken: they are not what the sender handed over.
            BlobMissing, StoreUnavailable, KeyringRefused: they cannot be read.
        """
        sender_id = sender_uuid(letter.record.sender)
        row = await self.ledger.dek(document.dek_id)
        if row is None:
            raise StoreUnavailable(f"the key of document {document.document_id} is gone while its copy is kept")
        dek = await self.vault.open_dek(row, sender_id)
        pieces = unseal(
            self.documents.open(document),
            dek.key,
            expect_blob_id=document.document_id,
            expect_dek_id=document.dek_id,
            expect_sender_id=sender_id,
        )
        async with aclosing(proven(pieces, size_bytes=document.size_bytes, sha256=document.sha256)) as content:
            async for piece in content:
                yield piece

    async def _privacy_entry(self, letter: OpenLetter, event: str, what: dict[str, str]) -> LogEntry:
        return self.logbook.entry(
            Log.PRIVACY,
            event,
            who={"role": "recipient", "by": "code"},
            what={**_what(letter), **what, "legalBasis": letter.record.legal_basis},
            result="released",
            subject=_subject(letter),
            personal=await self.logbook.about(letter.recipient, PURPOSE, letter.meta),
        )


async def proven(pieces: AsyncIterator[bytes], *, size_bytes: int, sha256: bytes) -> AsyncGenerator[bytes, None]:
    """
    Yield `pieces`, always one behind: the last goes out only when the source has ended well, and size and digest hold.

    Raises:
        SealBroken: size or digest is another; and whatever the source raises.
    """
    digest, seen_bytes, held = hashlib.sha256(), 0, b""
    async for piece in pieces:
        if held:
            yield held
        held = piece
        digest.update(piece)
        seen_bytes += len(piece)
    if seen_bytes != size_bytes or not hmac.compare_digest(digest.digest(), sha256):
        raise SealBroken("the document is not the one that its sender handed over")
    if held:
        yield held


def _what(letter: OpenLetter) -> dict[str, str | int]:
    return {"message": str(letter.record.message_id), "delivery": str(letter.delivery_id)}


def _subject(letter: OpenLetter) -> Subject:
    record = letter.record
    return Subject(
        sender=record.sender, profile=record.profile, message_id=record.message_id, delivery_id=letter.delivery_id
    )
