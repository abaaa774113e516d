"""Requests about messages: read, call one function, render."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiohttp import web
from cryptography import x509

from gateway.accept import AcceptDeps, Accepted
from gateway.accept.check import Checked, Forecast
from gateway.adapters.base import Proving
from gateway.crypto.vault import Vault
from gateway.domain.ids import InvalidIdentifier, parse_reference
from gateway.domain.message import Channel
from gateway.domain.status import MessageStatus
from gateway.errors import FieldError, Kind, Refusal
from gateway.intake import views
from gateway.intake.body import PACE
from gateway.intake.caller import Caller
from gateway.intake.contract.files import Contract
from gateway.records.evidence import EvidenceBook
from gateway.records.logs import LogBook
from gateway.stores.ledger import Ledger
from gateway.stores.model import MessageFilter, MessageRecord

MAX_PAGE: Final = 500
MAX_STATUS_IDS: Final = 500
MAX_JSON_BYTES: Final = 1_048_576
MAX_JSON_DEPTH: Final = 32
XML: Final = "application/xml"


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeDeps:
    """
    What handlers need. `on_accepted` is told of every new message and `on_cancelled` of every stopped one, once that is
    committed.

    `signers` gives the certificates that sign receipts and evidence: the present one, then earlier ones. `proving`
    holds the providers that keep proofs, by name. `keep_undelivered`: how long documents stay that are not delivered.
    `contract` holds the files in which this interface is published.
    """

    accept: AcceptDeps
    ledger: Ledger
    vault: Vault
    logbook: LogBook
    clock: Callable[[], datetime]
    public_url: str
    evidence: EvidenceBook
    signers: Callable[[], Sequence[x509.Certificate]]
    proving: Mapping[str, Proving]
    keep_undelivered: timedelta
    contract: Contract
    on_accepted: Callable[[Accepted], None]
    forecast: Forecast
    on_cancelled: Callable[[MessageRecord], None]


Handler = Callable[[web.Request, Caller, IntakeDeps], Awaitable[web.Response]]


def render_checked(checked: Checked) -> web.Response:
    """Return 200 with what a dry run found; no personal data."""
    return web.json_response(
        {
            "wouldBeAccepted": checked.would_be_accepted,
            "reference": checked.message.reference if checked.message is not None else None,
            "findings": [
                {
                    "severity": finding.severity,
                    "code": finding.code,
                    "detail": finding.detail,
                    "errors": [{"pointer": error.pointer, "detail": error.detail} for error in finding.errors],
                }
                for finding in checked.findings
            ],
            "channels": [
                {"channel": each.channel, "outlook": each.outlook, "why": each.why} for each in checked.channels
            ],
        }
    )


def render_accepted(accepted: Accepted, accept_header: str, public_url: str, view: Mapping[str, Any]) -> web.Response:
    """Return 201 for a new message and 200 for one answered again, with its stored receipt as XML or inside JSON."""
    record = accepted.record
    status = 200 if accepted.repeated else 201
    headers = {"Location": f"{public_url}/api/v1/messages/{record.message_id}"}
    if prefers_xml(accept_header):
        return web.Response(status=status, body=record.receipt_xml, content_type=XML, headers=headers)
    return web.json_response(view, status=status, headers=headers)


def prefers_xml(accept_header: str) -> bool:
    """Tell whether an `Accept` header asks for XML before JSON (RFC 9110, section 12.5.1; order stands for equal q)."""
    best: dict[str, float] = {}
    for item in accept_header.split(","):
        media_type, *parameters = (piece.strip() for piece in item.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
        best[media_type.lower()] = quality
    return best.get(XML, 0.0) > best.get("application/json", best.get("application/*", best.get("*/*", 0.0)))


async def message(request: web.Request, caller: Caller, deps: IntakeDeps) -> web.Response:
    """`GET /api/v1/messages/{messageId}`: one message; another sender's or profile's is a 404."""
    record = await own_message(request, caller, deps)
    return web.json_response(views.whole(record, await deps.ledger.timeline(record.message_id)))


async def own_message(request: web.Request, caller: Caller, deps: IntakeDeps) -> MessageRecord:
    """
    Return the message that a path names.

    Raises:
        Refusal: not-found, also for another sender's or profile's.
    """
    message_id = views.parse_message_id(request.match_info["messageId"])
    record = await deps.ledger.message(message_id) if message_id is not None else None
    if record is None or not caller.sees(record):
        raise Refusal(Kind.NOT_FOUND, "no message of this caller's sender and profiles has this messageId")
    return record


async def messages(request: web.Request, caller: Caller, deps: IntakeDeps) -> web.Response:
    """`GET /api/v1/messages`: own messages in order of acceptance; a `nextCursor` continues where the page ends."""
    which, position, limit = _read_query(request, caller)
    page = await deps.ledger.messages(which, after_position=position, limit=limit)
    body: dict[str, Any] = {"messages": [views.summary(record) for record in page.messages]}
    if page.next_position is not None:
        body["nextCursor"] = views.write_cursor(page.next_position)
    return web.json_response(body)


async def status_request(request: web.Request, caller: Caller, deps: IntakeDeps) -> web.Response:
    """`POST /api/v1/statusRequest`: statuses of up to 500 messages; also in MAGDA's `messagesStatusRequest` wrapper."""
    body = await read_json(request)
    inner = body.get("messagesStatusRequest", body) if isinstance(body, dict) else body
    items = inner.get("messages") if isinstance(inner, dict) else None
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_STATUS_IDS:
        raise Refusal(Kind.BAD_REQUEST, f"messages must be a list of 1 to {MAX_STATUS_IDS} objects with a messageId")
    asked = [item.get("messageId") if isinstance(item, dict) else None for item in items]
    wrong = [number for number, text in enumerate(asked) if not isinstance(text, str)]
    if wrong:
        errors = [FieldError(pointer=f"/messages/{number}/messageId", detail="must be a string") for number in wrong]
        raise Refusal(Kind.BAD_REQUEST, "some items have no messageId", errors=errors)
    ids = {text: views.parse_message_id(text) for text in asked if text is not None}
    known = {
        record.message_id: record
        for record in await deps.ledger.messages_by_id([found for found in ids.values() if found is not None])
        if caller.sees(record)
    }
    found = [known[message_id] for message_id in dict.fromkeys(ids.values()) if message_id in known]
    unknown = [text for text, message_id in ids.items() if message_id not in known]
    return web.json_response({"messages": [views.summary(record) for record in found], "unknown": unknown})


