import asyncio
import hashlib

import pytest

from gateway.simulators import magic
from gateway.simulators.tokens import SCOPE_PUBLICATION

PDF = b"%PDF-1.7 letter"


async def test_records_over_http_prove_what_was_kept_and_called(ebox):
    published = await ebox.publish(key="one")
    await ebox.publish(key="one")
    records = (await ebox.get("/_simulator/records")).json
    (kept,) = records["kept"]
    assert kept["id"] == published.json["messageId"]
    assert (kept["key"], kept["recipient"], kept["sender"]) == ("one", magic.CITIZEN_FINE, "0316380841")
    assert kept["documents"] == [
        {
            "name": "upfile1",
            "filename": "brief.pdf",
            "mediaType": "application/pdf",
            "sha256": hashlib.sha256(PDF).hexdigest(),
            "sizeBytes": len(PDF),
        }
    ]
    assert kept["body"] == ebox.message()
    calls = [call for call in records["calls"] if call["operation"] == "publish"]
    assert [(call["key"], call["status"], call["outcome"], call["keptId"]) for call in calls] == [
        ("one", 201, "answered", kept["id"]),
        ("one", 409, "answered", None),
    ]


async def test_records_of_the_print_house_hold_the_job_and_its_signature(printing):
    await printing.create(printing.job("d1", jws="a.b.c"))
    (kept,) = (await printing.get("/_simulator/records")).json["kept"]
    assert (kept["id"], kept["key"], kept["recipient"], kept["body"]["jws"]) == ("d1", "d1", "Jan Peeters", "a.b.c")
    assert kept["documents"][0]["sha256"] == kept["body"]["documents"][0]["sha256"]


async def test_a_fault_shows_in_the_records(ebox):
    await ebox.control("faults", operation="publish", fault="keep-then-500")
    await ebox.publish()
    call = (await ebox.get("/_simulator/records")).json["calls"][-1]
    assert (call["fault"], call["status"]) == ("keep-then-500", 500)
    assert call["keptId"] is not None


async def test_earlier_records_can_be_left_out(ebox):
    for _ in range(3):
        await ebox.publish()
    records = (await ebox.get("/_simulator/records?kept_after=1&calls_after=3")).json
    assert [kept["number"] for kept in records["kept"]] == [2, 3]
    assert [call["number"] for call in records["calls"]] == [4]


async def test_cleared_records_leave_the_provider_s_memory(ebox, ebox_simulator):
    await ebox.publish(key="one")
    assert (await read_delete(ebox, "records")).status == 200
    assert (await ebox.get("/_simulator/records")).json == {"kept": [], "calls": []}
    assert (await ebox.publish(key="one")).status == 409
    assert ebox_simulator.records.calls[0].number == 3


async def read_delete(ebox, name):
    async with ebox.http.delete(f"{ebox.url}/_simulator/{name}") as response:
        await response.read()
        return response


async def test_copies_are_counted_by_digest_and_recipient(ebox, ebox_simulator):
    await ebox.publish()
    await ebox.publish()
    await ebox.publish(ebox.message(magic.CITIZEN_UNREAD))
    sha256 = hashlib.sha256(PDF).hexdigest()
    assert ebox_simulator.records.copies(sha256) == 3
    assert ebox_simulator.records.copies(sha256, recipient=magic.CITIZEN_FINE) == 2
    assert ebox_simulator.records.copies("0" * 64) == 0


async def test_waiting_answers_once_enough_is_kept(ebox, ebox_simulator):
    await ebox.token()
    waiting = asyncio.create_task(ebox.get("/_simulator/wait?kept=2&timeout_s=30"))
    await ebox.publish()
    await ebox.publish()
    async with asyncio.timeout(20):
        reply = (await waiting).json
    assert reply == {"reached": True, "kept": 2, "calls": 3, "held": 0}


async def test_waiting_ends_with_its_time(ebox):
    assert (await ebox.get("/_simulator/wait?kept=1&timeout_s=0.01")).json == {
        "reached": False,
        "kept": 0,
        "calls": 0,
        "held": 0,
    }


