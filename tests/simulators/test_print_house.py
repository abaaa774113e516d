import asyncio
import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.simulators import magic
from gateway.simulators.print_house import PrintHouseSimulator
from gateway.simulators.serve import Simulators


async def test_a_new_job_is_accepted_and_kept(printing, print_simulator, clock):
    reply = await printing.create(printing.job("d1", jws="a.b.c"))
    assert reply.status == 201
    assert reply.json == {
        "requestId": "d1",
        "status": "ACCEPTED",
        "sheets": 1,
        "timestamps": {"ACCEPTED": "2026-11-22T10:00:00.000Z"},
    }
    (kept,) = print_simulator.records.kept
    assert (kept.id, kept.key, kept.recipient) == ("d1", "d1", "Jan Peeters")
    assert kept.body["jws"] == "a.b.c"
    assert "base64" not in kept.body["documents"][0]
    (document,) = kept.documents
    assert document.content is not None
    assert document.sha256 == hashlib.sha256(document.content).hexdigest()


async def test_the_key_may_be_a_structured_field_string(printing):
    assert (await printing.create(printing.job("d1"), headers={"Idempotency-Key": '"d1"'})).status == 201


async def test_the_same_request_again_is_answered_200_and_kept_once(printing, print_simulator):
    job = printing.job("d1", product="registered", jws="first.signature.x")
    first = await printing.create(job)
    second = await printing.create({**job, "jws": "second.signature.x"})
    assert (first.status, second.status) == (201, 200)
    assert first.json == second.json
    assert len(print_simulator.records.kept) == 1


@pytest.mark.parametrize("changes", [{"name": "An Peeters"}, {"duplex": False}, {"costs": 1}])
async def test_other_content_for_the_same_id_conflicts(printing, print_simulator, changes):
    assert (await printing.create(printing.job("d1"))).status == 201
    again = await printing.create(printing.job("d1", **changes))
    assert (again.status, again.json) == (409, {"errors": [{"code": "conflict", "field": ""}]})
    assert len(print_simulator.records.kept) == 1


@pytest.mark.parametrize("padding_bytes", [0, 300_000], ids=["small", "checked in a thread"])
async def test_the_same_request_many_times_at_once_is_kept_once(printing, print_simulator, padding_bytes):
    document = printing.document(content=printing.pdf(padding_bytes=padding_bytes))
    job = printing.job("d1", documents=[document])
    replies = await asyncio.gather(*(printing.create(job) for _ in range(6)))
    assert sorted(reply.status for reply in replies) == [200] * 5 + [201]
    assert len(print_simulator.records.kept) == 1


async def test_a_refused_job_leaves_its_id_free(printing):
    assert (await printing.create(printing.job("d1", product="parcel"))).status == 422
    assert (await printing.create(printing.job("d1"))).status == 201


