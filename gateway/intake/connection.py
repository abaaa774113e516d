"""
One connection of a sender, within bounds: how many of them one certificate has, and how long an answer waits for it.

What aiohttp would answer by itself becomes a problem document, which never repeats what was sent.
"""

import asyncio
import hashlib
import ssl
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, Protocol, runtime_checkable

from aiohttp import hdrs, web

from gateway.intake.admission import Places

_LONGEST_ANSWER_S: Final = 120.0
_LINGER_S: Final = 10.0
_AHEAD_BYTES: Final = 65_536  # that TLS reads from the network while nobody takes what came before
ARRIVAL_BYTES: Final = 65_536  # that TLS opens at once

OnMalformed = Callable[[int], web.Response]
"""Returns the answer to what is no HTTP that we take, from the status that aiohttp chose for it."""


@runtime_checkable
class _ReadsAhead(Protocol):
    """A transport of TLS."""

    def set_read_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See `asyncio.WriteTransport.set_write_buffer_limits`, the other way."""


class Connection(web.RequestHandler, asyncio.BufferedProtocol):
    """
    `places` are shared by all connections, by certificate; `on_crowd` is told of one that found none. So is `arrival`,
    which holds what TLS opens until `buffer_updated` has copied it: asyncio would make a buffer of 256 KiB for each
    record, and hand on all records that are there as one.

    `options` are those of `web.RequestHandler`.
    """

    __slots__ = ("_arrival", "_certificate", "_on_crowd", "_on_malformed", "_places")

    def __init__(
        self,
        server: web.Server,
        places: Places,
        arrival: memoryview,
        *,
        on_crowd: Callable[[], None],
        on_malformed: OnMalformed,
        **options: Any,
    ) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), lingering_time=_LINGER_S, **options)
        self._places = places
        self._arrival = arrival
        self._on_crowd = on_crowd
        self._on_malformed = on_malformed
        self._certificate: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`; the handshake is over, so the certificate is known."""
        certificate = _digest(transport)
        if not self._places.are_due(certificate, 1):
            self._on_crowd()
            self.force_close()  # whatever still comes is dropped
            transport.close()
            return
        self._places.take(certificate, 1)
        self._certificate = certificate
        if isinstance(transport, _ReadsAhead):
            transport.set_read_buffer_limits(high=_AHEAD_BYTES)
        super().connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 -- the signature of the protocol
        """See `asyncio.BufferedProtocol`."""
        return self._arrival

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        self.data_received(bytes(self._arrival[:nbytes]))

    def connection_lost(self, exc: BaseException | None) -> None:
        """See `asyncio.Protocol`."""
        if self._certificate is not None:
            self._places.give_back(self._certificate, 1)
            self._certificate = None
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,  # noqa: ARG002 -- its text holds what was sent, so it is neither told nor logged
        message: str | None = None,  # noqa: ARG002 -- as `exc`
    ) -> web.StreamResponse:
        """
        Answer what never reached the edge: what the parser refused.

        Raises:
            ConnectionError: an answer was already begun.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("a part of another answer was already sent")
        answer = self._on_malformed(status)
        answer.force_close()
        answer.headers[hdrs.CONNECTION] = "close"  # aiohttp takes what it cannot read for HTTP/1.0, and leaves it out
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """
        Send an answer; break the connection off when it is not taken in time, for until then it lies in memory.

        Raises:
            ConnectionResetError: it was not.
        """
        if isinstance(resp, web.HTTPException):  # aiohttp's own, about an Expect on a path that is not ours
            resp = self.handle_error(request, resp.status)
        try:
            async with asyncio.timeout(_LONGEST_ANSWER_S):
                return await super().finish_response(request, resp, start_time)
        except TimeoutError as error:
            if self.transport is not None:
                self.transport.abort()
            raise ConnectionResetError("the caller did not take its answer") from error


def _digest(transport: asyncio.BaseTransport) -> str:
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    certificate = tls.getpeercert(binary_form=True) if tls is not None else None
    return hashlib.sha256(certificate or b"").hexdigest()
