"""Verification of XML signatures: what is let through, and every way to be refused, step by step."""

import logging
from base64 import b64decode, b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from signxml.verifier import VerifyResult

from gateway.crypto import xmlsig
from gateway.crypto.manifest import MESSAGE_ROOT
from gateway.crypto.schema import read_schema
from gateway.crypto.signing import sign_enveloped
from gateway.crypto.xmlsig import MESSAGE_LIMIT_BYTES, SignedXml, SignerCheck, verify_enveloped
from gateway.domain.ids import EnterpriseNumber
from gateway.errors import FieldError, Kind, Refusal

NS = "urn:document-gateway:message:1"
DS = "http://www.w3.org/2000/09/xmldsig#"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
INCLUSIVE = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
ENVELOPED = f"{DS}enveloped-signature"
MORE = "http://www.w3.org/2001/04/xmldsig-more#"
MGF1 = "http://www.w3.org/2007/05/xmldsig-more#"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"

CONTENT = """\
<Gateway>gateway.example.be</Gateway>
<Reference>2026-000123</Reference>
<CreatedAt>2026-11-22T10:00:00Z</CreatedAt>
<Sender><EnterpriseNumber>0406798006</EnterpriseNumber><Profile>burgerzaken</Profile></Sender>
<Category>tax-assessment</Category>
<Purpose>Aanslagbiljet 2026</Purpose>
<Recipient><Ssin>90610100155</Ssin></Recipient>
<Subject lang="nl">Uw aanslagbiljet</Subject>
<Documents><Document part="upfile1" filename="brief.pdf" mediaType="application/pdf" size="102400" \
sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" main="true" signed="false"/></Documents>
"""
MESSAGE = f'<Message xmlns="{NS}" Id="message">\n{CONTENT}</Message>'

HASHES: dict[str, hashes.HashAlgorithm] = {
    "1": hashes.SHA1(),  # noqa: S303 - signed with it, to be refused
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}


@dataclass(frozen=True, kw_only=True)
class Party:
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def x509_data(self) -> str:
        der = b64encode(self.certificate.public_bytes(Encoding.DER)).decode()
        return f"<ds:X509Data><ds:X509Certificate>{der}</ds:X509Certificate></ds:X509Data>"


