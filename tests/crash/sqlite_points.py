"""
Points inside the commits of SQLite: each write to its log, each sync of it, and what happens between the two.

A virtual file system stands between SQLite and the disk. It knows which changes of the ledger are in the commit at
hand, so a point says whose commit it was; and it can forget what was never synced, as a power cut does.
"""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

from gateway.stores.sqlite.writer import Writer
from tests.crash.forgetting import ForgetfulDisk
from tests.crash.ledger_points import VERB
from tests.crash.points import Passage, Way, Wire, stand_in

_T = TypeVar("_T")
_NAME: Final = "forgetful"
_WRITE_WAYS: Final = (Way.KILL_BEFORE, Way.FULL, Way.FAIL)
_SYNC_WAYS: Final = (Way.KILL_BEFORE, Way.CUT_BEFORE, Way.CUT_AFTER, Way.FAIL)


class SqlitePoints:
    """What the file system of the database needs to know; `batch` names the changes of the commit at hand."""

    def __init__(self, wire: Wire, disk: ForgetfulDisk) -> None:
        self.wire = wire
        self.disk = disk
        self.batch: list[str] = ["opening"]

    def put_up(self) -> None:
        """Open databases through the points from now on."""
        _Vfs(self)
        real_connection = apsw.Connection

        class Connection(real_connection):  # type: ignore[valid-type,misc]  # the very class that is replaced
            def __init__(self, name: str, flags: int) -> None:
                super().__init__(name, flags=flags, vfs=_NAME)

        stand_in(apsw, "Connection", Connection)
        self._name_changes()

    def arrive(self, name: str, ways: tuple[Way, ...]) -> list[Passage]:
        """Pass a point once for each change in the commit."""
        whose = dict.fromkeys(self.batch)
        return [self.wire.arrive(f"sqlite.{name}", ways, label=each) for each in whose]

    def _name_changes(self) -> None:
        run_before, commit_before = Writer.run, Writer._commit
        batch = self.batch

        async def run(writer: Writer, work: Callable[[apsw.Connection], _T], *, patient: bool = False) -> _T:
            label = VERB.get()

            def named(connection: apsw.Connection) -> _T:
                value = work(connection)
                batch.append(label)  # a change that raised is no part of the commit
                return value

            waiting: Awaitable[_T] = run_before(writer, named, patient=patient)
            return await waiting

        def commit(writer: Writer, jobs: Any) -> None:
            batch.clear()
            commit_before(writer, jobs)
            batch[:] = ["checkpoint"]

        stand_in(Writer, "run", run)
        stand_in(Writer, "_commit", commit)


class _Vfs(apsw.VFS):
    def __init__(self, points: SqlitePoints) -> None:
        super().__init__(_NAME, "")
        self._points = points
        _KEPT.append(self)

    def xOpen(self, name: Any, flags: list[int]) -> "_File":  # noqa: N802 -- the library's name
        return _File(name, flags, self._points)


_KEPT: Final[list[_Vfs]] = []  # a file system must outlive its connections


class _File(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int], points: SqlitePoints) -> None:
        super().__init__("", name, flags)
        self._path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        self._is_log = self._path.name.endswith("-wal")
        self._points = points

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 -- the library's name
        passages = self._points.arrive("write", _WRITE_WAYS) if self._is_log else []
        for passage in passages:
            passage.before()
            if passage.way is Way.FULL:
                raise apsw.FullError("planned")
            if passage.way is Way.FAIL:
                raise apsw.IOError("planned")
        with self._points.disk.lock:
            self._remember(offset, len(data))
            super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 -- the library's name
        with self._points.disk.lock:
            self._remember(newsize, max(self.xFileSize() - newsize, 0))
            super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802 -- the library's name
        passages = self._points.arrive("sync" if self._is_log else "sync-main", _SYNC_WAYS)
        for passage in passages:
            passage.before()
            if passage.way is Way.FAIL:
                raise apsw.IOError("planned")
        with self._points.disk.lock:
            super().xSync(flags)
            self._points.disk.synced_bytes(self._path)
        for passage in passages:
            passage.after()

    def _remember(self, offset: int, size: int) -> None:
        path, length = self._path, self.xFileSize()
        kept = b"" if offset >= length else self.xRead(min(size, length - offset), offset)

        def undo() -> None:
            fd = os.open(path, os.O_RDWR)
            os.ftruncate(fd, max(length, offset))
            os.pwrite(fd, kept, offset)
            os.ftruncate(fd, length)
            os.close(fd)

        self._points.disk.overwriting(path, undo)
