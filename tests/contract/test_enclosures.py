"""Documents that lie in the ledger, enclosed in their message: held against every implementation."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from gateway.domain.ids import DocumentId
from gateway.errors import Kind, Refusal, StoreUnavailable
from gateway.stores.ledger import Ledger
from gateway.stores.model import Listing, NewMessage

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
LARGE = 1_048_576


def ids_of(new: NewMessage) -> list[DocumentId]:
    return [document.document_id for document in new.message.documents]


async def kept(ledger: Ledger, new: NewMessage) -> list[bytes | None]:
    """Return what is enclosed in a message, document by document."""
    return [await ledger.enclosure(document_id) for document_id in ids_of(new)]


async def strays(ledger: Ledger) -> list[Any]:
    return [each.id for each in await ledger.listed(Listing.STRAY_ENCLOSURES, after=None, limit=100)]


async def audited(ledger: Ledger, new: NewMessage) -> Any:
    page = await ledger.walk(after_position=0, limit=100)
    return next(each for each in page.messages if each.message.message_id == new.message.message_id)


@pytest.mark.parametrize("size_bytes", [1, 137, 20_500, LARGE])
async def test_what_is_enclosed_comes_back_byte_for_byte(ledger: Ledger, records: Any, size_bytes: int) -> None:
    new = records.enclosing(os.urandom(size_bytes))
    await ledger.record(new)
    assert await kept(ledger, new) == list(new.enclosures.values())
    assert await ledger.message(new.message.message_id) == new.message
    found = await audited(ledger, new)
    assert found.enclosures == {ids_of(new)[0]: size_bytes}
    assert found.blobs_erased == frozenset()


async def test_what_is_enclosed_survives_a_crash(store: Any, ledger: Ledger, records: Any) -> None:
    new = records.enclosing(b"one", b"two")
    await ledger.record(new)
    after = await store.crash()
    assert await kept(after, new) == [b"one", b"two"]


async def test_what_is_not_enclosed_has_no_enclosure(ledger: Ledger, records: Any) -> None:
    new = records.new()
    await ledger.record(new)
    assert await kept(ledger, new) == [None]
    assert await ledger.enclosure(DocumentId(uuid4())) is None
    assert (await audited(ledger, new)).enclosures == {}


async def test_a_message_that_is_not_recorded_leaves_no_enclosure(ledger: Ledger, records: Any) -> None:
    first = records.enclosing(b"first")
    await ledger.record(first)
    again = records.enclosing(b"again", reference=first.message.reference)
    assert await ledger.record(again) is not None
    beyond = records.enclosing(b"beyond", messages_per_day=1)
    with pytest.raises(Refusal) as refused:
        await ledger.record(beyond)
    assert refused.value.kind is Kind.QUOTA_EXCEEDED
    assert [*await kept(ledger, first), *await kept(ledger, again), *await kept(ledger, beyond)] == [
        b"first",
        None,
        None,
    ]
    assert await strays(ledger) == []


@pytest.mark.parametrize("enclosures", [{}, {DocumentId(uuid4()): b"of nobody"}])
def test_a_message_without_the_bytes_of_its_documents_cannot_be_made(records: Any, enclosures: Any) -> None:
    with pytest.raises(ValueError, match="the enclosures are not those"):
        replace(records.enclosing(b"one"), enclosures=enclosures)


async def test_enclosures_go_with_the_keys_and_leave_no_blob_to_erase(ledger: Ledger, records: Any) -> None:
    gone, stays = records.enclosing(b"one", b"two"), records.enclosing(b"three")
    for new in (gone, stays):
        await ledger.record(new)
    assert await ledger.destroy_keys(gone.message, NOW, [])
    assert [*await kept(ledger, gone), *await kept(ledger, stays)] == [None, None, b"three"]
    assert await ledger.blobs_to_erase(10) == []
    late = await ledger.late_counts(NOW + timedelta(days=1), erased_within=timedelta(hours=1))
    assert late.blobs.count == 0
    found = await audited(ledger, gone)
    assert (found.enclosures, found.blobs_erased) == ({}, frozenset(ids_of(gone)))
    assert [document.key_destroyed_at for document in found.message.documents] == [NOW, NOW]
    assert await strays(ledger) == []


async def test_of_a_mixed_message_only_the_others_have_blobs(ledger: Ledger, records: Any) -> None:
    new = records.mixed(b"small")
    await ledger.record(new)
    small, large = ids_of(new)
    assert await ledger.tombstone([large], NOW) == []  # its blob is needed
    assert await ledger.destroy_keys(new.message, NOW, [])
    assert await ledger.blobs_to_erase(10) == [large]
    assert (await audited(ledger, new)).blobs_erased == {small}
    await ledger.blob_erased(large, NOW)
    assert (await audited(ledger, new)).blobs_erased == {small, large}


async def test_keys_that_stay_keep_their_enclosures(ledger: Ledger, records: Any) -> None:
    new = records.enclosing(b"one")
    await ledger.record(new)
    assert not await ledger.destroy_keys(replace(new.message, revision=7), NOW, [])
    assert await kept(ledger, new) == [b"one"]


async def test_tombstones_do_not_concern_what_is_enclosed(ledger: Ledger, records: Any) -> None:
    before, after = records.enclosing(b"before"), records.enclosing(b"after")
    assert await ledger.tombstone(ids_of(before), NOW) == ids_of(before)
    assert await ledger.record(before) is None
    assert await ledger.record(after) is None
    assert await ledger.tombstone(ids_of(after), NOW) == ids_of(after)  # so a blob of that id is an orphan
    for new in (before, after):
        assert await kept(ledger, new) == list(new.enclosures.values())
        assert await ledger.destroy_keys(new.message, NOW, [])
        assert await kept(ledger, new) == [None]


async def test_a_tombstone_on_the_other_document_refuses_the_whole_message(ledger: Ledger, records: Any) -> None:
    new = records.mixed(b"small")
    await ledger.tombstone([ids_of(new)[1]], NOW)
    with pytest.raises(StoreUnavailable):
        await ledger.record(new)
    assert await kept(ledger, new) == [None, None]


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM document WHERE document_id = $1", "UPDATE document SET enclosed = (1 = 0) WHERE document_id = $1"],
    ids=["no document", "not enclosed"],
)
async def test_an_enclosure_of_nothing_is_a_stray(ledger: Ledger, records: Any, store: Any, statement: str) -> None:
    damage: Callable[..., Awaitable[None]] = store.damage
    new, other = records.enclosing(b"one"), records.enclosing(b"other")
    for each in (new, other):
        await ledger.record(each)
    assert await strays(ledger) == []
    await damage(statement, ids_of(new)[0])
    assert await strays(ledger) == ids_of(new)


async def test_an_enclosure_that_is_gone_is_not_there(ledger: Ledger, records: Any, store: Any) -> None:
    new = records.enclosing(b"one", b"two")
    await ledger.record(new)
    first, second = ids_of(new)
    await store.damage("DELETE FROM enclosure WHERE document_id = $1", first)
    assert await kept(ledger, new) == [None, b"two"]
    assert (await audited(ledger, new)).enclosures == {second: 3}
