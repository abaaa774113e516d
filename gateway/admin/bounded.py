"""A call that may hang: made once at a time, and waited for no longer than its limit."""

import asyncio
from collections.abc import Awaitable, Callable


class Bounded:
    """
    Makes `call` for whoever asks; those who ask while it runs share it.

    A call that overran is cancelled, but not left: a thread that waits for a dead disk cannot be stopped, and a second
    beside it would hang as well. Until it has ended, no other is begun.
    """

    def __init__(self, call: Callable[[], Awaitable[None]], limit_s: float) -> None:
        self._call = call
        self._limit_s = limit_s
        self._task: asyncio.Task[None] | None = None
        self._given_up = False

    async def run(self) -> None:
        """
        Return when the call has ended well.

        Raises:
            TimeoutError: it has not ended in time.
            Exception: what the call raised.
        """
        task = self._task
        if task is None or task.done():
            task = self._begin()
        await asyncio.wait([task], timeout=self._limit_s)
        if not task.done():
            self._give_up(task)
        if self._given_up:
            raise TimeoutError
        task.result()

    async def close(self) -> None:
        """Give up the call under way, if there is one, and wait for its end, no longer than the limit."""
        task = self._task
        if task is not None and not task.done():
            self._give_up(task)
            await asyncio.wait([task], timeout=self._limit_s)

    def _begin(self) -> asyncio.Task[None]:
        self._given_up = False
        self._task = asyncio.create_task(self._made())
        self._task.add_done_callback(_looked_at)
        return self._task

    async def _made(self) -> None:
        await self._call()

    def _give_up(self, task: asyncio.Task[None]) -> None:
        if not self._given_up:  # cancelled once only, or its own cleaning up would be broken off
            self._given_up = True
            task.cancel()


def _looked_at(task: asyncio.Task[None]) -> None:
    # Where nobody waits any more, asyncio would complain of an exception that was never retrieved.
    if not task.cancelled():
        task.exception()
