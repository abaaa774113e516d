"""The systemd unit: well formed, hardened, and in step with the program and with what its README says."""

import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway import cli

UNIT = "document-gateway.service"
MOST_EXPOSURE = "20"  # tenths: 2.0


def settings(unit: Path) -> Iterator[tuple[str, str]]:
    """Yield key and value of each setting, in order."""
    for line in unit.read_text("utf-8").splitlines():
        if line and not line.startswith(("#", ";", "[")):
            key, _, value = line.partition("=")
            yield key, value


def one(unit: Path, key: str) -> str:
    (value,) = [value for name, value in settings(unit) if name == key]
    return value


@pytest.fixture
def unit(kit: Path) -> Path:
    return kit / "systemd" / UNIT


def placed(unit: Path, folder: Path, *, with_network: bool, without: str = "(nothing)") -> Path:
    """Put the unit in a folder of its own, with a program that is there; leave out the lines that match `without`."""
    lines = unit.read_text("utf-8").replace("/opt/document-gateway/bin/gateway", "/bin/true").splitlines()
    copy = folder / UNIT
    copy.write_text("\n".join(line for line in lines if not re.match(without, line)) + "\n")
    if with_network:
        shutil.copytree(unit.with_name(f"{UNIT}.d"), folder / f"{UNIT}.d")
    return copy


def analyzed(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )


def security(unit: Path) -> subprocess.CompletedProcess[str]:
    return analyzed("security", "--offline=true", f"--threshold={MOST_EXPOSURE}", "--no-pager", unit)


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("with_network", [True, False])
def test_systemd_understands_every_setting(unit: Path, tmp_path: Path, *, with_network: bool) -> None:
    found = analyzed("verify", placed(unit, tmp_path, with_network=with_network))
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.needs("systemd-analyze")
def test_a_setting_that_systemd_does_not_know_is_found(unit: Path, tmp_path: Path) -> None:
    copy = placed(unit, tmp_path, with_network=True)
    copy.write_text(copy.read_text().replace("NoNewPrivileges=", "NoNewPrivilege="))
    assert "NoNewPrivilege" in analyzed("verify", copy).stderr


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("with_network", [True, False])
def test_little_is_left_open(unit: Path, tmp_path: Path, *, with_network: bool) -> None:
    found = security(placed(unit, tmp_path, with_network=with_network))
    assert found.returncode == 0, found.stdout


@pytest.mark.needs("systemd-analyze")
def test_an_exposed_unit_is_found(unit: Path, tmp_path: Path) -> None:
    hardening = "Protect|Private|Restrict|SystemCall|CapabilityBoundingSet|User=|NoNew"
    assert security(placed(unit, tmp_path, with_network=True, without=hardening)).returncode != 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        # What a rating of exposure does not ask for, and keys in memory do.
        ("LimitCORE", "0"),
        ("MemorySwapMax", "0"),
        ("UnsetEnvironment", "SSLKEYLOGFILE"),
        ("StateDirectoryMode", "0700"),
        ("MemoryDenyWriteExecute", "yes"),
        # The admin socket knows persons by their user id, which a user namespace of its own would hide.
        ("PrivateUsers", "no"),
        # The program tells when it is ready: test_service_manager.py.
        ("Type", "notify"),
    ],
)
def test_what_must_be_set_is_set(unit: Path, key: str, value: str) -> None:
    assert one(unit, key) == value


def test_no_watchdog_is_promised(unit: Path) -> None:
    assert [key for key, _ in settings(unit) if key.startswith("Watchdog")] == []


def test_the_command_is_one_that_the_program_takes(unit: Path) -> None:
    program, *arguments = shlex.split(one(unit, "ExecStart"))
    parsed = cli._parser().parse_args(arguments)
    assert Path(program).name == "gateway"
    assert (parsed.run, parsed.config) == (cli._serve, Path("/etc/document-gateway/gateway.toml"))


def test_stopping_may_take_as_long_as_what_runs(unit: Path, root: Path) -> None:
    example = tomllib.loads((root / "config" / "gateway.example.toml").read_text("utf-8"))
    drain = timedelta(seconds=int(example["limits"]["drain_timeout"].removeprefix("PT").removesuffix("S")))
    call = timedelta(seconds=max(provider["attempt_timeout_s"] for provider in example["providers"].values()))
    assert timedelta(seconds=int(one(unit, "TimeoutStopSec").removesuffix("s"))) > drain + call


def rows(readme: Path) -> dict[str, str]:
    """Return the table of what `gateway.toml` says there: key to value."""
    return dict(re.findall(r"^ *\| `([a-z0-9_.-]+)` \| `([^`]+)`", readme.read_text("utf-8"), re.MULTILINE))


@pytest.mark.parametrize("readme", ["systemd/README.md", "compose/README.md"])
def test_a_readme_tells_every_key_file_of_the_configuration(kit: Path, root: Path, readme: str) -> None:
    example = tomllib.loads((root / "config" / "gateway.example.toml").read_text("utf-8"))
    told = rows(kit / readme)
    secret = {key for key, _ in leaves(example) if key.endswith("key_file")}
    assert secret <= set(told)
    assert set(told) <= {key for key, _ in leaves(example)}


def leaves(table: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def test_the_readme_names_credentials_and_socket_as_the_unit_makes_them(unit: Path) -> None:
    told = rows(unit.with_name("README.md"))
    name, folder = one(unit, "LoadCredential").split(":")
    for key, value in told.items():
        if key.endswith("key_file"):
            assert value.startswith(f"/run/credentials/{UNIT}/{name}_"), key
    assert folder in unit.with_name("README.md").read_text("utf-8")
    assert told["admin.socket"].startswith(f"/run/{one(unit, 'RuntimeDirectory')}/")


def test_the_network_file_shuts_out_whoever_it_does_not_name(unit: Path) -> None:
    found = list(settings(unit.with_name(f"{UNIT}.d") / "network.conf"))
    assert found[0] == ("IPAddressDeny", "any")
    assert {key for key, _ in found[1:]} == {"IPAddressAllow"}
    assert "any" not in {value for _, value in found[1:]}
