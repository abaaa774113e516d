"""
Faults on order: the ways in which a provider can fail, queued per operation and used up one call at a time.

An order waits until a call of its operation comes whose facts match. The first matching order in the queue goes first.
Faults that strike before the body is read (`hang`, `close`) know only the facts of the request line and headers; an
order that asks for a fact from the body is passed over until the body has been read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final


class FaultKind(StrEnum):
    """What is done to a call."""

    ANSWER = "answer"  # read the body, keep nothing, answer `status`
    CLOSE = "close"  # break the connection before the body is read
    HANG = "hang"  # do not read the body and do not answer, until released
    KEEP_THEN_ANSWER = "keep-then-answer"  # do the work, then answer `status` instead of the truth
    KEEP_THEN_CLOSE = "keep-then-close"  # do the work, then break the connection
    KEEP_THEN_HANG = "keep-then-hang"  # do the work, then never answer, until released
    KEEP_THEN_TRUNCATE = "keep-then-truncate"  # do the work, then break the connection inside the answer
    SLOW = "slow"  # do the work, then answer truly when released, or after `delay_s`
    MALFORMED_JSON = "malformed-json"  # do the work, then answer half of the JSON
    WRONG_CONTENT_TYPE = "wrong-content-type"  # do the work, then answer a web page with the true status


BEFORE_BODY: Final = frozenset({FaultKind.CLOSE, FaultKind.HANG})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault; the fields after `name` count only for the kinds that need them."""

    kind: FaultKind
    name: str = ""
    status: int = 500
    code: str = "INTERNAL_ERROR"
    message: str = "Ordered by a test"
    field: str = ""
    retry_after_s: int | None = None
    location: str | None = None
    delay_s: float | None = None  # None: only a release ends it

    @property
    def strikes_before_body(self) -> bool:
        """Whether the fault happens before the request's body is read."""
        return self.kind in BEFORE_BODY

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that go with an answered fault."""
        headers = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        if self.location is not None:
            headers["Location"] = self.location
        return headers


def _answer(status: int, code: str, **more: Any) -> Fault:
    return Fault(kind=FaultKind.ANSWER, status=status, code=code, **more)


def _kept(kind: FaultKind, status: int = 500) -> Fault:
    return Fault(kind=kind, status=status)


_BY_NAME: dict[str, Fault] = {
    # permanent request error
    "bad-request": _answer(400, "INVALID_INPUT"),
    "unprocessable": _answer(422, "unprocessable"),
    # content
    "digest-mismatch": _answer(400, "DIGEST_DO_NOT_MATCH"),
    "not-a4": _answer(422, "letter-not-a4-portrait-oriented", field="documents[0]"),
    # authorisation
    "unauthorised": _answer(401, "UNAUTHORIZED"),
    "forbidden": _answer(403, "FORBIDDEN"),
    "invalid-sender": _answer(400, "INVALID_SENDER"),
    # duplicate
    "conflict": _answer(409, "CONFLICT"),
    # temporary
    "request-timeout": _answer(408, "REQUEST_TIMEOUT"),
    "too-many-requests": _answer(429, "TOO_MANY_REQUESTS", retry_after_s=7),
    "server-error": _answer(500, "INTERNAL_ERROR"),
    "bad-gateway": _answer(502, "BAD_GATEWAY"),
    "unavailable": _answer(503, "UNAVAILABLE", retry_after_s=7),
    "gateway-timeout": _answer(504, "GATEWAY_TIMEOUT"),
    # an answer that no rule foresees
    "redirect": _answer(302, "FOUND", location="https://elsewhere.invalid/"),
    # the connection fails before anything is taken over
    "close": Fault(kind=FaultKind.CLOSE),
    "hang": Fault(kind=FaultKind.HANG),
    # unknown outcome: taken over, but the sender cannot know
    "keep-then-500": _kept(FaultKind.KEEP_THEN_ANSWER, 500),
    "keep-then-504": _kept(FaultKind.KEEP_THEN_ANSWER, 504),
    "keep-then-close": _kept(FaultKind.KEEP_THEN_CLOSE),
    "keep-then-hang": _kept(FaultKind.KEEP_THEN_HANG),
    "keep-then-truncate": _kept(FaultKind.KEEP_THEN_TRUNCATE),
    "malformed-json": _kept(FaultKind.MALFORMED_JSON),
    "wrong-content-type": _kept(FaultKind.WRONG_CONTENT_TYPE),
    "slow": _kept(FaultKind.SLOW),
}
FAULTS: Final[Mapping[str, Fault]] = MappingProxyType(
    {name: replace(fault, name=name) for name, fault in _BY_NAME.items()}
)


@dataclass(slots=True, kw_only=True)
class Order:
    """A fault that waits for calls; `left` counts down."""

    number: int
    operation: str
    fault: Fault
    left: int
    match: Mapping[str, str] = field(default_factory=dict)

    def fits(self, facts: Mapping[str, str]) -> bool:
        """Whether every fact that the order asks for is known and equal."""
        return all(facts.get(name) == wanted for name, wanted in self.match.items())

    def as_json(self) -> dict[str, Any]:
        """Return the order as the control interface shows it."""
        return {
            "number": self.number,
            "operation": self.operation,
            "fault": self.fault.name or self.fault.kind.value,
            "left": self.left,
            "match": dict(self.match),
        }


class FaultEngine:
    """The queue of orders of one simulator."""

    def __init__(
        self, *, operations: Iterable[str], header_facts: Iterable[str], body_facts: Iterable[str] = ()
    ) -> None:
        self.operations = frozenset(operations)
        self._header_facts = frozenset(header_facts)
        self._body_facts = frozenset(body_facts)
        self._orders: list[Order] = []
        self._ordered = 0

    def order(
        self, operation: str, fault: Fault | str, times: int = 1, match: Mapping[str, str] | None = None
    ) -> Order:
        """
        Let the next `times` matching calls of `operation` fail in this way.

        Raises:
            ValueError: unknown operation, fault or fact, `times` below 1, or a fault before the body that is to match
                a fact from the body.
        """
        if operation not in self.operations:
            raise ValueError(f"unknown operation; this simulator has {', '.join(sorted(self.operations))}")
        if isinstance(fault, str):
            if fault not in FAULTS:
                raise ValueError(f"unknown fault; there are {', '.join(sorted(FAULTS))}")
            fault = FAULTS[fault]
        if times < 1:
            raise ValueError("times is at least 1")
        known = self._header_facts if fault.strikes_before_body else self._header_facts | self._body_facts
        if not known.issuperset(match or {}):
            raise ValueError(f"this fault can match only {', '.join(sorted(known))}")
        self._ordered += 1
        order = Order(number=self._ordered, operation=operation, fault=fault, left=times, match=dict(match or {}))
        self._orders.append(order)
        return order

    def take(self, operation: str, facts: Mapping[str, str], *, body_read: bool) -> Fault | None:
        """
        Use up and return the fault that strikes this call at this point, or None.

        Call it once before the body is read and, when that gave None, once after.
        """
        for order in self._orders:
            if order.operation != operation or not order.fits(facts):
                continue
            if order.fault.strikes_before_body == body_read:
                if body_read:
                    continue  # too late for this call; the order waits for the next
                return None  # its turn comes after the body, and no later order overtakes it
            order.left -= 1
            if order.left == 0:
                self._orders.remove(order)
            return order.fault
        return None

    @property
    def pending(self) -> tuple[Order, ...]:
        """Return the orders that still wait, first come first."""
        return tuple(self._orders)

    def clear(self) -> None:
        """Forget all waiting orders."""
        self._orders.clear()
