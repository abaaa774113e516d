"""A suspended sender is refused at once, everywhere, until it is resumed."""

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from gateway.domain.ids import EnterpriseNumber

if TYPE_CHECKING:
    from tests.plugins.house import multipart
else:
    from house import multipart

GEMEENTE, BELASTING = EnterpriseNumber("0406798006"), EnterpriseNumber("0566988259")
EMPTY = (200, b'{"messages": []}')


async def test_a_suspended_sender_loses_its_connections_and_is_refused_until_it_is_resumed(premises: Any) -> None:
    wires = [await premises.wire(name) for name in ("gemeente", "gemeente", "belasting")]
    assert [await wire.ask() for wire in wires] == [EMPTY] * 3
    done = await premises.done("/senders/suspend", enterpriseNumber=GEMEENTE, reason="their key was stolen")
    assert done == {
        "enterpriseNumber": GEMEENTE,
        "name": "Gemeente Voorbeeld",
        "suspended": True,
        "connectionsClosed": 2,
    }
    for wire in wires[:2]:
        await wire.closed()
    status, body = await (await premises.wire()).ask()
    assert (status, json.loads(body)["type"].rpartition(":")[2]) == (403, "sender-suspended")
    assert (await (await premises.house.sender()).send()).code == "sender-suspended"
    assert await wires[2].ask() == EMPTY
    await premises.done("/senders/resume", enterpriseNumber=GEMEENTE, reason="new key registered")
    assert await (await premises.wire()).ask() == EMPTY
    entries = await premises.log("senders-suspend") + await premises.log("senders-resume")
    assert [(entry["res"], entry["what"], entry["who"]["person"]) for entry in entries] == [
        ("suspended", {"sender": GEMEENTE, "reason": "their key was stolen"}, "Jo Peeters"),
        ("resumed", {"sender": GEMEENTE, "reason": "new key registered"}, "Jo Peeters"),
    ]


async def test_a_connection_that_was_closed_by_its_sender_is_not_counted(premises: Any) -> None:
    wire = await premises.wire()
    assert await wire.ask() == EMPTY
    wire.writer.close()
    await wire.writer.wait_closed()
    other = await premises.wire("belasting")  # the loop has turned
    assert await other.ask() == EMPTY
    done = await premises.done("/senders/suspend", enterpriseNumber=GEMEENTE)
    assert done["connectionsClosed"] == 0


async def test_a_hand_over_under_way_is_cut_off_and_nothing_of_it_is_kept(premises: Any) -> None:
    sender = await premises.house.sender()
    message = sender.message()
    body = multipart(sender.parts(message))
    head = (
        "POST /api/v1/messages HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: multipart/form-data; boundary=simple-boundary\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    wire = await premises.wire()
    assert await wire.ask() == EMPTY
    wire.writer.write(head + body[: len(body) // 2])
    await wire.writer.drain()
    assert (await premises.done("/senders/suspend", enterpriseNumber=GEMEENTE))["connectionsClosed"] == 1
    await wire.closed()
    await premises.done("/senders/resume", enterpriseNumber=GEMEENTE)
    assert await (await premises.wire()).ask() == EMPTY
    assert (await sender.post(sender.parts(message))).status == 201


async def test_a_processor_of_a_suspended_sender_is_refused_for_it_alone(premises: Any) -> None:
    processor = await premises.house.sender("belasting")
    await premises.done("/senders/suspend", enterpriseNumber=GEMEENTE)
    on_behalf = {"On-Behalf-Of-Enterprise-Number": GEMEENTE}
    assert (await processor.call("GET", "/api/v1/messages", headers=on_behalf)).code == "sender-suspended"
    assert (await processor.call("GET", "/api/v1/messages")).status == 200


async def test_who_is_suspended_since_when_and_why_is_listed(premises: Any) -> None:
    await premises.done("/senders/suspend", enterpriseNumber=GEMEENTE, reason="their key was stolen")
    listed = (await premises.admin("GET", "/senders")).body
    assert listed["registrationVersion"] == 1
    suspended, other = listed["senders"]
    assert (suspended["enterpriseNumber"], suspended["suspendedBecause"]) == (GEMEENTE, "their key was stolen")
    assert suspended["suspendedAt"].endswith("Z")
    assert other == {
        "enterpriseNumber": BELASTING,
        "name": "Belastingdienst Voorbeeld",
        "active": True,
        "profiles": 2,
        "certificates": 1,
        "suspendedAt": None,
        "suspendedBecause": None,
    }


async def test_a_suspension_outlives_the_registration_and_can_still_be_ended(premises: Any) -> None:
    await premises.done("/senders/suspend", enterpriseNumber=BELASTING)
    await asyncio.to_thread(premises.files.sender(BELASTING).unlink)
    await premises.edit(premises.files.sender(GEMEENTE), lambda values: values.pop("processors"))
    await premises.done("/senders/apply")
    assert (await premises.done("/senders/resume", enterpriseNumber=BELASTING))["name"] is None


@pytest.mark.parametrize(
    ("path", "number", "status", "code"),
    [
        ("/senders/suspend", "0316380841", 404, "not-found"),
        ("/senders/resume", GEMEENTE, 409, "already-so"),
        ("/senders/suspend", "0406798007", 400, "bad-request"),
        ("/senders/suspend", 406798006, 400, "bad-request"),
        ("/senders/resume", None, 400, "bad-request"),
    ],
)
async def test_what_cannot_be_done_is_refused(premises: Any, path: str, number: object, status: int, code: str) -> None:
    problem = await premises.refused(path, enterpriseNumber=number)
    assert (problem["status"], problem["type"].rpartition(":")[2]) == (status, code)
    assert await premises.query("SELECT count(*) FROM suspension") == [(0,)]


async def test_of_two_who_suspend_at_once_one_is_told_that_it_was_done(premises: Any) -> None:
    body = {"enterpriseNumber": GEMEENTE, "reason": "a test"}
    replies = await asyncio.gather(*(premises.admin("POST", "/senders/suspend", body) for _ in range(3)))
    assert sorted(reply.refused for reply in replies) == [False, True, True]
    assert {reply.body["type"].rpartition(":")[2] for reply in replies if reply.refused} == {"already-so"}
