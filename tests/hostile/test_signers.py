"""Who may sign: certificates that look like a registered one, judged by the real rules, registration and authority."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.crypto.certs import CertificateRejected, ClientCa, load_client_ca, renew_crls, spki_sha256
from gateway.crypto.identity import Identities
from gateway.crypto.manifest import MESSAGE_ROOT, read_message
from gateway.crypto.schema import read_schema
from gateway.crypto.xmlsig import verify_enveloped
from gateway.domain.ids import EnterpriseNumber
from gateway.domain.message import Message
from gateway.domain.registration import CertificateUse, Contact, RegisteredCertificate, Registration, Sender
from gateway.errors import Kind, Refusal

if TYPE_CHECKING:
    from tests.plugins.forging import Shape, Signer, forge, load_signer, x509_certificate
else:
    from forging import Shape, Signer, forge, load_signer, x509_certificate

GEMEENTE = EnterpriseNumber("0406798006")
BELASTING = EnterpriseNumber("0566988259")
STRANGER = EnterpriseNumber("0316380841")
CA_NAME = "dev-clients"
SUBJECT = {
    NameOID.COUNTRY_NAME: "BE",
    NameOID.ORGANIZATION_NAME: "Gemeente Voorbeeld",
    NameOID.COMMON_NAME: "documenten.voorbeeld.be",
}
NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


def name(attributes: Mapping[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes.items()])


REGISTERED = name(SUBJECT)


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """What an authority is asked to certify: by default what a registered sender may have."""

    subject: x509.Name = REGISTERED
    key: Callable[[], Any] = lambda: ec.generate_private_key(ec.SECP256R1())
    from_at: datetime = NOW - DAY
    until_at: datetime = NOW + DAY
    usage: frozenset[str] | None = frozenset({"digital_signature"})
    is_authority: bool = False
    critical: bool = False


USUAL = Leaf()


def key_usage(named: frozenset[str]) -> x509.KeyUsage:
    flags = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{flag: flag in named for flag in flags})


def issue(authority: Signer, leaf: Leaf = USUAL, *, issuer: x509.Name | None = None) -> Signer:
    key = leaf.key()
    builder = (
        x509.CertificateBuilder(
            subject_name=leaf.subject,
            issuer_name=issuer or authority.certificate.subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=leaf.from_at,
            not_valid_after=leaf.until_at,
        )
        .add_extension(x509.BasicConstraints(ca=leaf.is_authority, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if leaf.usage is not None:
        builder = builder.add_extension(key_usage(leaf.usage), critical=True)
    if leaf.critical:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.25.1"), b"\x05\x00")
        builder = builder.add_extension(unknown, critical=True)
    return Signer(key=key, certificate=builder.sign(authority.key, hashes.SHA256()))


@pytest.fixture(scope="module")
def authority(certs: Path) -> Signer:
    """The intermediate that issues senders' certificates."""
    key = load_pem_private_key((certs / "clients-ca.key").read_bytes(), None)
    certificate = x509.load_pem_x509_certificates((certs / "clients-ca.pem").read_bytes())[0]
    return Signer(key=key, certificate=certificate)


def client_ca(certs: Path, crl: str | None = "clients.crl.pem") -> ClientCa:
    file = None if crl is None else certs / crl
    return load_client_ca(CA_NAME, certs / "clients-ca.pem", crl_file=file, revocation="hard-fail")


BY_SUBJECT = RegisteredCertificate(
    subject="CN=documenten.voorbeeld.be,O=Gemeente Voorbeeld,C=BE",
    issuer_ca=CA_NAME,
    uses=frozenset({CertificateUse.TLS, CertificateUse.SIGNING}),
)


def registration(*gemeente: RegisteredCertificate) -> Registration:
    """Two senders, the second a processor of the first."""
    contact = Contact(dpo="", technical="", security="", public="")
    theirs = replace(BY_SUBJECT, subject="CN=documenten.belastingdienst.example,O=Belastingdienst Voorbeeld,C=BE")
    senders = (
        Sender(
            enterprise_number=GEMEENTE,
            name="Gemeente",
            contact=contact,
            certificates=gemeente or (BY_SUBJECT,),
            processors=frozenset({BELASTING}),
        ),
        Sender(enterprise_number=BELASTING, name="Belastingdienst", contact=contact, certificates=(theirs,)),
    )
    return Registration(version=1, senders={sender.enterprise_number: sender for sender in senders}, categories={})


