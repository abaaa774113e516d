"""
The first spine: a message from its bytes to the ledger, inside the request.

authenticate → known reference? → authorise → spool the documents, sealed → record. The answer is sent after the ledger
has committed: a crash before that leaves orphan blobs for the sweeper, never half a message.
"""

import asyncio
import hashlib
import hmac
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from cryptography import x509

from gateway.arrivals import Arrivals
from gateway.crypto.identity import Identities, Peer
from gateway.crypto.manifest import MESSAGE_ROOT, content_sha256, differing_fields, read_message
from gateway.crypto.receipts import Receipt, ReceiptDocument, ReceiptSigner
from gateway.crypto.schema import read_schema
from gateway.crypto.sealing import BlobHeader, seal
from gateway.crypto.vault import Dek, Vault
from gateway.crypto.xmlsig import parse_stored, verify_enveloped
from gateway.domain.authority import MAY_SEND, MAY_SPEAK, Facts
from gateway.domain.dossier import in_force
from gateway.domain.ids import DeliveryId, DocumentId, EnterpriseNumber, MessageId, sender_uuid
from gateway.domain.message import Channel, DocumentEntry, Lane, Message, PrintOptions
from gateway.domain.registration import Authorisation, Profile, RecipientRule, Registration, Sender
from gateway.domain.routing import Capability, Route, plan_route
from gateway.domain.status import MessageStatus
from gateway.errors import FieldError, Kind, Refusal, StoreUnavailable
from gateway.records import personal
from gateway.records.logs import LogBook, Subject
from gateway.stores.blobs import BlobStore
from gateway.stores.ledger import (
    DeliveryRecord,
    DocumentRecord,
    KnownReference,
    Ledger,
    Letterhead,
    Log,
    LogEntry,
    MessageRecord,
    NewMessage,
)

_log: Final = logging.getLogger(__name__)
QUOTA_ZONE: Final = ZoneInfo("Europe/Brussels")
_SCHEMA: Final = read_schema("message.xsd")
_PDF: Final = "application/pdf"
_PDF_MAGIC: Final = b"%PDF-"


@dataclass(frozen=True, slots=True, kw_only=True)
class RawPart:
    """One document part as it arrives; `chunks` can be read once."""

    name: str
    filename: str
    media_type: str
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawMessage:
    """
    The octets of the signed part, and the document parts behind it, each to be read before the next.

    `idempotency_key` is the header of that name, if it was sent.
    """

    manifest: bytes
    parts: AsyncIterator[RawPart]
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptSettings:
    """The limits of the contract."""

    gateway_name: str
    max_documents: int
    max_total_bytes: int
    created_at_past: timedelta
    created_at_future: timedelta
    allow_test_ssin: bool
    capabilities: Mapping[Channel, Capability]
    providers: Mapping[Channel, Sequence[str]]
    first_deadline: timedelta = timedelta(hours=48)  # a delivery that is still waiting then is late


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptDeps:
    """What acceptance needs; `registration` and `receipts` are asked anew by each message; `ids` mints UUIDv7s."""

    settings: AcceptSettings
    registration: Callable[[], Registration]
    identities: Identities
    vault: Vault
    blobs: BlobStore
    ledger: Ledger
    receipts: Callable[[], ReceiptSigner]
    logbook: LogBook
    clock: Callable[[], datetime]
    ids: Callable[[], UUID]
    arrivals: Arrivals = field(default_factory=Arrivals)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The message is ours now; `repeated`: it was already."""

    record: MessageRecord
    repeated: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verified:
    """What a valid signature covers: whose it is, and the message, or why it is none."""

    sender: EnterpriseNumber
    content: Message | Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedMessage:
    """A message whose signature held, from a party that may speak for its sender and profile."""

    message: Message
    peer: Peer
    sender: Sender
    profile: Profile
    registration_version: int
    part_sha256: bytes  # of the octets of the signed part
    content_sha256: bytes
    part: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A signed message that may be sent, and how."""

    signed: SignedMessage
    authorisation: Authorisation
    route: Route
    retention: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """An order whose documents are sealed and durable."""

    order: Order
    message_id: MessageId
    documents: tuple[DocumentRecord, ...]
    deks: tuple[Dek, ...]
    meta: Dek


