"""The routes of the sender interface; each names how its caller is known."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from aiohttp import web

from gateway.intake import dossiers, handlers
from gateway.intake.caller import Caller
from gateway.intake.handlers import IntakeDeps

Handler = Callable[[web.Request, Caller, IntakeDeps], Awaitable[web.Response]]


class Authentication(Enum):
    """How the caller of a route is known. Every route of this edge is behind mutual TLS."""

    CALLER = "the client certificate names a party, which acts for itself or for a sender it may act for"
    SIGNED = "the client certificate names a party; the signed message names the sender"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method on one path. A `SIGNED` route has no handler of its own: it is `server.submit`."""

    method: str
    path: str
    authentication: Authentication
    handler: Handler | None


MESSAGES: Final = "/api/v1/messages"


ROUTES: Final = (
    Route(method="POST", path=MESSAGES, authentication=Authentication.SIGNED, handler=None),
    Route(method="GET", path=MESSAGES, authentication=Authentication.CALLER, handler=handlers.messages),
    Route(method="GET", path=MESSAGES + "/{messageId}", authentication=Authentication.CALLER, handler=handlers.message),
    Route(
        method="POST",
        path="/api/v1/statusRequest",
        authentication=Authentication.CALLER,
        handler=handlers.status_request,
    ),
    Route(method="POST", path="/api/v1/dossiers", authentication=Authentication.CALLER, handler=dossiers.register),
    Route(method="POST", path="/api/v1/dossiers/end", authentication=Authentication.CALLER, handler=dossiers.end),
    Route(method="POST", path="/api/v1/dossiers/search", authentication=Authentication.CALLER, handler=dossiers.search),
)
