"""
What stands between a worker and a provider: how many calls at once, how fast, and none while the provider is down.

One dead or slow provider must never use up the workers that the others need. The circuit breaker counts calls that
handed nothing over and calls that refused us; it does not count lost answers, which say little about the next call.
Where the provider refuses a single sender, it is well: the other senders' letters must not wait for that one's papers.

Whoever waited for a place or a turn has handed nothing over. So a worker waits before anything is written down
(`reserved`), and any other call that would have to wait for long fails as `Unreachable`: a queue in here never makes a
call whose outcome is unknown.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import StrEnum
from time import monotonic
from typing import TypeVar, assert_never

from gateway.adapters.base import Adapter, Foretelling, Handed, Handover, Parcel, Proof, Proving
from gateway.domain.ids import DeliveryId
from gateway.domain.message import Channel, Recipient
from gateway.domain.status import Reason
from gateway.errors import ChannelBlocked, OutcomeUnknown, Refused, Unreachable

_T = TypeVar("_T")


class Circuit(StrEnum):
    """Whether calls pass."""

    CLOSED = "closed"  # they do
    OPEN = "open"  # none does, until the pause is over
    HALF_OPEN = "half-open"  # one does, as a probe


class Result(StrEnum):
    """What a call says about the provider."""

    WELL = "well"
    TROUBLE = "trouble"
    UNCLEAR = "unclear"  # a lost answer, or the call was broken off on our side


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRules:
    """When the circuit opens, and how long it stays so before a probe."""

    troubles_to_open: int = 5
    pause_s: float = 30.0

    def __post_init__(self) -> None:
        """Refuse rules under which the circuit is never closed or never open."""
        if self.troubles_to_open < 1 or self.pause_s <= 0:
            raise ValueError("troubles_to_open is at least 1 and pause_s above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """Leave to make one call; it counts only while the circuit is as it was when the call began."""

    era: int


class Breaker:
    """
    A circuit breaker without clock or waiting: `now_s` is any clock in seconds that never goes back.

    Each `begin` that returns must be followed by one `end`.
    """

    def __init__(self, rules: BreakerRules) -> None:
        self._rules = rules
        self._circuit = Circuit.CLOSED
        self._era = 0  # counts the changes of the circuit
        self._troubles = 0  # in a row
        self._probe_at_s = 0.0
        self._refused = 0

    @property
    def circuit(self) -> Circuit:
        """Return the state; an open circuit whose pause is over stays open until somebody begins a call."""
        return self._circuit

    @property
    def refused(self) -> int:
        """Return how many calls were refused so far."""
        return self._refused

    def admits(self, now_s: float) -> bool:
        """Tell whether a call may begin now."""
        return self._why_not(now_s) is None

    def check(self, now_s: float) -> None:
        """
        Raise if no call may begin now.

        Raises:
            Unreachable: with the seconds until it is worth trying again.
        """
        why_not = self._why_not(now_s)
        if why_not is not None:
            self._refused += 1
            raise why_not

    def _why_not(self, now_s: float) -> Unreachable | None:
        match self._circuit:
            case Circuit.CLOSED:
                return None
            case Circuit.OPEN:
                if now_s >= self._probe_at_s:
                    return None
                return Unreachable(
                    f"not called: the last {self._troubles} calls failed", retry_after_s=self._probe_at_s - now_s
                )
            case Circuit.HALF_OPEN:
                return Unreachable("not called: one call tries the provider out", retry_after_s=self._rules.pause_s)
            case _:
                assert_never(self._circuit)

    def begin(self, now_s: float) -> Ticket:
        """
        Let a call begin.

        Raises:
            Unreachable: as for `check`.
        """
        self.check(now_s)
        if self._circuit is Circuit.OPEN:
            self._become(Circuit.HALF_OPEN)
        return Ticket(era=self._era)

    def end(self, ticket: Ticket, result: Result, now_s: float) -> None:
        """Note how a call went; a call from before the circuit last changed counts no more."""
        if ticket.era != self._era:
            return
        is_probe = self._circuit is Circuit.HALF_OPEN
        match result:
            case Result.WELL:
                self._troubles = 0
                if is_probe:
                    self._become(Circuit.CLOSED)
            case Result.TROUBLE:
                self._troubles += 1
                if is_probe or self._troubles >= self._rules.troubles_to_open:
                    self._open(now_s)
            case Result.UNCLEAR:
                if is_probe:
                    self._open(now_s)
            case _:
                assert_never(result)

    def _open(self, now_s: float) -> None:
        self._probe_at_s = now_s + self._rules.pause_s
        self._become(Circuit.OPEN)

    def _become(self, circuit: Circuit) -> None:
        self._circuit = circuit
        self._era += 1


class Pace:
    """An even rate: each call has its turn, `1 / per_s` seconds after the one before."""

    def __init__(self, per_s: float) -> None:
        if per_s <= 0:
            raise ValueError("a pace is above 0 calls per second")
        self._interval_s = 1.0 / per_s
        self._next_turn_s = float("-inf")

    def until_next_s(self, now_s: float) -> float:
        """Return the seconds until the next turn, which nobody took yet."""
        return max(self._next_turn_s - now_s, 0.0)

    def wait_s(self, now_s: float) -> float:
        """Take the next turn and return the seconds until it comes."""
        until_s = self.until_next_s(now_s)
        self._next_turn_s = now_s + until_s + self._interval_s
        return until_s


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """
    The limits of one provider; `calls_per_s` None sets no rate.

    `longest_wait_s` is how long a call without a reservation waits for its place, and again for its turn.
    """

    concurrent_calls: int = 8
    calls_per_s: float | None = None
    longest_wait_s: float = 5.0
    breaker: BreakerRules = BreakerRules()

    def __post_init__(self) -> None:
        """Refuse limits under which no call could be made."""
        if self.concurrent_calls < 1:
            raise ValueError("concurrent_calls is at least 1")
        if self.longest_wait_s <= 0:
            raise ValueError("longest_wait_s is above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallState:
    """A snapshot for metrics: calls that run, and whoever waits for a place or a turn."""

    circuit: Circuit
    running: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTotals:
    """What happened since the start, for metrics: calls that the breaker refused, and seconds that callers waited."""

    refused: int
    place_wait_s: float
    turn_wait_s: float


@dataclass(slots=True, kw_only=True, eq=False)
class _Reservation:
    """A place and a turn that were waited for; the first call uses them up."""

    holder: "LimitedAdapter"
    is_used: bool = False


# Of the task that holds it, so that it reaches the call through everything between the two.
_RESERVATION: ContextVar[_Reservation | None] = ContextVar("reservation", default=None)


class LimitedAdapter:
    """
    An adapter within its limits. While the circuit is open, calls fail at once, without waiting for a place.

    `monotonic_s` is a clock that never goes back; `sleep` waits for a turn when a rate is set.
    """

    def __init__(
        self,
        adapter: Adapter,
        limits: CallLimits,
        *,
        monotonic_s: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._adapter = adapter
        self._limits = limits
        self._breaker = Breaker(limits.breaker)
        self._places = asyncio.Semaphore(limits.concurrent_calls)
        self._pace = None if limits.calls_per_s is None else Pace(limits.calls_per_s)
        self._monotonic_s = monotonic_s
        self._sleep = sleep
        self._running = 0
        self._waiting = 0
        self._place_wait_s = 0.0
        self._turn_wait_s = 0.0

    @property
    def concurrent_calls(self) -> int:
        """How many calls run at once at most."""
        return self._limits.concurrent_calls

    @property
    def finds(self) -> bool:
        """Whether the adapter's provider has a look-up by our delivery id."""
        return self._adapter.finds

    @property
    def resend_is_safe(self) -> bool:
        """Whether the adapter's provider dedupes on the delivery id."""
        return self._adapter.resend_is_safe

    @property
    def state(self) -> CallState:
        """Return how busy and how well the destination is."""
        return CallState(circuit=self._breaker.circuit, running=self._running, waiting=self._waiting)

    @property
    def totals(self) -> CallTotals:
        """Return what happened since the start."""
        return CallTotals(refused=self._breaker.refused, place_wait_s=self._place_wait_s, turn_wait_s=self._turn_wait_s)

    @contextlib.asynccontextmanager
    async def reserved(self) -> AsyncIterator[None]:
        """
        Wait, however long, for a place and a turn; the first call inside uses them and waits no more.

        While the circuit is open there is nothing to wait for: the call will fail at once.
        """
        if not self._breaker.admits(self._monotonic_s()):
            yield
            return
        async with self._place(longest_s=None):
            held = _RESERVATION.set(_Reservation(holder=self))
            try:
                yield
            finally:
                _RESERVATION.reset(held)

    async def send(self, parcel: Parcel, *, again: bool) -> Handover:
        """
        Hand a parcel over through the adapter.

        Raises:
            Unreachable: the circuit is open, there is no place, or as the adapter says.
            DeliveryError: as the adapter says.
        """
        return await self._within_limits(lambda: self._adapter.send(parcel, again=again))

    async def find(self, delivery_id: DeliveryId) -> Handover | None:
        """
        Look a delivery up through the adapter.

        Raises:
            OutcomeUnknown: the circuit is open, there is no place, or as the adapter says.
        """
        try:
            return await self._within_limits(lambda: self._adapter.find(delivery_id))
        except Unreachable as exc:
            raise OutcomeUnknown(exc.detail) from exc

    async def status(self, handed: Handed) -> Handover:
        """
        Ask how far a delivery is through the adapter.

        Raises:
            Unreachable: the circuit is open, there is no place, or as the adapter says.
        """
        return await self._within_limits(lambda: self._adapter.status(handed))

    async def evidence(self, handed: Handed) -> list[Proof]:
        """
        Return the proofs that the adapter's provider keeps of a delivery; none where it keeps none.

        Raises:
            Unreachable: the circuit is open, there is no place, or as the adapter says.
        """
        adapter = self._adapter
        if not isinstance(adapter, Proving):
            return []
        found = await self._within_limits(lambda: adapter.evidence(handed))
        return [replace(proof, fetch=self._fetching(proof)) for proof in found]

    async def forecast(self, channel: Channel, recipient: Recipient) -> Reason | None:
        """
        Return why the adapter's provider would refuse this recipient now; None where it does not tell.

        Raises:
            Unreachable, ChannelBlocked: it could not be asked.
        """
        adapter = self._adapter
        if not isinstance(adapter, Foretelling):
            return None
        return await self._within_limits(lambda: adapter.forecast(channel, recipient))

    async def close(self) -> None:
        """Let the adapter's connections go."""
        await self._adapter.close()

    def _fetching(self, proof: Proof) -> Callable[[], Awaitable[bytes]]:
        return lambda: self._within_limits(proof.fetch)

    async def _within_limits(self, call: Callable[[], Awaitable[_T]]) -> _T:
        self._breaker.check(self._monotonic_s())
        reservation = _RESERVATION.get()
        if reservation is not None and reservation.holder is self and not reservation.is_used:
            reservation.is_used = True
            return await self._watched(call)
        async with self._place(longest_s=self._limits.longest_wait_s):
            return await self._watched(call)

    @contextlib.asynccontextmanager
    async def _place(self, *, longest_s: float | None) -> AsyncIterator[None]:
        """
        Wait for a place, and then for a turn; hold the place.

        Raises:
            Unreachable: one of them would take longer than `longest_s`.
        """
        self._waiting += 1
        try:
            await self._acquire(longest_s)
        except BaseException:
            self._waiting -= 1
            raise
        try:
            try:
                await self._take_turn(longest_s)
            finally:
                self._waiting -= 1
            yield
        finally:
            self._places.release()

    async def _acquire(self, longest_s: float | None) -> None:
        began_s = self._monotonic_s()
        try:
            async with asyncio.timeout(longest_s):
                await self._places.acquire()
        except TimeoutError:
            raise Unreachable("not called: too many calls are running", retry_after_s=longest_s) from None
        finally:
            self._place_wait_s += self._monotonic_s() - began_s

    async def _take_turn(self, longest_s: float | None) -> None:
        if self._pace is None:
            return
        now_s = self._monotonic_s()
        until_s = self._pace.until_next_s(now_s)
        if longest_s is not None and until_s > longest_s:  # the turn is left to somebody who can wait
            raise Unreachable("not called: too many calls wait for their turn", retry_after_s=until_s)
        try:
            await self._sleep(self._pace.wait_s(now_s))
        finally:
            self._turn_wait_s += self._monotonic_s() - now_s

    async def _watched(self, call: Callable[[], Awaitable[_T]]) -> _T:
        # Asked again, because the circuit may have opened while this call waited for its place.
        ticket = self._breaker.begin(self._monotonic_s())
        result = Result.UNCLEAR
        self._running += 1
        try:
            outcome = await call()
            result = Result.WELL
        except Unreachable:
            result = Result.TROUBLE
            raise
        except ChannelBlocked as blocked:
            result = Result.TROUBLE if blocked.whole_channel else Result.WELL
            raise
        except Refused:
            result = Result.WELL
            raise
        finally:
            self._running -= 1
            self._breaker.end(ticket, result, self._monotonic_s())
        return outcome
