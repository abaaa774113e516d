from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.domain.message import Channel
from gateway.domain.retention import CopyState, Journey, Keep, keep_copy
from gateway.domain.status import DeliveryStatus, MessageStatus

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
YEAR = timedelta(days=365)
UNDELIVERED = timedelta(days=30)
EBOX = Journey(
    channel=Channel.EBOX_CITIZEN,
    status=DeliveryStatus.DELIVERED,
    registered=False,
    may_fall_back=False,
    posted_at=None,
)
PRINT = replace(EBOX, channel=Channel.PRINT, status=DeliveryStatus.DISPATCHED, posted_at=NOW - timedelta(days=2))


def keep(status, *journeys):
    return keep_copy(status, journeys, retention=YEAR, keep_undelivered=UNDELIVERED, now=NOW)


def test_an_ebox_message_is_erased_at_once_when_nothing_can_still_need_it():
    assert keep(MessageStatus.DELIVERED, EBOX) == Keep(state=CopyState.AWAITING_ERASURE, until=NOW)


def test_it_stays_while_a_rule_may_still_send_paper():
    assert keep(MessageStatus.DELIVERED, replace(EBOX, may_fall_back=True)).state is CopyState.IN_DELIVERY


def test_what_was_printed_stays_for_the_term_from_posting():
    assert keep(MessageStatus.DELIVERED, EBOX, PRINT) == Keep(
        state=CopyState.KEPT, until=NOW - timedelta(days=2) + YEAR
    )


def test_a_returned_letter_stays_retrievable_for_its_term():
    returned = replace(PRINT, status=DeliveryStatus.RETURNED)
    assert keep(MessageStatus.RETURNED, returned).state is CopyState.KEPT


@pytest.mark.parametrize("status", [MessageStatus.UNDELIVERABLE, MessageStatus.CANCELLED, MessageStatus.EXPIRED])
def test_what_was_never_delivered_stays_a_month(status):
    assert keep(status, EBOX) == Keep(state=CopyState.AWAITING_ERASURE, until=NOW + UNDELIVERED)


@pytest.mark.parametrize(
    "status", [MessageStatus.ACCEPTED, MessageStatus.SCHEDULED, MessageStatus.IN_DELIVERY, MessageStatus.NEEDS_DECISION]
)
def test_nothing_is_erased_on_the_way(status):
    assert keep(status, EBOX, PRINT) == Keep(state=CopyState.IN_DELIVERY, until=None)
