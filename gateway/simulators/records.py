"""
What a simulator took over and which calls it saw: the proof of "exactly once" in tests, crash runs and load runs.

Records hold recipients in clear, as any provider's would; simulators are for made-up letters only.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDocument:
    """One received file; `content` is None unless the simulator was told to keep bytes."""

    name: str
    filename: str | None
    media_type: str
    sha256: str
    size_bytes: int
    content: bytes | None = field(default=None, repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return everything but the bytes."""
        return {
            "name": self.name,
            "filename": self.filename,
            "mediaType": self.media_type,
            "sha256": self.sha256,
            "sizeBytes": self.size_bytes,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """
    One published message or accepted print job, in arrival order.

    `id` is the provider's id; `recipient` the number or, on paper, the name; `body` the JSON as received, file
    content left out.
    """

    number: int
    id: str
    key: str | None
    recipient: str
    sender: str | None
    documents: tuple[KeptDocument, ...]
    body: Mapping[str, Any] = field(repr=False)
    kept_at: datetime

    def as_json(self) -> dict[str, Any]:
        """Return the record as the control interface shows it."""
        return {
            "number": self.number,
            "id": self.id,
            "key": self.key,
            "recipient": self.recipient,
            "sender": self.sender,
            "documents": [document.as_json() for document in self.documents],
            "body": dict(self.body),
            "keptAt": self.kept_at.isoformat(),
        }


class Outcome(StrEnum):
    """How a call ended, seen from the provider."""

    RUNNING = "running"
    HELD = "held"  # waits for a release
    ANSWERED = "answered"
    CLOSED = "closed"  # the simulator broke the connection
    DISCONNECTED = "disconnected"  # the caller went away first
    FAILED = "failed"  # a fault of the simulator itself, answered 500


@dataclass(slots=True, kw_only=True)
class Call:
    """One call; `kept_id` names what it made the provider keep, if anything, whatever was answered."""

    number: int
    operation: str
    key: str | None
    at: datetime
    outcome: Outcome = Outcome.RUNNING
    status: int | None = None
    fault: str | None = None
    kept_id: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the record as the control interface shows it."""
        return {
            "number": self.number,
            "operation": self.operation,
            "key": self.key,
            "at": self.at.isoformat(),
            "outcome": self.outcome.value,
            "status": self.status,
            "fault": self.fault,
            "keptId": self.kept_id,
        }


class Records:
    """`kept` and `calls` of one simulator, with a way to wait for more of them."""

    def __init__(self, *, clock: Callable[[], datetime]) -> None:
        self.kept: list[Kept] = []
        self.calls: list[Call] = []
        self.held = 0  # calls that wait for a release just now
        self._clock = clock
        self._kept_count = 0
        self._call_count = 0
        self._changed = asyncio.Event()

    def open_call(self, operation: str, key: str | None) -> Call:
        """Note that a call came in."""
        self._call_count += 1
        call = Call(number=self._call_count, operation=operation, key=key, at=self._clock())
        self.calls.append(call)
        self.changed()
        return call

    def keep(
        self,
        *,
        id: str,  # noqa: A002 - the word that the records use
        key: str | None,
        recipient: str,
        sender: str | None,
        documents: tuple[KeptDocument, ...],
        body: Mapping[str, Any],
    ) -> Kept:
        """Note that the provider took something over."""
        self._kept_count += 1
        kept = Kept(
            number=self._kept_count,
            id=id,
            key=key,
            recipient=recipient,
            sender=sender,
            documents=documents,
            body=body,
            kept_at=self._clock(),
        )
        self.kept.append(kept)
        self.changed()
        return kept

    def copies(self, sha256: str, *, recipient: str | None = None) -> int:
        """Count how often a document was taken over, for anybody or for one recipient."""
        return sum(
            1
            for kept in self.kept
            if recipient in (None, kept.recipient) and any(d.sha256 == sha256 for d in kept.documents)
        )

    def changed(self) -> None:
        """Wake everybody who waits for the records to change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, holds: Callable[["Records"], bool]) -> None:
        """Return once `holds(self)`; put `asyncio.timeout` around it."""
        while not holds(self):
            await self._changed.wait()

    def clear(self) -> None:
        """Forget what was noted; the provider still knows its messages, jobs and keys."""
        self.kept.clear()
        self.calls.clear()
        self.changed()

    def as_json(self, *, kept_after: int = 0, calls_after: int = 0) -> dict[str, Any]:
        """Return all records whose numbers are above the given ones."""
        return {
            "kept": [kept.as_json() for kept in self.kept if kept.number > kept_after],
            "calls": [call.as_json() for call in self.calls if call.number > calls_after],
        }
