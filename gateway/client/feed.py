"""The feed of a sender's events, as types; members that are new to this version are let pass."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from gateway.client.answers import items_of, text_or_none
from gateway.crypto.values import instant
from gateway.domain.ids import MessageId

__all__ = ["Event", "EventPage", "event_page"]

_OWN: Final = frozenset({"number", "at", "event", "messageId", "reference", "profile", "status"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """
    Something that happened to a message; within one epoch of the feed, `number` counts from 1 without a gap.

    `status` is the message's after it, where the event tells. `facts` are its other members, such as `channel`.
    """

    number: int
    at: datetime
    event: str
    message_id: MessageId
    reference: str | None
    profile: str | None
    status: str | None
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """
    A part of the feed. Keep `next_cursor` once the events are dealt with: the next call goes on there.

    `more`: there is more already. A page without events may have more behind it. `epoch` changes when the gateway is
    restored from a backup.
    """

    events: tuple[Event, ...]
    next_cursor: str
    more: bool
    epoch: str
    view: Mapping[str, Any]


def event_page(value: Any) -> EventPage:
    """Return a page of the feed; to be called through `read`."""
    return EventPage(
        events=tuple(_event(each) for each in items_of(value, "events")),
        next_cursor=_text(value["nextCursor"]),
        more=value["more"] is True,
        epoch=_text(value["epoch"]),
        view=dict(value),
    )


def _event(value: Any) -> Event:
    return Event(
        number=int(value["number"]),
        at=instant(value["at"]),
        event=_text(value["event"]),
        message_id=MessageId(UUID(value["messageId"])),
        reference=text_or_none(value.get("reference")),
        profile=text_or_none(value.get("profile")),
        status=text_or_none(value.get("status")),
        facts={name: fact for name, fact in value.items() if name not in _OWN},
    )


def _text(value: object) -> str:
    found = text_or_none(value)
    if found is None:
        raise TypeError("not text")
    return found
