"""
The way out over HTTP: one session per provider, and what a failed call says about a delivery.

A call that hands something over has a point of no return: the moment at which the connection stands and the first
octet of the body is asked for. Before it, nothing can have arrived, and a failure is `Unreachable`. From then on a lost
answer is `OutcomeUnknown`, even where in truth no octet left this machine: nobody can tell from here.

Texts of errors are made here. Those of the library are left behind, because they may quote what the provider sent.
"""

import errno
import json
import re
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_exponential

from gateway.adapters.base import ParcelDocument
from gateway.domain.ids import holds_ssin
from gateway.errors import ChannelBlocked, GatewayError, OutcomeUnknown, Unreachable

MAX_ANSWER_BYTES: Final = 1_048_576
_WRITE_BYTES: Final = 65_536
USER_AGENT: Final = "document-gateway"

TRY_LATER: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
# Statuses that judge the letter. Any other 4xx judges us: a wrong address, method or permission.
LETTER_REFUSED: Final = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)

_KEEPALIVE_S: Final = 15.0  # shorter than what servers allow, so that a pooled connection is rarely dead already
_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}\Z")
_SECONDS: Final = re.compile(r"[0-9]{1,9}\Z")
_LOST: Final = (aiohttp.ClientError, OSError)  # TimeoutError is an OSError

_T = TypeVar("_T")


class DocumentMismatch(GatewayError):
    """A document did not yield the octets that were announced; the request was cut off and hands nothing over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTiming:
    """
    How long calls may last, and how often a look-up is tried while the caller waits.

    Only look-ups are tried again here, because they change nothing; a hand-over is made once per call.
    """

    connect_timeout_s: float = 10.0  # name look-up, TCP and TLS together
    send_timeout_s: float = 300.0  # a whole hand-over, from connecting to the end of the answer
    look_up_timeout_s: float = 30.0
    look_up_tries: int = 3
    look_up_wait_s: float = 0.5  # before the second try; doubles with each further one


def tls_context(ca_file: Path | None = None, client_certificate: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    """
    Return a context that verifies the provider's certificate and name, against `ca_file` or the system's authorities.

    `client_certificate` is (certificate chain, private key) for providers that ask for one. Reads files: call it
    outside the event loop.

    Raises:
        OSError: a file cannot be read or does not hold what it should.
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if client_certificate is not None:
        context.load_cert_chain(*client_certificate)
    return context


def open_session(tls: ssl.SSLContext | None = None) -> aiohttp.ClientSession:
    """
    Return a session that keeps no cookies, obeys no proxy variables and unpacks no compressed answers.

    Without `tls` the system's authorities count. The number of connections is bounded by the destination, not here.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls or True, limit=0, keepalive_timeout=_KEEPALIVE_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity"},
        auto_decompress=False,
        trust_env=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Answer:
    """A provider's answer; `whole` is false when the body was cut off or longer than was allowed."""

    status: int
    media_type: str
    body: bytes
    whole: bool
    retry_after_s: float | None

    def json(self) -> Any:
        """Return the JSON value of the body, or None when it is cut off, not declared as JSON or no JSON."""
        if not self.whole or not (self.media_type == "application/json" or self.media_type.endswith("+json")):
            return None
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


