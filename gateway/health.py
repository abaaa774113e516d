"""
What the gateway watches while it runs, and what it leaves undone while something is wrong.

Each second it looks at its clock, at the disks of its stores and at its ledger:

| wrong | new messages | provider calls | the rest |
|---|---|---|---|
| the machine's clock jumped, or the ledger's is off | no | no | goes on |
| the ledger does not commit | no | no | fails by itself |
| a disk is nearly full, read-only or away | no | yes | goes on: deliveries and erasures make room |

Everything resumes by itself with the first look that finds it well again. The clock's turns go into the admin log, as
soon as the ledger takes them.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from gateway.admin.bounded import Bounded
from gateway.admin.readiness import Check
from gateway.clock import ClockChange, SteadyClock, Turn
from gateway.crypto.values import format_instant
from gateway.errors import GatewayError
from gateway.records.logs import LogBook, Subject
from gateway.stores.ledger import Ledger
from gateway.stores.model import Log, LogEntry
from gateway.telemetry import Metrics

_log: Final = logging.getLogger(__name__)
CLOCK: Final = "clock"
LEDGER: Final = "ledger"
_LEDGER_SKEW_S: Final = 5.0


class Unhealthy(GatewayError):
    """Something that the gateway needs is not as it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSettings:
    """
    How often is looked, in seconds, and how long a look may take; `keep_free_bytes` must stay free on each disk.

    The ledger is asked for its time at each look, and commits something every `commit_every_s`, or at each look while
    it is ill.
    """

    keep_free_bytes: int
    every_s: float = 1.0
    commit_every_s: float = 5.0
    limit_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthDeps:
    """What is watched: `disks` are folders by what they hold; `steady` is the clock where it is one that can jump."""

    ledger: Ledger
    logbook: LogBook
    metrics: Metrics
    clock: Callable[[], datetime]
    steady: SteadyClock | None
    disks: Mapping[str, Path]
    monotonic: Callable[[], float] = time.monotonic


