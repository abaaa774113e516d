"""The promises of `Ledger` about what is late, held against every implementation."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from gateway.domain.ids import DeliveryId
from gateway.domain.message import Channel
from gateway.domain.retention import CopyState
from gateway.domain.schedule import TAKEN_UP_WITHIN
from gateway.domain.status import DeliveryStatus, NextAction
from gateway.errors import LeaseLost
from gateway.stores.ledger import Ledger
from gateway.stores.model import Claim, DeliveryRecord, LateCounts, LateDeliveries, LateErasures

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
MOMENT = timedelta(milliseconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NOTHING_LATE = LateErasures(count=0, oldest_due_at=None)
PROVIDERS = ["house-a", "bosa"]


async def kept(ledger: Ledger, records: Any, **delivery: Any) -> DeliveryRecord:
    """Record a message with such a delivery."""
    new = records.new(delivery=delivery)
    assert await ledger.record(new) is None
    return new.message.deliveries[0]  # type: ignore[no-any-return]  # `Records` lives beside the fixtures


async def read(ledger: Ledger, delivery: DeliveryRecord) -> DeliveryRecord:
    message = await ledger.message(delivery.message_id)
    assert message is not None
    (found,) = message.deliveries
    return found


async def claim_late(ledger: Ledger, delivery: DeliveryRecord, *, worker: str = "deadlines") -> Claim | None:
    return await ledger.claim_late(worker, delivery.delivery_id, now=NOW, lease=HOUR)


# the list


async def test_late_deliveries_come_in_parts_that_skip_and_repeat_none(ledger: Ledger, records: Any) -> None:
    # Two share a deadline, so the id decides between them.
    deadlines = [NOW - 3 * HOUR, NOW - 2 * HOUR, NOW - 2 * HOUR, NOW - HOUR, NOW - MOMENT, NOW]
    made = [await kept(ledger, records, deadline_at=deadline) for deadline in deadlines]
    await kept(ledger, records, deadline_at=NOW - DAY, next_action=NextAction.NONE)
    everything = await ledger.late(NOW)
    assert everything == sorted(made[:-1], key=lambda each: (each.deadline_at, each.delivery_id.bytes))
    parts: list[list[DeliveryRecord]] = [await ledger.late(NOW, limit=2)]
    while parts[-1]:
        parts.append(await ledger.late(NOW, after=parts[-1][-1], limit=2))
    assert [len(part) for part in parts] == [2, 2, 1, 0]
    assert [each for part in parts for each in part] == everything
    assert await ledger.late(NOW, after=everything[1]) == everything[2:]


async def test_the_list_goes_on_behind_a_delivery_that_is_late_no_more(
    store: Any, ledger: Ledger, records: Any
) -> None:
    first = await kept(ledger, records, deadline_at=NOW - 2 * HOUR)
    second = await kept(ledger, records, deadline_at=NOW - HOUR)
    seen = await ledger.late(NOW, limit=1)
    assert seen == [first]
    claimed = await claim_late(ledger, first)
    assert claimed is not None
    await ledger.settle(claimed, records.settlement(records.change(status=DeliveryStatus.WAITING)))
    assert store.now == NOW
    assert await ledger.late(NOW, after=seen[-1], limit=1) == [second]


# the counts


async def test_what_is_late_is_counted_by_channel_status_and_action(ledger: Ledger, records: Any) -> None:
    doubt = {"status": DeliveryStatus.IN_DOUBT, "next_action": NextAction.RECONCILE}
    ebox = {"channel": Channel.EBOX_CITIZEN, "provider": "bosa"}
    for delivery in (
        {"deadline_at": NOW - HOUR},
        {"deadline_at": NOW - 3 * HOUR},
        {"deadline_at": NOW - 2 * HOUR, **doubt},
        {"deadline_at": NOW - MOMENT, **ebox},
        {"deadline_at": NOW - MOMENT, **ebox, "next_action": NextAction.DECIDE, "due_at": None},
        {"deadline_at": NOW},
        {"deadline_at": None},
        {"deadline_at": NOW - HOUR, "next_action": NextAction.NONE},
    ):
        await kept(ledger, records, **delivery)
    counts = await ledger.late_counts(NOW, erased_within=HOUR)
    assert (counts.copies, counts.blobs) == (NOTHING_LATE, NOTHING_LATE)
    assert set(counts.deliveries) == {
        group("print", "waiting", "send", 2, NOW - 3 * HOUR),
        group("print", "in-doubt", "reconcile", 1, NOW - 2 * HOUR),
        group("ebox-citizen", "waiting", "send", 1, NOW - MOMENT),
        group("ebox-citizen", "waiting", "decide", 1, NOW - MOMENT),
    }
    assert sum(each.count for each in counts.deliveries) == len(counts.deliveries) + 1 == len(await ledger.late(NOW))


def group(channel: str, status: str, action: str, count: int, oldest: datetime) -> LateDeliveries:
    return LateDeliveries(channel=channel, status=status, action=action, count=count, oldest_deadline_at=oldest)


async def test_in_an_empty_ledger_nothing_is_late(ledger: Ledger) -> None:
    assert await ledger.late_counts(NOW, erased_within=HOUR) == LateCounts(
        deliveries=(), copies=NOTHING_LATE, blobs=NOTHING_LATE
    )


async def test_copies_are_late_when_their_erasure_is_overdue(ledger: Ledger, records: Any) -> None:
    for state, until in (
        (CopyState.KEPT, NOW - HOUR - MOMENT),
        (CopyState.AWAITING_ERASURE, NOW - DAY),
        (CopyState.AWAITING_ERASURE, NOW - HOUR),
        (CopyState.KEPT, None),
        (CopyState.IN_DELIVERY, NOW - DAY),
        (CopyState.ERASED, NOW - DAY),
    ):
        await ledger.record(records.new(copy_state=state, copy_until=until))
    counts = await ledger.late_counts(NOW, erased_within=HOUR)
    assert counts.copies == LateErasures(count=2, oldest_due_at=NOW - DAY)


async def test_blobs_are_late_when_their_key_is_gone_for_too_long(ledger: Ledger, records: Any) -> None:
    for destroyed_at in (NOW - DAY, NOW - HOUR - MOMENT, NOW - HOUR):
        new = records.new(documents=2)
        await ledger.record(new)
        assert await ledger.destroy_keys(new.message, destroyed_at, [])
    counts = await ledger.late_counts(NOW, erased_within=HOUR)
    assert counts.blobs == LateErasures(count=4, oldest_due_at=NOW - DAY)
    for document_id in (await ledger.blobs_to_erase(100))[:2]:  # the oldest
        await ledger.blob_erased(document_id, NOW)
    counts = await ledger.late_counts(NOW, erased_within=HOUR)
    assert counts.blobs == LateErasures(count=2, oldest_due_at=NOW - HOUR - MOMENT)


# the lease


@pytest.mark.parametrize("action", [NextAction.SEND, NextAction.RECONCILE, NextAction.POLL])
async def test_what_is_late_can_be_leased_before_it_is_due(ledger: Ledger, records: Any, action: NextAction) -> None:
    late = await kept(ledger, records, deadline_at=NOW - MOMENT, due_at=NOW + DAY, next_action=action)
    claimed = await claim_late(ledger, late)
    assert claimed == Claim(delivery=late, worker="deadlines", lease_token=1, lease_until=NOW + HOUR)
    await ledger.settle(
        claimed,
        records.settlement(
            records.change(status=DeliveryStatus.FAILED, next_action=NextAction.NONE, due_at=None, deadline_at=None)
        ),
    )
    assert await ledger.late(NOW) == []


@pytest.mark.parametrize(
    "delivery",
    [
        pytest.param({"deadline_at": NOW}, id="not late"),
        pytest.param({"deadline_at": None}, id="without a deadline"),
        pytest.param({"deadline_at": NOW - HOUR, "next_action": NextAction.DECIDE, "due_at": None}, id="a person's"),
        pytest.param({"deadline_at": NOW - HOUR, "next_action": NextAction.NONE}, id="ended"),
    ],
)
async def test_what_is_not_late_or_not_a_workers_is_not_leased(
    ledger: Ledger, records: Any, delivery: dict[str, Any]
) -> None:
    found = await kept(ledger, records, **delivery)
    assert await claim_late(ledger, found) is None
    assert await read(ledger, found) == found
    assert await claim_late(ledger, replace(found, delivery_id=DeliveryId(uuid4()))) is None


async def test_what_a_worker_holds_is_left_to_it_until_its_lease_ends(store: Any, ledger: Ledger, records: Any) -> None:
    late = await kept(ledger, records, deadline_at=NOW - HOUR)
    (worker,) = await ledger.claim("w1", lease=MINUTE, limit=1, providers=PROVIDERS)
    assert await claim_late(ledger, late) is None
    await ledger.begin_attempt(worker, longest=MINUTE, settle=MINUTE)  # still the holder
    store.now = NOW + MINUTE
    assert await claim_late(ledger, late) is None  # its call began, and is not late any more


async def test_a_worker_whose_lease_ended_has_lost_to_the_one_who_came_for_what_is_late(
    store: Any, ledger: Ledger, records: Any
) -> None:
    late = await kept(ledger, records, deadline_at=NOW - HOUR)
    (worker,) = await ledger.claim("w1", lease=MINUTE, limit=1, providers=PROVIDERS)
    store.now = NOW + MINUTE
    claimed = await claim_late(ledger, late)
    assert claimed is not None
    assert claimed.lease_token == worker.lease_token + 1
    for lost in (
        ledger.begin_attempt(worker, longest=MINUTE, settle=MINUTE),
        ledger.settle(worker, records.settlement()),
    ):
        with pytest.raises(LeaseLost):
            await lost
    assert await ledger.claim("w1", lease=MINUTE, limit=1, providers=PROVIDERS) == []
    await ledger.release(claimed, timedelta(0))
    (again,) = await ledger.claim("w1", lease=MINUTE, limit=1, providers=PROVIDERS)
    with pytest.raises(LeaseLost):
        await ledger.settle(claimed, records.settlement())
    assert again.delivery.deadline_at == late.deadline_at


async def test_of_many_who_come_at_once_one_gets_it(ledger: Ledger, records: Any) -> None:
    late = await kept(ledger, records, deadline_at=NOW - HOUR)
    came = await asyncio.gather(
        *(claim_late(ledger, late, worker=f"d{number}") for number in range(8)),
        ledger.claim("w1", lease=HOUR, limit=1, providers=PROVIDERS),
    )
    assert sum(bool(each) for each in came) == 1


# what is written down


async def test_a_call_is_late_only_once_there_was_time_to_find_out_about_it(ledger: Ledger, records: Any) -> None:
    delivery = await kept(ledger, records, deadline_at=NOW + DAY)
    (claimed,) = await ledger.claim("w1", lease=MINUTE, limit=1, providers=PROVIDERS)
    await ledger.begin_attempt(claimed, longest=MINUTE, settle=4 * MINUTE)
    begun = await read(ledger, delivery)
    assert begun.due_at == NOW + 5 * MINUTE
    assert begun.deadline_at == NOW + 5 * MINUTE + TAKEN_UP_WITHIN
    assert await ledger.late(begun.deadline_at) == []
    assert await ledger.late(begun.deadline_at + MOMENT) == [begun]


async def test_the_time_in_which_it_is_tried_can_begin_anew(ledger: Ledger, records: Any) -> None:
    delivery = await kept(ledger, records, first_attempt_at=NOW - 9 * DAY, attempts=12)
    (claimed,) = await ledger.claim("w1", lease=MINUTE, limit=1, providers=PROVIDERS)
    await ledger.settle(claimed, records.settlement(records.change(status=DeliveryStatus.WAITING, due_at=NOW)))
    assert (await read(ledger, delivery)).first_attempt_at == NOW - 9 * DAY  # None keeps it
    waiting = await kept(ledger, records, first_attempt_at=NOW - 9 * DAY, next_action=NextAction.DECIDE, due_at=None)
    anew = records.change(status=DeliveryStatus.WAITING, next_action=NextAction.SEND, first_attempt_at=NOW)
    assert await ledger.decide(waiting.delivery_id, records.settlement(anew))
    assert (await read(ledger, waiting)).first_attempt_at == NOW
