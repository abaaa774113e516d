"""
Fixtures for letters on paper: real stores with a clock that the test moves, and letters that were taken over, got a
cover page and were posted. What the recipient knows is read from the cover page itself.
"""

import hashlib
import itertools
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pypdf import PdfReader

from gateway.config.providers import AddressBox
from gateway.covers.maker import CoverMaker, CoverSettings
from gateway.crypto.sealing import BlobHeader, seal, unseal
from gateway.crypto.vault import Dek, Vault
from gateway.deliver.stages import Letter
from gateway.domain.ids import DeliveryId, DocumentId, EnterpriseNumber, MessageId, Ssin, sender_uuid, uuid7
from gateway.domain.message import Channel, Lane, PostalAddress, PrintOptions, Recipient
from gateway.domain.retention import CopyState, Keep
from gateway.domain.routing import Route
from gateway.domain.status import DeliveryStatus, MessageStatus, NextAction
from gateway.records import personal
from gateway.records.logs import LogBook
from gateway.stores.documents import Documents
from gateway.stores.files import FileBlobs
from gateway.stores.local_keys import LocalKeyring
from gateway.stores.model import (
    DeliveryChange,
    DeliveryRecord,
    DocumentRecord,
    Letterhead,
    MessageRecord,
    NewMessage,
    Settlement,
)
from gateway.stores.sqlite.ledger import SqliteLedger

START = datetime(2026, 11, 22, 10, tzinfo=UTC)
SENDER = EnterpriseNumber("0406798006")
PROVIDER = "house-a"
PORTAL = "https://brieven.example.be"
SSIN = Ssin("90610100155")
ADDRESS = PostalAddress(
    name="Jan Peeters",
    street="Kerkstraat",
    house_number="12",
    box="3",
    postcode="9000",
    municipality="Gent",
    country="BE",
)
RETENTION = timedelta(days=90)


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass(frozen=True, kw_only=True)
class PaperLetter:
    """A posted letter, and what its cover page tells the recipient."""

    letter: Letter
    record: MessageRecord
    pdf: bytes
    text: str
    number: str
    code: str
    token: str


