"""The PostgreSQL of a run, with empty ledgers; its settings are those of a server that keeps its promises."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from types import TracebackType
from typing import Any, Final, Self

from gateway.stores.postgres.ledger import migrate
from load.cluster import Cluster
from load.processes import pin

# What is not here is as the server has it: fsync and synchronous_commit are on.
_SETTINGS: Final = """
max_connections = 200
shared_buffers = 512MB
max_wal_size = 4GB
log_min_messages = warning
"""
# Of each gateway: with the usual 10, some of 64 requests and 24 deliveries at a time wait longer than they may.
_POOL: Final = "&pool_max=20"
_ROLES: Final = "CREATE ROLE gateway_owner LOGIN CREATEROLE; CREATE ROLE gateway LOGIN"


class PostgresServer:
    """Use as an asynchronous context manager: made and started; at the end stopped and removed."""

    def __init__(self, cores: frozenset[int]) -> None:
        self._cores = cores
        self._cluster: Cluster
        self._numbers = count(1)

    async def __aenter__(self) -> Self:
        self._cluster = await asyncio.to_thread(Cluster, _SETTINGS)
        try:
            await asyncio.to_thread(self._cluster.start)
            pin(self._cluster.pid, self._cores)
            async with self._cluster.admin() as connection:
                await connection.execute(_ROLES)
        except BaseException:
            await asyncio.to_thread(self._cluster.remove)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._cluster.remove)

    async def new_ledger(self) -> str:
        """Make a database with an empty ledger, and return its URI for gateways."""
        name = f"ledger_{next(self._numbers)}"
        async with self._cluster.admin() as connection:
            await connection.execute(f"CREATE DATABASE {name} OWNER gateway_owner")
        await migrate(self._cluster.uri("gateway_owner", name), serve_as=self._cluster.uri("gateway", name))
        return f"{self._cluster.uri('gateway', name)}{_POOL}"

    @asynccontextmanager
    async def connected(self, uri: str) -> AsyncIterator[Any]:
        """Connect as the superuser to the database of a ledger."""
        async with self._cluster.admin(database_of(uri)) as connection:
            yield connection


def database_of(uri: str) -> str:
    """Return the name of the database in a ledger's URI."""
    return uri.partition("?")[0].rpartition("/")[2]
