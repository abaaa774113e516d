"""A small gateway over real TLS that reads, verifies and signs, and can be told to fail; and a sender to it."""

import asyncio
import hashlib
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import tomli_w
from aiohttp import BodyPartReader, MultipartReader, web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.client.api import GatewayClient
from gateway.client.letter import Letter
from gateway.client.retrying import RetryRules
from gateway.client.sender import SenderProfile, load_sender
from gateway.client.transport import CallTiming
from gateway.crypto.certs import load_certificates, load_client_ca
from gateway.crypto.dialects import Dialect, verify_message
from gateway.crypto.manifest import content_sha256
from gateway.crypto.receipts import Receipt, ReceiptDocument, ReceiptSigner
from gateway.crypto.tls import server_context
from gateway.domain.ids import EnterpriseNumber, MessageId, Ssin, uuid7
from gateway.domain.message import Message, PostalAddress, Recipient

NAME = "gateway.dev.example"
CITIZEN = Ssin("90610100155")

Act = Callable[["FakeGateway", web.Request], Awaitable[web.StreamResponse]]


@dataclass(kw_only=True)
class Received:
    """One hand-over that came whole."""

    part: bytes
    dialect: Dialect
    message: Message
    heads: list[dict[str, str]]
    digests: list[tuple[str, int]]
    correlation_id: str


