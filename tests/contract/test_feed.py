"""The promises of `Ledger` about cancelling, feeds, evidence and quota counters, held against every implementation."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway.domain.ids import EnterpriseNumber, MessageId
from gateway.domain.retention import CopyState, Keep
from gateway.domain.status import DeliveryStatus, MessageStatus, NextAction
from gateway.errors import LeaseLost, QuotaUsedUp, Refusal
from gateway.stores.ledger import Ledger
from gateway.stores.model import (
    Claim,
    EvidenceRecord,
    FeedEvent,
    FeedPage,
    Log,
    LogEntry,
    MessageRecord,
    NewMessage,
    PaperQuota,
    QuotaUse,
    Settlement,
)

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SENDER = EnterpriseNumber("0406798006")
OTHER_SENDER = EnterpriseNumber("0316380841")


class Place:
    """Where the ledger of the running test lives; its clock is moved here."""

    store: Any


PLACE = Place()


@pytest.fixture(autouse=True)
def place(store: Any) -> None:
    PLACE.store = store


async def claim(ledger: Ledger, *, now: datetime = NOW) -> list[Claim]:
    PLACE.store.now = now
    return await ledger.claim("w1", lease=HOUR, limit=100, providers=["house-a"])


async def begin(ledger: Ledger, claimed: Claim) -> int:
    return await ledger.begin_attempt(claimed, longest=MINUTE, settle=4 * MINUTE)


async def read(ledger: Ledger, message_id: MessageId) -> MessageRecord:
    message = await ledger.message(message_id)
    assert message is not None
    return message


# cancelling


@pytest.fixture
def cancellation(records: Any) -> Callable[..., Settlement]:
    """Makes what cancelling a message changes."""

    def make(new: NewMessage, **named: Any) -> Settlement:
        made = Settlement(
            change=records.change(
                status=DeliveryStatus.CANCELLED, next_action=NextAction.NONE, due_at=None, deadline_at=None
            ),
            message_revision=0,
            message_status=MessageStatus.CANCELLED,
            keep=Keep(state=CopyState.AWAITING_ERASURE, until=NOW + 30 * DAY),
            logs=(records.log(message_id=new.message.message_id, event="cancelled"),),
        )
        return replace(made, **named)

    return make


@pytest.mark.parametrize("status", [MessageStatus.ACCEPTED, MessageStatus.SCHEDULED])
async def test_a_message_for_which_no_provider_was_called_is_cancelled_as_a_whole(
    ledger: Ledger, records: Any, cancellation: Any, status: MessageStatus
) -> None:
    new = records.new(status=status)
    await ledger.record(new)
    assert await ledger.cancel(new.message.message_id, cancellation(new))
    message = await read(ledger, new.message.message_id)
    assert (message.status, message.revision) == (MessageStatus.CANCELLED, 1)
    assert (message.copy_state, message.copy_until) == (CopyState.AWAITING_ERASURE, NOW + 30 * DAY)
    (delivery,) = message.deliveries
    assert (delivery.status, delivery.next_action, delivery.due_at, delivery.deadline_at) == (
        DeliveryStatus.CANCELLED, NextAction.NONE, None, None,
    )  # fmt: skip
    assert [entry.event for entry in await ledger.timeline(message.message_id)][-1] == "cancelled"
    assert await claim(ledger, now=NOW + 9 * DAY) == []
    assert await ledger.late(NOW + 9 * DAY) == []
    assert [due.message_id for due in await ledger.due_erasures(NOW + 30 * DAY, 10)] == [message.message_id]


async def test_cancelling_fences_a_worker_that_has_not_begun(
    ledger: Ledger, records: Any, cancellation: Any, store: Any
) -> None:
    new = records.new()
    await ledger.record(new)
    (claimed,) = await claim(ledger)
    assert await ledger.cancel(new.message.message_id, cancellation(new))
    dek = records.dek()
    for work in (
        lambda: begin(ledger, claimed),
        lambda: ledger.settle(claimed, records.settlement(message_revision=1)),
        lambda: ledger.renew(claimed, DAY),
        lambda: ledger.attach_cover(claimed, records.document(dek.dek_id, kind="cover"), dek, None),
    ):
        with pytest.raises(LeaseLost):
            await work()
    await ledger.release(claimed, timedelta())
    assert await claim(ledger, now=NOW + 9 * DAY) == []
    assert await store.attempts(claimed.delivery.delivery_id) == []


async def test_nothing_is_cancelled_once_a_provider_may_have_been_called(
    ledger: Ledger, records: Any, cancellation: Any
) -> None:
    new = records.new()
    await ledger.record(new)
    (claimed,) = await claim(ledger)
    await begin(ledger, claimed)
    before = await read(ledger, new.message.message_id)
    assert not await ledger.cancel(new.message.message_id, cancellation(new))
    # Back in the queue, because nothing was handed over: the message stays in delivery.
    again = records.change(status=DeliveryStatus.WAITING, next_action=NextAction.SEND, due_at=NOW)
    await ledger.settle(claimed, records.settlement(again))
    assert not await ledger.cancel(new.message.message_id, cancellation(new, message_revision=1))
    after = await read(ledger, new.message.message_id)
    assert (before.status, after.status) == (MessageStatus.IN_DELIVERY, MessageStatus.IN_DELIVERY)
    assert [entry.event for entry in await ledger.timeline(new.message.message_id)] == [new.logs[0].event]
    assert not await ledger.cancel(MessageId(uuid4()), cancellation(new))


async def test_a_letter_that_was_put_back_before_any_call_can_still_be_cancelled(
    ledger: Ledger, records: Any, cancellation: Any
) -> None:
    new = records.new()
    await ledger.record(new)
    (claimed,) = await claim(ledger)
    later = records.change(status=DeliveryStatus.WAITING, next_action=NextAction.SEND, due_at=NOW + DAY)
    await ledger.settle(claimed, records.settlement(later, message_status=MessageStatus.ACCEPTED))
    with pytest.raises(LeaseLost):
        await ledger.cancel(new.message.message_id, cancellation(new))
    assert await ledger.cancel(new.message.message_id, cancellation(new, message_revision=1))
    assert (await read(ledger, new.message.message_id)).status is MessageStatus.CANCELLED
    assert await claim(ledger, now=NOW + 9 * DAY) == []


async def test_cancelling_twice_changes_nothing_the_second_time(
    ledger: Ledger, records: Any, cancellation: Any
) -> None:
    new = records.new()
    await ledger.record(new)
    outcomes = await asyncio.gather(*(ledger.cancel(new.message.message_id, cancellation(new)) for _ in range(5)))
    assert sorted(outcomes) == [False] * 4 + [True]
    assert [entry.event for entry in await ledger.timeline(new.message.message_id)] == [new.logs[0].event, "cancelled"]


async def test_who_saw_an_older_message_cancels_nothing(ledger: Ledger, records: Any, cancellation: Any) -> None:
    new = records.new()
    await ledger.record(new)
    with pytest.raises(LeaseLost):
        await ledger.cancel(new.message.message_id, cancellation(new, message_revision=7))
    assert await ledger.message(new.message.message_id) == new.message
    (claimed,) = await claim(ledger)
    assert claimed.lease_token == 1  # the fence did not move either


async def test_between_cancelling_and_beginning_exactly_one_wins(
    ledger: Ledger, records: Any, cancellation: Any
) -> None:
    for round_ in range(50):
        new = records.new()
        await ledger.record(new)
        (claimed,) = await claim(ledger)
        works: list[Any] = [begin(ledger, claimed), ledger.cancel(new.message.message_id, cancellation(new))]
        outcomes = await asyncio.gather(*(works if round_ % 2 else reversed(works)), return_exceptions=True)
        began, cancelled = outcomes if round_ % 2 else reversed(outcomes)
        status = (await read(ledger, new.message.message_id)).status
        if cancelled is True:
            assert isinstance(began, LeaseLost)
            assert status == MessageStatus.CANCELLED
        else:
            assert (began, cancelled, status) == (1, False, MessageStatus.IN_DELIVERY)


# feed


async def number(ledger: Ledger, at: datetime = NOW) -> int:
    """Number everything there is; return how many log entries that were."""
    total = 0
    while looked := await ledger.number_events(at=at, limit=7):
        total += looked
    return total


async def feed(
    ledger: Ledger,
    sender: EnterpriseNumber = SENDER,
    profiles: frozenset[str] | None = None,
    *,
    after_number: int = 0,
    limit: int = 500,
) -> FeedPage:
    return await ledger.events(sender, profiles, after_number=after_number, limit=limit)


@pytest.fixture
def event(records: Any) -> Callable[..., LogEntry]:
    """Makes traffic-log entries about messages of `SENDER`."""

    def make(**named: Any) -> LogEntry:
        usual = {"sender": SENDER, "profile": "burgerzaken", "message_id": MessageId(uuid4())}
        made: LogEntry = records.log(**(usual | named))
        return made

    return make


async def test_events_are_numbered_per_sender_in_order_of_commit(
    ledger: Ledger, records: Any, event: Callable[..., LogEntry]
) -> None:
    new = records.new()
    message = {"sender": SENDER, "profile": "burgerzaken", "message_id": new.message.message_id}
    await ledger.record(replace(new, logs=(records.log(**message, at=NOW + HOUR),)))
    others = [event(sender=OTHER_SENDER, profile=None) for _ in range(2)]
    late = event(at=NOW - DAY, message_id=new.message.message_id, delivery_id=new.message.deliveries[0].delivery_id)
    await ledger.append([others[0], late, others[1]])
    assert await number(ledger) == 4
    page = await feed(ledger)
    assert [found.number for found in page.events] == [1, 2]
    assert page.events[1] == FeedEvent(
        number=2,
        at=NOW - DAY,
        event=late.event,
        message_id=new.message.message_id,
        delivery_id=new.message.deliveries[0].delivery_id,
        reference=new.message.reference,
        profile="burgerzaken",
        entry=late.entry,
    )
    assert (page.last_number, page.next_number, page.removed_through) == (2, 2, 0)
    theirs = await feed(ledger, OTHER_SENDER)
    assert [(found.number, found.event, found.reference) for found in theirs.events] == [
        (1, others[0].event, None),
        (2, others[1].event, None),
    ]
    assert theirs.epoch == page.epoch


async def test_only_traffic_about_messages_of_senders_is_in_feeds(
    ledger: Ledger, records: Any, event: Callable[..., LogEntry]
) -> None:
    shown = event()
    entries = [
        event(log=Log.PRIVACY),
        event(log=Log.ADMIN),
        event(message_id=None),  # a refusal: there is no message
        event(sender=None),
        shown,
    ]
    await ledger.append(entries)
    assert await number(ledger) == len(entries)
    assert [found.event for found in (await feed(ledger)).events] == [shown.event]


async def test_an_event_is_shown_only_once_it_has_a_number(ledger: Ledger, event: Callable[..., LogEntry]) -> None:
    empty = await feed(ledger)
    assert (empty.events, empty.last_number, empty.next_number, empty.removed_through) == ((), 0, 0, 0)
    await ledger.append([event(), event(), event()])
    assert (await feed(ledger)).events == ()
    assert await ledger.number_events(at=NOW, limit=2) == 2
    assert [found.number for found in (await feed(ledger)).events] == [1, 2]
    assert await ledger.number_events(at=NOW, limit=2) == 1
    assert await ledger.number_events(at=NOW, limit=2) == 0
    assert [found.number for found in (await feed(ledger)).events] == [1, 2, 3]


async def test_pages_go_on_where_the_last_one_ended(ledger: Ledger, event: Callable[..., LogEntry]) -> None:
    entries = [event() for _ in range(11)]
    await ledger.append(entries)
    await number(ledger)
    seen: list[FeedEvent] = []
    after = 0
    while (page := await feed(ledger, after_number=after, limit=4)).events:
        assert len(page.events) <= 4
        assert page.next_number == page.events[-1].number
        seen += page.events
        after = page.next_number
    assert [found.event for found in seen] == [entry.event for entry in entries]
    assert (await feed(ledger, after_number=99)).next_number == 99


async def test_a_reader_of_some_profiles_passes_over_the_others(ledger: Ledger, event: Callable[..., LogEntry]) -> None:
    profiles = ["a", "b", "b", "a", None, "c", "b"]
    entries = [event(profile=profile) for profile in profiles]
    await ledger.append(entries)
    await number(ledger)
    first = await feed(ledger, profiles=frozenset({"a", "c"}), limit=2)
    assert [found.number for found in first.events] == [1, 4]
    assert (first.next_number, first.last_number) == (4, 7)
    rest = await feed(ledger, profiles=frozenset({"a", "c"}), after_number=4, limit=2)
    assert [found.number for found in rest.events] == [6]
    assert rest.next_number == 7
    nothing = await feed(ledger, profiles=frozenset({"d"}))
    assert (nothing.events, nothing.next_number) == ((), 7)
    assert (await feed(ledger, profiles=frozenset())).events == ()
    assert len((await feed(ledger)).events) == len(profiles)


async def test_a_reader_of_a_rare_profile_gets_on_in_a_long_feed(
    ledger: Ledger, event: Callable[..., LogEntry]
) -> None:
    await ledger.append([event(profile="busy") for _ in range(6_000)] + [event(profile="rare")])
    await ledger.number_events(at=NOW, limit=10_000)
    pages, after = 0, 0
    seen: list[FeedEvent] = []
    while after < 6_001:
        page = await feed(ledger, profiles=frozenset({"rare"}), after_number=after)
        assert page.next_number > after
        pages, after, seen = pages + 1, page.next_number, [*seen, *page.events]
    assert pages > 1
    assert [found.number for found in seen] == [6_001]


async def test_numbers_have_no_gap_and_come_in_order_however_many_write_number_and_read_at_once(
    ledger: Ledger, records: Any, event: Callable[..., LogEntry]
) -> None:
    news = [records.new(reference=f"r-{each % 60}") for each in range(90)]  # a third is refused its reference
    news = [replace(new, logs=(event(message_id=new.message.message_id),)) for new in news]
    done = asyncio.Event()

    async def write(new: NewMessage) -> int:
        try:
            kept = await ledger.record(new) is None
        except Refusal:
            return 0
        if kept:
            await ledger.append([event(message_id=new.message.message_id)])
        return 2 * kept

    async def sequence() -> None:
        while not done.is_set():
            await ledger.number_events(at=NOW, limit=3)

    async def follow() -> list[FeedEvent]:
        seen: list[FeedEvent] = []
        while True:
            was_done = done.is_set()
            page = await feed(ledger, after_number=seen[-1].number if seen else 0, limit=5)
            seen += page.events
            if was_done and not page.events:
                return seen

    readers = [asyncio.create_task(follow()) for _ in range(3)]
    sequencers = [asyncio.create_task(sequence()) for _ in range(2)]
    written = sum(await asyncio.gather(*(write(new) for new in news)))
    await number(ledger)
    done.set()
    await asyncio.gather(*sequencers)
    assert written == 120
    for seen in await asyncio.gather(*readers):
        assert [found.number for found in seen] == list(range(1, written + 1))
        assert len({found.entry for found in seen}) == written
    everything = (await feed(ledger)).events
    by_message: dict[MessageId, list[bytes]] = {}
    for found in everything:
        by_message.setdefault(found.message_id, []).append(found.entry)
    for message_id, entries in by_message.items():
        assert entries == [entry.entry for entry in await ledger.timeline(message_id)]


async def test_numbers_survive_a_crash_and_go_on_after_it(
    store: Any, ledger: Ledger, event: Callable[..., LogEntry]
) -> None:
    await ledger.append([event(), event(), event()])
    await ledger.number_events(at=NOW, limit=2)
    before = await feed(ledger)
    after_crash = await store.crash()
    assert await feed(after_crash) == before
    await after_crash.append([event()])
    await number(after_crash)
    page = await feed(after_crash)
    assert [found.number for found in page.events] == [1, 2, 3, 4]
    assert page.epoch == before.epoch
    assert page.events[:2] == before.events


async def test_old_events_leave_the_feed_from_the_front_and_numbers_go_on(
    ledger: Ledger, event: Callable[..., LogEntry]
) -> None:
    for day in range(4):
        await ledger.append([event(at=NOW), event(at=NOW)])
        await number(ledger, NOW + day * DAY)
    await ledger.append([event(sender=OTHER_SENDER)])
    await number(ledger, NOW)
    assert await ledger.forget_events(numbered_before=NOW, limit=100) == 0
    assert await ledger.forget_events(numbered_before=NOW + 2 * DAY, limit=3) == 3
    assert await ledger.forget_events(numbered_before=NOW + 2 * DAY, limit=3) == 2
    assert await ledger.forget_events(numbered_before=NOW + 2 * DAY, limit=3) == 0
    page = await feed(ledger)
    assert [found.number for found in page.events] == [5, 6, 7, 8]
    assert (page.removed_through, page.last_number) == (4, 8)
    theirs = await feed(ledger, OTHER_SENDER)
    assert (theirs.events, theirs.removed_through, theirs.last_number) == ((), 1, 1)
    await ledger.append([event(sender=OTHER_SENDER)])
    await number(ledger, NOW + 9 * DAY)
    assert [found.number for found in (await feed(ledger, OTHER_SENDER)).events] == [2]
    message_id = page.events[0].message_id
    assert len(await ledger.timeline(message_id)) == 1  # the log itself keeps everything


async def test_an_epoch_lasts_until_another_is_begun(store: Any, ledger: Ledger) -> None:
    first = (await feed(ledger)).epoch
    assert (await feed(ledger, OTHER_SENDER)).epoch == first
    second = await ledger.begin_epoch(NOW)
    assert second != first
    assert (await feed(ledger)).epoch == second
    assert (await feed(await store.crash())).epoch == second


async def test_two_ledgers_have_two_epochs(ledger: Ledger, store: Any) -> None:
    other = await store.open_another()
    assert (await feed(other)).epoch != (await feed(ledger)).epoch
    assert isinstance((await feed(other)).epoch, UUID)


# evidence


def made(message_id: MessageId, *numbers: int, jws: str = "a.b.c") -> list[EvidenceRecord]:
    return [
        EvidenceRecord(message_id=message_id, number=each, jws=f"{jws}{each}", signed_at=NOW + each * MINUTE)
        for each in numbers
    ]


async def test_statements_are_kept_as_they_were_first_given(ledger: Ledger) -> None:
    one, other = MessageId(uuid4()), MessageId(uuid4())
    assert await ledger.evidence(one) == []
    await ledger.add_evidence(made(one, 3, 1))
    await ledger.add_evidence(made(one, 1, 2, jws="x.y.z"))
    await ledger.add_evidence(made(other, 1, jws="o.o.o"))
    await ledger.add_evidence([])
    kept = await ledger.evidence(one)
    assert kept == [*made(one, 1), *made(one, 2, jws="x.y.z"), *made(one, 3)]
    assert await ledger.evidence(other) == made(other, 1, jws="o.o.o")


async def test_of_many_statements_about_one_entry_at_once_everybody_finds_the_same(ledger: Ledger) -> None:
    message_id = MessageId(uuid4())

    async def state(each: int) -> str:
        await ledger.add_evidence(made(message_id, 1, jws=f"{each}."))
        (kept,) = await ledger.evidence(message_id)
        return kept.jws

    assert len(set(await asyncio.gather(*(state(each) for each in range(20))))) == 1


# quota


async def test_what_was_used_of_a_quota_is_told_by_profile_and_day(ledger: Ledger, records: Any) -> None:
    for profile, day in (("a", NOW), ("a", NOW), ("b", NOW), ("a", NOW + DAY)):
        await ledger.record(records.new(profile=profile, day=day.date()))
    await ledger.record(records.new(profile="a", sender=OTHER_SENDER))
    assert await ledger.quota_use(SENDER, NOW.date()) == {
        "a": QuotaUse(messages=2, paper=0),
        "b": QuotaUse(messages=1, paper=0),
    }
    assert await ledger.quota_use(SENDER, (NOW + 2 * DAY).date()) == {}


# paper


async def test_paper_is_counted_exactly_under_concurrency_and_only_once_for_a_delivery(
    ledger: Ledger, records: Any
) -> None:
    made = [records.new() for _ in range(8)]
    for each in made:
        assert await ledger.record(each) is None
    claims = await claim(ledger)
    assert len(claims) == len(made)
    sender, profile = made[0].message.sender, made[0].message.profile
    paper = PaperQuota(sender=sender, profile=profile, day=NOW.date(), limit=5)

    async def try_it(claimed: Claim) -> bool:
        try:
            await ledger.begin_attempt(claimed, longest=MINUTE, settle=HOUR, paper=paper)
        except QuotaUsedUp:
            return False
        return True

    begun = await asyncio.gather(*(try_it(claimed) for claimed in claims))
    assert sum(begun) == 5
    assert (await ledger.quota_use(sender, NOW.date()))[profile].paper == 5
    left = [claimed for claimed, started in zip(claims, begun, strict=True) if not started]
    message = await read(ledger, left[0].delivery.message_id)
    assert (message.status, message.deliveries[0].attempts) == (MessageStatus.ACCEPTED, 0)
