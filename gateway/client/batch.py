"""
Many letters under one signature, as a sender's program sees them: what is signed and sent, and what became of each.

A letter's own reference makes sure that it is delivered once, in however many batches it is sent, or alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

from gateway.client.answers import items_of, read, text_or_none
from gateway.client.body import ItemParts
from gateway.client.letter import Letter, describe, message_of
from gateway.client.problems import LetterInvalid, Problem, ReceiptWrong, UnexpectedAnswer, problem_of
from gateway.client.proof import require_about, verified_receipt
from gateway.client.sender import SenderProfile
from gateway.crypto.batches import sign_batch, write_item
from gateway.crypto.receipts import Receipt
from gateway.domain.batch import MAX_ITEMS, Batch, BatchItem
from gateway.domain.ids import MessageId
from gateway.domain.message import Message
from gateway.errors import FieldError

__all__ = ["ItemOutcome", "ItemSent", "PreparedBatch", "SentBatch", "prepare_batch", "sent_batch"]


class ItemOutcome(StrEnum):
    """What became of a letter of a batch."""

    ACCEPTED = "accepted"
    REPEATED = "repeated"  # the gateway had it before, alone or in another batch
    REFUSED = "refused"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemSent:
    """
    What became of one letter, in the order of the letters.

    The gateway has it when `receipt` is there, which is verified: keep `receipt_jws`, and of an accepted letter
    `message`, the octets that the receipt is of, together with the batch. `problem` says why it was refused; what
    `send_batch` returns always has it.
    """

    reference: str
    outcome: ItemOutcome
    message_id: MessageId | None = None
    receipt: Receipt | None = None
    receipt_jws: str | None = field(default=None, repr=False)
    message: bytes | None = field(default=None, repr=False)
    problem: Problem | None = None

    @property
    def is_with_gateway(self) -> bool:
        """Whether the gateway has the letter, and proved it."""
        return self.receipt is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class SentBatch:
    """What became of a batch; `batch_id` None: nothing of it was taken over. `signed` holds its octets."""

    batch_id: UUID | None
    reference: str
    items: tuple[ItemSent, ...]
    signed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PreparedBatch:
    """Letters ready to be signed and sent as one batch."""

    sender: SenderProfile
    reference: str
    messages: tuple[Message, ...]
    parts: tuple[ItemParts, ...]

    def sign(self, now: datetime) -> bytes:
        """Return the signed batch. Costs milliseconds."""
        sender = self.sender
        batch = Batch(
            gateway=sender.gateway,
            reference=self.reference,
            created_at=now.replace(microsecond=0),
            sender=sender.enterprise_number,
            ovo_code=sender.ovo_code,
            profile=sender.profile,
            items=tuple(
                BatchItem(number=part.number, reference=message.reference, sha256=sha256(part.message).hexdigest())
                for part, message in zip(self.parts, self.messages, strict=True)
            ),
        )
        return sign_batch(sender.dialect, batch, sender.signing_key, sender.signing_certificate)


def prepare_batch(sender: SenderProfile, letters: Sequence[Letter], reference: str, now: datetime) -> PreparedBatch:
    """
    Read every document once, with constant memory, and return the batch to sign. Blocks.

    Raises:
        LetterInvalid: every fault of every letter, each with a pointer such as `/letters/3/recipient/ssin`.
    """
    errors: list[FieldError] = []
    if not 1 <= len(letters) <= MAX_ITEMS:
        errors.append(FieldError(pointer="/letters", detail=f"a batch has 1 to {MAX_ITEMS} letters"))
    messages, parts = list[Message](), list[ItemParts]()
    references: set[str] = set()
    for place, letter in enumerate(letters[:MAX_ITEMS]):
        at = f"/letters/{place}"
        if letter.reference in references:
            errors.append(FieldError(pointer=f"{at}/reference", detail="is that of an earlier letter of this batch"))
        references.add(letter.reference)
        try:
            message, part = _prepared(sender, letter, place + 1, now)
        except LetterInvalid as invalid:
            errors += [FieldError(pointer=at + each.pointer, detail=each.detail) for each in invalid.errors]
            continue
        messages.append(message)
        parts.append(part)
    if errors:
        raise LetterInvalid(errors)
    return PreparedBatch(sender=sender, reference=reference, messages=tuple(messages), parts=tuple(parts))


def _prepared(sender: SenderProfile, letter: Letter, number: int, now: datetime) -> tuple[Message, ItemParts]:
    documents = letter.listed()
    entries = describe(documents)
    message = message_of(
        letter,
        entries,
        gateway=sender.gateway,
        sender=sender.enterprise_number,
        ovo_code=sender.ovo_code,
        profile=sender.profile,
        created_at=now.replace(microsecond=0),
    )
    contents: list[Path | bytes] = [document.content for document in documents]
    part = write_item(sender.dialect, message)
    return message, ItemParts(number=number, message=part, documents=list(zip(entries, contents, strict=True)))


def sent_batch(prepared: PreparedBatch, signed: bytes, value: Any) -> SentBatch:
    """
    Return what an answer says of a batch, each letter believed as far as its receipt carries it. Blocks.

    Raises:
        ReceiptWrong: a receipt does not hold.
        UnexpectedAnswer: it is not about this batch.
    """
    listed = read(partial(items_of, name="items"), value)
    if len(listed) != len(prepared.parts) or read(lambda found: found["reference"], value) != prepared.reference:
        raise UnexpectedAnswer("it is about another batch")
    batch_id = read(lambda found: text_or_none(found["batchId"]), value)
    return SentBatch(
        batch_id=None if batch_id is None else read(UUID, batch_id),
        reference=prepared.reference,
        items=tuple(
            _item(prepared, message, part, item)
            for message, part, item in zip(prepared.messages, prepared.parts, listed, strict=True)
        ),
        signed=signed,
    )


def _item(prepared: PreparedBatch, message: Message, part: ItemParts, item: Any) -> ItemSent:
    outcome = read(lambda found: ItemOutcome(found["outcome"]), item)
    if outcome is ItemOutcome.MISSING:
        return ItemSent(reference=message.reference, outcome=outcome)
    if outcome is ItemOutcome.REFUSED:
        stated = read(lambda found: found.get("problem"), item)  # none of one that came in an earlier request
        problem = None if stated is None else read(lambda found: problem_of(int(found["status"]), found), stated)
        return ItemSent(reference=message.reference, outcome=outcome, problem=problem)
    jws = read(lambda found: text_or_none(found["receipt"]), item)
    if jws is None:
        raise ReceiptWrong("there is none in the answer")
    message_id = read(lambda found: MessageId(UUID(found["messageId"])), item)
    receipt = verified_receipt(jws, prepared.sender.receipt_certificates)
    digest = sha256(part.message).hexdigest()
    own = [digest] if outcome is ItemOutcome.ACCEPTED else None
    require_about(receipt, message, message_id, signed_sha256=own)
    return ItemSent(
        reference=message.reference,
        outcome=outcome,
        message_id=message_id,
        receipt=receipt,
        receipt_jws=jws,
        message=part.message if receipt.message_sha256 == digest else None,
    )
