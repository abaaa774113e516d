"""The same message again: a sender that heard nothing sends once more, and there is still one letter."""

import asyncio
import hashlib
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gateway.crypto.certs import load_certificates
from gateway.crypto.receipts import verify_receipt_jws
from gateway.domain.ids import EnterpriseNumber, Ssin
from gateway.domain.message import Channel, Recipient

if TYPE_CHECKING:
    from tests.plugins.house import Answer, House, SenderHand
else:
    from house import Answer, House, SenderHand

XML = {"Accept": "application/xml"}


async def test_the_same_content_signed_anew_at_any_time_gets_200_and_the_very_same_receipt(
    house: House, subtests: pytest.Subtests
) -> None:
    sender = await house.sender()
    message = sender.message()
    first = await sender.post(sender.parts(message))
    assert first.status == 201
    first_xml = await sender.post(sender.parts(message), XML)
    assert first_xml.status == 200
    for name, ahead in (
        ("the same second", timedelta(0)),
        ("a minute later", timedelta(minutes=1)),
        ("days ago", timedelta(days=-40)),
        ("days ahead", timedelta(days=3)),
    ):
        with subtests.test(name):
            parts = sender.parts(replace(message, created_at=message.created_at + ahead))
            again = await sender.post(parts)
            assert again.status == 200
            assert again.json["messageId"] == first.json["messageId"]
            assert again.json["receipt"] == first.json["receipt"]
            assert again.headers["Location"] == first.headers["Location"]
            assert (await sender.post(parts, XML)).body == first_xml.body
    listed = await sender.call("GET", f"/api/v1/messages?reference={message.reference}")
    assert [found["messageId"] for found in listed.json["messages"]] == [first.json["messageId"]]


async def test_the_receipt_outlives_a_restart_byte_for_byte(make_house: Any) -> None:
    async with AsyncExitStack() as first_run:
        house = await make_house(own_stack=first_run)
        sender = await house.sender()
        message = sender.message()
        first = await sender.post(sender.parts(message))
        first_xml = await sender.post(sender.parts(message), XML)
    house = await make_house(simulators=house.simulators)
    sender = await house.sender()
    again = await sender.post(sender.parts(message))
    assert again.status == 200
    assert again.json["receipt"] == first.json["receipt"]
    assert (await sender.post(sender.parts(message), XML)).body == first_xml.body


async def test_a_known_message_is_answered_without_its_documents(house: House) -> None:
    sender = await house.sender()
    message = sender.message()
    first = await sender.post(sender.parts(message))
    again = await sender.post(sender.parts(message, []))
    assert again.status == 200
    assert again.json["receipt"] == first.json["receipt"]


async def test_a_known_message_is_answered_whatever_rights_and_quota_say_today(
    make_house: Any, registered: Any
) -> None:
    senders = registered(n0406798006=lambda values: values["quota"].update(messages_per_day=1))
    house = await make_house(lambda values: values["gateway"].update(senders=senders))
    sender = await house.sender()
    message = sender.message()
    first = await sender.post(sender.parts(message))
    assert first.status == 201
    assert (await sender.send()).code == "quota-exceeded"
    assert (await sender.post(sender.parts(message))).json["receipt"] == first.json["receipt"]


