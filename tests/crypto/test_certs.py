import hashlib
import re
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto.certs import (
    DEVELOPMENT_ORGANISATION,
    CertificateRejected,
    ClientCa,
    Good,
    Rule,
    SubjectUnreadable,
    Unknown,
    check_signer,
    check_tls_client,
    is_development,
    issuing_ca,
    load_certificates,
    load_client_ca,
    matches_subject,
    parse_certificate,
    parse_certificates,
    parse_subject,
    require_current,
    spki_sha256,
    subject_text,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)  # of the authorities made here; the `certs` directory has the real time
DAY = timedelta(days=1)

# What each client certificate meets: as a TLS client after the handshake, and as the signer of a message.
VERDICTS = {
    "gemeente": (None, None),
    "belasting": (None, None),
    "unknown-sender": (None, None),  # who is registered is not a question about certificates
    "other-ca": (Rule.UNKNOWN_ISSUER, Rule.UNKNOWN_ISSUER),
    "unlisted-intermediate": (Rule.UNKNOWN_ISSUER, Rule.UNKNOWN_ISSUER),
    "expired": (Rule.EXPIRED, Rule.EXPIRED),
    "not-yet-valid": (Rule.NOT_YET_VALID, Rule.NOT_YET_VALID),
    "revoked": (Rule.REVOKED, Rule.REVOKED),
    "server-only-eku": (Rule.NO_CLIENT_AUTH_EKU, None),
    "no-eku": (Rule.NO_CLIENT_AUTH_EKU, None),
    "weak-key": (Rule.WEAK_KEY, Rule.WEAK_KEY),
    "no-digital-signature": (Rule.NO_DIGITAL_SIGNATURE, Rule.NO_DIGITAL_SIGNATURE),
}

Check = Callable[[x509.Certificate, list[ClientCa], datetime], object]
NewAuthority = Callable[..., Any]  # the factory of conftest.py


def rejection(check: Check, leaf: x509.Certificate, ca: ClientCa, now: datetime = NOW) -> Rule | None:
    try:
        check(leaf, [ca], now)
    except CertificateRejected as exc:
        return exc.rule
    return None


def configured(*authorities: Any, name: str = "test") -> ClientCa:
    """Return a CA whose lists nobody misses, for tests about paths."""
    certificates = tuple(authority.certificate for authority in authorities)
    return ClientCa(name=name, certificates=certificates, revocation="soft-fail")


@pytest.fixture(scope="module")
def dev_clients(certs: Path) -> ClientCa:
    return load_client_ca(
        "dev-clients", certs / "clients-ca.pem", crl_file=certs / "clients.crl.pem", revocation="hard-fail"
    )


def test_the_table_names_every_client_that_is_made(certs_maker: ModuleType) -> None:
    assert set(VERDICTS) == {client.name for client in certs_maker.CLIENTS}


@pytest.mark.parametrize("name", VERDICTS)
def test_each_client_meets_its_verdict(certs: Path, dev_clients: ClientCa, name: str) -> None:
    leaf = load_certificates(certs / f"{name}.pem")[0]
    now = datetime.now(UTC)
    found = (rejection(check_tls_client, leaf, dev_clients, now), rejection(check_signer, leaf, dev_clients, now))
    assert found == VERDICTS[name]


def test_a_good_client_is_vouched_for_by_its_ca(certs: Path, dev_clients: ClientCa) -> None:
    leaf = load_certificates(certs / "gemeente.pem")[0]
    trusted = check_tls_client(leaf, [dev_clients], datetime.now(UTC))
    assert (trusted.ca, trusted.revocation) == (dev_clients, Good())


def test_a_refusal_names_no_subject_and_no_key(certs: Path, dev_clients: ClientCa) -> None:
    texts = []
    for name in VERDICTS:
        leaf = load_certificates(certs / f"{name}.pem")[0]
        for check in (check_tls_client, check_signer):
            try:
                check(leaf, [dev_clients], datetime.now(UTC))
            except CertificateRejected as exc:
                texts.append(str(exc))
    assert len(texts) == 16
    assert not [text for text in texts if re.search(r"voorbeeld|CN=|[0-9a-f]{16}", text, re.IGNORECASE)]


