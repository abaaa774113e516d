"""Authorities of which a test chooses every detail; certs-dev/make.py makes the ordinary ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
Extensions = Sequence[tuple[x509.ExtensionType, bool]]

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def key_usage(**named: bool) -> x509.KeyUsage:
    flags = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{flag: named.get(flag, False) for flag in flags})


LEAF: Extensions = (
    (key_usage(digital_signature=True), True),
    (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
)


def dn(common_name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COUNTRY_NAME, "BE"), x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    )


def sign(
    subject: x509.Name,
    key: PrivateKey,
    *,
    issuer: x509.Name,
    issuer_key: PrivateKey,
    validity: tuple[datetime, datetime],
    extensions: Extensions,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key, None if isinstance(issuer_key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


@dataclass(frozen=True, kw_only=True)
class Authority:
    certificate: x509.Certificate
    key: PrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def leaf(
        self,
        extensions: Extensions = LEAF,
        *,
        key: PrivateKey | None = None,
        subject: x509.Name | None = None,
        validity: tuple[datetime, datetime] = (NOW - DAY, NOW + DAY),
    ) -> x509.Certificate:
        subject_key = key or ec.generate_private_key(ec.SECP256R1())
        name = subject or dn("leaf.example")
        issuer = self.certificate.subject
        return sign(name, subject_key, issuer=issuer, issuer_key=self.key, validity=validity, extensions=extensions)

    def crl(
        self,
        revoked: Sequence[x509.Certificate] = (),
        *,
        number: int = 1,
        validity: tuple[datetime, datetime] = (NOW - DAY, NOW + DAY),
        extensions: Extensions = (),
        digest: hashes.SHA224 | hashes.SHA256 | None = None,
    ) -> bytes:
        assert not isinstance(self.key, ed25519.Ed25519PrivateKey)
        builder = (
            x509.CertificateRevocationListBuilder(issuer_name=self.certificate.subject)
            .last_update(validity[0])
            .next_update(validity[1])
            .add_extension(x509.CRLNumber(number), critical=False)
        )
        for certificate in revoked:
            entry = x509.RevokedCertificateBuilder(certificate.serial_number, NOW - DAY).build()
            builder = builder.add_revoked_certificate(entry)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self.key, digest or hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.fixture
def new_authority() -> Callable[..., Authority]:
    """Make a root, or with `issuer` an intermediate."""

    def make(
        name: str = "root",
        issuer: Authority | None = None,
        *,
        key: PrivateKey | None = None,
        usage: x509.KeyUsage | None = None,
        extensions: Extensions = (),
        validity: tuple[datetime, datetime] = (NOW - 30 * DAY, NOW + 30 * DAY),
    ) -> Authority:
        own_key = key or ec.generate_private_key(ec.SECP256R1())
        own: Extensions = (
            (x509.SubjectKeyIdentifier.from_public_key(own_key.public_key()), False),
            (x509.BasicConstraints(ca=True, path_length=None), True),
            (usage or key_usage(key_cert_sign=True, crl_sign=True), True),
            *extensions,
        )
        certificate = sign(
            dn(name),
            own_key,
            issuer=issuer.certificate.subject if issuer else dn(name),
            issuer_key=issuer.key if issuer else own_key,
            validity=validity,
            extensions=own,
        )
        return Authority(certificate=certificate, key=own_key)

    return make
