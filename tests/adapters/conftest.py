"""Adapters against the simulators on loopback, letters to send, and small servers that misbehave in other ways."""

import hashlib
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import RSAKey
from pypdf import PdfWriter

from gateway.adapters.base import Handed, Handover, Parcel, ParcelDocument
from gateway.adapters.ebox import EboxAdapter, EboxSettings
from gateway.adapters.http import CallTiming, HttpClient, open_session
from gateway.adapters.oauth import OAuthClient, TokenSource
from gateway.adapters.print_rest import PrintRestAdapter, PrintRestSettings
from gateway.domain.ids import DeliveryId, EnterpriseNumber, MessageId, Ssin
from gateway.domain.message import Channel, PostalAddress, PrintOptions, Recipient
from gateway.simulators.ebox import EboxSimulator
from gateway.simulators.ebox_settings import (
    DEMO_APPLICATION,
    DEMO_CLIENT_ID,
    DEMO_MESSAGE_TYPE_CITIZEN,
    DEMO_MESSAGE_TYPE_ENTERPRISE,
    DEMO_ORGANISATION,
)
from gateway.simulators.magic import CITIZEN_FINE, ENTERPRISE_FINE
from gateway.simulators.print_house import DEMO_API_KEY, PrintHouseSimulator
from gateway.simulators.serve import Simulators
from gateway.simulators.tokens import Client

SENDER = EnterpriseNumber("0566988259")
NO_WAIT = {"look_up_wait_s": 0.0}
ADDRESS = PostalAddress(
    name="Jan Peeters",
    street="Kerkstraat",
    house_number="12",
    box="3",
    postcode="9000",
    municipality="Gent",
    country="BE",
)


class SetClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


def make_pdf(pages: int = 1) -> bytes:
    writer = PdfWriter()
    for _ in range(pages):
        writer.add_blank_page(595.28, 841.89)
    content = BytesIO()
    writer.write(content)
    return content.getvalue()


class Letters:
    """Makes parcels; whatever is named in `changes` replaces a field."""

    pdf = staticmethod(make_pdf)
    address = ADDRESS
    personal = (CITIZEN_FINE, ADDRESS.name, ADDRESS.street, "Uw aanslagbiljet", "brief.pdf")

    def document(self, content: bytes | None = None, *, chunk_bytes: int = 100, **changes: Any) -> ParcelDocument:
        octets = make_pdf() if content is None else content

        async def read() -> AsyncIterator[bytes]:
            for start in range(0, len(octets), chunk_bytes):
                yield octets[start : start + chunk_bytes]

        return replace(
            ParcelDocument(
                filename="brief.pdf",
                media_type="application/pdf",
                size_bytes=len(octets),
                sha256=hashlib.sha256(octets).digest(),
                main=True,
                signed=False,
                pages=1,
                is_cover=False,
                open=read,
            ),
            **changes,
        )

    def failing(self, error: Exception) -> ParcelDocument:
        """Return a document that breaks off with `error` after its first octets."""

        async def read() -> AsyncIterator[bytes]:
            yield b"%PDF-1.7 first octets"
            raise error

        return self.document(b"x" * 5_000, open=read)

    def parcel(self, channel: Channel, recipient: Recipient, **changes: Any) -> Parcel:
        citizen = channel is Channel.EBOX_CITIZEN
        return replace(
            Parcel(
                delivery_id=DeliveryId(uuid4()),
                message_id=MessageId(uuid4()),
                channel=channel,
                sender=SENDER,
                sender_name="Gemeente Voorbeeld",
                display_name="Burgerzaken Voorbeeld",
                profile="burgerzaken",
                category="tax-assessment",
                recipient=recipient,
                attention_of=None,
                subject="Uw aanslagbiljet",
                language="nl",
                print_options=PrintOptions(),
                return_address=(),
                ebox=(DEMO_MESSAGE_TYPE_CITIZEN if citizen else DEMO_MESSAGE_TYPE_ENTERPRISE, DEMO_APPLICATION),
                documents=(self.document(),),
            ),
            **changes,
        )

    def to_citizen(self, ssin: str = CITIZEN_FINE, **changes: Any) -> Parcel:
        return self.parcel(Channel.EBOX_CITIZEN, Recipient(ssin=Ssin(ssin), address=ADDRESS), **changes)

    def to_enterprise(self, number: str = ENTERPRISE_FINE, **changes: Any) -> Parcel:
        recipient = Recipient(enterprise_number=EnterpriseNumber(number))
        return self.parcel(Channel.EBOX_ENTERPRISE, recipient, **changes)

    def on_paper(self, address: PostalAddress = ADDRESS, **changes: Any) -> Parcel:
        return self.parcel(Channel.PRINT, Recipient(ssin=Ssin(CITIZEN_FINE), address=address), ebox=None, **changes)

    def handed(self, parcel: Parcel, handover: Handover) -> Handed:
        return Handed(
            delivery_id=parcel.delivery_id,
            channel=parcel.channel,
            sender=parcel.sender,
            provider_reference=handover.provider_reference,
            recipient=parcel.recipient,
        )

    def leaks(self, error: BaseException) -> list[str]:
        """Return the personal data that a log of `error`, with all that led to it, would show."""
        seen = "".join(traceback.format_exception(error)) + repr(error) + str(error)
        return [datum for datum in self.personal if datum in seen]


