"""
Problem documents (RFC 9457): the one table from `Kind` to status and title, and their rendering.

Nothing else in the gateway knows the HTTP status of an error.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from aiohttp import web

from gateway.errors import GatewayError, Kind, Refusal, StoreUnavailable

CONTENT_TYPE: Final = "application/problem+json"
_STORE_RETRY_S: Final = 5


@dataclass(frozen=True, slots=True)
class Problem:
    """How a kind of refusal is shown."""

    status: HTTPStatus
    title: str


_S = HTTPStatus
PROBLEMS: Final[Mapping[Kind, Problem]] = {
    Kind.BAD_REQUEST: Problem(_S.BAD_REQUEST, "The request is not well formed"),
    Kind.MALFORMED_MESSAGE: Problem(_S.BAD_REQUEST, "The message part cannot be read"),
    Kind.MULTIPART_INVALID: Problem(_S.BAD_REQUEST, "The parts of the request are wrong"),
    Kind.SIGNATURE_INVALID: Problem(_S.BAD_REQUEST, "The signature is not valid"),
    Kind.INVALID_MESSAGE: Problem(_S.UNPROCESSABLE_ENTITY, "Fields of the message are wrong"),
    Kind.WRONG_GATEWAY: Problem(_S.UNPROCESSABLE_ENTITY, "The message is for another gateway"),
    Kind.CREATED_AT_OUT_OF_WINDOW: Problem(_S.UNPROCESSABLE_ENTITY, "CreatedAt is outside the accepted window"),
    Kind.DOCUMENT_MISMATCH: Problem(_S.UNPROCESSABLE_ENTITY, "A document differs from the manifest"),
    Kind.DOCUMENT_NOT_ACCEPTABLE: Problem(_S.UNPROCESSABLE_ENTITY, "A document cannot be accepted"),
    Kind.CHANNEL_CANNOT_CARRY: Problem(_S.UNPROCESSABLE_ENTITY, "No asked channel can carry the message"),
    Kind.SENDER_UNKNOWN: Problem(_S.FORBIDDEN, "The client certificate names no registered sender"),
    Kind.SENDER_SUSPENDED: Problem(_S.FORBIDDEN, "The sender is suspended"),
    Kind.CERTIFICATE_REVOKED: Problem(_S.FORBIDDEN, "The certificate is revoked"),
    Kind.SIGNER_MISMATCH: Problem(_S.FORBIDDEN, "The signer may not sign for this sender"),
    Kind.CATEGORY_NOT_AUTHORISED: Problem(_S.FORBIDDEN, "The category is not authorised"),
    Kind.RECIPIENT_NOT_AUTHORISED: Problem(_S.FORBIDDEN, "The recipient is not authorised"),
    Kind.CHANNEL_NOT_CONTRACTED: Problem(_S.FORBIDDEN, "The channel is not contracted"),
    Kind.PROFILE_NOT_AUTHORISED: Problem(_S.FORBIDDEN, "The profile is not authorised"),
    Kind.DOCUMENT_TOO_LARGE: Problem(_S.REQUEST_ENTITY_TOO_LARGE, "A document is too large"),
    Kind.MESSAGE_TOO_LARGE: Problem(_S.REQUEST_ENTITY_TOO_LARGE, "The message is too large"),
    Kind.REFERENCE_CONFLICT: Problem(_S.CONFLICT, "The reference was used for another message"),
    Kind.STILL_RECEIVING: Problem(_S.CONFLICT, "The first copy is still arriving"),
    Kind.ALREADY_DISPATCHED: Problem(_S.CONFLICT, "The message was already dispatched"),
    Kind.NOT_FOUND: Problem(_S.NOT_FOUND, "There is nothing here for this caller"),
    Kind.METHOD_NOT_ALLOWED: Problem(_S.METHOD_NOT_ALLOWED, "The method is not allowed here"),
    Kind.REQUEST_TIMEOUT: Problem(_S.REQUEST_TIMEOUT, "The request arrived too slowly"),
    Kind.FEED_RESTORED: Problem(_S.GONE, "The feed was restored; start from its beginning"),
    Kind.CURSOR_EXPIRED: Problem(_S.GONE, "The cursor has expired"),
    Kind.UNSUPPORTED_MEDIA_TYPE: Problem(_S.UNSUPPORTED_MEDIA_TYPE, "The media type is not supported"),
    Kind.QUOTA_EXCEEDED: Problem(_S.TOO_MANY_REQUESTS, "The quota is used up"),
    Kind.INTERNAL: Problem(_S.INTERNAL_SERVER_ERROR, "The gateway failed"),
    Kind.OVERLOADED: Problem(_S.SERVICE_UNAVAILABLE, "The gateway is busy"),
    Kind.STORE_UNAVAILABLE: Problem(_S.SERVICE_UNAVAILABLE, "A store of the gateway is away"),
    Kind.PROVIDER_UNAVAILABLE: Problem(_S.SERVICE_UNAVAILABLE, "A provider cannot be asked"),
}


def as_refusal(error: BaseException) -> Refusal:
    """Return how an error is told to a caller; what is not meant for them becomes `internal` without a word of it."""
    match error:
        case Refusal():
            return error
        case StoreUnavailable():
            return Refusal(
                Kind.STORE_UNAVAILABLE,
                "nothing was kept that was not kept before; send the same request again, with the same reference",
                retry_after_s=_STORE_RETRY_S,
            )
        case GatewayError() | BaseException():
            return Refusal(
                Kind.INTERNAL,
                "the gateway could not finish this request; send it again with the same reference, and name the "
                "correlation id when you ask the operator",
            )


def render(refusal: Refusal, correlation_id: str) -> web.Response:
    """Return the problem document of a refusal."""
    headers = {} if refusal.retry_after_s is None else {"Retry-After": str(refusal.retry_after_s)}
    return web.Response(
        status=PROBLEMS[refusal.kind].status,
        body=json.dumps(view(refusal, correlation_id)).encode(),
        content_type=CONTENT_TYPE,
        headers=headers,
    )


def view(refusal: Refusal, correlation_id: str) -> dict[str, object]:
    """Return the members of the problem document of a refusal."""
    problem = PROBLEMS[refusal.kind]
    body: dict[str, object] = {
        "type": f"urn:document-gateway:problem:{refusal.kind}",
        "title": problem.title,
        "status": problem.status.value,
        "detail": refusal.detail,
        "instance": correlation_id,
        **refusal.extra,
    }
    if refusal.errors:
        body["errors"] = [{"pointer": error.pointer, "detail": error.detail} for error in refusal.errors]
    return body
