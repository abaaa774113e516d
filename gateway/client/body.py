"""The body of a hand-over: `multipart/form-data` of a known size, made while it is sent, with constant memory."""

import asyncio
import re
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final
from urllib.parse import quote

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from gateway.client.letter import CHUNK_BYTES
from gateway.client.problems import ClientError, LetterInvalid
from gateway.domain.message import DocumentEntry
from gateway.errors import FieldError

__all__ = ["LetterBody"]

_CRLF: Final = b"\r\n"
_QUOTED: Final = re.compile(r"([\"\\])")


class LetterBody(aiohttp.Payload):
    """
    The signed part, then the documents in the order of the manifest; for one request.

    `failure` is what a document of ours raised, if one did; then the request was cut off, and hands nothing over.
    """

    _autoclose = True

    def __init__(
        self, message: bytes, documents: Sequence[tuple[DocumentEntry, Path | bytes]], *, stall_timeout_s: float
    ) -> None:
        boundary = f"dgw-{secrets.token_hex(16)}"
        super().__init__(None, content_type=f"multipart/form-data; boundary={boundary}")
        self._stall_timeout_s = stall_timeout_s
        self._message = _head(boundary, 'name="message"', "application/xml") + message + _CRLF
        self._documents = [(_document_head(boundary, entry), entry, content) for entry, content in documents]
        self._tail = f"--{boundary}--\r\n".encode()
        documents_bytes = sum(len(head) + entry.size_bytes + len(_CRLF) for head, entry, _ in self._documents)
        self._size = len(self._message) + documents_bytes + len(self._tail)
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
        yield self._message
        for place, (head, entry, content) in enumerate(self._documents):
            yield head
            try:
                async with aclosing(_content(content, entry, f"/documents/{place}")) as chunks:
                    async for chunk in chunks:
                        yield chunk
            except LetterInvalid as exc:
                self.failure = exc
                raise
            yield _CRLF
        yield self._tail


async def _content(content: Path | bytes, entry: DocumentEntry, pointer: str) -> AsyncGenerator[bytes, None]:
    """Yield the octets of a document, as many as were signed for."""
    if isinstance(content, bytes):
        for start in range(0, len(content), CHUNK_BYTES):
            yield content[start : start + CHUNK_BYTES]
        return
    sent_bytes = 0
    try:
        while chunk := await asyncio.to_thread(_read_at, content, sent_bytes):
            sent_bytes += len(chunk)
            if sent_bytes > entry.size_bytes:
                break
            yield chunk
    except OSError as exc:
        raise _changed(pointer, f"can no longer be read: {exc.strerror or type(exc).__name__}") from exc
    if sent_bytes != entry.size_bytes:
        raise _changed(pointer, "changed its size while it was being sent")


def _read_at(file: Path, offset_bytes: int) -> bytes:
    # Opened for each chunk: a request that is cancelled between two of them has no file to close.
    with file.open("rb") as stream:
        stream.seek(offset_bytes)
        return stream.read(CHUNK_BYTES)


def _changed(pointer: str, detail: str) -> LetterInvalid:
    return LetterInvalid([FieldError(pointer=pointer, detail=detail)])


def _document_head(boundary: str, entry: DocumentEntry) -> bytes:
    return _head(boundary, f'name="{entry.part}"; {_filename(entry.filename)}', entry.media_type)


def _filename(name: str) -> str:
    """Return a filename as RFC 7578, section 4.2, has it: a quoted string in UTF-8."""
    if ";" in name:
        # Readers that split at every semicolon are common; the extended form (RFC 8187) has none in it.
        return f"filename*=UTF-8''{quote(name, safe='')}"
    return 'filename="' + _QUOTED.sub(r"\\\1", name) + '"'


def _head(boundary: str, disposition: str, media_type: str) -> bytes:
    lines = (f"--{boundary}", f"Content-Disposition: form-data; {disposition}", f"Content-Type: {media_type}", "", "")
    return "\r\n".join(lines).encode()
