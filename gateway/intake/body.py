"""
From a request body to a `RawMessage`: the signed part first, then the document parts, each within its limits.

Memory is constant whatever the size: a part is handed on in chunks of at most `CHUNK_BYTES`. Slow bodies are cut by the
stall time-out and the minimum rate (a body that trickles is an attack or a broken line; both may try again).
"""

import asyncio
import warnings
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Final, TypeVar

from aiohttp import BodyPartReader, MultipartReader, hdrs, web
from aiohttp.http import HttpProcessingError
from aiohttp.multipart import BadContentDispositionHeader, BadContentDispositionParam, parse_content_disposition

from gateway.accept import RawBatch, RawMessage, RawPart
from gateway.crypto.dialects import Dialect
from gateway.errors import FieldError, Kind, Refusal

CHUNK_BYTES: Final = 65_536
MESSAGE_PART: Final = "message"
BATCH_PART: Final = "batch"
_DIALECTS: Final = {
    **{each.media_type: each for each in Dialect},
    f"{Dialect.XML.media_type};charset=utf-8": Dialect.XML,
}
_PART_HEADERS: Final = frozenset({"content-disposition", "content-type", "content-length"})
_CRLF: Final = b"\r\n"
_RATE_GRACE_S: Final = 5.0
_DOUBTFUL: Final = (BadContentDispositionHeader, BadContentDispositionParam)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimits:
    """`stall_s` between two reads; `minimum_bytes_per_s` over the whole body, after a grace of five seconds."""

    manifest_bytes: int
    batch_manifest_bytes: int
    batch_bytes: int  # of all parts of a batch together, but for the signed one
    stall_s: float
    minimum_bytes_per_s: int


class Pace:
    """Cuts a body that stalls or trickles, or has more than `most_bytes` (None: others hold it to that)."""

    def __init__(self, limits: BodyLimits, most_bytes: int | None = None) -> None:
        self._limits = limits
        self._most_bytes = most_bytes
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time()
        self._bytes = 0

    async def read(self, reading: Awaitable[_T]) -> _T:
        """
        Return what `reading` reads.

        Raises:
            Refusal: request-timeout, or bad-request when the body broke off or is no body by HTTP's rules.
        """
        try:
            async with asyncio.timeout(self._limits.stall_s):
                return await reading
        except TimeoutError as error:
            raise Refusal(
                Kind.REQUEST_TIMEOUT,
                f"no byte of the body arrived for {self._limits.stall_s:.0f} s; send it again, with the same reference",
            ) from error
        except (web.RequestPayloadError, ConnectionError) as error:
            raise Refusal(
                Kind.BAD_REQUEST, "the body broke off before its end; send it again, with the same reference"
            ) from error

    def count(self, size_bytes: int) -> None:
        """
        Count what arrived.

        Raises:
            Refusal: request-timeout, when the body is slower than the minimum rate; message-too-large.
        """
        self._bytes += size_bytes
        if self._most_bytes is not None and self._bytes > self._most_bytes:
            raise Refusal(
                Kind.MESSAGE_TOO_LARGE,
                f"the parts may have at most {self._most_bytes} bytes together; what came before that is kept",
            )
        elapsed_s = self._loop.time() - self._started_at
        if elapsed_s > _RATE_GRACE_S and self._bytes < self._limits.minimum_bytes_per_s * elapsed_s:
            raise Refusal(
                Kind.REQUEST_TIMEOUT,
                f"the body arrives slower than {self._limits.minimum_bytes_per_s} bytes per second; "
                "send it again, with the same reference",
            )


# Where the edge leaves the pace of a body for whoever reads it.
PACE: Final = web.RequestKey("pace", Pace)


class _Part(BodyPartReader):
    """
    Finds the end of a part as soon as it is here; the library reads on first, and waits for octets behind it.

    So an item of a batch is ours although nothing more ever comes.
    """

    _is_begun: bool = False
    _held: bytes = _CRLF  # that which ended the headers may belong to the boundary already

    async def _read_chunk_from_stream(self, size: int) -> bytes:
        end = _CRLF + self._boundary
        skipped = 0 if self._is_begun else len(_CRLF)
        while (place := self._held.find(end)) < 0 and len(self._held) - len(end) < skipped:
            more = await self._content.read(size - len(self._held))
            if not more:
                raise ValueError("the body ends within a part")
            self._held += more
        if place >= 0:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # it is the library's own way to put it back
                self._content.unread_data(self._held[place:])
            self._at_eof = True
        else:
            place = len(self._held) - len(end) + 1  # what may be the beginning of the end stays
        handed, self._held, self._is_begun = self._held[skipped:place], self._held[place:], True
        return handed


class _Parts(MultipartReader):
    """Judges the headers of each part before the library does, which warns with their text and obeys `_charset_`."""

    part_reader_cls = _Part

    async def fetch_next_part(self) -> MultipartReader | BodyPartReader:
        part = await super().fetch_next_part()
        if isinstance(part, MultipartReader):
            raise _invalid("parts must not be nested")
        _require_plain(part)
        if _disposition(part)["name"] == "_charset_":
            raise _invalid("a part named _charset_ is not taken; texts are UTF-8")
        return part


