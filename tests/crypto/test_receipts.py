"""Receipts: the same facts in both forms, believed only when the gateway's receipt certificate signed them."""

import json
import subprocess
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OctKey
from lxml import etree

from gateway.crypto.jws import JwsSigner, strict_json
from gateway.crypto.receipts import (
    RECEIPT_TYP,
    Receipt,
    ReceiptDocument,
    ReceiptSigner,
    verify_receipt_jws,
    verify_receipt_xml,
)
from gateway.crypto.schema import read_schema
from gateway.crypto.signing import sign_enveloped
from gateway.domain.ids import EnterpriseNumber, MessageId, uuid7
from gateway.errors import Kind, Refusal

NS = "urn:document-gateway:receipt:1"
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture(scope="session")
def certificate(certs: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificates((certs / "receipts.pem").read_bytes())[0]


@pytest.fixture(scope="session")
def key(certs: Path) -> ec.EllipticCurvePrivateKey:
    return private_key(certs / "receipts.key")


def private_key(file: Path) -> ec.EllipticCurvePrivateKey:
    found = load_pem_private_key(file.read_bytes(), None)
    assert isinstance(found, ec.EllipticCurvePrivateKey)
    return found


@pytest.fixture(scope="session")
def signer(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> ReceiptSigner:
    return ReceiptSigner(certificate, key)


@pytest.fixture(scope="session")
def receipt(certificate: x509.Certificate) -> Receipt:
    issued_at = certificate.not_valid_before_utc + timedelta(hours=1)
    return Receipt(
        gateway="gateway.example.be",
        message_id=MessageId(uuid7(1_795_341_600_000, b"0123456789")),
        issued_at=issued_at,
        sender=EnterpriseNumber("0406798006"),
        profile="burgerzaken",
        reference="2026-000123",
        status="accepted",
        accepted_at=issued_at + timedelta(microseconds=5),
        documents=(
            ReceiptDocument(part="upfile1", sha256=EMPTY_SHA256, size_bytes=102400),
            ReceiptDocument(part="upfile2", sha256="0" * 64, size_bytes=1),
        ),
        message_sha256="1" * 64,
    )


def encoded(value: object) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def decoded(segment: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(urlsafe_b64decode(segment + "=="))
    return value


def forged(
    header: str, payload: str, key: ec.EllipticCurvePrivateKey, algorithm: hashes.HashAlgorithm | None = None
) -> str:
    """Sign whatever header and payload, as the holder of the receipt key could."""
    signing_input = f"{header}.{payload}"
    r, s = decode_dss_signature(key.sign(signing_input.encode(), ec.ECDSA(algorithm or hashes.SHA256())))
    signature = urlsafe_b64encode(r.to_bytes(32, "big") + s.to_bytes(32, "big")).decode().rstrip("=")
    return f"{signing_input}.{signature}"


# ── The formats, as they will be for ten years ──


def test_the_facts_stand_in_the_jws_as_published(
    signer: ReceiptSigner, receipt: Receipt, certificate: x509.Certificate
) -> None:
    header, payload, _ = signer.jws(receipt).split(".")
    x5c = b64encode(certificate.public_bytes(Encoding.DER)).decode()
    assert decoded(header) == {"typ": "dgw-receipt+jws", "alg": "ES256", "x5c": [x5c]}
    assert decoded(payload) == {
        "iss": "gateway.example.be",
        "sub": str(receipt.message_id),
        "iat": int(receipt.issued_at.timestamp()),
        "sender": "0406798006",
        "profile": "burgerzaken",
        "reference": "2026-000123",
        "status": "accepted",
        "acceptedAt": receipt.accepted_at.isoformat().replace("+00:00", "Z"),
        "documents": [
            {"part": "upfile1", "sha256": EMPTY_SHA256, "size": 102400},
            {"part": "upfile2", "sha256": "0" * 64, "size": 1},
        ],
        "messageSha256": "1" * 64,
    }


def test_the_facts_stand_in_the_xml_as_published(signer: ReceiptSigner, receipt: Receipt) -> None:
    root = etree.fromstring(signer.xml(replace(receipt, leaf_sha256="2" * 64)))
    assert read_schema("receipt.xsd")(root)
    assert (root.tag, root.get("Id"), root.nsmap[None]) == (f"{{{NS}}}Receipt", "receipt", NS)
    assert [(etree.QName(child).localname, child.text) for child in root if child.tag.startswith(f"{{{NS}}}")] == [
        ("Gateway", "gateway.example.be"),
        ("MessageId", str(receipt.message_id)),
        ("IssuedAt", receipt.issued_at.isoformat().replace("+00:00", "Z")),
        ("Sender", "0406798006"),
        ("Profile", "burgerzaken"),
        ("Reference", "2026-000123"),
        ("Status", "accepted"),
        ("AcceptedAt", receipt.accepted_at.isoformat().replace("+00:00", "Z")),
        ("Documents", None),
        ("MessageSha256", "1" * 64),
        ("LeafSha256", "2" * 64),
    ]
    assert [dict(document.attrib) for document in root[8]] == [
        {"part": "upfile1", "sha256": EMPTY_SHA256, "size": "102400"},
        {"part": "upfile2", "sha256": "0" * 64, "size": "1"},
    ]


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_both_forms_state_the_facts_that_were_given(
    data: st.DataObject, signer: ReceiptSigner, receipt: Receipt, certificate: x509.Certificate
) -> None:
    sha256 = st.binary(min_size=32, max_size=32).map(bytes.hex)
    document = st.builds(
        ReceiptDocument,
        part=st.integers(1, 20).map(lambda number: f"upfile{number}"),
        sha256=sha256,
        size_bytes=st.integers(1, 10**12 - 1),
    )
    any_time = st.datetimes(datetime(2026, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - Hypothesis takes naive bounds
    stated = replace(
        receipt,
        message_id=MessageId(uuid7(data.draw(st.integers(0, 2**48 - 1)), data.draw(st.binary(min_size=10)))),
        issued_at=receipt.issued_at + timedelta(seconds=data.draw(st.integers(0, 86400))),
        status=data.draw(st.sampled_from(["accepted", "scheduled"])),
        accepted_at=data.draw(any_time),
        documents=tuple(data.draw(st.lists(document, min_size=1, max_size=20))),
        message_sha256=data.draw(sha256),
        leaf_sha256=data.draw(st.none() | sha256),
    )
    assert verify_receipt_jws(signer.jws(stated), certificate) == stated
    assert verify_receipt_xml(signer.xml(stated), certificate) == stated


def test_the_moment_of_issue_is_stated_to_the_second(
    signer: ReceiptSigner, receipt: Receipt, certificate: x509.Certificate
) -> None:
    finer = replace(receipt, issued_at=receipt.issued_at + timedelta(microseconds=999_999))
    assert verify_receipt_jws(signer.jws(finer), certificate) == receipt
    assert verify_receipt_xml(signer.xml(finer), certificate) == receipt


# ── Who signed ──


@pytest.mark.needs("xmlsec1")
def test_the_xmlsec1_program_verifies_an_xml_receipt(
    signer: ReceiptSigner, receipt: Receipt, certificate: x509.Certificate, tmp_path: Path
) -> None:
    public_key = tmp_path / "receipts.pub"
    public_key.write_bytes(certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    command = ["xmlsec1", "--verify", "--id-attr:Id", f"{NS}:Receipt", "--enabled-key-data", "key-name"]
    for body, succeeds in ((signer.xml(receipt), True), (signer.xml(receipt).replace(b"102400", b"102401"), False)):
        file = tmp_path / "receipt.xml"
        file.write_bytes(body)
        done = subprocess.run(
            [*command, "--pubkey-pem", str(public_key), str(file)], capture_output=True, check=False, timeout=30
        )
        assert (done.returncode == 0) is succeeds, done.stderr


def test_a_receipt_of_another_signer_is_not_believed(
    certs: Path, signer: ReceiptSigner, receipt: Receipt, certificate: x509.Certificate
) -> None:
    other = x509.load_pem_x509_certificates((certs / "gemeente.pem").read_bytes())[0]
    stranger = ReceiptSigner(other, private_key(certs / "gemeente.key"))
    for verify in (
        lambda: verify_receipt_jws(stranger.jws(receipt), certificate),
        lambda: verify_receipt_xml(stranger.xml(receipt), certificate),
        lambda: verify_receipt_jws(signer.jws(receipt), other),
        lambda: verify_receipt_xml(signer.xml(receipt), other),
    ):
        with pytest.raises(Refusal) as caught:
            verify()
        assert caught.value.kind is Kind.SIGNATURE_INVALID
        assert "another certificate than the trusted one" in caught.value.detail


def test_a_signer_needs_the_key_of_its_certificate(certificate: x509.Certificate) -> None:
    with pytest.raises(ValueError, match="not the key of the certificate"):
        ReceiptSigner(certificate, ec.generate_private_key(ec.SECP256R1()))


def test_a_signer_needs_a_key_on_p256(certificate: x509.Certificate) -> None:
    with pytest.raises(ValueError, match="ES256 needs a key on P-256, not on secp384r1"):
        JwsSigner(certificate, ec.generate_private_key(ec.SECP384R1()))


@pytest.mark.parametrize("off", [timedelta(days=-1), timedelta(days=5000)])
def test_a_receipt_issued_outside_the_validity_of_the_certificate_is_not_believed(
    off: timedelta, signer: ReceiptSigner, receipt: Receipt, certificate: x509.Certificate
) -> None:
    outside = replace(receipt, issued_at=receipt.issued_at + off)
    for verify in (
        lambda: verify_receipt_jws(signer.jws(outside), certificate),
        lambda: verify_receipt_xml(signer.xml(outside), certificate),
    ):
        with pytest.raises(Refusal, match="issued outside the validity of the certificate"):
            verify()


# ── What was signed: JWS ──


def test_a_changed_jws_is_not_believed(signer: ReceiptSigner, receipt: Receipt, certificate: x509.Certificate) -> None:
    header, payload, signature = signer.jws(receipt).split(".")
    claims = decoded(payload) | {"reference": "2026-000124"}
    with pytest.raises(Refusal, match="signature value does not match"):
        verify_receipt_jws(f"{header}.{encoded(claims)}.{signature}", certificate)


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"alg": "none"}, "alg: only ES256"),
        ({"alg": "HS256"}, "alg: only ES256"),
        ({"alg": "ES384"}, "alg: only ES256"),
        ({"typ": "JWT"}, "typ: only dgw-receipt"),
        ({"x5c": []}, "x5c: signed with another certificate"),
        ({"x5c": "MII"}, "x5c: signed with another certificate"),
        ({"jku": "https://127.0.0.1/"}, "the header holds typ, alg and x5c, and nothing else"),
        ({"crit": ["b64"], "b64": False}, "the header holds typ, alg and x5c, and nothing else"),
        ({"kid": "1"}, "the header holds typ, alg and x5c, and nothing else"),
    ],
)
def test_another_header_is_refused_even_well_signed(
    change: dict[str, Any],
    detail: str,
    *,
    signer: ReceiptSigner,
    receipt: Receipt,
    key: ec.EllipticCurvePrivateKey,
    certificate: x509.Certificate,
) -> None:
    header, payload, _ = signer.jws(receipt).split(".")
    token = forged(encoded(decoded(header) | change), payload, key)
    with pytest.raises(Refusal) as caught:
        verify_receipt_jws(token, certificate)
    assert caught.value.kind is Kind.SIGNATURE_INVALID
    assert caught.value.detail.startswith(detail)


def test_a_code_made_with_the_public_key_is_refused(
    signer: ReceiptSigner, receipt: Receipt, certificate: x509.Certificate
) -> None:
    header, payload, _ = signer.jws(receipt).split(".")
    public_key = certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    registry = jws.JWSRegistry(algorithms=["HS256"])
    symmetric = OctKey.import_key(b64encode(public_key))
    token = jws.serialize_compact(
        decoded(header) | {"alg": "HS256"}, json.dumps(decoded(payload)), symmetric, registry=registry
    )
    with pytest.raises(Refusal, match="alg: only ES256"):
        verify_receipt_jws(token, certificate)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda _: "", id="empty"),
        pytest.param(lambda token: token + "=", id="padding"),
        pytest.param(lambda token: token + "\n", id="line end"),
        pytest.param(lambda token: " " + token, id="space"),
        pytest.param(lambda token: token + ".x", id="four parts"),
        pytest.param(lambda token: token.rpartition(".")[0] + ".", id="no signature"),
        pytest.param(lambda token: token[:-4], id="short signature"),
        pytest.param(lambda token: token.split(".")[0] + ".." + token.split(".")[2], id="no payload"),
        pytest.param(lambda token: "e30" + token[3:], id="other header"),
        pytest.param(lambda token: "é" + token, id="not ASCII"),
        pytest.param(lambda token: token + "A" * 70_000, id="too long"),
    ],
)
def test_what_is_no_token_is_refused(
    spoil: Callable[[str], str], signer: ReceiptSigner, receipt: Receipt, certificate: x509.Certificate
) -> None:
    with pytest.raises(Refusal) as caught:
        verify_receipt_jws(spoil(signer.jws(receipt)), certificate)
    assert caught.value.kind is Kind.SIGNATURE_INVALID


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "a b"},
        {"iss": 1},
        {"sub": "2026-000123"},
        {"sub": "7E8A7D2C-0000-7000-8000-000000000000"},
        {"sub": "7e8a7d2c-0000-4000-8000-000000000000"},
        {"iat": "2026-11-22T10:00:00Z"},
        {"iat": True},
        {"iat": 10**15},
        {"sender": "0406798007"},
        {"profile": "?"},
        {"reference": "?"},
        {"status": ""},
        {"acceptedAt": "2026-11-22"},
        {"documents": {}},
        {"documents": ["upfile1"]},
        {"documents": [{"part": "upfile1", "sha256": EMPTY_SHA256}]},
        {"documents": [{"part": "upfile1", "sha256": EMPTY_SHA256, "size": 0}]},
        {"documents": [{"part": "upfile1", "sha256": "x", "size": 1}]},
        {"messageSha256": "x"},
        {"leafSha256": None},
        {"extra": 1},
    ],
    ids=str,
)
def test_a_signed_statement_that_is_no_receipt_is_refused(
    change: dict[str, Any], signer: ReceiptSigner, receipt: Receipt, certificate: x509.Certificate
) -> None:
    claims = decoded(signer.jws(receipt).split(".")[1])
    token = signer.sign_jws(claims | change, RECEIPT_TYP)
    with pytest.raises(Refusal, match="no receipt: ") as caught:
        verify_receipt_jws(token, certificate)
    assert caught.value.kind is Kind.INVALID_MESSAGE


