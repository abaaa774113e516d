from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.crypto.certs import (
    CertificateRejected,
    ClientCa,
    Good,
    Revocation,
    Revoked,
    Rule,
    Unknown,
    check_signer,
    check_tls_client,
    load_certificates,
    load_client_ca,
    renew_crls,
    revocation_state,
)
from gateway.crypto.crls import CRL_MAX_BYTES

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)

NewAuthority = Callable[..., Any]  # the factory of conftest.py


def configured(*authorities: Any, crls: bytes = b"", revocation: Revocation = "hard-fail") -> ClientCa:
    ca = ClientCa(
        name="test", certificates=tuple(authority.certificate for authority in authorities), revocation=revocation
    )
    return renew_crls(ca, crls) if crls else ca


def refusal(ca: ClientCa, encoded: bytes) -> Rule:
    with pytest.raises(CertificateRejected) as caught:
        renew_crls(ca, encoded)
    return caught.value.rule


def distribution_point(url: str | None = None, **flags: bool) -> x509.IssuingDistributionPoint:
    return x509.IssuingDistributionPoint(
        full_name=[x509.UniformResourceIdentifier(url)] if url else None,
        relative_name=None,
        only_contains_user_certs=flags.get("users", False),
        only_contains_ca_certs=flags.get("authorities", False),
        only_some_reasons=frozenset({x509.ReasonFlags.key_compromise}) if flags.get("some_reasons") else None,
        indirect_crl=flags.get("indirect", False),
        only_contains_attribute_certs=flags.get("attributes", False),
    )


@pytest.mark.parametrize(
    ("hours", "of_a_good_one"),
    [
        (-25, Unknown(rule=Rule.CRL_NOT_YET_VALID)),
        (-24, Good()),
        (0, Good()),
        (24, Good()),
        (25, Unknown(rule=Rule.CRL_STALE)),
    ],
)
def test_a_list_clears_while_it_is_in_force_and_revokes_for_ever(
    new_authority: NewAuthority, hours: int, of_a_good_one: Good | Unknown
) -> None:
    authority = new_authority()
    good, revoked = authority.leaf(), authority.leaf()
    ca = configured(authority, crls=authority.crl([revoked]))
    now = NOW + timedelta(hours=hours)
    assert revocation_state(good, ca, now) == of_a_good_one
    assert revocation_state(revoked, ca, now) == Revoked(revoked_at=NOW - DAY)


@pytest.mark.parametrize(
    ("crl_hours", "hard", "soft"),
    [
        (None, Rule.CRL_MISSING, Unknown(rule=Rule.CRL_MISSING)),
        (-48, Rule.CRL_STALE, Unknown(rule=Rule.CRL_STALE)),
        (48, Rule.CRL_NOT_YET_VALID, Unknown(rule=Rule.CRL_NOT_YET_VALID)),
        (0, Good(), Good()),
    ],
)
@pytest.mark.parametrize("check", [check_tls_client, check_signer])
def test_what_is_not_known_is_refused_by_hard_fail_and_told_by_soft_fail(
    new_authority: NewAuthority, check: Callable[..., Any], crl_hours: int | None, hard: Rule | Good, soft: object
) -> None:
    authority = new_authority()
    leaf = authority.leaf()
    shift = timedelta(hours=crl_hours or 0)
    crls = b"" if crl_hours is None else authority.crl(validity=(NOW - DAY + shift, NOW + DAY + shift))
    assert check(leaf, [configured(authority, crls=crls, revocation="soft-fail")], NOW).revocation == soft
    strict = configured(authority, crls=crls)
    if isinstance(hard, Good):
        assert check(leaf, [strict], NOW).revocation == hard
        return
    with pytest.raises(CertificateRejected) as caught:
        check(leaf, [strict], NOW)
    assert caught.value.rule is hard