class Health:
    """Looks after clock, disks and ledger; give `no_new_message` to the intake and `no_new_call` to the workers."""

    def __init__(self, settings: HealthSettings, deps: HealthDeps) -> None:
        self._settings = settings
        self._deps = deps
        self._wrong: dict[str, str] = {}  # what is wrong now, in words, by the name of its check
        self._ledger_clock: str | None = None
        self._changes: deque[ClockChange] = deque()
        self._commit_due_at_s = float("-inf")
        self._ask = Bounded(self._ask_ledger, settings.limit_s)
        self._disk_looks = {what: Bounded(partial(self._measure, what), settings.limit_s) for what in deps.disks}
        self._threads = ThreadPoolExecutor(max_workers=len(deps.disks) or 1, thread_name_prefix="disks")
        self._asked: dict[str, asyncio.Future[os.statvfs_result]] = {}
        self._stop_wanted = asyncio.Event()
        for name in (CLOCK, LEDGER, *map(_disk, deps.disks)):
            deps.metrics.closed.labels(because=name)
        if deps.steady is not None:
            deps.steady.on_change = self._changed

    # ── What it says ──

    def no_new_message(self) -> str | None:
        """Return why no new message can be taken over now, in words for its sender, or None."""
        self._look_at_time()
        return next(iter(self._wrong.values()), None)

    def no_new_call(self) -> str | None:
        """Return why no provider may be called now, or None."""
        self._look_at_time()
        return self._wrong.get(CLOCK) or self._wrong.get(LEDGER)

    def checks(self) -> dict[str, Check]:
        """Return the checks for readiness: it is ready when nothing is left undone any more."""
        return {name: partial(self._check, name) for name in (CLOCK, LEDGER, *map(_disk, self._deps.disks))}

    async def _check(self, name: str) -> None:
        self._look_at_time()
        if (wrong := self._wrong.get(name)) is not None:
            raise Unhealthy(wrong)

    # ── Looking ──

    async def run(self) -> None:
        """Look until `stop` is called."""
        await asyncio.gather(*(self._again_and_again(look) for look in self._looks()))
        await asyncio.gather(self._ask.close(), *(look.close() for look in self._disk_looks.values()))
        self._threads.shutdown(wait=False)

    def stop(self) -> None:
        """Make `run` return after the looks at hand."""
        self._stop_wanted.set()

    async def look(self) -> None:
        """Look at everything once."""
        await asyncio.gather(*(look() for look in self._looks()))

    def _looks(self) -> list[Callable[[], Awaitable[None]]]:
        """Return what is looked at, each apart, so that a dead disk hides no leap of the clock."""
        disks = [partial(self._look_at_disk, what) for what in self._deps.disks]
        return [self._look_at_clock, self._look_at_ledger, *disks]

    async def _again_and_again(self, look: Callable[[], Awaitable[None]]) -> None:
        while not self._stop_wanted.is_set():
            await look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.every_s):
                    await self._stop_wanted.wait()

    # ── The clock ──

    async def _look_at_clock(self) -> None:
        self._look_at_time()
        if self._deps.steady is not None:
            self._deps.metrics.clock_skew.labels(clock="machine").set(self._deps.steady.skew_s)

    def _look_at_time(self) -> None:
        jumped = self._deps.steady.distrust() if self._deps.steady is not None else None
        self._note(CLOCK, jumped or self._ledger_clock)

    def _changed(self, change: ClockChange) -> None:
        self._changes.append(change)
        if change.turn is Turn.JUMPED:
            self._deps.metrics.clock_jumps.inc()
        level = logging.WARNING if change.turn is Turn.JUMPED else logging.INFO
        _log.log(level, "clock changed", extra={"turn": change.turn, "skew_seconds": round(change.skew_s, 3)})

    def _entry(self, change: ClockChange) -> LogEntry:
        return self._deps.logbook.entry(
            Log.ADMIN,
            f"clock-{change.turn}",
            who={"gateway": self._deps.logbook.gateway},
            what={"held": format_instant(change.held), "machine": format_instant(change.wall)},
            result="not-trusted" if change.turn is Turn.JUMPED else "trusted",
            subject=Subject(),
            at=change.held,
        )

    # ── The ledger ──

    async def _look_at_ledger(self) -> None:
        try:
            await self._ask.run()
        except Exception as error:  # noqa: BLE001 -- whatever it raises, the ledger does not do what it is for
            self._note(LEDGER, "the gateway's ledger cannot be written now", cause=_cause(error))
        else:
            self._note(LEDGER, None)

    async def _ask_ledger(self) -> None:
        deps = self._deps
        before = deps.clock()
        theirs = await deps.ledger.now()
        after = deps.clock()
        skew_s = (theirs - max(before, min(theirs, after))).total_seconds()
        deps.metrics.clock_skew.labels(clock="ledger").set(skew_s)
        off = abs(skew_s) > _LEDGER_SKEW_S
        self._ledger_clock = f"the ledger's clock is {skew_s:+.0f} s from the gateway's" if off else None
        if LEDGER in self._wrong or deps.monotonic() >= self._commit_due_at_s:
            await deps.ledger.heartbeat(after)
            self._commit_due_at_s = deps.monotonic() + self._settings.commit_every_s
        while self._changes:
            await deps.ledger.append([self._entry(self._changes[0])])
            self._changes.popleft()

    # ── The disks ──

    async def _look_at_disk(self, what: str) -> None:
        try:
            await self._disk_looks[what].run()
        except Unhealthy as error:
            self._note(_disk(what), str(error))
        except Exception as error:  # noqa: BLE001 -- nothing is taken over onto a disk that cannot even be looked at
            self._note(_disk(what), f"the disk of the gateway's {what} does not answer", cause=_cause(error))
        else:
            self._note(_disk(what), None)

    async def _measure(self, what: str) -> None:
        asked = self._asked.get(what)
        if asked is None or asked.done():  # one that hangs is waited for again, or threads would gather behind it
            asked = asyncio.get_running_loop().run_in_executor(self._threads, _stat, self._deps.disks[what])
            self._asked[what] = asked
        state = await asyncio.shield(asked)
        free_bytes = state.f_bavail * state.f_frsize
        self._deps.metrics.disk_free.labels(disk=what).set(free_bytes)
        if state.f_flag & os.ST_RDONLY:
            raise Unhealthy(f"the disk of the gateway's {what} is read-only")
        if free_bytes < self._settings.keep_free_bytes:
            raise Unhealthy(f"the disk of the gateway's {what} is nearly full")

    # ── What was found ──

    def _note(self, name: str, wrong: str | None, *, cause: str = "") -> None:
        """Keep what was found, and log a change, not every repetition."""
        if (name in self._wrong) != (wrong is not None):
            level = logging.INFO if wrong is None else logging.WARNING
            _log.log(level, "health changed", extra={"check": name, "wrong": wrong, "cause": cause})
        if wrong is None:
            self._wrong.pop(name, None)
        else:
            self._wrong[name] = wrong
        self._deps.metrics.closed.labels(because=name).set(wrong is not None)


def _disk(what: str) -> str:
    """Return the name of the check of a disk."""
    return f"disk-{what}"


def _stat(folder: Path) -> os.statvfs_result:
    """Look at the file system of a folder, which may not be made yet."""
    try:
        return os.statvfs(folder)
    except FileNotFoundError:
        return os.statvfs(folder.parent)


def _cause(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if isinstance(error, GatewayError) else type(error).__name__
