import inspect
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import journey
from gateway.domain.deadlines import (
    BLOB_DUTY,
    CARE,
    COPY_DUTY,
    DUTIES,
    Duty,
    MessageCare,
    Owner,
    Pending,
    after_deadline,
    duty_of,
)
from gateway.domain.journey import JourneyState, Rules, Verdict
from gateway.domain.message import Channel
from gateway.domain.retention import CopyState, Journey, keep_copy
from gateway.domain.routing import Route, unread_rule_applies
from gateway.domain.schedule import TAKEN_UP_WITHIN, PollRules, RetryRules, send_by
from gateway.domain.status import (
    DELIVERY_MOVES,
    DeliveryStatus,
    MessageStatus,
    NextAction,
    Reason,
    advance_delivery,
    advance_message,
    is_final,
)

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
RULES = Rules(retry=RetryRules(), poll=PollRules())
PAGE = Path(__file__).parents[2] / "docs" / "deadlines.md"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MOMENT = timedelta(milliseconds=1)
UNKNOWN_TO_PROVIDER = (DeliveryStatus.WAITING, DeliveryStatus.DISPATCHING, DeliveryStatus.IN_DOUBT)
TOLD = [status for status in DeliveryStatus if status not in UNKNOWN_TO_PROVIDER]
HELD = [status for (status, action) in DUTIES if action is NextAction.POLL]

PRINT = JourneyState(
    channel=Channel.PRINT,
    route=Route(channels=(Channel.EBOX_CITIZEN, Channel.PRINT), unread_after=15 * DAY),
    registered=False,
    attempts=3,
    first_attempt_at=NOW - HOUR,
    handed_over_at=None,
    posted_at=None,
    deliver_before=None,
    deadline_at=None,
    published_before=False,
    draw=0.5,
)
EBOX = replace(PRINT, channel=Channel.EBOX_CITIZEN)
SEND = Pending(
    status=DeliveryStatus.WAITING,
    action=NextAction.SEND,
    reason=Reason.PROVIDER_TROUBLE,
    due_at=NOW - HOUR,
    deadline_at=NOW,
)
ONCE_LATE = NOW + TAKEN_UP_WITHIN

moments = st.integers(-60 * 86_400, 60 * 86_400).map(lambda seconds: NOW + timedelta(seconds=seconds))
past = st.none() | st.integers(0, 60 * 86_400).map(lambda seconds: NOW - timedelta(seconds=seconds))
states = st.builds(
    JourneyState,
    channel=st.sampled_from(Channel),
    route=st.builds(
        Route,
        channels=st.permutations(list(Channel)).map(tuple),
        fallback=st.frozensets(st.sampled_from([Reason.NO_CONSENT, Reason.NO_DIGITAL_USER, Reason.REFUSED])),
        unread_after=st.none() | st.integers(1, 40).map(lambda days: timedelta(days=days)),
    ),
    registered=st.booleans(),
    attempts=st.integers(0, 40),
    first_attempt_at=past,
    handed_over_at=past,
    posted_at=past,
    deliver_before=st.none() | moments,
    deadline_at=st.none() | moments,
    published_before=st.booleans(),
    draw=st.floats(0, 1, exclude_max=True),
)
reasons = st.none() | st.sampled_from(Reason)


def pendings() -> st.SearchStrategy[Pending]:
    return st.builds(
        lambda state, reason, due_at, deadline_at: Pending(
            status=state[0], action=state[1], reason=reason, due_at=due_at, deadline_at=deadline_at
        ),
        st.sampled_from(list(DUTIES)),
        reasons,
        st.none() | moments,
        moments,
    )


