"""Verification of XML signatures: what is let through, and every way to be refused, step by step."""

import logging
from base64 import b64decode, b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from gateway.crypto import xmlsig
from gateway.crypto.manifest import MESSAGE_ROOT
from gateway.crypto.schema import read_schema
from gateway.crypto.signing import sign_enveloped
from gateway.crypto.xmlsig import MESSAGE_LIMIT_BYTES, SignedXml, SignerCheck, parse_stored, verify_enveloped
from gateway.domain.ids import EnterpriseNumber
from gateway.errors import Kind, Refusal

if TYPE_CHECKING:
    from tests.plugins.second_opinion import agreed
else:
    from second_opinion import agreed

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
        return x509_data(self.certificate)


def x509_data(certificate: x509.Certificate) -> str:
    der = b64encode(certificate.public_bytes(Encoding.DER)).decode()
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


def certificate_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> x509.Certificate:
    """Make a self-signed certificate."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "self-signed")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    dated = builder.not_valid_before(datetime(2026, 1, 1, tzinfo=UTC)).not_valid_after(datetime(2027, 1, 1, tzinfo=UTC))
    return dated.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def self_signed(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> Party:
    return Party(key=key, certificate=certificate_of(key))


def verify(body: bytes, signer: Party) -> SignedXml:
    """Verify what one sender signed with the one certificate that it registered; signxml is asked too, and agrees."""
    return agreed(body, signer.certificate)


def verify_alone(body: bytes, signer: SignerCheck = lambda *_: None) -> SignedXml:
    """Verify without the second opinion, and whoever signed."""
    return verify_enveloped(body, schema=read_schema("message.xsd"), root_name=MESSAGE_ROOT, signer=signer)


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
def test_every_named_curve_is_accepted(curve: ec.EllipticCurve) -> None:
    signer = self_signed(ec.generate_private_key(curve))
    assert verify(sign_enveloped(etree.fromstring(MESSAGE), signer.key, signer.certificate), signer).root is not None


@pytest.mark.parametrize("uri", ["", "#message"])
def test_the_reference_is_empty_or_names_the_root(uri: str, gemeente: Party) -> None:
    assert verify(sign(MESSAGE, gemeente, Profile(uri=uri)), gemeente).root.get("Id") == "message"


@pytest.mark.parametrize("digest", [SHA256, f"{MORE}sha384", "http://www.w3.org/2001/04/xmlenc#sha512"])
def test_every_named_digest_is_accepted(digest: str, gemeente: Party) -> None:
    assert verify(sign(MESSAGE, gemeente, Profile(digest=digest)), gemeente).root.get("Id") == "message"


@pytest.mark.parametrize(
    "decorate",
    [
        pytest.param(lambda body: b"\xef\xbb\xbf" + body, id="byte order mark"),
        pytest.param(lambda body: b'<?xml version="1.0" encoding="utf-8"?>\r\n' + body, id="declaration"),
        pytest.param(lambda body: body.replace(b"\n", b"\r\n"), id="line ends of Windows"),
        pytest.param(lambda body: b"<!-- made by hand -->" + body + b"<!-- end -->\n", id="comments outside"),
        pytest.param(lambda body: body.ljust(MESSAGE_LIMIT_BYTES), id="as large as allowed"),
        pytest.param(lambda body: wrap_lines(body, b"&#13;\n"), id="Base64 lines of Java"),
        pytest.param(lambda body: wrap_lines(body, b"\n    "), id="Base64 lines, indented"),
    ],
)
def test_what_changes_nothing_that_is_signed_is_accepted(
    decorate: Callable[[bytes], bytes], gemeente: Party, belasting: Party
) -> None:
    body = sign(MESSAGE, gemeente)
    assert decorate(body) != body
    assert verify(decorate(body), gemeente).root.get("Id") == "message"
    rsa_body = sign(MESSAGE, belasting, Profile(method=f"{MORE}rsa-sha256"))
    assert verify(decorate(rsa_body), belasting).root.get("Id") == "message"


def wrap_lines(body: bytes, end: bytes) -> bytes:
    """Break the Base64 of signature and certificate into lines, as Java's encoders do."""
    root = etree.fromstring(body)
    for name in ("SignatureValue", "X509Certificate"):
        text = root.findtext(f".//{{{DS}}}{name}") or ""
        lines = end.join(text[start : start + 60].encode() for start in range(0, len(text), 60))
        body = body.replace(text.encode(), end + lines + end)
    return body


def test_other_prefixes_than_the_usual_are_accepted(gemeente: Party) -> None:
    prefixed = MESSAGE.replace("xmlns=", "xmlns:m=").replace("</", "</m:").replace("<", "<m:").replace("<m:/m:", "</m:")
    body = sign(prefixed, gemeente)
    assert b"<m:Message" in body
    assert verify(body, gemeente).root.tag == MESSAGE_ROOT