def read(body: bytes, ca: ClientCa, known: Registration | None = None, party: EnterpriseNumber = GEMEENTE) -> Message:
    """Read a message that `party` hands over, as acceptance does."""
    senders = known or registration()
    identities = Identities(lambda: senders, lambda: (ca,))
    signed = verify_enveloped(
        body,
        schema=read_schema("message.xsd"),
        root_name=MESSAGE_ROOT,
        signer=lambda claimed, shown: identities.check_signer(claimed, shown, party=party, now=NOW),
    )
    return read_message(signed.root, allow_test_ssin=True)


OCTETS = st.integers(0, 255) | st.sampled_from([0, 1, 2, 3, 0x80, 0xFF])
CHANGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), OCTETS), min_size=1, max_size=3)


def octets_changed(der: bytes, changes: list[tuple[float, int]]) -> bytes:
    changed = bytearray(der)
    for place, octet in changes:
        changed[int(place * len(changed))] = octet
    return bytes(changed)


def refused(
    body: bytes, ca: ClientCa, known: Registration | None = None, party: EnterpriseNumber = GEMEENTE
) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read(body, ca, known, party)
    return caught.value


# ── Certificates that the sender's own authority issued ──


def rsa_key(bits: int) -> Callable[[], rsa.RSAPrivateKey]:
    return lambda: rsa.generate_private_key(65537, bits)


def ec_key(curve: ec.EllipticCurve) -> Callable[[], ec.EllipticCurvePrivateKey]:
    return lambda: ec.generate_private_key(curve)


ISSUED_FIT = {
    "renewed": USUAL,
    "ends now": Leaf(until_at=NOW),
    "starts now": Leaf(from_at=NOW),
    "also for non-repudiation": Leaf(usage=frozenset({"digital_signature", "content_commitment"})),
    "RSA": Leaf(key=rsa_key(2048)),
    "P-521": Leaf(key=ec_key(ec.SECP521R1())),
}


@pytest.mark.parametrize("leaf", ISSUED_FIT.values(), ids=ISSUED_FIT)
def test_a_certificate_of_the_registered_subject_and_authority_signs(
    leaf: Leaf, certs: Path, authority: Signer, honest: Message, honest_xml: bytes
) -> None:
    assert read(forge(honest_xml, issue(authority, leaf)), client_ca(certs)) == honest


