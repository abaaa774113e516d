"""The steady clock: it follows what drifts, holds against what leaps, and takes over what stays."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from gateway.clock import ClockChange, SteadyClock, Turn

START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
SETTLE_S = 150.0
HOUR_S = 3600.0


class Machine:
    """The two clocks of a machine, moved by the test, and a steady clock on them."""

    def __init__(self) -> None:
        self.monotonic_s = 50.0
        self.wall = START
        self.changes: list[ClockChange] = []
        self.clock = SteadyClock(
            settle_s=SETTLE_S,
            wall=lambda: self.wall,
            monotonic=lambda: self.monotonic_s,
            on_change=self.changes.append,
        )

    @property
    def turns(self) -> list[Turn]:
        return [change.turn for change in self.changes]

    @property
    def gone_s(self) -> float:
        """How far the steady clock has come."""
        return (self.clock() - START).total_seconds()

    def leap(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)

    def go_on(self, seconds: float, *, wall_s_per_s: float = 1.0) -> None:
        """Let time pass with a check each second, as the gateway does."""
        while seconds > 0:
            step_s = min(seconds, 1.0)
            self.monotonic_s += step_s
            self.wall += timedelta(seconds=step_s * wall_s_per_s)
            self.clock.check()
            seconds -= step_s


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_time_goes_on_as_it_does(machine: Machine) -> None:
    machine.go_on(90)
    assert machine.clock() == machine.wall == START + timedelta(seconds=90)
    assert machine.clock.distrust() is None
    assert machine.turns == []


@pytest.mark.parametrize("wall_s_per_s", [1.0005, 0.9995, 1.08, 0.92])
def test_a_clock_that_is_slewed_is_followed(machine: Machine, wall_s_per_s: float) -> None:
    machine.go_on(1_000, wall_s_per_s=wall_s_per_s)
    assert abs(machine.gone_s - 1_000 * wall_s_per_s) < 0.2
    assert machine.turns == []


@pytest.mark.parametrize("seconds", [1.5, -1.5])
def test_a_small_step_is_made_up_for_slowly_and_time_never_goes_back(machine: Machine, seconds: float) -> None:
    machine.go_on(5)
    machine.leap(seconds)
    machine.clock.check()
    assert machine.gone_s == 5
    machine.go_on(1)
    assert machine.gone_s == pytest.approx(6 + 0.1 * seconds / abs(seconds))
    machine.go_on(60)
    assert machine.clock() == machine.wall
    assert machine.turns == []


def test_time_never_goes_back_however_the_wall_clock_wavers(machine: Machine) -> None:
    chance = random.Random(7)  # the same wavering each time
    before = machine.clock()
    for _ in range(2_000):
        machine.leap(chance.uniform(-0.9, 0.9))
        machine.go_on(chance.uniform(0, 1.5))
        machine.leap((machine.clock() - machine.wall).total_seconds() / 2)
        after = machine.clock()
        assert after >= before
        before = after


def test_small_steps_that_add_up_are_a_leap(machine: Machine) -> None:
    for _ in range(2):
        machine.leap(1.5)
        machine.go_on(1)
    assert machine.turns == [Turn.JUMPED]


@pytest.mark.parametrize(("seconds", "way"), [(HOUR_S, "ahead"), (-HOUR_S, "back"), (2.5, "ahead")])
def test_a_leap_is_not_followed_and_not_trusted(machine: Machine, seconds: float, way: str) -> None:
    machine.go_on(5)
    machine.leap(seconds)
    assert machine.gone_s == 5
    distrust = machine.clock.distrust()
    assert distrust is not None
    assert f"jumped {way} by" in distrust
    machine.go_on(SETTLE_S - 5)
    assert machine.gone_s == SETTLE_S
    assert machine.clock.distrust() == distrust
    (change,) = machine.changes
    assert (change.turn, change.held, change.wall) == (
        Turn.JUMPED,
        START + timedelta(seconds=5),
        START + timedelta(seconds=5 + seconds),
    )
    assert machine.clock.skew_s == change.skew_s == seconds


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S])
def test_what_has_stayed_for_the_settle_time_is_adopted(machine: Machine, seconds: float) -> None:
    machine.leap(seconds)
    machine.go_on(SETTLE_S)
    assert machine.clock.distrust() is not None
    machine.go_on(1)
    assert machine.clock.distrust() is None
    assert machine.clock() == machine.wall
    assert machine.clock.skew_s == 0
    assert machine.turns == [Turn.JUMPED, Turn.ADOPTED]
    machine.go_on(10)
    assert machine.gone_s == seconds + SETTLE_S + 11


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S])
def test_a_leap_that_is_undone_is_over_at_once(machine: Machine, seconds: float) -> None:
    machine.leap(seconds)
    machine.go_on(20)
    machine.leap(-seconds)
    assert machine.clock.distrust() is None
    assert machine.turns == [Turn.JUMPED, Turn.UNDONE]
    machine.go_on(SETTLE_S)
    assert machine.gone_s == SETTLE_S + 20


def test_a_second_leap_begins_the_wait_anew(machine: Machine) -> None:
    machine.leap(HOUR_S)
    machine.go_on(SETTLE_S - 1)
    machine.leap(HOUR_S)
    machine.go_on(SETTLE_S)
    assert machine.clock.distrust() is not None
    machine.go_on(1)
    assert machine.clock() == machine.wall
    assert machine.turns == [Turn.JUMPED, Turn.JUMPED, Turn.ADOPTED]


def test_slewing_during_the_wait_does_not_prolong_it(machine: Machine) -> None:
    machine.leap(HOUR_S)
    machine.go_on(SETTLE_S + 1, wall_s_per_s=1.05)
    assert machine.turns == [Turn.JUMPED, Turn.ADOPTED]


def test_a_machine_that_slept_has_jumped(machine: Machine) -> None:
    """The monotonic clock, by which our calls end, stands still meanwhile."""
    machine.wall += timedelta(hours=8)
    assert machine.clock.distrust() is not None
    assert machine.gone_s == 0


def test_a_reading_that_was_interrupted_is_no_leap() -> None:
    # The process was stopped for an hour between two readings: monotonic and wall went on together.
    monotonic = iter([0.0, 1.0, 1.0 + HOUR_S, 1.0 + HOUR_S, 1.0 + HOUR_S])
    wall = iter([START, START + timedelta(seconds=1), START + timedelta(seconds=1 + HOUR_S)])
    changes: list[ClockChange] = []
    clock = SteadyClock(
        settle_s=SETTLE_S, wall=lambda: next(wall), monotonic=lambda: next(monotonic), on_change=changes.append
    )
    clock.check()
    assert changes == []
    assert abs(clock.skew_s) < 0.1
