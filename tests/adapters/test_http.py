"""What a call over HTTP says about a delivery, on sockets that fail in every way."""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.adapters.http import (
    MAX_ANSWER_BYTES,
    Answer,
    CallTiming,
    DocumentMismatch,
    HttpClient,
    StreamedBody,
    document_chunks,
    judge,
    open_session,
    provider_word,
    tls_context,
)
from gateway.errors import ChannelBlocked, DeliveryError, OutcomeUnknown, Unreachable

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
FLUSHED_BYTES = 65_536  # what is smaller waits for more, or for the end


def body_of(*chunks: bytes, size_bytes: int | None = None) -> StreamedBody:
    async def read() -> AsyncGenerator[bytes, None]:
        for chunk in chunks:
            yield chunk

    size = sum(map(len, chunks)) if size_bytes is None else size_bytes
    return StreamedBody(read, size_bytes=size, content_type="application/octet-stream")


@pytest.fixture
async def http(stack: Any) -> Callable[..., HttpClient]:
    def make(tls: ssl.SSLContext | None = None, **timing: float) -> HttpClient:
        client = HttpClient(open_session(tls), CallTiming(**{"look_up_wait_s": 0.0, **timing}), lambda: NOW)  # type: ignore[arg-type]  # the tests name only durations
        stack.push_async_callback(client.close)
        return client

    return make


@pytest.fixture
async def raw_server(stack: Any) -> Callable[..., Any]:
    """Serve a function of reader and writer on a socket, without any HTTP."""

    async def serve(handle: Any) -> str:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)

        async def stop() -> None:
            server.close()
            await server.wait_closed()

        stack.push_async_callback(stop)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    return serve


@pytest.fixture(scope="module")
def own_certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@pytest.fixture
async def tls_server(own_certificate: tuple[Path, Path]) -> AsyncIterator[tuple[str, list[str]]]:
    """A server with that certificate, and the paths it was asked for."""
    asked: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({})

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*own_certificate)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}", asked
    await runner.cleanup()


async def fails(client: HttpClient, url: str, body: StreamedBody | None = None) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await client.hand_over(url, headers={}, body=body_of(b"letter") if body is None else body)
    return caught.value


async def test_a_refused_connection_is_unreachable(http: Any, closed_port: int) -> None:
    body = body_of(b"letter")
    found = await fails(http(), f"http://127.0.0.1:{closed_port}", body)
    assert isinstance(found, Unreachable)
    assert found.detail == "no connection (ECONNREFUSED)"
    assert not body.begun


async def test_an_unknown_host_name_is_unreachable(http: Any) -> None:
    found = await fails(http(), "http://provider.invalid/")
    assert isinstance(found, Unreachable)
    assert found.detail == "the host name is not known"


async def test_a_certificate_that_nobody_vouches_for_is_unreachable(http: Any, tls_server: Any) -> None:
    url, asked = tls_server
    found = await fails(http(), url)
    assert isinstance(found, Unreachable)
    assert found.detail.startswith("the provider's certificate does not hold: self")
    assert asked == []


async def test_a_certificate_for_another_name_is_unreachable(http: Any, tls_server: Any, own_certificate: Any) -> None:
    url, asked = tls_server
    found = await fails(http(tls_context(own_certificate[0])), url.replace("127.0.0.1", "localhost"))
    assert isinstance(found, Unreachable)
    assert "Hostname mismatch" in found.detail
    assert asked == []


async def test_the_configured_authority_is_trusted(http: Any, tls_server: Any, own_certificate: Any) -> None:
    url, asked = tls_server
    answer = await http(tls_context(own_certificate[0], own_certificate)).hand_over(
        f"{url}/letter", headers={}, body=body_of(b"letter")
    )
    assert (answer.status, asked) == (200, ["/letter"])


async def test_a_server_without_tls_is_unreachable(http: Any, stub: Any) -> None:
    found = await fails(http(), stub.url.replace("http:", "https:"))
    assert isinstance(found, Unreachable)
    assert found.detail == "TLS failed"


