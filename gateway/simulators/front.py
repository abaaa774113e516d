"""
The front of a simulator: every provider call passes here, so that faults and records work alike everywhere.

A call goes through four points: facts from the headers; `receive`, which authenticates and reads the body; `act`, which
does the work and makes the answer; the answer itself. A fault can strike between any two of them.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Literal, Protocol, TypeVar, assert_never

from aiohttp import web

from gateway.simulators.faults import Fault, FaultEngine, FaultKind
from gateway.simulators.records import Call, Outcome, Records

Clock = Callable[[], datetime]
Advance = Literal["on-poll", "manual"]  # what moves messages and jobs on: each look at their status, or only control


def utc_now() -> datetime:
    """Return the present time of this machine."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldFault:
    """One wrong field of a request: a code and where."""

    code: str
    field: str


class Refusal(Exception):
    """The provider refuses this call; the front renders it in the provider's own form."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: tuple[FieldFault, ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})
        self.errors = errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the provider answers; `kept_id` names what the call made it keep."""

    status: int
    payload: Any = None
    content: bytes | None = None  # instead of a JSON payload
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    kept_id: str | None = None

    @property
    def body(self) -> bytes:
        """Return the octets of the body."""
        return json.dumps(self.payload).encode() if self.content is None else self.content


class Received(Protocol):
    """A request whose body has been read."""

    @property
    def facts(self) -> Mapping[str, str]:
        """What an order may match: fact names and values from the body."""


ErrorForm = Callable[[str, Refusal], Any]  # (operation, refusal) -> the JSON in which the provider words it

_ReceivedT = TypeVar("_ReceivedT", bound=Received)

_TOO_LARGE = Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "TOO_LARGE", "the body is too large")
_WEB_PAGE = b"<!doctype html><title>Please sign in</title><p>This is not the answer that you expect."


