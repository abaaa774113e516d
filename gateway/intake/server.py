"""
The server of the sender edge: TLS and HTTP limits, who is asking, and errors as problem documents.

Every request, also on a kept connection, is judged anew: the certificate, its revocation and its registration.
"""

import asyncio
import contextlib
import logging
import os
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final
from weakref import WeakSet

from aiohttp import hdrs, http_parser, web
from aiohttp.http import HttpVersion10, HttpVersion11
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from gateway.accept import Accepted, RawPart, accept, accept_batch
from gateway.accept.check import check
from gateway.crypto.certs import CertificateRejected
from gateway.crypto.identity import Identities, Peer
from gateway.crypto.tls import peer_certificate
from gateway.domain.ids import EnterpriseNumber, InvalidIdentifier, parse_correlation_id
from gateway.errors import GatewayError, Kind, Refusal
from gateway.intake import batches, handlers, views
from gateway.intake.admission import Admission, AdmissionLimits, NotAdmitted, Places, Pool, Pressure
from gateway.intake.body import PACE, BodyLimits, Pace, read_batch, read_message
from gateway.intake.caller import ON_BEHALF_OF, Caller, identify
from gateway.intake.connection import ARRIVAL_BYTES, Connection
from gateway.intake.handlers import IntakeDeps
from gateway.intake.problems import as_refusal, render
from gateway.intake.routes import ROUTES, Authentication, Route
from gateway.telemetry import Metrics

_log: Final = logging.getLogger(__name__)
CORRELATION: Final = "x-correlation-id"
_PROXY_HEADERS: Final = frozenset({"client-cert", "client-cert-chain"})
_BACKLOG: Final = 1_024
_LAST_ANSWERS_S: Final = 5.0  # for what is left to be written once no request is looked at any more
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
# Where the edge leaves the party of the certificate, which it judged to admit the request.
_PEER: Final = web.RequestKey("peer", Peer)
# And the correlation id, for problems inside an answer.
_CORRELATION_ID: Final = web.RequestKey("correlation_id", str)

_NO_HTTP: Final = (
    "this is no HTTP/1.1 request that can be read safely; look at its first line, the lengths that it states, and "
    "lines that are broken or longer than 8190 bytes"
)

_Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeLimits:
    """Limits of the connection and of one request; seconds and counts."""

    connections: int  # also those whose handshake is not over
    admission: AdmissionLimits
    largest_message_bytes: int  # of a whole request that hands a message over
    largest_batch_bytes: int  # of one that hands a batch over
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

    def __init__(
        self,
        deps: IntakeDeps,
        identities: Identities,
        limits: EdgeLimits,
        metrics: Metrics,
        pressure: Sequence[Pressure] = (),
    ) -> None:
        require_compiled_parser()
        self._deps = deps
        self._identities = identities
        self._limits = limits
        self._metrics = metrics
        self._in_flight = 0
        self._in_flight_told = metrics.in_flight.labels(edge="intake")
        self._idle = asyncio.Event()
        self._idle.set()
        self._ending = False
        self._admission = Admission(limits.admission, metrics, deps.clock, pressure)
        self._places = Places(limits.connections)
        self._arrival = memoryview(bytearray(ARRIVAL_BYTES))
        self._handshakes: set[asyncio.Task[Any]] = set()
        self._connections: defaultdict[EnterpriseNumber, WeakSet[asyncio.BaseTransport]] = defaultdict(WeakSet)
        self._server: asyncio.Server | None = None
        self._runner = web.AppRunner(self._application(), shutdown_timeout=_LAST_ANSWERS_S)

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

    def announce_end(self) -> None:
        """Go on answering, and let each answer be the last on its connection: senders come back to another process."""
        self._ending = True

    async def stop(self) -> None:
        """Take no more connections, finish the requests that run, also while their bodies still arrive, close."""
        if self._server is not None:
            self._server.close()
        self.announce_end()
        # aiohttp's own way to end drops whatever still arrives.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.drain_s):
                await self._idle.wait()
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
        # asyncio takes each connection in a task of its own, which ends with the handshake, however that ends.
        handshake = asyncio.current_task()
        if server is None or handshake is None:
            raise RuntimeError("connections come to a server that was started, each in a task")
        if len(server.connections) + len(self._handshakes) >= self._limits.connections:
            self._metrics.handshakes_refused.labels(reason="too-many-connections").inc()
            handshake.cancel()  # closes the connection before anything is computed for it
            return asyncio.Protocol()
        self._handshakes.add(handshake)
        handshake.add_done_callback(self._handshakes.discard)
        return Connection(
            server,
            self._places,
            self._arrival,
            on_crowd=self._metrics.handshakes_refused.labels(reason="too-many-of-one-certificate").inc,
            on_malformed=self._malformed,
            # aiohttp counts the keep-alive time-out from accept, so that it bounds the header of a first request too.
            keepalive_timeout=self._limits.header_s,
            access_log=None,
            auto_decompress=False,
        )

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._edge])
        for route in ROUTES:
            application.router.add_route(
                route.method, route.path, self._admitted(route, self._handler(route)), expect_handler=_later
            )
        return application

    def _handler(self, route: Route) -> _Answering:
        match route.authentication, route.handler, route.open_handler:
            case Authentication.SIGNED, None, None:
                return self._submit
            case Authentication.SIGNED_BATCH, None, None:
                return self._submit_batch
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

    def _admitted(self, route: Route, answering: _Answering) -> _Answering:
        """Let a request of a route in, or refuse it, and only then ask for its body."""
        is_message = route.authentication in (Authentication.SIGNED, Authentication.SIGNED_BATCH)
        largest_bytes = (
            self._limits.largest_batch_bytes
            if route.authentication is Authentication.SIGNED_BATCH
            else self._limits.largest_message_bytes
        )
        pool = Pool.MESSAGES if is_message else Pool.QUESTIONS

        async def admit(request: web.Request) -> web.StreamResponse:
            if route.authentication is Authentication.TLS:
                who = self._certificate(request).fingerprint(SHA256()).hex()
            else:
                request[_PEER] = peer = self._peer(request)
                who = peer.party
            size_bytes = self._size_of_message(request, largest_bytes) if is_message else 0
            with self._admission.admitted(pool, who, size_bytes):
                await _continue(request)
                return await answering(request)

        return admit

    def _size_of_message(self, request: web.Request, largest_bytes: int) -> int:
        """
        Return how many bytes a request says that it has; one that does not say may have as many as any.

        A batch counts as its largest item at most: no more of it lies on the disk without being accepted.
        """
        size_bytes = request.content_length
        if size_bytes is None:
            return self._limits.largest_message_bytes
        if size_bytes > largest_bytes:
            raise Refusal(Kind.MESSAGE_TOO_LARGE, f"the whole request may have at most {largest_bytes} bytes")
        return min(size_bytes, self._limits.largest_message_bytes)

    @web.middleware
    async def _edge(self, request: web.Request, handler: _Answering) -> web.StreamResponse:
        started_at = asyncio.get_running_loop().time()
        correlation_id = str(self._deps.accept.ids())
        refusal: Refusal | None = None
        self._in_flight += 1
        self._in_flight_told.inc()
        self._idle.clear()
        response: web.StreamResponse
        try:
            correlation_id = request[_CORRELATION_ID] = _correlation_id(request) or correlation_id
            _require_hygiene(request)
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
            self._in_flight_told.dec()
            if not self._in_flight:
                self._idle.set()
        if self._ending:
            response.force_close()
        _add_headers(response, correlation_id)
        self._tell(request, response, refusal, correlation_id, asyncio.get_running_loop().time() - started_at)
        return response

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        """`POST /api/v1/messages`: the first spine."""
        peer = request[_PEER]
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
        timeline = accepted.timeline
        if timeline is None:
            timeline = await self._deps.ledger.timeline(accepted.record.message_id)
        view = views.whole(accepted.record, timeline)
        return handlers.render_accepted(accepted, request.headers.get(hdrs.ACCEPT, ""), self._deps.public_url, view)

    async def _submit_batch(self, request: web.Request) -> web.StreamResponse:
        """`POST /api/v1/batches`: the first spine, item by item."""
        peer = request[_PEER]
        key = _single(request, "Idempotency-Key")
        if request.query:
            raise Refusal(Kind.BAD_REQUEST, "there are no parameters here")
        raw = await read_batch(request, self._limits.body)
        raw = replace(raw, idempotency_key=key, parts=self._while_open(raw.parts, peer))
        taken = await accept_batch(raw, peer, self._deps.accept, self._tell_of_item)
        return batches.render_taken(taken, self._deps.public_url, request[_CORRELATION_ID])

    async def _while_open(self, parts: AsyncIterator[RawPart], peer: Peer) -> AsyncIterator[RawPart]:
        """Yield the parts of a batch for as long as one more message can be taken over."""
        async for part in parts:
            if "-" not in part.name:
                self._admission.require_no_pressure(peer.party)
            yield part

    def _tell_of_item(self, outcome: Accepted | Refusal) -> None:
        if isinstance(outcome, Refusal):
            self._metrics.refused.labels(code=outcome.kind).inc()
        elif outcome.repeated:
            self._metrics.repeated.inc()
        else:
            self._deps.on_accepted(outcome)

    def _certificate(self, request: web.Request) -> x509.Certificate:
        try:
            return peer_certificate(_transport(request))
        except CertificateRejected as rejected:
            raise Refusal(Kind.SENDER_UNKNOWN, f"the client certificate is refused: {rejected}") from rejected

    def _peer(self, request: web.Request) -> Peer:
        peer = self._identities.peer(self._certificate(request), self._deps.clock())
        self._connections[peer.party].add(_transport(request))
        return peer

    async def _caller(self, request: web.Request) -> Caller:
        on_behalf_of = _single(request, ON_BEHALF_OF)
        return await identify(request[_PEER], on_behalf_of, self._identities.registration(), self._deps.ledger)

    def _malformed(self, status: int) -> web.Response:
        """Return the answer to what aiohttp itself refuses with `status`, and count it."""
        correlation_id = str(self._deps.accept.ids())
        kind = Kind.INTERNAL if status >= HTTPStatus.INTERNAL_SERVER_ERROR else Kind.BAD_REQUEST
        refusal = as_refusal(GatewayError()) if kind is Kind.INTERNAL else Refusal(kind, _NO_HTTP)
        response = render(refusal, correlation_id)
        _add_headers(response, correlation_id)
        self._metrics.refused.labels(code=kind).inc()
        self._metrics.requests.labels(edge="intake", route="unknown", status=response.status).inc()
        _log.info(
            "request",
            extra={
                "edge": "intake",
                "route": "unknown",
                "status": response.status,
                "outcome": kind,
                "correlation": correlation_id,
            },
        )
        return response

    def _refusal(self, error: Exception, correlation_id: str) -> Refusal:
        match error:
            case web.HTTPNotFound():
                return Refusal(Kind.NOT_FOUND, "there is no such path; see the sender interface for those there are")
            case web.HTTPMethodNotAllowed(allowed_methods=allowed):
                return Refusal(Kind.METHOD_NOT_ALLOWED, f"this path takes {', '.join(sorted(allowed))}")
            case _:
                pass
        refusal = as_refusal(error)
        if refusal.kind in (Kind.INTERNAL, Kind.STORE_UNAVAILABLE) and not isinstance(refusal, NotAdmitted):
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
        if isinstance(refusal, NotAdmitted):
            return  # told by the admission, at its own pace
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


async def _later(_request: web.Request) -> None:
    """Leave `Expect` to `_continue`: before this edge has looked at a request, nothing is promised for its body."""


async def _continue(request: web.Request) -> None:
    """Ask for the body of a request that waits for that (RFC 9110, section 10.1.1)."""
    expectation = request.headers.get(hdrs.EXPECT)
    if expectation is None or request.version != HttpVersion11:
        return
    if expectation.lower() != "100-continue":
        raise Refusal(Kind.BAD_REQUEST, "the only expectation that is met is 100-continue")
    await request.writer.write(_CONTINUE)
    request.writer.output_size = 0  # the answer itself has not begun
    await request.writer.drain()


def _transport(request: web.Request) -> asyncio.Transport:
    if request.transport is None:
        raise ConnectionResetError("the caller has gone")
    return request.transport


def _add_headers(response: web.StreamResponse, correlation_id: str) -> None:
    response.headers[CORRELATION] = correlation_id
    response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")  # what is public says itself how long it holds
    response.headers["X-Content-Type-Options"] = "nosniff"


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
