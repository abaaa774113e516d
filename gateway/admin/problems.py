"""Problem documents (RFC 9457) of the admin interface: one table from a refusal's code to its status and title."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from aiohttp import web

from gateway.errors import FieldError, GatewayError, StoreUnavailable

CONTENT_TYPE: Final = "application/problem+json"


class Code(StrEnum):
    """Why a command was not carried out."""

    BAD_REQUEST = "bad-request"
    NOT_STAFF = "not-staff"
    NOT_PERMITTED = "not-permitted"
    NOT_FOUND = "not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    NOT_WAITING = "not-waiting"
    NOT_POSSIBLE = "not-possible"
    ALREADY_SO = "already-so"
    CONFIG_INVALID = "config-invalid"
    STILL_NEEDED = "still-needed"
    OVERTAKEN = "overtaken"
    BODY_TOO_LARGE = "body-too-large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type"
    INTERNAL = "internal"
    STORE_UNAVAILABLE = "store-unavailable"


_S = HTTPStatus
_PROBLEMS: Final[Mapping[Code, tuple[HTTPStatus, str]]] = {
    Code.BAD_REQUEST: (_S.BAD_REQUEST, "The request is not well formed"),
    Code.NOT_STAFF: (_S.FORBIDDEN, "The caller is no member of staff"),
    Code.NOT_PERMITTED: (_S.FORBIDDEN, "None of the caller's roles permits this"),
    Code.NOT_FOUND: (_S.NOT_FOUND, "There is no such thing"),
    Code.METHOD_NOT_ALLOWED: (_S.METHOD_NOT_ALLOWED, "The method is not allowed here"),
    Code.NOT_WAITING: (_S.CONFLICT, "The delivery does not wait for a decision"),
    Code.NOT_POSSIBLE: (_S.CONFLICT, "This cannot be decided about the delivery"),
    Code.ALREADY_SO: (_S.CONFLICT, "It is so already"),
    Code.CONFIG_INVALID: (_S.UNPROCESSABLE_ENTITY, "What the files say cannot be put in force"),
    Code.STILL_NEEDED: (_S.CONFLICT, "Messages under way need what would be taken away"),
    Code.OVERTAKEN: (_S.CONFLICT, "Somebody else was faster"),
    Code.BODY_TOO_LARGE: (_S.REQUEST_ENTITY_TOO_LARGE, "The body is too large"),
    Code.UNSUPPORTED_MEDIA_TYPE: (_S.UNSUPPORTED_MEDIA_TYPE, "The media type is not supported"),
    Code.INTERNAL: (_S.INTERNAL_SERVER_ERROR, "The gateway failed"),
    Code.STORE_UNAVAILABLE: (_S.SERVICE_UNAVAILABLE, "A store of the gateway is away"),
}


@dataclass(eq=False)
class AdminRefusal(GatewayError):
    """
    A command is answered with a problem; `detail` tells the fix and never holds personal data.

    `what` is what the admin log keeps of the command.
    """

    code: Code
    detail: str
    errors: Sequence[FieldError] = ()
    what: Mapping[str, str | int] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the code and the fix."""
        return f"{self.code}: {self.detail}"


def as_refusal(error: BaseException) -> AdminRefusal:
    """Return how an error is told to a caller; of what is not meant for them, nothing is told."""
    match error:
        case AdminRefusal():
            return error
        case web.HTTPNotFound():
            return AdminRefusal(Code.NOT_FOUND, "this gateway has no such command; client and gateway may differ")
        case web.HTTPMethodNotAllowed(allowed_methods=allowed):
            return AdminRefusal(Code.METHOD_NOT_ALLOWED, f"this path takes {', '.join(sorted(allowed))}")
        case web.HTTPRequestEntityTooLarge():
            return AdminRefusal(Code.BODY_TOO_LARGE, "no command needs a body of this size")
        case StoreUnavailable():
            return AdminRefusal(
                Code.STORE_UNAVAILABLE,
                "what was asked may or may not have been carried out; look how it stands before asking again "
                "(`gateway ops doubts`, `gateway senders list`, `gateway senders diff`)",
            )
        case _:
            return AdminRefusal(Code.INTERNAL, "the technical log says more under this correlation id")


def render(refusal: AdminRefusal, correlation_id: str) -> web.Response:
    """Return the problem document of a refusal."""
    status, title = _PROBLEMS[refusal.code]
    body: dict[str, object] = {
        "type": f"urn:document-gateway:problem:{refusal.code}",
        "title": title,
        "status": status.value,
        "detail": refusal.detail,
        "instance": correlation_id,
    }
    if refusal.errors:
        body["errors"] = [{"pointer": error.pointer, "detail": error.detail} for error in refusal.errors]
    return web.Response(status=status, body=json.dumps(body).encode(), content_type=CONTENT_TYPE)
