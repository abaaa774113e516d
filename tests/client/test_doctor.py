import argparse
import asyncio
import json
import os
import socket
import ssl
from base64 import b64encode
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.client import commands, handshake
from gateway.client.asking import Reply
from gateway.client.doctor import examine
from gateway.client.doctor_gateway import of_clock, of_receipt_validity
from gateway.client.doctor_network import ALERTS_ABOUT_CERTIFICATES
from gateway.client.doctor_screen import Sheet
from gateway.client.findings import Check, Finding, Outcome, failed, of_validity, ok, warning
from gateway.client.problems import NotReached
from gateway.client.transport import CallTiming
from gateway.crypto.certs import load_certificates, spki_sha256

Fake = Any
House = Any
Write = Callable[..., Path]
Findings = dict[Check, Finding]
Diagnose = Callable[..., Awaitable[Findings]]
OK, WARNING, FAILED, SKIPPED = Outcome
DAY = timedelta(days=1)
NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
AFTER_THE_HANDSHAKE = list(Check)[list(Check).index(Check.GATEWAY_NAME) : list(Check).index(Check.RECEIPT_VALIDITY)]
QUICK = CallTiming(connect_timeout_s=10, answer_timeout_s=10, verdict_wait_s=0.1)


def whoami(*, ahead: timedelta = timedelta(0), **changes: Any) -> dict[str, Any]:
    """What a gateway answers whose clock is `ahead` of ours."""
    return {
        "gateway": "gateway.dev.example",
        "serverTime": f"{datetime.now(UTC) + ahead:%Y-%m-%dT%H:%M:%S.%f}Z",
        "clockSkewSeconds": None,
        "certificate": {"spkiSha256": "ab" * 32, "notAfter": "2027-12-01T00:00:00.000Z", "daysLeft": 374},
        "party": "0406798006",
        "sender": {"enterpriseNumber": "0406798006", "ovoCode": None, "name": "Gemeente Voorbeeld"},
        "profiles": [profile("burgerzaken", "Burgerzaken Voorbeeld")],
        **changes,
    }


def profile(name: str, display_name: str = "", **changes: Any) -> dict[str, Any]:
    return {
        "id": name,
        "displayName": display_name or name,
        "holdSeconds": 0,
        "categories": [
            category("tax-assessment", "any", "ebox-citizen", "print"),
            category("building-permit", "dossier", "ebox-citizen"),
        ],
        "quota": quota(messages=(50_000, 3), paper=(None, 7)),
        **changes,
    }


def category(name: str, recipients: str, *channels: str) -> dict[str, Any]:
    return {"category": name, "channels": list(channels), "recipients": recipients, "retentionDays": 365}


def quota(**limits: tuple[int | None, int]) -> dict[str, Any]:
    return {"day": "2026-11-22"} | {
        name: {"limit": limit, "used": used, "left": None if limit is None else max(0, limit - used)}
        for name, (limit, used) in limits.items()
    }


def trust(present: str, *earlier: str) -> dict[str, Any]:
    return {
        "gateway": "gateway.dev.example",
        "certificates": [
            {"uses": ["receipts", "evidence"], "present": encoded == present, "x5c": [encoded]}
            for encoded in (present, *earlier)
        ],
    }


@pytest.fixture
def x5c(certs: Path) -> dict[str, str]:
    """The certificates that might sign receipts, as they are published."""
    found = {name: load_certificates(certs / f"{name}.pem")[0] for name in ("receipts", "server")}
    return {name: b64encode(each.public_bytes(Encoding.DER)).decode() for name, each in found.items()}


@pytest.fixture
def diagnose() -> Diagnose:
    """Examines a sender's file; every examination tells all checks, in their order."""

    async def go(file: Path, timing: CallTiming = QUICK) -> Findings:
        findings = [finding async for finding in examine(file, timing=timing)]
        assert [finding.check for finding in findings] == list(Check)
        assert all(finding.fix for finding in findings if finding.outcome in (WARNING, FAILED))
        return {finding.check: finding for finding in findings}

    return go


@pytest.fixture
def healthy(fake: Fake, x5c: dict[str, str]) -> Fake:
    """A gateway that knows the sender, and says so once."""
    fake.pages = [whoami(), trust(x5c["receipts"])]
    return fake


@pytest.fixture
def own_certificate(fake: Fake, write_sender: Write, certs: Path) -> Callable[[str], Path]:
    """Writes the file of a sender that shows another certificate in TLS than the one that it signs with."""

    def write(name: str) -> Path:
        signing = {"signing_certificate": str(certs / "gemeente.pem"), "signing_key": str(certs / "gemeente.key")}
        shown = {"certificate": str(certs / f"{name}.pem"), "key": str(certs / f"{name}.key")}
        return write_sender(fake.port, **shown, **signing)

    return write


def outcomes(findings: Findings) -> dict[Check, Outcome]:
    return {check: finding.outcome for check, finding in findings.items()}


