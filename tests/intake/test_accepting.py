"""What a sender gets for a letter that is taken over, and what the gateway keeps of it."""

import asyncio
import hashlib
import logging
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from gateway.crypto.certs import load_certificates
from gateway.crypto.dialects import Dialect
from gateway.crypto.receipts import Receipt, ReceiptDocument, verify_receipt_jws, verify_receipt_xml
from gateway.domain.ids import EnterpriseNumber, MessageId, Ssin
from gateway.domain.message import Channel, PostalAddress, Recipient

if TYPE_CHECKING:
    from tests.plugins.house import House, SenderHand
else:
    from house import House, SenderHand

WHOLE = {
    "messageId", "reference", "profile", "status", "final", "acceptedAt", "documents", "deliveries", "skippedChannels",
    "timeline", "copy", "receipt",
}  # fmt: skip
DELIVERY = {"deliveryId", "number", "channel", "provider", "status", "reason", "barcode", "readSeenAt"}
JSON = "application/json"
XML = "application/xml"
MAIN_KEPT = {"delivered", "read"}


def pdf_of(size_bytes: int, fill: int = 0) -> bytes:
    """Bytes that begin like a PDF."""
    return b"%PDF-" + bytes((fill + n) % 251 for n in range(size_bytes - 5))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def receipt_certificate(house: House) -> Any:
    return (await asyncio.to_thread(load_certificates, house.certs / "receipts.pem"))[0]


async def until_delivered(sender: SenderHand, message_id: str) -> Any:
    return await sender.until(message_id, lambda view: view["status"] == "delivered")


async def test_a_letter_taken_over_is_answered_201_with_its_address_its_view_and_a_receipt(house: House) -> None:
    sender = await house.sender()
    message = sender.message()
    parts = sender.parts(message)
    answer = await sender.post(parts, {"x-correlation-id": "abc-123"})
    assert answer.status == 201, answer.body
    view = answer.json
    message_id = view["messageId"]
    assert UUID(message_id).version == 7
    assert answer.headers["Location"] == f"https://localhost:8443/api/v1/messages/{message_id}"
    assert answer.headers["x-correlation-id"] == "abc-123"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"].startswith(JSON)

    document: dict[str, Any] = {"part": "upfile1", "sha256": sha256(house.pdf), "size": len(house.pdf)}
    assert view.keys() == WHOLE
    assert view["reference"] == message.reference
    assert view["profile"] == "burgerzaken"
    assert (view["status"], view["final"]) == ("accepted", False)
    assert view["acceptedAt"].endswith("Z")
    assert view["documents"] == [document]
    (delivery,) = view["deliveries"]
    assert delivery.keys() == DELIVERY
    assert (delivery["number"], delivery["channel"], delivery["provider"]) == (1, "ebox-citizen", "bosa")
    assert [skipped["channel"] for skipped in view["skippedChannels"]] == ["ebox-enterprise"]
    assert view["copy"] == {"state": "in-delivery", "until": None, "retrievals": 0}
    assert view["timeline"][0] == {"at": view["acceptedAt"], "event": "accepted", "status": "accepted"}

    receipt = verify_receipt_jws(view["receipt"], await receipt_certificate(house))
    assert receipt == Receipt(
        gateway="gateway.dev.example",
        message_id=MessageId(UUID(message_id)),
        issued_at=receipt.accepted_at.replace(microsecond=0),
        sender=EnterpriseNumber("0406798006"),
        profile="burgerzaken",
        reference=message.reference,
        status="accepted",
        accepted_at=receipt.accepted_at,
        documents=(ReceiptDocument(part="upfile1", sha256=document["sha256"], size_bytes=document["size"]),),
        message_sha256=sha256(parts[0].content),
    )
    assert view["acceptedAt"][:23] == receipt.accepted_at.isoformat()[:23]