# ── Keys, purposes, validity ──

KEYS: dict[str, Callable[[], Any]] = {
    "p224": lambda: ec.generate_private_key(ec.SECP224R1()),
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "rsa1536": lambda: rsa.generate_private_key(65537, 1536),  # noqa: S505 refused for its size
    "rsa2048": lambda: rsa.generate_private_key(65537, 2048),
}


@pytest.mark.parametrize(
    ("key", "as_client", "as_signer"),
    [
        ("p256", None, None),
        ("p384", None, None),
        ("p521", None, None),
        ("p224", Rule.KEY_TYPE, Rule.KEY_TYPE),
        ("secp256k1", Rule.KEY_TYPE, Rule.KEY_TYPE),
        ("ed25519", None, Rule.KEY_TYPE),
        ("rsa2048", None, None),
        ("rsa1536", Rule.WEAK_KEY, Rule.WEAK_KEY),
    ],
)
def test_keys_are_of_an_allowed_type_and_size(
    new_authority: NewAuthority, key: str, as_client: Rule | None, as_signer: Rule | None
) -> None:
    authority = new_authority()
    leaf = authority.leaf(key=KEYS[key]())
    ca = configured(authority)
    assert (rejection(check_tls_client, leaf, ca), rejection(check_signer, leaf, ca)) == (as_client, as_signer)


@pytest.mark.parametrize(
    ("purposes", "want"),
    [
        ([ExtendedKeyUsageOID.CLIENT_AUTH], None),
        ([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH], None),
        ([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE], Rule.NO_CLIENT_AUTH_EKU),
        ([ExtendedKeyUsageOID.EMAIL_PROTECTION], Rule.NO_CLIENT_AUTH_EKU),
    ],
)
def test_a_client_names_client_auth(
    new_authority: NewAuthority, purposes: list[x509.ObjectIdentifier], want: Rule | None
) -> None:
    authority = new_authority()
    leaf = authority.leaf([(x509.ExtendedKeyUsage(purposes), False)])
    assert rejection(check_tls_client, leaf, configured(authority)) is want


def test_a_key_usage_is_demanded_of_signers_only(new_authority: NewAuthority) -> None:
    authority = new_authority()
    leaf = authority.leaf([(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)])
    ca = configured(authority)
    assert rejection(check_tls_client, leaf, ca) is None
    assert rejection(check_signer, leaf, ca) is Rule.NO_DIGITAL_SIGNATURE


def test_an_authority_is_no_client_and_no_signer(new_authority: NewAuthority) -> None:
    root = new_authority()
    intermediate = new_authority("intermediate", root).certificate
    ca = configured(root)
    assert rejection(check_tls_client, intermediate, ca) is Rule.IS_A_CA
    assert rejection(check_signer, intermediate, ca) is Rule.IS_A_CA


@given(seconds=st.integers(-200_000, 200_000))
def test_a_certificate_is_current_from_its_first_to_its_last_second(dev_clients: ClientCa, seconds: int) -> None:
    certificate = dev_clients.certificates[0]
    shift = timedelta(seconds=seconds)
    at_first = rejection_of_time(certificate, certificate.not_valid_before_utc + shift)
    at_last = rejection_of_time(certificate, certificate.not_valid_after_utc + shift)
    assert at_first is (Rule.NOT_YET_VALID if seconds < 0 else None)
    assert at_last is (Rule.EXPIRED if seconds > 0 else None)


def rejection_of_time(certificate: x509.Certificate, now: datetime) -> Rule | None:
    try:
        require_current(certificate, now)
    except CertificateRejected as exc:
        return exc.rule
    return None


# ── Paths ──


def test_a_path_may_pass_intermediates_and_end_at_one_without_its_root(new_authority: NewAuthority) -> None:
    root = new_authority()
    middle = new_authority("middle", root)
    bottom = new_authority("bottom", middle)
    leaf = bottom.leaf()
    for authorities in ([root, middle, bottom], [bottom], [bottom, middle]):
        assert rejection(check_tls_client, leaf, configured(*authorities)) is None
    for authorities in ([root], [middle], [root, middle]):
        assert rejection(check_tls_client, leaf, configured(*authorities)) is Rule.UNKNOWN_ISSUER


