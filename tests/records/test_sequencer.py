"""The sequencer: numbers what is committed, forgets what is older than its time, and lives through trouble."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from gateway.domain.ids import EnterpriseNumber, MessageId
from gateway.errors import StoreUnavailable
from gateway.records.sequencer import Sequencer, SequencerSettings
from gateway.stores.model import FeedPage, Log, LogEntry
from gateway.stores.sqlite.ledger import SqliteLedger

START = datetime(2026, 11, 22, 10, tzinfo=UTC)
SENDER = EnterpriseNumber("0406798006")
WAIT_S = 20.0
AT_ONCE = SequencerSettings(every_s=0.001)


@dataclass
class Clock:
    now: datetime = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def ledger(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteLedger]:
    opened = await SqliteLedger.open(tmp_path / "ledger.sqlite", clock=clock)
    yield opened
    await opened.close()


def entries(count: int) -> list[LogEntry]:
    return [
        LogEntry(
            entry_id=uuid4(),
            log=Log.TRAFFIC,
            at=START,
            event="accepted",
            sender=SENDER,
            profile="burgerzaken",
            message_id=MessageId(uuid4()),
            entry=b'{"what":{}}',
            leaf_sha256=bytes(32),
        )
        for _ in range(count)
    ]


async def feed(ledger: Any) -> FeedPage:
    page: FeedPage = await ledger.events(SENDER, None, after_number=0, limit=500)
    return page


async def until(ledger: SqliteLedger, *, last: int = 0, removed: int = 0) -> FeedPage:
    """Return the feed once it was numbered and forgotten so far."""
    async with asyncio.timeout(WAIT_S):
        while True:
            page = await feed(ledger)
            if page.last_number >= last and page.removed_through >= removed:
                return page
            await asyncio.sleep(0.005)  # the ledger sets no event when something is committed


async def test_what_is_committed_while_it_runs_gets_a_number(ledger: SqliteLedger, clock: Clock) -> None:
    sequencer = Sequencer(AT_ONCE, ledger, clock)
    running = asyncio.create_task(sequencer.run())
    for total in (3, 6):
        await ledger.append(entries(3))
        page = await until(ledger, last=total)
        assert [event.number for event in page.events] == list(range(1, total + 1))
    sequencer.stop()
    await running


async def test_one_round_numbers_more_than_one_batch(ledger: SqliteLedger, clock: Clock) -> None:
    await ledger.append(entries(2_345))
    await Sequencer(AT_ONCE, ledger, clock).number()
    assert (await feed(ledger)).last_number == 2_345


async def test_events_stay_for_400_days_after_they_appeared(ledger: SqliteLedger, clock: Clock) -> None:
    sequencer = Sequencer(SequencerSettings(), ledger, clock)
    await ledger.append(entries(1_500))
    await sequencer.number()
    clock.now = START + timedelta(days=400)
    await ledger.append(entries(1))
    await sequencer.number()
    await sequencer.forget()
    assert (await feed(ledger)).removed_through == 0
    clock.now += timedelta(seconds=1)
    await sequencer.forget()
    page = await feed(ledger)
    assert (page.removed_through, [event.number for event in page.events]) == (1_500, [1_501])


async def test_it_looks_for_old_events_when_it_starts_and_then_every_hour(ledger: SqliteLedger, clock: Clock) -> None:
    await ledger.append(entries(1))
    await Sequencer(AT_ONCE, ledger, clock).number()
    clock.now += timedelta(days=401)
    sequencer = Sequencer(AT_ONCE, ledger, clock)
    running = asyncio.create_task(sequencer.run())
    await until(ledger, removed=1)
    await ledger.append(entries(1))
    await until(ledger, last=2)
    clock.now += timedelta(days=401)
    await until(ledger, removed=2)
    sequencer.stop()
    await running


async def test_it_goes_on_when_the_ledger_was_away(ledger: SqliteLedger, clock: Clock) -> None:
    class Flaky:
        failures = 3

        def __getattr__(self, name: str) -> Any:
            return getattr(ledger, name)

        async def number_events(self, *, at: datetime, limit: int) -> int:
            if self.failures:
                self.failures -= 1
                raise StoreUnavailable("the disk is full")
            return await ledger.number_events(at=at, limit=limit)

    flaky: Any = Flaky()
    await ledger.append(entries(2))
    sequencer = Sequencer(AT_ONCE, flaky, clock)
    running = asyncio.create_task(sequencer.run())
    await until(ledger, last=2)
    assert flaky.failures == 0
    sequencer.stop()
    await running


async def test_stop_ends_a_pause(ledger: SqliteLedger, clock: Clock) -> None:
    sequencer = Sequencer(SequencerSettings(every_s=3_600), ledger, clock)
    running = asyncio.create_task(sequencer.run())
    await ledger.append(entries(1))
    sequencer.stop()
    async with asyncio.timeout(WAIT_S):
        await running
