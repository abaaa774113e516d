"""
A batch: its signature once, then each item as it streams, by the same stages as a message that comes alone.

An item is ours as soon as its last part is durable, whatever becomes of the rest of the body; what is wrong with one
item is its own outcome, and the next one goes on. While some are recorded, the next ones are read (`recording.py`). The
batch itself is written down with the first item that stands for something: a batch of which nothing was taken over
leaves nothing behind, and its reference is free. As what the others were refused is noted at the end of the request,
all at once, also of one that broke off.

How old an item may be is told by the CreatedAt of its batch: that is when it was signed. So a batch that broke off may
be signed anew and sent again days later; its items, and their digests, stay the same.
"""

import asyncio
import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import Final
from uuid import UUID

from gateway.accept.authenticate import authenticate_batch, judged, signed_message, verify_batch
from gateway.accept.record import record
from gateway.accept.recording import Recording
from gateway.accept.refusals import log_refusal
from gateway.accept.stages import (
    AcceptDeps,
    Accepted,
    Membership,
    RawBatch,
    RawPart,
    SignedBatch,
    SignedMessage,
    Spooled,
    Verified,
    VerifiedBatch,
)
from gateway.accept.taking import receive, require_same_key
from gateway.crypto.batches import ITEM_MEDIA_TYPES, differing_batch_fields, read_item, read_stored_batch
from gateway.crypto.dialects import Dialect
from gateway.crypto.identity import Peer
from gateway.domain.batch import Batch, BatchItem
from gateway.domain.ids import MessageId
from gateway.domain.message import Message
from gateway.domain.status import MessageStatus
from gateway.errors import FieldError, Kind, Refusal
from gateway.stores.ledger import Ledger
from gateway.stores.model import BatchLink, ItemRefusal, MessageRecord

_ITEM_PART: Final = re.compile(r"m([1-9][0-9]{0,3})\Z")
_DIALECTS: Final = {
    **{media_type: dialect for dialect, media_type in ITEM_MEDIA_TYPES.items()},
    f"{ITEM_MEDIA_TYPES[Dialect.XML]};charset=utf-8": Dialect.XML,
}

Tell = Callable[[Accepted | Refusal], None]
"""Told what became of each item that arrived, at once."""


class Outcome(StrEnum):
    """What became of an item of a batch."""

    ACCEPTED = "accepted"  # taken over as this item, now or when the batch came before
    REPEATED = "repeated"  # the same message was taken over before, alone or in another batch
    REFUSED = "refused"  # when it came last; it may be sent again under the same batch
    MISSING = "missing"  # nothing of it is known; it may be sent under the same batch


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemOutcome:
    """
    What became of one item; of one that was taken over with its status and its stored receipt (a compact JWS).

    One that was refused has its `refusal` when it came in this request, and what was noted when it came in an earlier
    one.
    """

    number: int
    reference: str
    outcome: Outcome
    message_id: MessageId | None = None
    status: MessageStatus | None = None
    receipt: str | None = None
    refusal: Refusal | None = None
    noted: ItemRefusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTaken:
    """What became of a batch; `batch_id` None: nothing of it was taken over, so there is none."""

    batch_id: UUID | None
    reference: str
    items: tuple[ItemOutcome, ...]


async def accept_batch(raw: RawBatch, peer: Peer, deps: AcceptDeps, tell: Tell) -> BatchTaken:
    """
    Take the items of a batch over from its sender, one by one.

    Raises:
        Refusal: the batch itself is wrong, or the body is: broken off, too slow, parts that belong to no item. Items
            before that place stay accepted.
        StoreUnavailable: items before that stay accepted; the batch may be sent again.
    """
    verified = await verify_batch(raw, peer, deps)
    try:
        signed = await authenticate_batch(verified, raw.manifest, peer, deps)
        require_same_key(raw.idempotency_key, signed.batch.reference)
        _require_within_limits(signed.batch, verified.dialect, deps)
        signed = await _same_as_before(signed, deps)
    except Refusal as refusal:
        await log_refusal(_verified_item(verified, refusal), peer, refusal, deps)
        raise
    links = {link.number: link for link in await deps.ledger.batch_links(signed.record.batch_id)}
    batch = _Taking(signed=signed, verified=verified, parts=_Parts(raw.parts), links=links, tell=tell)
    try:
        await _take_items(batch, deps)
    finally:
        await _note_refusals(signed, batch.outcomes.values(), deps)
    return await _taken(signed, batch.outcomes, deps)


