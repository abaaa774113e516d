"""
The portal's web application: routes, requests and answers.

Nothing of a letter is told before its code is right; every answer carries the same protective headers; an address with
a token in it is never logged (`AppRunner` must be given `access_log=None`). Needs no JavaScript.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from aiohttp import hdrs, web

from gateway.crypto.vault import Vault
from gateway.errors import GatewayError, KeyringRefused, StoreUnavailable
from gateway.portal import pages
from gateway.portal.access import Access, Delayed, LetterKey, Opened, Via, Wrong
from gateway.portal.letters import Availability, Letters, OpenDocument, OpenLetter
from gateway.portal.pages import Place
from gateway.portal.sessions import LASTS, Visit, read_visit, write_visit
from gateway.portal.throttle import client_key
from gateway.portal.words import choose
from gateway.records.logs import LogBook
from gateway.records.retrieval import parse_code, parse_number, parse_token
from gateway.stores.documents import Documents
from gateway.stores.ledger import Ledger
from gateway.stores.model import RetrievalRecord

_log: Final = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MAX_FORM_BYTES: Final = 4_096
_MOST_FIELDS: Final = 8
_FORM_TIMEOUT_S: Final = 15.0
_WRITE_TIMEOUT_S: Final = 60.0  # a reader who takes no more bytes for so long has gone
_RETRY_S: Final = 30
_FORM: Final = "application/x-www-form-urlencoded"
_OCTETS: Final = "application/octet-stream"

_PROTECTION: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}
_HSTS: Final = "max-age=31536000"


def remote_address(request: web.Request) -> str | None:
    """Return the address at the other end of the connection."""
    return request.remote


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalDeps:
    """
    What the portal needs.

    `public_url` is what letters print; a path in it is where the portal lives. `on_outcome` is told what each visit
    came to, in one of few words. `client_address` finds a visitor's address behind a proxy that is trusted to tell it.
    """

    ledger: Ledger
    documents: Documents
    vault: Vault
    logbook: LogBook
    clock: Callable[[], datetime]
    public_url: str
    on_outcome: Callable[[str], None]
    client_address: Callable[[web.Request], str | None] = remote_address


def build_portal(deps: PortalDeps) -> web.Application:
    """Return the application; serve it with `AppRunner(app, access_log=None, keepalive_timeout=15)`."""
    return _Portal(deps).application()


class _Portal:
    def __init__(self, deps: PortalDeps) -> None:
        url = urlsplit(deps.public_url)
        self._deps = deps
        self._origin = f"{url.scheme}://{url.netloc}".lower()
        self._base = url.path.rstrip("/")
        self._is_https = url.scheme == "https"
        # With this prefix browsers take the cookie only from this host, over TLS (RFC 6265bis, section 4.1.3.2).
        self._cookie = "__Host-letter" if self._is_https else "letter"
        self._access = Access(ledger=deps.ledger, vault=deps.vault, clock=deps.clock)
        self._letters = Letters(
            ledger=deps.ledger, documents=deps.documents, vault=deps.vault, logbook=deps.logbook, clock=deps.clock
        )

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._edge], client_max_size=MAX_FORM_BYTES)
        application.on_response_prepare.append(self._protect)
        get, post, base = application.router.add_get, application.router.add_post, self._base
        get(f"{base}/", self._start)
        post(f"{base}/", self._number)
        get(f"{base}/d/{{token}}", self._token)
        post(f"{base}/d/{{token}}", self._token_code)
        get(f"{base}/letter", self._letter, allow_head=False)
        get(f"{base}/letter/{{number:[0-9]{{1,3}}}}", self._download, allow_head=False)
        get(f"{base}/letter/receipt.xml", self._receipt, allow_head=False)
        post(f"{base}/leave", self._leave)
        get(f"{base}/style.css", self._style)
        for name in ("help", "privacy", "accessibility"):
            get(f"{base}/{name}", self._text)
        return application

    # ── Every request ──

    @web.middleware
    async def _edge(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if request.method == hdrs.METH_POST and not self._is_ours(request):
                return self._error(request, "elsewhere", HTTPStatus.FORBIDDEN)
            return await handler(request)
        except web.HTTPException as error:
            return self._http_error(request, error)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except (StoreUnavailable, KeyringRefused) as error:
            response = self._failed(request, error, "unavailable", HTTPStatus.SERVICE_UNAVAILABLE)
            response.headers["Retry-After"] = str(_RETRY_S)
            return response
        except Exception as error:  # noqa: BLE001 the edge shows a page for every error, and logs its kind
            return self._failed(request, error, "broken", HTTPStatus.INTERNAL_SERVER_ERROR)

    async def _protect(self, _request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(_PROTECTION)
        if self._is_https:
            response.headers["Strict-Transport-Security"] = _HSTS
        response.headers.popall(hdrs.SERVER, None)

    def _is_ours(self, request: web.Request) -> bool:
        """
        Tell whether a form was sent from our own page.

        Under our referrer policy browsers send `Origin: null`, also for our own forms, so the newer `Sec-Fetch-Site`
        decides where it is there. The cookie is `SameSite=Strict` whatever this says.
        """
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site in ("same-origin", "none")
        origin = request.headers.get(hdrs.ORIGIN, "null").lower()
        return origin in ("null", self._origin) or urlsplit(origin).netloc == request.host.lower()

    def _http_error(self, request: web.Request, error: web.HTTPException) -> web.Response:
        name = "not_found" if error.status == HTTPStatus.NOT_FOUND else "bad_request"
        response = self._error(request, name, error.status)
        if hdrs.ALLOW in error.headers:
            response.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
        if error.status != HTTPStatus.NOT_FOUND:
            response.force_close()  # what is left of the body is not worth reading
        return response

    def _failed(self, request: web.Request, error: Exception, name: str, status: int) -> web.Response:
        # The route and the kind of error, never the address asked for: it may hold a token.
        _log.error(
            "portal-failed", extra={"handler": request.match_info.handler.__name__, "error": type(error).__name__}
        )
        self._deps.on_outcome("failed")
        return self._error(request, name, status)

    def _error(self, request: web.Request, name: str, status: int) -> web.Response:
        return pages.error_page(self._place(request, "/"), name, status)

    def _place(self, request: web.Request, path: str, resend: Mapping[str, str] | None = None) -> Place:
        choice = choose(request.query.get("lang"), request.headers.get(hdrs.ACCEPT_LANGUAGE, ""))
        return Place(base=self._base, path=path, choice=choice, resend=resend)

    # ── The way to a letter ──

    async def _start(self, request: web.Request) -> web.Response:
        return pages.start_page(self._place(request, "/"))

    async def _number(self, request: web.Request) -> web.StreamResponse:
        """Take a number and ask for the code; take number and code and open the letter."""
        form = await _read_form(request)
        number = parse_number(form.get("number", ""))
        if number is None:
            self._deps.on_outcome("malformed")
            return pages.start_page(self._place(request, "/"), wrong=True)
        place = self._place(request, "/", resend={"number": number})
        if "code" not in form:
            return pages.code_page(place, number=number)
        return await self._try(request, place, LetterKey(via=Via.NUMBER, text=number), form["code"])

    async def _token(self, request: web.Request) -> web.Response:
        token = parse_token(request.match_info["token"])
        if token is None:
            return self._error(request, "address", HTTPStatus.NOT_FOUND)
        return pages.code_page(self._place(request, f"/d/{token}"), number=None)

    async def _token_code(self, request: web.Request) -> web.StreamResponse:
        token = parse_token(request.match_info["token"])
        if token is None:
            return self._error(request, "address", HTTPStatus.NOT_FOUND)
        form = await _read_form(request)
        place = self._place(request, f"/d/{token}")
        return await self._try(request, place, LetterKey(via=Via.TOKEN, text=token), form.get("code", ""))

    async def _try(self, request: web.Request, place: Place, key: LetterKey, typed: str) -> web.StreamResponse:
        number = key.text if key.via is Via.NUMBER else None
        code = parse_code(typed)
        if code is None:
            self._deps.on_outcome("malformed")
            return pages.code_page(place, number=number, error="wrong_form", status=HTTPStatus.UNPROCESSABLE_ENTITY)
        client = client_key(self._deps.client_address(request))
        match await self._access.try_code(key, code, client):
            case Delayed(wait_s=wait_s):
                self._deps.on_outcome("delayed")
                return pages.code_page(place, number=number, status=HTTPStatus.TOO_MANY_REQUESTS, wait_s=wait_s)
            case Wrong(known=known):
                self._deps.on_outcome("wrong-code" if known else "unknown-letter")
                error = "wrong_number" if key.via is Via.NUMBER else "wrong_token"
                return pages.code_page(place, number=number, error=error, status=HTTPStatus.FORBIDDEN)
            case Opened(retrieval=retrieval):
                return await self._open(place, retrieval, key.via)

    async def _open(self, place: Place, retrieval: RetrievalRecord, via: Via) -> web.StreamResponse:
        record, ready = await self._letters.find(retrieval.message_id)
        if record is None or ready is not Availability.READY:
            self._deps.on_outcome("not-available")
            return pages.unavailable_page(place, record, ready)
        letter = await self._letters.open(record, retrieval.delivery_id)
        await self._letters.note_opened(letter, via)
        self._deps.on_outcome("opened")
        visit = Visit(
            delivery_id=retrieval.delivery_id, message_id=retrieval.message_id, ends_at=self._deps.clock() + LASTS
        )
        response = web.Response(status=HTTPStatus.SEE_OTHER, headers={hdrs.LOCATION: place.link("/letter")})
        index = await self._deps.vault.blind_index("portal")
        response.set_cookie(
            self._cookie,
            write_visit(visit, index),
            max_age=int(LASTS.total_seconds()),
            path="/",
            secure=self._is_https,
            httponly=True,
            samesite="Strict",
        )
        return response

    # ── The open letter ──

    async def _letter(self, request: web.Request) -> web.StreamResponse:
        place = self._place(request, "/letter")
        found = await self._visited(request, place)
        if isinstance(found, web.Response):
            return found
        letter, visit = found
        place = Place(base=place.base, path=place.path, choice=place.choice.for_letter(letter.record.language))
        return pages.letter_page(place, letter, visit)

    async def _download(self, request: web.Request) -> web.StreamResponse:
        found = await self._visited(request, self._place(request, "/letter"))
        if isinstance(found, web.Response):
            return found
        letter, _ = found
        document = letter.document(int(request.match_info["number"]))
        if document is None:
            return self._error(request, "not_found", HTTPStatus.NOT_FOUND)
        async with aclosing(self._letters.content(letter, document.record)) as content:
            # Read before the log is written and the answer begins: most of what can fail, fails here, with a page.
            first = await anext(content, b"")
            await self._letters.note_downloaded(letter, document.record)
            return await self._send(request, document, first, content)

    async def _send(
        self, request: web.Request, document: OpenDocument, first: bytes, rest: AsyncGenerator[bytes, None]
    ) -> web.StreamResponse:
        """Send a document; when it turns out not to be whole, break the connection off, so that nobody takes it so."""
        is_pdf = document.record.media_type == pages.PDF
        response = web.StreamResponse(
            headers={
                hdrs.CONTENT_TYPE: pages.PDF if is_pdf else _OCTETS,
                hdrs.CONTENT_DISPOSITION: pages.content_disposition(document.filename),
            }
        )
        response.content_length = document.record.size_bytes
        await response.prepare(request)
        try:
            await _write(response, first)
            async for piece in rest:
                await _write(response, piece)
        except (GatewayError, TimeoutError) as error:
            _log.error(
                "download-broken-off",
                extra={"document": str(document.record.document_id), "error": type(error).__name__},
            )
            self._deps.on_outcome("download-broken-off")
            if request.transport is not None:
                request.transport.abort()
            return response
        await response.write_eof()
        self._deps.on_outcome("downloaded")
        return response

    async def _receipt(self, request: web.Request) -> web.StreamResponse:
        found = await self._visited(request, self._place(request, "/letter"))
        if isinstance(found, web.Response):
            return found
        letter, _ = found
        await self._letters.note_receipt(letter)
        self._deps.on_outcome("receipt-downloaded")
        return web.Response(
            body=letter.record.receipt_xml,
            content_type="application/xml",
            headers={hdrs.CONTENT_DISPOSITION: pages.content_disposition("receipt.xml")},
        )

    async def _visited(self, request: web.Request, place: Place) -> tuple[OpenLetter, Visit] | web.Response:
        """Return the letter that this browser opened, or the page that says why it is not open."""
        index = await self._deps.vault.blind_index("portal")
        visit = read_visit(request.cookies.get(self._cookie, ""), index, self._deps.clock())
        if visit is None:
            return pages.visit_page(place, "ended", HTTPStatus.FORBIDDEN)
        record, ready = await self._letters.find(visit.message_id)
        if record is None or ready is not Availability.READY:
            return pages.unavailable_page(place, record, ready)
        return await self._letters.open(record, visit.delivery_id), visit

    async def _leave(self, request: web.Request) -> web.Response:
        response = pages.visit_page(self._place(request, "/"), "left", HTTPStatus.OK)
        response.del_cookie(self._cookie, path="/", secure=self._is_https, httponly=True, samesite="Strict")
        return response

    # ── Beside it ──

    async def _style(self, _request: web.Request) -> web.Response:
        return web.Response(body=pages.STYLE, content_type="text/css", charset="utf-8")

    async def _text(self, request: web.Request) -> web.Response:
        name = request.path.rpartition("/")[2]
        return pages.text_page(self._place(request, f"/{name}"), name)


async def _read_form(request: web.Request) -> dict[str, str]:
    """
    Return the fields of a small form.

    Raises:
        web.HTTPException: 413, 415, 408 or 400.
    """
    if request.content_type != _FORM or hdrs.CONTENT_ENCODING in request.headers:
        raise web.HTTPUnsupportedMediaType
    try:
        async with asyncio.timeout(_FORM_TIMEOUT_S):
            body = await request.read()
    except TimeoutError as error:
        raise web.HTTPRequestTimeout from error
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError as error:
        raise web.HTTPBadRequest from error


async def _write(response: web.StreamResponse, piece: bytes) -> None:
    async with asyncio.timeout(_WRITE_TIMEOUT_S):
        await response.write(piece)
