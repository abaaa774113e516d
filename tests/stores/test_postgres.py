"""What only a PostgreSQL ledger can get wrong: order of commit, rights, settings, partitions, migrations, its pool."""

import asyncio
import secrets
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import asyncpg
import pytest
import tomli_w

from gateway.cli import main
from gateway.domain.ids import EnterpriseNumber, MessageId, uuid7
from gateway.errors import Refusal, StoreInUse, StoreUnavailable
from gateway.stores.model import KnownReference, MessageFilter, NewMessage
from gateway.stores.open import open_ledger
from gateway.stores.postgres import accepting, logs
from gateway.stores.postgres.addressing import parse_address
from gateway.stores.postgres.ledger import PostgresLedger, migrate
from gateway.stores.postgres.migrating import Migration, migrations
from gateway.stores.postgres.migrating import migrate as migrate_with
from gateway.stores.postgres.opening import open_pool
from gateway.stores.postgres.sessions import Connection, Sessions, Transaction

if TYPE_CHECKING:
    from tests.plugins.postgres import Database, Server

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
SENDER = EnterpriseNumber("0406798006")
MESSAGES = MessageFilter(sender=SENDER, profiles=None)


@pytest.fixture
async def database(postgres_server: "Server") -> "Database":
    return await postgres_server.emptied_database()


@asynccontextmanager
async def opened(uri: str, **named: Any) -> AsyncIterator[PostgresLedger]:
    ledger = await PostgresLedger.open(uri, **named)
    try:
        yield ledger
    finally:
        await ledger.close()


@pytest.fixture
async def ledger(database: "Database", records: Any) -> AsyncIterator[PostgresLedger]:
    async with opened(database.uri, clock=lambda: NOW) as ledger:
        await ledger.add_kek(records.kek)
        yield ledger


@asynccontextmanager
async def connected(database: "Database", role: str = "gateway") -> AsyncIterator[Any]:
    connection = await database.server.connect(database.name, role)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def transaction(database: "Database") -> AsyncIterator[Transaction]:
    """One more gateway, in the middle of a transaction."""
    async with connected(database) as connection, connection.transaction():
        yield Transaction(connection, lambda: NOW)


@asynccontextmanager
async def sessions(uri: str, *, wait_s: float = 5) -> AsyncIterator[Sessions]:
    made = Sessions(await open_pool(parse_address(uri), shared=True), clock=None, on_commit=None, wait_s=wait_s)
    try:
        yield made
    finally:
        await made.close()


def shown(setting: str) -> Callable[[Transaction], Awaitable[Any]]:
    return lambda tx: tx.connection.fetchval(f"SHOW {setting}")


async def until_waiting_for_a_lock(database: "Database", count: int = 1) -> None:
    """Return when so many transactions in this database wait for another one."""
    async with database.server.admin(database.name) as admin:
        waiting = -1
        while waiting != count:
            waiting = await admin.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )


def at_month(new: NewMessage, at: datetime) -> NewMessage:
    """Return a message whose id says that it was accepted at this time."""
    message_id = MessageId(uuid7(int(at.timestamp() * 1_000), secrets.token_bytes(10)))
    deliveries = tuple(replace(delivery, message_id=message_id) for delivery in new.message.deliveries)
    message = replace(new.message, message_id=message_id, deliveries=deliveries)
    return replace(new, message=message, logs=tuple(replace(entry, message_id=message_id) for entry in new.logs))


async def listed(ledger: PostgresLedger) -> list[MessageId]:
    page = await ledger.messages(MESSAGES, after_position=0, limit=100)
    return [message.message_id for message in page.messages]


async def fed(ledger: PostgresLedger) -> list[bytes]:
    while await ledger.number_events(at=NOW, limit=100):
        pass
    page = await ledger.events(SENDER, None, after_number=0, limit=100)
    assert [event.number for event in page.events] == list(range(1, len(page.events) + 1))
    return [event.entry for event in page.events]


# order of commit


