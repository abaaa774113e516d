import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.crypto.certs import (
    CertificateRejected,
    ClientCa,
    Revocation,
    Rule,
    check_tls_client,
    load_certificates,
    load_client_ca,
)
from gateway.crypto.tls import (
    TlsMinimum,
    TlsRefused,
    client_context,
    peer_certificate,
    plain_server_context,
    server_context,
)

LIMIT_S = 20.0
VALID, STALE, NONE = "clients.crl.pem", "stale.crl.pem", None


@dataclass(kw_only=True)
class Edge:
    """A server that answers a line with what `check_tls_client` says of its sender."""

    port: int = 0
    refused: list[str] = field(default_factory=list)


def dev_clients(certs: Path, revocation: Revocation = "hard-fail", crl: str | None = VALID) -> ClientCa:
    crl_file = certs / crl if crl else None
    return load_client_ca("dev-clients", certs / "clients-ca.pem", crl_file=crl_file, revocation=revocation)


def senders_edge(certs: Path, edge: Edge, cas: Sequence[ClientCa], minimum: TlsMinimum = "1.3") -> ssl.SSLContext:
    report = edge.refused.append
    return server_context(certs / "server.pem", certs / "server.key", cas, minimum, on_handshake_failure=report)


@asynccontextmanager
async def serving(edge: Edge, context: ssl.SSLContext, cas: Sequence[ClientCa]) -> AsyncIterator[Edge]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while await reader.readline():
                try:
                    verdict = check_tls_client(peer_certificate(writer.transport), cas, datetime.now(UTC)).ca.name
                except CertificateRejected as exc:
                    verdict = exc.rule
                writer.write(verdict.encode() + b"\n")
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context, ssl_handshake_timeout=10)
    edge.port = server.sockets[0].getsockname()[1]
    async with server:
        yield edge


async def ask(edge: Edge, context: ssl.SSLContext) -> str:
    """
    Return the answer to one line, or how the connection was refused.

    With TLS 1.3 the server's refusal of a client certificate comes after the client's handshake returned.
    """
    async with asyncio.timeout(LIMIT_S):
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", edge.port, ssl=context, server_hostname="localhost"
            )
        except (ssl.SSLError, ConnectionError):
            return "refused in the handshake"
        try:
            writer.write(b"who am I?\n")
            await writer.drain()
            return (await reader.readline()).decode().strip() or "refused after the handshake"
        except (ssl.SSLError, ConnectionError):
            return "refused after the handshake"
        finally:
            writer.close()
            with suppress(ssl.SSLError, ConnectionError):
                await writer.wait_closed()


def sender(certs: Path, name: str | None) -> ssl.SSLContext:
    if name is None:
        return client_context(certs / "ca.pem")
    context = client_context(certs / "ca.pem")
    context.set_ciphers("ALL:@SECLEVEL=0")  # a careless client, so that the server must be the one to refuse
    context.load_cert_chain(certs / f"{name}.pem", certs / f"{name}.key")
    return context


# What the hard-fail edge says of each client: OpenSSL's reason, or the answer to a request.
HARD_FAIL = {
    None: "peer-did-not-return-a-certificate",
    "gemeente": "dev-clients",
    "belasting": "dev-clients",
    "unknown-sender": "dev-clients",
    "other-ca": "unable-to-get-local-issuer-certificate",
    "unlisted-intermediate": "unable-to-get-certificate-crl",
    "expired": "certificate-has-expired",
    "not-yet-valid": "certificate-is-not-yet-valid",
    "revoked": "certificate-revoked",
    "server-only-eku": "unsuitable-certificate-purpose",
    "no-eku": Rule.NO_CLIENT_AUTH_EKU,
    "weak-key": "ee-certificate-key-too-weak",
    "no-digital-signature": "unsuitable-certificate-purpose",
}
# Without lists in the handshake, the check of each request decides.
SOFT_FAIL = HARD_FAIL | {"unlisted-intermediate": Rule.UNKNOWN_ISSUER, "revoked": Rule.REVOKED}


