"""
What follows when a provider has said something of a delivery, or nothing.

Pure decisions: each function looks at a `Journey` and returns a `Verdict`. Temporary trouble never ends a letter by
itself: it ends in a person's decision. Another channel, failure and expiry need every earlier attempt to be known not
accepted.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.domain.message import Channel
from gateway.domain.routing import Route, next_channel, unread_rule_applies
from gateway.domain.schedule import TAKEN_UP_WITHIN, PollRules, RetryRules, next_attempt, next_read_poll, send_by
from gateway.domain.status import DeliveryStatus, MessageStatus, NextAction, Reason

_DECISION_TERM = timedelta(days=1)
_ASK_HARDER_EVERY = timedelta(hours=1)  # once the unread term is over and the registry has not answered
_ENDED_AT_HOUSE = frozenset({DeliveryStatus.REJECTED, DeliveryStatus.FAILED, DeliveryStatus.CANCELLED})
_CAME_BACK = frozenset({DeliveryStatus.RETURNED, DeliveryStatus.LOST})
_ON_THE_WAY = frozenset({DeliveryStatus.DISPATCHED, DeliveryStatus.IN_TRANSIT, DeliveryStatus.HELD})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The configured patience."""

    retry: RetryRules
    poll: PollRules


@dataclass(frozen=True, slots=True, kw_only=True)
class JourneyState:
    """
    Where a delivery stands, as far as decisions need it.

    `published_before`: an earlier delivery of the message reached its e-Box. `deadline_at` is the present one. `draw`
    is random in [0, 1).
    """

    channel: Channel
    route: Route
    registered: bool
    attempts: int
    first_attempt_at: datetime | None
    handed_over_at: datetime | None
    posted_at: datetime | None
    deliver_before: datetime | None
    deadline_at: datetime | None
    published_before: bool
    draw: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """
    What becomes of the delivery and its message; `opens` is the channel that takes over. `first_attempt_at` makes the
    time in which it is tried begin anew.
    """

    status: DeliveryStatus
    message_status: MessageStatus
    next_action: NextAction
    due_at: datetime | None = None
    deadline_at: datetime | None = None
    reason: Reason | None = None
    opens: Channel | None = None
    first_attempt_at: datetime | None = None
    handed_over_at: datetime | None = None
    posted_at: datetime | None = None
    read_seen_at: datetime | None = None


def after_handover(
    state: JourneyState, status: DeliveryStatus, reason: Reason | None, now: datetime, rules: Rules
) -> Verdict:
    """The provider holds the delivery, or held it, and says how far it is."""
    if state.channel is Channel.PRINT:
        return _after_print(state, status, now, rules)
    if status is not DeliveryStatus.DELIVERED:
        return after_refusal(state, reason or Reason.REFUSED, status=status)
    opens = next_channel(state.route, state.channel, reason) if reason is not None else None
    if opens is not None:
        return Verdict(
            status=status,
            message_status=MessageStatus.IN_DELIVERY,
            next_action=NextAction.NONE,
            reason=reason,
            opens=opens,
            handed_over_at=now,
        )
    if unread_rule_applies(state.route, state.channel):
        due_at, deadline_at = _read_poll(state.route, now, now, rules)
        return Verdict(
            status=status,
            message_status=MessageStatus.DELIVERED,
            next_action=NextAction.POLL,
            due_at=due_at,
            deadline_at=deadline_at,
            reason=reason,
            handed_over_at=now,
        )
    return Verdict(
        status=status,
        message_status=MessageStatus.DELIVERED,
        next_action=NextAction.NONE,
        reason=reason,
        handed_over_at=now,
    )


def after_read_poll(state: JourneyState, *, read: bool, now: datetime, rules: Rules) -> Verdict:
    """The e-Box registry says whether the recipient has opened the message."""
    handed_over_at = state.handed_over_at or now
    if read or not unread_rule_applies(state.route, state.channel):
        return Verdict(
            status=DeliveryStatus.DELIVERED,
            message_status=MessageStatus.DELIVERED,
            next_action=NextAction.NONE,
            read_seen_at=now if read else None,
        )
    due_at, deadline_at = _read_poll(state.route, handed_over_at, now, rules)
    if state.route.unread_after is not None and now >= handed_over_at + state.route.unread_after:
        return unread(state)
    return Verdict(
        status=DeliveryStatus.DELIVERED,
        message_status=MessageStatus.DELIVERED,
        next_action=NextAction.POLL,
        due_at=due_at,
        deadline_at=deadline_at,
    )


