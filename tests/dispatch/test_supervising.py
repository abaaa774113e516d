"""A part that dies is started again, and nobody can overlook it meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from gateway.dispatch.worker import Workers
from gateway.supervising import PartDown, RestartRules, Supervisor
from gateway.telemetry import Metrics

LIMIT_S = 20.0


@dataclass
class Part:
    """Runs until it is told to stop, or to die of `death`."""

    runs: "asyncio.Queue[int]" = field(default_factory=asyncio.Queue)
    number: int = 0
    death: BaseException | None = None
    wanted: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        self.number += 1
        self.runs.put_nowait(self.number)
        await self.wanted.wait()
        self.wanted.clear()
        if self.death is not None:
            raise self.death

    def die(self, death: BaseException) -> None:
        self.death = death
        self.wanted.set()

    def stop(self) -> None:
        self.death = None
        self.wanted.set()

    async def begun(self, number: int) -> None:
        async with asyncio.timeout(LIMIT_S):
            assert await self.runs.get() == number


@dataclass
class Bench:
    part: Part
    supervisor: Supervisor
    metrics: Metrics
    finish: Callable[[], Awaitable[None]]
    now_s: float = 0.0

    def figure(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, {"part": "sweeper"})


@pytest.fixture
async def make_bench_of_parts() -> AsyncIterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**rules: Any) -> Bench:
        part, metrics = Part(), Metrics()
        usual = RestartRules(**{"first_pause_s": 0.001, "longest_pause_s": 0.004, "steady_s": 10.0, **rules})
        supervisor = Supervisor(metrics, usual, monotonic_s=lambda: made[0].now_s)
        finish = supervisor.run_beside("sweeper", part.run, part.stop)
        made.append(Bench(part, supervisor, metrics, finish))
        return made[0]

    yield make
    for bench in made:
        async with asyncio.timeout(LIMIT_S):
            await bench.finish()


async def test_a_part_that_runs_is_well_and_stops_when_told(make_bench_of_parts: Any) -> None:
    bench = make_bench_of_parts()
    await bench.part.begun(1)
    await bench.supervisor.check()
    assert (bench.figure("gateway_part_running_ratio"), bench.figure("gateway_part_deaths_total")) == (1, 0)
    await bench.finish()
    await bench.supervisor.check()
    assert bench.part.runs.empty()


@pytest.mark.parametrize("death", [ZeroDivisionError("no names here"), asyncio.CancelledError()])
async def test_a_part_that_dies_runs_again_and_is_not_well_until_it_has_for_a_while(
    make_bench_of_parts: Any, caplog: Any, death: BaseException
) -> None:
    bench = make_bench_of_parts()
    await bench.part.begun(1)
    bench.now_s = 100.0
    bench.part.die(death)
    await bench.part.begun(2)
    with pytest.raises(PartDown, match="sweeper"):
        await bench.supervisor.check()
    assert (bench.figure("gateway_part_running_ratio"), bench.figure("gateway_part_deaths_total")) == (0, 1)
    bench.now_s = 110.0
    await bench.supervisor.check()
    assert (bench.figure("gateway_part_running_ratio"), bench.figure("gateway_part_deaths_total")) == (1, 1)
    (told,) = [entry for entry in caplog.records if entry.message == "a part of the gateway died"]
    assert (told.part, told.error, told.levelname) == ("sweeper", type(death).__name__, "CRITICAL")
    assert "no names here" not in caplog.text


async def test_the_pauses_double_up_to_the_longest_and_begin_anew_after_a_steady_run(
    make_bench_of_parts: Any, caplog: Any
) -> None:
    bench = make_bench_of_parts()
    for number in range(1, 6):
        await bench.part.begun(number)
        if number == 5:
            bench.now_s += 10.0
        bench.part.die(ZeroDivisionError())
    await bench.part.begun(6)
    pauses_s = [entry.restart_after_s for entry in caplog.records if entry.message == "a part of the gateway died"]
    assert pauses_s == [0.001, 0.002, 0.004, 0.004, 0.001]


async def test_a_part_that_is_dead_when_the_gateway_stops_is_not_waited_for(make_bench_of_parts: Any) -> None:
    bench = make_bench_of_parts(first_pause_s=3_600.0, longest_pause_s=3_600.0)
    await bench.part.begun(1)
    bench.part.die(ZeroDivisionError())
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # it was woken, and has died
    with pytest.raises(PartDown):
        await bench.supervisor.check()
    async with asyncio.timeout(LIMIT_S):
        await bench.finish()
    assert bench.part.runs.empty()


async def test_a_part_whose_task_is_cancelled_is_not_started_again(make_bench_of_parts: Any) -> None:
    bench = make_bench_of_parts()
    await bench.part.begun(1)
    (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "sweeper"]
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert bench.part.runs.empty()


# in a running gateway


async def health(house: Any) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{house.ops_url}/health/ready") as response:
        return response.status, await response.json()


async def test_workers_that_die_come_back_and_deliver_and_the_gateway_is_not_ready_meanwhile(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims, died = Workers._claim, asyncio.Event()

    async def dies(_workers: Workers) -> Any:
        monkeypatch.setattr(Workers, "_claim", claims)
        died.set()
        raise ZeroDivisionError

    assert (await health(bench.house))[0] == 200
    monkeypatch.setattr(Workers, "_claim", dies)
    message_id = await bench.send(channels=("ebox-citizen",))
    async with asyncio.timeout(LIMIT_S):
        await died.wait()
    assert (await bench.settled(message_id)).status == "delivered"
    status, told = await health(bench.house)
    assert (status, told["checks"]["parts"]) == (503, "failed")
    assert await bench.metric("gateway_part_deaths_total", part="workers") == 1
    assert await bench.metric("gateway_part_running_ratio", part="workers") == 0
    assert await bench.metric("gateway_part_running_ratio", part="sequencer") == 1
