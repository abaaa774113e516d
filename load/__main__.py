"""`python -m load`: prepares messages, drives a gateway with them, and tells whether it reached its goal."""

import argparse
import asyncio
import math
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from gateway.demo.environment import DemoFailed
from load import bench, memory, profiling, scale
from load.bodies import BodySet
from load.dialects import Dialect
from load.generator import CONNECTIONS
from load.installation import Installation
from load.measuring import server_of, settle_on
from load.mixes import MIXES
from load.postgres import PostgresServer
from load.preparing import Order, prepare
from load.problems import CannotRun
from load.processes import Cores
from load.proving import GROWTH_LIMIT_BYTES
from load.report import machine, machine_line, table, write_json
from load.runs import Goal, Soak, Step, climb, draw_soak, draw_steps, soak
from load.workshop import Workshop

_PASSED: Final = 0
_FAILED: Final = 1
_CANNOT_RUN: Final = 2
_LONGEST_S: Final = 3600.0
_PRINT_EVERY: Final = 10
_STEP_HEAD: Final = (
    "offered /s",
    "accepts /s",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "errors",
    "cpu ms/msg",
    "generator",
    "",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0 when its goal is reached, 1 when it is not, 2 when it could not run."""
    options = _parser().parse_args(arguments)
    try:
        match options.command:
            case "prepare":
                return _prepare(options)
            case "steps":
                return asyncio.run(_steps(options))
            case "soak":
                return asyncio.run(_soak(options))
            case "bench":
                return asyncio.run(bench.run(bench.QUICK if options.quick else bench.FULL, options.report))
            case "scale":
                return asyncio.run(
                    scale.run(options.messages, over_postgres=options.server == "postgresql", report=options.report)
                )
            case "profile":
                return asyncio.run(profiling.run(replace(_order(options), later=True)))
            case _:
                return memory.main()
    except (CannotRun, DemoFailed) as error:
        print(f"load: {error}", file=sys.stderr)
        return _CANNOT_RUN


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m load", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("prepare", help="make a set of signed messages, to be used by --work of another command")
    _add_order(made, mix="20k", messages=1000)
    made.add_argument("--work", type=Path, required=True, metavar="DIR", help="folder for certificates and sets")
    steps = commands.add_parser("steps", help="raise the rate of messages until p99 or errors break")
    _add_order(steps, mix="20k", messages=20_000)
    _add_run(steps, p99_ms=1000.0)
    steps.add_argument("--first", type=float, default=20.0, metavar="RATE", help="messages per second (20)")
    steps.add_argument("--factor", type=float, default=1.25, help="from one rate to the next (1.25)")
    steps.add_argument("--step", type=float, default=10.0, metavar="SECONDS", help="length of each (10)")
    soaked = commands.add_parser("soak", help="hand messages over while they are delivered, then verify everything")
    _add_order(soaked, mix="x-road", messages=50_000)
    _add_run(soaked, p99_ms=math.inf)
    soaked.add_argument(
        "--rate", type=float, metavar="RATE", help="messages per second; without it as many as it takes"
    )
    soaked.add_argument("--minutes", type=float, default=_LONGEST_S / 60, help="longest time for handing over (60)")
    benched = commands.add_parser("bench", help="measure every figure of the table in docs/performance.md")
    benched.add_argument("--quick", action="store_true", help="about a minute, and rough")
    benched.add_argument("--report", type=Path, metavar="FILE", help="write the figures as JSON")
    scaled = commands.add_parser("scale", help="compare a ledger of ten years with an empty one")
    scaled.add_argument("--messages", type=int, default=1_000_000, help="in the ledger of ten years (1000000)")
    scaled.add_argument("--server", choices=("sqlite", "postgresql"), default="sqlite")
    scaled.add_argument("--report", type=Path, metavar="FILE", help="write the figures as JSON")
    profiled = commands.add_parser("profile", help="tell what the event loop spends its time on while it accepts")
    _add_order(profiled, mix="20k", messages=2000)
    commands.add_parser("memory", help="measure by how much memory grows while a document of 30 MB is accepted")
    return parser


def _add_order(parser: argparse.ArgumentParser, *, mix: str, messages: int) -> None:
    parser.add_argument("--mix", choices=sorted(MIXES), default=mix, help=f"sizes of documents ({mix})")
    parser.add_argument("--messages", type=int, default=messages, help=f"how many ({messages})")
    parser.add_argument(
        "--dialect", type=Dialect, choices=list(Dialect), default=Dialect.XML, help="batch: many in one request (xml)"
    )
    parser.add_argument("--print-every", type=int, default=_PRINT_EVERY, metavar="N", help="every Nth on paper (10)")


def _add_run(parser: argparse.ArgumentParser, *, p99_ms: float) -> None:
    parser.add_argument(
        "--server", choices=("sqlite", "postgresql"), default="sqlite", help="postgresql: two processes"
    )
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help=f"kept TLS connections ({CONNECTIONS})")
    parser.add_argument("--work", type=Path, metavar="DIR", help="folder whose certificates and sets are used again")
    parser.add_argument("--report", type=Path, metavar="DIR", help="folder for report.json and chart.png")
    parser.add_argument("--goal-rate", type=float, metavar="RATE", help="accepts per second that must be reached")
    parser.add_argument(
        "--goal-p99", type=float, default=p99_ms, metavar="MS", help=f"most that p99 may be ({p99_ms:g})"
    )
    parser.add_argument("--goal-errors", type=float, default=0.0, metavar="SHARE", help="most that may fail (0)")


def _order(options: argparse.Namespace) -> Order:
    label = f"{options.mix}-{options.messages}-{options.dialect}-{options.print_every}"
    return Order(
        label=label,
        mix=options.mix,
        count=options.messages,
        dialect=options.dialect,
        print_every=options.print_every,
    )


def _goal(options: argparse.Namespace) -> Goal:
    return Goal(rate_per_s=options.goal_rate, p99_ms=options.goal_p99, error_share=options.goal_errors)


def _prepare(options: argparse.Namespace) -> int:
    workshop = Workshop(options.work)
    workshop.set_up()
    order = _order(options)
    folder = workshop.folder / "sets" / order.label
    if folder.exists():
        raise CannotRun(f"{folder} is there already")
    prepare(folder, order, workshop.sender_file)
    print(folder)
    return _PASSED


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """Everything that a run needs: gateways that run, and their names."""

    installation: Installation
    names: tuple[str, ...]
    bodies: BodySet
    machine: dict[str, Any]


@asynccontextmanager
async def _ready(options: argparse.Namespace) -> AsyncIterator[_Ready]:
    cores = Cores.of(os.sched_getaffinity(0))
    found = await asyncio.to_thread(machine)
    print(machine_line(found))
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-load-")))
        workshop = Workshop(options.work or folder / "work")
        sender = await asyncio.to_thread(workshop.set_up)
        bodies = BodySet(await asyncio.to_thread(workshop.prepared, _order(options)))
        stack.enter_context(bodies)
        settle_on(cores)
        names: tuple[str, ...] = ("a",)
        ledger = None
        if options.server == "postgresql":
            names = ("a", "b")
            ledger = await (await stack.enter_async_context(PostgresServer(cores.others))).new_ledger()
        installation = Installation(folder / "state", workshop.certs, sender, cores, ledger=ledger)
        await stack.enter_async_context(installation)
        for name, where in zip(names, (cores.server, cores.second), strict=False):
            await installation.start(name, cores=where)
        yield _Ready(installation=installation, names=names, bodies=bodies, machine=found)


async def _steps(options: argparse.Namespace) -> int:
    goal = _goal(options)
    async with _ready(options) as ready:
        installation, names = ready.installation, ready.names
        server = server_of(
            [installation.target(name) for name in names], [installation.members[name].pid for name in names]
        )
        steps = await climb(
            server,
            ready.bodies,
            goal,
            first_per_s=options.first,
            factor=options.factor,
            step_s=options.step,
            connections=options.connections,
            told=lambda step: print(_step_line(step), flush=True),
        )
        good = [step.shot.result.rate_per_s for step in steps if step.broke is None]
        best = max(good, default=0.0)
        await installation.stop_gateway()
        verified = await installation.verify()
    faults = [] if verified is None else [f"gateway verify: {verified}"]
    if best < (goal.rate_per_s or 0.0) or not good:
        faults.append(f"the goal is {goal.rate_per_s or 'one good step'}")
    print()
    print(table(_STEP_HEAD, [_step_row(step) for step in steps]))
    print(f"\nholds {best:.1f} messages per second")
    values = {"machine": ready.machine, "holdsPerS": best, "faults": faults}
    values["steps"] = [{"offeredPerS": s.offered_per_s, "broke": s.broke, **s.shot.as_json()} for s in steps]
    return _tell(options.report, values, faults, draw=lambda file: draw_steps(file, steps))


def _step_line(step: Step) -> str:
    return f"{step.offered_per_s:8.1f} /s offered, {step.shot.result.rate_per_s:8.1f} taken  {step.broke or ''}"


def _step_row(step: Step) -> tuple[str, ...]:
    shot, taken = step.shot, step.shot.latency
    cpu_ms = shot.server_cpu_s * 1000 / max(len(shot.result.accepted), 1)
    return (
        f"{step.offered_per_s:.1f}",
        f"{shot.result.rate_per_s:.1f}",
        f"{taken.p50_ms:.1f}",
        f"{taken.p99_ms:.1f}",
        f"{taken.p999_ms:.1f}",
        str(shot.result.errors),
        f"{cpu_ms:.2f}",
        f"{shot.result.own_share:.0%}",
        step.broke or "",
    )


async def _soak(options: argparse.Namespace) -> int:
    async with _ready(options) as ready:
        done = await soak(
            ready.installation,
            ready.names,
            ready.bodies,
            _goal(options),
            connections=options.connections,
            longest_s=options.minutes * 60,
            rate_per_s=options.rate,
        )
    values = done.as_json()
    print(_soak_text(values, done))
    return _tell(
        options.report, {"machine": ready.machine, **values}, done.faults, draw=lambda file: draw_soak(file, done)
    )


def _soak_text(values: dict[str, Any], done: Soak) -> str:
    growth = values["growthBytesPerMessage"]
    flat = "too few messages to tell" if growth is None else f"{growth:+.0f} bytes with each message after warm-up"
    first_mb, last_mb = (each.resident_bytes / 1e6 for each in (done.samples[0], done.samples[-1]))
    rows = (
        ("accepted", f"{values['accepted']:,}, {values['acceptsPerS']:.1f} per second"),
        ("delivered", f"{values['delivered']:,}, {values['deliveredPerS']:.1f} per second"),
        ("p50, p99, p99.9", f"{values['p50_ms']:.1f}, {values['p99_ms']:.1f}, {values['p999_ms']:.1f} ms"),
        ("errors", f"{values['errors']:,} {values['codes'] if values['errors'] else ''}".rstrip()),
        ("processor time", f"{values['serverCpuMsPerMessage'] or 0:.2f} ms for each message, with its delivery"),
        ("deepest queue", f"{values['deepestQueue']:,} deliveries"),
        ("resident memory", f"{first_mb:.0f} MB to {last_mb:.0f} MB; {flat} (limit {GROWTH_LIMIT_BYTES:.0f})"),
        ("generator", f"{values['generatorShareOfCore']:.0%} of a core"),
        (
            "gateway verify",
            "see below" if any(fault.startswith("gateway verify") for fault in done.faults) else "clean",
        ),
    )
    return table(("figure", "value"), rows)


def _tell(
    folder: Path | None, values: Mapping[str, Any], faults: Sequence[str], *, draw: Callable[[Path], None]
) -> int:
    """Write the report and the chart, say what was wrong, and return the exit code."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "report.json", values)
        draw(folder / "chart.png")
    for fault in faults:
        print(f"FAILED: {fault}")
    if not faults:
        print("passed")
    return _FAILED if faults else _PASSED


if __name__ == "__main__":
    sys.exit(main())
