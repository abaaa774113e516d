"""
What the event loop of a gateway spends its time on while it accepts messages, by the profiler of the standard library.

A gateway runs under the profiler and takes messages; another one only starts, and what that took is taken off. So is
what the profiler itself costs with each call, as measured beside it with calls that do nothing; in a real program it
costs more, so modules of many small calls look dearer than they are. Functions that are not written in Python count for
the module that called them, and waiting for events counts not at all. Threads of the ledger are not seen.
"""

import asyncio
import os
import pstats
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping
from cProfile import Profile
from dataclasses import dataclass
from pathlib import Path
from time import thread_time
from typing import Any, Final

from gateway.demo.environment import ROOT
from load.bodies import BodySet
from load.generator import CONNECTIONS, HandOvers
from load.installation import Installation
from load.measuring import server_of, settle_on, shoot
from load.preparing import Order
from load.problems import CannotRun
from load.processes import Cores
from load.report import machine, machine_line, table
from load.workshop import Workshop

_LONGEST_S: Final = 600.0
_SHOWN: Final = 25
_CALLS: Final = 200_000
_BUILT_IN: Final = "~"  # the file of a function that is not written in Python
_WAITING: Final = "<method 'poll' of 'select.epoll' objects>"

Function = tuple[str, int, str]
Stats = Mapping[Function, Any]
"""As `pstats` has them: of each function its calls, its own seconds, and those of its callers."""


async def run(order: Order) -> int:
    """
    Measure, and print the table; return 0.

    Raises:
        CannotRun, DemoFailed: a part cannot start, or requests failed.
    """
    print(machine_line(await asyncio.to_thread(machine)), flush=True)
    cores = Cores.of(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="gateway-profile-") as name:
        workshop = Workshop(Path(name) / "work")
        sender = await asyncio.to_thread(workshop.set_up)
        with BodySet(await asyncio.to_thread(workshop.prepared, order)) as bodies:
            settle_on(cores)
            installation = Installation(Path(name) / "state", workshop.certs, sender, cores, ledger=None)
            async with installation:
                started = await _profiled(installation, "started", None)
                worked = await _profiled(installation, "worked", bodies)
    print()
    overhead = measure_overhead()
    print(_text(spent(worked, overhead) - spent(started, overhead), calls(worked) - calls(started), order.count))
    return 0


async def _profiled(installation: Installation, name: str, bodies: BodySet | None) -> Stats:
    member = await installation.start(name, "intake", profile=installation.state / f"{name}.profile")
    if bodies is not None:
        shot = await shoot(
            server_of([installation.target(name)], [member.pid]),
            HandOvers(bodies),
            connections=CONNECTIONS,
            numbers=iter(range(len(bodies))),
            longest_s=_LONGEST_S,
        )
        if shot.result.errors:
            raise CannotRun(f"{shot.result.errors} requests failed: {dict(shot.result.codes)}")
    await installation.stop(name)
    return await asyncio.to_thread(stats_of, str(installation.state / f"{name}.profile"))


def stats_of(profiled: Profile | str) -> Stats:
    """Return what a profiler saw, or a file of one."""
    found: Stats = pstats.Stats(profiled).stats  # type: ignore[attr-defined]  # its type lacks what its text documents
    return found


@dataclass(frozen=True, slots=True)
class Overhead:
    """What the profiler adds with each call, in seconds: to the function that is called, and to its caller."""

    called_s: float
    caller_s: float


def measure_overhead() -> Overhead:
    """Measure it with calls of a function that does nothing."""

    def nothing() -> None:
        pass

    def call() -> None:
        for _ in range(_CALLS):
            nothing()

    began_s = thread_time()
    call()
    without_s = thread_time() - began_s
    profiler = Profile(thread_time)
    profiler.runcall(call)
    own_s = {function[2]: found[2] for function, found in stats_of(profiler).items()}
    return Overhead(called_s=own_s["nothing"] / _CALLS, caller_s=max(own_s["call"] - without_s, 0.0) / _CALLS)


def spent(stats: Stats, overhead: Overhead) -> Counter[str]:
    """Return the nanoseconds that each module took by itself, and what it called that is not written in Python."""
    found: defaultdict[str, float] = defaultdict(float)
    for function, (_, count, own_s, _, callers) in stats.items():
        if function[2] == _WAITING:
            continue
        if function[0] != _BUILT_IN:
            found[_module(function)] += own_s - count * overhead.called_s
        for caller, (_, called, called_s, _) in callers.items():
            if function[0] == _BUILT_IN:
                found[_module(caller)] += called_s - called * overhead.called_s
            found[_module(caller)] -= called * overhead.caller_s
    return Counter({module: round(seconds * 1e9) for module, seconds in found.items()})


def calls(stats: Stats) -> Counter[str]:
    """Return how often functions of each module were called."""
    found: Counter[str] = Counter()
    for function, (_, count, *_) in stats.items():
        found[_module(function)] += count
    return found


def _module(function: Function) -> str:
    file = function[0]
    if file == _BUILT_IN:
        return "not written in Python"
    path = Path(file)
    if path.is_relative_to(ROOT) and "site-packages" not in path.parts:
        return str(path.relative_to(ROOT))
    for place in ("site-packages", f"python{sys.version_info.major}.{sys.version_info.minor}"):
        if place in path.parts:
            return Path(*path.parts[path.parts.index(place) + 1 :][:1]).stem
    return file


def _text(spent_ns: Counter[str], called: Counter[str], letters: int) -> str:
    whole_ns = spent_ns.total()
    rows = [
        (module, f"{nanoseconds / whole_ns:.1%}", f"{called[module] / letters:,.0f}")
        for module, nanoseconds in spent_ns.most_common(_SHOWN)
    ]
    rest_ns = whole_ns - sum(nanoseconds for _, nanoseconds in spent_ns.most_common(_SHOWN))
    rows.append(("everything else", f"{rest_ns / whole_ns:.1%}", ""))
    found = table(("module", "share", "calls each"), rows)
    return f"{called.total() / letters:,.0f} calls of functions for each message, by the event loop\n\n{found}"
