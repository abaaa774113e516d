"""
Who a certificate is: the party at the other end of a TLS connection, and whether a signer is registered.

A certificate is matched to registrations by its key, or by its subject together with the CA that issued it. It names
one party; the configuration refuses registrations in which one certificate would name two.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509

from gateway.crypto.certs import (
    CertificateRejected,
    ClientCa,
    Rule,
    TrustedCertificate,
    check_signer,
    check_tls_client,
    matches_subject,
    parse_subject,
    spki_sha256,
)
from gateway.domain.ids import EnterpriseNumber
from gateway.domain.registration import CertificateUse, RegisteredCertificate, Registration, Sender
from gateway.errors import Kind, Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """
    The party that a TLS certificate names.

    `profiles` None: all profiles. `not_after` is the end of the certificate.
    """

    party: EnterpriseNumber
    profiles: frozenset[str] | None
    spki_sha256: str
    not_after: datetime


class _TlsNames:
    """The senders of one registration by the keys and subjects of their TLS certificates, to be asked for theirs."""

    def __init__(self, registration: Registration) -> None:
        self.registration = registration
        self._by_key: defaultdict[str, dict[EnterpriseNumber, Sender]] = defaultdict(dict)
        self._by_subject: defaultdict[x509.Name, dict[EnterpriseNumber, Sender]] = defaultdict(dict)
        for number, sender in registration.senders.items():
            for entry in sender.certificates:
                if CertificateUse.TLS not in entry.uses:
                    continue
                if entry.spki_sha256 is not None:
                    self._by_key[entry.spki_sha256][number] = sender
                elif entry.subject is not None:
                    self._by_subject[parse_subject(entry.subject)][number] = sender

    def of(self, certificate: x509.Certificate, spki: str) -> list[Sender]:
        """Return the senders that may be meant by this certificate, whose `spki_sha256` is `spki`."""
        found = self._by_key.get(spki, {})
        if self._by_subject:  # a name is dear to look up
            found = found | self._by_subject.get(certificate.subject, {})
        return list(found.values())


@dataclass(slots=True)
class Identities:
    """Matches certificates to the registration in force; both are read anew at each call, so changes hold at once."""

    registration: Callable[[], Registration]
    client_cas: Callable[[], Sequence[ClientCa]]
    _names: _TlsNames | None = field(default=None, init=False, repr=False)  # of the registration that was last in force

    def peer(self, certificate: x509.Certificate, now: datetime) -> Peer:
        """
        Return the party of a TLS client certificate, re-judged now.

        Raises:
            Refusal: certificate-revoked, or sender-unknown with the rule that the certificate failed.
        """
        try:
            trusted = check_tls_client(certificate, self.client_cas(), now)
        except CertificateRejected as rejected:
            raise _refusal(rejected, "client") from rejected
        spki = spki_sha256(certificate)
        found = [
            (sender, entry)
            for sender in self._names_in_force().of(certificate, spki)
            if (entry := _registered(sender, certificate, trusted, CertificateUse.TLS)) is not None
        ]
        if not found:
            raise Refusal(
                Kind.SENDER_UNKNOWN,
                "this client certificate is valid but not registered for TLS with any sender; "
                "ask the gateway's access manager to add it to your registration",
            )
        if len(found) > 1:
            # One registration by key and another by subject can meet in a certificate that neither file shows.
            raise Refusal(
                Kind.SENDER_UNKNOWN,
                "this client certificate is registered with more than one sender; ask the gateway's access manager "
                "to register it with one",
            )
        sender, entry = found[0]
        return Peer(
            party=sender.enterprise_number,
            profiles=entry.profiles,
            spki_sha256=spki,
            not_after=certificate.not_valid_after_utc,
        )

    def _names_in_force(self) -> _TlsNames:
        registration, names = self.registration(), self._names
        if names is None or names.registration is not registration:
            self._names = names = _TlsNames(registration)
        return names

    def check_signer(
        self, claimed: EnterpriseNumber, certificate: x509.Certificate, *, party: EnterpriseNumber, now: datetime
    ) -> frozenset[str] | None:
        """
        Agree that `certificate` may sign messages of the sender `claimed` that `party` hands over, and return the
        profiles of `claimed` that it may sign for (None: all).

        Raises:
            Refusal: sender-unknown, signer-mismatch, certificate-revoked, or signature-invalid with the rule.
        """
        senders = self.registration().senders
        sender = senders.get(claimed)
        if sender is None or (party != claimed and party not in sender.processors):
            raise Refusal(
                Kind.SIGNER_MISMATCH,
                "the signed Sender is neither the party of the client certificate nor a sender it may send for",
            )
        try:
            trusted = check_signer(certificate, self.client_cas(), now)
        except CertificateRejected as rejected:
            raise _refusal(rejected, "signing") from rejected
        own = _registered(sender, certificate, trusted, CertificateUse.SIGNING)
        if own is not None:
            return own.profiles
        processor = senders.get(party) if party != claimed else None
        if processor is not None and _registered(processor, certificate, trusted, CertificateUse.SIGNING) is not None:
            return None  # for which profiles it acts is judged by the certificate of its connection
        raise Refusal(
            Kind.SIGNER_MISMATCH,
            "the certificate in KeyInfo or x5c is not registered for signing by this sender; sign with a registered "
            "certificate, or have this one added to the registration",
        )


def _registered(
    sender: Sender, certificate: x509.Certificate, trusted: TrustedCertificate, use: CertificateUse
) -> RegisteredCertificate | None:
    for entry in sender.certificates:
        if use in entry.uses and _matches(entry, certificate, trusted):
            return entry
    return None


def _matches(entry: RegisteredCertificate, certificate: x509.Certificate, trusted: TrustedCertificate) -> bool:
    if entry.spki_sha256 is not None:
        return entry.spki_sha256 == spki_sha256(certificate)
    return (
        entry.subject is not None and entry.issuer_ca == trusted.ca.name and matches_subject(certificate, entry.subject)
    )


def _refusal(rejected: CertificateRejected, which: str) -> Refusal:
    if rejected.rule is Rule.REVOKED:
        return Refusal(
            Kind.CERTIFICATE_REVOKED,
            f"the {which} certificate is revoked ({rejected.detail}); use another, registered certificate",
        )
    kind = Kind.SENDER_UNKNOWN if which == "client" else Kind.SIGNATURE_INVALID
    return Refusal(kind, f"the {which} certificate is refused: {rejected}", extra={"rule": str(rejected.rule)})
