"""Workers that share a ledger, die, lose their lease or stop: each letter is delivered once, and none is forgotten."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.deliver import deliver
from gateway.errors import LeaseLost
from gateway.stores.model import Claim

LEASE = timedelta(seconds=60)
SETTLES = {"settle_s": 60}
CHANNELS = [
    pytest.param("ebox-citizen", "publish", "publish", id="e-Box"),
    pytest.param("print", "create", "find", id="print"),
]


def simulator_of(bench: Any, operation: str) -> Any:
    return bench.print_house if operation in ("create", "find") else bench.ebox


def total(copies: tuple[int, int]) -> int:
    return sum(copies)


async def claimable(bench: Any) -> list[Claim]:
    found: list[Claim] = await bench.ledger.claim("somebody", lease=LEASE, limit=10, providers=["bosa", "house-a"])
    return found


@pytest.mark.parametrize(("channel", "operation", "asks"), CHANNELS)
async def test_what_a_dead_worker_was_handing_over_is_found_out_after_its_time_and_not_sent_twice(
    make_bench: Any, start_pool: Any, channel: str, operation: str, asks: str
) -> None:
    bench = await make_bench(providers={"bosa": {"conflict_means": "accepted", **SETTLES}, "house-a": SETTLES})
    simulator_of(bench, operation).faults.order(operation, "keep-then-hang")
    first = start_pool(bench, "first")
    message_id = await bench.send(channels=(channel,))
    await bench.held(simulator_of(bench, operation))
    await first.kill()
    record = await bench.record(message_id)
    (delivery,) = record.deliveries
    assert (delivery.status, delivery.attempts, record.status) == ("dispatching", 1, "in-delivery")
    attempt_s = bench.house.config.providers[delivery.provider].call.attempt_timeout_s
    assert delivery.due_at - delivery.first_attempt_at == timedelta(seconds=attempt_s + SETTLES["settle_s"])

    start_pool(bench, "second")
    bench.clock.leap_to(delivery.due_at - timedelta(seconds=30))
    assert await claimable(bench) == []  # the call may still take effect
    assert len(bench.calls(operation)) == 1
    assert await bench.late() == []  # nor does anybody owe anything yet
    bench.clock.leap_to(delivery.due_at)
    assert (await bench.settled(message_id)).status == "delivered"
    assert total(bench.copies()) == 1
    assert (await bench.results(message_id))[0] in ("delivered", "printed")
    assert bench.calls(asks)
    assert {call.key for call in bench.calls(operation)} == {str(delivery.delivery_id)}


async def test_a_worker_that_dies_before_the_call_costs_only_its_lease(bench: Any, start_pool: Any) -> None:
    bench.house.gateway.workers.stop()
    message_id = await bench.send(channels=("print",))
    (lost,) = await claimable(bench)
    start_pool(bench, "second")
    bench.clock.leap_to(lost.lease_until - timedelta(seconds=30))
    assert await claimable(bench) == []
    bench.clock.leap_to(lost.lease_until)
    record = await bench.settled(message_id)
    assert (record.status, bench.copies(), len(bench.calls("create"))) == ("delivered", (0, 1), 1)


async def test_a_worker_whose_lease_was_lost_before_the_call_makes_none(bench: Any) -> None:
    bench.house.gateway.workers.stop()
    message_id = await bench.send(channels=("ebox-citizen",))
    (slow,) = await claimable(bench)
    bench.clock.leap_to(slow.lease_until)
    (fast,) = await claimable(bench)
    assert fast.lease_token > slow.lease_token
    before = await bench.record(message_id)
    deps = bench.house.gateway.workers._deps
    with pytest.raises(LeaseLost):
        await deliver(slow, deps)
    assert (bench.ebox.records.calls, await bench.record(message_id)) == ([], before)
    assert (await deliver(fast, deps)).name == "delivered"
    assert bench.copies() == (1, 0)


async def test_a_worker_whose_lease_was_lost_during_the_call_settles_nothing(
    bench: Any, start_pool: Any, caplog: Any
) -> None:
    caplog.set_level("INFO", "gateway.dispatch.worker")
    bench.print_house.faults.order("create", "slow")  # takes the job over, and answers when released
    late = start_pool(bench, "late", 1)
    message_id = await bench.send(channels=("print",))
    await bench.held(bench.print_house)
    (delivery,) = (await bench.record(message_id)).deliveries
    bench.clock.leap_to(delivery.due_at)
    other = start_pool(bench, "other", 1)
    await bench.until(message_id, lambda record: record.deliveries[0].status == "printed", leaping=False)
    before, told = await bench.record(message_id), await bench.results(message_id)
    bench.print_house.front.release()
    await late.stop()
    assert (late.outcomes, other.outcomes) == ([], ["printed"])
    assert "lease lost" in caplog.text
    assert (await bench.record(message_id), await bench.results(message_id)) == (before, told)
    assert (bench.copies(), len(bench.calls("create"))) == ((0, 1), 1)


async def test_workers_that_stop_finish_what_runs_and_begin_nothing_new(bench: Any, start_pool: Any) -> None:
    bench.ebox.faults.order("publish", "slow")
    pool = start_pool(bench, "one", 1)
    first = await bench.send(channels=("ebox-citizen",))
    await bench.held(bench.ebox)
    second = await bench.send(channels=("ebox-citizen",))
    pool.workers.stop()
    finished, _ = await asyncio.wait([pool.task], timeout=0.2)
    assert not finished
    bench.ebox.front.release()
    await pool.stop()
    assert pool.outcomes == ["delivered"]
    assert (await bench.record(first)).status == "delivered"
    (claim,) = await claimable(bench)
    assert (claim.delivery.message_id, claim.delivery.attempts) == (second, 0)


# ── A letter that cannot be opened ──


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


async def poisoned(bench: Any, channel: str) -> Any:
    """Accept a letter for later and damage its document, as a failing disk would."""
    at = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    record = await bench.record(await bench.send(bench.own_pdf(0), channels=(channel,), deliver_not_before=at))
    (document,) = record.documents
    if document.enclosed:
        damaged = flipped(await bench.ledger.enclosure(document.document_id))
        change = ("UPDATE enclosure SET sealed = ? WHERE document_id = ?", (damaged, document.document_id.bytes))
        await bench.ledger._writer.run(lambda connection: connection.execute(*change))
    else:
        file = bench.blob_file(document.document_id)
        file.write_bytes(flipped(file.read_bytes()))
    bench.clock.leap_to(at)
    return record


async def others_arrive(bench: Any, channel: str) -> None:
    contents = [bench.own_pdf(number) for number in range(1, 5)]
    sent = [await bench.send(content, channels=(channel,)) for content in contents]
    for message_id in sent:
        assert (await bench.settled(message_id)).status == "delivered"
    assert [total(bench.copies(content)) for content in contents] == [1] * len(contents)


@pytest.mark.parametrize("channel", ["ebox-citizen", "print"])
@pytest.mark.parametrize("limit_bytes", [0, 131_072], ids=["a blob", "enclosed"])
async def test_a_damaged_letter_stops_no_other_and_ends_at_a_person(
    make_bench: Any, caplog: Any, channel: str, limit_bytes: int
) -> None:
    bench = await make_bench(
        change=lambda values: values.setdefault("stores", {}).update(enclose_up_to_bytes=limit_bytes)
    )
    record = await poisoned(bench, channel)
    await others_arrive(bench, channel)
    await assert_given_up(bench, record, caplog, "SealBroken")
    assert bench.copies(bench.own_pdf(0)) == (0, 0)


@pytest.mark.parametrize("channel", ["ebox-citizen", "print"])
@pytest.mark.parametrize("which", ["document", "meta"])
async def test_a_letter_whose_key_is_gone_stops_no_other_and_ends_at_a_person(
    bench: Any, caplog: Any, channel: str, which: str
) -> None:
    at = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    record = await bench.record(await bench.send(bench.own_pdf(0), channels=(channel,), deliver_not_before=at))
    dek_id = record.meta_dek_id if which == "meta" else record.documents[0].dek_id
    await bench.ledger._writer.run(lambda connection: lose_key(connection, dek_id))
    bench.clock.leap_to(at)
    await others_arrive(bench, channel)
    await assert_given_up(bench, record, caplog, "KeyringRefused")
    assert bench.copies(bench.own_pdf(0)) == (0, 0)
    assert [call for call in bench.calls("publish") + bench.calls("create") if call.key == key_of(record)] == []


def lose_key(connection: Any, dek_id: Any) -> None:
    """Take a key away behind the ledger's back, as a mistaken restore would."""
    connection.execute("UPDATE dek SET destroyed = 1, wrapped = zeroblob(104) WHERE dek_id = ?", (dek_id.bytes,))


def key_of(record: Any) -> str:
    return str(record.deliveries[0].delivery_id)


async def assert_given_up(bench: Any, record: Any, caplog: Any, error: str) -> None:
    record = await bench.settled(record.message_id)
    (delivery,) = record.deliveries
    assert (record.status, delivery.status, delivery.reason) == ("needs-decision", "waiting", "document-unreadable")
    assert 1 < delivery.attempts < 30  # ever more rarely, not every few seconds
    assert set(await bench.results(record.message_id)) == {"document-unreadable"}
    assert [each["deliveryId"] for each in await bench.doubts()] == [str(delivery.delivery_id)]
    (told, *_) = [entry for entry in caplog.records if entry.message == "document unreadable"]
    assert (told.delivery, told.error.split(":")[0]) == (str(delivery.delivery_id), error)
    assert "delivery postponed" not in caplog.text