WRONG_FIELDS = {
    "product unknown": ({"product": "parcel"}, {("invalid", "product")}),
    "product missing": ({"product": ...}, {("required", "product")}),
    "priority unknown": ({"priority": "fast"}, {("invalid", "priority")}),
    "duplex is text": ({"duplex": "yes"}, {("invalid", "duplex")}),
    "colour is a number": ({"colour": 1}, {("invalid", "colour")}),
    "name missing": ({"name": ...}, {("required", "recipient.name")}),
    "name blank": ({"name": "  "}, {("invalid", "recipient.name")}),
    "name too long": ({"name": "x" * 101}, {("too-long", "recipient.name")}),
    "name too long for registered": (
        {"name": "x" * 51, "product": "registered"},
        {("too-long", "recipient.name")},
    ),
    "street missing": ({"street": ...}, {("required", "recipient.street")}),
    "number too long": ({"number": "1" * 16}, {("too-long", "recipient.number")}),
    "box is a number": ({"box": 3}, {("invalid", "recipient.box")}),
    "postcode of three digits": ({"postcode": "900"}, {("invalid", "recipient.postcode")}),
    "postcode with country": ({"postcode": "B-9000"}, {("invalid", "recipient.postcode")}),
    "country in small letters": ({"countryIso2": "be"}, {("invalid", "recipient.countryIso2")}),
    "country missing": ({"countryIso2": ...}, {("required", "recipient.countryIso2")}),
    "recipient missing": ({"recipient": ...}, {("required", "recipient")}),
    "recipient is text": ({"recipient": "Jan"}, {("invalid", "recipient")}),
    "return address without street": (
        {
            "returnAddress": {
                "name": "Gent",
                "number": "1",
                "postcode": "9000",
                "municipality": "Gent",
                "countryIso2": "BE",
            }
        },
        {("required", "returnAddress.street")},
    ),
    "return address of seven lines": ({"returnAddress": {"lines": ["x"] * 7}}, {("invalid", "returnAddress.lines")}),
    "return address line empty": ({"returnAddress": {"lines": ["x", ""]}}, {("invalid", "returnAddress.lines[1]")}),
    "not before is no time": ({"notBefore": "tomorrow"}, {("invalid", "notBefore")}),
    "not before without zone": ({"notBefore": "2026-11-22T10:00:00"}, {("invalid", "notBefore")}),
    "callback is no web address": ({"callbackUrl": "mailto:x@example.com"}, {("invalid", "callbackUrl")}),
    "documents missing": ({"documents": ...}, {("required", "documents")}),
    "documents empty": ({"documents": []}, {("invalid", "documents")}),
    "document is text": ({"documents": ["x"]}, {("invalid", "documents[0]")}),
    "several at once": (
        {"product": "parcel", "name": ..., "postcode": "1"},
        {("invalid", "product"), ("required", "recipient.name"), ("invalid", "recipient.postcode")},
    ),
}


@pytest.mark.parametrize(("changes", "errors"), WRONG_FIELDS.values(), ids=WRONG_FIELDS)
async def test_every_wrong_field_is_named(printing, print_simulator, changes, errors):
    reply = await printing.create(printing.job("d1", **changes))
    assert reply.status == 422
    assert {(error["code"], error["field"]) for error in reply.json["errors"]} == errors
    assert print_simulator.records.kept == []


GOOD_FIELDS = {
    "all options": {
        "name2": "p/a An",
        "box": "3",
        "envelope": "C5",
        "publicAdministration": True,
        "notBefore": "2026-11-22T10:00:00Z",
    },
    "abroad": {"postcode": "75001", "municipality": "Paris", "countryIso2": "FR"},
    "no priority": {"priority": ...},
    "return address in lines": {"returnAddress": {"lines": ["Gemeente Voorbeeld", "Markt 1", "9000 Gent"]}},
    "return address of name and lines": {"returnAddress": {"name": "Gemeente Voorbeeld", "lines": ["9000 Gent"]}},
}


@pytest.mark.parametrize("changes", GOOD_FIELDS.values(), ids=GOOD_FIELDS)
async def test_optional_fields_are_taken(printing, changes):
    assert (await printing.create(printing.job("d1", **changes))).status == 201


async def test_a_request_id_that_differs_from_the_key_is_named(printing):
    reply = await printing.create(printing.job("d1"), headers={"Idempotency-Key": "d2"})
    assert reply.status == 422
    assert reply.json["errors"] == [{"code": "differs-from-idempotency-key", "field": "requestId"}]


