"""Whether a receipt proves that this gateway accepted this message: verified offline, against pinned certificates."""

import hmac
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from cryptography import x509

from gateway.client.problems import EvidenceWrong, ReceiptWrong
from gateway.crypto.evidence import Evidence, verify_evidence_jws
from gateway.crypto.receipts import Receipt, ReceiptDocument, verify_receipt_jws, verify_receipt_xml
from gateway.domain.ids import MessageId
from gateway.domain.message import DocumentEntry, Message
from gateway.errors import Refusal

__all__ = ["Proven", "proven", "require_about", "require_documents", "verified_receipt"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """A statement of the gateway whose signature held, and the octets to keep."""

    facts: Evidence
    jws: str = field(repr=False)


def proven(jws: str, trusted: Sequence[x509.Certificate], *, gateway: str, message_id: UUID, number: int) -> Proven:
    """
    Return a statement once one of `trusted` is found to have signed it, for this gateway, about this message.

    Raises:
        EvidenceWrong: none has, or it is about something else.
    """
    try:
        facts = _first_that_holds(lambda certificate: verify_evidence_jws(jws, certificate), trusted)
    except _NoneHolds as none:
        raise EvidenceWrong(none.detail) from none
    if (facts.gateway, facts.message_id, facts.number) != (gateway, message_id, number):
        raise EvidenceWrong("it is of another gateway, or about another message or event")
    return Proven(facts=facts, jws=jws)


def verified_receipt(encoded: str | bytes, trusted: Sequence[x509.Certificate]) -> Receipt:
    """
    Return what a receipt states, a compact JWS (text) or XML (bytes), once one of `trusted` is found to have signed it.

    Raises:
        ReceiptWrong: none has, or what is signed is no receipt.
    """

    def verified(certificate: x509.Certificate) -> Receipt:
        if isinstance(encoded, str):
            return verify_receipt_jws(encoded, certificate)
        return verify_receipt_xml(encoded, certificate)

    try:
        return _first_that_holds(verified, trusted)
    except _NoneHolds as none:
        raise ReceiptWrong(none.detail) from none


@dataclass(eq=False)
class _NoneHolds(Exception):
    detail: str


def _first_that_holds(verify: Callable[[x509.Certificate], _T], trusted: Sequence[x509.Certificate]) -> _T:
    refusal: Refusal | None = None
    for certificate in trusted:
        try:
            return verify(certificate)
        except Refusal as exc:
            refusal = exc
    if refusal is None:
        raise _NoneHolds("no receipt certificate is trusted")
    more = f" (the same goes for the other {len(trusted) - 1} trusted ones)" if len(trusted) > 1 else ""
    raise _NoneHolds(f"{refusal.detail}{more}") from refusal


def require_about(
    receipt: Receipt, message: Message, message_id: MessageId, *, signed_sha256: Iterable[str] | None
) -> None:
    """
    Return when a verified receipt speaks of this message.

    `signed_sha256` are the digests of the signed parts that were sent, of which the receipt names one; None when the
    gateway had the message already, from an earlier run whose signature nobody remembers here.

    Raises:
        ReceiptWrong: naming the first fact that is not ours.
    """
    facts: list[tuple[str, bool]] = [
        ("gateway", receipt.gateway == message.gateway),
        ("messageId", receipt.message_id == message_id),
        ("sender", receipt.sender == message.sender),
        ("profile", message.profile in (None, receipt.profile)),
        ("reference", receipt.reference == message.reference),
        (
            "messageSha256",
            signed_sha256 is None or any(hmac.compare_digest(receipt.message_sha256, own) for own in signed_sha256),
        ),
    ]
    for name, holds in facts:
        if not holds:
            raise ReceiptWrong(f"its {name} is not that of the letter")
    require_documents(receipt, message.documents)


def require_documents(receipt: Receipt, entries: Sequence[DocumentEntry]) -> None:
    """
    Return when a verified receipt lists exactly these documents.

    Raises:
        ReceiptWrong: another number of documents, or another digest, size or order.
    """
    own = tuple(ReceiptDocument(part=entry.part, sha256=entry.sha256, size_bytes=entry.size_bytes) for entry in entries)
    if len(receipt.documents) != len(own):
        raise ReceiptWrong(f"it lists {len(receipt.documents)} documents, the letter has {len(own)}")
    for stated, ours in zip(receipt.documents, own, strict=True):
        if stated != ours:
            raise ReceiptWrong(f"its {ours.part} is not that of the letter")
