"""How many items of batches are recorded at once: one of each batch, and a few spare ones of all together."""

import asyncio
from collections.abc import Callable

import pytest

from gateway.accept.recording import Recording, SparePlaces
from gateway.errors import StoreUnavailable


class Ledger:
    """Records what is begun when it is told to."""

    def __init__(self) -> None:
        self.under_way: list[asyncio.Event] = []
        self.most = 0

    async def record(self) -> None:
        told = asyncio.Event()
        self.under_way.append(told)
        self.most = max(self.most, len(self.under_way))
        await told.wait()
        self.under_way.remove(told)

    async def records_first(self) -> None:
        self.under_way[0].set()
        await until(lambda: True)


async def until(reached: Callable[[], bool]) -> None:
    """Let everything run that can; fail when it does not come to that."""
    for _ in range(20):
        await asyncio.sleep(0)
    assert reached()


async def begin_all(recording: Recording, ledger: Ledger, count: int) -> None:
    for _ in range(count):
        await recording.begin(ledger.record())
    await recording.end()


async def test_one_batch_has_one_and_all_spare_places() -> None:
    ledger = Ledger()
    batch = asyncio.create_task(begin_all(Recording(SparePlaces(3)), ledger, 6))
    await until(lambda: len(ledger.under_way) == 4)
    while not batch.done():
        await ledger.records_first()
    assert ledger.most == 4


async def test_many_batches_share_the_spare_places_and_none_is_left_without_one_of_its_own() -> None:
    ledger, spare = Ledger(), SparePlaces(3)
    batches = [asyncio.create_task(begin_all(Recording(spare), ledger, 6)) for _ in range(5)]
    await until(lambda: len(ledger.under_way) == 5 + 3)
    while not all(batch.done() for batch in batches):
        await ledger.records_first()
    assert ledger.most == 5 + 3
    assert [spare.take() for _ in range(4)] == [True, True, True, False]


async def test_a_batch_whose_next_item_is_slow_to_come_keeps_no_spare_place() -> None:
    ledger, spare = Ledger(), SparePlaces(1)
    recording = Recording(spare)
    await recording.begin(ledger.record())
    assert not spare.take()
    await until(lambda: len(ledger.under_way) == 1)
    await ledger.records_first()
    assert spare.take()


async def test_an_item_that_cannot_be_recorded_ends_its_batch_when_the_others_are_done() -> None:
    async def fail() -> None:
        raise StoreUnavailable("gone")

    ledger, spare = Ledger(), SparePlaces(2)
    recording = Recording(spare)
    await recording.begin(ledger.record())
    await recording.begin(fail())
    await until(lambda: len(ledger.under_way) == 1)
    with pytest.raises(StoreUnavailable, match="gone"):
        await recording.begin(ledger.record())
    ending = asyncio.create_task(recording.end())
    await until(lambda: len(ledger.under_way) == 2 and not ending.done())
    for told in ledger.under_way:
        told.set()
    await ending
    assert [spare.take() for _ in range(3)] == [True, True, False]
