"""
Reads TOML with types and gathers every mistake, so that a file is mended in one go instead of error by error.

A `Table` walks one table of a file, reads its keys by `Kind` and at the end refuses the keys that nobody asked for. A
wrong value is noted in `Findings` and a blank stands in for it, so that reading goes on; `Findings.raise_if_any` keeps
blanks from ever being used. Values are not repeated in the notes: a secret that was pasted in the wrong place must not
reach a screen or a log.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.config.values import Kind, type_name
from gateway.errors import FieldError, GatewayError

T = TypeVar("T")
K = TypeVar("K")
D = TypeVar("D")

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
_LARGEST_FILE_BYTES: Final = 4 * 1024 * 1024


@dataclass(eq=False)
class ConfigInvalid(GatewayError):
    """Configuration files hold mistakes: all of them, each with its place and its fix."""

    errors: list[FieldError]

    def __str__(self) -> str:
        """Return the mistakes as text for a person."""
        return describe(self.errors)


def describe(errors: Iterable[FieldError]) -> str:
    """Return mistakes as text for a person: their number, then place and fix of each."""
    listed = list(errors)
    if not listed:
        return "no mistakes found"
    head = "1 mistake:" if len(listed) == 1 else f"{len(listed)} mistakes:"
    return "\n".join([head, *(f"  {error.pointer}\n      {error.detail}" for error in listed)])


@dataclass(frozen=True, slots=True)
class Findings:
    """The mistakes found so far, in any number of files."""

    errors: list[FieldError] = field(default_factory=list)

    def add(self, pointer: str, detail: str) -> None:
        """Note a mistake: where it stands, and what to write instead."""
        self.errors.append(FieldError(pointer=pointer, detail=detail))

    def raise_if_any(self) -> None:
        """
        Return when nothing is wrong.

        Raises:
            ConfigInvalid: something is.
        """
        if self.errors:
            raise ConfigInvalid(self.errors)


class Table:
    """
    One table of a file. Every key must be asked for, with `required`, `optional` and their like, before `finish`.

    `folder` is where relative paths start: the folder of the file.
    """

    def __init__(self, values: Mapping[str, Any], *, file: str, path: str, folder: Path, findings: Findings) -> None:
        self.folder = folder
        self._values = values
        self._file = file
        self._path = path
        self._findings = findings
        self._asked: dict[str, None] = {}
        self._inner: list[Table] = []

    def states(self, key: str) -> bool:
        """Tell whether the file states this key; from now on it counts as asked for."""
        self._asked[key] = None
        return key in self._values

    def place(self, key: str | None = None, number: int | None = None) -> str:
        """Return the pointer to a key, to one value of its array, or to the table itself."""
        path = self._path if key is None else _joined(self._path, key)
        index = "" if number is None else f"[{number}]"
        return f"{self._file}: {path}{index}" if path else self._file

    def wrong(self, key: str | None, detail: str, *, number: int | None = None) -> None:
        """Note a mistake at a key, at one value of its array, or with no key at the table itself."""
        self._findings.add(self.place(key, number), detail)

    def required(self, key: str, kind: Kind[T]) -> T:
        """Return the value of a key that must be there."""
        if not self.states(key):
            self.wrong(key, "is missing")
            return kind.blank
        return self._read(key, self._values[key], kind)

    def optional(self, key: str, kind: Kind[T], default: D) -> T | D:
        """Return the value of a key, or the default when it is absent."""
        return self._read(key, self._values[key], kind) if self.states(key) else default

    def required_list(self, key: str, kind: Kind[T]) -> tuple[T, ...]:
        """Return the values of an array that must be there, with at least one value, each only once."""
        if not self.states(key):
            self.wrong(key, "is missing")
            return ()
        return self._read_list(key, kind)

    def optional_list(self, key: str, kind: Kind[T], default: D) -> tuple[T, ...] | D:
        """Return the values of an array, at least one and each only once, or the default when it is absent."""
        return self._read_list(key, kind) if self.states(key) else default

    def mapping(self, key: str, names: Kind[K], values: Kind[T]) -> dict[K, T]:
        """Return an inner table whose keys are data too; empty when it is absent."""
        inner = self.table(key)
        return {name: inner.required(text, values) for text, name in inner.names(names)}

    def names(self, kind: Kind[K]) -> list[tuple[str, K]]:
        """Return the keys of this table that can be read as `kind`, each as written and as read."""
        found: list[tuple[str, K]] = []
        for text in self._values:
            self._asked[text] = None
            try:
                found.append((text, kind.parse(text)))
            except ValueError as exc:
                self.wrong(text, f"the name of this key: {exc}")
        return found

    def table(self, key: str) -> "Table":
        """Return an inner table, empty when it is absent; then its required keys will be missed."""
        values = self._values[key] if self.states(key) else {}
        path = _joined(self._path, key)
        if isinstance(values, dict):
            return self._enter(path, values)
        self.wrong(key, f"must be a table, not {type_name(values)}")
        # Nothing can be read from it, and nobody needs to hear that everything in it is missing.
        return Table({}, file=self._file, path=path, folder=self.folder, findings=Findings())

    def tables(self, key: str, *, why: str | None = None) -> "list[Table]":
        """Return the tables of an array `[[key]]`, in order; `why` tells why there must be one, if there must."""
        array = self._values[key] if self.states(key) else []
        if not isinstance(array, list) or not all(isinstance(each, dict) for each in array):
            self.wrong(key, f"must be tables, each headed [[{_joined(self._path, key)}]]")
            return []
        if why is not None and not array:
            self.wrong(key, f"is missing; {why}")
        path = _joined(self._path, key)
        return [self._enter(f"{path}[{number}]", values) for number, values in enumerate(array)]

    def accept_rest(self) -> None:
        """Let the other keys pass: a mistake that was noted already leaves it open which of them belong."""
        self._asked.update(dict.fromkeys(self._values))

    def finish(self) -> None:
        """Note every key, of this table and the tables in it, that nobody asked for."""
        for key in self._values:
            if key not in self._asked:
                self.wrong(key, f"is not known here; {self._suggestion(key)}")
        for inner in self._inner:
            inner.finish()

    def _enter(self, path: str, values: Mapping[str, Any]) -> "Table":
        inner = Table(values, file=self._file, path=path, folder=self.folder, findings=self._findings)
        self._inner.append(inner)
        return inner

    def _read(self, key: str, value: object, kind: Kind[T]) -> T:
        try:
            return kind.parse(value)
        except ValueError as exc:
            self.wrong(key, str(exc))
            return kind.blank

    def _read_list(self, key: str, kind: Kind[T]) -> tuple[T, ...]:
        array = self._values[key]
        if not isinstance(array, list):
            self.wrong(key, f"must be an array, not {type_name(array)}")
            return ()
        if not array:
            self.wrong(key, "must hold at least one value")
        values: list[T] = []
        for number, each in enumerate(array):
            try:
                value = kind.parse(each)
            except ValueError as exc:
                self.wrong(key, str(exc), number=number)
                continue
            if value in values:
                self.wrong(key, "stands there twice; once is enough", number=number)
            values.append(value)
        return tuple(values)

    def _suggestion(self, key: str) -> str:
        near = difflib.get_close_matches(key, self._asked, n=1)
        if near:
            return f"did you mean {near[0]}?"
        return f"known are: {', '.join(self._asked)}" if self._asked else "remove it"


def open_table(file: Path, findings: Findings) -> Table | None:
    """Read a TOML file. None when it cannot be read; the reason is among the findings."""
    text = read_text(file, findings)
    return None if text is None else parse_table(text, shown(file), file.absolute().parent, findings)


def read_text(file: Path, findings: Findings) -> str | None:
    """Read a file of UTF-8, as it is. None when it cannot be read; the reason is among the findings."""
    name = shown(file)
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST_FILE_BYTES + 1)
    except OSError as exc:
        findings.add(name, f"cannot be read: {exc.strerror}")
        return None
    if len(content) > _LARGEST_FILE_BYTES:
        findings.add(name, f"is larger than {_LARGEST_FILE_BYTES} bytes")
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as exc:
        findings.add(name, f"is not UTF-8: byte {exc.start}")
        return None


def parse_table(text: str, name: str, folder: Path, findings: Findings) -> Table | None:
    """Read TOML that stood in a file called `name`. None when it is none; the reason is among the findings."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        findings.add(name, f"is not TOML: {exc}")
        return None
    return Table(values, file=name, path="", folder=folder, findings=findings)


def shown(file: Path) -> str:
    """Return a path as people will recognise it: relative when it lies under the working directory."""
    path = file.absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _joined(path: str, key: str) -> str:
    name = key if _BARE_KEY.match(key) else json.dumps(key)
    return f"{path}.{name}" if path else name
