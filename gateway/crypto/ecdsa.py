"""
ECDSA signatures as XML Signature (1.1, section 6.4.3) and JSON Web Signature (RFC 7518, section 3.4) have them: r and
s side by side, each as wide as the curve. The digest is as wide as the curve too (FIPS 186-5, section 6.1.1).
"""

from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

__all__ = ["sign_ecdsa"]

_DIGEST_OF_CURVE: Final[dict[str, hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


def sign_ecdsa(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """Return the signature of `data` by a key on P-256, P-384 or P-521."""
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(_DIGEST_OF_CURVE[key.curve.name])))
    width = (key.curve.key_size + 7) // 8
    return r.to_bytes(width, "big") + s.to_bytes(width, "big")
