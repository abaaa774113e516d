"""Holds the direction of imports inside the gateway, and the purity of its domain."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "gateway").rglob("*.py"))
}

# A part is a module or package directly under gateway. It imports parts of its own rank or lower; a new part gets a
# rank here.
RANK = {
    "": 0,  # gateway/__init__.py itself
    "allocator": 0,
    "clock": 0,
    "domain": 0,
    "errors": 1,
    "config": 2,
    "telemetry": 1,
    "crypto": 2,
    "stores": 2,
    "adapters": 2,
    "records": 2,
    "accept": 3,
    "arrivals": 3,
    "deliver": 3,
    "intake": 4,
    "covers": 4,
    "dispatch": 4,
    "portal": 4,
    "hooks": 4,
    "admin": 4,
    "integrity": 4,
    "online": 4,
    "health": 5,
    "house": 5,
    "app": 5,
    "preflight": 5,
    "reloading": 5,
    "supervising": 5,
    "client": 6,
    "simulators": 6,
    "demo": 6,
    "cli": 6,
    "__main__": 6,
}
# Parts that may import these others only: what everyone builds on, and what stands apart from the server.
ONLY = {
    "errors": {"", "domain"},
    "client": {"", "domain", "errors", "crypto"},
    "simulators": {"", "domain", "errors", "crypto"},
}
# The two spines, inside the request and inside a worker, meet only at the ledger.
SPINES = {"accept", "arrivals", "intake"}, {"deliver", "dispatch"}

# Standard library that reaches the outside world, waits, or reads a clock.
IMPURE = {
    "asyncio", "http", "logging", "multiprocessing", "os", "pathlib", "shutil", "socket", "sqlite3", "ssl",
    "subprocess", "tempfile", "threading", "time",
}  # fmt: skip


def imports(module: str, source: str, *, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Yield line number and absolute name of everything that `source` imports, wherever in the file."""
    for node in ast.walk(ast.parse(source, module)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            enclosing = module.split(".")
            enclosing = enclosing[: len(enclosing) - node.level + is_package] if node.level else []
            base = ".".join([*enclosing, *filter(None, [node.module])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def part_of(name: str) -> str | None:
    """Return the part of the gateway to which an absolute name belongs, or None when it is no part of the gateway."""
    package, part = [*name.split("."), ""][:2]
    if package != "gateway":
        return None
    return "" if part.startswith("__") and part not in RANK else part


def wrong_imports(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """Return what `source`, as `module`, imports against the direction, each with its line."""
    part = part_of(module)
    if part not in RANK:
        return [f"{module} has no rank"]
    wrong = []
    for line, name in imports(module, source, is_package=is_package):
        target = part_of(name)
        if target is None or target == part:
            continue
        upwards = RANK.get(target, 99) > RANK[part]
        astray = part in ONLY and target not in ONLY[part]
        across = any(part in spine and target in other for spine in SPINES for other in SPINES if spine is not other)
        if upwards or astray or across:
            wrong.append(f"{module}:{line} imports {name}")
    return wrong


def impurities(module: str, source: str) -> list[str]:
    """Return what a module of the domain may not contain: outside code, I/O, coroutines, clocks."""
    found = [
        f"{module}:{line} imports {name}"
        for line, name in imports(module, source)
        if (top := name.split(".")[0]) != "gateway" and (top in IMPURE or top not in sys.stdlib_module_names)
    ]
    for node in ast.walk(ast.parse(source, module)):
        match node:
            case ast.AsyncFunctionDef():
                found.append(f"{module}:{node.lineno} is asynchronous")
            case ast.Call(func=ast.Name(id="open" | "input" | "print")):
                found.append(f"{module}:{node.lineno} does I/O")
            case (
                ast.Call(func=ast.Attribute(attr="now" | "utcnow" | "today"))
                | ast.Attribute(value=ast.Name(id="datetime" | "date"), attr="now" | "utcnow" | "today")
                | ast.Attribute(value=ast.Name(id="time"), attr="time" | "monotonic" | "time_ns" | "monotonic_ns")
            ):
                found.append(f"{module}:{node.lineno} reads a clock")
            case _:
                pass
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return a circle of parts that import each other, or nothing when there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def failures_alone(directory: Path, modules: list[str]) -> list[str]:
    """Return a line for each of `modules`, found under `directory`, that a fresh interpreter cannot import."""
    script = Path(__file__).with_name("import_alone.py")
    command = [sys.executable, str(script), str(directory), *modules]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=110).stdout.splitlines()


def test_imports_point_one_way() -> None:
    found = [
        line
        for module, path in MODULES.items()
        for line in wrong_imports(module, path.read_text("utf-8"), is_package=path.name == "__init__.py")
    ]
    assert found == []


def test_no_two_parts_import_each_other() -> None:
    graph: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        part = part_of(module) or ""
        names = imports(module, path.read_text("utf-8"), is_package=path.name == "__init__.py")
        targets = {target for _, name in names if (target := part_of(name)) is not None}
        graph.setdefault(part, set()).update(targets - {part})
    assert circle(graph) == []


def test_the_domain_is_pure() -> None:
    domain = {module: path for module, path in MODULES.items() if part_of(module) == "domain"}
    assert len(domain) > 1
    assert [line for module, path in domain.items() for line in impurities(module, path.read_text("utf-8"))] == []


@pytest.mark.parametrize("part", sorted({part_of(module) or "" for module in MODULES}))
def test_every_module_imports_alone(part: str) -> None:
    assert failures_alone(ROOT, [module for module in MODULES if (part_of(module) or "") == part]) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("gateway.domain.ids", "from gateway.errors import GatewayError"),
        ("gateway.domain.ids", "from gateway import errors"),
        ("gateway.domain.ids", "from .. import errors"),
        ("gateway.errors", "from gateway.crypto import sealing"),
        ("gateway.errors", "from gateway.config import Config"),
        ("gateway.stores.ledger", "def later():\n    from gateway.accept import accept"),
        ("gateway.crypto.tls", "import gateway.app"),
        ("gateway.crypto.tls", "from ..app import run"),
        ("gateway.accept", "from gateway.deliver import deliver"),
        ("gateway.intake.handlers", "from gateway.dispatch.worker import Worker"),
        ("gateway.app", "import gateway.cli"),
        ("gateway.app", "from gateway import simulators"),
        ("gateway.client.send", "from gateway.stores import ledger"),
        ("gateway.simulators.ebox", "from gateway.client import send"),
        ("gateway.app", "from gateway.newcomer import thing"),
        ("gateway.newcomer", ""),
    ],
)
def test_an_import_against_the_direction_is_found(module: str, source: str) -> None:
    assert len(wrong_imports(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "gateway.domain.message",
            "import uuid\nfrom gateway.domain import ids\nfrom .ids import DeliveryId",
        ),
        ("gateway.config", "from gateway.errors import GatewayError"),
        ("gateway.records.traffic", "from gateway.stores.ledger import Ledger"),
        ("gateway.cli", "from gateway import __version__, client, demo"),
        ("gateway.client.send", "from gateway.crypto import tls\nfrom . import batch"),
    ],
)
def test_an_import_with_the_direction_passes(module: str, source: str) -> None:
    assert wrong_imports(module, source) == []