@dataclass(kw_only=True)
class FakeGateway:
    """Takes letters as the real one does: idempotent by reference. `acts` are played first, one for each hand-over."""

    signer: ReceiptSigner
    certificate: x509.Certificate
    port: int = 0
    acts: deque[Act] = field(default_factory=deque)
    received: list[Received] = field(default_factory=list)
    accepted: dict[str, tuple[bytes, dict[str, Any]]] = field(default_factory=dict)
    spoil: Callable[[Receipt], Receipt] | None = None
    sign: Callable[[Receipt], str] | None = None
    pages: list[dict[str, Any]] = field(default_factory=list)
    states: deque[dict[str, Any]] = field(default_factory=deque)
    asked: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    spoke_for: list[str] = field(default_factory=list)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    handshakes_refused: list[str] = field(default_factory=list)

    # ── Acts ──

    def then_problem(self, status: int, code: str, retry_after: str | None = None, **members: Any) -> None:
        async def act(_gateway: FakeGateway, request: web.Request) -> web.StreamResponse:
            self.received.append(await self.read(request))
            return self.problem(status, code, retry_after, **members)

        self.acts.append(act)

    def then_refuse_unread(self, status: int, code: str) -> None:
        async def act(_gateway: FakeGateway, _request: web.Request) -> web.StreamResponse:
            return self.problem(status, code)

        self.acts.append(act)

    def then_hang(self) -> None:
        """Read the body, and never answer."""

        async def act(_gateway: FakeGateway, request: web.Request) -> web.StreamResponse:
            self.received.append(await self.read(request))
            await self.closing.wait()
            return web.Response()

        self.acts.append(act)

    def then_cut(self, *, accepting: bool) -> None:
        """Read the body, perhaps accept it, and cut the connection in place of an answer."""

        async def act(gateway: FakeGateway, request: web.Request) -> web.StreamResponse:
            if accepting:
                await gateway.accept(request)
            else:
                self.received.append(await self.read(request))
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

        self.acts.append(act)

    def then_answer(self, body: bytes, content_type: str, status: int = 201) -> None:
        async def act(_gateway: FakeGateway, request: web.Request) -> web.StreamResponse:
            self.received.append(await self.read(request))
            return web.Response(status=status, body=body, content_type=content_type)

        self.acts.append(act)

    # ── Requests ──

    def problem(self, status: int, code: str, retry_after: str | None = None, **members: Any) -> web.Response:
        body = {
            "type": f"urn:document-gateway:problem:{code}",
            "title": "A title",
            "status": status,
            "detail": f"the words of the gateway about {code}",
            "instance": "3f0c9a52-correlation",
            **members,
        }
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        return web.json_response(body, status=status, headers=headers, content_type="application/problem+json")

    async def messages(self, request: web.Request) -> web.StreamResponse:
        act = self.acts.popleft() if self.acts else FakeGateway.accept
        return await act(self, request)

    async def accept(self, request: web.Request) -> web.StreamResponse:
        got = await self.read(request)
        self.received.append(got)
        listed = [(entry.sha256, entry.size_bytes) for entry in got.message.documents]
        if got.digests != listed:
            return self.problem(422, "document-mismatch")
        reference, content = got.message.reference, content_sha256(got.message)
        known = self.accepted.get(reference)
        if known is not None:
            if known[0] != content:
                return self.problem(409, "reference-conflict", messageId=known[1]["messageId"])
            return web.json_response(known[1], status=200)
        view = self.view(got)
        self.accepted[reference] = (content, view)
        return web.json_response(view, status=201)

    async def read(self, request: web.Request) -> Received:
        """Read the body as it has to be: the signed part first, each document with its two headers and no others."""
        reader = await request.multipart()
        assert isinstance(reader, MultipartReader)
        first = await reader.next()
        assert isinstance(first, BodyPartReader)
        [dialect] = [each for each in Dialect if each.media_type == first.headers["Content-Type"]]
        assert dict(first.headers) == {
            "Content-Disposition": 'form-data; name="message"',
            "Content-Type": dialect.media_type,
        }
        part = bytes(await first.read())
        heads, digests = [], []
        while (document := await reader.next()) is not None:
            assert isinstance(document, BodyPartReader)
            assert set(document.headers) == {"Content-Disposition", "Content-Type"}
            digest, size = hashlib.sha256(), 0
            while chunk := await document.read_chunk(65_536):
                digest.update(chunk)
                size += len(chunk)
            heads.append(
                {
                    "part": document.name or "",
                    "filename": document.filename or "",
                    "type": document.headers["Content-Type"],
                }
            )
            digests.append((digest.hexdigest(), size))
        return Received(
            part=part,
            dialect=dialect,
            message=self.verify(part, dialect),
            heads=heads,
            digests=digests,
            correlation_id=request.headers["x-correlation-id"],
        )

    def verify(self, part: bytes, dialect: Dialect) -> Message:
        def signer(sender: EnterpriseNumber, certificate: x509.Certificate) -> None:
            assert (sender, certificate) == ("0406798006", self.certificate)

        message = verify_message(part, dialect, signer=signer, allow_test_ssin=True)
        assert isinstance(message, Message)
        return message

    def view(self, got: Received) -> dict[str, Any]:
        now = datetime.now(UTC).replace(microsecond=0)
        message_id = MessageId(uuid7(1_795_000_000_000, got.part[-10:]))
        receipt = Receipt(
            gateway=NAME,
            message_id=message_id,
            issued_at=now,
            sender=got.message.sender,
            profile="burgerzaken",
            reference=got.message.reference,
            status="accepted",
            accepted_at=now,
            documents=tuple(
                ReceiptDocument(part=entry.part, sha256=entry.sha256, size_bytes=entry.size_bytes)
                for entry in got.message.documents
            ),
            message_sha256=hashlib.sha256(got.part).hexdigest(),
        )
        if self.spoil is not None:
            receipt = self.spoil(receipt)
        return self.state(message_id, got.message.reference) | {"receipt": (self.sign or self.signer.jws)(receipt)}

    def state(self, message_id: UUID, reference: str, status: str = "accepted", **more: Any) -> dict[str, Any]:
        """A message as the sender interface shows it."""
        return {
            "messageId": str(message_id),
            "reference": reference,
            "profile": "burgerzaken",
            "status": status,
            "final": False,
            "acceptedAt": "2026-11-22T10:00:00.000Z",
            "deliveries": [
                {
                    "deliveryId": "0190163d-8694-739b-aea5-966c26f8ad90",
                    "number": 1,
                    "channel": "ebox-citizen",
                    "provider": "bosa",
                    "status": "waiting",
                    "reason": None,
                    "barcode": None,
                    "readSeenAt": None,
                }
            ],
            "copy": {"state": "in-delivery", "until": None, "retrievals": 0},
            **more,
        }

    async def look(self, request: web.Request) -> web.StreamResponse:
        """Everything that is no hand-over: remembered, then answered from `states` and `pages`."""
        body = await request.json() if request.can_read_body else None
        self.asked.append((request.path, dict(request.query), body))
        self.spoke_for.append(request.headers["On-Behalf-Of-Enterprise-Number"])
        if request.path.startswith("/api/v1/messages/"):
            state = self.states.popleft() if len(self.states) > 1 else self.states[0] if self.states else None
            return web.json_response(state) if state else self.problem(404, "not-found")
        page = self.pages.pop(0)
        if "cut" in page:
            assert request.transport is not None
            request.transport.abort()
        if "problem" in page:
            return self.problem(page["problem"], page["code"])
        return web.json_response(page)


