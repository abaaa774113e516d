"""
Make a throwaway public-key infrastructure for development and tests: `python certs-dev/make.py DIR`.

Every certificate carries the marker by which a production configuration refuses it. Files are PEM; keys are readable
by their owner only. A certificate file holds the leaf first, then its intermediate.

  ca.pem                the root of our servers, for clients to trust
  server-ca.pem         the servers' intermediate and root
  server.pem .key       localhost, 127.0.0.1, ::1 and gateway.dev.example
  receipts.pem .key     signs receipts (EC P-256)
  print-api-key         what the simulated print house asks for
  ebox-client.pem .key  private_key_jwt towards e-Box (RSA 2048)
  clients-ca.pem .key   the clients' intermediate and root; the key is the intermediate's
  clients.crl.pem       the revocation lists of both
  stale.crl.pem         the same, past their nextUpdate
  other-clients-ca.pem  an authority that is never configured
  <client>.pem .key     one for each in CLIENTS: good ones first, then those that somebody must refuse
"""

import argparse
import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, it finds the package beside it

from gateway.crypto.certs import DEVELOPMENT_OID, DEVELOPMENT_ORGANISATION

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

GATEWAY_NAME: Final = "gateway.dev.example"
LEAF_LIFETIME: Final = timedelta(days=397)
CA_LIFETIME: Final = timedelta(days=1200)
BACKDATED: Final = timedelta(hours=1)  # clocks differ
SPARE: Final = timedelta(days=1)  # a set that ends sooner is made again

CLIENT_AUTH: Final = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER_AUTH: Final = ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client certificate: who it names, and what is wrong with it, if anything. Times count from the making."""

    name: str
    host: str = "documenten.voorbeeld.be"
    organisation: str = "Gemeente Voorbeeld"
    rsa_bits: int | None = None  # None: EC P-256
    issuer: Literal["clients", "unlisted", "other"] = "clients"
    purposes: tuple[x509.ObjectIdentifier, ...] = (CLIENT_AUTH,)
    digital_signature: bool = True
    starts_in: timedelta = -BACKDATED
    ends_in: timedelta = LEAF_LIFETIME
    revoked: bool = False


# Where the fault alone must decide, the subject is that of a registered sender.
CLIENTS: Final = (
    Client(name="gemeente"),
    Client(
        name="belasting",
        host="documenten.belastingdienst.example",
        organisation="Belastingdienst Voorbeeld",
        rsa_bits=3072,
    ),
    Client(name="unknown-sender", host="documenten.onbekend.example", organisation="Onbekend Voorbeeld"),
    Client(name="other-ca", issuer="other"),
    Client(name="unlisted-intermediate", issuer="unlisted"),  # under our root, by an intermediate we never configured
    Client(name="expired", starts_in=-timedelta(days=30), ends_in=-timedelta(days=1)),
    Client(name="not-yet-valid", starts_in=2 * LEAF_LIFETIME, ends_in=3 * LEAF_LIFETIME),
    Client(name="revoked", host="ingetrokken.voorbeeld.be", revoked=True),
    Client(name="server-only-eku", purposes=(SERVER_AUTH,)),
    Client(name="no-eku", purposes=()),
    Client(name="weak-key", rsa_bits=1024),
    Client(name="no-digital-signature", digital_signature=False),
)

PRINT_API_KEY: Final = "print-api-key"  # what the gateway shows the simulated print house

FILES: Final = frozenset(
    {"ca.pem", "server-ca.pem", "clients-ca.pem", "clients-ca.key", "clients.crl.pem", "stale.crl.pem"}
    | {"other-clients-ca.pem", PRINT_API_KEY}
    | {
        f"{name}.{end}"
        for name in ("server", "receipts", "ebox-client", *(client.name for client in CLIENTS))
        for end in ("pem", "key")
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A certificate that issues others, and its key."""

    certificate: x509.Certificate
    key: PrivateKey


def make(directory: Path, now: datetime) -> None:
    """Write the whole set into `directory`, over whatever is there, all keys new. Blocks, for about a second."""
    now = now.replace(microsecond=0)
    server_root = _authority("server root", now)
    server_ca = _authority("server CA", now, server_root)
    client_root = _authority("client root", now)
    client_ca = _authority("client CA", now, client_root)
    issuers = {
        "clients": client_ca,
        "unlisted": _authority("unlisted client CA", now, client_root),
        "other": _authority("other client CA", now, other_root := _authority("other client root", now)),
    }
    files = {
        "ca.pem": _pem(server_root.certificate),
        "server-ca.pem": _pem(server_ca.certificate, server_root.certificate),
        "clients-ca.pem": _pem(client_ca.certificate, client_root.certificate),
        "clients-ca.key": _key_pem(client_ca.key),
        "other-clients-ca.pem": _pem(issuers["other"].certificate, other_root.certificate),
    }
    validity = (now - BACKDATED, now + LEAF_LIFETIME)
    for name, host, rsa_bits, purposes in (
        ("server", GATEWAY_NAME, None, (SERVER_AUTH,)),
        ("receipts", f"receipts.{GATEWAY_NAME}", None, ()),
        ("ebox-client", f"ebox-client.{GATEWAY_NAME}", 2048, (CLIENT_AUTH,)),
    ):
        leaf, key = _leaf(
            _subject("Gateway Voorbeeld", host), server_ca, validity, rsa_bits=rsa_bits, purposes=purposes
        )
        files |= {f"{name}.pem": _pem(leaf, server_ca.certificate), f"{name}.key": _key_pem(key)}
    revoked: list[int] = []
    for client in CLIENTS:
        issuer = issuers[client.issuer]
        leaf, key = _leaf(
            _subject(client.organisation, client.host),
            issuer,
            (now + client.starts_in, now + client.ends_in),
            rsa_bits=client.rsa_bits,
            purposes=client.purposes,
            digital_signature=client.digital_signature,
        )
        files |= {f"{client.name}.pem": _pem(leaf, issuer.certificate), f"{client.name}.key": _key_pem(key)}
        if client.revoked:
            revoked.append(leaf.serial_number)
    for name, this_update_at, next_update_at in (
        ("clients.crl.pem", now - BACKDATED, now + LEAF_LIFETIME),
        ("stale.crl.pem", now - timedelta(days=8), now - timedelta(days=1)),
    ):
        files[name] = _crl(client_ca, revoked, this_update_at, next_update_at) + _crl(
            client_root, [], this_update_at, next_update_at
        )
    files[PRINT_API_KEY] = secrets.token_urlsafe(24).encode() + b"\n"
    _write(directory, files)