async def outcomes_of(batch_id: UUID, items: Sequence[BatchItem], ledger: Ledger) -> list[ItemOutcome]:
    """Return how items of a batch stand, as far as the ledger knows."""
    # First what was refused: an item that is taken over meanwhile stands in both, and then it is taken over.
    refusals = {refusal.number: refusal for refusal in await ledger.batch_refusals(batch_id)}
    links = {link.number: link for link in await ledger.batch_links(batch_id)}
    wanted = [link.message_id for item in items if (link := links.get(item.number)) is not None]
    messages = {message.message_id: message for message in await ledger.messages_by_id(wanted)}

    def of(item: BatchItem) -> ItemOutcome:
        link, noted = links.get(item.number), refusals.get(item.number)
        if link is not None and link.message_id in messages:
            return _outcome_of(item, link, messages[link.message_id])
        outcome = Outcome.MISSING if noted is None else Outcome.REFUSED
        return ItemOutcome(number=item.number, reference=item.reference, outcome=outcome, noted=noted)

    return [of(item) for item in items]


def _require_within_limits(batch: Batch, dialect: Dialect, deps: AcceptDeps) -> None:
    limit = deps.settings.max_batch_items
    if len(batch.items) > limit:
        pointer = "/Batch/Items" if dialect is Dialect.XML else "/items"
        raise Refusal(
            Kind.INVALID_MESSAGE,
            "the batch breaks rules; see errors",
            errors=[FieldError(pointer=pointer, detail=f"at most {limit} items are taken in one batch")],
        )


async def _same_as_before(signed: SignedBatch, deps: AcceptDeps) -> SignedBatch:
    """Return the batch as it was written down, if it was; what proves its items is then the first one that came."""
    new = signed.record
    known = await deps.ledger.find_batch(new.sender, new.profile, new.reference)
    if known is None:
        return signed
    if not hmac.compare_digest(known.content_sha256, new.content_sha256):
        earlier = await asyncio.to_thread(read_stored_batch, known.part)
        raise Refusal(
            Kind.REFERENCE_CONFLICT,
            "this reference was used before for another batch; give the new batch a reference of its own",
            extra={
                "batchId": str(known.batch_id),
                "differingFields": differing_batch_fields(earlier, signed.batch),
            },
        )
    return replace(signed, record=known)


def _item_of(part: RawPart, batch: Batch, *, after: int) -> BatchItem:
    named = _ITEM_PART.match(part.name)
    if named is None:
        raise _invalid(
            "a part belongs to no item: after the batch come m1, m2 and so on, each followed by its own documents "
            "m1-upfile1, m1-upfile2 and so on"
        )
    number = int(named[1])
    item = batch.item(number)
    if item is None:
        raise _invalid(f"there is a part m{number}, and the batch has {len(batch.items)} items")
    if number <= after:
        raise _invalid(f"m{number} comes after m{after}; items come in the order of their numbers, each once")
    return item


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taking:
    """
    A batch that is being taken over; `links` are the items that were when it came before, `outcomes` what became of
    those that came now.
    """

    signed: SignedBatch
    verified: VerifiedBatch
    parts: "_Parts"
    links: Mapping[int, BatchLink]
    tell: Tell
    outcomes: dict[int, ItemOutcome] = field(default_factory=dict)


async def _take_items(batch: _Taking, deps: AcceptDeps) -> None:
    recording, number = Recording(deps.spare_places), 0
    try:
        while (part := await batch.parts.peek()) is not None:
            item = _item_of(part, batch.signed.batch, after=number)
            number = item.number
            spooled = await _receive_item(item, batch, deps)
            if spooled is not None:
                await recording.begin(_record_item(item, spooled, batch, deps))
                if not all(document.enclosed for document in spooled.documents):
                    await recording.end()  # of what no message owns yet, one lies on the disk at a time
            await batch.parts.leave(number)
    finally:
        await recording.end()


