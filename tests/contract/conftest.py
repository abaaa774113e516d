"""What the contract tests of the ledger need: every implementation behind one handle."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import apsw
import pytest

from gateway.domain.ids import DeliveryId, EnterpriseNumber
from gateway.stores.ledger import Ledger
from gateway.stores.postgres.ledger import PostgresLedger
from gateway.stores.sqlite.ledger import SqliteLedger
from gateway.stores.sqlite.rows import from_ms, from_ms_or_null

if TYPE_CHECKING:
    from tests.plugins.postgres import Database

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)


class Store(Protocol):
    """One place where a ledger lives. `now` is its clock."""

    now: datetime

    async def open(self) -> Ledger: ...

    async def open_another(self) -> Ledger:
        """Return another ledger, that has nothing to do with this one."""
        ...

    async def crash(self) -> Ledger:
        """Return a ledger as the next process finds it after this one died in this instant."""
        ...

    async def suspend(self, sender: EnterpriseNumber) -> None:
        """Do what an operator does, which is no call of a `Ledger`."""
        ...

    async def damage(self, statement: str, *values: UUID) -> None:
        """Run a statement that breaks the ledger's promises; `$1` is the first value."""
        ...

    async def attempts(self, delivery_id: DeliveryId) -> list[tuple[Any, ...]]:
        """Return what was written of attempts, in order: number, action, worker, started, ended, outcome, code."""
        ...

    async def bytes_kept(self) -> bytes:
        """Do the hourly care, then return all that the ledger holds on disk."""
        ...

    async def close(self) -> None: ...


class SqliteStore:
    def __init__(self, directory: Path) -> None:
        self.now = NOW
        self._directory = directory
        self._directory.mkdir(mode=0o700)
        self._opened: list[SqliteLedger] = []

    async def open(self) -> Ledger:
        ledger = await SqliteLedger.open(self._file, clock=lambda: self.now)
        self._opened.append(ledger)
        return ledger

    async def open_another(self) -> Ledger:
        self._directory = self._directory.with_name(f"{self._directory.name}-another")
        self._directory.mkdir(mode=0o700)
        return await self.open()

    async def crash(self) -> Ledger:
        image = self._directory.with_name(f"{self._directory.name}-after")
        image.mkdir()
        for name in ("ledger.sqlite", "ledger.sqlite-wal"):
            shutil.copyfile(self._directory / name, image / name)
        self._directory = image
        return await self.open()

    async def suspend(self, sender: EnterpriseNumber) -> None:
        with apsw.Connection(str(self._file)) as connection:
            connection.execute("INSERT INTO suspension (sender, at, reason) VALUES (?, 0, 'test')", (sender,))

    async def damage(self, statement: str, *values: UUID) -> None:
        connection = apsw.Connection(str(self._file))
        for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {row[0]}")
        connection.execute(statement.replace("$", "?"), tuple(value.bytes for value in values))
        connection.close()

    async def attempts(self, delivery_id: DeliveryId) -> list[tuple[Any, ...]]:
        with apsw.Connection(str(self._file)) as connection:
            rows = connection.execute(
                "SELECT number, action, worker, started_at, ended_at, outcome, code FROM attempt"
                " WHERE delivery_id = ? ORDER BY number",
                (delivery_id.bytes,),
            ).fetchall()
        return [(*row[:3], from_ms(row[3]), from_ms_or_null(row[4]), *row[5:]) for row in map(tuple[Any, ...], rows)]

    async def bytes_kept(self) -> bytes:
        await self._opened[-1].compact()
        return b"".join(path.read_bytes() for path in sorted(self._directory.iterdir()))

    async def close(self) -> None:
        for ledger in self._opened:
            await ledger.close()

    @property
    def _file(self) -> Path:
        return self._directory / "ledger.sqlite"


class PostgresStore:
    def __init__(self, database: "Database") -> None:
        self.now = NOW
        self._database = database
        self._opened: list[PostgresLedger] = []
        self._others = AsyncExitStack()

    async def open(self) -> Ledger:
        ledger = await PostgresLedger.open(self._database.uri, clock=lambda: self.now)
        self._opened.append(ledger)
        return ledger

    async def open_another(self) -> Ledger:
        self._database = await self._others.enter_async_context(self._database.server.fresh_database())
        return await self.open()

    async def crash(self) -> Ledger:
        await asyncio.to_thread(self._database.server.crash)
        return await self.open()

    async def suspend(self, sender: EnterpriseNumber) -> None:
        async with self._admin() as admin:
            await admin.execute("INSERT INTO suspension (sender, at, reason) VALUES ($1, now(), 'test')", sender)

    async def damage(self, statement: str, *values: UUID) -> None:
        async with self._admin() as admin:
            await admin.execute(statement, *values)

    async def attempts(self, delivery_id: DeliveryId) -> list[tuple[Any, ...]]:
        async with self._admin() as admin:
            rows = await admin.fetch(
                "SELECT number, action, worker, started_at, ended_at, outcome, code FROM attempt"
                " WHERE delivery_id = $1 ORDER BY number",
                delivery_id,
            )
        return [tuple(row) for row in rows]

    async def bytes_kept(self) -> bytes:
        """The write-ahead log left out: README.md of the store says how long keys stay in it."""
        await self._opened[-1].compact()
        async with self._admin() as admin:
            await admin.execute("CHECKPOINT")
            oid = await admin.fetchval("SELECT oid FROM pg_database WHERE datname = current_database()")
        return b"".join(path.read_bytes() for path in (self._database.server.data / "base" / str(oid)).iterdir())

    async def close(self) -> None:
        for ledger in self._opened:
            await ledger.close()
        await self._others.aclose()

    def _admin(self) -> Any:
        return self._database.server.admin(self._database.name)


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made: Store
    if request.param == "sqlite":
        made = SqliteStore(tmp_path / "ledger")
    else:
        made = PostgresStore(await request.getfixturevalue("postgres_server").emptied_database())
    yield made
    await made.close()


@pytest.fixture
async def ledger(store: Store, records: Any) -> Ledger:
    opened = await store.open()
    await opened.add_kek(records.kek)
    return opened