def test_a_comment_in_the_content_is_gone_from_what_is_returned(gemeente: Party) -> None:
    body = sign(MESSAGE, gemeente).replace(b"906101", b"906<!-- not signed -->101")
    signed = verify(body, gemeente)
    assert signed.root.findtext(f"{{{NS}}}Recipient/{{{NS}}}Ssin") == "90610100155"
    assert canonical(signed.root) == canonical(etree.fromstring(MESSAGE))


def test_a_comment_cannot_make_the_sender_that_is_checked_another(gemeente: Party) -> None:
    body = sign(MESSAGE, gemeente).replace(b"0406798006", b"0406<!-- -->798006")
    assert verify(body, gemeente).root.findtext(f"{{{NS}}}Sender/{{{NS}}}EnterpriseNumber") == "0406798006"


# ── Steps 1 and 2: bytes and parse ──


MALFORMED = {
    "empty": (lambda _: b"", "not well-formed XML: line 1, column 1"),
    "no XML": (lambda _: b"PK\x03\x04", "not well-formed XML: line 1, column 1"),
    "JSON": (lambda _: b'{"gateway": 1}', "not well-formed XML: line 1, column 1"),
    "cut off": (lambda body: body[:-20], "not well-formed XML"),
    "one byte too large": (lambda body: body.ljust(MESSAGE_LIMIT_BYTES + 1), "larger than 262144 bytes"),
    "Latin-1": (lambda body: body.replace(b"brief", b"br\xefef"), "not UTF-8 at byte"),
    "UTF-16": (lambda body: body.decode().encode("utf-16"), "not UTF-8 at byte 0"),
    "UTF-16 without mark": (lambda body: body.decode().encode("utf-16-le"), "not UTF-8: it holds NUL bytes"),
    "UTF-16 with DTD": (
        lambda body: ("<!DOCTYPE Message>" + body.decode()).encode("utf-16-be"),
        "not UTF-8: it holds NUL bytes",
    ),
    "UTF-32": (lambda body: body.decode().encode("utf-32-be"), "not UTF-8: it holds NUL bytes"),
    "named Latin-1": (
        lambda body: b'<?xml version="1.0" encoding="ISO-8859-1"?>' + body,
        "the XML declaration names another encoding than UTF-8",
    ),
    "named UTF-7": (
        lambda body: b"\xef\xbb\xbf<?xml version='1.0' encoding = 'utf-7' ?>" + body,
        "the XML declaration names another encoding than UTF-8",
    ),
    "XML 1.1": (lambda body: b'<?xml version="1.1"?>' + body, "only XML 1.0 in UTF-8"),
    "DTD": (lambda body: b"<!DOCTYPE Message>" + body, "a document type (DTD) is not allowed"),
    "external DTD": (
        lambda body: b'<!DOCTYPE Message SYSTEM "http://127.0.0.1:9/x.dtd">' + body,
        "a document type (DTD) is not allowed",
    ),
    "entity": (
        lambda body: b'<!DOCTYPE m [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + body.replace(b"brief", b"&x;"),
        "a document type (DTD) is not allowed",
    ),
    "entity that is not declared": (lambda body: body.replace(b"Aanslag", b"&aanslag;"), "not well-formed XML"),
    "instruction inside": (
        lambda body: body.replace(b"Aanslag", b"<?php x?>Aanslag"),
        "processing instructions and entities are not allowed",
    ),
    "instruction before": (
        lambda body: b"<?xml-stylesheet href='x'?>" + body,
        "processing instructions and entities are not allowed",
    ),
    "instruction after": (lambda body: body + b"<?x y?>", "processing instructions and entities are not allowed"),
    "instruction in the signature": (
        lambda body: body.replace(b"<ds:KeyInfo>", b"<ds:KeyInfo><?x y?>"),
        "processing instructions and entities are not allowed",
    ),
    "33 deep": (
        lambda body: body.replace(b"<Reference>", b"<Reference>" + b"<a>" * 31 + b"</a>" * 31),
        "elements nested deeper than 32",
    ),
    "300 deep": (lambda _: b"<a>" * 300 + b"</a>" * 300, "not well-formed XML"),
    "33 attributes": (
        lambda body: body.replace(b"<Purpose>", b"<Purpose" + b"".join(b' a%d=""' % n for n in range(33)) + b">"),
        "more than 32 attributes on one element",
    ),
    "201 comments": (
        lambda body: body.replace(b"<Purpose>", b"<Purpose>" + b"<!---->" * 201),
        "more than 200 comments",
    ),
    "same attribute twice": (lambda body: body.replace(b" Id=", b' Id="x" Id='), "not well-formed XML"),
}


