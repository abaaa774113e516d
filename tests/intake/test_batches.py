"""Batches over the real server: each item by itself, and everything that a request may do to them."""

import asyncio
import hashlib
import json
import os
import subprocess
import tracemalloc
import zipfile
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from cryptography import x509

from gateway.crypto.batches import read_stored_batch, sign_batch
from gateway.crypto.dialects import Dialect
from gateway.domain.ids import EnterpriseNumber, Ssin
from gateway.domain.message import Lane, Recipient
from gateway.errors import StoreUnavailable
from gateway.simulators.magic import CITIZEN_NO_BOX
from gateway.stores.model import NewMessage
from gateway.stores.sqlite.ledger import SqliteLedger

if TYPE_CHECKING:
    from tests.plugins.house import Answer, House, Part, SenderHand
else:
    from house import Answer, House, Part, SenderHand

BATCHES = "/api/v1/batches"
SIZE = int(os.environ.get("BATCH_SIZE", "50"))  # `make batch` takes 500
OTHER_PDF = b"%PDF-1.7 another letter"


async def test_each_item_has_an_outcome_of_its_own_and_the_same_one_again(intake: House, batches: Any) -> None:
    """One document differs, one reference was used before, one recipient is not authorised; the others are taken."""
    sender = await intake.sender()
    batch = batches.batch_of(sender, SIZE)
    used = await sender.accepted(reference=batch.messages[9].reference, subject="Een andere brief")
    batch.messages[19] = replace(batch.messages[19], category="building-permit")
    parts = batch.parts()
    (place,) = [number for number, part in enumerate(parts) if part.name == "m5-upfile1"]
    parts[place] = replace(parts[place], content=bytes(len(parts[place].content)))

    answer = await batch.send(parts)
    assert answer.status == 200, answer.body
    items = answer.json["items"]
    wrong = {5: "document-mismatch", 10: "reference-conflict", 20: "recipient-not-authorised"}
    assert batches.outcomes(items) == [wrong.get(number, "accepted") for number in range(1, SIZE + 1)]
    assert [item["number"] for item in items] == list(range(1, SIZE + 1))
    assert len({item["receipt"] for item in items if "receipt" in item}) == SIZE - len(wrong)
    assert items[9]["problem"]["messageId"] == used
    assert items[9]["problem"]["differingFields"] == ["/subject/text"]
    assert items[4]["problem"]["errors"][0]["pointer"] == "/upfile1"
    assert without_instances(await batch.send(parts)) == without_instances(answer)


def without_instances(answer: Answer) -> Any:
    """The answer but for the correlation ids in it."""
    body = answer.json
    for item in body["items"]:
        item.get("problem", {}).pop("instance", None)
    return body


@pytest.mark.parametrize("dialect", [*Dialect])
async def test_a_batch_in_either_dialect_is_looked_at_and_stopped(
    intake: House, batches: Any, inside: Any, dialect: Dialect
) -> None:
    sender = await intake.sender()
    batch = batches.batch_of(sender, 3, dialect=dialect)
    batch.messages[1] = replace(batch.messages[1], lane=Lane.SINGLE)
    answer = await batch.send(batch.parts([1, 2]))
    assert batches.outcomes(answer.json["items"]) == ["accepted", "accepted", "missing"]
    path = f"{BATCHES}/{answer.json['batchId']}"
    assert answer.headers["Location"].endswith(path)

    rows = await inside(intake).query("SELECT lane FROM message ORDER BY position")
    assert rows == [("bulk",), ("single",)]
    view = (await sender.call("GET", path)).json
    assert view["items"] == answer.json["items"]
    assert (view["batchId"], view["reference"], view["profile"]) == (
        answer.json["batchId"],
        batch.reference,
        "burgerzaken",
    )

    stopped = await sender.call("POST", path + "/cancel")
    assert [item["outcome"] for item in stopped.json["items"]] == ["cancelled", "cancelled", "missing"]
    assert [item.get("status") for item in (await sender.call("GET", path)).json["items"]] == [
        "cancelled",
        "cancelled",
        None,
    ]
    # What was not there can still come, under the same batch.
    assert batches.outcomes(await batch.taken(batch.parts([3]))) == ["accepted"] * 3


