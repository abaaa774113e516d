"""The breaker as a pure machine, and a destination around an adapter that does what it is told."""

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from gateway.adapters.base import Adapter, Handover
from gateway.adapters.limits import (
    Breaker,
    BreakerRules,
    CallLimits,
    CallState,
    CallTotals,
    Circuit,
    LimitedAdapter,
    Pace,
    Result,
    Ticket,
)
from gateway.domain.status import DeliveryStatus, Reason
from gateway.errors import ChannelBlocked, OutcomeUnknown, Refused, Unreachable

ACCEPTED = Handover(status=DeliveryStatus.ACCEPTED)


class BreakerMachine(RuleBasedStateMachine):
    """Drives a breaker with calls that overlap in any way, next to a model that only counts."""

    tickets: Bundle[Ticket] = Bundle("tickets")

    @initialize(troubles_to_open=st.integers(1, 4), pause_s=st.floats(0.5, 60.0))
    def start(self, troubles_to_open: int, pause_s: float) -> None:
        self.limits = BreakerRules(troubles_to_open=troubles_to_open, pause_s=pause_s)
        self.breaker = Breaker(self.limits)
        self.now_s = 1_000.0
        self.opened_at_s = 0.0
        self.troubles = 0
        self.probe: Ticket | None = None

    @rule(by_s=st.floats(0.0, 100.0))
    def time_passes(self, by_s: float) -> None:
        self.now_s += by_s

    def is_admitted(self) -> bool:
        match self.breaker.circuit:
            case Circuit.CLOSED:
                return True
            case Circuit.OPEN:
                return self.now_s >= self.opened_at_s + self.limits.pause_s
            case Circuit.HALF_OPEN:
                return False

    @precondition(lambda self: self.is_admitted())
    @rule(target=tickets)
    def a_call_begins(self) -> Ticket:
        was = self.breaker.circuit
        self.breaker.check(self.now_s)
        ticket = self.breaker.begin(self.now_s)
        if was is Circuit.OPEN:
            self.probe = ticket
            assert self.breaker.circuit is Circuit.HALF_OPEN
        return ticket

    @precondition(lambda self: not self.is_admitted())
    @rule()
    def no_call_begins(self) -> None:
        before = self.breaker.circuit
        with pytest.raises(Unreachable) as caught:
            self.breaker.begin(self.now_s)
        assert caught.value.retry_after_s is not None
        assert 0.0 < caught.value.retry_after_s <= self.limits.pause_s + 1e-6
        assert self.breaker.circuit is before

    @rule(ticket=consumes(tickets), result=st.sampled_from(Result))
    def a_call_ends(self, ticket: Ticket, result: Result) -> None:
        was = self.breaker.circuit
        counts = ticket == self.probe if was is Circuit.HALF_OPEN else self.counts_while_closed(ticket)
        self.breaker.end(ticket, result, self.now_s)
        if not counts:
            assert self.breaker.circuit is was
            return
        if was is Circuit.HALF_OPEN:
            wanted = Circuit.CLOSED if result is Result.WELL else Circuit.OPEN
            self.probe, self.troubles = None, 0
        else:
            self.troubles = {Result.WELL: 0, Result.TROUBLE: self.troubles + 1, Result.UNCLEAR: self.troubles}[result]
            wanted = Circuit.OPEN if self.troubles >= self.limits.troubles_to_open else Circuit.CLOSED
        assert self.breaker.circuit is wanted
        if wanted is Circuit.OPEN:
            self.opened_at_s = self.now_s
            self.first_closed_era = ticket.era + 1
        else:
            self.first_closed_era = ticket.era + (was is Circuit.HALF_OPEN)

    first_closed_era = 0

    def counts_while_closed(self, ticket: Ticket) -> bool:
        return self.breaker.circuit is Circuit.CLOSED and ticket.era >= self.first_closed_era

    @invariant()
    def only_a_half_open_circuit_has_a_probe(self) -> None:
        if hasattr(self, "breaker"):
            assert (self.breaker.circuit is Circuit.HALF_OPEN) == (self.probe is not None)


test_a_breaker_does_what_its_rules_say = BreakerMachine.TestCase


def after(breaker: Breaker, ticket: Ticket, result: Result, now_s: float) -> Circuit:
    breaker.end(ticket, result, now_s)
    return breaker.circuit


def test_it_takes_troubles_in_a_row_to_open() -> None:
    breaker = Breaker(BreakerRules(troubles_to_open=3, pause_s=10.0))
    for result in (Result.TROUBLE, Result.TROUBLE, Result.WELL, Result.TROUBLE, Result.UNCLEAR, Result.TROUBLE):
        assert after(breaker, breaker.begin(0.0), result, 0.0) is Circuit.CLOSED
    assert after(breaker, breaker.begin(0.0), Result.TROUBLE, 5.0) is Circuit.OPEN
    with pytest.raises(Unreachable, match="the last 3 calls failed") as caught:
        breaker.begin(8.0)
    assert caught.value.retry_after_s == 7.0


