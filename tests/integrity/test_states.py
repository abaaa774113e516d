"""The checks agree with the domain: whatever it decides is no finding, and only that."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain import journey
from gateway.domain.deadlines import DUTIES, Pending, after_deadline
from gateway.domain.journey import JourneyState, Rules, Verdict
from gateway.domain.message import Channel, PrintOptions, PrintProduct
from gateway.domain.retention import Journey, keep_copy
from gateway.domain.routing import Route, unread_rule_applies
from gateway.domain.schedule import PollRules, RetryRules
from gateway.domain.status import DeliveryStatus, MessageStatus, NextAction, Reason, may_follow
from gateway.integrity.copies import copy_findings
from gateway.integrity.deliveries import ACTIONS, delivery_findings
from gateway.integrity.findings import Code
from gateway.integrity.walker import LEFTOVERS
from gateway.stores.model import AttemptRecord, AuditedMessage, DeliveryRecord, Listing

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
RULES = Rules(retry=RetryRules(), poll=PollRules())
EBOX_THEN_PRINT = Route(
    channels=(Channel.EBOX_CITIZEN, Channel.PRINT),
    fallback=frozenset({"no-consent", "no-digital-user", "refused"}),
    unread_after=timedelta(days=15),
    providers={Channel.EBOX_CITIZEN: "bosa", Channel.PRINT: "house-a"},
)
ROUTES = (EBOX_THEN_PRINT, replace(EBOX_THEN_PRINT, unread_after=None), replace(EBOX_THEN_PRINT, fallback=frozenset()))
HELD = tuple(set(DeliveryStatus) - {DeliveryStatus.WAITING, DeliveryStatus.DISPATCHING, DeliveryStatus.IN_DOUBT})

AT_HOUSE = (DeliveryStatus.ACCEPTED, DeliveryStatus.PRINTED, DeliveryStatus.ENCLOSED)
IN_THE_POST = (DeliveryStatus.DISPATCHED, DeliveryStatus.IN_TRANSIT, DeliveryStatus.HELD)

states = st.builds(
    JourneyState,
    channel=st.sampled_from([Channel.EBOX_CITIZEN, Channel.PRINT]),
    route=st.sampled_from(ROUTES),
    registered=st.booleans(),
    attempts=st.integers(1, 20),
    first_attempt_at=st.sampled_from([NOW - timedelta(days=3), NOW]),
    handed_over_at=st.sampled_from([None, NOW - timedelta(days=40), NOW]),
    posted_at=st.none(),
    deliver_before=st.sampled_from([None, NOW + timedelta(hours=1)]),
    deadline_at=st.sampled_from([None, NOW - timedelta(days=6)]),
    published_before=st.just(False),
    draw=st.floats(0, 0.999),
)


def verdicts(state: JourneyState, status: DeliveryStatus, reason: Reason | None) -> list[Verdict]:
    """Return everything that can be decided of a delivery in this state."""
    found = [
        journey.after_refusal(state, reason or Reason.REFUSED),
        journey.after_unreachable(state, NOW, RULES),
        journey.after_unknown(state, NOW, RULES, can_reconcile=True),
        journey.after_unknown(state, NOW, RULES, can_reconcile=False),
        journey.after_surely_absent(state, NOW, RULES),
        journey.sent_anew(state, NOW, RULES, reason=reason),
        journey.never_sent(state, Reason.EXPIRED),
        journey.never_sent(state, Reason.DOSSIER_ENDED),
    ]
    watched = {DeliveryStatus.DELIVERED} if state.channel is not Channel.PRINT else {status} & {*AT_HOUSE, *IN_THE_POST}
    for present, action in DUTIES:
        if action is NextAction.POLL and present not in watched:
            continue
        pending = Pending(
            status=present, action=action, reason=reason, due_at=NOW, deadline_at=state.deadline_at or NOW
        )
        found += filter(None, [after_deadline(state, pending, NOW, RULES)])
    if state.channel is Channel.PRINT:
        if status in AT_HOUSE or (state.registered and status in IN_THE_POST):
            found.append(journey.confirmed(state, status, NOW, RULES))
        return [*found, journey.after_handover(state, status, reason, NOW, RULES)]
    found.append(journey.confirmed(state, DeliveryStatus.DELIVERED, NOW, RULES))
    found.append(journey.after_handover(state, DeliveryStatus.DELIVERED, reason, NOW, RULES))
    if state.handed_over_at is not None:
        found += [journey.after_read_poll(state, read=read, now=NOW, rules=RULES) for read in (True, False)]
        found.append(journey.after_silent_poll(state, DeliveryStatus.DELIVERED, NOW, RULES))
    return found


def settled(records: Any, state: JourneyState, verdict: Verdict) -> AuditedMessage:
    """Return a message as the ledger holds it after a verdict on its first delivery."""
    new = records.new(
        route=state.route,
        status=verdict.message_status,
        print_options=PrintOptions(product=PrintProduct.REGISTERED if state.registered else PrintProduct.STANDARD),
        accepted_at=NOW,
    ).message
    first = records.delivery(
        new.message_id,
        channel=state.channel,
        status=verdict.status,
        next_action=verdict.next_action,
        due_at=verdict.due_at,
        deadline_at=verdict.deadline_at,
        reason=verdict.reason,
        attempts=1,
        handed_over_at=verdict.handed_over_at or state.handed_over_at,
        posted_at=verdict.posted_at or state.posted_at,
    )
    deliveries: list[DeliveryRecord] = [first]
    if verdict.opens is not None:
        deliveries.append(records.delivery(new.message_id, number=2, channel=verdict.opens))
    keep = keep_copy(
        verdict.message_status,
        [
            Journey(
                channel=each.channel,
                status=each.status,
                registered=state.registered,
                may_fall_back=each.next_action is NextAction.POLL and unread_rule_applies(state.route, each.channel),
                posted_at=each.posted_at,
            )
            for each in deliveries
        ],
        retention=timedelta(days=90),
        keep_undelivered=timedelta(days=30),
        now=NOW,
    )
    attempt = AttemptRecord(
        delivery_id=first.delivery_id, number=1, action="send", started_at=NOW, ended_at=NOW, outcome="unknown"
    )
    message = replace(new, deliveries=tuple(deliveries), documents=(), copy_state=keep.state, copy_until=keep.until)
    return AuditedMessage(
        message=message,
        reference=None,
        keys={message.meta_dek_id: records.dek()},
        blobs_erased=frozenset(),
        attempts=(attempt,),
        leases={},
        retrievals=frozenset(),
        timeline=(),
    )


@settings(deadline=None)  # the first example imports and compiles
@given(
    state=states,
    status=st.sampled_from(HELD),
    reason=st.sampled_from([None, Reason.NO_DIGITAL_USER, Reason.NO_CONSENT, Reason.REFUSED]),
)
def test_whatever_the_domain_decides_is_no_finding(
    records_maker: Any, state: JourneyState, status: DeliveryStatus, reason: Reason | None
) -> None:
    for verdict in verdicts(state, status, reason):
        audited = settled(records_maker, state, verdict)
        found = [*delivery_findings(audited, NOW), *copy_findings(audited, {}, NOW)]
        late = {Code.LATE, Code.ERASURE_LATE}  # 40 days after the hand-over some terms are over
        assert [each for each in found if each.code not in late] == [], verdict


def test_every_status_says_what_may_come_next() -> None:
    assert ACTIONS.keys() == set(DeliveryStatus)


def test_what_has_ended_for_good_waits_for_nothing() -> None:
    for status, actions in ACTIONS.items():
        if not any(may_follow(status, other) for other in DeliveryStatus if other is not status):
            assert actions == {NextAction.NONE}


@pytest.mark.parametrize("status", MessageStatus)
def test_a_message_status_that_does_not_follow_is_found(records_maker: Any, status: MessageStatus) -> None:
    state = JourneyState(
        channel=Channel.PRINT,
        route=EBOX_THEN_PRINT,
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
    audited = settled(records_maker, state, journey.after_handover(state, DeliveryStatus.ACCEPTED, None, NOW, RULES))
    message = replace(audited.message, status=status)
    codes = {each.code for each in delivery_findings(replace(audited, message=message), NOW)}
    wrong = {Code.ENDED_BUT_QUEUED, Code.STATUS_DISAGREES}
    assert bool(codes & wrong) == (status is not MessageStatus.IN_DELIVERY)
    assert codes <= wrong


def test_every_stray_has_a_code() -> None:
    apart = {Listing.KEYS, Listing.KEYS_OF_DOSSIERS, Listing.KEYS_OF_LOGS, Listing.TOMBSTONES}
    assert LEFTOVERS.keys() == set(Listing) - apart
