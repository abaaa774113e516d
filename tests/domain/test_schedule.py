from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.schedule import PollRules, RetryRules, next_attempt, next_read_poll

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
RULES = RetryRules(first_delay_s=60, longest_delay_s=21_600, decide_after_s=172_800, jitter=0.2)
draws = st.floats(0, 1, exclude_max=True)


@given(st.integers(0, 10_000), st.integers(0, 200_000), draws, st.none() | st.floats(0, 1e9))
def test_the_next_attempt_lies_ahead_and_within_the_term(attempts, since_s, draw, wish_s):
    first = NOW - timedelta(seconds=since_s)
    due = next_attempt(attempts, first_attempt_at=first, now=NOW, rules=RULES, draw=draw, wish_s=wish_s)
    assert due is None or NOW < due <= first + timedelta(seconds=RULES.decide_after_s)


@given(st.integers(1, 60), draws)
def test_no_delay_is_longer_than_the_longest_with_its_jitter(attempts, draw):
    due = next_attempt(attempts, first_attempt_at=NOW, now=NOW, rules=RULES, draw=draw)
    assert due is not None
    assert due - NOW <= timedelta(seconds=RULES.longest_delay_s * 1.2)


def test_delays_double():
    delays = [next_attempt(attempts, first_attempt_at=NOW, now=NOW, rules=RULES, draw=0.5) for attempts in (1, 2, 3, 4)]
    assert [due - NOW for due in delays if due] == [timedelta(seconds=s) for s in (60, 120, 240, 480)]


def test_a_provider_may_ask_for_more_time_but_not_for_ever():
    asked = next_attempt(1, first_attempt_at=NOW, now=NOW, rules=RULES, draw=0.5, wish_s=600)
    greedy = next_attempt(1, first_attempt_at=NOW, now=NOW, rules=RULES, draw=0.5, wish_s=1e9)
    assert asked == NOW + timedelta(seconds=600)
    assert greedy == NOW + timedelta(seconds=RULES.longest_delay_s)


def test_after_the_term_a_person_decides():
    first = NOW - timedelta(seconds=RULES.decide_after_s)
    assert next_attempt(9, first_attempt_at=first, now=NOW, rules=RULES, draw=0.0) is None


@given(st.integers(0, 10_000_000))
def test_read_polls_always_lie_ahead_and_at_most_a_day(since_s):
    rules = PollRules()
    due = next_read_poll(NOW - timedelta(seconds=since_s), NOW, rules)
    assert NOW < due <= NOW + timedelta(seconds=rules.read_status_then_s)
