"""Registered letters: what the post says of them, and the proof that they were posted."""

from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from pypdf import PdfReader

from gateway.app import Part as RunningPart
from gateway.domain.message import Channel, PrintOptions, PrintProduct
from gateway.simulators.print_queue import Evidence

if TYPE_CHECKING:
    from tests.plugins.house import Answer, House, SenderHand
else:
    from house import Answer, House, SenderHand

UNKNOWN = "01a2014e-92d4-7f37-a359-d66bd764a1fe"
WITH_RECEIPT, WITHOUT_RECEIPT = PrintProduct.REGISTERED_AR, PrintProduct.REGISTERED


async def ask(sender: SenderHand, message_id: str, what: str) -> Answer:
    return await sender.call("GET", f"/api/v1/messages/{message_id}/bpost-{what}")


async def send(sender: SenderHand, product: PrintProduct = WITHOUT_RECEIPT) -> str:
    return await sender.accepted(channels=(Channel.PRINT,), print_options=PrintOptions(product=product))


def has_arrived(view: Any) -> bool:
    return bool(view["deliveries"][0]["status"] == "delivered")


@pytest.mark.parametrize("product", [WITH_RECEIPT, WITHOUT_RECEIPT])
async def test_a_registered_letter_has_a_postal_status(house: House, product: PrintProduct) -> None:
    sender = await house.sender()
    message_id = await send(sender, product)
    view = await sender.until(message_id, has_arrived)
    (delivery,) = view["deliveries"]
    answer = await ask(sender, message_id, "status")
    assert answer.status == 200
    assert answer.json == {
        "messageId": message_id,
        "deliveryId": delivery["deliveryId"],
        "number": 1,
        "barcode": delivery["barcode"],
        "status": "delivered",
        "statusAt": view["timeline"][-1]["at"],
        "isEar": product is WITH_RECEIPT,
    }
    assert delivery["barcode"] is not None


async def test_the_proof_of_posting_comes_from_the_print_house(house: House) -> None:
    sender = await house.sender()
    message_id = await send(sender, WITH_RECEIPT)
    (delivery,) = (await sender.until(message_id, has_arrived))["deliveries"]
    answer = await ask(sender, message_id, "attestation")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/pdf")
    proof, *others = house.simulators.print_house.jobs[delivery["deliveryId"]].evidence
    assert (proof.type, [each.type for each in others]) == ("proof_of_posting", ["acknowledgement"])
    assert answer.body == proof.content
    metadata = PdfReader(BytesIO(answer.body)).metadata
    assert metadata is not None
    assert delivery["barcode"] in str(metadata.title)


async def test_there_is_none_before_the_letter_is_posted(make_house: Any) -> None:
    house = await make_house(parts=[RunningPart.INTAKE])
    sender = await house.sender()
    message_id = await send(sender)
    status = await ask(sender, message_id, "status")
    assert (status.json["status"], status.json["barcode"]) == ("waiting", None)
    answer = await ask(sender, message_id, "attestation")
    assert (answer.status, answer.code) == (404, "not-found")
    assert house.simulators.print_house.records.calls == []


async def test_there_is_none_while_the_print_house_has_none(make_house: Any) -> None:
    house = await make_house(lambda values: values["polling"].update(print_s=3_600.0))
    sender = await house.sender()
    message_id = await send(sender)
    await sender.until(message_id, lambda view: view["deliveries"][0]["status"] == "accepted")
    answer = await ask(sender, message_id, "attestation")
    assert (answer.status, answer.code) == (404, "not-found")
    (delivery,) = (await sender.view(message_id))["deliveries"]
    house.simulators.print_house.jobs.clear()  # it lost its books
    assert (await ask(sender, message_id, "attestation")).status == 404
    assert delivery["status"] == "accepted"


async def test_an_ordinary_letter_and_an_electronic_one_have_neither(house: House) -> None:
    sender = await house.sender()
    letters = [await send(sender, PrintProduct.STANDARD), await sender.accepted()]
    for message_id in letters:
        await sender.until(message_id, lambda view: view["status"] == "delivered")
        for what in ("status", "attestation"):
            answer = await ask(sender, message_id, what)
            assert (answer.status, answer.code) == (404, "not-found")


async def test_nobody_gets_anothers(house: House) -> None:
    sender, other = await house.sender(), await house.sender("belasting")
    message_id = await send(sender)
    await sender.until(message_id, has_arrived)
    for hand, asked in ((other, message_id), (sender, UNKNOWN)):
        for what in ("status", "attestation"):
            assert (await ask(hand, asked, what)).status == 404


async def test_a_print_house_in_trouble_is_told_as_such(house: House, subtests: pytest.Subtests) -> None:
    sender = await house.sender()
    message_id = await send(sender)
    await sender.until(message_id, has_arrived)
    troubles = {
        "evidence": ("server-error", "close", "malformed-json", "unauthorised"),
        "evidence-file": ("server-error", "close", "wrong-content-type", "keep-then-truncate"),
    }
    for operation, fault in ((operation, fault) for operation, faults in troubles.items() for fault in faults):
        with subtests.test(f"{operation}: {fault}"):
            house.simulators.print_house.faults.order(operation, fault, times=10)
            answer = await ask(sender, message_id, "attestation")
            assert (answer.status, answer.code) == (503, "provider-unavailable")
            assert int(answer.headers["Retry-After"]) > 0
            house.simulators.print_house.faults.clear()
            assert (await ask(sender, message_id, "attestation")).status == 200


async def test_a_proof_that_is_not_the_one_listed_is_not_passed_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = await house.sender()
    message_id = await send(sender)
    await sender.until(message_id, has_arrived)
    with monkeypatch.context() as changed:
        changed.setattr(Evidence, "sha256", "0" * 64)
        answer = await ask(sender, message_id, "attestation")
    assert (answer.status, answer.code) == (503, "provider-unavailable")
    assert "another file" in answer.json["detail"]
    assert (await ask(sender, message_id, "attestation")).status == 200
