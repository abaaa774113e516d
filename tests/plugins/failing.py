"""Clocks that leap, disks that fill up or die, and a ledger that can be broken and mended while a gateway runs."""

import asyncio
import contextlib
import errno
import os
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
import apsw
import pytest

from gateway.clock import SteadyClock

if TYPE_CHECKING:
    from tests.plugins.house import Answer, House
    from tests.plugins.postgres import Database

WAIT_S = 30.0
SETTLE_S = 100.0
IMPATIENT_S = 0.5


# ── Asking ──


async def readiness(house: "House") -> tuple[int, dict[str, str]]:
    """Return the status of the readiness probe, and its checks."""
    async with aiohttp.ClientSession() as session, session.get(f"{house.ops_url}/health/ready") as response:
        checks: dict[str, str] = (await response.json())["checks"]
        return response.status, checks


async def metric(house: "House", line: str) -> float:
    """Return the value of a sample, named as it stands in the text format."""
    async with aiohttp.ClientSession() as session, session.get(f"{house.ops_url}/metrics") as response:
        lines = (await response.text()).splitlines()
    return next(float(each.rsplit(" ", 1)[1]) for each in lines if each.rsplit(" ", 1)[0] == line)


async def until(reached: Callable[[], Awaitable[bool]]) -> None:
    """Ask again until it is so."""
    async with asyncio.timeout(WAIT_S):
        while True:
            if await reached():
                return
            await asyncio.sleep(0.02)


async def until_ready(house: "House") -> None:
    async def ready() -> bool:
        return (await readiness(house))[0] == 200

    await until(ready)


def assert_put_off(answer: "Answer", *words: str) -> None:
    """Hold an answer to be one after which the sender simply sends again."""
    assert (answer.status, answer.code) == (503, "store-unavailable"), answer.body
    assert int(answer.headers["Retry-After"]) > 0
    assert [word for word in words if word not in answer.json["detail"]] == []


async def asked_again(house: "House", times: int = 3) -> None:
    """Return when the workers have asked so many times more whether they may work."""
    workers, asked = house.gateway.workers, asyncio.Semaphore(0)
    assert workers is not None
    no_new_call = workers._no_new_call

    def ask() -> str | None:
        asked.release()
        return no_new_call()

    workers._no_new_call = ask
    try:
        async with asyncio.timeout(WAIT_S):
            for _ in range(times):
                await asked.acquire()
    finally:
        workers._no_new_call = no_new_call


# ── Clocks ──


class Machine:
    """The clocks of a machine: real, but that time may be spared and the wall clock set."""

    def __init__(self) -> None:
        self._spared_s = 0.0
        self._set_by = timedelta(0)

    def monotonic(self) -> float:
        return time.monotonic() + self._spared_s

    def wall(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self._spared_s) + self._set_by

    def spare(self, seconds: float) -> None:
        """Have time pass, for both clocks."""
        self._spared_s += seconds

    def leap(self, by: timedelta) -> None:
        """Set the wall clock."""
        self._set_by += by

    def steady(self) -> SteadyClock:
        return SteadyClock(settle_s=SETTLE_S, wall=self.wall, monotonic=self.monotonic)


# ── Ledgers ──


class Breakable(Protocol):
    """What keeps a ledger, and can be broken and mended while a gateway runs on it."""

    def change(self, values: dict[str, Any]) -> None:
        """Put the ledger's URI into the configuration."""
        ...

    async def break_down(self) -> None:
        """From now on everything that the ledger is asked fails."""
        ...

    async def hang(self) -> None:
        """From now on nothing that the ledger is asked to write comes to an end."""
        ...

    async def mend(self) -> None:
        """Have it work again."""
        ...

    def hurry(self, house: "House") -> None:
        """Have the gateway, while the ledger is broken, give up soon what it would give up after seconds."""
        ...


class FaultyFiles(apsw.VFS):
    """
    The files of SQLite on a disk that fails as it is told to.

    `faults` holds what each operation (read, write, sync) raises now. While `answering` is not set, writes and syncs
    wait for it.
    """

    def __init__(self) -> None:
        super().__init__("faulty-files", "unix", makedefault=True)
        self.faults: dict[str, apsw.Error] = {}
        self.answering = threading.Event()
        self.answering.set()

    def xOpen(self, name: Any, flags: list[int]) -> "_FaultyFile":  # noqa: N802 -- named by SQLite
        return _FaultyFile(self, name, flags)

    def strike(self, operation: str) -> None:
        if operation != "read":
            self.answering.wait()
        if operation in self.faults:
            raise self.faults[operation]