async def test_other_content_under_a_known_reference_is_a_conflict_that_names_the_fields(
    house: House, subtests: pytest.Subtests
) -> None:
    sender = await house.sender()
    message = sender.message()
    first = await sender.post(sender.parts(message))
    other_letter = house.pdf + b"\n"
    changes: dict[str, tuple[dict[str, Any], list[str]]] = {
        "subject": ({"subject": "Een ander onderwerp"}, ["/subject/text"]),
        "two fields": ({"purpose": "Een ander doel", "language": "fr"}, ["/purpose", "/subject/lang"]),
        "recipient": (
            {"recipient": replace(message.recipient, ssin=Ssin("90610100551"))},
            ["/recipient/ssin"],
        ),
        "documents": ({"documents": sender.message([other_letter]).documents}, ["/documents"]),
        "unknown category": ({"category": "no-such-category"}, ["/category"]),
        "out of the window": (
            {"created_at": message.created_at - timedelta(days=90), "billing_reference": "K-1"},
            ["/billingReference"],
        ),
    }
    for name, (change, fields) in changes.items():
        with subtests.test(name):
            other = replace(message, **change)
            answer = await sender.post(sender.parts(other, [other_letter if name == "documents" else house.pdf]))
            assert (answer.status, answer.code) == (409, "reference-conflict")
            assert answer.json["messageId"] == first.json["messageId"]
            assert answer.json["differingFields"] == fields
            for value in ("Een ander", "90610100551", "90610100155", "Aanslagbiljet"):
                assert value not in answer.body.decode()
    assert (await sender.post(sender.parts(message))).json["receipt"] == first.json["receipt"]


async def test_a_second_copy_waits_while_the_first_is_arriving(
    house: House, connect: Any, make_post: Any, inside: Any
) -> None:
    sender = await house.sender()
    letter = house.pdf + bytes(600_000)
    message = sender.message([letter])
    whole = make_post(sender.parts(message, [letter]))
    wire = await connect(house)
    await wire.send(whole[:-100_000])

    look = inside(house)

    async def is_arriving() -> bool:
        return bool((await look.traces()).documents)

    await look.until(is_arriving)
    for second in (message, replace(message, subject="Iets anders")):
        answer = await sender.post(sender.parts(second, [letter]))
        assert (answer.status, answer.code) == (409, "still-receiving")
        assert int(answer.headers["Retry-After"]) > 0
    await wire.send(whole[-100_000:])
    first = await wire.answer()
    assert first.status == 201
    again = await sender.post(sender.parts(message, [letter]))
    assert again.status == 200
    assert again.json["receipt"] == first.json["receipt"]
    kinds = [entry["res"] for entry in await inside(house).log("traffic") if entry["ev"] == "refused"]
    assert kinds == []  # a copy that had to wait is told of by the first one's entry


async def test_a_first_copy_that_broke_off_leaves_nothing_and_frees_the_reference(
    house: House, connect: Any, make_post: Any, inside: Any
) -> None:
    sender = await house.sender()
    letter = house.pdf + bytes(600_000)
    message = sender.message([letter])
    wire = await connect(house)
    await wire.send(make_post(sender.parts(message, [letter]))[:-100_000])
    look = inside(house)

    async def has_traces() -> bool:
        return bool((await look.traces()).documents)

    async def has_none() -> bool:
        return not await has_traces()

    await look.until(has_traces)
    wire.break_off()
    await look.until(has_none)
    assert (await look.traces()).messages == frozenset()
    assert (await sender.post(sender.parts(message, [letter]))).status == 201


async def test_only_acceptance_burns_a_reference(house: House) -> None:
    sender = await house.sender()
    message = sender.message()
    wrong = [
        replace(message, gateway="elsewhere.example"),
        replace(message, category="social-benefit"),
        replace(message, subject="Een eerdere versie", documents=sender.message([b"%PDF-other"]).documents),
    ]
    for other in wrong:
        assert (await sender.post(sender.parts(other))).status in (403, 422)
    assert (await sender.post(sender.parts(message))).status == 201


async def settled(sender: SenderHand, parts: list[Any]) -> Answer:
    """Send as a careful client does: again for as long as another copy is arriving."""
    async with asyncio.timeout(20):
        while True:
            answer = await sender.post(parts)
            if answer.status != 409 or answer.code != "still-receiving":
                return answer
            await asyncio.sleep(0.01)


