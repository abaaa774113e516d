"""Holds rules about the whole tree that no linter knows."""

import ast
import fnmatch
import io
import os
import re
import tokenize
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]

REQUIRED = {
    ".ci/run", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "SECURITY.md",
    "certs-dev/make.py", "config/categories.toml", "config/gateway.dev.toml", "config/gateway.example.toml",
    "docs/decisions.md", "pyproject.toml", "requirements.lock",
}  # fmt: skip
EMPTY_NAMES = {"utils", "common", "misc", "helpers"}

# The one reader of XML from outside. What stands beside it may make XML, or take from it what it has read.
XML_READER = "gateway/crypto/xmlsig.py"
XML_READING = {"XMLVerifier", "XMLParser", "XMLPullParser", "fromstring", "fromstringlist", "iterparse"}
XML_READING_IN_ETREE = {"parse", "XML", "XMLID", "HTML", "HTMLParser"}
OTHER_XML_LIBRARIES = {"xml", "defusedxml", "xmlsec"}

# Put together here, so that this file does not hold what it looks for.
REGISTRY_HOSTS = [
    ".".join(labels).encode()
    for labels in (
        ("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("crates", "io"),
        ("deb", "debian", "org"), ("security", "debian", "org"),
    )
]  # fmt: skip
MACHINE_PATH = re.compile(rb"(?<![\w.*~}])/(?:work|farm|root|Users|home/\w+)/[\w.]")

LOCKED = re.compile(r"(?P<name>[a-z0-9.-]+)==(?P<version>[0-9][\w.]*)(?: ; [\w .'!=<>()]+)? \\")
LOCK_HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")

DIRECTIVE = re.compile(r"#\s*(?:type:\s*ignore|noqa)", re.IGNORECASE)
CODED_DIRECTIVE = re.compile(r"#\s*(?:type:\s*ignore\[[a-z, -]+\]|noqa:\s*[A-Z]+\d+(?:[,\s]+[A-Z]+\d+)*)")
FILE_DIRECTIVE = re.compile(r"#\s*(?:ruff|flake8|mypy)\s*:", re.IGNORECASE)
WORD = re.compile(r"[A-Za-z]{3,}")


def project_files() -> Iterator[Path]:
    """Yield every file of the project: all that `.gitignore` does not set aside."""
    ignored = [".git", *(line.strip("/") for line in (ROOT / ".gitignore").read_text("utf-8").splitlines() if line)]
    for directory, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not any(fnmatch.fnmatch(name, rule) for rule in ignored)]
        names = (name for name in files if not any(fnmatch.fnmatch(name, rule) for rule in ignored))
        yield from (Path(directory, name) for name in names)


FILES = {path.relative_to(ROOT).as_posix(): path for path in sorted(project_files())}
SOURCES = {name: path.read_text("utf-8") for name, path in FILES.items() if name.endswith(".py")}
GATEWAY = {name: source for name, source in SOURCES.items() if name.startswith("gateway/")}


def empty_names(paths: set[str]) -> set[str]:
    """Return the Python files whose name, or whose package's name, says nothing of what is in them."""
    return {path for path in paths if path.endswith(".py") and EMPTY_NAMES & set(path.removesuffix(".py").split("/"))}


def assertions(name: str, source: str) -> list[str]:
    """Return the assert statements: they vanish under `python -O`, so nothing may rest on them."""
    return [f"{name}:{node.lineno}" for node in ast.walk(ast.parse(source, name)) if isinstance(node, ast.Assert)]


