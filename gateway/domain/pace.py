"""How often something may happen: a token bucket, told the time."""

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

_K = TypeVar("_K")


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: datetime
    held_back: int = 0


class Pace(Generic[_K]):
    """`burst` at once and `per_s` on average, for each key apart; what goes beyond is held back, and counted."""

    def __init__(self, *, burst: int, per_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._buckets: dict[_K, _Bucket] = {}

    def admit(self, key: _K, now: datetime) -> int | None:
        """Return how many were held back since the last one that was let through, or None: hold this one back too."""
        bucket = self._buckets.setdefault(key, _Bucket(tokens=float(self._burst), filled_at=now))
        passed_s = max((now - bucket.filled_at).total_seconds(), 0.0)
        bucket.tokens = min(bucket.tokens + passed_s * self._per_s, float(self._burst))
        bucket.filled_at = now
        if bucket.tokens < 1.0:
            bucket.held_back += 1
            return None
        bucket.tokens -= 1.0
        held_back, bucket.held_back = bucket.held_back, 0
        return held_back
