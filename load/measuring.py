"""One shot: requests at a server, and what it used to answer them."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from load.figures import Latency, latency
from load.generator import Requests, Result, Target, run
from load.processes import Cores, cpu_s, pin, resident_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What is measured: where it listens, and its processes."""

    targets: tuple[Target, ...]
    pids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """What came of it; `server_cpu_s` over all processes of the server."""

    result: Result
    server_cpu_s: float
    server_resident_bytes: int

    @property
    def latency(self) -> Latency:
        """Of the successes."""
        return latency(self.result.latencies_s)

    @property
    def rate_per_core_s(self) -> float:
        """Successes per second of processor time: the rate at which one core would be full."""
        return len(self.result.accepted) / self.server_cpu_s if self.server_cpu_s else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return everything that a report tells of it."""
        count, taken = len(self.result.accepted), self.latency
        return {
            "successes": count,
            "errors": self.result.errors,
            "codes": dict(sorted(self.result.codes.items())),
            "wallS": self.result.wall_s,
            "ratePerS": self.result.rate_per_s,
            "p50Ms": taken.p50_ms,
            "p99Ms": taken.p99_ms,
            "p999Ms": taken.p999_ms,
            "maxMs": taken.max_ms,
            "serverCpuS": self.server_cpu_s,
            "serverCpuMsPerSuccess": self.server_cpu_s * 1000 / count if count else None,
            "serverResidentBytes": self.server_resident_bytes,
            "generatorShareOfCore": self.result.own_share,
        }


def settle_on(cores: Cores) -> None:
    """Let this process, the generator, keep off the server's core."""
    pin(os.getpid(), cores.others, with_children=False)


async def shoot(
    server: Server,
    requests: Requests,
    *,
    connections: int,
    numbers: Iterator[int],
    longest_s: float,
    due_s: Iterator[float] | None = None,
) -> Shot:
    """Send requests as `generator.run` does; see there for what it raises."""
    before_s = cpu_s(server.pids)
    result = await run(
        server.targets, requests, connections=connections, numbers=numbers, due_s=due_s, longest_s=longest_s
    )
    return Shot(
        result=result,
        server_cpu_s=cpu_s(server.pids) - before_s,
        server_resident_bytes=resident_bytes(server.pids),
    )


def server_of(targets: Sequence[Target], pids: Sequence[int]) -> Server:
    """Return what is measured."""
    return Server(targets=tuple(targets), pids=tuple(pids))
