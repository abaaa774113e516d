"""The operations by which letters are handed over and followed."""

from collections.abc import Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Final

from gateway.crypto.dialects import Dialect
from gateway.errors import Kind
from gateway.intake.contract import examples, meanings
from gateway.intake.contract.facts import Facts
from gateway.intake.contract.letter_schemas import MAX_DOCUMENTS
from gateway.intake.contract.operation import Answer, Body, Content, Group, Operation, Parameter
from gateway.intake.contract.shapes import Schema, one_of, ref, text
from gateway.intake.handlers import MAX_PAGE, MAX_STATUS_IDS

JSON: Final = "application/json"
XML: Final = "application/xml"
MESSAGES: Final = "/api/v1/messages"
ONE: Final = MESSAGES + "/{messageId}"
JSON_BODY_PROBLEMS: Final = frozenset({Kind.MESSAGE_TOO_LARGE, Kind.REQUEST_TIMEOUT})

MESSAGE_ID: Final = Parameter(
    name="messageId",
    where="path",
    schema=text(format="uuid"),
    description="The gateway's number of the message.",
    required=True,
)
_LIMIT: Final = Parameter(
    name="limit",
    where="query",
    schema={"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 100},
    description="At most so many.",
)
_INSTANT: Final = text(format="date-time", pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T.*Z$")

_MESSAGE_TYPES: Final = ", ".join(each.media_type for each in Dialect)

SUBMIT_PROBLEMS: Final = frozenset(
    {
        Kind.MALFORMED_MESSAGE,
        Kind.MULTIPART_INVALID,
        Kind.SIGNATURE_INVALID,
        Kind.INVALID_MESSAGE,
        Kind.WRONG_GATEWAY,
        Kind.CREATED_AT_OUT_OF_WINDOW,
        Kind.DOCUMENT_MISMATCH,
        Kind.DOCUMENT_NOT_ACCEPTABLE,
        Kind.CHANNEL_CANNOT_CARRY,
        Kind.SIGNER_MISMATCH,
        Kind.CATEGORY_NOT_AUTHORISED,
        Kind.RECIPIENT_NOT_AUTHORISED,
        Kind.CHANNEL_NOT_CONTRACTED,
        Kind.PROFILE_NOT_AUTHORISED,
        Kind.DOCUMENT_TOO_LARGE,
        Kind.MESSAGE_TOO_LARGE,
        Kind.REFERENCE_CONFLICT,
        Kind.STILL_RECEIVING,
        Kind.REQUEST_TIMEOUT,
        Kind.QUOTA_EXCEEDED,
    }
)
_PARTS: Final[Schema] = {
    "type": "object",
    "description": "In this order.",
    "properties": {
        "message": {
            "anyOf": [text(contentMediaType=each.media_type) for each in Dialect],
            "description": "The signed message, the first part: XML with an enveloped signature, or the same as "
            "compact JSON Web Signature.",
        },
        "upfile1": text(
            "The first document; the next is `upfile2`, and so on.", contentMediaType="application/octet-stream"
        ),
    },
    "patternProperties": {
        f"^upfile([2-9]|1[0-9]|{MAX_DOCUMENTS})$": text(
            "Each further document.", contentMediaType="application/octet-stream"
        )
    },
    "required": ["message", "upfile1"],
    "additionalProperties": False,
}


def letter_operations(facts: Facts) -> Sequence[Operation]:
    """Return the operations, with the limits of this gateway."""
    return (_submit(facts), *_FOLLOWING)


def _submit(facts: Facts) -> Operation:
    taken = {
        JSON: Content(schema=ref("Message"), example=examples.NEW_MESSAGE),
        XML: Content(schema=ref("ReceiptXml")),
    }
    return Operation(
        method="POST",
        path=MESSAGES,
        name="submitMessage",
        group=Group.SEND,
        summary="Hand over a message",
        description=(
            "`201` and `200` both mean that the gateway has the message and its documents on durable storage and will "
            "deliver them, put them before a person, or say why not. `receipt` proves it for ten years.\n\n"
            "The `Reference` makes every repetition safe. After a time-out, a broken connection or a problem that may "
            "be tried again, send the same once more: the gateway never accepts two messages under one reference of a "
            "sender and profile, and answers the second with the first receipt, byte for byte. You may sign anew; "
            "everything but `CreatedAt` has to stay the same. A refusal does not use the reference up.\n\n"
            "The message comes in one of two dialects, which say the same: XML (`application/xml`), or JSON Web "
            "Signature (`application/jose`) of the fields in lowerCamelCase. The type of the part tells which. Names "
            "of fields here are those of the XML; pointers in `errors` lead into what was sent, such as "
            "`/Message/Recipient/Ssin` or `/recipient/ssin`.\n\n"
            "With `Accept: application/xml` the answer is the receipt alone, as signed XML.\n\n"
            "With `?mode=check` nothing is handed over: signature, rights, documents and quota are looked at as ever, "
            "the providers are asked what they would do, and the answer lists all that was found.\n\n"
            f"A new message was signed at most {_span(facts.created_at_past)} ago, by a clock at most "
            f"{_span(facts.created_at_future)} ahead; `Gateway` in it is `{facts.gateway}`."
        ),
        parameters=(
            Parameter(
                name="mode",
                where="query",
                schema=one_of(["check"]),
                description="A dry run, of which nothing is kept but a line in the log.",
            ),
            Parameter(
                name="Idempotency-Key",
                where="header",
                schema=text(pattern='^"?[A-Za-z0-9._-]{1,64}"?$'),
                description="Not needed. When sent, it has to equal the signed `Reference`.",
            ),
        ),
        body=Body(
            description=(
                "The part `message` first, then each document in the order of the message. Each part has one "
                "`Content-Disposition` with its name, one `Content-Type` and no other header; a document's name, "
                "filename, type, size and SHA-256 are those of its `Document` in the message. Its bytes come as they "
                f"are, without Base64 and compression. At most {facts.manifest_bytes:,} bytes of message, "
                f"{facts.documents} documents and {facts.message_bytes:,} bytes of documents together."
            ),
            content={
                "multipart/form-data": Content(schema=_PARTS, encoding={"message": {"contentType": _MESSAGE_TYPES}}),
            },
        ),
        answers=(
            Answer(
                status=HTTPStatus.CREATED,
                description="Accepted, for the first time.",
                content=taken,
                headers=("Location",),
            ),
            Answer(
                status=HTTPStatus.OK,
                description="The same message again: as it stands now, with its first receipt. Or the outcome of a dry "
                "run.",
                content={
                    **taken,
                    JSON: Content(
                        schema={
                            "oneOf": [ref("Message"), ref("CheckOutcome")],
                            "description": "The message, or the outcome of a dry run.",
                        },
                        example=examples.MESSAGE,
                    ),
                },
                sometimes_headers=("Location",),
            ),
        ),
        problems=SUBMIT_PROBLEMS,
    )


def _span(term: timedelta) -> str:
    hours, minutes = term / timedelta(hours=1), term / timedelta(minutes=1)
    return f"{hours:g} hours" if hours > 1 else f"{minutes:g} minutes"


_FOLLOWING: Final = (
    Operation(
        method="GET",
        path=MESSAGES,
        name="listMessages",
        group=Group.FOLLOW,
        summary="List own messages",
        description="In the order of acceptance, oldest first. The order never changes behind a cursor, so that pages "
        "neither skip nor repeat while others send.",
        parameters=(
            Parameter(name="reference", where="query", schema=ref("Reference"), description="Only this reference."),
            Parameter(
                name="status",
                where="query",
                schema=one_of(meanings.MESSAGE_STATUSES),
                description="Only messages that stand so now.",
            ),
            Parameter(
                name="channel",
                where="query",
                schema=one_of(meanings.CHANNELS),
                description="Only messages with a delivery on this channel.",
            ),
            Parameter(name="from", where="query", schema=_INSTANT, description="Accepted then or later."),
            Parameter(name="until", where="query", schema=_INSTANT, description="Accepted then or earlier."),
            Parameter(name="cursor", where="query", schema=text(), description="`nextCursor` of the page before this."),
            _LIMIT,
        ),
        answers=(
            Answer(
                status=HTTPStatus.OK,
                description="A page.",
                content={JSON: Content(schema=ref("MessageList"), example=examples.MESSAGES)},
            ),
        ),
    ),
    Operation(
        method="GET",
        path=ONE,
        name="getMessage",
        group=Group.FOLLOW,
        summary="Look at one message",
        description="Its status, deliveries, timeline, what is kept of it, and its receipt.",
        parameters=(MESSAGE_ID,),
        answers=(
            Answer(
                status=HTTPStatus.OK,
                description="The message.",
                content={JSON: Content(schema=ref("Message"), example=examples.MESSAGE)},
            ),
        ),
        problems=frozenset({Kind.NOT_FOUND}),
    ),
    Operation(
        method="POST",
        path="/api/v1/statusRequest",
        name="requestStatuses",
        group=Group.FOLLOW,
        summary="Ask for many statuses at once",
        description=f"Up to {MAX_STATUS_IDS} messages in one call. For news of all messages, the events are cheaper.",
        body=Body(
            description="Plain, or in the wrapper of MAGDA's Documentendienst; the answer is the same.",
            content={
                JSON: Content(
                    schema={
                        "oneOf": [ref("StatusRequest"), ref("WrappedStatusRequest")],
                        "description": "Either form.",
                    },
                    example=examples.STATUS_REQUEST,
                )
            },
        ),
        answers=(
            Answer(
                status=HTTPStatus.OK,
                description="The statuses.",
                content={JSON: Content(schema=ref("StatusAnswer"), example=examples.STATUS_ANSWER)},
            ),
        ),
        problems=JSON_BODY_PROBLEMS,
    ),
    Operation(
        method="GET",
        path="/api/v1/events",
        name="listEvents",
        group=Group.FOLLOW,
        summary="Read what happened since",
        description="The feed of the sender's events, in order and without gaps, kept 400 days. Keep `nextCursor` in "
        "the same transaction as what you made of the page, and ask again: at once while `more` is true, else after a "
        "pause.",
        parameters=(
            Parameter(
                name="after",
                where="query",
                schema=text(),
                description="`nextCursor` of the page before this; without it, from the oldest event that is kept.",
            ),
            _LIMIT,
        ),
        answers=(
            Answer(
                status=HTTPStatus.OK,
                description="A page, empty when there is nothing new.",
                content={JSON: Content(schema=ref("EventPage"), example=examples.EVENTS)},
            ),
        ),
        problems=frozenset({Kind.FEED_RESTORED, Kind.CURSOR_EXPIRED}),
    ),
    Operation(
        method="POST",
        path=ONE + "/cancel",
        name="cancelMessage",
        group=Group.SEND,
        summary="Stop a message",
        description="Possible until a provider is called for it. There is no body. One that is stopped already is "
        "answered the same.",
        parameters=(MESSAGE_ID,),
        answers=(
            Answer(
                status=HTTPStatus.OK,
                description="It is stopped; nothing of it was or will be sent.",
                content={JSON: Content(schema=ref("Message"), example=examples.CANCELLED_MESSAGE)},
            ),
        ),
        problems=frozenset({Kind.NOT_FOUND, Kind.ALREADY_DISPATCHED}),
    ),
)
