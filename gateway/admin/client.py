"""Asks the running gateway over its admin socket, and tells apart a refusal from a gateway that is not there."""

import errno
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import aiohttp

from gateway.errors import GatewayError

_ANSWER_S: Final = 60.0
_CONNECT_S: Final = 5.0
_LARGEST_ANSWER_BYTES: Final = 16_777_216


class NotRunning(GatewayError):
    """Nobody listens at the socket."""


class NoAccess(GatewayError):
    """The account may not reach the socket."""


class AnswerLost(GatewayError):
    """The gateway went away, or said nothing readable; a command may or may not have been carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the gateway said; `body` is a problem document (RFC 9457) when it refused."""

    refused: bool
    body: Mapping[str, Any]


async def ask(socket: Path, method: str, path: str, body: Mapping[str, Any] | None = None) -> Reply:
    """
    Send one command.

    Raises:
        NotRunning, NoAccess: nothing was asked.
        AnswerLost: the command may or may not have been carried out.
    """
    limits = aiohttp.ClientTimeout(total=_ANSWER_S, sock_connect=_CONNECT_S)
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(socket)), timeout=limits) as session,
            # The host is a form that HTTP asks for; the socket alone says who answers.
            session.request(method, f"http://gateway{path}", json=body, allow_redirects=False) as response,
        ):
            content = await _read(response)
    except aiohttp.ClientConnectorError as error:
        raise _unreached(socket, error.os_error) from error
    except (aiohttp.ClientError, OSError) as error:
        raise AnswerLost(f"the answer of the gateway was lost ({type(error).__name__})") from error
    return Reply(refused=response.status != HTTPStatus.OK, body=content)


async def _read(response: aiohttp.ClientResponse) -> Mapping[str, Any]:
    raw = await response.content.read(_LARGEST_ANSWER_BYTES)
    while not response.content.at_eof() and len(raw) < _LARGEST_ANSWER_BYTES:
        raw += await response.content.read(_LARGEST_ANSWER_BYTES - len(raw))
    try:
        content = json.loads(raw)
    except ValueError as error:
        raise AnswerLost("the answer is not that of a gateway") from error
    if not isinstance(content, dict):
        raise AnswerLost("the answer is not that of a gateway")
    return content


def _unreached(socket: Path, error: OSError) -> GatewayError:
    if error.errno in (errno.EACCES, errno.EPERM):
        return NoAccess(
            f"this account may not reach the admin socket {socket}; "
            "the system's administrator lets staff in, the access manager registers them"
        )
    return NotRunning(f"no gateway answers at {socket}; start one with `gateway serve`, or name its socket: --socket")
