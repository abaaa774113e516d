"""
Prepared requests on disk: whole multipart bodies, ready as bytes, and what is needed to prove their delivery.

A set is a folder: `bodies-N.bin` hold the bodies one after the other, `index.json` says where each begins, what is in
it, and where all of them go.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

BOUNDARY: Final = "dgw-load-4f1d2c7b9e8a4d60"  # the same for all, so that a request's header is
CONTENT_TYPE: Final = f"multipart/form-data; boundary={BOUNDARY}"
BATCHES: Final = "/api/v1/batches"
MESSAGES: Final = "/api/v1/messages"
PIECE_BYTES: Final = 262_144
_INDEX: Final = "index.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """One message: its reference, and the digest of its document."""

    reference: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One body: where it lies, and what is in it: one message, or those of a batch. `file` counts the .bin files."""

    file: int
    offset: int
    size_bytes: int
    contents: tuple[Content, ...]


def write_index(folder: Path, path: str, entries: Sequence[Entry]) -> None:
    """Write what makes a set of the files in `folder`, whose bodies are to be POSTed to `path`. Blocks."""
    (folder / _INDEX).write_text(json.dumps({"path": path, "entries": [asdict(entry) for entry in entries]}))


def _entry(values: dict[str, Any]) -> Entry:
    return Entry(**values | {"contents": tuple(Content(**each) for each in values["contents"])})


def data_file(folder: Path, number: int) -> Path:
    """Return the n-th file of bodies."""
    return folder / f"bodies-{number}.bin"


class BodySet:
    """
    The bodies of a folder. Use as a context manager, which holds its files open.

    `path` is where they go; `messages` are all that is in them, in their order. A number is that of a body, whose
    messages have the numbers `numbers_in` it.

    Reading one blocks for as long as the page cache takes: microseconds, as the bodies were just written.
    """

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / _INDEX).read_text())
        self.path: Final[str] = index["path"]
        self.entries: Final = tuple(map(_entry, index["entries"]))
        self.messages: Final = tuple(each for entry in self.entries for each in entry.contents)
        ends = tuple(accumulate(len(entry.contents) for entry in self.entries))
        self._numbers = tuple(map(range, (0, *ends), ends))
        self._folder = folder
        self._descriptors: list[int] = []

    def __enter__(self) -> Self:
        files = max((entry.file for entry in self.entries), default=-1) + 1
        self._descriptors = [os.open(data_file(self._folder, number), os.O_RDONLY) for number in range(files)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def are_batches(self) -> bool:
        """Tell whether each body holds many messages."""
        return self.path == BATCHES

    @property
    def messages_each(self) -> float:
        """How many messages a body holds, on average; there is one."""
        return len(self.messages) / len(self.entries)

    def numbers_in(self, number: int) -> range:
        """Return the numbers of the messages in a body."""
        return self._numbers[number]

    def pieces(self, number: int) -> Iterator[bytes]:
        """Yield a body in pieces, so that a large one is never held as a whole."""
        entry = self.entries[number]
        for start in range(0, entry.size_bytes, PIECE_BYTES):
            length = min(PIECE_BYTES, entry.size_bytes - start)
            yield os.pread(self._descriptors[entry.file], length, entry.offset + start)
