from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.calendar import day_of, end_of, start_of


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        (datetime(2026, 11, 22, 22, 59, 59, tzinfo=UTC), date(2026, 11, 22)),
        (datetime(2026, 11, 22, 23, tzinfo=UTC), date(2026, 11, 23)),
        (datetime(2026, 7, 1, 22, tzinfo=UTC), date(2026, 7, 2)),
    ],
)
def test_a_day_is_that_of_brussels(moment, day):
    assert day_of(moment) == day


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2026, 5, 1), 24)])
def test_days_are_as_long_as_summer_time_makes_them(day, hours):
    assert end_of(day) - start_of(day) == timedelta(hours=hours)


@given(st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 -- given a zone
def test_every_moment_lies_in_its_day(moment):
    assert start_of(day_of(moment)) <= moment < end_of(day_of(moment))
