"""One question of yes or no about many numbers, asked for those who wait at the same time with one call."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, cast

from gateway.errors import Refused, Unreachable

Ask = Callable[[Sequence[str]], Awaitable[Mapping[str, bool]]]
"""Returns the answer for each of these numbers that it knows. Raises `Refused` when one of them is not taken."""

_CALLS: Final = 2  # at the same time: one answer that is slow does not hold up all
_Askers = dict[str, list[asyncio.Future[bool]]]  # who waits for the answer about each number


class Gathered:
    """
    Gathers the numbers asked about while calls run, up to `at_once` for the next call; the first goes at once.

    Each caller gets the answer, or the error, of a call that began after it asked; no answer is kept. What an answer
    about many leaves open is asked alone, and only then, when it still is not told, taken for a no. A call belongs to
    none of those who wait for it and goes on when they are gone, for `longest_s` seconds at most.
    """

    def __init__(self, ask: Ask, *, at_once: int, longest_s: float) -> None:
        self._ask = ask
        self._at_once = at_once
        self._longest_s = longest_s
        self._waiting: defaultdict[str, list[asyncio.Future[bool]]] = defaultdict(list)
        self._calls: set[asyncio.Task[None]] = set()

    async def holds(self, number: str) -> bool:
        """
        Tell whether the answer for this number is yes.

        Raises:
            Refused: this number is not taken.
            Unreachable: no answer in time.
            DeliveryError: what the call raised.
        """
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[number].append(answer)
        if len(self._calls) < _CALLS:
            self._calls.add(asyncio.create_task(self._call()))
        return await answer

    async def close(self) -> None:
        """Break off the calls that run, and with them whoever still waits."""
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        _break_off(self._waiting)

    async def _call(self) -> None:
        try:
            while asked := self._next():
                try:
                    await self._answer(asked)
                finally:
                    _break_off(asked)
        finally:
            # In the same step in which nobody waited any more: whoever asks next begins a call.
            self._calls.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    def _next(self) -> _Askers:
        """Take out who goes with the next call; about a number for which nobody waits any more, nobody is asked."""
        for number in [number for number, answers in self._waiting.items() if all(each.done() for each in answers)]:
            del self._waiting[number]
        return {number: self._waiting.pop(number) for number in list(self._waiting)[: self._at_once]}

    async def _answer(self, asked: _Askers) -> None:
        try:
            async with asyncio.timeout(self._longest_s):
                found = await self._ask(list(asked))
        except TimeoutError:
            _fail(asked, Unreachable("no answer in time"))
        except Refused as refused:
            if len(asked) == 1:
                _fail(asked, refused)
            else:  # it was not told which of them is not taken; the others must not suffer from it
                await self._answer_one_by_one(asked)
        except Exception as error:  # noqa: BLE001 -- whatever it is, it belongs to those who wait for this call
            _fail(asked, error)
        else:
            told = asked if len(asked) == 1 else {number: asked[number] for number in asked.keys() & found.keys()}
            for number, answers in told.items():
                for answer in answers:
                    if not answer.done():  # else its caller waits no more
                        answer.set_result(found.get(number, False))
            await self._answer_one_by_one({number: asked[number] for number in asked.keys() - told.keys()})

    async def _answer_one_by_one(self, asked: _Askers) -> None:
        for number, answers in asked.items():
            await self._answer({number: answers})


def _fail(asked: _Askers, error: Exception) -> None:
    for answers in asked.values():
        for answer in answers:
            if not answer.done():
                answer.set_exception(error)


def _break_off(asked: _Askers) -> None:
    for answers in asked.values():
        for answer in answers:
            answer.cancel()  # without effect on one that was given