async def test_what_was_dispatched_cannot_be_stopped_and_says_so(house: House, batches: Any) -> None:
    sender = await house.sender()
    batch = batches.batch_of(sender, 2)
    batch.messages[0] = replace(batch.messages[0], deliver_not_before=batch.created_at + timedelta(days=1))
    answer = await batch.send()
    await sender.until(answer.json["items"][1]["messageId"], lambda view: view["status"] == "delivered")
    stopped = await sender.call("POST", f"{BATCHES}/{answer.json['batchId']}/cancel")
    assert stopped.status == 200
    assert [(item["outcome"], item["status"]) for item in stopped.json["items"]] == [
        ("cancelled", "cancelled"),
        ("already-dispatched", "delivered"),
    ]


async def test_only_the_certificates_profiles_see_a_batch(intake: House, batches: Any) -> None:
    sender, stranger = await intake.sender(), await intake.sender("belasting")
    batch_id = (await batches.batch_of(sender, 1).send()).json["batchId"]
    for wanted in (batch_id, str(uuid4()), "none"):
        assert (await stranger.call("GET", f"{BATCHES}/{wanted}")).code == "not-found"
        assert (await stranger.call("POST", f"{BATCHES}/{wanted}/cancel")).code == "not-found"


async def test_a_message_that_was_there_before_is_repeated(intake: House, batches: Any) -> None:
    sender = await intake.sender()
    batch = batches.batch_of(sender, 2)
    alone = await sender.post(sender.parts(batch.messages[0]))
    items = await batch.taken()
    assert batches.outcomes(items) == ["repeated", "accepted"]
    assert (items[0]["messageId"], items[0]["receipt"]) == (alone.json["messageId"], alone.json["receipt"])
    other = batches.BatchHand(sender, batch.messages)
    assert batches.outcomes(await other.taken()) == ["repeated", "repeated"]
    # And the other way round: content is the same in either proof.
    again = await sender.post(sender.parts(batch.messages[1]))
    assert (again.status, again.json["messageId"]) == (200, items[1]["messageId"])
    conflict = await sender.send(reference=batch.messages[1].reference, subject="Een andere brief")
    assert conflict.json["differingFields"] == ["/subject/text"]


async def test_other_content_under_a_batchs_reference_is_a_conflict(intake: House, batches: Any) -> None:
    sender = await intake.sender()
    batch = batches.batch_of(sender, 2)
    first = await batch.send()
    other = batches.batch_of(sender, 3, reference=batch.reference)
    other.messages[0] = batch.messages[0]
    answer = await other.send()
    assert answer.code == "reference-conflict"
    assert answer.json["batchId"] == first.json["batchId"]
    assert answer.json["differingFields"] == ["/items/1", "/items/2"]


async def test_a_batch_of_which_nothing_was_taken_leaves_its_reference_free(
    intake: House, batches: Any, inside: Any
) -> None:
    sender = await intake.sender()
    batch = batches.batch_of(sender, 1)
    answer = await batch.send([batch.signed(), *batch.item(1, [OTHER_PDF])])
    assert answer.json["batchId"] is None
    assert "Location" not in answer.headers
    assert batches.outcomes(answer.json["items"]) == ["document-mismatch"]
    assert await inside(intake).query("SELECT * FROM batch") == []
    other = batches.batch_of(sender, 1, reference=batch.reference)
    assert batches.outcomes(await other.taken()) == ["accepted"]


# ── What became of each item stays readable ──


def noted(items: list[Any]) -> list[str]:
    """What became of each item; of one that was refused before the code, for there is no problem in full any more."""
    assert all(("refusedAt" in item, "problem" in item) == (item["outcome"] == "refused", False) for item in items)
    return [item.get("code", item["outcome"]) for item in items]


