"""What the gateway notices of its clock, its ledger and its disks, told apart, and what it then leaves undone."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from gateway.clock import SteadyClock
from gateway.errors import StoreUnavailable
from gateway.health import CLOCK, LEDGER, Health, HealthDeps, HealthSettings, Unhealthy
from gateway.records.logs import LogBook
from gateway.stores.model import LogEntry
from gateway.telemetry import Metrics
from tests.plugins.failing import WAIT_S, Machine, until


class FakeLedger:
    """A ledger of which the test says what goes wrong."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self.ahead = timedelta(0)
        self.error: Exception | None = None
        self.beats = 0
        self.entries: list[LogEntry] = []

    async def now(self) -> datetime:
        return self._clock() + self.ahead

    async def heartbeat(self, _at: datetime) -> None:
        self._fail()
        self.beats += 1

    async def append(self, entries: Sequence[LogEntry]) -> None:
        self._fail()
        self.entries += entries

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


class Watched:
    """Health with everything that it watches."""

    def __init__(self, folder: Path, machine: Machine) -> None:
        self.machine = machine
        self.clock = SteadyClock(settle_s=60, wall=machine.wall, monotonic=machine.monotonic)
        self.ledger = FakeLedger(self.clock)
        ledger: Any = self.ledger
        self.metrics = Metrics()
        vault: Any = None  # entries about nobody are not sealed
        logbook = LogBook(gateway="gateway.test", clock=self.clock, ids=uuid4, vault=vault, ledger=ledger)
        self.health = Health(
            HealthSettings(keep_free_bytes=0, every_s=0.01),
            HealthDeps(
                ledger=ledger,
                logbook=logbook,
                metrics=self.metrics,
                clock=self.clock,
                steady=self.clock,
                disks={"ledger": folder, "blobs": folder / "blobs"},
                monotonic=machine.monotonic,
            ),
        )

    def closed(self, because: str) -> float:
        value = self.metrics.registry.get_sample_value("gateway_intake_closed_ratio", {"because": because})
        assert value is not None
        return value


@pytest.fixture
async def watched(tmp_path: Path, machine: Machine) -> Watched:
    watched = Watched(tmp_path, machine)
    await watched.health.look()
    return watched


def assert_well(watched: Watched) -> None:
    assert (watched.health.no_new_message(), watched.health.no_new_call()) == (None, None)
    assert {watched.closed(name) for name in (CLOCK, LEDGER, "disk-ledger", "disk-blobs")} == {0.0}


async def test_when_all_is_well_nothing_is_held_back(watched: Watched) -> None:
    assert_well(watched)
    for check in watched.health.checks().values():
        await check()
    assert set(watched.health.checks()) == {CLOCK, LEDGER, "disk-ledger", "disk-blobs"}
    assert watched.metrics.registry.get_sample_value("gateway_disk_free_bytes", {"disk": "blobs"})


@pytest.mark.parametrize("seconds", [6, -6, 3_600])
async def test_a_ledger_with_another_time_is_not_worked_with(watched: Watched, seconds: int) -> None:
    watched.ledger.ahead = timedelta(seconds=seconds)
    await watched.health.look()
    for why in (watched.health.no_new_message(), watched.health.no_new_call()):
        assert why is not None
        assert f"the ledger's clock is {seconds:+d} s" in why
    with pytest.raises(Unhealthy, match="ledger's clock"):
        await watched.health.checks()[CLOCK]()
    assert watched.closed(CLOCK) == 1
    skew = watched.metrics.registry.get_sample_value("gateway_clock_skew_seconds", {"clock": "ledger"})
    assert skew == pytest.approx(seconds, abs=0.5)
    watched.ledger.ahead = timedelta(0)
    await watched.health.look()
    assert_well(watched)


async def test_a_ledger_that_is_a_little_off_is_fine(watched: Watched) -> None:
    watched.ledger.ahead = timedelta(seconds=3)
    await watched.health.look()
    assert_well(watched)