async def test_lists_and_feeds_wait_for_the_oldest_transaction_and_then_skip_nothing(
    database: "Database", ledger: PostgresLedger, records: Any
) -> None:
    # Of two profiles, because messages of one wait for each other at the counter of its quota.
    slow, quick = (
        records.new(profile=profile, logs=(records.log(sender=SENDER, message_id=MessageId(uuid4())),))
        for profile in ("a", "b")
    )
    async with transaction(database) as tx:
        await accepting.record(tx, slow)
        await ledger.record(quick)
        assert await listed(ledger) == []
        assert await fed(ledger) == []
        assert await ledger.message(quick.message.message_id) is not None  # it is there, only in no list yet
    assert await listed(ledger) == [slow.message.message_id, quick.message.message_id]
    assert await fed(ledger) == [slow.logs[0].entry, quick.logs[0].entry]


async def test_a_reader_that_comes_back_misses_nothing_however_transactions_overlap(
    database: "Database", ledger: PostgresLedger, records: Any
) -> None:
    news = [records.new(profile=f"p-{number}") for number in range(9)]
    seen: list[MessageId] = []
    after = 0

    async def look() -> None:
        nonlocal after
        page = await ledger.messages(MESSAGES, after_position=after, limit=100)
        seen.extend(message.message_id for message in page.messages)
        if page.messages:
            async with connected(database) as connection:
                after = await connection.fetchval(
                    "SELECT position FROM message WHERE message_id = $1", page.messages[-1].message_id
                )

    for first, second, third in zip(news[::3], news[1::3], news[2::3], strict=True):
        async with transaction(database) as outer:
            await accepting.record(outer, first)
            async with transaction(database) as inner:
                await accepting.record(inner, second)
                await look()
            await look()
            await ledger.record(third)
            await look()
        await look()
    assert sorted(seen) == sorted(new.message.message_id for new in news)
    assert len(seen) == len(news)


async def test_entries_about_one_message_are_in_one_order_everywhere(
    database: "Database", ledger: PostgresLedger, records: Any
) -> None:
    new = records.new(logs=())
    await ledger.record(new)
    about = {"sender": SENDER, "message_id": new.message.message_id}
    first, second = records.log(**about), records.log(**about)
    async with transaction(database) as tx:
        await logs.append(tx, [first])
        waits = asyncio.create_task(ledger.append([second]))
        await until_waiting_for_a_lock(database)
        assert await ledger.timeline(new.message.message_id) == []
    await waits
    assert [entry.entry for entry in await ledger.timeline(new.message.message_id)] == [first.entry, second.entry]
    assert await fed(ledger) == [first.entry, second.entry]


async def test_the_number_of_a_transaction_is_given_after_the_lock_of_the_message(
    database: "Database", ledger: PostgresLedger, records: Any
) -> None:
    """Who waited for a message has a higher number than who came between, so the feed agrees with the timeline."""
    new = records.new(logs=())
    await ledger.record(new)
    about = {"sender": SENDER, "message_id": new.message.message_id}
    early, late = records.log(**about), records.log(**about)
    async with transaction(database) as tx:
        await tx.connection.execute(logs._LOCK, [new.message.message_id])
        waits = asyncio.create_task(ledger.append([late]))
        await until_waiting_for_a_lock(database)
        await ledger.heartbeat(NOW)
        await logs.append(tx, [early])
    await waits
    assert await fed(ledger) == [early.entry, late.entry]


async def test_entries_about_several_messages_are_numbered_each_for_itself(
    ledger: PostgresLedger, records: Any
) -> None:
    one, two = records.new(), records.new()
    # The acceptance of one brings an entry about the other, which is there already.
    await ledger.record(two)
    other = records.log(message_id=two.message.message_id)
    await ledger.record(replace(one, logs=(other, *one.logs)))
    more = [records.log(message_id=new.message.message_id) for new in (one, two, one, two)]
    await ledger.append([*more, records.log()])
    timelines = [[entry.event for entry in await ledger.timeline(new.message.message_id)] for new in (one, two)]
    assert timelines == [
        [one.logs[0].event, more[0].event, more[2].event],
        [two.logs[0].event, other.event, more[1].event, more[3].event],
    ]


async def test_of_two_that_burn_one_reference_at_once_the_second_learns_of_the_first(
    database: "Database", ledger: PostgresLedger, records: Any
) -> None:
    first, second = records.new(reference="r"), records.new(reference="r")
    async with transaction(database) as tx:
        await accepting.record(tx, first)
        waits = asyncio.create_task(ledger.record(second))
        await until_waiting_for_a_lock(database)
    known = KnownReference(message_id=first.message.message_id, content_sha256=first.message.content_sha256)
    assert await waits == known
    assert await ledger.message(second.message.message_id) is None


