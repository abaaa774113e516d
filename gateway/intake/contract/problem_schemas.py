"""Problem documents (RFC 9457) as the contract shows them: each code with its usual cause, its fix and its members."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.crypto.rejection import Rule
from gateway.errors import Kind
from gateway.intake.contract.shapes import Schema, array, described, members, number, one_of, ref, text

PROBLEM_TYPE: Final = "urn:document-gateway:problem:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """
    What is worth knowing of a code.

    `again`: the same request, unchanged, may well be taken later. `always` and `sometimes` are the members that its
    document has besides the usual ones.
    """

    cause: str
    fix: str
    again: bool = False
    always: Mapping[str, Schema] = field(default_factory=dict)
    sometimes: Mapping[str, Schema] = field(default_factory=dict)


_RULE: Final[Mapping[str, Schema]] = {"rule": one_of(Rule, "Which rule the certificate breaks.")}
_MESSAGE_ID: Final = described(ref("MessageId"), "The message in question.")

NOTES: Final[Mapping[Kind, Note]] = {
    Kind.BAD_REQUEST: Note(
        cause="a wrong or unknown parameter, a header twice, JSON that cannot be read, a body that broke off",
        fix="correct what `detail` and `errors` name; after a broken connection, the same again",
    ),
    Kind.MALFORMED_MESSAGE: Note(
        cause="the part `message` is not XML in UTF-8, nests too deeply, or has a DTD or a processing instruction; or "
        "it is no compact JWS, is not spelt in canonical base64url, or names something twice in its JSON",
        fix="write plain XML, with the elements of `message.xsd` and nothing else; or a JWS without white space and "
        "padding, of JSON in UTF-8",
    ),
    Kind.MULTIPART_INVALID: Note(
        cause="order, name, filename or `Content-Type` of a part is not that of its `Document`; a part has a further "
        "header",
        fix="the part `message` first, then the documents in its order, each with one `Content-Disposition` and "
        "one `Content-Type`",
    ),
    Kind.SIGNATURE_INVALID: Note(
        cause="a rule of the signature does not hold; `detail` names it. Mostly the XML was indented or written anew "
        "after signing, or canonicalised inclusively; or the header of the JWS holds more than `alg`, `cty` and `x5c`",
        fix="sign last and send those very bytes; `KeyInfo` or `x5c` holds the signing certificate alone",
        sometimes=_RULE,
    ),
    Kind.INVALID_MESSAGE: Note(
        cause="fields break a rule: order, check digits, text that is not NFC, no postal address where print may be "
        "used",
        fix="`errors` lists every wrong field at once; correct them and sign anew",
    ),
    Kind.WRONG_GATEWAY: Note(
        cause="`Gateway` names another gateway, say the one for tests",
        fix="write this gateway's name, which `GET /api/v1/whoami` tells, and sign anew",
    ),
    Kind.CREATED_AT_OUT_OF_WINDOW: Note(
        cause="the sender's clock is wrong by `skewSeconds`, or the message was signed too long ago",
        fix="set the clock, and sign anew",
        always={"skewSeconds": number("How far `CreatedAt` is ahead of the gateway's clock.", minimum=None)},
    ),
    Kind.DOCUMENT_MISMATCH: Note(
        cause="size or SHA-256 in the message is not that of the bytes sent",
        fix="compute both over the very bytes that are sent, and sign anew",
    ),
    Kind.DOCUMENT_NOT_ACCEPTABLE: Note(
        cause="a document is not what its media type says, or breaks a rule of its channels",
        fix="correct the document or its media type, and sign anew",
    ),
    Kind.CHANNEL_CANNOT_CARRY: Note(
        cause="none of the asked channels takes these documents, this language or this recipient; `errors` says why, "
        "for each",
        fix="send what one of them carries, or ask for another channel",
    ),
    Kind.SENDER_UNKNOWN: Note(
        cause="the client certificate is not registered, no longer good, or its party may not act for that sender",
        fix="ask the gateway's access manager to register the certificate, or the sender to register its processor",
        sometimes=_RULE,
    ),
    Kind.SENDER_SUSPENDED: Note(cause="the sender's contract does not run now", fix="contact the gateway's operator"),
    Kind.CERTIFICATE_REVOKED: Note(
        cause="its authority revoked the client certificate or the signing certificate",
        fix="use another, registered certificate",
    ),
    Kind.SIGNER_MISMATCH: Note(
        cause="the certificate in `KeyInfo` or `x5c` is not registered for signing by `Sender`, or you may not send "
        "for that sender",
        fix="sign with a registered certificate, or have this one registered",
    ),
    Kind.CATEGORY_NOT_AUTHORISED: Note(
        cause="the profile may not send this category",
        fix="have the registration extended; `GET /api/v1/whoami` lists the categories",
    ),
    Kind.RECIPIENT_NOT_AUTHORISED: Note(
        cause="this category needs a dossier about the recipient, and none is in force",
        fix="register one with `POST /api/v1/dossiers`, then send the same again",
    ),
    Kind.CHANNEL_NOT_CONTRACTED: Note(
        cause="an asked channel is not authorised for this category, or the sender has no agreement with its provider",
        fix="leave the channel out, or have the registration extended",
    ),
    Kind.PROFILE_NOT_AUTHORISED: Note(
        cause="the certificate may not use this profile, or has several and the message names none",
        fix="name one of the profiles that `GET /api/v1/whoami` lists",
    ),
    Kind.DOCUMENT_TOO_LARGE: Note(cause="one document is over the limit by itself", fix="make it smaller"),
    Kind.MESSAGE_TOO_LARGE: Note(
        cause="the documents together, the part `message` or a JSON body is over its limit",
        fix="send fewer or smaller documents, or fewer items in one call",
    ),
    Kind.REFERENCE_CONFLICT: Note(
        cause="this reference was used before for another letter, or another batch; `differingFields` says in what "
        "they differ",
        fix="look at the earlier one; give the new one a reference of its own",
        sometimes={
            "messageId": described(ref("MessageId"), "The earlier message."),
            "batchId": described(ref("BatchId"), "The earlier batch."),
        },
        always={
            "differingFields": array(
                text("The JSON pointer of a field, such as /recipient/postalAddress/street."),
                "Names only, never values.",
            ),
        },
    ),
    Kind.STILL_RECEIVING: Note(
        cause="another copy of this very message is arriving", fix="the same again after `Retry-After`", again=True
    ),
    Kind.ALREADY_DISPATCHED: Note(
        cause="a provider was called for the message, or it has ended",
        fix="it can no longer be stopped",
        always={"messageId": _MESSAGE_ID, "messageStatus": ref("MessageStatus")},
    ),
    Kind.NOT_FOUND: Note(
        cause="there is nothing here, or it is another sender's or profile's; or there is no such path",
        fix="check the id, and for whom you ask",
    ),
    Kind.METHOD_NOT_ALLOWED: Note(
        cause="the path is right, the method is not", fix="the header `Allow` lists those that are"
    ),
    Kind.REQUEST_TIMEOUT: Note(
        cause="the body stalled or trickled", fix="the same again, with the same reference", again=True
    ),
    Kind.FEED_RESTORED: Note(
        cause="the gateway was restored from a backup; numbers may stand for other events than before",
        fix="read the feed again from its beginning, without a cursor",
    ),
    Kind.CURSOR_EXPIRED: Note(
        cause="the events after this cursor are no longer kept",
        fix="read on without a cursor, and look older messages up in the list",
    ),
    Kind.UNSUPPORTED_MEDIA_TYPE: Note(
        cause="another `Content-Type` than the operation takes, or a compressed body",
        fix="send the type that the operation names, uncompressed",
    ),
    Kind.QUOTA_EXCEEDED: Note(
        cause="all that the profile may send today has been sent",
        fix="the same again after midnight (Europe/Brussels), or have the quota raised",
        again=True,
    ),
    Kind.INTERNAL: Note(
        cause="the gateway failed",
        fix="the same again, with the same reference; if it stays, tell the operator the `instance`",
        again=True,
    ),
    Kind.OVERLOADED: Note(
        cause="the gateway is busy, or you have as many requests under way, or a second, as one sender may; nothing "
        "was kept, and most often not even the body was read",
        fix="the same again after the seconds in `Retry-After`; with `Expect: 100-continue` the body need not be sent "
        "before there is room for it",
        again=True,
    ),
    Kind.STORE_UNAVAILABLE: Note(
        cause="a store of the gateway is away or nearly full; nothing was kept that was not kept before",
        fix="the same again after the seconds in `Retry-After`, with the same reference",
        again=True,
    ),
    Kind.PROVIDER_UNAVAILABLE: Note(
        cause="the provider that holds this cannot be asked now", fix="the same again later", again=True
    ),
}

_USUAL: Final[Mapping[str, Schema]] = {
    "type": {
        "type": "string",
        "enum": [f"{PROBLEM_TYPE}{kind}" for kind in NOTES],
        "description": "The code stands behind the last colon.",
    },
    "title": text("The code in words; the same for every problem of its kind."),
    "status": number("The HTTP status.", minimum=400),
    "detail": text("What is wrong, and what to do about it. Holds no personal data."),
    "instance": text("The correlation id; name it when you ask the operator.", pattern="^[A-Za-z0-9-]{1,36}$"),
}
_ERRORS: Final = array(ref("FieldError"), "Every wrong field. Absent: it is not about fields.", minItems=1)


def problem_schemas() -> Mapping[str, Schema]:
    """Return the schemas of problem documents; what a code adds to the usual members is tied to that code."""
    extra = {name: schema for note in NOTES.values() for name, schema in {**note.always, **note.sometimes}.items()}
    problem = members(
        "Why a request was refused (RFC 9457), as application/problem+json.", _USUAL, {"errors": _ERRORS, **extra}
    )
    return {
        "Problem": {**problem, "allOf": [*_needs(), *(_reserved(name) for name in extra)]},
        "FieldError": members(
            "One wrong field.",
            {
                "pointer": text(
                    "Where: an XPath in the message (/Message/Recipient/Ssin), a JSON pointer in a JSON body "
                    "(/dossiers/0/from), a parameter (?limit), a header, or a part (/upfile1)."
                ),
                "detail": text("Which rule, and what to do."),
            },
        ),
    }


def problem_of(kinds: Collection[Kind], status: int) -> Schema:
    """Return the schema of the problems of one status that an operation can give."""
    types = [f"{PROBLEM_TYPE}{kind}" for kind in NOTES if kind in kinds]
    return {"allOf": [ref("Problem")], "properties": {"type": {"enum": types}, "status": {"const": status}}}


def _needs() -> list[dict[str, Any]]:
    return [{"if": _is([kind]), "then": {"required": list(note.always)}} for kind, note in NOTES.items() if note.always]


def _reserved(member: str) -> dict[str, Any]:
    kinds = [kind for kind, note in NOTES.items() if member in note.always or member in note.sometimes]
    return {"if": {"required": [member]}, "then": _is(kinds)}


def _is(kinds: Collection[Kind]) -> dict[str, Any]:
    return {"properties": {"type": {"enum": [f"{PROBLEM_TYPE}{kind}" for kind in kinds]}}}
