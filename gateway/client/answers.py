"""What the gateway answers about messages and dossiers, as types; members that are new to this version are let pass."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from gateway.client.problems import UnexpectedAnswer
from gateway.crypto.values import instant
from gateway.domain.ids import MessageId
from gateway.domain.status import MessageStatus

__all__ = [
    "CopyState",
    "DeliveryState",
    "DossierState",
    "MessageState",
    "TimelineEvent",
    "dossier_state",
    "has_settled",
    "items_of",
    "message_state",
    "read",
    "text_or_none",
]

_T = TypeVar("_T")
_SETTLED: Final = frozenset(
    {
        MessageStatus.DELIVERED,
        MessageStatus.RETURNED,
        MessageStatus.UNDELIVERABLE,
        MessageStatus.NEEDS_DECISION,
        MessageStatus.CANCELLED,
        MessageStatus.EXPIRED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryState:
    """The journey on one channel; `status` and `reason` are the gateway's words, of `domain.status` or newer ones."""

    delivery_id: UUID
    number: int
    channel: str
    provider: str | None
    status: str
    reason: str | None
    barcode: str | None
    read_seen_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyState:
    """The authentic copy: until when it is kept, and how often it was fetched."""

    state: str
    until: datetime | None
    retrievals: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEvent:
    """One thing that happened to a message."""

    at: datetime
    event: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageState:
    """
    Where a message stands. `final`: nothing more will happen by itself.

    Lists leave `timeline` empty and `receipt` None. `view` is the JSON as it came; it names no person.
    """

    message_id: MessageId
    reference: str
    profile: str
    status: str
    final: bool
    accepted_at: datetime
    deliveries: tuple[DeliveryState, ...]
    copy: CopyState
    timeline: tuple[TimelineEvent, ...] = ()
    skipped_channels: tuple[tuple[str, str], ...] = ()  # channel, and why
    receipt: str | None = field(default=None, repr=False)
    view: Mapping[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DossierState:
    """A registered dossier; the person it is about is not in the answer."""

    dossier_id: UUID
    category: str
    from_on: date
    until_on: date | None
    registered_at: datetime
    ended_at: datetime | None
    in_force: bool


def has_settled(state: MessageState) -> bool:
    """Tell whether a message was delivered, has ended in another way, or waits for a person to decide."""
    return state.final or state.status in _SETTLED


def read(parse: Callable[[Any], _T], value: Any) -> _T:
    """
    Return what `parse` makes of an answer's value.

    Raises:
        UnexpectedAnswer: it makes nothing of it.
    """
    try:
        return parse(value)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise UnexpectedAnswer(f"it is not what the sender interface promises ({type(exc).__name__})") from exc


def message_state(value: Any) -> MessageState:
    """Return a message's state from a list, a status answer or the message itself; to be called through `read`."""
    return MessageState(
        message_id=MessageId(UUID(value["messageId"])),
        reference=_text(value["reference"]),
        profile=_text(value["profile"]),
        status=_text(value["status"]),
        final=value["final"] is True,
        accepted_at=instant(value["acceptedAt"]),
        deliveries=tuple(_delivery(each) for each in value["deliveries"]),
        copy=CopyState(
            state=_text(value["copy"]["state"]),
            until=_instant_or_none(value["copy"]["until"]),
            retrievals=int(value["copy"]["retrievals"]),
        ),
        timeline=tuple(_event(each) for each in value.get("timeline", ())),
        skipped_channels=tuple((_text(s["channel"]), _text(s["why"])) for s in value.get("skippedChannels", ())),
        receipt=text_or_none(value.get("receipt")),
        view=dict(value),
    )


def dossier_state(value: Any) -> DossierState:
    """Return a dossier's state; to be called through `read`."""
    until = value["until"]
    return DossierState(
        dossier_id=UUID(value["dossierId"]),
        category=_text(value["category"]),
        from_on=date.fromisoformat(value["from"]),
        until_on=None if until is None else date.fromisoformat(until),
        registered_at=instant(value["registeredAt"]),
        ended_at=_instant_or_none(value["endedAt"]),
        in_force=value["inForce"] is True,
    )


def items_of(value: Any, name: str) -> list[Any]:
    """Return the array under a name; to be called through `read`."""
    found = value[name]
    if not isinstance(found, list):
        raise TypeError(f"{name} is no array")
    return found


def text_or_none(value: object) -> str | None:
    """Return text, or None for null; to be called through `read`."""
    return None if value is None else _text(value)


def _delivery(value: Any) -> DeliveryState:
    return DeliveryState(
        delivery_id=UUID(value["deliveryId"]),
        number=int(value["number"]),
        channel=_text(value["channel"]),
        provider=text_or_none(value["provider"]),
        status=_text(value["status"]),
        reason=text_or_none(value["reason"]),
        barcode=text_or_none(value["barcode"]),
        read_seen_at=_instant_or_none(value["readSeenAt"]),
    )


def _event(value: Any) -> TimelineEvent:
    facts = {name: fact for name, fact in value.items() if name not in ("at", "event")}
    return TimelineEvent(at=instant(value["at"]), event=_text(value["event"]), facts=facts)


def _instant_or_none(value: object) -> datetime | None:
    return None if value is None else instant(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not text")
    return value
