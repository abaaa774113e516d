"""
Transactions of a PostgreSQL ledger: one per call, on a connection from a pool, and errors of the database as ours.

A commit that was answered is durable (`opening.py` asserts the settings on which that rests). PostgreSQL lets commits
that come together share an fsync, so a call needs no queue of its own.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any, Final, Literal, Protocol, TypeVar

import asyncpg

from gateway.errors import StoreUnavailable

OnCommit = Callable[[float, int], None]
Row = Sequence[Any]

_T = TypeVar("_T")

_PLACES: Final = 1 << 16  # rows with a position that one transaction may write; see `position_of` in the schema
_TRIES: Final = 5
_LONGEST_APART_S: Final = 3_600.0

_NOW: Final = "SELECT date_trunc('milliseconds', clock_timestamp())"

# What the database holds against one statement. Every other error of its is about the server or the way to it.
_OF_ONE_WORK: Final = (
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.DataError,
    asyncpg.SyntaxOrAccessError,
    asyncpg.RaiseError,
)
# The database undid the whole transaction for the sake of another, so it may be done anew.
_TO_DO_ANEW: Final = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
# All that asyncpg raises; its InternalClientError comes when the server ends a connection just as a call begins.
FAILURES: Final = (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class Connection(Protocol):
    """What of a connection of asyncpg is used here; asyncpg ships no type information."""

    async def execute(
        self,
        query: str,
        *parameters: object,
        timeout: float | None = None,  # noqa: ASYNC109 -- asyncpg's name for it
    ) -> str:
        """Run a statement, or a script without parameters; return the command's tag."""
        ...

    async def executemany(self, query: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement for each row of parameters, all in one round trip."""
        ...

    async def fetch(
        self,
        query: str,
        *parameters: object,
        timeout: float | None = None,  # noqa: ASYNC109 -- asyncpg's name for it
    ) -> list[Row]:
        """Return all rows of a statement."""
        ...

    async def fetchrow(self, query: str, *parameters: object) -> Row | None:
        """Return the first row."""
        ...

    async def fetchval(self, query: str, *parameters: object) -> Any:
        """Return the first value of the first row; None also when there is no row."""
        ...

    def transaction(
        self, *, isolation: Literal["read_committed", "repeatable_read"] | None = None, readonly: bool = False
    ) -> AbstractAsyncContextManager[None]:
        """Begin a transaction; inside another one, a savepoint."""
        ...

    async def close(self) -> None:
        """Say goodbye to the server."""
        ...


class Pool(Protocol):
    """What of a pool of asyncpg is used here."""

    def acquire(self, *, timeout: float) -> AbstractAsyncContextManager[Connection]:
        """Take a connection for as long as the context lasts."""
        ...

    async def close(self) -> None:
        """Close all connections once they are given back."""
        ...


@dataclass(slots=True)
class Transaction:
    """A transaction in progress. `clock` None: the store's clock is that of the database server."""

    connection: Connection
    clock: Callable[[], datetime] | None = None
    _place: int = field(default=0)

    @property
    def now_or_null(self) -> datetime | None:
        """Return the time for `coalesce($n, clock_timestamp())`."""
        return None if self.clock is None else self.clock()

    async def now(self) -> datetime:
        """Return the time on the store's clock."""
        if self.clock is not None:
            return self.clock()
        now: datetime = await self.connection.fetchval(_NOW)
        return now

    def place(self) -> int:
        """
        Return the place of the next row with a position inside this transaction.

        Raises:
            StoreUnavailable: there are too many.
        """
        self._place += 1
        if self._place >= _PLACES:
            raise StoreUnavailable(f"one change of the ledger may hold {_PLACES - 1} entries")
        return self._place


class Sessions:
    """
    The pool. `on_commit` gets the seconds from the first statement to the end of each commit, and 1; it must not raise.

    A call waits at most `wait_s` seconds for a connection.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        clock: Callable[[], datetime] | None,
        on_commit: OnCommit | None,
        wait_s: float,
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._on_commit = on_commit
        self._wait_s = wait_s
        self._is_closed = False
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def write(self, work: Callable[[Transaction], Awaitable[_T]]) -> _T:
        """
        Run `work` inside a transaction and return its value once that is durable. A caller that is cancelled meanwhile
        does not know whether it happened. `work` runs again when the database undid it for the sake of another.

        Raises:
            StoreUnavailable: no connection, or the database failed; what was asked may have happened all the same when
                the connection went while it was committing.
            Exception: whatever `work` raised; then it has no effect.
        """
        async with self._call():
            for _ in range(_TRIES - 1):
                with contextlib.suppress(*_TO_DO_ANEW):
                    return await self._write_once(work)
            try:
                return await self._write_once(work)
            except _TO_DO_ANEW as error:
                raise StoreUnavailable(f"the ledger is too busy: {type(error).__name__}") from error

    async def read(self, work: Callable[[Transaction], Awaitable[_T]]) -> _T:
        """
        Run `work` on one snapshot of what is committed.

        Raises:
            StoreUnavailable: no connection, or the database failed.
        """
        async with (
            self._call(),
            self._connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            return await work(Transaction(connection, self._clock))

    async def look(self, work: Callable[[Transaction], Awaitable[_T]]) -> _T:
        """
        Run `work`, a single statement that reads: it is its own snapshot, and costs one round trip instead of three.

        Raises:
            StoreUnavailable: no connection, or the database failed.
        """
        async with self._call(), self._connection() as connection:
            return await work(Transaction(connection, self._clock))

    async def apart(self, statements: Iterable[str]) -> None:
        """
        Run statements outside a transaction, however long they take.

        Raises:
            StoreUnavailable: no connection, or the database failed.
        """
        async with self._call():
            try:
                async with self._connection() as connection:
                    await connection.execute("SET statement_timeout = 0; SET transaction_timeout = 0")
                    try:
                        for statement in statements:
                            await connection.execute(statement, timeout=_LONGEST_APART_S)
                    finally:
                        await connection.execute("RESET statement_timeout; RESET transaction_timeout")
            except _TO_DO_ANEW as error:
                raise StoreUnavailable(f"the ledger is too busy: {type(error).__name__}") from error

    async def close(self) -> None:
        """Refuse what comes, let what was asked finish, and close the connections; may be called twice."""
        self._is_closed = True
        await self._idle.wait()
        await self._pool.close()

    @contextlib.asynccontextmanager
    async def _call(self) -> AsyncIterator[None]:
        if self._is_closed:
            raise StoreUnavailable("the ledger is closed")
        self._calls += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def _write_once(self, work: Callable[[Transaction], Awaitable[_T]]) -> _T:
        async with self._connection() as connection:
            began_s = monotonic()
            async with connection.transaction():
                value = await work(Transaction(connection, self._clock))
            if self._on_commit is not None:
                self._on_commit(monotonic() - began_s, 1)
            return value

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with self._pool.acquire(timeout=self._wait_s) as connection:
                yield connection
        except (*_OF_ONE_WORK, *_TO_DO_ANEW):
            raise
        except FAILURES as error:
            # A rollback that fails must not hide that the caller was cancelled.
            if isinstance(error.__context__, asyncio.CancelledError) and not isinstance(error, TimeoutError):
                raise error.__context__ from error
            raise StoreUnavailable(f"the ledger's database failed: {type(error).__name__}") from error