MISMATCH = (Kind.SIGNER_MISMATCH, None)
ISSUED_UNFIT: dict[str, tuple[Leaf, tuple[Kind, str | None]]] = {
    "ended a second ago": (Leaf(until_at=NOW - SECOND), (Kind.SIGNATURE_INVALID, "expired")),
    "starts in a second": (Leaf(from_at=NOW + SECOND), (Kind.SIGNATURE_INVALID, "not-yet-valid")),
    "no key usage": (Leaf(usage=None), (Kind.SIGNATURE_INVALID, "no-digital-signature")),
    "for non-repudiation alone": (
        Leaf(usage=frozenset({"content_commitment"})),
        (Kind.SIGNATURE_INVALID, "no-digital-signature"),
    ),
    "for keys alone": (Leaf(usage=frozenset({"key_agreement"})), (Kind.SIGNATURE_INVALID, "no-digital-signature")),
    "an authority": (
        Leaf(is_authority=True, usage=frozenset({"digital_signature", "key_cert_sign"})),
        (Kind.SIGNATURE_INVALID, "is-a-ca"),
    ),
    "critical extension that nobody knows": (Leaf(critical=True), (Kind.SIGNATURE_INVALID, "path-invalid")),
    "RSA of 1024 bits": (Leaf(key=rsa_key(1024)), (Kind.SIGNATURE_INVALID, "weak-key")),
    "RSA of 2047 bits": (Leaf(key=rsa_key(2047)), (Kind.SIGNATURE_INVALID, "weak-key")),
    "curve of Bitcoin": (Leaf(key=ec_key(ec.SECP256K1())), (Kind.SIGNATURE_INVALID, "key-type")),
    "Brainpool": (Leaf(key=ec_key(ec.BrainpoolP256R1())), (Kind.SIGNATURE_INVALID, "key-type")),
    "other capitals": (
        Leaf(subject=name(SUBJECT | {NameOID.COMMON_NAME: "Documenten.Voorbeeld.be"})),
        MISMATCH,
    ),
    "other organisation": (Leaf(subject=name(SUBJECT | {NameOID.ORGANIZATION_NAME: "Gemeente"})), MISMATCH),
    "one attribute more": (Leaf(subject=name(SUBJECT | {NameOID.LOCALITY_NAME: "Gent"})), MISMATCH),
    "one attribute less": (
        Leaf(subject=name({oid: SUBJECT[oid] for oid in SUBJECT if oid != NameOID.COUNTRY_NAME})),
        MISMATCH,
    ),
    "turned round": (Leaf(subject=name(dict(reversed(SUBJECT.items())))), MISMATCH),
    "attributes in one": (
        Leaf(
            subject=x509.Name(
                [x509.RelativeDistinguishedName(x509.NameAttribute(oid, value) for oid, value in SUBJECT.items())]
            )
        ),
        MISMATCH,
    ),
    "all in the common name": (
        Leaf(subject=name({NameOID.COMMON_NAME: "documenten.voorbeeld.be,O=Gemeente Voorbeeld,C=BE"})),
        MISMATCH,
    ),
    "ends with a NUL": (
        Leaf(subject=name(SUBJECT | {NameOID.COMMON_NAME: "documenten.voorbeeld.be\0.evil.example"})),
        MISMATCH,
    ),
    "look-alike": (
        Leaf(subject=name(SUBJECT | {NameOID.COMMON_NAME: "d\u043ecumenten.voorbeeld.be"})),
        MISMATCH,
    ),
    "space behind": (Leaf(subject=name(SUBJECT | {NameOID.COMMON_NAME: "documenten.voorbeeld.be "})), MISMATCH),
    "nobody": (Leaf(subject=x509.Name([])), MISMATCH),
}


@pytest.mark.parametrize(("leaf", "expected"), ISSUED_UNFIT.values(), ids=ISSUED_UNFIT)
def test_no_other_certificate_of_the_same_authority_signs(
    leaf: Leaf, expected: tuple[Kind, str | None], certs: Path, authority: Signer, honest_xml: bytes
) -> None:
    refusal = refused(forge(honest_xml, issue(authority, leaf)), client_ca(certs))
    assert (refusal.kind, refusal.extra.get("rule")) == expected


# ── Certificates under the registered subject from elsewhere ──


def same_named_authority(genuine: Signer) -> Signer:
    """An authority with the name of the genuine one and a key of its own."""
    usage = frozenset({"key_cert_sign", "crl_sign"})
    own = Signer(key=ec.generate_private_key(ec.SECP256R1()), certificate=genuine.certificate)
    return issue(own, Leaf(subject=genuine.certificate.subject, is_authority=True, usage=usage))


def self_signed(genuine: Signer) -> Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    own = Signer(key=key, certificate=genuine.certificate)
    return issue(own, Leaf(key=lambda: key), issuer=REGISTERED)


def by_a_leaf(genuine: Signer) -> Signer:
    return issue(issue(genuine, Leaf(subject=name(SUBJECT | {NameOID.COMMON_NAME: "leaf.example"}))))


def by_a_leaf_of_the_authoritys_name(genuine: Signer) -> Signer:
    return issue(issue(genuine, Leaf(subject=genuine.certificate.subject)))


def by_a_further_intermediate(genuine: Signer) -> Signer:
    usage = frozenset({"key_cert_sign", "crl_sign"})
    further = name({NameOID.COMMON_NAME: "further CA"})
    return issue(issue(genuine, Leaf(subject=further, is_authority=True, usage=usage)))


ELSEWHERE: dict[str, tuple[Callable[[Signer], Signer], str]] = {
    "itself": (self_signed, "unknown-issuer"),
    "an authority of the same name": (lambda genuine: issue(same_named_authority(genuine)), "path-invalid"),
    "a leaf": (by_a_leaf, "unknown-issuer"),
    "a leaf of the authority's name": (by_a_leaf_of_the_authoritys_name, "path-invalid"),
    "an intermediate that was not configured": (by_a_further_intermediate, "unknown-issuer"),
}