def test_a_revoked_client_is_refused_even_by_soft_fail_and_a_stale_list(certs: Path) -> None:
    ca = load_client_ca("dev", certs / "clients-ca.pem", crl_file=certs / "stale.crl.pem", revocation="soft-fail")
    now = datetime.now(UTC)
    leaf = load_certificates(certs / "gemeente.pem")[0]
    assert check_tls_client(leaf, [ca], now).revocation == Unknown(rule=Rule.CRL_STALE)
    with pytest.raises(CertificateRejected, match=Rule.REVOKED):
        check_tls_client(load_certificates(certs / "revoked.pem")[0], [ca], now)


def test_whoever_a_revoked_intermediate_issued_is_refused(new_authority: NewAuthority) -> None:
    root = new_authority()
    middle = new_authority("middle", root)
    leaf = middle.leaf()
    own = middle.crl()
    for revoked, want in (([], None), ([middle.certificate], Rule.REVOKED)):
        ca = configured(root, middle, crls=root.crl(revoked) + own)
        found = None
        try:
            check_tls_client(leaf, [ca], NOW)
        except CertificateRejected as exc:
            found = exc.rule
        assert found is want


def test_an_intermediate_needs_no_list_of_its_own_but_a_stale_one_counts(new_authority: NewAuthority) -> None:
    root = new_authority()
    middle = new_authority("middle", root)
    leaf = middle.leaf()
    assert check_tls_client(leaf, [configured(root, middle, crls=middle.crl())], NOW).revocation == Good()
    stale = root.crl(validity=(NOW - 3 * DAY, NOW - 2 * DAY))
    with pytest.raises(CertificateRejected, match=Rule.CRL_STALE):
        check_tls_client(leaf, [configured(root, middle, crls=middle.crl() + stale)], NOW)
    soft = configured(root, middle, crls=middle.crl() + stale, revocation="soft-fail")
    assert check_tls_client(leaf, [soft], NOW).revocation == Unknown(rule=Rule.CRL_STALE)


@pytest.mark.parametrize(
    ("scope", "points", "want"),
    [
        (distribution_point(users=True), None, Good()),
        (distribution_point(authorities=True), None, Unknown(rule=Rule.CRL_MISSING)),
        (distribution_point("http://crl.example/1"), "http://crl.example/1", Good()),
        (distribution_point("http://crl.example/1"), "http://crl.example/2", Unknown(rule=Rule.CRL_MISSING)),
        (distribution_point("http://crl.example/1"), None, Unknown(rule=Rule.CRL_MISSING)),
    ],
)
def test_a_list_speaks_for_its_own_scope_only(
    new_authority: NewAuthority, scope: x509.IssuingDistributionPoint, points: str | None, want: object
) -> None:
    authority = new_authority()
    extensions = []
    if points:
        named = x509.DistributionPoint([x509.UniformResourceIdentifier(points)], None, None, None)
        extensions.append((x509.CRLDistributionPoints([named]), False))
    leaf = authority.leaf(extensions)
    ca = configured(authority, crls=authority.crl(extensions=[(scope, True)]))
    assert revocation_state(leaf, ca, NOW) == want


def test_a_list_for_users_says_nothing_of_authorities(new_authority: NewAuthority) -> None:
    root = new_authority()
    middle = new_authority("middle", root)
    ca = configured(root, crls=root.crl(extensions=[(distribution_point(users=True), True)]))
    assert revocation_state(middle.certificate, ca, NOW) == Unknown(rule=Rule.CRL_MISSING)


def test_a_list_of_one_authority_says_nothing_of_anothers_certificates(new_authority: NewAuthority) -> None:
    first, second = new_authority("first"), new_authority("second")
    ca = configured(first, second, crls=first.crl())
    assert revocation_state(first.leaf(), ca, NOW) == Good()
    assert revocation_state(second.leaf(), ca, NOW) == Unknown(rule=Rule.CRL_MISSING)


@pytest.mark.parametrize(
    "extension",
    [
        (distribution_point(users=True, indirect=True), True),
        (distribution_point(some_reasons=True), True),
        (distribution_point(attributes=True), False),
        (x509.DeltaCRLIndicator(1), True),
        (x509.DeltaCRLIndicator(1), False),
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("2.25.1"), b"\x05\x00"), True),
    ],
)
def test_a_list_that_tells_less_than_the_whole_is_refused(
    new_authority: NewAuthority, extension: tuple[x509.ExtensionType, bool]
) -> None:
    authority = new_authority()
    assert refusal(configured(authority), authority.crl(extensions=[extension])) is Rule.CRL_UNSUPPORTED