def bare_directives(name: str, source: str) -> list[str]:
    """Return the comments that silence a tool without a code and a reason in words, or for a whole file."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        rest = CODED_DIRECTIVE.sub("", token.string)
        silences = DIRECTIVE.search(token.string)
        if FILE_DIRECTIVE.match(token.string) or (silences and (DIRECTIVE.search(rest) or not WORD.search(rest))):
            found.append(f"{name}:{token.start[0]} {token.string}")
    return found


def xml_reading(name: str, source: str) -> list[str]:
    """Return what reads or verifies XML, or could, outside the one module that does so safely."""
    if name == XML_READER:
        return []
    beside_it = Path(name).parent == Path(XML_READER).parent
    found = []
    for node in ast.walk(ast.parse(source, name)):
        match node:
            case ast.Import(names=aliases):
                modules, names = {alias.name.split(".")[0] for alias in aliases}, set()
            case ast.ImportFrom(module=str(module), names=aliases):
                modules, names = {module.split(".")[0]}, {alias.name for alias in aliases}
            case ast.Attribute(value=ast.Name(id="etree"), attr=attr) if attr in XML_READING_IN_ETREE:
                modules, names = set(), XML_READING
            case ast.Attribute(attr=attr) | ast.Name(id=attr):
                modules, names = set(), {attr}
            case _:
                continue
        if modules & OTHER_XML_LIBRARIES or names & XML_READING or ("lxml" in modules and not beside_it):
            found.append(f"{name}:{node.lineno}")
    return found


def foreign_lock_lines(lock: str) -> list[str]:
    """Return the lines of a lock file that are neither a pinned version nor a hash; so no address can hide in it."""
    return [line for line in lock.splitlines() if not (LOCKED.fullmatch(line) or LOCK_HASH.fullmatch(line))]


def locked_versions(lock: str) -> dict[str, str]:
    return {match["name"]: match["version"] for line in lock.splitlines() if (match := LOCKED.fullmatch(line))}


def unlocked(wanted: list[str], locked: dict[str, str]) -> list[str]:
    """Return the requirements that no version in the lock satisfies."""
    requirements = [Requirement(text) for text in wanted]
    versions = [(requirement, locked.get(canonicalize_name(requirement.name))) for requirement in requirements]
    return [str(each) for each, version in versions if version is None or version not in each.specifier]


def local_addresses(content: bytes) -> list[bytes]:
    """Return the registry hosts and the paths of some one machine that `content` names."""
    return [host for host in REGISTRY_HOSTS if host in content] + MACHINE_PATH.findall(content)


def test_everything_a_newcomer_looks_for_is_there() -> None:
    assert sorted(REQUIRED - set(FILES)) == []


def test_the_ci_script_can_be_run_and_calls_the_test_target() -> None:
    script = FILES[".ci/run"]
    assert os.access(script, os.X_OK)
    assert re.search(r"^REQUIRE_ALL=1 make test$", script.read_text("utf-8"), re.MULTILINE)


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert empty_names(set(FILES)) == set()


def test_the_gateway_asserts_nothing() -> None:
    assert [line for name, source in GATEWAY.items() for line in assertions(name, source)] == []


def test_every_silenced_warning_has_a_code_and_a_reason() -> None:
    assert [line for name, source in SOURCES.items() for line in bare_directives(name, source)] == []


def test_only_one_module_reads_xml() -> None:
    assert [line for name, source in GATEWAY.items() for line in xml_reading(name, source)] == []


def test_the_lock_holds_versions_and_hashes_only() -> None:
    assert foreign_lock_lines(FILES["requirements.lock"].read_text("utf-8")) == []


def test_every_locked_version_has_a_hash() -> None:
    lines = FILES["requirements.lock"].read_text("utf-8").splitlines()
    after = zip(lines, [*lines[1:], ""], strict=True)
    assert [line for line, following in after if LOCKED.fullmatch(line) and not LOCK_HASH.fullmatch(following)] == []


def test_the_lock_satisfies_every_requirement() -> None:
    settings = tomllib.loads(FILES["pyproject.toml"].read_text("utf-8"))
    project = settings["project"]
    wanted = [*settings["build-system"]["requires"], *project["dependencies"]]
    wanted += [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    assert unlocked(wanted, locked_versions(FILES["requirements.lock"].read_text("utf-8"))) == []


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    assert {name: found for name, path in FILES.items() if (found := local_addresses(path.read_bytes()))} == {}


@pytest.mark.parametrize(
    "path", ["gateway/utils.py", "gateway/common/ids.py", "tests/misc.py", "gateway/crypto/helpers.py"]
)
def test_a_name_that_says_nothing_is_found(path: str) -> None:
    assert empty_names({path, "gateway/errors.py", "docs/common/notes.md"}) == {path}


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (assertions, "def f(x):\n    assert x\n"),
        (bare_directives, "x = 1  # type: ignore\n"),
        (bare_directives, "x = 1  # type: ignore[assignment]\n"),
        (bare_directives, "x = 1  # type: ignore because\n"),
        (bare_directives, "x = 1  # noqa\n"),
        (bare_directives, "x = 1  # noqa: S105\n"),
        (bare_directives, "x = 1  # noqa: S105, S106\n"),
        (bare_directives, "x = 1  # type: ignore[assignment]  # noqa: S105\n"),
        (bare_directives, "# ruff: noqa: S105 a reason does not help here\n"),
        (bare_directives, "# mypy: ignore-errors\n"),
        (xml_reading, "from lxml import etree\n"),
        (xml_reading, "import lxml.etree\n"),
        (xml_reading, "import xml.etree.ElementTree\n"),
        (xml_reading, "from xml.dom import minidom\n"),
        (xml_reading, "from signxml import XMLVerifier\n"),
        (xml_reading, "import signxml\nsignxml.XMLVerifier()\n"),
        (xml_reading, "def f(etree, data):\n    return etree.fromstring(data)\n"),
        (xml_reading, "def f(etree, data):\n    return etree.XML(data)\n"),
    ],
)
def test_a_broken_rule_is_found(rule: Callable[[str, str], list[str]], source: str) -> None:
    assert len(rule("gateway/imagined.py", source)) == 1


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (bare_directives, "x = 1  # noqa: S105 the name of a header, no secret\n"),
        (bare_directives, "x = 1  # type: ignore[assignment]  # the stub lacks it\n"),
        (bare_directives, "x = 1  # type: ignore[assignment]  # noqa: S105 the stub lacks it\n"),
        (bare_directives, "x = '# noqa'  # a string\n"),
        (xml_reading, "from signxml import XMLSigner\nimport tomllib\ntomllib.loads('')\n"),
    ],
)
def test_a_kept_rule_passes(rule: Callable[[str, str], list[str]], source: str) -> None:
    assert rule("gateway/imagined.py", source) == []


def test_the_neighbours_of_the_xml_reader_may_make_xml_but_not_parse_it() -> None:
    neighbour = "gateway/crypto/receipts.py"
    assert xml_reading(neighbour, "from lxml import etree\netree.tostring(etree.Element('a'))\n") == []
    assert xml_reading(neighbour, "from lxml import etree\netree.parse('a')\n") == [f"{neighbour}:2"]


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://registry.example/simple",
        "apsw @ https://registry.example/apsw-3.54.1-cp311.whl \\",
        "    # via registry.example",
        "apsw>=3.54",
    ],
)
def test_a_foreign_line_in_the_lock_is_found(line: str) -> None:
    lock = "apsw==3.54.1 ; python_version >= '3.11' \\\n    --hash=sha256:" + 64 * "a" + "\n"
    assert foreign_lock_lines(lock) == []
    assert foreign_lock_lines(lock + line) == [line]


def test_an_unsatisfied_requirement_is_found() -> None:
    locked = {"apsw": "3.54.1", "prometheus-client": "0.26.0"}
    assert unlocked(["apsw>=3.54", "prometheus_client", "lxml", "apsw<3"], locked) == ["lxml", "apsw<3"]


@pytest.mark.parametrize("host", REGISTRY_HOSTS)
def test_a_registry_host_is_found(host: bytes) -> None:
    assert local_addresses(b"see https://" + host + b"/simple") == [host]


@pytest.mark.parametrize("folder", ["work", "farm", "root", "Users", "home/someone"])
def test_a_path_of_one_machine_is_found(folder: str) -> None:
    assert local_addresses(f"data = '/{folder}/state'".encode())
    assert local_addresses(f"https://host.example/{folder}/state ~/{folder}/state".encode()) == []