async def test_the_address_of_a_message_answers_with_the_same_receipt(house: House) -> None:
    sender = await house.sender()
    answer = await sender.send()
    path = answer.headers["Location"].removeprefix("https://localhost:8443")
    found = await sender.call("GET", path)
    assert found.status == 200
    assert found.json.keys() == WHOLE
    assert found.json["receipt"] == answer.json["receipt"]


@pytest.mark.parametrize("dialect", Dialect)
async def test_what_is_answered_at_acceptance_is_what_is_found_there_afterwards(house: House, dialect: Dialect) -> None:
    sender = await house.sender()
    later = datetime.now(UTC) + timedelta(hours=1)
    message = sender.message(deliver_not_before=later.replace(microsecond=0))
    answer = await sender.post(sender.parts(message, dialect=dialect))
    assert (answer.status, answer.json["status"]) == (201, "scheduled")
    found = await sender.call("GET", f"/api/v1/messages/{answer.json['messageId']}")
    assert found.json == answer.json
    assert len(found.json["timeline"]) == 1
    again = await sender.post(sender.parts(message, dialect=dialect))
    assert (again.status, again.json) == (200, answer.json)


async def test_a_message_answered_again_is_shown_as_it_is_now(house: House) -> None:
    sender = await house.sender()
    message = sender.message()
    first = await sender.post(sender.parts(message))
    delivered = await until_delivered(sender, first.json["messageId"])
    again = await sender.post(sender.parts(message))
    assert (again.status, again.json["timeline"]) == (200, delivered["timeline"])
    assert len(again.json["timeline"]) > len(first.json["timeline"]) == 1


async def test_a_correlation_id_is_made_when_there_is_none_and_refused_when_it_is_none(
    house: House, subtests: pytest.Subtests
) -> None:
    sender = await house.sender()
    made = [(await sender.send()).headers["x-correlation-id"] for _ in range(2)]
    assert len({UUID(correlation_id) for correlation_id in made}) == 2
    for wrong in ("a" * 37, "a b", "a_b", "90610100155", "x-90-6101-00155"):
        with subtests.test(wrong):
            answer = await sender.send(headers={"x-correlation-id": wrong})
            assert answer.status == 400
            assert answer.code == "bad-request"
            assert answer.headers["x-correlation-id"] == answer.json["instance"] != wrong


async def test_the_accept_header_chooses_between_json_and_a_signed_xml_receipt(
    house: House, subtests: pytest.Subtests
) -> None:
    sender = await house.sender()
    certificate = await receipt_certificate(house)
    message = sender.message()
    parts = sender.parts(message)
    by_json = (await sender.post(parts)).json["receipt"]
    for accept, media_type in (
        ("", JSON),
        ("*/*", JSON),
        (JSON, JSON),
        (XML, XML),
        ("Application/XML", XML),
        (f"{JSON};q=0.5, {XML};q=0.9", XML),
        (f"{JSON};q=0.9, {XML};q=0.5", JSON),
        (f"{XML}, {JSON}", JSON),
        (f"{XML};q=0.5, */*", JSON),
        (f"{XML}, */*;q=0.1", XML),
        (f"{XML};q=nonsense", JSON),
        ("text/html", JSON),
    ):
        with subtests.test(accept):
            answer = await sender.post(parts, {"Accept": accept})
            assert answer.status == 200
            assert answer.headers["Content-Type"].split(";")[0] == media_type
            if media_type == XML:
                by_xml = verify_receipt_xml(answer.body, certificate)
                assert by_xml == verify_receipt_jws(by_json, certificate)
                assert answer.headers["Location"].endswith(f"/api/v1/messages/{by_xml.message_id}")
            else:
                assert answer.json["receipt"] == by_json


async def test_an_xml_receipt_is_given_with_the_201_too(house: House) -> None:
    sender = await house.sender()
    message = sender.message()
    answer = await sender.post(sender.parts(message), {"Accept": XML})
    assert answer.status == 201
    assert verify_receipt_xml(answer.body, await receipt_certificate(house)).reference == message.reference