async def test_of_two_for_the_last_place_in_a_quota_one_is_refused(
    database: "Database", ledger: PostgresLedger, records: Any
) -> None:
    first, second = records.new(messages_per_day=1), records.new(messages_per_day=1)
    async with transaction(database) as tx:
        await accepting.record(tx, first)
        waits = asyncio.create_task(ledger.record(second))
        await until_waiting_for_a_lock(database)
    with pytest.raises(Refusal):
        await waits
    assert await ledger.find_reference(SENDER, second.message.profile, second.message.reference) is None


async def test_a_transaction_has_no_more_places_than_a_position_can_tell() -> None:
    tx = Transaction(cast(Connection, None))  # nothing is asked of it
    places = [tx.place() for _ in range((1 << 16) - 1)]
    assert places == list(range(1, 1 << 16))
    with pytest.raises(StoreUnavailable, match="65535"):
        tx.place()


# rights

FORBIDDEN = [
    "UPDATE log_entry SET event = 'x'",
    "DELETE FROM log_entry",
    "TRUNCATE log_entry",
    "UPDATE log_entry_other SET event = 'x'",
    "DELETE FROM log_entry_other",
    "TRUNCATE log_entry_other",
    "UPDATE evidence SET jws = ''",
    "DELETE FROM evidence",
    "UPDATE registration_version SET author = 'x'",
    "DELETE FROM registration_version",
    "UPDATE reference SET message_id = gen_random_uuid()",
    "DELETE FROM reference",
    "UPDATE message SET sender = 'x'",
    "UPDATE message SET receipt_jws = 'x'",
    "UPDATE message SET accepted_at = now()",
    "DELETE FROM message",
    "TRUNCATE message",
    "UPDATE document SET sha256 = ''",
    "DELETE FROM document",
    "UPDATE enclosure SET sealed = ''",
    "TRUNCATE enclosure",
    "DELETE FROM delivery",
    "UPDATE attempt SET started_at = now()",
    "DELETE FROM attempt",
    "DELETE FROM blob",
    "UPDATE blob SET message_id = NULL",
    "DELETE FROM dek",
    "UPDATE dek SET kek_id = gen_random_uuid()",
    "DELETE FROM kek",
    "UPDATE quota SET day = '2026-01-01'",
    "DELETE FROM quota",
    "UPDATE epoch SET epoch_id = gen_random_uuid()",
    "DELETE FROM epoch",
    "UPDATE position_base SET base = 0",
    "INSERT INTO schema_migration (version, name) VALUES (9, 'x')",
    "UPDATE schema_migration SET name = 'x'",
    "DELETE FROM feed",
    "DELETE FROM feed_progress",
    "ALTER SEQUENCE lease_token RESTART",
    "SELECT setval('lease_token', 1)",
    "ALTER TABLE log_entry DISABLE TRIGGER ALL",
    "ALTER TABLE message ADD COLUMN x text",
    "DROP TABLE log_entry_other",
    "CREATE TABLE x (n integer)",
    "CREATE FUNCTION x() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "SET ROLE gateway_owner",
    "SET session_replication_role = replica",
    "GRANT gateway_owner TO gateway",
    "COPY message TO PROGRAM 'cat'",
]


@pytest.mark.parametrize("statement", FORBIDDEN)
async def test_a_gateway_may_not(database: "Database", statement: str) -> None:
    async with connected(database) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


