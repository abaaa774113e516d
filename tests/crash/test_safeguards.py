"""The table of safeguards is whole: each can be taken away with each ledger, where that ledger has it."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.crash.ledgers import LEDGERS
from tests.crash.safeguards import SAFEGUARDS

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "reliability.md"
# Taken away for good, so in a process of its own.
TAKE_ALL_AWAY: Final = """
import sys
from tests.crash.safeguards import SAFEGUARDS
for each in SAFEGUARDS.values():
    each.removals[sys.argv[1]].take_away()
"""


def test_each_safeguard_can_be_taken_away_with_each_ledger() -> None:
    for name, safeguard in SAFEGUARDS.items():
        assert set(safeguard.removals) == set(LEDGERS), name


@pytest.mark.parametrize("ledger", LEDGERS)
def test_nothing_of_another_ledger_is_taken_away_or_waited_for(ledger: str) -> None:
    own = {"tests.crash.removals", f"tests.crash.{ledger}_removals"}
    others = {f"{each}." for each in LEDGERS if each != ledger}
    for name, safeguard in SAFEGUARDS.items():
        removal = safeguard.removals[ledger]
        assert removal.take_away.__module__ in own, name
        assert removal.plan is None or not removal.plan.point.name.startswith(tuple(others)), name


@pytest.mark.parametrize("ledger", LEDGERS)
def test_what_is_to_be_taken_away_is_there(ledger: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TAKE_ALL_AWAY, ledger], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_page_tells_what_was_seen_without_each() -> None:
    rows = re.findall(r"^\|[^|]+\| `([a-z-]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert rows == list(SAFEGUARDS)