@pytest.mark.parametrize("missing", ["iss", "documents", "messageSha256"])
def test_a_receipt_lacks_no_fact(
    missing: str, signer: ReceiptSigner, receipt: Receipt, certificate: x509.Certificate
) -> None:
    claims = decoded(signer.jws(receipt).split(".")[1])
    del claims[missing]
    with pytest.raises(Refusal, match="a fact is missing"):
        verify_receipt_jws(signer.sign_jws(claims, RECEIPT_TYP), certificate)


@pytest.mark.parametrize(
    ("payload", "detail"),
    [(b"[]", "the payload is not a JSON object"), (b'{"iss":"a","iss":"b"}', "the payload is not JSON")],
)
def test_a_signed_payload_that_is_no_json_object_is_refused(
    payload: bytes,
    detail: str,
    *,
    signer: ReceiptSigner,
    receipt: Receipt,
    key: ec.EllipticCurvePrivateKey,
    certificate: x509.Certificate,
) -> None:
    header = signer.jws(receipt).split(".")[0]
    token = forged(header, urlsafe_b64encode(payload).decode().rstrip("="), key)
    with pytest.raises(Refusal, match=detail):
        verify_receipt_jws(token, certificate)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff",
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b"[NaN]",
        b"[Infinity]",
        b"[" * 33 + b"]" * 33,
        b"[" * 50_000,
        b'{"a":' * 33 + b"1" + b"}" * 33,
    ],
    ids=lambda text: repr(text[:20]),
)
def test_json_that_two_readers_could_read_differently_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|twice|deeper"):
        strict_json(text)


