"""What the commands show: text for people, and one JSON object for programs. No line names a person."""

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from gateway.client.answers import DeliveryState, MessageState, TimelineEvent
from gateway.client.api import Sent
from gateway.client.batch import ItemOutcome, ItemSent
from gateway.client.problems import ClientError, LetterInvalid, NotReached, Problem, harmless
from gateway.client.sender import SenderFileInvalid
from gateway.crypto.receipts import Receipt
from gateway.domain.status import MessageStatus
from gateway.errors import FieldError

__all__ = [
    "Screen",
    "batch_object",
    "batch_text",
    "error_object",
    "error_text",
    "progress",
    "receipt_object",
    "receipt_text",
    "sent_text",
    "state_text",
]

_STATUS_WORDS: Final = {
    MessageStatus.SCHEDULED: "scheduled for later",
    MessageStatus.IN_DELIVERY: "in delivery",
    MessageStatus.NEEDS_DECISION: "waiting for a decision of the gateway's operator",
}
_CHANNEL_WORDS: Final = {
    "ebox-citizen": "e-Box citizen",
    "ebox-enterprise": "e-Box enterprise",
    "print": "print and post",
}
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


class Screen:
    """Where a command's words go: results to `out`, everything else to `err`; `as_json` is for programs."""

    def __init__(self, out: TextIO, err: TextIO, *, as_json: bool) -> None:
        self._out = out
        self._err = err
        self._as_json = as_json

    def show(self, text: str, *, headline: bool = False) -> None:
        """Show a result to people; with `headline` its first line stands out on a terminal."""
        if self._as_json:
            return
        first, newline, rest = text.partition("\n")
        if headline and self._out.isatty() and "NO_COLOR" not in os.environ:
            first = f"{_BOLD}{first}{_PLAIN}"
        _write(self._out, first + newline + rest)

    def tell(self, value: Mapping[str, Any]) -> None:
        """Tell a result to programs."""
        if self._as_json:
            _write(self._out, json.dumps(value, indent=2))

    def note(self, text: str) -> None:
        """Say something beside the result; nothing to programs."""
        if not self._as_json:
            _write(self._err, text)

    def failure(self, error: ClientError, *, advice: str = "", reference: str | None = None) -> None:
        """Show why a command failed, and what to do."""
        if self._as_json:
            self.tell({"error": error_object(error)} | ({} if reference is None else {"reference": reference}))
            return
        _write(self._err, error_text(error) + (f"\n{advice}" if advice else ""))

    def retrying(self, error: ClientError, wait_s: float) -> None:
        """Say that a call is made again, and when."""
        self.note(f"{_first_line(error)}; trying again in {wait_s:.0f} s")


def sent_text(sent: Sent) -> str:
    """Return what a sender wants to know of a letter that the gateway has."""
    receipt = sent.receipt
    head = "Handed over before: the gateway has this letter since" if sent.repeated else "Handed over at"
    rows = [
        ("message", str(sent.message_id)),
        ("reference", sent.reference),
        ("status", _status(sent.state.status)),
        *_route_rows(sent.state),
        *_document_rows(receipt),
        ("receipt", f"of {receipt.gateway}, verified"),
    ]
    return "\n".join([f"{head} {_moment(receipt.accepted_at)}", *_table(rows)])


def batch_text(items: Sequence[ItemSent]) -> str:
    """Return what a sender wants to know of many letters: how many the gateway has, and what is to be done."""
    there = sum(item.is_with_gateway for item in items)
    rows = [
        (item.reference, str(item.problem) if item.problem is not None else "not handed over; give the command again")
        for item in items
        if not item.is_with_gateway
    ]
    before = sum(item.outcome is ItemOutcome.REPEATED for item in items)
    again = f", {before} of them before" if before else ""
    return "\n".join(
        [f"Handed over: {there} of {len(items)} letters{again}, receipts verified", *(_table(rows) if rows else ())]
    )


def batch_object(items: Sequence[ItemSent]) -> dict[str, Any]:
    """Return the same for programs."""
    return {
        "items": [
            {"reference": item.reference, "outcome": item.outcome}
            | ({} if item.message_id is None else {"messageId": str(item.message_id)})
            | ({} if item.receipt_jws is None else {"receipt": item.receipt_jws})
            | ({} if item.problem is None else {"problem": error_object(item.problem)})
            for item in items
        ]
    }


def state_text(state: MessageState) -> str:
    """Return where a message stands, and how it came there."""
    rows = [
        ("reference", harmless(state.reference)),
        ("profile", harmless(state.profile)),
        ("accepted", _moment(state.accepted_at)),
        *_route_rows(state),
        ("copy", _copy(state)),
    ]
    lines = [f"Message {state.message_id}: {_status(state.status)}", *_table(rows)]
    if state.timeline:
        lines += ["", *_table([(_moment(event.at), _event(event)) for event in state.timeline])]
    return "\n".join(lines)


def progress(state: MessageState, now: datetime) -> str:
    """Return one line of a message that is followed."""
    running = f", {_delivery(state.deliveries[-1])}" if state.deliveries else ""
    return f"  {now.astimezone(UTC):%H:%M:%S}  {_status(state.status)}{running}"


