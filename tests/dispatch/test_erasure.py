"""What is kept of a letter, for how long, and that nothing of it is left afterwards."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from gateway.demo.recipient import fetch_first_document, read_cover
from gateway.domain.message import PostalAddress, PrintOptions, PrintProduct
from gateway.domain.retention import CopyState
from gateway.simulators import magic
from gateway.simulators.magic import PrintFate

KEPT_FOR = timedelta(days=365)  # what the sender's file says
UNDELIVERED_FOR = timedelta(days=30)  # what the configuration says


def erased(record: Any) -> bool:
    return bool(record.copy_state == CopyState.ERASED)


@pytest.fixture(params=[0, 131_072], ids=["as blobs", "enclosed"])
async def bench(make_bench: Any, request: pytest.FixtureRequest) -> Any:
    """A gateway where every document is a blob, or where the sender's are enclosed in the ledger."""
    return await make_bench(
        change=lambda values: values.setdefault("stores", {}).update(enclose_up_to_bytes=request.param)
    )


async def gone(bench: Any, record: Any) -> None:
    """Wait until no document of a message is left, and check that no key is."""
    own = {document.document_id for document in record.documents}
    await bench.until(record.message_id, lambda _: not own & bench.document_ids(), leaping=False)
    assert await bench.keys_left(record) == [False] * len(record.documents)


async def test_nothing_is_kept_of_a_letter_once_its_ebox_has_it(bench: Any) -> None:
    message_id = await bench.send(channels=("ebox-citizen",))
    record = await bench.until(message_id, erased, leaping=False)
    assert record.status == "delivered"
    await gone(bench, record)
    view = await bench.sender.view(str(message_id))
    assert view["copy"]["state"] == "erased"
    assert view["timeline"][-1]["event"] == "erased"
    assert view["documents"][0]["sha256"] == hashlib.sha256(bench.house.pdf).hexdigest()


async def test_every_document_goes_and_those_of_other_letters_stay(bench: Any) -> None:
    contents = [bench.house.pdf, bench.house.pdf + b"\n% enclosure"]
    stays = await bench.record(await bench.send(deliver_not_before=days_ahead(3)))
    message = await bench.sender.accepted(contents, channels=("ebox-citizen",))
    await bench.sender.until(message, lambda view: view["copy"]["state"] == "erased")
    left = {document.document_id for document in stays.documents}
    await bench.until(stays.message_id, lambda _: bench.document_ids() == left, leaping=False)
    assert await bench.keys_left(stays) == [True]


async def test_what_was_printed_stays_for_its_term_and_its_recipient_can_fetch_it(bench: Any) -> None:
    message_id = await bench.send(channels=("print",))
    record = await bench.settled(message_id)
    (delivery,) = record.deliveries
    assert (record.copy_state, record.copy_until) == (CopyState.KEPT, delivery.posted_at + KEPT_FOR)
    assert await bench.keys_left(record) == [True, True]  # the letter and its cover page
    assert await fetched(bench) == bench.house.pdf
    view = await bench.sender.view(str(message_id))
    assert view["copy"] == {"state": "kept", "until": view["copy"]["until"], "retrievals": 1}


async def test_the_copy_of_a_printed_letter_ends_with_its_term(bench: Any) -> None:
    later = await bench.send(channels=("ebox-citizen",), deliver_not_before=days_ahead(366))
    record = await bench.settled(await bench.send(channels=("print",), retention=timedelta(days=90)))
    assert record.copy_until == record.deliveries[0].posted_at + timedelta(days=90)
    bench.clock.leap_to(record.copy_until - timedelta(minutes=1))
    assert await fetched(bench) == bench.house.pdf
    bench.clock.leap(timedelta(minutes=2))
    await bench.settled(later)  # an outcome starts a sweep
    await gone(bench, await bench.until(record.message_id, erased))
    with pytest.raises(aiohttp.ClientResponseError):
        await fetched(bench)


async def test_what_could_not_be_delivered_is_kept_for_the_sender_to_think_about(bench: Any) -> None:
    later = await bench.send(channels=("ebox-citizen",), deliver_not_before=days_ahead(31))
    record = await bench.settled(await bench.send(ssin=magic.CITIZEN_REFUSED, channels=("ebox-citizen",)))
    assert record.status == "undeliverable"
    assert record.copy_state == CopyState.AWAITING_ERASURE
    assert record.copy_until == record.deliveries[0].status_at + UNDELIVERED_FOR
    assert {document.document_id for document in record.documents} <= bench.document_ids()
    assert await bench.keys_left(record) == [True]
    await bench.settled(later)
    await gone(bench, await bench.until(record.message_id, erased))


async def test_registered_mail_that_nobody_took_is_kept_as_long_as_undelivered_mail(bench: Any) -> None:
    address = PostalAddress(
        name=magic.PRINT_NAMES[PrintFate.NOT_COLLECTED],
        street="Kerkstraat",
        house_number="12",
        postcode="9000",
        municipality="Gent",
        country="BE",
    )
    registered = PrintOptions(product=PrintProduct.REGISTERED)
    message_id = await bench.send(address=address, channels=("print",), print_options=registered)
    record = await bench.until(message_id, lambda record: record.status == "returned")
    assert record.copy_state == CopyState.AWAITING_ERASURE
    assert record.copy_until == record.deliveries[0].status_at + UNDELIVERED_FOR


async def test_a_letter_in_doubt_is_kept_however_long_nobody_decides(bench: Any) -> None:
    later = await bench.send(channels=("ebox-citizen",), deliver_not_before=days_ahead(300))
    record = await bench.settled(await bench.send(ssin=magic.CITIZEN_DOUBT, channels=("ebox-citizen",)))
    assert (record.status, record.copy_until) == ("needs-decision", None)
    await bench.until(later, erased)
    record = await bench.record(record.message_id)
    assert (record.copy_state, await bench.keys_left(record)) == (CopyState.IN_DELIVERY, [True])
    assert {document.document_id for document in record.documents} <= bench.document_ids()


async def fetched(bench: Any) -> bytes:
    """Do what the recipient of the first paper letter does."""
    cover = read_cover(bench.print_house.records.kept[0].documents[0].content)
    assert cover is not None
    async with aiohttp.ClientSession() as session:
        return await fetch_first_document(session, bench.house.portal_url, cover)


def days_ahead(days: int) -> datetime:
    return (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)
