"""
The table of figures: what the gateway does, as ratios to a limit that is measured beside it in the same run.

Rounds of gateway and nginx alternate, and each ratio is the median over the rounds, so that a machine that is slow for
a while is slow for both. No letter is delivered while acceptance is measured: all are for tomorrow.
"""

import asyncio
import os
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any, Final

from gateway.client import SenderProfile
from load import memory, nginx
from load.bodies import BodySet
from load.dialects import Dialect
from load.generator import CONNECTIONS, HandOvers, Requests, Uploads
from load.installation import Installation
from load.measuring import Server, Shot, server_of, settle_on, shoot
from load.nginx import Nginx
from load.postgres import PostgresServer
from load.preparing import Order
from load.problems import CannotRun
from load.processes import Cores, resident_bytes
from load.report import Verdict, machine, machine_line, table, write_json
from load.workshop import Workshop

_LONGEST_S: Final = 120.0
_STALLED_S: Final = 60.0
_POLL_S: Final = 0.1
_FULL: Final = 0.9  # share of its core that a server uses that is the limit itself
_MIB: Final = 1024 * 1024
_MB: Final = 1e6
_EDGE: Final = 0.1  # of the deliveries: the first and the last are left out, while workers start and run dry
_CORES_FOR_TWO: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long to measure: rounds, messages for each, seconds of nginx for each."""

    rounds: int
    messages: dict[str, int]  # by mix, in each round
    nginx_s: float
    warm_up: int
    deliveries: int
    starts: int
    connections: int = CONNECTIONS


FULL: Final = Plan(rounds=5, messages={"20k": 600, "100k": 400}, nginx_s=3.0, warm_up=200, deliveries=1500, starts=5)
QUICK: Final = Plan(rounds=3, messages={"20k": 150, "100k": 100}, nginx_s=1.0, warm_up=50, deliveries=300, starts=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """A bound: at least, or at most."""

    bound: float
    at_least: bool
    unit: str = ""

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.bound:g}{self.unit}"

    def met_by(self, value: float) -> bool:
        """Tell whether a value is within the bound."""
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table; `value` None: not measured; `judged` False: measured where it says too little."""

    figure: str
    aim: Aim
    value: float | None
    note: str
    judged: bool = True

    @property
    def verdict(self) -> Verdict:
        """Whether the aim is met."""
        if self.value is None or not self.judged:
            return Verdict.OPEN
        return Verdict.MET if self.aim.met_by(self.value) else Verdict.MISSED

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        value = "-" if self.value is None else f"{self.value:.2f}{self.aim.unit}"
        return self.figure, value, str(self.aim), self.verdict, self.note


@dataclass(slots=True)
class _Bench:
    """What the parts of the benchmark share. `shots`: everything measured, by name, for the report."""

    plan: Plan
    cores: Cores
    workshop: Workshop
    sender: SenderProfile
    folder: Path
    rows: list[Row] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    shots: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def installation(self, name: str, ledger: str | None = None) -> Installation:
        return Installation(self.folder / name, self.workshop.certs, self.sender, self.cores, ledger=ledger)

    def order(self, mix: str, wanted: int, *, dialect: Dialect = Dialect.XML, later: bool = True) -> Order:
        name = f"bench-{dialect}-{mix}-{wanted}-{'later' if later else 'now'}"
        return Order(label=name, mix=mix, count=wanted, dialect=dialect, later=later)

    def accepting_order(self, dialect: Dialect, mix: str) -> Order:
        plan = self.plan
        return self.order(mix, plan.rounds * plan.messages[mix] + plan.warm_up, dialect=dialect)

    def note(self, name: str, shot: Shot) -> Shot:
        """Keep a shot for the report; a request that failed is a fault of the run."""
        self.shots.setdefault(name, []).append(shot.as_json())
        if shot.result.errors:
            self.faults.append(f"{name}: {shot.result.errors} requests failed: {dict(shot.result.codes)}")
        return shot

    async def verify(self, installation: Installation) -> None:
        await installation.stop_gateway()
        found = await installation.verify()
        if found is not None:
            self.faults.append(f"gateway verify: {found}")


