"""The recipe for many letters, run as an outsider would: each is accepted once, whatever becomes of the others."""

import json
import shutil
from base64 import urlsafe_b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

House = Any
Outsider = Any
MakeOutsider = Callable[..., Outsider]
SSIN = "90610100155"


def write_letter(outsider: Outsider, house: House, reference: str, *, documents: int = 1) -> None:
    """A folder with one letter; each has its own length."""
    folder: Path = outsider.folder / reference
    folder.mkdir()
    shutil.copy(outsider.folder / "recipient.txt", folder)
    for number in range(documents):
        (folder / f"{number}.pdf").write_bytes(house.pdf + b"%" * number)


async def held(house: House, reference: str, sender: str = "gemeente") -> list[Any]:
    """The messages that the gateway holds under a reference."""
    answer = await (await house.sender(sender)).call("GET", f"/api/v1/messages?reference={reference}")
    messages: list[Any] = answer.json["messages"]
    return messages


@pytest.mark.parametrize("sender", ["gemeente", "belasting"])
async def test_each_letter_is_accepted_once_and_the_same_command_gives_the_same_receipts(
    sender: str, house: House, make_outsider: MakeOutsider
) -> None:
    outsider = make_outsider(house, "python-batch", sender)
    write_letter(outsider, house, "2026-1", documents=2)
    write_letter(outsider, house, "2026-2")
    first = await outsider.send("batch-1", "2026-2", recipient="2026-1")
    assert first.code == 0, first.err
    messages = [message for name in ("2026-1", "2026-2") for message in await held(house, name, sender)]
    assert first.out.splitlines() == [f"{each['reference']} accepted {each['messageId']}" for each in messages]
    kept = outsider.kept("batch-1")
    assert {name for name in kept if len(name) < 64} == {
        "m1.json", "m2.json", "2026-1.receipt.jws", "2026-2.receipt.jws",
    }  # fmt: skip
    again = await outsider.send("batch-1", "2026-2", recipient="2026-1")
    assert (again.code, again.out) == (0, first.out), again.err
    assert outsider.kept("batch-1").items() >= kept.items()
    # In another batch the letters are known.
    other = await outsider.send("batch-2", "2026-2", recipient="2026-1")
    assert (other.code, other.out) == (0, first.out.replace("accepted", "repeated")), other.err


async def test_what_is_wrong_with_one_letter_is_told_and_the_others_are_accepted(
    house: House, make_outsider: MakeOutsider
) -> None:
    outsider = make_outsider(house, "python-batch")
    for reference in ("2026-1", "2026-2", "2026-3"):
        write_letter(outsider, house, reference)
    (outsider.folder / "2026-2" / "0.pdf").write_bytes(b"no PDF")
    ended = await outsider.send("batch-1", "2026-2", "2026-3", recipient="2026-1")
    assert ended.code == 1
    assert [line.split()[:2] for line in ended.out.splitlines()] == [
        ["2026-1", "accepted"], ["2026-2", "refused"], ["2026-3", "accepted"],
    ]  # fmt: skip
    assert ended.out.splitlines()[1] == "2026-2 refused document-not-acceptable"
    assert "urn:document-gateway:problem:document-not-acceptable" in ended.err
    assert SSIN not in ended.err
    assert len(await held(house, "2026-2")) == 0


async def test_after_a_lost_answer_the_batch_is_sent_again_and_nothing_is_accepted_twice(
    house: House, make_outsider: MakeOutsider, lossy_line: Any
) -> None:
    async with lossy_line(house, "2026-2") as line:
        outsider = make_outsider(house, "python-batch", GATEWAY_URL=line.url)
        for reference in ("2026-1", "2026-2"):
            write_letter(outsider, house, reference)
        ended = await outsider.send("batch-1", "2026-2", recipient="2026-1")
    assert ended.code == 0, ended.err
    assert line.connections == 2
    for reference in ("2026-1", "2026-2"):
        [message] = await held(house, reference)
        assert f"{reference} accepted {message['messageId']}" in ended.out


async def test_another_batch_under_its_name_is_refused_before_or_by_the_gateway(
    house: House, make_outsider: MakeOutsider
) -> None:
    outsider = make_outsider(house, "python-batch")
    for reference in ("2026-1", "2026-2"):
        write_letter(outsider, house, reference)
    assert (await outsider.send("batch-1", "2026-2", recipient="2026-1")).code == 0
    here = await outsider.send("batch-1", "2026-1", recipient="2026-2")
    assert (here.code, here.out) == (2, "")
    assert "name the batch anew" in here.err
    shutil.rmtree(outsider.folder / "sent")
    (outsider.folder / "2026-1" / "recipient.txt").write_text("0406798006\n")
    there = await outsider.send("batch-1", "2026-2", recipient="2026-1")
    assert (there.code, there.out) == (1, "")
    assert "reference-conflict" in there.err


async def test_a_receipt_of_another_signer_is_not_believed(house: House, make_outsider: MakeOutsider) -> None:
    outsider = make_outsider(house, "python-batch")
    for reference in ("2026-1", "2026-2"):
        write_letter(outsider, house, reference)
    shutil.copy(outsider.folder / "mine.pem", outsider.folder / "receipts.pem")
    ended = await outsider.send("batch-1", "2026-2", recipient="2026-1")
    assert (ended.code, ended.out) == (1, "")
    assert "the receipt's signature is not valid" in ended.err


async def test_without_an_address_the_batch_is_signed_and_not_sent(house: House, make_outsider: MakeOutsider) -> None:
    outsider = make_outsider(house, "python-batch", GATEWAY_URL="")
    for reference in ("2026-1", "2026-2"):
        write_letter(outsider, house, reference)
    ended = await outsider.send("batch-1", "2026-2", recipient="2026-1")
    assert ended.code == 0
    header = Path(ended.err.strip()).name
    token = outsider.kept("batch-1")[header]
    assert json.loads(urlsafe_b64decode(token.split(b".")[0] + b"==="))["cty"] == "batch+json"
    assert await held(house, "2026-1") == []


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "0.pdf").unlink(), "holds no recipient.txt, or no document"),
        (lambda folder: (folder / "recipient.txt").unlink(), "holds no recipient.txt, or no document"),
        (lambda folder: (folder / "recipient.txt").write_text("Jan"), "the first line of recipient.txt must be"),
        (lambda folder: folder.rename(folder.with_name("a b")), "the name of the folder is the letter's reference"),
    ],
)
async def test_a_folder_that_is_no_letter_is_wrong_use(
    spoil: Callable[[Path], object], told: str, house: House, make_outsider: MakeOutsider
) -> None:
    outsider = make_outsider(house, "python-batch", GATEWAY_URL="")
    for reference in ("2026-1", "2026-2"):
        write_letter(outsider, house, reference)
    spoil(outsider.folder / "2026-2")
    named = "a b" if (outsider.folder / "a b").exists() else "2026-2"
    ended = await outsider.send("batch-1", named, recipient="2026-1")
    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err
    assert SSIN not in ended.err