WRONG_DOCUMENTS = {
    "not a PDF": (lambda p: p.document(content=b"hello"), {("not-a-pdf", "documents[0]")}),
    "cut PDF": (lambda p: p.document(content=p.pdf()[:60]), {("not-a-pdf", "documents[0]")}),
    "empty": (lambda p: p.document(content=b""), {("not-a-pdf", "documents[0]")}),
    "more pages than named": (lambda p: p.document(content=p.pdf(2)), {("page-count-mismatch", "documents[0].pages")}),
    "fewer pages than named": (lambda p: p.document(pages=2), {("page-count-mismatch", "documents[0].pages")}),
    "pages missing": (
        lambda p: p.document(pages=...),
        {("required", "documents[0].pages"), ("page-count-mismatch", "documents[0].pages")},
    ),
    "landscape": (
        lambda p: p.document(content=p.pdf(width_mm=297, height_mm=210)),
        {("letter-not-a4-portrait-oriented", "documents[0]")},
    ),
    "turned to landscape": (
        lambda p: p.document(content=p.pdf(rotate=90)),
        {("letter-not-a4-portrait-oriented", "documents[0]")},
    ),
    "letter format": (
        lambda p: p.document(content=p.pdf(width_mm=215.9, height_mm=279.4)),
        {("letter-not-a4-portrait-oriented", "documents[0]")},
    ),
    "3 mm too wide": (
        lambda p: p.document(content=p.pdf(width_mm=213)),
        {("letter-not-a4-portrait-oriented", "documents[0]")},
    ),
    "encrypted": (lambda p: p.document(content=p.pdf(password="secret")), {("pdf-encrypted", "documents[0]")}),
    "encrypted without a user password": (
        lambda p: p.document(content=p.pdf(password="")),
        {("pdf-encrypted", "documents[0]")},
    ),
    "other digest": (lambda p: p.document(sha256="0" * 64), {("digest-mismatch", "documents[0].sha256")}),
    "digest in capitals": (lambda p: p.document(sha256="A" * 64), {("invalid", "documents[0].sha256")}),
    "digest missing": (lambda p: p.document(sha256=...), {("required", "documents[0].sha256")}),
    "not base64": (lambda p: p.document(base64="%%%"), {("invalid", "documents[0].base64")}),
    "no content": (lambda p: p.document(base64=...), {("required", "documents[0].base64")}),
    "by address": (
        lambda p: p.document(base64=..., uri="https://example.com/a.pdf"),
        {("unsupported-transfer", "documents[0].base64")},
    ),
    "first is not order 1": (lambda p: p.document(order=2), {("invalid", "documents[0].order")}),
}


@pytest.mark.parametrize(("document", "errors"), WRONG_DOCUMENTS.values(), ids=WRONG_DOCUMENTS)
async def test_every_wrong_document_is_named(printing, document, errors):
    reply = await printing.create(printing.job("d1", documents=[document(printing)]))
    assert reply.status == 422
    assert {(error["code"], error["field"]) for error in reply.json["errors"]} == errors


@pytest.mark.parametrize(
    "shape",
    [
        {"width_mm": 211.9, "height_mm": 295.1},
        {"width_mm": 297, "height_mm": 210, "rotate": 90},
        {"rotate": 180},
    ],
    ids=["within 2 mm", "landscape turned upright", "upside down"],
)
async def test_a_page_that_is_a4_portrait_to_the_reader_is_taken(printing, shape):
    document = printing.document(content=printing.pdf(**shape))
    assert (await printing.create(printing.job("d1", documents=[document]))).status == 201


@pytest.mark.parametrize(("duplex", "sheets"), [(True, 3), (False, 4)])
async def test_sheets_are_counted_per_document_and_orders_must_follow(printing, duplex, sheets):
    documents = [
        printing.document(1),
        printing.document(2, printing.pdf(3), pages=3),
    ]
    reply = await printing.create(printing.job("d1", documents=documents, duplex=duplex))
    assert (reply.status, reply.json["sheets"]) == (201, sheets)
    swapped = await printing.create(printing.job("d2", documents=documents[::-1]))
    assert {error["field"] for error in swapped.json["errors"]} == {"documents[0].order", "documents[1].order"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"requestId": "x", "requestId": "x"}', b"\xff"])