# Every function of the journey that gives a verdict, with what it may be asked; None: it says that nothing changes.
Asked = Callable[[st.DataObject, JourneyState], Verdict | None]
VERDICTS: dict[str, Asked] = {
    "after_handover": lambda data, state: journey.after_handover(
        state, data.draw(st.sampled_from(TOLD)), data.draw(reasons), NOW, RULES
    ),
    "after_read_poll": lambda data, state: journey.after_read_poll(
        ebox(state), read=data.draw(st.booleans()), now=NOW, rules=RULES
    ),
    "after_silent_poll": lambda data, state: journey.after_silent_poll(
        state,
        DeliveryStatus.DELIVERED if state.channel is not Channel.PRINT else data.draw(st.sampled_from(HELD)),
        NOW,
        RULES,
    ),
    "after_refusal": lambda data, state: journey.after_refusal(state, data.draw(st.sampled_from(Reason))),
    "after_unreachable": lambda data, state: journey.after_unreachable(
        state, NOW, RULES, wish_s=data.draw(st.none() | st.floats(0, 1e6))
    ),
    "after_unknown": lambda data, state: journey.after_unknown(
        state, NOW, RULES, can_reconcile=data.draw(st.booleans())
    ),
    "after_surely_absent": lambda _data, state: journey.after_surely_absent(state, NOW, RULES),
    "sent_anew": lambda data, state: journey.sent_anew(state, NOW, RULES, reason=data.draw(reasons)),
    "confirmed": lambda data, state: journey.confirmed(
        state,
        DeliveryStatus.DELIVERED if state.channel is not Channel.PRINT else data.draw(st.sampled_from(HELD)),
        NOW,
        RULES,
    ),
    "unread": lambda _data, state: journey.unread(unread_rule(state)),
    "after_quota": lambda _data, state: journey.after_quota(MessageStatus.ACCEPTED, state, next_day_at=NOW + HOUR),
    "never_sent": lambda data, state: journey.never_sent(
        state, data.draw(st.sampled_from([Reason.EXPIRED, Reason.DOSSIER_ENDED]))
    ),
    "decide": lambda data, _state: journey.decide(data.draw(st.sampled_from([*HELD, *UNKNOWN_TO_PROVIDER[::2]])),
                                                  Reason.NO_NEWS, NOW),
    "after_deadline": lambda data, state: after_deadline(state, data.draw(pendings()), NOW, RULES),
}  # fmt: skip


def ebox(state: JourneyState) -> JourneyState:
    return state if state.channel is not Channel.PRINT else replace(state, channel=Channel.EBOX_CITIZEN)


def unread_rule(state: JourneyState) -> JourneyState:
    route = replace(state.route, channels=(Channel.EBOX_CITIZEN, Channel.PRINT), unread_after=DAY)
    return replace(state, channel=Channel.EBOX_CITIZEN, route=route)


def test_every_function_that_gives_a_verdict_is_walked():
    functions = {name: each for name, each in inspect.getmembers(journey, inspect.isfunction) if name[0] != "_"}
    own = {name for name, each in functions.items() if each.__module__ == journey.__name__}
    given_verdicts = {name for name in own if functions[name].__annotations__["return"] is Verdict}
    assert given_verdicts | {"after_deadline"} == set(VERDICTS)


@pytest.mark.parametrize("name", VERDICTS)
@given(data=st.data(), state=states)
def test_what_has_not_ended_has_an_owner_a_time_and_a_deadline(name, data, state):
    verdict = VERDICTS[name](data, state)
    if verdict is None:
        return
    if verdict.next_action is NextAction.NONE:
        assert (verdict.due_at, verdict.deadline_at) == (None, None)
        return
    assert (verdict.status, verdict.next_action) in DUTIES
    assert verdict.deadline_at is not None
    assert verdict.opens is None
    assert (verdict.due_at is None) == (verdict.next_action is NextAction.DECIDE)


@pytest.mark.parametrize("name", VERDICTS)
@given(data=st.data(), state=states)
def test_no_message_is_forgotten(name, data, state):
    verdict = VERDICTS[name](data, state)
    if verdict is None:
        return
    match CARE[verdict.message_status]:
        case MessageCare.DELIVERY:
            assert verdict.next_action is not NextAction.NONE or verdict.opens is not None
        case MessageCare.CLOSED:
            assert (verdict.next_action, verdict.opens) == (NextAction.NONE, None)
        case MessageCare.COPY:
            assert verdict.opens is None


