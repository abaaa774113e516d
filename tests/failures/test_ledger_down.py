"""The ledger is away or does not answer, and comes back: senders hear 503, nothing is lost, doubled or half kept."""

import asyncio
import hashlib
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from gateway.simulators.faults import Fault, FaultKind
from tests.plugins.failing import (
    Breakable,
    BreakableSqlite,
    FaultyFiles,
    asked_again,
    assert_put_off,
    metric,
    readiness,
    until,
    until_ready,
)

BUSY = Fault(kind=FaultKind.ANSWER, status=429, retry_after_s=3)


async def known(sender: Any, reference: str) -> list[Any]:
    found: list[Any] = (await sender.call("GET", f"/api/v1/messages?reference={reference}")).json["messages"]
    return found


async def delivered(sender: Any, message_id: str) -> None:
    await sender.until(message_id, lambda view: view["status"] == "delivered")


def copies(house: Any) -> int:
    found: int = house.simulators.ebox.records.copies(hashlib.sha256(house.pdf).hexdigest())
    return found


def publishes(house: Any) -> list[Any]:
    return [call for call in house.simulators.ebox.records.calls if call.operation == "publish"]


async def noticed(house: Any) -> None:
    async def closed() -> bool:
        return house.gateway.health.no_new_call() is not None

    await until(closed)


@pytest.fixture
async def house(breakable: Breakable, make_house: Any) -> Any:
    house = await make_house(breakable.change)
    breakable.hurry(house)
    return house


async def test_while_the_ledger_is_down_senders_are_put_off_and_afterwards_all_goes_on_by_itself(
    breakable: Breakable, house: Any
) -> None:
    sender = await house.sender()
    house.simulators.ebox.faults.order("publish", BUSY)
    waiting = await sender.accepted(channels=("ebox-citizen",))
    await sender.until(waiting, lambda view: view["status"] == "in-delivery" and not house.gateway.workers._running)

    await breakable.break_down()
    assert_put_off(await sender.send(reference="down", channels=("ebox-citizen",)))  # whoever notices it first
    await noticed(house)
    assert_put_off(await sender.send(reference="down", channels=("ebox-citizen",)), "ledger", "nothing was kept")
    status, checks = await readiness(house)
    assert (status, checks["commit"]) == (503, "failed")
    assert await metric(house, 'gateway_intake_closed_ratio{because="ledger"}') == 1
    answer = await sender.call("GET", f"/api/v1/messages/{waiting}")
    assert answer.status in {200, 503}  # what is in memory may still be told
    await asked_again(house)
    assert len(publishes(house)) == 1  # nothing is claimed that could not be settled

    await breakable.mend()
    await until_ready(house)
    await delivered(sender, waiting)
    assert await known(sender, "down") == []
    sent = await sender.send(reference="down", channels=("ebox-citizen",))
    assert sent.status == 201
    await delivered(sender, sent.json["messageId"])
    assert len(await known(sender, "down")) == 1
    assert copies(house) == 2


async def test_what_was_handed_over_while_the_ledger_broke_is_settled_afterwards_and_not_sent_twice(
    breakable: Breakable, make_house: Any
) -> None:
    def change(values: dict[str, Any]) -> None:
        breakable.change(values)
        values["providers"]["bosa"] |= {
            "conflict_means": "accepted",
            "attempt_timeout_s": 2,
            "connect_timeout_s": 2,
            "settle_s": 0,
        }

    house = await make_house(change)
    breakable.hurry(house)
    sender = await house.sender()
    house.simulators.ebox.faults.order("publish", "slow")
    message_id = await sender.accepted(channels=("ebox-citizen",))
    await house.simulators.ebox.records.until(lambda records: records.held == 1)
    await breakable.break_down()
    await noticed(house)
    house.simulators.ebox.front.release()
    async with asyncio.timeout(30):
        while house.gateway.workers._running:
            await asyncio.wait(list(house.gateway.workers._running))
    assert copies(house) == 1
    await breakable.mend()
    await until_ready(house)
    await delivered(sender, message_id)
    assert copies(house) == 1


async def test_a_ledger_that_hangs_holds_nobody_for_long_and_does_not_block_the_rest(
    breakable: Breakable, house: Any
) -> None:
    sender = await house.sender()
    before = await sender.accepted(channels=("ebox-citizen",))
    await delivered(sender, before)
    await breakable.hang()
    answers = await asyncio.gather(*(sender.send(reference=f"slow-{number}") for number in range(10)))
    for answer in answers:
        assert_put_off(answer)
    await noticed(house)
    assert_put_off(await sender.send(reference="slow-0"), "ledger")
    # Everything that needs no commit is answered.
    assert (await sender.view(before))["status"] == "delivered"
    async with aiohttp.ClientSession() as session, session.get(f"{house.ops_url}/health/live") as response:
        assert response.status == 200
    assert await metric(house, 'gateway_intake_closed_ratio{because="ledger"}') == 1

    await breakable.mend()
    await until_ready(house)
    for number in range(10):
        answer = await sender.send(reference=f"slow-{number}")
        assert answer.status in {200, 201}, answer.body  # 200: its first copy was in the commit that hung
        await delivered(sender, answer.json["messageId"])
        assert len(await known(sender, f"slow-{number}")) == 1
    assert copies(house) == 11


async def test_a_claim_whose_commit_hung_is_heard_so_that_nothing_stays_leased_to_nobody(
    faulty_files: FaultyFiles, make_house: Any
) -> None:
    breakable = BreakableSqlite(faulty_files)
    house = await make_house(breakable.change)
    breakable.hurry(house)
    house.gateway.workers._no_new_call = lambda: "another claims here"
    sender = await house.sender()
    message_id = await sender.accepted(channels=("ebox-citizen",))
    await breakable.hang()
    claim = asyncio.create_task(
        house.gateway.ledger.claim("another", lease=timedelta(hours=1), limit=4, providers=["bosa"])
    )
    answer = await sender.send(reference="meanwhile")
    given_up = claim.done()
    await breakable.mend()
    assert_put_off(answer)
    assert not given_up
    assert [str(each.delivery.message_id) for each in await claim] == [message_id]


async def test_readiness_says_within_its_own_limit_that_the_ledger_hangs(breakable: Breakable, house: Any) -> None:
    await breakable.hang()
    await noticed(house)
    status, checks = await readiness(house)
    assert status == 503
    assert checks["commit"] in {"failed", "timed-out"}
    assert checks["sign"] == "ok"
    await breakable.mend()
    await until_ready(house)
