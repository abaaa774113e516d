"""How often something may happen: a token bucket, told the time."""

from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final, Generic, TypeVar

_K = TypeVar("_K")
_MOST_KEYS: Final = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: datetime
    held_back: int = 0


class Pace(Generic[_K]):
    """
    `burst` at once and `per_s` on average, for each key apart; what goes beyond is held back, and counted.

    At most `most_keys` are remembered. When there are more, those go first that have their whole burst again, for a key
    that is forgotten begins anew; then those that were met first.
    """

    def __init__(self, *, burst: int, per_s: float, most_keys: int = _MOST_KEYS) -> None:
        self._burst = burst
        self._per_s = per_s
        self._most_keys = most_keys
        self._buckets: dict[_K, _Bucket] = {}

    def __len__(self) -> int:
        """Return how many keys are remembered."""
        return len(self._buckets)

    def admit(self, key: _K, now: datetime) -> int | None:
        """Return how many were held back since the last one that was let through, or None: hold this one back too."""
        bucket = self._bucket(key, now)
        if bucket.tokens < 1.0:
            bucket.held_back += 1
            return None
        bucket.tokens -= 1.0
        held_back, bucket.held_back = bucket.held_back, 0
        return held_back

    def wait_s(self, key: _K, now: datetime) -> float:
        """Return after how many seconds `admit` would let one through; 0: now. Takes and counts nothing."""
        missing = 1.0 - self._bucket(key, now).tokens
        if missing <= 0.0:
            return 0.0
        return missing / self._per_s if self._per_s else float("inf")

    def _bucket(self, key: _K, now: datetime) -> _Bucket:
        if key not in self._buckets and len(self._buckets) >= self._most_keys:
            self._forget(now)
        bucket = self._buckets.setdefault(key, _Bucket(tokens=float(self._burst), filled_at=now))
        self._fill(bucket, now)
        return bucket

    def _fill(self, bucket: _Bucket, now: datetime) -> None:
        passed_s = max((now - bucket.filled_at).total_seconds(), 0.0)
        bucket.tokens = min(bucket.tokens + passed_s * self._per_s, float(self._burst))
        bucket.filled_at = now

    def _forget(self, now: datetime) -> None:
        for bucket in self._buckets.values():
            self._fill(bucket, now)
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if bucket.tokens < self._burst}
        if len(self._buckets) >= self._most_keys:
            # Half at a time, so that a flood of keys does not have all of them looked through for each.
            for key in list(islice(self._buckets, (self._most_keys + 1) // 2)):
                del self._buckets[key]