async def read_message(request: web.Request, limits: BodyLimits) -> RawMessage:
    """
    Read the signed part of a `multipart/form-data` body; the document parts follow as they are asked for.

    Raises:
        Refusal: unsupported-media-type, multipart-invalid, message-too-large, request-timeout.
    """
    pace = Pace(limits)
    reader, dialect, manifest = await _read_signed_part(request, pace, MESSAGE_PART, limits.manifest_bytes)
    return RawMessage(manifest=manifest, dialect=dialect, parts=_document_parts(reader, pace))


async def read_batch(request: web.Request, limits: BodyLimits) -> RawBatch:
    """
    Read the signed part of a batch; its items and their documents follow as they are asked for.

    Raises:
        Refusal: as `read_message`.
    """
    pace = Pace(limits, limits.batch_manifest_bytes + limits.batch_bytes)
    reader, dialect, manifest = await _read_signed_part(request, pace, BATCH_PART, limits.batch_manifest_bytes)
    return RawBatch(manifest=manifest, dialect=dialect, parts=_document_parts(reader, pace))


async def _read_signed_part(
    request: web.Request, pace: Pace, name: str, limit_bytes: int
) -> tuple[MultipartReader, Dialect, bytes]:
    if request.content_type != "multipart/form-data":
        raise Refusal(Kind.UNSUPPORTED_MEDIA_TYPE, f"send multipart/form-data: the part {name}, then the documents")
    try:
        reader = _Parts(request.headers, request.content)
    except (ValueError, AssertionError) as error:
        raise _invalid("the Content-Type has no usable boundary") from error
    first = await _next_part(reader, pace)
    if first is None or _name_of(first) != name:
        raise _invalid(f"the first part must be named {name}")
    media_type = first.headers.get(hdrs.CONTENT_TYPE, "").lower().replace(" ", "")
    dialect = _DIALECTS.get(media_type)
    if dialect is None:
        types = " or ".join(each.media_type for each in Dialect)
        raise Refusal(Kind.UNSUPPORTED_MEDIA_TYPE, f"the part {name} must be of type {types}")
    manifest = bytearray()
    async for chunk in _chunks(first, pace):
        manifest += chunk
        if len(manifest) > limit_bytes:
            raise Refusal(Kind.MESSAGE_TOO_LARGE, f"the part {name} may have at most {limit_bytes} bytes")
    return reader, dialect, bytes(manifest)


async def _document_parts(reader: MultipartReader, pace: Pace) -> AsyncIterator[RawPart]:
    while (part := await _next_part(reader, pace)) is not None:
        yield RawPart(
            name=_name_of(part),
            filename=_disposition(part).get("filename", ""),
            media_type=part.headers.get(hdrs.CONTENT_TYPE, ""),
            chunks=_chunks(part, pace),
        )


async def _next_part(reader: MultipartReader, pace: Pace) -> BodyPartReader | None:
    try:
        part = await pace.read(reader.next())
    except (ValueError, AssertionError, HttpProcessingError) as error:
        raise _invalid("the parts cannot be told apart; check the boundary and the headers of each part") from error
    if isinstance(part, MultipartReader):
        raise _invalid("parts must not be nested")
    return part


def _require_plain(part: BodyPartReader) -> None:
    names = [name.lower() for name, _ in part.headers.items()]  # walking the headers themselves skips repeated names
    foreign = sorted(set(names) - _PART_HEADERS)
    if foreign or len(names) != len(set(names)):
        detail = f"a part has the header {foreign[0]}" if foreign else "a part has a header twice"
        raise _invalid(
            f"{detail}; give each part one Content-Disposition and one Content-Type, and send its bytes as they are"
        )


def _name_of(part: BodyPartReader) -> str:
    return _disposition(part).get("name", "")


def _disposition(part: BodyPartReader) -> dict[str, str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kind, parameters = parse_content_disposition(part.headers.get(hdrs.CONTENT_DISPOSITION))
    if any(issubclass(warning.category, _DOUBTFUL) for warning in caught):
        raise _invalid(
            "a Content-Disposition is not well formed; write a filename with a semicolon in it as filename* (RFC 8187)"
        )
    if kind != "form-data" or "name" not in parameters:
        raise _invalid("each part needs Content-Disposition: form-data with a name")
    extended = parameters.get("filename*")
    return dict(parameters) | ({"filename": extended} if extended is not None else {})


async def _chunks(part: BodyPartReader, pace: Pace) -> AsyncIterator[bytes]:
    while True:
        try:
            chunk = await pace.read(part.read_chunk(CHUNK_BYTES))
        except (ValueError, AssertionError) as error:
            raise _invalid("a part does not end with the boundary") from error
        if not chunk and part.at_eof():
            return
        pace.count(len(chunk))
        if chunk:
            yield bytes(chunk)


def _invalid(detail: str) -> Refusal:
    return Refusal(Kind.MULTIPART_INVALID, detail, errors=[FieldError(pointer="/", detail=detail)])