def test_json_of_32_levels_is_read() -> None:
    assert strict_json(b"[" * 32 + b"]" * 32) is not None


# ── What was signed: XML ──


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (b"2026-000123", b"2026-000124", Kind.SIGNATURE_INVALID),
        (b'size="1"', b'size="2"', Kind.SIGNATURE_INVALID),
        (b"<Profile>", b"<Extra/><Profile>", Kind.INVALID_MESSAGE),
        (b"</Receipt>", b"<Extra/></Receipt>", Kind.SIGNATURE_INVALID),
        (b"<Receipt ", b"<!DOCTYPE Receipt><Receipt ", Kind.MALFORMED_MESSAGE),
        (b"ecdsa-sha256", b"ecdsa-sha1", Kind.SIGNATURE_INVALID),
        (NS.encode(), b"urn:document-gateway:message:1", Kind.INVALID_MESSAGE),
    ],
)
def test_a_changed_xml_receipt_is_not_believed(
    old: bytes, new: bytes, kind: Kind, *, signer: ReceiptSigner, receipt: Receipt, certificate: x509.Certificate
) -> None:
    body = signer.xml(receipt)
    assert old in body
    with pytest.raises(Refusal) as caught:
        verify_receipt_xml(body.replace(old, new), certificate)
    assert caught.value.kind is kind


@pytest.mark.parametrize(
    ("name", "text"),
    [("Sender", "0406798007"), ("IssuedAt", "2026-02-30T00:00:00Z"), ("AcceptedAt", "2026-02-30T00:00:00Z")],
)
def test_signed_xml_that_keeps_the_schema_but_is_no_receipt_is_refused(
    name: str,
    text: str,
    *,
    signer: ReceiptSigner,
    receipt: Receipt,
    key: ec.EllipticCurvePrivateKey,
    certificate: x509.Certificate,
) -> None:
    root = etree.fromstring(signer.xml(receipt))
    root.remove(root[-1])
    element = root.find(f"{{{NS}}}{name}")
    assert element is not None
    element.text = text
    with pytest.raises(Refusal, match="no receipt: "):
        verify_receipt_xml(sign_enveloped(root, key, certificate), certificate)
