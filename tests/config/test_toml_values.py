"""Values that configuration files hold, for all inputs."""

import contextlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.values import ADDRESS, Address, days, duration, duration_text

LONGEST = timedelta(days=3_650)


@given(st.integers(0, 3_650 * 86_400))
def test_a_duration_that_was_written_reads_back(seconds: int) -> None:
    assert duration(timedelta(0), LONGEST).parse(duration_text(timedelta(seconds=seconds))) == timedelta(
        seconds=seconds
    )


@given(st.text(alphabet="P0123456789DTHMS.-YW \n", max_size=12))
def test_no_text_is_read_as_a_duration_beyond_its_limits(text: str) -> None:
    shortest, longest = timedelta(minutes=1), timedelta(days=2)
    with contextlib.suppress(ValueError):
        assert shortest <= duration(shortest, longest).parse(text) <= longest


@pytest.mark.parametrize(
    "text", ["P1W", "P1Y", "P1M", "PT", "P1DT", "-P1D", "P1D ", "P 1D", "1D", "p1d", "P1.0D", "PT1S1M"]
)
def test_other_forms_of_duration_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration like"):
        duration(timedelta(0), LONGEST).parse(text)


@pytest.mark.parametrize(("text", "read"), [("P1D", 1), ("P3650D", 3_650), ("P07D", 7)])
def test_whole_days_are_read(text: str, read: int) -> None:
    assert days(1, 3_650).parse(text) == timedelta(days=read)


@pytest.mark.parametrize("text", ["P0D", "P3651D", "PT24H", "P1DT1H", "P1D\n"])
def test_what_is_not_whole_days_within_limits_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be whole days, from P1D to P3650D"):
        days(1, 3_650).parse(text)


@given(st.ip_addresses(), st.integers(0, 65_535))
def test_an_address_that_was_written_reads_back(host: object, port: int) -> None:
    address = Address(str(host), port)
    assert ADDRESS.parse(str(address)) == address


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("192.0.2.1", False), ("gateway.example", False)],
)
def test_loopback_is_known(host: str, *, is_loopback: bool) -> None:
    assert Address(host, 1).is_loopback is is_loopback
