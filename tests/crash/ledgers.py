"""
The ledgers under test: an empty one for each run.

A database server keeps its own time, while that of a run goes faster and leaps, so a ledger is told the run's clock.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.stores.ledger import Ledger
from gateway.stores.open import open_ledger
from gateway.stores.postgres.ledger import PostgresLedger
from tests.plugins.postgres import Server

MakeLedger = Callable[[Path], str]
"""Return the URI of an empty ledger for a run in a folder."""


async def open_in_run(uri: str, *, clock: Callable[[], datetime], on_commit: Any = None) -> Ledger:
    """Open a ledger that lives in the time of the run."""
    if urlsplit(uri).scheme == "postgresql":
        return await PostgresLedger.open(uri, clock=clock, on_commit=on_commit)
    return await open_ledger(uri, clock=clock, on_commit=on_commit)


@contextmanager
def _sqlite() -> Iterator[MakeLedger]:
    yield lambda folder: f"sqlite://{folder}/state/ledger.db"


@contextmanager
def _postgres() -> Iterator[MakeLedger]:
    """A server for each worker: what one run reads must not wait for another run's transactions."""
    server = Server()
    try:
        server.start()
        asyncio.run(server.make_template())
        yield lambda _folder: asyncio.run(server.emptied_database()).uri
    finally:
        server.remove()


LEDGERS: Final[Mapping[str, Callable[[], AbstractContextManager[MakeLedger]]]] = MappingProxyType(
    {"postgres": _postgres, "sqlite": _sqlite}
)
