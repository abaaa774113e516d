"""Parts told apart: the same however the octets are cut, as other readers do, and never otherwise than strictly."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from aiohttp import BodyPartReader, MultipartReader, StreamReader
from aiohttp.base_protocol import BaseProtocol
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.errors import Kind, Refusal
from gateway.intake.multipart import CHUNK_BYTES, Mark, MultipartParser
from gateway.intake.part_heads import PartHead, parse_head

BOUNDARY = "bound-7"
DELIMITER = b"\r\n--bound-7"
HEAD = b'Content-Disposition: form-data; name="upfile1"'
LONGEST = 8_190


@dataclass(frozen=True)
class Read:
    """One part as it was read."""

    name: str
    filename: str
    media_type: str
    content: bytes


def read(blocks: Iterable[bytes], *, is_whole: bool = True) -> list[Read | Mark]:
    """Return the parts, and what else was told: PART_END only of a part that is not followed by anything."""
    parser, told = MultipartParser(BOUNDARY), list[Read | Mark]()
    pieces: list[bytes] | None = None
    head: PartHead | None = None

    def tell() -> None:
        nonlocal pieces, head
        while (event := parser.next()) is not None:
            match event:
                case PartHead():
                    assert pieces is None
                    head, pieces = event, []
                case bytes():
                    assert pieces is not None
                    assert 0 < len(event) <= CHUNK_BYTES
                    pieces.append(event)
                case Mark.PART_END:
                    assert pieces is not None
                    assert head is not None
                    told.append(Read(head.name, head.filename, head.media_type, b"".join(pieces)))
                    pieces = None
                case Mark.BODY_END:
                    told.append(event)
                    assert parser.next() is event
                    return

    for block in blocks:
        parser.feed(block)
        tell()
    if is_whole:
        parser.end()
        tell()
        assert pieces is None
        assert told[-1] is Mark.BODY_END
    return told


def parts_of(body: bytes, cuts: Sequence[int] = ()) -> list[Read]:
    """Return the parts of a whole body that comes in blocks cut at these places."""
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    *parts, _ = read(body[start:end] for start, end in pairwise(places))
    return [part for part in parts if isinstance(part, Read)]


def attempt(body: bytes, cuts: Sequence[int] = ()) -> list[Read] | None:
    try:
        return parts_of(body, cuts)
    except Refusal as refusal:
        if refusal.kind is not Kind.MULTIPART_INVALID:
            raise
        return None


def body_of(*parts: bytes) -> bytes:
    return b"".join(b"--bound-7\r\n" + part + b"\r\n" for part in parts) + b"--bound-7--\r\n"


def part_of(content: bytes, head: bytes = HEAD) -> bytes:
    return head + b"\r\n\r\n" + content


# What looks like a boundary, or like the beginning or the end of one.
FRAGMENTS = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"-", b"--", b"\r\n--", b"\r\n--bound", b"\r\n--bound-", b"--bound-7",
    b"bound-7--", b"\r\r\n--bound-8", b"\r\n--bound-7\r\n", b"\r\n--bound-7--\r\n", b"\n--bound-7\n", b": ", b"\0",
    b"x", HEAD, DELIMITER,
]  # fmt: skip
NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/\\;"), min_size=1, max_size=30)
TYPES = st.sampled_from(["application/pdf", "application/xml", "text/plain", "application/xml; charset=utf-8"])
CUTS = st.lists(st.integers(0, 100_000), max_size=40)
CONTENTS = (
    st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=20), max_size=12)
    .map(b"".join)
    .filter(lambda content: DELIMITER not in b"\r\n" + content)
)


def quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


@st.composite
def written(draw: st.DrawFn) -> Read:
    name, filename = draw(NAMES), draw(NAMES)
    return Read(name, filename, draw(TYPES), draw(CONTENTS))


def encode(part: Read) -> bytes:
    disposition = f"form-data; name={quoted(part.name)}; filename={quoted(part.filename)}"
    head = f"Content-Disposition: {disposition}\r\nContent-Type: {part.media_type}"
    return part_of(part.content, head.encode())


BODIES = st.lists(written(), max_size=4).filter(lambda parts: all(part.name != "_charset_" for part in parts))


@given(parts=BODIES, cuts=CUTS)
def test_what_was_written_is_read_however_it_is_cut(parts: list[Read], cuts: list[int]) -> None:
    assert parts_of(body_of(*map(encode, parts)), cuts) == parts


@given(parts=BODIES)
def test_octet_by_octet_is_the_same(parts: list[Read]) -> None:
    body = body_of(*map(encode, parts))
    assert parts_of(body, range(len(body))) == parts


async def as_aiohttp_reads(body: bytes) -> list[Read]:
    loop = asyncio.get_running_loop()
    stream = StreamReader(BaseProtocol(loop), 1_000_000, loop=loop)
    stream.feed_data(body)
    stream.feed_eof()
    parts: list[Read] = []
    reader = MultipartReader({"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}, stream)
    while (part := await reader.next()) is not None:
        assert isinstance(part, BodyPartReader)
        content = bytes(await part.read())
        parts.append(Read(part.name or "", part.filename or "", part.headers["Content-Type"], content))
    return parts


@given(parts=BODIES.filter(bool))
def test_another_reader_reads_the_same(parts: list[Read]) -> None:
    body = body_of(*map(encode, parts))
    assert asyncio.run(as_aiohttp_reads(body)) == parts_of(body) == parts


# ── The strict reading, written down once more, of a body that is all there ──


def strictly(body: bytes) -> list[Read] | None:
    preamble, *pieces = (b"\r\n" + body).split(DELIMITER)
    parts: list[Read] = []
    for number, piece in enumerate(pieces):
        if piece.startswith(b"--"):
            epilogue = DELIMITER.join(pieces[number:])[2:]
            fits = len(preamble) <= LONGEST and len(epilogue) <= LONGEST
            return parts if fits and epilogue[:2] in (b"", b"\r\n") else None
        head, empty_line, content = piece.partition(b"\r\n\r\n")
        if not empty_line:
            head, empty_line = head[:-2], head[-2:]  # without content, the CRLF of the boundary may be that of the line
        if not (head.startswith(b"\r\n") or (head == b"" and piece.startswith(b"\r\n"))) or empty_line[:2] != b"\r\n":
            return None
        try:
            read_head = parse_head(head[2:])
        except Refusal:
            return None
        parts.append(Read(read_head.name, read_head.filename, read_head.media_type, content))
    return None


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    body = draw(st.lists(st.sampled_from(FRAGMENTS), max_size=3).map(b"".join)) + body_of(*map(encode, draw(BODIES)))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(body)))
        length = draw(st.integers(0, 12))
        body = body[:start] + draw(st.sampled_from([b"", *FRAGMENTS])) + body[start + length :]
    return body


@given(body=mutated(), cuts=CUTS)
@example(body=b"--bound-7\r\n" + HEAD + b"\r\n\r\n--bound-7--", cuts=[])
@example(body=b"--bound-7\r\n" + HEAD + b"\r\n\r\n--bound-7x", cuts=[])
@example(body=b"\r\n--bound-7--\r\n--bound-7\r\nx", cuts=[1, 2, 3])
@example(body=b"--bound-7\r\n\r\n\r\n--bound-7--", cuts=[])
@example(body=b"x--bound-7\r\n" + HEAD + b"\r\n\r\nx\r\n--bound-7--", cuts=[])
@example(body=b"--bound-7--\r", cuts=[])
def test_what_was_changed_is_read_strictly_or_refused(body: bytes, cuts: list[int]) -> None:
    expected = strictly(body)
    assert attempt(body) == expected
    assert attempt(body, cuts) == expected
    assert attempt(body, range(len(body))) == expected


REFUSED = {
    "nothing": b"",
    "no boundary": b"hello\r\n",
    "a boundary that is no line of its own": b"x" + body_of(part_of(b"x")).removesuffix(b"--\r\n"),
    "line feeds alone": body_of(part_of(b"x")).replace(b"\r\n", b"\n"),
    "a line feed behind the first boundary": body_of(part_of(b"x")).replace(b"--bound-7\r\n", b"--bound-7\n", 1),
    "a line feed before the second boundary": body_of(part_of(b"x")).replace(b"x\r\n", b"x\n"),
    "line feeds in the head": body_of(part_of(b"x", HEAD + b"\nContent-Type: text/plain")),
    "a line feed as the empty line": body_of(HEAD + b"\r\n\nx"),
    "a space behind a boundary": body_of(part_of(b"x")).replace(b"--bound-7\r\n", b"--bound-7 \r\n"),
    "a space behind the last boundary": body_of(part_of(b"x")).replace(b"--bound-7--", b"--bound-7-- "),
    "text behind the last boundary": body_of(part_of(b"x")).rstrip() + b"hello",
    "a line feed behind the last boundary": body_of(part_of(b"x")).rstrip() + b"\n",
    "half an end of line behind the last boundary": body_of(part_of(b"x"))[:-1],
    "one hyphen behind the last boundary": body_of(part_of(b"x")).rstrip()[:-1],
    "no last boundary": body_of(part_of(b"x")).removesuffix(b"--bound-7--\r\n"),
    "no head": body_of(b"\r\nx"),
    "no empty line": body_of(HEAD),
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_what_is_no_such_body_is_refused(body: bytes) -> None:
    assert attempt(body) is attempt(body, range(len(body))) is strictly(body) is None


@pytest.mark.parametrize(
    ("around", "is_taken"),
    [
        ((b"", b""), True),
        ((b"", b"\r\n"), True),
        ((b"preamble\r\n", b"\r\nepilogue"), True),
        ((b"\r\n", b"\r\n\r\n--bound-7\r\n"), True),
        ((b"a" * (LONGEST - 2) + b"\r\n", b"\r\n" + b"a" * (LONGEST - 2)), True),
        ((b"a" * (LONGEST - 1) + b"\r\n", b""), False),
        ((b"", b"\r\n" + b"a" * (LONGEST - 1)), False),
    ],
)
def test_a_preamble_and_an_epilogue_are_skipped_up_to_a_size(around: tuple[bytes, bytes], *, is_taken: bool) -> None:
    before, behind = around
    body = before + body_of(part_of(b"x")).rstrip() + behind
    found = [Read("upfile1", "", "", b"x")] if is_taken else None
    assert attempt(body) == attempt(body, range(len(body))) == strictly(body) == found


@pytest.mark.parametrize(("size_bytes", "is_taken"), [(LONGEST - 2, True), (LONGEST - 1, False)])
def test_the_size_of_a_head_is_bounded(size_bytes: int, *, is_taken: bool) -> None:
    head = HEAD + b"\r\nContent-Type: "
    body = body_of(part_of(b"x", head + b"a" * (size_bytes - len(head))))
    for found in (attempt(body), attempt(body, range(len(body)))):
        assert (found is not None) is is_taken


def test_a_head_without_an_end_is_not_kept() -> None:
    parser = MultipartParser(BOUNDARY)
    parser.feed(b"--bound-7\r\n" + HEAD + b"\r\nContent-Type: ")
    for _ in range(8):
        parser.feed(b"a" * 1_000)
        assert parser.next() is None
    parser.feed(b"a" * 1_000)
    with pytest.raises(Refusal):
        parser.next()


def test_a_part_ends_as_soon_as_its_boundary_is_here() -> None:
    begun = b"--bound-7\r\n" + part_of(b"content") + DELIMITER
    whole = Read("upfile1", "", "", b"content")
    assert read([begun], is_whole=False) == read([begun + b"\r"], is_whole=False) == [whole]
    assert read([begun[:-1]], is_whole=False) == []
    assert read([bytes([octet]) for octet in begun], is_whole=False) == [whole]
    with pytest.raises(Refusal):
        read([begun, b"?\r\n"])


def test_a_body_ends_only_when_nothing_more_comes() -> None:
    body = body_of(part_of(b"x"))
    assert Mark.BODY_END not in read([body, b"epilogue"], is_whole=False)


def test_content_is_told_at_once_but_for_what_may_be_a_boundary() -> None:
    parser = MultipartParser(BOUNDARY)
    parser.feed(b"--bound-7\r\n" + part_of(b"ab\r\n--bou"))
    assert isinstance(parser.next(), PartHead)
    assert parser.next() == b"ab"
    assert parser.next() is None
    parser.feed(b"d\r")
    assert parser.next() == b"\r\n--boud"
    assert parser.next() is None
    parser.feed(b"\n")
    assert parser.next() is None
    parser.feed(b"c\r-")
    assert parser.next() == b"\r\nc\r-"


def test_a_block_that_is_content_is_handed_on_as_it_is() -> None:
    parser, block = MultipartParser(BOUNDARY), b"a" * CHUNK_BYTES
    parser.feed(b"--bound-7\r\n" + part_of(b"x"))
    assert isinstance(parser.next(), PartHead)
    assert parser.next() == b"x"
    parser.feed(block)
    assert parser.next() is block


def test_a_block_larger_than_a_piece_is_handed_on_in_pieces() -> None:
    content = bytes(range(256)) * 1_024
    assert parts_of(body_of(part_of(content))) == [Read("upfile1", "", "", content)]


@pytest.mark.parametrize(
    ("rest", "detail"),
    [
        (b"", "the parts cannot be told apart"),
        (b"--bound-7\r\n" + HEAD, "the parts cannot be told apart"),
        (b"--bound-7\r\n" + HEAD + b"\r\n\r\n", "does not end with the boundary"),
        (b"--bound-7\r\n" + part_of(b"con"), "does not end with the boundary"),
        (b"--bound-7\r\n" + part_of(b"con") + DELIMITER, "the parts cannot be told apart"),
    ],
)
def test_a_body_that_ends_early_is_told_where(rest: bytes, detail: str) -> None:
    with pytest.raises(Refusal, match=detail):
        read([rest])
