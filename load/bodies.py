"""
Prepared requests on disk: whole multipart bodies, ready as bytes, and what is needed to prove their delivery.

A set is a folder: `bodies-N.bin` hold the bodies one after the other, `index.json` says where each begins.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

BOUNDARY: Final = "dgw-load-4f1d2c7b9e8a4d60"  # the same for all, so that a request's header is
CONTENT_TYPE: Final = f"multipart/form-data; boundary={BOUNDARY}"
PIECE_BYTES: Final = 262_144
_INDEX: Final = "index.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One body: where it lies, and the message's reference and its document's digest. `file` counts the .bin files."""

    file: int
    offset: int
    size_bytes: int
    reference: str
    sha256: str


def write_index(folder: Path, entries: Sequence[Entry]) -> None:
    """Write what makes a set of the files in `folder`. Blocks."""
    (folder / _INDEX).write_text(json.dumps([asdict(entry) for entry in entries]))


def data_file(folder: Path, number: int) -> Path:
    """Return the n-th file of bodies."""
    return folder / f"bodies-{number}.bin"


class BodySet:
    """
    The bodies of a folder. Use as a context manager, which holds its files open.

    Reading one blocks for as long as the page cache takes: microseconds, as the bodies were just written.
    """

    def __init__(self, folder: Path) -> None:
        self.entries: Final = tuple(Entry(**each) for each in json.loads((folder / _INDEX).read_text()))
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

    def pieces(self, number: int) -> Iterator[bytes]:
        """Yield a body in pieces, so that a large one is never held as a whole."""
        entry = self.entries[number]
        for start in range(0, entry.size_bytes, PIECE_BYTES):
            length = min(PIECE_BYTES, entry.size_bytes - start)
            yield os.pread(self._descriptors[entry.file], length, entry.offset + start)
