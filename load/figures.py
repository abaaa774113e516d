"""From measurements to figures: percentiles, medians, slopes."""

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Final

MS: Final = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """In milliseconds, over `count` answers; all 0 where there was none."""

    count: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


def percentile(ordered: Sequence[float], share: float) -> float:
    """
    Return the least of the values that `share` of all (0 to 1) do not exceed: the nearest rank, always one measured.

    Raises:
        ValueError: there is no value, or the share is none.
    """
    if not ordered:
        raise ValueError("no values")
    if not 0 <= share <= 1:
        raise ValueError(f"{share} is not between 0 and 1")
    # The product of a count and a share such as 0.999 may lie a little above the whole number that it is.
    rank = math.ceil(round(share * len(ordered), 9))
    return ordered[max(rank, 1) - 1]


def latency(seconds: "array[float] | Sequence[float]") -> Latency:
    """Return the usual percentiles of durations in seconds, in any order."""
    if not seconds:
        return Latency(count=0, p50_ms=0.0, p99_ms=0.0, p999_ms=0.0, max_ms=0.0)
    ordered = sorted(seconds)
    return Latency(
        count=len(ordered),
        p50_ms=percentile(ordered, 0.5) * MS,
        p99_ms=percentile(ordered, 0.99) * MS,
        p999_ms=percentile(ordered, 0.999) * MS,
        max_ms=ordered[-1] * MS,
    )


def slope(points: Sequence[tuple[float, float]]) -> float:
    """
    Return by how much y grows with x: the median of the slopes between all points (Theil, 1950; Sen, 1968).

    Neither a few outliers nor one step move it. The time it takes grows with the square of the number of points.

    Raises:
        ValueError: fewer than two points that differ in x.
    """
    slopes = [(y1 - y0) / (x1 - x0) for (x0, y0), (x1, y1) in combinations(points, 2) if x1 != x0]
    if not slopes:
        raise ValueError("a slope needs two points that differ in x")
    return median(slopes)
