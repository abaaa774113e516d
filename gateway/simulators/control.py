"""
The control interface of a simulator, under `/_simulator/`: the only calls that no real provider has.

| call                                | does                                                                        |
|-------------------------------------|-----------------------------------------------------------------------------|
| `GET /_simulator/records`           | `kept` and `calls`; `?kept_after=n&calls_after=n` leaves out the earlier     |
| `DELETE /_simulator/records`        | forgets the records (not the messages, jobs and keys)                       |
| `GET /_simulator/wait`              | answers once there are `kept=n`, `calls=n`, `held=n`, or after `timeout_s`   |
| `GET /_simulator/faults`            | the orders that wait                                                        |
| `POST /_simulator/faults`           | orders a fault: `operation`, `fault`, and optionally `times`, `match`,       |
|                                     | `status`, `code`, `field`, `retryAfterS`, `delayS`                          |
| `DELETE /_simulator/faults`         | forgets the orders                                                          |
| `POST /_simulator/release`          | lets held calls go on                                                       |
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from gateway.simulators.faults import FAULTS, Fault
from gateway.simulators.front import Front
from gateway.simulators.records import Records

CONTROL_PREFIX: Final = "/_simulator"
_LONGEST_WAIT_S: Final = 60.0

Step = Callable[[Mapping[str, Any]], Awaitable[Any]]


def control_routes(front: Front, steps: Mapping[str, Step]) -> Iterable[web.RouteDef]:
    """
    Return the routes of the control interface.

    `steps` adds `POST /_simulator/<name>` calls; each takes the JSON object of the request and returns the JSON of the
    answer, and raises `ValueError` or `LookupError` for a wrong order.
    """

    async def read_records(request: web.Request) -> web.Response:
        return web.json_response(
            front.records.as_json(
                kept_after=int(request.query.get("kept_after", "0")),
                calls_after=int(request.query.get("calls_after", "0")),
            )
        )

    async def read_document(request: web.Request) -> web.Response:
        wanted = request.match_info["sha256"]
        for kept in front.records.kept:
            for document in kept.documents:
                if document.sha256 == wanted and document.content is not None:
                    return web.Response(body=document.content, content_type=document.media_type)
        raise web.HTTPNotFound

    async def clear_records(_request: web.Request) -> web.Response:
        front.records.clear()
        return web.json_response({})

    async def wait(request: web.Request) -> web.Response:
        return web.json_response(await _wait(front.records, request.query))

    async def list_faults(_request: web.Request) -> web.Response:
        return web.json_response([order.as_json() for order in front.faults.pending])

    async def order_fault(request: web.Request) -> web.Response:
        wanted = await _json_object(request)
        order = front.faults.order(
            str(wanted.get("operation", "")),
            _fault(wanted),
            int(wanted.get("times", 1)),
            {str(name): str(value) for name, value in dict(wanted.get("match", {})).items()},
        )
        return web.json_response(order.as_json(), status=HTTPStatus.CREATED)

    async def clear_faults(_request: web.Request) -> web.Response:
        front.faults.clear()
        return web.json_response({})

    async def release(_request: web.Request) -> web.Response:
        return web.json_response({"released": front.release()})

    def step(take: Step) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            return web.json_response(await take(await _json_object(request)))

        return handle

    return [
        web.get(f"{CONTROL_PREFIX}/records", _forgiving(read_records)),
        web.get(f"{CONTROL_PREFIX}/documents/{{sha256}}", read_document),
        web.delete(f"{CONTROL_PREFIX}/records", clear_records),
        web.get(f"{CONTROL_PREFIX}/wait", _forgiving(wait)),
        web.get(f"{CONTROL_PREFIX}/faults", list_faults),
        web.post(f"{CONTROL_PREFIX}/faults", _forgiving(order_fault)),
        web.delete(f"{CONTROL_PREFIX}/faults", clear_faults),
        web.post(f"{CONTROL_PREFIX}/release", release),
        *(web.post(f"{CONTROL_PREFIX}/{name}", _forgiving(step(take))) for name, take in steps.items()),
    ]


def _forgiving(
    handler: Callable[[web.Request], Awaitable[web.Response]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Answer a wrong order with 400 and the reason."""

    async def handle(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except (ValueError, TypeError, LookupError) as error:
            return web.json_response({"error": str(error)}, status=HTTPStatus.BAD_REQUEST)

    return handle


async def _json_object(request: web.Request) -> dict[str, Any]:
    text = await request.text()
    value = json.loads(text) if text else {}
    if not isinstance(value, dict):
        raise TypeError("the body is a JSON object")
    return value


def _fault(wanted: Mapping[str, Any]) -> Fault:
    name = str(wanted.get("fault", ""))
    if name not in FAULTS:
        raise ValueError(f"unknown fault; there are {', '.join(sorted(FAULTS))}")
    changes: dict[str, Any] = {}
    for key, attribute, kind in (
        ("status", "status", int),
        ("code", "code", str),
        ("field", "field", str),
        ("retryAfterS", "retry_after_s", int),
        ("delayS", "delay_s", float),
    ):
        if key in wanted:
            changes[attribute] = kind(wanted[key])
    return replace(FAULTS[name], **changes)


async def _wait(records: Records, query: Mapping[str, str]) -> dict[str, Any]:
    kept, calls, held = (int(query.get(name, "0")) for name in ("kept", "calls", "held"))
    timeout_s = min(float(query.get("timeout_s", "10")), _LONGEST_WAIT_S)

    def reached(now: Records) -> bool:
        return len(now.kept) >= kept and len(now.calls) >= calls and now.held >= held

    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await records.until(reached)
    return {
        "reached": reached(records),
        "kept": len(records.kept),
        "calls": len(records.calls),
        "held": records.held,
    }
