"""
Making signatures in the one shape that `xmlsig` and `jwssig` take: XML of senders' messages and of the gateway's
documents, and JSON Web Signatures of senders' messages.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

import rfc8785
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey
from lxml import etree
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureConstructionMethod, SignatureMethod
from signxml.signer import XMLSigner

from gateway.crypto.jws import x5c_of
from gateway.crypto.jwssig import algorithms_of

__all__ = ["SigningKey", "sign_compact", "sign_enveloped", "sign_message"]

# signxml writes the canonical text of what it signs, a letter's personal data, at level DEBUG.
logging.getLogger("signxml").setLevel(logging.INFO)

SigningKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

# The digest as wide as the curve (FIPS 186-5, section 6.1.1).
_METHOD_OF_CURVE: Final = {
    "secp256r1": SignatureMethod.ECDSA_SHA256,
    "secp384r1": SignatureMethod.ECDSA_SHA384,
    "secp521r1": SignatureMethod.ECDSA_SHA512,
}


def sign_message(element: etree._Element, key: SigningKey, certificate: x509.Certificate) -> bytes:
    """
    Return the `message` part: what `manifest.write_message` wrote, signed by the sender.

    Raises:
        ValueError: as `sign_enveloped`.
    """
    return sign_enveloped(element, key, certificate)


def sign_enveloped(element: etree._Element, key: SigningKey, certificate: x509.Certificate) -> bytes:
    """
    Return a root element with an `Id`, signed as its last child, as an XML file in UTF-8; `element` stays as it was.

    RSA signs with PKCS#1 v1.5 and SHA-256, EC keys with the digest of their curve. Not to be indented afterwards: every
    octet is signed.

    Raises:
        ValueError: the key is not that of the certificate, or of a curve that is not taken.
    """
    if key.public_key() != certificate.public_key():
        raise ValueError("the key is not the key of the certificate")
    signer = XMLSigner(
        method=SignatureConstructionMethod.enveloped,
        signature_algorithm=_method(key),
        digest_algorithm=DigestAlgorithm.SHA256,
        c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
    )
    signed = signer.sign(element, key=key, cert=[certificate])
    return etree.tostring(signed, encoding="UTF-8", xml_declaration=True)


def sign_compact(fields: Mapping[str, Any], key: SigningKey, certificate: x509.Certificate, *, content: str) -> bytes:
    """
    Return a compact JWS with this `cty` of the canonical JSON (RFC 8785) of `fields`.

    RSA signs with PS256, P-256 with ES256, P-384 with ES384.

    Raises:
        ValueError: the key is not that of the certificate, or there is no algorithm for it.
    """
    if key.public_key() != certificate.public_key():
        raise ValueError("the key is not the key of the certificate")
    algorithms = algorithms_of(key)
    if not algorithms:
        raise ValueError("no JSON Web Signatures with this key; use RSA from 2048 bits, P-256 or P-384")
    kind = RSAKey if isinstance(key, rsa.RSAPrivateKey) else ECKey
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    header = {"alg": algorithms[0], "cty": content, "x5c": x5c_of(certificate)}
    registry = jws.JWSRegistry(algorithms=algorithms)
    return jws.serialize_compact(header, rfc8785.dumps(dict(fields)), kind.import_key(pem), registry=registry).encode()


def _method(key: SigningKey) -> SignatureMethod:
    if isinstance(key, rsa.RSAPrivateKey):
        return SignatureMethod.RSA_SHA256
    try:
        return _METHOD_OF_CURVE[key.curve.name]
    except KeyError:
        raise ValueError(f"no signatures with curve {key.curve.name}; use P-256, P-384 or P-521") from None