def not_ok(findings: Findings) -> dict[Check, Outcome]:
    return {check: outcome for check, outcome in outcomes(findings).items() if outcome is not OK}


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser(prog="gateway")
    commands.add_commands(parser.add_subparsers(required=True))
    return commands.run(parser.parse_args(["client", "doctor", *map(str, arguments)]))


# ── All is well ──


async def test_a_sender_that_may_send_is_told_so(healthy: Fake, diagnose: Diagnose, sender_file: Path) -> None:
    findings = await diagnose(sender_file)
    assert not_ok(findings) == {Check.SIGNING_REGISTRATION: SKIPPED}
    assert [path for path, _, _ in healthy.asked] == ["/api/v1/whoami", "/api/v1/trust"]
    assert findings[Check.PROFILE].found.splitlines() == [
        "burgerzaken, Burgerzaken Voorbeeld, may send",
        "- tax-assessment by ebox-citizen, print",
        "- building-permit by ebox-citizen, where there is a dossier",
    ]
    assert findings[Check.QUOTA].found == "today 49997 of 50000 messages left, paper without limit"
    assert findings[Check.TLS_VERSION].found == "TLS 1.3"
    assert findings[Check.SERVER_CERTIFICATE].found.startswith("for gateway.dev.example, localhost, 127.0.0.1, ::1, ")
    assert findings[Check.SERVER_CERTIFICATE].facts["daysLeft"] == 396
    assert healthy.received == []
    assert healthy.handshakes_refused == []


@pytest.mark.parametrize("known", ["gemeente", "belasting"])
async def test_a_running_gateway_knows_its_senders(
    house: House, diagnose: Diagnose, write_sender: Write, certs: Path, *, known: str
) -> None:
    numbers = {"gemeente": ("0406798006", "burgerzaken"), "belasting": ("0566988259", "vennootschapsbelasting")}
    file = await asyncio.to_thread(
        partial(
            write_sender,
            house.gateway.intake_port,
            certificate=str(certs / f"{known}.pem"),
            key=str(certs / f"{known}.key"),
            enterprise_number=numbers[known][0],
            profile=numbers[known][1],
        )
    )
    findings = await diagnose(file)
    assert not_ok(findings) == {Check.SIGNING_REGISTRATION: SKIPPED}
    assert findings[Check.REGISTRATION].facts == {"sender": numbers[known][0], "party": numbers[known][0]}
    assert findings[Check.PROFILE].facts["profile"] == numbers[known][1]
    assert findings[Check.QUOTA].facts["messages"] == {
        "limit": {"gemeente": 50_000, "belasting": 200_000}[known],
        "left": {"gemeente": 50_000, "belasting": 200_000}[known],
    }


async def test_a_running_gateway_knows_a_processor(
    house: House, diagnose: Diagnose, write_sender: Write, certs: Path
) -> None:
    own = {"certificate": str(certs / "belasting.pem"), "key": str(certs / "belasting.key")}
    file = await asyncio.to_thread(partial(write_sender, house.gateway.intake_port, **own))
    found = (await diagnose(file))[Check.REGISTRATION].found
    assert found == "known as Gemeente Voorbeeld, 0406798006, through processor 0566988259"


@pytest.mark.parametrize("name", ["no-eku", "unknown-sender"])
async def test_a_running_gateway_refuses_who_is_not_registered(
    house: House, diagnose: Diagnose, write_sender: Write, certs: Path, *, name: str
) -> None:
    own = {"certificate": str(certs / f"{name}.pem"), "key": str(certs / f"{name}.key")}
    file = await asyncio.to_thread(partial(write_sender, house.gateway.intake_port, **own))
    findings = await diagnose(file)
    registration = findings[Check.REGISTRATION]
    digest = spki_sha256((await asyncio.to_thread(load_certificates, certs / f"{name}.pem"))[0])
    assert (registration.outcome, registration.facts["code"]) == (FAILED, "sender-unknown")
    assert f'spki_sha256 = "{digest}"' in registration.fix
    assert findings[Check.CLIENT_PURPOSE].outcome is (FAILED if name == "no-eku" else OK)
    assert [findings[check].outcome for check in (Check.HANDSHAKE, Check.GATEWAY_NAME, Check.CLOCK)] == [OK, OK, OK]


# ── The sender's files ──


@pytest.mark.parametrize(
    ("content", "detail"),
    [(None, "cannot be read: No such file"), ("gateway = ", "is not TOML"), ("", "base_url: is missing")],
)
async def test_without_a_usable_file_only_that_is_told(
    diagnose: Diagnose, tmp_path: Path, content: str | None, detail: str
) -> None:
    file = tmp_path / "sender.toml"
    if content is not None:
        await asyncio.to_thread(file.write_text, content)
    findings = await diagnose(file)
    assert findings[Check.SENDER_FILE].outcome is FAILED
    assert detail in findings[Check.SENDER_FILE].found
    assert {outcome for check, outcome in outcomes(findings).items() if check is not Check.SENDER_FILE} == {SKIPPED}


