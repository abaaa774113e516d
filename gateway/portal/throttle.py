"""
Delays against guessing: 1, 2, 4 … 60 seconds, never for ever.

Wrong codes of a letter are counted in its ledger row. Here, in memory and bounded, are counted those of each client
address, and those of letters that do not exist, so that these answer like ones that do. A replica counts by itself, and
forgets with its process: at worst a guesser gets a few more tries, each against 40 random bits.
"""

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

LONGEST_DELAY_S: Final = 60
_IPV6_SITE_BITS: Final = 64  # one customer, who may take any address below


def delay(failures: int) -> timedelta:
    """Return how long to wait after the `failures`th wrong code in a row."""
    return timedelta(seconds=min(2 ** min(failures - 1, 10), LONGEST_DELAY_S))


def seconds_until(at: datetime | None, now: datetime) -> int:
    """Return the whole seconds until `at`, rounded up; 0 when it has passed or there is none."""
    return 0 if at is None else max(0, math.ceil((at - now).total_seconds()))


def client_key(address: str | None) -> str:
    """Return by what an address is counted: itself, or the /64 network of IPv6; unreadable ones share one count."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(ipaddress.ip_network((int(parsed), _IPV6_SITE_BITS), strict=False))


@dataclass(frozen=True, slots=True)
class _Count:
    failures: int
    locked_until: datetime
    seen_at: datetime


class Throttle:
    """
    Counts failures by key, for at most `most` keys: the one that failed longest ago is forgotten first.

    The first `free` failures cost no delay. A key without a failure for `forget_after` starts anew.
    """

    def __init__(self, *, most: int, free: int, forget_after: timedelta) -> None:
        self._most = most
        self._free = free
        self._forget_after = forget_after
        self._counts: OrderedDict[Hashable, _Count] = OrderedDict()

    def wait_s(self, key: Hashable, now: datetime) -> int:
        """Return for how many seconds this key must wait; 0: it may try."""
        count = self._counts.get(key)
        return 0 if count is None else seconds_until(count.locked_until, now)

    def failed(self, key: Hashable, now: datetime) -> None:
        """Count a failure."""
        count = self._counts.pop(key, None)
        failures = 1 if count is None or now - count.seen_at > self._forget_after else count.failures + 1
        late = failures - self._free
        self._counts[key] = _Count(failures, now + delay(late) if late > 0 else now, now)
        while len(self._counts) > self._most:
            self._counts.popitem(last=False)

    def forgive(self, key: Hashable, now: datetime) -> None:
        """Take the last failure back: it was counted before its outcome was known, and was none."""
        count = self._counts.get(key)
        if count is not None:
            self._counts[key] = replace(count, failures=max(0, count.failures - 1), locked_until=now)

    def __len__(self) -> int:
        """Return how many keys are counted."""
        return len(self._counts)
