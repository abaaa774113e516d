"""What we sign with code of our own is what other implementations sign and verify: signxml, xmlsec1, joserfc."""

import subprocess
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import example, given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.errors import BadSignatureError
from joserfc.jwk import ECKey, RSAKey
from lxml import etree
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureConstructionMethod, SignatureMethod
from signxml.signer import XMLSigner
from signxml.verifier import SignatureConfiguration, VerifyResult, XMLVerifier

from gateway.crypto.canonical import canonical_json
from gateway.crypto.jws import JwsSigner, compact_jws
from gateway.crypto.jwssig import algorithms_of
from gateway.crypto.signing import SigningKey, XmlSigner, sign_compact, sign_enveloped

NS = "urn:example:letter"
DS = "{http://www.w3.org/2000/09/xmldsig#}"
KEYS: dict[str, Callable[[], Any]] = {
    "RSA": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
}
METHODS = {
    "RSA": SignatureMethod.RSA_SHA256,
    "P-256": SignatureMethod.ECDSA_SHA256,
    "P-384": SignatureMethod.ECDSA_SHA384,
    "P-521": SignatureMethod.ECDSA_SHA512,
}
TOKEN_KEYS = ("RSA", "P-256", "P-384")
# Whatever XML 1.0 can hold, with what canonical XML writes in its own way: white space, quotes, angle brackets.
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cn"]) | st.sampled_from("\t\n\r\"'<>&—é😀"))


@st.composite
def letters(draw: st.DrawFn) -> etree._Element:
    """Elements of all kinds: texts, attributes, empty ones, comments, namespaces that are used and that are not."""
    root = etree.Element(f"{{{NS}}}Letter", {"Id": "letter"}, nsmap={None: NS, "unused": "urn:example:unused"})  # type: ignore[dict-item]  # the stubs forget the default namespace
    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from([f"{{{NS}}}Part", "{urn:example:other}Part", "Part"]))
        part = etree.SubElement(root, name, {key: draw(TEXTS) for key in draw(st.sets(st.sampled_from("abc")))})
        part.text = draw(TEXTS | st.none())
        if draw(st.booleans()):
            part.append(etree.Comment("not signed"))
        part.tail = draw(TEXTS | st.none())
    return root


@pytest.fixture(scope="module")
def keys() -> dict[str, tuple[Any, x509.Certificate]]:
    """A key of each kind, with a certificate of its own."""
    return {name: with_certificate(make()) for name, make in KEYS.items()}


def with_certificate(key: Any) -> tuple[Any, x509.Certificate]:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "documenten.voorbeeld.be")])
    start = datetime(2026, 11, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key())
    builder = builder.serial_number(7).not_valid_before(start).not_valid_after(start + timedelta(days=365))
    return key, builder.sign(key, hashes.SHA256())


def canonical(element: etree._Element) -> bytes:
    return etree.tostring(element, method="c14n", exclusive=True, with_comments=False)


def signed_by_signxml(element: etree._Element, key: SigningKey, certificate: x509.Certificate, kind: str) -> bytes:
    signer = XMLSigner(
        method=SignatureConstructionMethod.enveloped,
        signature_algorithm=METHODS[kind],
        digest_algorithm=DigestAlgorithm.SHA256,
        c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
    )
    return etree.tostring(signer.sign(element, key=key, cert=[certificate]))


def without_value(root: etree._Element) -> etree._Element:
    """Take the value of the signature out: with an EC key each is another."""
    value = root[-1].find(f"{DS}SignatureValue")
    assert value is not None
    value.text = ""
    return root


def private_key(key: SigningKey) -> ECKey | RSAKey:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return RSAKey.import_key(pem) if isinstance(key, rsa.RSAPrivateKey) else ECKey.import_key(pem)


def registry(algorithm: str) -> jws.JWSRegistry:
    found = jws.JWSRegistry(algorithms=[algorithm])
    found.max_header_length = 10_000
    return found


# ── XML ──


@settings(max_examples=60, deadline=None)
@given(element=letters(), kind=st.sampled_from(sorted(KEYS)))
def test_signxml_signs_the_same(element: etree._Element, kind: str, keys: dict[str, Any]) -> None:
    key, certificate = keys[kind]
    ours = etree.fromstring(sign_enveloped(element, key, certificate))
    theirs = etree.fromstring(signed_by_signxml(element, key, certificate, kind))
    shown = theirs[-1].find(f".//{DS}X509Certificate")
    assert shown is not None
    shown.text = "".join((shown.text or "").split())  # white space between the lines of Base64 says nothing
    if kind == "RSA":  # of which two signatures are the same
        assert canonical(ours) == canonical(theirs)
    assert canonical(without_value(ours)) == canonical(without_value(theirs))


@settings(max_examples=60, deadline=None)
@given(element=letters(), kind=st.sampled_from(sorted(KEYS)))
def test_signxml_finds_all_that_was_there_signed(element: etree._Element, kind: str, keys: dict[str, Any]) -> None:
    key, certificate = keys[kind]
    result = XMLVerifier().verify(
        sign_enveloped(element, key, certificate),
        x509_cert=certificate,
        expect_config=SignatureConfiguration(
            location="./",
            signature_methods=frozenset({METHODS[kind]}),
            digest_algorithms=frozenset({DigestAlgorithm.SHA256}),
            verification_time=certificate.not_valid_before_utc,
        ),
    )
    assert isinstance(result, VerifyResult)
    assert result.signed_xml is not None
    assert canonical(result.signed_xml) == canonical(element)


