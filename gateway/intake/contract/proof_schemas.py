"""The shapes of what the gateway signs, lists as evidence, and publishes as its certificates."""

from collections.abc import Mapping
from typing import Final

from gateway.crypto.evidence import ETSI_EVENTS, EVIDENCE_TYP, QUALIFICATION
from gateway.crypto.receipts import RECEIPT_TYP
from gateway.intake.contract.letter_schemas import COMPACT_JWS, MAX_DOCUMENTS
from gateway.intake.contract.shapes import Schema, array, constant, described, members, number, ref, text, truth

_MOMENT: Final = text(
    "A moment in UTC; six digits of fraction when it has one.",
    format="date-time",
    pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{6})?Z$",
)
_SECONDS: Final = number("When it was signed: seconds since 1970-01-01T00:00:00Z (RFC 7519).")
_ETSI: Final = text(
    "The event of ETSI EN 319 522-3 that this corresponds to. Absent: there is none.",
    format="uri",
    pattern=f"^{ETSI_EVENTS}[A-Za-z]+$",
)
_LEAF: Final = described(ref("Sha256"), "The entry's leaf in the gateway's tamper-evident log.")
_SIGNED_DOCUMENTS: Final = array(ref("Document"), "As they were stored.", minItems=1, maxItems=MAX_DOCUMENTS)
_ABOUT: Final[Mapping[str, Schema]] = {
    "iss": text("The gateway, by its name."),
    "sub": ref("MessageId"),
    "iat": _SECONDS,
    "sender": ref("EnterpriseNumber"),
    "profile": described(ref("Slug"), "The sender's profile."),
    "reference": ref("Reference"),
}
_MESSAGE_SHA256: Final = described(ref("Sha256"), "Of the octets of the part `message`, as they arrived.")


def _token(typ: str, payload: str, description: str) -> Schema:
    return text(
        f"{description} A compact JWS (RFC 7515): `typ` {typ}, `alg` ES256, `x5c` with the signing certificate, which "
        "has to be one of those in `GET /api/v1/trust`.",
        pattern=COMPACT_JWS,
        contentMediaType="application/jose",
        contentSchema=ref(payload),
    )


_STATEMENTS: Final[Mapping[str, Schema]] = {
    "ReceiptToken": _token(
        RECEIPT_TYP, "ReceiptStatement", "The receipt: made once, at acceptance, and always the same octets."
    ),
    "ReceiptStatement": members(
        "What a receipt states: the gateway accepted this message and its documents.",
        {
            **_ABOUT,
            "status": ref("MessageStatus"),
            "acceptedAt": _MOMENT,
            "documents": _SIGNED_DOCUMENTS,
            "messageSha256": _MESSAGE_SHA256,
        },
        {"leafSha256": _LEAF},
    ),
    "ReceiptXml": text(
        "The same facts as in ReceiptStatement, as XML with an enveloped signature: receipt.xsd.",
        contentMediaType="application/xml",
    ),
    "EvidenceToken": _token(
        EVIDENCE_TYP, "EvidenceStatement", "One statement: signed when it is first asked for, and kept."
    ),
    "EvidenceStatement": members(
        "What one piece of evidence states about a message. Members may be added; let pass what you do not know.",
        {
            **_ABOUT,
            "n": number("Its number, as in the list.", minimum=1),
            "event": ref("Event"),
            "qualification": constant(QUALIFICATION, "Of a service that is not qualified (Regulation (EU) 910/2014)."),
            "at": _MOMENT,
            "documents": _SIGNED_DOCUMENTS,
            "messageSha256": _MESSAGE_SHA256,
            "leafSha256": _LEAF,
        },
        {
            "etsiEvent": _ETSI,
            "delivery": members(
                "The delivery it is about.",
                {"deliveryId": ref("DeliveryId")},
                {
                    "number": number("Its place among the deliveries.", minimum=1),
                    "channel": ref("Channel"),
                    "provider": text("The provider that carries it."),
                },
            ),
            "reason": ref("Reason"),
            "code": text("The provider's own code."),
            "receiptSha256": described(ref("Sha256"), "Of the octets of the receipt; on the first statement only."),
        },
    ),
    "EvidenceList": members(
        "What is stated about a message by now.",
        {
            "messageId": ref("MessageId"),
            "qualification": constant(QUALIFICATION, "Of a service that is not qualified (Regulation (EU) 910/2014)."),
            "evidence": array(ref("EvidenceEntry"), "In order; the list only ever grows.", minItems=1),
        },
    ),
    "EvidenceEntry": members(
        "One statement that can be had.",
        {
            "n": number("Its number.", minimum=1),
            "event": ref("Event"),
            "at": described(ref("Instant"), "When it happened."),
            "leafSha256": _LEAF,
            "href": text("Where to get it, on this host.", format="uri-reference"),
        },
        {
            "etsiEvent": _ETSI,
            "deliveryId": ref("DeliveryId"),
            "deliveryNumber": number("The delivery's place among those of the message.", minimum=1),
            "channel": ref("Channel"),
            "reason": ref("Reason"),
            "code": text("The provider's own code."),
        },
    ),
}

_BASE64: Final = "^[A-Za-z0-9+/]+={0,2}$"
_X5C: Final = array(
    text("DER in Base64.", pattern=_BASE64), "The certificate alone (RFC 7515, section 4.1.6).", minItems=1, maxItems=1
)

_CERTIFICATES: Final[Mapping[str, Schema]] = {
    "Trust": members(
        "The certificates with which to verify receipts and evidence.",
        {
            "gateway": text("This gateway's name: `Gateway` of a message, `iss` of a statement."),
            "certificates": array(ref("TrustedCertificate"), "The present one first.", minItems=1),
            "jwks": members(
                "The same keys as a JWK Set (RFC 7517).", {"keys": array(ref("Jwk"), "One per certificate.")}
            ),
        },
    ),
    "TrustedCertificate": members(
        "A certificate that signs, or signed.",
        {
            "uses": array(text("What it signs."), "Such as receipts and evidence."),
            "present": truth("It signs now."),
            "spkiSha256": described(ref("Sha256"), "Of its public key."),
            "notBefore": described(ref("Instant"), "Nothing it signed is older."),
            "notAfter": described(ref("Instant"), "What it signed before then stays valid."),
            "pem": text("The certificate, PEM."),
            "x5c": _X5C,
        },
    ),
    "Jwk": members(
        "A public key (RFC 7517), named by its thumbprint (RFC 7638).",
        {
            "kty": constant("EC", "Elliptic curve."),
            "crv": constant("P-256", "Its curve."),
            "x": text("Coordinate, Base64url."),
            "y": text("Coordinate, Base64url."),
            "use": constant("sig", "It verifies signatures."),
            "alg": constant("ES256", "Of these."),
            "kid": text("Its thumbprint, Base64url."),
            "x5c": _X5C,
        },
    ),
}

PROOF_SCHEMAS: Final[Mapping[str, Schema]] = {**_STATEMENTS, **_CERTIFICATES}