def _read_query(request: web.Request, caller: Caller) -> tuple[MessageFilter, int, int]:
    known = {"reference", "status", "channel", "from", "until", "cursor", "limit"}
    query, errors = request.query, []
    errors += [FieldError(pointer=f"?{name}", detail="no such parameter") for name in query if name not in known]
    errors += [
        FieldError(pointer=f"?{name}", detail="give it once") for name in known if len(query.getall(name, [])) > 1
    ]
    which = caller.own()

    def read(name: str, parse: Callable[[str], Any], hint: str) -> Any:
        text = query.get(name)
        if text is None:
            return None
        try:
            return parse(text)
        except (ValueError, InvalidIdentifier):
            errors.append(FieldError(pointer=f"?{name}", detail=hint))
            return None

    which = replace(
        which,
        reference=read("reference", parse_reference, "1 to 64 characters of A-Z a-z 0-9 . _ -"),
        status=read("status", MessageStatus, f"one of {', '.join(MessageStatus)}"),
        channel=read("channel", Channel, f"one of {', '.join(Channel)}"),
        accepted_from=read("from", _instant, "a time such as 2026-11-22T10:00:00Z"),
        accepted_until=read("until", _instant, "a time such as 2026-11-22T10:00:00Z"),
    )
    limit = read("limit", _page_size, f"a number from 1 to {MAX_PAGE}") or 100
    if errors:
        raise Refusal(Kind.BAD_REQUEST, "some parameters are wrong; see errors for each", errors=errors)
    cursor = query.get("cursor")
    return which, views.read_cursor(cursor) if cursor is not None else 0, limit


def _instant(text: str) -> datetime:
    if not text.endswith("Z"):
        raise ValueError("a time ends in Z")
    return datetime.fromisoformat(text).astimezone(UTC)


def _page_size(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_PAGE:
        raise ValueError("out of range")
    return int(text)


async def read_json(request: web.Request) -> Any:
    """
    Return the JSON body of a request that carries its `PACE`; duplicate keys, NaN and deep nesting are refused.

    Raises:
        Refusal: unsupported-media-type, message-too-large, request-timeout, bad-request.
    """
    if request.content_type != "application/json":
        raise Refusal(Kind.UNSUPPORTED_MEDIA_TYPE, "send application/json")
    raw, pace = bytearray(), request[PACE]
    while chunk := await pace.read(request.content):
        raw += chunk
        if len(raw) > MAX_JSON_BYTES:
            raise Refusal(Kind.MESSAGE_TOO_LARGE, f"the body may have at most {MAX_JSON_BYTES} bytes")
    try:
        body = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
        _require_shallow(body, MAX_JSON_DEPTH)
    except (ValueError, RecursionError) as error:
        raise Refusal(Kind.BAD_REQUEST, f"the body is not acceptable JSON: {_safe(error)}") from error
    return body


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names a key twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _require_shallow(value: Any, levels: int) -> None:
    if levels == 0:
        raise ValueError(f"it is nested deeper than {MAX_JSON_DEPTH}")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        _require_shallow(item, levels - 1)


def _safe(error: Exception) -> str:
    # Texts of the decoder quote positions, not content; those of other errors are our own.
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    return (
        "nested too deeply"
        if isinstance(error, RecursionError)
        else str(error)
        if not isinstance(error, UnicodeDecodeError)
        else "it is not UTF-8"
    )
