"""What the recipient gets: the very bytes or none, each time with a log entry that was there before."""

import hashlib
import json
import random
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.crypto.sealing import SealBroken
from gateway.domain.message import Recipient
from gateway.errors import StoreUnavailable
from gateway.portal.letters import proven
from gateway.portal.pages import content_disposition

pytest_plugins = ["paper"]

LARGE = random.Random(1).randbytes(900_000)  # several of the store's pieces
SMALL = b"%PDF-1.7 small"


async def opened(paper: Any, visitor: Any, contents: dict[str, bytes], **named: Any) -> Any:
    letter = await paper.posted(contents, **named)
    assert (await visitor.open_by_number(letter)).status == 303
    return letter


def log(paper: Any, name: str) -> list[Any]:
    connection = apsw.Connection(str(paper.folder / "ledger.db"), flags=apsw.SQLITE_OPEN_READONLY)
    columns = "event, entry, about_index, sealed_clear, entry_id"
    entries = list(connection.execute(f"SELECT {columns} FROM log_entry WHERE log = ? ORDER BY position", (name,)))  # noqa: S608 fixed text
    connection.close()
    return entries


# ── The bytes ──


async def test_every_document_comes_back_byte_for_byte(paper: Any, portal: Any, visitor: Any) -> None:
    contents = {"groot.pdf": LARGE, "klein.pdf": SMALL, "een.pdf": b"x"}
    await opened(paper, visitor, contents)
    for number, content in enumerate(contents.values(), start=1):
        answer = await visitor.get(f"/letter/{number}")
        assert answer.status == 200
        assert answer.whole
        assert answer.body == content
        assert answer.headers["Content-Length"] == str(len(content))
        assert answer.headers["Content-Type"] == "application/pdf"
    assert portal.outcomes == {"opened": 1, "downloaded": 3}


async def test_a_document_of_exactly_the_stores_pieces_comes_back_whole(paper: Any, visitor: Any) -> None:
    for size in (16_383, 16_384, 262_144, 524_288):
        await opened(paper, visitor, {"brief.pdf": LARGE[:size]})
        assert (await visitor.get("/letter/1")).body == LARGE[:size]


async def test_a_download_carries_its_senders_file_name(paper: Any, visitor: Any) -> None:
    await opened(paper, visitor, {'Prés "tax" ŵ\u202e/../x.pdf': SMALL})
    header = (await visitor.get("/letter/1")).headers["Content-Disposition"]
    assert header == (
        "attachment; filename=\"Pr_s _tax_ __.._x.pdf\"; filename*=UTF-8''Pr%C3%A9s%20_tax_%20%C5%B5_.._x.pdf"
    )


async def test_what_is_no_pdf_is_downloaded_as_octets(paper: Any, visitor: Any) -> None:
    await opened(paper, visitor, {"pagina.html": b"<script>alert(1)</script>"}, media_type="text/html")
    answer = await visitor.get("/letter/1")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_receipt_comes_as_it_was_signed(paper: Any, visitor: Any) -> None:
    letter = await opened(paper, visitor, {"brief.pdf": SMALL})
    answer = await visitor.get("/letter/receipt.xml")
    assert (answer.status, answer.body) == (200, letter.record.receipt_xml)
    assert answer.headers["Content-Type"] == "application/xml"
    assert answer.headers["Content-Disposition"].startswith("attachment")


@pytest.mark.parametrize("number", ["0", "2", "999", "1000", "x", "-1"])
async def test_there_is_no_other_document_and_no_cover_page(paper: Any, visitor: Any, number: str) -> None:
    await opened(paper, visitor, {"brief.pdf": SMALL})
    assert (await visitor.get(f"/letter/{number}")).status == 404


async def test_a_download_is_never_probed_with_head(paper: Any, visitor: Any) -> None:
    await opened(paper, visitor, {"brief.pdf": SMALL})
    for path in ("/letter", "/letter/1", "/letter/receipt.xml"):
        assert (await visitor.call("HEAD", path, headers={})).status == 405


# ── Enclosed in the ledger ──


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_an_enclosed_document_is_downloaded_as_any_other(paper: Any, visitor: Any, content: bytes) -> None:
    letter = await opened(paper, visitor, {"brief.pdf": content}, enclosed=True)
    assert not list(paper.folder.glob(f"blobs/*/{letter.record.documents[0].document_id}"))
    answer = await visitor.get("/letter/1")
    assert (answer.status, answer.whole, answer.body == content) == (200, True, True)


