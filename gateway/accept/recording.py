"""
Items of batches that are being recorded while the next ones are read.

Each batch may have one recorded at any time. More at once, which share a commit or wait for the ledger together, come
out of a few spare places for all batches of this process: one batch alone is not held up by each commit, and many at
once ask no more of the ledger than as many messages that come alone.
"""

import asyncio
from collections.abc import Coroutine
from typing import Final

_SPARE: Final = 7


class SparePlaces:
    """How many items may be recorded at once beside the first of each batch; shared by all batches."""

    def __init__(self, count: int = _SPARE) -> None:
        self._free = count

    def take(self) -> bool:
        """Take a place if one is free."""
        if not self._free:
            return False
        self._free -= 1
        return True

    def give_back(self, count: int) -> None:
        """Return places that were taken."""
        self._free += count


class Recording:
    """The items of one batch that are being recorded."""

    def __init__(self, spare: SparePlaces) -> None:
        self._spare = spare
        self._taken = 0  # of the spare places: for all that are being recorded, or for all but one
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: list[BaseException] = []

    async def begin(self, work: Coroutine[None, None, None]) -> None:
        """
        Have an item recorded; return when there is room for one more.

        Raises:
            StoreUnavailable: this one or another could not be.
        """
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._settle)
        if self._spare.take():
            self._taken += 1
        else:
            await self._wait(asyncio.FIRST_COMPLETED)
        self._raise()

    async def end(self) -> None:
        """
        Wait for all that were begun.

        Raises:
            StoreUnavailable: one of them could not be recorded.
        """
        if self._tasks:
            await self._wait(asyncio.ALL_COMPLETED)
        self._raise()

    async def _wait(self, until: str) -> None:
        for task in (await asyncio.wait(self._tasks, return_when=until))[0]:
            self._settle(task)

    def _settle(self, task: asyncio.Task[None]) -> None:
        """Forget a task that is done, once, and give back what it leaves free: its batch may be slow to go on."""
        if task not in self._tasks:
            return
        self._tasks.remove(task)
        if not task.cancelled() and (error := task.exception()) is not None:  # cancelled is only a whole request
            self._errors.append(error)
        surplus = max(self._taken - len(self._tasks), 0)
        self._taken -= surplus
        self._spare.give_back(surplus)

    def _raise(self) -> None:
        if self._errors:
            raise self._errors.pop()
