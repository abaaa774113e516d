"""What a sender can show to others: signed statements, the verification kit, the certificates that signed them."""

import asyncio
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

import rfc8785
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.crypto.certs import spki_sha256
from gateway.crypto.evidence import QUALIFICATION, Evidence
from gateway.errors import Kind, Refusal
from gateway.intake.caller import Caller
from gateway.intake.handlers import IntakeDeps, own_message
from gateway.intake.views import when
from gateway.records.kit import build_kit

_NUMBER_DIGITS: Final = 9
_COORDINATE_BYTES: Final = 32  # of P-256, RFC 7518 section 6.2.1.2


async def evidence_list(request: web.Request, caller: Caller, deps: IntakeDeps) -> web.Response:
    """`GET /api/v1/messages/{messageId}/evidence`: what is stated about a message, each with its number."""
    record = await own_message(request, caller, deps)
    facts = await deps.evidence.listed(record)
    return web.json_response(
        {
            "messageId": str(record.message_id),
            "qualification": QUALIFICATION,
            "evidence": [_view(each, request.path) for each in facts],
        }
    )


async def evidence(request: web.Request, caller: Caller, deps: IntakeDeps) -> web.Response:
    """`GET /api/v1/messages/{messageId}/evidence/{n}`: one statement as a compact JWS, always the same octets."""
    record = await own_message(request, caller, deps)
    text = request.match_info["n"]
    readable = text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS
    token = await deps.evidence.given(record, int(text)) if readable else None
    if token is None:
        raise Refusal(Kind.NOT_FOUND, "there is no evidence of this number about this message, or not yet")
    return web.Response(body=token.encode(), content_type="application/jose")


async def kit(request: web.Request, caller: Caller, deps: IntakeDeps) -> web.Response:
    """`GET /api/v1/messages/{messageId}/kit`: all that was signed about a message, and how to verify it, as a ZIP."""
    record = await own_message(request, caller, deps)
    statements = await deps.evidence.all_given(record)
    batch = await deps.ledger.proving_batch(record.message_id)
    content = await asyncio.to_thread(
        build_kit,
        record,
        statements,
        deps.signers(),
        gateway=deps.accept.settings.gateway_name,
        batch=batch.part if batch is not None else None,
    )
    disposition = f'attachment; filename="kit-{record.message_id}.zip"'
    return web.Response(body=content, content_type="application/zip", headers={"Content-Disposition": disposition})


async def trust(_request: web.Request, deps: IntakeDeps) -> web.Response:
    """`GET /api/v1/trust`: the certificates that sign receipts and evidence, the present one first, and a JWKS."""
    certificates = deps.signers()
    return web.json_response(
        {
            "gateway": deps.accept.settings.gateway_name,
            "certificates": [_certificate(each, present=number == 0) for number, each in enumerate(certificates)],
            "jwks": {"keys": _keys(certificates)},
        }
    )


def _view(facts: Evidence, path: str) -> dict[str, Any]:
    delivery = facts.delivery
    optional = {
        "etsiEvent": facts.etsi_event,
        "deliveryId": str(delivery.delivery_id) if delivery is not None else None,
        "deliveryNumber": delivery.number if delivery is not None else None,
        "channel": delivery.channel if delivery is not None else None,
        "reason": facts.reason,
        "code": facts.code,
    }
    stated = {name: value for name, value in optional.items() if value is not None}
    return {
        "n": facts.number,
        "event": facts.event,
        "at": when(facts.at),
        **stated,
        "leafSha256": facts.leaf_sha256,
        "href": f"{path}/{facts.number}",
    }


def _certificate(certificate: x509.Certificate, *, present: bool) -> dict[str, Any]:
    return {
        "uses": ["receipts", "evidence"],
        "present": present,
        "spkiSha256": spki_sha256(certificate),
        "notBefore": when(certificate.not_valid_before_utc),
        "notAfter": when(certificate.not_valid_after_utc),
        "pem": certificate.public_bytes(Encoding.PEM).decode("ascii"),
        "x5c": _x5c(certificate),
    }


def _keys(certificates: Sequence[x509.Certificate]) -> list[dict[str, Any]]:
    """Return the keys as JWK (RFC 7517), each named by its thumbprint (RFC 7638)."""
    keys = []
    for certificate in certificates:
        public = certificate.public_key()
        if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name == ec.SECP256R1.name:
            numbers = public.public_numbers()
            shape = {"crv": "P-256", "kty": "EC", "x": _coordinate(numbers.x), "y": _coordinate(numbers.y)}
            kid = _base64url(sha256(rfc8785.dumps(dict(shape))).digest())
            keys.append({**shape, "use": "sig", "alg": "ES256", "kid": kid, "x5c": _x5c(certificate)})
    return keys


def _coordinate(number: int) -> str:
    return _base64url(number.to_bytes(_COORDINATE_BYTES, "big"))


def _base64url(value: bytes) -> str:
    return urlsafe_b64encode(value).decode("ascii").rstrip("=")


def _x5c(certificate: x509.Certificate) -> list[str]:
    return [b64encode(certificate.public_bytes(Encoding.DER)).decode("ascii")]