async def test_a_body_that_is_no_json_object_is_malformed(printing, body):
    reply = await printing.create(body)
    assert (reply.status, reply.json["errors"][0]["code"]) == (400, "malformed")


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"X-API-Key": ""}, 401, "unauthorised"),
        ({"X-API-Key": "wrong"}, 401, "unauthorised"),
        ({"Idempotency-Key": ""}, 400, "idempotency-key-required"),
        ({"Content-Type": "text/plain"}, 415, "unsupported-media-type"),
    ],
)
async def test_wrong_headers_are_refused(printing, print_simulator, headers, status, code):
    reply = await printing.create(printing.job("d1"), headers=headers)
    assert (reply.status, reply.json["errors"][0]["code"]) == (status, code)
    assert print_simulator.records.kept == []


async def test_a_job_above_the_limit_is_too_large(printing):
    reply = await printing.create(b'"' + b"x" * 4_100_000 + b'"')
    assert (reply.status, reply.json["errors"][0]["code"]) == (413, "TOO_LARGE")


async def test_calls_about_an_unknown_job_are_not_found_and_need_the_key(printing):
    for path in ("/print-jobs/unknown", "/print-jobs/unknown/evidence", "/print-jobs/unknown/evidence/1"):
        assert (await printing.get(path)).status == 404
        assert (await printing.get(path, api_key="wrong")).status == 401


async def test_a_standard_job_ends_at_dispatch_and_moves_only_when_told(printing, clock):
    await printing.create(printing.job("d1"))
    assert (await printing.status("d1")).json["status"] == "ACCEPTED"
    seen: list[str] = []
    for _ in range(4):
        clock.move(timedelta(hours=1))
        seen.append((await printing.control("advance", requestId="d1")).json["status"])
        assert (await printing.status("d1")).json["status"] == seen[-1]
    assert seen == ["PRINTED", "ENCLOSED", "DISPATCHED", "DISPATCHED"]
    assert (await printing.status("d1")).json["timestamps"] == {
        "ACCEPTED": "2026-11-22T10:00:00.000Z",
        "PRINTED": "2026-11-22T11:00:00.000Z",
        "ENCLOSED": "2026-11-22T12:00:00.000Z",
        "DISPATCHED": "2026-11-22T13:00:00.000Z",
    }


async def walk(printing, request_id):
    """Return status and reason of each step until nothing changes any more."""
    seen: list[tuple[str, str | None]] = []
    while True:
        reply = (await printing.control("advance", requestId=request_id)).json
        step = (reply["status"], reply.get("reason"))
        if seen and seen[-1] == step:
            return seen
        seen.append(step)


HOUSE = [("PRINTED", None), ("ENCLOSED", None), ("DISPATCHED", None)]


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({}, []),
        ({"product": "registered"}, [("DELIVERED", None)]),
        ({"product": "registered_ar"}, [("DELIVERED", None)]),
        ({"name": "magic returned"}, [("RETURNED", "unknown")]),
        ({"postcode": "9993", "product": "registered"}, [("RETURNED", "unknown")]),
        ({"postcode": "9994", "product": "registered"}, [("HELD", None), ("RETURNED", "not_collected")]),
    ],
)
async def test_each_product_and_magic_recipient_has_its_own_journey(printing, changes, end):
    await printing.create(printing.job("d1", **changes))
    assert await walk(printing, "d1") == HOUSE + end


async def test_registered_letters_get_their_own_national_barcode(printing):
    barcodes = [(await printing.create(printing.job(f"d{n}", product="registered"))).json["barcode"] for n in (1, 2)]
    assert all(len(barcode) == 30 and barcode.isdigit() and barcode.startswith("010") for barcode in barcodes)
    assert barcodes[0] != barcodes[1]
    assert (await printing.status("d1")).json["barcode"] == barcodes[0]