async def test_faults_are_ordered_listed_and_cleared_over_http(ebox):
    ordered = await ebox.control(
        "faults",
        operation="publish",
        fault="too-many-requests",
        times=2,
        match={"recipient": magic.CITIZEN_FINE},
        retryAfterS=120,
    )
    assert ordered.status == 201
    assert (await ebox.get("/_simulator/faults")).json == [ordered.json]
    limited = await ebox.publish()
    assert (limited.status, limited.headers["Retry-After"]) == (429, "120")
    assert (await ebox.get("/_simulator/faults")).json[0]["left"] == 1
    await read_delete(ebox, "faults")
    assert (await ebox.publish()).status == 201


async def test_status_and_code_of_a_fault_can_be_chosen(printing):
    await printing.control("faults", operation="create", fault="server-error", status=507, code="full", field="disk")
    reply = await printing.create(printing.job("d1"))
    assert (reply.status, reply.json) == (507, {"errors": [{"code": "full", "field": "disk"}]})


async def test_a_held_call_is_seen_and_released_over_http(ebox):
    await ebox.token()
    await ebox.control("faults", operation="publish", fault="slow")
    publishing = asyncio.create_task(ebox.publish())
    async with asyncio.timeout(20):
        assert (await ebox.get("/_simulator/wait?held=1")).json["held"] == 1
        assert (await ebox.control("release")).json == {"released": 1}
        assert (await publishing).status == 201


@pytest.mark.parametrize(
    "order",
    [
        {},
        {"operation": "publish"},
        {"operation": "publish", "fault": "earthquake"},
        {"operation": "print", "fault": "hang"},
        {"operation": "publish", "fault": "hang", "times": "many"},
        {"operation": "publish", "fault": "hang", "match": {"recipient": "x"}},
        {"operation": "publish", "fault": "hang", "match": "x"},
    ],
)
async def test_a_wrong_fault_order_is_answered_with_the_reason(ebox, order):
    reply = await ebox.control("faults", **order)
    assert reply.status == 400
    assert reply.json["error"]


@pytest.mark.parametrize("body", [b"[]", b"{", b"\xff"])
async def test_an_order_that_is_no_json_object_is_refused(ebox, body):
    assert (await ebox.post("/_simulator/faults", data=body)).status == 400


@pytest.mark.parametrize("query", ["records?kept_after=x", "wait?kept=x", "wait?timeout_s=x"])
async def test_a_wrong_question_is_refused(ebox, query):
    assert (await ebox.get(f"/_simulator/{query}")).status == 400


async def test_the_control_interface_is_the_only_addition(ebox_simulator, print_simulator):
    def paths(simulator):
        routes = {(route.method, route.resource.canonical) for route in simulator.app.router.routes()}
        return {route for route in routes if not route[1].startswith("/_simulator/") and route[0] != "HEAD"}

    base = "/REST/ebox/enterprise"
    assert paths(ebox_simulator) == {
        ("POST", "/REST/oauth/v5/token"),
        ("POST", f"{base}/messageRegistry/v2/publishMessage"),
        ("POST", f"{base}/messageRegistry/v2/searchMessageStatus"),
        ("POST", f"{base}/messageRegistry/v3/ebox/messages"),
        ("POST", f"{base}/federation/v1/eboxPreferences/search"),
        ("POST", f"{base}/federation/v1/citizenEboxConsents/search"),
        ("GET", f"{base}/partition/v1/ebox/{{enterpriseNumber}}/hasMandate"),
    }
    assert paths(print_simulator) == {
        ("POST", "/print-jobs"),
        ("GET", "/print-jobs/{requestId}"),
        ("GET", "/print-jobs/{requestId}/evidence"),
        ("GET", "/print-jobs/{requestId}/evidence/{number}"),
    }


async def test_a_token_is_not_a_record(ebox, ebox_simulator):
    token = await ebox.token(SCOPE_PUBLICATION)
    await ebox.publish()
    assert token not in (await ebox.get("/_simulator/records")).body.decode()
