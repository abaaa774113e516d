"""The promises of `Ledger` about batches, held against every implementation."""

import asyncio
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from gateway.domain.ids import EnterpriseNumber, MessageId
from gateway.errors import Kind, Refusal
from gateway.stores.ledger import Ledger
from gateway.stores.model import BatchLink, BatchRecord, ItemRefusal, NewItem, NewMessage

if TYPE_CHECKING:
    from tests.contract.conftest import Store

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
SENDER = EnterpriseNumber("0406798006")


def a_batch(**named: Any) -> BatchRecord:
    usual: dict[str, Any] = {
        "batch_id": uuid4(),
        "sender": SENDER,
        "profile": "burgerzaken",
        "party": EnterpriseNumber("0566988259"),
        "reference": "batch-1",
        "content_sha256": os.urandom(32),
        "accepted_at": NOW,
        "part": b"<Batch/>",
    }
    return BatchRecord(**{**usual, **named})


def item_of(batch: BatchRecord, number: int, new: NewMessage) -> NewMessage:
    return replace(new, item=NewItem(batch=batch, number=number))


def linked(number: int, new: NewMessage, *, is_proof: bool = True) -> BatchLink:
    return BatchLink(number=number, message_id=new.message.message_id, is_proof=is_proof)


async def test_a_batch_is_there_with_its_first_item_and_no_sooner(ledger: Ledger, records: Any) -> None:
    batch, new = a_batch(), records.new()
    assert await ledger.find_batch(SENDER, "burgerzaken", "batch-1") is None
    assert await ledger.batch_links(batch.batch_id) == []
    assert await ledger.record(item_of(batch, 3, new)) is None
    assert await ledger.batch(batch.batch_id) == batch
    assert await ledger.find_batch(SENDER, "burgerzaken", "batch-1") == batch
    assert await ledger.batch_links(batch.batch_id) == [linked(3, new)]
    assert await ledger.proving_batch(new.message.message_id) == batch


async def test_a_reference_is_that_of_one_sender_and_profile(ledger: Ledger, records: Any) -> None:
    batch = a_batch()
    others = [a_batch(sender=EnterpriseNumber("0316380841")), a_batch(profile="andere"), a_batch(reference="batch-2")]
    for each in (batch, *others):
        await ledger.record(item_of(each, 1, records.new()))
    for each in (batch, *others):
        assert await ledger.find_batch(each.sender, each.profile, each.reference) == each
    assert await ledger.find_batch(SENDER, "burgerzaken", "Batch-1") is None
    assert await ledger.batch(uuid4()) is None


async def test_the_first_octets_of_a_batch_stay_when_it_is_signed_anew(ledger: Ledger, records: Any) -> None:
    batch = a_batch()
    again = replace(batch, batch_id=uuid4(), part=b"<Batch>signed later</Batch>", accepted_at=NOW + timedelta(days=3))
    first, second = records.new(), records.new()
    await ledger.record(item_of(batch, 2, second))
    await ledger.record(item_of(again, 1, first))
    assert await ledger.find_batch(SENDER, "burgerzaken", "batch-1") == batch
    assert await ledger.batch(again.batch_id) is None
    assert await ledger.batch_links(batch.batch_id) == [linked(1, first), linked(2, second)]
    assert await ledger.proving_batch(first.message.message_id) == batch


async def test_of_a_batch_of_other_content_nothing_is_recorded(ledger: Ledger, records: Any) -> None:
    batch, other, new = a_batch(), a_batch(), records.new()
    await ledger.record(item_of(batch, 1, records.new()))
    for attempt in (
        lambda: ledger.record(item_of(other, 1, new)),
        lambda: ledger.link_item(other, linked(1, new, is_proof=False)),
    ):
        with pytest.raises(Refusal) as caught:
            await attempt()
        assert caught.value.kind is Kind.REFERENCE_CONFLICT
        assert caught.value.extra["batchId"] == str(batch.batch_id)
    assert await ledger.message(new.message.message_id) is None
    assert await ledger.find_reference(SENDER, new.message.profile, new.message.reference) is None
    assert await ledger.dek(new.deks[0].dek_id) is None
    # The reference of the message was not burnt, nor its quota used: it may come again, in no batch.
    assert await ledger.record(new) is None
    assert await ledger.proving_batch(new.message.message_id) is None