async def test_an_enclosed_document_that_is_gone_gives_a_page_and_no_byte(
    paper: Any, portal: Any, visitor: Any
) -> None:
    letter = await opened(paper, visitor, {"brief.pdf": SMALL}, enclosed=True)
    lost = letter.record.documents[0].document_id.bytes
    await paper.ledger._writer.run(lambda c: c.execute("DELETE FROM enclosure WHERE document_id = ?", (lost,)))
    answer = await visitor.get("/letter/1")
    assert (answer.status, answer.headers["Content-Type"]) == (500, "text/html; charset=utf-8")
    assert portal.outcomes["downloaded"] == 0


# ── Bytes that are not what was handed over ──


@pytest.mark.parametrize("at", [300, -1, -16_500])
async def test_a_tampered_large_document_breaks_the_download_off(
    paper: Any, portal: Any, visitor: Any, at: int
) -> None:
    letter = await opened(paper, visitor, {"brief.pdf": LARGE})
    file = paper.blob_file(letter.record.documents[0].document_id)
    raw = bytearray(file.read_bytes())
    raw[at] ^= 1
    file.write_bytes(raw)
    answer = await visitor.get("/letter/1")
    assert answer.status == 500 or not answer.whole
    assert answer.status == 500 or len(answer.body) < len(LARGE)
    assert portal.outcomes["downloaded"] == 0
    assert portal.outcomes["download-broken-off"] + portal.outcomes["failed"] == 1


async def test_a_document_tampered_at_its_end_is_never_taken_for_whole(paper: Any, portal: Any, visitor: Any) -> None:
    letter = await opened(paper, visitor, {"brief.pdf": LARGE})
    file = paper.blob_file(letter.record.documents[0].document_id)
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    answer = await visitor.get("/letter/1")
    assert answer.status == 200
    assert not answer.whole
    assert len(answer.body) < len(LARGE)
    assert answer.body == LARGE[: len(answer.body)]
    assert portal.outcomes["download-broken-off"] == 1


async def test_a_cut_document_is_never_taken_for_whole(paper: Any, visitor: Any) -> None:
    letter = await opened(paper, visitor, {"brief.pdf": LARGE})
    file = paper.blob_file(letter.record.documents[0].document_id)
    file.write_bytes(file.read_bytes()[:-20_000])
    assert not (await visitor.get("/letter/1")).whole


@pytest.mark.parametrize("damage", ["changed", "of another letter", "gone"])
async def test_a_small_document_that_is_not_right_gives_a_page_and_no_byte(
    paper: Any, portal: Any, visitor: Any, damage: str
) -> None:
    other = await paper.posted({"brief.pdf": SMALL})
    letter = await opened(paper, visitor, {"brief.pdf": SMALL})
    file = paper.blob_file(letter.record.documents[0].document_id)
    match damage:
        case "changed":
            file.write_bytes(file.read_bytes()[:-1] + b"\x00")
        case "of another letter":
            file.write_bytes(paper.blob_file(other.record.documents[0].document_id).read_bytes())
        case _:
            file.unlink()
    answer = await visitor.get("/letter/1")
    assert answer.status == 500
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert SMALL not in answer.body
    assert portal.outcomes["failed"] == 1


async def in_pieces(content: bytes, cuts: list[int]) -> AsyncIterator[bytes]:
    edges = sorted({0, len(content), *(cut % (len(content) + 1) for cut in cuts)})
    for start, end in pairwise(edges):
        yield content[start:end]


@given(st.binary(min_size=1, max_size=200), st.lists(st.integers(0, 200), max_size=5))
async def test_proven_pieces_are_the_content(content: bytes, cuts: list[int]) -> None:
    digest = hashlib.sha256(content).digest()
    pieces = proven(in_pieces(content, cuts), size_bytes=len(content), sha256=digest)
    assert b"".join([piece async for piece in pieces]) == content