def test_an_authority_with_a_known_name_and_another_key_vouches_for_nobody(new_authority: NewAuthority) -> None:
    impostor = new_authority("root")
    assert rejection(check_tls_client, impostor.leaf(), configured(new_authority("root"))) is Rule.PATH_INVALID


def test_a_path_holds_only_while_every_authority_on_it_is_valid(new_authority: NewAuthority) -> None:
    root = new_authority(validity=(NOW - 3 * DAY, NOW + 3 * DAY))
    middle = new_authority("middle", root, validity=(NOW - DAY, NOW + DAY))
    leaf = middle.leaf(validity=(NOW - 2 * DAY, NOW + 2 * DAY))
    ca = configured(root, middle)
    verdicts = [rejection(issuing_ca, leaf, ca, NOW + hours * timedelta(hours=1)) for hours in (0, 25, 0, -25, 24)]
    assert verdicts == [None, Rule.PATH_INVALID, None, Rule.PATH_INVALID, None]


def test_a_path_obeys_length_name_constraints_and_purposes(new_authority: NewAuthority) -> None:
    root = new_authority()
    names = x509.NameConstraints([x509.DNSName("voorbeeld.be")], None)
    email = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
    for extension, names_of_leaf, as_client, as_signer in (
        (names, ["a.voorbeeld.be"], None, None),
        (names, ["a.elders.be"], Rule.PATH_INVALID, Rule.PATH_INVALID),
        (email, ["a.voorbeeld.be"], Rule.PATH_INVALID, None),
    ):
        middle = new_authority("middle", root, extensions=[(extension, not isinstance(extension, type(email)))])
        alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names_of_leaf])
        usual = [(extension.value, extension.critical) for extension in middle.leaf().extensions][1:]
        leaf = middle.leaf([*usual, (alternative, False)])
        ca = configured(root, middle)
        assert (rejection(check_tls_client, leaf, ca), rejection(check_signer, leaf, ca)) == (as_client, as_signer)


def test_an_unread_critical_extension_breaks_the_path(new_authority: NewAuthority) -> None:
    authority = new_authority()
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.25.1"), b"\x05\x00")
    purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    ca = configured(authority)
    for critical, want in ((True, Rule.PATH_INVALID), (False, None)):
        leaf = authority.leaf([(purposes, False), (unknown, critical)])
        assert rejection(check_tls_client, leaf, ca) is want


def test_the_ca_that_issued_is_found_among_several(new_authority: NewAuthority) -> None:
    first, second = new_authority("first"), new_authority("second")
    cas = [configured(first, name="first"), configured(second, name="second")]
    assert issuing_ca(second.leaf(), cas, NOW).name == "second"
    assert issuing_ca(first.leaf(), cas, NOW).name == "first"
    with pytest.raises(CertificateRejected, match=Rule.UNKNOWN_ISSUER):
        issuing_ca(first.leaf(), [], NOW)