async def test_who_lost_the_answer_learns_what_became_of_each_item(intake: House, batches: Any, inside: Any) -> None:
    sender = await intake.sender()
    batch = batches.batch_of(sender, 5)
    await sender.accepted(reference=batch.messages[1].reference, subject="Een andere brief")
    batch.messages[3] = replace(batch.messages[3], category="building-permit")
    # The first is refused before there is a batch at all.
    answer = await batch.send([batch.signed(), *batch.item(1, [OTHER_PDF]), *batch.parts([2, 3, 4])[1:]])
    told = ["document-mismatch", "reference-conflict", "accepted", "recipient-not-authorised", "missing"]
    assert batches.outcomes(answer.json["items"]) == told
    assert [item.get("code") for item in answer.json["items"]] == [*told[:2], None, told[3], None]

    asked = await batch.send([batch.signed()])
    assert asked.json["batchId"] == answer.json["batchId"]
    assert noted(asked.json["items"]) == told
    path = f"{BATCHES}/{answer.json['batchId']}"
    assert (await sender.call("GET", path)).json["items"] == asked.json["items"]
    stopped = await sender.call("POST", path + "/cancel")
    assert [item["outcome"] for item in stopped.json["items"]] == [
        "refused", "refused", "cancelled", "refused", "missing",
    ]  # fmt: skip
    # The first and the last are sent again under the same batch; the others stay as they are.
    assert batches.outcomes(await batch.taken(batch.parts([1])))[0] == "accepted"
    assert noted((await sender.call("GET", path)).json["items"]) == ["accepted", *told[1:]]
    body = {"dossiers": [{"recipient": {"ssin": batch.messages[3].recipient.ssin}, "category": "building-permit",
                          "from": "2026-01-01"}]}  # fmt: skip
    registered = await sender.call(
        "POST", "/api/v1/dossiers", body=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    assert registered.status == 200, registered.body
    last = await batch.taken(batch.parts([4, 5]))
    assert [item["outcome"] for item in last] == ["accepted", "refused", "accepted", "accepted", "accepted"]
    rows = await inside(intake).query("SELECT number, refused_as FROM batch_item WHERE message_id IS NULL")
    assert rows == [(2, "reference-conflict")]


async def test_what_was_refused_before_a_cut_stays_readable(
    intake: House, batches: Any, inside: Any, connect: Any, make_request: Any
) -> None:
    sender, look = await intake.sender(), inside(intake)
    batch = batches.batch_of(sender, 4)
    batch.messages[1] = replace(batch.messages[1], category="administrative-fine")
    head = {"Content-Type": "multipart/form-data; boundary=simple-boundary", "Content-Length": "1000000"}
    wire = await connect(intake)
    await wire.send(make_request("POST", BATCHES, head) + begun(batch.parts([1, 2, 3]))[:-20])

    async def the_second_is_refused() -> bool:
        return "refused" in [entry["ev"] for entry in await look.log("traffic")]

    await look.until(the_second_is_refused)
    wire.break_off()
    await look.until_metric(0, "gateway_requests_in_flight_requests", edge="intake")
    known = await batch.taken([batch.signed()])
    assert noted(known) == ["accepted", "category-not-authorised", "missing", "missing"]


async def test_what_is_with_us_is_told_to_be_whatever_comes_in_its_place(intake: House, batches: Any) -> None:
    sender = await intake.sender()
    batch = batches.batch_of(sender, 2)
    first = await batch.taken()
    spoilt = batch.parts()
    spoilt[1] = replace(spoilt[1], content=spoilt[1].content + b" ")
    again = await batch.send(spoilt)
    assert again.json["items"] == first
    assert (await sender.call("GET", f"{BATCHES}/{again.json['batchId']}")).json["items"] == first


async def test_a_ledger_that_is_away_at_the_end_is_told_and_the_same_again_notes_it(
    intake: House, batches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> None:
        raise StoreUnavailable("gone")

    sender = await intake.sender()
    batch = batches.batch_of(sender, 2)
    batch.messages[1] = replace(batch.messages[1], category="administrative-fine")
    with monkeypatch.context() as patched:
        patched.setattr("gateway.stores.sqlite.ledger.SqliteLedger.note_refusals", away)
        answer = await batch.send()
        assert (answer.status, answer.code) == (503, "store-unavailable")
        assert noted(await batch.taken([batch.signed()])) == ["accepted", "missing"]
    assert batches.outcomes(await batch.taken()) == ["accepted", "category-not-authorised"]
    assert noted(await batch.taken([batch.signed()])) == ["accepted", "category-not-authorised"]


@pytest.mark.parametrize(("enclosed_bytes", "most"), [(131_072, 8), (0, 1)])
async def test_items_are_read_while_others_are_recorded_unless_they_lie_on_the_disk(
    make_house: Any, enclosed_bytes: int, most: int, batches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(values: dict[str, Any]) -> None:
        values["stores"] = {"enclose_up_to_bytes": enclosed_bytes}

    house = await make_house(change, parts=["intake"])
    record = SqliteLedger.record
    under_way, together, may_go = set[UUID](), list[int](), asyncio.Event()

    async def held(ledger: SqliteLedger, new: NewMessage) -> Any:
        under_way.add(new.message.message_id)
        together.append(len(under_way))
        if len(under_way) == most:
            may_go.set()
        await may_go.wait()
        try:
            return await record(ledger, new)
        finally:
            under_way.discard(new.message.message_id)

    monkeypatch.setattr(SqliteLedger, "record", held)
    batch = batches.batch_of(await house.sender(), 20)
    assert batches.outcomes(await batch.taken()) == ["accepted"] * 20
    assert max(together) == most


async def test_a_ledger_that_goes_away_in_the_middle_is_told_and_the_same_batch_completes(
    intake: House, batches: Any, inside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, seen = SqliteLedger.record, list[UUID]()

    async def gone_at_the_third(ledger: SqliteLedger, new: NewMessage) -> Any:
        seen.append(new.message.message_id)
        if len(seen) == 3:
            raise StoreUnavailable("gone")
        return await record(ledger, new)

    batch = batches.batch_of(await intake.sender(), 30)
    with monkeypatch.context() as patched:
        patched.setattr(SqliteLedger, "record", gone_at_the_third)
        answer = await batch.send()
    assert (answer.status, answer.code) == (503, "store-unavailable")
    # Those that were begun beside it were waited for, and no more were begun.
    assert await inside(intake).query("SELECT count(*) FROM message") == [(len(seen) - 1,)]
    assert len(seen) < 20
    assert batches.outcomes(await batch.taken()) == ["accepted"] * 30
    assert await inside(intake).query("SELECT count(*) FROM message") == [(30,)]


# ── A body that does not come to its end ──


def begun(parts: list[Part]) -> bytes:
    """The beginning of a body."""
    return b"".join(b"--simple-boundary\r\n" + part.encode() + b"\r\n" for part in parts)


async def test_what_came_before_a_cut_is_kept_and_the_same_batch_completes(
    intake: House, batches: Any, inside: Any, connect: Any, make_request: Any
) -> None:
    sender, look = await intake.sender(), inside(intake)
    batch = batches.batch_of(sender, 5)
    head = {"Content-Type": "multipart/form-data; boundary=simple-boundary", "Content-Length": "1000000"}
    body = begun(batch.parts([1, 2, 3]))
    wire = await connect(intake)
    # The third document lacks its last octets.
    await wire.send(make_request("POST", BATCHES, head) + body[:-20])

    async def two_are_there() -> bool:
        return bool(await look.query("SELECT count(*) FROM message") == [(2,)])

    await look.until(two_are_there)
    wire.break_off()
    await look.until_metric(0, "gateway_requests_in_flight_requests", edge="intake")
    assert len((await look.traces()).documents) == 2
    await sender.accepted(reference="alone-1")

    items = await batch.taken()
    assert batches.outcomes(items) == ["accepted"] * 5
    assert await look.query("SELECT count(*) FROM message") == [(6,)]
    assert len((await look.traces()).documents) == 6


async def test_an_item_whose_last_part_came_whole_is_ours_though_nothing_follows(
    blobs_only: House, batches: Any, inside: Any, connect: Any, make_request: Any
) -> None:
    sender, look = await blobs_only.sender(), inside(blobs_only)
    batch = batches.batch_of(sender, 2)
    head = {"Content-Type": "multipart/form-data; boundary=simple-boundary", "Content-Length": "1000000"}
    body = begun(batch.parts([1]))
    wire = await connect(blobs_only)
    await wire.send(make_request("POST", BATCHES, head) + body + b"--simple-boundary\r\nContent-Dispo")

    async def is_stored() -> bool:
        files = await asyncio.to_thread(lambda: [*look.blobs.rglob("*")])
        return any(file.parent.name == file.name[-3:] for file in files)

    await look.until(is_stored)
    assert await look.query("SELECT count(*) FROM message") == [(0,)]
    wire.break_off()

    async def it_is_there() -> bool:
        return bool(await look.query("SELECT count(*) FROM message") == [(1,)])

    await look.until(it_is_there)
    assert batches.outcomes(await batch.taken(batch.parts([2]))) == ["accepted", "accepted"]


async def test_a_signed_batch_may_be_signed_anew_days_later(make_house: Any, batches: Any, moved_clock: Any) -> None:
    house = await make_house(clock=moved_clock)
    sender = await house.sender()
    batch = batches.batch_of(sender, 2)
    assert batches.outcomes(await batch.taken(batch.parts([1]))) == ["accepted", "missing"]
    moved_clock.ahead = timedelta(days=3)
    assert batches.outcomes(await batch.taken()) == ["accepted", "created-at-out-of-window"]
    batch.created_at += timedelta(days=3)
    assert batches.outcomes(await batch.taken()) == ["accepted", "accepted"]


async def test_two_batches_at_once_with_the_same_items_take_each_once(intake: House, batches: Any, inside: Any) -> None:
    sender = await intake.sender()
    one = batches.batch_of(sender, 8)
    other = batches.BatchHand(sender, one.messages[::-1])
    first, second = await asyncio.gather(one.taken(), other.taken())
    known = {"accepted", "repeated", "still-receiving"}
    assert {*batches.outcomes(first), *batches.outcomes(second)} <= known
    first, second = await one.taken(), await other.taken()
    assert {*batches.outcomes(first), *batches.outcomes(second)} == {"accepted", "repeated"}
    assert [item["messageId"] for item in first] == [item["messageId"] for item in second][::-1]
    # Each message is proved by one batch, and one only.
    proofs = await inside(intake).query("SELECT message_id FROM batch_item WHERE is_proof = 1")
    assert len(proofs) == len(set(proofs)) == 8


# ── What is wrong with one item is its own outcome ──


def signed_inside(batch: Any) -> bytes:
    """The second item with a signature of its own."""
    sender = batch.sender
    return bytes(sender.sign(batch.messages[1]))


ITEM_FAULTS = {
    "another item's octets": "document-mismatch",
    "changed after the batch was signed": "document-mismatch",
    "a signature of its own": "invalid-message",
    "another sender": "signer-mismatch",
    "another profile": "signer-mismatch",
    "another gateway": "wrong-gateway",
    "listed under another reference": "invalid-message",
    "no message": "malformed-message",
    "a wrong field": "invalid-message",
    "too large": "message-too-large",
    "another type": "unsupported-media-type",
    "a document too many": "multipart-invalid",
    "a document too few": "multipart-invalid",
    "another name of its document": "multipart-invalid",
    "a category that is not granted": "category-not-authorised",
}


def spoil(fault: str, batch: Any) -> list[Part]:
    """Return the parts of a batch of three whose second item has this fault; whatever is signed is signed with it."""
    sender: SenderHand = batch.sender
    message = batch.messages[1]
    changes: dict[str, dict[str, Any]] = {
        "another sender": {"sender": EnterpriseNumber("0566988259")},
        "another profile": {"profile": "andere"},
        "another gateway": {"gateway": "other.example"},
        "a wrong field": {"subject": ""},
        "a category that is not granted": {"category": "administrative-fine"},
    }
    batch.messages[1] = replace(message, **changes.get(fault, {}))
    whole = batch.batch()
    first, second, third = batch.item(1), batch.item(2), batch.item(3)
    match fault:
        case "another item's octets":
            second[0] = replace(third[0], name="m2")
        case "changed after the batch was signed":
            second[0] = replace(second[0], content=second[0].content.replace(b"aanslagbiljet", b"aanslagbiljat"))
        case "a signature of its own":
            second[0] = replace(second[0], content=signed_inside(batch))
        case "listed under another reference":
            renamed = replace(whole.items[1], reference="another-1")
            whole = replace(whole, items=(whole.items[0], renamed, whole.items[2]))
        case "no message":
            second[0] = replace(second[0], content=b"<Message")
        case "too large":
            second[0] = replace(second[0], content=b"<!--" + bytes(270_000).replace(b"\0", b"x") + b"-->")
        case "another type":
            second[0] = replace(second[0], media_type="text/plain")
        case "a document too many":
            second.append(replace(second[1], name="m2-upfile2"))
        case "a document too few":
            del second[1]
        case "another name of its document":
            second[1] = replace(second[1], name="m2-upfile3")
        case _:
            pass
    if fault in ("a signature of its own", "no message", "too large"):
        digest = hashlib.sha256(second[0].content).hexdigest()
        whole = replace(whole, items=(whole.items[0], replace(whole.items[1], sha256=digest), whole.items[2]))
    signed = sign_batch(Dialect.XML, whole, sender.key, sender.certificate)
    return [Part("batch", signed, "application/xml"), *first, *second, *third]


@pytest.mark.parametrize("fault", ITEM_FAULTS)
async def test_an_item_that_is_wrong_is_refused_alone(blobs_only: House, batches: Any, inside: Any, fault: str) -> None:
    batch = batches.batch_of(await blobs_only.sender(), 3)
    items = await batch.taken(spoil(fault, batch))
    assert batches.outcomes(items) == ["accepted", ITEM_FAULTS[fault], "accepted"]
    look = inside(blobs_only)
    assert len((await look.traces()).documents) == 2
    refused = [entry for entry in await look.log("traffic") if entry["ev"] == "refused"]
    assert [entry["res"] for entry in refused] == [ITEM_FAULTS[fault]]
    assert await look.metric("gateway_messages_refused_total", code=ITEM_FAULTS[fault]) == 1


# ── What is wrong with the body ends the request; what came before stays ──


def order(fault: str, batch: Any) -> list[Part]:
    first, second, third = batch.item(1), batch.item(2), batch.item(3)
    head: Part = batch.signed()
    match fault:
        case "an item twice":
            return [head, *first, *first]
        case "in the wrong order":
            return [head, *second, *first]
        case "an item that the batch does not list":
            return [head, *first, replace(third[0], name="m4")]
        case "a part that is no item":
            return [head, *first, replace(second[0], name="annex")]
        case "a document of another item":
            return [head, *first, second[0], replace(second[1], name="m3-upfile1")]
        case "a document before its item":
            return [head, *first, second[1], second[0]]
        case _:
            return [head, *first, replace(second[0], name="m02")]


@pytest.mark.parametrize(
    "fault",
    [
        "an item twice",
        "in the wrong order",
        "an item that the batch does not list",
        "a part that is no item",
        "a document of another item",
        "a document before its item",
        "a number with a zero",
    ],
)
async def test_parts_that_belong_to_no_item_end_the_request(
    intake: House, batches: Any, inside: Any, fault: str
) -> None:
    batch = batches.batch_of(await intake.sender(), 3)
    answer = await batch.send(order(fault, batch))
    assert (answer.status, answer.code) == (400, "multipart-invalid")
    assert await inside(intake).query("SELECT count(*) FROM message") == [(1,)]
    assert batches.outcomes(await batch.taken()) == ["accepted"] * 3


async def test_more_than_the_contract_has_is_refused(make_house: Any, batches: Any, limited: Any, inside: Any) -> None:
    house = await make_house(limited(batch_items=2, batch_manifest_bytes=16_384, batch_bytes=16_000))
    sender = await house.sender()
    batch = batches.batch_of(sender, 3)
    answer = await batch.send()
    assert (answer.code, answer.json["errors"][0]["pointer"]) == ("invalid-message", "/Batch/Items")
    large = batch.signed()
    answer = await batch.send([replace(large, content=large.content + b" " * 20_000)])
    assert (answer.status, answer.code) == (413, "message-too-large")
    # Together too large: what came before that is kept.
    letter = b"%PDF-" + bytes(15_000)
    pair = batches.BatchHand(sender, [sender.message([letter]), sender.message([letter])])
    parts = [pair.signed(), *pair.item(1, [letter]), *pair.item(2, [letter])]
    assert (await pair.send(parts)).code == "message-too-large"
    assert await inside(house).query("SELECT count(*) FROM message") == [(1,)]


# ── The batch itself ──


async def test_a_batch_of_three_mebibytes_is_refused_unread(intake: House, batches: Any) -> None:
    batch = batches.batch_of(await intake.sender(), 1)
    answer = await batch.send([replace(batch.signed(), content=b" " * 3 * 1024 * 1024)])
    assert (answer.status, answer.code) == (413, "message-too-large")


BATCH_FAULTS = {
    "unsigned": "signature-invalid",
    "changed": "signature-invalid",
    "501 items": "invalid-message",
    "items misnumbered": "invalid-message",
    "a reference twice": "invalid-message",
    "another gateway": "wrong-gateway",
    "another sender": "signer-mismatch",
    "another profile": "profile-not-authorised",
    "another type": "unsupported-media-type",
    "not the first part": "multipart-invalid",
    "a message in its place": "invalid-message",
}


def wrong_batch(fault: str, batch: Any) -> list[Part]:
    sender, whole, head = batch.sender, batch.batch(), batch.signed()
    match fault:
        case "unsigned":
            start, end = head.content.index(b"<ds:Signature"), head.content.index(b"</ds:Signature>")
            head = replace(head, content=head.content[:start] + head.content[end + 15 :])
        case "changed":
            head = replace(head, content=head.content.replace(whole.items[0].sha256.encode(), b"0" * 64))
        case "501 items":
            many = [replace(whole.items[0], number=n, reference=f"r-{n}") for n in range(1, 502)]
            head = batch.signed(items=tuple(many))
        case "items misnumbered":
            head = batch.signed(items=(replace(whole.items[0], number=2), whole.items[1]))
        case "a reference twice":
            head = batch.signed(items=(whole.items[0], replace(whole.items[0], number=2)))
        case "another gateway":
            head = batch.signed(gateway="other.example")
        case "another sender":
            head = batch.signed(sender=EnterpriseNumber("0566988259"))
        case "another profile":
            head = batch.signed(profile="andere")
        case "another type":
            head = replace(head, media_type="application/json")
        case "not the first part":
            return [*batch.item(1), head]
        case _:
            head = replace(head, content=sender.sign(batch.messages[0]))
    return [head, *batch.item(1)]


@pytest.mark.parametrize("fault", BATCH_FAULTS)
async def test_a_wrong_batch_refuses_the_whole_request(intake: House, batches: Any, inside: Any, fault: str) -> None:
    batch = batches.batch_of(await intake.sender(), 2)
    answer = await batch.send(wrong_batch(fault, batch))
    assert answer.code == BATCH_FAULTS[fault], answer.body
    assert await inside(intake).query("SELECT count(*) FROM message") == [(0,)]
    assert not (await inside(intake).traces()).documents


async def test_a_key_that_is_not_the_reference_and_parameters_are_refused(intake: House, batches: Any) -> None:
    batch = batches.batch_of(await intake.sender(), 1)
    assert (await batch.send(headers={"Idempotency-Key": "another"})).code == "bad-request"
    assert (await batch.sender.post(batch.parts(), path=BATCHES + "?mode=check")).code == "bad-request"
    assert (await batch.send(headers={"Idempotency-Key": f'"{batch.reference}"'})).status == 200


# ── Proof ──


@pytest.mark.needs("xmlsec1")
async def test_a_kit_proves_an_item_and_shows_no_other_recipient(intake: House, batches: Any, tmp_path: Path) -> None:
    sender = await intake.sender()
    batch = batches.batch_of(sender, 2)
    other = Recipient(ssin=Ssin(CITIZEN_NO_BOX), address=replace(batch.messages[0].recipient.address, name="An Claes"))
    batch.messages[1] = replace(batch.messages[1], recipient=other)
    item = (await batch.taken())[0]
    kit = await sender.call("GET", f"/api/v1/messages/{item['messageId']}/kit")
    with zipfile.ZipFile(BytesIO(kit.body)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
        await asyncio.to_thread(archive.extractall, tmp_path)
    everything = b"".join(contents.values())
    for hidden in (CITIZEN_NO_BOX, "An Claes", batch.messages[0].recipient.ssin, "Jan Peeters"):
        assert hidden.encode() not in everything
    listed = read_stored_batch(contents["batch.xml"]).items[0]
    assert listed.reference == batch.messages[0].reference
    assert listed.sha256 == batch.batch().items[0].sha256
    assert listed.sha256 in contents["README.txt"].decode()
    lines = contents["README.txt"].decode().splitlines()
    (command,) = [line.split() for line in lines if "xmlsec1" in line and "batch.xml" in line]
    done = await asyncio.to_thread(subprocess.run, command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


async def test_the_kit_of_an_item_of_a_batch_in_the_other_dialect_holds_the_token(intake: House, batches: Any) -> None:
    sender = await intake.sender()
    batch = batches.batch_of(sender, 1, dialect=Dialect.JWS)
    parts = batch.parts()
    item = (await batch.taken(parts))[0]
    kit = await sender.call("GET", f"/api/v1/messages/{item['messageId']}/kit")
    with zipfile.ZipFile(BytesIO(kit.body)) as archive:
        assert archive.read("batch.jws") == parts[0].content
        assert "batch.xml" not in archive.read("README.txt").decode()
        certificate = x509.load_pem_x509_certificate(archive.read("sender.pem"))
    assert certificate == sender.certificate


async def test_the_kit_of_a_message_that_came_alone_holds_no_batch(intake: House, batches: Any) -> None:
    sender = await intake.sender()
    batch = batches.batch_of(sender, 1)
    alone = await sender.post(sender.parts(batch.messages[0]))
    await batch.taken()
    kit = await sender.call("GET", f"/api/v1/messages/{alone.json['messageId']}/kit")
    with zipfile.ZipFile(BytesIO(kit.body)) as archive:
        assert not {"batch.xml", "batch.jws", "sender.pem"} & set(archive.namelist())


# ── How much one request takes ──


@pytest.mark.parametrize("outcome", ["accepted", "document-mismatch"])
async def test_memory_does_not_grow_with_the_number_of_items(intake: House, batches: Any, outcome: str) -> None:
    letter = b"%PDF-" + bytes(1_000_000)
    sender = await intake.sender()
    wrong = b"%PDF+" + bytes(1_000_000)

    async def peak(count: int) -> int:
        batch = batches.BatchHand(sender, [sender.message([letter]) for _ in range(count)])
        signed, contents = batch.signed(), letter if outcome == "accepted" else wrong

        async def body() -> AsyncIterator[bytes]:
            yield b"--simple-boundary\r\n" + signed.encode() + b"\r\n"
            for number in range(1, count + 1):
                for part in batch.item(number, [contents]):
                    yield b"--simple-boundary\r\n" + part.encode() + b"\r\n"
            yield b"--simple-boundary--\r\n"

        typed = {"Content-Type": "multipart/form-data; boundary=simple-boundary"}
        tracemalloc.start()
        try:
            async with sender.session.post(intake.url + BATCHES, data=body(), headers=typed) as response:
                items = (await response.json())["items"]
            assert batches.outcomes(items) == [outcome] * count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few = await peak(12)
    assert await peak(40) < few + 4 * len(letter)  # twenty-eight more letters of a million octets


async def test_pressure_in_the_middle_ends_the_request_and_keeps_what_came_before(
    make_house: Any, batches: Any, inside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([None, None, None, "a disk is nearly full"])  # for the request, and for each of its items
    monkeypatch.setattr("gateway.health.Health.no_new_message", lambda _self: next(looks))
    house = await make_house(parts=["intake"])
    batch = batches.batch_of(await house.sender(), 4)
    answer = await batch.send()
    assert (answer.status, answer.code) == (503, "store-unavailable")
    assert await inside(house).query("SELECT count(*) FROM message") == [(2,)]
