"""The page about failures names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_page_names_is_there_and_every_row_names_one() -> None:
    rows = [line for line in (ROOT / "docs" / "failures.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    named = [set(re.findall(r"`(test_\w+)`", row)) for row in rows[1:]]
    assert all(named)
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text("utf-8"))
    }
    assert set.union(*named) - there == set()