@pytest.mark.parametrize(
    ("changes", "check", "detail"),
    [
        ({"enterprise_number": "0406798007"}, Check.SENDER_FILE, "enterprise_number: the check digits"),
        ({"certificat": "x.pem"}, Check.SENDER_FILE, "did you mean certificate?"),
        ({"key": None}, Check.SENDER_FILE, "key: is missing"),
        ({"receipt_certificate": "none.pem"}, Check.FILES, "none.pem cannot be read: No such file"),
        ({"receipt_certificate": "sender.toml"}, Check.FILES, "no X.509 certificates in PEM"),
    ],
)
async def test_the_way_is_examined_though_a_file_is_wrong(
    fake: Fake,
    diagnose: Diagnose,
    write_sender: Write,
    changes: dict[str, str | None],
    *,
    check: Check,
    detail: str,
) -> None:
    file = await asyncio.to_thread(partial(write_sender, fake.port, **changes))
    findings = await diagnose(file)
    assert [each for each, outcome in outcomes(findings).items() if outcome is FAILED] == [check]
    assert detail in findings[check].found
    assert findings[Check.SERVER_CERTIFICATE].outcome is OK
    assert findings[Check.HANDSHAKE] == Finding(
        check=Check.HANDSHAKE, outcome=SKIPPED, found="the sender's file cannot be used as it is"
    )


async def test_an_authority_that_is_no_text_is_not_taken_for_none(
    fake: Fake, diagnose: Diagnose, sender_file: Path
) -> None:
    text = await asyncio.to_thread(sender_file.read_text)
    lines = ["ca = 5" if line.startswith("ca = ") else line for line in text.splitlines()]
    await asyncio.to_thread(sender_file.write_text, "\n".join(lines))
    findings = await diagnose(sender_file)
    assert findings[Check.SENDER_FILE].found == "ca: must be text, in quotes"
    assert findings[Check.SERVER_CERTIFICATE].outcome is SKIPPED


@pytest.mark.parametrize("ca", ["none.pem", "sender.toml"])
async def test_without_an_authority_nobody_is_trusted(
    fake: Fake, diagnose: Diagnose, write_sender: Write, ca: str
) -> None:
    findings = await diagnose(await asyncio.to_thread(partial(write_sender, fake.port, ca=ca)))
    assert [check for check, outcome in outcomes(findings).items() if outcome is FAILED] == [Check.FILES]
    assert ca in findings[Check.FILES].found
    assert findings[Check.SERVER_CERTIFICATE].found == "whom to trust cannot be read"


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("key", "key is not the key of certificate"),
        ("signing_key", "signing_key is not the key of signing_certificate"),
    ],
)
async def test_a_key_of_another_certificate_is_told_once(
    fake: Fake, diagnose: Diagnose, own_certificate: Callable[[str], Path], certs: Path, *, key: str, found: str
) -> None:
    file = await asyncio.to_thread(own_certificate, "gemeente")
    text = await asyncio.to_thread(file.read_text)
    kept = [line for line in text.splitlines() if not line.startswith(f"{key} =")]
    changed = "\n".join([*kept, f'{key} = "{certs / "belasting.key"}"'])
    await asyncio.to_thread(file.write_text, changed)
    findings = await diagnose(file)
    assert [check for check, outcome in outcomes(findings).items() if outcome is FAILED] == [Check.KEYS]
    assert findings[Check.KEYS].found == found


@pytest.mark.parametrize(("mode", "outcome"), [(0o600, OK), (0o400, OK), (0o640, WARNING), (0o604, FAILED)])
async def test_who_may_read_the_key_is_judged(
    healthy: Fake, diagnose: Diagnose, write_sender: Write, certs: Path, tmp_path: Path, *, mode: int, outcome: Outcome
) -> None:
    key = tmp_path / "my own.key"
    await asyncio.to_thread(key.write_bytes, await asyncio.to_thread((certs / "gemeente.key").read_bytes))
    await asyncio.to_thread(os.chmod, key, mode)
    finding = (await diagnose(await asyncio.to_thread(partial(write_sender, healthy.port, key=key.name))))[
        Check.KEY_PROTECTION
    ]
    assert finding.outcome is outcome
    assert f"has mode {mode:04o}" in finding.found
    assert finding.fix == ("" if outcome is OK else f"chmod 600 '{key}'")


# ── The way ──


async def test_a_name_that_nobody_knows_is_told(diagnose: Diagnose, write_sender: Write) -> None:
    file = await asyncio.to_thread(partial(write_sender, 8443, base_url="https://gateway.invalid:8443"))
    findings = await diagnose(file)
    assert [check for check, outcome in outcomes(findings).items() if outcome is FAILED] == [Check.NAME_LOOKUP]
    assert findings[Check.NAME_LOOKUP].found.startswith("gateway.invalid: ")
    assert findings[Check.CONNECTION].outcome is SKIPPED
    assert await asyncio.to_thread(run, "--sender", file) == commands.NOT_REACHED


async def test_a_host_that_can_be_no_name_is_told(diagnose: Diagnose, write_sender: Write) -> None:
    file = await asyncio.to_thread(partial(write_sender, 8443, base_url="https://gateway..example:8443"))
    assert (await diagnose(file))[Check.NAME_LOOKUP].found == "gateway..example: this cannot be looked up"