def test_a_late_success_of_an_old_call_does_not_close_the_circuit() -> None:
    breaker = Breaker(BreakerRules(troubles_to_open=1, pause_s=10.0))
    old = breaker.begin(0.0)
    assert after(breaker, breaker.begin(0.0), Result.TROUBLE, 0.0) is Circuit.OPEN
    assert after(breaker, old, Result.WELL, 1.0) is Circuit.OPEN
    probe = breaker.begin(10.0)
    assert after(breaker, old, Result.WELL, 11.0) is Circuit.HALF_OPEN
    assert after(breaker, probe, Result.WELL, 12.0) is Circuit.CLOSED


@given(per_s=st.floats(0.1, 1_000.0), gaps_s=st.lists(st.floats(0.0, 5.0), min_size=2, max_size=30))
def test_turns_are_never_closer_than_the_pace(per_s: float, gaps_s: list[float]) -> None:
    pace, now_s, turns_s = Pace(per_s), 0.0, []
    for gap_s in gaps_s:
        now_s += gap_s
        wait_s = pace.wait_s(now_s)
        assert wait_s >= 0.0
        turns_s.append(now_s + wait_s)
    assert all(later - earlier >= 1.0 / per_s - 1e-6 for earlier, later in pairwise(turns_s))


def test_looking_at_the_next_turn_does_not_take_it() -> None:
    pace = Pace(2.0)
    pace.wait_s(0.0)
    assert [pace.until_next_s(now_s) for now_s in (0.0, 0.2, 9.0)] == [0.5, 0.3, 0.0]
    assert pace.wait_s(0.0) == 0.5


def test_asking_whether_a_call_may_begin_is_no_call() -> None:
    breaker = Breaker(BreakerRules(troubles_to_open=1, pause_s=10.0))
    assert breaker.admits(0.0)
    breaker.end(breaker.begin(0.0), Result.TROUBLE, 0.0)
    assert [breaker.admits(now_s) for now_s in (0.0, 9.9, 10.0)] == [False, False, True]
    assert (breaker.circuit, breaker.refused) == (Circuit.OPEN, 0)
    with pytest.raises(Unreachable):
        breaker.check(0.0)
    assert breaker.refused == 1


def test_a_caller_who_comes_late_enough_does_not_wait() -> None:
    pace = Pace(2.0)
    assert [pace.wait_s(now_s) for now_s in (0.0, 0.0, 0.6, 9.0)] == [0.0, 0.5, 0.4, 0.0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: BreakerRules(troubles_to_open=0),
        lambda: BreakerRules(pause_s=0.0),
        lambda: Pace(0.0),
        lambda: CallLimits(concurrent_calls=0),
        lambda: CallLimits(longest_wait_s=0.0),
    ],
)
def test_limits_that_let_nothing_through_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"above 0|at least 1"):
        make()


@dataclass
class Told:
    """An adapter whose calls do what `then` says; None waits for `go`, and then raises `fails_later`, if set."""

    then: Exception | Handover | None = ACCEPTED
    fails_later: Exception | None = None
    finds: bool = True
    resend_is_safe: bool = False
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    async def send(self, parcel: Any, *, again: bool) -> Handover:
        return await self.do("send", parcel, again)

    async def find(self, delivery_id: Any) -> Handover | None:
        return await self.do("find", delivery_id)

    async def status(self, handed: Any) -> Handover:
        return await self.do("status", handed)

    async def close(self) -> None:
        self.closed = True

    async def do(self, *call: Any) -> Handover:
        self.calls.append(call)
        self.begun.set()
        if self.then is None:
            await self.go.wait()
            if self.fails_later is not None:
                raise self.fails_later
            return ACCEPTED
        if isinstance(self.then, Exception):
            raise self.then
        return self.then


@dataclass
class Bench:
    adapter: Told
    destination: LimitedAdapter
    now_s: float = 0.0
    slept_s: list[float] = field(default_factory=list)


def bench(**limits: Any) -> Bench:
    adapter = Told()
    rules = BreakerRules(troubles_to_open=2, pause_s=30.0)

    async def sleep(seconds: float) -> None:
        made.slept_s.append(seconds)
        made.now_s += seconds

    destination = LimitedAdapter(
        adapter, CallLimits(**{"breaker": rules, **limits}), monotonic_s=lambda: made.now_s, sleep=sleep
    )
    made = Bench(adapter, destination)
    return made


PARCEL: Any = object()


