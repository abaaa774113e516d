"""What is wrong with the deliveries of a message, and with the status that follows from them. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from gateway.domain.deadlines import DUTIES
from gateway.domain.message import Channel, PrintProduct
from gateway.domain.routing import next_channel
from gateway.domain.status import DeliveryStatus, MessageStatus, NextAction, Reason, is_final
from gateway.integrity.findings import Code, Finding
from gateway.stores.model import AttemptRecord, AuditedMessage, DeliveryRecord, MessageRecord

_LEASE_GRACE: Final = timedelta(hours=1)  # far beyond the longest lease and the pause of a restart

_D, _A, _M = DeliveryStatus, NextAction, MessageStatus
# A delivery may end here, or be watched no more.
_MAY_END: Final = frozenset(_D) - {_D.WAITING, _D.DISPATCHING, _D.IN_DOUBT, _D.ACCEPTED, _D.PRINTED, _D.ENCLOSED}
# What may come next: what the table of duties names, or nothing.
ACTIONS: Final[Mapping[DeliveryStatus, frozenset[NextAction]]] = {
    status: frozenset(action for known, action in DUTIES if known is status)
    | (frozenset({_A.NONE}) if status in _MAY_END else frozenset())
    for status in _D
}
_TIMED: Final = frozenset({_A.SEND, _A.RECONCILE, _A.POLL})  # a worker comes for these when they fall due
_ON_THE_WAY: Final = frozenset({_D.DISPATCHED, _D.IN_TRANSIT, _D.HELD})
_CAME_BACK: Final = frozenset({_D.RETURNED, _D.LOST})
# The provider has it, or had it and passed it on.
_TAKEN: Final = frozenset({_D.ACCEPTED, _D.PRINTED, _D.ENCLOSED, _D.DELIVERED}) | _ON_THE_WAY


def delivery_findings(audited: AuditedMessage, now: datetime) -> Iterator[Finding]:
    """Yield what is wrong with the deliveries of a message."""
    message = audited.message
    numbers = [delivery.number for delivery in message.deliveries]
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        yield Finding(code=Code.DELIVERY_GAP, id=str(message.message_id), detail=f"numbers {numbers}")
    for delivery in message.deliveries:
        yield from _state(delivery)
        yield from _attempts(delivery, [each for each in audited.attempts if each.delivery_id == delivery.delivery_id])
        yield from _lease(delivery, audited.leases.get(delivery.delivery_id), now)
        if delivery.next_action is not _A.NONE and delivery.deadline_at is not None and delivery.deadline_at < now:
            yield _about(Code.LATE, delivery, f"{delivery.status}, next {delivery.next_action}")
    yield from _twice(message)
    yield from _message_status(message)


def _state(delivery: DeliveryRecord) -> Iterator[Finding]:
    allowed, action = ACTIONS[delivery.status], delivery.next_action
    standing = f"{delivery.status}, next {action}"
    if action not in allowed:
        code = Code.DELIVERY_UNOWNED if action is _A.NONE else Code.DELIVERY_IMPOSSIBLE
        yield _about(code, delivery, standing)
        return
    lacking = [
        name
        for name, at, is_needed in (
            ("due time", delivery.due_at, action in _TIMED),
            ("deadline", delivery.deadline_at, action is not _A.NONE),
        )
        if is_needed and at is None
    ]
    if lacking:
        yield _about(Code.DELIVERY_UNOWNED, delivery, f"{standing}, without {' and '.join(lacking)}")
    if (delivery.due_at is not None and action not in _TIMED) or (
        delivery.deadline_at is not None and action is _A.NONE
    ):
        yield _about(Code.DELIVERY_IMPOSSIBLE, delivery, f"{standing}, with a time for it")


def _attempts(delivery: DeliveryRecord, attempts: Sequence[AttemptRecord]) -> Iterator[Finding]:
    if [attempt.number for attempt in attempts] != list(range(1, delivery.attempts + 1)):
        detail = f"counted {delivery.attempts}, written down {[attempt.number for attempt in attempts]}"
        yield _about(Code.ATTEMPT_GAP, delivery, detail)
    taken = [attempt.number for attempt in attempts if attempt.outcome in _TAKEN]
    if len(taken) > 1:
        yield _about(Code.HANDED_OVER_TWICE, delivery, f"attempts {taken}")


def _lease(delivery: DeliveryRecord, until: datetime | None, now: datetime) -> Iterator[Finding]:
    if until is None:
        return
    if delivery.next_action not in _TIMED:
        yield _about(Code.DELIVERY_IMPOSSIBLE, delivery, f"next {delivery.next_action}, and a worker holds it")
    elif until < now - _LEASE_GRACE:
        yield _about(Code.LEASE_HELD, delivery, f"until {until:%Y-%m-%dT%H:%M:%SZ}")


def _twice(message: MessageRecord) -> Iterator[Finding]:
    deliveries = message.deliveries
    for place, delivery in enumerate(deliveries[:-1]):
        later = [other for other in deliveries[place + 1 :] if other.status in _TAKEN]
        if delivery.status in _TAKEN and later and not _rule_fires(message, delivery):
            detail = f"{delivery.channel}, then {later[0].channel}"
            yield Finding(code=Code.DELIVERED_TWICE, id=str(message.message_id), detail=detail)
            return


def _rule_fires(message: MessageRecord, delivery: DeliveryRecord) -> bool:
    """Tell whether the route lets another channel follow this delivery, for the reason that it ended with."""
    try:
        return next_channel(message.route, delivery.channel, Reason(delivery.reason or "")) is not None
    except ValueError:  # no such reason, or a channel that the route does not have
        return False


def _message_status(message: MessageRecord) -> Iterator[Finding]:
    if not message.deliveries:
        return
    *earlier, last = message.deliveries
    queued = [delivery for delivery in message.deliveries if delivery.next_action is not _A.NONE]
    if is_final(message.status) and queued:
        yield _about(Code.ENDED_BUT_QUEUED, queued[0], f"message {message.status}, next {queued[0].next_action}")
        return
    for delivery in earlier:
        if delivery.next_action is not _A.NONE:
            detail = f"next {delivery.next_action}, and delivery {delivery.number + 1} followed it"
            yield _about(Code.DELIVERY_IMPOSSIBLE, delivery, detail)
    expected = _expected(message, earlier, last)
    if message.status not in expected:
        detail = f"message {message.status}, delivery {last.number} {last.status}, next {last.next_action}"
        yield Finding(code=Code.STATUS_DISAGREES, id=str(message.message_id), detail=detail)


def _expected(
    message: MessageRecord, earlier: Sequence[DeliveryRecord], last: DeliveryRecord
) -> frozenset[MessageStatus]:
    """Return the statuses that a message may have, given its deliveries; what is still open decides."""
    if last.next_action is _A.DECIDE and last.status is not _D.DELIVERED:
        return frozenset({_M.NEEDS_DECISION})
    # Whoever is sent anew by a person, although nobody was ever called, is under way.
    if last.status is _D.WAITING and last.attempts == 0 and last.first_attempt_at is None and not earlier:
        return frozenset({_M.ACCEPTED, _M.SCHEDULED})
    if last.status in _CAME_BACK:
        return frozenset({_M.RETURNED})
    is_registered = message.print_options.product is not PrintProduct.STANDARD
    if last.status is _D.DELIVERED or (last.status in _ON_THE_WAY and not is_registered):
        return frozenset({_M.DELIVERED})
    if last.next_action is not _A.NONE:
        return frozenset({_M.IN_DELIVERY})
    if any(other.status is _D.DELIVERED and other.channel is not Channel.PRINT for other in earlier):
        return frozenset({_M.DELIVERED})
    return frozenset({_M.UNDELIVERABLE, _M.CANCELLED, _M.EXPIRED})


def _about(code: Code, delivery: DeliveryRecord, detail: str) -> Finding:
    return Finding(code=code, id=str(delivery.delivery_id), detail=detail)
