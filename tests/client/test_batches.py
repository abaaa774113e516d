"""Many letters under one signature, sent by the client to a real gateway; also over a line that breaks."""

import argparse
import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from gateway.client import Document, ItemOutcome, Letter, LetterInvalid, Problem, arguments, commands, load_sender
from gateway.client.api import GatewayClient
from gateway.client.batch_list import read_list
from gateway.crypto.batches import read_stored_batch
from gateway.crypto.dialects import Dialect
from gateway.domain.ids import Ssin
from gateway.domain.message import PostalAddress, Recipient

if TYPE_CHECKING:
    from tests.plugins.house import House
else:
    from house import House

ADDRESS = PostalAddress(
    name="Jan Peeters", street="Kerkstraat", house_number="12", postcode="9000", municipality="Gent", country="BE"
)
LIST = """\
reference;files;number;name;street;house number;postcode;municipality;subject
2026-1;one.pdf;90610100155;Jan Peeters;Kerkstraat;12;9000;Gent;Uw aanslagbiljet
2026-2;one.pdf|two.pdf;90610100155;Jan Peeters;Kerkstraat;12;9000;Gent;
"""
COMMON = ("--category", "tax-assessment", "--purpose", "Aanslagbiljet 2026", "--subject", "Uw brief")


def letters(house: House, count: int) -> list[Letter]:
    recipient = Recipient(ssin=Ssin("90610100155"), address=ADDRESS)
    return [
        Letter(
            recipient=recipient,
            category="tax-assessment",
            purpose="Aanslagbiljet 2026",
            subject="Uw aanslagbiljet",
            documents=[Document(content=house.pdf, filename="brief.pdf")],
        )
        for _ in range(count)
    ]


@pytest.fixture
async def house_taking(make_house: Any) -> House:
    house: House = await make_house(parts=["intake"])
    return house