async def test_a_destination_is_an_adapter_that_passes_everything_on() -> None:
    made = bench()
    wrapped: Adapter = made.destination
    assert await wrapped.send(PARCEL, again=True) == ACCEPTED
    assert await wrapped.find(PARCEL) == ACCEPTED
    assert await wrapped.status(PARCEL) == ACCEPTED
    assert made.adapter.calls == [("send", PARCEL, True), ("find", PARCEL), ("status", PARCEL)]
    assert (wrapped.finds, wrapped.resend_is_safe) == (True, False)
    await wrapped.close()
    assert made.adapter.closed


@pytest.mark.parametrize(
    ("error", "circuit"),
    [
        (Unreachable("no connection"), Circuit.OPEN),
        (ChannelBlocked("answered 403"), Circuit.OPEN),
        (ChannelBlocked("this sender has not mandated us", whole_channel=False), Circuit.CLOSED),
        (OutcomeUnknown("answered 500"), Circuit.CLOSED),
        (Refused(Reason.REFUSED, "400"), Circuit.CLOSED),
        (RuntimeError("ours"), Circuit.CLOSED),
    ],
)
async def test_only_calls_that_never_got_through_open_the_circuit(error: Exception, circuit: Circuit) -> None:
    made = bench()
    made.adapter.then = error
    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            await made.destination.send(PARCEL, again=False)
        assert caught.value is error
    assert made.destination.state == CallState(circuit=circuit, running=0, waiting=0)


async def test_a_provider_that_refuses_one_sender_is_well_for_the_others() -> None:
    made = bench()
    one_sender, everybody = ChannelBlocked("no mandate", whole_channel=False), ChannelBlocked("answered 403")
    for error in (everybody, one_sender, everybody):
        made.adapter.then = error
        with pytest.raises(ChannelBlocked):
            await made.destination.send(PARCEL, again=False)
    assert made.destination.state.circuit is Circuit.CLOSED


async def test_an_open_circuit_fails_at_once_and_a_probe_closes_it() -> None:
    made = bench()
    made.adapter.then = Unreachable("no connection")
    for _ in range(2):
        with pytest.raises(Unreachable):
            await made.destination.status(PARCEL)
    made.now_s = 10.0
    with pytest.raises(Unreachable) as caught:
        await made.destination.send(PARCEL, again=False)
    assert caught.value.retry_after_s == 20.0
    with pytest.raises(OutcomeUnknown):
        await made.destination.find(PARCEL)
    assert len(made.adapter.calls) == 2
    made.now_s, made.adapter.then = 30.0, ACCEPTED
    assert await made.destination.send(PARCEL, again=False) == ACCEPTED
    assert made.destination.state.circuit is Circuit.CLOSED


async def test_only_one_call_tries_a_provider_out() -> None:
    made = bench()
    made.adapter.then = ChannelBlocked("answered 401")
    for _ in range(2):
        with pytest.raises(ChannelBlocked):
            await made.destination.send(PARCEL, again=False)
    made.now_s, made.adapter.then = 31.0, None
    made.adapter.begun.clear()
    probe = asyncio.create_task(made.destination.send(PARCEL, again=False))
    await made.adapter.begun.wait()
    assert made.destination.state == CallState(circuit=Circuit.HALF_OPEN, running=1, waiting=0)
    with pytest.raises(Unreachable, match="tries the provider out"):
        await made.destination.send(PARCEL, again=False)
    probe.cancel()
    await asyncio.wait([probe])
    assert made.destination.state == CallState(circuit=Circuit.OPEN, running=0, waiting=0)


async def test_calls_beyond_the_limit_wait_their_turn() -> None:
    made = bench(concurrent_calls=2)
    made.adapter.then = None
    calls = [asyncio.create_task(made.destination.send(PARCEL, again=False)) for _ in range(5)]
    await made.adapter.begun.wait()  # every task has run as far as it can by then
    assert made.destination.state == CallState(circuit=Circuit.CLOSED, running=2, waiting=3)
    assert len(made.adapter.calls) == 2
    calls[4].cancel()
    made.adapter.go.set()
    assert await asyncio.gather(*calls[:4]) == [ACCEPTED] * 4
    assert len(made.adapter.calls) == 4
    assert made.destination.state == CallState(circuit=Circuit.CLOSED, running=0, waiting=0)


async def test_a_call_that_waited_does_not_go_where_the_circuit_has_opened_meanwhile() -> None:
    made = bench(concurrent_calls=1, breaker=BreakerRules(troubles_to_open=1, pause_s=30.0))
    made.adapter.then, made.adapter.fails_later = None, Unreachable("no connection")
    calls = [asyncio.create_task(made.destination.send(PARCEL, again=False)) for _ in range(2)]
    await made.adapter.begun.wait()
    made.adapter.go.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == [
        "unreachable: no connection",
        "unreachable: not called: the last 1 calls failed",
    ]
    assert len(made.adapter.calls) == 1


