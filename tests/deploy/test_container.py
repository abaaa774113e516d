"""The image and the composition: what they copy and call exists, and every container is confined."""

import asyncio
import fnmatch
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gateway import cli

WAIT_S = 30.0
WATCHERS = ("blackbox", "prometheus", "grafana")
PACKAGE_INSTALLERS = re.compile(r"\b(?:pip|apt|apt-get|apk|dpkg|gcc|make|curl|wget)\b(?!\*)")


# ── The image ──


@dataclass(frozen=True)
class Instruction:
    word: str
    rest: str

    @property
    def words(self) -> list[str]:
        """The arguments of the form that runs no shell."""
        found: list[str] = json.loads(self.rest)
        return found


def stages(containerfile: Path) -> list[list[Instruction]]:
    """Return the instructions of each stage; what stands before the first FROM comes first."""
    text = re.sub(r"^#.*\n", "", containerfile.read_text("utf-8"), flags=re.MULTILINE)
    found: list[list[Instruction]] = [[]]
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            if word == "FROM":
                found.append([])
            found[-1].append(Instruction(word, rest.strip()))
    return found


def of(stage: list[Instruction], word: str) -> list[Instruction]:
    return [each for each in stage if each.word == word]


def only(stage: list[Instruction], word: str) -> Instruction:
    (found,) = of(stage, word)
    return found


@pytest.fixture
def containerfile(kit: Path) -> Path:
    return kit / "container" / "Containerfile"


def copied(stage: list[Instruction]) -> Iterator[str]:
    """Yield what a stage copies from the checkout."""
    for each in of(stage, "COPY"):
        words = each.rest.split()
        if not words[0].startswith("--from="):
            yield from words[:-1]


def test_everything_that_is_copied_exists_and_reaches_the_builder(containerfile: Path, root: Path) -> None:
    _, build, final = stages(containerfile)
    rules = containerfile.with_name("Containerfile.dockerignore").read_text("utf-8").splitlines()
    let_in = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    wanted = [*copied(build), *copied(final)]
    assert rules[1] == "*"  # all that is not let in stays out
    assert wanted
    assert [path for path in wanted if not (root / path).exists()] == []
    assert [path for path in wanted if not any(fnmatch.fnmatch(path, rule) for rule in let_in)] == []


def test_what_is_built_reaches_the_image_from_the_build_stage_alone(containerfile: Path) -> None:
    _, build, final = stages(containerfile)
    assert only(build, "FROM").rest.endswith(" AS build")
    assert list(copied(final)) == []
    assert [each.rest.split()[0] for each in of(final, "COPY")] == ["--from=build"]


def test_the_image_can_neither_install_nor_build(containerfile: Path) -> None:
    *_, final = stages(containerfile)
    commands = " ".join(each.rest for each in of(final, "RUN"))
    assert PACKAGE_INSTALLERS.findall(commands) == []
    for gone in ("site-packages", "ensurepip", "pip*", "python3*-config"):
        assert re.search(rf"rm -rf [^&]*{re.escape(gone)}", commands), gone


def test_every_package_is_installed_by_its_hash_or_built_here(containerfile: Path) -> None:
    _, build, _ = stages(containerfile)
    installs = [part for each in of(build, "RUN") for part in each.rest.split("&&") if " install " in part]
    assert installs
    for install in installs:
        from_lock = "--require-hashes --only-binary :all: --no-deps" in install
        assert from_lock or "--no-deps --no-index wheel/*.whl" in install, install


def test_the_base_is_named_once_and_can_be_pinned(containerfile: Path) -> None:
    before, build, final = stages(containerfile)
    name, _, image = only(before, "ARG").rest.partition("=")
    assert name == "BASE"
    assert re.fullmatch(r"docker\.io/library/python:3\.11[\w.-]+(@sha256:[0-9a-f]{64})?", image)
    assert [only(stage, "FROM").rest.split()[0] for stage in (build, final)] == ["${BASE}", "${BASE}"]


def test_the_gateway_runs_as_nobody_in_particular(containerfile: Path) -> None:
    *_, final = stages(containerfile)
    uid, gid = only(final, "USER").rest.split(":")
    assert int(uid) >= 10_000
    assert int(gid) >= 10_000


def test_the_image_starts_a_command_that_the_program_takes(containerfile: Path, root: Path) -> None:
    *_, final = stages(containerfile)
    (program,) = only(final, "ENTRYPOINT").words
    scripts = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    parsed = cli._parser().parse_args(only(final, "CMD").words)
    assert program.removeprefix("/opt/document-gateway/bin/") in scripts
    assert parsed.config == Path("/etc/document-gateway/gateway.toml")


@pytest.mark.parametrize("stage", [1, 2])
def test_every_command_of_the_build_is_one_that_a_shell_understands(containerfile: Path, stage: int) -> None:
    for each in of(stages(containerfile)[stage], "RUN"):
        found = subprocess.run(["sh", "-n"], input=each.rest, text=True, capture_output=True, check=False, timeout=30)
        assert (found.returncode, found.stderr) == (0, ""), each.rest


# ── What it needs while it runs ──


IN_THE_IMAGE = {"python_version": "3.11", "python_full_version": "3.11.9"}  # whatever runs this test


def needed(names: list[str]) -> set[str]:
    """Return the names of all packages that these requirements bring along in the image."""
    found: set[tuple[str, str]] = set()
    open_ends = [(Requirement(text), "") for text in names]
    while open_ends:
        requirement, extra = open_ends.pop()
        name = canonicalize_name(requirement.name)
        marker = requirement.marker
        if (name, extra) in found or (marker and not marker.evaluate({**IN_THE_IMAGE, "extra": extra})):
            continue
        for own_extra in ("", *requirement.extras):
            found.add((name, own_extra))
            open_ends += [(Requirement(text), own_extra) for text in metadata.requires(name) or []]
    return {name for name, _ in found}


