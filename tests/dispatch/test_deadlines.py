"""What becomes of each state when its deadline passes: one test for every line of the table, with its log."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from gateway.deliver import deliver
from gateway.deliver.stages import Outcome
from gateway.dispatch.deadlines import Deadlines, DeadlineSettings
from gateway.domain.deadlines import DUTIES
from gateway.domain.message import PrintOptions, PrintProduct
from gateway.domain.retention import CopyState
from gateway.domain.schedule import TAKEN_UP_WITHIN
from gateway.domain.status import DeliveryStatus, NextAction
from gateway.errors import LeaseLost, StoreUnavailable
from gateway.simulators import magic
from gateway.stores.model import Claim

EBOX_THEN_PRINT = ("ebox-citizen", "print")
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
UNREAD_AFTER = 15 * DAY  # what the sender's file says
SILENT_AFTER = 5 * DAY
LEASE = timedelta(seconds=60)
REGISTERED = PrintOptions(product=PrintProduct.REGISTERED)


class Watch:
    """The deadlines of a running gateway, looked after when the test says so."""

    def __init__(self, bench: Any, **settings: Any) -> None:
        self.bench = bench
        self.outcomes: list[tuple[str, str]] = []
        self.deadlines = Deadlines(DeadlineSettings(**settings), deps_of(bench), self._note)

    def _note(self, claim: Claim, outcome: Outcome) -> None:
        self.outcomes.append((str(claim.delivery.delivery_id), outcome.name))

    async def look(self) -> int:
        return await self.deadlines.look()

    async def late(self) -> list[tuple[str, str]]:
        """Return owner and next action of everything that is listed as late."""
        return [(each["owner"], each["nextAction"]) for each in await self.bench.late()]


def deps_of(bench: Any) -> Any:
    return bench.house.gateway.workers._deps


def soon(**term: float) -> datetime:
    return (datetime.now(UTC) + timedelta(**term)).replace(microsecond=0)


def as_in_production(values: dict[str, Any]) -> None:
    values["retry"]["decide_after_s"] = 48 * 3_600


async def without_workers(make_bench: Any, **changes: Any) -> tuple[Any, Watch]:
    bench = await make_bench(change=as_in_production, **changes)
    bench.house.gateway.workers.stop()
    return bench, Watch(bench)


async def first_of(bench: Any, message_id: Any) -> Any:
    (delivery,) = (await bench.record(message_id)).deliveries
    return delivery


async def works(bench: Any) -> list[str]:
    """Do what is due, as the workers would, once."""
    claims = await bench.ledger.claim("test", lease=LEASE, limit=10, providers=["bosa", "house-a"])
    return [(await deliver(claim, deps_of(bench))).name for claim in claims]


async def last_entry(bench: Any, message_id: Any) -> Any:
    entry = json.loads((await bench.ledger.timeline(message_id))[-1].entry)
    return entry["ev"], entry["res"], entry["what"]["messageStatus"], entry["what"].get("reason")


# ── waiting: a worker owes the call ──


async def test_a_letter_past_its_last_moment_expires_though_nobody_takes_it(make_bench: Any) -> None:
    bench, watch = await without_workers(make_bench)
    last_moment = soon(hours=3)
    message_id = await bench.send(channels=("print",), deliver_before=last_moment)
    bench.clock.leap_to(last_moment - MINUTE)
    assert (await watch.late(), await watch.look()) == ([], 0)
    bench.clock.leap_to(last_moment + timedelta(seconds=1))
    assert await watch.late() == [("worker", "send")]
    assert await watch.look() == 1
    record = await bench.record(message_id)
    assert (record.status, record.copy_state) == ("expired", CopyState.AWAITING_ERASURE)
    assert (record.deliveries[0].status, record.deliveries[0].next_action) == ("failed", NextAction.NONE)
    assert await last_entry(bench, message_id) == ("failed", "expired", "expired", "expired")
    assert (await watch.late(), await works(bench), bench.calls("create")) == ([], [], [])


async def test_a_letter_that_nobody_takes_stays_in_the_queue_and_shows_as_late(make_bench: Any) -> None:
    bench, watch = await without_workers(make_bench)
    message_id = await bench.send(channels=("print",))
    before = await bench.record(message_id)
    bench.clock.leap(30 * DAY)
    assert (await watch.look(), await watch.late()) == (0, [("worker", "send")])
    assert await bench.record(message_id) == before
    assert await bench.metric("gateway_late_deliveries", owner="worker", action="send") == 1
    assert await bench.metric("gateway_late_oldest_seconds", owner="worker", action="send") > 27 * DAY.total_seconds()
    assert await works(bench) == ["accepted"]  # and it goes out as soon as somebody does
    assert await watch.late() == []


async def test_a_letter_kept_for_later_is_not_late_before_its_time(make_bench: Any) -> None:
    bench, watch = await without_workers(make_bench)
    first_moment = soon(days=20)
    await bench.send(channels=("print",), deliver_not_before=first_moment)
    bench.clock.leap_to(first_moment + 2 * DAY - MINUTE)
    assert await watch.late() == []
    bench.clock.leap_to(first_moment + 2 * DAY + MINUTE)
    assert await watch.late() == [("worker", "send")]


async def test_a_letter_tried_in_vain_that_nobody_takes_again_is_put_before_a_person(make_bench: Any) -> None:
    bench, watch = await without_workers(make_bench)
    await bench.house.simulators.refuse("print")
    message_id = await bench.send(channels=("print",))
    assert await works(bench) == ["unreachable"]
    delivery = await first_of(bench, message_id)
    bench.clock.leap_to(delivery.deadline_at + TAKEN_UP_WITHIN - MINUTE)
    assert await watch.look() == 0  # a worker may still take it
    bench.clock.leap_to(delivery.deadline_at + TAKEN_UP_WITHIN)
    assert await watch.look() == 1
    delivery = await first_of(bench, message_id)
    assert (delivery.status, delivery.next_action, delivery.reason) == ("waiting", "decide", "provider-trouble")
    assert await last_entry(bench, message_id) == ("waiting", "overdue", "needs-decision", "provider-trouble")
    assert [each["deliveryId"] for each in await bench.doubts()] == [str(delivery.delivery_id)]
    assert watch.outcomes == [(str(delivery.delivery_id), "overdue")]


async def test_a_letter_that_is_given_back_again_and_again_is_put_before_a_person(make_bench: Any) -> None:
    bench, watch = await without_workers(make_bench)
    message_id = await bench.send(channels=("print",))
    bench.clock.leap(2 * DAY + HOUR)
    (claim,) = await bench.ledger.claim("w", lease=LEASE, limit=1, providers=["house-a"])
    await bench.ledger.release(claim, timedelta(seconds=5))
    assert await watch.look() == 1
    assert await last_entry(bench, message_id) == ("waiting", "overdue", "needs-decision", "document-unreadable")


async def test_a_letter_above_the_quota_of_paper_is_late_a_day_after_it_could_have_gone(make_bench: Any) -> None:
    bench, watch = await without_workers(make_bench)
    spent = without_paper(deps_of(bench))
    message_id = await bench.send(channels=("print",))
    (claim,) = await bench.ledger.claim("w", lease=LEASE, limit=1, providers=["house-a"])
    assert (await deliver(claim, spent)).name == "quota-exceeded"
    delivery = await first_of(bench, message_id)
    assert delivery.deadline_at == delivery.due_at + DAY
    bench.clock.leap_to(delivery.deadline_at + HOUR)
    assert (await watch.look(), await watch.late()) == (0, [("worker", "send")])
    assert await works(bench) == ["accepted"]


async def test_a_letter_above_the_quota_of_paper_expires_at_its_last_moment(make_bench: Any) -> None:
    bench, watch = await without_workers(make_bench)
    last_moment = soon(minutes=30)
    message_id = await bench.send(channels=("print",), deliver_before=last_moment)
    (claim,) = await bench.ledger.claim("w", lease=LEASE, limit=1, providers=["house-a"])
    await deliver(claim, without_paper(deps_of(bench)))
    assert (await first_of(bench, message_id)).deadline_at == last_moment
    bench.clock.leap_to(last_moment + MINUTE)
    assert await watch.look() == 1
    assert (await bench.record(message_id)).status == "expired"


def without_paper(deps: Any) -> Any:
    return replace(deps, paper_per_day=lambda _sender, _profile: 0)


# ── dispatching and in doubt: a worker owes the answer to what became of a call ──


async def begun(bench: Any, **letter: Any) -> Any:
    """Send a letter, and let a worker die in the middle of its call; return the delivery."""
    message_id = await bench.send(**letter)
    (claim,) = await bench.ledger.claim("dead", lease=LEASE, limit=1, providers=["bosa", "house-a"])
    await bench.ledger.begin_attempt(claim, longest=MINUTE, settle=MINUTE)
    return await first_of(bench, message_id)


async def test_a_dead_workers_call_is_late_when_nobody_looks_into_it_and_then_a_persons(make_bench: Any) -> None:
    bench, watch = await without_workers(make_bench)
    delivery = await begun(bench, channels=("print",))
    bench.clock.leap_to(delivery.due_at + TAKEN_UP_WITHIN - MINUTE)
    assert await watch.late() == []
    bench.clock.leap_to(delivery.due_at + TAKEN_UP_WITHIN + MINUTE)
    assert (await watch.look(), await watch.late()) == (0, [("worker", "reconcile")])
    bench.clock.leap_to(delivery.first_attempt_at + 2 * DAY + MINUTE)
    assert await watch.look() == 1
    found = await first_of(bench, delivery.message_id)
    assert (found.status, found.next_action, found.reason) == ("in-doubt", "decide", "outcome-unknown")
    assert await last_entry(bench, delivery.message_id) == ("in-doubt", "overdue", "needs-decision", "outcome-unknown")
    assert (bench.calls("create"), await works(bench)) == ([], [])  # nothing is sent on a guess


async def test_a_dead_workers_call_is_looked_into_when_there_is_a_worker(make_bench: Any) -> None:
    bench, watch = await without_workers(make_bench)
    delivery = await begun(bench, channels=("print",))
    bench.clock.leap_to(delivery.due_at + HOUR)
    assert await works(bench) == ["surely-absent"]
    assert await works(bench) == ["accepted"]
    assert (await watch.late(), bench.copies()) == ([], (0, 1))


async def test_a_doubt_that_nobody_looks_into_is_a_persons(make_bench: Any) -> None:
    bench, watch = await without_workers(make_bench)
    bench.print_house.faults.order("create", "keep-then-500")
    message_id = await bench.send(channels=("print",))
    assert await works(bench) == ["unknown"]
    delivery = await first_of(bench, message_id)
    assert (delivery.status, delivery.next_action) == ("in-doubt", "reconcile")
    bench.clock.leap_to(delivery.deadline_at + MINUTE)
    assert (await watch.look(), await watch.late()) == (0, [("worker", "reconcile")])
    bench.clock.leap_to(delivery.deadline_at + TAKEN_UP_WITHIN)
    assert await watch.look() == 1
    assert await last_entry(bench, message_id) == ("in-doubt", "overdue", "needs-decision", "outcome-unknown")
    assert (await first_of(bench, message_id)).next_action is NextAction.DECIDE


# ── at the provider ──


async def at_house(bench: Any, status: str, **letter: Any) -> Any:
    """Send a letter on paper that gets so far and no further; return the delivery."""
    message_id = await bench.send(channels=("print",), **letter)
    assert await works(bench) == ["accepted"]
    job = str((await first_of(bench, message_id)).delivery_id)
    bench.print_house.queue.jobs[job].to_come.clear()
    if status != "accepted":
        bench.print_house.queue.advance(job, to=status.upper())
        bench.clock.leap(2 * HOUR)
        await works(bench)
    delivery = await first_of(bench, message_id)
    assert delivery.status == status
    return delivery


@pytest.mark.parametrize("status", ["accepted", "printed", "enclosed"])
async def test_a_print_house_without_news_is_asked_on_then_a_person_and_by_news_it_ends(
    make_bench: Any, status: str
) -> None:
    bench, watch = await without_workers(make_bench)
    delivery = await at_house(bench, status)
    assert delivery.deadline_at - delivery.handed_over_at == SILENT_AFTER
    bench.clock.leap_to(delivery.deadline_at + HOUR)
    assert (await watch.look(), await watch.late()) == (0, [("provider", "poll")])
    await works(bench)  # asked on, and still no news
    assert (await first_of(bench, delivery.message_id)).deadline_at == delivery.deadline_at
    bench.clock.leap_to(delivery.deadline_at + SILENT_AFTER)
    assert await watch.look() == 1
    found = await first_of(bench, delivery.message_id)
    assert (found.status, found.next_action, found.reason) == (status, "decide", "no-news")
    assert await last_entry(bench, delivery.message_id) == ("overdue", "overdue", "needs-decision", "no-news")
    order = {"deliveryId": str(delivery.delivery_id), "decision": "accepted", "reason": "they found it"}
    assert not (await bench.ops("/ops/decide", order)).refused
    bench.print_house.queue.advance(str(delivery.delivery_id), to="DISPATCHED")
    await works(bench)
    record = await bench.record(delivery.message_id)
    assert (record.status, record.deliveries[0].status, bench.copies()) == ("delivered", "dispatched", (0, 1))


async def test_a_registered_letter_is_not_late_while_the_post_may_hold_it_and_then_a_persons(make_bench: Any) -> None:
    bench, watch = await without_workers(make_bench)
    delivery = await at_house(bench, "dispatched", print_options=REGISTERED)
    bench.clock.leap_to(delivery.handed_over_at + 29 * DAY)
    await works(bench)
    assert await watch.late() == []
    bench.clock.leap_to(delivery.handed_over_at + 31 * DAY)
    assert (await watch.look(), await watch.late()) == (0, [("provider", "poll")])
    bench.clock.leap_to(delivery.handed_over_at + 36 * DAY)
    assert await watch.look() == 1
    assert await last_entry(bench, delivery.message_id) == ("overdue", "overdue", "needs-decision", "no-news")
    found = await first_of(bench, delivery.message_id)
    assert (found.status, found.next_action) == ("dispatched", NextAction.DECIDE)


async def test_a_standard_letter_that_nobody_watches_is_watched_no_more_and_stays_delivered(make_bench: Any) -> None:
    bench, watch = await without_workers(make_bench)
    delivery = await at_house(bench, "dispatched")
    told = await bench.results(delivery.message_id)
    bench.clock.leap_to(delivery.posted_at + 31 * DAY + HOUR)
    assert await watch.look() == 1
    record = await bench.record(delivery.message_id)
    assert (record.status, record.deliveries[0].status) == ("delivered", "dispatched")
    assert record.deliveries[0].next_action is NextAction.NONE
    assert record.copy_state == CopyState.KEPT
    assert await bench.results(delivery.message_id) == told  # which is no news


# ── in the e-Box ──


async def published(bench: Any, watch: Watch, fault: str | None = None) -> Any:
    if fault is not None:
        bench.ebox.faults.order("publish", fault)
    message_id = await bench.send(ssin=magic.CITIZEN_UNREAD, channels=EBOX_THEN_PRINT)
    outcomes = await works(bench)
    if fault is not None:
        bench.clock.leap(HOUR)
        outcomes = await works(bench)
    assert (outcomes, await watch.late()) == (["delivered"], [])
    return await first_of(bench, message_id)


async def test_a_message_whose_reading_nobody_can_tell_is_a_persons_and_never_printed_on_a_guess(
    make_bench: Any,
) -> None:
    bench, watch = await without_workers(make_bench, providers={"bosa": {"conflict_means": "accepted"}})
    delivery = await published(bench, watch, "keep-then-500")  # the 409 that follows names no message to ask about
    assert delivery.provider_reference is None
    term_ends_at = delivery.handed_over_at + UNREAD_AFTER
    bench.clock.leap_to(term_ends_at + HOUR)
    assert await works(bench) == ["poll-unanswered"]
    asked = await first_of(bench, delivery.message_id)
    assert asked.due_at - bench.clock() <= HOUR
    assert await watch.late() == []
    bench.clock.leap_to(term_ends_at + DAY + MINUTE)
    assert (await watch.look(), await watch.late()) == (0, [("recipient", "poll")])
    bench.clock.leap_to(term_ends_at + DAY + TAKEN_UP_WITHIN)
    assert await watch.look() == 1
    record = await bench.record(delivery.message_id)
    assert (record.status, record.copy_state) == ("delivered", CopyState.IN_DELIVERY)  # paper may still need it
    assert await last_entry(bench, delivery.message_id) == ("overdue", "overdue", "delivered", "no-news")
    (doubt,) = await bench.doubts()
    assert doubt["canBeDecided"] == ["accepted", "read", "unread"]
    assert (await watch.late(), bench.copies()) == ([], (1, 0))
    order = {"deliveryId": doubt["deliveryId"], "decision": "unread", "reason": "the registry told us"}
    assert not (await bench.ops("/ops/decide", order)).refused
    assert await works(bench) == ["accepted"]
    assert bench.copies() == (1, 1)


async def test_a_registry_that_answers_after_all_decides_itself(make_bench: Any) -> None:
    bench, watch = await without_workers(make_bench)
    delivery = await published(bench, watch)
    bench.clock.leap_to(delivery.handed_over_at + UNREAD_AFTER + DAY + HOUR)
    assert await works(bench) == ["delivered"]
    assert await watch.look() == 0
    record = await bench.record(delivery.message_id)
    assert (record.deliveries[0].reason, len(record.deliveries)) == ("unread", 2)


# ── before a person ──


async def doubtful(bench: Any, **letter: Any) -> Any:
    bench.ebox.faults.order("publish", "conflict")
    message_id = await bench.send(channels=("ebox-citizen",), **letter)
    assert await works(bench) == ["unknown"]
    return await first_of(bench, message_id)


async def test_a_decision_that_nobody_takes_is_late_for_ever_and_changes_nothing(make_bench: Any) -> None:
    bench, watch = await without_workers(make_bench)
    delivery = await doubtful(bench, deliver_before=soon(hours=1))
    before = await bench.record(delivery.message_id)
    assert delivery.deadline_at - delivery.status_at <= DAY
    for days in (1, 3, 400):
        bench.clock.leap_to(delivery.deadline_at + days * DAY)
        assert (await watch.look(), await watch.late()) == (0, [("person", "decide")])
        assert await bench.metric("gateway_late_deliveries", owner="person", action="decide") == 1
        age_s = await bench.metric("gateway_late_oldest_seconds", owner="person", action="decide")
        assert age_s >= days * DAY.total_seconds()
    assert await bench.record(delivery.message_id) == before
    assert (before.status, before.copy_state, before.copy_until) == ("needs-decision", CopyState.IN_DELIVERY, None)
    assert await bench.keys_left(before) == [True]


async def test_what_is_decided_not_accepted_after_days_is_tried_for_48_hours_again(make_bench: Any) -> None:
    bench, watch = await without_workers(make_bench)
    delivery = await doubtful(bench)
    bench.clock.leap(9 * DAY)
    order = {"deliveryId": str(delivery.delivery_id), "decision": "not-accepted", "reason": "they have it not"}
    assert not (await bench.ops("/ops/decide", order)).refused
    assert (await watch.late(), await watch.look()) == ([], 0)
    bench.ebox.faults.order("publish", "too-many-requests")
    assert await works(bench) == ["unreachable"]
    found = await first_of(bench, delivery.message_id)
    assert (found.status, found.next_action) == ("waiting", "send")  # not before a person at once
    assert found.deadline_at - found.first_attempt_at == 2 * DAY
    bench.clock.leap_to(found.due_at)
    assert await works(bench) == ["delivered"]


# ── what is to be erased ──


async def test_copies_and_blobs_that_are_not_erased_in_time_are_counted_and_told(make_bench: Any) -> None:
    bench, _watch = await without_workers(make_bench)
    delivery = await at_house(bench, "dispatched")
    record = await bench.record(delivery.message_id)
    assert record.copy_until is not None
    bench.clock.leap_to(record.copy_until + 2 * HOUR)
    counts = (await bench.ops("/ops/late")).body["erasures"]
    assert (counts["copies"]["count"], counts["blobs"]["count"]) == (1, 0)
    assert [each["messageId"] for each in counts["copies"]["messages"]] == [str(record.message_id)]
    assert await bench.metric("gateway_late_erasure_messages") == 1
    assert await bench.metric("gateway_late_oldest_seconds", owner="sweeper", action="erase") >= HOUR.total_seconds()
    record = await bench.record(record.message_id)
    assert await bench.ledger.destroy_keys(record, bench.clock(), [])
    bench.clock.leap(2 * HOUR)
    documents = sum(not document.enclosed for document in record.documents)  # an enclosed one went with its key
    assert 0 < documents < len(record.documents)
    assert await bench.metric("gateway_late_erasure_messages") == 0
    assert await bench.metric("gateway_late_erasure_documents") == documents
    for document in record.documents:
        await bench.ledger.blob_erased(document.document_id, bench.clock())
    assert await bench.metric("gateway_late_erasure_documents") == 0


# ── one fence ──


async def expired(make_bench: Any) -> tuple[Any, Watch, Any]:
    bench, watch = await without_workers(make_bench)
    last_moment = soon(minutes=30)
    message_id = await bench.send(channels=("print",), deliver_before=last_moment)
    return bench, watch, (message_id, last_moment)


async def test_a_letter_that_a_worker_holds_is_left_to_the_worker(make_bench: Any) -> None:
    bench, watch, (message_id, last_moment) = await expired(make_bench)
    (claim,) = await bench.ledger.claim("w", lease=HOUR, limit=1, providers=["house-a"])
    bench.clock.leap_to(last_moment + MINUTE)
    assert await watch.look() == 0
    assert (await deliver(claim, deps_of(bench))).name == "expired"
    assert (await bench.record(message_id)).status == "expired"
    assert (await watch.look(), watch.outcomes, await bench.results(message_id)) == (0, [], ["expired"])


async def test_a_worker_that_was_too_slow_has_lost(make_bench: Any) -> None:
    bench, watch, (message_id, last_moment) = await expired(make_bench)
    (slow,) = await bench.ledger.claim("w", lease=LEASE, limit=1, providers=["house-a"])
    bench.clock.leap_to(last_moment + MINUTE)
    assert await watch.look() == 1
    before = await bench.record(message_id)
    with pytest.raises(LeaseLost):
        await deliver(slow, deps_of(bench))
    assert (await bench.record(message_id), await bench.results(message_id)) == (before, ["expired"])
    assert bench.calls("create") == []


async def test_of_two_who_look_after_deadlines_one_acts(make_bench: Any) -> None:
    bench, watch, (message_id, last_moment) = await expired(make_bench)
    other = Watch(bench)
    bench.clock.leap_to(last_moment + MINUTE)
    acted = [await each for each in (watch.look(), other.look())]
    assert (sorted(acted), await bench.results(message_id)) == ([0, 1], ["expired"])


Change = Callable[[Any, Any], Any]


async def sent_meanwhile(bench: Any, message_id: Any) -> None:
    (delivery,) = (await bench.record(message_id)).deliveries
    settled = await bench.ledger.claim_late("w", delivery.delivery_id, now=bench.clock(), lease=LEASE)
    await bench.ledger.begin_attempt(settled, longest=MINUTE, settle=MINUTE)


async def cancelled_meanwhile(bench: Any, message_id: Any) -> None:
    answer = await bench.sender.call("POST", f"/api/v1/messages/{message_id}/cancel")
    assert answer.status == 200


@pytest.mark.parametrize("meanwhile", [sent_meanwhile, cancelled_meanwhile])
async def test_what_changed_between_looking_and_acting_is_left_as_it_is(
    make_bench: Any, monkeypatch: Any, meanwhile: Change
) -> None:
    bench, watch, (message_id, last_moment) = await expired(make_bench)
    bench.clock.leap_to(last_moment + MINUTE)
    seen = await bench.ledger.late(bench.clock())
    await meanwhile(bench, message_id)
    before = await bench.record(message_id)

    async def as_seen(*_arguments: Any, **_options: Any) -> Any:
        return seen

    monkeypatch.setattr(bench.ledger, "late", as_seen)
    assert await watch.look() == 0
    assert await bench.record(message_id) == before


async def test_a_cancellation_at_the_last_moment_wins_over_the_one_who_holds_it(
    make_bench: Any, monkeypatch: Any
) -> None:
    bench, watch, (message_id, last_moment) = await expired(make_bench)
    bench.clock.leap_to(last_moment + MINUTE)
    claim_late = bench.ledger.claim_late

    async def then_cancelled(*arguments: Any, **options: Any) -> Any:
        claim = await claim_late(*arguments, **options)
        await cancelled_meanwhile(bench, message_id)
        return claim

    monkeypatch.setattr(bench.ledger, "claim_late", then_cancelled)
    assert await watch.look() == 0
    assert (await bench.record(message_id)).status == "cancelled"


# ── the rounds ──


async def test_a_gateway_that_begins_lets_its_workers_go_first(make_bench: Any) -> None:
    bench, _ = await without_workers(make_bench)
    await bench.house.simulators.refuse("print")
    message_id = await bench.send(channels=("print",))
    await works(bench)
    bench.clock.leap(30 * DAY)
    fresh = Watch(bench)  # as after a month's rest
    assert await fresh.look() == 0
    await bench.house.simulators.admit("print")
    assert await works(bench) == ["accepted"]
    bench.clock.leap(TAKEN_UP_WITHIN)
    assert await fresh.look() == 0
    assert (await bench.record(message_id)).status == "in-delivery"


async def test_what_stays_late_keeps_nothing_behind_it_from_its_turn(make_bench: Any) -> None:
    bench, _ = await without_workers(make_bench)
    watch = Watch(bench, page=2, most=2)
    for _ in range(3):
        await bench.send(channels=("print",))  # nobody takes these: they stay late
    last_moment = soon(days=4)
    message_id = await bench.send(channels=("print",), deliver_before=last_moment, deliver_not_before=soon(days=3))
    bench.clock.leap_to(last_moment + MINUTE)
    assert [await watch.look() for _ in range(3)] == [0, 1, 0]
    assert (await bench.record(message_id)).status == "expired"
    assert len(await watch.late()) == 3


async def test_the_rounds_go_on_after_a_ledger_that_was_away_and_end_when_told(
    make_bench: Any, monkeypatch: Any, caplog: Any
) -> None:
    bench, _, (message_id, last_moment) = await expired(make_bench)
    watch = Watch(bench, every_s=0.01)
    bench.clock.leap_to(last_moment + MINUTE)
    late, failures = bench.ledger.late, 3

    async def away(*arguments: Any, **options: Any) -> Any:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise StoreUnavailable("test")
        return await late(*arguments, **options)

    monkeypatch.setattr(bench.ledger, "late", away)
    task = asyncio.create_task(watch.deadlines.run())
    await bench.until(message_id, lambda record: record.status == "expired", leaping=False)
    watch.deadlines.stop()
    async with asyncio.timeout(30):
        await task
    assert caplog.text.count("deadlines not looked after") == 3


async def test_a_running_gateway_looks_after_its_deadlines(make_bench: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("gateway.app.DeadlineSettings", partial(DeadlineSettings, every_s=0.01))
    bench, _, (message_id, last_moment) = await expired(make_bench)
    bench.clock.leap_to(last_moment + MINUTE)
    record = await bench.until(message_id, lambda record: record.status == "expired", leaping=False)
    assert record.deliveries[0].attempts == 0


def test_every_line_of_the_table_is_tested_above() -> None:
    tested = {
        *((DeliveryStatus(status), NextAction.POLL) for status in ("accepted", "printed", "enclosed", "dispatched")),
        (DeliveryStatus.WAITING, NextAction.SEND),
        (DeliveryStatus.DISPATCHING, NextAction.RECONCILE),
        (DeliveryStatus.IN_DOUBT, NextAction.RECONCILE),
        (DeliveryStatus.DELIVERED, NextAction.POLL),
        (DeliveryStatus.IN_DOUBT, NextAction.DECIDE),
    }
    assert {DUTIES[state] for state in tested} == set(DUTIES.values())
