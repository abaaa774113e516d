"""Who gets in: every bad client certificate, signing certificates, and judging anew on a kept connection."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from gateway.crypto.certs import load_certificates, spki_sha256
from gateway.errors import Kind

if TYPE_CHECKING:
    from tests.plugins.house import House, SenderHand
else:
    from house import House, SenderHand

LIST = "/api/v1/messages"
SUITES = {"TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"}


@dataclass(frozen=True)
class Alert:
    """The handshake fails; the gateway counts the reason, and the sender's TLS library hears of it."""

    reason: str
    alert: str


@dataclass(frozen=True)
class Problem:
    """The handshake holds, the request is refused; `rule` is the one that the certificate failed, if it is named."""

    kind: Kind
    rule: str | None = None


# With a revocation list that is always consulted.
HARD: dict[str | None, Alert | Problem] = {
    None: Alert("peer-did-not-return-a-certificate", "TLSV13_ALERT_CERTIFICATE_REQUIRED"),
    "other-ca": Alert("unable-to-get-local-issuer-certificate", "TLSV1_ALERT_UNKNOWN_CA"),
    "unlisted-intermediate": Alert("unable-to-get-certificate-crl", "TLSV1_ALERT_UNKNOWN_CA"),
    "expired": Alert("certificate-has-expired", "SSLV3_ALERT_CERTIFICATE_EXPIRED"),
    "not-yet-valid": Alert("certificate-is-not-yet-valid", "SSLV3_ALERT_BAD_CERTIFICATE"),
    "revoked": Alert("certificate-revoked", "SSLV3_ALERT_CERTIFICATE_REVOKED"),
    "server-only-eku": Alert("unsuitable-certificate-purpose", "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE"),
    "no-digital-signature": Alert("unsuitable-certificate-purpose", "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE"),
    "weak-key": Alert("ee-certificate-key-too-weak", "SSLV3_ALERT_BAD_CERTIFICATE"),
    "no-eku": Problem(Kind.SENDER_UNKNOWN, "no-client-auth-eku"),
    "unknown-sender": Problem(Kind.SENDER_UNKNOWN),
}
# Where OpenSSL asks for no list, our own judgement is all there is.
SOFT: dict[str | None, Alert | Problem] = {
    "revoked": Problem(Kind.CERTIFICATE_REVOKED),
    "unlisted-intermediate": Problem(Kind.SENDER_UNKNOWN, "unknown-issuer"),
}


async def check_refused(
    house: House, connect: Any, look: Any, expected: Mapping[str | None, Alert | Problem], request: bytes
) -> list[str]:
    """What differs from the expected outcomes."""
    wrong = []
    for name, outcome in expected.items():
        reason = outcome.reason if isinstance(outcome, Alert) else ""
        before = await look.metric("gateway_handshakes_refused_total", reason=reason)
        wire = await connect(house, name)
        answer = await wire.ask(request)
        if isinstance(outcome, Alert):
            counted = await look.metric("gateway_handshakes_refused_total", reason=reason) - before
            if (answer, wire.alert, counted) != (None, outcome.alert, 1):
                wrong.append(f"{name}: {answer}, {wire.alert}, {counted} times {reason}")
        elif answer is None or (answer.code, answer.json.get("rule")) != (outcome.kind, outcome.rule):
            wrong.append(f"{name}: {answer}")
    return wrong


async def test_every_bad_client_certificate_is_refused(
    intake: House, connect: Any, inside: Any, make_request: Any
) -> None:
    request = make_request("GET", LIST)
    assert await check_refused(intake, connect, inside(intake), HARD, request) == []
    assert (await (await connect(intake, "gemeente")).ask(request)).status == 200


async def test_where_revocation_is_soft_a_revoked_certificate_is_still_refused(
    make_house: Any, connect: Any, inside: Any, make_request: Any
) -> None:
    house = await make_house(lambda values: values["client_cas"][0].update(revocation="soft-fail"), parts=["intake"])
    request = make_request("GET", LIST)
    assert await check_refused(house, connect, inside(house), SOFT, request) == []
    wire = await connect(house, "revoked")
    assert "use another" in (await wire.ask(request)).json["detail"]


async def test_nothing_but_tls_1_3_is_spoken_and_no_session_is_resumed(
    intake: House, connect: Any, make_request: Any
) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await connect(intake, maximum=ssl.TLSVersion.TLSv1_2)
    plain = await connect(intake, tls=False)
    await plain.send(make_request("GET", LIST))
    plain.writer.write_eof()
    assert b"HTTP" not in await plain.end()
    wire = await connect(intake)
    assert (await wire.ask(make_request("GET", LIST))).status == 200
    tls = wire.writer.get_extra_info("ssl_object")
    assert (tls.version(), tls.selected_alpn_protocol()) == ("TLSv1.3", None)
    assert tls.cipher()[0] in SUITES
    assert tls.session is None or not tls.session.has_ticket


async def test_old_senders_may_speak_tls_1_2_where_that_is_configured(
    make_house: Any, connect: Any, make_request: Any
) -> None:
    house = await make_house(lambda values: values["intake"].update(tls_minimum="1.2"), parts=["intake"])
    wire = await connect(house, maximum=ssl.TLSVersion.TLSv1_2)
    assert (await wire.ask(make_request("GET", LIST))).status == 200
    assert "ECDHE" in wire.writer.get_extra_info("cipher")[0]
    refused = None
    try:
        wire = await connect(house, "revoked", maximum=ssl.TLSVersion.TLSv1_2)
        refused = await wire.ask(make_request("GET", LIST))
    except (ssl.SSLError, ConnectionError):
        pass
    assert refused is None


# ── Signing certificates ──

