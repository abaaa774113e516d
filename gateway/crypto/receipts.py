"""
Receipts: the gateway's signed statement that it accepted a message, as a compact JWS and as XML with the same facts.

A receipt is made once, at the commit, stored, and never made again. Whoever holds one verifies it, at any later time,
against the receipt certificate that the gateway publishes: it must have been valid when the receipt was issued.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from lxml import etree

from gateway.crypto.jws import JwsSigner, verify_jws
from gateway.crypto.schema import local_name, new_root, read_schema
from gateway.crypto.signing import XmlSigner
from gateway.crypto.values import WrongValue, array, format_instant, gateway_name, instant, parsed, sha256_hex, size
from gateway.crypto.xmlsig import verify_pinned
from gateway.domain.ids import (
    EnterpriseNumber,
    InvalidIdentifier,
    MessageId,
    parse_enterprise_number,
    parse_reference,
    parse_slug,
)
from gateway.errors import Kind, Refusal

__all__ = [
    "RECEIPT_NAMESPACE",
    "RECEIPT_ROOT",
    "RECEIPT_TYP",
    "Receipt",
    "ReceiptDocument",
    "ReceiptSigner",
    "document_of",
    "message_id_of",
    "moment_of",
    "verify_receipt_jws",
    "verify_receipt_xml",
]

RECEIPT_NAMESPACE: Final = "urn:document-gateway:receipt:1"
RECEIPT_ROOT: Final = f"{{{RECEIPT_NAMESPACE}}}Receipt"
RECEIPT_TYP: Final = "dgw-receipt+jws"

# The names of the facts, in their order, as claims of the JWS (the first three of RFC 7519) and as elements of the XML.
_ELEMENTS: Final = {
    "iss": "Gateway",
    "sub": "MessageId",
    "iat": "IssuedAt",
    "sender": "Sender",
    "profile": "Profile",
    "reference": "Reference",
    "status": "Status",
    "acceptedAt": "AcceptedAt",
    "documents": "Documents",
    "messageSha256": "MessageSha256",
    "leafSha256": "LeafSha256",
}
_CLAIMS: Final = {element: claim for claim, element in _ELEMENTS.items()}
_OPTIONAL: Final = frozenset({"leafSha256"})
_UUID_VERSION: Final = 7
_END_OF_TIME_S: Final = 253_402_300_799  # 9999-12-31T23:59:59Z


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptDocument:
    """One document as it was stored; `sha256` is 64 lower-case hexadecimal digits."""

    part: str
    sha256: str
    size_bytes: int

    def claim(self) -> dict[str, Any]:
        """Return the document as statements list it."""
        return {"part": self.part, "sha256": self.sha256, "size": self.size_bytes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """
    The facts of an acceptance.

    `issued_at` is stated to the second. `message_sha256` is taken over the octets of the message part as they arrived,
    `leaf_sha256` is the acceptance's leaf in the traffic log, where the receipt names it.
    """

    gateway: str
    message_id: MessageId
    issued_at: datetime
    sender: EnterpriseNumber
    profile: str
    reference: str
    status: str
    accepted_at: datetime
    documents: tuple[ReceiptDocument, ...]
    message_sha256: str
    leaf_sha256: str | None = None


class ReceiptSigner:
    """Signs receipts, and other statements of the gateway, with its receipt key (P-256) and certificate."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._jws_signer = JwsSigner(certificate, key)
        self._xml_signer = XmlSigner(certificate, key)

    def jws(self, receipt: Receipt) -> str:
        """Return the receipt as a compact JWS, `typ` dgw-receipt+jws."""
        return self.sign_jws(_claims(receipt), RECEIPT_TYP)

    def sign_jws(self, payload: Mapping[str, Any], typ: str) -> str:
        """Return any other statement as a compact JWS; `typ` keeps the kinds of statements apart."""
        return self._jws_signer.sign(payload, typ)

    def xml(self, receipt: Receipt) -> bytes:
        """Return the receipt as XML with an enveloped signature."""
        root = new_root(RECEIPT_ROOT)
        for claim, value in _claims(receipt).items():
            element = etree.SubElement(root, f"{{{RECEIPT_NAMESPACE}}}{_ELEMENTS[claim]}")
            match claim:
                case "iat":
                    element.text = format_instant(datetime.fromtimestamp(value, UTC))
                case "documents":
                    for document in value:
                        attributes = {name: str(fact) for name, fact in document.items()}
                        etree.SubElement(element, f"{{{RECEIPT_NAMESPACE}}}Document", attributes)
                case _:
                    element.text = value
        return self._xml_signer.sign(root)


