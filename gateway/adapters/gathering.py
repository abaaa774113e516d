"""One question of yes or no about many numbers, asked for those who wait at the same time with one call."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

from gateway.errors import Refused

Ask = Callable[[Sequence[str]], Awaitable[Collection[str]]]
"""Returns those of these numbers for which the answer is yes. Raises `Refused` when a number of them is not taken."""

_CALLS: Final = 2  # at the same time: one answer that is slow does not hold up all
_Waiting = defaultdict[str, list[asyncio.Future[bool]]]


class Gathered:
    """
    Gathers the numbers asked about while calls run, up to `at_once` for the next call; the first goes at once.

    Each caller gets the answer, or the error, of a call that began after it asked; no answer is kept.
    """

    def __init__(self, ask: Ask, *, at_once: int) -> None:
        self._ask = ask
        self._at_once = at_once
        self._waiting: _Waiting = defaultdict(list)
        self._calls: set[asyncio.Task[None]] = set()

    async def holds(self, number: str) -> bool:
        """
        Tell whether the answer for this number is yes.

        Raises:
            Refused: this number is not taken.
            DeliveryError: what the call raised.
        """
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[number].append(answer)
        if len(self._calls) < _CALLS:
            call = asyncio.create_task(self._call())
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
        return await answer

    async def close(self) -> None:
        """Break off the calls that run, and with them whoever still waits."""
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        _break_off(self._waiting)

    async def _call(self) -> None:
        while self._waiting:
            asked = {number: self._waiting.pop(number) for number in list(self._waiting)[: self._at_once]}
            try:
                await self._answer(asked)
            finally:
                _break_off(asked)

    async def _answer(self, asked: dict[str, list[asyncio.Future[bool]]]) -> None:
        try:
            found = await self._ask(list(asked))
        except Refused as refused:
            if len(asked) == 1:
                _settle(asked, refused)
                return
            # It was not told which of them is not taken; the others must not suffer from it.
            for number, answers in asked.items():
                await self._answer({number: answers})
        except Exception as error:  # noqa: BLE001 -- whatever it is, it belongs to those who wait for this call
            _settle(asked, error)
        else:
            _settle(asked, found)


def _break_off(asked: dict[str, list[asyncio.Future[bool]]]) -> None:
    for answers in asked.values():
        for answer in answers:
            answer.cancel()  # without effect on one that was given


def _settle(asked: dict[str, list[asyncio.Future[bool]]], found: Collection[str] | Exception) -> None:
    for number, answers in asked.items():
        for answer in answers:
            if answer.done():  # its caller waits no more
                continue
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(number in found)
