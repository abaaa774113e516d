"""Shows what the root conftest.py does with tests that cannot run here, by running one of each kind."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OF_EACH_KIND = """
import pytest

@pytest.mark.needs("python3-of-another-world", "sh")
def test_that_needs_a_missing_program(): ...

@pytest.mark.needs("sh")
def test_that_needs_a_present_program(): ...

def test_that_skips_itself():
    pytest.skip("of its own accord")

@pytest.mark.xfail(strict=True)
def test_that_is_expected_to_fail():
    raise ValueError
"""
OF_A_MODULE = "import pytest\npytest.importorskip('module_of_another_world')\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "conftest.py", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "tests" / "plugins", tmp_path / "tests" / "plugins")
    (tmp_path / "tests" / "test_each.py").write_text(OF_EACH_KIND)
    (tmp_path / "tests" / "test_module.py").write_text(OF_A_MODULE)
    return tmp_path


def outcomes(project: Path, *, require_all: str) -> tuple[str, list[str]]:
    """Return the report of a test run in `project`, and its last line as a list of counts."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "-n", "0"],
        cwd=project,
        env=environment | {"REQUIRE_ALL": require_all, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    counts = done.stdout.strip().splitlines()[-1].strip("= ").partition(" in ")[0]
    return done.stdout, counts.split(", ")


def test_what_cannot_run_is_skipped_with_its_reason(project: Path) -> None:
    report, counts = outcomes(project, require_all="")
    assert counts == ["1 passed", "3 skipped", "1 xfailed"]
    assert "not installed: python3-of-another-world\n" in report


def test_nothing_may_be_skipped_when_all_is_required(project: Path) -> None:
    report, counts = outcomes(project, require_all="1")
    assert counts == ["1 error"]  # a module that could not be loaded stops the run
    assert "module_of_another_world" in report

    (project / "tests" / "test_module.py").unlink()
    report, counts = outcomes(project, require_all="1")
    assert counts == ["1 failed", "1 passed", "1 xfailed", "1 error"]  # an error: it failed before it ran
    assert "not installed: python3-of-another-world (nothing may be skipped: REQUIRE_ALL=1)" in report