@pytest.mark.parametrize("error", [StoreUnavailable("full"), OSError("a mistake of ours")])
async def test_a_ledger_that_does_not_commit_is_asked_at_each_look_until_it_does(
    watched: Watched, error: Exception
) -> None:
    watched.machine.spare(10)
    watched.ledger.error = error
    await watched.health.look()
    assert (
        watched.health.no_new_message()
        == watched.health.no_new_call()
        == ("the gateway's ledger cannot be written now")
    )
    assert watched.closed(LEDGER) == 1
    watched.ledger.error = None
    await watched.health.look()
    assert_well(watched)


async def test_a_healthy_ledger_commits_only_now_and_then(watched: Watched) -> None:
    for _ in range(3):
        await watched.health.look()
    assert watched.ledger.beats == 1
    watched.machine.spare(6)
    await watched.health.look()
    assert watched.ledger.beats == 2


async def test_the_turns_of_the_clock_are_logged_once_the_ledger_takes_them(watched: Watched) -> None:
    watched.machine.spare(10)
    watched.ledger.error = StoreUnavailable("away")
    watched.machine.leap(timedelta(hours=1))
    await watched.health.look()
    watched.machine.leap(timedelta(hours=-1))
    await watched.health.look()
    assert watched.ledger.entries == []
    watched.ledger.error = None
    await watched.health.look()
    assert [(entry.event, entry.log) for entry in watched.ledger.entries] == [
        ("clock-jumped", "admin"),
        ("clock-undone", "admin"),
    ]
    await watched.health.look()
    assert len(watched.ledger.entries) == 2


async def test_a_clock_that_jumps_is_noticed_before_anybody_looks(watched: Watched) -> None:
    watched.machine.leap(timedelta(hours=-1))
    assert "jumped back by 3600 s" in str(watched.health.no_new_call())


async def test_a_disk_that_is_away_takes_nothing_over(tmp_path: Path, machine: Machine) -> None:
    watched = Watched(tmp_path / "not" / "mounted", machine)
    await watched.health.look()
    assert "does not answer" in str(watched.health.no_new_message())
    assert watched.health.no_new_call() is None


async def test_a_disk_that_hangs_is_told_and_asked_once_only(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "blobs").mkdir()
    answers, asked, real = threading.Event(), list[Path](), os.statvfs

    def statvfs(path: Path) -> Any:
        if path == tmp_path:
            asked.append(path)
            answers.wait()
        return real(path)

    monkeypatch.setattr(os, "statvfs", statvfs)
    watched.health._disk_looks["ledger"]._limit_s = 0.05
    for _ in range(4):
        await watched.health.look()
        assert "the disk of the gateway's ledger does not answer" in str(watched.health.no_new_message())
        assert watched.closed("disk-blobs") == 0
    assert len(asked) == 1
    answers.set()
    monkeypatch.undo()
    async with asyncio.timeout(WAIT_S):
        while watched.health.no_new_message() is not None:
            await watched.health.look()
    assert_well(watched)


@pytest.fixture
async def running(watched: Watched) -> AsyncIterator[Watched]:
    task = asyncio.create_task(watched.health.run())
    yield watched
    watched.health.stop()
    async with asyncio.timeout(WAIT_S):
        await task


async def test_it_looks_again_and_again_by_itself(running: Watched) -> None:
    running.machine.spare(10)
    running.ledger.error = StoreUnavailable("away")

    async def ill() -> bool:
        return running.closed(LEDGER) == 1

    async def well() -> bool:
        return running.closed(LEDGER) == 0

    await until(ill)
    running.ledger.error = None
    await until(well)


async def test_only_changes_are_logged(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    watched.machine.spare(10)
    for error in (StoreUnavailable("full"), StoreUnavailable("full"), None, None):
        watched.ledger.error = error
        await watched.health.look()
    told = [(record.levelname, record.__dict__["check"]) for record in caplog.records if record.msg == "health changed"]
    assert told == [("WARNING", LEDGER), ("INFO", LEDGER)]
