"""Percentiles, slopes, schedules and mixes: what the figures of a load run are made of."""

from collections import Counter
from itertools import pairwise

import pytest

from load.figures import latency, percentile, slope
from load.mixes import MIXES, sizes
from load.schedule import arrivals


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 500), (0.99, 990), (0.999, 999), (0.9991, 1000), (1.0, 1000)]
)
def test_a_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    assert percentile(range(1, 1001), share) == expected


def test_a_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 0.5) == percentile([7.0], 0.999) == 7.0


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_a_percentile_of_nothing_or_beyond_all_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match=r"values|between"):
        percentile(values, share)


def test_latency_is_told_in_milliseconds_whatever_the_order() -> None:
    found = latency([0.004, 0.001, 0.003, 0.002])
    assert (found.count, found.p50_ms, found.p99_ms, found.max_ms) == (4, 2.0, 4.0, 4.0)


def test_latency_of_nothing_is_nothing() -> None:
    assert latency([]).count == 0


def test_a_slope_is_found_through_outliers() -> None:
    points = [(float(x), 3.0 * x + 100) for x in range(100)]
    points[10] = (10.0, 9e9)
    points[80] = (80.0, -9e9)
    assert slope(points) == pytest.approx(3.0)


def test_a_flat_line_has_no_slope() -> None:
    assert slope([(float(x), 5.0) for x in range(10)]) == 0.0


@pytest.mark.parametrize("at", [10, 40, 60, 90])
def test_one_step_is_no_slope(at: int) -> None:
    assert slope([(float(x), 5.0 + 100 * (x >= at)) for x in range(100)]) == 0.0


@pytest.mark.parametrize("points", [[], [(1.0, 1.0)], [(1.0, 1.0), (1.0, 2.0)]])
def test_a_slope_needs_two_points(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="two points"):
        slope(points)


# ── Schedule ──


def test_arrivals_are_as_many_as_asked_for_in_order_and_within_their_time() -> None:
    due = list(arrivals(50.0, 1000))
    assert len(due) == 1000
    assert due == sorted(due)
    assert 0 <= due[0] < due[-1] <= 20.0


def test_arrivals_come_at_random_but_are_the_same_each_time() -> None:
    due = list(arrivals(50.0, 1000))
    gaps = [after - before for before, after in pairwise(due)]
    assert due == list(arrivals(50.0, 1000))
    assert due != list(arrivals(50.0, 1000, seed=1))
    # Of a Poisson process the deviation of the gaps is their mean; of an even schedule it is 0.
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert 0.8 < deviation / mean < 1.2


@pytest.mark.parametrize("rate", [0.0, -1.0])
def test_a_rate_is_above_nothing(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        arrivals(rate, 1)


# ── Mixes ──


def test_the_shares_of_every_mix_add_up() -> None:
    assert {name: sum(shares.values()) for name, shares in MIXES.items()} == dict.fromkeys(MIXES, 1000)


def test_the_mix_of_x_road_has_its_shares_exactly() -> None:
    assert Counter(sizes("x-road", 10_000)) == {
        2_000: 3_000, 10_000: 6_000, 100_000: 900, 2_000_000: 90, 10_000_000: 10,
    }  # fmt: skip


def test_what_rounding_leaves_goes_to_the_most_frequent_size() -> None:
    assert Counter(sizes("x-road", 30)) == {2_000: 9, 10_000: 19, 100_000: 2}


def test_a_mix_is_mixed_and_always_the_same() -> None:
    drawn = sizes("x-road", 1000)
    assert drawn == sizes("x-road", 1000)
    assert drawn != sorted(drawn)
    assert set(drawn[:100]) >= {2_000, 10_000, 100_000}
