"""Stopping a message: until a provider is called for it, and never after."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.domain.message import Channel
from gateway.simulators.__main__ import load_public_key
from gateway.simulators.ebox import EboxSimulator
from gateway.simulators.ebox_settings import DEMO_CLIENT_ID, DEMO_ORGANISATION
from gateway.simulators.print_house import PrintHouseSimulator
from gateway.simulators.serve import Simulators
from gateway.simulators.tokens import Client

if TYPE_CHECKING:
    from tests.plugins.house import Answer, House, SenderHand
else:
    from house import Answer, House, SenderHand

HOLD = timedelta(hours=1)
UNKNOWN = "01a2014e-92d4-7f37-a359-d66bd764a1fe"


async def cancel(sender: SenderHand, message_id: str, **headers: str) -> Answer:
    return await sender.call("POST", f"/api/v1/messages/{message_id}/cancel", headers=headers)


def is_settled(view: Any) -> bool:
    return view["status"] in ("delivered", "cancelled")


def make_simulators(certs: Path, clock: Callable[[], datetime]) -> Simulators:
    """Providers that live in the same time as the gateway."""
    client = Client(
        client_id=DEMO_CLIENT_ID,
        public_key=load_public_key(certs / "ebox-client.pem"),
        organisation=DEMO_ORGANISATION,
    )
    api_key = (certs / "print-api-key").read_text().strip()
    return Simulators(
        ebox=EboxSimulator(clients=[client], clock=clock),
        print_house=PrintHouseSimulator(api_key=api_key, clock=clock),
    )


@pytest.fixture
async def patient(make_house: Any, registered: Any, moved_clock: Any, certs: Path) -> AsyncIterator[House]:
    """A gateway that waits for an hour before it delivers a letter of the municipality."""
    senders = registered(n0406798006=lambda values: values["profiles"][0].update(hold="PT1H"))

    def change(values: dict[str, Any]) -> None:
        values["gateway"]["senders"] = senders
        values["workers"]["count"] = 20

    async with await asyncio.to_thread(make_simulators, certs, moved_clock) as simulators, AsyncExitStack() as stack:
        yield await make_house(change, simulators=simulators, clock=moved_clock, own_stack=stack)


async def test_a_letter_cancelled_inside_its_hold_is_stopped_and_another_leaves_after_it(
    patient: House, moved_clock: Any
) -> None:
    sender = await patient.sender()
    stopped_letter, other_letter = patient.pdf + b"\n%stopped", patient.pdf + b"\n%other"
    stopped = await sender.accepted([stopped_letter])
    other = await sender.accepted([other_letter])
    assert (await sender.view(stopped))["status"] == "scheduled"
    moved_clock.ahead = HOLD / 2
    answer = await cancel(sender, stopped)
    assert answer.status == 200
    moved_clock.ahead = HOLD + timedelta(seconds=1)
    await sender.until(other, lambda view: view["status"] == "delivered")
    assert (await sender.view(stopped)) == answer.json
    kept = patient.simulators.ebox.records
    assert kept.copies(hashlib.sha256(other_letter).hexdigest()) == 1
    assert kept.copies(hashlib.sha256(stopped_letter).hexdigest()) == 0


async def test_a_cancelled_letter_shows_what_became_of_it(patient: House, inside: Any) -> None:
    sender = await patient.sender()
    message_id = await sender.accepted()
    view = (await cancel(sender, message_id)).json
    assert (view["messageId"], view["status"], view["final"]) == (message_id, "cancelled", True)
    (delivery,) = view["deliveries"]
    assert (delivery["status"], delivery["reason"]) == ("cancelled", None)
    assert view["copy"]["state"] == "awaiting-erasure"
    kept_for = datetime.fromisoformat(view["copy"]["until"]) - datetime.fromisoformat(view["acceptedAt"])
    assert kept_for.days == 30  # keep_undelivered
    assert view["timeline"][-1]["event"] == "cancelled"
    assert view["timeline"][-1]["messageStatus"] == "cancelled"
    entry = (await inside(patient).log("traffic"))[-1]
    assert entry["who"] == {"party": "0406798006", "sender": "0406798006", "profile": "burgerzaken"}
    channel = delivery["channel"]
    assert await inside(patient).metric("gateway_deliveries_total", channel=channel, status="cancelled") == 1


async def test_cancelling_again_is_answered_the_same(patient: House) -> None:
    sender = await patient.sender()
    message_id = await sender.accepted()
    answers = await asyncio.gather(*(cancel(sender, message_id) for _ in range(10)))
    answers.append(await cancel(sender, message_id))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert [entry["event"] for entry in answers[0].json["timeline"]] == ["accepted", "cancelled"]


async def test_a_letter_that_was_handed_over_is_not_stopped(house: House) -> None:
    sender = await house.sender()
    message_id = await sender.accepted()
    await sender.until(message_id, lambda view: view["status"] == "delivered")
    answer = await cancel(sender, message_id)
    assert (answer.status, answer.code) == (409, "already-dispatched")
    assert (answer.json["messageId"], answer.json["messageStatus"]) == (message_id, "delivered")
    assert "delivered" in answer.json["detail"]
    assert (await sender.view(message_id))["status"] == "delivered"


async def test_a_letter_that_is_tried_again_is_not_stopped_any_more(house: House) -> None:
    house.simulators.print_house.faults.order("create", "too-many-requests", times=1_000)
    sender = await house.sender()
    message_id = await sender.accepted(channels=(Channel.PRINT,))
    await sender.until(message_id, lambda view: view["deliveries"][0]["reason"] == "provider-trouble")
    answer = await cancel(sender, message_id)
    assert (answer.status, answer.code) == (409, "already-dispatched")
    assert answer.json["messageStatus"] == "in-delivery"


async def test_nobody_else_stops_a_letter(patient: House) -> None:
    sender, other = await patient.sender(), await patient.sender("belasting")
    message_id = await sender.accepted()
    for hand, asked in ((other, message_id), (sender, UNKNOWN), (sender, "none")):
        answer = await cancel(hand, asked)
        assert (answer.status, answer.code) == (404, "not-found")
    assert (await sender.view(message_id))["status"] == "scheduled"


async def test_a_processor_stops_a_letter_in_the_name_of_its_sender(patient: House, inside: Any) -> None:
    sender, processor = await patient.sender(), await patient.sender("belasting")
    message_id = await sender.accepted()
    answer = await cancel(processor, message_id, **{"On-Behalf-Of-Enterprise-Number": sender.number})
    assert (answer.status, answer.json["status"]) == (200, "cancelled")
    who = (await inside(patient).log("traffic"))[-1]["who"]
    assert (who["party"], who["sender"]) == (processor.number, sender.number)


async def test_of_fifty_letters_cancelled_while_workers_begin_each_is_stopped_or_delivered_once(
    patient: House, moved_clock: Any
) -> None:
    sender = await patient.sender()
    letters = {number: patient.pdf + b"\n%%%d" % number for number in range(50)}
    ids = await asyncio.gather(*(sender.accepted([letter]) for letter in letters.values()))
    assert patient.gateway.workers is not None
    moved_clock.ahead = HOLD + timedelta(seconds=1)
    patient.gateway.workers.wake()
    answers: list[Answer] = []
    for start in range(0, len(ids), 5):  # so that some come before the workers and some after
        answers += await asyncio.gather(*(cancel(sender, message_id) for message_id in ids[start : start + 5]))
    views = await asyncio.gather(*(sender.until(message_id, is_settled) for message_id in ids))
    for letter, answer, view in zip(letters.values(), answers, views, strict=True):
        copies = patient.simulators.ebox.records.copies(hashlib.sha256(letter).hexdigest())
        if answer.status == 200:
            assert (view["status"], copies) == ("cancelled", 0)
        else:
            assert (answer.status, answer.code, view["status"], copies) == (409, "already-dispatched", "delivered", 1)
