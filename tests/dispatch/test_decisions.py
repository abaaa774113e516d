"""A person decides a doubt over the admin socket, in each of the three ways; the gateway carries it out."""

from typing import Any

import pytest

from gateway.domain.retention import CopyState
from gateway.simulators import magic

EBOX_THEN_PRINT = ("ebox-citizen", "print")
WHY = "asked the provider by telephone"


async def doubtful(bench: Any, operation: str, fault: str, **letter: Any) -> tuple[Any, Any]:
    """Send a letter whose call ends in a doubt that only a person can end; return it with what the operator sees."""
    simulator = bench.ebox if operation == "publish" else bench.print_house
    simulator.faults.order(operation, fault)
    record = await bench.settled(await bench.send(**letter))
    assert (record.status, record.copy_state) == ("needs-decision", CopyState.IN_DELIVERY)
    (doubt,) = await bench.doubts()
    assert doubt["deliveryId"] == str(record.deliveries[0].delivery_id)
    assert doubt["canBeDecided"] == ["accepted", "not-accepted", "give-up"]
    return record, doubt


async def decide(bench: Any, doubt: Any, decision: str, **more: Any) -> Any:
    order = {"deliveryId": doubt["deliveryId"], "decision": decision, "reason": WHY, **more}
    return await bench.ops("/ops/decide", order)


async def test_a_doubt_that_turns_out_accepted_is_delivered_and_not_sent_again(bench: Any) -> None:
    record, doubt = await doubtful(bench, "publish", "keep-then-500", channels=("ebox-citizen",))
    assert not (await decide(bench, doubt, "accepted")).refused
    record = await bench.settled(record.message_id)
    (delivery,) = record.deliveries
    assert (record.status, delivery.status, bench.copies()) == ("delivered", "delivered", (1, 0))
    # The decision wakes the sweeper, whose own rounds are a minute apart.
    await bench.until(record.message_id, lambda found: found.copy_state == CopyState.ERASED, leaping=False)
    assert len(bench.calls("publish")) == 2
    assert await bench.doubts() == []


async def test_with_the_registrys_own_id_an_accepted_doubt_is_watched_for_reading(bench: Any) -> None:
    record, doubt = await doubtful(bench, "publish", "keep-then-500", channels=EBOX_THEN_PRINT)
    (kept,) = bench.ebox.records.kept
    assert not (await decide(bench, doubt, "accepted", providerReference=kept.id)).refused
    record = await bench.until(record.message_id, lambda record: record.copy_state == CopyState.ERASED)
    assert record.deliveries[0].read_seen_at is not None
    assert bench.copies() == (1, 0)


async def test_a_doubt_that_turns_out_not_accepted_is_sent_again_at_once(bench: Any) -> None:
    record, doubt = await doubtful(bench, "publish", "conflict", channels=("ebox-citizen",))
    assert bench.copies() == (0, 0)
    assert not (await decide(bench, doubt, "not-accepted")).refused
    record = await bench.settled(record.message_id)
    assert (record.status, bench.copies()) == ("delivered", (1, 0))
    assert [call.key for call in bench.calls("publish")] == [doubt["deliveryId"]] * 2


async def test_a_lost_print_job_that_a_person_knows_of_is_sent_again_under_the_same_id(make_bench: Any) -> None:
    impatient = {"longest_delay_s": 1.0, "decide_after_s": 1.0}  # a person at once, before any look-up
    bench = await make_bench(change=lambda values: values["retry"].update(impatient))
    record, doubt = await doubtful(bench, "create", "server-error", channels=("print",))
    assert (bench.copies(), bench.calls("find")) == ((0, 0), [])
    assert not (await decide(bench, doubt, "not-accepted")).refused
    record = await bench.settled(record.message_id)
    assert (record.status, bench.copies()) == ("delivered", (0, 1))
    assert [call.key for call in bench.calls("create")] == [doubt["deliveryId"]] * 2


@pytest.mark.parametrize(
    ("channels", "status", "journeys", "copies"),
    [
        (EBOX_THEN_PRINT, "delivered", [("failed", "given-up"), ("dispatched", None)], (0, 1)),
        (("ebox-citizen",), "undeliverable", [("failed", "given-up")], (0, 0)),
    ],
)
async def test_a_delivery_that_is_given_up_makes_way_for_the_next_channel_or_ends_the_message(
    bench: Any, channels: Any, status: str, journeys: Any, copies: tuple[int, int]
) -> None:
    record, doubt = await doubtful(bench, "publish", "conflict", channels=channels)
    assert not (await decide(bench, doubt, "give-up")).refused
    record = await bench.settled(record.message_id)
    assert record.status == status
    assert [(delivery.status, delivery.reason) for delivery in record.deliveries] == journeys
    assert bench.copies() == copies


async def test_a_decision_is_taken_once(bench: Any) -> None:
    _, doubt = await doubtful(bench, "publish", "keep-then-500", channels=("ebox-citizen",))
    rehearsal = await decide(bench, doubt, "give-up", dryRun=True)
    assert (rehearsal.refused, rehearsal.body["after"]["messageStatus"]) == (False, "undeliverable")
    assert [each["deliveryId"] for each in await bench.doubts()] == [doubt["deliveryId"]]
    assert not (await decide(bench, doubt, "accepted")).refused
    late = await decide(bench, doubt, "give-up")
    assert late.refused
    assert late.body["type"].endswith("not-waiting")


async def test_magic_recipients_lead_to_doubts_without_any_order(bench: Any) -> None:
    record = await bench.settled(await bench.send(ssin=magic.CITIZEN_DOUBT, channels=("ebox-citizen",)))
    assert (record.status, record.deliveries[0].status) == ("needs-decision", "in-doubt")
    assert bench.copies() == (1, 0)
