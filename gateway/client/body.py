"""The body of a hand-over: `multipart/form-data` of a known size, made while it is sent, with constant memory."""

import asyncio
import re
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from gateway.client.letter import CHUNK_BYTES
from gateway.client.problems import ClientError, LetterInvalid
from gateway.crypto.batches import ITEM_MEDIA_TYPES
from gateway.crypto.dialects import Dialect
from gateway.domain.message import DocumentEntry
from gateway.errors import FieldError

__all__ = ["BatchBody", "ItemParts", "LetterBody", "StreamedBody"]

_CRLF: Final = b"\r\n"
_QUOTED: Final = re.compile(r"([\"\\])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One part of a body: `head` as it is sent, and its content of a known size; `pointer` names it in a failure."""

    head: bytes
    content: Path | bytes
    size_bytes: int
    pointer: str


class StreamedBody(aiohttp.Payload):
    """
    Parts in their order, for one request.

    `failure` is what a document of ours raised, if one did; then the request was cut off.
    """

    _autoclose = True

    def __init__(self, boundary: str, segments: Sequence[Segment], *, stall_timeout_s: float) -> None:
        super().__init__(None, content_type=f"multipart/form-data; boundary={boundary}")
        self._stall_timeout_s = stall_timeout_s
        self._segments = segments
        self._tail = f"--{boundary}--\r\n".encode()
        self._size = sum(len(each.head) + each.size_bytes + len(_CRLF) for each in segments) + len(self._tail)
        self.failure: ClientError | None = None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - the library's signature
        """Refuse: the body exists only while it is sent."""
        raise TypeError("a streamed body has no text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """
        Send the body; the library calls this once the connection stands.

        Raises:
            TimeoutError: the other side took nothing for `stall_timeout_s`.
        """
        self._consumed = True
        async with aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                async with asyncio.timeout(self._stall_timeout_s):
                    await writer.write(piece)

    async def write_with_length(
        self,
        writer: AbstractStreamWriter,
        content_length: int | None,  # noqa: ARG002 - our own size, which `_content` holds each document to
    ) -> None:
        """Send the body."""
        await self.write(writer)

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        for segment in self._segments:
            yield segment.head
            try:
                async with aclosing(_content(segment)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            except LetterInvalid as exc:
                self.failure = exc
                raise
            yield _CRLF
        yield self._tail


class LetterBody(StreamedBody):
    """The signed part, then the documents in the order of the manifest; cut off, it hands nothing over."""

    def __init__(
        self,
        message: bytes,
        documents: Sequence[tuple[DocumentEntry, Path | bytes]],
        *,
        stall_timeout_s: float,
        dialect: Dialect = Dialect.XML,
    ) -> None:
        boundary = _new_boundary()
        segments = [
            _octets(boundary, "message", dialect.media_type, message),
            *_documents(boundary, "", "", documents),
        ]
        super().__init__(boundary, segments, stall_timeout_s=stall_timeout_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemParts:
    """An item of a batch as it is sent: its number, its unsigned message, and its documents."""

    number: int
    message: bytes
    documents: Sequence[tuple[DocumentEntry, Path | bytes]]


class BatchBody(StreamedBody):
    """The signed batch, then items with their documents; cut off, it hands over those that went before."""

    def __init__(self, batch: bytes, items: Sequence[ItemParts], *, stall_timeout_s: float, dialect: Dialect) -> None:
        boundary = _new_boundary()
        segments = [_octets(boundary, "batch", dialect.media_type, batch)]
        for item in items:
            name = f"m{item.number}"
            segments.append(_octets(boundary, name, ITEM_MEDIA_TYPES[dialect], item.message))
            segments += _documents(boundary, f"{name}-", f"/letters/{item.number - 1}", item.documents)
        super().__init__(boundary, segments, stall_timeout_s=stall_timeout_s)


def _octets(boundary: str, name: str, media_type: str, octets: bytes) -> Segment:
    head = _head(boundary, f'name="{name}"', media_type)
    return Segment(head=head, content=octets, size_bytes=len(octets), pointer=f"/{name}")


def _documents(
    boundary: str, prefix: str, pointer: str, documents: Sequence[tuple[DocumentEntry, Path | bytes]]
) -> list[Segment]:
    return [
        Segment(
            head=_document_head(boundary, prefix, entry),
            content=content,
            size_bytes=entry.size_bytes,
            pointer=f"{pointer}/documents/{place}",
        )
        for place, (entry, content) in enumerate(documents)
    ]


def _new_boundary() -> str:
    return f"dgw-{secrets.token_hex(16)}"


async def _content(segment: Segment) -> AsyncGenerator[bytes, None]:
    """Yield the octets of a part, as many as were signed for."""
    content, pointer = segment.content, segment.pointer
    if isinstance(content, bytes):
        for start in range(0, len(content), CHUNK_BYTES):
            yield content[start : start + CHUNK_BYTES]
        return
    sent_bytes = 0
    try:
        while chunk := await asyncio.to_thread(_read_at, content, sent_bytes):
            sent_bytes += len(chunk)
            if sent_bytes > segment.size_bytes:
                break
            yield chunk
    except OSError as exc:
        raise _changed(pointer, f"can no longer be read: {exc.strerror or type(exc).__name__}") from exc
    if sent_bytes != segment.size_bytes:
        raise _changed(pointer, "changed its size while it was being sent")


def _read_at(file: Path, offset_bytes: int) -> bytes:
    # Opened for each chunk: a request that is cancelled between two of them has no file to close.
    with file.open("rb") as stream:
        stream.seek(offset_bytes)
        return stream.read(CHUNK_BYTES)


def _changed(pointer: str, detail: str) -> LetterInvalid:
    return LetterInvalid([FieldError(pointer=pointer, detail=detail)])


def _document_head(boundary: str, prefix: str, entry: DocumentEntry) -> bytes:
    return _head(boundary, f'name="{prefix}{entry.part}"; {_filename(entry.filename)}', entry.media_type)


def _filename(name: str) -> str:
    """Return a filename as RFC 7578, section 4.2, has it: a quoted string in UTF-8."""
    if ";" in name:
        # Readers that split at every semicolon are common; the extended form (RFC 8187) has none in it.
        return f"filename*=UTF-8''{quote(name, safe='')}"
    return 'filename="' + _QUOTED.sub(r"\\\1", name) + '"'


def _head(boundary: str, disposition: str, media_type: str) -> bytes:
    lines = (f"--{boundary}", f"Content-Disposition: form-data; {disposition}", f"Content-Type: {media_type}", "", "")
    return "\r\n".join(lines).encode()