async def test_name_servers_that_do_not_answer_are_told(
    diagnose: Diagnose, write_sender: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_answer(*_arguments: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr("socket.getaddrinfo", no_answer)
    finding = (await diagnose(await asyncio.to_thread(write_sender, 8443)))[Check.NAME_LOOKUP]
    assert finding.found == "localhost: the name servers do not answer"
    assert finding.unreachable


async def test_an_address_without_a_way_to_it_is_told(diagnose: Diagnose, write_sender: Write) -> None:
    file = await asyncio.to_thread(partial(write_sender, 8443, base_url="https://255.255.255.255:8443"))
    finding = (await diagnose(file))[Check.CONNECTION]
    assert finding.found.startswith("port 8443 of 255.255.255.255 cannot be reached (E")
    assert finding.unreachable


async def test_a_port_where_nothing_listens_is_told(diagnose: Diagnose, write_sender: Write) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    file = await asyncio.to_thread(partial(write_sender, port, base_url=f"https://127.0.0.1:{port}"))
    findings = await diagnose(file)
    assert [check for check, outcome in outcomes(findings).items() if outcome is FAILED] == [Check.CONNECTION]
    assert findings[Check.NAME_LOOKUP].found == "127.0.0.1 is an address; there is nothing to look up"
    assert f"port {port} of 127.0.0.1 refuses connections" in findings[Check.CONNECTION].found
    assert findings[Check.TLS_VERSION].outcome is SKIPPED
    assert await asyncio.to_thread(run, "--sender", file) == commands.NOT_REACHED


@pytest.mark.parametrize(
    ("greeting", "found", "unreachable"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what answers at this port does not speak TLS", False),
        (b"\x15\x03\x03\x00\x02\x02\x46", "refuses any TLS that this program speaks (alert protocol-version)", False),
        (b"", "the connection is cut off at the TLS greeting", True),
        (None, "the other side says nothing to a TLS greeting within 0.2 s", True),
    ],
)
async def test_what_is_no_tls_is_told(
    diagnose: Diagnose, write_sender: Write, greeting: bytes | None, found: str, *, unreachable: bool
) -> None:
    over = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1) and greeting is None:
            await over.wait()
        writer.write(greeting or b"")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        file = await asyncio.to_thread(partial(write_sender, port, base_url=f"https://127.0.0.1:{port}"))
        findings = await diagnose(file, CallTiming(connect_timeout_s=0.2 if greeting is None else 10))
        over.set()
    finding = findings[Check.TLS_VERSION]
    assert (finding.outcome, finding.unreachable) == (FAILED, unreachable)
    assert found in finding.found
    assert findings[Check.SERVER_CERTIFICATE].outcome is SKIPPED
    assert findings[Check.HANDSHAKE].found == "there is no TLS connection to the gateway"


async def test_a_gateway_of_another_authority_is_not_trusted(
    fake: Fake, diagnose: Diagnose, write_sender: Write, certs: Path
) -> None:
    file = await asyncio.to_thread(partial(write_sender, fake.port, ca=str(certs / "clients-ca.pem")))
    findings = await diagnose(file)
    finding = findings[Check.SERVER_CERTIFICATE]
    assert finding.outcome is FAILED
    assert f"is not of {certs / 'clients-ca.pem'} (unable to get local issuer certificate)" in finding.found
    assert "It is for gateway.dev.example, localhost, 127.0.0.1, ::1. CN=Development server CA," in finding.found
    assert "never take it from this connection" in finding.fix
    assert findings[Check.TLS_VERSION].outcome is OK
    assert findings[Check.HANDSHAKE].found == "whoever answers there is not known to be the gateway"
    assert fake.asked == []
    assert await asyncio.to_thread(run, "--sender", file) == commands.REFUSED


async def test_a_certificate_for_another_host_is_not_trusted(
    fake: Fake, fake_context: ssl.SSLContext, diagnose: Diagnose, sender_file: Path, certs: Path
) -> None:
    await asyncio.to_thread(fake_context.load_cert_chain, certs / "receipts.pem", certs / "receipts.key")
    finding = (await diagnose(sender_file))[Check.SERVER_CERTIFICATE]
    assert finding.outcome is FAILED
    assert "is not for localhost. It is for receipts.gateway.dev.example." in finding.found
    assert fake.asked == []


async def test_a_certificate_that_has_expired_is_not_trusted(
    fake: Fake,
    fake_context: ssl.SSLContext,
    diagnose: Diagnose,
    write_sender: Write,
    certs_maker: Any,
    *,
    tmp_path: Path,
) -> None:
    old = tmp_path / "old"
    await asyncio.to_thread(certs_maker.make, old, datetime.now(UTC) - certs_maker.LEAF_LIFETIME - DAY)
    await asyncio.to_thread(fake_context.load_cert_chain, old / "server.pem", old / "server.key")
    file = await asyncio.to_thread(partial(write_sender, fake.port, ca=str(old / "ca.pem")))
    finding = (await diagnose(file))[Check.SERVER_CERTIFICATE]
    assert finding.outcome is FAILED
    assert "or of an authority of it, has expired. It is for gateway.dev.example" in finding.found


async def test_of_an_older_tls_that_is_not_trusted_nothing_more_is_known(
    fake: Fake, fake_context: ssl.SSLContext, diagnose: Diagnose, write_sender: Write, certs: Path
) -> None:
    fake_context.minimum_version = fake_context.maximum_version = ssl.TLSVersion.TLSv1_2
    findings = await diagnose(
        await asyncio.to_thread(partial(write_sender, fake.port, ca=str(certs / "clients-ca.pem")))
    )
    assert findings[Check.TLS_VERSION].outcome is SKIPPED
    assert findings[Check.SERVER_CERTIFICATE].outcome is FAILED
    assert findings[Check.SERVER_CERTIFICATE].found.endswith("(unable to get local issuer certificate).")


async def test_an_older_tls_works_and_is_told(
    healthy: Fake, fake_context: ssl.SSLContext, diagnose: Diagnose, sender_file: Path
) -> None:
    fake_context.minimum_version = fake_context.maximum_version = ssl.TLSVersion.TLSv1_2
    findings = await diagnose(sender_file)
    assert not_ok(findings) == {Check.TLS_VERSION: WARNING, Check.SIGNING_REGISTRATION: SKIPPED}
    assert findings[Check.TLS_VERSION].found.startswith("TLS 1.2")


# ── The sender's certificates ──


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("name", "alert", "own", "fix"),
    [
        ("expired", "certificate-expired", Check.CLIENT_VALIDITY, "told under your certificates"),
        ("not-yet-valid", "bad-certificate", Check.CLIENT_VALIDITY, "told under your certificates"),
        ("revoked", "certificate-revoked", None, "ask your certification authority why"),
        ("server-only-eku", "unsupported-certificate", Check.CLIENT_PURPOSE, "told under your certificates"),
        ("no-digital-signature", "unsupported-certificate", Check.CLIENT_KEY_USAGE, "ask the gateway's operator"),
        ("other-ca", "unknown-ca", None, "which authorities it takes"),
    ],
)
async def test_a_refused_certificate_is_told_by_the_name_of_the_alert(
    fake: Fake,
    fake_context: ssl.SSLContext,
    diagnose: Diagnose,
    own_certificate: Callable[[str], Path],
    *,
    version: ssl.TLSVersion,
    name: str,
    alert: str,
    own: Check | None,
    fix: str,
) -> None:
    fake_context.minimum_version = fake_context.maximum_version = version
    file = await asyncio.to_thread(own_certificate, name)
    findings = await diagnose(file, CallTiming(verdict_wait_s=30))
    refused = findings[Check.HANDSHAKE]
    assert [check for check, outcome in outcomes(findings).items() if outcome is FAILED] == [
        *([own] if own else []),
        Check.HANDSHAKE,
    ]
    assert refused.facts == {"alert": alert}
    assert f"the TLS alert {alert}: " in refused.found
    assert fix in refused.fix
    assert {findings[check].outcome for check in AFTER_THE_HANDSHAKE} == {SKIPPED}
    assert findings[Check.SERVER_CERTIFICATE].outcome is OK
    assert await asyncio.to_thread(run, "--sender", file) == commands.REFUSED