def der_sequence(content: bytes) -> bytes:
    size = len(content)
    return b"\x30" + (bytes([size]) if size < 0x80 else b"\x81" + bytes([size])) + content


def der_content(sequence: bytes) -> bytes:
    return sequence[2:] if sequence[1] < 0x80 else sequence[3:]


def test_a_list_without_an_end_is_refused(new_authority: NewAuthority) -> None:
    authority = new_authority()
    source = x509.load_pem_x509_crl(authority.crl())
    body = source.tbs_certlist_bytes
    algorithm_and_signature = source.public_bytes(Encoding.DER).split(body)[1]
    next_update = b"\x17\x0d" + f"{NOW + DAY:%y%m%d%H%M%SZ}".encode()  # UTCTime
    assert body.count(next_update) == 1
    endless = der_sequence(der_content(body).replace(next_update, b""))
    assert refusal(configured(authority), der_sequence(endless + algorithm_and_signature)) is Rule.CRL_UNSUPPORTED


def test_a_list_is_signed_by_the_authority_that_it_names(new_authority: NewAuthority) -> None:
    authority = new_authority("root")
    impostor = new_authority("root")
    silent = new_authority("root", key=authority.key, usage=x509.KeyUsage(*(False,) * 5, True, *(False,) * 3))
    assert refusal(configured(authority), impostor.crl()) is Rule.CRL_SIGNATURE
    assert refusal(configured(silent), authority.crl()) is Rule.CRL_SIGNATURE  # it has no cRLSign
    assert refusal(configured(authority), new_authority("other").crl()) is Rule.CRL_ISSUER
    assert refusal(configured(authority), authority.crl(digest=hashes.SHA224())) is Rule.CRL_SIGNATURE
    assert len(configured(impostor, authority, crls=authority.crl()).crls) == 1


@pytest.mark.parametrize(
    ("encoded", "rule"),
    [
        (b"", Rule.CRL_UNREADABLE),
        (b"<html>", Rule.CRL_UNREADABLE),
        (b"-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n", Rule.CRL_UNREADABLE),
        (b"\x30" * (CRL_MAX_BYTES + 1), Rule.CRL_TOO_LARGE),
    ],
    ids=["empty", "html", "pem-of-nothing", "too-large"],
)
def test_what_is_no_list_is_refused(new_authority: NewAuthority, tmp_path: Path, encoded: bytes, rule: Rule) -> None:
    authority = new_authority()
    assert refusal(configured(authority), encoded) is rule
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "crl").write_bytes(encoded)
    with pytest.raises(CertificateRejected) as caught:
        load_client_ca("test", tmp_path / "ca.pem", crl_file=tmp_path / "crl", revocation="soft-fail")
    assert caught.value.rule is rule


def test_a_list_may_be_in_der(new_authority: NewAuthority) -> None:
    authority = new_authority()
    der = x509.load_pem_x509_crl(authority.crl()).public_bytes(Encoding.DER)
    assert revocation_state(authority.leaf(), configured(authority, crls=der), NOW) == Good()


def test_a_newer_list_takes_the_place_of_an_older_and_never_the_reverse(new_authority: NewAuthority) -> None:
    first, second = new_authority("first"), new_authority("second")
    leaf = first.leaf()
    older, newer = first.crl(number=1), first.crl([leaf], number=2)
    ca = configured(first, second, crls=older + second.crl())
    assert revocation_state(leaf, ca, NOW) == Good()
    renewed = renew_crls(ca, newer)
    assert isinstance(revocation_state(leaf, renewed, NOW), Revoked)
    assert revocation_state(second.leaf(), renewed, NOW) == Good()
    assert refusal(renewed, older) is Rule.CRL_OLDER
    assert renew_crls(renewed, newer).crls[0].number == 2