@pytest.mark.parametrize(
    ("role", "words"),
    [
        ("postgres", "the role is a superuser"),
        ("gateway_owner", "the role owns the tables"),
        ("stranger", "GRANT gateway_app"),
        ("meddler", "REVOKE UPDATE, DELETE, TRUNCATE ON log_entry"),
        ("heir", "the role owns the tables"),
    ],
)
async def test_a_role_that_may_too_much_or_too_little_is_refused(
    postgres_database: "Database", role: str, words: str
) -> None:
    async with postgres_database.server.admin(postgres_database.name) as admin:
        if role in ("stranger", "meddler", "heir"):
            await admin.execute(f"CREATE ROLE {role} LOGIN")
            await admin.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        if role == "meddler":
            await admin.execute("GRANT gateway_app TO meddler; GRANT DELETE ON log_entry TO meddler")
        if role == "heir":
            await admin.execute("GRANT gateway_app TO heir; GRANT gateway_owner TO heir")
        try:
            with pytest.raises(StoreUnavailable, match=words):
                await PostgresLedger.open(postgres_database.server.uri(role, postgres_database.name))
        finally:
            if role in ("stranger", "meddler", "heir"):
                await admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_temporary_table_stands_before_none_of_ours(database: "Database", ledger: PostgresLedger) -> None:
    async with connected(database) as connection:
        await connection.execute("SET search_path = public, pg_temp")
        await connection.execute("CREATE TEMPORARY TABLE epoch (number integer, epoch_id uuid)")
        assert await connection.fetchval("SELECT count(*) FROM epoch") == 1
    async with sessions(database.uri) as made:
        assert await made.look(shown("search_path")) == "public, pg_temp"


# settings of the server and of a session


@pytest.fixture(scope="module")
def careless_server(postgres_server: "Server") -> "Any":
    """A server that would lose what it acknowledged."""
    server = type(postgres_server)(
        "fsync = off",
        "full_page_writes = off",
        "synchronous_commit = off",
        "synchronous_standby_names = 'elsewhere'",
        checksums=False,
    )
    try:
        server.start()
        yield server
    finally:
        server.remove()


async def test_a_server_that_would_lose_what_it_acknowledged_is_refused(careless_server: "Server") -> None:
    await careless_server.make_template()
    async with careless_server.fresh_database() as database:
        with pytest.raises(StoreUnavailable) as caught:
            await PostgresLedger.open(database.uri + "&standby=required")
    told = str(caught.value)
    for words in ("fsync is off", "full_page_writes is off", "synchronous_commit is off", "pg_checksums --enable"):
        assert words in told
    assert "synchronous_standby_names" not in told


async def test_a_role_that_does_not_wait_for_the_disk_is_refused(postgres_database: "Database") -> None:
    async with postgres_database.server.admin() as admin:
        for value, is_good in [("off", False), ("local", False), ("remote_write", False), ("remote_apply", True)]:
            await admin.execute(f"ALTER DATABASE {postgres_database.name} SET synchronous_commit = {value}")
            if is_good:
                await (await PostgresLedger.open(postgres_database.uri)).close()
                continue
            with pytest.raises(StoreUnavailable, match=f"synchronous_commit is {value}: set it to on"):
                await PostgresLedger.open(postgres_database.uri)


async def test_a_standby_that_is_required_must_be_named(database: "Database") -> None:
    with pytest.raises(StoreUnavailable, match="synchronous_standby_names is empty"):
        await PostgresLedger.open(database.uri + "&standby=required")


