"""A message in two dialects is one message: the same fields, the same content, the same refusals, each in its words."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws

from gateway.crypto.dialects import Dialect, pointer_in, read_stored, sign_in, verify_message
from gateway.crypto.jwssig import algorithms_of, verify_compact
from gateway.crypto.manifest import content_sha256, message_json, read_message, write_message
from gateway.domain.ids import EnterpriseNumber, Ssin
from gateway.domain.message import DocumentEntry, Message, Recipient
from gateway.errors import Kind, Refusal

if TYPE_CHECKING:
    from tests.plugins.any_message import messages
    from tests.plugins.forging import Signer, load_signer
    from tests.plugins.forging_jws import forge_token, octets_of
else:
    from any_message import messages
    from forging import Signer, load_signer
    from forging_jws import forge_token, octets_of

KEYS: dict[str, Callable[[], Any]] = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "PS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
}


def with_certificate(key: Any) -> Signer:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "documenten.voorbeeld.be")])
    start = datetime(2026, 11, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key())
    builder = builder.serial_number(7).not_valid_before(start).not_valid_after(start + timedelta(days=365))
    return Signer(key=key, certificate=builder.sign(key, hashes.SHA256()))


@pytest.fixture(scope="module")
def signers() -> dict[str, Signer]:
    """A signer for each algorithm that we sign with."""
    return {name: with_certificate(make()) for name, make in KEYS.items()}


@pytest.fixture(scope="module")
def gemeente(certs: Path) -> Signer:
    """A registered sender, on P-256."""
    return load_signer(certs, "gemeente")


def anybody(_number: EnterpriseNumber, _certificate: x509.Certificate) -> None:
    """Judge every signer to be registered."""


def read(part: bytes, dialect: Dialect) -> Message:
    found = verify_message(part, dialect, signer=anybody, allow_test_ssin=True)
    assert isinstance(found, Message), found
    return found


def a_message() -> Message:
    return Message(
        gateway="gateway.example.be",
        reference="2026-000123",
        created_at=datetime(2026, 11, 22, 10, tzinfo=UTC),
        sender=EnterpriseNumber("0406798006"),
        profile="burgerzaken",
        category="tax-assessment",
        purpose="Aanslagbiljet 2026",
        recipient=Recipient(ssin=Ssin("90610100155")),
        subject="Uw aanslagbiljet",
        language="nl",
        documents=(
            DocumentEntry(
                part="upfile1",
                filename="brief.pdf",
                media_type="application/pdf",
                size_bytes=346,
                sha256="ab" * 32,
                main=True,
            ),
        ),
    )


# ── One message ──


@settings(max_examples=150, deadline=None)
@given(message=messages(), algorithm=st.sampled_from(sorted(KEYS)))
def test_every_message_survives_both_dialects(signers: dict[str, Signer], message: Message, algorithm: str) -> None:
    signer = signers[algorithm]
    from_xml = read(sign_in(Dialect.XML, message, signer.key, signer.certificate), Dialect.XML)
    token = sign_in(Dialect.JWS, from_xml, signer.key, signer.certificate)
    from_jws = read(token, Dialect.JWS)
    again = read_message(write_message(from_jws), allow_test_ssin=True)
    assert message == from_xml == from_jws == again
    assert len({content_sha256(each) for each in (message, from_xml, from_jws, again)}) == 1
    assert message_json(from_jws) == message_json(message)
    assert json.loads(octets_of(token.split(b".")[0]))["alg"] == algorithm


@settings(max_examples=40, deadline=None)
@given(message=messages())
def test_what_was_stored_is_read_back_whichever_its_dialect(gemeente: Signer, message: Message) -> None:
    for dialect in Dialect:
        assert read_stored(sign_in(dialect, message, gemeente.key, gemeente.certificate)) == message


def test_stored_xml_may_begin_with_all_that_xml_may_begin_with(gemeente: Signer) -> None:
    message = a_message()
    xml = sign_in(Dialect.XML, message, gemeente.key, gemeente.certificate)
    bare = xml.partition(b"?>")[2].lstrip()
    for part in (xml, b"\xef\xbb\xbf" + xml, bare, b"\n \t" + bare, b"<!-- - -->" + bare):
        assert read_stored(part) == message
    for part in (b"", b"none", b".", b"<Message/>", b"a.b.c"):
        with pytest.raises(Refusal):
            read_stored(part)


def test_a_stored_token_may_begin_with_any_header(gemeente: Signer) -> None:
    message = a_message()
    payload = message_json(message)
    usual = json.loads(octets_of(forge_token(payload, gemeente).split(b".")[0]))
    for before in (b"", b" ", b"\n\n", b"\t", b"\r\n  "):
        token = forge_token(payload, gemeente, before + json.dumps(usual).encode())
        assert read(token, Dialect.JWS) == read_stored(token) == message


def test_a_media_type_is_one_dialects(gemeente: Signer) -> None:
    assert {each.media_type for each in Dialect} == {"application/xml", "application/jose"}
    parts = {each: sign_in(each, a_message(), gemeente.key, gemeente.certificate) for each in Dialect}
    for dialect, other in ((Dialect.XML, Dialect.JWS), (Dialect.JWS, Dialect.XML)):
        with pytest.raises(Refusal) as caught:
            verify_message(parts[dialect], other, signer=anybody, allow_test_ssin=True)
        assert caught.value.kind is Kind.MALFORMED_MESSAGE


# ── Faults ──


def test_a_fault_after_a_valid_signature_is_told_in_the_words_of_the_dialect(gemeente: Signer) -> None:
    message = replace(a_message(), purpose=" spatie", documents=(replace(a_message().documents[0], filename="a/b"),))
    told = {}
    for dialect in Dialect:
        part = sign_in(dialect, message, gemeente.key, gemeente.certificate)
        found = verify_message(part, dialect, signer=anybody, allow_test_ssin=False)
        assert isinstance(found, Refusal)
        assert found.kind is Kind.INVALID_MESSAGE
        told[dialect] = {error.pointer: error.detail for error in found.errors}
    assert list(told[Dialect.XML]) == ["/Message/Recipient/Ssin", "/Message/Purpose",
                                       "/Message/Documents/Document[1]/@filename"]  # fmt: skip
    assert list(told[Dialect.JWS]) == ["/recipient/ssin", "/purpose", "/documents/0/filename"]
    assert list(told[Dialect.XML].values()) == list(told[Dialect.JWS].values())


@pytest.mark.parametrize(
    ("path", "xml", "json_"),
    [
        (("category",), "/Message/Category", "/category"),
        (("recipient", "postalAddress"), "/Message/Recipient/PostalAddress", "/recipient/postalAddress"),
        (("channels", "print"), "/Message/Channels/print", "/channels/print"),
        (("channels", 1), "/Message/Channels/Channel[2]", "/channels/1"),
        (("subject", "lang"), "/Message/Subject/@lang", "/subject/lang"),
        (("subject", "text"), "/Message/Subject", "/subject/text"),
        (("print", "cover"), "/Message/Print/@cover", "/print/cover"),
        (("documents", 0, "size"), "/Message/Documents/Document[1]/@size", "/documents/0/size"),
    ],
)
def test_a_field_has_a_pointer_in_each_dialect(path: tuple[str | int, ...], xml: str, json_: str) -> None:
    assert (pointer_in(Dialect.XML, path), pointer_in(Dialect.JWS, path)) == (xml, json_)


def test_what_the_signer_is_refused_for_is_the_answer_and_nothing_is_computed(gemeente: Signer) -> None:
    asked = []

    def nobody(number: EnterpriseNumber, certificate: x509.Certificate) -> None:
        asked.append((number, certificate))
        raise Refusal(Kind.CERTIFICATE_REVOKED, "revoked")

    token = forge_token(message_json(a_message()), gemeente, raw=lambda _: b"no signature")
    with pytest.raises(Refusal) as caught:
        verify_message(token, Dialect.JWS, signer=nobody, allow_test_ssin=True)
    assert caught.value.kind is Kind.CERTIFICATE_REVOKED
    assert asked == [("0406798006", gemeente.certificate)]


# ── Signing ──


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("algorithm", KEYS)
def test_openssl_verifies_what_we_sign(signers: dict[str, Signer], algorithm: str, tmp_path: Path) -> None:
    signer = signers[algorithm]
    token = sign_in(Dialect.JWS, a_message(), signer.key, signer.certificate)
    data, _, last = token.rpartition(b".")
    raw = octets_of(last)
    half = len(raw) // 2
    der = encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))
    (tmp_path / "signature").write_bytes(raw if algorithm == "PS256" else der)
    (tmp_path / "data").write_bytes(data)
    spki = signer.certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(spki)
    command = ["openssl", "dgst", f"-sha{algorithm[-3:]}", "-verify", "key.pem", "-signature", "signature"]
    pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"] if algorithm == "PS256" else []
    ran = subprocess.run([*command, *pss, "data"], cwd=tmp_path, check=False, capture_output=True, timeout=30)
    assert ran.returncode == 0, ran.stdout


def test_a_key_without_an_algorithm_does_not_sign(gemeente: Signer) -> None:
    p521 = with_certificate(ec.generate_private_key(ec.SECP521R1()))
    assert algorithms_of(p521.key) == ()
    with pytest.raises(ValueError, match="P-256 or P-384"):
        sign_in(Dialect.JWS, a_message(), p521.key, p521.certificate)
    sign_in(Dialect.XML, a_message(), p521.key, p521.certificate)
    with pytest.raises(ValueError, match="not the key of the certificate"):
        sign_in(Dialect.JWS, a_message(), gemeente.key, p521.certificate)


def test_a_payload_other_than_the_one_that_was_read_is_not_believed(
    gemeente: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = message_json(a_message())
    other = jws.CompactSignature({}, json.dumps(payload | {"reference": "another"}).encode())
    monkeypatch.setattr(jws, "deserialize_compact", lambda *_args, **_named: other)
    with pytest.raises(Refusal, match="not the payload that was checked") as caught:
        verify_compact(forge_token(payload, gemeente), content="message+json", signer=anybody)
    assert caught.value.kind is Kind.SIGNATURE_INVALID


def test_only_the_verified_payload_and_its_certificate_come_back(gemeente: Signer) -> None:
    payload = message_json(a_message())
    signed = verify_compact(forge_token(payload, gemeente), content="message+json", signer=anybody)
    assert (signed.fields, signed.certificate) == (payload, gemeente.certificate)