@dataclass
class EboxBench:
    """The e-Box simulator and adapters that speak to it, as representative unless told otherwise."""

    simulators: Simulators
    key: RSAKey
    clock: SetClock
    stack: AsyncExitStack

    @property
    def simulator(self) -> EboxSimulator:
        return self.simulators.ebox

    def calls(self, operation: str) -> int:
        return sum(call.operation == operation for call in self.simulator.records.calls)

    def copies(self) -> int:
        return len(self.simulator.records.kept)

    def settings(self, **changes: Any) -> EboxSettings:
        origin, paths = self.simulators.ebox_url, self.simulator.paths
        token_url = origin + paths.token
        given: dict[str, Any] = {
            "base_url": origin + paths.registry_v2,
            "token_url": token_url,
            "audience": token_url,
            "client_id": DEMO_CLIENT_ID,
            "federation_url": origin + paths.federation,
            "partition_url": origin + paths.partition,
            **NO_WAIT,
        }
        return EboxSettings(**(given | changes))

    def adapter(self, **changes: Any) -> EboxAdapter:
        adapter = EboxAdapter(self.settings(**changes), session=open_session(), key=self.key, clock=self.clock)
        self.stack.push_async_callback(adapter.close)
        return adapter

    def bare_adapter(self, **changes: Any) -> EboxAdapter:
        """Return an adapter that asks nothing before it publishes, for its own organisation."""
        return self.adapter(representative=False, consent_check=False, federation_url=None, **changes)

    def tokens(self, **changes: Any) -> TokenSource:
        settings = self.settings()
        client = OAuthClient(
            token_url=changes.pop("token_url", settings.token_url),
            audience=settings.audience,
            client_id=settings.client_id,
            key=self.key,
        )
        http = HttpClient(open_session(), CallTiming(**{**NO_WAIT, **changes}), self.clock)
        self.stack.push_async_callback(http.close)
        return TokenSource(http, client, self.clock)


@dataclass
class PrintBench:
    """The print house simulator and adapters that speak to it."""

    simulators: Simulators
    clock: SetClock
    stack: AsyncExitStack

    @property
    def simulator(self) -> PrintHouseSimulator:
        return self.simulators.print_house

    def calls(self, operation: str) -> int:
        return sum(call.operation == operation for call in self.simulator.records.calls)

    def copies(self) -> int:
        return len(self.simulator.records.kept)

    def adapter(self, *, sign: Any = None, **changes: Any) -> PrintRestAdapter:
        given: dict[str, Any] = {"base_url": self.simulators.print_url, "api_key": DEMO_API_KEY, **NO_WAIT}
        settings = PrintRestSettings(**(given | changes))
        adapter = PrintRestAdapter(settings, session=open_session(), clock=self.clock, sign=sign)
        self.stack.push_async_callback(adapter.close)
        return adapter


@dataclass
class Stub:
    """A server that answers everything with `answer`, and what it was asked."""

    url: str = ""
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append((request.raw_path, dict(request.headers), body))
        assert self.answer is not None
        return await self.answer(request)

    def answers(self, status: int = 200, **response: Any) -> None:
        """Give this one answer from now on; `json` or `text` and `content_type` as for the library's responses."""

        async def answer(_request: web.Request) -> web.StreamResponse:
            make = web.json_response if "data" in response else web.Response
            return make(status=status, **response)

        self.answer = answer


@pytest.fixture(scope="session")
def letters() -> Letters:
    return Letters()


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(scope="session")
def client_key() -> RSAKey:
    return RSAKey.import_key(rsa.generate_private_key(public_exponent=65537, key_size=2048))


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
def seen_urls() -> list[str]:
    """All paths and queries that the simulators were asked for."""
    return []


@pytest.fixture
async def simulators(clock: SetClock, client_key: RSAKey, seen_urls: list[str]) -> AsyncIterator[Simulators]:
    @web.middleware
    async def see(request: web.Request, handler: Any) -> Any:
        seen_urls.append(request.raw_path)
        return await handler(request)

    public_key = client_key.public_key
    assert isinstance(public_key, rsa.RSAPublicKey)
    client = Client(client_id=DEMO_CLIENT_ID, public_key=public_key, organisation=DEMO_ORGANISATION)
    ebox = EboxSimulator(clients=[client], clock=clock, advance="manual", keep_bytes=True, limit_bytes=1_000_000)
    print_house = PrintHouseSimulator(clock=clock, advance="manual", keep_bytes=True, limit_bytes=4_000_000)
    for app in (ebox.app, print_house.app):
        app.middlewares.append(see)
    async with Simulators(ebox=ebox, print_house=print_house) as running:
        yield running


@pytest.fixture
def ebox(simulators: Simulators, client_key: RSAKey, clock: SetClock, stack: AsyncExitStack) -> EboxBench:
    return EboxBench(simulators, client_key, clock, stack)


@pytest.fixture
def printing(simulators: Simulators, clock: SetClock, stack: AsyncExitStack) -> PrintBench:
    return PrintBench(simulators, clock, stack)


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    stub = Stub()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", stub.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stub.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield stub
    await runner.cleanup()


@pytest.fixture
def unknown_delivery() -> DeliveryId:
    return DeliveryId(UUID("019abcde-0000-7000-8000-000000000000"))


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port on which connections are refused: it is taken, but nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
