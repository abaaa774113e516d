"""
The columns that every ledger writes alike: JSON for what is frozen at acceptance and never searched, and the refusals
that hold the same text wherever the letter was counted.
"""

import json
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from gateway.domain.calendar import end_of
from gateway.domain.message import Channel, Cover, PrintOptions, PrintProduct, Priority
from gateway.domain.routing import Route, SkippedChannel
from gateway.errors import Kind, Refusal, StoreUnavailable
from gateway.stores.model import Letterhead, NewMessage

_S: Final = timedelta(seconds=1)

_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def route_json(route: Route) -> str:
    """Return the text of the column `route`."""
    return _json(
        {
            "channels": route.channels,
            "skipped": [[skipped.channel, skipped.why] for skipped in route.skipped],
            "fallback": sorted(route.fallback),
            "unread_after_s": None if route.unread_after is None else route.unread_after // _S,
            "providers": dict(route.providers),
            "ebox": dict(route.ebox),
        }
    )


def route_of(text: str) -> Route:
    """Return the route in the column of that name."""
    value = json.loads(text)
    unread_after_s = value["unread_after_s"]
    return Route(
        channels=tuple(Channel(channel) for channel in value["channels"]),
        skipped=tuple(SkippedChannel(channel=Channel(channel), why=why) for channel, why in value["skipped"]),
        fallback=frozenset(value["fallback"]),
        unread_after=None if unread_after_s is None else unread_after_s * _S,
        providers={Channel(channel): provider for channel, provider in value["providers"].items()},
        ebox={Channel(channel): (kind, application) for channel, (kind, application) in value["ebox"].items()},
    )


def letterhead_json(letterhead: Letterhead) -> str:
    """Return the text of the column `letterhead`."""
    return _json(
        {
            "sender_name": letterhead.sender_name,
            "display_name": letterhead.display_name,
            "public_contact": letterhead.public_contact,
            "return_address": letterhead.return_address,
        }
    )


def letterhead_of(text: str) -> Letterhead:
    """Return the letterhead in the column of that name."""
    value = json.loads(text)
    return Letterhead(
        sender_name=value["sender_name"],
        display_name=value["display_name"],
        public_contact=value["public_contact"],
        return_address=tuple(value["return_address"]),
    )


def print_options_json(options: PrintOptions) -> str:
    """Return the text of the column `print_options`."""
    return _json(
        {
            "product": options.product,
            "duplex": options.duplex,
            "colour": options.colour,
            "priority": options.priority,
            "cover": options.cover,
        }
    )


def print_options_of(text: str) -> PrintOptions:
    """Return the options in the column of that name."""
    value = json.loads(text)
    return PrintOptions(
        product=PrintProduct(value["product"]),
        duplex=value["duplex"],
        colour=value["colour"],
        priority=Priority(value["priority"]),
        cover=Cover(value["cover"]),
    )


def quota_exceeded(new: NewMessage, now: datetime) -> Refusal:
    """Return the refusal of a message for which the day's quota has no room, with the time until it has."""
    until_midnight_s = max(1, -((now - end_of(new.day)) // _S))
    return Refusal(
        Kind.QUOTA_EXCEEDED,
        f"profile {new.message.profile} may send {new.messages_per_day} messages on {new.day} and has sent them; "
        "send this one after midnight (Europe/Brussels), or have the quota of the registration raised",
        retry_after_s=until_midnight_s,
    )


def batch_conflict(batch_id: UUID) -> Refusal:
    """Return the refusal of an item whose batch lost its reference, in this moment, to a batch of other content."""
    return Refusal(
        Kind.REFERENCE_CONFLICT,
        "the reference of this batch has just been used for another batch; give it a reference of its own",
        extra={"batchId": str(batch_id), "differingFields": []},
    )


def swept() -> StoreUnavailable:
    """Return the error for a blob under a tombstone: the sender sends again, and its documents get new ids."""
    return StoreUnavailable("a blob of this message was swept before it was recorded")
