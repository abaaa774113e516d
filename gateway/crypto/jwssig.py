"""
JSON Web Signatures of senders: the strict reading, the verification in numbered steps, and nothing else that takes any.

What is accepted (RFC 7515): the compact form; a header of `alg`, `x5c` and `cty` and nothing else; ES256, ES384, PS256
or RS256, with a key that fits; one certificate in `x5c`; base64url without padding in its one canonical spelling; JSON
in UTF-8 without a name twice. Trust comes from the caller's registration; the certificate in the header only selects
among what is registered. Business code sees only the payload that the verifier returns.

A signature (r, s) of ECDSA holds as (r, n - s) too, and neither RFC 7518 nor the usual libraries prefer one of them: so
the octets of a token are not unique for what was signed, and nothing may rest on that they are.

All functions are CPU-bound (less than a millisecond) and may run in several threads at once; the caller decides.
"""

import re
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from gateway.crypto.certs import parse_certificate
from gateway.crypto.jws import strict_json
from gateway.crypto.rejection import CertificateRejected
from gateway.crypto.xmlsig import MESSAGE_LIMIT_BYTES, SignerCheck
from gateway.domain.ids import EnterpriseNumber, InvalidIdentifier, parse_enterprise_number
from gateway.errors import FieldError, Kind, Refusal

__all__ = ["MESSAGE_CONTENT", "SignedJson", "algorithms_of", "payload_of_stored", "signer_of_token", "verify_compact"]

MESSAGE_CONTENT: Final = "message+json"
"""The `cty` of a message."""

_HEADER: Final = frozenset({"alg", "x5c", "cty"})
_RSA_ALGORITHMS: Final = ("PS256", "RS256")  # the first is what we sign with
_ALGORITHM_OF_CURVE: Final = {"secp256r1": "ES256", "secp384r1": "ES384"}
_ALGORITHMS: Final = (*_ALGORITHM_OF_CURVE.values(), *_RSA_ALGORITHMS)
_RSA_MIN_BITS: Final = 2048
_KEYS_KEPT: Final = 1024
_COMPACT: Final = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedJson:
    """What a verified signature covers: the members of the payload, and the certificate that verified it."""

    fields: dict[str, object]
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class _Received:
    """A token that has the right shape; nothing in it is to be believed yet."""

    token: bytes
    algorithm: str
    payload: bytes
    certificate: x509.Certificate


def verify_compact(
    body: bytes, *, content: str, signer: SignerCheck, limit_bytes: int = MESSAGE_LIMIT_BYTES
) -> SignedJson:
    """
    Verify a sender's token of this `cty`, whose payload says in `sender.enterpriseNumber` who signed it.

    `signer` answers for the certificate, its validity included; the audience, the age and the uniqueness of what was
    signed, and every other rule of its fields, are the caller's.

    Raises:
        Refusal: MALFORMED_MESSAGE, INVALID_MESSAGE about the sender's number, SIGNATURE_INVALID with the rule that
            failed, or what `signer` raised.
    """
    received = _inspect(body, content, limit_bytes)  # steps 1 to 4
    # (5) Claim: the sender whose registration decides whether this certificate may verify at all.
    fields = _object(received.payload, "payload")
    claimed = _sender(fields)
    # (6) Key: registered for signing by that sender; chain, validity, usage, key policy and revocation with it.
    signer(claimed, received.certificate)
    # (7) The signature itself, over exactly the octets received, with the certificate that was let in and no other.
    payload = _verified_payload(received)
    # (8) What was signed: only the returned octets count, and they are those whose sender was asked about.
    if payload != received.payload:
        raise _invalid("the signed payload is not the payload that was checked")
    return SignedJson(fields=fields, certificate=received.certificate)


def payload_of_stored(body: bytes) -> dict[str, object]:
    """
    Return the members of a token's payload that was verified before it was stored.

    Verifies nothing: only for what the gateway itself kept, never for what comes from outside.

    Raises:
        Refusal: MALFORMED_MESSAGE.
    """
    return _object(_segments(body)[1], "payload")


def signer_of_token(body: bytes) -> x509.Certificate:
    """
    Return the certificate in the header of a token that was verified before it was stored.

    Raises:
        Refusal: MALFORMED_MESSAGE, SIGNATURE_INVALID.
    """
    return _certificate(_object(_segments(body)[0], "header").get("x5c"))


def algorithms_of(key: object) -> tuple[str, ...]:
    """Return the values of `alg` that fit a private or public key, the preferred one first; empty: none does."""
    match key:
        case rsa.RSAPublicKey() | rsa.RSAPrivateKey() if key.key_size >= _RSA_MIN_BITS:
            return _RSA_ALGORITHMS
        case ec.EllipticCurvePublicKey() | ec.EllipticCurvePrivateKey() if key.curve.name in _ALGORITHM_OF_CURVE:
            return (_ALGORITHM_OF_CURVE[key.curve.name],)
        case _:
            return ()