def after_silent_poll(state: JourneyState, status: DeliveryStatus, now: datetime, rules: Rules) -> Verdict:
    """The provider could not be asked how far the delivery is: ask again later, nothing has changed."""
    if state.channel is Channel.PRINT:
        return _after_print(state, status, now, rules)
    handed_over_at = state.handed_over_at or now
    due_at, deadline_at = _read_poll(state.route, handed_over_at, now, rules)
    # Past the unread term the question stays open until it is answered: paper is never sent on a guess.
    if now >= handed_over_at + (state.route.unread_after or timedelta(0)):
        due_at = min(due_at, now + _ASK_HARDER_EVERY)
    return Verdict(
        status=status,
        message_status=MessageStatus.DELIVERED,
        next_action=NextAction.POLL,
        due_at=max(due_at, now + timedelta(seconds=rules.retry.first_delay_s)),
        deadline_at=max(deadline_at, state.deadline_at or deadline_at),
    )


def after_refusal(state: JourneyState, reason: Reason, *, status: DeliveryStatus = DeliveryStatus.REJECTED) -> Verdict:
    """The provider will never take it: the next channel, where a rule says so, else the end."""
    opens = next_channel(state.route, state.channel, reason)
    if opens is not None:
        message_status = MessageStatus.IN_DELIVERY
    elif state.published_before:
        message_status = MessageStatus.DELIVERED
    else:
        message_status = MessageStatus.UNDELIVERABLE
    return Verdict(
        status=status, message_status=message_status, next_action=NextAction.NONE, reason=reason, opens=opens
    )


def after_unreachable(
    state: JourneyState,
    now: datetime,
    rules: Rules,
    *,
    wish_s: float | None = None,
    reason: Reason = Reason.PROVIDER_TROUBLE,
) -> Verdict:
    """Surely nothing was handed over: try again later, until a person must look."""
    first_attempt_at = state.first_attempt_at or now
    deadline_at = send_by(first_attempt_at, state.deliver_before, rules.retry)
    due_at = next_attempt(
        state.attempts, first_attempt_at=first_attempt_at, now=now, rules=rules.retry, draw=state.draw, wish_s=wish_s
    )
    if state.deliver_before is not None and deadline_at == state.deliver_before:
        due_at = min(due_at or deadline_at, deadline_at)  # then it expires: it surely was not handed over
    if due_at is None:
        return decide(DeliveryStatus.WAITING, reason, now)
    return Verdict(
        status=DeliveryStatus.WAITING,
        message_status=MessageStatus.IN_DELIVERY,
        next_action=NextAction.SEND,
        due_at=due_at,
        deadline_at=deadline_at,
        reason=reason,
    )


def after_unknown(state: JourneyState, now: datetime, rules: Rules, *, can_reconcile: bool) -> Verdict:
    """It may have arrived: find out, or let a person decide."""
    due_at = next_attempt(
        state.attempts, first_attempt_at=state.first_attempt_at or now, now=now, rules=rules.retry, draw=state.draw
    )
    if due_at is None or not can_reconcile:
        return decide(DeliveryStatus.IN_DOUBT, Reason.OUTCOME_UNKNOWN, now)
    return Verdict(
        status=DeliveryStatus.IN_DOUBT,
        message_status=MessageStatus.IN_DELIVERY,
        next_action=NextAction.RECONCILE,
        due_at=due_at,
        deadline_at=(state.first_attempt_at or now) + timedelta(seconds=rules.retry.decide_after_s),
        reason=Reason.OUTCOME_UNKNOWN,
    )


def after_surely_absent(state: JourneyState, now: datetime, rules: Rules) -> Verdict:
    """The provider has never seen it: it waits to be sent, now."""
    deadline_at = send_by(state.first_attempt_at or now, state.deliver_before, rules.retry)
    return Verdict(
        status=DeliveryStatus.WAITING,
        message_status=MessageStatus.IN_DELIVERY,
        next_action=NextAction.SEND,
        due_at=now,
        deadline_at=max(deadline_at, now + TAKEN_UP_WITHIN),  # there is always time for the call that it was found for
    )


def sent_anew(state: JourneyState, now: datetime, rules: Rules, *, reason: Reason | None) -> Verdict:
    """A person says that the provider surely does not have it: it is sent now, and has all the time of a new letter."""
    return Verdict(
        status=DeliveryStatus.WAITING,
        message_status=MessageStatus.IN_DELIVERY,
        next_action=NextAction.SEND,
        due_at=now,
        deadline_at=send_by(now, state.deliver_before, rules.retry),
        reason=reason,
        first_attempt_at=now,
    )


def confirmed(state: JourneyState, status: DeliveryStatus, now: datetime, rules: Rules) -> Verdict:
    """A person says that the provider, which told nothing for too long, does have it: it is watched on."""
    at_ebox = state.channel is not Channel.PRINT
    return Verdict(
        status=status,
        message_status=MessageStatus.DELIVERED if at_ebox else MessageStatus.IN_DELIVERY,
        next_action=NextAction.POLL,
        due_at=now,
        deadline_at=now + (_DECISION_TERM if at_ebox else timedelta(seconds=rules.poll.print_silent_after_s)),
    )


