"""
The server of the sender edge: TLS and HTTP limits, who is asking, and errors as problem documents.

Every request, also on a kept connection, is judged anew: the certificate, its revocation and its registration.
"""

import asyncio
import logging
import os
import ssl
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final
from uuid import uuid4
from weakref import WeakSet

from aiohttp import hdrs, http_parser, web
from aiohttp.http import HttpVersion10, HttpVersion11

from gateway.accept import accept
from gateway.accept.check import check
from gateway.crypto.certs import CertificateRejected
from gateway.crypto.identity import Identities, Peer
from gateway.crypto.tls import peer_certificate
from gateway.domain.ids import EnterpriseNumber, InvalidIdentifier, parse_correlation_id
from gateway.errors import GatewayError, Kind, Refusal
from gateway.intake import handlers, views
from gateway.intake.body import PACE, BodyLimits, Pace, read_message
from gateway.intake.caller import ON_BEHALF_OF, Caller, identify
from gateway.intake.handlers import IntakeDeps
from gateway.intake.problems import as_refusal, render
from gateway.intake.routes import ROUTES, Authentication, Route
from gateway.telemetry import Metrics

_log: Final = logging.getLogger(__name__)
CORRELATION: Final = "x-correlation-id"
_PROXY_HEADERS: Final = frozenset({"client-cert", "client-cert-chain"})
_OVERLOADED_RETRY_S: Final = 2
_BACKLOG: Final = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeLimits:
    """Limits of the connection and of one request; seconds and counts."""

    connections: int
    requests_in_flight: int
    handshake_s: float
    header_s: float
    drain_s: float
    body: BodyLimits


class UnsafeParser(GatewayError):
    """aiohttp would parse HTTP in Python, where most request-smuggling flaws were found; install its wheel."""


def require_compiled_parser() -> None:
    """
    Refuse to serve with aiohttp's pure Python parser.

    Raises:
        UnsafeParser: the compiled one is missing or switched off.
    """
    if os.environ.get("AIOHTTP_NO_EXTENSIONS") or http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise UnsafeParser("aiohttp's compiled HTTP parser is missing; install its wheel, unset AIOHTTP_NO_EXTENSIONS")


