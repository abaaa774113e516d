import stat
import tomllib
from pathlib import Path

import pytest
import tomli_w

from gateway.cli import main

DEV = Path(__file__).parents[2] / "config" / "gateway.dev.toml"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    values = tomllib.loads(DEV.read_text())
    values["gateway"]["state"] = str(tmp_path)
    values["stores"] = {"keyring": f"local:{tmp_path}/keyring"}
    file = tmp_path / "gateway.toml"
    file.write_text(tomli_w.dumps(values))
    return file


def test_a_keyring_is_made_once_and_never_over_another(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "create", "--config", str(config)]) == 0
    keyring = config.parent / "keyring"
    made = keyring.read_bytes()
    assert stat.S_IMODE(keyring.stat().st_mode) == 0o600
    assert "Back it up" in capsys.readouterr().out
    assert main(["keys", "create", "--config", str(config)]) == 1
    assert keyring.read_bytes() == made
    assert "never overwritten" in capsys.readouterr().err
