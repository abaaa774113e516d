"""
The states of messages and deliveries, and the only moves between them.

A message is what its sender sees; a delivery is its journey on one channel. Delivery states after hand-over are the
canonical set that print houses and e-Box answers are mapped to.
"""

from enum import StrEnum


class MessageStatus(StrEnum):
    """Where a message stands, for its sender."""

    ACCEPTED = "accepted"
    SCHEDULED = "scheduled"
    IN_DELIVERY = "in-delivery"
    DELIVERED = "delivered"
    RETURNED = "returned"
    UNDELIVERABLE = "undeliverable"
    NEEDS_DECISION = "needs-decision"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class DeliveryStatus(StrEnum):
    """Where one delivery stands."""

    WAITING = "waiting"
    DISPATCHING = "dispatching"
    IN_DOUBT = "in-doubt"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    PRINTED = "printed"
    ENCLOSED = "enclosed"
    DISPATCHED = "dispatched"
    IN_TRANSIT = "in_transit"
    HELD = "held"
    DELIVERED = "delivered"
    RETURNED = "returned"
    LOST = "lost"
    FAILED = "failed"
    CANCELLED = "cancelled"


class NextAction(StrEnum):
    """What the gateway does next with a delivery, and so who owns it."""

    SEND = "send"  # a worker hands it over
    RECONCILE = "reconcile"  # a worker finds out whether it arrived
    POLL = "poll"  # a worker asks the provider how far it is
    DECIDE = "decide"  # an operator decides
    NONE = "none"  # nothing: the delivery has ended


class Reason(StrEnum):
    """Why a delivery did not, or not only, go as asked; the first four may be named as `fallback` triggers."""

    NO_CONSENT = "no-consent"
    NO_BOX = "no-box"
    NO_DIGITAL_USER = "no-digital-user"
    REFUSED = "refused"
    UNREAD = "unread"
    DOSSIER_ENDED = "dossier-ended"
    EXPIRED = "expired"
    PROVIDER_TROUBLE = "provider-trouble"
    OUTCOME_UNKNOWN = "outcome-unknown"
    DOCUMENT_UNREADABLE = "document-unreadable"
    GIVEN_UP = "given-up"
    QUOTA_EXCEEDED = "quota-exceeded"
    NO_NEWS = "no-news"


class InvalidMove(ValueError):
    """A state may not follow the present one."""


_M = MessageStatus
MESSAGE_MOVES: dict[MessageStatus, frozenset[MessageStatus]] = {
    _M.ACCEPTED: frozenset({_M.IN_DELIVERY, _M.NEEDS_DECISION, _M.CANCELLED, _M.EXPIRED, _M.UNDELIVERABLE}),
    _M.SCHEDULED: frozenset(
        {_M.ACCEPTED, _M.IN_DELIVERY, _M.NEEDS_DECISION, _M.CANCELLED, _M.EXPIRED, _M.UNDELIVERABLE}
    ),
    _M.IN_DELIVERY: frozenset({_M.DELIVERED, _M.RETURNED, _M.UNDELIVERABLE, _M.NEEDS_DECISION, _M.EXPIRED}),
    _M.NEEDS_DECISION: frozenset(
        {_M.IN_DELIVERY, _M.DELIVERED, _M.RETURNED, _M.UNDELIVERABLE, _M.CANCELLED, _M.EXPIRED}
    ),
    _M.DELIVERED: frozenset({_M.RETURNED, _M.IN_DELIVERY}),
    _M.RETURNED: frozenset({_M.IN_DELIVERY, _M.DELIVERED, _M.UNDELIVERABLE}),
    _M.UNDELIVERABLE: frozenset(),
    _M.CANCELLED: frozenset(),
    _M.EXPIRED: frozenset(),
}

_D = DeliveryStatus
# A print house may skip steps, never go back; the post's own states may alternate until one ends the journey.
_AFTER_POST = frozenset({_D.IN_TRANSIT, _D.HELD, _D.DELIVERED, _D.RETURNED, _D.LOST})
_ENDED_AT_HOUSE = frozenset({_D.REJECTED, _D.FAILED, _D.CANCELLED})
DELIVERY_MOVES: dict[DeliveryStatus, frozenset[DeliveryStatus]] = {
    _D.WAITING: frozenset({_D.DISPATCHING, _D.CANCELLED, _D.FAILED}),
    _D.DISPATCHING: frozenset(
        {_D.WAITING, _D.IN_DOUBT, _D.ACCEPTED, _D.PRINTED, _D.ENCLOSED, _D.DISPATCHED} | _AFTER_POST | _ENDED_AT_HOUSE
    ),
    _D.IN_DOUBT: frozenset(
        {_D.WAITING, _D.DISPATCHING, _D.ACCEPTED, _D.PRINTED, _D.ENCLOSED, _D.DISPATCHED}
        | _AFTER_POST
        | _ENDED_AT_HOUSE
    ),
    _D.ACCEPTED: frozenset({_D.PRINTED, _D.ENCLOSED, _D.DISPATCHED} | _AFTER_POST | _ENDED_AT_HOUSE),
    _D.PRINTED: frozenset({_D.ENCLOSED, _D.DISPATCHED} | _AFTER_POST | _ENDED_AT_HOUSE),
    _D.ENCLOSED: frozenset({_D.DISPATCHED} | _AFTER_POST | _ENDED_AT_HOUSE),
    _D.DISPATCHED: _AFTER_POST,
    _D.IN_TRANSIT: _AFTER_POST - {_D.IN_TRANSIT},
    _D.HELD: _AFTER_POST - {_D.HELD},
    _D.DELIVERED: frozenset({_D.RETURNED}),
    _D.LOST: frozenset({_D.DELIVERED, _D.RETURNED}),
    _D.REJECTED: frozenset(),
    _D.RETURNED: frozenset(),
    _D.FAILED: frozenset(),
    _D.CANCELLED: frozenset(),
}


def advance_message(present: MessageStatus, wanted: MessageStatus) -> MessageStatus:
    """
    Return `wanted` when it may follow `present`; staying where one is is always allowed.

    Raises:
        InvalidMove: it may not.
    """
    if wanted != present and wanted not in MESSAGE_MOVES[present]:
        raise InvalidMove(f"a message that is {present} cannot become {wanted}")
    return wanted


def may_follow(present: DeliveryStatus, wanted: DeliveryStatus) -> bool:
    """Tell whether a delivery may go from `present` to `wanted`; staying where one is is always allowed."""
    return wanted == present or wanted in DELIVERY_MOVES[present]


def advance_delivery(present: DeliveryStatus, wanted: DeliveryStatus) -> DeliveryStatus:
    """
    Return `wanted` when it may follow `present`; staying where one is is always allowed.

    Raises:
        InvalidMove: it may not.
    """
    if not may_follow(present, wanted):
        raise InvalidMove(f"a delivery that is {present} cannot become {wanted}")
    return wanted


def is_final(status: MessageStatus) -> bool:
    """Tell whether no move leaves this message status."""
    return not MESSAGE_MOVES[status]
