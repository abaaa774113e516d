"""The print adapter against the simulated print house, through every row of the error classes."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from unittest.mock import AsyncMock

import pytest
import rfc8785
from aiohttp.abc import AbstractStreamWriter
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.base import Handover
from gateway.adapters.print_rest import (
    CANONICAL_STATUSES,
    RETURN_REASONS,
    PrintRestSettings,
    streamed_job,
)
from gateway.domain.message import PrintOptions, PrintProduct, Priority
from gateway.domain.status import DeliveryStatus, Reason
from gateway.errors import BlobMissing, ChannelBlocked, DeliveryError, OutcomeUnknown, Refused, Unreachable
from gateway.simulators.magic import PRINT_NAMES, PrintFate

LOST = "the connection was lost"
NOT_OURS = "answered 201, but not about this job"


async def fails(adapter: Any, parcel: Any, *, again: bool = False) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await adapter.send(parcel, again=again)
    return caught.value


async def test_a_letter_is_handed_over_as_it_was_asked(printing: Any, letters: Any) -> None:
    cover, main = letters.document(is_cover=True, main=False), letters.document(letters.pdf(2), pages=2)
    parcel = letters.on_paper(
        documents=(cover, main),
        print_options=PrintOptions(
            product=PrintProduct.REGISTERED, duplex=False, colour=True, priority=Priority.NON_PRIOR
        ),
        return_address=("Gemeente Voorbeeld", "Kerkstraat 1", "9000 Gent"),
    )
    handover = await printing.adapter(envelope="window-right").send(parcel, again=False)
    (kept,) = printing.simulator.records.kept
    assert handover == Handover(
        status=DeliveryStatus.ACCEPTED,
        provider_reference=str(parcel.delivery_id),
        barcode=printing.simulator.jobs[str(parcel.delivery_id)].barcode,
        status_at=printing.clock(),
    )
    assert (kept.id, kept.key) == (str(parcel.delivery_id), str(parcel.delivery_id))
    assert [document.content for document in kept.documents] == [letters.pdf(), letters.pdf(2)]
    assert kept.body == {
        "requestId": str(parcel.delivery_id),
        "product": "registered",
        "priority": "non_prior",
        "publicAdministration": True,
        "duplex": False,
        "colour": True,
        "envelope": "window-right",
        "recipient": {
            "name": "Jan Peeters",
            "street": "Kerkstraat",
            "number": "12",
            "box": "3",
            "postcode": "9000",
            "municipality": "Gent",
            "countryIso2": "BE",
        },
        "returnAddress": {"name": "Gemeente Voorbeeld", "lines": ["Kerkstraat 1", "9000 Gent"]},
        "documents": [
            {"order": 1, "sha256": cover.sha256.hex(), "pages": 1},
            {"order": 2, "sha256": main.sha256.hex(), "pages": 2},
        ],
        "metadata": {"profile": "burgerzaken", "category": "tax-assessment"},
    }


async def test_what_is_not_there_is_left_out(printing: Any, letters: Any, stub: Any) -> None:
    stub.answers(422)
    parcel = letters.on_paper(
        address=replace(letters.address, box=None),
        documents=(letters.document(pages=None),),
        return_address=("Postbus 10, 9000 Gent",),
    )
    await fails(printing.adapter(base_url=f"{stub.url}/v1/", api_key=None), parcel)
    path, headers, body = stub.requests[0]
    job = json.loads(body)
    assert path == "/v1/print-jobs"
    assert headers["Idempotency-Key"] == str(parcel.delivery_id)
    assert (headers["Content-Type"], headers["Content-Length"]) == ("application/json", str(len(body)))
    assert "X-API-Key" not in headers
    assert not {"jws", "envelope"} & job.keys()
    assert "box" not in job["recipient"]
    assert "pages" not in job["documents"][0]
    assert job["returnAddress"] == {"lines": ["Postbus 10, 9000 Gent"]}


async def test_a_job_carries_what_the_gateway_signed(printing: Any, letters: Any) -> None:
    signed: list[Mapping[str, Any]] = []

    def sign(claims: Mapping[str, Any]) -> str:
        signed.append(claims)
        return "header.payload.signature"

    parcel = letters.on_paper(documents=(letters.document(), letters.document(letters.pdf(2), pages=2)))
    await printing.adapter(sign=sign).send(parcel, again=False)
    (kept,) = printing.simulator.records.kept
    assert kept.body["jws"] == "header.payload.signature"
    assert signed == [
        {
            "requestId": str(parcel.delivery_id),
            "documents": [hashlib.sha256(letters.pdf()).hexdigest(), hashlib.sha256(letters.pdf(2)).hexdigest()],
            "recipientSha256": hashlib.sha256(rfc8785.dumps(kept.body["recipient"])).hexdigest(),
        }
    ]


@given(
    contents=st.lists(st.binary(min_size=1, max_size=100), min_size=1, max_size=3),
    chunk_bytes=st.integers(min_value=1, max_value=50),
)
def test_documents_survive_the_encoding_however_they_are_cut(
    letters: Any, contents: list[bytes], chunk_bytes: int
) -> None:
    body = streamed_job({"id": 1}, [letters.document(content, chunk_bytes=chunk_bytes) for content in contents])
    writer = AsyncMock(AbstractStreamWriter)
    asyncio.run(body.write(writer))
    written = b"".join(call.args[0] for call in writer.write.await_args_list)
    assert [base64.b64decode(entry["base64"], validate=True) for entry in json.loads(written)["documents"]] == contents
    assert len(written) == body.size


@pytest.mark.parametrize(
    ("fault", "times", "error", "copies"),
    [
        ("bad-request", 1, Refused(Reason.REFUSED, "INVALID_INPUT"), 0),
        ("unprocessable", 1, Refused(Reason.REFUSED, "unprocessable"), 0),
        ("digest-mismatch", 1, Refused(Reason.REFUSED, "DIGEST_DO_NOT_MATCH"), 0),
        ("not-a4", 1, Refused(Reason.REFUSED, "letter-not-a4-portrait-oriented"), 0),
        ("unauthorised", 1, ChannelBlocked("answered 401"), 0),
        ("forbidden", 1, ChannelBlocked("answered 403"), 0),
        ("redirect", 1, ChannelBlocked("answered 302"), 0),
        ("request-timeout", 1, Unreachable("answered 408"), 0),
        ("too-many-requests", 1, Unreachable("answered 429", retry_after_s=7.0), 0),
        ("server-error", 1, OutcomeUnknown("answered 500"), 0),
        ("bad-gateway", 1, OutcomeUnknown("answered 502"), 0),
        ("unavailable", 1, OutcomeUnknown("answered 503"), 0),
        ("gateway-timeout", 1, OutcomeUnknown("answered 504"), 0),
        ("close", 1, OutcomeUnknown(LOST), 0),
        ("keep-then-500", 1, OutcomeUnknown("answered 500"), 1),
        ("keep-then-504", 1, OutcomeUnknown("answered 504"), 1),
        ("keep-then-close", 1, OutcomeUnknown(LOST), 1),
        ("keep-then-truncate", 1, OutcomeUnknown(NOT_OURS), 1),
        ("malformed-json", 1, OutcomeUnknown(NOT_OURS), 1),
        ("wrong-content-type", 1, OutcomeUnknown(NOT_OURS), 1),
    ],
)
async def test_each_failure_of_a_job_has_its_meaning(
    *, printing: Any, letters: Any, fault: str, times: int, error: Any, copies: int
) -> None:
    printing.simulator.faults.order("create", fault, times)
    adapter, parcel = printing.adapter(), letters.on_paper()
    found = await fails(adapter, parcel)
    assert type(found) is type(error)
    # How the loss of a connection shows depends on what the kernel had delivered by then.
    assert {name: LOST if str(value).startswith(LOST) else value for name, value in vars(found).items()} == vars(error)
    assert (printing.copies(), printing.calls("create")) == (copies, 1)
    assert (await adapter.find(parcel.delivery_id) is not None) == bool(copies)


@pytest.mark.parametrize(("fault", "copies"), [("hang", 0), ("keep-then-hang", 1), ("slow", 1)])
async def test_an_answer_that_does_not_come_in_time_leaves_the_outcome_unknown(
    printing: Any, letters: Any, fault: str, copies: int
) -> None:
    printing.simulator.faults.order("create", fault)
    found = await fails(printing.adapter(send_timeout_s=0.3), letters.on_paper())
    assert isinstance(found, OutcomeUnknown)
    assert found.detail == "no answer in time"
    async with asyncio.timeout(10):  # the provider may still be working on it
        await printing.simulator.records.until(lambda records: len(records.kept) == copies)


async def test_a_refused_connection_hands_nothing_over(printing: Any, letters: Any) -> None:
    await printing.simulators.refuse("print")
    found = await fails(printing.adapter(), letters.on_paper())
    assert isinstance(found, Unreachable)
    assert "ECONNREFUSED" in found.detail


async def test_a_wrong_key_blocks_the_channel(printing: Any, letters: Any) -> None:
    assert isinstance(await fails(printing.adapter(api_key="wrong"), letters.on_paper()), ChannelBlocked)
    assert isinstance(await fails(printing.adapter(api_key=None), letters.on_paper()), ChannelBlocked)
    assert "wrong" not in repr(PrintRestSettings(base_url="https://house.example", api_key="wrong"))


async def test_the_key_travels_in_the_configured_header(printing: Any, letters: Any, stub: Any) -> None:
    stub.answers(422)
    await fails(printing.adapter(base_url=stub.url, api_key="k", api_key_header="Ocp-Key"), letters.on_paper())
    assert stub.requests[0][1]["Ocp-Key"] == "k"


@pytest.mark.parametrize(
    ("status", "answer", "code"),
    [
        (422, {"data": {"errors": [{"code": "too-long", "field": "recipient.name"}, {"code": "other"}]}}, "too-long"),
        (422, {"data": {"errors": []}}, "422"),
        (422, {"data": {"errors": ["too-long"]}}, "422"),
        (422, {"data": {"code": "address"}}, "address"),
        (422, {"data": {"errors": [{"code": "Jan Peeters is unknown"}]}}, "422"),
        (400, {"text": "Jan Peeters"}, "400"),
        (413, {}, "413"),
    ],
)
async def test_a_refusal_carries_the_houses_first_code(
    *, printing: Any, letters: Any, stub: Any, status: int, answer: dict[str, Any], code: str
) -> None:
    stub.answers(status, **answer)
    found = await fails(printing.adapter(base_url=stub.url), letters.on_paper())
    assert isinstance(found, Refused)
    assert (found.reason, found.code) == (Reason.REFUSED, code)


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (201, {"data": {"status": "ACCEPTED"}}),
        (201, {"data": {"requestId": "another", "status": "ACCEPTED"}}),
        (201, {"data": []}),
        (202, {"data": {}}),
        (204, {}),
    ],
)
async def test_an_answer_about_no_job_of_ours_is_no_hand_over(
    printing: Any, letters: Any, stub: Any, status: int, answer: dict[str, Any]
) -> None:
    stub.answers(status, **answer)
    assert isinstance(await fails(printing.adapter(base_url=stub.url), letters.on_paper()), OutcomeUnknown)


async def test_a_new_job_needs_no_status_but_a_known_one_does(printing: Any, letters: Any, stub: Any) -> None:
    parcel = letters.on_paper()
    adapter = printing.adapter(base_url=stub.url)
    stub.answers(201, data={"requestId": str(parcel.delivery_id), "status": "queued"})
    assert (await adapter.send(parcel, again=False)).status is DeliveryStatus.ACCEPTED
    stub.answers(200, data={"requestId": str(parcel.delivery_id), "status": "queued"})
    found = await fails(adapter, parcel, again=True)
    assert isinstance(found, OutcomeUnknown)
    assert found.detail == "the status queued is in no map"


async def test_the_same_job_again_is_the_same_job(printing: Any, letters: Any) -> None:
    adapter, parcel = printing.adapter(), letters.on_paper()
    first = await adapter.send(parcel, again=False)
    assert await adapter.send(parcel, again=True) == first
    assert (printing.copies(), printing.calls("create")) == (1, 2)


async def test_a_job_in_doubt_is_found_and_one_that_never_came_is_not(printing: Any, letters: Any) -> None:
    adapter = printing.adapter()
    kept, lost = letters.on_paper(), letters.on_paper()
    printing.simulator.faults.order("create", "keep-then-close")
    printing.simulator.faults.order("create", "close")
    for parcel in (kept, lost):
        assert isinstance(await fails(adapter, parcel), OutcomeUnknown)
    found = await adapter.find(kept.delivery_id)
    assert found is not None
    assert (found.status, found.provider_reference) == (DeliveryStatus.ACCEPTED, str(kept.delivery_id))
    assert await adapter.find(lost.delivery_id) is None
    assert (adapter.finds, adapter.resend_is_safe) == (True, True)


async def test_a_conflict_is_settled_by_a_look(printing: Any, letters: Any) -> None:
    adapter, parcel = printing.adapter(), letters.on_paper()
    first = await adapter.send(parcel, again=False)
    moved = replace(parcel, recipient=letters.on_paper(replace(letters.address, street="Dorpstraat")).recipient)
    assert await adapter.send(moved, again=False) == first
    assert printing.copies() == 1
    printing.simulator.faults.order("create", "conflict")
    found = await fails(adapter, letters.on_paper())
    assert isinstance(found, OutcomeUnknown)
    assert "409" in found.detail


@pytest.mark.parametrize(
    ("fault", "times"),
    [
        ("server-error", 3), ("too-many-requests", 1), ("close", 6), ("keep-then-truncate", 3), ("unauthorised", 1),
        ("forbidden", 1), ("redirect", 1), ("conflict", 1), ("malformed-json", 1), ("wrong-content-type", 1),
    ],
)  # fmt: skip
async def test_a_look_that_does_not_tell_settles_nothing(printing: Any, letters: Any, fault: str, times: int) -> None:
    adapter, parcel = printing.adapter(), letters.on_paper()
    handed = letters.handed(parcel, await adapter.send(parcel, again=False))
    for look, error in (
        (lambda: adapter.find(parcel.delivery_id), OutcomeUnknown),
        (lambda: adapter.status(handed), Unreachable),
    ):
        printing.simulator.faults.order("status", fault, times)
        with pytest.raises(DeliveryError) as caught:
            await look()
        assert type(caught.value) is error
        assert printing.simulator.faults.pending == ()


async def test_a_look_sits_short_trouble_out(printing: Any, letters: Any) -> None:
    adapter, parcel = printing.adapter(), letters.on_paper()
    await adapter.send(parcel, again=False)
    printing.simulator.faults.order("status", "server-error", 2)
    assert await adapter.find(parcel.delivery_id) is not None
    assert printing.calls("status") == 3


async def test_a_404_of_something_in_between_is_no_proof_of_absence(
    printing: Any, stub: Any, unknown_delivery: Any
) -> None:
    adapter = printing.adapter(base_url=stub.url)
    stub.answers(404, text="<h1>Not Found</h1>", content_type="text/html")
    with pytest.raises(OutcomeUnknown):
        await adapter.find(unknown_delivery)
    stub.answers(404, data={"errors": [{"code": "not-found"}]})
    assert await adapter.find(unknown_delivery) is None


async def test_a_house_that_is_down_tells_nothing(printing: Any, unknown_delivery: Any) -> None:
    await printing.simulators.refuse("print")
    with pytest.raises(OutcomeUnknown):
        await printing.adapter().find(unknown_delivery)


async def test_a_letter_is_followed_to_its_end(printing: Any, letters: Any) -> None:
    adapter = printing.adapter()
    parcel = letters.on_paper(print_options=PrintOptions(product=PrintProduct.REGISTERED))
    handed = letters.handed(parcel, await adapter.send(parcel, again=False))
    seen = []
    for _ in range(4):
        printing.clock.move(hours=1)
        printing.simulator.queue.advance(str(parcel.delivery_id))
        answer = await adapter.status(handed)
        assert answer.status_at == printing.clock()
        assert answer.barcode is not None
        seen.append(answer.status)
    assert seen == [
        DeliveryStatus.PRINTED,
        DeliveryStatus.ENCLOSED,
        DeliveryStatus.DISPATCHED,
        DeliveryStatus.DELIVERED,
    ]


@pytest.mark.parametrize(
    ("fate", "status", "code"),
    [
        (PrintFate.RETURNED, DeliveryStatus.RETURNED, "unknown"),
        (PrintFate.NOT_COLLECTED, DeliveryStatus.RETURNED, "not_collected"),
    ],
)
async def test_a_letter_that_comes_back_says_why(
    printing: Any, letters: Any, fate: PrintFate, status: DeliveryStatus, code: str
) -> None:
    adapter = printing.adapter()
    parcel = letters.on_paper(replace(letters.address, name=PRINT_NAMES[fate]))
    handed = letters.handed(parcel, await adapter.send(parcel, again=False))
    for _ in range(5):
        printing.simulator.queue.advance(str(parcel.delivery_id))
    answer = await adapter.status(handed)
    assert (answer.status, answer.code) == (status, code)


async def test_an_address_that_the_house_does_not_serve_is_refused(printing: Any, letters: Any) -> None:
    parcel = letters.on_paper(replace(letters.address, name=PRINT_NAMES[PrintFate.REFUSED]))
    found = await fails(printing.adapter(), parcel)
    assert isinstance(found, Refused)
    assert found.code == "address-undeliverable"


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        ("RETURNED", "moved", "moved"),
        ("RETURNED", "R06", "not_collected"),
        ("RETURNED", "R99", "other"),
        ("RETURNED", "back from Jan Peeters", "other"),
        ("LOST", "theft", "other"),
        ("RETURNED", None, None),
        ("REJECTED", "letter-too-long", "letter-too-long"),
        ("DESPATCHED", None, None),
    ],
)
async def test_words_of_a_house_are_translated(
    *, printing: Any, letters: Any, stub: Any, status: str, reason: str | None, code: str | None
) -> None:
    parcel = letters.on_paper()
    adapter = printing.adapter(
        base_url=stub.url,
        status_map={**CANONICAL_STATUSES, "DESPATCHED": DeliveryStatus.DISPATCHED},
        reason_map={"R06": "not_collected"},
    )
    stub.answers(200, data={"requestId": str(parcel.delivery_id), "status": status, "reason": reason})
    answer = await adapter.status(letters.handed(parcel, Handover(status=DeliveryStatus.ACCEPTED)))
    assert answer.status is (CANONICAL_STATUSES.get(status) or DeliveryStatus.DISPATCHED)
    assert answer.code == code
    assert answer.code is None or status == "REJECTED" or answer.code in RETURN_REASONS


@pytest.mark.parametrize("status", [None, 5, "accepted", "WAITING", "IN_DOUBT", "Jan Peeters"])
async def test_a_status_that_no_map_knows_is_not_guessed(
    printing: Any, letters: Any, stub: Any, status: object
) -> None:
    parcel = letters.on_paper()
    stub.answers(200, data={"requestId": str(parcel.delivery_id), "status": status})
    with pytest.raises(Unreachable) as caught:
        await printing.adapter(base_url=stub.url).status(
            letters.handed(parcel, Handover(status=DeliveryStatus.ACCEPTED))
        )
    assert letters.leaks(caught.value) == []


@pytest.mark.parametrize(
    ("timestamp", "barcode", "wanted"),
    [
        ("2026-11-22T11:00:00+01:00", "JJBEA5412885", (datetime(2026, 11, 22, 10, 0, tzinfo=UTC), "JJBEA5412885")),
        ("2026-11-22T10:00:00", "x" * 41, (None, None)),
        ("yesterday", "Jan Peeters", (None, None)),
        (7, 7, (None, None)),
    ],
)  # fmt: skip
async def test_only_sound_times_and_barcodes_are_taken_over(
    *, printing: Any, letters: Any, stub: Any, timestamp: object, barcode: object, wanted: tuple[Any, Any]
) -> None:
    parcel = letters.on_paper()
    job = {"requestId": str(parcel.delivery_id), "status": "PRINTED", "barcode": barcode}
    stub.answers(200, data={**job, "timestamps": {"PRINTED": timestamp}})
    answer = await printing.adapter(base_url=stub.url).status(
        letters.handed(parcel, Handover(status=DeliveryStatus.ACCEPTED))
    )
    assert (answer.status_at, answer.barcode) == wanted


async def test_a_document_that_cannot_be_read_stops_the_call_with_its_own_error(printing: Any, letters: Any) -> None:
    error = BlobMissing("gone")
    parcel = letters.on_paper(documents=(letters.document(), letters.failing(error)))
    with pytest.raises(BlobMissing) as caught:
        await printing.adapter().send(parcel, again=False)
    assert caught.value is error
    assert printing.copies() == 0


def test_reasons_are_translated_only_into_canonical_ones() -> None:
    with pytest.raises(ValueError, match="reason_map"):
        PrintRestSettings(base_url="https://house.example", reason_map={"R01": "gone away"})
