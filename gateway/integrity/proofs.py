"""What is wrong with the signed papers of a message: its receipts, and the message that the sender signed. Pure."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Final, TypeVar

from cryptography import x509

from gateway.crypto.batches import batch_sha256, read_stored_batch
from gateway.crypto.dialects import is_signed
from gateway.crypto.receipts import Receipt, ReceiptDocument, verify_receipt_jws, verify_receipt_xml
from gateway.crypto.sealing import SealBroken
from gateway.crypto.vault import Dek
from gateway.errors import Refusal
from gateway.integrity.findings import Code, Finding
from gateway.records.personal import open_value
from gateway.stores.model import BatchRecord, MessageRecord

_Paper = TypeVar("_Paper", str, bytes)
_TICK: Final = timedelta(milliseconds=1)  # ledgers keep times to the millisecond, rounded down


def receipt_findings(message: MessageRecord, certificates: Sequence[x509.Certificate]) -> Iterator[Finding]:
    """Yield what is wrong with the receipts of a message. Costs milliseconds: two signatures are verified."""
    message_id = str(message.message_id)
    jws = _verified(verify_receipt_jws, message.receipt_jws, certificates)
    xml = _verified(verify_receipt_xml, message.receipt_xml, certificates)
    for name, receipt in (("JWS", jws), ("XML", xml)):
        if receipt is None:
            yield Finding(code=Code.RECEIPT_INVALID, id=message_id, detail=name)
        elif wrong := _differences(receipt, message):
            yield Finding(code=Code.RECEIPT_DIFFERS, id=message_id, detail=f"{name}: {', '.join(wrong)}")


def signed_message_findings(message: MessageRecord, batch: BatchRecord | None, meta: Dek) -> Iterator[Finding]:
    """
    Yield what is wrong with the message that the sender signed, itself or by `batch`, in which it came; `meta` is the
    message's opened key.
    """
    message_id = str(message.message_id)
    try:
        part = open_value(meta, message.message_id, "sealed_signed_message", message.sealed_signed_message)
    except SealBroken:
        yield Finding(code=Code.SIGNED_MESSAGE_UNREADABLE, id=message_id)
        return
    if hashlib.sha256(part).digest() != message.message_sha256:
        yield Finding(code=Code.SIGNED_MESSAGE_DIFFERS, id=message_id)
    elif wrong := _unproven(message, part, batch):
        yield Finding(code=Code.MESSAGE_UNPROVEN, id=message_id, detail=wrong)


def _unproven(message: MessageRecord, part: bytes, batch: BatchRecord | None) -> str | None:
    """Return why nothing signed proves a message, or None when something does."""
    name = "it" if batch is None else f"batch {batch.batch_id}"
    try:
        if batch is None:
            return None if is_signed(part) else "it is not signed, and in no batch"
        signed = read_stored_batch(batch.part)
    except Refusal:
        return f"{name} is unreadable"
    if batch_sha256(signed) != batch.content_sha256:
        return f"{name} is another than was accepted"
    listed = {item.reference: item.sha256 for item in signed.items}
    return None if listed.get(message.reference) == message.message_sha256.hex() else f"{name} does not list it"


def _verified(
    verify: Callable[[_Paper, x509.Certificate], Receipt], paper: _Paper, certificates: Sequence[x509.Certificate]
) -> Receipt | None:
    for certificate in certificates:
        try:
            return verify(paper, certificate)
        except Refusal:
            continue  # signed with another of our certificates, or not at all
    return None


def _differences(receipt: Receipt, message: MessageRecord) -> list[str]:
    documents = tuple(
        ReceiptDocument(part=document.part, sha256=document.sha256.hex(), size_bytes=document.size_bytes)
        for document in message.documents
        if document.kind == "document"
    )
    return [
        name
        for name, is_equal in (
            ("messageId", receipt.message_id == message.message_id),
            ("sender", receipt.sender == message.sender),
            ("profile", receipt.profile == message.profile),
            ("reference", receipt.reference == message.reference),
            ("acceptedAt", message.accepted_at <= receipt.accepted_at < message.accepted_at + _TICK),
            ("documents", receipt.documents == documents),
            ("messageSha256", receipt.message_sha256 == message.message_sha256.hex()),
        )
        if not is_equal
    ]
