"""What other processes use, and on which cores they run: from /proc (proc(5)), so Linux only."""

import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_PROC: Final = Path("/proc")
# How Linux makes the number of a process's clock from its id: clock_getcpuclockid(3), which Python lacks.
_CLOCK_SHIFT: Final = 3
_CLOCK_OF_PROCESS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """
    Who runs where: the server that is measured, a second one beside it, and all else: generator, providers, database.

    `apart`: server and all else have no core in common. `apart_both`: the second server has a core of its own too.
    """

    server: frozenset[int]
    second: frozenset[int]
    others: frozenset[int]

    @classmethod
    def of(cls, available: Iterable[int]) -> Self:
        """Deal out the cores: one for each server where there are enough, all that are left to all else."""
        first, *more = sorted(available)
        server = frozenset(more[:1] or [first])
        second = frozenset(more[1:2] or [first])
        return cls(server=server, second=second, others=frozenset({first, *more[2:]}))

    @property
    def apart(self) -> bool:
        """Tell whether nobody shares the server's core."""
        return not self.server & self.others

    @property
    def apart_both(self) -> bool:
        """Tell whether that holds for the second server too."""
        return self.apart and not self.second & (self.others | self.server)


def pin(pid: int, cores: frozenset[int], *, with_children: bool = True) -> None:
    """Let a process, its threads and its children run on these cores only; what they start later inherits it."""
    for each in (pid, *(descendants(pid) if with_children else ())):
        with suppress(ProcessLookupError, FileNotFoundError):
            for task in (_PROC / str(each) / "task").iterdir():
                with suppress(ProcessLookupError):  # it has ended
                    os.sched_setaffinity(int(task.name), cores)


def descendants(pid: int) -> list[int]:
    """Return the processes below `pid`."""
    children = list[int]()
    with suppress(ProcessLookupError, FileNotFoundError):
        for task in (_PROC / str(pid) / "task").iterdir():
            with suppress(ProcessLookupError, FileNotFoundError):
                children += [int(child) for child in (task / "children").read_text().split()]
    return [*children, *(below for child in children for below in descendants(child))]


def cpu_s(pids: Sequence[int]) -> float:
    """Return the processor time that processes used, in seconds, by their clocks, which count nanoseconds."""
    used_s = 0.0
    for pid in pids:
        with suppress(OSError):  # it has ended
            used_s += time.clock_gettime(~pid << _CLOCK_SHIFT | _CLOCK_OF_PROCESS)
    return used_s


def resident_bytes(pids: Sequence[int]) -> int:
    """Return the resident memory of processes together."""
    pages = 0
    for pid in pids:
        with suppress(ProcessLookupError, FileNotFoundError):
            pages += int((_PROC / str(pid) / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
