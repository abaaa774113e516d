"""
The algorithms of an XML signature by their names (RFC 9231), and whether a SignatureValue is right by one of them.

What is not named here is not verified: RSA PKCS#1 v1.5, RSA-PSS with the parameters that its name fixes (MGF1 with the
same digest, and a salt as long as that), and ECDSA, each with SHA-256, SHA-384 or SHA-512.
"""

import hashlib
from collections.abc import Callable, Collection
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

__all__ = ["DIGESTS", "METHODS", "digest_of", "methods_of", "verify_value"]

_MORE: Final = "http://www.w3.org/2001/04/xmldsig-more#"
_MORE_2007: Final = "http://www.w3.org/2007/05/xmldsig-more#"
_HASHES: Final = (hashes.SHA256(), hashes.SHA384(), hashes.SHA512())

_RSA: Final[dict[str, tuple[padding.AsymmetricPadding, hashes.HashAlgorithm]]] = {
    f"{_MORE}rsa-{algorithm.name}": (padding.PKCS1v15(), algorithm) for algorithm in _HASHES
} | {
    f"{_MORE_2007}{algorithm.name}-rsa-MGF1": (padding.PSS(padding.MGF1(algorithm), algorithm.digest_size), algorithm)
    for algorithm in _HASHES
}
_ECDSA: Final = {f"{_MORE}ecdsa-{algorithm.name}": ec.ECDSA(algorithm) for algorithm in _HASHES}

METHODS: Final = frozenset(_RSA | _ECDSA)
"""The signature methods that are taken, by name."""

DIGESTS: Final[dict[str, Callable[[bytes], "hashlib._Hash"]]] = {
    "http://www.w3.org/2001/04/xmlenc#sha256": hashlib.sha256,
    f"{_MORE}sha384": hashlib.sha384,
    "http://www.w3.org/2001/04/xmlenc#sha512": hashlib.sha512,
}
"""The digest methods that are taken, by name."""


def digest_of(octets: bytes, method: str) -> bytes:
    """Return the digest of `octets` by one of `DIGESTS`."""
    return DIGESTS[method](octets).digest()


def methods_of(key: CertificatePublicKeyTypes) -> Collection[str]:
    """Return the signature methods that a key can be used with; empty: none that is taken."""
    match key:
        case rsa.RSAPublicKey():
            return _RSA.keys()
        case ec.EllipticCurvePublicKey():
            return _ECDSA.keys()
        case _:
            return ()


def verify_value(value: bytes, octets: bytes, *, method: str, key: CertificatePublicKeyTypes) -> None:
    """
    Hold `value` to be the signature of `octets` that `key` makes by `method`, one of `methods_of` the key.

    Raises:
        InvalidSignature: it is not.
        ValueError, UnsupportedAlgorithm: the key cannot be used so, for example RSA too short for the digest.
    """
    match key:
        case rsa.RSAPublicKey():
            scheme, algorithm = _RSA[method]
            key.verify(value, octets, scheme, algorithm)
        case ec.EllipticCurvePublicKey():
            key.verify(_in_der(value, key.key_size), octets, _ECDSA[method])
        case _:
            raise UnsupportedAlgorithm("no signatures with keys of this type")


def _in_der(value: bytes, key_bits: int) -> bytes:
    """Return r and s, which stand side by side, each as wide as the curve (XML Signature 1.1, 6.4.3), in DER."""
    width = (key_bits + 7) // 8
    if len(value) != 2 * width:
        raise InvalidSignature
    return encode_dss_signature(int.from_bytes(value[:width], "big"), int.from_bytes(value[width:], "big"))
