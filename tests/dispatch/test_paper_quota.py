"""Paper counts when it is dispatched; what is more than a day's quota waits for the next day."""

import asyncio
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from gateway.domain.calendar import day_of, start_of
from gateway.domain.status import DeliveryStatus, NextAction

SENDERS = Path(__file__).parents[2] / "config" / "senders"


def with_quota(folder: Path, paper_per_day: int) -> str:
    shutil.copytree(SENDERS, folder)
    file = folder / "0406798006.toml"
    values = tomllib.loads(file.read_text())
    values["quota"]["paper_per_day"] = paper_per_day
    file.write_text(tomli_w.dumps(values))
    return str(folder)


@pytest.fixture
async def bench_of_two(make_bench: Any, tmp_path: Path) -> Any:
    folder = await asyncio.to_thread(with_quota, tmp_path / "quota", 2)
    return await make_bench(change=lambda values: values["gateway"].update(senders=folder))


async def test_paper_above_the_quota_waits_for_the_next_day_and_is_sent_once(bench_of_two: Any) -> None:
    bench = bench_of_two
    first = [await bench.send(channels=("print",)) for _ in range(2)]
    for message_id in first:
        await bench.until(message_id, lambda record: record.deliveries[0].handed_over_at is not None, leaping=False)
    today = day_of(bench.clock())
    third = await bench.send(channels=("print",))
    record = await bench.until(third, lambda record: record.deliveries[0].reason is not None, leaping=False)
    (delivery,) = record.deliveries
    assert (delivery.status, delivery.reason, delivery.attempts) == (DeliveryStatus.WAITING, "quota-exceeded", 0)
    assert record.status == "accepted"
    assert day_of(delivery.due_at) > today
    assert delivery.due_at == start_of(day_of(delivery.due_at))
    assert bench.copies() == (0, 2)
    record = await bench.until(third, lambda record: record.deliveries[0].handed_over_at is not None)
    assert bench.copies() == (0, 3)
    used = await bench.ledger.quota_use(bench.sender.number, day_of(delivery.due_at))
    assert used["burgerzaken"].paper == 1


async def test_an_ebox_letter_costs_no_paper(bench_of_two: Any) -> None:
    bench = bench_of_two
    for _ in range(3):
        message_id = await bench.send(channels=("ebox-citizen",))
        record = await bench.settled(message_id)
        assert record.status == "delivered"
    assert (await bench.ledger.quota_use(bench.sender.number, day_of(bench.clock())))["burgerzaken"].paper == 0


async def test_a_letter_tried_again_counts_once(bench_of_two: Any) -> None:
    bench = bench_of_two
    bench.print_house.faults.order("create", "unavailable", times=3)
    message_id = await bench.send(channels=("print",))
    record = await bench.until(message_id, lambda record: record.deliveries[0].handed_over_at is not None)
    assert record.deliveries[0].attempts > 1
    assert record.deliveries[0].next_action is NextAction.POLL
    days = {day_of(bench.clock()), day_of(record.accepted_at)}
    used = [await bench.ledger.quota_use(bench.sender.number, day) for day in days]
    assert sum(use["burgerzaken"].paper for use in used if "burgerzaken" in use) == 1