def is_current(directory: Path, now: datetime) -> bool:
    """Whether `directory` holds a whole set that is valid now and for a day to come."""
    if not all((directory / name).is_file() for name in FILES):
        return False
    try:
        certificate = x509.load_pem_x509_certificate((directory / "server.pem").read_bytes())
    except ValueError:
        return False
    return certificate.not_valid_before_utc <= now and now + SPARE <= certificate.not_valid_after_utc


def _write(directory: Path, files: dict[str, bytes]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        mode = 0o600 if name.endswith(".key") or name == PRINT_API_KEY else 0o644
        with os.fdopen(os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as stream:
            os.fchmod(stream.fileno(), mode)  # a file that was there keeps its mode otherwise
            stream.write(content)


def _authority(name: str, now: datetime, issuer: Authority | None = None) -> Authority:
    """Make a root, or with `issuer` an intermediate that issues leaves only."""
    key = _new_key(None)
    subject = _subject(DEVELOPMENT_ORGANISATION, f"Development {name}")
    certificate = _certificate(
        subject,
        key,
        issuer_name=issuer.certificate.subject if issuer else subject,
        issuer_key=issuer.key if issuer else key,
        validity=(now - timedelta(days=60), now + CA_LIFETIME),
        extensions=(
            (x509.BasicConstraints(ca=True, path_length=0 if issuer else 1), True),
            (_key_usage(key_cert_sign=True, crl_sign=True), True),
        ),
    )
    return Authority(certificate=certificate, key=key)


def _leaf(
    subject: x509.Name,
    issuer: Authority,
    validity: tuple[datetime, datetime],
    *,
    rsa_bits: int | None,
    purposes: Sequence[x509.ObjectIdentifier],
    digital_signature: bool = True,
) -> tuple[x509.Certificate, PrivateKey]:
    key = _new_key(rsa_bits)
    host = subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    names: list[x509.GeneralName] = [x509.DNSName(str(host))]
    if SERVER_AUTH in purposes and host == GATEWAY_NAME:
        names += [x509.DNSName("localhost"), *(x509.IPAddress(ip_address(ip)) for ip in ("127.0.0.1", "::1"))]
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_key_usage(digital_signature=digital_signature, key_encipherment=not digital_signature), True),
        (x509.SubjectAlternativeName(names), False),
    ]
    if purposes:
        extensions.append((x509.ExtendedKeyUsage(purposes), False))
    certificate = _certificate(
        subject,
        key,
        issuer_name=issuer.certificate.subject,
        issuer_key=issuer.key,
        validity=validity,
        extensions=extensions,
    )
    return certificate, key


def _certificate(
    subject: x509.Name,
    key: PrivateKey,
    *,
    issuer_name: x509.Name,
    issuer_key: PrivateKey,
    validity: tuple[datetime, datetime],
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
) -> x509.Certificate:
    """Sign what OpenSSL takes under X509_V_FLAG_X509_STRICT, with the marker; the booleans say critical."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(x509.UnrecognizedExtension(DEVELOPMENT_OID, b"\x05\x00"), critical=False)  # DER NULL
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key, hashes.SHA256())


def _crl(issuer: Authority, serials: Sequence[int], this_update_at: datetime, next_update_at: datetime) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(this_update_at)
        .next_update(next_update_at)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
        .add_extension(x509.CRLNumber(int(this_update_at.timestamp())), critical=False)
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(this_update_at).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _subject(organisation: str, common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "BE"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _key_usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _new_key(rsa_bits: int | None) -> PrivateKey:
    if rsa_bits is None:
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=rsa_bits)


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def _key_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when a set valid now stands in DIR, 1 when an old one is in the way."""
    parser = argparse.ArgumentParser(description="Make throwaway certificates for development and tests.")
    parser.add_argument("directory", metavar="DIR", type=Path)
    parser.add_argument("--force", action="store_true", help="make everything anew, over the set in DIR")
    options = parser.parse_args(arguments)
    directory: Path = options.directory
    now = datetime.now(UTC)
    if not options.force:
        if is_current(directory, now):
            print(f"{directory}: whole and valid; nothing to do")
            return 0
        if any((directory / name).exists() for name in FILES):
            print(f"{directory}: holds an expired or incomplete set; --force replaces it", file=sys.stderr)
            return 1
    make(directory, now)
    print(f"{directory}: made {len(FILES)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
