"""
The short form of the crash harness: one fault for each kind of point, always the same ones.

The harness forks, so it runs in a process of its own; `make crash` is the long form, with every point.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LONGEST_S = 900  # on a busy machine; alone it takes less than a minute

pytestmark = pytest.mark.timeout(LONGEST_S)


def harness(*options: str) -> tuple[int, Any]:
    """Run the harness; return its exit code and what it found."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash", "--json", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST_S,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_no_fault_at_any_kind_of_point_loses_or_doubles_a_letter() -> None:
    code, found = harness("--ledger", "sqlite", "--sample", "--jobs", "4")
    assert found["failures"] == []
    assert code == 0, found["missed"]
    kinds = {name.partition(".")[0] for name in found["points"]}
    assert kinds == {"file", "ledger", "sqlite", "call", "race"}


@pytest.mark.parametrize(
    ("ledger", "names"),
    [("sqlite", ["fence", "key-before-blob", "stable-key"]), ("postgres", ["ledger-sync", "reconcile"])],
)
def test_a_safeguard_that_is_gone_is_missed(ledger: str, names: list[str]) -> None:
    code, found = harness("--ledger", ledger, "--jobs", str(len(names)), "--without", *names)
    assert {name: each["caught"] for name, each in found["safeguards"].items()} == dict.fromkeys(names, True), found
    assert code == 0
