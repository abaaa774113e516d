"""Delays against guessing, as counts in memory."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.portal.throttle import LONGEST_DELAY_S, Throttle, client_key, delay, seconds_until

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def throttle(*, most: int = 100, free: int = 0, forget_after: timedelta = timedelta(minutes=15)) -> Throttle:
    return Throttle(most=most, free=free, forget_after=forget_after)


@given(st.integers(1, 10**6))
def test_a_delay_never_shrinks_and_never_passes_a_minute(failures: int) -> None:
    assert SECOND <= delay(failures) <= delay(failures + 1) <= LONGEST_DELAY_S * SECOND


@pytest.mark.parametrize(
    ("until", "seconds"),
    [(None, 0), (NOW - SECOND, 0), (NOW, 0), (NOW + timedelta(milliseconds=1), 1), (NOW + 1.5 * SECOND, 2)],
)
def test_seconds_left_are_rounded_up(until: datetime | None, seconds: int) -> None:
    assert seconds_until(until, NOW) == seconds


def test_free_failures_cost_nothing() -> None:
    counts = throttle(free=3)
    for _ in range(3):
        counts.failed("a", NOW)
    assert counts.wait_s("a", NOW) == 0
    counts.failed("a", NOW)
    assert counts.wait_s("a", NOW) == 1
    assert counts.wait_s("b", NOW) == 0


def test_a_quiet_key_starts_anew() -> None:
    counts = throttle()
    for _ in range(9):
        counts.failed("a", NOW)
    later = NOW + timedelta(minutes=16)
    counts.failed("a", later)
    assert counts.wait_s("a", later) == 1


def test_a_failure_can_be_taken_back() -> None:
    counts = throttle()
    counts.failed("a", NOW)
    counts.forgive("a", NOW)
    counts.forgive("never seen", NOW)
    assert counts.wait_s("a", NOW) == 0
    counts.failed("a", NOW)
    assert counts.wait_s("a", NOW) == 1


def test_the_table_stays_small_and_forgets_the_oldest_first() -> None:
    counts = throttle(most=3)
    for key in ("a", "b", "c", "a", "d"):
        counts.failed(key, NOW)
    assert len(counts) == 3
    assert [counts.wait_s(key, NOW) > 0 for key in ("a", "b", "c", "d")] == [True, False, True, True]


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        (None, "unknown"),
        ("unix:", "unknown"),
    ],
)
def test_an_address_is_counted_by_what_one_customer_holds(address: str | None, key: str) -> None:
    assert client_key(address) == key
