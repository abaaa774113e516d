"""
Evidence: the gateway's signed statements about what became of a message, one for each entry of its traffic log.

A statement is a compact JWS of `typ` dgw-evidence+jws, signed like a receipt. `event` is the gateway's own word,
`etsiEvent` the URI of the event of ETSI EN 319 522-3 that it corresponds to, where there is one. The gateway is no
qualified trust service provider (Regulation (EU) 910/2014), and every statement says so: `qualification` is
"non-qualified". The format lives for ten years: members may be added, and readers let pass what they do not know.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from cryptography import x509

from gateway.crypto.jws import verify_jws
from gateway.crypto.receipts import ReceiptDocument, document_of, message_id_of, moment_of
from gateway.crypto.values import WrongValue, array, format_instant, gateway_name, instant, parsed, sha256_hex, string
from gateway.domain.ids import (
    DeliveryId,
    EnterpriseNumber,
    InvalidIdentifier,
    MessageId,
    parse_enterprise_number,
    parse_reference,
    parse_slug,
)
from gateway.errors import Kind, Refusal

__all__ = ["ETSI_EVENTS", "EVIDENCE_TYP", "QUALIFICATION", "Evidence", "EvidenceDelivery", "verify_evidence_jws"]

EVIDENCE_TYP: Final = "dgw-evidence+jws"
QUALIFICATION: Final = "non-qualified"
ETSI_EVENTS: Final = "http://uri.etsi.org/19522/Event/"
_REQUIRED: Final = frozenset(
    {
        "iss", "sub", "n", "iat", "event", "qualification", "at", "sender", "profile", "reference", "documents",
        "messageSha256", "leafSha256",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceDelivery:
    """The delivery that a statement is about; what its log entry does not tell is None."""

    delivery_id: DeliveryId
    number: int | None
    channel: str | None
    provider: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """
    The facts of a statement: the `number`-th entry of a message's traffic log, of which `leaf_sha256` is the leaf.

    `issued_at` is stated to the second. `reason` and `code` say why, on what did not go as asked. `receipt_sha256`,
    of the octets of the JWS receipt, stands on the statement of acceptance only. Digests are 64 lower-case hexadecimal
    digits.
    """

    gateway: str
    message_id: MessageId
    number: int
    issued_at: datetime
    event: str
    etsi_event: str | None
    at: datetime
    sender: EnterpriseNumber
    profile: str
    reference: str
    delivery: EvidenceDelivery | None = None
    reason: str | None = None
    code: str | None = None
    documents: tuple[ReceiptDocument, ...]
    message_sha256: str
    leaf_sha256: str
    receipt_sha256: str | None = None

    def claims(self) -> dict[str, Any]:
        """Return what is signed."""
        claims: dict[str, Any] = {
            "iss": self.gateway,
            "sub": str(self.message_id),
            "n": self.number,
            "iat": int(self.issued_at.timestamp()),
            "event": self.event,
            "qualification": QUALIFICATION,
            "at": format_instant(self.at),
            "sender": self.sender,
            "profile": self.profile,
            "reference": self.reference,
            "documents": [document.claim() for document in self.documents],
            "messageSha256": self.message_sha256,
            "leafSha256": self.leaf_sha256,
        }
        optional = {
            "etsiEvent": self.etsi_event,
            "delivery": None if self.delivery is None else _delivery_claim(self.delivery),
            "reason": self.reason,
            "code": self.code,
            "receiptSha256": self.receipt_sha256,
        }
        return claims | {name: value for name, value in optional.items() if value is not None}


def verify_evidence_jws(token: str, certificate: x509.Certificate) -> Evidence:
    """
    Return what a statement states, once `certificate`, trusted beforehand, is found to have signed it.

    Raises:
        Refusal: SIGNATURE_INVALID, or INVALID_MESSAGE when what is signed is no such statement.
    """
    claims = verify_jws(token, EVIDENCE_TYP, certificate)
    if not claims.keys() >= _REQUIRED:
        raise _no_evidence("a fact is missing")
    try:
        evidence = _evidence(claims)
    except (WrongValue, InvalidIdentifier) as exc:
        raise _no_evidence(str(exc)) from exc
    if not certificate.not_valid_before_utc <= evidence.issued_at <= certificate.not_valid_after_utc:
        raise Refusal(Kind.SIGNATURE_INVALID, "issued outside the validity of the certificate")
    return evidence


def _evidence(claims: Mapping[str, object]) -> Evidence:
    if claims["qualification"] != QUALIFICATION:
        raise WrongValue(f"qualification: only {QUALIFICATION}")
    return Evidence(
        gateway=gateway_name(claims["iss"]),
        message_id=message_id_of(claims["sub"]),
        number=_number(claims["n"]),
        issued_at=moment_of(claims["iat"]),
        event=string(claims["event"]),
        etsi_event=_text_or_none(claims.get("etsiEvent")),
        at=instant(claims["at"]),
        sender=parsed(parse_enterprise_number)(claims["sender"]),
        profile=parsed(parse_slug)(claims["profile"]),
        reference=parsed(parse_reference)(claims["reference"]),
        delivery=None if claims.get("delivery") is None else _delivery(claims["delivery"]),
        reason=_text_or_none(claims.get("reason")),
        code=_text_or_none(claims.get("code")),
        documents=tuple(document_of(document) for document in array(claims["documents"])),
        message_sha256=sha256_hex(claims["messageSha256"]),
        leaf_sha256=sha256_hex(claims["leafSha256"]),
        receipt_sha256=None if claims.get("receiptSha256") is None else sha256_hex(claims["receiptSha256"]),
    )


def _delivery_claim(delivery: EvidenceDelivery) -> dict[str, Any]:
    members = {"number": delivery.number, "channel": delivery.channel, "provider": delivery.provider}
    stated = {name: value for name, value in members.items() if value is not None}
    return {"deliveryId": str(delivery.delivery_id), **stated}


def _delivery(value: object) -> EvidenceDelivery:
    if not isinstance(value, Mapping) or "deliveryId" not in value:
        raise WrongValue("a delivery states its deliveryId")
    try:
        delivery_id = DeliveryId(UUID(string(value["deliveryId"])))
    except ValueError:
        raise WrongValue("a deliveryId is a UUID") from None
    return EvidenceDelivery(
        delivery_id=delivery_id,
        number=None if value.get("number") is None else _number(value["number"]),
        channel=_text_or_none(value.get("channel")),
        provider=_text_or_none(value.get("provider")),
    )


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise WrongValue("a number counts from 1")
    return value


def _text_or_none(value: object) -> str | None:
    return None if value is None else string(value)


def _no_evidence(detail: str) -> Refusal:
    return Refusal(Kind.INVALID_MESSAGE, f"no evidence: {detail}")
