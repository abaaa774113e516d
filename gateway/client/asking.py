"""One question to the gateway whose answer counts whatever it is, with the moments around it: for examinations."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

import aiohttp

from gateway.client.problems import NotReached, Problem, problem_of
from gateway.client.sender import SenderProfile
from gateway.client.transport import CallTiming, new_correlation_id

__all__ = ["Reply", "ask"]

_ANSWER_LIMIT_BYTES: Final = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Reply:
    """
    An answer of any status: its JSON value, or None where it has none, and the moments between which it was made.

    `date_at` is the answer's own `Date`, to the second.
    """

    status: int
    value: Any
    correlation_id: str
    asked_at: datetime
    answered_at: datetime
    date_at: datetime | None

    @property
    def problem(self) -> Problem | None:
        """The refusal in it; None when it is none."""
        if self.status == HTTPStatus.OK:
            return None
        return problem_of(self.status, self.value, correlation_id=self.correlation_id)


async def ask(sender: SenderProfile, path: str, *, timing: CallTiming, clock: Callable[[], datetime]) -> Reply:
    """
    GET a path of the sender interface, once.

    Raises:
        NotReached: there was no answer, or not the whole of it.
    """
    correlation_id = new_correlation_id()
    headers = {
        "x-correlation-id": correlation_id,
        "User-Agent": "document-gateway-client",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "On-Behalf-Of-Enterprise-Number": sender.enterprise_number,
    }
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=timing.connect_timeout_s, sock_read=timing.answer_timeout_s
    )
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=sender.tls), timeout=timeout, auto_decompress=False, trust_env=False
    ) as session:
        asked_at = clock()
        try:
            async with session.get(sender.base_url + path, headers=headers, allow_redirects=False) as response:
                answered_at = clock()
                value = _json(await _body(response))
        except TimeoutError as exc:
            raise NotReached(f"no answer within {timing.answer_timeout_s:g} s", sent=True) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise NotReached(f"the connection was lost ({type(exc).__name__})", sent=True) from exc
    return Reply(
        status=response.status,
        value=value,
        correlation_id=correlation_id,
        asked_at=asked_at,
        answered_at=answered_at,
        date_at=_date(response.headers.get("Date")),
    )


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """Return the body; empty when it is longer than any that the sender interface gives."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _ANSWER_LIMIT_BYTES:
            response.close()
            return b""
    return bytes(body)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _date(text: str | None) -> datetime | None:
    """Return a `Date` (RFC 9110, section 6.6.1); None where there is none that can be read."""
    if text is None:
        return None
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