def test_every_alert_about_a_certificate_has_its_meaning() -> None:
    assert ALERTS_ABOUT_CERTIFICATES.keys() == handshake._ABOUT_CERTIFICATES


async def test_a_certificate_without_a_purpose_is_told_though_tls_takes_it(
    healthy: Fake, diagnose: Diagnose, own_certificate: Callable[[str], Path]
) -> None:
    findings = await diagnose(await asyncio.to_thread(own_certificate, "no-eku"))
    assert findings[Check.CLIENT_PURPOSE].outcome is FAILED
    assert "clientAuth" in findings[Check.CLIENT_PURPOSE].fix
    assert findings[Check.HANDSHAKE].outcome is OK


async def test_a_weak_key_is_told(fake: Fake, diagnose: Diagnose, own_certificate: Callable[[str], Path]) -> None:
    findings = await diagnose(await asyncio.to_thread(own_certificate, "weak-key"))
    assert findings[Check.CLIENT_KEY_STRENGTH].found == "RSA of 1024 bits; at least 2048"
    assert findings[Check.FILES].outcome is FAILED  # OpenSSL would not use it at all
    assert findings[Check.SERVER_CERTIFICATE].outcome is OK


def make_certificate(start: timedelta, end: timedelta) -> x509.Certificate:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), NOW + start, NOW + end)
    return builder.sign(key, hashes.SHA256())


