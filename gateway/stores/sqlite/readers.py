"""Reads of a SQLite ledger: a few read-only connections, each in its own thread, each read on one snapshot."""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

from gateway.errors import StoreUnavailable
from gateway.stores.sqlite.calls import Call, Outcome, answer
from gateway.stores.sqlite.opening import connect_reader

_T = TypeVar("_T")
_THREADS: Final = 2
_AT_ONCE: Final = 16  # reads that one thread takes together; they share the wake-up of their callers
_PATIENCE_S: Final = 30.0


class Readers:
    """
    Runs reads while the writer goes on; a read sees everything that was committed before it began.

    Quick reads go to `threads` threads, which take what waits together. Whoever goes through a whole table has threads
    of the same number apart, so that nobody waits behind it.
    """

    def __init__(self, path: Path, *, threads: int = _THREADS, patience_s: float = _PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._closed = False
        self._quick = _Threads(path, threads, at_once=_AT_ONCE)
        self._of_all = _Threads(path, threads, at_once=1)

    async def run(self, read: Callable[[apsw.Connection], _T], *, of_all: bool = False) -> _T:
        """
        Return what `read` returns, all its statements on one snapshot. Only one that goes through a whole table,
        `of_all`, may take as long as it does; its thread is busy until it has ended, also when nobody waits any more.

        Raises:
            StoreUnavailable: closed, or the file cannot be read, or not in time.
        """
        if self._closed:
            raise StoreUnavailable("the ledger is closed")
        if of_all:
            return await self._of_all.call(read)
        waiting = asyncio.timeout(self._patience_s)
        try:
            async with waiting:
                return await self._quick.call(read)
        except TimeoutError as exc:
            if not waiting.expired():
                raise
            raise StoreUnavailable("the ledger's disk does not answer") from exc

    async def close(self) -> None:
        """Let running reads finish and close the connections; may be called twice."""
        self._closed = True
        for threads in (self._quick, self._of_all):
            await asyncio.to_thread(threads.end)


class _Threads:
    """Threads, begun when they are first needed, each with a connection of its own."""

    def __init__(self, path: Path, number: int, *, at_once: int) -> None:
        self._path = path
        self._at_once = at_once
        self._waiting: queue.SimpleQueue[Call[Any] | None] = queue.SimpleQueue()  # None: the end
        self._threads = [threading.Thread(target=self._main, name="ledger-reader", daemon=True) for _ in range(number)]
        self._begun = False

    async def call(self, read: Callable[[apsw.Connection], _T]) -> _T:
        if not self._begun:
            self._begun = True
            for thread in self._threads:
                thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        self._waiting.put(Call(work=read, loop=loop, future=future))
        return await future

    def end(self) -> None:
        if not self._begun:
            return
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _main(self) -> None:
        connection: apsw.Connection | None = None
        ended = False
        while not ended:
            calls, ended = self._take()
            outcomes = []
            for call in calls:
                try:
                    if connection is None:
                        connection = connect_reader(self._path)
                    outcomes.append(_read(connection, call.work))
                except apsw.Error as exc:
                    outcomes.append(_failed(exc))
            answer(calls, outcomes)
        if connection is not None:
            connection.close()

    def _take(self) -> tuple[Sequence[Call[Any]], bool]:
        """Return what waits, and whether it was the end."""
        calls: list[Call[Any]] = []
        call = self._waiting.get()
        while call is not None:
            if not call.future.cancelled():
                calls.append(call)
            if len(calls) >= self._at_once:
                return calls, False
            try:
                call = self._waiting.get_nowait()
            except queue.Empty:
                return calls, False
        return calls, True


def _read(connection: apsw.Connection, work: Callable[[apsw.Connection], Any]) -> Outcome:
    try:
        connection.execute("BEGIN")
        try:
            return Outcome(value=work(connection))
        finally:
            connection.execute("ROLLBACK")
    except apsw.Error as exc:
        return _failed(exc)
    except Exception as exc:  # noqa: BLE001 -- it goes to the caller who asked, and the thread lives on
        return Outcome(error=exc)


def _failed(cause: apsw.Error) -> Outcome:
    error = StoreUnavailable(f"the ledger could not read: {type(cause).__name__}")
    error.__cause__ = cause
    return Outcome(error=error)
