"""The queue of a SQLite ledger: what a claim costs, and what becomes of leases and old rows when it is opened."""

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import apsw
import pytest

from gateway.stores.sqlite import claiming
from gateway.stores.sqlite.migrating import migrate, migrations
from gateway.stores.sqlite.opening import connect_writer, open_exclusively
from gateway.stores.sqlite.rows import to_ms

if TYPE_CHECKING:
    from tests.plugins.effort import add_deliveries, steps_of
else:
    from effort import add_deliveries, steps_of

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
LEASE = timedelta(minutes=1)
LATER_MS = to_ms(NOW + timedelta(weeks=2))


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection, lock_fd = open_exclusively(tmp_path / "store" / "ledger.sqlite", NOW)
    connection.pragma("synchronous", "OFF")
    yield connection
    connection.close()
    os.close(lock_fd)


def claim(connection: apsw.Connection, now: datetime = NOW) -> Any:
    return claiming.claim(connection, "w1", now=now, lease=LEASE, limit=4, providers=["house-a"])


def cost(connection: apsw.Connection) -> int:
    """Return the steps of a claim that finds four; it is taken back."""
    connection.execute("BEGIN")
    steps = steps_of(connection, lambda c: len(claim(c)) == 4 or pytest.fail("found less"))
    connection.execute("ROLLBACK")
    return steps


Grow = Callable[[apsw.Connection, int], Any]
GROWTH: dict[str, Grow] = {
    "of the sender that is served": add_deliveries,
    "of another lane": lambda c, count: add_deliveries(c, count, lane="single", due_at=LATER_MS),
    "of another provider": lambda c, count: add_deliveries(c, count, provider="house-b"),
    "not due for weeks": lambda c, count: add_deliveries(c, count, next_action="poll", due_at=LATER_MS),
    "that ended": lambda c, count: add_deliveries(c, count, next_action="none", due_at=None),
    "that wait for a person": lambda c, count: add_deliveries(c, count, next_action="decide", due_at=None),
}


@pytest.mark.parametrize("grow", GROWTH)
@pytest.mark.parametrize("backlog", [8, 200])
def test_a_claim_costs_the_same_however_many_deliveries_there_are(
    connection: apsw.Connection, grow: str, backlog: int
) -> None:
    add_deliveries(connection, backlog)
    GROWTH[grow](connection, 200)
    before = cost(connection)
    GROWTH[grow](connection, 20_000)
    assert cost(connection) <= before * 1.1


def test_what_other_senders_have_waiting_costs_one_step_over_each_of_them(connection: apsw.Connection) -> None:
    add_deliveries(connection, 200)
    for number in range(20):
        add_deliveries(connection, 10, sender=f"05000000{number:02}", due_at=LATER_MS)
    before = cost(connection)
    for number in range(20):
        add_deliveries(connection, 1_000, sender=f"05000000{number:02}", due_at=LATER_MS)
    assert cost(connection) <= before * 1.1


# opening


@pytest.fixture
def after_death(connection: apsw.Connection, tmp_path: Path) -> Iterator[Callable[[], apsw.Connection]]:
    """Return what opens the ledger as the next process finds it when this one dies now."""
    with contextlib.ExitStack() as stack:

        def open_next() -> apsw.Connection:
            image = tmp_path / str(uuid4()) / "ledger.sqlite"
            image.parent.mkdir()
            with apsw.Connection(str(image)) as target, target.backup("main", connection, "main") as backup:
                backup.step()
            opened, lock_fd = open_exclusively(image, NOW)
            stack.callback(os.close, lock_fd)
            stack.callback(opened.close)
            return opened

        yield open_next


def test_what_a_dead_process_had_claimed_is_free_as_soon_as_the_next_one_opens_the_ledger(
    connection: apsw.Connection, after_death: Callable[[], apsw.Connection]
) -> None:
    add_deliveries(connection, 1)
    with connection:
        (held,) = claim(connection)
    assert claim(connection) == []
    (found,) = claim(after_death())
    assert found.delivery == held.delivery
    assert found.lease_token > held.lease_token


def test_a_call_that_a_dead_process_had_begun_waits_for_its_time(
    connection: apsw.Connection, after_death: Callable[[], apsw.Connection]
) -> None:
    add_deliveries(connection, 1)
    with connection:
        (held,) = claim(connection)
        claiming.begin_attempt(connection, held, now=NOW, longest=LEASE, settle=LEASE, paper=None)
    opened, due_at = after_death(), NOW + 2 * LEASE
    assert claim(opened, due_at - timedelta(milliseconds=1)) == []
    (found,) = claim(opened, due_at)
    assert found.delivery.next_action == "reconcile"


def test_giving_leases_back_looks_only_at_those_that_are_held(connection: apsw.Connection) -> None:
    add_deliveries(connection, 100)
    before = steps_of(connection, claiming.give_back_all)
    add_deliveries(connection, 10_000)
    assert steps_of(connection, claiming.give_back_all) == before


# rows from before senders took turns


def test_deliveries_of_an_older_ledger_get_the_sender_of_their_message(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.touch()
    connection = connect_writer(path)
    migrate(connection, NOW, migrations()[:4])
    message_id, orphan_id = uuid4().bytes, uuid4().bytes
    usual = {"INTEGER": 0, "TEXT": "", "BLOB": b""}
    message = {row[1]: usual[row[2]] for row in connection.execute("PRAGMA table_info (message)")}
    message |= {"message_id": message_id, "sender": "0566988259"}
    with connection:
        marks = ", ".join("?" for _ in message)
        connection.execute(f"INSERT INTO message VALUES ({marks})", tuple(message.values()))  # noqa: S608 -- only marks
        for each in (message_id, orphan_id):
            connection.execute(
                "INSERT INTO delivery (delivery_id, message_id, number, channel, provider, lane, status, status_at,"
                " next_action, due_at) VALUES (?1, ?1, 1, 'print', 'house-a', 'single', 'waiting', 0, 'send', 0)",
                (each,),
            )
    migrate(connection, NOW)
    senders = {row[0]: row[1] for row in connection.execute("SELECT message_id, sender FROM delivery")}
    connection.close()
    assert senders == {message_id: "0566988259", orphan_id: ""}