@pytest.mark.parametrize(
    ("start", "end", "outcome", "found", "days_left"),
    [
        (-DAY, 31 * DAY, OK, "valid until 2026-12-23, 31 days left", 31),
        (-DAY, 30 * DAY, OK, "valid until 2026-12-22, 30 days left", 30),
        (-DAY, 30 * DAY - timedelta(seconds=1), WARNING, "valid until 2026-12-22, 29 days left", 29),
        (-DAY, DAY, WARNING, "valid until 2026-11-23, one day left", 1),
        (-DAY, timedelta(0), WARNING, "valid until 2026-11-22, less than a day left", 0),
        (-DAY, -timedelta(seconds=1), FAILED, "expired on 2026-11-22 09:59:59 UTC", -1),
        (timedelta(seconds=1), DAY, FAILED, "not yet valid: from 2026-11-22 10:00:01 UTC", 1),
    ],
)
def test_the_term_of_a_certificate_is_judged(
    start: timedelta, end: timedelta, outcome: Outcome, *, found: str, days_left: int
) -> None:
    finding = of_validity(Check.CLIENT_VALIDITY, make_certificate(start, end), NOW, fix="renew it")
    assert (finding.outcome, finding.found, finding.facts["daysLeft"]) == (outcome, found, days_left)


# ── What the gateway says ──


async def test_another_gateway_than_the_one_meant_is_told(
    healthy: Fake, diagnose: Diagnose, write_sender: Write
) -> None:
    file = await asyncio.to_thread(partial(write_sender, healthy.port, gateway="gateway.example.be"))
    findings = await diagnose(file)
    assert not_ok(findings) == {Check.GATEWAY_NAME: FAILED, Check.SIGNING_REGISTRATION: SKIPPED}
    assert "this is gateway.dev.example, and the sender's file names gateway.example.be" in (
        findings[Check.GATEWAY_NAME].found
    )
    assert 'write gateway = "gateway.dev.example"' in findings[Check.GATEWAY_NAME].fix


@pytest.mark.parametrize(
    ("stated", "profiles", "found"),
    [
        ("parkeren", [profile("burgerzaken")], "this certificate has no profile parkeren; it has: burgerzaken"),
        ("parkeren", [], "this certificate has no profile parkeren; it has: none"),
        (None, [profile("a"), profile("b")], "names no profile, and this certificate has not one but these: a, b"),
        ("a", [profile("a", categories=[])], "a has no category that it may send"),
    ],
)
async def test_a_profile_that_cannot_send_is_told(
    healthy: Fake,
    diagnose: Diagnose,
    write_sender: Write,
    stated: str | None,
    *,
    profiles: list[dict[str, Any]],
    found: str,
) -> None:
    healthy.pages[0]["profiles"] = profiles
    file = await asyncio.to_thread(partial(write_sender, healthy.port, profile=stated))
    findings = await diagnose(file)
    assert [check for check, outcome in outcomes(findings).items() if outcome is FAILED] == [Check.PROFILE]
    assert found in findings[Check.PROFILE].found
    assert findings[Check.QUOTA].outcome is (OK if profiles and stated == "a" else SKIPPED)


async def test_the_only_profile_need_not_be_named(healthy: Fake, diagnose: Diagnose, write_sender: Write) -> None:
    file = await asyncio.to_thread(partial(write_sender, healthy.port, profile=None))
    assert (await diagnose(file))[Check.PROFILE].facts["profile"] == "burgerzaken"


@pytest.mark.parametrize(
    ("limits", "outcome", "found"),
    [
        ({"messages": (100, 90), "paper": (100, 90)}, OK, "today 10 of 100 messages left, 10 of 100 paper left"),
        ({"messages": (100, 91), "paper": (100, 0)}, WARNING, "today 9 of 100 messages left, 100 of 100 paper left"),
        ({"messages": (None, 9), "paper": (100, 120)}, WARNING, "today messages without limit, 0 of 100 paper left"),
    ],
)
async def test_a_low_quota_is_told(
    healthy: Fake,
    diagnose: Diagnose,
    sender_file: Path,
    *,
    limits: dict[str, tuple[int | None, int]],
    outcome: Outcome,
    found: str,
) -> None:
    healthy.pages[0]["profiles"] = [profile("burgerzaken", quota=quota(**limits))]
    finding = (await diagnose(sender_file))[Check.QUOTA]
    assert (finding.outcome, finding.found) == (outcome, found)


@pytest.mark.parametrize(
    ("server_ahead", "outcome", "found"),
    [
        (timedelta(seconds=50), OK, " behind the gateway's"),
        (timedelta(seconds=-50), OK, " ahead of the gateway's"),
        (timedelta(seconds=90), WARNING, " behind the gateway's"),
        (timedelta(hours=23), WARNING, " behind the gateway's"),
        (timedelta(hours=25), FAILED, "1 day, 1:00:00 behind the gateway's"),
        (timedelta(seconds=-90), WARNING, " ahead of the gateway's"),
        (timedelta(minutes=-6), FAILED, "0:06:00 ahead of the gateway's"),
    ],
)
async def test_a_clock_that_is_wrong_is_told(
    healthy: Fake, diagnose: Diagnose, sender_file: Path, *, server_ahead: timedelta, outcome: Outcome, found: str
) -> None:
    healthy.pages[0] = whoami(ahead=server_ahead)
    finding = (await diagnose(sender_file))[Check.CLOCK]
    assert finding.outcome is outcome
    assert found.removeprefix("0:06:00") in finding.found
    assert finding.facts["aheadSeconds"] == pytest.approx(-server_ahead.total_seconds(), abs=5)