@given(
    st.sampled_from(MessageStatus),
    st.lists(
        st.builds(
            Journey,
            channel=st.sampled_from(Channel),
            status=st.sampled_from(DeliveryStatus),
            registered=st.booleans(),
            may_fall_back=st.booleans(),
            posted_at=past,
        ),
        max_size=3,
    ),
)
def test_documents_have_a_date_of_erasure_or_a_delivery_that_may_need_them(status, journeys):
    keep = keep_copy(status, journeys, retention=90 * DAY, keep_undelivered=30 * DAY, now=NOW)
    open_still = CARE[status] is MessageCare.DELIVERY
    may_be_needed = CARE[status] is MessageCare.COPY and any(each.may_fall_back for each in journeys)
    if open_still or may_be_needed:
        assert (keep.state, keep.until) == (CopyState.IN_DELIVERY, None)
    else:
        assert keep.state in (CopyState.KEPT, CopyState.AWAITING_ERASURE)
        assert keep.until is not None


def test_every_message_status_has_its_care_and_only_the_final_ones_are_closed():
    assert set(CARE) == set(MessageStatus)
    assert {status for status, care in CARE.items() if care is MessageCare.CLOSED} == {
        status for status in MessageStatus if is_final(status)
    }


def test_a_status_that_no_move_leaves_owes_nothing():
    ended = {status for status in DeliveryStatus if not DELIVERY_MOVES[status]} | {DeliveryStatus.LOST}
    assert ended.isdisjoint(status for status, _ in DUTIES)
    assert {status for status, _ in DUTIES} | ended == set(DeliveryStatus)


@given(states, pendings(), moments)
def test_what_follows_a_deadline_is_a_move_that_is_allowed(state, pending, now):
    verdict = after_deadline(state, pending, now, RULES)
    if verdict is not None:
        advance_delivery(pending.status, verdict.status)
        delivered = pending.status in HELD and verdict.message_status is MessageStatus.DELIVERED
        advance_message(MessageStatus.DELIVERED if delivered else MessageStatus.IN_DELIVERY, verdict.message_status)


@given(states, pendings(), moments)
def test_a_deadline_ends_nothing_that_a_provider_may_hold_and_sends_nothing(state, pending, now):
    verdict = after_deadline(state, pending, now, RULES)
    if verdict is None:
        return
    assert verdict.opens is None
    assert verdict.next_action in (NextAction.DECIDE, NextAction.NONE)
    if verdict.status is DeliveryStatus.FAILED:
        assert (pending.status, verdict.reason) == (DeliveryStatus.WAITING, Reason.EXPIRED)
        assert state.deliver_before <= now


@given(states, pendings(), moments)
def test_what_a_person_does_not_decide_stays_as_it_is(state, pending, now):
    if pending.action is NextAction.DECIDE:
        assert after_deadline(state, pending, now, RULES) is None


# ── one by one ──


def test_a_letter_expires_at_its_last_moment_and_not_before():
    last_moment = replace(PRINT, deliver_before=NOW)
    assert after_deadline(last_moment, SEND, NOW - MOMENT, RULES) is None
    verdict = after_deadline(last_moment, SEND, NOW, RULES)
    assert verdict is not None
    assert (verdict.message_status, verdict.reason) == (MessageStatus.EXPIRED, Reason.EXPIRED)


@pytest.mark.parametrize(
    ("attempts", "due_at", "reason"),
    [
        pytest.param(3, NOW - HOUR, Reason.PROVIDER_TROUBLE, id="tried in vain"),
        pytest.param(0, NOW + MOMENT, Reason.DOCUMENT_UNREADABLE, id="given back again and again"),
        pytest.param(0, NOW, None, id="nobody took it"),
    ],
)
def test_only_what_somebody_tried_is_put_before_a_person(attempts, due_at, reason):
    state, pending = replace(PRINT, attempts=attempts), replace(SEND, due_at=due_at, reason=None)
    assert after_deadline(state, pending, ONCE_LATE - MOMENT, RULES) is None
    verdict = after_deadline(state, pending, ONCE_LATE, RULES)
    assert (verdict.reason if verdict is not None else None) == reason
    if verdict is not None:
        assert (verdict.status, verdict.next_action) == (DeliveryStatus.WAITING, NextAction.DECIDE)


def test_the_reason_of_earlier_trouble_stays():
    pending = replace(SEND, reason=Reason.DOCUMENT_UNREADABLE)
    verdict = after_deadline(PRINT, pending, ONCE_LATE, RULES)
    assert verdict is not None
    assert verdict.reason is Reason.DOCUMENT_UNREADABLE