async def test_a_session_has_its_limits(database: "Database") -> None:
    async with sessions(database.uri) as made:
        for name, value in [
            ("application_name", "gateway"),
            ("TimeZone", "UTC"),
            ("statement_timeout", "30s"),
            ("transaction_timeout", "1min"),
            ("lock_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "20s"),
        ]:
            assert await made.look(shown(name)) == value
        await made.apart(["SELECT 1"])
        assert await made.look(shown("statement_timeout")) == "30s"


# passwords


async def test_a_password_stands_in_a_file_that_is_not_for_everybody(database: "Database", tmp_path: Path) -> None:
    file = tmp_path / "passfile"
    uri = f"{database.server.uri('gateway_with_password', database.name)}&passfile={file}"
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        await PostgresLedger.open(uri)
    line = f"localhost:5432:{database.name}:gateway_with_password:correct horse\\: battery"
    file.write_text(f"# a comment\nelsewhere:*:*:*:wrong\n{line}\n")
    file.chmod(0o604)
    with pytest.raises(StoreUnavailable, match="everybody may read"):
        await PostgresLedger.open(uri)
    file.chmod(0o600)
    await (await PostgresLedger.open(uri)).close()
    file.write_text(line.replace("horse", "donkey"))
    with pytest.raises(StoreUnavailable, match="InvalidPasswordError") as caught:
        await PostgresLedger.open(uri)
    assert "donkey" not in str(caught.value)
    file.write_text("*:*:*:somebody:x\n")
    with pytest.raises(StoreUnavailable, match="has no line for role gateway_with_password"):
        await PostgresLedger.open(uri)


async def test_a_password_that_was_changed_is_read_anew(database: "Database", tmp_path: Path) -> None:
    file = tmp_path / "passfile"
    file.touch(0o600)
    file.write_text("*:*:*:*:correct horse\\: battery\n")
    role = "gateway_with_password"
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1"
    async with (
        opened(f"{database.server.uri(role, database.name)}&passfile={file}") as ledger,
        database.server.admin() as admin,
    ):
        await admin.execute(f"ALTER ROLE {role} PASSWORD 'another'")
        try:
            file.write_text("*:*:*:*:another\n")
            await ledger.heartbeat(NOW)
            await admin.execute(ended, role)
            await healed(ledger)
        finally:
            await admin.execute(f"ALTER ROLE {role} PASSWORD 'correct horse: battery'")


async def test_a_uri_that_is_wrong_is_told_when_the_ledger_is_opened() -> None:
    with pytest.raises(StoreUnavailable, match="must not hold a password") as caught:
        await open_ledger("postgresql://gateway:s3cret@localhost/ledger", clock=lambda: NOW)
    assert "s3cret" not in str(caught.value)


# migrations


@pytest.fixture
async def empty_database(postgres_server: "Server") -> AsyncIterator["Database"]:
    async with postgres_server.fresh_database(template="template1") as database:
        yield database


def test_migrations_are_numbered_without_gap_or_double() -> None:
    assert [step.version for step in migrations()] == list(range(1, len(migrations()) + 1))


async def test_two_that_migrate_at_once_apply_each_step_once(empty_database: "Database") -> None:
    outcomes = await asyncio.gather(*(migrate(empty_database.owner_uri, serve_as=empty_database.uri) for _ in range(3)))
    everything = [f"{step.version:04}_{step.name}" for step in migrations()]
    assert sorted(outcomes) == [[], [], everything]
    async with opened(empty_database.uri) as ledger:
        await ledger.heartbeat(NOW)


async def test_a_step_that_fails_leaves_the_ones_before_it(empty_database: "Database") -> None:
    extra = migrations()[-1].version + 1
    steps = [
        *migrations(),
        Migration(version=extra, name="pre_good", script="CREATE TABLE good (n integer)"),
        Migration(version=extra + 1, name="pre_bad", script="CREATE TABLE half (n integer); SELECT 1/0"),
    ]
    async with connected(empty_database, "gateway_owner") as owner:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate_with(owner, known=steps)
        assert await owner.fetchval("SELECT max(version) FROM schema_migration") == extra
        assert await owner.fetchval("SELECT to_regclass('good') IS NOT NULL AND to_regclass('half') IS NULL")
        # The lock is free again.
        assert await migrate_with(owner, known=steps[:-1]) == []


async def test_a_schema_of_another_age_is_refused(postgres_database: "Database") -> None:
    newest = migrations()[-1].version
    async with postgres_database.server.admin(postgres_database.name) as admin:
        await admin.execute("UPDATE schema_migration SET version = 0 WHERE version = $1", newest)
        with pytest.raises(StoreUnavailable, match=rf"has version {newest - 1}, older .* run gateway migrate"):
            await PostgresLedger.open(postgres_database.uri)
        await admin.execute("INSERT INTO schema_migration (version, name) VALUES (9999, 'pre_later')")
        for attempt in (PostgresLedger.open(postgres_database.uri), migrate(postgres_database.owner_uri)):
            with pytest.raises(StoreUnavailable, match=f"version 9999 and this program knows {newest}"):
                await attempt


async def test_a_database_that_is_no_ledger_is_refused(empty_database: "Database") -> None:
    with pytest.raises(StoreUnavailable, match="holds no ledger: run gateway migrate"):
        await PostgresLedger.open(empty_database.uri)
    async with connected(empty_database, "gateway_owner") as owner:
        await owner.execute("CREATE TABLE invoices (n integer)")
    with pytest.raises(StoreUnavailable, match="holds tables and is no ledger"):
        await migrate(empty_database.owner_uri)


async def test_who_may_not_change_the_schema_is_told(empty_database: "Database") -> None:
    with pytest.raises(StoreUnavailable, match=r"role gateway cannot .*InsufficientPrivilegeError"):
        await migrate(empty_database.uri)


async def test_the_command_migrates_a_database_as_its_owner(
    empty_database: "Database", tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = tomllib.loads((Path(__file__).parents[2] / "config" / "gateway.dev.toml").read_text())
    values["gateway"]["state"] = str(tmp_path)
    values["stores"] = {"ledger": empty_database.uri}
    config = tmp_path / "gateway.toml"
    config.write_text(tomli_w.dumps(values))
    command = ["migrate", "--config", str(config)]
    assert await asyncio.to_thread(main, command) == 1
    assert "InsufficientPrivilegeError" in capsys.readouterr().err
    assert await asyncio.to_thread(main, [*command, "--as", empty_database.owner_uri, "--grant"]) == 0
    assert "applied 0001_pre_ledger\n" in capsys.readouterr().out
    await (await PostgresLedger.open(empty_database.uri)).close()
    values["stores"] = {"ledger": f"sqlite:{tmp_path}/ledger.db"}
    config.write_text(tomli_w.dumps(values))
    assert await asyncio.to_thread(main, command) == 0
    assert (tmp_path / "ledger.db").exists()


# who has it open


async def test_a_ledger_is_open_to_many_or_to_one_alone(database: "Database") -> None:
    async with opened(database.uri), opened(database.uri):
        with pytest.raises(StoreInUse, match=r"gateways have the ledger .* open; stop all of them first"):
            await PostgresLedger.open(database.uri, alone=True)
    async with opened(database.uri, alone=True) as ledger:
        await ledger.heartbeat(NOW)
        for alone in (False, True):
            with pytest.raises(StoreInUse):
                await PostgresLedger.open(database.uri, alone=alone)
    async with opened(database.uri):
        pass


async def test_who_cannot_open_it_alone_in_the_end_keeps_nobody_out(
    database: "Database", monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("gateway.stores.postgres.opening.newest_known", lambda: 0)
        with pytest.raises(StoreUnavailable, match="run the newer program"):
            await PostgresLedger.open(database.uri, alone=True)
    async with opened(database.uri):
        pass


# partitions


async def partition_of(database: "Database", table: str) -> set[str]:
    async with database.server.admin(database.name) as admin:
        rows = await admin.fetch(f"SELECT tableoid::regclass::text FROM {table}")  # noqa: S608 -- a name in this file
        return {row[0] for row in rows}


def months(count: int) -> list[datetime]:
    """Return a time in this month, the next, and so on; as the server's clock has it, which is that of this machine."""
    first = datetime.now(UTC).replace(day=1)
    return [(first + timedelta(days=31 * ahead)).replace(day=2) for ahead in range(count)]


async def test_rows_land_in_the_month_of_their_message(
    database: "Database", ledger: PostgresLedger, records: Any
) -> None:
    for at in months(2):
        await ledger.record(at_month(records.new(), at))
    for table in ("message", "document", "delivery", "log_entry"):
        assert await partition_of(database, table) == {f"{table}_{at:%Y%m}" for at in months(2)}
    await ledger.append([replace(records.log(), entry_id=uuid4())])  # no UUIDv7: of no month
    assert "log_entry_other" in await partition_of(database, "log_entry")


async def test_what_is_unique_is_so_across_months_and_outlives_them(
    postgres_database: "Database", records: Any
) -> None:
    this, following = months(2)
    async with opened(postgres_database.uri, clock=lambda: NOW) as ledger:
        await ledger.add_kek(records.kek)
        old = at_month(records.new(reference="r"), this)
        await ledger.record(old)
        known = KnownReference(message_id=old.message.message_id, content_sha256=old.message.content_sha256)
        assert await ledger.record(at_month(records.new(reference="r"), following)) == known
        same_blob = at_month(records.new(), following)
        document = replace(same_blob.message.documents[0], document_id=old.message.documents[0].document_id)
        same_blob = replace(same_blob, message=replace(same_blob.message, documents=(document,)))
        with pytest.raises(StoreUnavailable, match="swept"):
            await ledger.record(same_blob)
        same_key = replace(at_month(records.new(), following), deks=old.deks)
        with pytest.raises(asyncpg.UniqueViolationError):
            await ledger.record(same_key)
        async with connected(postgres_database, "gateway_owner") as owner:
            for table in ("message", "document", "delivery", "attempt", "evidence", "log_entry"):
                await owner.execute(f"DROP TABLE {table}_{this:%Y%m}")
        assert await ledger.message(old.message.message_id) is None
        assert await ledger.record(at_month(records.new(reference="r"), following)) == known
        assert await ledger.tombstone([old.message.documents[0].document_id], NOW) == []
        assert [row.wrapped for row in old.deks] == [
            found.wrapped for row in old.deks if (found := await ledger.dek(row.dek_id)) is not None
        ]


async def test_care_opens_the_coming_months(postgres_database: "Database", records: Any) -> None:
    coming = f"message_{months(4)[-1]:%Y%m}"
    async with connected(postgres_database, "gateway_owner") as owner:
        await owner.execute(f"DROP TABLE {coming}")
        async with opened(postgres_database.uri) as ledger:
            await ledger.compact()
            assert await owner.fetchval("SELECT to_regclass($1) IS NOT NULL", coming)
            await ledger.compact()
            await ledger.add_kek(records.kek)
            await ledger.record(at_month(records.new(), months(4)[-1]))
    assert await partition_of(postgres_database, "message") == {coming}


# sessions


async def healed(ledger: PostgresLedger) -> None:
    """Use the ledger until it answers again; a connection that broke says so once at most."""
    for _ in range(20):
        try:
            await ledger.heartbeat(NOW)
        except StoreUnavailable:
            continue
        return
    pytest.fail("the ledger stays unavailable")


async def test_a_database_that_was_stopped_and_started_is_used_again(
    database: "Database", ledger: PostgresLedger, records: Any
) -> None:
    before, after = records.new(), records.new()
    await ledger.record(before)
    await asyncio.to_thread(database.server.stop)
    try:
        for call in (ledger.record(after), ledger.message(before.message.message_id), ledger.compact(), ledger.now()):
            with pytest.raises(StoreUnavailable):
                await call
    finally:
        await asyncio.to_thread(database.server.start)
    await healed(ledger)
    assert await ledger.record(after) is None
    assert await listed(ledger) == [before.message.message_id, after.message.message_id]


async def test_a_connection_that_breaks_inside_a_call_leaves_nothing_behind(
    database: "Database", ledger: PostgresLedger, records: Any
) -> None:
    new = records.new(messages_per_day=9)
    async with transaction(database) as tx:
        await accepting.record(tx, records.new(messages_per_day=9))
        waits = asyncio.create_task(ledger.record(new))
        await until_waiting_for_a_lock(database)
        async with database.server.admin() as admin:
            await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        with pytest.raises(StoreUnavailable):
            await waits
    assert await ledger.find_reference(SENDER, new.message.profile, new.message.reference) is None
    assert await ledger.record(new) is None


async def test_who_is_cancelled_harms_nobody(database: "Database", ledger: PostgresLedger, records: Any) -> None:
    news = [records.new(messages_per_day=99) for _ in range(12)]
    async with transaction(database) as tx:
        await accepting.record(tx, records.new(messages_per_day=99))
        tasks = [asyncio.create_task(ledger.record(new)) for new in news]  # more than there are connections
        await until_waiting_for_a_lock(database, 10)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.wait(tasks[::2])
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes[::2]] == [asyncio.CancelledError] * 6
    assert outcomes[1::2] == [None] * 6
    assert [await ledger.message(new.message.message_id) is None for new in news] == [True, False] * 6


async def test_who_is_cancelled_learns_just_that_when_the_connection_is_gone(database: "Database") -> None:
    runs = asyncio.Event()

    async def hold(tx: Transaction) -> None:
        pid = await tx.connection.fetchval("SELECT pg_backend_pid()")
        async with database.server.admin() as admin:
            await admin.execute("SELECT pg_terminate_backend($1, 10000)", pid)
        runs.set()
        await asyncio.Event().wait()

    async with sessions(database.uri) as made:
        holder = asyncio.create_task(made.write(hold))
        await runs.wait()
        holder.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holder
        await made.look(Transaction.now)


async def test_a_call_that_finds_no_free_connection_is_refused_in_time(database: "Database") -> None:
    all_are_taken = asyncio.Barrier(3)

    async def hold(_: Transaction) -> None:
        await all_are_taken.wait()
        await all_are_taken.wait()

    async with sessions(database.uri + "&pool_min=2&pool_max=2", wait_s=0.2) as made:
        holders = [asyncio.create_task(made.read(hold)) for _ in range(2)]
        await all_are_taken.wait()
        try:
            with pytest.raises(StoreUnavailable, match="TimeoutError"):
                await made.look(Transaction.now)
        finally:
            await all_are_taken.wait()
        await asyncio.gather(*holders)
        await made.look(Transaction.now)


async def test_closing_lets_what_runs_finish_and_refuses_what_comes(database: "Database") -> None:
    go, runs = asyncio.Event(), asyncio.Event()

    async def hold(tx: Transaction) -> str:
        runs.set()
        await go.wait()
        return str(await tx.connection.fetchval("SELECT 'done'"))

    async with sessions(database.uri) as made:
        holder = asyncio.create_task(made.write(hold))
        await runs.wait()
        closing = asyncio.create_task(made.close())
        await asyncio.sleep(0)  # it has begun to close
        with pytest.raises(StoreUnavailable, match="closed"):
            await made.look(Transaction.now)
        assert not closing.done()
        go.set()
        assert await holder == "done"
        await closing


async def test_a_transaction_that_was_undone_for_another_is_done_anew(database: "Database") -> None:
    bump = "INSERT INTO suspension VALUES ($1, now(), 'x') ON CONFLICT DO NOTHING"
    tries = 0
    both = asyncio.Barrier(2)

    def crossing(first: str, second: str) -> Callable[[Transaction], Any]:
        met = False

        async def work(tx: Transaction) -> None:
            nonlocal met, tries
            tries += 1
            await tx.connection.execute(bump, first)
            if not met:
                met = True
                await both.wait()
            await tx.connection.execute(bump, second)

        return work

    async with sessions(database.uri) as made:
        await asyncio.gather(made.write(crossing("a", "b")), made.write(crossing("b", "a")))
        assert tries > 2  # both may be undone once more, when the second comes back before the first has woken up
        assert await made.look(lambda tx: tx.connection.fetchval("SELECT count(*) FROM suspension")) == 2


async def test_each_commit_is_told_and_a_failed_one_is_not(database: "Database", records: Any) -> None:
    told: list[tuple[float, int]] = []
    async with opened(database.uri, on_commit=lambda *what: told.append(what)) as ledger:
        await ledger.heartbeat(NOW)
        await ledger.now()
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await ledger.record(records.new())  # its sender key is not there
    ((seconds, transactions),) = told
    assert seconds > 0
    assert transactions == 1


async def test_the_clock_is_that_of_the_database(database: "Database", records: Any) -> None:
    async with opened(database.uri) as ledger:
        async with database.server.admin() as admin:
            before = await admin.fetchval("SELECT date_trunc('milliseconds', clock_timestamp())")
            now = await ledger.now()
            after = await admin.fetchval("SELECT clock_timestamp()")
        assert before <= now <= after
        assert now.microsecond % 1_000 == 0
        await ledger.add_kek(records.kek)
        with pytest.raises(Refusal) as caught:
            await ledger.record(records.new(messages_per_day=0, day=now.date()))
        assert caught.value.retry_after_s is not None


# keys


async def test_of_two_log_keys_added_at_once_one_is_in_force_and_the_other_leaves_no_key(
    database: "Database", ledger: PostgresLedger, records: Any
) -> None:
    rows = [records.dek(purpose="log") for _ in range(6)]
    in_force = await asyncio.gather(*(ledger.add_log_key(records.kek.sender_id, 2026, row) for row in rows))
    assert len({row.dek_id for row in in_force}) == 1
    assert in_force[0] in rows
    async with database.server.admin(database.name) as admin:
        assert await admin.fetchval("SELECT count(*) FROM dek") == 1


async def test_large_tables_of_keys_are_not_written_anew_as_a_whole(
    database: "Database", ledger: PostgresLedger, records: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def file_of_keys() -> int:
        async with database.server.admin(database.name) as admin:
            return int(await admin.fetchval("SELECT pg_relation_filenode('dek')"))

    await ledger.record(records.new())
    first = await file_of_keys()
    await ledger.compact()
    second = await file_of_keys()
    monkeypatch.setattr("gateway.stores.postgres.ledger._SMALL_BYTES", 0)
    await ledger.compact()
    assert (second == first, await file_of_keys() == second) == (False, True)
