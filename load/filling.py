"""Adds clones of a ledger's messages to it in bulk, straight into its tables, while no gateway has it open."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import apsw

from load.cloning import TABLES, Form, Numbering, Row, Sample, clone, spread
from load.problems import CannotRun

_BATCH: Final = 2_000  # messages in one transaction
TEN_YEARS: Final = timedelta(days=3_640)  # a little less, so that nothing is due for removal
_WEEK: Final = timedelta(weeks=1)
_WEEKS_WITHIN_MONTH: Final = 4  # no month is passed over
_PLACE_BITS: Final = 16  # of a position, as position_of in the schema has it
_FAST: Final[Mapping[str, str | int]] = {
    "journal_mode": "OFF",
    "synchronous": "OFF",
    "foreign_keys": "ON",
    "cache_size": -500_000,
}
_REMEMBERED: Final = 1_000  # ids that are returned
_MS: Final = timedelta(milliseconds=1)
_1970: Final = datetime(1970, 1, 1, tzinfo=UTC)
Told = Callable[[int], None]
Rows = dict[str, list[tuple[Any, ...]]]

# All rows of one message, of every table of `TABLES` that has some; the first of them by `position` where there is one.
_OF_MESSAGE: Final = {
    "message": "SELECT * FROM message WHERE message_id = {id}",
    "reference": "SELECT * FROM reference WHERE message_id = {id}",
    "document": "SELECT * FROM document WHERE message_id = {id} ORDER BY number",
    "delivery": "SELECT * FROM delivery WHERE message_id = {id} ORDER BY number",
    "log_entry": "SELECT * FROM log_entry WHERE message_id = {id} ORDER BY position",
    "evidence": "SELECT * FROM evidence WHERE message_id = {id} ORDER BY number",
    "dek": (
        "SELECT * FROM dek WHERE dek_id IN (SELECT meta_dek_id FROM message WHERE message_id = {id} "
        "UNION SELECT dek_id FROM document WHERE message_id = {id})"
    ),
    "feed_event": (
        "SELECT * FROM feed_event WHERE position IN (SELECT position FROM log_entry WHERE message_id = {id}) "
        "ORDER BY number"
    ),
}
_SQLITE: Final = _OF_MESSAGE | {
    "attempt": (
        "SELECT attempt.* FROM attempt JOIN delivery USING (delivery_id) WHERE message_id = {id} "
        "ORDER BY attempt.number"
    ),
}
_POSTGRES: Final = _OF_MESSAGE | {
    "attempt": "SELECT * FROM attempt WHERE message_id = {id} ORDER BY number",
    "blob": "SELECT * FROM blob WHERE message_id = {id}",
}


def _batches(
    samples: Sequence[Sample],
    count: int,
    numbering: Numbering,
    form: Form,
    *,
    span: timedelta,
    ids: list[UUID],
    told: Told,
) -> Iterator[Rows]:
    """Yield the rows of some messages at a time; add ids from the whole of `span` to `ids`."""
    now = datetime.now(UTC)
    times = spread(count, now - span, now - timedelta(days=1))
    rows: Rows = {table: [] for table in TABLES}
    every = max(count // _REMEMBERED, 1)
    for number, (message_id, made) in enumerate(clone(samples, times, numbering, form, now), start=1):
        for table, values in made:
            rows[table].append(values)
        if number % every == 0:
            ids.append(message_id)
        if number % _BATCH == 0 or number == count:
            yield rows
            rows = {table: [] for table in TABLES}
            told(number)


def _require_samples(samples: Sequence[Sample]) -> None:
    if not samples:
        raise CannotRun("there is no message in the ledger to make others of")


# ── SQLite ──


def fill_sqlite(file: Path, count: int, told: Told, *, span: timedelta = TEN_YEARS) -> list[UUID]:
    """
    Add `count` messages, accepted evenly over `span`, to a ledger; return the ids of some of them. Blocks.

    Raises:
        CannotRun: the ledger holds no message.
    """
    form = Form(id_of=lambda each: each.bytes, time_of=lambda at: (at - _1970) // _MS)
    connection, ids = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READWRITE), list[UUID]()
    try:
        # It is thrown away when it breaks; the gateway puts its own settings back when it opens it.
        for name, value in _FAST.items():
            connection.pragma(name, value)
        known = [row[0] for row in connection.execute("SELECT message_id FROM message")]
        samples = [
            Sample({table: _sqlite_rows(connection, table, query, each) for table, query in _SQLITE.items()}, form)
            for each in known
        ]
        _require_samples(samples)
        numbering = Numbering(
            dek=_sqlite_most(connection, "SELECT max(position) FROM dek"),
            message=_sqlite_most(connection, "SELECT max(position) FROM message"),
            log_entry=_sqlite_most(connection, "SELECT max(position) FROM log_entry"),
            event=_sqlite_most(connection, "SELECT max(last_number) FROM feed"),
        )
        for rows in _batches(samples, count, numbering, form, span=span, ids=ids, told=told):
            connection.execute("BEGIN")
            for table, values in rows.items():
                if values:
                    marks = ", ".join("?" * len(values[0]))
                    connection.executemany(f"INSERT INTO {table} VALUES ({marks})", values)  # noqa: S608 -- our names
            connection.execute("COMMIT")
        connection.execute("UPDATE feed SET last_number = ?", (numbering.event,))
        connection.execute("UPDATE feed_progress SET position = ?", (numbering.log_entry,))
        connection.pragma("journal_mode", "WAL")
    finally:
        connection.close()
    with file.open("rb") as written:
        os.fsync(written.fileno())  # or the first checkpoint of the gateway would wait for all of it
    return ids


def _sqlite_rows(connection: apsw.Connection, table: str, query: str, message_id: bytes) -> list[Row]:
    names = [name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]
    rows = connection.execute(query.format(id="?1"), (message_id,))
    return [dict(zip(names, row, strict=True)) for row in rows]


def _sqlite_most(connection: apsw.Connection, query: str) -> int:
    (row,) = connection.execute(query).fetchall()
    return int(row[0] or 0)


# ── PostgreSQL ──


async def fill_postgres(connection: Any, count: int, told: Told, *, span: timedelta = TEN_YEARS) -> list[UUID]:
    """
    Add `count` messages, accepted evenly over `span`, to the ledger of a superuser's connection; return some ids.

    What comes later counts on from their positions, as it does after a ledger was moved to another cluster.

    Raises:
        CannotRun: the ledger holds no message.
    """
    form, ids = Form(id_of=lambda each: each, time_of=lambda at: at), list[UUID]()
    now = datetime.now(UTC)
    known = await connection.fetch("SELECT message_id FROM message")
    samples = [
        Sample({table: await _postgres_rows(connection, query, each[0]) for table, query in _POSTGRES.items()}, form)
        for each in known
    ]
    _require_samples(samples)
    for weeks in range(0, span // _WEEK + 1, _WEEKS_WITHIN_MONTH):
        await connection.execute("SELECT open_month($1)", (now - weeks * _WEEK).date())
    await connection.execute("SELECT open_month($1)", (now - span).date())
    numbering = Numbering(
        dek=0,
        message=await connection.fetchval("SELECT max(position) FROM message"),
        log_entry=await connection.fetchval("SELECT max(position) FROM log_entry"),
        event=await connection.fetchval("SELECT max(last_number) FROM feed") or 0,
    )
    for rows in _batches(samples, count, numbering, form, span=span, ids=ids, told=told):
        async with connection.transaction():
            for table, values in rows.items():
                if values:
                    await connection.copy_records_to_table(table, records=values)
    last = max(numbering.message, numbering.log_entry)
    await connection.execute("UPDATE position_base SET base = $1", (last >> _PLACE_BITS) + 1)
    await connection.execute("UPDATE feed SET last_number = $1", numbering.event)
    await connection.execute("UPDATE feed_progress SET position = $1", numbering.log_entry)
    await connection.execute("VACUUM (ANALYZE)")
    await connection.execute("CHECKPOINT")  # or one would come while the gateway is measured
    return ids


async def _postgres_rows(connection: Any, query: str, message_id: UUID) -> list[Row]:
    return [dict(row) for row in await connection.fetch(query.format(id="$1"), message_id)]