@pytest.mark.parametrize("status", [DeliveryStatus.DISPATCHING, DeliveryStatus.IN_DOUBT])
def test_a_doubt_is_a_persons_once_there_was_time_enough_to_find_out(status):
    pending = replace(SEND, status=status, action=NextAction.RECONCILE)
    young = replace(PRINT, first_attempt_at=ONCE_LATE - 2 * DAY + MOMENT)
    assert after_deadline(young, pending, ONCE_LATE, RULES) is None
    verdict = after_deadline(replace(PRINT, first_attempt_at=ONCE_LATE - 2 * DAY), pending, ONCE_LATE, RULES)
    assert verdict is not None
    assert (verdict.status, verdict.next_action) == (DeliveryStatus.IN_DOUBT, NextAction.DECIDE)
    assert (verdict.message_status, verdict.reason) == (MessageStatus.NEEDS_DECISION, Reason.OUTCOME_UNKNOWN)


@pytest.mark.parametrize("status", ["accepted", "printed", "enclosed", "dispatched", "in_transit", "held"])
def test_a_provider_without_news_is_asked_on_and_then_a_person(status):
    state = replace(PRINT, registered=True)
    pending = replace(SEND, status=DeliveryStatus(status), action=NextAction.POLL)
    person_at = NOW + timedelta(seconds=RULES.poll.print_silent_after_s)
    assert after_deadline(state, pending, person_at - MOMENT, RULES) is None
    verdict = after_deadline(state, pending, person_at, RULES)
    assert verdict is not None
    assert (verdict.status, verdict.next_action, verdict.reason) == (status, NextAction.DECIDE, Reason.NO_NEWS)
    assert verdict.message_status is MessageStatus.NEEDS_DECISION


def test_a_standard_letter_is_watched_no_more():
    pending = replace(SEND, status=DeliveryStatus.DISPATCHED, action=NextAction.POLL)
    verdict = after_deadline(PRINT, pending, ONCE_LATE, RULES)
    assert verdict is not None
    assert (verdict.status, verdict.next_action) == (DeliveryStatus.DISPATCHED, NextAction.NONE)
    assert verdict.message_status is MessageStatus.DELIVERED


def test_whether_an_ebox_message_was_read_is_a_persons_to_find_out_and_the_message_stays_delivered():
    pending = replace(SEND, status=DeliveryStatus.DELIVERED, action=NextAction.POLL)
    verdict = after_deadline(EBOX, pending, ONCE_LATE, RULES)
    assert verdict is not None
    assert (verdict.status, verdict.next_action) == (DeliveryStatus.DELIVERED, NextAction.DECIDE)
    assert (verdict.message_status, verdict.opens) == (MessageStatus.DELIVERED, None)
    assert unread_rule_applies(EBOX.route, EBOX.channel)


# ── deadlines that are given ──


def test_a_letter_has_48_hours_and_at_most_until_its_last_moment():
    assert send_by(NOW, None, RULES.retry) == NOW + 2 * DAY
    assert send_by(NOW, NOW + HOUR, RULES.retry) == NOW + HOUR
    assert send_by(NOW, NOW + 9 * DAY, RULES.retry) == NOW + 2 * DAY


def test_a_last_moment_far_away_does_not_stop_the_trying_or_keep_a_person_waiting():
    far = replace(PRINT, deliver_before=NOW + 30 * DAY)
    soon = journey.after_unreachable(far, NOW, RULES)
    assert soon.due_at is not None
    assert soon.due_at < NOW + HOUR
    worn = journey.after_unreachable(replace(far, first_attempt_at=NOW - 2 * DAY), NOW, RULES)
    assert (worn.next_action, worn.message_status) == (NextAction.DECIDE, MessageStatus.NEEDS_DECISION)


def test_a_letter_that_expires_before_its_last_try_waits_for_that_moment():
    near = replace(PRINT, first_attempt_at=NOW - 47 * HOUR, attempts=12, deliver_before=NOW + HOUR)
    verdict = journey.after_unreachable(near, NOW, RULES)
    assert (verdict.next_action, verdict.due_at, verdict.deadline_at) == (NextAction.SEND, NOW + HOUR, NOW + HOUR)