@pytest.mark.parametrize(
    "source",
    [
        "import lxml.etree",
        "import asyncio",
        "from time import monotonic",
        "async def f(): ...",
        "def f(path):\n    return open(path)",
        "from datetime import UTC, datetime\nat = datetime.now(UTC)",
        "from datetime import datetime\nat = datetime.utcnow()",
        "import datetime\nat = datetime.datetime.now()",
        "from datetime import datetime\nclock = datetime.now",
        "started = time.time()",
    ],
)
def test_an_impurity_in_the_domain_is_found(source: str) -> None:
    assert impurities("gateway.domain.ids", source)


def test_a_value_called_now_is_no_impurity() -> None:
    assert impurities("gateway.domain.schedule", "def due(now, at): return at.time() < now.time() and at.now") == []


def test_a_circle_of_parts_is_found() -> None:
    assert set(circle({"stores": {"records"}, "records": {"crypto"}, "crypto": {"stores"}})) == {
        "stores", "records", "crypto",
    }  # fmt: skip


def test_a_module_that_cannot_be_imported_alone_is_found(tmp_path: Path) -> None:
    package = tmp_path / "circular"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "good.py").write_text("import json\n")
    (package / "one.py").write_text("from circular.two import b\na = 1\n")
    (package / "two.py").write_text("b = 1\nfrom circular.one import a\n")
    failed = failures_alone(tmp_path, ["circular.good", "circular.one", "circular.two"])
    assert [line.partition(":")[0] for line in failed] == ["circular.one"]
