"""The routes of the sender interface; each names how its caller is known."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from aiohttp import web

from gateway.intake import batches, cancelling, dossiers, feed, handlers, postal, proofs, whoami
from gateway.intake.caller import Caller
from gateway.intake.contract.serving import file_of_contract
from gateway.intake.handlers import IntakeDeps

Handler = Callable[[web.Request, Caller, IntakeDeps], Awaitable[web.Response]]
OpenHandler = Callable[[web.Request, IntakeDeps], Awaitable[web.Response]]


class Authentication(Enum):
    """How the caller of a route is known. Every route of this edge is behind mutual TLS."""

    CALLER = "the client certificate names a party, which acts for itself or for a sender it may act for"
    SIGNED = "the client certificate names a party; the signed message names the sender"
    SIGNED_BATCH = "the client certificate names a party; the signed batch names the sender"
    TLS = "any client certificate that passes TLS, also one that nobody registered; what is told is public"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """
    One method on one path.

    A `CALLER` route has a `handler`, a `TLS` route an `open_handler`; those that are `SIGNED` have neither: they are
    the server's own.
    """

    method: str
    path: str
    authentication: Authentication
    handler: Handler | None = None
    open_handler: OpenHandler | None = None


MESSAGES: Final = "/api/v1/messages"
BATCHES: Final = "/api/v1/batches"
_BATCH: Final = BATCHES + "/{batchId}"
_ONE: Final = MESSAGES + "/{messageId}"
_CALLER: Final = Authentication.CALLER
_CONTRACT: Final = (
    "openapi.json",
    "docs",
    "message.xsd",
    "batch.xsd",
    "receipt.xsd",
    "xmldsig-subset.xsd",
    "message.schema.json",
    "batch.schema.json",
    "examples/message.xml",
    "examples/message.jws",
    "examples/batch.xml",
    "examples/batch.jws",
    "examples/batch-m1.xml",
    "examples/batch-m1.json",
)


ROUTES: Final = (
    Route(method="POST", path=MESSAGES, authentication=Authentication.SIGNED),
    Route(method="GET", path=MESSAGES, authentication=_CALLER, handler=handlers.messages),
    Route(method="GET", path=_ONE, authentication=_CALLER, handler=handlers.message),
    Route(method="POST", path=_ONE + "/cancel", authentication=_CALLER, handler=cancelling.cancel),
    Route(method="GET", path=_ONE + "/evidence", authentication=_CALLER, handler=proofs.evidence_list),
    Route(method="GET", path=_ONE + "/evidence/{n}", authentication=_CALLER, handler=proofs.evidence),
    Route(method="GET", path=_ONE + "/kit", authentication=_CALLER, handler=proofs.kit),
    Route(method="GET", path=_ONE + "/bpost-status", authentication=_CALLER, handler=postal.bpost_status),
    Route(method="GET", path=_ONE + "/bpost-attestation", authentication=_CALLER, handler=postal.bpost_attestation),
    Route(method="POST", path=BATCHES, authentication=Authentication.SIGNED_BATCH),
    Route(method="GET", path=_BATCH, authentication=_CALLER, handler=batches.batch),
    Route(method="POST", path=_BATCH + "/cancel", authentication=_CALLER, handler=batches.cancel),
    Route(method="POST", path="/api/v1/statusRequest", authentication=_CALLER, handler=handlers.status_request),
    Route(method="GET", path="/api/v1/events", authentication=_CALLER, handler=feed.events),
    Route(method="POST", path="/api/v1/dossiers", authentication=_CALLER, handler=dossiers.register),
    Route(method="POST", path="/api/v1/dossiers/end", authentication=_CALLER, handler=dossiers.end),
    Route(method="POST", path="/api/v1/dossiers/search", authentication=_CALLER, handler=dossiers.search),
    Route(method="GET", path="/api/v1/whoami", authentication=_CALLER, handler=whoami.whoami),
    Route(method="GET", path="/api/v1/trust", authentication=Authentication.TLS, open_handler=proofs.trust),
    *(
        Route(
            method="GET",
            path=f"/api/v1/{name}",
            authentication=Authentication.TLS,
            open_handler=file_of_contract(name),
        )
        for name in _CONTRACT
    ),
)