def load_ec_key(file: Path) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(file.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


@pytest.fixture
def fake_tls(certs: Path) -> Callable[[Callable[[str], None]], ssl.SSLContext]:
    """Makes the context of an edge that takes the development clients and no others."""

    def make(on_handshake_failure: Callable[[str], None]) -> ssl.SSLContext:
        ca = load_client_ca("dev", certs / "clients-ca.pem", crl_file=certs / "clients.crl.pem", revocation="hard-fail")
        return server_context(
            certs / "server.pem", certs / "server.key", [ca], "1.3", on_handshake_failure=on_handshake_failure
        )

    return make


@pytest.fixture
def fake_at_rest(certs: Path) -> FakeGateway:
    return FakeGateway(
        signer=ReceiptSigner(load_certificates(certs / "receipts.pem")[0], load_ec_key(certs / "receipts.key")),
        certificate=load_certificates(certs / "gemeente.pem")[0],
    )


@pytest.fixture
def fake_context(
    fake_at_rest: FakeGateway, fake_tls: Callable[[Callable[[str], None]], ssl.SSLContext]
) -> ssl.SSLContext:
    return fake_tls(fake_at_rest.handshakes_refused.append)


@pytest.fixture
async def fake(fake_at_rest: FakeGateway, fake_context: ssl.SSLContext) -> AsyncIterator[FakeGateway]:
    gateway = fake_at_rest
    application = web.Application()
    application.router.add_post("/api/v1/messages", gateway.messages)
    application.router.add_route("*", "/{path:.*}", gateway.look)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=fake_context)
    await site.start()
    gateway.port = runner.addresses[0][1]
    yield gateway
    gateway.closing.set()
    await runner.cleanup()


@pytest.fixture
def write_sender(certs: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a sender.toml; None removes a key."""

    def write(port: int, **changes: str | None) -> Path:
        values: dict[str, str | None] = {
            "base_url": f"https://localhost:{port}",
            "gateway": NAME,
            "ca": str(certs / "ca.pem"),
            "certificate": str(certs / "gemeente.pem"),
            "key": str(certs / "gemeente.key"),
            "receipt_certificate": str(certs / "receipts.pem"),
            "enterprise_number": "0406798006",
            "profile": "burgerzaken",
        }
        values |= changes
        file = tmp_path / "sender.toml"
        file.write_text(tomli_w.dumps({name: value for name, value in values.items() if value is not None}))
        return file

    return write


@pytest.fixture
def sender_file(fake: FakeGateway, write_sender: Callable[..., Path]) -> Path:
    return write_sender(fake.port)


@pytest.fixture
def sender(sender_file: Path) -> SenderProfile:
    return load_sender(sender_file)


@pytest.fixture
def waits() -> list[float]:
    """The seconds that the client wanted to wait; nobody waits for them."""
    return []


@pytest.fixture
def open_client(waits: list[float]) -> Callable[..., GatewayClient]:
    """Makes clients that lose no time, and give up after five tries."""

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    def make(sender: SenderProfile, **changes: Any) -> GatewayClient:
        settings: dict[str, Any] = {
            "timing": CallTiming(answer_timeout_s=30.0, verdict_wait_s=0.1),
            "retry": RetryRules(tries=5),
            "sleep": sleep,
        }
        return GatewayClient(sender, **(settings | changes))

    return make


@pytest.fixture
async def client(sender: SenderProfile, open_client: Callable[..., GatewayClient]) -> AsyncIterator[GatewayClient]:
    async with open_client(sender) as opened:
        yield opened


@pytest.fixture
def pdf(tmp_path: Path) -> Path:
    file = tmp_path / "brief.pdf"
    file.write_bytes(b"%PDF-1.7\n" + bytes(range(256)) * 2_000)
    return file


@pytest.fixture
def letter(pdf: Path) -> Letter:
    return Letter(
        recipient=Recipient(
            ssin=CITIZEN,
            address=PostalAddress(
                name="Jan Peeters",
                street="Kerkstraat",
                house_number="12",
                box="3",
                postcode="9000",
                municipality="Gent",
                country="BE",
            ),
        ),
        category="tax-assessment",
        purpose="Aanslagbiljet 2026",
        subject="Uw aanslagbiljet",
        documents=[pdf],
    )


@pytest.fixture
def other_signer(certs: Path) -> ReceiptSigner:
    return ReceiptSigner(load_certificates(certs / "server.pem")[0], load_ec_key(certs / "server.key"))