async def accept(raw: RawMessage, peer: Peer, deps: AcceptDeps) -> Accepted:
    """
    Take a message over from its sender.

    Raises:
        Refusal: it is answered with a problem; nothing of it is kept but a log entry.
        StoreUnavailable: it may be sent again.
    """
    verified = await verify(raw.manifest, peer, deps)
    try:
        signed = await authenticate(verified, raw.manifest, peer, deps)
        _require_same_key(raw.idempotency_key, signed)
        known = await _known(signed, deps)
        if known is not None:
            return await _answer_again(signed, known, deps)
        with deps.arrivals.receiving(signed.sender.enterprise_number, signed.profile.id, signed.message.reference):
            order = await authorise(signed, deps)
            spooled = await spool(order, raw.parts, deps)
            return await record(spooled, deps)
    except Refusal as refusal:
        await _log_refusal(verified, peer, refusal, deps)
        raise


# ── Authenticate ──


async def verify(part: bytes, peer: Peer, deps: AcceptDeps) -> Verified:
    """
    Verify the signed part; from here on only what was signed is looked at.

    Raises:
        Refusal: malformed-message, invalid-message (the schema), signature-invalid, signer-mismatch,
            certificate-revoked; nobody is known to have said anything.
    """
    return await asyncio.to_thread(_verified, part, peer, deps, deps.clock())


def _verified(part: bytes, peer: Peer, deps: AcceptDeps, now: datetime) -> Verified:
    claims: list[EnterpriseNumber] = []

    def check_signer(claimed: EnterpriseNumber, certificate: x509.Certificate) -> None:
        deps.identities.check_signer(claimed, certificate, party=peer.party, now=now)
        claims.append(claimed)

    signed = verify_enveloped(part, schema=_SCHEMA, root_name=MESSAGE_ROOT, signer=check_signer)
    content: Message | Refusal
    try:
        content = read_message(signed.root, allow_test_ssin=deps.settings.allow_test_ssin)
    except Refusal as refusal:
        content = refusal
    return Verified(sender=claims[0], content=content)


async def authenticate(verified: Verified, part: bytes, peer: Peer, deps: AcceptDeps) -> SignedMessage:
    """
    Hold a verified message, the octets `part`, to be for this gateway, from a party that may speak for its sender.

    Raises:
        Refusal: invalid-message, wrong-gateway, sender-unknown, sender-suspended, profile-not-authorised.
    """
    message = verified.content
    if isinstance(message, Refusal):
        raise message
    if message.gateway != deps.settings.gateway_name:
        raise Refusal(
            Kind.WRONG_GATEWAY,
            f"this message is for another gateway; here Gateway is {deps.settings.gateway_name}",
        )
    registration = deps.registration()
    sender = registration.senders.get(message.sender)
    if sender is None:  # it was there when the signature was verified
        raise Refusal(Kind.SENDER_UNKNOWN, "the registration of this sender has just ended")
    profile_id = _profile_id(message, peer, sender)
    if profile_id is None:
        raise Refusal(
            Kind.PROFILE_NOT_AUTHORISED,
            "this certificate has more than one profile; name one in Sender/Profile",
        )
    facts = Facts(
        party=peer.party,
        certificate_profiles=peer.profiles,
        sender=sender,
        suspended=await deps.ledger.is_suspended(sender.enterprise_number),
        profile_id=profile_id,
        message=message,
        live_dossier=False,
    )
    denial = MAY_SPEAK.check(facts)
    if denial is not None:
        raise Refusal(Kind(denial.rule), denial.detail)
    return SignedMessage(
        message=message,
        peer=peer,
        sender=sender,
        profile=sender.profiles[profile_id],
        registration_version=registration.version,
        part_sha256=hashlib.sha256(part).digest(),
        content_sha256=content_sha256(message),
        part=part,
    )


def _profile_id(message: Message, peer: Peer, sender: Sender) -> str | None:
    """Return the signed profile, or the only one that the certificate may use."""
    if message.profile is not None:
        return message.profile
    usable = [profile for profile in sender.profiles if peer.profiles is None or profile in peer.profiles]
    return usable[0] if len(usable) == 1 else None