@pytest.mark.parametrize(("spoil", "detail"), MALFORMED.values(), ids=MALFORMED)
def test_what_is_not_plain_xml_is_malformed(spoil: Callable[[bytes], bytes], detail: str, gemeente: Party) -> None:
    refused = refusal(spoil(sign(MESSAGE, gemeente)), gemeente)
    assert refused.kind is Kind.MALFORMED_MESSAGE
    assert refused.detail.startswith(detail)


def test_32_levels_are_not_too_deep(gemeente: Party) -> None:
    body = sign(MESSAGE, gemeente).replace(b"<Reference>", b"<Reference>" + b"<a>" * 30 + b"</a>" * 30)
    assert refusal(body, gemeente).kind is Kind.INVALID_MESSAGE


# ── Step 3: the closed schema ──


OFF_SCHEMA = {
    "other root": (f'Message xmlns="{NS}"', 'Message xmlns="urn:other"', "/", "the root element must be"),
    "missing": (
        "<Gateway>gateway.example.be</Gateway>",
        "",
        "/Message/Reference",
        "is not expected here; expected: Gateway",
    ),
    "incomplete": (
        "<EnterpriseNumber>0406798006</EnterpriseNumber><Profile>burgerzaken</Profile>",
        "",
        "/Message/Sender",
        "is incomplete; expected: EnterpriseNumber",
    ),
    "order": (
        "<EnterpriseNumber>0406798006</EnterpriseNumber><Profile>burgerzaken</Profile>",
        "<Profile>burgerzaken</Profile><EnterpriseNumber>0406798006</EnterpriseNumber>",
        "/Message/Sender/Profile",
        "is not expected here; expected: EnterpriseNumber",
    ),
    "twice": (
        "<Purpose>",
        "<Purpose>Twee</Purpose><Purpose>",
        "/Message/Purpose[2]",
        "is not expected here; expected: Recipient",
    ),
    "unknown element": (
        "<Subject",
        "<X/><Subject",
        "/Message/X",
        "is not expected here; expected: ForTheAttentionOf, Subject",
    ),
    "foreign element": (
        "<Subject",
        '<x:Subject xmlns:x="urn:x"/><Subject',
        "/Message/Subject",
        "is not expected here; expected: ForTheAttentionOf, Subject",
    ),
    "last missing": (
        MESSAGE[MESSAGE.index("<Documents>") : MESSAGE.index("</Documents>") + len("</Documents>")],
        "",
        "/Message/Signature",
        "is not expected here; expected: Channels, Print, Retention",
    ),
    "text between": ("<Recipient>", "<Recipient>x", "/Message/Recipient", "holds elements only, no text"),
    "element in text": ("Aanslagbiljet 2026", "<b/>", "/Message/Purpose", "holds text only, no elements"),
    "pattern": ("90610100155", "9061010015", "/Message/Recipient/Ssin", "does not match [0-9]{11}"),
    "white space": ("90610100155", " 90610100155", "/Message/Recipient/Ssin", "does not match [0-9]{11}"),
    "enumeration": ('lang="nl"', 'lang="es"', "/Message/Subject/@lang", "is not one of nl, fr, de, en"),
    "too long": ("Aanslagbiljet 2026", "x" * 201, "/Message/Purpose", "is too long"),
    "too short": ("Aanslagbiljet 2026", "", "/Message/Purpose", "is too short"),
    "unknown attribute": (
        ' lang="nl"',
        ' lang="nl" x="1"',
        "/Message/Subject/@x",
        "is not an attribute of this element",
    ),
    "missing attribute": (' main="true"', "", "/Message/Documents/Document/@main", "a required attribute is missing"),
    "other Id": ('Id="message"', 'Id="other"', "/Message/@Id", "is not one of message"),
    "no Id": (' Id="message"', "", "/Message/@Id", "a required attribute is missing"),
    "xsi:type": (
        "<Purpose>",
        '<Purpose xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Slug">',
        "/Message/Purpose",
        "attributes with a namespace are not allowed",
    ),
    "xsi:schemaLocation": (
        " Id=",
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="urn:x x.xsd" Id=',
        "/Message",
        "attributes with a namespace are not allowed",
    ),
    "xml:base": (
        "<Purpose>",
        '<Purpose xml:base="urn:x">',
        "/Message/Purpose",
        "attributes with a namespace are not allowed",
    ),
    "XInclude": (
        "<Purpose>",
        '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/passwd"/><Purpose>',
        "/Message/include",
        "is not expected here; expected: Purpose",
    ),
    "check digits of the sender": (
        "0406798006",
        "0406798007",
        "/Message/Sender/EnterpriseNumber",
        "the check digits of the enterprise number are wrong",
    ),
}