def party(certs: Path, name: str) -> Party:
    key = load_pem_private_key((certs / f"{name}.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    certificate = x509.load_pem_x509_certificates((certs / f"{name}.pem").read_bytes())[0]
    return Party(key=key, certificate=certificate)


@pytest.fixture(scope="session")
def gemeente(certs: Path) -> Party:
    """An EC key on P-256."""
    return party(certs, "gemeente")


@pytest.fixture(scope="session")
def belasting(certs: Path) -> Party:
    """An RSA key."""
    return party(certs, "belasting")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How a test signs: by default as the gateway wants it, and one thing else in each negative test."""

    method: str = f"{MORE}ecdsa-sha256"
    canonicalization: str = EXCLUSIVE
    digest: str = SHA256
    uri: str = "#message"
    transforms: tuple[str, ...] = (ENVELOPED, EXCLUSIVE)
    in_transform: str = ""
    in_method: str = ""
    references: int = 1
    key_info: str | None = None
    prefix: str = "ds"


def sign(xml: str, signer: Party, profile: Profile | None = None) -> bytes:
    """Sign with code of our own, so that what is refused is the profile and not a signature that is wrong anyway."""
    how = profile or Profile()
    root = etree.fromstring(xml)
    digest = hashes.Hash(HASHES[how.digest[-3:] if how.digest != f"{DS}sha1" else "1"])
    digest.update(etree.tostring(root, method="c14n", exclusive=how.transforms[-1] != INCLUSIVE))
    transforms = "".join(f'<ds:Transform Algorithm="{uri}">{how.in_transform}</ds:Transform>' for uri in how.transforms)
    reference = (
        f'<ds:Reference URI="{how.uri}"><ds:Transforms>{transforms}</ds:Transforms>'
        f'<ds:DigestMethod Algorithm="{how.digest}"/>'
        f"<ds:DigestValue>{b64encode(digest.finalize()).decode()}</ds:DigestValue></ds:Reference>"
    )
    signature = etree.fromstring(
        f'<ds:Signature xmlns:ds="{DS}"><ds:SignedInfo>'
        f'<ds:CanonicalizationMethod Algorithm="{how.canonicalization}"/>'
        f'<ds:SignatureMethod Algorithm="{how.method}">{how.in_method}</ds:SignatureMethod>'
        f"{reference * how.references}</ds:SignedInfo><ds:SignatureValue/>"
        f"<ds:KeyInfo>{signer.x509_data if how.key_info is None else how.key_info}</ds:KeyInfo></ds:Signature>"
    )
    root.append(signature)
    exclusive = how.canonicalization == EXCLUSIVE
    signed_info = etree.tostring(signature[0], method="c14n", exclusive=exclusive, with_tail=False)
    signature[1].text = b64encode(raw_signature(signed_info, signer, how.method)).decode()
    return etree.tostring(root)


def raw_signature(data: bytes, signer: Party, method: str) -> bytes:
    algorithm = HASHES[method.removesuffix("-rsa-MGF1").rpartition("sha")[2]]
    if "hmac" in method:
        spki = signer.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        code = hmac.HMAC(spki, algorithm)
        code.update(data)
        return code.finalize() * 2  # as long as a signature is
    if isinstance(signer.key, rsa.RSAPrivateKey):
        pss = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
        return signer.key.sign(data, pss if "MGF1" in method else padding.PKCS1v15(), algorithm)
    width = (signer.key.curve.key_size + 7) // 8
    r, s = decode_dss_signature(signer.key.sign(data, ec.ECDSA(algorithm)))
    return r.to_bytes(width, "big") + s.to_bytes(width, "big")


def registered(certificate: x509.Certificate, sender: str = "0406798006") -> SignerCheck:
    """Let one sender sign with one certificate."""

    def check(number: EnterpriseNumber, presented: x509.Certificate) -> None:
        if number != sender or presented != certificate:
            raise Refusal(Kind.SIGNER_MISMATCH, "not registered")

    return check


def verify(body: bytes, signer: Party) -> SignedXml:
    check = registered(signer.certificate)
    return verify_enveloped(body, schema=read_schema("message.xsd"), root_name=MESSAGE_ROOT, signer=check)


def refusal(body: bytes, signer: Party) -> Refusal:
    with pytest.raises(Refusal) as caught:
        verify(body, signer)
    return caught.value


def canonical(element: etree._Element) -> bytes:
    return etree.tostring(element, method="c14n", exclusive=True)


# ── What is accepted ──


def test_the_signed_content_is_returned_without_its_signature(gemeente: Party) -> None:
    signed = verify(sign(MESSAGE, gemeente), gemeente)
    assert canonical(signed.root) == canonical(etree.fromstring(MESSAGE))
    assert signed.certificate == gemeente.certificate


@pytest.mark.parametrize("bits", ["256", "384", "512"])
@pytest.mark.parametrize("method", [f"{MORE}ecdsa-sha{{}}", f"{MORE}rsa-sha{{}}", f"{MGF1}sha{{}}-rsa-MGF1"])
def test_every_named_method_is_accepted(method: str, bits: str, gemeente: Party, belasting: Party) -> None:
    signer = gemeente if "ecdsa" in method else belasting
    assert verify(sign(MESSAGE, signer, Profile(method=method.format(bits))), signer).root.tag == MESSAGE_ROOT


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_every_named_curve_is_accepted(curve: ec.EllipticCurve, certs_of: Callable[..., Party]) -> None:
    signer = certs_of(ec.generate_private_key(curve))
    assert verify(sign_enveloped(etree.fromstring(MESSAGE), signer.key, signer.certificate), signer)


@pytest.fixture(scope="session")
def certs_of(certs_maker: object) -> Callable[..., Party]:
    """Make a self-signed certificate for a key."""

    def make(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> Party:
        name = x509.Name([])
        builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        start = certs_maker.datetime(2026, 1, 1)  # type: ignore[attr-defined]  # the module is loaded by its path
        dated = builder.not_valid_before(start).not_valid_after(start.replace(year=2027))
        return Party(key=key, certificate=dated.sign(key, hashes.SHA256()))

    return make