async def test_documents_of_every_size_arrive_at_the_provider_bit_for_bit(house: House) -> None:
    sender = await house.sender()
    contents = [pdf_of(size_bytes, fill) for fill, size_bytes in enumerate((5, 65_535, 65_536, 65_537, 300_000, 6))]
    contents[4] = contents[4][:-40] + b"\r\n--simple-boundar\r\n--simple-boundary-\r\n"[:40]
    contents[4] = contents[4].replace(b"--simple-boundary-", b"--simple-bound-ary")
    answer = await sender.send(contents)
    assert answer.status == 201, answer.body
    view = await until_delivered(sender, answer.json["messageId"])
    digests = [sha256(content) for content in contents]
    assert [document["sha256"] for document in view["documents"]] == digests
    assert [document["size"] for document in view["documents"]] == [len(content) for content in contents]
    (kept,) = house.simulators.ebox.records.kept
    assert sorted(document.sha256 for document in kept.documents) == sorted(digests)
    assert kept.recipient == "90610100155"


async def test_filenames_and_texts_beyond_ascii_are_taken(house: House) -> None:
    sender = await house.sender()
    names = ["brief é ñ ő 漢字.pdf", 'met "aanhaling".pdf', "punt.komma, en zo (1).pdf"]
    message = sender.message([house.pdf] * 3, subject="Ċirkulara: «été» 漢字", purpose="Ωmega")
    entries = tuple(replace(entry, filename=name) for entry, name in zip(message.documents, names, strict=True))
    message = replace(message, documents=entries)
    parts = sender.parts(message, [house.pdf] * 3)
    escaped = [replace(part, filename=(part.filename or "").replace('"', '\\"')) for part in parts[1:]]
    answer = await sender.post([parts[0], *escaped])
    assert answer.status == 201, answer.body
    await until_delivered(sender, answer.json["messageId"])


async def test_a_message_of_twenty_documents_is_taken_and_one_more_is_not(house: House) -> None:
    sender = await house.sender()
    answer = await sender.send([house.pdf] * 20, channels=(Channel.PRINT,))
    assert answer.status == 201, answer.body
    answer = await sender.send([house.pdf] * 21, channels=(Channel.PRINT,))
    assert answer.code == "invalid-message"


async def test_the_profile_may_be_left_out_only_where_the_certificate_has_one(house: House) -> None:
    one, two = await house.sender("gemeente"), await house.sender("belasting")
    answer = await one.send(profile=None)
    assert (answer.status, answer.json["profile"]) == (201, "burgerzaken")
    answer = await two.send(profile=None)
    assert answer.code == "profile-not-authorised"
    assert "name one in Sender/Profile" in answer.json["detail"]


async def test_a_processor_sends_for_a_sender_and_both_are_in_the_logs(house: House, inside: Any) -> None:
    processor, sender = await house.sender("belasting"), await house.sender("gemeente")
    answer = await processor.send(sender=sender.number, profile=sender.profile)
    assert answer.status == 201, answer.body
    message_id = answer.json["messageId"]
    assert (await sender.view(message_id))["messageId"] == message_id
    for log in ("traffic", "privacy"):
        entry = next(entry for entry in await inside(house).log(log) if entry["what"].get("message") == message_id)
        assert entry["who"] == {"party": processor.number, "sender": sender.number, "profile": "burgerzaken"}


async def test_nobody_sends_for_a_sender_that_did_not_register_it(house: House) -> None:
    sender, other = await house.sender("gemeente"), await house.sender("belasting")
    answer = await sender.send(sender=other.number, profile=other.profile)
    assert (answer.status, answer.code) == (403, "signer-mismatch")