class IntakeServer:
    """Listens for senders; `start` and `stop` each once."""

    def __init__(self, deps: IntakeDeps, identities: Identities, limits: EdgeLimits, metrics: Metrics) -> None:
        require_compiled_parser()
        self._deps = deps
        self._identities = identities
        self._limits = limits
        self._metrics = metrics
        self._in_flight = 0
        self._connections: defaultdict[EnterpriseNumber, WeakSet[asyncio.BaseTransport]] = defaultdict(WeakSet)
        self._server: asyncio.Server | None = None
        # aiohttp counts the keep-alive time-out from accept, so that it bounds the header of a first request too.
        self._runner = web.AppRunner(
            self._application(),
            keepalive_timeout=limits.header_s,
            access_log=None,
            auto_decompress=False,
            shutdown_timeout=limits.drain_s,
        )

    async def start(self, host: str, port: int, context: ssl.SSLContext) -> int:
        """Listen; return the port."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._protocol,
            host,
            port,
            ssl=context,
            ssl_handshake_timeout=self._limits.handshake_s,
            ssl_shutdown_timeout=5,
            backlog=_BACKLOG,
        )
        port_used: int = self._server.sockets[0].getsockname()[1]
        return port_used

    async def stop(self) -> None:
        """Take no more connections, finish the requests that run, close."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    def close_connections(self, party: EnterpriseNumber) -> int:
        """
        Close the connections on which this party has asked anything, with whatever runs on them; return how many.

        Whether it may come back is for each request to decide.
        """
        open_now = [each for each in self._connections.pop(party, ()) if not each.is_closing()]
        for transport in open_now:
            transport.close()
        return len(open_now)

    def _protocol(self) -> asyncio.Protocol:
        server = self._runner.server
        if server is None or len(server.connections) >= self._limits.connections:
            self._metrics.handshakes_refused.labels(reason="too-many-connections").inc()
            return _Refusing()
        return server()

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._edge])
        for route in ROUTES:
            application.router.add_route(route.method, route.path, self._handler(route))
        return application

    def _handler(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        match route.authentication, route.handler, route.open_handler:
            case Authentication.SIGNED, None, None:
                return self._submit
            case Authentication.TLS, None, open_handler if open_handler is not None:

                async def tell(request: web.Request) -> web.StreamResponse:
                    return await open_handler(request, self._deps)

                return tell
            case Authentication.CALLER, found, None if found is not None:

                async def answer(request: web.Request) -> web.StreamResponse:
                    request[PACE] = Pace(self._limits.body)
                    return await found(request, await self._caller(request), self._deps)

                return answer
            case _:
                raise ValueError(f"{route.method} {route.path} has no handler that fits its authentication")

    # ── One request ──

    @web.middleware
    async def _edge(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        started_at = asyncio.get_running_loop().time()
        correlation_id = str(uuid4())
        refusal: Refusal | None = None
        self._in_flight += 1
        self._metrics.in_flight.labels(edge="intake").set(self._in_flight)
        response: web.StreamResponse
        try:
            correlation_id = _correlation_id(request) or correlation_id
            _require_hygiene(request)
            self._require_room()
            response = await handler(request)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 -- the edge turns every error into a problem document, and logs it
            refusal = self._refusal(error, correlation_id)
            response = render(refusal, correlation_id)
            _add_allow(error, response)
            if not request.content.at_eof():
                response.force_close()  # what is left of the body is not worth reading
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.labels(edge="intake").set(self._in_flight)
        response.headers[CORRELATION] = correlation_id
        response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")  # what is public says itself how long it holds
        response.headers["X-Content-Type-Options"] = "nosniff"
        self._tell(request, response, refusal, correlation_id, asyncio.get_running_loop().time() - started_at)
        return response

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        """`POST /api/v1/messages`: the first spine."""
        peer = self._peer(request)
        key = _single(request, "Idempotency-Key")
        dry_run = _is_dry_run(request)
        raw = replace(await read_message(request, self._limits.body), idempotency_key=key)
        if dry_run:
            return handlers.render_checked(await check(raw, peer, self._deps.accept, self._deps.forecast))
        accepted = await accept(raw, peer, self._deps.accept)
        if accepted.repeated:
            self._metrics.repeated.inc()
        else:
            self._deps.on_accepted(accepted)
        record = accepted.record
        view = views.whole(record, await self._deps.ledger.timeline(record.message_id))
        return handlers.render_accepted(accepted, request.headers.get(hdrs.ACCEPT, ""), self._deps.public_url, view)

    def _peer(self, request: web.Request) -> Peer:
        if request.transport is None:
            raise ConnectionResetError("the caller has gone")
        try:
            certificate = peer_certificate(request.transport)
        except CertificateRejected as rejected:
            raise Refusal(Kind.SENDER_UNKNOWN, f"the client certificate is refused: {rejected}") from rejected
        peer = self._identities.peer(certificate, self._deps.clock())
        self._connections[peer.party].add(request.transport)
        return peer

    async def _caller(self, request: web.Request) -> Caller:
        on_behalf_of = _single(request, ON_BEHALF_OF)
        return await identify(self._peer(request), on_behalf_of, self._identities.registration(), self._deps.ledger)

    def _require_room(self) -> None:
        if self._in_flight > self._limits.requests_in_flight:
            raise Refusal(
                Kind.OVERLOADED,
                "the gateway is busy; nothing was kept, send the same request again",
                retry_after_s=_OVERLOADED_RETRY_S,
            )

    def _refusal(self, error: Exception, correlation_id: str) -> Refusal:
        match error:
            case web.HTTPNotFound():
                return Refusal(Kind.NOT_FOUND, "there is no such path; see the sender interface for those there are")
            case web.HTTPMethodNotAllowed(allowed_methods=allowed):
                return Refusal(Kind.METHOD_NOT_ALLOWED, f"this path takes {', '.join(sorted(allowed))}")
            case _:
                pass
        refusal = as_refusal(error)
        if refusal.kind in (Kind.INTERNAL, Kind.STORE_UNAVAILABLE):
            known = isinstance(error, GatewayError)
            _log.error(
                "request failed",
                extra={
                    "correlation": correlation_id,
                    "error": type(error).__name__,
                    "cause": str(error) if known else _place(error),
                },
            )
        return refusal

    def _tell(
        self,
        request: web.Request,
        response: web.StreamResponse,
        refusal: Refusal | None,
        correlation_id: str,
        seconds: float,
    ) -> None:
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "unknown"
        outcome = str(refusal.kind) if refusal is not None else "ok"
        if refusal is not None:
            self._metrics.refused.labels(code=refusal.kind).inc()
        self._metrics.requests.labels(edge="intake", route=f"{request.method} {route}", status=response.status).inc()
        if (request.method, route) == (hdrs.METH_POST, "/api/v1/messages"):
            self._metrics.accept_seconds.labels(outcome="refused" if refusal else "accepted").observe(seconds)
        _log.info(
            "request",
            extra={
                "edge": "intake",
                "method": request.method,
                "route": route,
                "status": response.status,
                "outcome": outcome,
                "correlation": correlation_id,
                "seconds": round(seconds, 4),
            },
        )


class _Refusing(asyncio.Protocol):
    """Closes a connection that there is no room for."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _correlation_id(request: web.Request) -> str | None:
    text = _single(request, CORRELATION)
    if text is None:
        return None
    try:
        return parse_correlation_id(text)
    except InvalidIdentifier as error:
        raise Refusal(Kind.BAD_REQUEST, str(error)) from error


def _single(request: web.Request, header: str) -> str | None:
    found = request.headers.getall(header, [])
    if len(found) > 1:
        raise Refusal(Kind.BAD_REQUEST, f"the header {header} may be there once")
    return found[0] if found else None


def _is_dry_run(request: web.Request) -> bool:
    if not request.query:
        return False
    if dict(request.query) == {"mode": "check"} and len(request.query) == 1:
        return True
    raise Refusal(Kind.BAD_REQUEST, "the only parameter here is mode=check, for a dry run")


def _require_hygiene(request: web.Request) -> None:
    """Refuse what aiohttp lets through and this interface has no use for (RFC 9112, RFC 9440 section 4)."""
    if request.version not in (HttpVersion10, HttpVersion11):
        raise Refusal(Kind.BAD_REQUEST, "speak HTTP/1.1")
    if request.version == HttpVersion10 and hdrs.TRANSFER_ENCODING in request.headers:
        raise Refusal(Kind.BAD_REQUEST, "Transfer-Encoding needs HTTP/1.1")
    if not request.raw_path.startswith("/"):
        raise Refusal(Kind.BAD_REQUEST, "name only the path in the request line, not the whole address")
    if hdrs.CONTENT_ENCODING in request.headers:
        raise Refusal(Kind.UNSUPPORTED_MEDIA_TYPE, "Content-Encoding is not taken; send the bytes as they are")
    for name in request.headers:
        if "_" in name or name.lower() in _PROXY_HEADERS:
            raise Refusal(
                Kind.BAD_REQUEST, "headers with _ in their name, Client-Cert and Client-Cert-Chain are refused"
            )


def _add_allow(error: Exception, response: web.StreamResponse) -> None:
    if isinstance(error, web.HTTPMethodNotAllowed):
        response.headers[hdrs.ALLOW] = ", ".join(sorted(error.allowed_methods))


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
