"""Algorithm confusion: signatures that are right by some other algorithm, key, encoding or reference than ours."""

import socket
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from lxml import etree
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureMethod

from gateway.domain.message import Message
from gateway.errors import Kind, Refusal

if TYPE_CHECKING:
    from tests.plugins.forging import (
        DS,
        ENVELOPED,
        EXCLUSIVE,
        MORE,
        MORE_2007,
        SHA256,
        Shape,
        Signer,
        forge,
        hash_named,
        raw_signature,
        x509_certificate,
    )
else:
    from forging import (
        DS,
        ENVELOPED,
        EXCLUSIVE,
        MORE,
        MORE_2007,
        SHA256,
        Shape,
        Signer,
        forge,
        hash_named,
        raw_signature,
        x509_certificate,
    )

Judge = Callable[[bytes, Signer], Message]

MORE_2021 = "http://www.w3.org/2021/04/xmldsig-more#"
DSIG11 = "http://www.w3.org/2009/xmldsig11#"

# What is taken, as the sender interface states it; all else that anybody has a name for is refused.
METHODS = {f"{MORE}{family}-sha{bits}" for family in ("rsa", "ecdsa") for bits in (256, 384, 512)} | {
    f"{MORE_2007}sha{bits}-rsa-MGF1" for bits in (256, 384, 512)
}
DIGESTS = {SHA256, f"{MORE}sha384", "http://www.w3.org/2001/04/xmlenc#sha512"}

# RFC 9231 and XML Security 1.1: what neither library knows.
NAMED_ELSEWHERE = {
    f"{MORE}rsa-whirlpool",
    f"{MORE}esign-sha256",
    f"{MORE_2007}rsa-pss",
    f"{MORE_2007}rsa-whirlpool",
    f"{MORE_2007}ecdsa-ripemd160",
    f"{MORE_2007}sha512-256-rsa-MGF1",
    f"{MORE_2021}eddsa-ed25519",
    f"{MORE_2021}eddsa-ed25519ph",
    f"{MORE_2021}eddsa-ed448",
    f"{MORE_2021}xmss-sha2-10-256",
    f"{DS}none",
    "",
    "none",
}
DIGESTS_ELSEWHERE = {f"{MORE_2007}whirlpool", "http://www.w3.org/2001/04/xmlenc#sha384", f"{DS}sha256", "", "none"}
CANONICAL_ELSEWHERE = {"http://www.w3.org/2010/xml-c14n2", f"{MORE_2007}minimal-canonicalization", EXCLUSIVE[:-1], ""}
TRANSFORMS_ELSEWHERE = {
    f"{DS}base64",
    f"{DSIG11}enveloped-signature",
    "http://www.w3.org/2002/07/decrypt#XML",
    "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#STR-Transform",
    "http://docs.oasis-open.org/wss/oasis-wss-SwAProfile-1.1#Attachment-Content-Signature-Transform",
    "",
}


def of_xmlsec(usage: int) -> set[str]:
    known = [getattr(xmlsec.constants, name) for name in dir(xmlsec.constants) if name.startswith("Transform")]
    return {item.href for item in known if getattr(item, "href", None) and item.usage & usage}


def others(known: set[str], taken: set[str]) -> list[str]:
    return sorted(known - taken)


OTHER_METHODS = others(
    {method.value for method in SignatureMethod}
    | of_xmlsec(xmlsec.constants.TransformUsageSignatureMethod)
    | NAMED_ELSEWHERE,
    METHODS,
)
OTHER_DIGESTS = others(
    {digest.value for digest in DigestAlgorithm}
    | of_xmlsec(xmlsec.constants.TransformUsageDigestMethod)
    | DIGESTS_ELSEWHERE,
    DIGESTS,
)
OTHER_CANONICALIZATIONS = others(
    {method.value for method in CanonicalizationMethod}
    | of_xmlsec(xmlsec.constants.TransformUsageC14NMethod)
    | CANONICAL_ELSEWHERE,
    {EXCLUSIVE},
)
OTHER_TRANSFORMS = others(
    set(OTHER_CANONICALIZATIONS) | of_xmlsec(xmlsec.constants.TransformUsageDSigTransform) | TRANSFORMS_ELSEWHERE,
    {ENVELOPED, EXCLUSIVE},
)


