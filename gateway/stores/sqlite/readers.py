"""Reads of a SQLite ledger: a few read-only connections, each in its own thread, each read on one snapshot."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import apsw

from gateway.errors import StoreUnavailable
from gateway.stores.sqlite.opening import connect_reader

_T = TypeVar("_T")
_THREADS: Final = 4
_PATIENCE_S: Final = 30.0


class Readers:
    """Runs reads while the writer goes on; a read sees everything that was committed before it began."""

    def __init__(self, path: Path, *, threads: int = _THREADS, patience_s: float = _PATIENCE_S) -> None:
        self._path = path
        self._patience_s = patience_s
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="ledger-reader")
        self._own = threading.local()
        self._connections: list[apsw.Connection] = []
        self._closed = False

    async def run(self, read: Callable[[apsw.Connection], _T], *, of_all: bool = False) -> _T:
        """
        Return what `read` returns, all its statements on one snapshot. Only one that goes through a whole table,
        `of_all`, may take as long as it does; its thread is busy until it has ended, also when nobody waits any more.

        Raises:
            StoreUnavailable: closed, or the file cannot be read, or not in time.
        """
        if self._closed:
            raise StoreUnavailable("the ledger is closed")
        waiting = asyncio.timeout(None if of_all else self._patience_s)
        try:
            async with waiting:
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, read)
        except TimeoutError as exc:
            if not waiting.expired():
                raise
            raise StoreUnavailable("the ledger's disk does not answer") from exc

    async def close(self) -> None:
        """Let running reads finish and close the connections; may be called twice."""
        self._closed = True
        await asyncio.to_thread(self._close)

    def _read(self, read: Callable[[apsw.Connection], _T]) -> _T:
        try:
            connection = self._connection()
            connection.execute("BEGIN")
            try:
                return read(connection)
            finally:
                connection.execute("ROLLBACK")
        except apsw.Error as exc:
            raise StoreUnavailable(f"the ledger could not read: {type(exc).__name__}") from exc

    def _connection(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = connect_reader(self._path)
            self._connections.append(connection)
        return connection

    def _close(self) -> None:
        self._threads.shutdown()
        while self._connections:
            self._connections.pop().close()
