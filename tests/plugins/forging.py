"""
XML signatures by code of our own, right or wrong in any detail.

What is refused in a test must be the detail that is wrong, and not a signature that no verifier would take anyway: so
each is computed over exactly what it claims to cover, with the algorithm that it names, where that can be done.
"""

import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from lxml import etree

DS = "http://www.w3.org/2000/09/xmldsig#"
MORE = "http://www.w3.org/2001/04/xmldsig-more#"
MORE_2007 = "http://www.w3.org/2007/05/xmldsig-more#"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
INCLUSIVE = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
ENVELOPED = f"{DS}enveloped-signature"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"

_HASH_NAME = re.compile(r"(md5|sha3-[0-9]{3}|sha[0-9]{1,3})")
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "md5": hashes.MD5(),  # noqa: S303 - signed with it, to be refused
    "sha1": hashes.SHA1(),  # noqa: S303 - likewise
    "sha224": hashes.SHA224(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
    "sha3-224": hashes.SHA3_224(),
    "sha3-256": hashes.SHA3_256(),
    "sha3-384": hashes.SHA3_384(),
    "sha3-512": hashes.SHA3_512(),
}

RawSigner = Callable[[bytes], bytes]


@dataclass(frozen=True, kw_only=True)
class Signer:
    """A key and the certificate that shows it."""

    key: Any
    certificate: x509.Certificate

    @property
    def x509_data(self) -> str:
        return f"<ds:X509Data>{x509_certificate(self.certificate.public_bytes(Encoding.DER))}</ds:X509Data>"

    @property
    def method(self) -> str:
        return f"{MORE}{'rsa' if isinstance(self.key, rsa.RSAPrivateKey) else 'ecdsa'}-sha256"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How a signature is made: by default as the gateway wants it; `method` None: the usual one of the key."""

    method: str | None = None
    canonicalization: str = EXCLUSIVE
    digest: str = SHA256
    uri: str = "#message"
    transforms: tuple[str, ...] = (ENVELOPED, EXCLUSIVE)
    in_transform: str = ""
    in_method: str = ""
    in_reference: str = ""
    key_info: str | None = None
    after_key_info: str = ""


USUAL = Shape()


def load_signer(certs: Path, name: str) -> Signer:
    key = load_pem_private_key((certs / f"{name}.key").read_bytes(), None)
    certificate = x509.load_pem_x509_certificates((certs / f"{name}.pem").read_bytes())[0]
    return Signer(key=key, certificate=certificate)


def x509_certificate(der: bytes) -> str:
    return f"<ds:X509Certificate>{b64encode(der).decode()}</ds:X509Certificate>"


def hash_named(uri: str) -> hashes.HashAlgorithm:
    """The hash that an algorithm's URI names; SHA-256 where it names none that we have."""
    found = _HASH_NAME.findall(uri.lower().rpartition("#")[2])
    return _HASHES.get(found[-1], hashes.SHA256()) if found else hashes.SHA256()


def forge(xml: bytes, signer: Signer, shape: Shape = USUAL, *, raw: RawSigner | None = None) -> bytes:
    """Append a signature to the root of `xml`; `raw` makes the octets of SignatureValue from those of SignedInfo."""
    root = etree.fromstring(xml)
    method = shape.method or signer.method
    signature = etree.fromstring(
        f'<ds:Signature xmlns:ds="{DS}"><ds:SignedInfo>'
        f'<ds:CanonicalizationMethod Algorithm="{shape.canonicalization}"/>'
        f'<ds:SignatureMethod Algorithm="{method}">{shape.in_method}</ds:SignatureMethod>'
        f"{_reference(root, shape)}</ds:SignedInfo><ds:SignatureValue/>"
        f"<ds:KeyInfo>{signer.x509_data if shape.key_info is None else shape.key_info}</ds:KeyInfo>"
        f"{shape.after_key_info}</ds:Signature>"
    )
    root.append(signature)
    signed_info = _canonical(signature[0], shape.canonicalization)
    octets = raw(signed_info) if raw else raw_signature(signed_info, signer.key, method)
    signature[1].text = b64encode(octets).decode()
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True)


def _reference(root: etree._Element, shape: Shape) -> str:
    digest = hashes.Hash(hash_named(shape.digest))
    digest.update(_canonical(root, shape.transforms[-1] if shape.transforms else INCLUSIVE))
    transforms = "".join(
        f'<ds:Transform Algorithm="{uri}">{shape.in_transform}</ds:Transform>' for uri in shape.transforms
    )
    return (
        f'<ds:Reference URI="{shape.uri}"><ds:Transforms>{transforms}</ds:Transforms>'
        f'<ds:DigestMethod Algorithm="{shape.digest}"/>'
        f"<ds:DigestValue>{b64encode(digest.finalize()).decode()}</ds:DigestValue>{shape.in_reference}</ds:Reference>"
    )


def _canonical(element: etree._Element, uri: str) -> bytes:
    inclusive = uri.startswith((INCLUSIVE, "http://www.w3.org/2006/12/xml-c14n11"))
    comments = uri.endswith("WithComments")
    return etree.tostring(element, method="c14n", exclusive=not inclusive, with_comments=comments, with_tail=False)


def raw_signature(data: bytes, key: Any, method: str) -> bytes:
    """The octets that a method puts into SignatureValue (RFC 9231), whatever kind of key it asks for."""
    algorithm = hash_named(method)
    match key:
        case rsa.RSAPrivateKey():
            pss = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
            return key.sign(data, pss if "MGF1" in method else padding.PKCS1v15(), algorithm)
        case ec.EllipticCurvePrivateKey():
            return concatenated(key.sign(data, ec.ECDSA(algorithm)), (key.curve.key_size + 7) // 8)
        case dsa.DSAPrivateKey():
            return concatenated(key.sign(data, algorithm), key.parameters().parameter_numbers().q.bit_length() // 8)
        case ed25519.Ed25519PrivateKey() | ed448.Ed448PrivateKey():
            return key.sign(data)
        case _:
            raise TypeError(f"no signatures with {type(key).__name__}")


def concatenated(der: bytes, width: int) -> bytes:
    """Both numbers of a DSA or ECDSA signature, each `width` octets."""
    r, s = decode_dss_signature(der)
    return r.to_bytes(width, "big") + s.to_bytes(width, "big")