@pytest.fixture
def refusal(judge: Judge) -> Callable[[bytes, Signer], Refusal]:
    def refused(body: bytes, registered: Signer) -> Refusal:
        with pytest.raises(Refusal) as caught:
            judge(body, registered)
        return caught.value

    return refused


Refused = Callable[[bytes, Signer], Refusal]


# ── Every other algorithm ──


def test_the_lists_of_other_algorithms_are_not_empty() -> None:
    lists = {"method": OTHER_METHODS, "digest": OTHER_DIGESTS, "c14n": OTHER_CANONICALIZATIONS, "t": OTHER_TRANSFORMS}
    least = {"method": 38, "digest": 13, "c14n": 9, "t": 18}
    assert {name: len(uris) for name, uris in lists.items() if len(uris) < least[name]} == {}


@pytest.mark.parametrize("uri", OTHER_METHODS)
def test_no_other_signature_method_is_taken_whatever_the_key(
    uri: str, honest_xml: bytes, gemeente: Signer, belasting: Signer, refusal: Refused
) -> None:
    for signer in (gemeente, belasting):
        refused = refusal(forge(honest_xml, signer, Shape(method=uri or " ")), signer)
        assert (refused.kind, refused.detail.split(" ")[0]) == (Kind.SIGNATURE_INVALID, "signature-method")


@pytest.mark.parametrize("uri", OTHER_DIGESTS)
def test_no_other_digest_method_is_taken(uri: str, honest_xml: bytes, gemeente: Signer, refusal: Refused) -> None:
    refused = refusal(forge(honest_xml, gemeente, Shape(digest=uri)), gemeente)
    assert (refused.kind, refused.detail.split(" ")[0]) == (Kind.SIGNATURE_INVALID, "digest-method")


@pytest.mark.parametrize("uri", OTHER_CANONICALIZATIONS)
def test_no_other_canonicalization_is_taken(uri: str, honest_xml: bytes, gemeente: Signer, refusal: Refused) -> None:
    refused = refusal(forge(honest_xml, gemeente, Shape(canonicalization=uri)), gemeente)
    assert (refused.kind, refused.detail.split(" ")[0]) == (Kind.SIGNATURE_INVALID, "canonicalization-method")


@pytest.mark.parametrize("uri", OTHER_TRANSFORMS)
def test_no_other_transform_is_taken_in_any_place(
    uri: str, honest_xml: bytes, gemeente: Signer, refusal: Refused
) -> None:
    chains = [
        (uri,),
        (ENVELOPED, uri),
        (uri, EXCLUSIVE),
        (ENVELOPED, uri, EXCLUSIVE),
        (ENVELOPED, EXCLUSIVE, uri),
        (uri, ENVELOPED, EXCLUSIVE),
    ]
    for transforms in chains:
        refused = refusal(forge(honest_xml, gemeente, Shape(transforms=transforms)), gemeente)
        assert (refused.kind, refused.detail.split(":")[0]) == (Kind.SIGNATURE_INVALID, "transforms")


PARAMETERS = {
    "XSLT": (
        '<x:stylesheet xmlns:x="http://www.w3.org/1999/XSL/Transform" version="1.0"><x:template match="/">'
        "<x:value-of select=\"document('file:///etc/passwd')\"/></x:template></x:stylesheet>"
    ),
    "XPath": "<ds:XPath>not(ancestor-or-self::*[local-name()='Recipient'])</ds:XPath>",
    "XPath filter": (
        '<f:XPath xmlns:f="http://www.w3.org/2002/06/xmldsig-filter2" Filter="subtract">//Recipient</f:XPath>'
    ),
    "XPointer": '<p:XPointer xmlns:p="http://www.w3.org/2001/04/xmldsig-more/xptr">xpointer(/)</p:XPointer>',
    "text": "count(//. | //@* | //namespace::*)",
}


