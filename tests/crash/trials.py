"""Runs without a safeguard: each has to end in a violation, or the harness would not miss the safeguard."""

from dataclasses import dataclass
from typing import Final

from tests.crash.crew import Crew, Job
from tests.crash.points import Plan
from tests.crash.runs import Verdict
from tests.crash.safeguards import SAFEGUARDS

_CHANCES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a run without a safeguard came to: its violations, those of the rule that was to be broken first."""

    name: str
    plan: Plan | None
    violations: list[str]

    @property
    def is_caught(self) -> bool:
        """Whether the rule was broken; a run that was only slow or got stuck proves nothing."""
        return any(violation.startswith(f"{SAFEGUARDS[self.name].rule}:") for violation in self.violations)


def try_without(crew: Crew, names: list[str]) -> list[Trial]:
    """Run the story without each of these safeguards; a race that did not come about is given two more chances."""
    trials: dict[str, Trial] = {}

    def done(job: Job, verdict: Verdict) -> None:
        (name,) = job.without
        rule = SAFEGUARDS[name].rule
        violations = sorted(verdict.violations, key=lambda each: not each.startswith(f"{rule}:"))
        trials[name] = Trial(name=name, plan=job.plan, violations=violations)

    for _ in range(_CHANCES):
        left = [name for name in names if name not in trials or not trials[name].is_caught]
        crew.work([Job(plan=SAFEGUARDS[name].removals[crew.ledger].plan, without=(name,)) for name in left], done)
    return [trials[name] for name in names]
