"""What senders suffer from at other gateways, and must not here: mixed letters, false receipts, crowds, full memory."""

import asyncio
import hashlib
import importlib.util
import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w

from gateway.client import Document, GatewayClient, Letter, load_sender
from gateway.client.problems import ClientError, Problem
from gateway.crypto.certs import load_certificates
from gateway.crypto.receipts import ReceiptSigner, verify_receipt_jws
from gateway.demo.environment import Environment
from gateway.demo.story import SENDERS, sender_profile
from gateway.domain.ids import Ssin
from gateway.domain.message import Channel, Message, Recipient
from gateway.errors import StoreUnavailable
from gateway.intake import views
from gateway.simulators.magic import CITIZEN_FINE

if TYPE_CHECKING:
    from tests.plugins.house import ADDRESS, GATEWAY, Answer, House, SenderHand
else:
    from house import ADDRESS, GATEWAY, Answer, House, SenderHand

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


async def test_no_payload_ever_crosses_to_another_message_under_concurrency(
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


# ── Receipts ──


@dataclass(frozen=True)
class Stage:
    """Where acceptance breaks, at which call, and what the sender is told."""

    name: str
    target: str
    call: int
    error: Exception
    code: str


KEY, INDEX = "gateway.crypto.vault.Vault.new_dek", "gateway.crypto.vault.Vault.blind_index"
PUT, LOG = "gateway.stores.measured.MeasuredBlobs.put", "gateway.records.logs.LogBook.about"
COMMIT = "gateway.stores.sqlite.ledger.SqliteLedger.record"
AWAY = StoreUnavailable("gone")
STAGES = (
    Stage("the key of the fields", KEY, 1, AWAY, "store-unavailable"),
    Stage("the key of a document", KEY, 3, AWAY, "store-unavailable"),
    Stage("the first document", PUT, 1, AWAY, "store-unavailable"),
    Stage("the last document", PUT, 2, AWAY, "store-unavailable"),
    Stage("the index", INDEX, 1, AWAY, "store-unavailable"),
    Stage("the log entries", LOG, 1, AWAY, "store-unavailable"),
    Stage("the commit", COMMIT, 1, AWAY, "store-unavailable"),
    Stage("a defect at the commit", COMMIT, 1, RuntimeError("?"), "internal"),
)


def break_once(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> None:
    """Make one call of a function fail, counted from now on; those before and after it do their work."""
    module, _, name = stage.target.rpartition(".")
    owner = getattr(importlib.import_module(module.rpartition(".")[0]), module.rpartition(".")[2])
    whole, calls = getattr(owner, name), 0

    async def breaking(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == stage.call:
            raise stage.error
        return await whole(self, *arguments)

    monkeypatch.setattr(owner, name, breaking)


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every receipt that the gateway signs, in both forms."""
    made: list[bytes] = []
    jws, xml = ReceiptSigner.jws, ReceiptSigner.xml

    def noted_jws(self: ReceiptSigner, receipt: Any) -> str:
        made.append((text := jws(self, receipt)).encode())
        return text

    def noted_xml(self: ReceiptSigner, receipt: Any) -> bytes:
        made.append(octets := xml(self, receipt))
        return octets

    monkeypatch.setattr(ReceiptSigner, "jws", noted_jws)
    monkeypatch.setattr(ReceiptSigner, "xml", noted_xml)
    return made


async def everything_told(sender: SenderHand, reference: str) -> list[Answer]:
    """All that the sender interface tells about a reference, and all events."""
    listed = await sender.call("GET", f"/api/v1/messages?reference={reference}")
    answers = [listed, await sender.call("GET", "/api/v1/messages"), await sender.call("GET", "/api/v1/events")]
    for found in listed.json["messages"]:
        path = f"/api/v1/messages/{found['messageId']}"
        answers += [await sender.call("GET", path), await sender.call("GET", f"{path}/evidence/1")]
    return answers


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
async def test_a_receipt_never_speaks_of_a_message_that_failed(
    blobs_only: House, inside: Any, monkeypatch: pytest.MonkeyPatch, signed: list[bytes], stage: Stage
) -> None:
    sender, look = await blobs_only.sender(), inside(blobs_only)
    contents = [blobs_only.pdf, blobs_only.pdf + b"\n"]
    message = sender.message(contents, reference="R-1")
    with monkeypatch.context() as broken:
        break_once(broken, stage)
        answer = await sender.post(sender.parts(message, contents))
    assert answer.code == stage.code
    assert "Location" not in answer.headers
    failed = list(signed)
    assert bool(failed) == (stage.target in (LOG, COMMIT))
    assert (await look.traces()).messages == frozenset()
    told = [answer, *await everything_told(sender, "R-1")]
    assert told[1].json["messages"] == told[2].json["messages"] == []

    again = await sender.post(sender.parts(message, contents))
    assert again.status == 201
    told += [again, *await everything_told(sender, "R-1")]
    assert again.json["receipt"].encode() in signed
    assert [number for number, each in enumerate(told) if any(receipt in each.body for receipt in failed)] == []


async def test_a_message_whose_answer_failed_is_kept_and_its_one_receipt_can_be_had(
    intake: House, monkeypatch: pytest.MonkeyPatch, signed: list[bytes]
) -> None:
    def no_view(*_arguments: Any) -> Any:
        raise AWAY

    sender = await intake.sender()
    message = sender.message(reference="R-1")
    with monkeypatch.context() as broken:
        broken.setattr(views, "whole", no_view)
        answer = await sender.post(sender.parts(message))
    assert answer.code == "store-unavailable"
    again = await sender.post(sender.parts(message))
    assert (again.status, len(signed)) == (200, 2)
    assert again.json["receipt"].encode() == signed[0]


# ── Crowds ──

# So that a message may be held for as long as a busy machine takes to do the rest of a test.
PATIENT = {"body_stall": "PT5M", "minimum_bytes_per_s": 0}


def begun(octets: bytes) -> bytes:
    return octets[:-100]


async def test_one_sender_cannot_take_every_place(
    make_house: Any, limited: Any, connect: Any, make_post: Any, inside: Any
) -> None:
    house = await make_house(limited(requests_in_flight=6, **PATIENT), parts=["intake"])
    greedy, other, look = await house.sender("gemeente"), await house.sender("belasting"), inside(house)
    held = []
    for number in range(1, 4):
        octets = make_post(greedy.parts(greedy.message()))
        wire = await connect(house, greedy.name)
        await wire.send(begun(octets))
        await look.until_metric(number, "gateway_admitted_requests", pool="messages")
        held.append((wire, octets[-100:]))
    for _ in range(10):
        answer = await greedy.send()
        assert (answer.status, answer.code) == (503, "overloaded")
        assert "as one sender may" in answer.json["detail"]
    assert [(await other.send()).status for _ in range(10)] == [201] * 10
    assert [(await wire.ask(rest)).status for wire, rest in held] == [201] * 3
    assert (await greedy.send()).status == 201


async def test_one_sender_cannot_take_all_the_room_for_large_messages(
    make_house: Any, limited: Any, connect: Any, inside: Any
) -> None:
    house = await make_house(limited(message_bytes=1_000_000, bytes_in_flight=4_000_000, **PATIENT), parts=["intake"])
    greedy, other, look = await house.sender("gemeente"), await house.sender("belasting"), inside(house)
    head = "POST /api/v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n"
    head += "Content-Type: multipart/form-data; boundary=simple-boundary\r\n\r\n"
    for number in (1, 2):
        await (await connect(house, greedy.name)).send(head.format(1_000_000).encode())
        await look.until_metric(number * 1_000_000, "gateway_admitted_bytes")
    answer = await (await connect(house, greedy.name)).ask(head.format(1_000_000).encode())
    assert (answer.status, answer.code) == (503, "overloaded")
    assert "as large together" in answer.json["detail"]
    letter_of_other = house.pdf + bytes(900_000)
    assert (await other.send([letter_of_other])).status == 201


async def test_refused_before_its_body_is_read(
    make_house: Any, limited: Any, connect: Any, make_post: Any, inside: Any
) -> None:
    house = await make_house(limited(requests_in_flight=1, **PATIENT), parts=["intake"])
    first, late, look = await house.sender("gemeente"), await house.sender("belasting"), inside(house)
    octets = make_post(first.parts(first.message()))
    wire = await connect(house, first.name)
    await wire.send(begun(octets))
    await look.until_metric(1, "gateway_admitted_requests", pool="messages")
    before = await look.traces()

    octets_of_late = make_post(late.parts(late.message()))
    head = octets_of_late[: octets_of_late.index(b"\r\n\r\n") + 4]
    refused = await connect(house, late.name)
    answer = await refused.ask(head)
    assert (answer.status, answer.code) == (503, "overloaded")
    assert (answer.headers["Connection"], answer.headers["Retry-After"]) == ("close", "2")
    assert "nothing was kept, send the same request again" in answer.json["detail"]
    # Whoever sends all the same is heard out for a moment, so that the answer arrives, and cut off.
    await refused.send(octets_of_late[len(head) :])
    assert await refused.end() == b""
    assert await look.traces() == before
    assert await look.log("traffic") == []

    assert (await wire.ask(octets[-100:])).status == 201
    assert (await late.call("GET", "/api/v1/messages")).json["messages"] == []


async def test_reads_are_answered_while_posts_are_refused(
    make_house: Any, limited: Any, connect: Any, make_post: Any, inside: Any
) -> None:
    house = await make_house(limited(requests_in_flight=1, **PATIENT), parts=["intake"])
    sender, look = await house.sender(), inside(house)
    message_id = await sender.accepted()
    wire = await connect(house)
    await wire.send(begun(make_post(sender.parts(sender.message()))))
    await look.until_metric(1, "gateway_admitted_requests", pool="messages")
    assert (await sender.send()).code == "overloaded"
    assert (await sender.send(headers=None, subject="Nog een")).status == 503
    assert (await sender.view(message_id))["messageId"] == message_id
    asked = await sender.call_json("/api/v1/statusRequest", {"messages": [{"messageId": message_id}]})
    assert [found["messageId"] for found in asked.json["messages"]] == [message_id]
    for path in ("/api/v1/messages", "/api/v1/events", "/api/v1/whoami", "/api/v1/trust"):
        assert (await sender.call("GET", path)).status == 200


async def test_posts_are_answered_while_reads_are_refused(
    make_house: Any, limited: Any, connect: Any, inside: Any
) -> None:
    house = await make_house(limited(questions_in_flight=1, **PATIENT), parts=["intake"])
    sender, look = await house.sender(), inside(house)
    wire = await connect(house)
    head = b"POST /api/v1/statusRequest HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    await wire.send(head + b"Content-Length: 15\r\n\r\n{")
    await look.until_metric(1, "gateway_admitted_requests", pool="questions")
    answer = await sender.call("GET", "/api/v1/messages")
    assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "overloaded", "2")
    assert (await sender.send()).status == 201
    assert (await wire.ask(b'"messages": []}')).status == 400
    assert (await sender.call("GET", "/api/v1/messages")).status == 200


async def test_when_the_crowd_has_gone_the_same_client_gets_through_by_itself(
    make_house: Any, limited: Any, connect: Any, make_post: Any, inside: Any
) -> None:
    house = await make_house(limited(requests_in_flight=1, **PATIENT), parts=["intake"])
    crowd, sender, look = await house.sender("belasting"), await house.sender(), inside(house)
    octets = make_post(crowd.parts(crowd.message()))
    wire = await connect(house, crowd.name)
    await wire.send(begun(octets))
    await look.until_metric(1, "gateway_admitted_requests", pool="messages")
    told: list[ClientError] = []
    waited_s: list[float] = []

    async def wait(seconds: float) -> None:
        """Stands for the pause; in the second one the crowd goes."""
        waited_s.append(seconds)
        if len(waited_s) == 2:
            assert (await wire.ask(octets[-100:])).status == 201

    large = house.pdf + bytes(5_000_000)
    profile = await asyncio.to_thread(write_profile, house, sender)
    async with GatewayClient(profile, sleep=wait, on_retry=lambda error, _wait_s: told.append(error)) as client:
        sent = await client.send(a_letter(large, reference="R-1"))
    assert [(error.code, error.retry_after_s) for error in told if isinstance(error, Problem)] == [
        ("overloaded", 2.0)
    ] * 2
    assert [2.0 <= pause_s <= 3.0 for pause_s in waited_s] == [True] * 2
    listed = await sender.call("GET", "/api/v1/messages?reference=R-1")
    assert [found["messageId"] for found in listed.json["messages"]] == [str(sent.message_id)]


def write_profile(house: House, sender: SenderHand) -> Any:
    file = house.config.file.with_name("sender.toml")
    values = {
        "base_url": house.url,
        "gateway": GATEWAY,
        "ca": str(house.certs / "ca.pem"),
        "certificate": str(house.certs / f"{sender.name}.pem"),
        "key": str(house.certs / f"{sender.name}.key"),
        "receipt_certificate": str(house.certs / "receipts.pem"),
        "enterprise_number": sender.number,
        "profile": sender.profile,
    }
    file.write_text(tomli_w.dumps(values))
    return load_sender(file)


def a_letter(*contents: bytes, **changes: Any) -> Letter:
    usual: dict[str, Any] = {
        "recipient": Recipient(ssin=Ssin(CITIZEN_FINE), address=ADDRESS),
        "category": "tax-assessment",
        "purpose": "Aanslagbiljet 2026",
        "subject": "Uw aanslagbiljet",
        "documents": [Document(content=each, filename=f"brief-{n}.pdf") for n, each in enumerate(contents, start=1)],
        "channels": [Channel.PRINT],
    }
    return Letter(**usual | changes)


# ── Memory ──

MB = 1_000_000
MOST_RISE_BYTES = 8 * MB


def load_watch() -> Callable[[int], Any]:
    """Return what measures the memory of a process, from `load/memory.py`."""
    path = Path(__file__).parents[2] / "load" / "memory.py"
    spec = importlib.util.spec_from_file_location("load_memory", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    watch: Callable[[int], Any] = module.Watch
    return watch


# The gateway is a process of its own here; in this one its code only starts others, which the library does blocking.
@pytest.mark.parametrize("loop_guard", [None], ids=["in-its-own-process"])
async def test_memory_does_not_grow_with_payload_or_part_count(tmp_path: Path, pdf: bytes, loop_guard: None) -> None:
    assert loop_guard is None

    def contents(count: int, total_bytes: int) -> list[bytes]:
        each = total_bytes // count
        return [pdf + b"\n%" + os.urandom(each - len(pdf) - 2) for _ in range(count)]

    watch, later = load_watch(), (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    rises: dict[tuple[int, int], int] = {}
    async with Environment(tmp_path / "state") as environment:
        pid = environment.gateway_pid
        assert pid is not None
        profile = await asyncio.to_thread(sender_profile, environment, SENDERS[0])
        async with GatewayClient(profile) as client:
            for shape in [(1, MB)] * 10 + [(20, MB)] * 5:  # until all that is made once is made
                await client.send(a_letter(*contents(*shape), deliver_not_before=later))
            for shape in ((1, MB), (20, MB), (1, 25 * MB), (20, 25 * MB)):
                letter_of_this_shape = a_letter(*contents(*shape), deliver_not_before=later)
                async with watch(pid) as watched:
                    await client.send(letter_of_this_shape)
                rises[shape] = watched.rise.rise_bytes
    assert {shape: rise for shape, rise in rises.items() if rise >= MOST_RISE_BYTES} == {}