class _FaultyFile(apsw.VFSFile):
    def __init__(self, disk: FaultyFiles, name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 -- named by SQLite
        self._disk.strike("read")
        return super().xRead(amount, offset)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802 -- named by SQLite
        self._disk.strike("write")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802 -- named by SQLite
        self._disk.strike("sync")
        super().xSync(flags)


class Hurry:
    """Short limits for a gateway, for as long as its ledger is broken: a busy machine may be slow at other times."""

    def __init__(self) -> None:
        self._hurried: list[tuple[Any, str, float]] = []  # an object, its limit, and what that is otherwise

    def add(self, found: Any, name: str) -> None:
        self._hurried.append((found, name, getattr(found, name)))

    def begin(self) -> None:
        for found, name, _ in self._hurried:
            setattr(found, name, IMPATIENT_S)

    def end(self) -> None:
        for found, name, usual in self._hurried:
            setattr(found, name, usual)


class BreakableSqlite:
    """SQLite on a disk that dies or hangs."""

    def __init__(self, files: FaultyFiles) -> None:
        self._files = files
        self._hurry = Hurry()

    def change(self, values: dict[str, Any]) -> None:
        pass  # it is the default

    async def break_down(self) -> None:
        self._hurry.begin()
        broken = apsw.IOError("the disk is gone")
        self._files.faults = {"read": broken, "write": broken, "sync": broken}

    async def hang(self) -> None:
        self._hurry.begin()
        self._files.answering.clear()

    async def mend(self) -> None:
        self._hurry.end()
        self._files.faults = {}
        self._files.answering.set()

    def hurry(self, house: "House") -> None:
        ledger: Any = house.gateway.ledger
        self._hurry.add(ledger._writer, "_patience_s")
        self._hurry.add(house.gateway.health._ask, "_limit_s")


class BreakablePostgres:
    """PostgreSQL, whose server stops, or whose tables somebody else keeps locked."""

    def __init__(self, database: "Database") -> None:
        self._database = database
        self._runs = True
        self._locks = contextlib.AsyncExitStack()
        self._hurry = Hurry()

    def change(self, values: dict[str, Any]) -> None:
        values.setdefault("stores", {})["ledger"] = self._database.uri

    async def break_down(self) -> None:
        self._hurry.begin()
        await asyncio.to_thread(self._database.server.stop, "immediate")
        self._runs = False

    async def hang(self) -> None:
        self._hurry.begin()
        admin = await self._locks.enter_async_context(self._database.server.admin(self._database.name))
        await self._locks.enter_async_context(admin.transaction())
        await admin.execute("LOCK TABLE heartbeat, message, log_entry, delivery IN SHARE ROW EXCLUSIVE MODE")

    async def mend(self) -> None:
        self._hurry.end()
        await self._locks.aclose()
        if not self._runs:
            await asyncio.to_thread(self._database.server.start)
            self._runs = True

    def hurry(self, house: "House") -> None:
        self._hurry.add(house.gateway.health._ask, "_limit_s")


# ── Disks ──


class Disk(Protocol):
    """A small disk of its own."""

    folder: Path

    def fill(self, *, leave_bytes: int = 0) -> None:
        """Leave no more room on it than that."""
        ...

    def free(self) -> None:
        """Make room again."""
        ...

    def make_read_only(self) -> None:
        """Let nothing more be written: every open file must be closed."""
        ...

    def make_writable(self) -> None:
        """Take that back."""
        ...


@dataclass
class MountedDisk:
    """A file system in memory, mounted for the test."""

    folder: Path

    def fill(self, *, leave_bytes: int = 0) -> None:
        with (self.folder / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize > leave_bytes:
                ballast.write(bytes(4_096))

    def free(self) -> None:
        (self.folder / "ballast").unlink()

    def make_read_only(self) -> None:
        mount("-o", "remount,ro", str(self.folder))

    def make_writable(self) -> None:
        mount("-o", "remount,rw", str(self.folder))


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, timeout=30)


@dataclass
class PretendedDisk:
    """A folder on which the calls of the system fail as they would on a full or read-only disk."""

    folder: Path
    files: FaultyFiles
    patch: pytest.MonkeyPatch
    broken: int | None = None  # the errno of everything that would change something
    left_bytes: int = 0
    _real: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("write", "fsync", "open", "link", "mkdir", "unlink"):
            self._real[name] = getattr(os, name)
            self.patch.setattr(os, name, self._failing(name))
        self._real["statvfs"] = os.statvfs
        self.patch.setattr(os, "statvfs", self._statvfs)

    def fill(self, *, leave_bytes: int = 0) -> None:
        self.broken, self.left_bytes = errno.ENOSPC, leave_bytes
        if leave_bytes == 0:
            self.files.faults = {"write": apsw.FullError("database or disk is full")}

    def make_read_only(self) -> None:
        self.broken = errno.EROFS

    def free(self) -> None:
        self.broken, self.files.faults = None, {}

    make_writable = free

    def _failing(self, name: str) -> Callable[..., Any]:
        def call(first: Any, *rest: Any, **options: Any) -> Any:
            if self.broken is not None and self._changes(name, first, rest):
                if self.left_bytes <= 0 or self.broken == errno.EROFS:
                    raise OSError(self.broken, os.strerror(self.broken))
                self.left_bytes -= len(rest[0]) if name == "write" else 0
            return self._real[name](first, *rest, **options)

        return call

    def _changes(self, name: str, first: Any, rest: tuple[Any, ...]) -> bool:
        if name in ("write", "fsync"):
            return name == "write" and Path(f"/proc/self/fd/{first}").resolve().is_relative_to(self.folder)
        if not str(first).startswith(str(self.folder)):
            return False
        if name == "unlink":
            return self.broken == errno.EROFS  # also a full disk lets go
        return name != "open" or bool(rest[0] & os.O_CREAT)

    def _statvfs(self, path: Any) -> Any:
        state = self._real["statvfs"](path)
        if self.broken is None or not str(path).startswith(str(self.folder)):
            return state
        values = list(state)
        if self.broken == errno.EROFS:
            values[8] |= os.ST_RDONLY
        else:
            values[4] = max(self.left_bytes, 0) // state.f_frsize
        return os.statvfs_result(values)
