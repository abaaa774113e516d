"""
A disk that forgets: at a power cut, what was never synced is gone.

Files keep what was in them at their last fsync; directories keep the names they had at theirs. A kernel may keep more,
and does so at a plain SIGKILL; a gateway has to be right in both cases. It learns of changes from `file_points` and
`sqlite_points`, which hold `lock` around each of them.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path

Undo = Callable[[], object]


class ForgetfulDisk:
    """What to take back: the changes to names since their directory was synced, and to bytes since their file was."""

    def __init__(self, attic: Path) -> None:
        self.lock = threading.RLock()
        self._attic = attic  # on the same file system, for what a cut brings back
        self._stored = 0
        self._names: list[tuple[Path, Undo]] = []
        self._bytes: list[tuple[Path, Undo]] = []
        self._drafts: dict[int, tuple[int, int]] = {}  # inode: our own descriptor, bytes that are synced

    # names

    def made(self, path: Path) -> None:
        """A name came into being."""
        self._names.append((path.parent, lambda: path.unlink(missing_ok=True)))

    def made_directory(self, path: Path) -> None:
        """A directory came into being."""
        self._names.append((path.parent, lambda: path.rmdir() if not any(path.iterdir()) else None))

    def going(self, path: Path) -> None:
        """A name is about to go, or to be replaced."""
        self._stored += 1
        kept = self._attic / str(self._stored)
        os.link(path, kept)
        self._names.append((path.parent, lambda: kept.replace(path)))

    def synced_names(self, directory: Path) -> None:
        """A directory was synced."""
        self._names = [(where, undo) for where, undo in self._names if where != directory]

    # bytes of files that are written once, from front to end

    def writing(self, fd: int) -> None:
        """A file is being written to."""
        inode = os.fstat(fd).st_ino
        if inode not in self._drafts:
            self._drafts[inode] = (os.dup(fd), 0)

    def synced_draft(self, fd: int) -> None:
        """A file was synced."""
        state = os.fstat(fd)
        held = self._drafts.pop(state.st_ino, None)
        if held is not None:
            os.close(held[0])

    # bytes of files that are written anywhere

    def overwriting(self, path: Path, undo: Undo) -> None:
        """Bytes are about to be overwritten; `undo` brings them back."""
        self._bytes.append((path, undo))

    def synced_bytes(self, path: Path) -> None:
        """A file was synced."""
        self._bytes = [(where, undo) for where, undo in self._bytes if where != path]

    def cut(self) -> None:
        """Take everything back; the caller ends the process at once."""
        self.lock.acquire()  # and never gives it back: nothing is written any more
        for _, undo in reversed(self._bytes):
            undo()
        for fd, synced_bytes in self._drafts.values():
            os.ftruncate(fd, synced_bytes)
        for _, undo in reversed(self._names):
            undo()
