"""One call to the gateway: the session, the time-outs, and what a failed call says."""

import asyncio
import errno
import json
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp

from gateway.client.body import StreamedBody
from gateway.client.handshake import own_fault, refusal
from gateway.client.problems import CertificateRefused, GatewayNotTrusted, NotReached, UnexpectedAnswer, problem_of
from gateway.client.sender import SenderProfile
from gateway.domain.ids import holds_ssin

__all__ = ["JOSE", "Answer", "CallTiming", "Transport", "new_correlation_id"]

_ANSWER_LIMIT_BYTES: Final = 16 * 1024 * 1024
_KEEPALIVE_S: Final = 10.0
JOSE: Final = "application/jose"
_CORRELATION: Final = "x-correlation-id"
_HTTPS_PORT: Final = 443
_SECONDS: Final = re.compile(r"[0-9]{1,9}\Z")
_BEFORE_SENDING: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_LOST: Final = (aiohttp.ClientError, OSError)  # TimeoutError is an OSError


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTiming:
    """Seconds after which a call is given up; a big letter on a slow line is fine as long as it moves."""

    connect_timeout_s: float = 10.0  # name look-up, TCP and TLS together
    stall_timeout_s: float = 60.0  # between two pieces of the body that the gateway takes
    answer_timeout_s: float = 120.0  # from the end of the body to the answer, and between two pieces of it
    verdict_wait_s: float = 3.0  # for the gateway to hang up on a certificate that it refuses


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Answer:
    """An answer that is no problem: 2xx and its JSON value, or the text of a compact JWS."""

    status: int
    value: Any


def new_correlation_id() -> str:
    """Return a UUID for `x-correlation-id` in which no eleven digits look like a personal number: those are refused."""
    while holds_ssin(made := str(uuid4())):
        pass
    return made


class Transport:
    """The way to one gateway, as one sender; `clock` counts only for a `Retry-After` that is a date."""

    def __init__(self, sender: SenderProfile, timing: CallTiming, clock: Callable[[], datetime]) -> None:
        self._sender = sender
        self._timing = timing
        self._clock = clock
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=sender.tls, keepalive_timeout=_KEEPALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "User-Agent": "document-gateway-client",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                # Always stated, so that it makes no difference whether the sender or its processor calls.
                "On-Behalf-Of-Enterprise-Number": sender.enterprise_number,
            },
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=timing.connect_timeout_s, sock_read=timing.answer_timeout_s
            ),
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def get(
        self, path: str, query: Mapping[str, str], *, correlation_id: str, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """GET a path of the sender interface; raises as `hand_over`."""
        return await self._call("GET", path, correlation_id, headers, params=query)

    async def post(self, path: str, value: object, *, correlation_id: str) -> Answer:
        """POST a JSON value; raises as `hand_over`."""
        return await self._call("POST", path, correlation_id, json=value)

    async def hand_over(self, path: str, body: StreamedBody, *, correlation_id: str) -> Answer:
        """
        POST a letter or a batch, once.

        Raises:
            Problem: the gateway's own refusal, or its trouble.
            CertificateRefused, GatewayNotTrusted: the two sides do not get along; nothing was sent.
            NotReached: no answer.
            UnexpectedAnswer: an answer that is neither a problem nor JSON.
            LetterInvalid: a document changed; the request was cut off.
        """
        return await self._call("POST", path, correlation_id, data=body)

    async def _call(
        self, method: str, path: str, correlation_id: str, headers: Mapping[str, str] | None = None, **content: Any
    ) -> Answer:
        body = content.get("data")
        try:
            async with self._session.request(
                method,
                self._sender.base_url + path,
                headers={_CORRELATION: correlation_id, **(headers or {})},
                allow_redirects=False,
                **content,
            ) as response:
                return await self._read(response, correlation_id)
        except aiohttp.ClientConnectorCertificateError as exc:
            raise GatewayNotTrusted(_certificate_fault(exc)) from exc
        except _LOST as exc:
            if isinstance(body, StreamedBody) and body.failure is not None:
                raise body.failure from None
            if not isinstance(exc, TimeoutError):
                await self._require_certificate_taken()
            raise NotReached(_described(exc), sent=not isinstance(exc, _BEFORE_SENDING)) from exc

    async def _require_certificate_taken(self) -> None:
        address = urlsplit(self._sender.base_url)
        reason = await asyncio.to_thread(
            refusal,
            address.hostname or "",
            address.port or _HTTPS_PORT,
            self._sender.tls,
            connect_timeout_s=self._timing.connect_timeout_s,
            wait_s=self._timing.verdict_wait_s,
        )
        if reason is not None:
            why = f" ({reason})" if reason else ""
            fault = own_fault(self._sender.tls_certificate, self._clock())
            hint = f"it is {fault}" if fault else "it may be revoked, or issued by an authority that the gateway lacks"
            raise CertificateRefused(
                code="certificate-refused",
                detail=f"the gateway refused the client certificate in the TLS handshake{why}; {hint}",
                status=None,
            )

    async def _read(self, response: aiohttp.ClientResponse, correlation_id: str) -> Answer:
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > _ANSWER_LIMIT_BYTES:
                response.close()
                raise UnexpectedAnswer(f"longer than {_ANSWER_LIMIT_BYTES} bytes")
        value = _value(response.content_type.lower(), bytes(body))
        if response.status < HTTPStatus.MULTIPLE_CHOICES:
            if value is None:
                raise UnexpectedAnswer(f"{response.status} without JSON")
            return Answer(status=response.status, value=value)
        if response.status < HTTPStatus.BAD_REQUEST:
            raise UnexpectedAnswer(f"{response.status}, a redirection; base_url must be the gateway itself")
        raise problem_of(
            response.status,
            value,
            correlation_id=response.headers.get(_CORRELATION) or correlation_id,
            retry_after_s=_retry_after_s(response.headers.get("Retry-After"), self._clock()),
        )


def _value(media_type: str, body: bytes) -> Any:
    """Return the JSON value of an answer, or the text of a compact JWS; None when it is neither."""
    if media_type == JOSE:
        return body.decode("ascii", "replace")
    if media_type != "application/json" and not media_type.endswith("+json"):
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _retry_after_s(text: str | None, now: datetime) -> float | None:
    """Return `Retry-After` (RFC 9110, section 10.2.3) in seconds from `now`, never negative."""
    if text is None:
        return None
    if _SECONDS.match(text.strip()):
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max((at - now).total_seconds(), 0.0)


def _certificate_fault(exc: aiohttp.ClientConnectorCertificateError) -> str:
    reason = exc.certificate_error
    return reason.verify_message if isinstance(reason, ssl.SSLCertVerificationError) else type(reason).__name__


def _described(exc: BaseException) -> str:
    match exc:
        case aiohttp.ClientConnectorSSLError():
            return "TLS failed"
        case aiohttp.ClientConnectorDNSError():
            return "the host name is not known"
        case aiohttp.ConnectionTimeoutError():
            return "no connection in time"
        case aiohttp.ClientConnectorError():
            return f"no connection ({errno.errorcode.get(exc.errno or 0, 'reason unknown')})"
        case TimeoutError():
            return "no answer in time"
        case _:
            return f"the connection was lost ({type(exc).__name__})"