async def test_a_refused_recipient_is_422_and_not_kept(printing, print_simulator):
    reply = await printing.create(printing.job("d1", name=magic.PRINT_NAMES[magic.PrintFate.REFUSED]))
    assert (reply.status, reply.json["errors"]) == (422, [{"code": "address-undeliverable", "field": "recipient"}])
    assert print_simulator.records.kept == []


async def test_a_doubtful_job_is_kept_unsaid_and_found_afterwards(printing, print_simulator):
    job = printing.job("d1", name=magic.PRINT_NAMES[magic.PrintFate.DOUBT])
    assert (await printing.create(job)).status == 504
    assert (await printing.status("d1")).json["status"] == "ACCEPTED"
    assert (await printing.create(job)).status == 200
    assert len(print_simulator.records.kept) == 1


async def test_a_slow_job_lasts_three_steps_in_each_status(printing):
    await printing.create(printing.job("d1", name="Magic Slow"))
    steps = [(await printing.control("advance", requestId="d1")).json["status"] for _ in range(6)]
    assert steps == ["ACCEPTED", "ACCEPTED", "PRINTED", "PRINTED", "PRINTED", "ENCLOSED"]


async def test_each_look_moves_a_job_on_in_demo_mode(printing, clock):
    async with Simulators(print_house=PrintHouseSimulator(clock=clock)) as running:
        caller = replace(printing, url=running.print_url)
        await caller.create(caller.job("d1", product="registered"))
        seen = [(await caller.status("d1")).json["status"] for _ in range(5)]
    assert seen == ["PRINTED", "ENCLOSED", "DISPATCHED", "DELIVERED", "DELIVERED"]


async def test_any_status_can_be_ordered_and_a_wrong_order_is_named(printing):
    await printing.create(printing.job("d1"))
    ordered = await printing.control("advance", requestId="d1", to="LOST", reason="lost")
    assert (ordered.json["status"], ordered.json["reason"]) == ("LOST", "lost")
    for wrong in (
        {"requestId": "unknown"},
        {"requestId": "d1", "to": "EATEN"},
        {"requestId": "d1", "to": "RETURNED", "reason": "dog"},
        {},
    ):
        assert (await printing.control("advance", **wrong)).status == 400


@pytest.mark.parametrize(
    ("changes", "types"),
    [
        ({}, []),
        ({"product": "registered"}, ["proof_of_posting"]),
        ({"product": "registered_ar"}, ["proof_of_posting", "acknowledgement"]),
        ({"product": "registered", "postcode": "9993"}, ["proof_of_posting", "scan"]),
    ],
)
async def test_evidence_is_listed_and_can_be_fetched(printing, changes, types):
    await printing.create(printing.job("d1", **changes))
    assert (await printing.get("/print-jobs/d1/evidence")).json == []
    await walk(printing, "d1")
    listed = (await printing.get("/print-jobs/d1/evidence")).json
    assert [entry["type"] for entry in listed] == types
    for entry in listed:
        fetched = await printing.get(entry["uri"].removeprefix(printing.url))
        assert fetched.headers["Content-Type"] == "application/pdf"
        assert hashlib.sha256(fetched.body).hexdigest() == entry["sha256"]
    assert (await printing.get(f"/print-jobs/d1/evidence/{len(listed) + 1}")).status == 404


async def test_base_path_key_header_and_the_absence_of_a_key_are_settings(printing, clock):
    simulator = PrintHouseSimulator(clock=clock, base_path="/api/v3", api_key="k", api_key_header="Authorization")
    async with Simulators(print_house=simulator) as running:
        caller = replace(printing, url=running.print_url)
        assert running.print_url.endswith("/api/v3")
        assert (await caller.create(caller.job("d1"))).status == 401
        assert (await caller.create(caller.job("d1"), headers={"Authorization": "k"})).status == 201
    async with Simulators(print_house=PrintHouseSimulator(clock=clock, api_key=None)) as running:
        caller = replace(printing, url=running.print_url)
        assert (await caller.create(caller.job("d1"), headers={"X-API-Key": ""})).status == 201
