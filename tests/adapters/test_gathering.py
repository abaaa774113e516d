"""Questions about many numbers in one call, each caller with the answer that is its own."""

import asyncio
from collections.abc import Collection, Mapping, Sequence

import pytest

from gateway.adapters.gathering import Ask, Gathered
from gateway.domain.status import Reason
from gateway.errors import Refused, Unreachable


class Directory:
    """Knows who says yes; each call ends when it is told to. `bad` numbers are not taken, `silent` not answered."""

    def __init__(self, *yes: str, bad: Collection[str] = (), silent: Collection[str] = ()) -> None:
        self.yes, self.bad, self.silent = set(yes), set(bad), set(silent)
        self.calls: list[list[str]] = []
        self.running = self.most = 0
        self.open = asyncio.Event()
        self.trouble: Exception | None = None

    async def ask(self, numbers: Sequence[str]) -> Mapping[str, bool]:
        self.calls.append(list(numbers))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.open.wait()
        finally:
            self.running -= 1
        if self.trouble is not None:
            raise self.trouble
        if self.bad.intersection(numbers):
            raise Refused(Reason.REFUSED, "INVALID_INPUT")
        left_out = self.silent if len(numbers) > 1 else ()
        return {number: number in self.yes for number in numbers if number not in left_out}


def gathering(ask: Ask, *, at_once: int = 20, longest_s: float = 60.0) -> Gathered:
    return Gathered(ask, at_once=at_once, longest_s=longest_s)


async def asked(gathered: Gathered, *numbers: str) -> list[asyncio.Task[bool]]:
    tasks = [asyncio.create_task(gathered.holds(number)) for number in numbers]
    for _ in range(3):  # until each has put its question, and calls have begun
        await asyncio.sleep(0)
    return tasks


async def test_the_first_goes_at_once_and_those_who_wait_go_together() -> None:
    directory = Directory("1", "4", "6")
    gathered = gathering(directory.ask, at_once=3)
    tasks = [*await asked(gathered, "1"), *await asked(gathered, "2"), *await asked(gathered, "3", "4", "5", "6")]
    assert directory.calls == [["1"], ["2"]]
    directory.open.set()
    assert await asyncio.gather(*tasks) == [True, False, False, True, False, True]
    assert directory.calls == [["1"], ["2"], ["3", "4", "5"], ["6"]]
    assert directory.most == 2


@pytest.mark.parametrize("at_once", [1, 2, 20])
async def test_nobody_is_forgotten_who_asks_in_the_moment_in_which_calls_end(at_once: int) -> None:
    directory = Directory("1")
    directory.open.set()
    gathered = gathering(directory.ask, at_once=at_once)

    async def ask_again_and_again(number: str) -> list[bool]:
        return [await gathered.holds(number) for _ in range(20)]

    found = await asyncio.wait_for(asyncio.gather(*map(ask_again_and_again, "123")), 10)
    assert found == [[True] * 20, [False] * 20, [False] * 20]


async def test_an_answer_is_kept_for_nobody() -> None:
    directory = Directory("1")
    directory.open.set()
    gathered = gathering(directory.ask, at_once=20)
    assert await gathered.holds("1")
    directory.yes.clear()
    assert not await gathered.holds("1")


async def test_who_asks_while_a_call_about_the_same_number_runs_gets_a_later_answer() -> None:
    directory = Directory("1")
    gathered = gathering(directory.ask, at_once=20)
    tasks = [*await asked(gathered, "1", "1"), *await asked(gathered, "1"), *await asked(gathered, "1", "1")]
    assert directory.calls == [["1"], ["1"]]
    directory.open.set()
    assert await asyncio.gather(*tasks) == [True] * 5
    assert directory.calls == [["1"], ["1"], ["1"]]


async def test_a_number_that_is_not_taken_refuses_no_other() -> None:
    directory = Directory("2", "3", bad=["1"])
    gathered = gathering(directory.ask, at_once=20)
    first = await asked(gathered, "8", "9")
    tasks = await asked(gathered, "1", "2", "3")
    directory.open.set()
    assert await asyncio.gather(*first) == [False, False]
    refused, *others = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(refused, Refused)
    assert others == [True, True]
    assert directory.calls[-4:] == [["1", "2", "3"], ["1"], ["2"], ["3"]]


async def test_what_an_answer_about_many_leaves_open_is_asked_alone() -> None:
    directory = Directory("1", "2", silent=["2", "3"])
    gathered = gathering(directory.ask, at_once=20)
    first = await asked(gathered, "8", "9")
    tasks = await asked(gathered, "1", "2", "3")
    directory.open.set()
    assert await asyncio.gather(*first, *tasks) == [False, False, True, True, False]
    assert sorted(directory.calls[-2:]) == [["2"], ["3"]]
    assert directory.calls[:2] == [["8", "9"], ["1", "2", "3"]]
    assert len(directory.calls) == 4


async def test_what_is_not_told_even_alone_is_a_no() -> None:
    async def nothing(_: Sequence[str]) -> Mapping[str, bool]:
        return {}

    assert not await gathering(nothing).holds("1")


async def test_trouble_is_that_of_the_call_alone() -> None:
    directory = Directory("2")
    gathered = gathering(directory.ask, at_once=20)
    directory.trouble = Unreachable("no answer in time")
    directory.open.set()
    troubled = await asyncio.gather(*(gathered.holds(number) for number in "12"), return_exceptions=True)
    assert [type(each) for each in troubled] == [Unreachable, Unreachable]
    directory.trouble = None
    assert await gathered.holds("2")


async def test_calls_that_hang_hold_nobody_for_good() -> None:
    directory = Directory("1")
    gathered = gathering(directory.ask, longest_s=0.01)
    held = [*await asked(gathered, "1"), *await asked(gathered, "2"), *await asked(gathered, "3")]
    ended = await asyncio.wait_for(asyncio.gather(*held, return_exceptions=True), 10)
    assert [type(each) for each in ended] == [Unreachable] * 3
    directory.open.set()
    assert await gathered.holds("1")


async def test_one_who_waits_no_more_is_passed_over() -> None:
    directory = Directory("1", "2", "3", "8", "9")
    gathered = gathering(directory.ask, at_once=20)
    answered, gone = [*await asked(gathered, "8"), *await asked(gathered, "9")], await asked(gathered, "2")
    answered += await asked(gathered, "1", "3")
    gone[0].cancel()
    directory.open.set()
    assert await asyncio.gather(*answered) == [True] * 4
    assert directory.calls == [["8"], ["9"], ["1", "3"]]


async def test_one_who_leaves_while_its_call_runs_disturbs_nobody() -> None:
    directory = Directory("1", "2", "3")
    gathered = gathering(directory.ask, at_once=20)
    first, gone, last = await asked(gathered, "1", "2", "3")
    gone.cancel()
    directory.open.set()
    assert all(await asyncio.gather(first, last))
    assert directory.calls == [["1", "2", "3"]]


async def test_closing_breaks_off_what_runs_and_who_waits() -> None:
    directory = Directory("1")
    gathered = gathering(directory.ask, at_once=1)
    tasks = await asked(gathered, "1", "2", "3")
    await gathered.close()
    ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    assert all(isinstance(each, asyncio.CancelledError) for each in ended)
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