async def test_a_connection_that_does_not_come_about_in_time_is_unreachable(http: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:  # never answers the TLS greeting
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        found = await fails(http(connect_timeout_s=0.2), url)
    assert isinstance(found, Unreachable)
    assert found.detail == "no connection in time"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 2",
        b"not HTTP 90610100155\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x90610100155\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"9" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_a_connection_lost_after_the_body_leaves_the_outcome_unknown(
    http: Any, raw_server: Any, letters: Any, answer: bytes
) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"letter")
        writer.write(answer)
        writer.close()

    found = await fails(http(), await raw_server(handle))
    assert isinstance(found, OutcomeUnknown)
    assert letters.leaks(found) == []


async def test_agreement_before_the_whole_body_leaves_the_outcome_unknown(http: Any, raw_server: Any) -> None:
    answered = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"first")
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        await answered.wait()
        writer.close()

    async def read() -> AsyncGenerator[bytes, None]:
        yield b"first".ljust(FLUSHED_BYTES)
        await asyncio.Event().wait()  # only the end of the call ends this

    url = await raw_server(handle)
    body = StreamedBody(read, size_bytes=2 * FLUSHED_BYTES, content_type="text/plain")
    found = await fails(http(), url, body)
    answered.set()
    assert isinstance(found, OutcomeUnknown)
    assert "before it had the whole body" in found.detail


async def test_a_refusal_before_the_whole_body_is_heard(http: Any, raw_server: Any) -> None:
    answered = asyncio.Event()
    closed = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"first")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await answered.wait()
        writer.close()

    async def read() -> AsyncGenerator[bytes, None]:
        try:
            yield b"first".ljust(FLUSHED_BYTES)
            await asyncio.Event().wait()
        finally:
            closed.set()

    url = await raw_server(handle)
    body = StreamedBody(read, size_bytes=2 * FLUSHED_BYTES, content_type="text/plain")
    answer = await http().hand_over(url, headers={}, body=body)
    answered.set()
    assert answer.status == 413
    assert closed.is_set()


@pytest.mark.parametrize(("size_bytes", "what"), [(5, "longer"), (7, "shorter")])
async def test_a_body_of_another_size_than_announced_breaks_off(
    http: Any, stub: Any, size_bytes: int, what: str
) -> None:
    with pytest.raises(DocumentMismatch, match=what):
        await http().hand_over(stub.url, headers={}, body=body_of(b"let", b"ter", size_bytes=size_bytes))
    assert stub.requests == []


async def test_small_pieces_of_a_body_are_written_together() -> None:
    written: list[bytes] = []

    class Writer:
        async def write(self, chunk: bytearray) -> None:
            written.append(bytes(chunk))

    pieces = [b"head", b"x" * 40_000, b"y" * 30_000, b"end"]
    body = body_of(*pieces)
    await body.write(Writer())  # type: ignore[arg-type]  # all that it needs of a writer
    assert [len(chunk) for chunk in written] == [70_004, 3]
    assert b"".join(written) == b"".join(pieces)
    assert body.complete


async def test_a_document_is_closed_when_the_call_ends_early(letters: Any) -> None:
    closed = asyncio.Event()

    async def read() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            yield b"second"
        finally:
            closed.set()

    chunks = document_chunks(letters.document(open=read))
    assert await anext(chunks) == b"first"
    await chunks.aclose()
    assert closed.is_set()


async def test_a_redirect_is_never_followed(http: Any, stub: Any) -> None:
    stub.answers(307, headers={"Location": f"{stub.url}/elsewhere"})
    answer = await http().hand_over(f"{stub.url}/here", headers={"Authorization": "Bearer x"}, body=body_of(b"letter"))
    assert answer.status == 307
    looked = await http().ask("look-up", "GET", f"{stub.url}/there", headers={})
    assert looked.status == 307
    assert [path for path, _headers, _body in stub.requests] == ["/here", "/there"]


