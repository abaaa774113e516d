"""Making XML signatures, in the one shape that `xmlsig` takes: of senders' messages and of the gateway's documents."""

import logging
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from lxml import etree
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureConstructionMethod, SignatureMethod
from signxml.signer import XMLSigner

__all__ = ["SigningKey", "sign_enveloped", "sign_message"]

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


def _method(key: SigningKey) -> SignatureMethod:
    if isinstance(key, rsa.RSAPrivateKey):
        return SignatureMethod.RSA_SHA256
    try:
        return _METHOD_OF_CURVE[key.curve.name]
    except KeyError:
        raise ValueError(f"no signatures with curve {key.curve.name}; use P-256, P-384 or P-521") from None