class Front:
    """Serves the calls of one simulator under its faults and notes them in its records."""

    def __init__(self, *, faults: FaultEngine, records: Records, error_form: ErrorForm) -> None:
        self.faults = faults
        self.records = records
        self._error_form = error_form
        self._holds: set[asyncio.Event] = set()
        self._working: set[asyncio.Task[Answer]] = set()
        self._shutting_down = False

    async def serve(
        self,
        request: web.Request,
        operation: str,
        *,
        facts: Mapping[str, str],
        receive: Callable[[], Awaitable[_ReceivedT]],
        act: Callable[[_ReceivedT], Coroutine[Any, Any, Answer]],
    ) -> web.StreamResponse:
        """
        Serve one call.

        `receive` authenticates and reads the body, `act` does the work; both may raise `Refusal`. `act` runs to its end
        even if the caller goes away, as a provider's would.
        """
        call = self.records.open_call(operation, facts.get("idempotency_key"))
        try:
            return await self._serve(request, call, facts, receive, act)
        except (asyncio.CancelledError, ConnectionError):
            call.outcome = Outcome.DISCONNECTED
            raise
        except Exception:
            call.outcome = Outcome.FAILED
            raise
        finally:
            self.records.changed()

    async def _serve(
        self,
        request: web.Request,
        call: Call,
        facts: Mapping[str, str],
        receive: Callable[[], Awaitable[_ReceivedT]],
        act: Callable[[_ReceivedT], Coroutine[Any, Any, Answer]],
    ) -> web.StreamResponse:
        fault = self.faults.take(call.operation, facts, body_read=False)
        if fault is not None:
            call.fault = fault.name or fault.kind.value
            if fault.kind is FaultKind.HANG:
                await self._hold(call, None)
            return _break_connection(request, call)
        try:
            received = await receive()
        except (Refusal, web.HTTPRequestEntityTooLarge) as error:
            await _drain(request)
            refusal = error if isinstance(error, Refusal) else _TOO_LARGE
            return _answered(call, self._refused(call, refusal))
        fault = self.faults.take(call.operation, {**facts, **received.facts}, body_read=True)
        if fault is not None:
            call.fault = fault.name or fault.kind.value
            if fault.kind is FaultKind.ANSWER:
                return _answered(call, self._ordered(call, fault))
        work = asyncio.ensure_future(self._work(call, act(received)))
        self._working.add(work)
        work.add_done_callback(self._working.discard)
        answer = await asyncio.shield(work)
        if fault is None:
            return _answered(call, answer)
        return await self._spoil(request, call, fault, answer)

    async def _work(self, call: Call, act: Coroutine[Any, Any, Answer]) -> Answer:
        try:
            answer = await act
        except Refusal as refusal:
            return self._refused(call, refusal)
        call.kept_id = answer.kept_id
        return answer

    async def _spoil(self, request: web.Request, call: Call, fault: Fault, answer: Answer) -> web.StreamResponse:
        match fault.kind:
            case FaultKind.KEEP_THEN_ANSWER:
                return _answered(call, self._ordered(call, fault))
            case FaultKind.KEEP_THEN_CLOSE:
                return _break_connection(request, call)
            case FaultKind.KEEP_THEN_HANG:
                await self._hold(call, None)
                return _break_connection(request, call)
            case FaultKind.KEEP_THEN_TRUNCATE:
                return await _truncated(request, call, answer)
            case FaultKind.SLOW:
                await self._hold(call, fault.delay_s)
                return _answered(call, answer)
            case FaultKind.MALFORMED_JSON:
                half = answer.body[: len(answer.body) // 2]
                return _answered(call, replace(answer, content=half))
            case FaultKind.WRONG_CONTENT_TYPE:
                return _answered(call, replace(answer, content=_WEB_PAGE, content_type="text/html"))
            case FaultKind.ANSWER | FaultKind.CLOSE | FaultKind.HANG:
                raise ValueError("this fault strikes before the work")
            case _:
                assert_never(fault.kind)

    def _refused(self, call: Call, refusal: Refusal) -> Answer:
        payload = self._error_form(call.operation, refusal)
        return Answer(status=refusal.status, payload=payload, headers=refusal.headers)

    def _ordered(self, call: Call, fault: Fault) -> Answer:
        errors = (FieldFault(code=fault.code, field=fault.field),)
        return self._refused(
            call, Refusal(fault.status, fault.code, fault.message, headers=fault.headers, errors=errors)
        )

    async def _hold(self, call: Call, delay_s: float | None) -> None:
        """Return on release, on shutdown, or after `delay_s` seconds."""
        if self._shutting_down:
            return
        released = asyncio.Event()
        self._holds.add(released)
        call.outcome = Outcome.HELD
        self.records.held += 1
        self.records.changed()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await released.wait()
            call.outcome = Outcome.RUNNING
        finally:
            self._holds.discard(released)
            self.records.held -= 1

    def release(self) -> int:
        """Let all held calls go on and return how many there were: slow ones are answered, the others cut off."""
        holds = list(self._holds)
        for released in holds:
            released.set()
        return len(holds)

    async def shut_down(self, _app: web.Application) -> None:
        """End the hanging calls, and finish the work that callers did not wait for; an `on_shutdown` signal."""
        self._shutting_down = True
        self.release()
        await asyncio.gather(*self._working, return_exceptions=True)


def _answered(call: Call, answer: Answer) -> web.Response:
    call.outcome = Outcome.ANSWERED
    call.status = answer.status
    return web.Response(
        status=answer.status,
        body=answer.body,
        content_type=answer.content_type,
        headers=answer.headers,
    )


def _break_connection(request: web.Request, call: Call) -> web.Response:
    call.outcome = Outcome.CLOSED
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=HTTPStatus.INTERNAL_SERVER_ERROR)  # goes nowhere: the connection is gone


async def _truncated(request: web.Request, call: Call, answer: Answer) -> web.StreamResponse:
    call.outcome = Outcome.CLOSED
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_type = answer.content_type
    response.content_length = len(answer.body)
    await response.prepare(request)
    await response.write(answer.body[: len(answer.body) // 2])
    if request.transport is not None:
        request.transport.close()  # sends what is written, then ends the connection
    return response


async def _drain(request: web.Request) -> None:
    """Read the rest of the body, so that the caller gets the answer and not a broken pipe."""
    while await request.content.readany():
        pass
