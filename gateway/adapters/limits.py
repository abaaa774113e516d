"""
What stands between a worker and a provider: how many calls at once, how fast, and none while the provider is down.

One dead or slow provider must never use up the workers that the others need. The circuit breaker counts calls that
handed nothing over and calls that refused us; it does not count lost answers, which say little about the next call.
Where the provider refuses a single sender, it is well: the other senders' letters must not wait for that one's papers.
"""

import asyncio
from collections.abc import Awaitable, Callable
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

    @property
    def circuit(self) -> Circuit:
        """Return the state; an open circuit whose pause is over stays open until somebody begins a call."""
        return self._circuit

    def check(self, now_s: float) -> None:
        """
        Raise if no call may begin now.

        Raises:
            Unreachable: with the seconds until it is worth trying again.
        """
        match self._circuit:
            case Circuit.CLOSED:
                return
            case Circuit.OPEN:
                if now_s >= self._probe_at_s:
                    return
                raise Unreachable(
                    f"not called: the last {self._troubles} calls failed", retry_after_s=self._probe_at_s - now_s
                )
            case Circuit.HALF_OPEN:
                raise Unreachable("not called: one call tries the provider out", retry_after_s=self._rules.pause_s)
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

    def wait_s(self, now_s: float) -> float:
        """Take the next turn and return the seconds until it comes."""
        turn_s = max(now_s, self._next_turn_s)
        self._next_turn_s = turn_s + self._interval_s
        return turn_s - now_s


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """The limits of one provider; `calls_per_s` None sets no rate."""

    concurrent_calls: int = 8
    calls_per_s: float | None = None
    breaker: BreakerRules = BreakerRules()

    def __post_init__(self) -> None:
        """Refuse limits under which no call could be made."""
        if self.concurrent_calls < 1:
            raise ValueError("concurrent_calls is at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallState:
    """A snapshot for metrics."""

    circuit: Circuit
    running: int
    waiting: int


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
        self._breaker = Breaker(limits.breaker)
        self._places = asyncio.Semaphore(limits.concurrent_calls)
        self._pace = None if limits.calls_per_s is None else Pace(limits.calls_per_s)
        self._monotonic_s = monotonic_s
        self._sleep = sleep
        self._running = 0
        self._waiting = 0

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

    async def send(self, parcel: Parcel, *, again: bool) -> Handover:
        """
        Hand a parcel over through the adapter.

        Raises:
            Unreachable: the circuit is open, or as the adapter says.
            DeliveryError: as the adapter says.
        """
        return await self._within_limits(lambda: self._adapter.send(parcel, again=again))

    async def find(self, delivery_id: DeliveryId) -> Handover | None:
        """
        Look a delivery up through the adapter.

        Raises:
            OutcomeUnknown: the circuit is open, or as the adapter says.
        """
        try:
            return await self._within_limits(lambda: self._adapter.find(delivery_id))
        except Unreachable as exc:
            raise OutcomeUnknown(exc.detail) from exc

    async def status(self, handed: Handed) -> Handover:
        """
        Ask how far a delivery is through the adapter.

        Raises:
            Unreachable: the circuit is open, or as the adapter says.
        """
        return await self._within_limits(lambda: self._adapter.status(handed))

    async def evidence(self, handed: Handed) -> list[Proof]:
        """
        Return the proofs that the adapter's provider keeps of a delivery; none where it keeps none.

        Raises:
            Unreachable: the circuit is open, or as the adapter says.
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
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        self._running += 1
        try:
            if self._pace is not None:
                await self._sleep(self._pace.wait_s(self._monotonic_s()))
            return await self._watched(call)
        finally:
            self._running -= 1
            self._places.release()

    async def _watched(self, call: Callable[[], Awaitable[_T]]) -> _T:
        # Asked again, because the circuit may have opened while this call waited for its place.
        ticket = self._breaker.begin(self._monotonic_s())
        result = Result.UNCLEAR
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
            self._breaker.end(ticket, result, self._monotonic_s())
        return outcome
