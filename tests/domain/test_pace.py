from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.pace import Pace

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)


def test_a_burst_passes_and_the_rest_is_held_back_and_counted():
    pace: Pace[str] = Pace(burst=3, per_s=1.0)
    assert [pace.admit("a", NOW) for _ in range(5)] == [0, 0, 0, None, None]
    assert pace.admit("a", NOW + timedelta(seconds=1)) == 2
    assert pace.admit("a", NOW + timedelta(seconds=1)) is None
    assert pace.admit("a", NOW + timedelta(seconds=3)) == 1


def test_one_key_costs_the_others_nothing():
    pace: Pace[str] = Pace(burst=1, per_s=1.0)
    assert pace.admit("a", NOW) == 0
    assert pace.admit("a", NOW) is None
    assert pace.admit("b", NOW) == 0


def test_a_clock_set_back_gives_nothing():
    pace: Pace[str] = Pace(burst=1, per_s=1.0)
    assert pace.admit("a", NOW) == 0
    assert pace.admit("a", NOW - timedelta(hours=1)) is None


@given(st.lists(st.floats(0, 10), max_size=60), st.integers(1, 10), st.floats(0.1, 10))
def test_no_more_than_burst_and_rate_allow_ever_pass_and_all_are_counted(gaps_s, burst, per_s):
    pace: Pace[str] = Pace(burst=burst, per_s=per_s)
    at, passed, told = NOW, 0, 0
    for gap_s in gaps_s:
        at += timedelta(seconds=gap_s)
        held_back = pace.admit("a", at)
        if held_back is not None:
            passed += 1
            told += held_back
    elapsed_s = (at - NOW).total_seconds()
    assert passed <= burst + elapsed_s * per_s + 1e-6
    assert passed + told <= len(gaps_s)


def test_how_long_to_wait_is_known_and_asking_costs_nothing():
    pace: Pace[str] = Pace(burst=2, per_s=0.5)
    assert [pace.wait_s("a", NOW) for _ in range(5)] == [0.0] * 5
    assert [pace.admit("a", NOW) for _ in range(2)] == [0, 0]
    assert [pace.wait_s("a", NOW + timedelta(seconds=passed_s)) for passed_s in (0, 1, 2)] == [2.0, 1.0, 0.0]
    assert pace.admit("a", NOW + timedelta(seconds=2)) == 0
    assert Pace[str](burst=0, per_s=0.0).wait_s("a", NOW) == float("inf")


def test_no_more_keys_are_remembered_than_agreed_and_those_with_their_whole_burst_go_first():
    pace: Pace[int] = Pace(burst=1, per_s=1.0, most_keys=10)
    for key in range(10):
        pace.admit(key, NOW + timedelta(seconds=0.5) if key == 9 else NOW)
    assert pace.admit(10, NOW + timedelta(seconds=1)) == 0
    assert len(pace) == 2
    assert pace.admit(9, NOW + timedelta(seconds=1)) is None


def test_a_flood_of_keys_is_remembered_no_further_than_agreed():
    pace: Pace[int] = Pace(burst=1, per_s=0.0, most_keys=10)
    for key in range(1_000):
        assert pace.admit(key, NOW) == 0
        assert len(pace) <= 10
    assert pace.admit(999, NOW) is None
    smallest: Pace[int] = Pace(burst=1, per_s=0.0, most_keys=1)
    assert [smallest.admit(key, NOW) for key in (1, 2, 1)] == [0, 0, 0]
    assert len(smallest) == 1
