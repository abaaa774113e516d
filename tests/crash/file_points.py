"""
Points at every change of a file outside the database: blobs, the keyring, the ledger's own files when they are made.

They stand at the functions of `os`, so they do not depend on how a store is written. `pathlib` calls them too.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.crash.forgetting import ForgetfulDisk
from tests.crash.points import LABEL, Passage, Way, Wire

_WAYS: Final = (Way.KILL_BEFORE, Way.KILL_AFTER, Way.CUT_AFTER, Way.FAIL)
_ERRORS: Final = {Way.FAIL: errno.EIO, Way.FULL: errno.ENOSPC}


class FilePoints:
    """Watches everything below `root`."""

    def __init__(self, wire: Wire, disk: ForgetfulDisk, root: Path) -> None:
        self._wire = wire
        self._disk = disk
        self._root = str(root) + os.sep
        self._system: Any = {name: getattr(os, name) for name in _WATCHED}

    def put_up(self) -> None:
        """Stand in for the functions of `os` from now on."""
        for name in _WATCHED:
            setattr(os, name, getattr(self, f"_{name}"))

    def _is_ours(self, path: Any) -> bool:
        return isinstance(path, str | Path) and f"{path}{os.sep}".startswith(self._root)

    def _path_of(self, fd: int) -> Path | None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        return path if self._is_ours(path) else None

    def _pass(self, name: str, act: Callable[[], Any], *, full: bool = False) -> Any:
        ways = (*_WAYS, Way.FULL) if full else _WAYS
        passage = self._wire.arrive(f"file.{name}", ways)
        passage.before()
        _fail(passage)
        with self._disk.lock:
            result = act()
        passage.after()
        return result

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        system = self._system["open"]
        if not (flags & os.O_CREAT and self._is_ours(path)) or os.path.lexists(path):
            return int(system(path, flags, mode, dir_fd=dir_fd))

        def act() -> int:
            fd: int = system(path, flags, mode)
            self._disk.made(Path(path))
            return fd

        return int(self._pass("create", act, full=True))

    def _write(self, fd: int, data: Any) -> int:
        if self._path_of(fd) is None:
            return int(self._system["write"](fd, data))

        def act() -> int:
            self._disk.writing(fd)
            return int(self._system["write"](fd, data))

        return int(self._pass("write", act, full=True))

    def _fsync(self, fd: int) -> None:
        path = self._path_of(fd)
        if path is None:
            self._system["fsync"](fd)
            return

        def act() -> None:
            self._system["fsync"](fd)
            if path.is_dir():
                self._disk.synced_names(path)
            else:
                self._disk.synced_draft(fd)

        self._pass("sync-directory" if path.is_dir() else "sync", act)

    def _link(self, source: Any, target: Any, **options: Any) -> None:
        if not self._is_ours(target):
            self._system["link"](source, target, **options)
            return

        def act() -> None:
            self._system["link"](source, target)
            self._disk.made(Path(target))

        self._pass("link", act, full=True)

    def _replace(self, source: Any, target: Any, **options: Any) -> None:
        if not self._is_ours(target):
            self._system["replace"](source, target, **options)
            return

        def act() -> None:
            if Path(target).exists():
                self._disk.going(Path(target))
            self._disk.going(Path(source))
            self._system["replace"](source, target)
            self._disk.made(Path(target))

        self._pass("rename", act)

    def _unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        if not self._is_ours(path) or not os.path.lexists(path):
            self._system["unlink"](path, dir_fd=dir_fd)
            return

        def act() -> None:
            self._disk.going(Path(path))
            self._system["unlink"](path)

        self._pass("unlink", act)

    def _mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        if not self._is_ours(path) or Path(path).exists():
            self._system["mkdir"](path, mode, dir_fd=dir_fd)
            return

        def act() -> None:
            self._system["mkdir"](path, mode)
            self._disk.made_directory(Path(path))

        self._pass("make-directory", act, full=True)


_WATCHED: Final = ("open", "write", "fsync", "link", "replace", "unlink", "mkdir")


def _fail(passage: Passage) -> None:
    if passage.way in _ERRORS:
        code = _ERRORS[passage.way]
        raise OSError(code, os.strerror(code))


def carrying_label(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return `step` for another thread, about the same letter."""
    label = LABEL.get()

    def run(*args: Any) -> Any:
        token = LABEL.set(label)
        try:
            return step(*args)
        finally:
            LABEL.reset(token)

    return run
