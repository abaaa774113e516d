"""Points around every call of a provider: before it, when it was answered, and when no answer ever comes."""

import asyncio
import errno
from typing import Any, Final

import aiohttp
from yarl import URL

from tests.crash.points import Way, Wire, stand_in
from tests.crash.races import Races

_WAYS: Final = (Way.KILL_BEFORE, Way.KILL_AFTER, Way.FAIL, Way.LOST, Way.HANG)
_FOR_ALL: Final = frozenset({"token", "hasMandate"})  # the first letter that comes pays for all


class CallPoints:
    """Watches the HTTP calls that this process makes."""

    def __init__(self, wire: Wire, races: Races) -> None:
        self._wire = wire
        self._races = races

    def put_up(self) -> None:
        """Stand in for the client's request from now on."""
        real = aiohttp.ClientSession._request
        wire, races = self._wire, self._races

        async def request(session: aiohttp.ClientSession, method: str, url: Any, **named: Any) -> Any:
            operation = _operation(method, URL(url))
            passage = wire.arrive(f"call.{operation}", _WAYS, label="-" if operation in _FOR_ALL else None)
            passage.before()
            if passage.way is Way.FAIL or races.breaks(operation):
                raise aiohttp.ClientOSError(errno.ECONNRESET, "planned: the connection was reset")
            response = await real(session, method, url, **named)
            passage.after()
            if passage.way is Way.LOST:
                response.close()
                raise aiohttp.ServerDisconnectedError("planned: the answer was lost")
            if passage.way is Way.HANG:
                await asyncio.Event().wait()
            return response

        stand_in(aiohttp.ClientSession, "_request", request)


def _operation(method: str, url: URL) -> str:
    parts = [part for part in url.parts if part != "/"]
    if "print-jobs" in parts:
        return "create-job" if method == "POST" else "look-at-job"
    if parts[-1] == "search":
        return f"search-{parts[-2]}"
    return parts[-1]
