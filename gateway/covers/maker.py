"""
Makes the cover page of a print delivery, once: secrets → page → sealed blob → ledger.

A crash before the ledger's commit leaves an orphan blob whose key was never written; the sweeper takes it, and the next
attempt makes new secrets. After the commit every attempt prints the same page. The secrets stand in clear on the page
alone, under its seal.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from gateway.config.providers import AddressBox
from gateway.covers.lettering import Unprintable
from gateway.covers.page import CoverPage, render_cover, require_room
from gateway.crypto.sealing import BlobHeader, seal
from gateway.crypto.vault import Vault
from gateway.deliver.stages import Letter
from gateway.domain.ids import DocumentId, sender_uuid
from gateway.domain.message import Cover, PostalAddress, PrintProduct
from gateway.domain.status import Reason
from gateway.errors import Refused
from gateway.records import personal
from gateway.records.retrieval import RetrievalSecrets, new_secrets, retrieval_record
from gateway.stores.blobs import BlobStore
from gateway.stores.ledger import Ledger
from gateway.stores.model import DocumentRecord, MessageRecord

FILENAME: Final = "cover.pdf"
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverSettings:
    """
    `public_url` is the portal's; `address_boxes` holds the window of each print provider, by its name.

    Raises:
        ValueError: a window leaves no room for the rest of the page.
    """

    public_url: str
    address_boxes: Mapping[str, AddressBox]

    def __post_init__(self) -> None:
        """Refuse windows around which a page cannot be laid out, before any letter meets them."""
        for provider, box in self.address_boxes.items():
            try:
                require_room(box)
            except ValueError as error:
                raise ValueError(f"providers.{provider}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverMaker:
    """Implements `gateway.deliver.stages.Covers`; `ids` mints UUIDv7s."""

    settings: CoverSettings
    ledger: Ledger
    blobs: BlobStore
    vault: Vault
    clock: Callable[[], datetime]
    ids: Callable[[], UUID]

    async def ensure(self, letter: Letter) -> MessageRecord:
        """
        Return the message with the delivery's cover page among its documents, made now if there was none.

        Raises:
            Refused: the page cannot be printed; its code says why (`cover-letters`: a sign that no font here has).
            LeaseLost: somebody else holds the delivery.
            StoreUnavailable, KeyringRefused: try again later.
        """
        record = letter.record
        if record.print_options.cover is Cover.NEVER or _has_cover(letter):
            return record
        made = new_secrets()
        content = await self._rendered(letter, made)
        sender_id, now = sender_uuid(record.sender), self.clock()
        index = await self.vault.blind_index("portal")
        dek = await self.vault.new_dek(sender_id, "document")
        document_id = DocumentId(self.ids())
        header = BlobHeader(blob_id=document_id, dek_id=dek.row.dek_id, sender_id=sender_id, created_at=now)
        await self.blobs.put(document_id, seal(_once(content), header, dek.key))
        cover = DocumentRecord(
            document_id=document_id,
            delivery_id=letter.delivery.delivery_id,
            number=0,
            part="cover",
            kind="cover",
            media_type="application/pdf",
            size_bytes=len(content),
            sha256=hashlib.sha256(content).digest(),
            main=False,
            signed=False,
            pages=1,
            sealed_filename=personal.seal_filename(letter.meta, document_id, FILENAME),
            dek_id=dek.row.dek_id,
        )
        retrieval = retrieval_record(
            made, index, delivery_id=letter.delivery.delivery_id, message_id=record.message_id, at=now
        )
        # The commit point: from here on this page, and no other, opens the letter.
        await self.ledger.attach_cover(letter.claim, cover, dek.row, retrieval)
        return replace(record, documents=(*record.documents, cover))

    async def _rendered(self, letter: Letter, made: RetrievalSecrets) -> bytes:
        record = letter.record
        page = CoverPage(
            language=record.language,
            sender_name=record.letterhead.display_name,
            return_address=record.letterhead.return_address,
            public_contact=record.letterhead.public_contact,
            recipient=_address(letter),
            attention_of=letter.attention_of,
            box=self.settings.address_boxes[letter.delivery.provider],
            portal_url=self.settings.public_url,
            secrets=made,
            term_days=record.retention // _DAY,
            registered=record.print_options.product is not PrintProduct.STANDARD,
        )
        try:
            return await asyncio.to_thread(render_cover, page)
        except Unprintable as error:
            raise Refused(reason=Reason.REFUSED, code=f"cover-{error.code}") from error


def _has_cover(letter: Letter) -> bool:
    delivery_id = letter.delivery.delivery_id
    return any(document.kind == "cover" and document.delivery_id == delivery_id for document in letter.record.documents)


def _address(letter: Letter) -> PostalAddress:
    if letter.recipient.address is None:
        raise ValueError("a route never leads to print without an address")
    return letter.recipient.address


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
