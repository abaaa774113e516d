"""Many senders at once: no byte, name or right of one request ever turns up in another."""

import asyncio
import hashlib
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gateway.crypto.certs import load_certificates
from gateway.crypto.receipts import verify_receipt_jws
from gateway.domain.ids import Ssin
from gateway.domain.message import Channel, Message

if TYPE_CHECKING:
    from tests.plugins.house import House, SenderHand
else:
    from house import House, SenderHand

LETTERS = 40
PIECE_BYTES = 8_000


def citizen(number: int) -> Ssin:
    """A number that belongs to nobody, with its check digits."""
    first = 906_101_500 + number
    return Ssin(f"{first}{97 - first % 97:02}")


def letter(sender: SenderHand, number: int) -> tuple[Message, list[bytes]]:
    """A letter like no other: its recipient, its subject, one to three documents of sizes of their own."""
    chance = random.Random(number)
    contents = [b"%PDF-" + chance.randbytes(1 + number * 3_001 + part) for part in range(1 + number % 3)]
    message = sender.message(
        contents, reference=f"letter-{number}", subject=f"Brief nummer {number}", channels=(Channel.EBOX_CITIZEN,)
    )
    return replace(message, recipient=replace(message.recipient, ssin=citizen(number))), contents


async def test_forty_interleaved_letters_each_arrive_as_they_were_sent(
    house: House, connect: Any, make_post: Any
) -> None:
    senders = [await house.sender(name) for name in ("gemeente", "belasting")]
    letters = [letter(senders[number % 2], number) for number in range(LETTERS)]
    certificate = (await asyncio.to_thread(load_certificates, house.certs / "receipts.pem"))[0]

    async def send(number: int) -> Any:
        sender, (message, contents) = senders[number % 2], letters[number]
        parts = sender.parts(message, contents)
        wire = await connect(house, sender.name)
        octets = make_post(parts)
        for start in range(0, len(octets), PIECE_BYTES):
            await wire.send(octets[start : start + PIECE_BYTES])
            await asyncio.sleep(0)
        answer = await wire.answer()
        assert answer is not None
        assert answer.status == 201, answer.body
        receipt = verify_receipt_jws(answer.json["receipt"], certificate)
        assert receipt.message_sha256 == hashlib.sha256(parts[0].content).hexdigest()
        assert (receipt.sender, receipt.profile, receipt.reference) == (
            sender.number,
            sender.profile,
            message.reference,
        )
        return answer.json

    views = await asyncio.gather(*(send(number) for number in range(LETTERS)))
    async with asyncio.timeout(30):
        await house.simulators.ebox.records.until(lambda records: len(records.kept) == LETTERS)
    kept = {record.key: record for record in house.simulators.ebox.records.kept}
    for number, view in enumerate(views):
        message, contents = letters[number]
        digests = [hashlib.sha256(content).hexdigest() for content in contents]
        assert view["reference"] == message.reference
        assert [document["sha256"] for document in view["documents"]] == digests
        assert [document["size"] for document in view["documents"]] == [len(content) for content in contents]
        delivered = kept[view["deliveries"][0]["deliveryId"]]
        assert sorted(document.sha256 for document in delivered.documents) == sorted(digests)
        assert (delivered.recipient, delivered.sender) == (message.recipient.ssin, message.sender)
        assert f"'Brief nummer {number}'" in str(delivered.body)


async def test_refused_and_accepted_letters_side_by_side_each_get_their_own_answer(intake: House) -> None:
    senders = [await intake.sender(name) for name in ("gemeente", "belasting")]

    async def send(number: int) -> tuple[int, str]:
        sender = senders[number % 2]
        message, contents = letter(sender, number)
        message = replace(message, channels=())
        if number % 5 == 1:
            message = replace(message, category="social-benefit")
        if number % 5 == 2:
            contents[-1] = contents[-1][:-1] + bytes([contents[-1][-1] ^ 1])
        if number % 5 == 3:
            message = replace(message, gateway="elsewhere.example")
        correlation_id = f"own-{number}"
        answer = await sender.post(sender.parts(message, contents), {"x-correlation-id": correlation_id})
        assert answer.headers["x-correlation-id"] == correlation_id
        if answer.status == 201:
            assert answer.json["reference"] == message.reference
            return number % 5, "accepted"
        assert answer.json["instance"] == correlation_id
        return number % 5, answer.code

    outcomes = await asyncio.gather(*(send(number) for number in range(LETTERS)))
    assert set(outcomes) == {
        (0, "accepted"),
        (1, "category-not-authorised"),
        (2, "document-mismatch"),
        (3, "wrong-gateway"),
        (4, "accepted"),
    }
