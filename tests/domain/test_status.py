import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.status import (
    DELIVERY_MOVES,
    MESSAGE_MOVES,
    DeliveryStatus,
    InvalidMove,
    MessageStatus,
    advance_delivery,
    advance_message,
    is_final,
)


def test_every_state_stands_in_its_table():
    assert set(MESSAGE_MOVES) == set(MessageStatus)
    assert set(DELIVERY_MOVES) == set(DeliveryStatus)


@given(st.sampled_from(MessageStatus), st.sampled_from(MessageStatus))
def test_a_message_moves_only_as_the_table_says(present, wanted):
    if wanted == present or wanted in MESSAGE_MOVES[present]:
        assert advance_message(present, wanted) is wanted
    else:
        with pytest.raises(InvalidMove):
            advance_message(present, wanted)


@given(st.sampled_from(DeliveryStatus), st.sampled_from(DeliveryStatus))
def test_a_delivery_moves_only_as_the_table_says(present, wanted):
    if wanted == present or wanted in DELIVERY_MOVES[present]:
        assert advance_delivery(present, wanted) is wanted
    else:
        with pytest.raises(InvalidMove):
            advance_delivery(present, wanted)


def test_nothing_leaves_the_three_ends():
    assert {status for status in MessageStatus if is_final(status)} == {
        MessageStatus.UNDELIVERABLE,
        MessageStatus.CANCELLED,
        MessageStatus.EXPIRED,
    }


def test_what_a_provider_took_is_never_sent_again():
    for status in DeliveryStatus:
        taken = status not in (DeliveryStatus.WAITING, DeliveryStatus.DISPATCHING, DeliveryStatus.IN_DOUBT)
        if taken:
            assert DELIVERY_MOVES[status].isdisjoint({DeliveryStatus.WAITING, DeliveryStatus.DISPATCHING})


def test_a_waiting_delivery_is_called_before_it_counts_as_taken():
    assert DeliveryStatus.DELIVERED not in DELIVERY_MOVES[DeliveryStatus.WAITING]
    assert DeliveryStatus.ACCEPTED not in DELIVERY_MOVES[DeliveryStatus.WAITING]


def test_a_delivered_message_can_only_come_back_or_go_on_elsewhere():
    assert MESSAGE_MOVES[MessageStatus.DELIVERED] == {MessageStatus.RETURNED, MessageStatus.IN_DELIVERY}
