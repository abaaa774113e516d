"""
`python -m tests.crash`: the crash harness without a screen.

Exit code 0 only when nothing was violated and the faults were really met.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gateway.demo.environment import _certificate_maker
from tests.crash.campaign import Progress, Report, carry_out, record, sample
from tests.crash.crew import Crew, Job
from tests.crash.ledgers import LEDGERS
from tests.crash.points import Plan
from tests.crash.runs import Verdict
from tests.crash.safeguards import SAFEGUARDS
from tests.crash.trials import Trial, try_without

_SHOWN: Final = 60
_TOLD: Final = 2


class _Bar(Progress):
    """Tells on standard error how far it is, every ten seconds."""

    def __init__(self) -> None:
        self._runs = self._done = 0
        self._told_s = time.monotonic()

    def begin(self, runs: int) -> None:
        self._runs = runs
        print(f"{runs} runs", file=sys.stderr)  # noqa: T201 -- a command's progress

    def step(self, job: Job, verdict: Verdict) -> None:
        self._done += 1
        for violation in verdict.violations:
            print(f"  {job.plan}: {violation}", file=sys.stderr)  # noqa: T201 -- a command's progress
        if time.monotonic() - self._told_s > 10:
            self._told_s = time.monotonic()
            print(f"  {self._done} of {self._runs}", file=sys.stderr)  # noqa: T201 -- a command's progress


def main() -> int:
    """Run what was asked for, with one ledger after the other; return the exit code."""
    arguments = _parser().parse_args()
    logs: list[str] = []
    with tempfile.TemporaryDirectory(prefix="crash-certs-") as folder:
        certs = Path(folder)
        _certificate_maker()(certs, datetime.now(UTC))
        verdicts = [_hold(ledger, certs, arguments, logs) for ledger in dict.fromkeys(arguments.ledger or LEDGERS)]
    if arguments.logs is not None:
        arguments.logs.write_text("\n\n".join(logs))
    return 0 if all(verdicts) else 1


def _hold(ledger: str, certs: Path, arguments: argparse.Namespace, logs: list[str]) -> bool:
    """Run what was asked for with one ledger, and show it; return whether it is as it should be."""
    crew = Crew(arguments.jobs, certs, ledger)
    try:
        if arguments.without is not None:
            names = arguments.without or list(SAFEGUARDS)
            return _show_trials(ledger, try_without(crew, names), as_json=arguments.json)
        report = Report(ledger=ledger)
        plans = _chosen(record(crew, report), arguments)
        if not report.failures:  # else every run would say the same
            carry_out(crew, plans, report, on_progress=_Bar(), minutes=arguments.minutes)
    finally:
        crew.close()
    logs += report.logs
    _show(report, as_json=arguments.json)
    return report.holds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description="Kill the gateway at every point.")
    parser.add_argument(
        "--ledger",
        choices=list(LEDGERS),
        action="append",
        help="may be given again; all, one after the other: none given",
    )
    parser.add_argument("--jobs", type=int, default=4, metavar="N", help="runs at the same time (4)")
    parser.add_argument("--sample", action="store_true", help="one fault for each kind of point")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, metavar="N", help="with each ledger, begin no run after so long"
    )
    parser.add_argument("--only", metavar="TEXT", help="faults whose description contains this")
    parser.add_argument(
        "--without", nargs="*", metavar="SAFEGUARD", help="take safeguards away, one by one; all: none named"
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON for each ledger")
    parser.add_argument("--logs", type=Path, metavar="FILE", help="keep the gateway's last words of runs that failed")
    return parser


def _chosen(plans: list[Plan], arguments: argparse.Namespace) -> list[Plan]:
    plans = sample(plans) if arguments.sample else plans
    return [plan for plan in plans if arguments.only is None or arguments.only in str(plan)]


def _show(report: Report, *, as_json: bool) -> None:
    longest_s = max(report.run_seconds, default=0.0)
    median_s = statistics.median(report.run_seconds) if report.run_seconds else 0.0
    if as_json:
        summary = {
            "ledger": report.ledger,
            "holds": report.holds,
            "runs": report.runs,
            "points": {name: count.points for name, count in report.counts.items()},
            "missed": report.missed,
            "left": report.left,
            "failures": report.failures,
            "seconds": report.seconds,
        }
        print(json.dumps(summary))  # noqa: T201 -- a command's answer
        return
    lines = [f"{'point':34} {'points':>6} {'runs':>6} {'hit':>6} {'failed':>6}"]
    lines += [
        f"{name:34} {count.points:6} {count.runs:6} {count.hit:6} {count.failed:6}"
        for name, count in sorted(report.counts.items())
    ]
    points = sum(count.points for count in report.counts.values())
    hit = sum(count.hit for count in report.counts.values())
    failed = sum(count.failed for count in report.counts.values())
    lines.append(f"{'all':34} {points:6} {report.runs:6} {hit:6} {failed:6}")
    lines.append(
        f"ledger {report.ledger}: {report.recorded} passages in a run without faults; {report.seconds:.0f} s, "
        f"{median_s:.1f} s a run, the longest {longest_s:.1f} s"
    )
    if report.left:
        lines.append(f"{report.left} runs were left when the time was over")
    lines += [f"not met: {plan}" for plan in report.missed]
    lines += [f"VIOLATED  {failure}" for failure in report.failures[:_SHOWN]]
    lines.append("all held" if report.holds else f"{len(report.failures)} violations")
    print("\n".join(lines))  # noqa: T201 -- a command's answer


def _show_trials(ledger: str, trials: list[Trial], *, as_json: bool) -> bool:
    if as_json:
        found = {each.name: {"caught": each.is_caught, "violations": each.violations} for each in trials}
        print(json.dumps({"ledger": ledger, "safeguards": found}))  # noqa: T201 -- a command's answer
    else:
        print(f"ledger {ledger}")  # noqa: T201 -- a command's answer
    for trial in trials if not as_json else ():
        caught = "caught  " if trial.is_caught else "NOT SEEN"
        first = "; ".join(trial.violations[:_TOLD])
        print(f"{caught} without {trial.name:24} ({trial.plan or 'no fault needed'}): {first}")  # noqa: T201 -- a command's answer
    return all(trial.is_caught for trial in trials)


if __name__ == "__main__":
    sys.exit(main())
