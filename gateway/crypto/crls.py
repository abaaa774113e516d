"""
Certificate revocation lists (RFC 5280, sections 5 and 6.3): reading, verifying, succession, and what they say.

Complete lists only: delta, indirect and by-reason lists are refused when read, because each on its own would let a
revoked certificate pass for good.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.crypto.rejection import UNREADABLE_ERRORS, CertificateRejected, Rule

CRL_MAX_BYTES: Final = 10 * 1024 * 1024
_DIGESTS: Final = frozenset({"sha256", "sha384", "sha512"})
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
_PEM_BEGIN: Final = b"-----BEGIN X509 CRL-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class Good:
    """A list in force covers the certificate and does not name it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """A list names the certificate."""

    revoked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """No list in force covers the certificate; `rule` is CRL_MISSING, CRL_STALE or CRL_NOT_YET_VALID."""

    rule: Rule


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RevocationList:
    """One list whose signature by its authority was verified, with its serial numbers ready for look-up."""

    source: x509.CertificateRevocationList
    issuer: x509.Name
    this_update_at: datetime
    next_update_at: datetime
    number: int
    serials: frozenset[int]
    scope: x509.IssuingDistributionPoint | None

    def covers(self, certificate: x509.Certificate) -> bool:
        """Whether the list speaks for this certificate: issuer, kind, and distribution point where it has one."""
        if certificate.issuer != self.issuer:
            return False
        if self.scope is None:
            return True
        excluded = (
            self.scope.only_contains_user_certs if is_authority(certificate) else self.scope.only_contains_ca_certs
        )
        if excluded:
            return False
        if self.scope.full_name is None:
            return True
        points = extension_of(certificate, x509.CRLDistributionPoints) or ()
        return any(name in self.scope.full_name for point in points for name in point.full_name or ())


def extension_of(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    """Return the value of an extension, or None where the certificate has none of that kind."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether the certificate says that it may issue others (basicConstraints)."""
    constraints = extension_of(certificate, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def read_crls(encoded: bytes, authorities: Sequence[x509.Certificate]) -> tuple[RevocationList, ...]:
    """
    Read the lists in `encoded` (PEM, any number; or one in DER), each signed by one of `authorities`.

    Staleness is no reason to refuse a list here: a stale list still names what is revoked.

    Raises:
        CertificateRejected: CRL_TOO_LARGE, CRL_UNREADABLE, CRL_UNSUPPORTED, CRL_ISSUER or CRL_SIGNATURE.
    """
    if len(encoded) > CRL_MAX_BYTES:
        raise CertificateRejected(Rule.CRL_TOO_LARGE, f"more than {CRL_MAX_BYTES} bytes")
    before, *blocks = encoded.split(_PEM_BEGIN)
    try:
        if blocks:
            sources = [x509.load_pem_x509_crl(_PEM_BEGIN + block) for block in blocks]
        else:
            sources = [x509.load_der_x509_crl(before)]
    except UNREADABLE_ERRORS as exc:
        raise CertificateRejected(Rule.CRL_UNREADABLE, "not a revocation list in PEM or DER") from exc
    return tuple(_verified(source, authorities) for source in sources)


def succeed(old: Iterable[RevocationList], new: Iterable[RevocationList]) -> tuple[RevocationList, ...]:
    """
    Return `new` and those of `old` that no new list replaces (same issuer, same scope).

    Raises:
        CertificateRejected: CRL_OLDER, a list would replace a newer one: someone replays what came before a revocation.
    """
    lists = {(crl.issuer, crl.scope): crl for crl in old}
    for crl in new:
        held = lists.get((crl.issuer, crl.scope))
        if held is not None and (crl.number, crl.this_update_at) < (held.number, held.this_update_at):
            raise CertificateRejected(Rule.CRL_OLDER, f"number {crl.number} after number {held.number}")
        lists[crl.issuer, crl.scope] = crl
    return tuple(lists.values())


def state_in(crls: Iterable[RevocationList], certificate: x509.Certificate, now: datetime) -> Good | Revoked | Unknown:
    """Return what `crls` say about `certificate` at `now`. A stale list still revokes, but no longer clears."""
    state: Good | Unknown = Unknown(rule=Rule.CRL_MISSING)
    for crl in crls:
        if not crl.covers(certificate):
            continue
        if certificate.serial_number in crl.serials:
            entry = crl.source.get_revoked_certificate_by_serial_number(certificate.serial_number)
            return Revoked(revoked_at=entry.revocation_date_utc if entry else crl.this_update_at)
        if state == Good():
            continue
        if now < crl.this_update_at:
            state = Unknown(rule=Rule.CRL_NOT_YET_VALID)
        elif now > crl.next_update_at:
            state = Unknown(rule=Rule.CRL_STALE)
        else:
            state = Good()
    return state


def _verified(source: x509.CertificateRevocationList, authorities: Sequence[x509.Certificate]) -> RevocationList:
    try:
        issuer = source.issuer
        extensions = tuple(source.extensions)
        digest = source.signature_hash_algorithm
        serials = frozenset(entry.serial_number for entry in source)
        next_update_at = source.next_update_utc
    except UNREADABLE_ERRORS as exc:
        raise CertificateRejected(Rule.CRL_UNREADABLE, "a field or extension in it cannot be read") from exc
    if next_update_at is None:
        raise CertificateRejected(Rule.CRL_UNSUPPORTED, "it has no nextUpdate, so it would clear for ever")
    scope: x509.IssuingDistributionPoint | None = None
    number = 0
    for extension in extensions:
        match extension.value:
            case x509.IssuingDistributionPoint() as value:
                _require_complete(value)
                scope = value
            case x509.CRLNumber() as value:
                number = value.crl_number
            case x509.DeltaCRLIndicator():
                raise CertificateRejected(Rule.CRL_UNSUPPORTED, "it lists changes only")
            case _ if extension.critical:
                raise CertificateRejected(Rule.CRL_UNSUPPORTED, f"critical extension {extension.oid.dotted_string}")
            case _:
                pass
    if digest is None or digest.name not in _DIGESTS:
        raise CertificateRejected(Rule.CRL_SIGNATURE, "its signature does not use SHA-256, SHA-384 or SHA-512")
    _require_signed(source, authorities)
    return RevocationList(
        source=source,
        issuer=issuer,
        this_update_at=source.last_update_utc,
        next_update_at=next_update_at,
        number=number,
        serials=serials,
        scope=scope,
    )


def _require_complete(scope: x509.IssuingDistributionPoint) -> None:
    if (
        scope.indirect_crl
        or scope.only_contains_attribute_certs
        or scope.only_some_reasons is not None
        or scope.relative_name is not None
    ):
        raise CertificateRejected(Rule.CRL_UNSUPPORTED, "it is indirect, by reason, or for attribute certificates")


def _require_signed(source: x509.CertificateRevocationList, authorities: Sequence[x509.Certificate]) -> None:
    named = [authority for authority in authorities if authority.subject == source.issuer]
    if not named:
        raise CertificateRejected(Rule.CRL_ISSUER, "its issuer is none of the configured certificates")
    for authority in named:
        key = authority.public_key()
        usage = extension_of(authority, x509.KeyUsage)
        if (
            usage is not None
            and usage.crl_sign
            and isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
            and source.is_signature_valid(key)
        ):
            return
    raise CertificateRejected(Rule.CRL_SIGNATURE, "it is not signed by the authority that it names")