async def _receive_item(item: BatchItem, batch: _Taking, deps: AcceptDeps) -> Spooled | None:
    """Return an item that is to be recorded; of any other note what became of it."""
    message: Message | None = None
    try:
        one = await _read(item, batch, deps)
        message = one.message
        received = await receive(one, batch.parts.documents(item.number, len(message.documents)), deps)
        if isinstance(received, Spooled):
            return received
        await _note_accepted(item, received, batch, deps)
    except Refusal as refusal:
        await _log_refusal(message, refusal, batch, deps)
        if batch.parts.broken is not None:
            raise  # there is nothing behind it
        _note_refused(item, refusal, batch)
    return None


async def _record_item(item: BatchItem, spooled: Spooled, batch: _Taking, deps: AcceptDeps) -> None:
    try:
        await _note_accepted(item, await record(spooled, deps), batch, deps)
    except Refusal as refusal:
        await _log_refusal(spooled.order.signed.message, refusal, batch, deps)
        _note_refused(item, refusal, batch)


async def _note_accepted(item: BatchItem, accepted: Accepted, batch: _Taking, deps: AcceptDeps) -> None:
    link = BatchLink(number=item.number, message_id=accepted.record.message_id, is_proof=not accepted.repeated)
    if accepted.repeated:
        link = batch.links.get(item.number) or await deps.ledger.link_item(batch.signed.record, link)
    batch.outcomes[item.number] = _outcome_of(item, link, accepted.record)
    batch.tell(accepted)


async def _log_refusal(message: Message | None, refusal: Refusal, batch: _Taking, deps: AcceptDeps) -> None:
    verified = _verified_item(batch.verified, message or refusal)
    await log_refusal(verified, batch.signed.speaker.peer, refusal, deps)


def _note_refused(item: BatchItem, refusal: Refusal, batch: _Taking) -> None:
    # As a copy: what was raised holds on to everything that was at hand there, which is for a few items at a time.
    told = replace(refusal)
    batch.outcomes[item.number] = ItemOutcome(
        number=item.number, reference=item.reference, outcome=Outcome.REFUSED, refusal=told
    )
    batch.tell(refusal)


async def _read(item: BatchItem, batch: _Taking, deps: AcceptDeps) -> SignedMessage:
    part, signed = await batch.parts.take(), batch.signed
    dialect = _DIALECTS.get(part.media_type.lower().replace(" ", ""))
    if dialect is None:
        types = " or ".join(ITEM_MEDIA_TYPES.values())
        raise Refusal(Kind.UNSUPPORTED_MEDIA_TYPE, f"the part {part.name} must be of type {types}")
    octets = bytearray()
    async for chunk in part.chunks:
        octets += chunk
        if len(octets) > deps.settings.max_manifest_bytes:
            limit = deps.settings.max_manifest_bytes
            raise Refusal(Kind.MESSAGE_TOO_LARGE, f"the part {part.name} may have at most {limit} bytes")
    content = bytes(octets)
    # That the signed batch lists these octets is their proof: nothing of them is looked at before.
    if not hmac.compare_digest(hashlib.sha256(content).hexdigest(), item.sha256):
        what = "its SHA-256 differs from the batch; compute it over the very bytes that are sent"
        raise Refusal(
            Kind.DOCUMENT_MISMATCH,
            f"{part.name}: {what}",
            errors=[FieldError(pointer=f"/{part.name}", detail=what)],
        )
    message = await judged(content, partial(read_item, dialect=dialect, allow_test_ssin=deps.settings.allow_test_ssin))
    _require_of_batch(message, item, signed.batch)
    return signed_message(message, dialect, content, signed.speaker, Membership(batch=signed, number=item.number))


def _require_of_batch(message: Message, item: BatchItem, batch: Batch) -> None:
    if message.gateway != batch.gateway:
        raise Refusal(Kind.WRONG_GATEWAY, "the Gateway of this item is not that of its batch")
    if (message.sender, message.ovo_code, message.profile) != (batch.sender, batch.ovo_code, batch.profile):
        raise Refusal(
            Kind.SIGNER_MISMATCH, "the Sender of this item is not that of its batch; write both with the same members"
        )
    if message.reference != item.reference:
        raise Refusal(
            Kind.INVALID_MESSAGE,
            "the batch lists this item under another reference",
            errors=[FieldError(pointer=f"/m{item.number}", detail="its Reference is not the one in the batch")],
        )