def receipt_text(receipt: Receipt) -> str:
    """Return what a verified receipt states."""
    rows = [
        ("gateway", receipt.gateway),
        ("message", str(receipt.message_id)),
        ("sender", receipt.sender),
        ("profile", receipt.profile),
        ("reference", receipt.reference),
        ("accepted", _moment(receipt.accepted_at)),
        ("issued", _moment(receipt.issued_at)),
        *_document_rows(receipt),
        ("signed part", f"sha256 {receipt.message_sha256}"),
    ]
    return "\n".join(["The receipt holds.", *_table(rows)])


def receipt_object(receipt: Receipt) -> dict[str, Any]:
    """Return what a verified receipt states, for programs."""
    return {
        "holds": True,
        "gateway": receipt.gateway,
        "messageId": str(receipt.message_id),
        "sender": receipt.sender,
        "profile": receipt.profile,
        "reference": receipt.reference,
        "status": receipt.status,
        "acceptedAt": receipt.accepted_at.isoformat(),
        "issuedAt": receipt.issued_at.isoformat(),
        "documents": [
            {"part": document.part, "sha256": document.sha256, "size": document.size_bytes}
            for document in receipt.documents
        ],
        "messageSha256": receipt.message_sha256,
    }


def error_text(error: ClientError) -> str:
    """Return an error for people: what happened, each wrong field, and where to ask."""
    match error:
        case Problem():
            status = f" ({error.status})" if error.status is not None else ""
            what = "Not taken for now" if error.is_temporary else "Refused"
            lines = [f"{what}: {error.code}{status}", f"  {error.detail}", *_fields(error.errors)]
            lines += [f"  {name}: {fact}" for name, fact in _members(error).items()]
            if error.correlation_id is not None:
                lines.append(f"  correlation id {error.correlation_id}, for when you ask the operator")
            return "\n".join(lines)
        case LetterInvalid():
            return "\n".join(["The letter cannot be sent as it is:", *_fields(error.errors)])
        case SenderFileInvalid():
            return "\n".join(["The sender's file cannot be used:", *_fields(error.errors)])
        case NotReached():
            return f"The gateway was not reached: {error}"
        case _:
            text = str(error)
            return text[:1].upper() + text[1:]


def error_object(error: ClientError) -> dict[str, Any]:
    """Return an error for programs."""
    value: dict[str, Any] = {"kind": type(error).__name__, "detail": str(error)}
    match error:
        case Problem():
            value |= {"code": error.code, "status": error.status, "detail": error.detail}
            value |= {"errors": _listed(error.errors), "correlationId": error.correlation_id}
            value |= {"retryAfterSeconds": error.retry_after_s}
            value |= _members(error)
        case LetterInvalid() | SenderFileInvalid():
            value["errors"] = _listed(error.errors)
        case NotReached():
            value["sent"] = error.sent
        case _:
            pass
    return value


# ── Rows and words ──


def _table(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(label) for label, _ in rows)
    return [f"  {label:<{width}}  {text}".rstrip() for label, text in rows]


def _route_rows(state: MessageState) -> list[tuple[str, str]]:
    rows = [(f"delivery {delivery.number}", _delivery(delivery)) for delivery in state.deliveries]
    return rows + [("skipped", f"{_channel(channel)}: {harmless(why)}") for channel, why in state.skipped_channels]


def _document_rows(receipt: Receipt) -> list[tuple[str, str]]:
    return [(document.part, f"{document.size_bytes} bytes, sha256 {document.sha256}") for document in receipt.documents]


def _delivery(delivery: DeliveryState) -> str:
    words = [_channel(delivery.channel), harmless(delivery.status).replace("_", " ")]
    words += [f"because of {harmless(delivery.reason)}"] if delivery.reason else []
    words += [f"barcode {harmless(delivery.barcode)}"] if delivery.barcode else []
    words += [f"read before {_moment(delivery.read_seen_at)}"] if delivery.read_seen_at else []
    return ", ".join(words)


def _event(event: TimelineEvent) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in event.facts.items())
    return harmless(f"{event.event}: {facts}" if facts else event.event)


def _copy(state: MessageState) -> str:
    until = f" until {_moment(state.copy.until)}" if state.copy.until else ""
    times = {0: "not fetched", 1: "fetched once"}.get(state.copy.retrievals, f"fetched {state.copy.retrievals} times")
    return f"{harmless(state.copy.state)}{until}, {times}"


def _status(status: str) -> str:
    return {str(known): words for known, words in _STATUS_WORDS.items()}.get(status, harmless(status))


def _channel(channel: str) -> str:
    return _CHANNEL_WORDS.get(channel, harmless(channel))


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _fields(errors: Sequence[FieldError]) -> list[str]:
    return [f"  - {error.pointer}: {error.detail}" for error in errors]


def _listed(errors: Sequence[FieldError]) -> list[dict[str, str]]:
    return [{"pointer": error.pointer, "detail": error.detail} for error in errors]


def _members(problem: Problem) -> dict[str, str]:
    """Return the further members of a problem document that are plain facts, and lists of them."""
    found: dict[str, str] = {}
    for name, value in problem.members.items():
        facts = value if isinstance(value, list) else [value]
        if all(isinstance(fact, str | int) for fact in facts):
            found[harmless(name)] = harmless(", ".join(str(fact) for fact in facts))
    return found


def _first_line(error: ClientError) -> str:
    return error_text(error).partition("\n")[0]


def _write(stream: TextIO, text: str) -> None:
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
    stream.flush()
