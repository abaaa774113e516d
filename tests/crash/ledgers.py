"""
The ledgers under test: an empty one for each run, in the home that a worker of the harness has for them.

A database server keeps its own time, while that of a run goes faster and leaps, so a ledger is told the run's clock.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from gateway.stores.ledger import Ledger
from gateway.stores.open import open_ledger
from gateway.stores.postgres.ledger import PostgresLedger
from tests.plugins.postgres import Server

# What is written to the log waits there until somebody asks for the disk: what survives a cut is no matter of luck.
_LAZY: Final = (
    "wal_writer_delay = 10s",
    "wal_writer_flush_after = 1GB",
    "wal_buffers = 16MB",
    "bgwriter_lru_maxpages = 0",
)


class Home(Protocol):
    """Where the ledgers of one worker live, one after the other."""

    def empty_ledger(self, folder: Path) -> str:
        """Return the URI of an empty ledger for a run in `folder`."""
        ...

    def cut(self) -> None:
        """Do to a database server what a power cut does, and return when it serves again; the gateway is dead."""
        ...


def kind_of(uri: str) -> str:
    """Return which of `LEDGERS` a URI is of."""
    scheme = urlsplit(uri).scheme
    return "postgres" if scheme == "postgresql" else scheme


async def open_in_run(uri: str, *, clock: Callable[[], datetime], on_commit: Any = None) -> Ledger:
    """Open a ledger that lives in the time of the run."""
    if kind_of(uri) == "postgres":
        return await PostgresLedger.open(uri, clock=clock, on_commit=on_commit)
    return await open_ledger(uri, clock=clock, on_commit=on_commit)


class _SqliteHome:
    def empty_ledger(self, folder: Path) -> str:
        return f"sqlite://{folder}/state/ledger.db"

    def cut(self) -> None:
        """Nothing: the file is on the forgetful disk of the gateway itself."""


class _PostgresHome:
    def __init__(self, server: Server) -> None:
        self._server = server

    def empty_ledger(self, _folder: Path) -> str:
        return asyncio.run(self._server.emptied_database()).uri

    def cut(self) -> None:
        self._server.crash()


@contextmanager
def _sqlite() -> Iterator[Home]:
    yield _SqliteHome()


@contextmanager
def _postgres() -> Iterator[Home]:
    """A server for each worker: what one run reads must not wait for another run's transactions."""
    server = Server(*_LAZY)
    try:
        server.start()
        asyncio.run(server.make_template())
        yield _PostgresHome(server)
    finally:
        server.remove()


LEDGERS: Final[Mapping[str, Callable[[], AbstractContextManager[Home]]]] = MappingProxyType(
    {"sqlite": _sqlite, "postgres": _postgres}
)
