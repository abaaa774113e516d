"""The reader of bodies by itself: what it waits for, what it leaves on the connection, what it passes over."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from gateway.accept import RawBatch, RawMessage, RawPart
from gateway.errors import Kind, Refusal
from gateway.intake.body import BodyLimits, Pace, read_batch, read_message
from gateway.intake.multipart import CHUNK_BYTES

HIGH_WATER_BYTES = 2 * 65_536
LIMITS = BodyLimits(
    manifest_bytes=1_000, batch_manifest_bytes=1_000, batch_bytes=2_000, stall_s=20.0, minimum_bytes_per_s=0
)
CLOSING = b"--bound--\r\n"


class Line(BaseProtocol):
    """A connection that only notes whether it is to take more."""

    is_paused = False

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: ARG002, FBT001, FBT002 -- the library's
        self.is_paused = False


class Arriving:
    """A request whose body arrives as it is fed."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.line = Line(loop)
        self.line.transport = asyncio.Transport()
        self.content = StreamReader(self.line, 65_536, loop=loop)
        headers = {"Content-Type": "multipart/form-data; boundary=bound"}
        self.request = make_mocked_request("POST", "/api/v1/messages", headers=headers, payload=self.content)

    def feed(self, *octets: bytes, is_whole: bool = False) -> None:
        for each in octets:
            self.content.feed_data(each)
        if is_whole:
            self.content.feed_eof()


@pytest.fixture
async def arriving() -> Arriving:
    return Arriving()


def part(name: str, content: bytes, media_type: str = "application/pdf") -> bytes:
    head = f'--bound\r\nContent-Disposition: form-data; name="{name}"\r\nContent-Type: {media_type}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def signed(content: bytes = b"<M/>", name: str = "message") -> bytes:
    return part(name, content, "application/xml")


async def whole(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def all_of(parts: AsyncIterator[RawPart]) -> list[tuple[str, bytes]]:
    return [(each.name, await whole(each.chunks)) async for each in parts]


def without_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_: float) -> None:
        raise AssertionError("armed a time-out")

    monkeypatch.setattr(asyncio, "timeout", never)


async def test_what_is_there_is_read_without_a_timeout(arriving: Arriving, monkeypatch: pytest.MonkeyPatch) -> None:
    without_timeouts(monkeypatch)
    arriving.feed(signed(), part("upfile1", b"one"), part("upfile2", b"two"), CLOSING, is_whole=True)
    raw = await read_message(arriving.request, LIMITS)
    assert raw.manifest == b"<M/>"
    assert await all_of(raw.parts) == [("upfile1", b"one"), ("upfile2", b"two")]
    assert await anext(raw.parts, None) is None


async def test_what_is_not_there_is_waited_for(arriving: Arriving) -> None:
    body = signed() + part("upfile1", b"one") + CLOSING
    reading = asyncio.create_task(read_message(arriving.request, LIMITS))
    for octet in body[:-1]:
        await asyncio.sleep(0)
        arriving.feed(bytes([octet]))
    raw = await reading
    rest = asyncio.create_task(all_of(raw.parts))
    await asyncio.sleep(0)
    arriving.feed(body[-1:], is_whole=True)
    assert await rest == [("upfile1", b"one")]


async def test_a_document_flows_only_as_fast_as_it_is_taken(arriving: Arriving) -> None:
    arriving.feed(signed(), part("upfile1", b"")[:-2])
    raw = await read_message(arriving.request, LIMITS)
    first = await anext(raw.parts)
    block, sent, taken = bytes(CHUNK_BYTES), 0, 0
    for _ in range(8):
        while not arriving.line.is_paused:
            arriving.feed(block)
            sent += len(block)
        assert sent - taken <= HIGH_WATER_BYTES + 2 * CHUNK_BYTES
        async for chunk in first.chunks:
            assert len(chunk) <= CHUNK_BYTES
            taken += len(chunk)
            if not arriving.line.is_paused:
                break
    arriving.feed(b"\r\n" + CLOSING, is_whole=True)
    taken += len(await whole(first.chunks))
    assert sent == taken
    assert await all_of(raw.parts) == []


async def test_what_was_not_read_of_a_part_is_passed_over(arriving: Arriving) -> None:
    content = bytes(3 * CHUNK_BYTES)
    arriving.feed(signed(), part("upfile1", content), part("upfile2", b"two"), CLOSING, is_whole=True)
    raw = await read_message(arriving.request, LIMITS)
    one = await anext(raw.parts)
    assert len(await anext(one.chunks)) <= CHUNK_BYTES
    two = await anext(raw.parts)
    assert await whole(one.chunks) == b""
    assert (two.name, await whole(two.chunks)) == ("upfile2", b"two")
    assert await anext(raw.parts, None) is None


