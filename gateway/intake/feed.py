"""
The feed of a sender's events: what the traffic log says about its messages, numbered without gaps.

A cursor names the epoch of the ledger, the sender, and the last event that was looked at, shown or not: a certificate
with some of the profiles sees the events of those, and goes on after all of them.
"""

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from aiohttp import web

from gateway.domain.ids import EnterpriseNumber
from gateway.errors import FieldError, Kind, Refusal
from gateway.intake.caller import Caller
from gateway.intake.handlers import MAX_PAGE, IntakeDeps
from gateway.intake.views import when
from gateway.stores.model import FeedEvent, FeedPage

_USUAL_PAGE: Final = 100
_CURSOR: Final = re.compile(r"f1:([0-9a-f]{32}):([0-9a-f]{8}):(0|[1-9][0-9]{0,17})\Z")
_FACTS: Final = ("channel", "reason", "code", "barcode", "nextChannel")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedCursor:
    """Where a reader of a feed is; `sender_tag` tells the feeds of two senders apart."""

    epoch: UUID
    sender_tag: str
    number: int

    def write(self) -> str:
        """Return the cursor as the interface shows it."""
        text = f"f1:{self.epoch.hex}:{self.sender_tag}:{self.number}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_feed_cursor(text: str) -> FeedCursor:
    """
    Return what a cursor says.

    Raises:
        Refusal: bad-request, it is none of ours.
    """
    try:
        found = _CURSOR.match(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii"))
    except (ValueError, binascii.Error):
        found = None
    if found is not None:
        cursor = FeedCursor(epoch=UUID(found[1]), sender_tag=found[2], number=int(found[3]))
        if cursor.write() == text:  # the decoder overlooks what is no Base64
            return cursor
    raise Refusal(Kind.BAD_REQUEST, "after is not a cursor that this gateway gave; start without one")


async def events(request: web.Request, caller: Caller, deps: IntakeDeps) -> web.Response:
    """`GET /api/v1/events`: the sender's events after a cursor, or from the oldest that is kept."""
    cursor, limit = _read_query(request)
    after_number = 0 if cursor is None else cursor.number
    page = await deps.ledger.events(caller.number, caller.profiles, after_number=after_number, limit=limit)
    tag = _sender_tag(caller.number)
    if cursor is not None:
        _require_usable(cursor, page, tag)
    # Where there is nothing to show yet, later events must not be taken for ones that were missed.
    reached = max(page.next_number, page.removed_through)
    following = FeedCursor(epoch=page.epoch, sender_tag=tag, number=reached)
    return web.json_response(
        {
            "events": [_view(event) for event in page.events],
            "nextCursor": following.write(),
            "more": reached < page.last_number,
            "epoch": page.epoch.hex,
        }
    )


def _require_usable(cursor: FeedCursor, page: FeedPage, tag: str) -> None:
    if cursor.sender_tag != tag:
        raise Refusal(Kind.BAD_REQUEST, "after is a cursor into another sender's feed; start without one")
    # A number that was never given means the same as another epoch: somebody restored a backup and did not say so.
    if cursor.epoch != page.epoch or cursor.number > page.last_number:
        raise Refusal(
            Kind.FEED_RESTORED,
            "the gateway was restored from a backup since this cursor was given; read the feed again from its "
            "beginning, without a cursor: numbers may stand for other events than before",
        )
    if cursor.number < page.removed_through:
        raise Refusal(
            Kind.CURSOR_EXPIRED,
            "events after this cursor are no longer kept in the feed; read on from its beginning, without a cursor, "
            "and look the messages of the time before up in GET /api/v1/messages",
        )


def _view(event: FeedEvent) -> dict[str, Any]:
    what = json.loads(event.entry)["what"]
    of_delivery = event.delivery_id is not None
    optional = {
        "status": what.get("messageStatus") if of_delivery else what.get("messageStatus", what.get("status")),
        "deliveryId": str(event.delivery_id) if of_delivery else None,
        "deliveryNumber": what.get("number"),
        "deliveryStatus": what.get("status") if of_delivery else None,
        **{name: what.get(name) for name in _FACTS},
    }
    return {
        "number": event.number,
        "at": when(event.at),
        "event": event.event,
        "messageId": str(event.message_id),
        "reference": event.reference,
        "profile": event.profile,
    } | {name: value for name, value in optional.items() if value is not None}


def _sender_tag(sender: EnterpriseNumber) -> str:
    return hashlib.sha256(sender.encode()).hexdigest()[:8]


def _read_query(request: web.Request) -> tuple[FeedCursor | None, int]:
    query = request.query
    errors = [
        FieldError(pointer=f"?{name}", detail="no such parameter") for name in query if name not in ("after", "limit")
    ]
    errors += [
        FieldError(pointer=f"?{name}", detail="give it once")
        for name in ("after", "limit")
        if len(query.getall(name, [])) > 1
    ]
    limit = query.get("limit", str(_USUAL_PAGE))
    if not limit.isascii() or not limit.isdigit() or len(limit) > len(str(MAX_PAGE)) or not 1 <= int(limit) <= MAX_PAGE:
        errors.append(FieldError(pointer="?limit", detail=f"a number from 1 to {MAX_PAGE}"))
    if errors:
        raise Refusal(Kind.BAD_REQUEST, "some parameters are wrong; see errors for each", errors=errors)
    after = query.get("after")
    return None if after is None else read_feed_cursor(after), int(limit)
