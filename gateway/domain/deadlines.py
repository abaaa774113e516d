"""
Who owes the next step of everything that has not ended, by when, and what happens when that time passes.

The table of `DUTIES` names every state that is not final: a delivery's status together with its next action. States
with nothing to do (`NextAction.NONE`) owe nothing; then the documents of the message have a date of erasure.
`after_deadline` is what becomes of a delivery that is late. Nothing here ends a letter that a provider may hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, assert_never

from gateway.domain import journey
from gateway.domain.journey import JourneyState, Rules, Verdict
from gateway.domain.message import Channel
from gateway.domain.schedule import TAKEN_UP_WITHIN
from gateway.domain.status import DeliveryStatus, MessageStatus, NextAction, Reason

# Erasing is due at a date; a sweeper that runs is done within minutes.
ERASED_WITHIN: Final = timedelta(hours=1)


class Owner(StrEnum):
    """Who owes the next step."""

    WORKER = "worker"  # the gateway's own, who calls providers
    SWEEPER = "sweeper"  # the gateway's own, who erases
    PROVIDER = "provider"  # who holds the letter and tells no end of it
    RECIPIENT = "recipient"  # who has not opened an e-Box message
    PERSON = "person"  # an operator


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """One line of the table: who owes the next step, by when, what happens then, and what an operator may do."""

    owner: Owner
    deadline: str
    then: str
    advice: str


State = tuple[DeliveryStatus, NextAction]

_D, _N = DeliveryStatus, NextAction
_AT_HOUSE: Final = (_D.ACCEPTED, _D.PRINTED, _D.ENCLOSED)
_IN_THE_POST: Final = (_D.DISPATCHED, _D.IN_TRANSIT, _D.HELD)

_SEND: Final = Duty(
    owner=Owner.WORKER,
    deadline="`retry.decide_after_s` (48 h) after the first attempt, or after it fell due where there was none; where "
    "paper waits for the next day's quota, a day after that; at most `DeliverBefore`",
    then="past `DeliverBefore` it expires; tried in vain, or given back again and again, it is put before a person; "
    "never tried because no worker takes it, it stays in the queue",
    advice="see that workers run and that the provider is well; the gateway goes on by itself",
)
_CALLING: Final = Duty(
    owner=Owner.WORKER,
    deadline="15 minutes after the call's own end and `settle_s`, from when on a worker finds out what became of it",
    then="it stays in the queue; 48 h after the first attempt it is put before a person",
    advice="see that workers run; nothing is sent again before it is known what became of the call",
)
_IN_DOUBT: Final = Duty(
    owner=Owner.WORKER,
    deadline="`retry.decide_after_s` (48 h) after the first attempt",
    then="it is put before a person",
    advice="see that workers run and that the provider is well; the gateway goes on by itself",
)
_HOUSE: Final = Duty(
    owner=Owner.PROVIDER,
    deadline="`polling.print_silent_after_s` (5 d) after the hand-over",
    then="the house is asked on; as long again without an end, it is put before a person",
    advice="ask the print house, which knows the delivery id as the key of its job",
)
_POST: Final = Duty(
    owner=Owner.PROVIDER,
    deadline="standard: a day past `polling.returned_watch_s` (30 d) after dispatch; registered: that long after the "
    "hand-over",
    then="standard: it counts as arrived and is watched no more; registered: asked on, and "
    "`polling.print_silent_after_s` (5 d) later put before a person",
    advice="ask the print house or the post; a standard letter was delivered when it was dispatched",
)
_UNREAD: Final = Duty(
    owner=Owner.RECIPIENT,
    deadline="a day after the term of `unread_after`, by when the registry has been asked hourly",
    then="it is put before a person, for paper is never sent on a guess",
    advice="ask the registry whether the message was opened",
)
_DECISION: Final = Duty(
    owner=Owner.PERSON,
    deadline="one day after it was put before a person",
    then="it stays as it is: nothing is sent, ended or erased; the alert rises after three days",
    advice="decide: `gateway ops decide`",
)

DUTIES: Final[Mapping[State, Duty]] = {
    (_D.WAITING, _N.SEND): _SEND,
    (_D.DISPATCHING, _N.RECONCILE): _CALLING,
    (_D.IN_DOUBT, _N.RECONCILE): _IN_DOUBT,
    **{(status, _N.POLL): _HOUSE for status in _AT_HOUSE},
    **{(status, _N.POLL): _POST for status in _IN_THE_POST},
    (_D.DELIVERED, _N.POLL): _UNREAD,
    **{(status, _N.DECIDE): _DECISION for status in (_D.WAITING, _D.IN_DOUBT, *_AT_HOUSE, *_IN_THE_POST, _D.DELIVERED)},
}
# A message's documents, and what is left of them in the blob store.
COPY_DUTY: Final = Duty(
    owner=Owner.SWEEPER,
    deadline="one hour after the date in `copy.until`",
    then="the sweeper tries again each minute",
    advice="see that the sweeper runs and that the ledger can be written",
)
BLOB_DUTY: Final = Duty(
    owner=Owner.SWEEPER,
    deadline="one hour after its key was destroyed",
    then="the sweeper tries again each minute; nobody can read it any more",
    advice="see that the sweeper runs and that the blob store can be written",
)


def duty_of(status: str, action: str) -> Duty | None:
    """Return the line of the table for a state, or None when this program does not know it."""
    return next((duty for state, duty in DUTIES.items() if state == (status, action)), None)


class MessageCare(StrEnum):
    """What keeps a message from being forgotten."""

    DELIVERY = "delivery"  # one of its deliveries stands in `DUTIES`
    COPY = "copy"  # its documents have a date of erasure, or a delivery that may still need them
    CLOSED = "closed"  # nothing leaves this status; its documents have a date of erasure


CARE: Final[Mapping[MessageStatus, MessageCare]] = {
    MessageStatus.ACCEPTED: MessageCare.DELIVERY,
    MessageStatus.SCHEDULED: MessageCare.DELIVERY,
    MessageStatus.IN_DELIVERY: MessageCare.DELIVERY,
    MessageStatus.NEEDS_DECISION: MessageCare.DELIVERY,
    MessageStatus.DELIVERED: MessageCare.COPY,
    MessageStatus.RETURNED: MessageCare.COPY,
    MessageStatus.UNDELIVERABLE: MessageCare.CLOSED,
    MessageStatus.CANCELLED: MessageCare.CLOSED,
    MessageStatus.EXPIRED: MessageCare.CLOSED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """What a delivery waits for."""

    status: DeliveryStatus
    action: NextAction
    reason: Reason | None
    due_at: datetime | None
    deadline_at: datetime


def after_deadline(state: JourneyState, pending: Pending, now: datetime, rules: Rules) -> Verdict | None:
    """
    Return what becomes of a delivery whose deadline has passed, or None: it stays as it is, late, for all to see.

    Whoever owes the step gets a little longer than the deadline, so that a gateway that starts after a night's rest
    first does what is due.
    """
    expired = state.deliver_before is not None and state.deliver_before <= now
    if pending.action is NextAction.SEND and expired:
        return journey.never_sent(state, Reason.EXPIRED)
    if now < pending.deadline_at + TAKEN_UP_WITHIN:
        return None
    match pending.action:
        case NextAction.SEND:
            return _unsent(state, pending, now)
        case NextAction.RECONCILE:
            return _unknown(state, now, rules)
        case NextAction.POLL:
            return _unanswered(state, pending, now, rules)
        case NextAction.DECIDE | NextAction.NONE:
            return None
        case never:
            assert_never(never)


def _unsent(state: JourneyState, pending: Pending, now: datetime) -> Verdict | None:
    # Who gives a letter back makes it due later. What was due before its deadline still lies in the queue.
    given_back = pending.due_at is not None and pending.due_at > pending.deadline_at
    if state.attempts == 0 and not given_back:
        return None
    # Without an attempt it was our own side that could not.
    usual = Reason.PROVIDER_TROUBLE if state.attempts else Reason.DOCUMENT_UNREADABLE
    return journey.decide(pending.status, pending.reason or usual, now)


def _unknown(state: JourneyState, now: datetime, rules: Rules) -> Verdict | None:
    patience = timedelta(seconds=rules.retry.decide_after_s)
    if state.first_attempt_at is not None and now < state.first_attempt_at + patience:
        return None
    return journey.decide(DeliveryStatus.IN_DOUBT, Reason.OUTCOME_UNKNOWN, now)


def _unanswered(state: JourneyState, pending: Pending, now: datetime, rules: Rules) -> Verdict | None:
    if state.channel is not Channel.PRINT:
        # The message has been delivered; only whether paper must follow is open.
        return journey.decide(pending.status, Reason.NO_NEWS, now, message_status=MessageStatus.DELIVERED)
    if pending.status in _IN_THE_POST and not state.registered:
        return Verdict(status=pending.status, message_status=MessageStatus.DELIVERED, next_action=NextAction.NONE)
    if now < pending.deadline_at + timedelta(seconds=rules.poll.print_silent_after_s):
        return None
    return journey.decide(pending.status, Reason.NO_NEWS, now)
