"""Runs the simulators on real sockets: `Simulators` inside a test or the demo, `run` as a process of its own."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from aiohttp import web

from gateway.simulators.ebox import EboxSimulator
from gateway.simulators.print_house import PrintHouseSimulator

LOOPBACK: Final = ("127.0.0.1", 0)
_DRAIN_S: Final = 5.0

Address = tuple[str, int]
Name = Literal["ebox", "print"]


@dataclass(slots=True)
class _Listener:
    runner: web.AppRunner
    address: Address
    tls: ssl.SSLContext | None
    site: web.TCPSite | None = None

    async def listen(self) -> str:
        """Accept connections and return the origin; from the first time on the port stays the same."""
        host, port = self.address
        self.site = web.TCPSite(self.runner, host, port, ssl_context=self.tls)
        await self.site.start()
        port = self.runner.addresses[0][1]
        self.address = (host, port)
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if self.tls else 'http'}://{shown}:{port}"

    async def refuse(self) -> None:
        """Stop listening and break every connection, as a host does that goes down."""
        if self.site is not None:
            await self.site.stop()
            self.site = None
        if self.runner.server is not None:
            for connection in self.runner.server.connections:
                connection.force_close()


def server_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a TLS 1.2+ server context; reads the two PEM files, so call it off the event loop."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


class Simulators:
    """
    Both simulators on their sockets, as an async context manager; port 0 takes a free port.

    `ebox_url` is the origin below which `ebox.paths` lie, `print_url` the base of `/print-jobs`.
    """

    def __init__(
        self,
        *,
        ebox: EboxSimulator | None = None,
        print_house: PrintHouseSimulator | None = None,
        ebox_address: Address = LOOPBACK,
        print_address: Address = LOOPBACK,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.ebox = ebox or EboxSimulator()
        self.print_house = print_house or PrintHouseSimulator()
        self.ebox_url = ""
        self.print_url = ""
        self._listeners: dict[Name, _Listener] = {
            "ebox": _Listener(_runner(self.ebox.app), ebox_address, tls),
            "print": _Listener(_runner(self.print_house.app), print_address, tls),
        }

    async def __aenter__(self) -> Self:
        try:
            for listener in self._listeners.values():
                await listener.runner.setup()
            self.ebox_url = await self._listeners["ebox"].listen()
            self.print_url = await self._listeners["print"].listen() + self.print_house.base_path
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close()

    async def refuse(self, name: Name) -> None:
        """Break the connections of one simulator and refuse new ones; what it keeps stays."""
        await self._listeners[name].refuse()

    async def admit(self, name: Name) -> None:
        """Accept connections again, on the same port."""
        await self._listeners[name].listen()

    async def _close(self) -> None:
        for listener in self._listeners.values():
            await listener.runner.cleanup()


def _runner(app: web.Application) -> web.AppRunner:
    # Handlers are cancelled when their caller goes away, so that a hanging call ends with its connection.
    return web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_DRAIN_S)


async def run(simulators: Simulators, *, ready: Callable[[Simulators], None], stop: asyncio.Event) -> None:
    """Serve until `stop` is set; `ready` is called once both simulators accept connections."""
    async with simulators:
        ready(simulators)
        await stop.wait()
