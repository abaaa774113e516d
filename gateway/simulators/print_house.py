"""
A print house with the generic REST interface for print jobs.

`POST /print-jobs` takes a job over once per request id, `GET /print-jobs/{requestId}` tells how far it is, `…/evidence`
lists its proofs; status changes also go out as webhooks when that is switched on and the job names a `callbackUrl`.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, Final, TypeVar
from uuid import uuid4

from aiohttp import web

from gateway.simulators.control import control_routes
from gateway.simulators.faults import FaultEngine
from gateway.simulators.front import Advance, Answer, Clock, FieldFault, Front, Refusal, utc_now
from gateway.simulators.magic import PrintFate, print_fate
from gateway.simulators.print_job import PrintJob, WrongJob, check_job, fingerprint, parse_json
from gateway.simulators.print_queue import PrintQueue, QueuedJob, rfc3339
from gateway.simulators.records import Records
from gateway.simulators.structured import sf_string
from gateway.simulators.webhooks import Event, WebhookSender, WebhookSettings

IDEMPOTENCY_KEY: Final = "Idempotency-Key"
OPERATIONS: Final = ("create", "status", "evidence", "evidence-file")
DEMO_API_KEY: Final = "simulated-print-house"
_SMALL_BYTES: Final = 262_144

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _CreateCall:
    key: str
    body: Mapping[str, Any] = field(repr=False)
    size_bytes: int

    @property
    def facts(self) -> Mapping[str, str]:
        recipient = self.body.get("recipient")
        recipient = recipient if isinstance(recipient, dict) else {}
        found = {
            "recipient": recipient.get("name"),
            "postcode": recipient.get("postcode"),
            "product": self.body.get("product"),
        }
        return {name: value for name, value in found.items() if isinstance(value, str)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _LookCall:
    queued: QueuedJob
    facts: Mapping[str, str] = field(default_factory=dict)


class PrintHouseSimulator:
    """
    One print house: `app` serves it; `faults`, `records`, `queue` and `webhooks` are its Python control.

    `api_key` None asks for no key. `limit_bytes` bounds the body of a job.
    """

    def __init__(
        self,
        *,
        api_key: str | None = DEMO_API_KEY,
        api_key_header: str = "X-API-Key",
        base_path: str = "",
        clock: Clock = utc_now,
        advance: Advance = "on-poll",
        webhooks: WebhookSettings | None = None,
        keep_bytes: bool = False,
        limit_bytes: int = 64_000_000,
    ) -> None:
        self.base_path = base_path
        self.records = Records(clock=clock)
        self.faults = FaultEngine(
            operations=OPERATIONS,
            header_facts=("idempotency_key", "request_id"),
            body_facts=("recipient", "postcode", "product"),
        )
        self.front = Front(faults=self.faults, records=self.records, error_form=_error_form)
        self.queue = PrintQueue(records=self.records, clock=clock, on_status=self._announce)
        self.webhooks = None if webhooks is None else WebhookSender(webhooks, records=self.records, clock=clock)
        self._api_key = api_key
        self._api_key_header = api_key_header
        self._advance = advance
        self._keep_bytes = keep_bytes
        self.app = self._application(limit_bytes)

    @property
    def jobs(self) -> Mapping[str, QueuedJob]:
        """Return the jobs by request id."""
        return self.queue.jobs

    def _application(self, limit_bytes: int) -> web.Application:
        app = web.Application(client_max_size=limit_bytes)
        app.on_shutdown.append(self.front.shut_down)
        if self.webhooks is not None:
            app.cleanup_ctx.append(self.webhooks.run)
        jobs = f"{self.base_path}/print-jobs"
        app.add_routes(
            [
                web.post(jobs, self._create),
                web.get(f"{jobs}/{{requestId}}", self._status),
                web.get(f"{jobs}/{{requestId}}/evidence", self._evidence),
                web.get(f"{jobs}/{{requestId}}/evidence/{{number:[1-9][0-9]*}}", self._evidence_file),
                *control_routes(
                    self.front,
                    {"advance": self._order_advance, "webhooks/redeliver": self._order_redelivery},
                ),
            ]
        )
        return app

    # the provider's calls

    async def _create(self, request: web.Request) -> web.StreamResponse:
        async def receive() -> _CreateCall:
            self._authorise(request)
            return await _read_job(request)

        async def act(call: _CreateCall) -> Answer:
            base_url = f"{request.scheme}://{request.host}{self.base_path}/print-jobs"
            return await self._take_over(call, base_url)

        facts = _key_facts(request)
        return await self.front.serve(request, "create", facts=facts, receive=receive, act=act)

    async def _take_over(self, call: _CreateCall, base_url: str) -> Answer:
        content = await _off_the_loop(call.size_bytes, partial(fingerprint, call.body))
        known = self._known(call, content)
        if known is not None:
            return known
        job = await self._checked(call)
        # The check may have run in a thread, and the same request may have come in a second time meanwhile.
        known = self._known(call, content)
        if known is not None:
            return known
        queued = self.queue.add(job, key=call.key, fingerprint=content, base_url=base_url)
        if queued.fate is PrintFate.DOUBT:
            refusal = Refusal(HTTPStatus.GATEWAY_TIMEOUT, "gateway-timeout", "no answer in time")
            return Answer(status=refusal.status, payload=_error_form("create", refusal), kept_id=job.request_id)
        return Answer(status=HTTPStatus.CREATED, payload=queued.as_json(), kept_id=job.request_id)

    def _known(self, call: _CreateCall, content: str) -> Answer | None:
        queued = self.queue.jobs.get(call.key)
        if queued is None:
            return None
        if queued.fingerprint != content:
            raise Refusal(HTTPStatus.CONFLICT, "conflict", "this request id has other content")
        return Answer(status=HTTPStatus.OK, payload=queued.as_json())

    async def _checked(self, call: _CreateCall) -> PrintJob:
        errors: tuple[FieldFault, ...]
        try:
            check = partial(check_job, call.body, keep_bytes=self._keep_bytes)
            job = await _off_the_loop(call.size_bytes, check)
        except WrongJob as wrong:
            errors = wrong.errors
        else:
            if job.request_id != call.key:
                errors = (FieldFault(code="differs-from-idempotency-key", field="requestId"),)
            elif print_fate(job.recipient_name, job.postcode, job.country) is PrintFate.REFUSED:
                errors = (FieldFault(code="address-undeliverable", field="recipient"),)
            else:
                return job
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "unprocessable", "the job breaks rules", errors=errors)

    async def _status(self, request: web.Request) -> web.StreamResponse:
        async def act(call: _LookCall) -> Answer:
            if self._advance == "on-poll":
                self.queue.look(call.queued)
            return Answer(status=HTTPStatus.OK, payload=call.queued.as_json())

        return await self.front.serve(
            request, "status", facts=_path_facts(request), receive=self._looker(request), act=act
        )

    async def _evidence(self, request: web.Request) -> web.StreamResponse:
        async def act(call: _LookCall) -> Answer:
            return Answer(status=HTTPStatus.OK, payload=call.queued.evidence_as_json())

        return await self.front.serve(
            request, "evidence", facts=_path_facts(request), receive=self._looker(request), act=act
        )

    async def _evidence_file(self, request: web.Request) -> web.StreamResponse:
        async def act(call: _LookCall) -> Answer:
            number = int(request.match_info["number"])
            if number > len(call.queued.evidence):
                raise Refusal(HTTPStatus.NOT_FOUND, "not-found", "no such evidence")
            content = call.queued.evidence[number - 1].content
            return Answer(status=HTTPStatus.OK, content=content, content_type="application/pdf")

        return await self.front.serve(
            request, "evidence-file", facts=_path_facts(request), receive=self._looker(request), act=act
        )

    def _looker(self, request: web.Request) -> Callable[[], Awaitable[_LookCall]]:
        async def receive() -> _LookCall:
            self._authorise(request)
            queued = self.queue.jobs.get(request.match_info["requestId"])
            if queued is None:
                raise Refusal(HTTPStatus.NOT_FOUND, "not-found", "no such job")
            return _LookCall(queued=queued)

        return receive

    def _authorise(self, request: web.Request) -> None:
        if self._api_key is None:
            return
        given = request.headers.get(self._api_key_header, "")
        if not hmac.compare_digest(given.encode(), self._api_key.encode()):
            raise Refusal(HTTPStatus.UNAUTHORIZED, "unauthorised", "the API key is missing or wrong")

    def _announce(self, queued: QueuedJob) -> None:
        url = queued.job.callback_url
        if self.webhooks is None or url is None:
            return
        event_id = f"evt_{uuid4()}"
        payload: dict[str, Any] = {
            "id": event_id,
            "requestId": queued.job.request_id,
            "sequence": queued.sequence,
            "status": queued.status,
            "statusAt": rfc3339(queued.timestamps[queued.status]),
            "evidence": queued.evidence_as_json(),
        }
        if queued.reason is not None:
            payload["reason"] = queued.reason
        if queued.barcode is not None:
            payload["barcode"] = queued.barcode
        self.webhooks.post(Event(id=event_id, request_id=queued.job.request_id, url=url, payload=payload))

    # the control interface

    async def _order_advance(self, order: Mapping[str, Any]) -> dict[str, Any]:
        to, reason = order.get("to"), order.get("reason")
        queued = self.queue.advance(
            str(order["requestId"]),
            to=None if to is None else str(to),
            reason=None if reason is None else str(reason),
        )
        return queued.as_json()

    async def _order_redelivery(self, order: Mapping[str, Any]) -> dict[str, Any]:
        if self.webhooks is None:
            raise ValueError("webhooks are switched off")
        return {"queued": self.webhooks.redeliver(everything=order.get("everything") is True)}


async def _read_job(request: web.Request) -> _CreateCall:
    if request.content_type != "application/json":
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "application/json is expected")
    given = request.headers.getall(IDEMPOTENCY_KEY, [])
    if len(given) != 1:
        raise Refusal(HTTPStatus.BAD_REQUEST, "idempotency-key-required", "one Idempotency-Key is expected")
    text = await request.read()
    try:
        body = await _off_the_loop(len(text), partial(parse_json, text))
    except ValueError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, "malformed", "the body is no JSON object") from error
    return _CreateCall(key=sf_string(given[0]) or given[0], body=body, size_bytes=len(text))


async def _off_the_loop(size_bytes: int, work: Callable[[], _T]) -> _T:
    """Do `work` in a thread, or at once when the job is so small that the way there costs more."""
    return work() if size_bytes < _SMALL_BYTES else await asyncio.to_thread(work)


def _key_facts(request: web.Request) -> dict[str, str]:
    """Both names stand for the key, since the request id of a job is its idempotency key."""
    given = request.headers.get(IDEMPOTENCY_KEY)
    if given is None:
        return {}
    key = sf_string(given) or given
    return {"idempotency_key": key, "request_id": key}


def _path_facts(request: web.Request) -> dict[str, str]:
    return {"request_id": request.match_info["requestId"]}


def _error_form(_operation: str, refusal: Refusal) -> dict[str, Any]:
    errors = refusal.errors or (FieldFault(code=refusal.code, field=""),)
    return {"errors": [{"code": error.code, "field": error.field} for error in errors]}