async def test_a_letter_for_later_is_scheduled_and_its_receipt_says_so(house: House) -> None:
    sender = await house.sender()
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    answer = await sender.send(deliver_not_before=later)
    assert answer.json["status"] == "scheduled"
    receipt = verify_receipt_jws(answer.json["receipt"], await receipt_certificate(house))
    assert receipt.status == "scheduled"
    assert house.simulators.ebox.records.kept == []


async def test_an_acceptance_is_in_the_traffic_and_the_privacy_log(house: House, inside: Any) -> None:
    sender = await house.sender()
    message_id = await sender.accepted()
    traffic = next(entry for entry in await inside(house).log("traffic") if entry["ev"] == "accepted")
    privacy = next(entry for entry in await inside(house).log("privacy") if entry["ev"] == "message-accepted")
    for entry in (traffic, privacy):
        assert entry["what"]["message"] == message_id
        assert entry["what"]["category"] == "tax-assessment"
        assert entry["res"] == "accepted"
    assert privacy["what"]["legalBasis"] == "WIB92 art. 302"
    assert privacy["commit"].keys() == {"purpose", "about"}


# ── Sealed ──

SECRETS = {
    "text of the letter": "De verborgen inhoud van deze brief is 8141592653.",
    "name": "Zebedeus Kwakkelstein",
    "street": "Onvindbaarstraat",
    "ssin": "90610100551",
    "subject": "Onderwerp zonder weerga",
    "purpose": "Doeleinde zonder weerga",
    "filename": "geheime-bestandsnaam.pdf",
}
ADDRESS = PostalAddress(
    name=SECRETS["name"],
    street=SECRETS["street"],
    house_number="77",
    postcode="9000",
    municipality="Gent",
    country="BE",
)


def found_in(folder: Path, values: dict[str, str]) -> set[tuple[str, str]]:
    """Which of the values stand, in UTF-8 or UTF-16, in which files below a folder."""
    found = set()
    for file in folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            for what, text in values.items():
                if any(text.encode(encoding) in content for encoding in ("utf-8", "utf-16-le", "utf-16-be")):
                    found.add((file.name, what))
    return found


async def test_nothing_personal_stands_in_clear_in_the_stores_or_in_the_technical_log(
    make_house: Any, inside: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with AsyncExitStack() as running:
        house = await make_house(own_stack=running)
        sender = await house.sender()
        content = b"%PDF-1.7\n" + SECRETS["text of the letter"].encode() * 2_000
        recipient = Recipient(ssin=Ssin(SECRETS["ssin"]), address=ADDRESS)
        message = sender.message()
        for channel in (Channel.EBOX_CITIZEN, Channel.PRINT):
            pages = content if channel is Channel.EBOX_CITIZEN else house.pdf
            message = sender.message(
                [pages],
                recipient=recipient,
                subject=SECRETS["subject"],
                purpose=SECRETS["purpose"],
                channels=(channel,),
            )
            message = replace(message, documents=(replace(message.documents[0], filename=SECRETS["filename"]),))
            answer = await sender.post(sender.parts(message, [pages]))
            assert answer.status == 201, answer.body
            await until_delivered(sender, answer.json["messageId"])
            refused = replace(message, reference=f"refused-{channel}", category="social-benefit")
            assert (await sender.post(sender.parts(refused, [pages]))).code == "category-not-authorised"
        state = house.config.gateway.state
        # References are no personal data and stand in clear, which shows that this search finds what is there.
        open_values = {**SECRETS, "reference": message.reference}
        names = {name for name, _ in await asyncio.to_thread(found_in, state, open_values)}
        assert names
        assert await asyncio.to_thread(found_in, state, SECRETS) == set()
    assert ("reference" in {what for _, what in await asyncio.to_thread(found_in, state, open_values)}) is True
    assert await asyncio.to_thread(found_in, state, SECRETS) == set()
    said = "\n".join(str(vars(record)) for record in caplog.records)
    assert message.reference not in said
    assert [what for what, text in SECRETS.items() if text in said] == []
