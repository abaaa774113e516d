from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from gateway.client.sender import SenderFileInvalid, load_sender
from gateway.crypto.dialects import Dialect

Write = Callable[..., Path]


def test_a_file_gives_all_that_a_client_needs(write_sender: Write) -> None:
    sender = load_sender(write_sender(8443))
    assert (sender.base_url, sender.gateway) == ("https://localhost:8443", "gateway.dev.example")
    assert (sender.enterprise_number, sender.profile, sender.ovo_code) == ("0406798006", "burgerzaken", None)
    assert sender.signing_certificate == sender.tls_certificate
    assert len(sender.receipt_certificates) == 1  # the authority behind it in the file is none
    assert "0406798006" not in repr(sender)


def test_paths_start_at_the_files_own_folder(write_sender: Write, certs: Path, tmp_path: Path) -> None:
    for name in ("ca.pem", "gemeente.pem", "gemeente.key", "receipts.pem"):
        (tmp_path / name).write_bytes((certs / name).read_bytes())
    file = write_sender(
        8443, ca="ca.pem", certificate="gemeente.pem", key="gemeente.key", receipt_certificate="receipts.pem"
    )
    assert load_sender(file).profile == "burgerzaken"


def test_signing_may_have_its_own_certificate(write_sender: Write, certs: Path) -> None:
    file = write_sender(
        8443, signing_certificate=str(certs / "belasting.pem"), signing_key=str(certs / "belasting.key")
    )
    sender = load_sender(file)
    assert sender.signing_certificate != sender.tls_certificate
    assert sender.signing_key.public_key() == sender.signing_certificate.public_key()


@pytest.mark.parametrize(
    ("changes", "pointer", "detail"),
    [
        ({"gateway": None}, "gateway", "is missing"),
        ({"base_url": "http://localhost:8443"}, "base_url", "must be an address such as https://"),
        ({"base_url": "https://user@localhost"}, "base_url", "must be an address such as https://"),
        ({"base_url": "https://localhost:99999"}, "base_url", "must be an address such as https://"),
        ({"base_url": "https://localhost/?a=b"}, "base_url", "must be an address such as https://"),
        ({"enterprise_number": "0406798007"}, "enterprise_number", "check digits"),
        ({"profile": "Burgerzaken"}, "profile", "a-z 0-9 -"),
        ({"dialect": "json"}, "dialect", "one of xml, jws"),
        ({"certificat": "x.pem"}, "certificat", "did you mean certificate?"),
        ({"ca": "none.pem"}, "", "TLS: "),
        ({"certificate": "none.pem"}, "certificate", "cannot be read: No such file"),
        ({"key": "none.key"}, "key", "cannot be read: No such file"),
        ({"receipt_certificate": "none.pem"}, "receipt_certificate", "cannot be read: No such file"),
        ({"signing_key": "none.key"}, "signing_certificate", "come together"),
    ],
)
def test_a_mistake_is_told_with_its_place(
    write_sender: Write, changes: dict[str, str | None], pointer: str, detail: str
) -> None:
    file = write_sender(8443, **changes)
    with pytest.raises(SenderFileInvalid) as found:
        load_sender(file)
    [error] = found.value.errors
    assert error.pointer == (f"{file}: {pointer}" if pointer else str(file))
    assert detail in error.detail


@pytest.mark.parametrize(
    ("key", "name", "detail"),
    [
        ("receipt_certificate", "server-ca.pem", "holds authorities only"),
        ("receipt_certificate", "gemeente.key", "is refused: no X.509 certificates in PEM"),
        ("signing_certificate", "no-digital-signature.pem", "cannot sign messages: the key usage"),
        ("signing_certificate", "weak-key.pem", "cannot sign messages: RSA of 1024 bits"),
        ("signing_key", "belasting.key", "is not the key of signing_certificate"),
        ("signing_key", "ca.pem", "is no private key in PEM"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_told(
    write_sender: Write, certs: Path, key: str, name: str, detail: str
) -> None:
    own = {"signing_certificate": str(certs / "gemeente.pem"), "signing_key": str(certs / "gemeente.key")}
    with pytest.raises(SenderFileInvalid) as found:
        load_sender(write_sender(8443, **(own | {key: str(certs / name)})))
    assert detail in str(found.value)


def test_an_encrypted_key_is_told_without_asking_for_its_password(
    write_sender: Write, certs: Path, tmp_path: Path
) -> None:
    key = load_pem_private_key((certs / "gemeente.key").read_bytes(), None)
    file = tmp_path / "locked.key"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    own = {"signing_certificate": str(certs / "gemeente.pem"), "signing_key": str(file)}
    with pytest.raises(SenderFileInvalid, match="is encrypted; an unencrypted key"):
        load_sender(write_sender(8443, **own))


def test_a_key_that_a_dialect_does_not_take_is_told(write_sender: Write, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP521R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "documenten.voorbeeld.be")])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    start = datetime(2026, 11, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=subject, public_key=key.public_key())
        .serial_number(7)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=365))
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA512())
    )
    (tmp_path / "p521.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "p521.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    own = {"signing_certificate": str(tmp_path / "p521.pem"), "signing_key": str(tmp_path / "p521.key")}
    assert load_sender(write_sender(8443, **own)).dialect is Dialect.XML
    for stated, asked in (("jws", None), (None, Dialect.JWS)):
        with pytest.raises(SenderFileInvalid, match="dialect: jws takes RSA from 2048 bits, P-256 and P-384"):
            load_sender(write_sender(8443, **own, dialect=stated), asked)
    assert load_sender(write_sender(8443, **own, dialect="jws"), Dialect.XML).dialect is Dialect.XML


def test_a_key_of_another_kind_is_told(write_sender: Write, certs: Path, tmp_path: Path) -> None:
    file = tmp_path / "ed25519.key"
    key = ed25519.Ed25519PrivateKey.generate()
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    own = {"signing_certificate": str(certs / "gemeente.pem"), "signing_key": str(file)}
    with pytest.raises(SenderFileInvalid, match="neither an RSA nor an EC key"):
        load_sender(write_sender(8443, **own))


@pytest.mark.parametrize(
    ("content", "detail"),
    [(None, "cannot be read: No such file"), (b"\xff", "is not UTF-8"), (b"gateway = ", "is not TOML")],
)
def test_a_file_that_cannot_be_read_is_one_mistake(tmp_path: Path, content: bytes | None, detail: str) -> None:
    file = tmp_path / "sender.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SenderFileInvalid, match=detail) as found:
        load_sender(file)
    assert len(found.value.errors) == 1


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "sender.toml"
    file.write_text('base_url = "http://x"\nprofile = 1\nenterprise_number = "1"\n')
    with pytest.raises(SenderFileInvalid) as found:
        load_sender(file)
    assert sorted(error.pointer.removeprefix(f"{file}: ") for error in found.value.errors) == [
        "base_url", "certificate", "enterprise_number", "gateway", "key", "profile", "receipt_certificate",
    ]  # fmt: skip
