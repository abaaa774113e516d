from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import journey
from gateway.domain.journey import JourneyState, Rules
from gateway.domain.message import Channel
from gateway.domain.routing import Route
from gateway.domain.schedule import PollRules, RetryRules
from gateway.domain.status import (
    DELIVERY_MOVES,
    DeliveryStatus,
    MessageStatus,
    NextAction,
    Reason,
)

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
RULES = Rules(retry=RetryRules(), poll=PollRules())
ROUTE = Route(
    channels=(Channel.EBOX_CITIZEN, Channel.PRINT),
    fallback=frozenset({"no-consent", "no-digital-user", "refused"}),
    providers={Channel.EBOX_CITIZEN: "bosa", Channel.PRINT: "house-a"},
)
EBOX = JourneyState(
    channel=Channel.EBOX_CITIZEN,
    route=ROUTE,
    registered=False,
    attempts=1,
    first_attempt_at=NOW,
    handed_over_at=None,
    posted_at=None,
    deliver_before=None,
    deadline_at=None,
    published_before=False,
    draw=0.5,
)
PRINT = replace(EBOX, channel=Channel.PRINT)
UNREAD = replace(EBOX, route=replace(ROUTE, unread_after=timedelta(days=15)), handed_over_at=NOW)


def test_publishing_to_an_ebox_delivers_the_message():
    verdict = journey.after_handover(EBOX, DeliveryStatus.DELIVERED, None, NOW, RULES)
    assert (verdict.message_status, verdict.next_action) == (MessageStatus.DELIVERED, NextAction.NONE)
    assert verdict.handed_over_at == NOW


def test_a_box_never_opened_sends_paper_as_well():
    verdict = journey.after_handover(EBOX, DeliveryStatus.DELIVERED, Reason.NO_DIGITAL_USER, NOW, RULES)
    assert verdict.opens is Channel.PRINT
    assert verdict.status is DeliveryStatus.DELIVERED
    assert verdict.message_status is MessageStatus.IN_DELIVERY


def test_a_box_never_opened_is_enough_where_no_rule_says_paper():
    quiet = replace(EBOX, route=replace(ROUTE, fallback=frozenset()))
    verdict = journey.after_handover(quiet, DeliveryStatus.DELIVERED, Reason.NO_DIGITAL_USER, NOW, RULES)
    assert verdict.opens is None
    assert verdict.message_status is MessageStatus.DELIVERED


def test_an_unread_rule_keeps_asking_and_never_later_than_its_term():
    first = journey.after_handover(UNREAD, DeliveryStatus.DELIVERED, None, NOW, RULES)
    assert (first.next_action, first.due_at) == (NextAction.POLL, NOW + timedelta(hours=1))
    late = NOW + timedelta(days=14, hours=20)
    again = journey.after_read_poll(UNREAD, read=False, now=late, rules=RULES)
    assert again.due_at == NOW + timedelta(days=15)


def test_read_ends_the_wait():
    verdict = journey.after_read_poll(UNREAD, read=True, now=NOW, rules=RULES)
    assert (verdict.next_action, verdict.opens, verdict.read_seen_at) == (NextAction.NONE, None, NOW)


def test_unread_at_its_term_opens_the_next_channel():
    verdict = journey.after_read_poll(UNREAD, read=False, now=NOW + timedelta(days=15), rules=RULES)
    assert (verdict.opens, verdict.reason) == (Channel.PRINT, Reason.UNREAD)
    assert verdict.message_status is MessageStatus.IN_DELIVERY


def test_paper_is_not_sent_because_the_registry_did_not_answer():
    late = NOW + timedelta(days=16)
    verdict = journey.after_silent_poll(UNREAD, DeliveryStatus.DELIVERED, late, RULES)
    assert verdict.opens is None
    assert verdict.next_action is NextAction.POLL
    assert verdict.due_at is not None
    assert verdict.due_at > late


@pytest.mark.parametrize(("reason", "opens"), [(Reason.NO_CONSENT, Channel.PRINT), (Reason.NO_BOX, None)])
def test_a_refusal_falls_back_only_by_rule(reason, opens):
    verdict = journey.after_refusal(EBOX, reason)
    assert verdict.opens is opens
    assert verdict.message_status is (MessageStatus.IN_DELIVERY if opens else MessageStatus.UNDELIVERABLE)