def test_many_different_clients_do_not_fill_the_memory(
    new_authority: NewAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.crypto.certs._PATHS_KEPT", 2)
    authority = new_authority()
    ca = configured(authority)
    for leaf in [authority.leaf() for _ in range(5)]:
        assert rejection(issuing_ca, leaf, ca) is None
        assert len(ca._paths) <= 2


# ── Loading authorities ──


@pytest.mark.parametrize(
    ("details", "rule"),
    [
        ({"key": "rsa1536"}, Rule.WEAK_KEY),
        ({"key": "ed25519"}, Rule.KEY_TYPE),
        ({"usage": x509.KeyUsage(*(False,) * 6, True, False, False)}, Rule.NOT_A_CA),  # cRLSign alone
        (
            {"extensions": [(x509.NameConstraints([x509.DirectoryName(x509.Name([]))], None), True)]},
            Rule.NAME_CONSTRAINTS,
        ),
    ],
)
def test_an_unfit_authority_is_refused_when_loaded(
    new_authority: NewAuthority, tmp_path: Path, details: dict[str, Any], rule: Rule
) -> None:
    if "key" in details:
        details = {"key": KEYS[details["key"]]()}
    (tmp_path / "ca.pem").write_bytes(new_authority().pem + new_authority(**details).pem)
    with pytest.raises(CertificateRejected) as caught:
        load_client_ca("test", tmp_path / "ca.pem", crl_file=None, revocation="hard-fail")
    assert caught.value.rule is rule


def test_a_leaf_is_refused_as_an_authority(certs: Path) -> None:
    with pytest.raises(CertificateRejected) as caught:
        load_client_ca("test", certs / "gemeente.pem", crl_file=None, revocation="hard-fail")
    assert caught.value.rule is Rule.NOT_A_CA


def test_an_authority_written_twice_counts_once(new_authority: NewAuthority, tmp_path: Path) -> None:
    authority = new_authority()
    (tmp_path / "ca.pem").write_bytes(2 * authority.pem)
    ca = load_client_ca("test", tmp_path / "ca.pem", crl_file=None, revocation="soft-fail")
    assert ca.certificates == (authority.certificate,)


def test_a_soft_fail_authority_tells_what_it_does_not_know(new_authority: NewAuthority) -> None:
    authority = new_authority()
    assert check_signer(authority.leaf(), [configured(authority)], NOW).revocation == Unknown(rule=Rule.CRL_MISSING)


# ── Reading and naming ──


def test_what_is_no_certificate_is_unreadable(certs: Path) -> None:
    der = load_certificates(certs / "gemeente.pem")[0].public_bytes(Encoding.DER)
    twice = der.replace(bytes.fromhex("551d23"), bytes.fromhex("551d0e"))  # a second subjectKeyIdentifier
    assert parse_certificate(der).public_bytes(Encoding.DER) == der
    for broken in (b"", der[:-1], der + b"\x00", b"\x30\x00", twice):
        with pytest.raises(CertificateRejected) as caught:
            parse_certificate(broken)
        assert caught.value.rule is Rule.UNREADABLE
    for broken in (b"", b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"):
        with pytest.raises(CertificateRejected) as caught:
            parse_certificates(broken)
        assert caught.value.rule is Rule.UNREADABLE


def test_a_certificate_read_before_is_not_read_again_and_what_is_unreadable_never_is(certs: Path) -> None:
    der = load_certificates(certs / "gemeente.pem")[0].public_bytes(Encoding.DER)
    assert parse_certificate(der) is parse_certificate(bytes(bytearray(der)))
    for _ in range(2):
        with pytest.raises(CertificateRejected):
            parse_certificate(der[:-1])


def test_a_large_certificate_is_read_and_not_kept(new_authority: NewAuthority) -> None:
    padding = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x04\x82\x20\x00" + bytes(8192))
    large = new_authority().leaf([(padding, False)]).public_bytes(Encoding.DER)
    first, second = parse_certificate(large), parse_certificate(large)
    assert first == second
    assert first is not second


def test_the_pin_is_the_digest_of_the_public_key_in_der(new_authority: NewAuthority) -> None:
    # RFC 8032, 7.1, test 1, in the SubjectPublicKeyInfo of RFC 8410.
    secret = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    key = ed25519.Ed25519PrivateKey.from_private_bytes(secret)
    first, second = (new_authority().leaf(key=key) for _ in range(2))
    want = hashlib.sha256(bytes.fromhex("302a300506032b6570032100") + public).hexdigest()
    assert spki_sha256(first) == spki_sha256(second) == want
    assert first != second


def test_a_subject_reads_as_a_registration_writes_it(certs: Path) -> None:
    leaf = load_certificates(certs / "gemeente.pem")[0]
    assert subject_text(leaf) == "CN=documenten.voorbeeld.be,O=Gemeente Voorbeeld,C=BE"


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("CN=documenten.voorbeeld.be,O=Gemeente Voorbeeld,C=BE", True),
        (r"CN=documenten.voorbeeld.be,O=Gemeente\20Voorbeeld,C=BE", True),
        ("2.5.4.3=documenten.voorbeeld.be,O=Gemeente Voorbeeld,C=BE", True),
        ("CN=Documenten.voorbeeld.be,O=Gemeente Voorbeeld,C=BE", False),
        ("C=BE,O=Gemeente Voorbeeld,CN=documenten.voorbeeld.be", False),
        ("CN=documenten.voorbeeld.be,O=Gemeente Voorbeeld", False),
        ("CN=documenten.voorbeeld.be+O=Gemeente Voorbeeld,C=BE", False),
        ("CN=documenten.voorbeeld.be,OU=x,O=Gemeente Voorbeeld,C=BE", False),
    ],
)
def test_subjects_match_as_names(certs: Path, text: str, matches: bool) -> None:  # noqa: FBT001 a column of the table
    assert matches_subject(load_certificates(certs / "gemeente.pem")[0], text) is matches