@pytest.mark.parametrize(("old", "new", "pointer", "detail"), OFF_SCHEMA.values(), ids=OFF_SCHEMA)
def test_what_the_schema_does_not_name_is_refused(
    old: str, new: str, pointer: str, detail: str, gemeente: Party
) -> None:
    assert old in MESSAGE
    refused = refusal(sign(MESSAGE.replace(old, new, 1), gemeente), gemeente)
    assert refused.kind is Kind.INVALID_MESSAGE
    assert [(error.pointer, error.detail[: len(detail)]) for error in refused.errors] == [(pointer, detail)]


def test_all_faults_that_the_schema_sees_are_told_at_once(gemeente: Party) -> None:
    wrong = {"90610100155": "x", "burgerzaken": "B", "P90D": "P0D", 'lang="nl"': 'lang="xx"', "upfile1": "upfile0"}
    xml = MESSAGE
    for old, new in wrong.items():
        xml = xml.replace(old, new)
    pointers = {error.pointer for error in refusal(sign(xml, gemeente), gemeente).errors}
    assert pointers == {
        "/Message/Sender/Profile",
        "/Message/Recipient/Ssin",
        "/Message/Subject/@lang",
        "/Message/Documents/Document/@part",
    }


def test_a_refusal_repeats_no_value_of_the_message(gemeente: Party) -> None:
    quoting = "90610100155 is not accepted by the pattern '90610100155'. is not an element of the set {'90610100155'}."
    xml = MESSAGE.replace(">90610100155<", f">{quoting}<").replace('"nl"', f'"{quoting}"')
    refused = refusal(sign(xml, gemeente), gemeente)
    assert len(refused.errors) == 2
    cause: BaseException | None = refused
    while cause is not None:
        assert "90610100155" not in f"{cause!r} {cause} {getattr(cause, 'errors', '')}"
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def test_a_flood_of_faults_is_cut_short(gemeente: Party) -> None:
    attributes = " ".join(f'a{number}="1"' for number in range(32))
    flood = f"<Documents>{f'<Document {attributes}/>' * 20}"
    assert len(refusal(sign(MESSAGE.replace("<Documents>", flood), gemeente), gemeente).errors) == 100
    elements = '<a xml:lang="nl"/>' * 5000
    assert len(refusal(sign(MESSAGE.replace("<Subject", f"{elements}<Subject"), gemeente), gemeente).errors) == 10


def test_faults_of_two_messages_at_the_same_time_do_not_mix(gemeente: Party) -> None:
    bodies = {
        sign(MESSAGE.replace("90610100155", "x"), gemeente): "/Message/Recipient/Ssin",
        sign(MESSAGE.replace("burgerzaken", "B"), gemeente): "/Message/Sender/Profile",
    }
    with ThreadPoolExecutor(4) as pool:
        pairs = [
            (pointer, pool.submit(refusal, body, gemeente)) for _ in range(100) for body, pointer in bodies.items()
        ]
        assert all([error.pointer for error in done.result().errors] == [pointer] for pointer, done in pairs)


# ── Steps 3 and 4: the shape of the signature ──


FORGED = {
    "external reference": (Profile(uri="http://127.0.0.1:9/"), "reference-uri"),
    "reference to something else": (Profile(uri="#other"), "reference-uri"),
    "XPointer": (Profile(uri="#xpointer(/)"), "reference-uri"),
    "two references": (Profile(references=2), "reference-count"),
    "no reference": (Profile(references=0), "reference-count"),
    "only enveloped": (Profile(transforms=(ENVELOPED,)), "transforms"),
    "only canonical": (Profile(transforms=(EXCLUSIVE,)), "transforms"),
    "swapped": (Profile(transforms=(EXCLUSIVE, ENVELOPED)), "transforms"),
    "a third": (Profile(transforms=(ENVELOPED, EXCLUSIVE, EXCLUSIVE)), "transforms"),
    "inclusive content": (Profile(transforms=(ENVELOPED, INCLUSIVE)), "transforms"),
    "content with comments": (Profile(transforms=(ENVELOPED, f"{EXCLUSIVE}WithComments")), "transforms"),
    "XPath": (Profile(transforms=(ENVELOPED, "http://www.w3.org/TR/1999/REC-xpath-19991116")), "transforms"),
    "XSLT": (Profile(transforms=(ENVELOPED, "http://www.w3.org/TR/1999/REC-xslt-19991116")), "transforms"),
    "Base64": (Profile(transforms=(ENVELOPED, f"{DS}base64")), "transforms"),
    "XPath inside a transform": (
        Profile(in_transform="<ds:XPath>self::node()</ds:XPath>"),
        "transforms: no parameters",
    ),
    "prefix list": (
        Profile(in_transform=f'<ec:InclusiveNamespaces xmlns:ec="{EXCLUSIVE}" PrefixList="#default"/>'),
        "inclusive-namespaces",
    ),
    "SHA-1 digest": (Profile(digest=f"{DS}sha1"), "digest-method sha1 refused"),
    "SHA-1 signature": (Profile(method=f"{MORE}ecdsa-sha1"), "signature-method ecdsa-sha1 refused"),
    "inclusive SignedInfo": (
        Profile(canonicalization=INCLUSIVE),
        "canonicalization-method REC-xml-c14n-20010315 refused",
    ),
    "HMAC with the public key": (Profile(method=f"{MORE}hmac-sha256"), "signature-method hmac-sha256 refused"),
    "HMAC cut short": (
        Profile(method=f"{MORE}hmac-sha256", in_method="<ds:HMACOutputLength>8</ds:HMACOutputLength>"),
        "signature-method hmac-sha256 refused",
    ),
    "HMACOutputLength": (
        Profile(in_method="<ds:HMACOutputLength>8</ds:HMACOutputLength>"),
        "shape: CanonicalizationMethod and SignatureMethod are empty elements",
    ),
    "no X509Data": (Profile(key_info=""), "key-info"),
    "key value": (
        Profile(key_info="<ds:KeyValue><ds:RSAKeyValue><ds:Modulus>AQAB</ds:Modulus></ds:RSAKeyValue></ds:KeyValue>"),
        "key-info",
    ),
    "key name": (Profile(key_info="<ds:KeyName>gemeente</ds:KeyName>"), "key-info"),
    "certificate by its issuer only": (
        Profile(key_info="<ds:X509Data><ds:X509SubjectName>CN=x</ds:X509SubjectName></ds:X509Data>"),
        "key-info",
    ),
}


