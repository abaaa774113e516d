"""
Named points in the life of a gateway process, and what is done to it at one of them.

Every place where the process speaks to a disk, a ledger or a provider is a point: a name, the label of the letter it is
about, and the how-manieth of that name and label it is. One run without a plan writes down which points there are; each
further run plans one fault at one of them. This module knows nothing of gateways.
"""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

LABEL: Final[ContextVar[str]] = ContextVar("label", default="-")
"""The letter that the running task is about: its reference, with the part of the gateway that works on it."""


class Way(StrEnum):
    """What happens at a point."""

    KILL_BEFORE = "kill-before"  # SIGKILL; nothing of it happened
    KILL_AFTER = "kill-after"  # SIGKILL; it happened, and nobody was told
    CUT_BEFORE = "cut-before"  # as kill-before, and what was never synced is gone from the disk
    CUT_AFTER = "cut-after"  # as kill-after, and what was never synced is gone from the disk
    FAIL = "fail"  # an error, and it did not happen
    FULL = "full"  # the disk is full; it did not happen
    LOST = "lost"  # an error, although it happened
    HANG = "hang"  # it happened, and no answer ever comes


CUTS: Final = frozenset({Way.CUT_BEFORE, Way.CUT_AFTER})
KILLS: Final = CUTS | {Way.KILL_BEFORE, Way.KILL_AFTER}


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """The `nth` passage (from 1) of `name` for `label`."""

    name: str
    label: str
    nth: int

    def __str__(self) -> str:
        return f"{self.name} of {self.label} #{self.nth}"


@dataclass(frozen=True, slots=True, order=True)
class Plan:
    """One fault at one point."""

    point: Point
    way: Way

    def __str__(self) -> str:
        return f"{self.way} at {self.point}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_plan(value: dict[str, Any] | None) -> Plan | None:
    """Return the plan that `Plan.as_json` wrote."""
    return None if value is None else Plan(Point(**value["point"]), Way(value["way"]))


def stand_in(owner: object, name: str, value: object) -> None:
    """Put `value` in the place of an attribute: an instrument, or the absence of a safeguard."""
    if not hasattr(owner, name):
        raise AttributeError(f"{owner} has no {name}; what was to be watched has another name now")
    setattr(owner, name, value)


class Passage:
    """One passage of a point; `way` is what was planned for it, None nearly always."""

    def __init__(self, wire: "Wire", way: Way | None) -> None:
        self._wire = wire
        self.way = way

    def before(self) -> None:
        """End the process here, if that is the plan."""
        if self.way in (Way.KILL_BEFORE, Way.CUT_BEFORE):
            self._wire.kill(cut=self.way is Way.CUT_BEFORE)

    def after(self) -> None:
        """End the process here, if that is the plan."""
        if self.way in (Way.KILL_AFTER, Way.CUT_AFTER):
            self._wire.kill(cut=self.way is Way.CUT_AFTER)


class Wire:
    """
    Counts the points of this process and carries out the plan. Safe to use from every thread.

    `tell` gets lines for the harness: each point the first time it is passed, and `hit` when the plan strikes. `cut`
    takes back from the disk what was never synced.
    """

    def __init__(self, plan: Plan | None, *, tell: Callable[[str], None], cut: Callable[[], None]) -> None:
        self._plan = plan
        self._tell = tell
        self._cut = cut
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.RLock()

    def arrive(self, name: str, ways: Sequence[Way], *, label: str | None = None) -> Passage:
        """Note that the process comes to a point at which `ways` are possible."""
        where = LABEL.get() if label is None else label
        with self._lock:
            self._counts[name, where] += 1
            point = Point(name, where, self._counts[name, where])
        self._tell(f"point\t{point.name}\t{point.label}\t{point.nth}\t{','.join(ways)}")
        if self._plan is None or self._plan.point != point or self._plan.way not in ways:
            return Passage(self, None)
        self._tell("hit")
        return Passage(self, self._plan.way)

    def kill(self, *, cut: bool) -> None:
        """End this process as a power cut or the kernel would."""
        if cut:
            self._cut()
        os.kill(os.getpid(), signal.SIGKILL)