def test_a_refused_print_after_a_published_ebox_leaves_the_message_delivered():
    verdict = journey.after_refusal(replace(PRINT, published_before=True), Reason.REFUSED)
    assert verdict.message_status is MessageStatus.DELIVERED


def test_trouble_is_tried_again_and_then_put_before_a_person_never_failed():
    soon = journey.after_unreachable(EBOX, NOW, RULES)
    assert (soon.status, soon.next_action) == (DeliveryStatus.WAITING, NextAction.SEND)
    worn = journey.after_unreachable(replace(EBOX, first_attempt_at=NOW - timedelta(hours=48)), NOW, RULES)
    assert (worn.message_status, worn.next_action) == (MessageStatus.NEEDS_DECISION, NextAction.DECIDE)


def test_deliver_before_bounds_the_next_try():
    bounded = replace(EBOX, deliver_before=NOW + timedelta(seconds=10))
    assert journey.after_unreachable(bounded, NOW, RULES).due_at == NOW + timedelta(seconds=10)


def test_doubt_is_reconciled_or_decided_never_sent_on():
    verdict = journey.after_unknown(EBOX, NOW, RULES, can_reconcile=True)
    assert (verdict.status, verdict.next_action, verdict.opens) == (
        DeliveryStatus.IN_DOUBT,
        NextAction.RECONCILE,
        None,
    )
    hopeless = journey.after_unknown(EBOX, NOW, RULES, can_reconcile=False)
    assert (hopeless.status, hopeless.next_action) == (DeliveryStatus.IN_DOUBT, NextAction.DECIDE)


@pytest.mark.parametrize(
    ("registered", "status", "message_status", "posted"),
    [
        (False, DeliveryStatus.ACCEPTED, MessageStatus.IN_DELIVERY, False),
        (False, DeliveryStatus.PRINTED, MessageStatus.IN_DELIVERY, False),
        (False, DeliveryStatus.DISPATCHED, MessageStatus.DELIVERED, True),
        (True, DeliveryStatus.DISPATCHED, MessageStatus.IN_DELIVERY, False),
        (True, DeliveryStatus.DELIVERED, MessageStatus.DELIVERED, True),
        (False, DeliveryStatus.RETURNED, MessageStatus.RETURNED, False),
        (True, DeliveryStatus.LOST, MessageStatus.RETURNED, False),
        (False, DeliveryStatus.FAILED, MessageStatus.UNDELIVERABLE, False),
    ],
)
def test_what_a_print_house_says_becomes_the_message_status(registered, status, message_status, posted):
    verdict = journey.after_handover(replace(PRINT, registered=registered), status, None, NOW, RULES)
    assert verdict.message_status is message_status
    assert (verdict.posted_at is not None) is posted


def test_the_term_of_a_copy_starts_once():
    before = NOW - timedelta(days=1)
    state = replace(PRINT, handed_over_at=before, posted_at=before)
    assert journey.after_handover(state, DeliveryStatus.IN_TRANSIT, None, NOW, RULES).posted_at is None
    assert journey.after_handover(state, DeliveryStatus.DELIVERED, None, NOW, RULES).posted_at is None


def test_a_dispatched_letter_is_watched_for_its_return_and_not_for_ever():
    fresh = journey.after_handover(PRINT, DeliveryStatus.DISPATCHED, None, NOW, RULES)
    assert fresh.next_action is NextAction.POLL
    old = replace(PRINT, posted_at=NOW - timedelta(days=31), handed_over_at=NOW - timedelta(days=32))
    assert journey.after_handover(old, DeliveryStatus.DISPATCHED, None, NOW, RULES).next_action is NextAction.NONE


@given(
    st.sampled_from([EBOX, PRINT, UNREAD, replace(PRINT, registered=True), replace(EBOX, published_before=True)]),
    st.sampled_from([status for status in DeliveryStatus if status not in ("waiting", "dispatching", "in-doubt")]),
    st.sampled_from([None, Reason.NO_DIGITAL_USER, Reason.REFUSED]),
)
def test_every_verdict_has_an_action_with_a_time_and_a_deadline_or_has_ended(state, status, reason):
    verdict = journey.after_handover(state, status, reason, NOW, RULES)
    if verdict.next_action is NextAction.NONE:
        assert verdict.due_at is None
    else:
        assert verdict.due_at is not None
        assert verdict.due_at > NOW
        assert verdict.deadline_at is not None
    assert verdict.status in DELIVERY_MOVES[DeliveryStatus.DISPATCHING]
