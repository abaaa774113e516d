"""Claims are fair: lanes and senders take turns for each provider, whatever waits, whoever asks, however often."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.ids import EnterpriseNumber
from gateway.domain.message import Lane
from gateway.domain.status import NextAction
from gateway.stores.ledger import Ledger
from gateway.stores.model import Claim, NewMessage

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SENDERS = tuple(EnterpriseNumber(f"040000000{number}") for number in range(6))
ONE, TWO, THREE = SENDERS[:3]
FEW, MANY = 3, 30  # of each sender: with so many in all, a store may look for what is due in another way


@dataclass
class Queue:
    """A ledger with letters in it, and what was claimed from it, in order."""

    store: Any
    ledger: Ledger
    records: Any
    sender_of: dict[Any, EnterpriseNumber] = field(default_factory=dict)

    async def add(self, sender: EnterpriseNumber, count: int = 1, **delivery: Any) -> None:
        """Record letters, all due by now; the first is due the longest."""
        for number in range(count):
            due_at = self.store.now - HOUR + number * MINUTE / 60
            new = self.records.new(sender=sender, delivery={"due_at": due_at, **delivery})
            await self.keep(new)

    async def keep(self, new: NewMessage) -> None:
        self.sender_of[new.message.message_id] = new.message.sender
        assert await self.ledger.record(new) is None

    async def claim(self, limit: int, *providers: str, worker: str = "w1") -> list[Claim]:
        return await self.ledger.claim(worker, lease=10 * HOUR, limit=limit, providers=providers or ["house-a"])

    async def senders(self, limit: int, *providers: str) -> list[EnterpriseNumber]:
        return [self.sender_of[one.delivery.message_id] for one in await self.claim(limit, *providers)]

    async def lanes(self, limit: int) -> list[Lane]:
        return [one.delivery.lane for one in await self.claim(limit)]


@pytest.fixture
def queue(store: Any, ledger: Ledger, records: Any) -> Queue:
    return Queue(store, ledger, records)


# senders


@pytest.mark.parametrize("count", [FEW, MANY])
@pytest.mark.parametrize("limits", [(9,), (4, 5), (1,) * 9, (2, 1, 3, 1, 2)])
async def test_senders_take_turns_within_a_call_and_from_one_to_the_next(
    queue: Queue, count: int, limits: Sequence[int]
) -> None:
    for sender in (ONE, TWO, THREE):
        await queue.add(sender, count)
    served = [sender for limit in limits for sender in await queue.senders(limit)]
    assert served == [ONE, TWO, THREE] * 3


@pytest.mark.parametrize("count", [FEW, MANY])
async def test_a_sender_that_comes_later_waits_one_round_at_most(queue: Queue, count: int) -> None:
    await queue.add(TWO, count)
    await queue.add(THREE, count)
    assert await queue.senders(1) == [TWO]
    await queue.add(ONE)
    assert await queue.senders(3) == [THREE, ONE, TWO]


@pytest.mark.parametrize("count", [4, 100])
async def test_of_one_sender_the_longest_due_goes_first(queue: Queue, count: int) -> None:
    await queue.add(ONE, count)
    claimed = await queue.claim(count - 1) + await queue.claim(count)
    due = [one.delivery.due_at for one in claimed]
    assert len(due) == count
    assert due == sorted(due, key=lambda at: at or queue.store.now)


async def test_a_long_queue_of_one_sender_leaves_every_second_place_to_another(queue: Queue) -> None:
    await queue.add(ONE, 100)
    await queue.add(TWO, 4)
    served = [sender for _ in range(5) for sender in await queue.senders(2)]
    assert Counter(served[:8]) == {ONE: 4, TWO: 4}
    assert served[8:] == [ONE, ONE]


@pytest.mark.parametrize("count", [1, MANY])
async def test_senders_with_nothing_due_now_are_passed_over(queue: Queue, count: int) -> None:
    await queue.add(ONE, count, due_at=queue.store.now + HOUR)
    await queue.add(TWO, 2 * MANY + 10)
    await queue.add(THREE, count, next_action=NextAction.DECIDE)
    assert await queue.senders(3) == [TWO, TWO, TWO]


@pytest.mark.parametrize("count", [1, MANY])
async def test_what_is_leased_is_passed_over(queue: Queue, count: int) -> None:
    for sender in (ONE, TWO, THREE):
        await queue.add(sender, count)
    first = await queue.claim(2)
    second = await queue.claim(3 * count)
    assert len(second) == 3 * count - 2
    assert not {one.delivery.delivery_id for one in first} & {one.delivery.delivery_id for one in second}
    assert await queue.claim(5) == []


async def test_a_letters_next_channel_counts_for_the_same_sender(queue: Queue) -> None:
    new = queue.records.new(sender=TWO)
    await queue.keep(new)
    (claimed,) = await queue.claim(1)
    following = queue.records.delivery(new.message.message_id, number=2, provider="bosa")
    change = queue.records.change(status=claimed.delivery.status, next_action=NextAction.NONE, due_at=None)
    await queue.ledger.settle(claimed, queue.records.settlement(change, next_delivery=following))
    await queue.add(ONE, provider="bosa")
    await queue.add(THREE, 2, provider="bosa")
    assert await queue.senders(4, "bosa") == [ONE, TWO, THREE, THREE]


# lanes


async def test_single_letters_go_before_bulk_as_long_as_they_are_few(queue: Queue) -> None:
    await queue.add(ONE, 5, lane=Lane.BULK)
    await queue.add(ONE, 5)
    assert await queue.lanes(3) == [Lane.SINGLE] * 3
    assert await queue.lanes(4) == [Lane.SINGLE, Lane.SINGLE, Lane.BULK, Lane.BULK]


@pytest.mark.parametrize("limits", [(24,), (1,) * 24, (5, 5, 5, 9)])
async def test_bulk_keeps_one_place_in_eight_while_single_is_never_empty(queue: Queue, limits: Sequence[int]) -> None:
    await queue.add(ONE, 100, lane=Lane.BULK)
    await queue.add(TWO, 40)
    lanes = [lane for limit in limits for lane in await queue.lanes(limit)]
    assert lanes == ([Lane.SINGLE] * 7 + [Lane.BULK]) * 3


async def test_bulk_that_comes_after_many_single_letters_has_the_next_place_and_no_more(queue: Queue) -> None:
    await queue.add(ONE, 30)
    assert await queue.lanes(20) == [Lane.SINGLE] * 20
    await queue.add(TWO, 3, lane=Lane.BULK)
    assert await queue.lanes(3) == [Lane.BULK, Lane.SINGLE, Lane.SINGLE]


async def test_senders_take_turns_in_bulk_on_their_own(queue: Queue) -> None:
    for sender in (ONE, TWO):
        await queue.add(sender, 3, lane=Lane.BULK)
    await queue.add(ONE, 1)
    assert await queue.senders(1) == [ONE]
    assert await queue.senders(2) == [ONE, TWO]  # the turn in the other lane counts for nothing here
    assert await queue.senders(3) == [ONE, TWO, ONE]


# providers


async def test_each_provider_has_places_and_turns_of_its_own(queue: Queue) -> None:
    for sender in (ONE, TWO):
        await queue.add(sender, 20, provider="bosa")
    assert await queue.senders(1, "bosa") == [ONE]
    await queue.add(TWO)
    await queue.add(ONE)
    claimed = await queue.claim(2, "house-a", "bosa")
    assert Counter(one.delivery.provider for one in claimed) == {"house-a": 2, "bosa": 2}
    served: defaultdict[str, list[EnterpriseNumber]] = defaultdict(list)
    for one in claimed:
        served[one.delivery.provider].append(queue.sender_of[one.delivery.message_id])
    assert served == {"house-a": [ONE, TWO], "bosa": [TWO, ONE]}


async def test_a_provider_named_twice_has_its_places_once(queue: Queue) -> None:
    await queue.add(ONE, 5)
    assert len(await queue.claim(2, "house-a", "house-a")) == 2


# whatever happens


async def test_turns_hold_over_a_crash(queue: Queue) -> None:
    for sender in (ONE, TWO, THREE):
        await queue.add(sender, 4)
    assert await queue.senders(2) == [ONE, TWO]
    queue.ledger = await queue.store.crash()
    assert await queue.senders(2) == [THREE, ONE]


async def test_workers_that_ask_at_once_share_the_turns(queue: Queue) -> None:
    for sender in (ONE, TWO, THREE):
        await queue.add(sender, 10)
    batches = await asyncio.gather(*(queue.claim(2, worker=f"w{number}") for number in range(6)))
    claimed = [one for batch in batches for one in batch]
    assert len({one.delivery.delivery_id for one in claimed}) == len(claimed) == 12
    assert Counter(queue.sender_of[one.delivery.message_id] for one in claimed) == {ONE: 4, TWO: 4, THREE: 4}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(SENDERS), st.sampled_from(Lane), st.integers(1, 4)),
        st.tuples(st.just("claim"), st.integers(1, 6)),
    ),
    max_size=25,
)


@given(steps=STEPS, backlog=st.sampled_from([0, 140]))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_nobody_is_passed_over_twice_by_the_same_other(
    store: Any, ledger: Ledger, records: Any, steps: Sequence[tuple[Any, ...]], backlog: int
) -> None:
    queue = Queue(store, ledger, records)
    await drain(queue)
    waiting: Counter[tuple[Lane, EnterpriseNumber]] = Counter()
    overtaken: defaultdict[tuple[Lane, EnterpriseNumber], Counter[EnterpriseNumber]] = defaultdict(Counter)
    for lane in Lane:
        await queue.add(SENDERS[-1], backlog // 2, lane=lane)
        waiting[lane, SENDERS[-1]] += backlog // 2
    for step in steps:
        if step[0] == "add":
            _, sender, lane, count = step
            await queue.add(sender, count, lane=lane)
            waiting[lane, sender] += count
            continue
        claimed = await queue.claim(step[1])
        assert len(claimed) == min(step[1], waiting.total())
        for one in claimed:
            lane, sender = one.delivery.lane, queue.sender_of[one.delivery.message_id]
            waiting[lane, sender] -= 1
            overtaken.pop((lane, sender), None)
            for other in SENDERS:
                if waiting[lane, other] > 0 and other != sender:
                    overtaken[lane, other][sender] += 1
                    assert overtaken[lane, other][sender] <= 1
    await drain(queue)


async def drain(queue: Queue) -> None:
    """Take what another example left; its leases never end."""
    assert len(await queue.claim(10_000)) < 10_000