@pytest.mark.parametrize(("profile", "rule"), FORGED.values(), ids=FORGED)
def test_another_profile_is_refused_by_the_name_of_its_rule(profile: Profile, rule: str, gemeente: Party) -> None:
    refused = refusal(sign(MESSAGE, gemeente, profile), gemeente)
    assert refused.kind is Kind.SIGNATURE_INVALID
    assert refused.detail.startswith(rule)


def test_a_sha1_signature_of_rsa_is_refused(belasting: Party) -> None:
    assert refusal(sign(MESSAGE, belasting, Profile(method=f"{DS}rsa-sha1")), belasting).detail == (
        "signature-method rsa-sha1 refused"
    )


def signature_of(body: bytes) -> bytes:
    return body[body.index(b"<ds:Signature ") : body.index(b"</ds:Signature>") + len(b"</ds:Signature>")]


def between(body: bytes, name: bytes) -> bytes:
    return body[body.index(b"<ds:" + name + b">") : body.index(b"</ds:" + name + b">") + len(b"</ds:" + name + b">")]


def moved(body: bytes, target: str) -> bytes:
    root = etree.fromstring(body)
    place = root.find(target)
    assert place is not None
    place.append(root[-1])
    return etree.tostring(root)


def signed_first(body: bytes) -> bytes:
    root = etree.fromstring(body)
    root.insert(0, root[-1])
    return etree.tostring(root)


