"""Requests for the contract: a file that was made at start, or that the caller's copy is still good."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from aiohttp import ETag, hdrs, web
from aiohttp.helpers import ETAG_ANY

from gateway.intake.handlers import IntakeDeps

_KEEP: Final = "public, max-age=3600"


def file_of_contract(name: str) -> Callable[[web.Request, IntakeDeps], Awaitable[web.Response]]:
    """Return the handler of `GET /api/v1/{name}`."""

    async def send(request: web.Request, deps: IntakeDeps) -> web.Response:
        file = deps.contract[name]
        known = {tag.value for tag in request.if_none_match or ()}
        if known & {file.etag, ETAG_ANY}:
            response = web.Response(status=HTTPStatus.NOT_MODIFIED)
        else:
            response = web.Response(body=file.content, headers={hdrs.CONTENT_TYPE: file.media_type, **file.headers})
        response.etag = ETag(value=file.etag)
        response.headers[hdrs.CACHE_CONTROL] = _KEEP
        return response

    return send
