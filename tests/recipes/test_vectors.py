"""Messages that the recipes signed, kept as files: the gateway's verifier and two others agree about each."""

import hashlib
import re
import subprocess
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from lxml import etree

from gateway.crypto.dialects import Dialect, verify_message
from gateway.crypto.manifest import content_sha256, read_message
from gateway.domain.ids import EnterpriseNumber, InvalidIdentifier, parse_ssin
from gateway.domain.message import Message
from gateway.errors import Refusal

if TYPE_CHECKING:
    from tests.plugins.second_opinion import agreed
else:
    from second_opinion import agreed

VECTORS = Path(__file__).parents[2] / "docs" / "recipes" / "vectors"
NAMES = [f"{recipe}-{kind}" for recipe in ("curl", "python", "java", "java-line-breaks") for kind in ("ec", "rsa")]
JWS_NAMES = ["python-jws-ec", "python-jws-rsa"]
DS = "{http://www.w3.org/2000/09/xmldsig#}"


def certificate_of(name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((VECTORS / f"{name.rpartition('-')[2]}.pem").read_bytes())


def vector(name: str) -> bytes:
    return (VECTORS / f"{name}.xml").read_bytes()


def accepted(body: bytes, registered: x509.Certificate) -> Message:
    return read_message(agreed(body, registered).root, allow_test_ssin=True)


def verify_with_binding(body: bytes, certificate: x509.Certificate) -> None:
    root = etree.fromstring(body)
    xmlsec.tree.add_ids(root, ["Id"])
    signature = root.find(f"{DS}Signature")
    assert signature is not None
    context = xmlsec.SignatureContext()
    pem = certificate.public_bytes(Encoding.PEM)
    context.key = xmlsec.Key.from_memory(pem, xmlsec.constants.KeyDataFormatCertPem)
    context.verify(signature)


def verify_with_program(body: bytes, certificate: x509.Certificate, folder: Path) -> bool:
    key, file = folder / "signer.pub", folder / "message.xml"
    key.write_bytes(certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    file.write_bytes(body)
    command = ["xmlsec1", "--verify", "--id-attr:Id", "urn:document-gateway:message:1:Message"]
    command += ["--enabled-key-data", "key-name", "--pubkey-pem", str(key), str(file)]
    return subprocess.run(command, check=False, capture_output=True, timeout=30).returncode == 0


def with_another_size(body: bytes) -> bytes:
    changed = body.replace(b' size="346"', b' size="347"')
    assert changed != body
    return changed


def test_there_is_a_vector_of_every_recipe_that_runs_and_no_other() -> None:
    assert sorted(path.stem for path in VECTORS.glob("*.xml")) == sorted(NAMES)
    assert sorted(path.stem for path in VECTORS.glob("*.jws")) == sorted(JWS_NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_gateway_accepts_the_vector_and_refuses_it_changed(name: str) -> None:
    message = accepted(vector(name), certificate_of(name))
    [document] = message.documents
    assert document.sha256 == hashlib.sha256((VECTORS / "letter.pdf").read_bytes()).hexdigest()
    with pytest.raises(Refusal, match="signature-invalid: digest"):
        accepted(with_another_size(vector(name)), certificate_of(name))


@pytest.mark.parametrize("name", NAMES)
def test_python_xmlsec_accepts_the_vector_and_refuses_it_changed(name: str) -> None:
    verify_with_binding(vector(name), certificate_of(name))
    with pytest.raises(xmlsec.VerificationError):
        verify_with_binding(with_another_size(vector(name)), certificate_of(name))


@pytest.mark.needs("xmlsec1")
@pytest.mark.parametrize("name", NAMES)
def test_the_xmlsec1_program_accepts_the_vector_and_refuses_it_changed(name: str, tmp_path: Path) -> None:
    assert verify_with_program(vector(name), certificate_of(name), tmp_path)
    assert not verify_with_program(with_another_size(vector(name)), certificate_of(name), tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_only_java_left_to_itself_writes_carriage_returns_into_the_signature(name: str) -> None:
    assert (b"&#13;" in vector(name)) == ("line-breaks" in name)


def token(name: str) -> bytes:
    return (VECTORS / f"{name}.jws").read_bytes()


def accepted_token(body: bytes, registered: x509.Certificate) -> Message:
    def check(number: EnterpriseNumber, certificate: x509.Certificate) -> None:
        assert (number, certificate) == ("0406798006", registered)

    message = verify_message(body, Dialect.JWS, signer=check, allow_test_ssin=True)
    assert isinstance(message, Message)
    return message


def with_another_octet(body: bytes, at: int) -> bytes:
    return body[:at] + (b"A" if body[at : at + 1] != b"A" else b"B") + body[at + 1 :]


@pytest.mark.parametrize("name", JWS_NAMES)
def test_the_gateway_accepts_the_token_and_refuses_it_changed(name: str) -> None:
    [document] = accepted_token(token(name), certificate_of(name)).documents
    assert document.sha256 == hashlib.sha256((VECTORS / "letter.pdf").read_bytes()).hexdigest()
    with pytest.raises(Refusal, match="signature-invalid: signature value"):
        accepted_token(with_another_octet(token(name), len(token(name)) - 20), certificate_of(name))


def openssl_accepts(body: bytes, certificate: x509.Certificate, folder: Path) -> bool:
    data, _, last = body.rpartition(b".")
    signature = urlsafe_b64decode(last + b"=" * (-len(last) % 4))
    is_ec = isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    if is_ec:
        signature = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    (folder / "data").write_bytes(data)
    (folder / "signature").write_bytes(signature)
    spki = certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "signer.pub").write_bytes(spki)
    pss = [] if is_ec else ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"]
    command = ["openssl", "dgst", "-sha256", "-verify", "signer.pub", "-signature", "signature", *pss, "data"]
    return subprocess.run(command, cwd=folder, check=False, capture_output=True, timeout=30).returncode == 0


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("name", JWS_NAMES)
def test_the_openssl_program_accepts_the_token_and_refuses_it_changed(name: str, tmp_path: Path) -> None:
    assert openssl_accepts(token(name), certificate_of(name), tmp_path)
    payload = token(name).index(b".") + 40
    assert not openssl_accepts(with_another_octet(token(name), payload), certificate_of(name), tmp_path)


def test_the_same_letter_has_the_same_content_in_every_recipe() -> None:
    messages = [accepted(vector(name), certificate_of(name)) for name in NAMES]
    messages += [accepted_token(token(name), certificate_of(name)) for name in JWS_NAMES]
    assert len({content_sha256(message) for message in messages}) == 1


def test_the_personal_number_in_the_vectors_belongs_to_nobody() -> None:
    tokens = [accepted_token(token(name), certificate_of(name)) for name in JWS_NAMES]
    for name in NAMES:
        ssin = accepted(vector(name), certificate_of(name)).recipient.ssin
        assert ssin is not None
        with pytest.raises(InvalidIdentifier, match="test number"):
            parse_ssin(ssin, allow_test=False)
        assert set(re.findall(rb"\b[0-9]{11}\b", vector(name))) == {ssin.encode()}
        assert {message.recipient.ssin for message in tokens} == {ssin}


def test_the_folder_holds_no_private_key() -> None:
    assert [path.name for path in VECTORS.iterdir() if b"PRIVATE KEY-----" in path.read_bytes()] == []