def unread(state: JourneyState) -> Verdict:
    """Nobody opened the e-Box message in time: the next channel takes over."""
    return Verdict(
        status=DeliveryStatus.DELIVERED,
        message_status=MessageStatus.IN_DELIVERY,
        next_action=NextAction.NONE,
        reason=Reason.UNREAD,
        opens=next_channel(state.route, state.channel, Reason.UNREAD),
    )


def after_quota(message_status: MessageStatus, state: JourneyState, *, next_day_at: datetime) -> Verdict:
    """Today's quota of paper is used up: it waits, as it is, for the next day or its last moment."""
    due_at, deadline_at = next_day_at, next_day_at + _DECISION_TERM
    if state.deliver_before is not None:
        due_at, deadline_at = min(due_at, state.deliver_before), min(deadline_at, state.deliver_before)
    return Verdict(
        status=DeliveryStatus.WAITING,
        message_status=message_status,
        next_action=NextAction.SEND,
        due_at=due_at,
        deadline_at=deadline_at,
        reason=Reason.QUOTA_EXCEEDED,
    )


def never_sent(state: JourneyState, reason: Reason) -> Verdict:
    """Its time or its right has ended before it was handed over."""
    if state.published_before:
        message_status = MessageStatus.DELIVERED
    else:
        message_status = MessageStatus.EXPIRED if reason is Reason.EXPIRED else MessageStatus.UNDELIVERABLE
    return Verdict(
        status=DeliveryStatus.FAILED, message_status=message_status, next_action=NextAction.NONE, reason=reason
    )


def _after_print(state: JourneyState, status: DeliveryStatus, now: datetime, rules: Rules) -> Verdict:
    if status in _ENDED_AT_HOUSE:
        return after_refusal(state, Reason.REFUSED, status=status)
    if status in _CAME_BACK:
        return Verdict(status=status, message_status=MessageStatus.RETURNED, next_action=NextAction.NONE)
    handed_over_at = state.handed_over_at or now
    first_handed_over = None if state.handed_over_at is not None else now
    if status is DeliveryStatus.DELIVERED:
        return Verdict(
            status=status,
            message_status=MessageStatus.DELIVERED,
            next_action=NextAction.NONE,
            handed_over_at=first_handed_over,
            posted_at=None if state.posted_at is not None and not state.registered else now,
        )
    if status in _ON_THE_WAY and not state.registered:
        posted_at = state.posted_at or now
        watch_until = posted_at + timedelta(seconds=rules.poll.returned_watch_s)
        next_poll = now + timedelta(seconds=rules.poll.returned_every_s)
        watching = next_poll <= watch_until
        return Verdict(
            status=status,
            message_status=MessageStatus.DELIVERED,
            next_action=NextAction.POLL if watching else NextAction.NONE,
            due_at=next_poll if watching else None,
            deadline_at=watch_until + timedelta(days=1) if watching else None,
            handed_over_at=first_handed_over,
            posted_at=None if state.posted_at is not None else now,
        )
    # The post may hold a registered letter for weeks.
    patience_s = rules.poll.returned_watch_s if status in _ON_THE_WAY else rules.poll.print_silent_after_s
    deadline_at = handed_over_at + timedelta(seconds=patience_s)
    if state.handed_over_at is not None and state.deadline_at is not None:
        deadline_at = max(deadline_at, state.deadline_at)  # a person who asked may have granted more time
    return Verdict(
        status=status,
        message_status=MessageStatus.IN_DELIVERY,
        next_action=NextAction.POLL,
        due_at=now + timedelta(seconds=rules.poll.print_s),
        deadline_at=deadline_at,
        handed_over_at=first_handed_over,
    )


def _read_poll(route: Route, handed_over_at: datetime, now: datetime, rules: Rules) -> tuple[datetime, datetime]:
    """Return when to ask next, never later than the unread term, and from when on it is late that no end came."""
    due_at = next_read_poll(handed_over_at, now, rules.poll)
    ends_at = handed_over_at + (route.unread_after or timedelta(0))
    if now < ends_at:
        due_at = min(due_at, ends_at)
    return due_at, ends_at + timedelta(days=1)


def decide(
    status: DeliveryStatus,
    reason: Reason,
    now: datetime,
    *,
    message_status: MessageStatus = MessageStatus.NEEDS_DECISION,
) -> Verdict:
    """Nothing can be done any more that is surely right: a person decides."""
    return Verdict(
        status=status,
        message_status=message_status,
        next_action=NextAction.DECIDE,
        deadline_at=now + _DECISION_TERM,
        reason=reason,
    )
