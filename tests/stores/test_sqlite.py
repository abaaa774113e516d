"""What only a SQLite ledger can get wrong: its thread, its file, its lock, its migrations, its pages."""

import asyncio
import os
import queue
import random
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import apsw
import pytest

from gateway.crypto.vault import DekRow, KekRow
from gateway.domain.ids import EnterpriseNumber, MessageId, uuid7
from gateway.errors import StoreInUse, StoreUnavailable
from gateway.stores.model import Log, LogEntry
from gateway.stores.sqlite import keys, logs
from gateway.stores.sqlite.ledger import SqliteLedger
from gateway.stores.sqlite.migrating import Migration, migrate, migrations
from gateway.stores.sqlite.opening import connect_writer, open_exclusively
from gateway.stores.sqlite.readers import Readers
from gateway.stores.sqlite.writer import Writer

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
PATIENCE_S = 20

Work = Callable[[apsw.Connection], Any]


def clock() -> datetime:
    return NOW


def insert(number: int) -> Work:
    return lambda connection: connection.execute("INSERT INTO t (n) VALUES (?)", (number,)).fetchall()


def numbers(connection: apsw.Connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT n FROM t ORDER BY n")]


def log_bytes(name: str) -> int:
    """Return the size of the log beside a database file, 0 when there is none."""
    log = Path(f"{name}-wal")
    return log.stat().st_size if log.exists() else 0


def log_entry(size_bytes: int = 10) -> LogEntry:
    return LogEntry(
        entry_id=uuid4(), log=Log.TRAFFIC, at=NOW, event="e", entry=os.urandom(size_bytes), leaf_sha256=b"l" * 32
    )


class Gate:
    """Work that holds its thread up until the gate is opened."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._open = threading.Event()

    def __call__(self, _connection: apsw.Connection) -> None:
        self._reached.set()
        assert self._open.wait(PATIENCE_S)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._reached.wait, PATIENCE_S)

    def open(self) -> None:
        self._open.set()


class Disk(apsw.VFS):
    """The real disk, until it is told that it can no longer make anything durable."""

    def __init__(self, real: str) -> None:
        super().__init__("disk", real)
        self.real = real
        self.is_broken = False

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "DiskFile":  # noqa: N802 -- SQLite's name
        return DiskFile(self, name, flags)


class DiskFile(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__(disk.real, name, flags)
        self._disk = disk

    def xSync(self, flags: int) -> None:  # noqa: N802 -- SQLite's name
        if self._disk.is_broken:
            raise apsw.IOError("on purpose")
        super().xSync(flags)


@pytest.fixture
def disk() -> Iterator[Disk]:
    """The disk on which every database of the test is opened."""
    usual = apsw.vfs_names()[0]
    disk = Disk(usual)
    apsw.set_default_vfs("disk")
    yield disk
    apsw.set_default_vfs(usual)
    disk.unregister()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store" / "ledger.sqlite"


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    file = tmp_path / "plain.sqlite"
    file.touch()
    connection = connect_writer(file)
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, parent INTEGER REFERENCES t (n), filler BLOB)")
    yield connection
    connection.close()


@pytest.fixture
def commits() -> list[tuple[float, int]]:
    return []


@pytest.fixture
async def writer(connection: apsw.Connection, commits: list[tuple[float, int]]) -> AsyncIterator[Writer]:
    writer = Writer(connection, on_commit=lambda seconds, batch: commits.append((seconds, batch)), batch_limit=40)
    yield writer
    await writer.close()


@pytest.fixture
async def ledger(path: Path) -> AsyncIterator[SqliteLedger]:
    ledger = await SqliteLedger.open(path, clock=clock)
    yield ledger
    await ledger.close()


async def behind_a_gate(writer: Writer, works: list[Work]) -> list[Any]:
    """Run `works` so that they all wait while another change runs; return their outcomes."""
    gate = Gate()
    held = asyncio.create_task(writer.run(gate))
    await gate.reached()
    tasks = [asyncio.create_task(writer.run(work)) for work in works]
    await asyncio.sleep(0)  # every task has asked
    gate.open()
    await held
    return await asyncio.gather(*tasks, return_exceptions=True)


# the writer


async def test_changes_that_wait_together_share_a_commit(writer: Writer, commits: list[tuple[float, int]]) -> None:
    await behind_a_gate(writer, [insert(number) for number in range(100)])
    assert await writer.run(numbers) == list(range(100))
    assert [batch for _, batch in commits][:4] == [1, 40, 40, 20]  # first the gate
    assert all(seconds > 0 for seconds, _ in commits)


async def test_a_failing_change_goes_whole_and_alone(writer: Writer) -> None:
    def fails(connection: apsw.Connection) -> None:
        insert(50)(connection)
        raise LookupError("on purpose")

    def conflicts(connection: apsw.Connection) -> None:
        insert(51)(connection)
        insert(1)(connection)

    outcomes = await behind_a_gate(writer, [insert(1), fails, conflicts, insert(2), lambda _: "a value"])
    assert [type(outcome) for outcome in outcomes] == [list, LookupError, apsw.ConstraintError, list, str]
    assert await writer.run(numbers) == [1, 2]


async def test_when_the_commit_fails_nobody_of_the_batch_hears_of_success(
    writer: Writer, commits: list[tuple[float, int]]
) -> None:
    def breaks_the_commit(connection: apsw.Connection) -> None:
        connection.execute("PRAGMA defer_foreign_keys = ON")
        connection.execute("INSERT INTO t (n, parent) VALUES (7, 999)")

    outcomes = await behind_a_gate(writer, [insert(1), breaks_the_commit, insert(2)])
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
    assert isinstance(outcomes[0].__cause__, apsw.ConstraintError)
    assert await writer.run(numbers) == []
    await writer.run(insert(3))
    assert await writer.run(numbers) == [3]
    await writer.close()
    assert [batch for _, batch in commits] == [1, 1, 1, 1]  # of the gate, and of what came after


async def test_a_full_disk_refuses_the_batch_and_is_got_over(writer: Writer) -> None:
    def big(number: int) -> Work:
        return lambda connection: connection.execute(
            "INSERT INTO t (n, filler) VALUES (?, zeroblob(100000))", (number,)
        )

    def pages_at_most(count: int) -> Work:
        return lambda connection: connection.pragma("max_page_count", count)

    await writer.run(insert(1))
    await writer.run(pages_at_most(10))
    outcomes = await behind_a_gate(writer, [insert(2), big(3), insert(4)])
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
    assert isinstance(outcomes[1].__cause__, apsw.FullError)
    assert await writer.run(numbers) == [1]
    await writer.run(insert(5))  # what still fits is still taken
    await writer.run(pages_at_most(10_000))
    await writer.run(big(6))
    assert await writer.run(numbers) == [1, 5, 6]


async def test_a_disk_that_cannot_sync_refuses_the_batch_and_is_got_over(disk: Disk, writer: Writer) -> None:
    await writer.run(insert(1))
    disk.is_broken = True
    outcomes = await behind_a_gate(writer, [insert(2), insert(3)])
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 2
    assert isinstance(outcomes[0].__cause__, apsw.IOError)
    with pytest.raises(StoreUnavailable):
        await writer.checkpoint()
    disk.is_broken = False
    await writer.run(insert(4))
    assert await writer.run(numbers) == [1, 4]
    await writer.close()


async def test_too_much_waiting_is_refused_at_once(connection: apsw.Connection) -> None:
    writer = Writer(connection, queue_limit=3)
    gate = Gate()
    held = asyncio.create_task(writer.run(gate))
    await gate.reached()
    waiting = [asyncio.create_task(writer.run(insert(number))) for number in range(3)]
    await asyncio.sleep(0)  # every task has asked
    with pytest.raises(StoreUnavailable):
        await writer.run(insert(9))
    gate.open()
    await asyncio.gather(held, *waiting)
    assert await writer.run(numbers) == [0, 1, 2]
    await writer.close()


async def test_closing_finishes_what_was_asked_and_refuses_the_rest(connection: apsw.Connection) -> None:
    writer = Writer(connection)
    name = connection.filename
    tasks = [asyncio.create_task(writer.run(insert(number))) for number in range(50)]
    await asyncio.sleep(0)  # every task has asked
    closing = asyncio.create_task(writer.close())
    await asyncio.gather(closing, *tasks)
    with pytest.raises(StoreUnavailable):
        await writer.run(insert(99))
    with pytest.raises(StoreUnavailable):
        await writer.checkpoint()
    await writer.close()
    assert log_bytes(name) == 0
    with apsw.Connection(name) as reader:
        assert numbers(reader) == list(range(50))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the thread dies on purpose
async def test_a_dead_writer_thread_leaves_nobody_waiting(connection: apsw.Connection) -> None:
    def dies(_: apsw.Connection) -> None:
        raise SystemExit

    writer = Writer(connection)
    outcomes = await behind_a_gate(writer, [insert(1), dies, insert(2)])
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
    with pytest.raises(StoreUnavailable):
        await writer.run(insert(3))
    await writer.close()
    assert numbers(connection) == []


async def test_a_checkpoint_empties_the_log_file(writer: Writer, connection: apsw.Connection) -> None:
    await writer.run(insert(1))
    assert log_bytes(connection.filename) > 0
    await writer.checkpoint()
    assert log_bytes(connection.filename) == 0
    assert await writer.run(numbers) == [1]


async def test_a_checkpoint_that_a_reader_holds_up_says_so_and_the_writer_goes_on(
    writer: Writer, connection: apsw.Connection
) -> None:
    await writer.run(insert(1))
    await writer.run(lambda c: c.set_busy_timeout(0))
    reader = apsw.Connection(connection.filename)
    reader.execute("BEGIN")
    assert numbers(reader) == [1]
    await writer.run(insert(2))
    with pytest.raises(StoreUnavailable):
        await writer.checkpoint()
    await writer.run(insert(3))
    reader.close()
    await writer.checkpoint()
    assert await writer.run(numbers) == [1, 2, 3]


async def test_closing_without_a_checkpoint_says_so_and_loses_nothing(connection: apsw.Connection) -> None:
    name = connection.filename
    writer = Writer(connection)
    await writer.run(lambda c: c.set_busy_timeout(0))
    reader = apsw.Connection(name)
    reader.execute("BEGIN")
    assert numbers(reader) == []
    await writer.run(insert(1))
    with pytest.raises(StoreUnavailable, match="without a last checkpoint"):
        await writer.close()
    reader.execute("ROLLBACK")
    assert numbers(reader) == [1]
    reader.close()


async def test_callers_of_several_event_loops_each_hear_in_their_own(writer: Writer) -> None:
    async def caller(number: int) -> tuple[Any, bool]:
        loop = asyncio.get_running_loop()
        await writer.run(insert(number))
        return await writer.run(numbers), loop is asyncio.get_running_loop()

    gate = Gate()
    held = asyncio.create_task(writer.run(gate))
    await gate.reached()
    elsewhere = asyncio.create_task(asyncio.to_thread(asyncio.run, caller(2)))
    here = asyncio.create_task(caller(1))
    await asyncio.sleep(0)  # it has asked
    gate.open()
    (_, same_here), (_, same_elsewhere), _ = await asyncio.gather(here, elsewhere, held)
    assert same_here
    assert same_elsewhere
    assert await writer.run(numbers) == [1, 2]


async def test_a_caller_whose_loop_is_gone_harms_nobody(writer: Writer) -> None:
    gate = Gate()

    async def asks_and_leaves() -> None:
        task = asyncio.create_task(writer.run(insert(1)))
        await asyncio.sleep(0)  # it has asked
        task.cancel()

    held = asyncio.create_task(writer.run(gate))
    await gate.reached()
    await asyncio.to_thread(asyncio.run, asks_and_leaves())
    gate.open()
    await held
    await writer.run(insert(2))
    assert 2 in await writer.run(numbers)


# the readers


async def test_reads_go_on_while_the_writer_is_busy(ledger: SqliteLedger) -> None:
    gate = Gate()
    held = asyncio.create_task(ledger._writer.run(gate))
    await gate.reached()
    assert await ledger.late(NOW) == []
    gate.open()
    await held


async def test_all_statements_of_a_read_see_one_moment(ledger: SqliteLedger, path: Path) -> None:
    message_id = MessageId(uuid4())
    begun: queue.SimpleQueue[int] = queue.SimpleQueue()
    gate = Gate()

    def counts_twice(connection: apsw.Connection) -> tuple[int, int]:
        before = len(logs.timeline(connection, message_id))
        begun.put(before)
        gate(connection)
        return before, len(logs.timeline(connection, message_id))

    def appended(connection: apsw.Connection) -> int:
        return int(connection.execute("SELECT count(*) FROM log_entry").get)

    reading = asyncio.create_task(ledger._readers.run(counts_twice))
    await asyncio.to_thread(begun.get, timeout=PATIENCE_S)
    await ledger.append([LogEntry(
        entry_id=uuid4(), log=Log.TRAFFIC, at=NOW, event="e", message_id=message_id, entry=b"{}", leaf_sha256=b"l" * 32
    )])  # fmt: skip
    assert await ledger._readers.run(appended) == 1
    gate.open()
    assert await reading == (0, 0)
    assert len(await ledger.timeline(message_id)) == 1


@pytest.mark.parametrize("statement", ["DELETE FROM heartbeat", "SELECT nonsense"])
async def test_a_read_that_cannot_be_done_is_reported_and_the_next_one_works(
    ledger: SqliteLedger, statement: str
) -> None:
    with pytest.raises(StoreUnavailable):
        await ledger._readers.run(lambda connection: connection.execute(statement).fetchall())
    assert await ledger.late(NOW) == []


async def test_a_missing_file_is_reported_by_a_read(tmp_path: Path) -> None:
    readers = Readers(tmp_path / "missing.sqlite")
    with pytest.raises(StoreUnavailable):
        await readers.run(numbers)
    await readers.close()


# the file


async def test_only_its_owner_can_read_a_ledger(ledger: SqliteLedger, path: Path) -> None:
    await ledger.heartbeat(NOW)
    modes = {found.name: stat.S_IMODE(found.stat().st_mode) for found in [path.parent, *path.parent.iterdir()]}
    assert modes == {
        "store": 0o700,
        "ledger.sqlite": 0o600,
        "ledger.sqlite-wal": 0o600,
        "ledger.sqlite-shm": 0o600,
        "ledger.sqlite.lock": 0o600,
    }


HOLDS_IT = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from gateway.stores.model import Suspension
from gateway.stores.sqlite.ledger import SqliteLedger

async def main():
    ledger = await SqliteLedger.open(Path(sys.argv[1]), clock=lambda: datetime.now(UTC))
    await ledger.suspend(Suspension(sender="0406798006", at=datetime.now(UTC), reason="by the other process"), [])
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@pytest.fixture
def other_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the ledger open."""
    command = [sys.executable, "-c", HOLDS_IT, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


async def test_one_process_at_a_time_opens_a_ledger_and_a_killed_one_lets_go(
    path: Path, other_process: subprocess.Popen[str]
) -> None:
    with pytest.raises(StoreInUse, match=r"ledger\.sqlite open; stop it .* PostgreSQL"):
        await SqliteLedger.open(path, clock=clock)
    other_process.kill()
    await asyncio.to_thread(other_process.wait, PATIENCE_S)
    ledger = await SqliteLedger.open(path, clock=clock)
    assert [suspension.reason for suspension in await ledger.suspensions()] == ["by the other process"]
    await ledger.close()


async def test_a_closed_ledger_can_be_opened_again_in_the_same_process(path: Path) -> None:
    for _ in range(2):
        ledger = await SqliteLedger.open(path, clock=clock)
        with pytest.raises(StoreInUse):
            await SqliteLedger.open(path, clock=clock)
        await ledger.close()


@pytest.fixture
def letter(path: Path) -> Path:
    path.parent.mkdir()
    path.write_bytes(b"this is a letter, not a database" * 1_000)
    return path


async def test_a_file_that_is_no_database_is_refused_and_not_locked(letter: Path) -> None:
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="not a database"):
            await SqliteLedger.open(letter, clock=clock)


async def test_a_directory_is_not_made_when_its_parent_is_missing(path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="No such file or directory"):
        await SqliteLedger.open(path.parent / "missing" / "ledger.sqlite", clock=clock)


async def test_a_full_disk_refuses_changes_and_not_reads(ledger: SqliteLedger) -> None:
    await ledger._writer.run(lambda connection: connection.pragma("max_page_count", 200))
    with pytest.raises(StoreUnavailable):
        await ledger.append([log_entry(2_000_000)])
    assert await ledger.late(NOW) == []
    await ledger._writer.run(lambda connection: connection.pragma("max_page_count", 1_000_000))
    await ledger.append([log_entry(2_000_000)])


async def test_a_heartbeat_really_commits(path: Path) -> None:
    commits: list[int] = []
    ledger = await SqliteLedger.open(path, clock=clock, on_commit=lambda _, batch: commits.append(batch))
    await ledger.heartbeat(NOW)
    await ledger.heartbeat(NOW + timedelta(seconds=1))
    rows = await ledger._readers.run(lambda connection: connection.execute("SELECT at FROM heartbeat").fetchall())
    await ledger.close()
    assert rows == [(1_795_341_601_000,)]
    assert commits == [1, 1]


@pytest.mark.parametrize(
    ("name", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("secure_delete", 1)]
)
def test_a_writing_connection_is_durable_and_leaves_no_trace(
    connection: apsw.Connection, name: str, value: str | int
) -> None:
    assert connection.pragma(name) == value


# migrations


def applied(path: Path) -> list[Any]:
    connection = apsw.Connection(str(path))
    rows = connection.execute("SELECT version, name, applied_at FROM schema_migration ORDER BY version").fetchall()
    connection.close()
    return rows


def test_each_migration_is_applied_and_noted_once(path: Path) -> None:
    for at in (NOW, NOW + timedelta(days=1)):
        connection, lock_fd = open_exclusively(path, at)
        connection.close()
        os.close(lock_fd)
        assert applied(path) == [(step.version, step.name, 1_795_341_600_000) for step in migrations()]


async def test_a_ledger_newer_than_the_program_is_refused(path: Path, ledger: SqliteLedger) -> None:
    await ledger._writer.run(lambda c: c.execute("INSERT INTO schema_migration VALUES (999, 'pre_later', 0)").get)
    await ledger.close()
    with pytest.raises(StoreUnavailable, match="schema version 999"):
        await SqliteLedger.open(path, clock=clock)


async def test_another_database_is_not_taken_for_a_ledger(path: Path) -> None:
    path.parent.mkdir()
    with apsw.Connection(str(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(StoreUnavailable, match="no ledger"):
        await SqliteLedger.open(path, clock=clock)
    with apsw.Connection(str(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("recipes",)]


def test_a_failing_migration_leaves_the_ledger_at_the_one_before(path: Path) -> None:
    connection, lock_fd = open_exclusively(path, NOW)
    newest = migrations()[-1].version
    good = Migration(version=newest + 1, name="pre_good", script="CREATE TABLE good (x INTEGER) STRICT;")
    bad = Migration(
        version=newest + 2,
        name="pre_bad",
        script="CREATE TABLE bad (x INTEGER) STRICT; INSERT INTO nowhere VALUES (1);",
    )
    with pytest.raises(apsw.SQLError):
        migrate(connection, NOW, [*migrations(), good, bad])
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE name IN ('good', 'bad')")]
    assert tables == ["good"]
    mended = Migration(version=newest + 2, name="pre_bad", script="CREATE TABLE bad (x INTEGER) STRICT;")
    migrate(connection, NOW, [*migrations(), good, mended])
    connection.close()
    os.close(lock_fd)
    assert [version for version, _, _ in applied(path)][-2:] == [newest + 1, newest + 2]


# what the pages hold


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log_entry SET event = 'other'",
        "DELETE FROM log_entry",
        "REPLACE INTO log_entry SELECT * FROM log_entry",
        "INSERT INTO log_entry SELECT * FROM log_entry WHERE true ON CONFLICT DO UPDATE SET event = 'other'",
    ],
)
async def test_log_entries_are_never_changed_or_deleted(ledger: SqliteLedger, statement: str) -> None:
    await ledger.append([log_entry()])
    with pytest.raises(apsw.ConstraintError, match="log entries"):
        await ledger._writer.run(lambda connection: connection.execute(statement).fetchall())
    rows = await ledger._readers.run(lambda connection: connection.execute("SELECT event FROM log_entry").fetchall())
    assert rows == [("e",)]


async def test_keys_are_never_deleted_only_overwritten(ledger: SqliteLedger) -> None:
    kek = KekRow(kek_id=uuid4(), sender_id=uuid4(), year=2026, master_id="m", wrapped=b"k")
    await ledger.add_kek(kek)
    row = DekRow(dek_id=uuid4(), kek_id=kek.kek_id, purpose="log", wrapped=b"w" * 104)
    await ledger.add_log_key(kek.sender_id, 2026, row)
    with pytest.raises(apsw.ConstraintError, match="keys are overwritten"):
        await ledger._writer.run(lambda connection: connection.execute("DELETE FROM dek").fetchall())
    assert await ledger.dek(row.dek_id) == row


def test_no_copy_of_a_destroyed_key_stays_in_any_page(path: Path) -> None:
    # As in life: ids grow, sizes differ, neighbours come and go. As rows of a b-tree by id, several of these keys would
    # be found again, whether they are deleted or overwritten.
    connection, lock_fd = open_exclusively(path, NOW)
    connection.pragma("synchronous", "OFF")
    kek = KekRow(kek_id=uuid4(), sender_id=uuid4(), year=2026, master_id="m", wrapped=b"k")
    keys.add_kek(connection, kek)
    chance = random.Random(1)
    live: list[DekRow] = []
    dead: list[bytes] = []
    for step in range(200):
        with connection:
            rows = [
                DekRow(
                    dek_id=uuid7(step * 1_000 + number, os.urandom(10)),
                    kek_id=kek.kek_id,
                    purpose="document",
                    wrapped=os.urandom(chance.choice((92, 100, 104, 140))),
                )
                for number in range(60)
            ]
            keys.add_deks(connection, rows)
            live += rows
            chance.shuffle(live)
            for row in live[:48]:
                document_of(connection, row)
                keys.destroy_document_keys(connection, row.dek_id)
                dead.append(row.wrapped)
            del live[:48]
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    on_disk = b"".join(found.read_bytes() for found in path.parent.iterdir())
    connection.close()
    os.close(lock_fd)
    assert all(row.wrapped in on_disk for row in live)
    # Any 24 bytes of a key hold one of these pieces.
    pieces = {wrapped[start : start + 16] for wrapped in dead for start in range(0, len(wrapped) - 15, 8)}
    assert not [at for at in range(len(on_disk)) if on_disk[at : at + 16] in pieces]


def document_of(connection: apsw.Connection, row: DekRow) -> None:
    """Add a document, of a message with the id of its key, which is all that destroying needs."""
    connection.execute(
        "INSERT INTO document (document_id, message_id, number, part, kind, media_type, size_bytes, sha256, main,"
        " signed, sealed_filename, dek_id) VALUES (?1, ?1, 1, 'p', 'document', 'm', 1, x'00', 1, 0, x'00', ?1)",
        (row.dek_id.bytes,),
    )


async def test_a_status_that_a_newer_program_wrote_is_left_unclaimed(ledger: SqliteLedger) -> None:
    def from_the_future(connection: apsw.Connection) -> None:
        connection.execute(
            "INSERT INTO delivery (delivery_id, message_id, number, channel, provider, lane, status, status_at,"
            " next_action, due_at, sender)"
            " VALUES (?1, ?1, 1, 'print', 'house-a', 'single', 'teleported', 0, 'send', 0, '0406798006')",
            (uuid4().bytes,),
        )

    await ledger._writer.run(from_the_future)
    claims = await ledger.claim("w", lease=timedelta(hours=1), limit=10, providers=["house-a"])
    assert claims == []
    assert not await ledger.is_suspended(EnterpriseNumber("0406798006"))
