"""
Compact JSON Web Signatures (RFC 7515) that the gateway makes and others verify against a certificate they trust.

One profile: `alg` ES256, `x5c` with the signing certificate alone, a `typ` that says what kind of statement it is, and
nothing else in the header. The certificate in the header only has to equal the trusted one; it is never trusted itself.
"""

import json
import re
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from gateway.crypto.canonical import canonical_json
from gateway.crypto.ecdsa import sign_ecdsa
from gateway.errors import Kind, Refusal

__all__ = ["JwsSigner", "compact_jws", "strict_json", "verify_jws", "x5c_of"]

_ALGORITHM: Final = "ES256"
_TOKEN_LIMIT: Final = 64 * 1024
_DEPTH_LIMIT: Final = 32
_DIGITS_LIMIT: Final = 32
_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\Z")


class JwsSigner:
    """Signs statements with one P-256 key and its certificate."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        if key.curve.name != ec.SECP256R1.name:
            raise ValueError(f"{_ALGORITHM} needs a key on P-256, not on {key.curve.name}")
        if key.public_key() != certificate.public_key():
            raise ValueError("the key is not the key of the certificate")
        self._key = key
        self._x5c = x5c_of(certificate)

    def sign(self, payload: Mapping[str, Any], typ: str) -> str:
        """Return a compact JWS of the canonical JSON (RFC 8785) of `payload`. Takes some 50 µs."""
        header = {"typ": typ, "alg": _ALGORITHM, "x5c": self._x5c}
        return compact_jws(header, payload, lambda signed: sign_ecdsa(self._key, signed)).decode("ascii")


def compact_jws(header: Mapping[str, Any], payload: Mapping[str, Any], sign: Callable[[bytes], bytes]) -> bytes:
    """Return a compact JWS of the canonical JSON of `payload`; `sign` makes signatures of the `alg` in `header`."""
    protected = json.dumps(header, separators=(",", ":")).encode("ascii")
    signed = b".".join((_base64url(protected), _base64url(canonical_json(payload))))
    return b".".join((signed, _base64url(sign(signed))))


def verify_jws(token: str, typ: str, certificate: x509.Certificate) -> dict[str, Any]:
    """
    Return the payload of a compact JWS that `certificate`, trusted beforehand, signed as a statement of kind `typ`.

    Raises:
        Refusal: SIGNATURE_INVALID, the detail naming the rule that failed.
    """
    compact = _COMPACT.match(token) if len(token) <= _TOKEN_LIMIT else None
    if compact is None:
        raise _invalid("not a compact JWS")
    try:
        header = strict_json(urlsafe_b64decode(compact[1] + "=" * (-len(compact[1]) % 4)))
    except ValueError:
        raise _invalid("the header is not JSON") from None
    if not isinstance(header, dict) or header.keys() != {"typ", "alg", "x5c"}:
        raise _invalid("the header holds typ, alg and x5c, and nothing else")
    if header["alg"] != _ALGORITHM:
        raise _invalid(f"alg: only {_ALGORITHM}")
    if header["typ"] != typ:
        raise _invalid(f"typ: only {typ}")
    if header["x5c"] != x5c_of(certificate):
        raise _invalid("x5c: signed with another certificate than the trusted one")
    public_key = certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    try:
        signed = jws.deserialize_compact(token, ECKey.import_key(public_key), registry=_registry())
    except (JoseError, ValueError) as exc:
        raise _invalid(f"signature value does not match ({type(exc).__name__})") from None
    try:
        payload = strict_json(signed.payload)
    except ValueError:
        raise _invalid("the payload is not JSON") from None
    if not isinstance(payload, dict):
        raise _invalid("the payload is not a JSON object")
    return payload


def strict_json(data: bytes) -> Any:
    """
    Read JSON without the freedoms that let two readers see two things: no duplicate names, no NaN, depth at most 32.

    Raises:
        ValueError: not such JSON; nothing of it is in the text.
    """
    try:
        value = _STRICT.decode(data.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise ValueError("not JSON in UTF-8") from None
    except RecursionError:
        raise ValueError(f"nested deeper than {_DEPTH_LIMIT}") from None
    if isinstance(value, dict | list):
        _check_depth(value, _DEPTH_LIMIT)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return members


def _no_constant(_name: str) -> Any:
    raise ValueError("NaN and Infinity are no JSON")


def _integer(digits: str) -> int:
    # No number of ours is longer, and the time to read one grows with the square of its length.
    if len(digits) > _DIGITS_LIMIT:
        raise ValueError(f"a number has more than {_DIGITS_LIMIT} digits")
    return int(digits)


_STRICT: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_integer)


def _check_depth(value: dict[str, Any] | list[Any], levels_left: int) -> None:
    if not levels_left:
        raise ValueError(f"nested deeper than {_DEPTH_LIMIT}")
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            _check_depth(inner, levels_left - 1)


def _registry() -> jws.JWSRegistry:
    registry = jws.JWSRegistry(algorithms=[_ALGORITHM])
    registry.max_header_length = _TOKEN_LIMIT  # the library's 512 bytes hold no certificate
    return registry


def _base64url(octets: bytes) -> bytes:
    return urlsafe_b64encode(octets).rstrip(b"=")


def x5c_of(certificate: x509.Certificate) -> list[str]:
    """Return the header member `x5c` with one certificate (RFC 7515, section 4.1.6)."""
    return [b64encode(certificate.public_bytes(Encoding.DER)).decode("ascii")]


def _invalid(rule: str) -> Refusal:
    return Refusal(Kind.SIGNATURE_INVALID, rule)