RESHAPED = {
    "no signature": (lambda _: MESSAGE.encode(), "signature-count: the document is not signed"),
    "second signature": (
        lambda body: body.replace(b"</ds:Signature>", b"</ds:Signature>" + signature_of(body)),
        "signature-count: exactly one Signature",
    ),
    "signature within a signature": (
        lambda body: body.replace(b"</ds:KeyInfo>", b"</ds:KeyInfo><ds:Object>" + signature_of(body) + b"</ds:Object>"),
        "signature-count: exactly one Signature",
    ),
    "signature not in the root": (
        lambda body: moved(body, f"{{{NS}}}Documents"),
        "signature-count: exactly one Signature",
    ),
    "signature not last": (
        signed_first,
        "signature-count: exactly one Signature, the last child",
    ),
    "object": (
        lambda body: body.replace(b"</ds:KeyInfo>", b"</ds:KeyInfo><ds:Object/>"),
        "object: a ds:Object is not allowed",
    ),
    "empty signature": (
        lambda body: body.replace(signature_of(body), f'<Signature xmlns="{DS}"/>'.encode()),
        "shape: a Signature holds",
    ),
    "no KeyInfo": (
        lambda body: body[: body.index(b"<ds:KeyInfo>")] + body[body.index(b"</ds:KeyInfo>") + len(b"</ds:KeyInfo>") :],
        "shape: a Signature holds",
    ),
    "second SignedInfo": (
        lambda body: body.replace(b"<ds:SignatureValue>", between(body, b"SignedInfo") + b"<ds:SignatureValue>"),
        "shape: a Signature holds",
    ),
    "second SignatureValue": (
        lambda body: body.replace(b"<ds:KeyInfo>", between(body, b"SignatureValue") + b"<ds:KeyInfo>"),
        "shape: a Signature holds",
    ),
    "foreign element": (
        lambda body: body.replace(b"<ds:KeyInfo>", b'<x:SignedInfo xmlns:x="urn:x"/><ds:KeyInfo>'),
        "shape: a Signature holds",
    ),
    "two certificates": (
        lambda body: body.replace(b"</ds:X509Data>", between(body, b"X509Certificate") + b"</ds:X509Data>"),
        "key-info: exactly one",
    ),
    "two X509Data": (
        lambda body: body.replace(b"</ds:KeyInfo>", between(body, b"X509Data") + b"</ds:KeyInfo>"),
        "key-info: exactly one",
    ),
    "KeyValue beside the certificate": (
        lambda body: body.replace(b"</ds:KeyInfo>", b"<ds:KeyValue/></ds:KeyInfo>"),
        "key-info: exactly one",
    ),
    "no certificate": (
        lambda body: body.replace(between(body, b"X509Certificate"), b"<ds:X509Certificate/>"),
        "shape: /Message/Signature/KeyInfo/X509Data/X509Certificate is too short",
    ),
    "certificate that is none": (
        lambda body: body.replace(b"<ds:X509Certificate>MII", b"<ds:X509Certificate>AAA"),
        "key-info: the X509Certificate cannot be read",
    ),
    "certificate that is no Base64": (
        lambda body: body.replace(b"<ds:X509Certificate>MII", b"<ds:X509Certificate>M*I"),
        "shape: /Message/Signature/KeyInfo/X509Data/X509Certificate",
    ),
    "certificate with what is not ASCII": (
        lambda body: body.replace(b"<ds:X509Certificate>", b"<ds:X509Certificate>\xc2\x80"),
        "shape: /Message/Signature/KeyInfo/X509Data/X509Certificate does not match",
    ),
    "what decoders skip, in the certificate": (
        lambda body: body.replace(b"<ds:X509Certificate>", b"<ds:X509Certificate>!!!!"),
        "shape: /Message/Signature/KeyInfo/X509Data/X509Certificate does not match",
    ),
    "what decoders skip, in the signature": (
        lambda body: body.replace(b"<ds:SignatureValue>", b"<ds:SignatureValue>!!!!"),
        "shape: /Message/Signature/SignatureValue does not match",
    ),
    "what decoders skip, in the digest": (
        lambda body: body.replace(b"<ds:DigestValue>", b"<ds:DigestValue>\xc3\xa9"),
        "shape: /Message/Signature/SignedInfo/Reference/DigestValue does not match",
    ),
    "comment in SignedInfo": (
        lambda body: body.replace(b"<ds:DigestValue>", b"<ds:DigestValue><!-- -->"),
        "a comment inside the signature",
    ),
    "comment in SignatureValue": (
        lambda body: body.replace(b"<ds:SignatureValue>", b"<ds:SignatureValue><!-- -->"),
        "a comment inside the signature",
    ),
    "type of the reference": (
        lambda body: body.replace(b' URI="#message"', b' URI="#message" Type="urn:x"'),
        "shape: /Message/Signature/SignedInfo/Reference/@Type is not an attribute",
    ),
    "Id of the signature": (
        lambda body: body.replace(b"<ds:Signature ", b'<ds:Signature Id="message" '),
        "shape: /Message/Signature/@Id is not an attribute",
    ),
    "text in the signature": (
        lambda body: body.replace(b"<ds:KeyInfo>", b"x<ds:KeyInfo>"),
        "shape: /Message/Signature holds elements only",
    ),
}


@pytest.mark.parametrize(("reshape", "rule"), RESHAPED.values(), ids=RESHAPED)
def test_another_shape_of_signature_is_refused_by_the_name_of_its_rule(
    reshape: Callable[[bytes], bytes], rule: str, gemeente: Party
) -> None:
    body = sign(MESSAGE, gemeente)
    assert reshape(body) != body
    refused = refusal(reshape(body), gemeente)
    assert (refused.kind, refused.detail[: len(rule)]) == (Kind.SIGNATURE_INVALID, rule)


# ── Step 5: the key ──


def test_the_signer_is_judged_before_any_cryptography(gemeente: Party) -> None:
    asked: list[tuple[str, x509.Certificate]] = []

    def revoked(number: EnterpriseNumber, certificate: x509.Certificate) -> None:
        asked.append((number, certificate))
        raise Refusal(Kind.CERTIFICATE_REVOKED, "revoked")

    tampered = sign(MESSAGE, gemeente).replace(b"Aanslagbiljet", b"Dwangbevel")
    with pytest.raises(Refusal) as caught:
        verify_alone(tampered, revoked)
    assert caught.value.kind is Kind.CERTIFICATE_REVOKED
    assert asked == [("0406798006", gemeente.certificate)]


