"""
A person decides what became of a delivery that the gateway itself could not find out about.

The decision, what follows from it and the admin-log entry about it are one transaction of the ledger; the second of two
persons who decide at the same time is refused. A decision rests on what the person learnt from the provider:

- `accepted`: the provider has it. From here the delivery goes on as after any hand-over.
- `not-accepted`: the provider surely does not have it. It is sent again now, under the same delivery id.
- `give-up`: the provider surely does not have it, and is not to get it. The next channel takes over where the
  message's fallback rules name refusal; else this was its last delivery.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, assert_never

from gateway.admin.journal import Actor, command_entry
from gateway.admin.problems import AdminRefusal, Code
from gateway.deliver import DeliverDeps, Letter, Outcome, journey_state, open_letter, settlement
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
from gateway.errors import LeaseLost
from gateway.records.logs import Subject
from gateway.stores.model import (
    Claim,
    DeliveryRecord,
    LogEntry,
    Settlement,
)

COMMAND: Final = "ops-decide"
_NO_LEASE: Final = 0  # the ledger guards a decision by the delivery's action and the message's revision instead


class Decision(StrEnum):
    """What a person can say of a doubt; see the module text."""

    ACCEPTED = "accepted"
    NOT_ACCEPTED = "not-accepted"
    GIVE_UP = "give-up"


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
    return tuple(decision for decision in Decision if _may_become(delivery, _status_after(decision, delivery.channel)))


async def decide(order: Order, actor: Actor, deps: DeliverDeps) -> Decided:
    """
    Carry out a decision, or tell what it would do; either way the admin log says so.

    Raises:
        AdminRefusal: not-waiting, also when somebody else was faster; not-possible.
        StoreUnavailable: it may or may not have been carried out.
        KeyringRefused, SealBroken: the message cannot be opened; nothing was decided.
    """
    try:
        return await _decide(order, actor, deps)
    except AdminRefusal as refusal:
        raise replace(refusal, what=_asked(order)) from refusal


async def _decide(order: Order, actor: Actor, deps: DeliverDeps) -> Decided:
    letter = await _waiting_letter(order.delivery_id, deps)
    settled = await settlement(letter, _outcome(order, letter, deps), deps)
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


async def _waiting_letter(delivery_id: DeliveryId, deps: DeliverDeps) -> Letter:
    listed = next((each for each in await deps.ledger.to_decide() if each.delivery_id == delivery_id), None)
    if listed is None:
        raise _not_waiting()
    claim = Claim(delivery=listed, worker="admin", lease_token=_NO_LEASE, lease_until=deps.clock())
    letter = await open_letter(claim, deps)
    # From here on the delivery is the one that was read together with the message's revision, which guards the change.
    delivery = next((each for each in letter.record.deliveries if each.delivery_id == delivery_id), None)
    if delivery is None or delivery.next_action is not NextAction.DECIDE:
        raise _not_waiting()
    return replace(letter, claim=replace(claim, delivery=delivery))


def _not_waiting() -> AdminRefusal:
    return AdminRefusal(
        Code.NOT_WAITING, "no delivery with this id waits for a decision now; `gateway ops doubts` lists those that do"
    )


def _outcome(order: Order, letter: Letter, deps: DeliverDeps) -> Outcome:
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
    return Outcome(
        name=f"decided-{order.decision}",
        verdict=verdict,
        provider_reference=order.provider_reference,
        attempted=False,
        # The privacy log may not know yet that it arrived: an attempt that died on the way could not say so.
        disclosed=order.decision is Decision.ACCEPTED,
    )


def _not_possible(delivery: DeliveryRecord, possible: tuple[Decision, ...]) -> AdminRefusal:
    return AdminRefusal(
        Code.NOT_POSSIBLE,
        f"of a delivery that is {delivery.status} one can only say: {', '.join(possible) or 'nothing'}",
    )


def _verdict(decision: Decision, letter: Letter, deps: DeliverDeps) -> Verdict:
    state, now = journey_state(letter, deps), deps.clock()
    match decision:
        case Decision.ACCEPTED:
            arrived = _status_after(decision, letter.delivery.channel)
            return journey.after_handover(state, arrived, None, now, deps.rules)
        case Decision.NOT_ACCEPTED:
            known = letter.delivery.reason
            # The reason stays: it is why the letter is late. With it the traffic log tells of this step even where the
            # status stays as it was.
            return replace(
                journey.after_surely_absent(now, deps.rules), reason=Reason(known) if known is not None else None
            )
        case Decision.GIVE_UP:
            status = _status_after(decision, letter.delivery.channel)
            return replace(journey.after_refusal(state, Reason.REFUSED, status=status), reason=Reason.GIVEN_UP)
        case never:
            assert_never(never)


def _status_after(decision: Decision, channel: Channel) -> DeliveryStatus:
    match decision:
        case Decision.ACCEPTED:
            return DeliveryStatus.ACCEPTED if channel is Channel.PRINT else DeliveryStatus.DELIVERED
        case Decision.NOT_ACCEPTED:
            return DeliveryStatus.WAITING
        case Decision.GIVE_UP:
            return DeliveryStatus.FAILED
        case never:
            assert_never(never)


def _may_become(delivery: DeliveryRecord, status: DeliveryStatus) -> bool:
    try:
        advance_delivery(delivery.status, status)
    except InvalidMove:
        return False
    return True


def _decided(order: Order, letter: Letter, settled: Settlement) -> Decided:
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


def _entry(decided: Decided, letter: Letter, actor: Actor, deps: DeliverDeps) -> LogEntry:
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
