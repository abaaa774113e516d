"""The pool of workers on a real ledger, with work that does what the test says: places, leases, turns, stopping."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from gateway.adapters.limits import CallLimits, LimitedAdapter
from gateway.dispatch.worker import Workers, WorkerSettings
from gateway.errors import StoreUnavailable
from gateway.stores.model import Claim
from gateway.stores.sqlite.ledger import SqliteLedger

if TYPE_CHECKING:
    from tests.plugins.effort import add_deliveries
else:
    from effort import add_deliveries

LEASE = timedelta(milliseconds=30)  # renewed every 10 ms; the ledger's own clock stands still
LIMIT_S = 20.0


@dataclass
class Clock:
    now: datetime = datetime(2026, 11, 22, 10, tzinfo=UTC)


@dataclass
class Work:
    """What `deliver` is here: it begins, waits for `go`, and settles nothing."""

    begun: "asyncio.Queue[Claim]" = field(default_factory=asyncio.Queue)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    broken_off: "asyncio.Queue[Claim]" = field(default_factory=asyncio.Queue)

    async def deliver(self, claim: Claim, _deps: Any) -> str:
        self.begun.put_nowait(claim)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.broken_off.put_nowait(claim)
            raise
        return "done"


class PatientLedger(SqliteLedger):
    """Tells of each renewal and each claim; fails to renew as often as `ill` says."""

    ill = 0

    async def renew(self, claim: Claim, lease: timedelta) -> Claim:
        if self.ill > 0:
            self.ill -= 1
            raise StoreUnavailable("on purpose")
        renewed = await super().renew(claim, lease)
        self.renewals.put_nowait(renewed)
        return renewed

    async def claim(self, *args: Any, **named: Any) -> list[Claim]:
        claimed = await super().claim(*args, **named)
        self.claims += 1
        self.asked.set()
        return claimed

    def prepare(self) -> None:
        self.renewals: asyncio.Queue[Claim] = asyncio.Queue()
        self.asked = asyncio.Event()
        self.claims = 0

    async def fill(self, count: int, **columns: Any) -> None:
        # The helper commits by itself, so it works inside a savepoint of the writer's own transaction.
        await self._writer.run(lambda connection: add_deliveries(connection, count, **columns))

    async def somebody_takes(self, claim: Claim) -> None:
        await self._writer.run(
            lambda connection: connection.execute(
                "UPDATE delivery SET lease_token = lease_token + 1 WHERE delivery_id = ?",
                (claim.delivery.delivery_id.bytes,),
            ).fetchall()
        )


@dataclass
class Bench:
    ledger: PatientLedger
    clock: Clock
    work: Work
    start: Callable[..., Workers]
    outcomes: "asyncio.Queue[Claim]"
    tasks: list[asyncio.Task[None]]

    async def begun(self, count: int) -> list[Claim]:
        async with asyncio.timeout(LIMIT_S):
            return [await self.work.begun.get() for _ in range(count)]

    async def ended(self, workers: Workers) -> None:
        workers.stop()
        async with asyncio.timeout(LIMIT_S):
            await asyncio.gather(*self.tasks)

    async def claimable(self) -> list[Claim]:
        return await self.ledger.claim("somebody", lease=LEASE, limit=100, providers=["house-a", "bosa"])


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    clock = Clock()
    ledger = await PatientLedger.open(tmp_path / "store" / "ledger.sqlite", clock=lambda: clock.now)
    ledger.prepare()
    work = Work()
    monkeypatch.setattr("gateway.dispatch.worker.deliver", work.deliver)
    outcomes: asyncio.Queue[Claim] = asyncio.Queue()
    tasks: list[asyncio.Task[None]] = []

    def start(adapters: Mapping[str, Any], *, count: int = 4, **named: Any) -> Workers:
        deps: Any = SimpleNamespace(
            ledger=ledger, destinations={name: SimpleNamespace(adapter=adapter) for name, adapter in adapters.items()}
        )
        settings = WorkerSettings(name="w", count=count, lease=LEASE, poll_s=60.0)
        on_outcome = named.pop("on_outcome", lambda claim, _outcome: outcomes.put_nowait(claim))
        workers = Workers(settings, deps, on_outcome, **named)
        tasks.append(asyncio.create_task(workers.run()))
        return workers

    yield Bench(ledger, clock, work, start, outcomes, tasks)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await ledger.close()


def limited(**limits: Any) -> LimitedAdapter:
    adapter: Any = object()  # no call is made
    return LimitedAdapter(adapter, CallLimits(**limits))


# places


async def test_each_provider_has_as_many_places_as_it_takes_calls_at_once(bench: Bench) -> None:
    for provider in ("house-a", "bosa"):
        await bench.ledger.fill(10, provider=provider)
    bench.start({"house-a": limited(concurrent_calls=2), "bosa": limited(concurrent_calls=50)}, count=5)
    begun = await bench.begun(7)
    assert Counter(claim.delivery.provider for claim in begun) == {"house-a": 2, "bosa": 5}
    assert bench.work.begun.empty()
    left = Counter(claim.delivery.provider for claim in await bench.claimable())
    assert left == {"house-a": 8, "bosa": 5}  # what cannot be called yet is not claimed either


async def test_one_busy_provider_takes_no_place_from_another(bench: Bench) -> None:
    await bench.ledger.fill(3, provider="house-a")
    workers = bench.start({"house-a": limited(), "bosa": limited()}, count=4)
    assert len(await bench.begun(3)) == 3
    await bench.ledger.fill(10, provider="bosa")
    asked = bench.ledger.claims
    workers.wake()
    assert {claim.delivery.provider for claim in await bench.begun(4)} == {"bosa"}
    assert bench.ledger.claims <= asked + 3  # all four places at once, not one by one


async def test_while_no_provider_may_be_called_nothing_is_claimed(bench: Bench) -> None:
    why: list[str] = ["the clock jumped"]
    asked = asyncio.Event()

    def no_new_call() -> str | None:
        asked.set()
        return why[0] if why else None

    await bench.ledger.fill(1)
    workers = bench.start({"house-a": limited()}, no_new_call=no_new_call)
    await asyncio.wait_for(asked.wait(), LIMIT_S)
    assert bench.ledger.claims == 0
    why.clear()
    workers.wake()
    assert len(await bench.begun(1)) == 1


async def test_a_ledger_that_cannot_claim_is_asked_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    asked = asyncio.Event()

    async def claim(*_args: Any, **_named: Any) -> list[Claim]:
        asked.set()
        raise StoreUnavailable("on purpose")

    await bench.ledger.fill(1)
    with monkeypatch.context() as patch:
        patch.setattr(bench.ledger, "claim", claim)
        workers = bench.start({"house-a": limited()})
        await asyncio.wait_for(asked.wait(), LIMIT_S)
    workers.wake()
    assert len(await bench.begun(1)) == 1
    assert "cannot claim deliveries" in caplog.text


# leases


async def test_a_lease_is_kept_however_long_the_work_takes(bench: Bench) -> None:
    await bench.ledger.fill(1)
    workers = bench.start({"house-a": limited()})
    (claim,) = await bench.begun(1)
    for _ in range(3):
        bench.clock.now += LEASE / 2
        while (await bench.ledger.renewals.get()).lease_until < bench.clock.now + LEASE:
            pass
        assert await bench.claimable() == []
    bench.work.go.set()
    await bench.ended(workers)
    assert bench.outcomes.get_nowait() == claim
    assert bench.work.broken_off.empty()


async def test_work_whose_lease_was_lost_is_broken_off_and_its_outcome_forgotten(bench: Bench, caplog: Any) -> None:
    caplog.set_level("INFO", "gateway.dispatch.worker")
    await bench.ledger.fill(1)
    workers = bench.start({"house-a": limited()})
    (claim,) = await bench.begun(1)
    await bench.ledger.somebody_takes(claim)
    assert await asyncio.wait_for(bench.work.broken_off.get(), LIMIT_S) == claim
    await bench.ended(workers)
    assert "lease lost" in caplog.text
    assert bench.outcomes.empty()


async def test_a_renewal_that_fails_is_tried_again_and_breaks_nothing_off(bench: Bench, caplog: Any) -> None:
    await bench.ledger.fill(1)
    bench.ledger.ill = 2
    workers = bench.start({"house-a": limited()})
    await bench.begun(1)
    await asyncio.wait_for(bench.ledger.renewals.get(), LIMIT_S)
    bench.work.go.set()
    await bench.ended(workers)
    assert bench.outcomes.qsize() == 1
    assert caplog.text.count("lease not renewed") == 2


async def test_nothing_is_renewed_after_the_work(bench: Bench) -> None:
    await bench.ledger.fill(1)
    workers = bench.start({"house-a": limited()})
    await bench.begun(1)
    bench.work.go.set()
    await bench.ended(workers)
    assert bench.outcomes.qsize() == 1
    await asyncio.sleep(0)  # a task that was cancelled has ended
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("keep")]


# turns


async def test_a_lease_is_kept_while_a_delivery_waits_for_its_turn(bench: Bench) -> None:
    turn = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        await turn.wait()

    await bench.ledger.fill(1)
    adapter: Any = object()
    slow = LimitedAdapter(adapter, CallLimits(calls_per_s=0.01), sleep=sleep)
    workers = bench.start({"house-a": slow})
    await asyncio.wait_for(bench.ledger.renewals.get(), LIMIT_S)
    assert (slow.state.waiting, bench.work.begun.qsize()) == (1, 0)
    turn.set()
    bench.work.go.set()
    assert len(await bench.begun(1)) == 1
    await bench.ended(workers)


async def test_what_waits_for_its_turn_is_given_back_at_once_when_the_pool_stops(bench: Bench) -> None:
    waits, never = asyncio.Event(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        if seconds > 0:
            waits.set()
            await never.wait()

    await bench.ledger.fill(2)
    adapter: Any = object()
    slow = LimitedAdapter(adapter, CallLimits(calls_per_s=0.01), sleep=sleep)
    workers = bench.start({"house-a": slow})
    (first,) = await bench.begun(1)
    await asyncio.wait_for(waits.wait(), LIMIT_S)
    workers.stop()
    await asyncio.sleep(0)  # what waits is being ended
    workers.stop()  # twice does no harm
    bench.work.go.set()
    await bench.ended(workers)
    assert bench.outcomes.get_nowait() == first
    (found,) = await bench.claimable()
    assert found.delivery.delivery_id != first.delivery.delivery_id
    assert slow.state.waiting == 0


async def test_a_worker_that_dies_is_told_and_the_others_go_on(bench: Bench, caplog: Any) -> None:
    def on_outcome(_claim: Claim, _outcome: Any) -> None:
        raise ZeroDivisionError

    await bench.ledger.fill(1)
    workers = bench.start({"house-a": limited()}, count=1, on_outcome=on_outcome)
    bench.work.go.set()
    await bench.begun(1)
    await bench.ledger.fill(1)
    workers.wake()
    await bench.begun(1)
    await bench.ended(workers)
    assert caplog.text.count("a worker died") == 2
