"""
What ten years of messages cost: acceptance and status look-ups with a full ledger, against the same with an empty one.

Both gateways run on the same core and take turns at being the first, so that a machine that is slow for a while, or
ever slower, is so for both.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any, Final
from uuid import UUID

from gateway.client import GatewayClient, SenderProfile
from load.bench import Aim, Row
from load.bodies import BodySet
from load.filling import fill_postgres, fill_sqlite
from load.generator import CONNECTIONS, HandOvers, LookUps
from load.installation import Installation
from load.measuring import Shot, server_of, settle_on, shoot
from load.postgres import PostgresServer
from load.preparing import Order
from load.problems import CannotRun
from load.processes import Cores
from load.report import Verdict, machine, machine_line, table, write_json
from load.schedule import arrivals
from load.workshop import Workshop

_SAMPLES: Final = 20
_EVENTS: Final = 2 * _SAMPLES  # at least: accepted, handed over
_ROUNDS: Final = 9
_ACCEPTS: Final = 400
_LOOK_UPS: Final = 600
_LOOK_UPS_PER_S: Final = 120.0
_LONGEST_S: Final = 120.0
_SETTLES_S: Final = 180.0  # a delivery that has to be tried again waits a minute
_POLL_S: Final = 0.2
_TOLD_EVERY: Final = 100_000
_BYTES_EACH: Final = 30_000  # of disk, generously


@dataclass(slots=True, kw_only=True)
class _Side:
    """One of the two: its installation, and the ids of messages that are asked for."""

    name: str
    installation: Installation
    ids: list[UUID]
    accepts: list[Shot]
    look_ups: list[Shot]


async def run(messages: int, *, over_postgres: bool, report: Path | None) -> int:
    """
    Fill, measure, print the ratios, and return 0 when both aims are met.

    Raises:
        CannotRun, DemoFailed: a part cannot start, or the disk has no room for so many messages.
    """
    found = await asyncio.to_thread(machine)
    print(machine_line(found), flush=True)
    cores = Cores.of(os.sched_getaffinity(0))
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-scale-")))
        _require_room(folder, messages)
        workshop = Workshop(folder / "work")
        sender = await asyncio.to_thread(workshop.set_up)
        few, many = [
            stack.enter_context(BodySet(await asyncio.to_thread(workshop.prepared, order)))
            for order in (
                Order(label="samples", mix="20k", count=_SAMPLES, print_every=4),
                Order(label="accepts", mix="20k", count=(_ROUNDS + 1) * _ACCEPTS, later=True),
            )
        ]
        settle_on(cores)
        server = await stack.enter_async_context(PostgresServer(cores.others)) if over_postgres else None
        sides = list[_Side]()
        for name in ("empty", "full"):
            ledger = await server.new_ledger() if server is not None else None
            installation = Installation(folder / name, workshop.certs, sender, cores, ledger=ledger)
            await stack.enter_async_context(installation)
            ids = await _samples(installation, sender, few)
            if name == "full":
                await installation.stop("a")
                ids = await _fill(installation, server, messages)
                await installation.start("a")
            sides.append(_Side(name=name, installation=installation, ids=ids, accepts=[], look_ups=[]))
        await _measure(sides, many)
        for side in sides:
            await side.installation.stop_gateway()
    return _tell(sides, messages, found, report)


def _require_room(folder: Path, messages: int) -> None:
    free, wanted = shutil.disk_usage(folder).free, messages * _BYTES_EACH
    if wanted > free:
        raise CannotRun(
            f"{messages:,} messages may need {wanted / 1e9:.0f} GB in {folder}; {free / 1e9:.0f} GB are free"
        )


async def _samples(installation: Installation, sender: SenderProfile, bodies: BodySet) -> list[UUID]:
    """Have a few real messages accepted and delivered, and their events numbered; return their ids."""
    member = await installation.start("a")
    server = server_of([installation.target("a")], [member.pid])
    shot = await shoot(server, HandOvers(bodies), connections=4, numbers=iter(range(len(bodies))), longest_s=_LONGEST_S)
    if shot.result.errors:
        raise CannotRun(f"not every sample was accepted: {dict(shot.result.codes)}")
    async with GatewayClient(replace(sender, base_url=member.sender_api)) as client, asyncio.timeout(_SETTLES_S):

        async def are_settled() -> bool:
            events = (await client.events(limit=500)).events
            return len(events) >= _EVENTS and await installation.count_kept() >= len(bodies)

        while not await are_settled():  # noqa: ASYNC110 -- what is waited for happens in other processes
            await asyncio.sleep(_POLL_S)
        return [state.message_id async for state in client.messages()]


async def _fill(installation: Installation, server: PostgresServer | None, messages: int) -> list[UUID]:
    began_s = monotonic()

    def told(number: int) -> None:
        if number % _TOLD_EVERY == 0 or number == messages:
            print(f"  {number:,} messages after {monotonic() - began_s:.0f} s", flush=True)

    if server is not None:
        async with server.connected(installation.ledger) as connection:
            return await fill_postgres(connection, messages, told)
    return await asyncio.to_thread(fill_sqlite, Path(installation.ledger.removeprefix("sqlite://")), messages, told)


async def _measure(sides: Sequence[_Side], bodies: BodySet) -> None:
    for turn in range(_ROUNDS + 1):  # the first warms up, and does not count
        for side in sides if turn % 2 else reversed(sides):
            target = side.installation.target("a")
            server = server_of([target], [side.installation.members["a"].pid])
            accepted = await shoot(
                server,
                HandOvers(bodies),
                connections=CONNECTIONS,
                numbers=iter(range(turn * _ACCEPTS, (turn + 1) * _ACCEPTS)),
                longest_s=_LONGEST_S,
            )
            looked_up = await shoot(
                server,
                LookUps([f"/api/v1/messages/{each}" for each in side.ids]),
                connections=CONNECTIONS,
                numbers=count(turn * _LOOK_UPS),
                due_s=arrivals(_LOOK_UPS_PER_S, _LOOK_UPS, seed=turn),
                longest_s=_LONGEST_S,
            )
            for shot in (accepted, looked_up):
                if shot.result.errors:
                    raise CannotRun(f"{side.name}: requests failed: {dict(shot.result.codes)}")
            if turn:
                side.accepts.append(accepted)
                side.look_ups.append(looked_up)


def _tell(sides: Sequence[_Side], messages: int, found: dict[str, Any], report: Path | None) -> int:
    empty, full = sides
    accepts = [
        (one.result.rate_per_s, two.result.rate_per_s) for one, two in zip(empty.accepts, full.accepts, strict=True)
    ]
    waits = [(one.latency.p99_ms, two.latency.p99_ms) for one, two in zip(empty.look_ups, full.look_ups, strict=True)]
    rows = [
        Row(
            figure=f"accepts, {messages:,} messages / none",
            aim=Aim(bound=0.9, at_least=True),
            value=median(two / one for one, two in accepts),
            note=f"{median(two for _, two in accepts):.0f} /s against {median(one for one, _ in accepts):.0f} /s",
        ),
        Row(
            figure=f"look-up p99, {messages:,} messages / none",
            aim=Aim(bound=1.5, at_least=False),
            value=median(two for _, two in waits) / median(one for one, _ in waits),
            note=f"{median(two for _, two in waits):.1f} ms against {median(one for one, _ in waits):.1f} ms",
        ),
    ]
    print()
    print(table(("figure", "value", "aim", "", "note"), [row.cells() for row in rows]))
    if report is not None:
        shots = {
            f"{side.name} {what}": [shot.as_json() for shot in taken]
            for side in sides
            for what, taken in (("accepts", side.accepts), ("lookUps", side.look_ups))
        }
        values = [{**asdict(row), "verdict": row.verdict} for row in rows]
        write_json(report, {"machine": found, "messages": messages, "rows": values, "shots": shots})
    return int(any(row.verdict is Verdict.MISSED for row in rows))