def test_a_certificate_that_is_not_registered_verifies_nothing(gemeente: Party, belasting: Party) -> None:
    stranger = sign(MESSAGE, belasting, Profile(method=f"{MORE}rsa-sha256"))
    assert refusal(stranger, gemeente).kind is Kind.SIGNER_MISMATCH


def test_showing_the_registered_certificate_does_not_help_another_key(gemeente: Party) -> None:
    stranger = self_signed(ec.generate_private_key(ec.SECP256R1()))
    body = sign(MESSAGE, stranger, Profile(key_info=gemeente.x509_data))
    assert refusal(body, gemeente).detail == "signature value does not match"


def test_the_method_must_fit_the_key(gemeente: Party, belasting: Party) -> None:
    body = sign(MESSAGE, gemeente, Profile(key_info=belasting.x509_data))
    assert refusal(body, belasting).detail == "signature-method does not fit the key of the certificate"


def test_only_rsa_and_ec_keys_verify_messages(gemeente: Party) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    data = x509_data(certificate_of(key))
    assert refusal(sign(MESSAGE, gemeente, Profile(key_info=data)), gemeente).detail.startswith("key type")


# ── Steps 6 and 7: the signature and what it covers ──


@pytest.mark.parametrize(
    ("old", "new", "detail"),
    [
        (b"Aanslagbiljet", b"Dwangbevel", "digest value does not match"),
        (b"90610100155", b"90610100254", "digest value does not match"),
        (b"102400", b"102401", "digest value does not match"),
        (b"</Message>", b" </Message>", "digest value does not match"),
        (b"ecdsa-sha256", b"ecdsa-sha384", "signature value does not match"),
        (b'URI="#message"', b'URI=""', "signature value does not match"),
    ],
)
def test_content_that_was_changed_after_it_was_signed_is_refused(
    old: bytes, new: bytes, detail: str, gemeente: Party
) -> None:
    body = sign(MESSAGE, gemeente)
    assert old in body
    refused = refusal(body.replace(old, new), gemeente)
    assert refused.kind is Kind.SIGNATURE_INVALID
    assert refused.detail.startswith(detail)


def test_a_signature_of_the_wrong_length_is_refused(gemeente: Party) -> None:
    body = sign(MESSAGE, gemeente)
    value = between(body, b"SignatureValue")
    longer = b64encode(b64decode(value[len("<ds:SignatureValue>") : -len("</ds:SignatureValue>")]) + b"\0\0")
    refused = refusal(body.replace(value, b"<ds:SignatureValue>" + longer + b"</ds:SignatureValue>"), gemeente)
    assert refused.detail == "signature value does not match"


def test_what_has_no_canonical_form_is_refused(gemeente: Party) -> None:
    body = sign(MESSAGE, gemeente).replace(b"<Message ", b'<Message xmlns:void="relative" ')
    assert refusal(body, gemeente).detail.startswith("cannot be verified")


EVIL = MESSAGE.replace("90610100155", "00012556777")


def nested(signed: bytes, place: str) -> bytes:
    """Put the whole signed message into `place` of a message that nobody signed."""
    root = etree.fromstring(EVIL)
    target = root if place == "." else root.find(f"{{{NS}}}{place}")
    assert target is not None
    target.append(etree.fromstring(signed))
    return etree.tostring(root)


def wrapped(signed: bytes, *, in_object: bool, evil_id: str | None) -> bytes:
    """Move the signature to a message that nobody signed, and hide the signed one in it."""
    honest = etree.fromstring(signed)
    signature = honest[-1]
    evil = etree.fromstring(EVIL)
    if evil_id is None:
        del evil.attrib["Id"]
    else:
        evil.set("Id", evil_id)
    evil.append(signature)
    place = etree.SubElement(signature, f"{{{DS}}}Object") if in_object else evil
    place.append(honest)
    return etree.tostring(evil)


