"""The clock of the machine leaps while letters come in and go out: none is doubled, none is lost, all goes on."""

import asyncio
import hashlib
from datetime import timedelta
from typing import Any

import apsw
import pytest

from gateway.app import settle_s
from gateway.health import CLOCK
from tests.plugins.failing import (
    SETTLE_S,
    WAIT_S,
    Machine,
    asked_again,
    assert_put_off,
    metric,
    readiness,
    until_ready,
)

HOUR = timedelta(hours=1)
CHANNELS = [("ebox-citizen", "publish"), ("print", "create")]


def simulator_of(house: Any, operation: str) -> Any:
    return house.simulators.ebox if operation == "publish" else house.simulators.print_house


def calls(house: Any, operation: str) -> int:
    return sum(call.operation == operation for call in simulator_of(house, operation).records.calls)


def copies(house: Any, content: bytes) -> int:
    sha256 = hashlib.sha256(content).hexdigest()
    total: int = house.simulators.ebox.records.copies(sha256) + house.simulators.print_house.records.copies(sha256)
    return total


def admin_log(house: Any) -> list[tuple[str, bytes]]:
    connection = apsw.Connection(str(house.config.gateway.state / "ledger.db"), flags=apsw.SQLITE_OPEN_READONLY)
    rows: list[Any] = connection.execute(
        "SELECT event, entry FROM log_entry WHERE log = 'admin' AND event LIKE 'clock-%' ORDER BY position"
    ).fetchall()
    connection.close()
    return rows


async def held(house: Any, operation: str) -> None:
    async with asyncio.timeout(WAIT_S):
        await simulator_of(house, operation).records.until(lambda records: records.held == 1)


async def delivered(sender: Any, message_id: str) -> None:
    await sender.until(message_id, lambda view: view["status"] == "delivered")


@pytest.mark.parametrize(("channel", "operation"), CHANNELS)
@pytest.mark.parametrize("by", [HOUR, -HOUR], ids=["ahead", "back"])
async def test_a_leap_in_the_middle_of_a_call_doubles_nothing_loses_nothing_and_heals(
    clocked_house: Any, machine: Machine, channel: str, operation: str, by: timedelta
) -> None:
    house = clocked_house
    sender = await house.sender()
    contents = [house.pdf + f"\n% letter {number}".encode() for number in range(3)]

    async def send(content: bytes, reference: str) -> Any:
        created_at = machine.wall().replace(microsecond=0)
        return await sender.send([content], channels=(channel,), reference=reference, created_at=created_at)

    # One letter waits to be tried again, another is just being handed over.
    simulator_of(house, operation).faults.order(operation, "unavailable")
    waiting = (await send(contents[0], "waiting")).json["messageId"]
    await sender.until(waiting, lambda view: calls(house, operation) == 1 and view["status"] == "in-delivery")
    simulator_of(house, operation).faults.order(operation, "slow")
    under_way = (await send(contents[1], "under-way")).json["messageId"]
    await held(house, operation)
    before = calls(house, operation)

    machine.leap(by)
    assert_put_off(await send(contents[2], "third"), "the clock", "jumped", "nothing was kept")
    status, checks = await readiness(house)
    assert (status, {name for name, outcome in checks.items() if outcome != "ok"}) == (503, {CLOCK})
    assert await metric(house, 'gateway_intake_closed_ratio{because="clock"}') == 1
    assert await metric(house, "gateway_clock_jumps_total") == 1

    # Its time to be tried again comes, by the clock that is held, and by the one that leapt: nobody takes it.
    machine.spare(20)
    await asked_again(house)
    assert calls(house, operation) == before

    # What was under way ends as if nothing had happened.
    simulator_of(house, operation).front.release()
    if operation == "publish":
        await delivered(sender, under_way)
    else:
        await sender.until(under_way, lambda view: view["deliveries"][0]["status"] != "dispatching")

    machine.spare(SETTLE_S)
    await until_ready(house)
    assert (await send(contents[2], "third")).status == 201
    machine.spare(HOUR.total_seconds() + 60)  # after a leap back, what was due is due an hour later
    for reference in ("waiting", "under-way", "third"):
        found = (await sender.call("GET", f"/api/v1/messages?reference={reference}")).json["messages"]
        assert len(found) == 1
        await delivered(sender, found[0]["messageId"])
    assert [copies(house, content) for content in contents] == [1, 1, 1]
    log = await asyncio.to_thread(admin_log, house)
    assert [event for event, _ in log] == ["clock-jumped", "clock-adopted"]
    assert all(b'"held"' in entry and b'"machine"' in entry for _, entry in log)


@pytest.mark.parametrize("by", [HOUR, -HOUR], ids=["ahead", "back"])
async def test_a_leap_that_is_undone_costs_nothing_but_the_moment(
    clocked_house: Any, machine: Machine, by: timedelta
) -> None:
    sender = await clocked_house.sender()
    machine.leap(by)
    assert_put_off(await sender.send(reference="again"), "jumped")
    machine.leap(-by)
    answer = await sender.send(reference="again")
    assert answer.status == 201
    await delivered(sender, answer.json["messageId"])
    await until_ready(clocked_house)

    async def told() -> list[str]:
        return [event for event, _ in await asyncio.to_thread(admin_log, clocked_house)]

    await clocked_house.gateway.health.look()
    assert await told() == ["clock-jumped", "clock-undone"]


async def test_reads_go_on_while_the_clock_is_not_trusted(clocked_house: Any, machine: Machine) -> None:
    sender = await clocked_house.sender()
    message_id = await sender.accepted()
    machine.leap(HOUR)
    assert_put_off(await sender.send(), "jumped")
    assert (await sender.view(message_id))["messageId"] == message_id


async def test_times_and_ids_of_letters_do_not_go_back_with_a_small_step(clocked_house: Any, machine: Machine) -> None:
    sender = await clocked_house.sender()
    answers = []
    for by in (0.0, -1.5, 1.0, -1.0):
        machine.leap(timedelta(seconds=by))
        answers.append((await sender.send()).json)
    assert [each["acceptedAt"] for each in answers] == sorted(each["acceptedAt"] for each in answers)
    assert [each["messageId"][:13] for each in answers] == sorted(each["messageId"][:13] for each in answers)
    assert await metric(clocked_house, "gateway_clock_jumps_total") == 0


async def test_the_wait_outlasts_every_call_that_can_be_running(clocked_house: Any) -> None:
    config = clocked_house.config
    longest = [each.call.attempt_timeout_s + each.call.settle_s for each in config.providers.values()]
    assert settle_s(config) >= max(longest) + config.workers.lease_s