@pytest.mark.parametrize("inside", PARAMETERS.values(), ids=PARAMETERS)
def test_transforms_take_no_parameters(inside: str, honest_xml: bytes, gemeente: Signer, refusal: Refused) -> None:
    refused = refusal(forge(honest_xml, gemeente, Shape(in_transform=inside)), gemeente)
    assert refused.kind is Kind.SIGNATURE_INVALID


# ── Keys that are public, and keys of another kind ──

PUBLIC: dict[str, Callable[[x509.Certificate], bytes]] = {
    "public key, PEM": lambda found: found.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "public key, DER": lambda found: found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    "certificate, PEM": lambda found: found.public_bytes(Encoding.PEM),
    "certificate, DER": lambda found: found.public_bytes(Encoding.DER),
    "certificate, Base64": lambda found: b64encode(found.public_bytes(Encoding.DER)),
    "nothing": lambda _: b"\0",
}


@pytest.mark.parametrize("secret", PUBLIC.values(), ids=PUBLIC)
@pytest.mark.parametrize("named", [f"{MORE}hmac-sha256", f"{MORE}ecdsa-sha256"])
def test_no_public_key_is_a_secret(
    named: str,
    secret: Callable[[x509.Certificate], bytes],
    honest_xml: bytes,
    gemeente: Signer,
    refusal: Refused,
) -> None:
    def code(data: bytes) -> bytes:
        made = hmac.HMAC(secret(gemeente.certificate), hashes.SHA256())
        made.update(data)
        return made.finalize() * 2  # as long as a signature is

    refused = refusal(forge(honest_xml, gemeente, Shape(method=named), raw=code), gemeente)
    assert refused.kind is Kind.SIGNATURE_INVALID


def test_the_method_must_be_of_the_kind_of_the_key(
    honest_xml: bytes, gemeente: Signer, belasting: Signer, refusal: Refused
) -> None:
    for method in sorted(METHODS):
        signer = belasting if "ecdsa" in method else gemeente
        refused = refusal(forge(honest_xml, signer, Shape(method=method)), signer)
        assert refused.detail == "signature-method does not fit the key of the certificate"


def self_signed(
    key: dsa.DSAPrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey,
) -> Signer:
    name = x509.Name([])
    valid = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, *valid)
    bare = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return Signer(key=key, certificate=builder.sign(key, None if bare else hashes.SHA256()))


@pytest.mark.parametrize("method", [f"{MORE}rsa-sha256", f"{MORE}ecdsa-sha256"])
@pytest.mark.parametrize(
    "key",
    [
        pytest.param(lambda: dsa.generate_private_key(2048), id="DSA"),
        pytest.param(ed25519.Ed25519PrivateKey.generate, id="Ed25519"),
        pytest.param(ed448.Ed448PrivateKey.generate, id="Ed448"),
    ],
)
def test_keys_of_other_kinds_verify_nothing(
    key: Callable[[], dsa.DSAPrivateKey], method: str, honest_xml: bytes, refusal: Refused
) -> None:
    signer = self_signed(key())
    refused = refusal(forge(honest_xml, signer, Shape(method=method)), signer)
    assert (refused.kind, refused.detail.split(":")[0]) == (Kind.SIGNATURE_INVALID, "key type")


# ── RSA ──