WRAPPED: dict[str, Callable[[bytes], bytes]] = {
    "in Object": partial(wrapped, in_object=True, evil_id="message"),
    "in Object, under another Id": partial(wrapped, in_object=True, evil_id="evil"),
    "in Object, under no Id": partial(wrapped, in_object=True, evil_id=None),
    "in the root": partial(wrapped, in_object=False, evil_id="message"),
    "in the root, under another Id": partial(wrapped, in_object=False, evil_id="evil"),
    "in the root, under no Id": partial(wrapped, in_object=False, evil_id=None),
    "nested whole in the root": partial(nested, place="."),
    "nested whole in a text": partial(nested, place="Purpose"),
    "nested whole in Recipient": partial(nested, place="Recipient"),
    "nested whole in Documents": partial(nested, place="Documents"),
    "under another root": lambda body: b'<Envelope xmlns="urn:x">' + body + b"</Envelope>",
    "beside, in another root": lambda body: b"<Envelope>" + EVIL.encode() + body + b"</Envelope>",
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("uri", ["", "#message"])
def test_a_signed_message_inside_another_is_refused(wrap: Callable[[bytes], bytes], uri: str, gemeente: Party) -> None:
    refused = refusal(wrap(sign(MESSAGE, gemeente, Profile(uri=uri))), gemeente)
    assert refused.kind in (Kind.INVALID_MESSAGE, Kind.SIGNATURE_INVALID)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_is_moved_or_copied_only_the_honest_message_is_accepted(data: st.DataObject, gemeente: Party) -> None:
    root = etree.fromstring(sign(MESSAGE, gemeente))
    places = list(root.iter())
    taken = data.draw(st.sampled_from(places[1:]))
    target = data.draw(st.sampled_from([place for place in places if taken not in (place, *place.iterancestors())]))
    position = data.draw(st.integers(0, len(target)))
    target.insert(
        position, etree.fromstring(etree.tostring(taken, with_tail=False)) if data.draw(st.booleans()) else taken
    )
    assert_refused_or_honest(etree.tostring(root), gemeente)


@settings(max_examples=300, deadline=None)
@given(
    position=st.floats(0, 1, exclude_max=True),
    length=st.integers(0, 3),
    new=st.binary(max_size=3) | st.sampled_from([b"<!-- -->", b"&#13;", b"<![CDATA[x]]>", b"\n", b"&amp;", b"<a/>"]),
)
def test_whatever_byte_is_changed_only_the_honest_message_is_accepted(
    position: float, length: int, new: bytes, gemeente: Party
) -> None:
    body = sign(MESSAGE, gemeente)
    start = int(position * len(body))
    assert_refused_or_honest(body[:start] + new + body[start + length :], gemeente)


def assert_refused_or_honest(body: bytes, signer: Party) -> None:
    try:
        signed = verify(body, signer)
    except Refusal:
        return
    assert canonical(signed.root) == canonical(etree.fromstring(MESSAGE))


@pytest.mark.parametrize(
    ("old", "new", "detail"),
    [
        ('Id="message"', 'Id="other"', "the signed element is not the document's root"),
        ("Message", "Envelope", "the signed element is not the document's root"),
        ("0406798006", "0566988259", "the signed sender is not the sender that was checked"),
    ],
)
def test_something_else_than_the_document_is_not_believed_whatever_says_that_it_was_signed(
    old: str, new: str, detail: str, gemeente: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = etree.fromstring(MESSAGE.replace(old, new))
    monkeypatch.setattr(xmlsig, "_signed_content", lambda _: other)
    with pytest.raises(Refusal) as caught:
        verify_alone(sign(MESSAGE, gemeente))
    assert caught.value.detail == detail


def test_what_was_signed_is_judged_by_the_schema_again_where_comments_were(
    gemeente: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = etree.fromstring(MESSAGE.replace("90610100155", "x"))
    monkeypatch.setattr(xmlsig, "_signed_content", lambda _: other)
    with pytest.raises(Refusal) as caught:
        verify_alone(sign(MESSAGE, gemeente).replace(b"<Purpose>", b"<!-- --><Purpose>"))
    assert [error.pointer for error in caught.value.errors] == ["/Message/Recipient/Ssin"]


# ── What is left behind ──


def test_a_stored_message_is_read_as_it_was_verified(gemeente: Party) -> None:
    body = sign(MESSAGE, gemeente).replace(b"906101", b"906<!-- not signed -->101")
    assert canonical(parse_stored(body)) == canonical(verify(body, gemeente).root)


def test_a_stored_message_is_parsed_as_strictly(gemeente: Party) -> None:
    with pytest.raises(Refusal, match="DTD"):
        parse_stored(b"<!DOCTYPE Message>" + sign(MESSAGE, gemeente))


def test_nothing_that_is_signed_is_ever_logged(gemeente: Party, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        verify_alone(sign_enveloped(etree.fromstring(MESSAGE), gemeente.key, gemeente.certificate))
    assert "90610100155" not in caplog.text


def test_signing_refuses_the_key_of_another_certificate(gemeente: Party, belasting: Party) -> None:
    with pytest.raises(ValueError, match="not the key of the certificate"):
        sign_enveloped(etree.fromstring(MESSAGE), gemeente.key, belasting.certificate)


def test_signing_refuses_a_curve_that_nobody_accepts() -> None:
    signer = self_signed(ec.generate_private_key(ec.SECP256K1()))
    with pytest.raises(ValueError, match="no signatures with curve secp256k1"):
        sign_enveloped(etree.fromstring(MESSAGE), signer.key, signer.certificate)


def test_signing_leaves_the_element_as_it_was(gemeente: Party) -> None:
    element = etree.fromstring(MESSAGE)
    sign_enveloped(element, gemeente.key, gemeente.certificate)
    assert canonical(element) == canonical(etree.fromstring(MESSAGE))