async def test_an_item_that_meets_a_burnt_reference_leaves_no_batch(ledger: Ledger, records: Any) -> None:
    batch, new = a_batch(), records.new()
    await ledger.record(new)
    again = records.new(reference=new.message.reference)
    known = await ledger.record(item_of(batch, 1, again))
    assert known is not None
    assert known.message_id == new.message.message_id
    assert await ledger.batch(batch.batch_id) is None


async def test_an_item_over_the_quota_leaves_no_batch(ledger: Ledger, records: Any) -> None:
    batch = a_batch()
    with pytest.raises(Refusal):
        await ledger.record(replace(item_of(batch, 1, records.new()), messages_per_day=0))
    assert await ledger.batch(batch.batch_id) is None
    assert await ledger.batch_links(batch.batch_id) == []


async def test_a_message_that_was_there_is_linked_and_not_proved(ledger: Ledger, records: Any) -> None:
    batch, new = a_batch(), records.new()
    await ledger.record(new)
    link = linked(1, new, is_proof=False)
    assert await ledger.link_item(batch, link) == link
    assert await ledger.batch_links(batch.batch_id) == [link]
    assert await ledger.proving_batch(new.message.message_id) is None
    # The first link of a place stays.
    other = BatchLink(number=1, message_id=MessageId(uuid4()), is_proof=False)
    assert await ledger.link_item(batch, other) == link
    assert await ledger.batch_links(batch.batch_id) == [link]


async def test_a_batch_survives_a_crash_with_what_was_recorded(store: "Store", records: Any) -> None:
    ledger = await store.open()
    await ledger.add_kek(records.kek)
    batch, new = a_batch(part=os.urandom(300_000)), records.new()
    await ledger.record(item_of(batch, 1, new))
    after = await store.crash()
    assert await after.find_batch(SENDER, "burgerzaken", "batch-1") == batch
    assert await after.batch_links(batch.batch_id) == [linked(1, new)]


