"""
The parts of a publish request, read as a stream and in any order.

Source: Message Registry API 2.1 (`publishMessage`); the publication page for document providers on the order of parts.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import BodyPartReader, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.simulators.ebox_message import Dialect, invalid
from gateway.simulators.front import Refusal
from gateway.simulators.records import KeptDocument

JSON_PART: Final = "messageToPublish"
_JSON_LIMIT_BYTES: Final = 1_048_576
_CHUNK_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """The parts of a publish request, with the facts that a fault order may match."""

    message: Mapping[str, Any] = field(repr=False)
    documents: tuple[KeptDocument, ...]
    facts: Mapping[str, str] = field(repr=False)


async def read_upload(request: web.Request, dialect: Dialect, *, limit_bytes: int, keep_bytes: bool) -> Upload:
    """
    Read all parts, in any order, keeping digests and sizes (and the bytes only with `keep_bytes`).

    Raises:
        Refusal: 400 for parts or JSON that cannot be read, 413 above `limit_bytes` of files, 415 for another body.
    """
    if request.content_type != "multipart/form-data":
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", "multipart/form-data is expected")
    text: bytes | None = None
    documents: list[KeptDocument] = []
    left_bytes = limit_bytes
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                raise invalid("a part holds parts")
            if part.name == JSON_PART:
                if text is not None:
                    raise invalid(f"{JSON_PART} comes twice")
                text = await _read_json_part(part)
            else:
                document = await _read_document(part, left_bytes, keep_bytes=keep_bytes)
                left_bytes -= document.size_bytes
                documents.append(document)
    except (ValueError, HttpProcessingError) as error:
        raise invalid("the multipart body cannot be read") from error
    if text is None:
        raise invalid(f"the part {JSON_PART} is missing")
    message = _json_object(text)
    return Upload(message=message, documents=tuple(documents), facts=_facts(message, dialect))


async def _read_json_part(part: BodyPartReader) -> bytes:
    text = bytearray()
    while chunk := await part.read_chunk(_CHUNK_BYTES):
        text += chunk
        if len(text) > _JSON_LIMIT_BYTES:
            raise invalid(f"{JSON_PART} is too large")
    return bytes(text)


async def _read_document(part: BodyPartReader, limit_bytes: int, *, keep_bytes: bool) -> KeptDocument:
    digest = hashlib.sha256()
    size_bytes = 0
    content = bytearray()
    while chunk := await part.read_chunk(_CHUNK_BYTES):
        size_bytes += len(chunk)
        if size_bytes > limit_bytes:
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "TOO_LARGE", "the files are too large")
        digest.update(chunk)
        if keep_bytes:
            content += chunk
    return KeptDocument(
        name=part.name or "",
        filename=None if part.filename is None else unquote(part.filename),
        media_type=part.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower(),
        sha256=digest.hexdigest(),
        size_bytes=size_bytes,
        content=bytes(content) if keep_bytes else None,
    )


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except ValueError as error:
        raise invalid(f"{JSON_PART} is no JSON") from error
    if not isinstance(message, dict):
        raise invalid(f"{JSON_PART} is no JSON object")
    return message


def _facts(message: Mapping[str, Any], dialect: Dialect) -> dict[str, str]:
    """Return what can be said of a message before it is checked; what is not there as text is left out."""
    recipient, sender = message.get("recipient"), message.get("sender")
    recipient = recipient if isinstance(recipient, dict) else {}
    sender = sender if isinstance(sender, dict) else {}
    is_v2 = dialect is Dialect.V2
    found = {
        "recipient": recipient.get("eboxIdValue")
        if is_v2
        else recipient.get("ssin", recipient.get("enterpriseNumber")),
        "sender": message.get("senderOrganizationId") if is_v2 else sender.get("enterpriseNumber"),
        "application": message.get("senderApplicationId"),
        "message_type": message.get("messageTypeId"),
    }
    return {name: value for name, value in found.items() if isinstance(value, str)}