@dataclass(kw_only=True)
class Paper:
    """The stores, and what makes letters in them."""

    folder: Path
    clock: Clock
    ledger: SqliteLedger
    blobs: FileBlobs
    vault: Vault
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def new_id(self) -> UUID:
        return uuid7(int(self.clock().timestamp() * 1000), next(self.numbers).to_bytes(10, "big"))

    @property
    def logbook(self) -> LogBook:
        return LogBook(gateway="gateway.test", clock=self.clock, ids=self.new_id, vault=self.vault, ledger=self.ledger)

    @property
    def documents(self) -> Documents:
        return Documents(ledger=self.ledger, blobs=self.blobs)

    def maker(self, **changes: Any) -> CoverMaker:
        valid = CoverMaker(
            settings=CoverSettings(public_url=PORTAL, address_boxes={PROVIDER: AddressBox()}),
            ledger=self.ledger,
            blobs=self.blobs,
            vault=self.vault,
            clock=self.clock,
            ids=self.new_id,
        )
        return replace(valid, **changes)

    async def accepted(
        self,
        contents: dict[str, bytes] | None = None,
        *,
        language: str = "nl",
        recipient: Recipient | None = None,
        print_options: PrintOptions | None = None,
        subject: str = "Uw aanslagbiljet <2026>",
        media_type: str = "application/pdf",
        enclosed: bool = False,
    ) -> Letter:
        """Return a message on paper, taken over, sealed, recorded and claimed by a worker; `contents` by file name."""
        meta = await self.vault.new_dek(sender_uuid(SENDER), "meta")
        message_id = MessageId(self.new_id())
        recipient = recipient or Recipient(ssin=SSIN, address=ADDRESS)
        documents, deks, enclosures = [], [meta], {}
        for number, (filename, content) in enumerate((contents or {"brief.pdf": b"%PDF-1.7 one"}).items(), start=1):
            document, dek, sealed = await self._sealed(number, filename, content, meta, media_type)
            if enclosed:
                enclosures[document.document_id] = b"".join([piece async for piece in sealed])
            else:
                await self.blobs.put(document.document_id, sealed)
            documents.append(replace(document, enclosed=enclosed))
            deks.append(dek)
        record = MessageRecord(
            message_id=message_id,
            sender=SENDER,
            profile="burgerzaken",
            party=SENDER,
            registration_version=1,
            reference=f"2026-{next(self.numbers)}",
            category="tax-assessment",
            legal_basis="WIB92 art. 302",
            language=language,
            lane=Lane.SINGLE,
            status=MessageStatus.ACCEPTED,
            accepted_at=self.clock(),
            created_at=self.clock(),
            deliver_not_before=None,
            deliver_before=None,
            retention=RETENTION,
            billing_reference=None,
            route=Route(channels=(Channel.PRINT,), providers={Channel.PRINT: PROVIDER}),
            letterhead=Letterhead(
                sender_name="Gemeente Voorbeeld",
                display_name="Burgerzaken Voorbeeld",
                public_contact="09 000 00 00",
                return_address=("Gemeente Voorbeeld", "Markt 1", "9000 Gent"),
            ),
            print_options=print_options or PrintOptions(),
            dossier_rule=False,
            content_sha256=bytes(32),
            message_sha256=bytes(32),
            recipient_index=None,
            recipient_index_version=None,
            meta_dek_id=meta.row.dek_id,
            sealed_recipient=personal.seal_recipient(meta, message_id, recipient, None),
            sealed_subject=personal.seal_value(meta, message_id, "sealed_subject", subject.encode()),
            sealed_purpose=personal.seal_value(meta, message_id, "sealed_purpose", b"Aanslagbiljet 2026"),
            sealed_signed_message=personal.seal_value(meta, message_id, "sealed_signed_message", b"<Message/>"),
            receipt_jws="e30.e30.e30",
            receipt_xml=b"<Receipt/>",
            documents=tuple(documents),
            deliveries=(self._delivery(message_id),),
        )
        deks_rows = tuple(dek.row for dek in deks)
        new = NewMessage(
            message=record,
            deks=deks_rows,
            logs=(),
            day=self.clock().date(),
            messages_per_day=None,
            enclosures=enclosures,
        )
        assert await self.ledger.record(new) is None
        claims = await self.ledger.claim("test", lease=timedelta(minutes=10), limit=100, providers=[PROVIDER])
        (claim,) = [claim for claim in claims if claim.delivery.message_id == message_id]
        keys = {row.dek_id: row for row in deks_rows}
        return Letter(claim=claim, record=record, deks=keys, meta=meta, recipient=recipient, attention_of=None)

    async def covered(self, contents: dict[str, bytes] | None = None, **named: Any) -> PaperLetter:
        """Return an accepted letter with its cover page, not yet posted."""
        letter = await self.accepted(contents, **named)
        record = await self.maker().ensure(letter)
        pdf = await self.content(record, next(document for document in record.documents if document.kind == "cover"))
        text = "\n".join(page.extract_text() for page in PdfReader(BytesIO(pdf)).pages)
        number, code = re.search(r"\b\d{4}( \d{4}){3}\b", text), re.search(r"\b[0-9A-Z]{4}-[0-9A-Z]{4}\b", text)
        token = re.search(rf"{re.escape(PORTAL)}/d/([0-9a-z-]+)", text)
        assert number is not None
        assert code is not None
        assert token is not None
        return PaperLetter(
            letter=letter, record=record, pdf=pdf, text=text, number=number[0], code=code[0], token=token[1]
        )

    async def posted(self, contents: dict[str, bytes] | None = None, **named: Any) -> PaperLetter:
        """Return a letter that was printed and posted at this moment; its copy is kept for the term."""
        paper = await self.covered(contents, **named)
        await self.settle(
            paper,
            DeliveryStatus.DISPATCHED,
            MessageStatus.DELIVERED,
            Keep(state=CopyState.KEPT, until=self.clock() + RETENTION),
        )
        return paper

    async def settle(self, paper: PaperLetter, status: DeliveryStatus, message: MessageStatus, keep: Keep) -> None:
        """Say what the print house did with a covered letter."""
        now, claim = self.clock(), paper.letter.claim
        await self.ledger.begin_attempt(claim, longest=timedelta(minutes=1), settle=timedelta())
        change = DeliveryChange(
            status=DeliveryStatus.ACCEPTED, next_action=NextAction.POLL, due_at=now, deadline_at=None, at=now
        )
        first = Settlement(
            change=change, message_revision=0, message_status=MessageStatus.IN_DELIVERY, keep=_IN_DELIVERY
        )
        await self.ledger.settle(claim, first)
        (again,) = await self.ledger.claim("test", lease=timedelta(minutes=10), limit=1, providers=[PROVIDER])
        posted_at = now if keep.state is CopyState.KEPT else None
        last = replace(change, status=status, next_action=NextAction.NONE, due_at=None, posted_at=posted_at)
        await self.ledger.settle(again, Settlement(change=last, message_revision=1, message_status=message, keep=keep))

    async def content(self, record: MessageRecord, document: DocumentRecord) -> bytes:
        """Return the bytes of a sealed document."""
        sender_id = sender_uuid(record.sender)
        row = await self.ledger.dek(document.dek_id)
        assert row is not None
        dek = await self.vault.open_dek(row, sender_id)
        pieces = unseal(
            self.documents.open(document),
            dek.key,
            expect_blob_id=document.document_id,
            expect_dek_id=document.dek_id,
            expect_sender_id=sender_id,
        )
        return b"".join([piece async for piece in pieces])

    def blob_file(self, document_id: UUID) -> Path:
        """Return where a blob lies on disk."""
        (path,) = self.folder.glob(f"blobs/*/{document_id}")
        return path

    async def _sealed(
        self, number: int, filename: str, content: bytes, meta: Dek, media_type: str
    ) -> tuple[DocumentRecord, Dek, AsyncIterator[bytes]]:
        dek = await self.vault.new_dek(sender_uuid(SENDER), "document")
        document_id = DocumentId(self.new_id())
        header = BlobHeader(
            blob_id=document_id, dek_id=dek.row.dek_id, sender_id=dek.sender_id, created_at=self.clock()
        )
        return (
            DocumentRecord(
                document_id=document_id,
                number=number,
                part=f"upfile{number}",
                media_type=media_type,
                size_bytes=len(content),
                sha256=hashlib.sha256(content).digest(),
                main=number == 1,
                signed=False,
                sealed_filename=personal.seal_filename(meta, document_id, filename),
                dek_id=dek.row.dek_id,
            ),
            dek,
            seal(_once(content), header, dek.key),
        )

    def _delivery(self, message_id: MessageId) -> DeliveryRecord:
        return DeliveryRecord(
            delivery_id=DeliveryId(self.new_id()),
            message_id=message_id,
            number=1,
            channel=Channel.PRINT,
            provider=PROVIDER,
            lane=Lane.SINGLE,
            status_at=self.clock(),
            due_at=self.clock(),
            deadline_at=self.clock() + timedelta(hours=48),
        )


_IN_DELIVERY = Keep(state=CopyState.IN_DELIVERY, until=None)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


@pytest.fixture
async def paper(tmp_path: Path) -> AsyncIterator[Paper]:
    """Open stores of a gateway, empty."""
    clock = Clock()
    ledger = await SqliteLedger.open(tmp_path / "ledger.db", clock=clock)
    blobs = FileBlobs(tmp_path / "blobs")
    await LocalKeyring.create(tmp_path / "keyring", at=START)
    keyring = await LocalKeyring.open(tmp_path / "keyring")
    numbers = itertools.count(1)
    vault = Vault(keyring, ledger, clock, lambda: uuid7(0, next(numbers).to_bytes(10, "big")))
    yield Paper(folder=tmp_path, clock=clock, ledger=ledger, blobs=blobs, vault=vault)
    await ledger.close()
    await blobs.close()
    await keyring.close()
