"""
All runs of one ledger: record the points once, then a run for every fault at every point.

What is recorded is thinned where the same code is passed again and again for the same reason; how far, `_KEPT` says.
"""

import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.crash.crew import Crew, Job
from tests.crash.points import Plan, Point, Way
from tests.crash.races import OUTCOMES
from tests.crash.runs import Verdict
from tests.crash.scenario import ITEMS

# How many passages of a name are kept for each letter: the longest rule that fits the name holds.
_KEPT: Final = {
    "": 2,
    "sqlite.write": 1,  # of the pages that a commit writes
    "race": 1,
}
_KEPT_OF_READS: Final = 1
# Each large document takes the same way into the blob store: one, two covers and one that is swept stand for all.
_FILES_OF: Final = frozenset({"-", "paper:in", "paper:out", "fallback:out", "late:in", "sweeper"})
# Once they are taken over, letters of a batch go the same way as any other that goes to an e-Box.
_AS_ANY_OTHER: Final = frozenset(f"{reference}:out" for reference in ITEMS)
_RECORDINGS: Final = 3  # on a busy machine a race may need another try
_MISSED_SHARE: Final = 0.05  # runs differ in their timing, so some points are not met again


@dataclass(kw_only=True)
class Count:
    """What became of the faults at the points of one name."""

    points: int = 0
    runs: int = 0
    hit: int = 0
    failed: int = 0


@dataclass(kw_only=True)
class Report:
    """What a campaign came to; `failures` holds a line for each violation, with its plan."""

    ledger: str
    recorded: int = 0
    counts: dict[str, Count] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    left: int = 0  # plans that were not tried, because the time was over
    run_seconds: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def runs(self) -> int:
        return sum(count.runs for count in self.counts.values())

    @property
    def holds(self) -> bool:
        """Whether nothing was violated, and all plans were really carried out."""
        return not self.failures and not self.left and len(self.missed) <= _MISSED_SHARE * max(self.runs, 1)


def record(crew: Crew, report: Report) -> list[Plan]:
    """Run once without a fault; return every plan that the points of that run allow."""
    verdicts: list[Verdict] = []
    missing = set(OUTCOMES.items())
    while missing and len(verdicts) < _RECORDINGS:
        crew.work([Job()], lambda _job, verdict: verdicts.append(verdict))
        missing = set(OUTCOMES.items()) - set(verdicts[-1].races)
        _note_failure(Job(), verdicts[-1], report)
    verdict = verdicts[-1]
    if missing:
        report.failures.append(f"the races were not run: {sorted(missing)}; there were {verdict.races}")
    report.recorded = len(verdict.points)
    plans = []
    for name, label, nth, ways in verdict.points:
        allowed = [Way(way) for way in ways.split(",")]
        if nth > _kept(name, allowed) or (name.startswith("file.") and label not in _FILES_OF):
            continue
        if label.rpartition("/")[2] in _AS_ANY_OTHER:
            continue
        plans += [Plan(Point(name, label, nth), way) for way in allowed]
    return plans


def sample(plans: Sequence[Plan]) -> list[Plan]:
    """Return one plan for each name of a point that changes something, the ways taking turns; always the same ones."""
    chosen: dict[str, Plan] = {}
    by_name: dict[str, list[Plan]] = {}
    for plan in sorted(plans):
        by_name.setdefault(plan.point.name, []).append(plan)
    for turn, (name, own) in enumerate(sorted(by_name.items())):
        ways = sorted({plan.way for plan in own})
        if ways != [Way.FAIL]:
            chosen[name] = next(plan for plan in own if plan.way is ways[turn % len(ways)])
    return list(chosen.values())


def carry_out(crew: Crew, plans: Iterable[Plan], report: Report, *, on_progress: "Progress", minutes: float) -> None:
    """Run every plan, as long as there is time; one whose point was not met is tried once more."""
    began_s = time.monotonic()
    until_s = began_s + 60.0 * minutes
    plans = sorted(plans)
    random.Random(0).shuffle(plans)  # so that what goes wrong everywhere shows soon
    for name, points in Counter(point.name for point in {plan.point for plan in plans}).items():
        report.counts[name] = Count(points=points)
    on_progress.begin(len(plans))
    again: list[Job] = []

    def done(job: Job, verdict: Verdict) -> None:
        if job.plan is None:
            return
        count = report.counts[job.plan.point.name]
        report.run_seconds.append(verdict.seconds)
        failed = _note_failure(job, verdict, report)
        count.failed += failed
        if verdict.hit or failed or job in again:
            count.runs += 1
            count.hit += verdict.hit
            if not verdict.hit:
                report.missed.append(str(job.plan))
        else:
            again.append(job)
        on_progress.step(job, verdict)

    report.left = crew.work([Job(plan=plan) for plan in plans], done, until_s=until_s)
    crew.work(list(again), done)
    report.seconds = time.monotonic() - began_s


class Progress:
    """Hears how far a campaign is."""

    def begin(self, runs: int) -> None:
        """So many runs will follow, and some of them twice."""

    def step(self, job: Job, verdict: Verdict) -> None:
        """One run has ended."""


def _note_failure(job: Job, verdict: Verdict, report: Report) -> bool:
    report.failures += [f"{job.plan or 'without a fault'}: {violation}" for violation in verdict.violations]
    if verdict.violations:
        report.logs.append(f"=== {job.plan}\n{verdict.log}")
    return bool(verdict.violations)


def _kept(name: str, ways: Sequence[Way]) -> int:
    if list(ways) == [Way.FAIL] and name.startswith("ledger."):
        return _KEPT_OF_READS
    return _KEPT[max((start for start in _KEPT if name.startswith(start)), key=len)]