async def test_ten_copies_at_once_become_one_message(house: House) -> None:
    sender = await house.sender()
    message = sender.message()
    copies = [sender.parts(replace(message, created_at=message.created_at - timedelta(seconds=n))) for n in range(10)]
    answers = await asyncio.gather(*(settled(sender, parts) for parts in copies))
    assert sorted(answer.status for answer in answers) == [200] * 9 + [201]
    assert len({answer.json["receipt"] for answer in answers}) == 1
    assert len({answer.json["messageId"] for answer in answers}) == 1
    message_id = answers[0].json["messageId"]
    await sender.until(message_id, lambda view: view["status"] == "delivered")
    assert len(house.simulators.ebox.records.kept) == 1


async def test_of_ten_different_messages_with_one_reference_exactly_one_is_taken(house: House) -> None:
    sender = await house.sender()
    message = sender.message()
    versions = [sender.parts(replace(message, subject=f"Versie {n}")) for n in range(10)]
    answers = await asyncio.gather(*(settled(sender, parts) for parts in versions))
    assert sorted(answer.status for answer in answers) == [201] + [409] * 9
    (taken,) = (answer.json["messageId"] for answer in answers if answer.status == 201)
    assert {answer.json["messageId"] for answer in answers} == {taken}


async def test_a_reference_is_each_profiles_own(house: House) -> None:
    gemeente, belasting = await house.sender("gemeente"), await house.sender("belasting")
    company = Recipient(enterprise_number=EnterpriseNumber("0406798006"))
    answers = {
        "burgerzaken": await gemeente.send(reference="R-1"),
        "personenbelasting": await belasting.send(reference="R-1", subject="Iets anders"),
        "vennootschapsbelasting": await belasting.send(
            reference="R-1", profile="vennootschapsbelasting", recipient=company, channels=(Channel.EBOX_ENTERPRISE,)
        ),
    }
    assert {profile: answer.status for profile, answer in answers.items()} == dict.fromkeys(answers, 201)
    assert len({answer.json["messageId"] for answer in answers.values()}) == 3
    for hand, profiles in ((gemeente, {"burgerzaken"}), (belasting, set(answers) - {"burgerzaken"})):
        listed = (await hand.call("GET", "/api/v1/messages?reference=R-1")).json["messages"]
        assert {found["profile"]: found["messageId"] for found in listed} == {
            profile: answers[profile].json["messageId"] for profile in profiles
        }


async def test_an_idempotency_key_must_be_the_signed_reference(
    intake: House, inside: Any, connect: Any, make_post: Any
) -> None:
    sender = await intake.sender()
    message = sender.message()
    answer = await sender.post(sender.parts(message), {"Idempotency-Key": "something-else"})
    assert (answer.status, answer.code) == (400, "bad-request")
    assert "Idempotency-Key" in answer.json["detail"]
    assert (await inside(intake).traces()).messages == frozenset()
    assert (await sender.post(sender.parts(message), {"Idempotency-Key": message.reference})).status == 201
    assert (await sender.post(sender.parts(message), {"Idempotency-Key": f'"{message.reference}"'})).status == 200
    assert (await sender.post(sender.parts(message), {"Idempotency-Key": "something-else"})).status == 400
    key = f"\r\nIdempotency-Key: {message.reference}".encode()
    twice = make_post(sender.parts(message)).replace(b"\r\n\r\n", key + key + b"\r\n\r\n", 1)
    assert (await (await connect(intake)).ask(twice)).code == "bad-request"


async def test_the_receipt_of_a_repeated_message_names_the_part_that_was_first(house: House) -> None:
    sender = await house.sender()
    message = sender.message()
    first = sender.parts(message)
    token = (await sender.post(first)).json["receipt"]
    again = await sender.post(sender.parts(replace(message, created_at=message.created_at + timedelta(seconds=1))))
    certificate = (await asyncio.to_thread(load_certificates, house.certs / "receipts.pem"))[0]
    named = verify_receipt_jws(again.json["receipt"], certificate).message_sha256
    assert again.json["receipt"] == token
    assert named == hashlib.sha256(first[0].content).hexdigest()
