"""
A letter as a sender's program writes it down, and the `Message` that is made of it.

A letter's reference is fixed when the letter is made: however often it is sent, it is delivered once.
"""

import hashlib
import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

from gateway.client.problems import LetterInvalid
from gateway.crypto.fields import message_from_json
from gateway.crypto.manifest import message_json
from gateway.domain.ids import EnterpriseNumber
from gateway.domain.message import (
    Channel,
    DocumentEntry,
    Lane,
    Message,
    PostalAddress,
    PrintOptions,
    Recipient,
)
from gateway.errors import FieldError, Refusal

__all__ = ["CHUNK_BYTES", "Document", "Letter", "describe", "message_of", "new_reference"]

CHUNK_BYTES: Final = 262_144

_MEDIA_TYPES: Final = {
    ".pdf": "application/pdf",
    ".xml": "application/xml",
    ".txt": "text/plain",
    ".csv": "text/csv",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".zip": "application/zip",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}
# Consonants only: no digits that could look like a personal number, no words.
_REFERENCE_LETTERS: Final = "bcdfghjkmnpqrstvwxz"
_REFERENCE_RANDOM: Final = 12  # 51 bits

_Text = TypeVar("_Text", str, str | None)


def new_reference() -> str:
    """Return a reference that nobody made before, `20261122T100000Z-qwkzhtrmbvxc`: the time and 51 random bits."""
    letters = "".join(secrets.choice(_REFERENCE_LETTERS) for _ in range(_REFERENCE_RANDOM))
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{letters}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Document:
    """
    One file of a letter: a path, read when the letter is sent and not changed until then, or its bytes.

    `filename` is by default the path's name, `media_type` is by default told by the filename's ending. `signed` says
    that the document carries a signature of its own.
    """

    content: Path | bytes
    filename: str | None = None
    media_type: str | None = None
    main: bool = False
    signed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Letter:
    """
    What a sender wants delivered, once, to one recipient; `repr` is hidden because it would be personal data.

    With no document marked `main`, the first one is. Without `channels`, those of the authorisation count, in order.
    """

    recipient: Recipient
    category: str
    purpose: str
    subject: str
    documents: Sequence[Document | Path | bytes]
    language: str = "nl"
    reference: str = field(default_factory=new_reference)
    attention_of: str | None = None
    channels: Sequence[Channel] = ()
    print_options: PrintOptions | None = None
    retention: timedelta | None = None  # whole days
    deliver_not_before: datetime | None = None
    deliver_before: datetime | None = None
    lane: Lane | None = None
    billing_reference: str | None = None

    def listed(self) -> tuple[Document, ...]:
        """Return the documents in order, each as a `Document`."""
        return tuple(each if isinstance(each, Document) else Document(content=each) for each in self.documents)


def describe(documents: Sequence[Document]) -> tuple[DocumentEntry, ...]:
    """
    Read every document once, with constant memory, and return the rows of the manifest. Blocks.

    Raises:
        LetterInvalid: a file cannot be read, or its name or media type has to be given.
    """
    errors: list[FieldError] = []
    any_main = any(document.main for document in documents)
    entries = [
        entry
        for place, document in enumerate(documents)
        if (entry := _describe(document, place, document.main if any_main else place == 0, errors)) is not None
    ]
    if errors:
        raise LetterInvalid(errors)
    return tuple(entries)


def message_of(
    letter: Letter,
    entries: tuple[DocumentEntry, ...],
    *,
    gateway: str,
    sender: EnterpriseNumber,
    ovo_code: str | None,
    profile: str | None,
    created_at: datetime,
) -> Message:
    """
    Return the message to sign, once every rule of the format holds; its texts are in Unicode form NFC.

    Raises:
        LetterInvalid: with every fault, each with a JSON pointer (RFC 6901) such as `/recipient/ssin`.
    """
    _require_exact_times(letter)
    message = Message(
        gateway=gateway,
        reference=letter.reference,
        created_at=created_at,
        sender=sender,
        ovo_code=ovo_code,
        profile=profile,
        category=letter.category,
        purpose=_nfc(letter.purpose),
        recipient=_composed(letter.recipient),
        attention_of=_nfc(letter.attention_of),
        subject=_nfc(letter.subject),
        language=letter.language,
        channels=tuple(letter.channels),
        print_options=letter.print_options,
        retention=letter.retention,
        deliver_not_before=letter.deliver_not_before,
        deliver_before=letter.deliver_before,
        lane=letter.lane,
        billing_reference=_nfc(letter.billing_reference),
        documents=entries,
    )
    try:
        return message_from_json(message_json(message), allow_test_ssin=True)  # the gateway decides about test numbers
    except Refusal as refusal:
        raise LetterInvalid(refusal.errors) from None


def _describe(document: Document, place: int, main: bool, errors: list[FieldError]) -> DocumentEntry | None:  # noqa: FBT001 - one private call
    at = f"/documents/{place}"
    before = len(errors)
    content = document.content
    filename = document.filename or (content.name if isinstance(content, Path) else "")
    if not filename:
        errors.append(FieldError(pointer=f"{at}/filename", detail="must be given for a document that is no file"))
    media_type = document.media_type or _MEDIA_TYPES.get(Path(filename).suffix.lower(), "")
    if filename and not media_type:
        errors.append(FieldError(pointer=f"{at}/mediaType", detail="must be given; the file's ending does not tell it"))
    try:
        size_bytes, sha256 = _measure(content)
    except OSError as exc:
        errors.append(FieldError(pointer=at, detail=f"cannot be read: {exc.strerror or type(exc).__name__}"))
        return None
    if len(errors) > before:
        return None
    return DocumentEntry(
        part=f"upfile{place + 1}",
        filename=_nfc(filename),
        media_type=media_type,
        size_bytes=size_bytes,
        sha256=sha256,
        main=main,
        signed=document.signed,
    )


def _measure(content: Path | bytes) -> tuple[int, str]:
    if isinstance(content, bytes):
        return len(content), hashlib.sha256(content).hexdigest()
    digest, size_bytes = hashlib.sha256(), 0
    with content.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk)
    return size_bytes, digest.hexdigest()


def _require_exact_times(letter: Letter) -> None:
    errors = [
        FieldError(pointer=pointer, detail="must say its time zone")
        for pointer, at in (
            ("/deliverNotBefore", letter.deliver_not_before),
            ("/deliverBefore", letter.deliver_before),
        )
        if at is not None and at.tzinfo is None
    ]
    if letter.retention is not None and letter.retention != timedelta(days=max(letter.retention.days, 1)):
        errors.append(FieldError(pointer="/retention", detail="must be whole days, at least one"))
    if errors:
        raise LetterInvalid(errors)


def _composed(recipient: Recipient) -> Recipient:
    address = recipient.address
    if address is None:
        return recipient
    return Recipient(
        ssin=recipient.ssin,
        enterprise_number=recipient.enterprise_number,
        address=PostalAddress(
            name=_nfc(address.name),
            street=_nfc(address.street),
            house_number=_nfc(address.house_number),
            box=_nfc(address.box),
            postcode=_nfc(address.postcode),
            municipality=_nfc(address.municipality),
            country=address.country,
        ),
    )


def _nfc(text: _Text) -> _Text:
    # The format wants NFC; keyboards and file systems of some machines give other forms of the same text.
    return text if text is None else unicodedata.normalize("NFC", text)
