"""
A person decides what became of a delivery that the gateway itself could not find out about.

The decision, what follows from it and the admin-log entry about it are one transaction of the ledger; the second of two
persons who decide at the same time is refused. A decision rests on what the person learnt from the provider:

- `accepted`: the provider has it. From here the delivery goes on as after any hand-over.
- `not-accepted`: the provider surely does not have it. It is sent again now, under the same delivery id.
- `give-up`: the provider surely does not have it, or surely will not deliver it, and is not to get it. The next channel
  takes over where the message's fallback rules name refusal; else this was its last delivery.

Of a provider that took the letter and then told nothing for too long, a person learns other things:

- `accepted`: it does have it; it is watched on.
- `delivered`, `lost`: what the post did with a registered letter.
- `read`, `unread`: whether an e-Box message was opened; after `unread` the next channel takes over.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, assert_never

from gateway.admin.journal import Actor, command_entry
from gateway.admin.problems import AdminRefusal, Code
from gateway.crypto.sealing import SealBroken
from gateway.deliver.opening import find_envelope, open_letter
from gateway.deliver.settle import journey_state, settlement
from gateway.deliver.stages import DeliverDeps, Envelope, Letter, Outcome
from gateway.domain import journey
from gateway.domain.ids import DeliveryId, MessageId
from gateway.domain.journey import Verdict
from gateway.domain.message import Channel
from gateway.domain.status import (
    DeliveryStatus,
    InvalidMove,
    MessageStatus,
    NextAction,
    Reason,
    advance_delivery,
    advance_message,
)
from gateway.errors import KeyringRefused, LeaseLost
from gateway.records.logs import Subject
from gateway.stores.model import (
    Claim,
    DeliveryRecord,
    LogEntry,
    Settlement,
)

COMMAND: Final = "ops-decide"
_NO_LEASE: Final = 0  # the ledger guards a decision by the delivery's action and the message's revision instead


_CONFIRMED: Final = "confirmed"


class Decision(StrEnum):
    """What a person can say of a doubt; see the module text."""

    ACCEPTED = "accepted"
    NOT_ACCEPTED = "not-accepted"
    GIVE_UP = "give-up"
    DELIVERED = "delivered"
    LOST = "lost"
    READ = "read"
    UNREAD = "unread"


_OF_DOUBTS: Final = (Decision.ACCEPTED, Decision.NOT_ACCEPTED, Decision.GIVE_UP)
_AT_HOUSE: Final = (Decision.ACCEPTED, Decision.GIVE_UP)
_IN_THE_POST: Final = (Decision.ACCEPTED, Decision.DELIVERED, Decision.LOST)
_THINKABLE: Final[Mapping[DeliveryStatus, tuple[Decision, ...]]] = {
    **dict.fromkeys(DeliveryStatus, ()),
    DeliveryStatus.WAITING: _OF_DOUBTS,
    DeliveryStatus.IN_DOUBT: _OF_DOUBTS,
    DeliveryStatus.ACCEPTED: _AT_HOUSE,
    DeliveryStatus.PRINTED: _AT_HOUSE,
    DeliveryStatus.ENCLOSED: _AT_HOUSE,
    DeliveryStatus.DISPATCHED: _IN_THE_POST,
    DeliveryStatus.IN_TRANSIT: _IN_THE_POST,
    DeliveryStatus.HELD: _IN_THE_POST,
    DeliveryStatus.DELIVERED: (Decision.ACCEPTED, Decision.READ, Decision.UNREAD),
}
_UNKNOWN_TO_PROVIDER: Final = frozenset({DeliveryStatus.WAITING, DeliveryStatus.IN_DOUBT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """
    A decision about one delivery, with its reason; `dry_run` only tells what would follow.

    `provider_reference` is the provider's own id of what it accepted, where the person learnt it; without that id an
    e-Box cannot be asked whether the message was read.
    """

    delivery_id: DeliveryId
    decision: Decision
    reason: str
    provider_reference: str | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a delivery and its message stand."""

    status: DeliveryStatus
    next_action: NextAction
    reason: str | None
    due_at: datetime | None
    deadline_at: datetime | None
    message_status: MessageStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What a decision changed, or would change; `next_channel` is the one that takes over."""

    order: Order
    message_id: MessageId
    channel: Channel
    before: Standing
    after: Standing
    next_channel: Channel | None


def possible_decisions(delivery: DeliveryRecord) -> tuple[Decision, ...]:
    """Return what a person can decide about a delivery; nothing unless it waits for that."""
    if delivery.next_action is not NextAction.DECIDE:
        return ()
    return tuple(
        decision for decision in _THINKABLE[delivery.status] if _may_become(delivery, _status_after(decision, delivery))
    )


async def decide(order: Order, actor: Actor, deps: DeliverDeps) -> Decided:
    """
    Carry out a decision, or tell what it would do; either way the admin log says so.

    Raises:
        AdminRefusal: not-waiting, also when somebody else was faster; not-possible.
        StoreUnavailable: it may or may not have been carried out.
    """
    try:
        return await _decide(order, actor, deps)
    except AdminRefusal as refusal:
        raise replace(refusal, what=_asked(order)) from refusal


async def _decide(order: Order, actor: Actor, deps: DeliverDeps) -> Decided:
    letter = await _waiting_letter(order.delivery_id, deps)
    outcome = _outcome(order, letter, deps)
    if outcome.disclosed:
        letter = await _opened(letter, deps)
    settled = await settlement(letter, outcome, deps)
    decided = _decided(order, letter, settled)
    entry = _entry(decided, letter, actor, deps)
    if order.dry_run:
        await deps.ledger.append([entry])
        return decided
    try:
        done = await deps.ledger.decide(order.delivery_id, replace(settled, logs=(*settled.logs, entry)))
    except LeaseLost:
        done = False  # its message changed since it was read
    if not done:
        raise _not_waiting()
    return decided


async def _waiting_letter(delivery_id: DeliveryId, deps: DeliverDeps) -> Envelope:
    listed = next((each for each in await deps.ledger.to_decide() if each.delivery_id == delivery_id), None)
    if listed is None:
        raise _not_waiting()
    claim = Claim(delivery=listed, worker="admin", lease_token=_NO_LEASE, lease_until=deps.clock())
    letter = await find_envelope(claim, deps)
    # From here on the delivery is the one that was read together with the message's revision, which guards the change.
    delivery = next((each for each in letter.record.deliveries if each.delivery_id == delivery_id), None)
    if delivery is None or delivery.next_action is not NextAction.DECIDE:
        raise _not_waiting()
    return replace(letter, claim=replace(claim, delivery=delivery))


async def _opened(letter: Envelope, deps: DeliverDeps) -> Letter:
    try:
        return await open_letter(letter, deps)
    except (KeyringRefused, SealBroken) as error:
        raise AdminRefusal(
            Code.NOT_POSSIBLE, f"the privacy log must tell whom it reached, and that cannot be read: {error}"
        ) from error


def _not_waiting() -> AdminRefusal:
    return AdminRefusal(
        Code.NOT_WAITING, "no delivery with this id waits for a decision now; `gateway ops doubts` lists those that do"
    )


def _outcome(order: Order, letter: Envelope, deps: DeliverDeps) -> Outcome:
    """
    Return the decision as the outcome of a piece of work.

    Raises:
        AdminRefusal: not-possible.
    """
    possible = possible_decisions(letter.delivery)
    if order.decision not in possible:
        raise _not_possible(letter.delivery, possible)
    verdict = _verdict(order.decision, letter, deps)
    try:
        advance_delivery(letter.delivery.status, verdict.status)
        advance_message(letter.record.status, verdict.message_status)
    except InvalidMove as error:
        raise AdminRefusal(Code.NOT_POSSIBLE, str(error)) from error
    in_doubt = letter.delivery.status in _UNKNOWN_TO_PROVIDER
    return Outcome(
        name=f"decided-{order.decision}",
        verdict=verdict,
        provider_reference=order.provider_reference,
        attempted=False,
        # The privacy log may not know yet that it arrived: an attempt that died on the way could not say so.
        disclosed=order.decision is Decision.ACCEPTED and in_doubt,
        event=_CONFIRMED if order.decision is Decision.ACCEPTED and not in_doubt else None,
    )


def _not_possible(delivery: DeliveryRecord, possible: tuple[Decision, ...]) -> AdminRefusal:
    return AdminRefusal(
        Code.NOT_POSSIBLE,
        f"of a delivery that is {delivery.status} one can only say: {', '.join(possible) or 'nothing'}",
    )


def _verdict(decision: Decision, letter: Envelope, deps: DeliverDeps) -> Verdict:
    state, now = journey_state(letter, deps), deps.clock()
    status = _status_after(decision, letter.delivery)
    match decision:
        case Decision.ACCEPTED if letter.delivery.status not in _UNKNOWN_TO_PROVIDER:
            return journey.confirmed(state, status, now, deps.rules)
        case Decision.ACCEPTED | Decision.DELIVERED | Decision.LOST:
            return journey.after_handover(state, status, None, now, deps.rules)
        case Decision.NOT_ACCEPTED:
            known = letter.delivery.reason
            # The reason stays: it is why the letter is late. With it the traffic log tells of this step even where the
            # status stays as it was.
            return journey.sent_anew(state, now, deps.rules, reason=Reason(known) if known is not None else None)
        case Decision.GIVE_UP:
            return replace(journey.after_refusal(state, Reason.REFUSED, status=status), reason=Reason.GIVEN_UP)
        case Decision.READ:
            return journey.after_read_poll(state, read=True, now=now, rules=deps.rules)
        case Decision.UNREAD:
            return journey.unread(state)
        case never:
            assert_never(never)


def _status_after(decision: Decision, delivery: DeliveryRecord) -> DeliveryStatus:
    match decision:
        case Decision.ACCEPTED if delivery.status not in _UNKNOWN_TO_PROVIDER:
            return delivery.status
        case Decision.ACCEPTED:
            return DeliveryStatus.ACCEPTED if delivery.channel is Channel.PRINT else DeliveryStatus.DELIVERED
        case Decision.NOT_ACCEPTED:
            return DeliveryStatus.WAITING
        case Decision.GIVE_UP:
            return DeliveryStatus.FAILED
        case Decision.LOST:
            return DeliveryStatus.LOST
        case Decision.DELIVERED | Decision.READ | Decision.UNREAD:
            return DeliveryStatus.DELIVERED
        case never:
            assert_never(never)


def _may_become(delivery: DeliveryRecord, status: DeliveryStatus) -> bool:
    try:
        advance_delivery(delivery.status, status)
    except InvalidMove:
        return False
    return True


def _decided(order: Order, letter: Envelope, settled: Settlement) -> Decided:
    delivery, change = letter.delivery, settled.change
    return Decided(
        order=order,
        message_id=letter.record.message_id,
        channel=delivery.channel,
        before=Standing(
            status=delivery.status,
            next_action=delivery.next_action,
            reason=delivery.reason,
            due_at=delivery.due_at,
            deadline_at=delivery.deadline_at,
            message_status=letter.record.status,
        ),
        after=Standing(
            status=change.status,
            next_action=change.next_action,
            reason=change.reason or delivery.reason,
            due_at=change.due_at,
            deadline_at=change.deadline_at,
            message_status=settled.message_status,
        ),
        next_channel=settled.next_delivery.channel if settled.next_delivery is not None else None,
    )


def _entry(decided: Decided, letter: Envelope, actor: Actor, deps: DeliverDeps) -> LogEntry:
    order, record = decided.order, letter.record
    following = {"nextChannel": decided.next_channel} if decided.next_channel is not None else {}
    return command_entry(
        deps.logbook,
        COMMAND,
        actor,
        result="dry-run" if order.dry_run else "decided",
        what={
            **_asked(order),
            "message": str(decided.message_id),
            **_standing("Before", decided.before),
            **_standing("After", decided.after),
            **following,
        },
        subject=Subject(
            sender=record.sender,
            profile=record.profile,
            message_id=record.message_id,
            delivery_id=order.delivery_id,
        ),
    )


def _asked(order: Order) -> Mapping[str, str]:
    asked = {"delivery": str(order.delivery_id), "decision": str(order.decision), "reason": order.reason}
    return asked | ({"providerReference": order.provider_reference} if order.provider_reference is not None else {})


def _standing(when: str, standing: Standing) -> Mapping[str, str]:
    return {
        f"status{when}": standing.status,
        f"action{when}": standing.next_action,
        f"messageStatus{when}": standing.message_status,
    }
