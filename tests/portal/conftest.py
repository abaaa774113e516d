"""A portal that listens on loopback, over real stores, and visitors with a browser's manners."""

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.portal.app import PortalDeps, build_portal

PORTAL = "https://brieven.example.be"
CLIENT = "X-Test-Client"


@dataclass(frozen=True)
class Answer:
    """What the portal answered; a body that broke off has `whole` False."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool = True

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Visitor:
    """One browser with its own cookies; `address` is where it seems to come from."""

    url: str
    session: aiohttp.ClientSession
    address: str = "192.0.2.1"

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.call("GET", path, headers=headers)

    async def post(self, path: str, fields: Mapping[str, str] | None = None, **headers: str) -> Answer:
        return await self.call(
            "POST", path, data=dict(fields or {}), headers={"Sec-Fetch-Site": "same-origin", **headers}
        )

    async def call(self, method: str, path: str, *, headers: Mapping[str, str], data: Any = None) -> Answer:
        async with self.session.request(
            method, self.url + path, data=data, headers={CLIENT: self.address, **headers}, allow_redirects=False
        ) as response:
            body = b""
            try:
                async for chunk in response.content.iter_any():
                    body += chunk
            except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError):
                return Answer(response.status, response.headers, body, whole=False)
            return Answer(response.status, response.headers, body)

    async def open_by_number(self, letter: Any, code: str | None = None, query: str = "") -> Answer:
        return await self.post(f"/{query}", {"number": letter.number, "code": letter.code if code is None else code})

    async def open_by_token(self, letter: Any, code: str | None = None, query: str = "") -> Answer:
        return await self.post(f"/d/{letter.token}{query}", {"code": letter.code if code is None else code})


@dataclass
class Portal:
    """A listening portal; `outcomes` is what its metrics were told."""

    url: str
    stack: AsyncExitStack
    outcomes: Counter[str] = field(default_factory=Counter)
    addresses: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    async def visitor(self) -> Visitor:
        jar = aiohttp.CookieJar(unsafe=True, treat_as_secure_origin=self.url)
        session = await self.stack.enter_async_context(
            aiohttp.ClientSession(cookie_jar=jar, trust_env=False, auto_decompress=False)
        )
        return Visitor(url=self.url, session=session, address=f"192.0.2.{next(self.addresses)}")


MakePortal = Callable[..., Awaitable[Portal]]


@pytest.fixture
async def make_portal(paper: Any) -> AsyncIterator[MakePortal]:
    """Return a starter of portals over the stores of `paper`; several are replicas of each other."""
    async with AsyncExitStack() as stack:

        async def start(**changes: Any) -> Portal:
            portal = Portal(url="", stack=stack)
            given: dict[str, Any] = {
                "ledger": paper.ledger,
                "documents": paper.documents,
                "vault": paper.vault,
                "logbook": paper.logbook,
                "clock": paper.clock,
                "public_url": PORTAL,
                "on_outcome": lambda outcome: portal.outcomes.update([outcome]),
                "client_address": lambda request: request.headers.get(CLIENT),
            }
            runner = web.AppRunner(build_portal(PortalDeps(**(given | changes))), access_log=None, shutdown_timeout=1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            portal.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            return portal

        yield start


@pytest.fixture
async def portal(make_portal: MakePortal) -> Portal:
    """A listening portal."""
    return await make_portal()


@pytest.fixture
async def visitor(portal: Portal) -> Visitor:
    """Somebody with a browser."""
    return await portal.visitor()


class FailingLedger:
    """The real ledger, except that the named calls raise."""

    def __init__(self, ledger: Any, error: Exception, *calls: str) -> None:
        self._ledger = ledger
        self._error = error
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        if name in self._calls:
            return self._fail
        return getattr(self._ledger, name)

    async def _fail(self, *_arguments: Any, **_named: Any) -> Any:
        raise self._error


class CountingLedger:
    """The real ledger, and the names of the calls made to it."""

    def __init__(self, ledger: Any) -> None:
        self._ledger = ledger
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self._ledger, name)


@pytest.fixture
def failing_ledger() -> type[FailingLedger]:
    """Make a ledger that fails where told."""
    return FailingLedger


@pytest.fixture
def counting_ledger(paper: Any) -> CountingLedger:
    """The real ledger, counted."""
    return CountingLedger(paper.ledger)