def test_an_answer_without_a_time_says_nothing_of_the_clock() -> None:
    reply = Reply(status=403, value=None, correlation_id="", asked_at=NOW, answered_at=NOW, date_at=None)
    assert of_clock(reply, NotReached("", sent=True)).outcome is SKIPPED


@pytest.mark.parametrize("rtt_s", [0, 100])
def test_the_clock_is_compared_half_way_between_question_and_answer(rtt_s: int) -> None:
    rtt = timedelta(seconds=rtt_s)
    reply = Reply(status=403, value=None, correlation_id="", asked_at=NOW, answered_at=NOW + rtt, date_at=NOW + rtt / 2)
    assert of_clock(reply, NotReached("", sent=True)).facts == {"aheadSeconds": 0.0}


@pytest.mark.parametrize(
    ("status", "code", "fix", "exit_code"),
    [
        (403, "sender-unknown", "compare enterprise_number and this certificate", commands.REFUSED),
        (403, "sender-suspended", "and name correlation id 3f0c9a52-correlation", commands.REFUSED),
        (403, "certificate-revoked", "ask your certification authority", commands.REFUSED),
        (404, "not-found", "without any path; or the gateway is older", commands.REFUSED),
        (302, "No code", "it must be the gateway's sender interface", commands.REFUSED),
        (503, "overloaded", "try again later", commands.NOT_REACHED),
    ],
)
async def test_a_refusal_is_told_in_the_gateways_words(
    fake: Fake,
    diagnose: Diagnose,
    sender_file: Path,
    x5c: dict[str, str],
    *,
    status: int,
    code: str,
    fix: str,
    exit_code: int,
) -> None:
    pages = [{"problem": status, "code": code}, trust(x5c["receipts"])]
    fake.pages = [*pages, *pages]
    findings = await diagnose(sender_file)
    registration = findings[Check.REGISTRATION]
    assert [check for check, outcome in outcomes(findings).items() if outcome is FAILED] == [Check.REGISTRATION]
    shown = "http-302" if status == 302 else code
    assert registration.found == f"{shown}: the words of the gateway about {code}"
    assert fix in registration.fix
    # What the gateway tells everyone is known all the same: its name, its time, its receipt certificate.
    assert {findings[check].outcome for check in (Check.GATEWAY_NAME, Check.CLOCK, Check.RECEIPT_PUBLISHED)} == {OK}
    assert await asyncio.to_thread(run, "--sender", sender_file) == exit_code


@pytest.mark.parametrize(
    "answer",
    [[], {}, {"gateway": "x" * 2_000_000}, whoami(profiles=None), whoami(serverTime="now")],
)
async def test_an_answer_that_no_gateway_gives_is_told(
    fake: Fake, diagnose: Diagnose, sender_file: Path, answer: Any
) -> None:
    fake.pages = [answer, {"problem": 404, "code": "not-found"}]
    findings = await diagnose(sender_file)
    assert findings[Check.REGISTRATION].found.startswith("what answers is no gateway, or one of another version")
    assert findings[Check.GATEWAY_NAME].outcome is SKIPPED
    assert findings[Check.CLOCK].outcome is OK


async def test_a_connection_lost_without_a_refusal_is_no_verdict(
    fake: Fake, diagnose: Diagnose, sender_file: Path
) -> None:
    fake.pages = [{"cut": True}, {"cut": True}]  # the HTTP library asks once more
    findings = await diagnose(sender_file)
    assert [check for check, outcome in outcomes(findings).items() if outcome is FAILED] == [Check.HANDSHAKE]
    assert findings[Check.HANDSHAKE].unreachable
    assert "the certificate was not refused, and yet there is no answer" in findings[Check.HANDSHAKE].found


# ── Receipts ──


@pytest.mark.parametrize(
    ("present", "earlier", "found"),
    [
        ("receipts", (), "the one that the gateway signs with now"),
        ("server", ("receipts",), "but one that it signed with before: no new receipt would hold"),
        ("server", (), "but none that it ever signed with: no new receipt would hold"),
    ],
)
async def test_the_receipt_certificate_is_compared_with_the_published_ones(
    fake: Fake,
    diagnose: Diagnose,
    sender_file: Path,
    x5c: dict[str, str],
    present: str,
    *,
    earlier: tuple[str, ...],
    found: str,
) -> None:
    fake.pages = [whoami(), trust(x5c[present], *(x5c[name] for name in earlier))]
    finding = (await diagnose(sender_file))[Check.RECEIPT_PUBLISHED]
    assert finding.outcome is (OK if present == "receipts" else FAILED)
    assert finding.found.endswith(found)


@pytest.mark.parametrize("page", [{"problem": 404, "code": "not-found"}, {"certificates": [{}]}, {"cut": True}])
async def test_a_gateway_that_publishes_no_certificates_is_no_failure(
    fake: Fake, diagnose: Diagnose, sender_file: Path, page: dict[str, Any]
) -> None:
    fake.pages = [whoami(), page, page]
    findings = await diagnose(sender_file)
    assert not_ok(findings) == {Check.SIGNING_REGISTRATION: SKIPPED, Check.RECEIPT_PUBLISHED: SKIPPED}


