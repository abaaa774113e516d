"""
Making signatures in the one shape that `xmlsig` and `jwssig` take: XML of senders' messages and of the gateway's
documents, and JSON Web Signatures of senders' messages.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from gateway.crypto.ecdsa import sign_ecdsa
from gateway.crypto.jws import compact_jws, x5c_of
from gateway.crypto.jwssig import algorithms_of

__all__ = ["SigningKey", "XmlSigner", "sign_compact", "sign_enveloped", "sign_message"]

SigningKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_XML: Final = b"<?xml version='1.0' encoding='UTF-8'?>\n"
_ID: Final = re.compile(r"[A-Za-z]+\Z")
_MORE: Final = "http://www.w3.org/2001/04/xmldsig-more#"
_RSA_METHOD: Final = f"{_MORE}rsa-sha256"
_METHOD_OF_CURVE: Final = {
    "secp256r1": f"{_MORE}ecdsa-sha256",
    "secp384r1": f"{_MORE}ecdsa-sha384",
    "secp521r1": f"{_MORE}ecdsa-sha512",
}

# In canonical form, in which it is signed: it declares its namespace by itself, and has end tags and no white space.
_SIGNED_INFO: Final = (
    '<ds:SignedInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#">'
    '<ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"></ds:CanonicalizationMethod>'
    '<ds:SignatureMethod Algorithm="{method}"></ds:SignatureMethod>'
    '<ds:Reference URI="#{id}">'
    "<ds:Transforms>"
    '<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"></ds:Transform>'
    '<ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"></ds:Transform>'
    "</ds:Transforms>"
    '<ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"></ds:DigestMethod>'
    "<ds:DigestValue>{digest}</ds:DigestValue>"
    "</ds:Reference>"
    "</ds:SignedInfo>"
)
_SIGNATURE: Final = (
    '<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#">'
    "{signed_info}"
    "<ds:SignatureValue>{value}</ds:SignatureValue>"
    "<ds:KeyInfo><ds:X509Data><ds:X509Certificate>{certificate}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>"
    "</ds:Signature>"
)


class XmlSigner:
    """
    Signs XML documents with one key and its certificate.

    RSA signs with PKCS#1 v1.5 and SHA-256, EC keys with the digest of their curve.

    Raises:
        ValueError: the key is not that of the certificate, or of a curve that is not taken.
    """

    def __init__(self, certificate: x509.Certificate, key: SigningKey) -> None:
        _require_pair(key, certificate)
        self._key = key
        self._method = _method(key)
        self._certificate = "".join(certificate.public_bytes(Encoding.PEM).decode("ascii").splitlines()[1:-1])

    def sign(self, element: etree._Element) -> bytes:
        """
        Return a root element with an `Id` of letters, signed as its last child, as an XML file in UTF-8; `element`
        stays as it was.

        Not to be indented afterwards: every octet is signed. What is written is the canonical form that was signed, so
        without comments. Takes some 50 µs with P-256.

        Raises:
            ValueError: it has no such Id.
        """
        root_id = element.get("Id", "")
        if not _ID.match(root_id):
            raise ValueError("a document that is signed has an Id of letters")
        content = etree.tostring(element, method="c14n", exclusive=True, with_comments=False)
        digest = hashlib.sha256(content).digest()
        signed_info = _SIGNED_INFO.format(method=self._method, id=root_id, digest=_base64(digest))
        value = _base64(self._signature(signed_info.encode("ascii")))
        signature = _SIGNATURE.format(signed_info=signed_info, value=value, certificate=self._certificate)
        end = content.rindex(b"</")  # canonical XML ends with the end tag of the root, and with nothing after it
        return b"".join((_XML, content[:end], signature.encode("ascii"), content[end:]))

    def _signature(self, data: bytes) -> bytes:
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(data, padding.PKCS1v15(), SHA256())
        return sign_ecdsa(self._key, data)


def sign_message(element: etree._Element, key: SigningKey, certificate: x509.Certificate) -> bytes:
    """
    Return the `message` part: what `manifest.write_message` wrote, signed by the sender.

    Raises:
        ValueError: as `sign_enveloped`.
    """
    return sign_enveloped(element, key, certificate)


def sign_enveloped(element: etree._Element, key: SigningKey, certificate: x509.Certificate) -> bytes:
    """
    Return a root element signed once; who signs many keeps an `XmlSigner`.

    Raises:
        ValueError: as `XmlSigner` and `XmlSigner.sign`.
    """
    return XmlSigner(certificate, key).sign(element)


def sign_compact(fields: Mapping[str, Any], key: SigningKey, certificate: x509.Certificate, *, content: str) -> bytes:
    """
    Return a compact JWS with this `cty` of the canonical JSON (RFC 8785) of `fields`.

    RSA signs with PS256, P-256 with ES256, P-384 with ES384.

    Raises:
        ValueError: the key is not that of the certificate, or there is no algorithm for it.
    """
    _require_pair(key, certificate)
    algorithms = algorithms_of(key)
    if not algorithms:
        raise ValueError("no JSON Web Signatures with this key; use RSA from 2048 bits, P-256 or P-384")
    header = {"alg": algorithms[0], "cty": content, "x5c": x5c_of(certificate)}
    return compact_jws(header, fields, lambda signed: _sign_token(key, signed))


def _sign_token(key: SigningKey, data: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=SHA256.digest_size), SHA256())
    return sign_ecdsa(key, data)


def _base64(octets: bytes) -> str:
    return b64encode(octets).decode("ascii")


def _require_pair(key: SigningKey, certificate: x509.Certificate) -> None:
    if key.public_key() != certificate.public_key():
        raise ValueError("the key is not the key of the certificate")


def _method(key: SigningKey) -> str:
    if isinstance(key, rsa.RSAPrivateKey):
        return _RSA_METHOD
    try:
        return _METHOD_OF_CURVE[key.curve.name]
    except KeyError:
        raise ValueError(f"no signatures with curve {key.curve.name}; use P-256, P-384 or P-521") from None