PSS = f"{MORE_2007}sha256-rsa-MGF1"
PADDINGS: dict[str, tuple[str, padding.AsymmetricPadding, hashes.HashAlgorithm]] = {
    "salt of none": (PSS, padding.PSS(padding.MGF1(hashes.SHA256()), 0), hashes.SHA256()),
    "salt of 20": (PSS, padding.PSS(padding.MGF1(hashes.SHA256()), 20), hashes.SHA256()),
    "salt of 33": (PSS, padding.PSS(padding.MGF1(hashes.SHA256()), 33), hashes.SHA256()),
    "longest salt": (PSS, padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH), hashes.SHA256()),
    "mask by SHA-1": (PSS, padding.PSS(padding.MGF1(hashes.SHA1()), 32), hashes.SHA256()),  # noqa: S303 - to be refused
    "mask by SHA-512": (PSS, padding.PSS(padding.MGF1(hashes.SHA512()), 32), hashes.SHA256()),
    "another hash": (PSS, padding.PSS(padding.MGF1(hashes.SHA512()), 64), hashes.SHA512()),
    "PKCS#1 as PSS": (PSS, padding.PKCS1v15(), hashes.SHA256()),
    "PSS as PKCS#1": (f"{MORE}rsa-sha256", padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()),
    "SHA-1 as SHA-256": (f"{MORE}rsa-sha256", padding.PKCS1v15(), hashes.SHA1()),  # noqa: S303 - to be refused
    "SHA-512 as SHA-256": (f"{MORE}rsa-sha256", padding.PKCS1v15(), hashes.SHA512()),
}


@pytest.mark.parametrize(("method", "pad", "algorithm"), PADDINGS.values(), ids=PADDINGS)
def test_rsa_is_taken_with_the_parameters_of_its_method_alone(
    *,
    method: str,
    pad: padding.AsymmetricPadding,
    algorithm: hashes.HashAlgorithm,
    honest_xml: bytes,
    belasting: Signer,
    refusal: Refused,
) -> None:
    body = forge(honest_xml, belasting, Shape(method=method), raw=lambda data: belasting.key.sign(data, pad, algorithm))
    refused = refusal(body, belasting)
    assert (refused.kind, refused.detail) == (Kind.SIGNATURE_INVALID, "signature value does not match")


def number(signature: bytes) -> int:
    return int.from_bytes(signature, "big")


RSA_OCTETS: dict[str, Callable[[bytes, int], bytes]] = {
    "zero": lambda good, _: bytes(len(good)),
    "one": lambda good, _: (1).to_bytes(len(good), "big"),
    "the modulus": lambda good, modulus: modulus.to_bytes(len(good), "big"),
    "modulus less one": lambda good, modulus: (modulus - 1).to_bytes(len(good), "big"),
    "modulus less the signature": lambda good, modulus: (modulus - number(good)).to_bytes(len(good), "big"),
    "modulus and the signature": lambda good, modulus: (modulus + number(good)).to_bytes(len(good) + 1, "big"),
    "a zero before": lambda good, _: b"\0" + good,
    "a zero behind": lambda good, _: good + b"\0",
    "one octet short": lambda good, _: good[:-1],
    "first octets only": lambda good, _: good[:64],
    "turned round": lambda good, _: good[::-1],
    "twice": lambda good, _: good + good,
}


@pytest.mark.parametrize("change", RSA_OCTETS.values(), ids=RSA_OCTETS)
@pytest.mark.parametrize("method", [f"{MORE}rsa-sha256", PSS])
def test_no_other_octets_are_an_rsa_signature(
    method: str, change: Callable[[bytes, int], bytes], honest_xml: bytes, belasting: Signer, refusal: Refused
) -> None:
    modulus = belasting.key.public_key().public_numbers().n

    def changed(data: bytes) -> bytes:
        return change(raw_signature(data, belasting.key, method), modulus)

    refused = refusal(forge(honest_xml, belasting, Shape(method=method), raw=changed), belasting)
    assert (refused.kind, refused.detail) == (Kind.SIGNATURE_INVALID, "signature value does not match")


def test_a_cube_root_is_no_signature_of_an_rsa_key_with_exponent_3(
    honest_xml: bytes, judge: Judge, refusal: Refused
) -> None:
    """A verifier that does not look behind the digest takes any number that begins as a padded digest does."""
    signer = self_signed(rsa.generate_private_key(3, 2048))
    assert judge(forge(honest_xml, signer), signer)

    def forged(data: bytes) -> bytes:
        digest = hashes.Hash(hashes.SHA256())
        digest.update(data)
        info = bytes.fromhex("3031300d060960864801650304020105000420") + digest.finalize()
        block = b"\x00\x01" + b"\xff" * 8 + b"\x00" + info
        root = cube_root(number(block.ljust(256, b"\xff")))
        assert (root**3).to_bytes(256, "big").startswith(block)
        return root.to_bytes(256, "big")

    assert refusal(forge(honest_xml, signer, raw=forged), signer).detail == "signature value does not match"


