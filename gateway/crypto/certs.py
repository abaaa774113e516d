"""
Reading and judging X.509 certificates: a sender's TLS certificate, a signer's, and the revocation lists of their CAs.

Trust comes from configuration alone: paths are built only from the certificates in a `ClientCa`, never from what a
peer sent, and no address found inside a certificate is ever fetched. Every refusal is a `CertificateRejected` that
names its rule. Its text holds dates and key sizes, never a subject: the certificate of a person carries a personal
number there.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.crypto.crls import (
    CRL_MAX_BYTES,
    Good,
    RevocationList,
    Revoked,
    Unknown,
    extension_of,
    is_authority,
    read_crls,
    state_in,
    succeed,
)
from gateway.crypto.paths import verified_path
from gateway.crypto.rejection import UNREADABLE_ERRORS, CertificateRejected, Rule
from gateway.crypto.subjects import SubjectUnreadable, matches_subject, parse_subject, subject_text

__all__ = [
    "DEVELOPMENT_OID",
    "DEVELOPMENT_ORGANISATION",
    "CertificateRejected",
    "ClientCa",
    "Good",
    "Revocation",
    "RevocationList",
    "Revoked",
    "Rule",
    "SubjectUnreadable",
    "TrustedCertificate",
    "Unknown",
    "check_signer",
    "check_tls_client",
    "is_development",
    "issuing_ca",
    "load_certificates",
    "load_client_ca",
    "matches_subject",
    "parse_certificate",
    "parse_certificates",
    "parse_subject",
    "renew_crls",
    "require_client_auth",
    "require_current",
    "require_digital_signature",
    "require_strong_key",
    "revocation_state",
    "spki_sha256",
    "subject_text",
]

DEVELOPMENT_ORGANISATION: Final = "Document Gateway DEVELOPMENT ONLY"
# A random UUID under the arc that ITU-T X.667 keeps for them; every certificate of certs-dev/make.py carries it.
DEVELOPMENT_OID: Final = x509.ObjectIdentifier("2.25.235725573794210904002277080963469354920")

_RSA_MIN_BITS: Final = 2048
_PATHS_KEPT: Final = 4096
_CERTIFICATES_KEPT: Final = 1024
_KEPT_MAX_BYTES: Final = 8192  # a usual one has less than 3000
_CLIENT_PURPOSES: Final = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})

Revocation = Literal["hard-fail", "soft-fail"]


# ── Reading ──


def parse_certificate(der: bytes) -> x509.Certificate:
    """
    Read one DER certificate, every field of it, so that nothing later fails half-way.

    Those read last are kept: the same octets give the same certificate, which is to be judged anew each time.

    Raises:
        CertificateRejected: UNREADABLE.
    """
    return _kept(der) if len(der) <= _KEPT_MAX_BYTES else _read(der)


def _read(der: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
    except UNREADABLE_ERRORS as exc:
        raise CertificateRejected(Rule.UNREADABLE, "not an X.509 certificate in DER") from exc
    _require_readable(certificate)
    return certificate


_kept = lru_cache(maxsize=_CERTIFICATES_KEPT)(_read)


def parse_certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """
    Read every certificate of a PEM text, in its order; at least one.

    Raises:
        CertificateRejected: UNREADABLE.
    """
    try:
        certificates = tuple(x509.load_pem_x509_certificates(pem))
    except UNREADABLE_ERRORS as exc:
        raise CertificateRejected(Rule.UNREADABLE, "no X.509 certificates in PEM") from exc
    for certificate in certificates:
        _require_readable(certificate)
    return certificates


def load_certificates(file: Path) -> tuple[x509.Certificate, ...]:
    """
    Read every certificate of a PEM file, in its order; at least one. Blocks.

    Raises:
        CertificateRejected: UNREADABLE.
        OSError: the file cannot be read.
    """
    return parse_certificates(file.read_bytes())


def _require_readable(certificate: x509.Certificate) -> None:
    try:
        _ = (certificate.subject, certificate.issuer, certificate.extensions, certificate.public_key())
    except UNREADABLE_ERRORS as exc:
        raise CertificateRejected(Rule.UNREADABLE, "a field, extension or key in it cannot be read") from exc


# ── Naming ──


def spki_sha256(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the DER SubjectPublicKeyInfo, as 64 lower-case hex digits: the pin of a registration."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def is_development(certificate: x509.Certificate) -> bool:
    """Whether certs-dev/make.py made this certificate; a production configuration refuses it."""
    return any(extension.oid == DEVELOPMENT_OID for extension in certificate.extensions)


# ── Rules about one certificate ──


def require_current(certificate: x509.Certificate, now: datetime) -> None:
    """Refuse, EXPIRED or NOT_YET_VALID, what is outside its validity; both ends belong to it (RFC 5280, 4.1.2.5)."""
    if now < certificate.not_valid_before_utc:
        raise CertificateRejected(
            Rule.NOT_YET_VALID, f"valid from {certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}"
        )
    if now > certificate.not_valid_after_utc:
        raise CertificateRejected(Rule.EXPIRED, f"valid until {certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}")


def require_strong_key(certificate: x509.Certificate, *, ed25519_allowed: bool) -> None:
    """Refuse, WEAK_KEY or KEY_TYPE, all but RSA from 2048 bits, EC P-256, P-384 and P-521, and perhaps Ed25519."""
    match certificate.public_key():
        case rsa.RSAPublicKey() as key if key.key_size >= _RSA_MIN_BITS:
            return
        case rsa.RSAPublicKey() as key:
            raise CertificateRejected(Rule.WEAK_KEY, f"RSA of {key.key_size} bits; at least {_RSA_MIN_BITS}")
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1() | ec.SECP384R1() | ec.SECP521R1()):
            return
        case ed25519.Ed25519PublicKey() if ed25519_allowed:
            return
        case _:
            raise CertificateRejected(Rule.KEY_TYPE, "the key is of a type or curve not allowed here")


def require_client_auth(certificate: x509.Certificate) -> None:
    """
    Refuse, NO_CLIENT_AUTH_EKU, what does not name clientAuth.

    OpenSSL takes an absent extension, and RFC 5280 an `anyExtendedKeyUsage`, for permission; here neither is.
    """
    usage = extension_of(certificate, x509.ExtendedKeyUsage)
    if usage is None or ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        raise CertificateRejected(Rule.NO_CLIENT_AUTH_EKU, "the extended key usage must name clientAuth")


def require_digital_signature(certificate: x509.Certificate) -> None:
    """Refuse, NO_DIGITAL_SIGNATURE, what has no key usage extension with digitalSignature."""
    usage = extension_of(certificate, x509.KeyUsage)
    if usage is None or not usage.digital_signature:
        raise CertificateRejected(Rule.NO_DIGITAL_SIGNATURE, "the key usage must name digitalSignature")


def _require_end_entity(certificate: x509.Certificate) -> None:
    _require_readable(certificate)
    if is_authority(certificate):
        raise CertificateRejected(Rule.IS_A_CA, "the certificate of an authority is nobody's own certificate")


# ── Configured authorities ──


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClientCa:
    """
    A `[[client_cas]]` entry: the certificates that paths are built from, and the lists of what they revoked.

    Those of `certificates` that no other of them issued are trusted as they stand; the rest are intermediates.
    With "hard-fail" a certificate whose state is unknown is refused; with "soft-fail" the caller raises an alarm.
    """

    name: str
    certificates: tuple[x509.Certificate, ...]
    crls: tuple[RevocationList, ...] = ()
    revocation: Revocation = "hard-fail"
    # Signatures and constraints on a path never change, so the path of a certificate seen before is not walked again.
    _paths: dict[x509.Certificate, tuple[x509.Certificate, ...]] = field(default_factory=dict, init=False, repr=False)

    def path_of(self, leaf: x509.Certificate, now: datetime) -> tuple[x509.Certificate, ...] | None:
        """Return the path from `leaf` to one of our anchors, both included, if one holds at `now`."""
        known = self._paths.get(leaf)
        if known is not None and all(_is_current(certificate, now) for certificate in known):
            return known
        path = verified_path(leaf, self.certificates, now)
        if path is not None:
            if len(self._paths) >= _PATHS_KEPT:
                self._paths.clear()
            self._paths[leaf] = path
        return path


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedCertificate:
    """A check that passed: who vouches, and whether revocation is known (soft-fail may leave that open)."""

    ca: ClientCa
    revocation: Good | Unknown


def load_client_ca(name: str, file: Path, *, crl_file: Path | None, revocation: Revocation) -> ClientCa:
    """
    Read the PEM certificates in `file` and the revocation lists in `crl_file`. Blocks.

    Raises:
        CertificateRejected: one of them is unfit: UNREADABLE, NOT_A_CA, WEAK_KEY, KEY_TYPE, NAME_CONSTRAINTS, or as
            `renew_crls` says.
        OSError: a file cannot be read.
    """
    certificates = tuple(dict.fromkeys(load_certificates(file)))
    for certificate in certificates:
        _require_authority(certificate)
    ca = ClientCa(name=name, certificates=certificates, revocation=revocation)
    if crl_file is None:
        return ca
    with crl_file.open("rb") as stream:
        return renew_crls(ca, stream.read(CRL_MAX_BYTES + 1))


def renew_crls(ca: ClientCa, encoded: bytes) -> ClientCa:
    """
    Return `ca` with the lists in `encoded` (PEM, any number; or one in DER) in place of those that they succeed.

    Raises:
        CertificateRejected: CRL_TOO_LARGE, CRL_UNREADABLE, CRL_UNSUPPORTED, CRL_ISSUER, CRL_SIGNATURE, CRL_OLDER.
    """
    return replace(ca, crls=succeed(ca.crls, read_crls(encoded, ca.certificates)))


def _require_authority(certificate: x509.Certificate) -> None:
    usage = extension_of(certificate, x509.KeyUsage)
    if not is_authority(certificate) or usage is None or not usage.key_cert_sign:
        raise CertificateRejected(Rule.NOT_A_CA, "a certificate authority must say so, and have keyCertSign")
    require_strong_key(certificate, ed25519_allowed=False)
    limits = extension_of(certificate, x509.NameConstraints)
    if limits is None:
        return
    for name in (*(limits.permitted_subtrees or ()), *(limits.excluded_subtrees or ())):
        # The path verifier refuses every path through such an authority: better told at start-up than to each sender.
        if not isinstance(name, x509.DNSName | x509.IPAddress | x509.RFC822Name | x509.UniformResourceIdentifier):
            raise CertificateRejected(Rule.NAME_CONSTRAINTS, f"cannot judge those of type {type(name).__name__}")


# ── Judging a certificate against them ──


def check_tls_client(leaf: x509.Certificate, cas: Iterable[ClientCa], now: datetime) -> TrustedCertificate:
    """
    Judge the certificate of a TLS client at `now`; says nothing about who is registered with it.

    OpenSSL judged it in the handshake; this adds what it does not ask, and asks again on long connections.

    Raises:
        CertificateRejected: the first rule that it fails.
    """
    _require_end_entity(leaf)
    require_strong_key(leaf, ed25519_allowed=True)
    require_current(leaf, now)
    require_client_auth(leaf)
    usage = extension_of(leaf, x509.KeyUsage)
    if usage is not None:
        require_digital_signature(leaf)  # RFC 8446, 4.4.2.2: only where there is a key usage extension at all
    ca, path = _path(leaf, cas, now)
    for authority in path[1:]:
        purposes = extension_of(authority, x509.ExtendedKeyUsage)
        if purposes is not None and not _CLIENT_PURPOSES.intersection(purposes):
            raise CertificateRejected(Rule.PATH_INVALID, "an authority in its path may not vouch for TLS clients")
    return TrustedCertificate(ca=ca, revocation=_require_not_revoked(path, ca, now))


def check_signer(leaf: x509.Certificate, cas: Iterable[ClientCa], now: datetime) -> TrustedCertificate:
    """
    Judge the certificate of a message's signature at `now`; says nothing about who is registered with it.

    Raises:
        CertificateRejected: the first rule that it fails.
    """
    _require_end_entity(leaf)
    require_strong_key(leaf, ed25519_allowed=False)
    require_current(leaf, now)
    require_digital_signature(leaf)
    ca, path = _path(leaf, cas, now)
    return TrustedCertificate(ca=ca, revocation=_require_not_revoked(path, ca, now))


def issuing_ca(leaf: x509.Certificate, cas: Iterable[ClientCa], now: datetime) -> ClientCa:
    """
    Return the first of `cas` that a valid path leads to at `now`, by its configured certificates alone (RFC 5280, 6.1).

    Raises:
        CertificateRejected: UNKNOWN_ISSUER, or PATH_INVALID when the issuer's name is configured but no path holds.
    """
    return _path(leaf, cas, now)[0]


def revocation_state(certificate: x509.Certificate, ca: ClientCa, now: datetime) -> Good | Revoked | Unknown:
    """Return what the lists of `ca` say about `certificate` at `now`."""
    return state_in(ca.crls, certificate, now)


def _require_not_revoked(path: tuple[x509.Certificate, ...], ca: ClientCa, now: datetime) -> Good | Unknown:
    """Judge a path from its leaf up; the anchor at its end is trusted by configuration."""
    known: Good | Unknown = Good()
    for depth, certificate in enumerate(path[:-1]):
        match revocation_state(certificate, ca, now):
            case Good():
                continue
            case Revoked(revoked_at=at):
                raise CertificateRejected(Rule.REVOKED, f"since {at:%Y-%m-%dT%H:%M:%SZ}")
            case Unknown(rule=Rule.CRL_MISSING) if depth > 0:
                continue  # an intermediate stands in the configuration itself; a list about it is welcome, not required
            case Unknown(rule=rule) as unknown:
                if ca.revocation == "hard-fail":
                    raise CertificateRejected(rule, f"no revocation list of {ca.name} in force covers it")
                known = unknown
    return known


def _path(
    leaf: x509.Certificate, cas: Iterable[ClientCa], now: datetime
) -> tuple[ClientCa, tuple[x509.Certificate, ...]]:
    issuer_is_known = False
    for ca in cas:
        path = ca.path_of(leaf, now)
        if path is not None:
            return ca, path
        issuer_is_known = issuer_is_known or any(leaf.issuer == known.subject for known in ca.certificates)
    if issuer_is_known:
        raise CertificateRejected(Rule.PATH_INVALID, "its issuer is configured, but no path to it holds at this moment")
    raise CertificateRejected(Rule.UNKNOWN_ISSUER, "no configured authority issued it")


def _is_current(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