TEXT_ATTRIBUTES = [
    NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.LOCALITY_NAME,
    NameOID.ORGANIZATION_IDENTIFIER, NameOID.TITLE,
]  # fmt: skip
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=16)
PRINTABLE = st.text("AZaz09 '()+,-./:=?", min_size=1, max_size=16)
ATTRIBUTES = st.one_of(
    st.builds(x509.NameAttribute, st.sampled_from(TEXT_ATTRIBUTES), TEXTS),
    st.builds(x509.NameAttribute, st.just(NameOID.SERIAL_NUMBER), PRINTABLE),
)
NAMES = st.lists(ATTRIBUTES, min_size=1, max_size=5).map(x509.Name)
SIGNER = ec.generate_private_key(ec.SECP256R1())


@given(name=NAMES, other=NAMES)
def test_what_subject_text_writes_matches_that_subject_alone(name: x509.Name, other: x509.Name) -> None:
    certificate = (
        x509.CertificateBuilder(name, name, SIGNER.public_key(), 1, NOW, NOW + DAY).sign(SIGNER, hashes.SHA256())
    )  # fmt: skip
    text = subject_text(certificate)
    assert matches_subject(certificate, text)
    if name != other:
        assert parse_subject(text) != other


@pytest.mark.parametrize(
    "text", ["", " ", "documenten.voorbeeld.be", "CN=", "CN=a,,C=BE", "XX=a", "CN=a; C=BE", "C=BEL"]
)
def test_a_registered_subject_is_rfc_4514(text: str) -> None:
    with pytest.raises(SubjectUnreadable):
        parse_subject(text)


# ── The development set ──


def test_everything_that_is_made_carries_the_marker(certs: Path, new_authority: NewAuthority) -> None:
    files = list(certs.glob("*.pem"))
    made = [each for file in files if ".crl" not in file.name for each in load_certificates(file)]
    assert len(made) > 30
    assert all(is_development(each) for each in made)
    assert all(DEVELOPMENT_ORGANISATION in subject_text(each) for each in load_certificates(certs / "clients-ca.pem"))
    assert not is_development(new_authority().certificate)


def test_made_keys_are_for_their_owner_only_even_over_an_older_file(certs_maker: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "gemeente.key").touch(mode=0o644)
    certs_maker.make(tmp_path, NOW)
    assert {file.name for file in tmp_path.iterdir()} == certs_maker.FILES
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.glob("*.key")} == {0o600}


def test_a_whole_set_is_left_alone_and_a_broken_one_needs_force(
    certs_maker: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "new"
    assert certs_maker.main([str(directory)]) == 0
    first = (directory / "ca.pem").read_bytes()
    assert certs_maker.main([str(directory)]) == 0
    assert (directory / "ca.pem").read_bytes() == first
    (directory / "server.key").unlink()
    assert certs_maker.main([str(directory)]) == 1
    assert not (directory / "server.key").exists()
    assert certs_maker.main([str(directory), "--force"]) == 0
    assert (directory / "ca.pem").read_bytes() != first
    assert "--force" in capsys.readouterr().err


def test_a_set_is_current_until_a_day_before_its_end(certs_maker: ModuleType, tmp_path: Path) -> None:
    certs_maker.make(tmp_path, NOW)
    end = NOW + certs_maker.LEAF_LIFETIME
    assert certs_maker.is_current(tmp_path, NOW)
    assert certs_maker.is_current(tmp_path, end - DAY)
    assert not certs_maker.is_current(tmp_path, end - DAY + timedelta(seconds=1))
    assert not certs_maker.is_current(tmp_path, NOW - DAY)