SIGNERS = {
    "unknown-sender": (Kind.SIGNER_MISMATCH, None),
    "belasting": (Kind.SIGNER_MISMATCH, None),
    "other-ca": (Kind.SIGNATURE_INVALID, "unknown-issuer"),
    "unlisted-intermediate": (Kind.SIGNATURE_INVALID, "unknown-issuer"),
    "expired": (Kind.SIGNATURE_INVALID, "expired"),
    "not-yet-valid": (Kind.SIGNATURE_INVALID, "not-yet-valid"),
    "weak-key": (Kind.SIGNATURE_INVALID, "weak-key"),
    "no-digital-signature": (Kind.SIGNATURE_INVALID, "no-digital-signature"),
    "revoked": (Kind.CERTIFICATE_REVOKED, None),
}


async def test_every_bad_signing_certificate_is_refused(intake: House, subtests: pytest.Subtests) -> None:
    sender = await intake.sender()
    for name, (kind, rule) in SIGNERS.items():
        with subtests.test(name):
            message = sender.message()
            signed = SenderHand(intake, name, sender.session).sign(message)
            answer = await sender.post(sender.parts(message, manifest=signed))
            assert (answer.code, answer.json.get("rule")) == (kind, rule)
            assert (await sender.post(sender.parts(message))).status == 201


async def test_a_certificate_for_tls_alone_signs_nothing_and_one_for_signing_alone_lets_nobody_in(
    make_house: Any, registered: Any
) -> None:
    def split(values: Any) -> None:
        (certificate,) = values["certificates"]
        values["certificates"] = [
            {**certificate, "uses": ["tls"]},
            {**certificate, "uses": ["signing"], "subject": "CN=documenten.onbekend.example,O=Onbekend Voorbeeld,C=BE"},
        ]

    senders = registered(n0406798006=split)
    house = await make_house(lambda values: values["gateway"].update(senders=senders), parts=["intake"])
    caller, signer = await house.sender("gemeente"), await house.sender("unknown-sender")
    message = caller.message()
    assert (await caller.post(caller.parts(message))).code == "signer-mismatch"
    assert (await signer.post(signer.parts(message))).code == "sender-unknown"
    assert (await caller.post(caller.parts(message, manifest=signer.sign(message)))).status == 201


async def test_a_certificate_is_known_by_its_key_where_it_is_registered_so(
    make_house: Any, registered: Any, certs: Path
) -> None:
    (leaf, *_) = await asyncio.to_thread(load_certificates, certs / "unknown-sender.pem")

    def pin(values: Any) -> None:
        values["certificates"].append({"spki_sha256": spki_sha256(leaf), "uses": ["tls", "signing"]})

    senders = registered(n0406798006=pin)
    house = await make_house(lambda values: values["gateway"].update(senders=senders), parts=["intake"])
    assert (await (await house.sender("unknown-sender")).send()).status == 201


# ── Judged anew ──


async def test_a_sender_suspended_between_two_requests_is_refused_on_the_same_connection(
    intake: House, connect: Any, inside: Any, make_request: Any, make_post: Any
) -> None:
    sender, look = await intake.sender(), inside(intake)
    wire = await connect(intake)
    first = await wire.ask(make_post(sender.parts(sender.message())))
    assert first.status == 201
    await look.suspend(sender.number)
    for request in (make_request("GET", LIST), make_post(sender.parts(sender.message()))):
        assert (await wire.ask(request)).code == "sender-suspended"
    await look.readmit(sender.number)
    again = await connect(intake)
    assert (await again.ask(make_request("GET", LIST))).status == 200


async def test_a_certificate_that_ends_between_two_requests_is_refused_on_the_same_connection(
    make_house: Any, connect: Any, moved_clock: Any, make_request: Any
) -> None:
    house = await make_house(clock=moved_clock, parts=["intake"])
    wire = await connect(house)
    assert (await wire.ask(make_request("GET", LIST))).status == 200
    moved_clock.ahead = timedelta(days=398)
    answer = await wire.ask(make_request("GET", LIST))
    assert (answer.status, answer.code, answer.json["rule"]) == (403, "sender-unknown", "expired")
    moved_clock.ahead = timedelta(0)
    assert (await wire.ask(make_request("GET", LIST))).status == 200


@pytest.fixture
def three_day_crl(certs: Path, tmp_path: Path) -> str:
    """A revocation list of the clients' CA, as the shipped one but for its end."""
    issuer = x509.load_pem_x509_certificates((certs / "clients-ca.pem").read_bytes())[0]
    key: Any = load_pem_private_key((certs / "clients-ca.key").read_bytes(), None)
    (old, root_list) = (
        x509.load_pem_x509_crl(b"-----BEGIN" + part)
        for part in (certs / "clients.crl.pem").read_bytes().split(b"-----BEGIN")[1:]
    )
    assert old.issuer == issuer.subject
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(old.last_update_utc)
        .next_update(old.last_update_utc + timedelta(days=3))
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    file = tmp_path / "short.crl.pem"
    file.write_bytes(
        b"".join(crl.public_bytes(Encoding.PEM) for crl in (builder.sign(key, hashes.SHA256()), root_list))
    )
    return str(file)


async def test_a_revocation_list_that_ends_between_two_requests_lets_nobody_in_any_more(
    make_house: Any, connect: Any, moved_clock: Any, make_request: Any, three_day_crl: str
) -> None:
    house = await make_house(
        lambda values: values["client_cas"][0].update(crl_file=three_day_crl), clock=moved_clock, parts=["intake"]
    )
    wire = await connect(house)
    assert (await wire.ask(make_request("GET", LIST))).status == 200
    moved_clock.ahead = timedelta(days=4)
    answer = await wire.ask(make_request("GET", LIST))
    assert (answer.status, answer.code, answer.json["rule"]) == (403, "sender-unknown", "crl-stale")