def test_what_a_person_found_absent_has_all_the_time_of_a_new_letter():
    old = replace(PRINT, first_attempt_at=NOW - 40 * DAY)
    verdict = journey.sent_anew(old, NOW, RULES, reason=None)
    assert (verdict.first_attempt_at, verdict.deadline_at) == (NOW, NOW + 2 * DAY)
    fresh = replace(old, first_attempt_at=verdict.first_attempt_at)
    assert journey.after_unreachable(fresh, NOW + HOUR, RULES).next_action is NextAction.SEND
    assert journey.after_unreachable(old, NOW + HOUR, RULES).next_action is NextAction.DECIDE


def test_what_the_provider_says_is_absent_has_what_is_left_of_its_time():
    state = replace(PRINT, first_attempt_at=NOW - DAY)
    assert journey.after_surely_absent(state, NOW, RULES).deadline_at == NOW + DAY
    worn = replace(PRINT, first_attempt_at=NOW - 9 * DAY)
    assert journey.after_surely_absent(worn, NOW, RULES).deadline_at == NOW + TAKEN_UP_WITHIN


def test_time_that_a_person_granted_outlives_the_next_look():
    at_house = replace(PRINT, handed_over_at=NOW - 10 * DAY)
    granted = journey.confirmed(at_house, DeliveryStatus.PRINTED, NOW, RULES).deadline_at
    assert granted == NOW + 5 * DAY
    looked = journey.after_handover(
        replace(at_house, deadline_at=granted), DeliveryStatus.PRINTED, None, NOW + HOUR, RULES
    )
    assert looked.deadline_at == granted
    silent = journey.after_silent_poll(
        replace(EBOX, handed_over_at=NOW - 17 * DAY, deadline_at=NOW + DAY), DeliveryStatus.DELIVERED, NOW, RULES
    )
    assert silent.deadline_at == NOW + DAY


def test_a_registered_letter_in_the_post_is_not_late_while_the_post_may_hold_it():
    registered = replace(PRINT, registered=True, handed_over_at=NOW - 6 * DAY)
    verdict = journey.after_handover(registered, DeliveryStatus.HELD, None, NOW, RULES)
    assert verdict.deadline_at == NOW + 24 * DAY


def test_a_registry_that_does_not_answer_is_asked_hourly_once_the_term_is_over():
    state = replace(EBOX, handed_over_at=NOW - 15 * DAY)
    assert journey.after_silent_poll(state, DeliveryStatus.DELIVERED, NOW, RULES).due_at == NOW + HOUR
    early = replace(EBOX, handed_over_at=NOW - 13 * DAY)
    assert journey.after_silent_poll(early, DeliveryStatus.DELIVERED, NOW, RULES).due_at == NOW + DAY


# ── the page for people ──


def cells(state: str, duty: Duty) -> str:
    return f"| {state} | {duty.owner} | {duty.deadline} | {duty.then} |"


def table() -> list[str]:
    """Return the table of the page, by the domain: states with the same duty share a line."""
    lines = ["| State | Owner | Deadline | What happens then |", "|---|---|---|---|"]
    for duty in dict.fromkeys(DUTIES.values()):
        found = [(status, action) for (status, action), each in DUTIES.items() if each is duty]
        statuses = ", ".join(f"`{status}`" for status, _ in found)
        lines.append(cells(f"{statuses}; next: `{found[0][1]}`", duty))
    lines.append(cells("documents of a message, `kept` or `awaiting-erasure`", COPY_DUTY))
    lines.append(cells("a blob whose key is destroyed", BLOB_DUTY))
    return lines


def test_the_page_holds_the_table():
    shown = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("|")]
    assert shown == table()


def test_states_that_share_a_duty_share_the_next_action():
    for duty in dict.fromkeys(DUTIES.values()):
        assert len({action for (_, action), each in DUTIES.items() if each is duty}) == 1


def test_a_state_of_a_newer_program_has_no_duty_here():
    assert duty_of("waiting", "send") is DUTIES[DeliveryStatus.WAITING, NextAction.SEND]
    assert duty_of("in-orbit", "send") is None
    assert {duty.owner for duty in [*DUTIES.values(), COPY_DUTY]} == set(Owner)
