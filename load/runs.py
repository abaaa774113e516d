"""The two runs against a goal: steps of rising rates, and a soak through acceptance and delivery."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any, Final

from load.bodies import BodySet
from load.chart import Panel, Series, draw
from load.figures import Latency, latency
from load.generator import HandOvers, Result, run
from load.installation import Installation
from load.measuring import Server, Shot, shoot
from load.processes import cpu_s, resident_bytes
from load.proving import GROWTH_LIMIT_BYTES, delivery_faults, growth_bytes
from load.schedule import arrivals

_SAMPLE_S: Final = 1.0
_STALLED_S: Final = 120.0
_KEEPS_UP: Final = 0.95
_MB: Final = 1e6
_RATES: Final = 50  # points of a line of rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a run must reach. `rate_per_s` None: any rate will do."""

    rate_per_s: float | None = None
    p99_ms: float = 1000.0
    error_share: float = 0.0


# ── Steps ──


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One rate that was tried, and what was wrong with it, if anything."""

    offered_per_s: float
    shot: Shot
    broke: str | None


def judge_step(offered_per_s: float, result: Result, taken: Latency, goal: Goal) -> str | None:
    """Return why a rate is too much, None when it is not."""
    asked = sum(result.codes.values())
    if result.errors > goal.error_share * asked:
        return f"{result.errors} errors"
    if taken.p99_ms > goal.p99_ms:
        return f"p99 {taken.p99_ms:.0f} ms"
    if result.rate_per_s < _KEEPS_UP * offered_per_s:
        return f"only {result.rate_per_s:.1f} per second"
    return None


async def climb(
    server: Server,
    bodies: BodySet,
    goal: Goal,
    *,
    first_per_s: float,
    factor: float,
    step_s: float,
    connections: int,
    told: Callable[[Step], None],
) -> list[Step]:
    """Raise the rate by `factor` until p99 or errors break, or the bodies are at an end; return the steps."""
    steps, numbers, used, rate = list[Step](), iter(range(len(bodies))), 0, first_per_s
    while used + (wanted := max(int(rate * step_s / bodies.messages_each), 1)) <= len(bodies):
        shot = await shoot(
            server,
            HandOvers(bodies),
            connections=connections,
            numbers=numbers,
            due_s=arrivals(rate / bodies.messages_each, wanted),
            longest_s=step_s * 3,
        )
        used += wanted
        step = Step(offered_per_s=rate, shot=shot, broke=judge_step(rate, shot.result, shot.latency, goal))
        steps.append(step)
        told(step)
        if step.broke is not None:
            break
        rate *= factor
    return steps


# ── Soak ──


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """How things stood at a moment of a soak."""

    at_s: float
    accepted: int
    delivered: int
    resident_bytes: int
    server_cpu_s: float


@dataclass(slots=True, kw_only=True)
class Soak:
    """
    What came of a soak over so many gateways; `samples` are of all together.

    `faults`: all that keeps it from having passed, in words.
    """

    result: Result
    samples: list[Sample]
    gateways: int = 1
    delivered: int = 0
    delivered_in_s: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def growth_bytes(self) -> float | None:
        """By how much the memory of one gateway grew with each message after warm-up; None: too few to tell."""
        return growth_bytes(
            ((each.accepted + each.delivered) / 2, each.resident_bytes / self.gateways) for each in self.samples
        )

    def as_json(self) -> dict[str, Any]:
        """Return everything that a report tells of it."""
        taken, accepted, last = latency(self.result.latencies_s), len(self.result.accepted), self.samples[-1]
        return {
            "accepted": accepted,
            "errors": self.result.errors,
            "codes": dict(sorted(self.result.codes.items())),
            "acceptsPerS": self.result.rate_per_s,
            "delivered": self.delivered,
            "deliveredPerS": self.delivered / self.delivered_in_s if self.delivered_in_s else 0.0,
            "deepestQueue": max(each.accepted - each.delivered for each in self.samples),
            **{name: value for name, value in asdict(taken).items() if name != "count"},
            "serverCpuMsPerMessage": last.server_cpu_s * 1000 / accepted if accepted else None,
            "residentBytes": {"first": self.samples[0].resident_bytes, "last": last.resident_bytes},
            "growthBytesPerMessage": self.growth_bytes,
            "growthLimitBytesPerMessage": GROWTH_LIMIT_BYTES,
            "generatorShareOfCore": self.result.own_share,
            "faults": self.faults,
            "samples": [asdict(each) for each in self.samples],
        }


@dataclass(slots=True)
class _Watch:
    """Looks once a second at what was accepted, delivered and used."""

    installation: Installation
    pids: tuple[int, ...]
    began_s: float
    began_cpu_s: float
    accepted: int = 0
    samples: list[Sample] = field(default_factory=list)

    async def look(self) -> Sample:
        sample = Sample(
            at_s=monotonic() - self.began_s,
            accepted=self.accepted,
            delivered=await self.installation.count_kept(),
            resident_bytes=resident_bytes(self.pids),
            server_cpu_s=cpu_s(self.pids) - self.began_cpu_s,
        )
        self.samples.append(sample)
        return sample

    async def look_always(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(_SAMPLE_S)

    def count(self, accepted: int) -> None:
        self.accepted += accepted


async def soak(
    installation: Installation,
    names: Sequence[str],
    bodies: BodySet,
    goal: Goal,
    *,
    connections: int,
    longest_s: float,
    rate_per_s: float | None = None,
) -> Soak:
    """Hand over every body once, at full speed or at a rate, and have them delivered; then stop all, and verify."""
    pids = tuple(installation.members[name].pid for name in names)
    watch = _Watch(installation, pids, monotonic(), cpu_s(pids))
    looking = asyncio.create_task(watch.look_always())
    try:
        result = await run(
            [installation.target(name) for name in names],
            HandOvers(bodies),
            connections=connections,
            numbers=iter(range(len(bodies))),
            due_s=arrivals(rate_per_s / bodies.messages_each, len(bodies)) if rate_per_s is not None else None,
            longest_s=longest_s,
            on_success=watch.count,
        )
        await _until_delivered(watch)
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
    last = await watch.look()
    done = Soak(
        result=result, samples=watch.samples, gateways=len(names), delivered=last.delivered, delivered_in_s=last.at_s
    )
    await installation.stop_gateway()
    done.faults += await _faults(installation, bodies, done, goal)
    return done


async def _until_delivered(watch: _Watch) -> None:
    """Wait until the providers have as many as were accepted, or none comes any more."""
    most, moved_s = -1, monotonic()
    while (delivered := await watch.installation.count_kept()) < watch.accepted:
        if delivered > most:
            most, moved_s = delivered, monotonic()
        if monotonic() - moved_s > _STALLED_S:
            return  # the proof tells what is missing
        await asyncio.sleep(_SAMPLE_S / 4)


async def _faults(installation: Installation, bodies: BodySet, done: Soak, goal: Goal) -> list[str]:
    result = done.result
    digests = [message.sha256 for message in bodies.messages]
    faults = delivery_faults([digests[number] for number in result.accepted], digests, await installation.kept())
    asked, taken = sum(result.codes.values()), latency(result.latencies_s)
    if not result.accepted:
        faults.append("nothing was accepted")
    if result.errors > goal.error_share * asked:
        faults.append(f"{result.errors:,} of {asked:,} messages failed: {dict(result.codes)}")
    if goal.rate_per_s is not None and result.rate_per_s < goal.rate_per_s:
        faults.append(f"{result.rate_per_s:.1f} accepts per second; the goal is {goal.rate_per_s:.1f}")
    if taken.p99_ms > goal.p99_ms:
        faults.append(f"p99 {taken.p99_ms:.0f} ms; the goal is {goal.p99_ms:.0f} ms")
    growth = done.growth_bytes
    if growth is not None and growth > GROWTH_LIMIT_BYTES:
        faults.append(f"memory grows by {growth:.0f} bytes with each message; the limit is {GROWTH_LIMIT_BYTES:.0f}")
    found = await installation.verify()
    if found is not None:
        faults.append(f"gateway verify: {found}")
    return faults


def draw_soak(file: Path, done: Soak) -> None:
    """Draw how a soak went. Blocks."""
    samples, told = done.samples, done.as_json()

    def series(name: str, value: Callable[[Sample], float]) -> Series:
        return Series(name=name, points=[(each.at_s, value(each)) for each in samples])

    draw(
        file,
        f"{told['accepted']:,} messages: accepted {told['acceptsPerS']:.0f} and delivered {told['deliveredPerS']:.0f} "
        "per second",
        [
            Panel(
                title="messages",
                series=[series("accepted", lambda s: s.accepted), series("delivered", lambda s: s.delivered)],
            ),
            Panel(
                title="messages per second",
                series=[
                    Series(name="accepted", points=rates([(each.at_s, each.accepted) for each in samples])),
                    Series(name="delivered", points=rates([(each.at_s, each.delivered) for each in samples])),
                ],
            ),
            Panel(title="waiting for delivery", series=[series("queue", lambda s: s.accepted - s.delivered)]),
            Panel(
                title="resident memory of the gateways, MB",
                series=[series("memory", lambda s: s.resident_bytes / _MB)],
            ),
        ],
    )


def rates(counts: Sequence[tuple[float, int]]) -> list[tuple[float, float]]:
    """
    Return by how much a count grew per second, by time, in some fifty points at most: each over all that lies between
    it and the one before.
    """
    every = max(len(counts) // _RATES, 1)
    points = list(counts[::every])
    return [(b[0], (b[1] - a[1]) / (b[0] - a[0])) for a, b in pairwise(points) if b[0] > a[0]]


def draw_steps(file: Path, steps: Sequence[Step]) -> None:
    """Draw latency over the rate. Blocks."""
    lines = [
        Series(name=name, points=[(step.offered_per_s, value(step.shot.latency)) for step in steps])
        for name, value in (("p50", _p50), ("p99", _p99))
    ]
    title = "milliseconds, by offered messages per second"
    draw(file, "From the time at which each request was due", [Panel(title=title, series=lines, x_unit="/s")])


def _p50(found: Latency) -> float:
    return found.p50_ms


def _p99(found: Latency) -> float:
    return found.p99_ms
