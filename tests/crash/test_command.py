"""Which ledgers the command runs with, and its exit code."""

import sys
from collections.abc import Collection
from typing import Any

import pytest

from tests.crash import __main__ as command


def run(monkeypatch: pytest.MonkeyPatch, *options: str, violated: Collection[str] = ()) -> tuple[int, list[str]]:
    """Run the command without its runs; return the exit code and the ledgers in their order."""
    ran: list[str] = []

    def hold(ledger: str, *_rest: Any) -> bool:
        ran.append(ledger)
        return ledger not in violated

    monkeypatch.setattr(sys, "argv", ["tests.crash", *options])
    monkeypatch.setattr(command, "_certificate_maker", lambda: lambda _folder, _now: None)
    monkeypatch.setattr(command, "_hold", hold)
    return command.main(), ran


def test_without_a_choice_it_runs_with_each_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch) == (0, ["sqlite", "postgres"])
    assert run(monkeypatch, "--without") == (0, ["sqlite", "postgres"])


def test_it_runs_with_the_ledgers_that_are_named_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "--ledger", "postgres") == (0, ["postgres"])
    options = [option for ledger in ("postgres", "sqlite", "postgres") for option in ("--ledger", ledger)]
    assert run(monkeypatch, *options) == (0, ["postgres", "sqlite"])


@pytest.mark.parametrize("violated", ["sqlite", "postgres"])
def test_a_violation_with_either_ledger_counts_and_the_other_is_still_run(
    monkeypatch: pytest.MonkeyPatch, violated: str
) -> None:
    assert run(monkeypatch, violated=[violated]) == (1, ["sqlite", "postgres"])
