"""What a claim costs on a PostgreSQL ledger: rows looked at, however long the queue is."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gateway.stores.postgres import claiming
from gateway.stores.postgres.sessions import Transaction

if TYPE_CHECKING:
    from tests.plugins.postgres import Server

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
DUE = NOW - HOUR
LATER = NOW + HOUR
LONG = 50_000
LIMIT = 8

ADD = """
WITH added AS (
  INSERT INTO queue (delivery_id, message_id, channel, provider, lane, status, next_action, sender, due_at)
  SELECT gen_random_uuid(), gen_random_uuid(), 'print', $1, 'single', 'waiting', 'send', $2,
    $3::timestamptz + n * interval '1 ms'
  FROM generate_series(1, $4) AS n
  RETURNING *
)
INSERT INTO delivery (
  delivery_id, message_id, number, channel, provider, lane, status, status_at, attempts, next_action, due_at
)
SELECT delivery_id, message_id, 1, channel, provider, lane, status, due_at, 0, next_action, due_at
FROM added ORDER BY due_at LIMIT $5
"""


class Watched:
    """A connection that counts the rows of the queue that each statement looks at."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.looked_at = 0

    async def fetch(self, statement: str, *parameters: object) -> Any:
        await self._explain(statement, parameters)
        return await self._connection.fetch(statement, *parameters)

    async def fetchrow(self, statement: str, *parameters: object) -> Any:
        await self._explain(statement, parameters)
        return await self._connection.fetchrow(statement, *parameters)

    async def execute(self, statement: str, *parameters: object) -> Any:
        await self._explain(statement, parameters)
        return await self._connection.execute(statement, *parameters)

    async def _explain(self, statement: str, parameters: tuple[object, ...]) -> None:
        trial = self._connection.transaction()
        await trial.start()
        plan = await self._connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *parameters)
        await trial.rollback()
        self.looked_at += sum(map(rows_of_queue, nodes(json.loads(plan)[0]["Plan"])))


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def rows_of_queue(node: dict[str, Any]) -> int:
    """Return the rows that a scan of the queue read, or threw away."""
    if node.get("Relation Name") != "queue" or "Scan" not in node["Node Type"]:
        return 0
    removed = sum(count for name, count in node.items() if name.startswith("Rows Removed by"))
    return int((node["Actual Rows"] + removed) * node["Actual Loops"])


@pytest.fixture
async def connection(postgres_server: "Server") -> AsyncIterator[Any]:
    database = await postgres_server.emptied_database()
    async with postgres_server.admin(database.name) as admin:
        await admin.execute("SET synchronous_commit = off")
        yield admin
        await admin.execute("TRUNCATE queue, delivery")


async def add(connection: Any, provider: str, sender: str, count: int, *, at: datetime) -> None:
    """Add to the queue what is due one after the other from `at` on; the deliveries only of what a claim may find."""
    await connection.execute(ADD, provider, sender, at, count, LIMIT)


async def claim(connection: Any, provider: str) -> tuple[int, int]:
    """Return how many deliveries a claim leased, and how many rows of the queue it looked at; nothing stays of it."""
    watched = Watched(connection)
    transaction = connection.transaction()
    await transaction.start()
    claims = await claiming.claim(
        Transaction(watched, lambda: NOW),  # type: ignore[arg-type]  # it has what a claim uses
        "w1",
        lease=HOUR,
        limit=LIMIT,
        providers=[provider],
    )
    await transaction.rollback()
    return len(claims), watched.looked_at


async def test_a_long_queue_of_one_sender_makes_a_claim_no_dearer(connection: Any) -> None:
    await add(connection, "house-a", "0400000001", LONG, at=DUE)
    await add(connection, "house-b", "0400000001", LONG, at=LATER)
    for sender in ("0400000002", "0400000003"):
        await add(connection, "house-a", sender, LIMIT, at=DUE)
        await add(connection, "house-b", sender, LIMIT, at=DUE)
    for known in (False, True):  # whether the server has statistics of the queue
        if known:
            await connection.execute("ANALYZE queue")
        for plans in ("force_custom_plan", "force_generic_plan"):
            await connection.execute(f"SET plan_cache_mode = {plans}")
            for provider in ("house-a", "house-b"):
                leased, looked_at = await claim(connection, provider)
                assert leased == LIMIT
                assert looked_at < 10 * LIMIT, (known, plans, provider)


async def test_a_claim_that_finds_nothing_looks_at_a_row_or_two_of_each_sender(connection: Any) -> None:
    for sender in range(20):
        await add(connection, "house-a", f"04000000{sender:02}", 500, at=LATER)
    await connection.execute("ANALYZE queue")
    leased, looked_at = await claim(connection, "house-a")
    assert leased == 0
    assert looked_at <= 2 * 20