@pytest.mark.needs("xmlsec1")
@pytest.mark.parametrize("kind", KEYS)
def test_the_xmlsec1_program_verifies_what_we_sign(kind: str, keys: dict[str, Any], tmp_path: Path) -> None:
    key, certificate = keys[kind]
    public_key = tmp_path / "signer.pub"
    public_key.write_bytes(certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    element = etree.fromstring(
        f'<Letter xmlns="{NS}" xmlns:o="urn:example:other" Id="letter"><o:Part b="&#9;&quot;2&amp;" a="é">één &#13; '
        "&lt;2&gt;<!-- not signed --></o:Part><Empty/>\n</Letter>"
    )
    body = sign_enveloped(element, key, certificate)
    command = ["xmlsec1", "--verify", "--id-attr:Id", f"{NS}:Letter", "--enabled-key-data", "key-name"]
    for content, succeeds in ((body, True), (body.replace("één".encode(), b"twee"), False)):
        file = tmp_path / "letter.xml"
        file.write_bytes(content)
        done = subprocess.run(
            [*command, "--pubkey-pem", str(public_key), str(file)], capture_output=True, check=False, timeout=30
        )
        assert (done.returncode == 0) is succeeds, done.stderr


def test_what_is_signed_stands_in_the_file_as_it_is_signed(keys: dict[str, Any]) -> None:
    element = etree.fromstring(f'<Letter xmlns="{NS}" Id="letter"><Empty/><!-- a --> b</Letter>')
    body = sign_enveloped(element, *keys["P-256"])
    assert body.startswith(b"<?xml version='1.0' encoding='UTF-8'?>\n" + canonical(element).removesuffix(b"</Letter>"))
    signed_info = etree.fromstring(body)[-1][0]
    assert canonical(signed_info) in body
    assert canonical(element) == canonical(
        etree.fromstring(f'<Letter xmlns="{NS}" Id="letter"><Empty/><!-- a --> b</Letter>')
    )


@pytest.mark.parametrize("attributes", [{}, {"Id": ""}, {"Id": 'a"b'}, {"Id": "a-b"}, {"Id": "a\n"}])
def test_what_has_no_plain_id_is_not_signed(attributes: dict[str, str], keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="has an Id of letters"):
        sign_enveloped(etree.Element("Letter", attributes), *keys["P-256"])


def test_a_signer_of_xml_needs_the_key_of_its_certificate(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not the key of the certificate"):
        XmlSigner(keys["P-256"][1], keys["P-384"][0])


# ── JSON Web Signatures ──

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(fields=st.dictionaries(st.text(), JSON, max_size=4), kind=st.sampled_from(TOKEN_KEYS))
@example(fields={}, kind="RSA")
def test_joserfc_signs_the_same_and_verifies_it(fields: dict[str, Any], kind: str, keys: dict[str, Any]) -> None:
    key, certificate = keys[kind]
    algorithm = algorithms_of(key)[0]
    token = sign_compact(fields, key, certificate, content="message+json")
    signed = jws.deserialize_compact(token, private_key(key), registry=registry(algorithm))
    assert signed.headers().keys() == {"alg", "cty", "x5c"}
    assert (signed.headers()["alg"], signed.headers()["cty"]) == (algorithm, "message+json")
    assert b64decode(signed.headers()["x5c"][0]) == certificate.public_bytes(Encoding.DER)
    assert signed.payload == canonical_json(fields)
    theirs = jws.serialize_compact(
        signed.headers(), canonical_json(fields), private_key(key), registry=registry(algorithm)
    )
    assert token.decode().rpartition(".")[0] == theirs.rpartition(".")[0]


@settings(max_examples=30, deadline=None)
@given(fields=st.dictionaries(st.text(), JSON, max_size=4))
def test_joserfc_signs_and_verifies_the_same_statements(fields: dict[str, Any], keys: dict[str, Any]) -> None:
    key, certificate = keys["P-256"]
    token = JwsSigner(certificate, key).sign(fields, "dgw-receipt+jws")
    signed = jws.deserialize_compact(token, private_key(key), registry=registry("ES256"))
    assert signed.payload == canonical_json(fields)
    theirs = jws.serialize_compact(
        signed.headers(), canonical_json(fields), private_key(key), registry=registry("ES256")
    )
    assert token.rpartition(".")[0] == theirs.rpartition(".")[0]


@pytest.mark.parametrize("kind", TOKEN_KEYS)
def test_joserfc_refuses_a_token_that_was_changed(kind: str, keys: dict[str, Any]) -> None:
    key, certificate = keys[kind]
    token = sign_compact({"a": 1}, key, certificate, content="message+json")
    header, _, signature = token.split(b".")
    changed = compact_jws({}, {"a": 2}, bytes).split(b".")[1]
    with pytest.raises(BadSignatureError):
        jws.deserialize_compact(
            b".".join((header, changed, signature)), private_key(key), registry=registry(algorithms_of(key)[0])
        )