def _require_same_key(key: str | None, signed: SignedMessage) -> None:
    if key is not None and key.strip('"') != signed.message.reference:
        raise Refusal(Kind.BAD_REQUEST, "Idempotency-Key, when sent, must equal the signed Reference")


# ── The same message again ──


async def _known(signed: SignedMessage, deps: AcceptDeps) -> KnownReference | None:
    return await deps.ledger.find_reference(
        signed.sender.enterprise_number, signed.profile.id, signed.message.reference
    )


async def _answer_again(signed: SignedMessage, known: KnownReference, deps: AcceptDeps) -> Accepted:
    earlier = await deps.ledger.message(known.message_id)
    if earlier is not None and hmac.compare_digest(known.content_sha256, signed.content_sha256):
        return Accepted(record=earlier, repeated=True)
    fields = await _differing(signed, earlier, deps) if earlier is not None else []
    raise Refusal(
        Kind.REFERENCE_CONFLICT,
        "this reference was used before for another message; give the new message a reference of its own",
        extra={"messageId": str(known.message_id), "differingFields": fields},
    )


async def _differing(signed: SignedMessage, earlier: MessageRecord, deps: AcceptDeps) -> list[str]:
    row = await deps.ledger.dek(earlier.meta_dek_id)
    if row is None:
        return []
    dek = await deps.vault.open_dek(row, sender_uuid(earlier.sender))
    part = personal.open_value(dek, earlier.message_id, "sealed_signed_message", earlier.sealed_signed_message)
    return differing_fields(read_message(parse_stored(part), allow_test_ssin=True), signed.message)


# ── Authorise ──


async def authorise(signed: SignedMessage, deps: AcceptDeps) -> Order:
    """
    Decide whether this may be sent, and how; nothing of the documents has been read.

    Raises:
        Refusal: created-at-out-of-window, invalid-message, message-too-large, category-not-authorised,
            channel-not-contracted, recipient-not-authorised, channel-cannot-carry.
    """
    message, now = signed.message, deps.clock()
    _require_created_in_window(message, now, deps.settings)
    _require_within_limits(message, deps.settings)
    if message.category not in deps.registration().categories:
        raise _invalid("/Message/Category", f"category {message.category} is not registered at this gateway")
    facts = Facts(
        party=signed.peer.party,
        certificate_profiles=signed.peer.profiles,
        sender=signed.sender,
        suspended=False,
        profile_id=signed.profile.id,
        message=message,
        live_dossier=await _has_live_dossier(signed, deps),
    )
    denial = MAY_SEND.check(facts)
    if denial is not None:
        raise Refusal(Kind(denial.rule), denial.detail)
    authorisation = signed.profile.authorisations[message.category]
    _require_consistent(message, authorisation, now)
    route = plan_route(message, authorisation, deps.settings.capabilities, deps.settings.providers)
    if not route.channels:
        raise Refusal(
            Kind.CHANNEL_CANNOT_CARRY,
            "no asked channel can carry this message; see errors for each",
            errors=[FieldError(pointer=f"/Message/Channels/{skip.channel}", detail=skip.why) for skip in route.skipped],
        )
    return Order(
        signed=signed,
        authorisation=authorisation,
        route=route,
        retention=message.retention if message.retention is not None else authorisation.retention,
    )


def _require_created_in_window(message: Message, now: datetime, settings: AcceptSettings) -> None:
    skew = message.created_at - now
    if -settings.created_at_past <= skew <= settings.created_at_future:
        return
    raise Refusal(
        Kind.CREATED_AT_OUT_OF_WINDOW,
        f"CreatedAt is {skew.total_seconds():+.0f} s from this gateway's clock; it may be from "
        f"-{settings.created_at_past.total_seconds():.0f} s to +{settings.created_at_future.total_seconds():.0f} s. "
        "Set the sender's clock, or sign the message anew",
        extra={"skewSeconds": round(skew.total_seconds())},
    )