@pytest.mark.parametrize("minimum", get_args(TlsMinimum))
@pytest.mark.parametrize(("revocation", "want"), [("hard-fail", HARD_FAIL), ("soft-fail", SOFT_FAIL)])
async def test_each_client_is_taken_or_refused_with_its_reason(
    certs: Path, revocation: Revocation, want: dict[str | None, str], minimum: TlsMinimum
) -> None:
    cas = [await asyncio.to_thread(dev_clients, certs, revocation)]
    edge = Edge()
    found = {}
    async with serving(edge, await asyncio.to_thread(senders_edge, certs, edge, cas, minimum), cas):
        for name in want:
            context = await asyncio.to_thread(sender, certs, name)
            context.maximum_version = ssl.TLSVersion.TLSv1_2 if minimum == "1.2" else ssl.TLSVersion.TLSv1_3
            answer = await ask(edge, context)
            found[name] = edge.refused.pop() if answer.startswith("refused") else answer
            assert edge.refused == []
    assert found == want


@pytest.mark.parametrize(
    ("crl", "in_handshake", "per_request"),
    [(STALE, "crl-has-expired", "dev-clients"), (NONE, "unable-to-get-certificate-crl", "dev-clients")],
)
async def test_a_stale_or_missing_list_stops_everybody_under_hard_fail_and_nobody_under_soft_fail(
    certs: Path, crl: str | None, in_handshake: str, per_request: str
) -> None:
    context = await asyncio.to_thread(sender, certs, "gemeente")
    for revocation in get_args(Revocation):
        edge = Edge()
        cas = [await asyncio.to_thread(dev_clients, certs, revocation, crl)]
        async with serving(edge, await asyncio.to_thread(senders_edge, certs, edge, cas), cas):
            answer = await ask(edge, context)
        if revocation == "hard-fail":
            assert (answer, edge.refused) == ("refused after the handshake", [in_handshake])
        else:
            assert (answer, edge.refused) == (per_request, [])


async def test_beside_a_soft_fail_ca_a_hard_fail_ca_is_still_one_at_each_request(certs: Path) -> None:
    def load() -> list[ClientCa]:
        other = load_client_ca("other", certs / "other-clients-ca.pem", crl_file=None, revocation="soft-fail")
        return [dev_clients(certs, "hard-fail", STALE), other]

    cas = await asyncio.to_thread(load)
    edge = Edge()
    async with serving(edge, await asyncio.to_thread(senders_edge, certs, edge, cas), cas):
        assert await ask(edge, await asyncio.to_thread(sender, certs, "gemeente")) == Rule.CRL_STALE
        assert await ask(edge, await asyncio.to_thread(sender, certs, "other-ca")) == "other"
    assert edge.refused == []


async def test_an_intermediate_configured_without_its_root_is_an_anchor(certs: Path, tmp_path: Path) -> None:
    def load() -> list[ClientCa]:
        intermediate = load_certificates(certs / "clients-ca.pem")[0]
        (tmp_path / "ca.pem").write_bytes(intermediate.public_bytes(Encoding.PEM))
        return [load_client_ca("intermediate", tmp_path / "ca.pem", crl_file=None, revocation="soft-fail")]

    cas = await asyncio.to_thread(load)
    edge = Edge()
    async with serving(edge, await asyncio.to_thread(senders_edge, certs, edge, cas), cas):
        assert await ask(edge, await asyncio.to_thread(sender, certs, "gemeente")) == "intermediate"
        assert await ask(edge, await asyncio.to_thread(sender, certs, "other-ca")) == "refused after the handshake"


@pytest.mark.parametrize(
    ("version", "ciphers", "reason"),
    [
        (ssl.TLSVersion.TLSv1_2, "ECDHE+AESGCM", {"1.3": "unsupported-protocol", "1.2": None}),
        (
            ssl.TLSVersion.TLSv1_2,
            "ECDHE+AES:!AESGCM:!AESCCM",
            {"1.3": "unsupported-protocol", "1.2": "no-shared-cipher"},
        ),
        (ssl.TLSVersion.TLSv1_2, "RSA+AESGCM", {"1.3": "unsupported-protocol", "1.2": "no-shared-cipher"}),
        (ssl.TLSVersion.TLSv1_3, "ECDHE+AESGCM", {"1.3": None, "1.2": None}),
    ],
)
async def test_only_tls_1_3_or_ecdhe_with_aead_is_spoken(
    certs: Path, version: ssl.TLSVersion, ciphers: str, reason: dict[TlsMinimum, str | None]
) -> None:
    cas = [await asyncio.to_thread(dev_clients, certs)]
    for minimum, want in reason.items():
        edge = Edge()
        client = await asyncio.to_thread(sender, certs, "gemeente")
        client.maximum_version = version
        client.set_ciphers(ciphers)
        async with serving(edge, await asyncio.to_thread(senders_edge, certs, edge, cas, minimum), cas):
            answer = await ask(edge, client)
        assert (answer, edge.refused) == (("refused in the handshake", [want]) if want else ("dev-clients", []))