class StreamedBody(aiohttp.Payload):
    """
    A request body of known size that is made while it is sent, with constant memory.

    `begun` tells whether the point of no return was passed, `complete` whether the last octet was handed to the
    connection, `failure` what our own source raised, if it did.
    """

    _autoclose = True

    def __init__(
        self, chunks: Callable[[], AsyncGenerator[bytes, None]], *, size_bytes: int, content_type: str
    ) -> None:
        super().__init__(None, content_type=content_type)
        self._size = size_bytes
        self._chunks = chunks
        self._sent_bytes = 0
        self.begun = False
        self.failure: Exception | None = None

    @property
    def complete(self) -> bool:
        """Whether the connection was given the whole body."""
        return self._sent_bytes == self._size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - the library's signature
        """Refuse: the body exists only while it is sent."""
        raise TypeError("a streamed body has no text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send the body; the library calls this or `write_with_length` once the connection stands."""
        self.begun = self._consumed = True
        gathered = bytearray()  # what is small goes together: each write is a record of TLS and a call to the system
        async with aclosing(self._watched()) as chunks:
            async for chunk in chunks:
                gathered += chunk
                if len(gathered) >= _WRITE_BYTES:
                    gathered = await self._send(writer, gathered)
        await self._send(writer, gathered)

    async def _send(self, writer: AbstractStreamWriter, gathered: bytearray) -> bytearray:
        self._sent_bytes += len(gathered)
        await writer.write(gathered)
        return bytearray()

    async def write_with_length(
        self,
        writer: AbstractStreamWriter,
        content_length: int | None,  # noqa: ARG002 - our own size, which `_watched` holds the body to
    ) -> None:
        """Send the body."""
        await self.write(writer)

    async def _watched(self) -> AsyncGenerator[bytes, None]:
        """Yield the chunks, note what their source raises, and hold them to the announced size."""
        left_bytes = self._size or 0
        try:
            async with aclosing(self._chunks()) as chunks:
                async for chunk in chunks:
                    left_bytes -= len(chunk)
                    _require(left_bytes >= 0, "the documents are longer than announced")
                    yield chunk
            _require(left_bytes == 0, "the documents are shorter than announced")
        except Exception as exc:
            self.failure = exc
            raise


def _require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence at its two calls
    if not holds:
        raise DocumentMismatch(otherwise)


async def document_chunks(document: ParcelDocument) -> AsyncGenerator[bytes, None]:
    """Yield the octets of a document, and close it when they are no longer wanted."""
    stream = document.open()
    try:
        async for chunk in stream:
            yield chunk
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


class HttpClient:
    """Calls one provider; `clock` counts only for a `Retry-After` that is a date."""

    def __init__(self, session: aiohttp.ClientSession, timing: CallTiming, clock: Callable[[], datetime]) -> None:
        self._session = session
        self._timing = timing
        self._clock = clock

    async def close(self) -> None:
        """Close the session and its connections."""
        await self._session.close()

    async def ask(
        self,
        what: str,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: object = None,
        limit_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """
        Make a call that changes nothing, a few times if need be; `body` is sent as JSON.

        The library repeats a GET whose connection broke once more by itself, which nothing can switch off.

        Raises:
            Unreachable: no whole answer, or 408, 425, 429 or 5xx, at the last try. `what` opens the text.
        """
        return await self.patiently(
            lambda: self.ask_once(what, method, url, headers=headers, body=body, limit_bytes=limit_bytes)
        )

    async def patiently(self, once: Callable[[], Awaitable[_T]]) -> _T:
        """
        Call `once` again while it raises `Unreachable`, a few times; a provider's own `Retry-After` ends that.

        Raises:
            Unreachable: the last one.
        """
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._timing.look_up_tries),
            wait=wait_exponential(multiplier=self._timing.look_up_wait_s),
            retry=retry_if_exception(lambda exc: isinstance(exc, Unreachable) and exc.retry_after_s is None),
            reraise=True,
        )

        async def attempt() -> _T:  # a coroutine function, because the library looks for one
            return await once()

        return await retrying(attempt)

    async def ask_once(
        self,
        what: str,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: object = None,
        form: Mapping[str, str] | None = None,
        limit_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """
        Make a call that changes nothing, once, with a JSON `body`, a `form` or neither.

        Raises:
            Unreachable: as for `ask`.
        """
        timeout = self._timeout(self._timing.look_up_timeout_s)
        content: dict[str, Any] = {"data": form} if body is None else {"json": body}
        try:
            async with self._session.request(
                method, url, headers=headers, timeout=timeout, allow_redirects=False, **content
            ) as response:
                answer = await self._read(response, limit_bytes)
        except _LOST as exc:
            raise Unreachable(f"{what}: {_described(exc)}") from None
        if not answer.whole:
            raise Unreachable(f"{what}: the answer was cut off or too long")
        if answer.status in TRY_LATER or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Unreachable(f"{what}: answered {answer.status}", retry_after_s=answer.retry_after_s)
        return answer

    async def hand_over(self, url: str, *, headers: Mapping[str, str], body: StreamedBody) -> Answer:
        """
        POST a body, once, and return whatever is answered.

        Raises:
            Unreachable: the connection failed before the point of no return.
            OutcomeUnknown: it failed after that, or the provider agreed before it had everything.
            GatewayError: what our own documents raised; the request was cut off and hands nothing over.
        """
        timeout = self._timeout(self._timing.send_timeout_s)
        try:
            async with self._session.post(
                url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                answer = await self._read(response)
        except _LOST as exc:
            if body.failure is not None:
                raise body.failure from None
            if body.begun:
                raise OutcomeUnknown(_described(exc)) from None
            raise Unreachable(_described(exc)) from None
        if answer.status < HTTPStatus.MULTIPLE_CHOICES and not body.complete:
            raise OutcomeUnknown("the provider agreed before it had the whole body")
        return answer

    def _timeout(self, total_s: float) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=total_s, sock_connect=self._timing.connect_timeout_s)

    async def _read(self, response: aiohttp.ClientResponse, limit_bytes: int = MAX_ANSWER_BYTES) -> Answer:
        body = bytearray()
        whole = True
        try:
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > limit_bytes:
                    whole = False
                    response.close()
                    break
        except _LOST:
            whole = False  # the status stands; whether it is enough is the caller's to judge
        return Answer(
            status=response.status,
            media_type=response.content_type.lower(),
            body=bytes(body) if whole else b"",
            whole=whole,
            retry_after_s=_retry_after_s(response.headers.get("Retry-After"), self._clock()),
        )


def judge(answer: Answer) -> None:
    """
    Raise what the status of a hand-over says, whoever the provider is.

    Returns for 2xx, for 409, and for a refusal of the letter (`LETTER_REFUSED`) that came whole: the adapter reads on.

    Raises:
        Unreachable: 408, 425, 429; or the letter was refused, but the reason was cut off.
        OutcomeUnknown: 5xx.
        ChannelBlocked: 3xx, which is never followed; 401, 403 and every other 4xx.
    """
    status = answer.status
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise OutcomeUnknown(f"answered {status}")
    if status in TRY_LATER:
        raise Unreachable(f"answered {status}", retry_after_s=answer.retry_after_s)
    if status < HTTPStatus.MULTIPLE_CHOICES or status == HTTPStatus.CONFLICT:
        return
    if status not in LETTER_REFUSED:
        raise ChannelBlocked(f"answered {status}")
    if not answer.whole:
        raise Unreachable(f"answered {status}, but the reason was cut off or too long")


def provider_word(value: object) -> str | None:
    """Return a provider's code if it is one: a short token of ASCII that holds no personal number; else None."""
    if isinstance(value, str) and _CODE.match(value) and not holds_ssin(value):
        return value
    return None


def member(value: object, name: str) -> Any:
    """Return a member of a JSON object, or None when it has none or is none."""
    return value.get(name) if isinstance(value, dict) else None


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


def _described(exc: BaseException) -> str:
    match exc:
        case aiohttp.ClientConnectorCertificateError(certificate_error=ssl.SSLCertVerificationError() as reason):
            return f"the provider's certificate does not hold: {reason.verify_message}"
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