def _require_within_limits(message: Message, settings: AcceptSettings) -> None:
    if len(message.documents) > settings.max_documents:
        raise _invalid("/Message/Documents", f"at most {settings.max_documents} documents may be sent together")
    total_bytes = sum(document.size_bytes for document in message.documents)
    for number, document in enumerate(message.documents, start=1):
        if document.size_bytes > settings.max_total_bytes:
            raise Refusal(
                Kind.DOCUMENT_TOO_LARGE,
                f"document {number} has {document.size_bytes} bytes; at most {settings.max_total_bytes} are taken",
            )
    if total_bytes > settings.max_total_bytes:
        raise Refusal(
            Kind.MESSAGE_TOO_LARGE,
            f"the documents have {total_bytes} bytes together; at most {settings.max_total_bytes} are taken",
        )


def _require_consistent(message: Message, authorisation: Authorisation, now: datetime) -> None:
    errors: list[FieldError] = []
    if message.retention is not None and message.retention > authorisation.retention:
        days = authorisation.retention.days
        errors.append(FieldError(pointer="/Message/Retention", detail=f"at most P{days}D is authorised"))
    if message.deliver_before is not None and message.deliver_before <= now:
        errors.append(FieldError(pointer="/Message/DeliverBefore", detail="this moment has passed"))
    if message.recipient.address is None and Channel.PRINT in (message.channels or authorisation.channels):
        errors.append(
            FieldError(
                pointer="/Message/Recipient/PostalAddress",
                detail="print may be used, so a PostalAddress is required; add it, or name Channels without print",
            )
        )
    if errors:
        raise Refusal(Kind.INVALID_MESSAGE, "some fields are wrong; see errors for each", errors=errors)


async def _has_live_dossier(signed: SignedMessage, deps: AcceptDeps) -> bool:
    message = signed.message
    authorisation = signed.profile.authorisations.get(message.category)
    if authorisation is None or authorisation.recipients is not RecipientRule.DOSSIER:
        return False
    index = await deps.vault.blind_index("recipient")
    candidates = personal.recipient_candidates(index, message.recipient)
    dossiers = await deps.ledger.find_dossiers(signed.sender.enterprise_number, message.category, candidates)
    now = deps.clock()
    return any(in_force(dossier, now) for dossier in dossiers)


def _invalid(pointer: str, detail: str) -> Refusal:
    return Refusal(
        Kind.INVALID_MESSAGE,
        "some fields are wrong; see errors for each",
        errors=[FieldError(pointer=pointer, detail=detail)],
    )


# ── Spool ──


async def spool(order: Order, parts: AsyncIterator[RawPart], deps: AcceptDeps) -> Spooled:
    """
    Stream each document through its checks and its seal into the blob store; memory stays constant.

    Raises:
        Refusal: multipart-invalid, document-mismatch, document-too-large, document-not-acceptable; no blob is kept.
    """
    sender_id = sender_uuid(order.signed.sender.enterprise_number)
    message_id = MessageId(deps.ids())
    meta = await deps.vault.new_dek(sender_id, "meta")
    documents: list[DocumentRecord] = []
    deks: list[Dek] = []
    try:
        for number, entry in enumerate(order.signed.message.documents, start=1):
            part = await _expected_part(parts, entry)
            dek = await deps.vault.new_dek(sender_id, "document")
            document_id = DocumentId(deps.ids())
            documents.append(_document_record(document_id, number, entry, dek, meta))
            deks.append(dek)
            await _store(part, entry, document_id, dek, deps)
        await _no_more_parts(parts)
    except BaseException:
        # Their keys were never written, so these bytes can never be read; the sweeper takes what a crash leaves here.
        await asyncio.shield(discard(documents, deps))
        raise
    return Spooled(order=order, message_id=message_id, documents=tuple(documents), deks=tuple(deks), meta=meta)


async def discard(documents: Sequence[DocumentRecord], deps: AcceptDeps) -> None:
    """Remove the blobs of a message that was not recorded; one that cannot be removed now is left to the sweeper."""
    for document in documents:
        try:
            await deps.blobs.erase(document.document_id)
        except StoreUnavailable as error:
            # The sender is to hear why its message was refused, not that there is something left to tidy up.
            _log.warning(
                "blob of a refused message stays for the sweeper",
                extra={"document": str(document.document_id), "error": str(error)},
            )