@pytest.mark.parametrize(
    ("terms", "outcome"),
    [
        ([(-DAY, 90 * DAY)], OK),
        ([(-DAY, 9 * DAY)], WARNING),
        ([(-DAY, 9 * DAY), (8 * DAY, 99 * DAY)], OK),
        ([(-99 * DAY, -DAY), (-2 * DAY, 99 * DAY)], OK),
        ([(-99 * DAY, -DAY)], FAILED),
        ([(-99 * DAY, -DAY), (DAY, 99 * DAY)], FAILED),
    ],
)
def test_one_receipt_certificate_must_be_valid_now_and_one_later(
    terms: list[tuple[timedelta, timedelta]], outcome: Outcome
) -> None:
    certificates = [make_certificate(*term) for term in terms]
    assert of_receipt_validity(certificates, NOW).outcome is outcome


# ── The command ──


async def test_findings_are_shown_in_parts_with_what_to_do(
    healthy: Fake, write_sender: Write, certs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    healthy.pages[0] = whoami(
        profiles=[profile("burgerzaken", quota=quota(messages=(100, 95), paper=(None, 0)))], gateway="other.example"
    )
    file = await asyncio.to_thread(write_sender, healthy.port)
    assert await asyncio.to_thread(run, "--sender", file) == commands.REFUSED
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == [
        "Your files",
        "The way to the gateway",
        "Your certificates",
        "What the gateway says",
        "Its receipts",
        "One thing keeps letters from being sent, with one warning.",
    ]
    assert "  ok       files                 ca, certificate, key, receipt_certificate: all there" in lines
    at = lines.index("  warning  quota                 today 5 of 100 messages left, paper without limit")
    assert lines[at + 1].startswith(" " * 33 + "fix: keep what can wait")
    assert "  failed   gateway name          this is other.example, and the sender's file names " in "\n".join(lines)


async def test_programs_get_every_finding_in_one_object(
    healthy: Fake, sender_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await asyncio.to_thread(run, "--sender", sender_file, "--json") == commands.DONE
    report = json.loads(capsys.readouterr().out)
    assert report["sender"] == str(sender_file)
    assert (report["outcome"], report["counts"]) == ("ok", {"ok": 21, "warning": 0, "failed": 0, "skipped": 1})
    assert [finding["name"] for finding in report["findings"]] == [str(check) for check in Check]
    [validity] = [finding for finding in report["findings"] if finding["name"] == "client-validity"]
    assert validity["facts"]["daysLeft"] == 396
    assert validity["fix"] is None


async def test_a_file_of_the_senders_own_that_is_wrong_is_wrong_use(
    fake: Fake, write_sender: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    file = await asyncio.to_thread(partial(write_sender, fake.port, receipt_certificate="none.pem"))
    assert await asyncio.to_thread(run, "--sender", file) == commands.USAGE
    assert capsys.readouterr().out.endswith("One thing keeps letters from being sent.\n")


async def test_words_of_the_gateway_neither_steer_the_terminal_nor_name_a_person(
    healthy: Fake, sender_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sender = {"enterpriseNumber": "0406798006", "ovoCode": None, "name": "\x1b[2JGone"}
    healthy.pages[0] = whoami(sender=sender, profiles=[profile("burgerzaken", "van 90610100155")])
    await asyncio.to_thread(run, "--sender", sender_file)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "90610100155" not in shown
    assert "withheld" in shown


def test_lines_are_folded_on_a_terminal_and_outcomes_coloured() -> None:
    sheet = Sheet(width=80, colour=True)
    finding = failed(Check.CLOCK, "a word " * 20, "another word " * 20)
    first, *more = sheet.finding(finding).splitlines()
    assert first.startswith("  \x1b[1;31mfailed \x1b[0m  clock")
    assert len(more) > 4
    assert all(len(line) <= 80 and line.startswith(" " * 33) for line in more)
    assert next(line.strip() for line in more if "fix: " in line).startswith("fix: another word")


@pytest.mark.parametrize(
    ("findings", "summary"),
    [
        ([ok(Check.CLOCK, "")], "Nothing found that keeps letters from being sent."),
        ([warning(Check.CLOCK, "", "x")], "Nothing found that keeps letters from being sent, with one warning."),
        ([warning(Check.CLOCK, "", "x")] * 2, "Nothing found that keeps letters from being sent, with 2 warnings."),
        ([failed(Check.CLOCK, "", "x")], "One thing keeps letters from being sent."),
        (
            [failed(Check.CLIENT_VALIDITY, "", "x"), failed(Check.HANDSHAKE, "", "x")],
            "2 things keep letters from being sent. Begin with the first, client validity: it may cause others.",
        ),
    ],
)
def test_the_summary_says_where_to_begin(findings: list[Finding], summary: str) -> None:
    assert Sheet(width=None, colour=False).summary(findings) == summary
