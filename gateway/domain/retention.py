"""
How long documents stay after their message ended or arrived.

A document is erased once no delivery and no fallback rule can still need it. What was printed stays as the authentic
copy for the sender's term, counted from dispatch (standard) or delivery (registered).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from gateway.domain.message import Channel
from gateway.domain.status import DeliveryStatus, MessageStatus

_POSTED = frozenset(
    {
        DeliveryStatus.DISPATCHED,
        DeliveryStatus.IN_TRANSIT,
        DeliveryStatus.HELD,
        DeliveryStatus.DELIVERED,
        DeliveryStatus.RETURNED,
        DeliveryStatus.LOST,
    }
)


class CopyState(StrEnum):
    """What is kept of a message's documents."""

    IN_DELIVERY = "in-delivery"  # sealed, needed for delivery
    KEPT = "kept"  # the authentic copy, retrievable by the recipient
    AWAITING_ERASURE = "awaiting-erasure"  # needed no more, erased at `until`
    ERASED = "erased"


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """What retention needs to know of one delivery."""

    channel: Channel
    status: DeliveryStatus
    registered: bool
    may_fall_back: bool  # a rule may still send the message on another channel
    posted_at: datetime | None  # when it was dispatched (standard) or delivered (registered)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """What to keep, and until when (None: until something happens)."""

    state: CopyState
    until: datetime | None


def keep_copy(
    status: MessageStatus,
    journeys: Sequence[Journey],
    *,
    retention: timedelta,
    keep_undelivered: timedelta,
    now: datetime,
) -> Keep:
    """Return what becomes of a message's documents, given where its deliveries stand."""
    if status in (MessageStatus.UNDELIVERABLE, MessageStatus.CANCELLED, MessageStatus.EXPIRED):
        return Keep(state=CopyState.AWAITING_ERASURE, until=now + keep_undelivered)
    if status not in (MessageStatus.DELIVERED, MessageStatus.RETURNED):
        return Keep(state=CopyState.IN_DELIVERY, until=None)
    if any(journey.may_fall_back for journey in journeys):
        return Keep(state=CopyState.IN_DELIVERY, until=None)
    printed = [journey for journey in journeys if journey.channel is Channel.PRINT and journey.status in _POSTED]
    if not printed:
        return Keep(state=CopyState.AWAITING_ERASURE, until=now)
    starts = [journey.posted_at for journey in printed if journey.posted_at is not None]
    if not starts:  # it came back, or was lost, before its term began
        return Keep(state=CopyState.AWAITING_ERASURE, until=now + keep_undelivered)
    return Keep(state=CopyState.KEPT, until=max(starts) + retention)