def _inspect(body: bytes, content: str, limit_bytes: int) -> _Received:
    # (1) Bytes: size, the compact form, canonical base64url, before any parser sees them.
    if len(body) > limit_bytes:
        raise _malformed(f"larger than {limit_bytes} bytes")
    header_octets, payload, _ = _segments(body)

    # (2) Header: JSON that all readers read alike, and a closed set of names; so no `crit`, `jku`, `jwk`, `kid`, `b64`.
    header = _object(header_octets, "header")
    if header.keys() != _HEADER:
        raise _invalid("header: exactly alg, x5c and cty, nothing else")
    algorithm = header["alg"]
    if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS:
        raise _invalid(f"alg: one of {', '.join(_ALGORITHMS)}")
    if header["cty"] != content:
        raise _invalid(f"cty: exactly {content}")

    # (3) Certificate: one, the leaf.
    certificate = _certificate(header["x5c"])

    # (4) Key type and curve are those of the algorithm, before anything is computed with them.
    if algorithm not in algorithms_of(certificate.public_key()):
        raise _invalid("alg does not fit the key of the certificate")
    return _Received(token=body, algorithm=algorithm, payload=payload, certificate=certificate)


def _segments(body: bytes) -> tuple[bytes, bytes, bytes]:
    compact = _COMPACT.match(body)
    if compact is None:
        raise _malformed("not a compact JWS: three parts of base64url without padding, with dots, without white space")
    header, payload, signature = (_octets(segment) for segment in compact.groups())
    return header, payload, signature


def _octets(segment: bytes) -> bytes:
    try:
        octets = urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    except ValueError:
        octets = b""
    if urlsafe_b64encode(octets).rstrip(b"=") != segment:  # else bits that say nothing could be changed
        raise _malformed("a part is not in canonical base64url (RFC 4648, sections 3.5 and 5)")
    return octets


def _object(octets: bytes, which: str) -> dict[str, object]:
    try:
        value: object = strict_json(octets)
    except ValueError as exc:
        raise _malformed(f"the {which} is not acceptable JSON: {exc}") from None
    if not isinstance(value, dict):
        raise _malformed(f"the {which} is not a JSON object")
    return value


def _certificate(chain: object) -> x509.Certificate:
    if not isinstance(chain, list) or len(chain) != 1 or not isinstance(chain[0], str):
        raise _invalid("x5c: exactly one certificate, the one that signs, without those that issued it")
    try:
        der = b64decode(chain[0], validate=True)
        if b64encode(der).decode() != chain[0]:
            raise ValueError("not canonical")  # noqa: TRY301 - one refusal for all that keeps it from being read
        return parse_certificate(der)
    except (ValueError, CertificateRejected) as exc:
        raise _invalid("x5c: the certificate cannot be read; base64 (not base64url) of its DER, in one line") from exc


def _verified_payload(received: _Received) -> bytes:
    registry = jws.JWSRegistry(algorithms=[received.algorithm])
    # The library's own limits are narrower than ours, which have been held.
    registry.max_header_length = registry.max_payload_length = registry.max_signature_length = len(received.token)
    try:
        signed = jws.deserialize_compact(received.token, _key_of(received.certificate), registry=registry)
    except (JoseError, UnsupportedAlgorithm, ValueError) as exc:
        raise _invalid(f"signature value does not match ({type(exc).__name__})") from None
    payload: bytes | None = signed.payload
    if payload is None:
        raise _invalid("signature value does not match (no payload)")
    return payload


@lru_cache(maxsize=_KEYS_KEPT)
def _key_of(certificate: x509.Certificate) -> RSAKey | ECKey:
    """Return the key of a certificate as the library has it; to make one takes longer than to verify with it."""
    public_key = certificate.public_key()
    kind = RSAKey if isinstance(public_key, rsa.RSAPublicKey) else ECKey
    return kind.import_key(public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def _sender(fields: Mapping[str, Any]) -> EnterpriseNumber:
    sender = fields.get("sender")
    number = sender.get("enterpriseNumber") if isinstance(sender, dict) else None
    try:
        return parse_enterprise_number(number if isinstance(number, str) else "")
    except InvalidIdentifier as exc:
        raise Refusal(
            Kind.INVALID_MESSAGE,
            "the message does not say who sends it; see errors",
            errors=[FieldError(pointer="/sender/enterpriseNumber", detail=str(exc))],
        ) from exc


def _malformed(detail: str) -> Refusal:
    return Refusal(Kind.MALFORMED_MESSAGE, detail)


def _invalid(rule: str) -> Refusal:
    return Refusal(Kind.SIGNATURE_INVALID, rule)
