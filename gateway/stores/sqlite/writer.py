"""
The one writer of a SQLite ledger: every change runs in its thread, and changes that wait together share a commit.

A commit costs one fsync whether it holds one change or hundreds, so while one batch commits, the next one gathers. Each
change runs inside its own savepoint: when it raises, only its own effects go and its caller gets the exception. The
callers of a batch hear of success after the commit, never before; when the commit fails, nothing of the batch is kept
and all of them get `StoreUnavailable`.
"""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import apsw

from gateway.errors import StoreUnavailable
from gateway.stores.sqlite.calls import Call, Outcome, answer

OnCommit = Callable[[float, int], None]

_T = TypeVar("_T")
_BATCH_LIMIT: Final = 256
_QUEUE_LIMIT: Final = 4_096
_PATIENCE_S: Final = 15.0  # less than most callers have themselves

# What SQLite holds against one statement. Every other apsw.Error is about the file, and so about the whole batch.
_OF_ONE_WORK: Final = (
    apsw.BindingsError,
    apsw.ConstraintError,
    apsw.IncompleteExecutionError,
    apsw.MismatchError,
    apsw.RangeError,
    apsw.SQLError,
    apsw.TooBigError,
)


@dataclass(slots=True, kw_only=True, eq=False)
class _Job(Call[_T]):
    """One change that a caller waits for. `apart`: it runs between batches, outside a transaction."""

    apart: bool


class Writer:
    """
    Runs changes one after the other on `connection`, which it owns from now on and closes at the end.

    `on_commit` is called in the writer's thread after each commit, with its duration in seconds and the number of
    changes in it; it must not raise. Who is not `patient` waits no longer than `patience_s` for a change: a disk that
    hangs must not hold on to all who come.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        on_commit: OnCommit | None = None,
        batch_limit: int = _BATCH_LIMIT,
        queue_limit: int = _QUEUE_LIMIT,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._connection = connection
        self._on_commit = on_commit
        self._batch_limit = batch_limit
        self._queue_limit = queue_limit
        self._patience_s = patience_s
        self._queue: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()  # None: the end
        self._closing = False
        self._ended = False
        self._close_error: apsw.Error | None = None
        self._thread = threading.Thread(target=self._main, name="ledger-writer", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[apsw.Connection], _T], *, patient: bool = False) -> _T:
        """
        Run `work` inside a transaction and return its value once that is durable. A caller that is cancelled, or gives
        up, does not know whether it happens; one who is `patient` waits until it does.

        Raises:
            StoreUnavailable: closed, too much waits already, the batch could not be committed, or not in time.
            Exception: whatever `work` raised; then it has no effect.
        """
        waiting = asyncio.timeout(None if patient else self._patience_s)
        try:
            async with waiting:
                return await self._enqueue(work, apart=False)
        except TimeoutError as exc:
            if not waiting.expired():
                raise
            raise StoreUnavailable("the ledger's disk does not answer") from exc

    async def checkpoint(self) -> None:
        """
        Move everything from the log into the database and truncate the log, so that no overwritten page survives.

        Raises:
            StoreUnavailable: a reader held an old snapshot for too long, or the disk failed; nothing is lost.
        """
        await self._enqueue(_truncate_log, apart=True)

    async def close(self) -> None:
        """
        Finish what was asked, truncate the log and close the connection; may be called twice.

        Raises:
            StoreUnavailable: the log could not be truncated; what was committed is safe in it.
        """
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        if self._close_error is not None:
            raise StoreUnavailable("the ledger was closed without a last checkpoint") from self._close_error

    async def _enqueue(self, work: Callable[[apsw.Connection], _T], *, apart: bool) -> _T:
        if self._closing or self._ended:
            raise StoreUnavailable("the ledger is closed")
        if self._queue.qsize() >= self._queue_limit:
            raise StoreUnavailable("too many changes wait for the ledger's disk")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        self._queue.put(_Job(work=work, loop=loop, future=future, apart=apart))
        if self._ended:  # between the check above and here: nobody else will look at the queue any more
            self._give_up_waiting()
        return await future

    def _main(self) -> None:
        try:
            while self._step():
                pass
            self._finish()
        finally:
            self._ended = True
            self._give_up_waiting()

    def _step(self) -> bool:
        """Take what waits and do it; False when the end was asked for."""
        batch: list[_Job[Any]] = []
        item = self._queue.get()
        while item is not None and not item.apart:
            if not item.future.cancelled():
                batch.append(item)
            if len(batch) >= self._batch_limit:
                break
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
        if batch:
            self._commit(batch)
        if item is not None and item.apart:
            answer([item], [self._apart(item)])
        return item is not None

    def _commit(self, batch: Sequence[_Job[Any]]) -> None:
        started_s = time.monotonic()
        try:
            if self._connection.in_transaction:  # an earlier rollback failed with the disk
                self._connection.execute("ROLLBACK")
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._attempt(job.work) for job in batch]
            self._connection.execute("COMMIT")
        except BaseException as exc:
            self._roll_back()
            answer(batch, [Outcome(error=_unavailable(exc)) for _ in batch])
            if not isinstance(exc, apsw.Error):
                raise
            return
        answer(batch, outcomes)
        if self._on_commit is not None:
            self._on_commit(time.monotonic() - started_s, len(batch))

    def _attempt(self, work: Callable[[apsw.Connection], Any]) -> Outcome:
        """Run one change inside a savepoint. An error about the file passes through and ends the batch."""
        self._connection.execute("SAVEPOINT work")
        try:
            outcome = Outcome(value=work(self._connection))
        except Exception as exc:
            if isinstance(exc, apsw.Error) and not isinstance(exc, _OF_ONE_WORK):
                raise
            # When SQLite had to undo the whole transaction, there is no savepoint any more: this raises too.
            self._connection.execute("ROLLBACK TO work")
            outcome = Outcome(error=exc)
        self._connection.execute("RELEASE work")
        return outcome

    def _apart(self, job: _Job[Any]) -> Outcome:
        try:
            return Outcome(value=job.work(self._connection))
        except apsw.Error as exc:
            return Outcome(error=_unavailable(exc))

    def _roll_back(self) -> None:
        # Should this fail too, the next batch tries again before it begins, and fails while it cannot.
        with contextlib.suppress(apsw.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _finish(self) -> None:
        try:
            _truncate_log(self._connection)
        except apsw.Error as exc:
            self._close_error = exc
        finally:
            self._connection.close()

    def _give_up_waiting(self) -> None:
        waiting = []
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._queue.get_nowait()
                if job is not None:
                    waiting.append(job)
        answer(waiting, [Outcome(error=StoreUnavailable("the ledger is closed")) for _ in waiting])


def _truncate_log(connection: apsw.Connection) -> None:
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def _unavailable(cause: BaseException) -> StoreUnavailable:
    error = StoreUnavailable(f"the ledger could not write: {type(cause).__name__}")
    error.__cause__ = cause
    return error