async def run(plan: Plan, report: Path | None) -> int:
    """
    Measure everything, print the table, and return 0 when no aim is missed and nothing failed.

    Raises:
        CannotRun, DemoFailed: a part cannot start.
    """
    found = await asyncio.to_thread(machine)
    print(machine_line(found), flush=True)
    cores = Cores.of(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name:
        folder = Path(name)
        workshop = Workshop(folder / "work")
        sender = await asyncio.to_thread(workshop.set_up)
        bench = _Bench(plan, cores, workshop, sender, folder)
        await _prepare(bench)
        settle_on(cores)
        for part in (_accepting, _delivering, _two_processes, _large_document):
            began_s = monotonic()
            await part(bench)
            print(f"  {part.__name__.strip('_').replace('_', ' ')}: {monotonic() - began_s:.0f} s", flush=True)
    print()
    print(table(("figure", "value", "aim", "", "note"), [row.cells() for row in bench.rows]))
    missed = [row for row in bench.rows if row.verdict is Verdict.MISSED]
    for fault in bench.faults:
        print(f"FAILED: {fault}")
    if report is not None:
        rows = [{**asdict(row), "verdict": row.verdict} for row in bench.rows]
        values = {"machine": found, "plan": asdict(plan), "rows": rows, "faults": bench.faults, "shots": bench.shots}
        await asyncio.to_thread(write_json, report, values)
    return int(bool(missed or bench.faults))


async def _prepare(bench: _Bench) -> None:
    plan, began_s = bench.plan, monotonic()
    orders = [bench.accepting_order(dialect, mix) for dialect, mix in _ACCEPT_AIMS]
    orders.append(bench.order("20k", plan.deliveries, later=False))
    for order in orders:
        await asyncio.to_thread(bench.workshop.prepared, order)
    print(f"  prepared {sum(order.count for order in orders):,} messages: {monotonic() - began_s:.0f} s", flush=True)


# ── Acceptance ──

_ACCEPT_AIMS: Final = {
    (Dialect.XML, "20k"): 0.25,
    (Dialect.XML, "100k"): 0.5,
    (Dialect.JWS, "20k"): 0.4,
    (Dialect.JWS, "100k"): 0.7,
    (Dialect.BATCH, "20k"): 0.6,
    (Dialect.BATCH, "100k"): 0.8,
    (Dialect.BATCH_JWS, "20k"): 0.6,
    (Dialect.BATCH_JWS, "100k"): 0.8,
}


async def _accepting(bench: _Bench) -> None:
    async with AsyncExitStack() as stack:
        bodies = {
            kind: stack.enter_context(BodySet(bench.workshop.prepared(bench.accepting_order(*kind))))
            for kind in _ACCEPT_AIMS
        }
        kinds = [
            _Kind(
                name=f"{dialect}, {mix}",
                aim=Aim(bound=bound, at_least=True),
                messages=bench.plan.messages[mix],
                bodies=bodies[dialect, mix],
                limit_bodies=bodies[dialect.single, mix],
            )
            for (dialect, mix), bound in _ACCEPT_AIMS.items()
        ]
        installation = await stack.enter_async_context(bench.installation("accepting"))
        await _starting(bench, installation)
        limit = None
        if nginx.program() is not None:
            limit = await stack.enter_async_context(
                Nginx(bench.folder / "nginx", bench.workshop.certs, bench.sender, bench.cores.server)
            )
        await _rounds(bench, installation, limit, kinds)
        await bench.verify(installation)
    bench.rows += [_accept_row(bench, kind) for kind in kinds]


@dataclass(slots=True, kw_only=True)
class _Kind:
    """
    Requests of a dialect and a mix, with so many messages in each round; and what came of them, here and at nginx,
    which takes each message as a request of its own (`limit_bodies`).
    """

    name: str
    aim: Aim
    messages: int
    bodies: BodySet
    limit_bodies: BodySet
    ours: list[Shot] = field(default_factory=list)
    limits: list[Shot] = field(default_factory=list)

    def requests(self, first: int, end: int) -> range:
        """Return the numbers of the requests with the messages from `first` to before `end`, whole batches."""
        each = len(self.bodies.numbers_in(0))  # all documents of a kind have one size, so all batches too
        return range(first // each, end // each)


async def _rounds(bench: _Bench, installation: Installation, limit: Nginx | None, kinds: Sequence[_Kind]) -> None:
    plan, member = bench.plan, installation.members["a"]
    server = server_of([installation.target("a")], [member.pid])
    for kind in kinds:
        await _shoot(bench, f"warm-up {kind.name}", server, HandOvers(kind.bodies), kind.requests(0, plan.warm_up))
    for turn in range(plan.rounds):
        for kind in kinds:
            first = plan.warm_up + turn * kind.messages
            wanted = kind.requests(first, first + kind.messages)
            kind.ours.append(await _shoot(bench, f"accept {kind.name}", server, HandOvers(kind.bodies), wanted))
            if limit is not None:
                spooler = server_of([limit.target], limit.worker_pids)
                uploads = Uploads(kind.limit_bodies, f"/{turn}-{kinds.index(kind)}")
                shot = await _shoot(bench, f"nginx {kind.name}", spooler, uploads, count(), longest_s=plan.nginx_s)
                kind.limits.append(shot)


def is_full(shot: Shot) -> bool:
    """Tell whether the server was the limit: its core had nothing left."""
    return shot.server_cpu_s >= _FULL * shot.result.wall_s


def limit_rate(shot: Shot) -> float:
    """
    Return how many requests nginx takes per second on a full core.

    Where its core was not full, because the generator or the disk was the limit, that is told by the processor time
    that the requests cost; so the figure of the gateway is never flattered by what slowed nginx down.
    """
    return shot.result.rate_per_s if is_full(shot) else max(shot.result.rate_per_s, shot.rate_per_core_s)


def _accept_row(bench: _Bench, kind: _Kind) -> Row:
    figure, aim, ours, limits = f"accepts, {kind.name} / nginx", kind.aim, kind.ours, kind.limits
    rate = median(shot.result.rate_per_s for shot in ours)
    busy = median(shot.server_cpu_s / shot.result.wall_s for shot in ours)
    note = f"{rate:.0f} /s, {busy:.0%} of the core, {_cpu_ms(ours):.1f} ms each"
    if not limits:
        return Row(figure=figure, aim=aim, value=None, note=f"{note}; nginx is not installed")
    ratio = median(shot.result.rate_per_s / limit_rate(limit) for shot, limit in zip(ours, limits, strict=True))
    note += f"; nginx {median(map(limit_rate, limits)):.0f} /s"
    if not all(map(is_full, limits)):
        note += " by processor time"
    if not bench.cores.apart:
        note += "; one core for all"
    return Row(figure=figure, aim=aim, value=ratio, note=note, judged=bench.cores.apart)


def _cpu_ms(shots: Sequence[Shot]) -> float:
    return median(shot.server_cpu_s * 1000 / max(len(shot.result.accepted), 1) for shot in shots)


async def _starting(bench: _Bench, installation: Installation) -> None:
    """Start the gateway several times; it runs afterwards."""
    times_s, idle = list[float](), 0
    for _ in range(bench.plan.starts):
        await installation.stop_gateway()
        member = await installation.start("a")
        times_s.append(member.started_in_s)
        idle = resident_bytes([member.pid])
    aim = Aim(bound=150.0, at_least=False, unit=" MB")
    bench.rows.append(Row(figure="idle memory", aim=aim, value=idle / _MB, note="after start, SQLite"))
    aim = Aim(bound=2.0, at_least=False, unit=" s")
    note = f"median of {len(times_s)}, from the start of the process until it is ready and listens"
    bench.rows.append(Row(figure="start to ready", aim=aim, value=median(times_s), note=note))


async def _shoot(
    bench: _Bench,
    name: str,
    server: Server,
    requests: Requests,
    numbers: Iterable[int],
    *,
    longest_s: float = _LONGEST_S,
) -> Shot:
    shot = await shoot(server, requests, connections=bench.plan.connections, numbers=iter(numbers), longest_s=longest_s)
    return bench.note(name, shot)


# ── Delivery ──


async def _delivering(bench: _Bench) -> None:
    """Accept with intake alone, then deliver with workers alone, each on the same core."""
    wanted = bench.plan.deliveries
    with BodySet(bench.workshop.prepared(bench.order("20k", wanted, later=False))) as bodies:
        async with bench.installation("delivering") as installation:
            member = await installation.start("a", "intake")
            server = server_of([installation.target("a")], [member.pid])
            accepted = await _shoot(bench, "accept for delivery", server, HandOvers(bodies), range(wanted))
            await installation.stop("a")
            await installation.start("a", "workers")
            rate = await _delivery_rate(installation, len(accepted.result.accepted))
            await bench.verify(installation)
    accepts = accepted.result.rate_per_s
    aim = Aim(bound=1.0, at_least=True)
    note = f"e-Box, {rate:.0f} /s against {accepts:.0f} accepts /s, each alone on the core"
    judged = bench.cores.apart
    bench.rows.append(
        Row(figure="delivery / accept throughput", aim=aim, value=rate / accepts, note=note, judged=judged)
    )


async def _delivery_rate(installation: Installation, wanted: int) -> float:
    """
    Return how many are delivered per second, without the first and last of them.

    Raises:
        CannotRun: none comes any more.
    """
    first, last = int(wanted * _EDGE), int(wanted * (1 - _EDGE))
    began: tuple[float, int] | None = None
    ended: tuple[float, int] | None = None
    seen, moved_s = -1, monotonic()
    while seen < wanted:
        kept, now_s = await installation.count_kept(), monotonic()
        if kept > seen:
            seen, moved_s = kept, now_s
        if now_s - moved_s > _STALLED_S:
            raise CannotRun(f"only {seen} of {wanted} were delivered")
        if began is None and kept >= first:
            began = (now_s, kept)
        if ended is None and kept >= last:
            ended = (now_s, kept)
        await asyncio.sleep(_POLL_S)
    if began is None or ended is None or ended[0] <= began[0]:
        raise CannotRun("too few deliveries to measure their rate")
    return (ended[1] - began[1]) / (ended[0] - began[0])


# ── Two processes ──


async def _two_processes(bench: _Bench) -> None:
    plan, cores, mix = bench.plan, bench.cores, "20k"
    aim = Aim(bound=1.8, at_least=True)
    per_shot = max(plan.messages[mix] * plan.rounds // (2 * plan.rounds), 1)
    ones, twos = list[Shot](), list[Shot]()
    async with AsyncExitStack() as stack:
        bodies = stack.enter_context(BodySet(bench.workshop.prepared(bench.accepting_order(Dialect.XML, mix))))
        database = await stack.enter_async_context(PostgresServer(cores.others))
        installation = await stack.enter_async_context(bench.installation("two-processes", await database.new_ledger()))
        for name, where in (("a", cores.server), ("b", cores.second)):
            await installation.start(name, cores=where)
        one, two = (
            server_of([installation.target(name) for name in names], [installation.members[n].pid for n in names])
            for names in (("a",), ("a", "b"))
        )
        numbers = iter(range(len(bodies)))

        async def turn(name: str, server: Server, wanted: int) -> Shot:
            some = (number for _, number in zip(range(wanted), numbers, strict=False))
            return await _shoot(bench, name, server, HandOvers(bodies), some)

        await turn("warm-up two processes", two, plan.warm_up)
        for _ in range(plan.rounds):
            ones.append(await turn("one process", one, per_shot))
            twos.append(await turn("two processes", two, per_shot))
        await bench.verify(installation)
    pairs = list(zip(ones, twos, strict=True))
    if cores.apart_both:
        ratio = median(two.result.rate_per_s / one.result.rate_per_s for one, two in pairs)
        note = f"PostgreSQL, {_rates(ones)} /s and {_rates(twos)} /s"
    else:
        ratio = median(2 * two.rate_per_core_s / one.rate_per_core_s for one, two in pairs)
        note = f"PostgreSQL, by processor time for each message: needs {_CORES_FOR_TWO} cores to be judged"
    row = Row(figure="two processes / one", aim=aim, value=ratio, note=note, judged=cores.apart_both)
    bench.rows.append(row)


def _rates(shots: Sequence[Shot]) -> str:
    return f"{median(shot.result.rate_per_s for shot in shots):.0f}"


# ── Memory ──


async def _large_document(bench: _Bench) -> None:
    rise = await memory.measure(bench.folder / "memory")
    aim = Aim(bound=1.0, at_least=False, unit=" MiB")
    how = "sampled" if rise.sampled else "peak"
    note = f"resident growth while {memory.DOCUMENT_BYTES / _MB:.1f} MB are accepted ({how})"
    row = Row(figure="memory for a 30 MB document", aim=aim, value=rise.rise_bytes / _MIB, note=note)
    bench.rows.append(row)