async def _expected_part(parts: AsyncIterator[RawPart], entry: DocumentEntry) -> RawPart:
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


async def _no_more_parts(parts: AsyncIterator[RawPart]) -> None:
    if await anext(parts, None) is not None:
        raise Refusal(Kind.MULTIPART_INVALID, "there are more parts than the manifest has Documents; remove the others")


def _document_record(document_id: DocumentId, number: int, entry: DocumentEntry, dek: Dek, meta: Dek) -> DocumentRecord:
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
    )


async def _store(part: RawPart, entry: DocumentEntry, document_id: DocumentId, dek: Dek, deps: AcceptDeps) -> None:
    header = BlobHeader(
        blob_id=document_id,
        dek_id=dek.row.dek_id,
        sender_id=dek.sender_id,
        created_at=deps.clock(),
    )
    # The store keeps nothing when its source raises, so a document that fails its check at the very end is not stored.
    await deps.blobs.put(document_id, seal(_checked(part.chunks, entry), header, dek.key))


async def _checked(chunks: AsyncIterator[bytes], entry: DocumentEntry) -> AsyncIterator[bytes]:
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


# ── Record ──


async def record(spooled: Spooled, deps: AcceptDeps) -> Accepted:
    """
    Commit the message with its receipt. When this returns, the message is ours.

    Raises:
        Refusal: quota-exceeded, or reference-conflict when another copy was faster.
        StoreUnavailable: it may be sent again.
    """
    now = deps.clock()
    new = await _new_message(spooled, now, deps)
    try:
        # The commit point. A crash before this line leaves orphan blobs for the sweeper; after it, a letter we owe.
        known = await deps.ledger.record(new)
    except Refusal:
        await discard(spooled.documents, deps)
        raise
    if known is not None:
        await discard(spooled.documents, deps)
        return await _answer_again(spooled.order.signed, known, deps)
    return Accepted(record=new.message, repeated=False)


async def _new_message(spooled: Spooled, now: datetime, deps: AcceptDeps) -> NewMessage:
    order, meta, message_id = spooled.order, spooled.meta, spooled.message_id
    signed, message = order.signed, order.signed.message
    index = await deps.vault.blind_index("recipient")
    about = personal.recipient_index(index, message.recipient)
    due_at = max(now + signed.profile.hold, message.deliver_not_before or now)
    status = MessageStatus.SCHEDULED if due_at > now else MessageStatus.ACCEPTED
    receipt = _receipt(spooled, status, now, deps)
    signer = deps.receipts()
    receipt_jws, receipt_xml = await asyncio.to_thread(lambda: (signer.jws(receipt), signer.xml(receipt)))
    delivery = DeliveryRecord(
        delivery_id=DeliveryId(deps.ids()),
        message_id=message_id,
        number=1,
        channel=order.route.channels[0],
        provider=order.route.providers[order.route.channels[0]],
        lane=message.lane or Lane.SINGLE,
        status_at=now,
        due_at=due_at,
        deadline_at=due_at + deps.settings.first_deadline,
    )
    record_ = MessageRecord(
        message_id=message_id,
        sender=signed.sender.enterprise_number,
        profile=signed.profile.id,
        party=signed.peer.party,
        registration_version=signed.registration_version,
        reference=message.reference,
        category=message.category,
        legal_basis=order.authorisation.legal_basis,
        language=message.language,
        lane=delivery.lane,
        status=status,
        accepted_at=now,
        created_at=message.created_at,
        deliver_not_before=message.deliver_not_before,
        deliver_before=message.deliver_before,
        retention=order.retention,
        billing_reference=message.billing_reference,
        route=order.route,
        letterhead=Letterhead(
            sender_name=signed.sender.name,
            display_name=signed.profile.display_name,
            public_contact=signed.sender.contact.public,
            return_address=signed.sender.return_address,
        ),
        print_options=message.print_options or PrintOptions(),
        dossier_rule=order.authorisation.recipients is RecipientRule.DOSSIER,
        content_sha256=signed.content_sha256,
        message_sha256=signed.part_sha256,
        recipient_index=about,
        recipient_index_version=index.version if about is not None else None,
        meta_dek_id=meta.row.dek_id,
        sealed_recipient=personal.seal_recipient(meta, message_id, message.recipient, message.attention_of),
        sealed_subject=personal.seal_value(meta, message_id, "sealed_subject", message.subject.encode()),
        sealed_purpose=personal.seal_value(meta, message_id, "sealed_purpose", message.purpose.encode()),
        sealed_signed_message=personal.seal_value(meta, message_id, "sealed_signed_message", signed.part),
        receipt_jws=receipt_jws,
        receipt_xml=receipt_xml,
        documents=spooled.documents,
        deliveries=(delivery,),
    )
    return NewMessage(
        message=record_,
        deks=(meta.row, *(dek.row for dek in spooled.deks)),
        logs=await _acceptance_entries(record_, message, meta, deps),
        day=now.astimezone(QUOTA_ZONE).date(),
        messages_per_day=signed.profile.quota.messages_per_day,
    )


