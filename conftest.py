"""What every test run shares: the event-loop guard, the `needs` marker, and a mode in which nothing may be skipped."""

import os
import shutil
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "tests" / "plugins"))
pytest_plugins = ["loop_guard", "house", "batches", "postgres", "records", "verifying"]

NOTHING_MAY_BE_SKIPPED = os.environ.get("REQUIRE_ALL") == "1"


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers of this project."""
    config.addinivalue_line("markers", "needs(*programs): the system programs that the test runs")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose system programs are not installed."""
    programs = [str(name) for marker in item.iter_markers("needs") for name in marker.args]
    missing = sorted(name for name in programs if shutil.which(name) is None)
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    # An expected failure also counts as skipped in pytest's books, but it did run.
    if NOTHING_MAY_BE_SKIPPED and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: {reason} (nothing may be skipped: REQUIRE_ALL=1)"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one when REQUIRE_ALL=1."""
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn a skipped module into a failed one when REQUIRE_ALL=1."""
    report = yield
    _fail_if_skipped(report)
    return report