@contextlib.asynccontextmanager
async def breaking_line(port: int, lengths: list[int]) -> AsyncIterator[int]:
    """A way to a port on which connection n is cut once so many octets went out over it; later ones are whole."""
    pipes: list[asyncio.Task[None]] = []
    left = list(lengths)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None) -> None:
        try:
            while data := await reader.read(4_096):
                writer.write(data)
                await writer.drain()
                if limit is not None and (limit := limit - len(data)) < 0:
                    return
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    async def opened(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        limit = left.pop(0) if left else None
        out = asyncio.create_task(carry(reader, there_writer, limit))
        back = asyncio.create_task(carry(there_reader, writer, None))
        out.add_done_callback(lambda _: writer.transport.abort())
        pipes.extend((out, back))

    server = await asyncio.start_server(opened, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for pipe in pipes:
            pipe.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)
        await asyncio.sleep(0)  # what was aborted is closed in the next turn of the loop


@pytest.mark.parametrize("dialect", [*Dialect])
async def test_each_letter_has_its_outcome_and_its_verified_receipt(
    house_taking: House, write_sender: Callable[..., Path], open_client: Callable[..., GatewayClient], dialect: Dialect
) -> None:
    file = write_sender(house_taking.gateway.intake_port)
    sender = await asyncio.to_thread(load_sender, file, dialect)
    asked = letters(house_taking, 3)
    asked[1] = replace(asked[1], category="administrative-fine")
    async with open_client(sender) as gateway:
        alone = await gateway.send(asked[2])
        batch = await gateway.send_batch(asked)
        again = await gateway.send_batch(asked)
    assert [item.outcome for item in batch.items] == [ItemOutcome.ACCEPTED, ItemOutcome.REFUSED, ItemOutcome.REPEATED]
    assert [item.reference for item in batch.items] == [letter.reference for letter in asked]
    assert [item.is_with_gateway for item in batch.items] == [True, False, True]
    assert batch.items[1].problem is not None
    assert batch.items[1].problem.code == "category-not-authorised"
    assert batch.items[2].receipt_jws == alone.receipt_jws
    assert batch.items[2].message is None  # the message alone is what its receipt is of
    listed = read_stored_batch(batch.signed).items[0]
    assert batch.items[0].receipt is not None
    assert batch.items[0].receipt.message_sha256 == listed.sha256
    assert batch.items[0].message is not None
    # Another batch of the same letters, with a reference of its own: nothing is delivered twice.
    assert [item.outcome for item in again.items] == [ItemOutcome.REPEATED, ItemOutcome.REFUSED, ItemOutcome.REPEATED]


async def test_after_a_cut_only_what_is_missing_is_sent_again(
    house_taking: House, write_sender: Callable[..., Path], open_client: Callable[..., GatewayClient]
) -> None:
    asked = letters(house_taking, 6)
    async with breaking_line(house_taking.gateway.intake_port or 0, [90_000]) as port:  # four of the six documents
        async with open_client(await asyncio.to_thread(load_sender, write_sender(port))) as gateway:
            batch = await gateway.send_batch(asked, reference="cut-1")
        async with open_client(await asyncio.to_thread(load_sender, write_sender(port))) as gateway:
            with pytest.raises(Problem) as caught:  # the letters are signed at another moment, so it is another batch
                await gateway.send_batch(letters(house_taking, 6), reference="cut-1")
    assert [item.outcome for item in batch.items] == [ItemOutcome.ACCEPTED] * 6
    assert len({item.message_id for item in batch.items}) == 6
    assert caught.value.code == "reference-conflict"
    assert caught.value.members["batchId"] == str(batch.batch_id)


async def test_after_a_cut_a_letter_that_was_refused_before_it_is_still_told_why(
    house_taking: House, write_sender: Callable[..., Path], open_client: Callable[..., GatewayClient]
) -> None:
    asked = letters(house_taking, 3)
    asked[1] = replace(asked[1], category="administrative-fine")
    now = datetime.now(UTC)  # so that the same letters are the same batch
    async with breaking_line(house_taking.gateway.intake_port or 0, [1_000_000, 2_000]) as port:
        file = await asyncio.to_thread(load_sender, write_sender(port))
        batches = []
        for _ in range(2):  # over a whole line, then over one that is cut at once
            async with open_client(file, clock=lambda: now) as gateway:
                batches.append(await gateway.send_batch(asked, reference="cut-2"))
    for batch in batches:
        assert [item.outcome for item in batch.items] == [
            ItemOutcome.ACCEPTED, ItemOutcome.REFUSED, ItemOutcome.ACCEPTED,
        ]  # fmt: skip
        problem = batch.items[1].problem
        assert problem is not None
        assert problem.code == "category-not-authorised"
        assert "administrative-fine" in problem.detail
    assert batches[0].batch_id == batches[1].batch_id


async def test_a_batch_is_looked_at_and_stopped(
    house_taking: House, write_sender: Callable[..., Path], open_client: Callable[..., GatewayClient]
) -> None:
    asked = letters(house_taking, 3)
    asked[1] = replace(asked[1], category="administrative-fine")
    file = write_sender(house_taking.gateway.intake_port)
    async with open_client(await asyncio.to_thread(load_sender, file)) as gateway:
        sent = await gateway.send_batch(asked, reference="batch-of-three")
        assert sent.batch_id is not None
        state = await gateway.batch(sent.batch_id)
        assert (state.batch_id, state.reference, state.profile) == (sent.batch_id, "batch-of-three", "burgerzaken")
        assert [item.outcome for item in state.items] == ["accepted", "refused", "accepted"]
        assert [item.code for item in state.items] == [None, "category-not-authorised", None]
        assert [item.refused_at is not None for item in state.items] == [False, True, False]
        assert [item.receipt for item in state.items] == [item.receipt_jws for item in sent.items]
        assert [item.message_id for item in state.items] == [item.message_id for item in sent.items]
        stopped = await gateway.cancel_batch(sent.batch_id)
        assert [item.outcome for item in stopped] == ["cancelled", "refused", "cancelled"]
        assert [item.status for item in (await gateway.batch(sent.batch_id)).items] == ["cancelled", None, "cancelled"]
        for ask in (gateway.batch, gateway.cancel_batch):
            with pytest.raises(Problem, match="not-found"):
                await ask(uuid4())


async def test_every_fault_of_every_letter_is_told_and_nothing_is_sent(
    house_taking: House, write_sender: Callable[..., Path], open_client: Callable[..., GatewayClient]
) -> None:
    asked = letters(house_taking, 3)
    asked[0] = replace(asked[0], subject="")
    asked[2] = replace(asked[2], reference=asked[1].reference, documents=[Path("nowhere.pdf")])
    file = write_sender(house_taking.gateway.intake_port)
    async with open_client(await asyncio.to_thread(load_sender, file)) as gateway:
        for wrong, pointers in (
            (asked, ["/letters/0/subject/text", "/letters/2/reference", "/letters/2/documents/0"]),
            ([], ["/letters"]),
            (letters(house_taking, 1) * 501, ["/letters"]),
        ):
            with pytest.raises(LetterInvalid) as caught:
                await gateway.send_batch(wrong)
            found = [error.pointer for error in caught.value.errors]
            assert found[: len(pointers)] == pointers


# ── The command ──


@pytest.fixture
def list_file(tmp_path: Path) -> Path:
    (tmp_path / "one.pdf").write_bytes(b"%PDF-1.7 one")
    (tmp_path / "two.pdf").write_bytes(b"%PDF-1.7 two")
    file = tmp_path / "list.csv"
    file.write_text(LIST, "utf-8")
    return file


def parsed(*given: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gateway")
    commands.add_commands(parser.add_subparsers(required=True))
    return parser.parse_args(["client", "batch", *map(str, given)])


@pytest.fixture
def run(open_client: Callable[..., GatewayClient], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    async def go(*given: object) -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO())
        return await asyncio.to_thread(lambda: commands.run(parsed(*given), open_client=open_client))

    return go


async def test_a_list_is_handed_over_and_may_be_given_again(
    house_taking: House,
    write_sender: Callable[..., Path],
    run: Callable[..., Any],
    list_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sender = write_sender(house_taking.gateway.intake_port)
    receipts = list_file.parent / "receipts"
    assert await run(list_file, *COMMON, "--sender", sender, "--receipts", receipts) == 0
    assert capsys.readouterr().out == "Handed over: 2 of 2 letters, receipts verified\n"
    assert sorted(file.name for file in receipts.iterdir()) == ["2026-1.jws", "2026-2.jws"]
    third = "2026-3;one.pdf;90610100155;Jan;Kerkstraat;12;9000;Gent;Uw brief\n"
    await asyncio.to_thread(list_file.write_text, LIST + third, "utf-8")
    assert await run(list_file, *COMMON, "--sender", sender, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [item["outcome"] for item in told["items"]] == ["repeated", "repeated", "accepted"]
    house_hand = await house_taking.sender()
    view = await house_hand.view(told["items"][1]["messageId"])
    assert [document["size"] for document in view["documents"]] == [12, 12]


async def test_a_letter_that_is_refused_is_named_with_its_reason(
    house_taking: House,
    write_sender: Callable[..., Path],
    run: Callable[..., Any],
    list_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await asyncio.to_thread(list_file.write_text, LIST.replace("one.pdf|two.pdf", "three.pdf"), "utf-8")
    await asyncio.to_thread((list_file.parent / "three.pdf").write_bytes, b"no PDF")
    assert await run(list_file, *COMMON, "--sender", write_sender(house_taking.gateway.intake_port)) == 1
    out = capsys.readouterr().out
    assert out.startswith("Handed over: 1 of 2 letters, receipts verified\n")
    assert "2026-2  document-not-acceptable: " in out


@pytest.mark.parametrize(
    ("text", "pointers"),
    [
        ("", ["/letters"]),
        ("reference;files\n", ["/letters"]),
        ("reference;number\n1;90610100155\n", ["/letters"]),
        ("reference;files;files\n1;one.pdf;two.pdf\n", ["/letters"]),
        ("reference;files;note\n1;one.pdf;x\n", ["/letters"]),
        ("reference;files;number\n1;one.pdf\n", ["/letters/0"]),
        ("reference;files;number\n1;one.pdf;90610100156\n", ["/letters/0/recipient"]),
        (";files;number\n", ["/letters"]),
        ("reference;files;number\n ;one.pdf;90610100155\n", ["/letters/0/reference"]),
        ("reference,files,number\na b,,90610100155\n", ["/letters/0/files", "/letters/0/reference"]),
        ("reference,files,number,channels\n1,one.pdf,90610100155,print|pigeon\n", ["/letters/0/channels"]),
        ('reference,files,number\n"1,one.pdf,90610100155\n', ["/letters"]),
    ],
)
def test_a_list_that_cannot_be_read_is_told_by_its_places(tmp_path: Path, text: str, pointers: list[str]) -> None:
    file = tmp_path / "list.csv"
    file.write_text(text, "utf-8")
    args = argparse.Namespace(category="c", purpose="p", subject="s", lang="nl", channel=[], lane=None)
    with pytest.raises(LetterInvalid) as caught:
        read_list(file, partial(arguments.common_letter, args))
    assert [error.pointer for error in caught.value.errors] == pointers
    assert "9061010015" not in str(caught.value)


async def test_a_list_that_is_not_there_is_wrong_use(
    write_sender: Callable[..., Path], run: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run(tmp_path / "none.csv", *COMMON, "--sender", write_sender(1)) == 2
    assert "none.csv cannot be read" in capsys.readouterr().err