async def test_of_two_batches_at_once_under_one_reference_one_is_kept(ledger: Ledger, records: Any) -> None:
    batches = [a_batch() for _ in range(6)]
    news = [records.new() for _ in batches]
    results = await asyncio.gather(
        *(ledger.record(item_of(batch, 1, new)) for batch, new in zip(batches, news, strict=True)),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["NoneType", *["Refusal"] * 5]
    (winner,) = [batch for batch, result in zip(batches, results, strict=True) if result is None]
    assert await ledger.find_batch(SENDER, "burgerzaken", "batch-1") == winner


@pytest.mark.parametrize("requests", [1, 8])
async def test_items_of_one_batch_at_once_are_all_recorded(ledger: Ledger, records: Any, requests: int) -> None:
    for turn in range(5):
        # Large, so that it takes a while to write it down: all may begin before one has.
        batch = a_batch(reference=f"batch-{turn}", part=os.urandom(2_000_000))
        copies = [batch] * 8 if requests == 1 else [replace(batch, batch_id=uuid4()) for _ in range(8)]
        news = [records.new() for _ in copies]
        items = [item_of(copy, place, new) for place, (copy, new) in enumerate(zip(copies, news, strict=True), start=1)]
        assert await asyncio.gather(*(ledger.record(item) for item in items)) == [None] * 8
        kept = await ledger.find_batch(SENDER, "burgerzaken", batch.reference)
        assert kept is not None
        assert await ledger.batch_links(kept.batch_id) == [linked(place + 1, new) for place, new in enumerate(news)]


async def test_the_walk_tells_the_batch_that_proves_a_message(ledger: Ledger, records: Any) -> None:
    batch = a_batch()
    alone, one, other = records.new(), records.new(), records.new()
    await ledger.record(alone)
    await ledger.record(item_of(batch, 1, one))
    await ledger.record(item_of(batch, 2, other))
    await ledger.link_item(batch, linked(3, alone, is_proof=False))
    page = await ledger.walk(after_position=0, limit=10)
    found = {audited.message.message_id: audited.batch for audited in page.messages}
    assert found == {
        alone.message.message_id: None,
        one.message.message_id: batch,
        other.message.message_id: batch,
    }


# ── Items that were refused ──


def refused(number: int, kind: Kind = Kind.DOCUMENT_MISMATCH, *, at: datetime = NOW) -> ItemRefusal:
    return ItemRefusal(number=number, kind=kind, refused_at=at)


async def test_why_an_item_was_refused_stays_readable_and_the_last_time_holds(ledger: Ledger, records: Any) -> None:
    batch, new = a_batch(), records.new()
    await ledger.record(item_of(batch, 2, new))
    assert await ledger.batch_refusals(batch.batch_id) == []
    # As whoever signed the batch anew calls it: what is meant is the one in force.
    again = replace(batch, batch_id=uuid4(), part=b"<Batch>signed later</Batch>")
    await ledger.note_refusals(again, [refused(3), refused(1, Kind.RECIPIENT_NOT_AUTHORISED)])
    assert await ledger.batch_refusals(batch.batch_id) == [refused(1, Kind.RECIPIENT_NOT_AUTHORISED), refused(3)]
    assert await ledger.batch_refusals(again.batch_id) == []
    assert await ledger.batch_links(batch.batch_id) == [linked(2, new)]
    later = refused(3, Kind.QUOTA_EXCEEDED, at=NOW + timedelta(hours=1))
    await ledger.note_refusals(batch, [later])
    await ledger.note_refusals(batch, [])
    assert await ledger.batch_refusals(batch.batch_id) == [refused(1, Kind.RECIPIENT_NOT_AUTHORISED), later]


@pytest.mark.parametrize("is_new", [True, False])
async def test_an_item_that_was_refused_is_accepted_later_and_never_again_refused(
    ledger: Ledger, records: Any, *, is_new: bool
) -> None:
    batch, new = a_batch(), records.new()
    await ledger.record(item_of(batch, 1, records.new()))
    await ledger.note_refusals(batch, [refused(2), refused(3)])
    link = linked(2, new, is_proof=is_new)
    if is_new:
        await ledger.record(item_of(batch, 2, new))
    else:
        await ledger.record(new)
        assert await ledger.link_item(batch, link) == link
    assert await ledger.batch_refusals(batch.batch_id) == [refused(3)]
    await ledger.note_refusals(batch, [refused(1), refused(2)])
    assert await ledger.batch_refusals(batch.batch_id) == [refused(3)]
    assert (await ledger.batch_links(batch.batch_id))[1:] == [link]
    assert await ledger.proving_batch(new.message.message_id) == (batch if is_new else None)


async def test_a_refusal_alone_makes_no_batch(ledger: Ledger, records: Any) -> None:
    batch = a_batch()
    await ledger.note_refusals(batch, [refused(1)])
    assert await ledger.find_batch(SENDER, "burgerzaken", "batch-1") is None
    assert await ledger.batch_refusals(batch.batch_id) == []
    # Nor is anything noted with another batch that has the reference.
    await ledger.record(item_of(batch, 1, records.new()))
    await ledger.note_refusals(a_batch(), [refused(2)])
    assert await ledger.batch_refusals(batch.batch_id) == []


async def test_an_item_refused_and_accepted_at_once_is_accepted(ledger: Ledger, records: Any) -> None:
    batch = a_batch()
    await ledger.record(item_of(batch, 500, records.new()))
    news = [records.new() for _ in range(8)]
    numbers = range(1, len(news) + 1)
    await asyncio.gather(
        *(ledger.record(item_of(batch, number, new)) for number, new in zip(numbers, news, strict=True)),
        *(ledger.note_refusals(batch, [refused(number) for number in reversed(numbers)]) for _ in range(4)),
    )
    assert await ledger.batch_refusals(batch.batch_id) == []
    assert (await ledger.batch_links(batch.batch_id))[:-1] == [
        linked(number, new) for number, new in zip(numbers, news, strict=True)
    ]
