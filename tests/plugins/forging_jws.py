"""
Compact JSON Web Signatures by code of our own, right or wrong in any detail.

As in `forging`: each signature is computed over exactly the octets that it claims to cover, with the algorithm that it
names, where that can be done, so that what a test sees refused is the detail that is wrong.
"""

import hashlib
import hmac
import json
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

if TYPE_CHECKING:
    from tests.plugins.forging import Signer, concatenated
else:
    from forging import Signer, concatenated

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512", "secp256k1": "ES256K"}


def segment(octets: bytes) -> bytes:
    """Octets in base64url without padding."""
    return urlsafe_b64encode(octets).rstrip(b"=")


def octets_of(part: bytes) -> bytes:
    """The octets of a segment."""
    return urlsafe_b64decode(part + b"=" * (-len(part) % 4))


def algorithm_of(key: Any) -> str:
    match key:
        case ec.EllipticCurvePrivateKey():
            return _CURVES.get(key.curve.name, "ES256")
        case ed25519.Ed25519PrivateKey():
            return "EdDSA"
        case _:
            return "PS256"


def x5c(*certificates: x509.Certificate) -> list[str]:
    return [b64encode(each.public_bytes(Encoding.DER)).decode() for each in certificates]


def header_of(signer: Signer, **changes: Any) -> dict[str, Any]:
    """The header as the gateway wants it, with changes; None takes a member out."""
    usual = {"alg": algorithm_of(signer.key), "cty": "message+json", "x5c": x5c(signer.certificate)}
    return {name: value for name, value in (usual | changes).items() if value is not None}


def raw_jws(data: bytes, key: Any, algorithm: str) -> bytes:
    """The octets of a signature by an algorithm of RFC 7518, as far as the key can make one; else by another."""
    digest = _HASHES.get(algorithm[-3:], hashes.SHA256())
    match key:
        case bytes():
            return hmac.new(key, data, f"sha{algorithm[-3:]}").digest()
        case rsa.RSAPrivateKey() if algorithm.startswith("PS"):
            return key.sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        case rsa.RSAPrivateKey():
            return key.sign(data, padding.PKCS1v15(), digest)
        case ec.EllipticCurvePrivateKey():
            return concatenated(key.sign(data, ec.ECDSA(digest)), (key.curve.key_size + 7) // 8)
        case ed25519.Ed25519PrivateKey():
            return key.sign(data)
        case _:
            raise TypeError(f"no signatures with {type(key).__name__}")


def forge_token(
    payload: bytes | Mapping[str, Any],
    signer: Signer,
    header: bytes | Mapping[str, Any] | None = None,
    *,
    raw: Callable[[bytes], bytes] | None = None,
) -> bytes:
    """Sign `payload` under `header`, by default the usual one; `raw` makes the octets of the signature."""
    header = header_of(signer) if header is None else header
    named = str(header.get("alg")) if isinstance(header, Mapping) else algorithm_of(signer.key)
    first = header if isinstance(header, bytes) else json.dumps(header).encode()
    second = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
    data = segment(first) + b"." + segment(second)
    return data + b"." + segment(raw(data) if raw else raw_jws(data, signer.key, named))


def hmac_with(secret: bytes) -> Callable[[bytes], bytes]:
    """A maker of HS256 tags."""
    return lambda data: hmac.new(secret, data, hashlib.sha256).digest()


def public_forms(key: Any) -> dict[str, bytes]:
    """What a confused verifier would take for the secret of an HMAC."""
    public = key.public_key()
    info = PublicFormat.SubjectPublicKeyInfo
    return {"PEM": public.public_bytes(Encoding.PEM, info), "DER": public.public_bytes(Encoding.DER, info)}
