"""
The time of this gateway: the clock of the machine, held by the one that only counts.

The machine's clock may be set while we run: by hand, by a time server that was long away, by a virtual machine that
slept. Leases, deadlines, receipts and ids must not leap with it. So time goes on with the monotonic clock, the same one
that ends our calls, and follows the machine's clock only as a good clock drifts: up to a tenth of a second in a second.

A leap of more than two seconds is not followed. While the two disagree the time is not trusted: whoever asks `distrust`
takes no new work. When the machine's clock has gone its new way steadily for `settle_s`, so that every call that ran at
the leap has ended, its time is taken over and trusted; when it comes back before that, the leap is undone at once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

_STEP_S: Final = 2.0
_FOLLOWED_S_PER_S: Final = 0.1  # the fastest that chrony and the kernel turn a clock
# Two readings further apart than this were interrupted: what they say together is of two moments.
_ONE_MOMENT_S: Final = 0.1
_READINGS: Final = 5


def utc_now() -> datetime:
    """Return the time on the machine's clock."""
    return datetime.now(UTC)


class Turn(StrEnum):
    """What became of the machine's clock."""

    JUMPED = "jumped"
    UNDONE = "undone"
    ADOPTED = "adopted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockChange:
    """A turn: the gateway's time when it was noticed, and the machine's."""

    turn: Turn
    held: datetime
    wall: datetime

    @property
    def skew_s(self) -> float:
        """How far the machine's clock was ahead; below zero: behind."""
        return (self.wall - self.held).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """Time as it runs from a moment on, making up slowly for what was left over then."""

    monotonic_s: float
    at: datetime
    left_s: float = 0.0

    def at_moment(self, monotonic_s: float) -> datetime:
        passed_s = max(monotonic_s - self.monotonic_s, 0.0)
        most_s = _FOLLOWED_S_PER_S * passed_s
        made_up_s = max(-most_s, min(self.left_s, most_s))
        return self.at + timedelta(seconds=passed_s + made_up_s)

    def skew_s(self, monotonic_s: float, wall: datetime) -> float:
        return (wall - self.at_moment(monotonic_s)).total_seconds()

    def following(self, monotonic_s: float, wall: datetime) -> "_Line":
        at = self.at_moment(monotonic_s)
        return _Line(monotonic_s=monotonic_s, at=at, left_s=(wall - at).total_seconds())


class SteadyClock:
    """
    Call it for the time, from any thread; it never goes back, and leaps only when a new time is adopted.

    `check` compares it with the machine's clock; it belongs to one thread, and is to be called each second or so.
    `wall` returns the machine's time (aware), `monotonic` the seconds of a clock that is never set.
    """

    def __init__(
        self,
        *,
        settle_s: float,
        wall: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        on_change: Callable[[ClockChange], None] | None = None,
    ) -> None:
        self._settle_s = settle_s
        self._wall = wall
        self._monotonic = monotonic
        self.on_change = on_change
        self._line = _Line(monotonic_s=monotonic(), at=wall())
        self._other: _Line | None = None  # where the machine's clock went
        self._other_since_s = 0.0
        self._skew_s = 0.0

    def __call__(self) -> datetime:
        """Return the time."""
        return self._line.at_moment(self._monotonic())

    @property
    def skew_s(self) -> float:
        """How far the machine's clock was ahead at the last check; below zero: behind."""
        return self._skew_s

    def distrust(self) -> str | None:
        """Return why the time is not to be relied on now, or None; checks it first."""
        self.check()
        if self._other is None:
            return None
        way = "ahead" if self._skew_s > 0 else "back"
        return f"the clock of the gateway's machine jumped {way} by {abs(self._skew_s):.0f} s"

    def check(self) -> None:
        """Compare with the machine's clock, and follow it, hold against it, or adopt what it says."""
        monotonic_s, wall = self._read()
        held = self._line.at_moment(monotonic_s)
        self._skew_s = (wall - held).total_seconds()
        if abs(self._skew_s) <= _STEP_S:
            self._line = self._line.following(monotonic_s, wall)
            if self._other is not None:
                self._other = None
                self._tell(Turn.UNDONE, held, wall)
        elif self._other is None or abs(self._other.skew_s(monotonic_s, wall)) > _STEP_S:
            self._other, self._other_since_s = _Line(monotonic_s=monotonic_s, at=wall), monotonic_s
            self._tell(Turn.JUMPED, held, wall)
        elif monotonic_s - self._other_since_s < self._settle_s:
            self._other = self._other.following(monotonic_s, wall)
        else:
            self._line, self._other, self._skew_s = self._other.following(monotonic_s, wall), None, 0.0
            self._tell(Turn.ADOPTED, held, wall)

    def _read(self) -> tuple[float, datetime]:
        """Read both clocks at one moment, as far as a busy machine lets us."""
        reading = 1
        while True:
            before_s = self._monotonic()
            wall = self._wall()
            after_s = self._monotonic()
            if after_s - before_s <= _ONE_MOMENT_S or reading == _READINGS:
                return after_s, wall
            reading += 1

    def _tell(self, turn: Turn, held: datetime, wall: datetime) -> None:
        if self.on_change is not None:
            self.on_change(ClockChange(turn=turn, held=held, wall=wall))
