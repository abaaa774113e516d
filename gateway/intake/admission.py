"""
Who is let in while places are scarce: decided by the header of a request and its certificate, before its body is read.

Whoever is refused here cost little and left nothing. Each process counts by itself; replicas add up.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from prometheus_client import Gauge

from gateway.domain.pace import Pace
from gateway.errors import Kind, Refusal
from gateway.telemetry import Metrics

_log: Final = logging.getLogger(__name__)
_BUSY_RETRY_S: Final = 2
_CLOSED_RETRY_S: Final = 30
_LOG_EVERY_S: Final = 10.0
_AGAIN: Final = "nothing was kept, send the same request again"

Pressure = Callable[[], str | None]
"""
Tells why no message can be taken over now, in words for a sender, or None.

Asked before every message, so it does not block: it tells what was last found.
"""


class Pool(StrEnum):
    """Requests that share places, so that the ones never starve the others."""

    MESSAGES = "messages"  # what hands messages over, with their documents
    QUESTIONS = "questions"  # everything else: short, without documents


class Reason(StrEnum):
    """Why a request was not let in."""

    SENDER_RATE = "sender-rate"
    SENDER_PLACES = "sender-places"
    SENDER_BYTES = "sender-bytes"
    ALL_PLACES = "all-places"
    ALL_BYTES = "all-bytes"
    PRESSURE = "pressure"


_DETAILS: Final = {
    Reason.SENDER_RATE: f"you send more requests a second than one sender may; {_AGAIN}, after the time in Retry-After",
    Reason.SENDER_PLACES: f"you have as many requests under way as one sender may while others wait; {_AGAIN} when "
    "some of yours have ended",
    Reason.SENDER_BYTES: f"your requests under way are as large together as those of one sender may be; {_AGAIN} when "
    "some of yours have ended",
    Reason.ALL_PLACES: f"the gateway is busy; {_AGAIN}",
    Reason.ALL_BYTES: f"the gateway is busy with large messages; {_AGAIN}",
}


@dataclass(eq=False)
class NotAdmitted(Refusal):
    """A request found no place; its body was not read, and it is not logged by itself: there may be a flood of them."""

    reason: Reason = field(kw_only=True)


class Places:
    """
    A number of places, or of bytes. Nobody may hold more of them than are left for all others.

    So one alone gets half of them, two a third each, and whoever comes anew finds some free: none can take them all.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity: Final = capacity
        self.taken = 0
        self._held: dict[str, int] = {}

    def are_free(self, amount: int) -> bool:
        """Tell whether there are so many free ones at all."""
        return self.taken + amount <= self.capacity

    def are_due(self, who: str, amount: int) -> bool:
        """Tell whether so many more are within the share of `who`; the first time, all that are free are."""
        return self._held.get(who, 0) + amount <= self.capacity - self.taken

    def take(self, who: str, amount: int) -> None:
        """Take some for `who`, who asked before."""
        self.taken += amount
        self._held[who] = self._held.get(who, 0) + amount

    def give_back(self, who: str, amount: int) -> None:
        """Give back what was taken."""
        self.taken -= amount
        left = self._held.get(who, 0) - amount
        if left:
            self._held[who] = left
        else:  # also when it was nothing of which somebody had taken some
            self._held.pop(who, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    """
    Requests at the same time in each pool; bytes that all messages under way may have together.

    `sender_requests_per_s` and `sender_burst` hold for each sender, in each pool.
    """

    messages: int
    questions: int
    message_bytes: int
    sender_requests_per_s: float
    sender_burst: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Room:
    places: Places
    octets: Places | None  # None: so short that places bound them
    pace: Pace[str]
    shown: Gauge  # how many places are taken


class Admission:
    """Lets requests in, each for as long as it takes. `pressure` is asked about messages only, in its order."""

    def __init__(
        self, limits: AdmissionLimits, metrics: Metrics, clock: Callable[[], datetime], pressure: Sequence[Pressure]
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._pressure = pressure
        self._rooms: Final = {
            Pool.MESSAGES: _Room(
                places=Places(limits.messages),
                octets=Places(limits.message_bytes),
                pace=_pace(limits),
                shown=metrics.admitted.labels(pool=Pool.MESSAGES),
            ),
            Pool.QUESTIONS: _Room(
                places=Places(limits.questions),
                octets=None,
                pace=_pace(limits),
                shown=metrics.admitted.labels(pool=Pool.QUESTIONS),
            ),
        }
        self._log_pace: Pace[Reason] = Pace(burst=1, per_s=1 / _LOG_EVERY_S)

    @contextmanager
    def admitted(self, pool: Pool, who: str, size_bytes: int) -> Iterator[None]:
        """
        Hold a place for a request of `who`, whose body has `size_bytes`.

        Raises:
            NotAdmitted: overloaded, or store-unavailable when a `pressure` says so.
        """
        room = self._rooms[pool]
        self._require_room(pool, room, who, size_bytes)
        room.places.take(who, 1)
        if room.octets is not None:
            room.octets.take(who, size_bytes)
        self._show(room)
        try:
            yield
        finally:
            room.places.give_back(who, 1)
            if room.octets is not None:
                room.octets.give_back(who, size_bytes)
            self._show(room)

    def require_no_pressure(self, who: str) -> None:
        """
        Look again, within a request that hands many messages over, whether one more can be taken over now.

        Raises:
            NotAdmitted: store-unavailable.
        """
        self._require_no_pressure(Pool.MESSAGES, who, self._clock())

    def _require_room(self, pool: Pool, room: _Room, who: str, size_bytes: int) -> None:
        now = self._clock()
        wait_s = room.pace.wait_s(who, now)
        if wait_s > 0:
            # Before all else, and nothing is looked up for it: this one is to slow down whatever room there is.
            raise self._refused(pool, who, Reason.SENDER_RATE, now, retry_after_s=max(math.ceil(wait_s), 1))
        if room.octets is not None:
            self._require_no_pressure(pool, who, now)
        reason = _lacking(room, who, size_bytes)
        if reason is not None:
            raise self._refused(pool, who, reason, now, retry_after_s=_BUSY_RETRY_S)
        room.pace.admit(who, now)

    def _require_no_pressure(self, pool: Pool, who: str, now: datetime) -> None:
        why = next((why for ask in self._pressure if (why := ask()) is not None), None)
        if why is not None:
            raise self._refused(pool, who, Reason.PRESSURE, now, retry_after_s=_CLOSED_RETRY_S, why=why)

    def _refused(
        self, pool: Pool, who: str, reason: Reason, now: datetime, *, retry_after_s: int, why: str | None = None
    ) -> NotAdmitted:
        self._metrics.not_admitted.labels(pool=pool, reason=reason).inc()
        held_back = self._log_pace.admit(reason, now)
        if held_back is not None:
            extra = {"edge": "intake", "pool": pool, "reason": reason, "caller": who, "unlogged_before": held_back}
            _log.warning("request not admitted", extra=extra if why is None else {**extra, "because": why})
        if why is not None:
            return NotAdmitted(
                Kind.STORE_UNAVAILABLE,
                f"no message can be taken over now: {why}; {_AGAIN}",
                retry_after_s=retry_after_s,
                reason=reason,
            )
        return NotAdmitted(Kind.OVERLOADED, _DETAILS[reason], retry_after_s=retry_after_s, reason=reason)

    def _show(self, room: _Room) -> None:
        room.shown.set(room.places.taken)
        if room.octets is not None:
            self._metrics.admitted_bytes.set(room.octets.taken)


def _lacking(room: _Room, who: str, size_bytes: int) -> Reason | None:
    if not room.places.are_free(1):
        return Reason.ALL_PLACES
    if not room.places.are_due(who, 1):
        return Reason.SENDER_PLACES
    if room.octets is None:
        return None
    if not room.octets.are_free(size_bytes):
        return Reason.ALL_BYTES
    return None if room.octets.are_due(who, size_bytes) else Reason.SENDER_BYTES


def _pace(limits: AdmissionLimits) -> Pace[str]:
    return Pace(burst=limits.sender_burst, per_s=limits.sender_requests_per_s)