@given(st.binary(min_size=1, max_size=200), st.lists(st.integers(0, 200), max_size=5), st.booleans())
async def test_with_another_digest_or_size_the_last_piece_never_comes(
    content: bytes,
    cuts: list[int],
    wrong_size: bool,  # noqa: FBT001 a drawn value
) -> None:
    digest = hashlib.sha256(content if wrong_size else content + b"x").digest()
    pieces = proven(in_pieces(content, cuts), size_bytes=len(content) + wrong_size, sha256=digest)
    got = b""
    try:
        async for piece in pieces:
            got += piece
    except SealBroken:
        assert len(got) < len(content)
    else:
        pytest.fail("it was taken for whole")


@given(st.text(min_size=1, max_size=60))
def test_no_file_name_breaks_out_of_its_header(filename: str) -> None:
    header = content_disposition(filename)
    plain = header.removeprefix('attachment; filename="').partition('"')[0]
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
    assert not set(plain) & set('/\\%;"') - {";"}
    assert plain.strip(" .")


# ── The log ──


async def test_opening_and_downloading_are_in_the_privacy_log(paper: Any, visitor: Any) -> None:
    letter = await opened(paper, visitor, {"brief.pdf": SMALL})
    await visitor.get("/letter/1")
    await visitor.get("/letter/receipt.xml")
    entries = log(paper, "privacy")
    assert [event for event, *_ in entries] == ["letter-opened", "document-downloaded", "receipt-downloaded"]
    index = await paper.vault.blind_index("privacy")
    about = [value for _, value in index.candidates("dgw.insz", "90610100155")]
    for _, entry, about_index, sealed, entry_id in entries:
        body = json.loads(entry)
        assert body["who"] == {"role": "recipient", "by": "code"}
        assert body["what"]["message"] == str(letter.record.message_id)
        assert body["what"]["delivery"] == str(letter.letter.delivery.delivery_id)
        assert body["what"]["legalBasis"] == "WIB92 art. 302"
        assert about_index in about
        clear = json.loads(
            letter.letter.meta.open_field(table="log_entry", column="sealed_clear", row=entry_id, sealed=sealed)
        )
        assert (clear["purpose"], clear["about"]) == ("retrieval by recipient", "90610100155")
    assert json.loads(entries[0][1])["what"]["via"] == "number"
    assert json.loads(entries[1][1])["what"]["part"] == "upfile1"


async def test_the_sender_sees_that_the_letter_was_fetched_and_how_often(paper: Any, visitor: Any) -> None:
    letter = await opened(paper, visitor, {"brief.pdf": SMALL})
    await visitor.get("/letter/1")
    await visitor.open_by_token(letter)
    record = await paper.ledger.message(letter.record.message_id)
    timeline = await paper.ledger.timeline(letter.record.message_id)
    assert record.retrievals == 2
    assert [entry.event for entry in timeline] == ["retrieved", "retrieved"]


async def test_a_letter_to_an_address_alone_is_logged_too(paper: Any, visitor: Any) -> None:
    address = (await paper.accepted()).recipient.address
    await opened(paper, visitor, {"brief.pdf": SMALL}, recipient=Recipient(address=address))
    assert [(event, about) for event, _, about, *_ in log(paper, "privacy")] == [("letter-opened", None)]


async def test_wrong_codes_leave_no_entry_about_a_person(paper: Any, visitor: Any) -> None:
    letter = await paper.posted()
    await visitor.open_by_number(letter, "0000-0000")
    assert log(paper, "privacy") == []


@pytest.mark.parametrize(("call", "path"), [("append", "/letter/1"), ("append", "/letter/receipt.xml")])
async def test_nothing_is_sent_that_could_not_be_logged(
    paper: Any, make_portal: Any, failing_ledger: Any, call: str, path: str
) -> None:
    portal = await make_portal(ledger=failing_ledger(paper.ledger, StoreUnavailable("full"), call))
    visitor = await portal.visitor()
    letter = await opened(paper, visitor, {"brief.pdf": SMALL})
    answer = await visitor.get(path)
    assert answer.status == 503
    assert SMALL not in answer.body
    assert letter.record.receipt_xml not in answer.body


async def test_no_visit_begins_that_could_not_be_logged(paper: Any, make_portal: Any, failing_ledger: Any) -> None:
    portal = await make_portal(ledger=failing_ledger(paper.ledger, StoreUnavailable("full"), "retrieved"))
    visitor = await portal.visitor()
    answer = await visitor.open_by_number(await paper.posted())
    assert answer.status == 503
    assert "Set-Cookie" not in answer.headers
    assert (await visitor.get("/letter")).status == 403