def cube_root(value: int) -> int:
    low, high = 0, 1 << (value.bit_length() // 3 + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**3 <= value else (low, middle - 1)
    return low


# ── ECDSA ──

ORDER_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def octets(r: int, s: int, width: int = 32) -> bytes:
    return r.to_bytes(width, "big") + s.to_bytes(width, "big")


EC_OCTETS: dict[str, Callable[[int, int], bytes]] = {
    "r is zero": lambda _, s: octets(0, s),
    "s is zero": lambda r, _: octets(r, 0),
    "both are zero": lambda _, __: octets(0, 0),
    "both are one": lambda _, __: octets(1, 1),
    "r is the order": lambda _, s: octets(ORDER_P256, s),
    "s is the order": lambda r, _: octets(r, ORDER_P256),
    "both are the order": lambda _, __: octets(ORDER_P256, ORDER_P256),
    "r is the order and one": lambda _, s: octets(ORDER_P256 + 1, s),
    "the largest": lambda _, __: b"\xff" * 64,
    "r and s exchanged": lambda r, s: octets(s, r),
    "r of the other sign": lambda r, s: octets(ORDER_P256 - r, s),
    "s with the order added": lambda r, s: octets(r, s + ORDER_P256, 33),
    "a zero before each": lambda r, s: octets(r, s, 33),
    "a zero behind": lambda r, s: octets(r, s) + b"\0",
    "two octets short": lambda r, s: octets(r, s)[:-2],
    "r alone": lambda r, _: octets(r, 0)[:32],
    "nothing": lambda _, __: b"",
    "twice": lambda r, s: octets(r, s) * 2,
}


def split(signature: bytes) -> tuple[int, int]:
    half = len(signature) // 2
    return number(signature[:half]), number(signature[half:])


@pytest.mark.parametrize("change", EC_OCTETS.values(), ids=EC_OCTETS)
def test_no_other_octets_are_an_ecdsa_signature(
    change: Callable[[int, int], bytes], honest_xml: bytes, gemeente: Signer, refusal: Refused
) -> None:
    def changed(data: bytes) -> bytes:
        return change(*split(raw_signature(data, gemeente.key, gemeente.method)))

    assert refusal(forge(honest_xml, gemeente, raw=changed), gemeente).kind is Kind.SIGNATURE_INVALID


def test_an_ecdsa_signature_in_der_is_refused(honest_xml: bytes, gemeente: Signer, refusal: Refused) -> None:
    body = forge(honest_xml, gemeente, raw=lambda data: gemeente.key.sign(data, ec.ECDSA(hashes.SHA256())))
    assert refusal(body, gemeente).detail == "signature value does not match"


def test_the_twin_of_an_ecdsa_signature_signs_the_same_content_and_no_other(
    *, honest: Message, honest_xml: bytes, evil_xml: bytes, gemeente: Signer, judge: Judge, refusal: Refused
) -> None:
    def twin(data: bytes) -> bytes:
        r, s = split(raw_signature(data, gemeente.key, gemeente.method))
        return octets(r, ORDER_P256 - s)

    body = forge(honest_xml, gemeente, raw=twin)
    assert judge(body, gemeente) == honest
    value = etree.fromstring(body).findtext(f".//{{{DS}}}SignatureValue") or ""
    replayed = forge(evil_xml, gemeente, raw=lambda _: b64decode(value))
    assert refusal(replayed, gemeente).detail == "signature value does not match"


@pytest.mark.parametrize("signed_with", ["sha384", "sha512", "sha1"])
def test_an_ecdsa_signature_of_another_digest_is_refused(
    signed_with: str, honest_xml: bytes, gemeente: Signer, refusal: Refused
) -> None:
    body = forge(honest_xml, gemeente, raw=lambda data: raw_signature(data, gemeente.key, f"ecdsa-{signed_with}"))
    assert refusal(body, gemeente).detail == "signature value does not match"


# ── KeyInfo ──


def key_value(key: ec.EllipticCurvePrivateKey) -> str:
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return (
        f'<ds:KeyValue><d:ECKeyValue xmlns:d="{DSIG11}"><d:NamedCurve URI="urn:oid:1.2.840.10045.3.1.7"/>'
        f"<d:PublicKey>{b64encode(point).decode()}</d:PublicKey></d:ECKeyValue></ds:KeyValue>"
    )


def der_key_value(key: ec.EllipticCurvePrivateKey) -> str:
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f'<d:DEREncodedKeyValue xmlns:d="{DSIG11}">{b64encode(der).decode()}</d:DEREncodedKeyValue>'


def certificate_of(signer: Signer) -> str:
    return x509_certificate(signer.certificate.public_bytes(Encoding.DER))


KEY_INFOS: dict[str, Callable[[Signer, Signer], str]] = {
    "key value": lambda _, other: key_value(other.key),
    "key value before the certificate": lambda known, other: key_value(other.key) + known.x509_data,
    "key value behind the certificate": lambda known, other: known.x509_data + key_value(other.key),
    "key in DER": lambda _, other: der_key_value(other.key),
    "key in DER behind the certificate": lambda known, other: known.x509_data + der_key_value(other.key),
    "second X509Data": lambda known, other: known.x509_data + other.x509_data,
    "first X509Data": lambda known, other: other.x509_data + known.x509_data,
    "second certificate": lambda known, other: (
        f"<ds:X509Data>{certificate_of(known)}{certificate_of(other)}</ds:X509Data>"
    ),
    "first certificate": lambda known, other: (
        f"<ds:X509Data>{certificate_of(other)}{certificate_of(known)}</ds:X509Data>"
    ),
    "both in one": lambda known, other: (
        "<ds:X509Data>"
        + x509_certificate(known.certificate.public_bytes(Encoding.DER) + other.certificate.public_bytes(Encoding.DER))
        + "</ds:X509Data>"
    ),
    "PEM": lambda known, _: (
        f"<ds:X509Data>{x509_certificate(known.certificate.public_bytes(Encoding.PEM))}</ds:X509Data>"
    ),
    "the other's alone": lambda _, other: other.x509_data,
    "the registered alone": lambda known, _: known.x509_data,
    "retrieval": lambda _, __: '<ds:RetrievalMethod URI="file:///etc/ssl/cert.pem"/>',
    "reference": lambda _, __: f'<d:KeyInfoReference xmlns:d="{DSIG11}" URI="#message"/>',
    "key identifier": lambda _, __: "<ds:X509Data><ds:X509SKI>AAAA</ds:X509SKI></ds:X509Data>",
    "revocation list": lambda known, _: (
        f"<ds:X509Data>{certificate_of(known)}<ds:X509CRL>AAAA</ds:X509CRL></ds:X509Data>"
    ),
    "PGP": lambda _, __: "<ds:PGPData><ds:PGPKeyID>AAAA</ds:PGPKeyID></ds:PGPData>",
    "foreign": lambda known, _: f'{known.x509_data}<x:Key xmlns:x="urn:x"/>',
    "nothing": lambda _, __: "",
}


@pytest.mark.parametrize("show", KEY_INFOS.values(), ids=KEY_INFOS)
def test_no_way_of_showing_another_key_makes_its_signature_valid(
    show: Callable[[Signer, Signer], str], honest_xml: bytes, gemeente: Signer, refusal: Refused
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = gemeente.certificate.subject
    valid = (gemeente.certificate.not_valid_before_utc, gemeente.certificate.not_valid_after_utc)
    serial = gemeente.certificate.serial_number
    certificate = x509.CertificateBuilder(name, name, key.public_key(), serial, *valid).sign(key, hashes.SHA256())
    other = Signer(key=key, certificate=certificate)
    refused = refusal(forge(honest_xml, other, Shape(key_info=show(gemeente, other))), gemeente)
    assert refused.kind in (Kind.SIGNATURE_INVALID, Kind.SIGNER_MISMATCH)


# ── What is signed, and how often ──


def signature_of(body: bytes) -> bytes:
    return body[body.index(b"<ds:Signature ") : body.index(b"</ds:Signature>") + len(b"</ds:Signature>")]


def test_a_message_without_a_signature_is_refused(honest_xml: bytes, gemeente: Signer, refusal: Refused) -> None:
    assert refusal(honest_xml, gemeente).detail == "signature-count: the document is not signed"


def test_two_signatures_are_refused_in_either_order_whoever_made_them(
    honest_xml: bytes, gemeente: Signer, belasting: Signer, refusal: Refused
) -> None:
    first, second = (signature_of(forge(honest_xml, signer)) for signer in (gemeente, belasting))
    for pair in (first + second, second + first, first + first):
        body = honest_xml.replace(b"</Message>", pair + b"</Message>")
        assert refusal(body, gemeente).detail.startswith("signature-count")
    countersigned = forge(forge(honest_xml, gemeente), belasting)
    assert refusal(countersigned, gemeente).detail.startswith("signature-count")


def test_a_signature_around_the_message_is_refused(honest_xml: bytes, gemeente: Signer, refusal: Refused) -> None:
    signature = etree.fromstring(signature_of(forge(honest_xml, gemeente, Shape(transforms=(EXCLUSIVE,)))))
    place = etree.SubElement(signature, f"{{{DS}}}Object")
    place.append(etree.fromstring(honest_xml))
    refused = refusal(etree.tostring(signature), gemeente)
    assert [(error.pointer, error.detail[:16]) for error in refused.errors] == [("/", "the root element")]


URIS = {
    "none": None,
    "file": "file:///etc/passwd",
    "path": "/etc/passwd",
    "relative": "message.xml",
    "web": "http://127.0.0.1:{port}/message.xml",
    "web, with the Id": "http://127.0.0.1:{port}/#message",
    "content id": "cid:upfile1",
    "root by XPointer": "#xpointer(/)",
    "Id by XPointer": "#xpointer(id('message'))",
    "Id by XPath": "#xpointer(/*[@Id='message'])",
    "element scheme": "#element(/1)",
    "another Id": "#other",
    "Id in capitals": "#Message",
    "Id with a space": "#message ",
    "only #": "#",
    "percent": "#%6dessage",
    "query": "?#message",
    "space": " ",
}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket to which nothing may connect."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.mark.parametrize("uri", URIS.values(), ids=URIS)
def test_nothing_is_referred_to_but_the_message_itself(
    uri: str | None, honest_xml: bytes, gemeente: Signer, listener: socket.socket, refusal: Refused
) -> None:
    port = listener.getsockname()[1]
    if uri is None:
        body = forge(honest_xml, gemeente).replace(b' URI="#message"', b"")
    else:
        body = forge(honest_xml, gemeente, Shape(uri=uri.format(port=port)))
    refused = refusal(body, gemeente)
    assert (refused.kind, refused.detail.split(":")[0]) == (Kind.SIGNATURE_INVALID, "reference-uri")
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_the_forger_makes_what_is_taken(
    honest: Message, honest_xml: bytes, gemeente: Signer, belasting: Signer, judge: Judge
) -> None:
    """Otherwise nothing above shows anything: each method, digest and form of reference that is ours is accepted."""
    for method in sorted(METHODS):
        signer = gemeente if "ecdsa" in method else belasting
        assert hash_named(method).digest_size >= 32
        assert judge(forge(honest_xml, signer, Shape(method=method)), signer) == honest
    for digest in sorted(DIGESTS):
        assert judge(forge(honest_xml, gemeente, Shape(digest=digest, uri="")), gemeente) == honest