def verify_receipt_jws(token: str, certificate: x509.Certificate) -> Receipt:
    """
    Return what a JWS receipt states, once `certificate`, trusted beforehand, is found to have signed it.

    Raises:
        Refusal: SIGNATURE_INVALID, or INVALID_MESSAGE when what is signed is no receipt.
    """
    return _receipt(verify_jws(token, RECEIPT_TYP, certificate), certificate)


def verify_receipt_xml(body: bytes, certificate: x509.Certificate) -> Receipt:
    """
    Return what an XML receipt states, once `certificate`, trusted beforehand, is found to have signed it.

    Raises:
        Refusal: MALFORMED_MESSAGE, INVALID_MESSAGE or SIGNATURE_INVALID.
    """
    signed = verify_pinned(body, schema=read_schema("receipt.xsd"), root_name=RECEIPT_ROOT, certificate=certificate)
    claims: dict[str, object] = {}
    for element in signed.root:
        match _CLAIMS[local_name(element)]:
            case "iat":
                claims["iat"] = _seconds(element.text or "")
            case "documents":
                claims["documents"] = [
                    {name: int(fact) if name == "size" else fact for name, fact in document.items()}
                    for document in element
                ]
            case claim:
                claims[claim] = element.text or ""
    return _receipt(claims, certificate)


def _claims(receipt: Receipt) -> dict[str, Any]:
    claims: dict[str, Any] = {
        "iss": receipt.gateway,
        "sub": str(receipt.message_id),
        "iat": int(receipt.issued_at.timestamp()),
        "sender": receipt.sender,
        "profile": receipt.profile,
        "reference": receipt.reference,
        "status": receipt.status,
        "acceptedAt": format_instant(receipt.accepted_at),
        "documents": [document.claim() for document in receipt.documents],
        "messageSha256": receipt.message_sha256,
    }
    if receipt.leaf_sha256 is not None:
        claims["leafSha256"] = receipt.leaf_sha256
    return claims


def _receipt(claims: Mapping[str, object], certificate: x509.Certificate) -> Receipt:
    if not _ELEMENTS.keys() - _OPTIONAL <= claims.keys() <= _ELEMENTS.keys():
        raise _no_receipt("a fact is missing, or one too many")
    try:
        receipt = Receipt(
            gateway=gateway_name(claims["iss"]),
            message_id=message_id_of(claims["sub"]),
            issued_at=moment_of(claims["iat"]),
            sender=parsed(parse_enterprise_number)(claims["sender"]),
            profile=parsed(parse_slug)(claims["profile"]),
            reference=parsed(parse_reference)(claims["reference"]),
            status=parsed(parse_slug)(claims["status"]),
            accepted_at=instant(claims["acceptedAt"]),
            documents=tuple(document_of(document) for document in array(claims["documents"])),
            message_sha256=sha256_hex(claims["messageSha256"]),
            leaf_sha256=sha256_hex(claims["leafSha256"]) if "leafSha256" in claims else None,
        )
    except (WrongValue, InvalidIdentifier) as exc:
        raise _no_receipt(str(exc)) from exc
    if not certificate.not_valid_before_utc <= receipt.issued_at <= certificate.not_valid_after_utc:
        raise Refusal(Kind.SIGNATURE_INVALID, "issued outside the validity of the certificate")
    return receipt


def document_of(value: object) -> ReceiptDocument:
    """Return a document as a statement lists it, or raise `WrongValue` or `InvalidIdentifier`."""
    if not isinstance(value, Mapping) or value.keys() != {"part", "sha256", "size"}:
        raise WrongValue("a document states part, sha256 and size")
    return ReceiptDocument(
        part=parsed(parse_slug)(value["part"]), sha256=sha256_hex(value["sha256"]), size_bytes=size(value["size"])
    )


def message_id_of(value: object) -> MessageId:
    """Return a message id as a statement names it, or raise `WrongValue`."""
    try:
        found = UUID(parsed(str)(value))
    except ValueError:
        raise WrongValue("a message id is a UUIDv7") from None
    if found.version != _UUID_VERSION or str(found) != value:
        raise WrongValue("a message id is a UUIDv7 in lower case")
    return MessageId(found)


def moment_of(seconds: object) -> datetime:
    """Return the moment of `iat`, in whole seconds, or raise `WrongValue`."""
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 <= seconds <= _END_OF_TIME_S:
        raise WrongValue("iat is a number of seconds")
    return datetime.fromtimestamp(seconds, UTC)


def _seconds(text: str) -> object:
    """Return an instant as the claim `iat` has it; text that is none stays text, to be refused with the other facts."""
    try:
        return int(instant(text).timestamp())
    except WrongValue:
        return text


def _no_receipt(detail: str) -> Refusal:
    return Refusal(Kind.INVALID_MESSAGE, f"no receipt: {detail}")
