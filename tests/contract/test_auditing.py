"""The promises of `Ledger` to `gateway verify`, held against every implementation."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway.domain.ids import EnterpriseNumber
from gateway.domain.retention import CopyState, Keep
from gateway.domain.status import DeliveryStatus, MessageStatus, NextAction
from gateway.stores.ledger import Ledger
from gateway.stores.model import (
    AuditedMessage,
    Claim,
    DeliveryRecord,
    KnownReference,
    Listing,
    NewMessage,
)

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SENDER = EnterpriseNumber("0406798006")
OTHER_SENDER = EnterpriseNumber("0566988259")


async def walked(ledger: Ledger, *, limit: int = 100) -> list[AuditedMessage]:
    """Return what the whole walk finds, page by page."""
    found: list[AuditedMessage] = []
    position: int | None = 0
    while position is not None:
        page = await ledger.walk(after_position=position, limit=limit)
        assert len(page.messages) <= limit
        assert page.unreadable == ()
        found += page.messages
        position = page.next_position
    return found


async def ids(ledger: Ledger, what: Listing, *, limit: int = 100) -> list[UUID]:
    """Return all ids of a listing, page by page."""
    found: list[UUID] = []
    after: UUID | None = None
    while page := await ledger.listed(what, after=after, limit=limit):
        assert len(page) <= limit
        found += [each.id for each in page]
        after = page[-1].row
    return found


async def recorded(ledger: Ledger, new: NewMessage) -> NewMessage:
    assert await ledger.record(new) is None
    return new


async def claimed(ledger: Ledger) -> Claim:
    (claim,) = await ledger.claim("w1", lease=MINUTE, limit=1, providers=["house-a"])
    return claim


async def test_a_walk_through_an_empty_ledger_finds_nothing(ledger: Ledger) -> None:
    assert await walked(ledger) == []
    for what in Listing:
        assert await ids(ledger, what) == []
    assert await ledger.feeds_with_gaps() == []


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_a_walk_meets_every_message_once(ledger: Ledger, records: Any, limit: int) -> None:
    news = [await recorded(ledger, records.new()) for _ in range(5)]
    found = [each.message.message_id for each in await walked(ledger, limit=limit)]
    assert sorted(found) == sorted(new.message.message_id for new in news)


async def test_a_new_message_comes_with_its_keys_reference_and_log(ledger: Ledger, records: Any) -> None:
    new = await recorded(ledger, records.new(documents=2))
    await recorded(ledger, records.new())
    (found,) = [each for each in await walked(ledger) if each.message.message_id == new.message.message_id]
    assert found.message == new.message
    assert found.reference == KnownReference(
        message_id=new.message.message_id, content_sha256=new.message.content_sha256
    )
    assert found.keys == {row.dek_id: row for row in new.deks}
    assert [entry.event for entry in found.timeline] == [new.logs[0].event]
    assert (found.attempts, found.leases, found.retrievals, found.blobs_erased) == ((), {}, frozenset(), frozenset())


async def test_a_delivery_comes_with_its_attempts_and_its_lease(ledger: Ledger, records: Any) -> None:
    await recorded(ledger, records.new())
    claim = await claimed(ledger)
    (found,) = await walked(ledger)
    delivery_id = claim.delivery.delivery_id
    assert found.leases == {delivery_id: NOW + MINUTE}
    await ledger.begin_attempt(claim, longest=2 * MINUTE, settle=MINUTE)
    (found,) = await walked(ledger)
    (attempt,) = found.attempts
    assert (attempt.delivery_id, attempt.number, attempt.action) == (delivery_id, 1, "send")
    assert (attempt.started_at, attempt.ended_at, attempt.outcome) == (NOW, None, None)
    await ledger.settle(claim, records.settlement(records.change(attempt_outcome="accepted")))
    (found,) = await walked(ledger)
    (attempt,) = found.attempts
    assert (attempt.ended_at, attempt.outcome) == (NOW + MINUTE, "accepted")
    assert found.leases == {}


async def test_a_cover_page_comes_with_its_retrieval(ledger: Ledger, records: Any) -> None:
    new = await recorded(ledger, records.new())
    claim, dek = await claimed(ledger), records.dek()
    cover = records.document(dek.dek_id, kind="cover", number=0, delivery_id=claim.delivery.delivery_id)
    await ledger.attach_cover(claim, cover, dek, records.retrieval(claim))
    (found,) = await walked(ledger)
    assert found.retrievals == {claim.delivery.delivery_id}
    assert found.keys.keys() == {dek.dek_id, *(row.dek_id for row in new.deks)}


async def erased(ledger: Ledger, records: Any) -> NewMessage:
    """Return a message that was delivered and whose documents were erased."""
    new = await recorded(ledger, records.new(documents=2))
    claim = await claimed(ledger)
    await ledger.begin_attempt(claim, longest=MINUTE, settle=MINUTE)
    change = records.change(status=DeliveryStatus.DELIVERED, next_action=NextAction.NONE, due_at=None, deadline_at=None)
    keep = Keep(state=CopyState.AWAITING_ERASURE, until=NOW)
    await ledger.settle(claim, records.settlement(change, message_status=MessageStatus.DELIVERED, keep=keep))
    (due,) = await ledger.due_erasures(NOW, 10)
    assert await ledger.destroy_keys(due, NOW, [])
    return new


async def test_destroyed_keys_are_no_keys_and_erased_blobs_are_told(ledger: Ledger, records: Any) -> None:
    new = await erased(ledger, records)
    (found,) = await walked(ledger)
    assert found.keys.keys() == {new.message.meta_dek_id}
    assert found.blobs_erased == frozenset()
    first, second = (document.document_id for document in new.message.documents)
    await ledger.blob_erased(first, NOW)
    (found,) = await walked(ledger)
    assert found.blobs_erased == {first}
    await ledger.blob_erased(second, NOW)
    (found,) = await walked(ledger)
    assert found.blobs_erased == {first, second}
    assert await ids(ledger, Listing.KEYS) == [new.message.meta_dek_id]


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_keys_and_their_owners_are_listed(ledger: Ledger, records: Any, limit: int) -> None:
    new = await recorded(ledger, records.new(documents=3))
    dossier_deks = [records.dek(purpose="meta") for _ in range(3)]
    await ledger.add_dossiers([records.dossier(dek.dek_id) for dek in dossier_deks], dossier_deks)
    log_keys = [records.dek(purpose="log") for _ in range(3)]
    for year, dek in enumerate(log_keys, start=2024):
        await ledger.add_log_key(records.kek.sender_id, year, dek)
    for what, rows in (
        (Listing.KEYS, [*new.deks, *dossier_deks, *log_keys]),
        (Listing.KEYS_OF_DOSSIERS, dossier_deks),
        (Listing.KEYS_OF_LOGS, log_keys),
    ):
        assert sorted(await ids(ledger, what, limit=limit)) == sorted(row.dek_id for row in rows)


async def test_tombstones_are_listed_and_needed_blobs_are_not(ledger: Ledger, records: Any) -> None:
    new = await recorded(ledger, records.new())
    forbidden = await ledger.tombstone([uuid4(), new.message.documents[0].document_id, uuid4()], NOW)
    assert sorted(await ids(ledger, Listing.TOMBSTONES, limit=1)) == sorted(forbidden)


async def test_what_the_ledger_wrote_itself_has_no_strays(ledger: Ledger, records: Any) -> None:
    await erased(ledger, records)
    await recorded(ledger, records.new())
    claim, dek = await claimed(ledger), records.dek()
    cover = records.document(dek.dek_id, kind="cover", number=0, delivery_id=claim.delivery.delivery_id)
    await ledger.attach_cover(claim, cover, dek, records.retrieval(claim))
    await ledger.begin_attempt(claim, longest=MINUTE, settle=MINUTE)
    await recorded(ledger, records.new())
    for what in (
        Listing.STRAY_REFERENCES,
        Listing.STRAY_DOCUMENTS,
        Listing.STRAY_ENCLOSURES,
        Listing.STRAY_DELIVERIES,
        Listing.STRAY_ATTEMPTS,
        Listing.STRAY_RETRIEVALS,
        Listing.MISQUEUED,
    ):
        assert await ids(ledger, what) == []


async def test_feeds_have_no_gaps_at_any_time(ledger: Ledger, records: Any) -> None:
    def entries(new: NewMessage) -> NewMessage:
        log = records.log(message_id=new.message.message_id, sender=new.message.sender, profile=new.message.profile)
        return replace(new, logs=(log,))

    for sender in (SENDER, SENDER, OTHER_SENDER, SENDER):
        await recorded(ledger, entries(records.new(sender=sender)))
    assert await ledger.feeds_with_gaps() == []
    await ledger.number_events(at=NOW, limit=3)
    assert await ledger.feeds_with_gaps() == []
    await ledger.number_events(at=NOW + MINUTE, limit=100)
    assert await ledger.feeds_with_gaps() == []
    assert await ledger.forget_events(numbered_before=NOW + MINUTE, limit=2) == 2
    assert await ledger.feeds_with_gaps() == []
    await ledger.forget_events(numbered_before=NOW + 2 * MINUTE, limit=100)
    assert await ledger.feeds_with_gaps() == []


# ── Damage, by hand ──

Damage = Callable[..., Awaitable[None]]


@pytest.fixture
def damage(store: Any) -> Damage:
    """Return a function that runs a statement past all promises, with `$1` for an id."""
    run: Damage = store.damage
    return run


async def one_under_way(ledger: Ledger, records: Any) -> tuple[NewMessage, DeliveryRecord]:
    new = await recorded(ledger, records.new())
    claim, dek = await claimed(ledger), records.dek()
    cover = records.document(dek.dek_id, kind="cover", number=0, delivery_id=claim.delivery.delivery_id)
    await ledger.attach_cover(claim, cover, dek, records.retrieval(claim))
    await ledger.begin_attempt(claim, longest=MINUTE, settle=MINUTE)
    return new, claim.delivery


async def test_rows_without_their_message_are_strays(ledger: Ledger, records: Any, damage: Damage) -> None:
    new, delivery = await one_under_way(ledger, records)
    message_id = new.message.message_id
    await damage("DELETE FROM message WHERE message_id = $1", message_id)
    assert await walked(ledger) == []
    assert await ids(ledger, Listing.STRAY_REFERENCES) == [message_id]
    assert len(await ids(ledger, Listing.STRAY_DOCUMENTS, limit=1)) == 2  # the letter and its cover page
    assert await ids(ledger, Listing.STRAY_DELIVERIES) == [delivery.delivery_id]
    assert await ids(ledger, Listing.STRAY_ATTEMPTS) == []
    await damage("DELETE FROM delivery WHERE delivery_id = $1", delivery.delivery_id)
    assert await ids(ledger, Listing.STRAY_ATTEMPTS) == [delivery.delivery_id]
    assert await ids(ledger, Listing.STRAY_RETRIEVALS) == [delivery.delivery_id]


async def test_a_reference_of_another_name_is_a_stray(ledger: Ledger, records: Any, damage: Damage) -> None:
    new = await recorded(ledger, records.new())
    await damage("UPDATE reference SET reference = 'other-1' WHERE message_id = $1", new.message.message_id)
    assert await ids(ledger, Listing.STRAY_REFERENCES) == [new.message.message_id]
    (found,) = await walked(ledger)
    assert found.reference is None


async def test_a_key_that_is_destroyed_in_name_only_is_a_key(ledger: Ledger, records: Any, damage: Damage) -> None:
    new = await recorded(ledger, records.new())
    (document,) = new.message.documents
    await damage("UPDATE dek SET destroyed = (1 = 1) WHERE dek_id = $1", document.dek_id)
    assert await ledger.dek(document.dek_id) is None
    (found,) = await walked(ledger)
    assert document.dek_id in found.keys
    assert document.dek_id in await ids(ledger, Listing.KEYS)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE message SET status = 'teleported' WHERE message_id = $1",
        "UPDATE message SET route = '{' WHERE message_id = $1",
        "UPDATE delivery SET channel = 'pigeon' WHERE message_id = $1",
    ],
)
async def test_a_row_that_is_no_message_is_told_and_the_others_are_met(
    ledger: Ledger, records: Any, damage: Damage, statement: str
) -> None:
    news = [await recorded(ledger, records.new()) for _ in range(3)]
    broken = news[1].message
    await damage(statement, broken.message_id)
    page = await ledger.walk(after_position=0, limit=100)
    assert sorted(each.message.message_id for each in page.messages) == sorted(
        new.message.message_id for new in (news[0], news[2])
    )
    (told,) = page.unreadable
    assert told.message_id == broken.message_id.hex
    assert told.documents == tuple(document.document_id for document in broken.documents)
    assert sorted(told.keys) == sorted(row.dek_id for row in news[1].deks)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM feed_event WHERE number = 1",
        "DELETE FROM feed_event WHERE number = 2",
        "DELETE FROM feed_event WHERE number = 3",
        "DELETE FROM feed_event",
        "DELETE FROM feed",
        "UPDATE feed SET last_number = 4",
        "UPDATE feed SET removed_through = 1",
        "UPDATE feed_event SET number = 9 WHERE number = 3",
    ],
)
async def test_a_feed_with_a_gap_is_told(ledger: Ledger, records: Any, damage: Damage, statement: str) -> None:
    for _ in range(3):
        new = records.new()
        log = records.log(message_id=new.message.message_id, sender=SENDER, profile="burgerzaken")
        await recorded(ledger, replace(new, logs=(log,)))
    await ledger.number_events(at=NOW, limit=100)
    assert await ledger.feeds_with_gaps() == []
    await damage(statement)
    assert await ledger.feeds_with_gaps() == [SENDER]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM queue WHERE delivery_id = $1",
        "UPDATE queue SET due_at = NULL WHERE delivery_id = $1",
        "UPDATE queue SET deadline_at = NULL WHERE delivery_id = $1",
        "UPDATE queue SET next_action = 'poll' WHERE delivery_id = $1",
        "UPDATE queue SET status = 'accepted' WHERE delivery_id = $1",
        "UPDATE delivery SET next_action = 'none', due_at = NULL, deadline_at = NULL WHERE delivery_id = $1",
    ],
)
@pytest.mark.parametrize("store", ["postgres"], indirect=True)  # elsewhere a delivery is its own queue entry
async def test_a_queue_that_disagrees_is_told(ledger: Ledger, records: Any, damage: Damage, statement: str) -> None:
    await recorded(ledger, records.new())
    _, delivery = await one_under_way(ledger, records)
    assert await ids(ledger, Listing.MISQUEUED) == []
    await damage(statement, delivery.delivery_id)
    assert await ids(ledger, Listing.MISQUEUED) == [delivery.delivery_id]
