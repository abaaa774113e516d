"""The folder of the state is there for good before the first letter is."""

from pathlib import Path

import pytest

from gateway import house


def test_every_folder_that_is_made_is_synced_into_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(house, "sync_directory", synced.append)
    house.make_state_folder(tmp_path / "var" / "gateway")
    assert synced == [tmp_path, tmp_path / "var"]
    assert (tmp_path / "var" / "gateway").stat().st_mode & 0o777 == 0o700
    house.make_state_folder(tmp_path / "var" / "gateway")
    assert len(synced) == 2