async def test_a_part_that_was_read_is_not_read_again_as_the_next_one(arriving: Arriving) -> None:
    arriving.feed(signed(), part("upfile1", b"one"), part("upfile2", b"two"), CLOSING, is_whole=True)
    raw = await read_message(arriving.request, LIMITS)
    one = await anext(raw.parts)
    assert await anext(one.chunks) == b"one"
    two = await anext(raw.parts)
    assert [await whole(each.chunks) for each in (one, two)] == [b"", b"two"]


@pytest.mark.parametrize(
    ("body", "kind", "detail"),
    [
        (CLOSING, Kind.MULTIPART_INVALID, "the first part must be named message"),
        (signed(name="other") + CLOSING, Kind.MULTIPART_INVALID, "the first part must be named message"),
        (part("message", b"x") + CLOSING, Kind.UNSUPPORTED_MEDIA_TYPE, "must be of type application/xml"),
        (signed(bytes(1_001)) + CLOSING, Kind.MESSAGE_TOO_LARGE, "at most 1000 bytes"),
        (signed()[:-2], Kind.MULTIPART_INVALID, "does not end with the boundary"),
    ],
)
async def test_a_signed_part_that_is_not_as_it_must_be_is_refused(
    arriving: Arriving, body: bytes, kind: Kind, detail: str
) -> None:
    arriving.feed(body, is_whole=True)
    with pytest.raises(Refusal, match=detail) as refused:
        await read_message(arriving.request, LIMITS)
    assert refused.value.kind is kind


async def test_the_signed_part_may_have_as_many_bytes_as_its_limit(arriving: Arriving) -> None:
    arriving.feed(signed(bytes(1_000)), CLOSING, is_whole=True)
    assert len((await read_message(arriving.request, LIMITS)).manifest) == 1_000


async def batch_with(arriving: Arriving, size_bytes: int) -> RawBatch:
    """A batch of 1,000 signed bytes, then two parts that have this many bytes together."""
    first, second = part("m1", bytes(1_000)), part("m2", bytes(size_bytes - 1_000))
    arriving.feed(signed(bytes(1_000), "batch"), first, second, CLOSING, is_whole=True)
    return await read_batch(arriving.request, LIMITS)


async def test_all_parts_of_a_batch_have_a_limit_together(arriving: Arriving) -> None:
    assert len(await all_of((await batch_with(arriving, 2_000)).parts)) == 2


async def test_parts_of_a_batch_that_are_passed_over_count_too(arriving: Arriving) -> None:
    raw = await batch_with(arriving, 2_001)
    assert (await anext(raw.parts)).name == "m1"
    second = await anext(raw.parts)
    with pytest.raises(Refusal, match="at most 3000 bytes together") as refused:
        await whole(second.chunks)
    assert refused.value.kind is Kind.MESSAGE_TOO_LARGE


async def test_a_part_of_a_batch_is_whole_although_nothing_more_comes(arriving: Arriving) -> None:
    arriving.feed(signed(name="batch"), part("m1", b"one"), b"--bound")
    raw = await read_batch(arriving.request, LIMITS)
    first = await anext(raw.parts)
    assert await whole(first.chunks) == b"one"
    following = asyncio.create_task(anext(raw.parts, None))
    await asyncio.sleep(0)
    assert not following.done()
    arriving.content.set_exception(ConnectionResetError())
    with pytest.raises(Refusal, match="broke off") as refused:
        await following
    assert refused.value.kind is Kind.BAD_REQUEST


@pytest.mark.parametrize("broken", [ConnectionResetError, lambda: web.RequestPayloadError("bad chunk")])
async def test_a_body_that_breaks_off_is_told(arriving: Arriving, broken: Callable[[], Exception]) -> None:
    arriving.feed(signed(), part("upfile1", b"one"))
    raw: RawMessage = await read_message(arriving.request, LIMITS)
    arriving.content.set_exception(broken())
    with pytest.raises(Refusal, match="broke off") as refused:
        await all_of(raw.parts)
    assert refused.value.kind is Kind.BAD_REQUEST


async def test_the_end_of_a_body_is_never_too_slow(arriving: Arriving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.intake.body._RATE_GRACE_S", -1.0)
    limits = BodyLimits(
        manifest_bytes=1, batch_manifest_bytes=1, batch_bytes=1, stall_s=20.0, minimum_bytes_per_s=10**15
    )
    pace = Pace(limits)
    arriving.feed(is_whole=True)
    assert await pace.read(arriving.content) == b""