async def test_cookies_and_proxy_variables_count_for_nothing(
    http: Any, stub: Any, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    stub.answers(200, headers={"Set-Cookie": "session=1; Path=/"}, data={})
    client, url = http(), stub.url.replace("127.0.0.1", "localhost")  # cookie jars leave bare addresses out
    for _ in range(2):
        await client.ask("look-up", "GET", url, headers={})
    assert len(stub.requests) == 2
    for _path, headers, _body in stub.requests:
        assert "Cookie" not in headers
        assert (headers["User-Agent"], headers["Accept-Encoding"]) == ("document-gateway", "identity")


@pytest.mark.parametrize(("size_bytes", "whole"), [(MAX_ANSWER_BYTES, True), (MAX_ANSWER_BYTES + 1, False)])
async def test_an_answer_is_read_up_to_a_limit(http: Any, stub: Any, size_bytes: int, whole: bool) -> None:  # noqa: FBT001 - a column of the table
    stub.answers(200, body=b" " * size_bytes, content_type="application/json")
    answer = await http().hand_over(stub.url, headers={}, body=body_of(b"letter"))
    assert (answer.whole, len(answer.body)) == (whole, size_bytes if whole else 0)
    if not whole:
        with pytest.raises(Unreachable, match="too long"):
            await http().ask("look-up", "GET", stub.url, headers={})


async def test_a_compressed_answer_is_not_unpacked(http: Any, stub: Any) -> None:
    stub.answers(200, body=b"\x1f\x8b rest", content_type="application/json", headers={"Content-Encoding": "gzip"})
    answer = await http().hand_over(stub.url, headers={}, body=body_of(b"letter"))
    assert answer.body == b"\x1f\x8b rest"
    assert answer.json() is None


@pytest.mark.parametrize(
    ("header", "wanted_s"),
    [
        ("7", 7.0),
        ("Sun, 22 Nov 2026 10:02:00 GMT", 120.0),
        ("Sun, 22 Nov 2026 09:00:00 GMT", 0.0),
        ("-5", None),
        ("soon", None),
        ("1e9", None),
        ("99999999999999", None),
        (None, None),
    ],
)
async def test_retry_after_is_seconds_or_a_date(http: Any, stub: Any, header: str | None, wanted_s: float) -> None:
    stub.answers(503, headers={} if header is None else {"Retry-After": header})
    answer = await http().hand_over(stub.url, headers={}, body=body_of(b"letter"))
    assert answer.retry_after_s == wanted_s


def answered(status: int, *, whole: bool = True) -> Answer:
    return Answer(status=status, media_type="application/json", body=b"", whole=whole, retry_after_s=None)


@pytest.mark.parametrize(
    ("statuses", "error"),
    [
        ((200, 201, 202, 204, 400, 409, 413, 415, 422), None),
        ((300, 301, 302, 303, 304, 307, 308), ChannelBlocked),
        ((401, 402, 403, 404, 405, 406, 407, 410, 411, 414, 417, 421, 426, 431, 451), ChannelBlocked),
        ((408, 425, 429), Unreachable),
        ((500, 501, 502, 503, 504, 507, 511, 599), OutcomeUnknown),
    ],
)
def test_every_status_of_a_hand_over_has_its_meaning(
    statuses: tuple[int, ...], error: type[DeliveryError] | None
) -> None:
    for status in statuses:
        if error is None:
            judge(answered(status))
        else:
            with pytest.raises(error, match=str(status)):
                judge(answered(status))


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_refusal_whose_reason_was_cut_off_is_asked_for_again(status: int) -> None:
    with pytest.raises(Unreachable):
        judge(answered(status, whole=False))


@pytest.mark.parametrize("media_type", ["text/html", "application/javascript", ""])
def test_what_is_not_declared_as_json_is_not_read(media_type: str) -> None:
    answer = Answer(status=200, media_type=media_type, body=b"{}", whole=True, retry_after_s=None)
    assert answer.json() is None


def test_problem_documents_are_json_too() -> None:
    answer = Answer(
        status=400, media_type="application/problem+json", body=b'{"code":"X"}', whole=True, retry_after_s=None
    )
    assert answer.json() == {"code": "X"}


@pytest.mark.parametrize("word", ["INVALID_INPUT", "409.00", "letter-not-a4-portrait-oriented", "a:b", "x" * 64])
def test_a_short_token_is_a_providers_word(word: str) -> None:
    assert provider_word(word) == word


@pytest.mark.parametrize(
    "word", ["", " INVALID", "two words", "é", "x" * 65, "90610100155", "SSIN-90.61.01-001.55", 7, None, ["X"], "a\n"]
)
def test_nothing_else_is(word: object) -> None:
    assert provider_word(word) is None