async def test_calls_keep_the_pace() -> None:
    made = bench(calls_per_s=4.0)
    for _ in range(3):
        await made.destination.send(PARCEL, again=False)
    assert made.slept_s == [0.0, 0.25, 0.25]


# Waiting beforehand, and not for long otherwise


async def test_a_call_with_a_reservation_waits_for_nothing() -> None:
    made = bench(concurrent_calls=1, calls_per_s=0.01)
    async with made.destination.reserved():
        assert made.destination.state == CallState(circuit=Circuit.CLOSED, running=0, waiting=0)
        made.adapter.then = None
        call = asyncio.create_task(made.destination.send(PARCEL, again=False))
        await made.adapter.begun.wait()
        assert made.destination.state == CallState(circuit=Circuit.CLOSED, running=1, waiting=0)
        made.adapter.go.set()
        assert await call == ACCEPTED
    assert made.slept_s == [0.0]


async def test_a_reservation_waits_as_long_as_it_takes() -> None:
    made = bench(concurrent_calls=1, calls_per_s=0.01)
    for _ in range(2):
        async with made.destination.reserved():
            assert await made.destination.send(PARCEL, again=False) == ACCEPTED
    assert made.slept_s == [0.0, 100.0]
    assert made.destination.totals == CallTotals(refused=0, place_wait_s=0.0, turn_wait_s=100.0)


async def test_a_reservation_is_for_one_call() -> None:
    made = bench(concurrent_calls=2, calls_per_s=0.5)
    async with made.destination.reserved():
        for _ in range(2):
            await made.destination.send(PARCEL, again=False)
    assert made.slept_s == [0.0, 2.0]


async def test_a_reservation_at_one_provider_is_none_at_another() -> None:
    one, other = bench(calls_per_s=0.5), bench(calls_per_s=0.5)
    async with one.destination.reserved():
        await other.destination.send(PARCEL, again=False)
    assert (one.slept_s, other.slept_s) == ([0.0], [0.0])


async def test_a_place_that_was_reserved_is_free_again_whatever_happens() -> None:
    made = bench(concurrent_calls=1)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            async with made.destination.reserved():
                raise ZeroDivisionError
    assert await made.destination.send(PARCEL, again=False) == ACCEPTED


async def test_whoever_gives_up_waiting_leaves_no_trace() -> None:
    made = bench(concurrent_calls=1)

    async def reserve() -> None:
        async with made.destination.reserved():
            pytest.fail("there was no place")

    async with made.destination.reserved():
        waiting = asyncio.create_task(reserve())
        await asyncio.sleep(0)  # it has asked
        assert made.destination.state.waiting == 1
        waiting.cancel()
        await asyncio.wait([waiting])
    assert made.destination.state == CallState(circuit=Circuit.CLOSED, running=0, waiting=0)
    async with made.destination.reserved():
        pass


async def test_nobody_waits_for_a_provider_that_is_not_called() -> None:
    made = bench(concurrent_calls=1, calls_per_s=0.01)
    made.adapter.then = Unreachable("no connection")
    for _ in range(2):
        async with made.destination.reserved():
            with pytest.raises(Unreachable):
                await made.destination.send(PARCEL, again=False)
    slept = len(made.slept_s)
    async with made.destination.reserved(), made.destination.reserved():
        with pytest.raises(Unreachable, match="the last 2 calls failed"):
            await made.destination.send(PARCEL, again=False)
    assert len(made.slept_s) == slept
    assert made.destination.totals.refused == 1


async def test_a_call_that_would_wait_too_long_for_its_place_is_surely_not_made() -> None:
    made = bench(concurrent_calls=1, longest_wait_s=0.01)
    async with made.destination.reserved():
        await made.destination.send(PARCEL, again=False)  # the place is held, and its one call made
        with pytest.raises(Unreachable, match="too many calls are running"):
            await made.destination.status(PARCEL)
        with pytest.raises(OutcomeUnknown):
            await made.destination.find(PARCEL)
    assert len(made.adapter.calls) == 1
    assert made.destination.state == CallState(circuit=Circuit.CLOSED, running=0, waiting=0)
    assert await made.destination.send(PARCEL, again=False) == ACCEPTED


async def test_a_call_that_would_wait_too_long_for_its_turn_leaves_it_to_another() -> None:
    made = bench(calls_per_s=0.1, longest_wait_s=5.0)
    await made.destination.send(PARCEL, again=False)
    for _ in range(3):
        with pytest.raises(Unreachable, match="too many calls wait") as caught:
            await made.destination.send(PARCEL, again=False)
        assert caught.value.retry_after_s == 10.0
    assert len(made.adapter.calls) == 1
    made.now_s = 6.0
    await made.destination.send(PARCEL, again=False)
    assert made.slept_s == [0.0, 4.0]
