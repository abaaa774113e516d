"""Whom the certificate of a connection names: found without asking every sender, and judged anew by each request."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from gateway.crypto import identity
from gateway.crypto.certs import ClientCa, load_certificates, load_client_ca, renew_crls, spki_sha256, subject_text
from gateway.crypto.identity import Identities
from gateway.domain.ids import EnterpriseNumber
from gateway.domain.registration import CertificateUse, Contact, RegisteredCertificate, Registration, Sender
from gateway.errors import Kind, Refusal

CA = "clients"
FIRST, SECOND = EnterpriseNumber("0406798006"), EnterpriseNumber("0566988259")
TLS, SIGNING = CertificateUse.TLS, CertificateUse.SIGNING
CONTACT = Contact(dpo="", technical="", security="", public="")


@pytest.fixture(scope="module")
def certificate(certs: Path) -> x509.Certificate:
    return load_certificates(certs / "gemeente.pem")[0]


@pytest.fixture(scope="module")
def ca(certs: Path) -> ClientCa:
    return load_client_ca(CA, certs / "clients-ca.pem", crl_file=certs / "clients.crl.pem", revocation="hard-fail")


@pytest.fixture
def now(certificate: x509.Certificate) -> datetime:
    return certificate.not_valid_before_utc + timedelta(hours=1)


def by_key(certificate: x509.Certificate, *uses: CertificateUse, profile: str | None = None) -> RegisteredCertificate:
    profiles = None if profile is None else frozenset({profile})
    return RegisteredCertificate(spki_sha256=spki_sha256(certificate), uses=frozenset(uses), profiles=profiles)


def by_subject(certificate: x509.Certificate, *uses: CertificateUse, issuer_ca: str = CA) -> RegisteredCertificate:
    return RegisteredCertificate(subject=subject_text(certificate), issuer_ca=issuer_ca, uses=frozenset(uses))


def registration(**senders: tuple[RegisteredCertificate, ...]) -> Registration:
    numbers = {"first": FIRST, "second": SECOND}
    found = {
        numbers[name]: Sender(enterprise_number=numbers[name], name=name, contact=CONTACT, certificates=certificates)
        for name, certificates in senders.items()
    }
    return Registration(version=1, senders=found, categories={})


def test_a_party_is_found_by_key_and_by_subject(certificate: x509.Certificate, ca: ClientCa, now: datetime) -> None:
    for entry in (by_key(certificate, TLS), by_subject(certificate, TLS)):
        known = registration(first=(), second=(entry,))
        assert Identities(lambda known=known: known, lambda: (ca,)).peer(certificate, now).party == SECOND  # type: ignore[misc]  # mypy infers no type of a lambda with a default


def test_the_first_fitting_entry_of_a_sender_says_for_which_profiles(
    certificate: x509.Certificate, ca: ClientCa, now: datetime
) -> None:
    entries = (by_key(certificate, SIGNING, profile="signs"), by_subject(certificate, TLS), by_key(certificate, TLS))
    known = registration(first=(*entries[:2], replace(entries[2], profiles=frozenset({"later"}))))
    assert Identities(lambda: known, lambda: (ca,)).peer(certificate, now).profiles is None


@pytest.mark.parametrize("where", ["not for TLS", "of another authority", "nowhere"])
def test_a_certificate_that_nobody_registered_so_is_nobodys(
    where: str, certificate: x509.Certificate, ca: ClientCa, now: datetime
) -> None:
    entries = {
        "not for TLS": (by_key(certificate, SIGNING), by_subject(certificate, SIGNING)),
        "of another authority": (by_subject(certificate, TLS, issuer_ca="others"),),
        "nowhere": (),
    }
    known = registration(first=entries[where])
    with pytest.raises(Refusal, match="not registered for TLS with any sender"):
        Identities(lambda: known, lambda: (ca,)).peer(certificate, now)


def test_a_certificate_of_two_senders_is_nobodys(certificate: x509.Certificate, ca: ClientCa, now: datetime) -> None:
    known = registration(first=(by_key(certificate, TLS),), second=(by_subject(certificate, TLS),))
    with pytest.raises(Refusal, match="more than one sender"):
        Identities(lambda: known, lambda: (ca,)).peer(certificate, now)


def test_only_the_senders_that_may_be_meant_are_asked(
    certificate: x509.Certificate, ca: ClientCa, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = RegisteredCertificate(spki_sha256="0" * 64, uses=frozenset({TLS}))
    known = registration(first=(other,), second=(by_key(certificate, TLS),))
    asked = []
    registered = identity._registered

    def noted(sender: Sender, *rest: object) -> RegisteredCertificate | None:
        asked.append(sender.enterprise_number)
        return registered(sender, *rest)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(identity, "_registered", noted)
    assert Identities(lambda: known, lambda: (ca,)).peer(certificate, now).party == SECOND
    assert asked == [SECOND]


def test_every_request_is_judged_by_what_is_in_force_then(
    certs: Path, certificate: x509.Certificate, ca: ClientCa, now: datetime, subtests: pytest.Subtests
) -> None:
    in_force = registration(first=(by_key(certificate, TLS),))
    cas: tuple[ClientCa, ...] = (ca,)
    identities = Identities(lambda: in_force, lambda: cas)
    assert identities.peer(certificate, now).party == FIRST
    with subtests.test("registered with another"):
        in_force = registration(second=(by_key(certificate, TLS),))
        assert identities.peer(certificate, now).party == SECOND
    with subtests.test("registered no more"):
        in_force = registration(first=())
        with pytest.raises(Refusal, match="not registered"):
            identities.peer(certificate, now)
        in_force = registration(first=(by_key(certificate, TLS),))
        assert identities.peer(certificate, now).party == FIRST
    with subtests.test("expired"), pytest.raises(Refusal, match="expired"):
        identities.peer(certificate, certificate.not_valid_after_utc + timedelta(seconds=1))
    with subtests.test("its list is stale"):
        cas = (replace(ca, crls=()),)
        cas = (renew_crls(cas[0], (certs / "stale.crl.pem").read_bytes()),)
        with pytest.raises(Refusal) as caught:
            identities.peer(certificate, now)
        assert caught.value.kind is Kind.SENDER_UNKNOWN
        assert caught.value.extra["rule"] == "crl-stale"
    with subtests.test("its authority is gone"):
        cas = ()
        with pytest.raises(Refusal, match="no configured authority"):
            identities.peer(certificate, now)