@pytest.mark.parametrize(("make", "rule"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_the_registered_subject_from_elsewhere_signs_nothing(
    make: Callable[[Signer], Signer], rule: str, certs: Path, authority: Signer, honest_xml: bytes
) -> None:
    refusal = refused(forge(honest_xml, make(authority)), client_ca(certs))
    assert (refusal.kind, refusal.extra.get("rule")) == (Kind.SIGNATURE_INVALID, rule)


def test_the_authority_itself_signs_nothing(certs: Path, authority: Signer, honest_xml: bytes) -> None:
    known = registration(
        RegisteredCertificate(spki_sha256=spki_sha256(authority.certificate), uses=frozenset({CertificateUse.SIGNING}))
    )
    refusal = refused(forge(honest_xml, authority), client_ca(certs), known)
    assert (refusal.kind, refusal.extra.get("rule")) == (Kind.SIGNATURE_INVALID, "is-a-ca")


# ── Revocation ──


def test_a_revoked_certificate_signs_nothing_and_its_successor_does(
    certs: Path, authority: Signer, honest: Message, honest_xml: bytes
) -> None:
    first, second = issue(authority), issue(authority)
    ca = client_ca(certs)
    assert read(forge(honest_xml, first), ca) == honest
    entry = x509.RevokedCertificateBuilder(first.certificate.serial_number, NOW - DAY).build()
    revoking = (
        x509.CertificateRevocationListBuilder(issuer_name=authority.certificate.subject)
        .last_update(NOW)
        .next_update(NOW + DAY)
        .add_extension(x509.CRLNumber(2**62), critical=False)
        .add_revoked_certificate(entry)
        .sign(authority.key, hashes.SHA256())
    )
    renewed = renew_crls(ca, revoking.public_bytes(Encoding.PEM))
    assert refused(forge(honest_xml, first), renewed).kind is Kind.CERTIFICATE_REVOKED
    assert read(forge(honest_xml, second), renewed) == honest


@pytest.mark.parametrize(("crl", "rule"), [(None, "crl-missing"), ("stale.crl.pem", "crl-stale")])
def test_without_a_list_in_force_nobody_signs(
    crl: str | None, rule: str, certs: Path, gemeente: Signer, honest_xml: bytes
) -> None:
    refusal = refused(forge(honest_xml, gemeente), client_ca(certs, crl))
    assert (refusal.kind, refusal.extra.get("rule")) == (Kind.SIGNATURE_INVALID, rule)


@settings(max_examples=300, deadline=None)
@given(changes=CHANGES)
def test_a_revocation_list_changed_in_any_byte_is_refused_and_nothing_else_happens(
    *, changes: list[tuple[float, int]], certs: Path
) -> None:
    block = (certs / "clients.crl.pem").read_bytes().partition(b"-----END X509 CRL-----\n")
    genuine = x509.load_pem_x509_crl(block[0] + block[1]).public_bytes(Encoding.DER)
    ca = client_ca(certs)
    assert renew_crls(ca, genuine).crls
    changed = octets_changed(genuine, changes)
    if changed != genuine:
        with pytest.raises(CertificateRejected):
            renew_crls(ca, changed)


# ── Registration ──


def test_a_registered_key_is_that_key_alone(
    certs: Path, authority: Signer, gemeente: Signer, honest: Message, honest_xml: bytes
) -> None:
    known = registration(
        RegisteredCertificate(spki_sha256=spki_sha256(gemeente.certificate), uses=frozenset({CertificateUse.SIGNING}))
    )
    assert read(forge(honest_xml, gemeente), client_ca(certs), known) == honest
    assert refused(forge(honest_xml, issue(authority)), client_ca(certs), known).kind is Kind.SIGNER_MISMATCH
    shown = forge(honest_xml, issue(authority), Shape(key_info=gemeente.x509_data))
    assert refused(shown, client_ca(certs), known).detail == "signature value does not match"


@pytest.mark.parametrize("use", sorted(set(CertificateUse) - {CertificateUse.SIGNING}))
def test_a_certificate_registered_for_another_use_signs_nothing(
    use: CertificateUse, certs: Path, gemeente: Signer, honest_xml: bytes
) -> None:
    known = registration(replace(BY_SUBJECT, uses=frozenset({use})))
    assert refused(forge(honest_xml, gemeente), client_ca(certs), known).kind is Kind.SIGNER_MISMATCH


def test_who_hands_over_and_who_signs_must_belong_to_the_signed_sender(
    certs: Path, gemeente: Signer, belasting: Signer, honest: Message, honest_xml: bytes
) -> None:
    ca = client_ca(certs)
    theirs = honest_xml.replace(GEMEENTE.encode(), BELASTING.encode())
    of = {GEMEENTE: gemeente, BELASTING: belasting}
    taken = [
        (sender, party, signer)
        for sender, xml in ((GEMEENTE, honest_xml), (BELASTING, theirs))
        for party in (GEMEENTE, BELASTING, STRANGER)
        for signer in of
        if is_taken(forge(xml, of[signer]), ca, party)
    ]
    assert taken == [
        (GEMEENTE, GEMEENTE, GEMEENTE),
        (GEMEENTE, BELASTING, GEMEENTE),
        (GEMEENTE, BELASTING, BELASTING),
        (BELASTING, BELASTING, BELASTING),
    ]


def is_taken(body: bytes, ca: ClientCa, party: EnterpriseNumber) -> bool:
    try:
        read(body, ca, party=party)
    except Refusal as refusal:
        if refusal.kind is not Kind.SIGNER_MISMATCH:
            raise
        return False
    return True


# ── What is no certificate ──


def of_another_version(der: bytes) -> bytes:
    assert der.count(b"\xa0\x03\x02\x01\x02") == 1
    return der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05")


def test_a_certificate_of_another_version_is_refused(certs: Path, gemeente: Signer, honest_xml: bytes) -> None:
    der = of_another_version(gemeente.certificate.public_bytes(Encoding.DER))
    shown = f"<ds:X509Data>{x509_certificate(der)}</ds:X509Data>"
    refusal = refused(forge(honest_xml, gemeente, Shape(key_info=shown)), client_ca(certs))
    assert refusal.detail == "key-info: the X509Certificate cannot be read"


def test_a_certificate_with_a_name_of_a_strange_type_is_refused(
    certs: Path, authority: Signer, honest_xml: bytes
) -> None:
    unique = x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, b"\0", x509.name._ASN1Type.BitString)
    made = issue(authority, Leaf(subject=x509.Name([unique])))
    der = made.certificate.public_bytes(Encoding.DER).replace(b"\x55\x04\x2d", b"\x55\x04\x03")  # commonName
    shown = f"<ds:X509Data>{x509_certificate(der)}</ds:X509Data>"
    refusal = refused(forge(honest_xml, made, Shape(key_info=shown)), client_ca(certs))
    assert refusal.detail == "key-info: the X509Certificate cannot be read"


@pytest.mark.filterwarnings("ignore:Parsed a serial number")  # the library warns of a number that is not positive
@settings(max_examples=400, deadline=None)
@given(changes=CHANGES)
def test_a_certificate_changed_in_any_byte_is_refused_and_nothing_else_happens(
    *, changes: list[tuple[float, int]], certs: Path, gemeente: Signer, honest: Message, honest_xml: bytes
) -> None:
    genuine = gemeente.certificate.public_bytes(Encoding.DER)
    der = octets_changed(genuine, changes)
    shown = f"<ds:X509Data>{x509_certificate(der)}</ds:X509Data>"
    body = forge(honest_xml, gemeente, Shape(key_info=shown))
    if der == genuine:
        assert read(body, client_ca(certs)) == honest
    else:
        assert refused(body, client_ca(certs)).kind in (Kind.SIGNATURE_INVALID, Kind.SIGNER_MISMATCH)


def test_the_shipped_registration_names_these_certificates(certs: Path, honest: Message, honest_xml: bytes) -> None:
    assert read(forge(honest_xml, load_signer(certs, "gemeente")), client_ca(certs)) == honest