def test_the_packages_of_run_time_are_those_that_the_project_asks_for(kit: Path, root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    listed = [line for line in (kit / "runtime.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert listed == sorted(needed(project["dependencies"]))


def test_the_lock_of_run_time_is_that_part_of_the_lock(kit: Path, root: Path) -> None:
    printed = subprocess.run([kit / "runtime-lock"], capture_output=True, text=True, check=True, timeout=30).stdout
    whole = (root / "requirements.lock").read_text("utf-8")
    blocks = re.split(r"^(?=[^ ])", printed, flags=re.MULTILINE)[1:]
    listed = [line for line in (kit / "runtime.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert sorted(block.partition("==")[0] for block in blocks) == listed
    assert [block for block in blocks if block not in whole or "--hash=sha256:" not in block] == []


# ── The composition ──


@pytest.fixture
def compose(kit: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((kit / "compose" / "compose.yaml").read_text("utf-8"))
    return found


@pytest.mark.parametrize("name", ["gateway", *WATCHERS])
def test_every_container_is_confined(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["tmpfs"]
    assert [mount for mount in service["tmpfs"] if not {"noexec", "nosuid", "nodev"} <= set(mount.split(","))] == []
    assert int(service["user"].split(":")[0]) > 0
    assert {"privileged", "cap_add", "devices", "pid", "ipc", "network_mode"} & set(service) == set()
    assert not any("docker.sock" in volume for volume in service["volumes"])


def test_the_tests_know_every_container(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"gateway", *WATCHERS}


def test_every_image_has_a_version(compose: dict[str, Any], root: Path) -> None:
    images = {name: service["image"] for name, service in compose["services"].items()}
    version = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert images["gateway"] == f"document-gateway:{version}"
    for name in WATCHERS:
        assert re.fullmatch(r"docker\.io/[\w./-]+:v?\d[\w.-]*(@sha256:[0-9a-f]{64})?", images[name]), name


def test_every_file_of_the_checkout_that_is_used_exists(compose: dict[str, Any], kit: Path) -> None:
    folder = kit / "compose"
    build = compose["services"]["gateway"]["build"]
    used = [volume.split(":")[0] for service in compose["services"].values() for volume in service["volumes"]]
    mounted = [path for path in used if path.startswith(".")]
    assert len(mounted) > 4
    assert [path for path in mounted if not (folder / path).exists()] == []
    assert (folder / build["context"] / build["dockerfile"]).is_file()


def test_what_is_mounted_from_outside_cannot_be_changed(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service["volumes"]:
            assert volume.startswith(tuple(f"{name}:" for name in compose["volumes"])) or volume.endswith(":ro"), volume


def test_secrets_are_files_and_never_variables(compose: dict[str, Any]) -> None:
    secrets = compose["secrets"]
    assert {name for service in compose["services"].values() for name in service.get("secrets", [])} == set(secrets)
    assert all(set(secret) == {"file"} for secret in secrets.values())
    for service in compose["services"].values():
        for variable, value in service.get("environment", {}).items():
            secret = re.search("PASSWORD|SECRET|KEY|TOKEN", variable)
            assert not secret or (variable.endswith("__FILE") and value.startswith("/run/secrets/")), variable


def test_the_configuration_names_the_secrets_that_there_are(compose: dict[str, Any], kit: Path) -> None:
    told = re.findall(r"`/run/secrets/([^`]+)`", (kit / "compose" / "README.md").read_text("utf-8"))
    assert sorted(told) == sorted(compose["services"]["gateway"]["secrets"])


def test_only_senders_and_recipients_get_in_from_outside(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["gateway"]["ports"] == ["8443:8443", "8444:8444"]
    for name in WATCHERS:
        assert [port for port in services[name].get("ports", []) if not port.startswith("127.0.0.1:")] == []
    assert compose["networks"]["watching"] == {"internal": True}
    assert [name for name in WATCHERS if "outside" in services[name]["networks"]] == []


def test_keys_in_memory_are_neither_swapped_nor_dumped(compose: dict[str, Any]) -> None:
    gateway = compose["services"]["gateway"]
    assert gateway["memswap_limit"] == gateway["mem_limit"]
    assert gateway["ulimits"]["core"] == 0


def test_the_composition_runs_the_command_of_the_image(compose: dict[str, Any], containerfile: Path) -> None:
    *_, final = stages(containerfile)
    gateway = compose["services"]["gateway"]
    assert gateway["command"] == only(final, "CMD").words
    assert gateway["user"] == only(final, "USER").rest


# ── The health check ──


def checks(compose: dict[str, Any], containerfile: Path) -> tuple[list[str], list[str]]:
    *_, final = stages(containerfile)
    _, _, command = only(final, "HEALTHCHECK").rest.partition("CMD ")
    return compose["services"]["gateway"]["healthcheck"]["test"][1:], json.loads(command)


def test_image_and_composition_check_health_alike(compose: dict[str, Any], containerfile: Path) -> None:
    of_compose, of_image = checks(compose, containerfile)
    assert of_compose == of_image


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
async def test_the_health_check_holds_what_readiness_answers(
    compose: dict[str, Any], containerfile: Path, status: int, code: int
) -> None:
    async def ready(_request: web.Request) -> web.Response:
        return web.json_response({}, status=status)

    application = web.Application()
    application.router.add_get("/health/ready", ready)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    (_, *arguments), _ = checks(compose, containerfile)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *(word.replace(":9464", f":{port}") for word in arguments), stderr=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(WAIT_S):
        assert await process.wait() == code
    await runner.cleanup()