async def test_what_is_not_tls_is_refused_and_others_are_served_after_it(certs: Path) -> None:
    cas = [await asyncio.to_thread(dev_clients, certs)]
    edge = Edge()
    good = await asyncio.to_thread(
        client_context, certs / "ca.pem", certs / "gemeente.pem", certs / "gemeente.key", minimum="1.3"
    )
    async with (
        asyncio.timeout(LIMIT_S),
        serving(edge, await asyncio.to_thread(senders_edge, certs, edge, cas), cas),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.read()
        writer.close()
        assert edge.refused == ["http-request"]
        assert await ask(edge, good) == "dev-clients"


# ── Without a network: both ends in memory ──


def shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None = None, name: str = "localhost"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Return both ends of a finished handshake, after a byte that carries whatever the server sends behind it."""
    upwards, downwards = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(downwards, upwards, server_hostname=name, session=session)
    far = server.wrap_bio(upwards, downwards, server_side=True)
    waiting = [near, far]
    while waiting:
        for end in tuple(waiting):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
                waiting.remove(end)
    far.write(b"x")
    assert near.read(1) == b"x"
    return far, near


def say_goodbye(*ends: ssl.SSLObject) -> None:
    for end in (*ends, *ends):
        with suppress(ssl.SSLWantReadError, ssl.SSLError):
            end.unwrap()


def test_tls_1_3_never_resumes(certs: Path) -> None:
    server = senders_edge(certs, Edge(), [dev_clients(certs)])
    client = sender(certs, "gemeente")
    far, near = shake_hands(server, client)
    session = near.session
    say_goodbye(near, far)
    assert session is not None
    assert not session.has_ticket
    far, near = shake_hands(server, client, session)
    assert (far.session_reused, near.session_reused) == (False, False)


def test_a_session_that_tls_1_2_resumes_is_judged_by_the_lists_of_today(certs: Path) -> None:
    permissive = [dev_clients(certs, "soft-fail", NONE)]
    server = senders_edge(certs, Edge(), permissive, "1.2")
    client = sender(certs, "revoked")
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    far, near = shake_hands(server, client)
    session = near.session
    assert session is not None
    assert not session.has_ticket
    assert check_tls_client(peer_certificate(Wire(far)), permissive, datetime.now(UTC)).ca is permissive[0]
    say_goodbye(near, far)
    far, _ = shake_hands(server, client, session)
    assert far.session_reused
    with pytest.raises(CertificateRejected, match=Rule.REVOKED):
        check_tls_client(peer_certificate(Wire(far)), [dev_clients(certs)], datetime.now(UTC))


class Wire(asyncio.Transport):
    def __init__(self, tls: ssl.SSLObject | None) -> None:
        super().__init__({"ssl_object": tls})


def test_a_peers_certificate_is_the_one_of_its_connection(certs: Path) -> None:
    server = senders_edge(certs, Edge(), [dev_clients(certs)])
    for name in ("gemeente", "belasting"):
        far, _ = shake_hands(server, sender(certs, name))
        wire = Wire(far)
        assert [peer_certificate(wire)] == [*load_certificates(certs / f"{name}.pem")][:1]


def test_a_browser_needs_no_certificate_and_is_nobody(certs: Path) -> None:
    server = plain_server_context(certs / "server.pem", certs / "server.key")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        client = client_context(certs / "ca.pem")
        client.maximum_version = version
        far, _ = shake_hands(server, client)
        with pytest.raises(CertificateRejected, match=Rule.NO_CERTIFICATE):
            peer_certificate(Wire(far))
    with pytest.raises(CertificateRejected, match=Rule.NO_CERTIFICATE):
        peer_certificate(Wire(None))


def test_http_1_1_is_the_one_protocol_that_is_agreed(certs: Path) -> None:
    server = senders_edge(certs, Edge(), [dev_clients(certs)])
    client = sender(certs, "gemeente")
    client.set_alpn_protocols(["h2", "http/1.1"])
    assert shake_hands(server, client)[0].selected_alpn_protocol() == "http/1.1"


@pytest.mark.parametrize("minimum", get_args(TlsMinimum))
def test_the_settings_of_a_senders_edge(certs: Path, minimum: TlsMinimum) -> None:
    for revocation in get_args(Revocation):
        context = senders_edge(certs, Edge(), [dev_clients(certs, revocation)], minimum)
        versions = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
        assert context.minimum_version == versions[minimum]
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.verify_flags & ssl.VERIFY_X509_STRICT
        assert bool(context.verify_flags & ssl.VERIFY_CRL_CHECK_LEAF) is (revocation == "hard-fail")
        for option in (ssl.OP_NO_TICKET, ssl.OP_NO_RENEGOTIATION, ssl.OP_NO_COMPRESSION):
            assert context.options & option
        assert context.num_tickets == 0
        assert context.keylog_filename is None
        for cipher in context.get_ciphers():
            assert cipher["aead"]
            assert cipher["protocol"] == "TLSv1.3" or cipher["kea"] == "kx-ecdhe"


@pytest.mark.parametrize(
    ("ca", "name", "taken"),
    [
        ("ca.pem", "localhost", True),
        ("ca.pem", "127.0.0.1", True),
        ("ca.pem", "::1", True),
        ("ca.pem", "gateway.dev.example", True),
        ("ca.pem", "elsewhere.example", False),
        ("clients-ca.pem", "localhost", False),
        (None, "localhost", False),
    ],
)
def test_a_client_verifies_the_server_and_its_name(
    certs: Path,
    ca: str | None,
    name: str,
    taken: bool,  # noqa: FBT001 a column of the table
) -> None:
    server = plain_server_context(certs / "server.pem", certs / "server.key")
    client = client_context(certs / ca if ca else None)
    if taken:
        assert shake_hands(server, client, name=name)[1].getpeercert(binary_form=True)
    else:
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(server, client, name=name)


def test_no_context_is_built_while_session_keys_would_be_written_down(
    certs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cas = [dev_clients(certs)]
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    with pytest.raises(TlsRefused, match="SSLKEYLOGFILE"):
        senders_edge(certs, Edge(), cas)
    with pytest.raises(TlsRefused, match="SSLKEYLOGFILE"):
        plain_server_context(certs / "server.pem", certs / "server.key")
    with pytest.raises(TlsRefused, match="SSLKEYLOGFILE"):
        client_context(certs / "ca.pem")
    assert not (tmp_path / "keys").exists()


def test_a_certificate_and_key_that_do_not_go_together_are_refused(certs: Path, tmp_path: Path) -> None:
    key = load_pem_private_key((certs / "server.key").read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (tmp_path / "locked.key").write_bytes(locked)
    for key_file, why in (
        (certs / "gemeente.key", "key-values-mismatch"),
        (tmp_path / "missing.key", "no-such-file"),
        (tmp_path / "locked.key", "unencrypted key"),  # and no question on the terminal
        (certs / "server.pem", "unencrypted key"),
    ):
        with pytest.raises(TlsRefused, match=why):
            plain_server_context(certs / "server.pem", key_file)


def test_a_half_configured_edge_or_client_is_refused(certs: Path, tmp_path: Path) -> None:
    with pytest.raises(TlsRefused, match="no client CA"):
        senders_edge(certs, Edge(), [])
    with pytest.raises(TlsRefused, match="come together"):
        client_context(certs / "ca.pem", certs / "gemeente.pem")
    with pytest.raises(TlsRefused, match="come together"):
        client_context(certs / "ca.pem", None, certs / "gemeente.key")
    for name, why in (("missing.pem", "no-such-file"), ("empty.pem", "no-certificate-or-crl-found")):
        (tmp_path / "empty.pem").touch()
        with pytest.raises(TlsRefused, match=why):
            client_context(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "alert"),
    [
        (None, "CERTIFICATE_REQUIRED"),
        ("revoked", "CERTIFICATE_REVOKED"),
        ("expired", "CERTIFICATE_EXPIRED"),
        ("other-ca", "UNKNOWN_CA"),
        ("server-only-eku", "UNSUPPORTED_CERTIFICATE"),
    ],
)
async def test_a_refused_client_is_told_by_a_tls_alert(certs: Path, name: str | None, alert: str) -> None:
    cas = [await asyncio.to_thread(dev_clients, certs, "hard-fail")]
    edge = Edge()
    async with serving(edge, await asyncio.to_thread(senders_edge, certs, edge, cas, "1.3"), cas):
        told = await asyncio.to_thread(alert_to, edge.port, await asyncio.to_thread(sender, certs, name))
    assert told is not None
    assert alert in told


def alert_to(port: int, context: ssl.SSLContext) -> str | None:
    """Return OpenSSL's name of the alert that ends a connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as tls:
                tls.sendall(b"who am I?\n")
                tls.recv(100)
        except ssl.SSLError as exc:
            return exc.reason
    return None
