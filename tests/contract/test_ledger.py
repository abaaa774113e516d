"""The promises of `Ledger`, held against every implementation."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from gateway.crypto.vault import IndexKeyRow, KekRow
from gateway.domain.ids import DeliveryId, DocumentId, EnterpriseNumber, MessageId
from gateway.domain.message import Channel
from gateway.domain.needs import LiveUse
from gateway.domain.retention import CopyState, Keep
from gateway.domain.routing import Route
from gateway.domain.schedule import TAKEN_UP_WITHIN
from gateway.domain.status import DeliveryStatus, InvalidMove, MessageStatus, NextAction
from gateway.errors import Kind, LeaseLost, Refusal, StoreUnavailable
from gateway.stores.ledger import Ledger
from gateway.stores.model import (
    Claim,
    DeliveryRecord,
    KeyedMessage,
    KnownReference,
    Log,
    MessageFilter,
    MessageRecord,
    NewMessage,
    Page,
    QueueDepth,
    RegistrationVersion,
    Suspension,
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


async def claim(ledger: Ledger, *, worker: str = "w1", now: datetime = NOW, limit: int = 100) -> list[Claim]:
    PLACE.store.now = now
    return await ledger.claim(worker, lease=HOUR, limit=limit, providers=["house-a", "bosa"])


async def claim_one(ledger: Ledger, new: NewMessage, *, worker: str = "w1", now: datetime = NOW) -> Claim:
    assert await ledger.record(new) is None
    (claimed,) = await claim(ledger, worker=worker, now=now)
    return claimed


async def begin(ledger: Ledger, claimed: Claim, now: datetime = NOW) -> int:
    PLACE.store.now = now
    return await ledger.begin_attempt(claimed, longest=MINUTE, settle=4 * MINUTE)


async def read(ledger: Ledger, message_id: MessageId) -> MessageRecord:
    message = await ledger.message(message_id)
    assert message is not None
    return message


async def delivery_of(ledger: Ledger, claimed: Claim) -> DeliveryRecord:
    message = await read(ledger, claimed.delivery.message_id)
    return next(one for one in message.deliveries if one.delivery_id == claimed.delivery.delivery_id)


async def events_of(ledger: Ledger, message_id: MessageId) -> list[str]:
    return [entry.event for entry in await ledger.timeline(message_id)]


async def waits_for_a_person(ledger: Ledger, records: Any, **named: Any) -> NewMessage:
    delivery = {"status": DeliveryStatus.IN_DOUBT, "next_action": NextAction.DECIDE, "due_at": None, **named}
    new: NewMessage = records.new(delivery=delivery, status=MessageStatus.NEEDS_DECISION)
    assert await ledger.record(new) is None
    return new


# keys


async def test_a_sender_key_is_found_by_id_and_by_year(ledger: Ledger, records: Any) -> None:
    kek = records.kek
    assert await ledger.kek(kek.kek_id) == kek
    assert await ledger.kek_for(kek.sender_id, kek.year) == kek
    assert await ledger.kek(uuid4()) is None
    assert await ledger.kek_for(kek.sender_id, kek.year + 1) is None
    assert await ledger.kek_for(uuid4(), kek.year) is None


async def test_the_first_sender_key_of_a_year_stays_in_force(ledger: Ledger) -> None:
    sender_id = uuid4()
    rows = [
        KekRow(kek_id=uuid4(), sender_id=sender_id, year=2027, master_id="local-1", wrapped=os.urandom(60))
        for _ in range(10)
    ]
    in_force = await asyncio.gather(*(ledger.add_kek(row) for row in rows))
    assert set(in_force) == {in_force[0]}
    assert in_force[0] in rows
    assert await ledger.kek_for(sender_id, 2027) == in_force[0]
    assert [await ledger.kek(row.kek_id) for row in rows].count(None) == 9


async def test_index_keys_come_oldest_first_and_the_first_of_a_version_stays(ledger: Ledger) -> None:
    rows = [
        IndexKeyRow(purpose="recipient", version=version, wrapped=os.urandom(60), master_id="local-1")
        for version in (2, 1, 3)
    ]
    for row in rows:
        assert await ledger.add_index_key(row) == row
    assert await ledger.add_index_key(replace(rows[0], wrapped=os.urandom(60))) == rows[0]
    assert await ledger.index_keys("recipient") == sorted(rows, key=lambda row: row.version)
    assert await ledger.index_keys("portal") == []


async def test_the_first_log_key_of_a_sender_and_year_stays_in_force(ledger: Ledger, records: Any) -> None:
    sender_id = uuid4()
    rows = [records.dek(purpose="log") for _ in range(5)]
    assert await ledger.log_key(sender_id, 2026) is None
    in_force = await asyncio.gather(*(ledger.add_log_key(sender_id, 2026, row) for row in rows))
    assert set(in_force) == {in_force[0]}
    assert await ledger.log_key(sender_id, 2026) == in_force[0]
    assert await ledger.log_key(sender_id, 2027) is None
    assert [await ledger.dek(row.dek_id) for row in rows].count(None) == 4


# acceptance


async def test_a_message_is_read_back_as_it_was_recorded(ledger: Ledger, records: Any) -> None:
    for new in (records.new(), records.full(), records.new(documents=20)):
        assert await ledger.record(new) is None
        assert await ledger.message(new.message.message_id) == new.message
        assert [await ledger.dek(dek.dek_id) for dek in new.deks] == list(new.deks)
        assert await events_of(ledger, new.message.message_id) == [new.logs[0].event]
    assert await ledger.message(MessageId(uuid4())) is None
    assert await ledger.dek(uuid4()) is None


async def test_a_message_is_read_with_its_keys(ledger: Ledger, records: Any) -> None:
    other, new = records.new(), records.new(documents=3)
    for each in (other, new):
        await ledger.record(each)
    found = await ledger.keyed_message(new.message.message_id)
    assert found == KeyedMessage(record=new.message, deks={row.dek_id: row for row in new.deks})
    assert await ledger.keyed_message(MessageId(uuid4())) is None


async def test_a_key_that_was_destroyed_is_not_read_with_its_message(ledger: Ledger, records: Any) -> None:
    new = records.new(documents=2)
    await ledger.record(new)
    assert await ledger.destroy_keys(new.message, NOW, [])
    found = await ledger.keyed_message(new.message.message_id)
    assert found is not None
    assert set(found.deks) == {new.message.meta_dek_id}


async def test_times_are_kept_to_the_millisecond(ledger: Ledger, records: Any) -> None:
    new = records.new(accepted_at=NOW + timedelta(microseconds=1_999), created_at=NOW - timedelta(microseconds=1))
    await ledger.record(new)
    message = await read(ledger, new.message.message_id)
    assert message.accepted_at == NOW + timedelta(milliseconds=1)
    assert message.created_at == NOW - timedelta(milliseconds=1)


async def test_a_burnt_reference_is_told_and_nothing_of_the_second_message_is_kept(
    ledger: Ledger, records: Any
) -> None:
    first = records.new(reference="once", messages_per_day=2)
    second = records.new(reference="once", messages_per_day=2)
    known = KnownReference(message_id=first.message.message_id, content_sha256=first.message.content_sha256)
    assert await ledger.find_reference(SENDER, "burgerzaken", "once") is None
    assert await ledger.record(first) is None
    assert await ledger.record(second) == known
    assert await ledger.find_reference(SENDER, "burgerzaken", "once") == known
    assert await ledger.message(second.message.message_id) is None
    assert [await ledger.dek(dek.dek_id) for dek in second.deks] == [None, None]
    assert await ledger.timeline(second.message.message_id) == []
    assert len(await claim(ledger)) == 1
    assert await ledger.record(records.new(messages_per_day=2)) is None  # of the quota, one unit was left


async def test_of_ten_messages_with_one_reference_at_once_one_is_recorded(ledger: Ledger, records: Any) -> None:
    news = [records.new(reference="once") for _ in range(10)]
    outcomes = await asyncio.gather(*(ledger.record(new) for new in news))
    (winner,) = (new for new, known in zip(news, outcomes, strict=True) if known is None)
    known = KnownReference(message_id=winner.message.message_id, content_sha256=winner.message.content_sha256)
    assert outcomes.count(known) == 9
    page = await ledger.messages(MessageFilter(sender=SENDER, profiles=None), after_position=0, limit=10)
    assert page.messages == (winner.message,)


async def test_a_reference_is_burnt_for_one_profile_of_one_sender(ledger: Ledger, records: Any) -> None:
    for new in (
        records.new(reference="r"),
        records.new(reference="r", profile="belastingen"),
        records.new(reference="r", sender=OTHER_SENDER),
        records.new(reference="R"),
    ):
        assert await ledger.record(new) is None


async def test_the_quota_is_exact_however_many_come_at_once(ledger: Ledger, records: Any) -> None:
    news = [records.new(messages_per_day=4) for _ in range(10)]
    outcomes = await asyncio.gather(*(ledger.record(new) for new in news), return_exceptions=True)
    refusals = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
    assert outcomes.count(None) == 4
    assert [refusal.kind for refusal in refusals] == [Kind.QUOTA_EXCEEDED] * 6
    for new, outcome in zip(news, outcomes, strict=True):
        kept = await ledger.message(new.message.message_id)
        burnt = await ledger.find_reference(SENDER, "burgerzaken", new.message.reference)
        assert (kept is None, burnt is None) == (outcome is not None, outcome is not None)


async def test_each_profile_and_day_has_its_own_quota(ledger: Ledger, records: Any) -> None:
    assert await ledger.record(records.new(messages_per_day=1)) is None
    assert await ledger.record(records.new(messages_per_day=1, profile="belastingen")) is None
    assert await ledger.record(records.new(messages_per_day=1, sender=OTHER_SENDER)) is None
    assert await ledger.record(records.new(messages_per_day=1, day=date(2026, 11, 23))) is None
    assert await ledger.record(records.new(messages_per_day=None)) is None
    assert await ledger.record(records.new(messages_per_day=3)) is None  # the third of the first day
    with pytest.raises(Refusal):
        await ledger.record(records.new(messages_per_day=3))


async def test_a_quota_of_nothing_refuses_the_first_message(ledger: Ledger, records: Any) -> None:
    with pytest.raises(Refusal):
        await ledger.record(records.new(messages_per_day=0))


@pytest.mark.parametrize(
    ("now", "day", "wait_s"),
    [
        (datetime(2026, 11, 22, 22, 30, tzinfo=UTC), date(2026, 11, 22), 1_800),  # 23:30 in Brussels
        (datetime(2026, 11, 22, 22, 59, 59, 500_000, tzinfo=UTC), date(2026, 11, 22), 1),
        (datetime(2026, 11, 22, 23, 0, 5, tzinfo=UTC), date(2026, 11, 22), 1),  # midnight passed meanwhile
        (datetime(2026, 10, 24, 22, 0, tzinfo=UTC), date(2026, 10, 25), 25 * 3_600),  # summer time ends
        (datetime(2026, 3, 28, 23, 0, tzinfo=UTC), date(2026, 3, 29), 23 * 3_600),  # summer time begins
    ],
)
async def test_a_spent_quota_tells_when_the_next_day_begins(  # noqa: PLR0917 -- fixtures come by position
    store: Any, ledger: Ledger, records: Any, now: datetime, day: date, wait_s: int
) -> None:
    store.now = now
    with pytest.raises(Refusal) as refused:
        await ledger.record(records.new(messages_per_day=0, day=day))
    assert refused.value.retry_after_s == wait_s


async def test_a_message_whose_blob_has_a_tombstone_is_not_recorded(ledger: Ledger, records: Any) -> None:
    new = records.new(documents=3, messages_per_day=1)
    blob_id = new.message.documents[1].document_id
    assert await ledger.tombstone([blob_id], NOW) == [blob_id]
    with pytest.raises(StoreUnavailable):
        await ledger.record(new)
    assert await ledger.message(new.message.message_id) is None
    assert await ledger.find_reference(SENDER, "burgerzaken", new.message.reference) is None
    again = records.new(reference=new.message.reference, messages_per_day=1)
    assert await ledger.record(again) is None  # neither the reference nor the quota was used up


async def test_a_blob_that_a_document_needs_gets_no_tombstone(ledger: Ledger, records: Any) -> None:
    new = records.new(documents=2)
    await ledger.record(new)
    needed = [document.document_id for document in new.message.documents]
    orphan = uuid4()
    assert await ledger.tombstone([needed[0], orphan, needed[1], orphan], NOW) == [orphan]
    assert await ledger.tombstone([orphan], NOW + HOUR) == [orphan]  # again, after a crash of the sweeper
    assert await ledger.tombstone([], NOW) == []


async def test_between_recording_and_a_tombstone_exactly_one_wins(ledger: Ledger, records: Any) -> None:
    for _ in range(20):
        new = records.new()
        blob_id = new.message.documents[0].document_id
        recorded, forbidden = await asyncio.gather(
            ledger.record(new), ledger.tombstone([blob_id], NOW), return_exceptions=True
        )
        assert (recorded is None) != (forbidden == [blob_id])


async def test_only_a_suspended_sender_is_suspended(store: Any, ledger: Ledger) -> None:
    assert not await ledger.is_suspended(SENDER)
    await store.suspend(SENDER)
    assert await ledger.is_suspended(SENDER)
    assert not await ledger.is_suspended(OTHER_SENDER)


async def test_a_timeline_holds_the_traffic_entries_of_one_message_in_order(ledger: Ledger, records: Any) -> None:
    one, other = MessageId(uuid4()), MessageId(uuid4())
    delivery_id = DeliveryId(uuid4())
    entries = [
        records.log(message_id=one, at=NOW + HOUR),
        records.log(message_id=one, log=Log.PRIVACY, about_index=b"i" * 32, about_index_version=1, sealed_clear=b"s"),
        records.log(message_id=other),
        records.log(message_id=one, at=NOW, delivery_id=delivery_id, sender=SENDER, profile="p", dek_id=uuid4()),
        records.log(log=Log.ADMIN),
    ]
    await ledger.append(entries)
    timeline = await ledger.timeline(one)
    assert [(entry.event, entry.at, entry.delivery_id, entry.entry) for entry in timeline] == [
        (entries[0].event, NOW + HOUR, None, entries[0].entry),
        (entries[3].event, NOW, delivery_id, entries[3].entry),
    ]


# dossiers


async def test_dossiers_are_found_by_any_candidate_index(ledger: Ledger, records: Any) -> None:
    dek = records.dek(purpose="meta")
    old, new = b"o" * 32, b"n" * 32
    dossiers = [
        records.dossier(dek.dek_id, recipient_index=old, until_on=date(2026, 12, 31)),
        records.dossier(dek.dek_id, recipient_index=new, recipient_index_version=2, category="building-permit"),
        records.dossier(dek.dek_id, recipient_index=new, recipient_index_version=1),  # index of another version
        records.dossier(dek.dek_id, recipient_index=old, sender=OTHER_SENDER),
        records.dossier(dek.dek_id, recipient_index=b"x" * 32),
    ]
    await ledger.add_dossiers(dossiers, [dek])
    candidates = [(1, old), (2, new)]
    assert await ledger.find_dossiers(SENDER, None, candidates) == dossiers[:2]
    assert await ledger.find_dossiers(SENDER, "building-permit", candidates) == dossiers[1:2]
    assert await ledger.find_dossiers(OTHER_SENDER, None, candidates) == dossiers[3:4]
    assert await ledger.find_dossiers(SENDER, "unknown", candidates) == []
    assert await ledger.find_dossiers(SENDER, None, []) == []
    assert await ledger.dek(dek.dek_id) == dek


async def test_dossiers_are_added_all_or_none(ledger: Ledger, records: Any) -> None:
    dek = records.dek(purpose="meta")
    good = records.dossier(dek.dek_id)
    (outcome,) = await asyncio.gather(
        ledger.add_dossiers([good, records.dossier(dek.dek_id), good], [dek]), return_exceptions=True
    )
    assert isinstance(outcome, Exception)
    assert await ledger.find_dossiers(SENDER, None, [(1, good.recipient_index)]) == []
    assert await ledger.dek(dek.dek_id) is None


async def test_a_dossier_is_ended_once_by_its_own_sender(ledger: Ledger, records: Any) -> None:
    dek = records.dek(purpose="meta")
    dossier = records.dossier(dek.dek_id)
    await ledger.add_dossiers([dossier], [dek])
    candidates = [(1, dossier.recipient_index)]
    assert await ledger.end_dossier(OTHER_SENDER, dossier.dossier_id, NOW) is None
    assert await ledger.end_dossier(SENDER, uuid4(), NOW) is None
    assert await ledger.find_dossiers(SENDER, None, candidates) == [dossier]
    ended = replace(dossier, ended_at=NOW)
    assert await ledger.end_dossier(SENDER, dossier.dossier_id, NOW) == dossier
    assert await ledger.end_dossier(SENDER, dossier.dossier_id, NOW + HOUR) == ended
    assert await ledger.find_dossiers(SENDER, None, candidates) == [ended]


# reading


async def test_a_list_shows_the_messages_of_the_asked_sender_and_profiles_in_order(
    ledger: Ledger, records: Any
) -> None:
    a1, b1, a2, c1, foreign = (
        records.new(profile="a"),
        records.new(profile="b"),
        records.new(profile="a"),
        records.new(profile="c"),
        records.new(profile="a", sender=OTHER_SENDER),
    )
    for new in (a1, b1, a2, c1, foreign):
        await ledger.record(new)

    async def listed(sender: EnterpriseNumber, profiles: frozenset[str] | None) -> list[MessageRecord]:
        which = MessageFilter(sender=sender, profiles=profiles)
        return list((await ledger.messages(which, after_position=0, limit=10)).messages)

    assert await listed(SENDER, None) == [a1.message, b1.message, a2.message, c1.message]
    assert await listed(SENDER, frozenset({"a", "c"})) == [a1.message, a2.message, c1.message]
    assert await listed(SENDER, frozenset({"b", "unknown"})) == [b1.message]
    assert await listed(SENDER, frozenset()) == []
    assert await listed(OTHER_SENDER, None) == [foreign.message]
    assert await listed(EnterpriseNumber("0566988259"), None) == []


@pytest.mark.parametrize(
    ("asked", "want"),
    [
        ({"reference": "second"}, {1}),
        ({"reference": "unknown"}, set()),
        ({"status": MessageStatus.DELIVERED}, {1}),
        ({"status": MessageStatus.ACCEPTED}, {0, 2}),
        ({"status": MessageStatus.EXPIRED}, set()),
        ({"channel": Channel.PRINT}, {0, 2}),
        ({"channel": Channel.EBOX_CITIZEN}, {1, 2}),
        ({"accepted_from": NOW + HOUR}, {1, 2}),
        ({"accepted_until": NOW + HOUR}, {0}),
        ({"accepted_from": NOW + HOUR, "accepted_until": NOW + 2 * HOUR}, {1}),
        ({"status": MessageStatus.ACCEPTED, "channel": Channel.EBOX_CITIZEN}, {2}),
        ({"status": MessageStatus.ACCEPTED, "accepted_until": NOW + HOUR}, {0}),
        ({"reference": "second", "status": MessageStatus.ACCEPTED}, set()),
        ({"reference": "second", "channel": Channel.PRINT}, set()),
        ({"reference": "second", "accepted_from": NOW + HOUR}, {1}),
        ({"reference": "second", "accepted_from": NOW + 2 * HOUR}, set()),
    ],
)
@pytest.mark.parametrize("profiles", [None, frozenset({"burgerzaken"})])
async def test_each_filter_narrows_a_list(
    ledger: Ledger, records: Any, asked: dict[str, Any], want: set[int], profiles: frozenset[str] | None
) -> None:
    ebox = {"channel": Channel.EBOX_CITIZEN}
    third = records.new(accepted_at=NOW + 2 * HOUR)
    second_delivery = records.delivery(third.message.message_id, number=2, **ebox)
    news = [
        records.new(),
        records.new(reference="second", status=MessageStatus.DELIVERED, delivery=ebox, accepted_at=NOW + HOUR),
        replace(third, message=replace(third.message, deliveries=(*third.message.deliveries, second_delivery))),
    ]
    for new in news:
        await ledger.record(new)
    which = MessageFilter(sender=SENDER, profiles=profiles, **asked)
    page = await ledger.messages(which, after_position=0, limit=10)
    assert page == Page(messages=tuple(news[number].message for number in sorted(want)), next_position=None)


async def test_messages_are_read_by_id_and_unknown_ones_are_left_out(ledger: Ledger, records: Any) -> None:
    news = [records.new(), records.full(), records.new()]
    for new in news:
        await ledger.record(new)
    asked = [news[1].message.message_id, MessageId(uuid4()), news[0].message.message_id]
    found = await ledger.messages_by_id(asked)
    assert sorted(found, key=lambda message: asked.index(message.message_id)) == [news[1].message, news[0].message]
    assert await ledger.messages_by_id([]) == []


async def test_the_last_page_says_that_it_is_the_last(ledger: Ledger, records: Any) -> None:
    which = MessageFilter(sender=SENDER, profiles=None)
    assert await ledger.messages(which, after_position=0, limit=2) == Page(messages=(), next_position=None)
    news = [records.new(profile=profile) for profile in "abab"]
    for new in news:
        await ledger.record(new)
    first = await ledger.messages(which, after_position=0, limit=2)
    assert first.messages == (news[0].message, news[1].message)
    assert first.next_position is not None
    second = await ledger.messages(which, after_position=first.next_position, limit=2)
    assert second == Page(messages=(news[2].message, news[3].message), next_position=None)


async def test_pages_neither_skip_nor_repeat_while_others_record(ledger: Ledger, records: Any) -> None:
    total = 120
    which = MessageFilter(sender=SENDER, profiles=frozenset({"a", "b"}))
    waiting = iter([records.new(profile="ab"[number % 2]) for number in range(total)])
    recorded: list[MessageId] = []

    async def recorder() -> None:
        for new in waiting:
            await ledger.record(new)
            recorded.append(new.message.message_id)

    async def pager() -> list[MessageId]:
        seen: list[MessageId] = []
        position = 0
        while len(seen) < total:
            at_the_end = len(recorded) == total
            page = await ledger.messages(which, after_position=position, limit=7)
            if page.next_position is not None:
                seen += [message.message_id for message in page.messages]
                position = page.next_position
            elif at_the_end:
                seen += [message.message_id for message in page.messages]
                break
        return seen

    _, _, _, seen, also_seen = await asyncio.gather(recorder(), recorder(), recorder(), pager(), pager())
    assert len(set(seen)) == total
    assert seen == also_seen
    assert set(seen) == set(recorded)


# claims


async def test_only_what_is_due_for_a_worker_of_these_providers_is_claimed(ledger: Ledger, records: Any) -> None:
    due = records.new()
    for new in (
        due,
        records.new(delivery={"due_at": NOW + timedelta(milliseconds=1)}),
        records.new(delivery={"due_at": None}),
        records.new(delivery={"provider": "house-b"}),
        records.new(delivery={"next_action": NextAction.DECIDE}),
        records.new(delivery={"next_action": NextAction.NONE}),
    ):
        await ledger.record(new)
    assert await ledger.claim("w1", lease=HOUR, limit=10, providers=[]) == []
    assert await ledger.claim("w1", lease=HOUR, limit=0, providers=["house-a"]) == []
    (claimed,) = await claim(ledger)
    assert claimed == Claim(
        delivery=due.message.deliveries[0], worker="w1", lease_token=claimed.lease_token, lease_until=NOW + HOUR
    )


@pytest.mark.parametrize("action", [NextAction.SEND, NextAction.RECONCILE, NextAction.POLL])
async def test_every_action_of_a_worker_is_claimed(ledger: Ledger, records: Any, action: NextAction) -> None:
    claimed = await claim_one(ledger, records.new(delivery={"next_action": action}))
    assert claimed.delivery.next_action == action


async def test_claims_at_once_never_overlap(ledger: Ledger, records: Any) -> None:
    for _ in range(40):
        await ledger.record(records.new())
    batches = await asyncio.gather(*(claim(ledger, worker=f"w{number}", limit=7) for number in range(10)))
    claimed = [one.delivery.delivery_id for batch in batches for one in batch]
    assert len(claimed) == len(set(claimed)) == 40
    assert max(len(batch) for batch in batches) == 7


async def test_a_delivery_is_claimed_again_only_after_its_lease_and_with_a_higher_token(
    ledger: Ledger, records: Any
) -> None:
    first = await claim_one(ledger, records.new())
    assert await claim(ledger, worker="w2", now=first.lease_until - timedelta(milliseconds=1)) == []
    (second,) = await claim(ledger, worker="w2", now=first.lease_until)
    assert second.delivery == first.delivery
    assert second.worker == "w2"
    assert second.lease_token > first.lease_token


async def test_a_renewed_lease_keeps_others_away_for_longer(ledger: Ledger, records: Any) -> None:
    first = await claim_one(ledger, records.new())
    renewed = await ledger.renew(first, 3 * HOUR)
    assert renewed == replace(first, lease_until=NOW + 3 * HOUR)
    assert await claim(ledger, now=NOW + 2 * HOUR) == []
    await ledger.settle(renewed, records.settlement(records.change(status=DeliveryStatus.CANCELLED)))


async def test_renewing_never_shortens_a_lease_such_as_that_of_an_attempt(ledger: Ledger, records: Any) -> None:
    claimed = await claim_one(ledger, records.new())
    await ledger.begin_attempt(claimed, longest=2 * HOUR, settle=timedelta())
    assert (await ledger.renew(claimed, MINUTE)).lease_until == NOW + 2 * HOUR
    assert await claim(ledger, worker="w2", now=NOW + 2 * HOUR - timedelta(milliseconds=1)) == []


async def test_a_released_delivery_is_due_again_when_its_worker_said(ledger: Ledger, records: Any) -> None:
    first = await claim_one(ledger, records.new())
    await ledger.release(first, MINUTE)
    assert await claim(ledger) == []
    (second,) = await claim(ledger, now=NOW + MINUTE)
    await ledger.release(first, timedelta())  # by the worker that gave it back already
    assert (await delivery_of(ledger, second)).due_at == NOW + MINUTE
    assert await claim(ledger, now=NOW + 2 * MINUTE) == []


async def test_a_call_that_began_waits_for_its_time_although_its_lease_is_given_back(
    ledger: Ledger, records: Any
) -> None:
    claimed = await claim_one(ledger, records.new())
    await begin(ledger, claimed)
    await ledger.release(claimed, timedelta())
    assert await claim(ledger, now=NOW + 4 * MINUTE) == []
    (found,) = await claim(ledger, now=NOW + 5 * MINUTE)
    assert found.delivery.next_action == NextAction.RECONCILE


Act = Callable[[Ledger, Any, Claim], Any]
ACTS: dict[str, Act] = {
    "begin": lambda ledger, _records, claimed: begin(ledger, claimed),
    "renew": lambda ledger, _records, claimed: ledger.renew(claimed, 9 * HOUR),
    "settle": lambda ledger, records, claimed: ledger.settle(
        claimed, records.settlement(logs=(records.log(message_id=claimed.delivery.message_id),))
    ),
    "attach_cover": lambda ledger, records, claimed: ledger.attach_cover(
        claimed, records.document((dek := records.dek()).dek_id, kind="cover"), dek, records.retrieval(claimed)
    ),
}
LOSSES: dict[str, Act] = {
    "claimed by another": lambda ledger, _records, claimed: claim(ledger, worker="w2", now=claimed.lease_until),
    "given back": lambda ledger, _records, claimed: ledger.release(claimed, timedelta()),
    "settled": lambda ledger, records, claimed: ledger.settle(
        claimed, records.settlement(records.change(status=DeliveryStatus.DISPATCHING))
    ),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("loss", LOSSES)
async def test_whoever_lost_a_lease_changes_nothing(ledger: Ledger, records: Any, act: str, loss: str) -> None:
    new = records.new(delivery={"status": DeliveryStatus.DISPATCHING})
    claimed = await claim_one(ledger, new)
    await LOSSES[loss](ledger, records, claimed)
    before = await read(ledger, new.message.message_id)
    events = await events_of(ledger, new.message.message_id)
    with pytest.raises(LeaseLost):
        await ACTS[act](ledger, records, claimed)
    assert await read(ledger, new.message.message_id) == before
    assert await events_of(ledger, new.message.message_id) == events


# attempts


async def test_an_attempt_is_written_down_before_the_provider_is_called(ledger: Ledger, records: Any) -> None:
    claimed = await claim_one(ledger, records.new())
    assert await begin(ledger, claimed) == 1
    assert await delivery_of(ledger, claimed) == replace(
        claimed.delivery,
        status=DeliveryStatus.DISPATCHING,
        status_at=NOW,
        attempts=1,
        first_attempt_at=NOW,
        next_action=NextAction.RECONCILE,
        due_at=NOW + 5 * MINUTE,
        deadline_at=NOW + 5 * MINUTE + TAKEN_UP_WITHIN,
    )


async def test_a_dead_workers_attempt_is_found_for_reconciling_and_not_earlier(
    store: Any, ledger: Ledger, records: Any
) -> None:
    claimed = await claim_one(ledger, records.new())
    await begin(ledger, claimed)
    after = await store.crash()
    assert await claim(after, worker="w2", now=NOW + 5 * MINUTE - timedelta(milliseconds=1)) == []
    (found,) = await claim(after, worker="w2", now=NOW + 5 * MINUTE)
    assert found.delivery.next_action == NextAction.RECONCILE
    assert found.delivery.status == DeliveryStatus.DISPATCHING
    assert await begin(after, found, NOW + 6 * MINUTE) == 2
    assert (await delivery_of(after, found)).first_attempt_at == NOW
    with pytest.raises(LeaseLost):
        await after.settle(claimed, records.settlement())  # the dead worker wakes up


async def test_every_attempt_is_kept_with_its_end_when_it_had_one(store: Any, ledger: Ledger, records: Any) -> None:
    dead = await claim_one(ledger, records.new())
    await begin(ledger, dead)
    (found,) = await claim(ledger, worker="w2", now=NOW + HOUR)
    await begin(ledger, found, NOW + HOUR)
    await ledger.settle(
        found, records.settlement(records.change(at=NOW + 2 * HOUR, attempt_outcome="accepted", code="201"))
    )
    (polled,) = await claim(ledger, worker="w3", now=NOW + 3 * HOUR)
    await ledger.settle(polled, records.settlement(records.change(code="read"), message_revision=1))
    assert await store.attempts(dead.delivery.delivery_id) == [
        (1, "send", "w1", NOW, None, None, None),
        (2, "reconcile", "w2", NOW + HOUR, NOW + 2 * HOUR, "accepted", "201"),
    ]


async def test_an_attempt_keeps_the_delivery_until_its_deadline(ledger: Ledger, records: Any) -> None:
    claimed = await claim_one(ledger, records.new())
    await ledger.begin_attempt(claimed, longest=2 * HOUR, settle=timedelta())
    assert await claim(ledger, worker="w2", now=NOW + 2 * HOUR - timedelta(milliseconds=1)) == []
    assert len(await claim(ledger, worker="w2", now=NOW + 2 * HOUR)) == 1


async def test_what_a_provider_accepted_is_never_attempted_again(ledger: Ledger, records: Any) -> None:
    new = records.new(delivery={"status": DeliveryStatus.ACCEPTED, "next_action": NextAction.POLL})
    claimed = await claim_one(ledger, new)
    with pytest.raises(InvalidMove):
        await begin(ledger, claimed)
    assert await delivery_of(ledger, claimed) == claimed.delivery


# settling


async def test_a_settlement_changes_delivery_message_and_log_together(ledger: Ledger, records: Any) -> None:
    new = records.new()
    claimed = await claim_one(ledger, new)
    await begin(ledger, claimed)
    follower = records.delivery(new.message.message_id, number=2, due_at=NOW + MINUTE)
    entry = records.log(message_id=new.message.message_id)
    change = records.change(
        status=DeliveryStatus.REJECTED,
        next_action=NextAction.NONE,
        due_at=None,
        deadline_at=None,
        reason="refused",
        code="E17",
        attempt_outcome="refused",
    )
    keep = Keep(state=CopyState.AWAITING_ERASURE, until=NOW + DAY)
    await ledger.settle(claimed, records.settlement(change, keep=keep, next_delivery=follower, logs=(entry,)))
    ended = replace(
        claimed.delivery,
        status=DeliveryStatus.REJECTED,
        status_at=change.at,
        attempts=1,
        first_attempt_at=NOW,
        next_action=NextAction.NONE,
        due_at=None,
        deadline_at=None,
        reason="refused",
        code="E17",
    )
    assert await read(ledger, new.message.message_id) == replace(
        new.message,
        revision=1,
        status=MessageStatus.IN_DELIVERY,
        copy_state=CopyState.AWAITING_ERASURE,
        copy_until=NOW + DAY,
        deliveries=(ended, follower),
    )
    assert await events_of(ledger, new.message.message_id) == [new.logs[0].event, entry.event]
    assert [one.delivery for one in await claim(ledger, now=NOW + HOUR)] == [follower]


async def test_a_change_keeps_what_it_does_not_name_except_when_something_is_due(ledger: Ledger, records: Any) -> None:
    claimed = await claim_one(ledger, records.full())
    named: dict[str, Any] = {
        "reason": "unread",
        "code": "7",
        "provider_reference": "ref-2",
        "barcode": "1",
        "handed_over_at": NOW + DAY,
        "posted_at": NOW + 2 * DAY,
        "read_seen_at": NOW + 3 * DAY,
    }
    change = records.change(status=DeliveryStatus.ACCEPTED, due_at=NOW, deadline_at=None)
    status = {"message_status": MessageStatus.SCHEDULED}
    await ledger.settle(claimed, records.settlement(change, **status))
    kept = replace(claimed.delivery, due_at=NOW, deadline_at=None)  # status_at stays: the status did
    assert await delivery_of(ledger, claimed) == kept
    (again,) = await claim(ledger)
    await ledger.settle(again, records.settlement(replace(change, **named), message_revision=1, **status))
    assert await delivery_of(ledger, claimed) == replace(kept, **named)


async def test_a_settlement_from_a_stale_look_at_the_message_changes_nothing(ledger: Ledger, records: Any) -> None:
    new = records.new()
    follower = records.delivery(new.message.message_id, number=2)
    new = replace(new, message=replace(new.message, deliveries=(*new.message.deliveries, follower)))
    await ledger.record(new)
    first, second = await claim(ledger)
    await ledger.settle(first, records.settlement(records.change(status=DeliveryStatus.WAITING)))
    before = await read(ledger, new.message.message_id)
    stale = records.settlement(
        records.change(status=DeliveryStatus.CANCELLED), logs=(records.log(message_id=new.message.message_id),)
    )
    with pytest.raises(LeaseLost):
        await ledger.settle(second, stale)
    assert await read(ledger, new.message.message_id) == before
    assert len(await ledger.timeline(new.message.message_id)) == 1
    await ledger.settle(second, replace(stale, message_revision=1))  # it looked again; the lease was never lost
    assert (await delivery_of(ledger, second)).status == DeliveryStatus.CANCELLED


async def test_of_settlements_at_once_on_one_message_one_succeeds(ledger: Ledger, records: Any) -> None:
    new = records.new()
    others = [records.delivery(new.message.message_id, number=number) for number in range(2, 6)]
    await ledger.record(replace(new, message=replace(new.message, deliveries=(*new.message.deliveries, *others))))
    change = records.change(status=DeliveryStatus.CANCELLED)
    outcomes = await asyncio.gather(
        *(ledger.settle(one, records.settlement(change)) for one in await claim(ledger)), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["LeaseLost"] * 4 + ["NoneType"]
    assert (await read(ledger, new.message.message_id)).revision == 1


@pytest.mark.parametrize(
    ("delivery", "message"),
    [
        (DeliveryStatus.DELIVERED, MessageStatus.IN_DELIVERY),  # waiting deliveries do not arrive
        (DeliveryStatus.CANCELLED, MessageStatus.RETURNED),  # accepted messages do not come back
    ],
)
async def test_a_move_that_is_not_allowed_changes_nothing(
    ledger: Ledger, records: Any, delivery: DeliveryStatus, message: MessageStatus
) -> None:
    new = records.new()
    claimed = await claim_one(ledger, new)
    with pytest.raises(InvalidMove):
        await ledger.settle(claimed, records.settlement(records.change(status=delivery), message_status=message))
    assert await read(ledger, new.message.message_id) == new.message
    await ledger.renew(claimed, HOUR)  # the lease is still held


async def test_a_settlement_whose_last_part_fails_leaves_nothing(ledger: Ledger, records: Any) -> None:
    new = records.new()
    claimed = await claim_one(ledger, new)
    (outcome,) = await asyncio.gather(
        ledger.settle(
            claimed, records.settlement(records.change(status=DeliveryStatus.CANCELLED), logs=new.logs)
        ),  # the same log entry again
        return_exceptions=True,
    )
    assert isinstance(outcome, Exception)
    assert await read(ledger, new.message.message_id) == new.message


async def test_what_is_erased_stays_erased_whatever_a_delivery_still_tells(ledger: Ledger, records: Any) -> None:
    new = records.new(copy_state=CopyState.AWAITING_ERASURE, copy_until=NOW)
    claimed = await claim_one(ledger, new)
    assert await ledger.destroy_keys(new.message, NOW, [])
    keep = Keep(state=CopyState.AWAITING_ERASURE, until=NOW + DAY)
    change = records.change(status=DeliveryStatus.CANCELLED)
    await ledger.settle(claimed, records.settlement(change, message_revision=1, keep=keep))
    message = await read(ledger, new.message.message_id)
    assert (message.copy_state, message.copy_until) == (CopyState.ERASED, NOW)
    assert await ledger.due_erasures(NOW + 9 * DAY, 10) == []


# cover pages and retrieval


async def test_a_cover_page_becomes_a_document_with_its_key_and_its_retrieval(ledger: Ledger, records: Any) -> None:
    new = records.new()
    claimed = await claim_one(ledger, new)
    dek = records.dek()
    cover = records.document(
        dek.dek_id, delivery_id=claimed.delivery.delivery_id, number=0, kind="cover", part="cover", main=False
    )
    retrieval = records.retrieval(claimed)
    await ledger.attach_cover(claimed, cover, dek, retrieval)
    message = await read(ledger, new.message.message_id)
    assert message == replace(new.message, documents=(cover, *new.message.documents))
    assert await ledger.dek(dek.dek_id) == dek
    assert await ledger.retrieval([(1, retrieval.token_hash)]) == retrieval
    assert await ledger.tombstone([cover.document_id], NOW) == []
    await ledger.settle(claimed, records.settlement(records.change(status=DeliveryStatus.CANCELLED)))


async def test_a_cover_page_whose_blob_has_a_tombstone_is_not_attached(ledger: Ledger, records: Any) -> None:
    new = records.new()
    claimed = await claim_one(ledger, new)
    dek = records.dek()
    cover = records.document(dek.dek_id, kind="cover")
    await ledger.tombstone([cover.document_id], NOW)
    with pytest.raises(StoreUnavailable):
        await ledger.attach_cover(claimed, cover, dek, records.retrieval(claimed))
    assert await read(ledger, new.message.message_id) == new.message
    assert await ledger.dek(dek.dek_id) is None


async def test_a_letter_is_found_by_token_or_number_of_the_right_index_version(ledger: Ledger, records: Any) -> None:
    claimed = await claim_one(ledger, records.new())
    dek = records.dek()
    retrieval = records.retrieval(claimed, index_version=2)
    await ledger.attach_cover(claimed, records.document(dek.dek_id, kind="cover"), dek, retrieval)
    assert await ledger.retrieval([(1, os.urandom(32)), (2, retrieval.token_hash)]) == retrieval
    assert await ledger.retrieval([(2, retrieval.number_hash), (1, os.urandom(32))]) == retrieval
    assert await ledger.retrieval([(1, retrieval.token_hash), (2, retrieval.code_hash)]) is None
    assert await ledger.retrieval([]) is None


async def test_wrong_codes_are_counted_until_a_retrieval(ledger: Ledger, records: Any) -> None:
    new = records.new()
    claimed = await claim_one(ledger, new)
    dek = records.dek()
    retrieval = records.retrieval(claimed)
    await ledger.attach_cover(claimed, records.document(dek.dek_id, kind="cover"), dek, retrieval)
    delivery_id = claimed.delivery.delivery_id
    await asyncio.gather(*(ledger.retrieval_failed(delivery_id, NOW + MINUTE) for _ in range(5)))
    failed = replace(retrieval, failures=5, locked_until=NOW + MINUTE)
    assert await ledger.retrieval([(1, retrieval.token_hash)]) == failed
    entry = records.log(message_id=new.message.message_id)
    await ledger.retrieved(delivery_id, [entry])
    assert await ledger.retrieval([(1, retrieval.token_hash)]) == retrieval
    message = await read(ledger, new.message.message_id)
    assert (message.retrievals, message.revision) == (1, 0)  # a reader does not disturb a worker
    assert (await events_of(ledger, new.message.message_id))[-1] == entry.event


# decisions and watching


async def test_a_decision_is_carried_out_once(ledger: Ledger, records: Any) -> None:
    new = await waits_for_a_person(ledger, records)
    delivery_id = new.message.deliveries[0].delivery_id
    change = records.change(status=DeliveryStatus.WAITING, next_action=NextAction.SEND, due_at=NOW)
    settlement = records.settlement(change, logs=(records.log(message_id=new.message.message_id),))
    other = replace(settlement, logs=(records.log(message_id=new.message.message_id),))
    outcomes = await asyncio.gather(
        ledger.decide(delivery_id, settlement), ledger.decide(delivery_id, other), return_exceptions=True
    )
    assert sorted(map(str, outcomes)) == ["False", "True"]
    message = await read(ledger, new.message.message_id)
    assert (message.revision, message.status) == (1, MessageStatus.IN_DELIVERY)
    assert message.deliveries[0].next_action == NextAction.SEND
    assert len(await ledger.timeline(new.message.message_id)) == 2
    assert len(await claim(ledger)) == 1


async def test_only_what_waits_for_a_person_can_be_decided(ledger: Ledger, records: Any) -> None:
    new = records.new()
    await ledger.record(new)
    settlement = records.settlement(records.change(status=DeliveryStatus.CANCELLED))
    assert not await ledger.decide(new.message.deliveries[0].delivery_id, settlement)
    assert not await ledger.decide(DeliveryId(uuid4()), settlement)
    assert await read(ledger, new.message.message_id) == new.message


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"message_revision": 7}, LeaseLost),
        ({"message_status": MessageStatus.SCHEDULED}, InvalidMove),
    ],
)
async def test_a_decision_that_does_not_fit_changes_nothing(
    ledger: Ledger, records: Any, change: dict[str, Any], error: type[Exception]
) -> None:
    new = await waits_for_a_person(ledger, records)
    with pytest.raises(error):
        await ledger.decide(new.message.deliveries[0].delivery_id, records.settlement(**change))
    assert await read(ledger, new.message.message_id) == new.message


async def test_what_waits_for_a_person_is_listed_most_urgent_first(ledger: Ledger, records: Any) -> None:
    deadlines = [NOW + 3 * HOUR, None, NOW + HOUR, NOW + 2 * HOUR]
    waiting = [await waits_for_a_person(ledger, records, deadline_at=deadline) for deadline in deadlines]
    await ledger.record(records.new())
    assert await ledger.to_decide() == [waiting[number].message.deliveries[0] for number in (2, 3, 0, 1)]


async def test_every_delivery_that_has_not_ended_is_late_after_its_deadline(ledger: Ledger, records: Any) -> None:
    late = [
        records.new(delivery={"deadline_at": NOW - HOUR, "next_action": NextAction.POLL}),
        records.new(delivery={"deadline_at": NOW - 2 * HOUR, "next_action": NextAction.DECIDE}),
    ]
    for new in (
        *late,
        records.new(delivery={"deadline_at": NOW}),
        records.new(delivery={"deadline_at": None}),
        records.new(delivery={"deadline_at": NOW - HOUR, "next_action": NextAction.NONE}),
    ):
        await ledger.record(new)
    assert await ledger.late(NOW) == [late[1].message.deliveries[0], late[0].message.deliveries[0]]


async def test_queue_depths_tell_how_much_waits_and_since_when(ledger: Ledger, records: Any) -> None:
    assert await ledger.queue_depths() == []
    for delivery in (
        {"due_at": NOW + HOUR},
        {"due_at": NOW},
        {"next_action": NextAction.POLL},
        {"next_action": NextAction.DECIDE, "due_at": None},
        {"next_action": NextAction.NONE},
        {"channel": Channel.EBOX_CITIZEN, "provider": "bosa"},
    ):
        await ledger.record(records.new(delivery=delivery))
    assert sorted(await ledger.queue_depths(), key=lambda depth: (depth.channel, depth.action)) == [
        QueueDepth(channel="ebox-citizen", action="send", count=1, oldest_due_at=NOW),
        QueueDepth(channel="print", action="decide", count=1, oldest_due_at=None),
        QueueDepth(channel="print", action="poll", count=1, oldest_due_at=NOW),
        QueueDepth(channel="print", action="send", count=2, oldest_due_at=NOW),
    ]


# erasure


async def test_messages_are_due_for_erasure_when_their_copy_is_needed_no_more(ledger: Ledger, records: Any) -> None:
    due = [
        records.new(copy_state=CopyState.KEPT, copy_until=NOW),
        records.new(copy_state=CopyState.AWAITING_ERASURE, copy_until=NOW - DAY),
    ]
    for new in (
        *due,
        records.new(copy_state=CopyState.KEPT, copy_until=NOW + timedelta(milliseconds=1)),
        records.new(copy_state=CopyState.KEPT, copy_until=None),
        records.new(copy_state=CopyState.IN_DELIVERY, copy_until=NOW),
        records.new(copy_state=CopyState.ERASED, copy_until=NOW),
    ):
        await ledger.record(new)
    assert await ledger.due_erasures(NOW, 10) == [due[1].message, due[0].message]
    assert await ledger.due_erasures(NOW, 1) == [due[1].message]


async def test_destroying_keys_takes_those_of_all_documents_and_the_retrieval(ledger: Ledger, records: Any) -> None:
    new = records.new(documents=2)
    claimed = await claim_one(ledger, new)
    *document_deks, meta = new.deks
    dek = records.dek()
    cover = records.document(dek.dek_id, kind="cover", number=0)
    retrieval = records.retrieval(claimed)
    seen = await read(ledger, new.message.message_id)
    await ledger.attach_cover(claimed, cover, dek, retrieval)  # after `seen` was read
    entry = records.log(message_id=new.message.message_id)
    assert await ledger.destroy_keys(seen, NOW + DAY, [entry])

    assert [await ledger.dek(row.dek_id) for row in (*document_deks, dek)] == [None, None, None]
    assert await ledger.dek(meta.dek_id) == meta
    assert await ledger.retrieval([(1, retrieval.token_hash)]) is None
    message = await read(ledger, new.message.message_id)
    assert (message.revision, message.copy_state) == (1, CopyState.ERASED)
    assert [document.key_destroyed_at for document in message.documents] == [NOW + DAY] * 3
    assert (await events_of(ledger, new.message.message_id))[-1] == entry.event
    with pytest.raises(LeaseLost):
        await ledger.settle(claimed, records.settlement())  # it looked at the message before


async def test_keys_are_not_destroyed_after_the_message_changed(ledger: Ledger, records: Any) -> None:
    new = records.new(copy_state=CopyState.KEPT, copy_until=NOW)
    claimed = await claim_one(ledger, new)
    await ledger.settle(claimed, records.settlement(records.change(status=DeliveryStatus.CANCELLED)))
    entry = records.log(message_id=new.message.message_id)
    assert not await ledger.destroy_keys(new.message, NOW, [entry])
    assert [await ledger.dek(dek.dek_id) for dek in new.deks] == list(new.deks)
    assert entry.event not in await events_of(ledger, new.message.message_id)
    assert not await ledger.destroy_keys(records.new().message, NOW, [])


async def test_blobs_are_erased_after_their_keys_and_only_once(ledger: Ledger, records: Any) -> None:
    new, other = records.new(documents=3), records.new()
    await ledger.record(new)
    await ledger.record(other)
    assert await ledger.blobs_to_erase(10) == []
    await ledger.destroy_keys(new.message, NOW, [])
    blobs = {document.document_id for document in new.message.documents}
    assert set(await ledger.blobs_to_erase(10)) == blobs
    assert len(await ledger.blobs_to_erase(2)) == 2
    first = next(iter(blobs))
    await ledger.blob_erased(first, NOW)
    await ledger.blob_erased(DocumentId(uuid4()), NOW)
    assert set(await ledger.blobs_to_erase(10)) == blobs - {first}


async def test_destroyed_keys_leave_the_disk_and_the_others_stay(store: Any, ledger: Ledger, records: Any) -> None:
    destroyed, kept = [], []
    for number in range(400):  # enough that rows move between pages
        new = records.new(sealed_signed_message=b"")
        await ledger.record(new)
        if number % 3:
            await ledger.destroy_keys(new.message, NOW, [])
            destroyed.append(new.deks[0].wrapped)
        else:
            kept.append(new.deks[0].wrapped)
        if number % 100 == 50:
            await store.bytes_kept()
    on_disk = await store.bytes_kept()
    assert all(wrapped in on_disk for wrapped in kept)
    # Not even a third of a key, which is where the sealed key itself would be.
    assert not any(wrapped[start : start + 24] in on_disk for wrapped in destroyed for start in range(0, 96, 16))


# care


async def test_what_was_promised_survives_a_crash(store: Any, ledger: Ledger, records: Any) -> None:
    new = records.full()
    await ledger.record(new)
    claimed = (await claim(ledger))[0]
    await ledger.settle(
        claimed, records.settlement(records.change(provider_reference="r"), message_status=MessageStatus.SCHEDULED)
    )
    await ledger.heartbeat(NOW)
    before = await read(ledger, new.message.message_id)
    after = await store.crash()
    assert await read(after, new.message.message_id) == before
    assert [await after.dek(dek.dek_id) for dek in new.deks] == list(new.deks)
    again = replace(records.new(), message=new.message, enclosures=new.enclosures)
    assert await after.record(again) is not None


async def test_what_was_asked_before_closing_is_finished(store: Any, ledger: Ledger, records: Any) -> None:
    news = [records.new() for _ in range(20)]
    tasks = [asyncio.create_task(ledger.record(new)) for new in news]
    await asyncio.sleep(0)  # every task has asked
    await ledger.close()
    assert await asyncio.gather(*tasks) == [None] * 20
    reopened = await store.open()
    assert [await reopened.message(new.message.message_id) for new in news] == [new.message for new in news]


async def test_a_closed_ledger_refuses_reads_and_writes(ledger: Ledger) -> None:
    await ledger.heartbeat(NOW)
    await ledger.close()
    await ledger.close()
    with pytest.raises(StoreUnavailable):
        await ledger.heartbeat(NOW)
    with pytest.raises(StoreUnavailable):
        await ledger.late(NOW)


async def test_a_cancelled_caller_harms_nobody(ledger: Ledger, records: Any) -> None:
    tasks = [asyncio.create_task(ledger.record(records.new())) for _ in range(10)]
    await asyncio.sleep(0)  # every task has asked
    tasks[3].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[3], asyncio.CancelledError)
    assert outcomes.count(None) == 9
    await ledger.heartbeat(NOW)


# registration and suspension


def registration(version: int, **named: Any) -> RegistrationVersion:
    made = RegistrationVersion(
        version=version, digest=os.urandom(32), author="somebody", at=NOW, text=f'{{"a":"version {version} “é”\\n"}}'
    )
    return replace(made, **named)


async def test_without_a_registration_none_is_in_force(ledger: Ledger) -> None:
    assert (await ledger.registration_number(), await ledger.registration_in_force()) == (0, None)


async def test_the_highest_registration_is_in_force_with_its_text_and_its_log_entries(
    ledger: Ledger, records: Any
) -> None:
    message_id = MessageId(uuid4())
    versions = [registration(1), registration(2, author="start-up"), registration(3, text=None)]
    for each in versions:
        entry = records.log(event=f"registration {each.version}", message_id=message_id)
        assert await ledger.add_registration(each, [entry])
        assert (await ledger.registration_number(), await ledger.registration_in_force()) == (each.version, each)
    assert await events_of(ledger, message_id) == ["registration 1", "registration 2", "registration 3"]


async def test_a_registration_that_is_not_the_next_is_not_kept_and_neither_are_its_entries(
    ledger: Ledger, records: Any
) -> None:
    message_id = MessageId(uuid4())
    first = registration(1)
    assert await ledger.add_registration(first, [])
    for version in (0, 1, 3):
        entries = [records.log(message_id=message_id)]
        assert not await ledger.add_registration(registration(version), entries)
    assert await ledger.registration_in_force() == first
    assert await events_of(ledger, message_id) == []


async def test_of_registrations_at_once_one_gets_the_number(ledger: Ledger) -> None:
    versions = [registration(1) for _ in range(10)]
    added = await asyncio.gather(*(ledger.add_registration(each, []) for each in versions))
    assert added.count(True) == 1
    assert await ledger.registration_in_force() == versions[added.index(True)]


async def test_a_registration_whose_entries_cannot_be_kept_is_not_in_force(ledger: Ledger, records: Any) -> None:
    entry = records.log()
    await ledger.append([entry])
    (outcome,) = await asyncio.gather(ledger.add_registration(registration(1), [entry]), return_exceptions=True)
    assert isinstance(outcome, Exception)
    assert await ledger.registration_number() == 0


async def test_a_registration_and_a_suspension_survive_a_crash(store: Any, ledger: Ledger) -> None:
    await ledger.add_registration(in_force := registration(1), [])
    await ledger.suspend(suspension := Suspension(sender=SENDER, at=NOW, reason="a reason"), [])
    after = await store.crash()
    assert await after.registration_in_force() == in_force
    assert await after.suspensions() == [suspension]


async def test_a_sender_is_suspended_once_and_resumed_once_each_with_its_log_entries(
    ledger: Ledger, records: Any
) -> None:
    message_id = MessageId(uuid4())

    def entries(event: str) -> list[Any]:
        return [records.log(event=event, message_id=message_id)]

    first = Suspension(sender=SENDER, at=NOW + HOUR, reason="a first “reason”")
    other = Suspension(sender=OTHER_SENDER, at=NOW, reason="another")
    assert not await ledger.resume(SENDER, entries("too early"))
    assert await ledger.suspend(first, entries("suspended"))
    assert not await ledger.suspend(replace(first, reason="a second"), entries("twice"))
    assert await ledger.suspend(other, [])
    assert await ledger.suspensions() == [other, first]
    assert [await ledger.is_suspended(sender) for sender in (SENDER, OTHER_SENDER)] == [True, True]
    assert await ledger.resume(SENDER, entries("resumed"))
    assert not await ledger.resume(SENDER, entries("twice"))
    assert [await ledger.is_suspended(sender) for sender in (SENDER, OTHER_SENDER)] == [False, True]
    assert await ledger.suspensions() == [other]
    assert await events_of(ledger, message_id) == ["suspended", "resumed"]


async def test_live_uses_count_the_messages_on_which_something_is_still_to_be_done(
    ledger: Ledger, records: Any
) -> None:
    by_box = Route(
        channels=(Channel.EBOX_CITIZEN, Channel.PRINT),
        providers={Channel.EBOX_CITIZEN: "bosa", Channel.PRINT: "house-a"},
        ebox={Channel.EBOX_CITIZEN: ("T", "APP")},
    )
    box = {"channel": Channel.EBOX_CITIZEN, "provider": "bosa"}
    polled = {"next_action": NextAction.POLL, "status": DeliveryStatus.DELIVERED}
    ended = {"next_action": NextAction.NONE, "due_at": None}
    decided = {"next_action": NextAction.DECIDE, "status": DeliveryStatus.IN_DOUBT, "due_at": None}
    news = [
        records.new(route=by_box, delivery=box),
        records.new(route=by_box, delivery=box | polled),
        records.new(route=by_box, delivery=box | decided),
        records.new(route=by_box, delivery=box | ended),
        records.new(route=by_box, delivery={"channel": Channel.PRINT}),
        records.new(delivery=polled | {"status": DeliveryStatus.DISPATCHED}),
        records.new(profile="other"),
        records.new(category="building-permit"),
        records.new(sender=OTHER_SENDER),
        records.new(delivery=ended),
    ]
    for new in news:
        assert await ledger.record(new) is None
    two = news[5].message
    both = records.new(route=by_box, delivery=box | ended)
    second = records.delivery(both.message.message_id, number=2)
    both = replace(both, message=replace(both.message, deliveries=(*both.message.deliveries, second)))
    assert await ledger.record(both) is None
    found = await ledger.live_uses()
    assert len(found) == len(set(map(repr, found)))

    def use(messages: int, to_publish: int, **named: Any) -> LiveUse:
        made = LiveUse(
            sender=SENDER,
            profile="burgerzaken",
            category="tax-assessment",
            route=two.route,
            messages=messages,
            to_publish=to_publish,
        )
        return replace(made, **named)

    expected = [
        use(5, 2, route=by_box),
        use(1, 0),
        use(1, 0, profile="other"),
        use(1, 0, category="building-permit"),
        use(1, 0, sender=OTHER_SENDER),
    ]
    assert sorted(found, key=repr) == sorted(expected, key=repr)


async def test_a_ledger_without_messages_has_no_live_uses(ledger: Ledger) -> None:
    assert await ledger.live_uses() == []


async def test_providers_are_noted_in_place_of_those_before(ledger: Ledger) -> None:
    assert await ledger.noted_providers() == frozenset()
    for names in (["bosa", "house-a"], {"house-b"}, ["house-b", "bosa"]):
        await ledger.note_providers(names)
        assert await ledger.noted_providers() == frozenset(names)
