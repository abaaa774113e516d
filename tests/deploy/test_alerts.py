"""The alert rules, their tests and their runbooks."""

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway import cli

SOME_ID = "0190163d-8694-739b-aea5-966c26f8ad90"
# An event that a runbook looks for in the log.
LOOKED_FOR = re.compile(r"grep '([a-z][a-z ]+)'|grep '\"event\": \"([a-z ]+)\"'")


def rules_of(kit: Path) -> list[dict[str, Any]]:
    groups = yaml.safe_load((kit / "prometheus" / "alerts.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def promtool(kit: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *arguments],
        cwd=kit / "prometheus",
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.needs("promtool")
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
)
def test_prometheus_accepts_the_rules_and_their_tests_hold(kit: Path, arguments: tuple[str, ...]) -> None:
    found = promtool(kit, *arguments)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.needs("prometheus-blackbox-exporter")
def test_the_prober_accepts_its_modules(kit: Path) -> None:
    found = subprocess.run(
        ["prometheus-blackbox-exporter", "--config.check", f"--config.file={kit / 'prometheus' / 'blackbox.yml'}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert found.returncode == 0, found.stderr


def test_for_every_alert_it_is_shown_when_it_fires_and_when_it_does_not(kit: Path) -> None:
    tests = yaml.safe_load((kit / "prometheus" / "alerts_test.yml").read_text("utf-8"))["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    alerts = sorted(rule["alert"] for rule in rules_of(kit))
    assert sorted({case["alertname"] for case in cases if case["exp_alerts"]}) == alerts
    assert sorted({case["alertname"] for case in cases if not case["exp_alerts"]}) == alerts


def test_every_alert_says_what_is_wrong_how_bad_it_is_and_what_to_do(kit: Path) -> None:
    for rule in rules_of(kit):
        annotations = rule["annotations"]
        runbook = kit.parent / annotations["runbook"]
        assert set(annotations) == {"summary", "description", "runbook"}, rule["alert"]
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["alert"] in runbook.read_text("utf-8").splitlines()[0], runbook


def test_every_runbook_belongs_to_an_alert_and_says_what_to_do(kit: Path) -> None:
    used = {rule["annotations"]["runbook"] for rule in rules_of(kit)}
    assert {f"deploy/runbooks/{path.name}" for path in (kit / "runbooks").glob("*.md")} == used
    for path in (kit / "runbooks").glob("*.md"):
        text = path.read_text("utf-8")
        assert [part for part in ("**It means:**", "**Look at**", "**Do**") if part not in text] == [], path


def test_every_link_of_the_kit_leads_somewhere(kit: Path) -> None:
    found = [
        (path, target)
        for path in sorted(kit.rglob("*.md"))
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text("utf-8"))
    ]
    assert found
    assert [(path, target) for path, target in found if not (path.parent / target).exists()] == []


def test_every_command_of_the_gateway_in_the_kit_is_one_that_it_takes(kit: Path) -> None:
    found = [
        command
        for path in sorted(kit.rglob("*.md"))
        for command in re.findall(r"`(?:docker compose exec [^`]*? )?(gateway [a-z-][^`]*)`", path.read_text("utf-8"))
    ]
    assert len(found) > 15
    for command in found:
        words = shlex.split(command.replace("MESSAGE", SOME_ID).replace("DELIVERY", SOME_ID))
        first = words.count("gateway")  # in a container its name goes before, and is the same
        assert cli._parser().parse_args(words[first:]).run is not None


def test_every_event_that_a_runbook_looks_for_is_one_that_the_gateway_logs(kit: Path, root: Path) -> None:
    wanted = {
        first or second
        for path in (kit / "runbooks").glob("*.md")
        for first, second in LOOKED_FOR.findall(path.read_text("utf-8"))
    }
    assert len(wanted) > 4
    assert sorted(wanted - set(logged(root / "gateway"))) == []


def logged(package: Path) -> Iterator[str]:
    """Yield the events that are written out at their log calls."""
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="_log")), args=arguments):
                    yield from (str(each.value) for each in arguments if isinstance(each, ast.Constant))
                case _:
                    pass


def test_every_name_of_a_metric_in_the_runbooks_is_one_of_ours(kit: Path, root: Path) -> None:
    sources = ("telemetry.py", "admin/provider_figures.py")
    telemetry = "".join((root / "gateway" / source).read_text("utf-8") for source in sources)
    named = {
        name
        for path in (kit / "runbooks").glob("*.md")
        for name in re.findall(r"\bgateway_\w+", path.read_text("utf-8"))
    }
    assert named
    assert [name for name in sorted(named) if f'"{name.removesuffix("_total")}"' not in telemetry] == []
