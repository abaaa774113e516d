"""What systems like this one suffer from, and this one must not: starved senders, doubled letters, slow counters."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import apsw
import pytest

from gateway.domain.ids import MessageId
from gateway.domain.message import Lane
from gateway.domain.status import DeliveryStatus
from gateway.stores.sqlite import watching
from gateway.stores.sqlite.opening import open_exclusively
from gateway.stores.sqlite.rows import to_ms

if TYPE_CHECKING:
    from tests.plugins.effort import add_deliveries, steps_of
else:
    from effort import add_deliveries, steps_of

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)


# ── Nobody starves ──


async def test_a_bulk_sender_with_fifty_thousand_letters_delays_no_single_letter(bench: Any, start_pool: Any) -> None:
    bench.house.gateway.workers.stop()
    ebox: Any = {"channels": ("ebox-citizen",)}
    big = await bench.house.sender("belasting")
    before = [MessageId(UUID(await big.accepted(lane=Lane.BULK, **ebox))) for _ in range(2)]
    due_ms = to_ms(bench.clock())
    rows = {"provider": "bosa", "channel": "ebox-citizen", "sender": big.number, "due_at": due_ms}
    for _ in range(50):  # piece by piece, or the ledger would look ill meanwhile
        await bench.ledger._writer.run(lambda connection: add_deliveries(connection, 1_000, **rows))
    bulk = await bench.send(lane=Lane.BULK, **ebox)
    single = await bench.send(**ebox)
    pool = start_pool(bench, "one", 1)
    for message_id in (single, bulk, *before):
        assert (await bench.settled(message_id)).status == "delivered"
    # The single letter first; then the two senders of bulk in turn, as if the big one had no more than the other.
    assert pool.served == [single, bulk, *before]
    depths = {(depth.channel, depth.action): depth.count for depth in await bench.ledger.queue_depths()}
    assert depths["ebox-citizen", "send"] == 50_000


async def test_a_slow_provider_starves_no_other(bench: Any) -> None:
    count = bench.house.config.workers.count
    bench.ebox.faults.order("publish", "hang", times=2 * count)
    stuck = [await bench.send(channels=("ebox-citizen",)) for _ in range(2 * count)]
    await bench.held(bench.ebox, count)
    message_id = await bench.send(channels=("print",))
    record = await bench.until(message_id, lambda record: record.deliveries[0].status == "accepted", leaping=False)
    assert (record.deliveries[0].attempts, bench.copies()) == (1, (0, 1))
    assert bench.ebox.records.held == count
    statuses = [(await bench.record(each)).deliveries[0].status for each in stuck]
    assert (statuses.count("dispatching"), statuses.count("waiting")) == (count, count)


# ── Nothing doubles ──


async def test_two_workers_never_send_one_letter_twice(bench: Any, start_pool: Any) -> None:
    bench.house.gateway.workers.stop()
    bench.ebox.faults.order("publish", "slow", times=4)
    contents = [bench.own_pdf(number) for number in range(12)]
    sent = [await bench.send(content, channels=("ebox-citizen",)) for content in contents]
    one, other = start_pool(bench, "one", 2), start_pool(bench, "other", 2)
    await bench.held(bench.ebox, 4)  # so both pools are full, each with letters of its own
    assert {len(one.workers._running), len(other.workers._running)} == {2}
    bench.ebox.front.release()
    for message_id in sent:
        await bench.settled(message_id)
    assert [bench.copies(content) for content in contents] == [(1, 0)] * len(contents)
    assert len(bench.calls("publish")) == len({call.key for call in bench.calls("publish")}) == len(contents)
    assert sorted(one.outcomes + other.outcomes) == ["delivered"] * len(contents)


@pytest.mark.parametrize(
    ("channel", "operation", "faults"),
    [
        ("ebox-citizen", "publish", ("unavailable", "too-many-requests", "bad-gateway")),
        ("print", "create", ("too-many-requests", "forbidden", "keep-then-close")),
    ],
)
async def test_no_id_is_minted_again_on_retry(
    bench: Any, channel: str, operation: str, faults: tuple[str, ...]
) -> None:
    simulator = bench.ebox if operation == "publish" else bench.print_house
    for fault in faults:
        simulator.faults.order(operation, fault)
    accepted = await bench.record(message_id := await bench.send(channels=(channel,)))
    record = await bench.settled(message_id)
    assert record.status == "delivered"
    (before,), (delivery,) = accepted.deliveries, record.deliveries
    assert (delivery.delivery_id, delivery.number) == (before.delivery_id, before.number)
    assert delivery.attempts > len(faults)
    calls = bench.calls(operation)
    assert len(calls) >= len(faults)
    assert {call.key for call in calls} == {str(before.delivery_id)}
    assert sum(bench.copies()) == 1


async def test_a_409_that_cannot_be_resolved_goes_to_a_person(bench: Any) -> None:
    # At the first call: some key collided, or a call of an earlier life was lost; nobody may guess.
    bench.ebox.faults.order("publish", "conflict")
    record = await bench.settled(await bench.send(channels=("ebox-citizen", "print")))
    (delivery,) = record.deliveries  # no paper either
    assert (record.status, delivery.status, delivery.reason) == (
        "needs-decision",
        DeliveryStatus.IN_DOUBT,
        "outcome-unknown",
    )
    assert [each["deliveryId"] for each in await bench.doubts()] == [str(delivery.delivery_id)]
    assert await bench.results(record.message_id) == ["unknown"]
    assert [call.key for call in bench.calls("publish")] == [str(delivery.delivery_id)]
    bench.clock.leap(timedelta(days=30))
    assert (await bench.record(record.message_id)).status == "needs-decision"
    assert (len(bench.calls("publish")), bench.copies()) == (1, (0, 0))


# ── Nothing slows ──


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection, lock_fd = open_exclusively(tmp_path / "store" / "ledger.sqlite", NOW)
    connection.pragma("synchronous", "OFF")
    yield connection
    connection.close()
    os.close(lock_fd)


COUNTERS: dict[str, Callable[[apsw.Connection], Any]] = {
    "queue_depths": watching.queue_depths,
    "late": lambda connection: watching.late(connection, NOW, after=None, limit=None),
    "late_counts": lambda connection: watching.late_counts(connection, NOW, erased_within=timedelta(hours=1)),
    "to_decide": watching.to_decide,
}


@pytest.mark.parametrize("counter", COUNTERS)
def test_a_counter_query_does_not_slow_with_volume(connection: apsw.Connection, counter: str) -> None:
    add_deliveries(connection, 50)
    add_deliveries(connection, 5, next_action="decide", due_at=None)
    count = COUNTERS[counter]
    before, found = steps_of(connection, count), count(connection)
    assert found
    add_deliveries(connection, 20_000, next_action="none", status="delivered", due_at=None, deadline_at=None)
    add_deliveries(connection, 5_000, next_action="none", status="cancelled", due_at=1, deadline_at=1)
    assert (steps_of(connection, count), count(connection)) == (before, found)
