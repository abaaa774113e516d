"""Which documents lie in the ledger, enclosed in their message, and which become blobs."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.accept.spool import which_are_enclosed
from gateway.crypto.sealing import sealed_size
from gateway.domain.message import DocumentEntry

if TYPE_CHECKING:
    from tests.plugins.house import House
else:
    from house import House

LIMIT = 10_000
MOST = LIMIT - sealed_size(0)  # bytes of the largest document that is enclosed; one seal for as many


def entry(size_bytes: int) -> DocumentEntry:
    return DocumentEntry(
        part="upfile1",
        filename="brief.pdf",
        media_type="application/pdf",
        size_bytes=size_bytes,
        sha256="0" * 64,
        main=True,
    )


def enclosed(limit_bytes: int, *sizes: int) -> list[bool]:
    return which_are_enclosed([entry(size_bytes) for size_bytes in sizes], limit_bytes)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([MOST], [True]),
        ([MOST + 1], [False]),
        ([MOST, MOST], [True, True]),
        ([MOST, MOST, 1], [True, True, False]),  # there is no room left
        ([MOST, MOST - sealed_size(1), 1], [True, True, True]),
        ([MOST + 1, 1, MOST + 1, 1], [False, True, False, True]),  # what is a blob takes no room
        ([MOST, 2 * MOST // 3, 2 * MOST // 3, 100], [True, True, False, True]),  # nor does what found none
    ],
)
def test_small_documents_are_enclosed_while_there_is_room(sizes: list[int], expected: list[bool]) -> None:
    assert enclosed(LIMIT, *sizes) == expected


@settings(deadline=None)
@given(limit_bytes=st.integers(0, 50_000), sizes=st.lists(st.integers(1, 60_000), max_size=20))
def test_no_message_holds_more_than_it_may(limit_bytes: int, sizes: list[int]) -> None:
    found = enclosed(limit_bytes, *sizes)
    held = [sealed_size(size) for size, is_enclosed in zip(sizes, found, strict=True) if is_enclosed]
    assert len(found) == len(sizes)
    assert max(held, default=0) <= limit_bytes
    assert sum(held) <= 2 * limit_bytes


@settings(deadline=None)
@given(size_bytes=st.integers(1, 1_000_000))
def test_without_room_nothing_is_enclosed(size_bytes: int) -> None:
    assert enclosed(0, size_bytes) == [False]


def pdf_of(size_bytes: int) -> bytes:
    return b"%PDF-1.7 ".ljust(size_bytes, b"x")


def blobs_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_small_documents_are_accepted_without_a_file_and_large_ones_with(make_house: Any, inside: Any) -> None:
    house: House = await make_house(
        lambda values: values.setdefault("stores", {}).update(enclose_up_to_bytes=LIMIT), parts=["intake"]
    )
    sender, look = await house.sender(), inside(house)
    await sender.accepted([pdf_of(MOST), pdf_of(200)])
    assert not await asyncio.to_thread(look.blobs.exists)  # not even the folder
    rows = await look.query(
        "SELECT enclosed, length(sealed) FROM document LEFT JOIN enclosure USING (document_id) ORDER BY number"
    )
    assert rows == [(1, LIMIT), (1, sealed_size(200))]
    await sender.accepted([pdf_of(MOST + 1)])
    assert len(await asyncio.to_thread(blobs_of, look.blobs)) == 1
    assert await look.query("SELECT count(*) FROM enclosure") == [(2,)]
    assert await look.metric("gateway_blob_seconds_count", call="put") == 1


@pytest.mark.parametrize("change", ["another byte", "one byte less", "one byte more", "no PDF"])
async def test_a_small_document_that_is_not_what_was_signed_leaves_nothing(
    intake: House, inside: Any, change: str
) -> None:
    sender = await intake.sender()
    content = pdf_of(500) if change != "no PDF" else bytes(500)
    sent = {
        "another byte": content[:-1] + b"y",
        "one byte less": content[:-1],
        "one byte more": content + b"x",
        "no PDF": content,
    }[change]
    answer = await sender.post(sender.parts(sender.message([content]), [sent]))
    assert answer.code == ("document-not-acceptable" if change == "no PDF" else "document-mismatch")
    traces = await inside(intake).traces()
    assert (traces.documents, traces.messages) == (frozenset(), frozenset())
