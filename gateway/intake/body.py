"""
From a request body to a `RawMessage`: the signed part first, then the document parts, each within its limits.

Memory is constant whatever the size: a part is handed on piece by piece, as it is asked for, and the connection takes
no more while pieces wait there. Slow bodies are cut by the stall time-out and the minimum rate (a body that trickles is
an attack or a broken line; both may try again).
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from aiohttp import StreamReader, hdrs, web

from gateway.accept import RawBatch, RawMessage, RawPart
from gateway.crypto.dialects import Dialect
from gateway.errors import Kind, Refusal
from gateway.intake.multipart import CHUNK_BYTES, Event, Mark, MultipartParser
from gateway.intake.part_heads import PartHead, multipart_invalid, parse_boundary

MESSAGE_PART: Final = "message"
BATCH_PART: Final = "batch"
_DIALECTS: Final = {
    **{each.media_type: each for each in Dialect},
    f"{Dialect.XML.media_type};charset=utf-8": Dialect.XML,
}
_RATE_GRACE_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimits:
    """`stall_s` between two reads; `minimum_bytes_per_s` over the whole body, after a grace of five seconds."""

    manifest_bytes: int
    batch_manifest_bytes: int
    batch_bytes: int  # of all parts of a batch together, but for the signed one
    stall_s: float
    minimum_bytes_per_s: int


class Pace:
    """Cuts a body that stalls or trickles."""

    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time()
        self._bytes = 0

    async def read(self, content: StreamReader) -> bytes:
        """
        Return what has arrived of a body, up to `CHUNK_BYTES`; when nothing has, wait for it. b"" at its end.

        Raises:
            Refusal: request-timeout, or bad-request when the body broke off or is no body by HTTP's rules.
        """
        try:
            block = content.read_nowait(CHUNK_BYTES)
            if not block and not content.at_eof():
                async with asyncio.timeout(self._limits.stall_s):
                    block = await content.read(CHUNK_BYTES)
        except TimeoutError as error:
            raise Refusal(
                Kind.REQUEST_TIMEOUT,
                f"no byte of the body arrived for {self._limits.stall_s:.0f} s; send it again, with the same reference",
            ) from error
        except (web.RequestPayloadError, ConnectionError) as error:
            raise Refusal(
                Kind.BAD_REQUEST, "the body broke off before its end; send it again, with the same reference"
            ) from error
        if block:
            self._require_speed(len(block))
        return block

    def _require_speed(self, arrived_bytes: int) -> None:
        self._bytes += arrived_bytes
        elapsed_s = self._loop.time() - self._started_at
        if elapsed_s > _RATE_GRACE_S and self._bytes < self._limits.minimum_bytes_per_s * elapsed_s:
            raise Refusal(
                Kind.REQUEST_TIMEOUT,
                f"the body arrives slower than {self._limits.minimum_bytes_per_s} bytes per second; "
                "send it again, with the same reference",
            )


# Where the edge leaves the pace of a body for whoever reads it.
PACE: Final = web.RequestKey("pace", Pace)


class _Body:
    """
    The parts of a body, each read before the next.

    With all of their content they have at most `most_bytes` (None: others hold them to that).
    """

    def __init__(self, request: web.Request, limits: BodyLimits, most_bytes: int | None) -> None:
        self._content = request.content
        self._parser = MultipartParser(parse_boundary(request.headers[hdrs.CONTENT_TYPE]))
        self._pace = Pace(limits)
        self._most_bytes = most_bytes
        self._bytes = 0
        self._open: PartHead | None = None

    async def next(self) -> PartHead | None:
        """
        Return where the next part begins, None when there is none; what is left of the one before is passed over.

        Raises:
            Refusal: as `read_message`.
        """
        while not isinstance(event := await self._event(), PartHead):
            if event is Mark.BODY_END:
                return None
        self._open = event
        return event

    async def chunks(self, part: PartHead) -> AsyncIterator[bytes]:
        """
        Yield the content of a part; nothing more of it once the next part was asked for.

        Raises:
            Refusal: as `read_message`.
        """
        while self._open is part:
            event = await self._event()
            if isinstance(event, bytes):
                yield event
            else:
                self._open = None

    async def _event(self) -> Event:
        while (event := self._parser.next()) is None:
            if block := await self._pace.read(self._content):
                self._parser.feed(block)
            else:
                self._parser.end()
        if isinstance(event, bytes) and self._most_bytes is not None:
            self._bytes += len(event)
            if self._bytes > self._most_bytes:
                raise Refusal(
                    Kind.MESSAGE_TOO_LARGE,
                    f"the parts may have at most {self._most_bytes} bytes together; what came before that is kept",
                )
        return event


async def read_message(request: web.Request, limits: BodyLimits) -> RawMessage:
    """
    Read the signed part of a `multipart/form-data` body; the document parts follow as they are asked for.

    Raises:
        Refusal: unsupported-media-type, multipart-invalid, message-too-large, request-timeout, bad-request.
    """
    body = _body(request, limits, MESSAGE_PART)
    dialect, manifest = await _read_signed_part(body, MESSAGE_PART, limits.manifest_bytes)
    return RawMessage(manifest=manifest, dialect=dialect, parts=_document_parts(body))


async def read_batch(request: web.Request, limits: BodyLimits) -> RawBatch:
    """
    Read the signed part of a batch; its items and their documents follow as they are asked for.

    Raises:
        Refusal: as `read_message`.
    """
    body = _body(request, limits, BATCH_PART, limits.batch_manifest_bytes + limits.batch_bytes)
    dialect, manifest = await _read_signed_part(body, BATCH_PART, limits.batch_manifest_bytes)
    return RawBatch(manifest=manifest, dialect=dialect, parts=_document_parts(body))


def _body(request: web.Request, limits: BodyLimits, first: str, most_bytes: int | None = None) -> _Body:
    if request.content_type != "multipart/form-data":
        raise Refusal(Kind.UNSUPPORTED_MEDIA_TYPE, f"send multipart/form-data: the part {first}, then the documents")
    return _Body(request, limits, most_bytes)


async def _read_signed_part(body: _Body, name: str, limit_bytes: int) -> tuple[Dialect, bytes]:
    part = await body.next()
    if part is None or part.name != name:
        raise multipart_invalid(f"the first part must be named {name}")
    dialect = _DIALECTS.get(part.media_type.lower().replace(" ", ""))
    if dialect is None:
        types = " or ".join(each.media_type for each in Dialect)
        raise Refusal(Kind.UNSUPPORTED_MEDIA_TYPE, f"the part {name} must be of type {types}")
    manifest = bytearray()
    async for chunk in body.chunks(part):
        manifest += chunk
        if len(manifest) > limit_bytes:
            raise Refusal(Kind.MESSAGE_TOO_LARGE, f"the part {name} may have at most {limit_bytes} bytes")
    return dialect, bytes(manifest)


async def _document_parts(body: _Body) -> AsyncIterator[RawPart]:
    while (part := await body.next()) is not None:
        yield RawPart(name=part.name, filename=part.filename, media_type=part.media_type, chunks=body.chunks(part))