async def _note_refusals(signed: SignedBatch, outcomes: Iterable[ItemOutcome], deps: AcceptDeps) -> None:
    now = deps.clock()
    refusals = [
        ItemRefusal(number=outcome.number, kind=outcome.refusal.kind, refused_at=now)
        for outcome in outcomes
        if outcome.refusal is not None
    ]
    if refusals:
        await deps.ledger.note_refusals(signed.record, refusals)


async def _taken(signed: SignedBatch, outcomes: Mapping[int, ItemOutcome], deps: AcceptDeps) -> BatchTaken:
    """
    Add what the request did not carry: it may have come before, under the same batch.

    So may an item that the request spoilt: what is with us is told to be, or its sender would send it once more.
    """
    record, items = signed.record, signed.batch.items
    told = dict(outcomes)
    kept = await deps.ledger.find_batch(record.sender, record.profile, record.reference)
    if kept is not None:
        open_ones = [item for item in items if item.number not in told or told[item.number].refusal is not None]
        for known in await outcomes_of(kept.batch_id, open_ones, deps.ledger) if open_ones else ():
            if known.message_id is not None or known.number not in told:
                told[known.number] = known
    return BatchTaken(
        batch_id=kept.batch_id if kept is not None else None,
        reference=record.reference,
        items=tuple(
            told.get(item.number) or ItemOutcome(number=item.number, reference=item.reference, outcome=Outcome.MISSING)
            for item in items
        ),
    )


def _outcome_of(item: BatchItem, link: BatchLink, record: MessageRecord) -> ItemOutcome:
    return ItemOutcome(
        number=item.number,
        reference=item.reference,
        outcome=Outcome.ACCEPTED if link.is_proof else Outcome.REPEATED,
        message_id=record.message_id,
        status=record.status,
        receipt=record.receipt_jws,
    )


def _verified_item(verified: VerifiedBatch, content: Message | Refusal) -> Verified:
    """Return an item, or a batch that is none, as the log of refusals takes it."""
    return Verified(
        sender=verified.sender, dialect=verified.dialect, signer_profiles=verified.signer_profiles, content=content
    )


class _Parts:
    """The parts of a body, each read before the next, with the head of the next one in sight."""

    def __init__(self, parts: AsyncIterator[RawPart]) -> None:
        self.broken: Refusal | None = None  # why nothing more can be read
        self._parts = parts
        self._next: RawPart | None = None
        self._is_seen = False
        self._open: AsyncIterator[bytes] | None = None  # the chunks of the part that was taken last

    async def peek(self) -> RawPart | None:
        """
        Return the next part without taking it, None at the end; the part that was taken last is read to its end.

        Raises:
            Refusal: the body is broken.
        """
        if self.broken is not None:
            raise self.broken
        if not self._is_seen:
            await self._drain()
            try:
                self._next = await anext(self._parts, None)
            except Refusal as broken:
                self.broken = broken
                raise
            self._is_seen = True
        return self._next

    async def take(self) -> RawPart:
        """
        Return the next part, to be read.

        Raises:
            Refusal: the body is broken, or at its end.
        """
        part = await self.peek()
        if part is None:
            raise _invalid("a part is missing")
        self._is_seen, self._open = False, self._noting(part.chunks)
        return replace(part, chunks=self._open)

    async def documents(self, number: int, count: int) -> AsyncIterator[RawPart]:
        """
        Yield the parts of one item behind its message, by the names that its manifest has for them.

        What breaks behind the last of the `count` documents is not the trouble of this item.
        """
        prefix, given = f"m{number}-", 0
        while True:
            try:
                part = await self.peek()
            except Refusal:
                if given < count:
                    raise
                return
            if part is None or not part.name.startswith(prefix):
                return
            taken = await self.take()
            given += 1
            yield replace(taken, name=part.name.removeprefix(prefix))

    async def leave(self, number: int) -> None:
        """
        Read what is left of an item, and throw it away.

        Raises:
            Refusal: the body is broken.
        """
        prefix = f"m{number}-"
        while (part := await self.peek()) is not None and part.name.startswith(prefix):
            await self.take()

    async def _drain(self) -> None:
        if self._open is not None:
            async for _ in self._open:
                pass
            self._open = None

    async def _noting(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                yield chunk
        except Refusal as broken:
            self.broken = broken
            raise


def _invalid(detail: str) -> Refusal:
    return Refusal(Kind.MULTIPART_INVALID, detail, errors=[FieldError(pointer="/", detail=detail)])