def _receipt(spooled: Spooled, status: MessageStatus, now: datetime, deps: AcceptDeps) -> Receipt:
    signed = spooled.order.signed
    return Receipt(
        gateway=deps.settings.gateway_name,
        message_id=spooled.message_id,
        issued_at=now,
        sender=signed.sender.enterprise_number,
        profile=signed.profile.id,
        reference=signed.message.reference,
        status=status,
        accepted_at=now,
        documents=tuple(
            ReceiptDocument(part=document.part, sha256=document.sha256.hex(), size_bytes=document.size_bytes)
            for document in spooled.documents
        ),
        message_sha256=signed.part_sha256.hex(),
    )


# ── Log ──


async def _acceptance_entries(
    record_: MessageRecord, message: Message, meta: Dek, deps: AcceptDeps
) -> tuple[LogEntry, LogEntry]:
    who = {"party": record_.party, "sender": record_.sender, "profile": record_.profile}
    subject = Subject(sender=record_.sender, profile=record_.profile, message_id=record_.message_id)
    what: dict[str, str | int] = {"message": str(record_.message_id), "category": record_.category}
    traffic = deps.logbook.entry(
        Log.TRAFFIC,
        "accepted",
        who=who,
        what={**what, "status": record_.status, "documents": len(record_.documents)},
        result="accepted",
        subject=subject,
        at=record_.accepted_at,
    )
    privacy = deps.logbook.entry(
        Log.PRIVACY,
        "message-accepted",
        who=who,
        what={**what, "legalBasis": record_.legal_basis},
        result="accepted",
        subject=subject,
        personal=await deps.logbook.about(message.recipient, message.purpose, meta),
        at=record_.accepted_at,
    )
    return traffic, privacy


async def _log_refusal(verified: Verified, peer: Peer, refusal: Refusal, deps: AcceptDeps) -> None:
    if refusal.kind is Kind.STILL_RECEIVING:
        return  # its first copy is on its way and writes the record
    message = verified.content if isinstance(verified.content, Message) else None
    sender = deps.registration().senders.get(verified.sender)
    profile = _profile_id(message, peer, sender) if message is not None and sender is not None else None
    who = {"party": peer.party, "sender": verified.sender} | ({"profile": profile} if profile is not None else {})
    subject = Subject(sender=verified.sender, profile=profile)
    what: dict[str, str | int] = {}
    personal_values = None
    if message is not None:
        what = {"reference": message.reference, "category": message.category}
        log_key = await deps.logbook.log_key(verified.sender)
        personal_values = await deps.logbook.about(message.recipient, message.purpose, log_key)
    result = str(refusal.kind)
    traffic = deps.logbook.entry(Log.TRAFFIC, "refused", who=who, what=what, result=result, subject=subject)
    privacy = deps.logbook.entry(
        Log.PRIVACY,
        "message-refused",
        who=who,
        what=what,
        result=result,
        subject=subject,
        personal=personal_values,
    )
    await deps.ledger.append([traffic, privacy])
