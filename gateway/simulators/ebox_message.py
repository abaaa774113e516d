"""
The message of a publish request: its two field dialects and its rules.

Sources: Message Registry API 2.1 (`MessageToPublish`), the e-Box document-sender pages for v3 and for the rules that
the NSSO adds. Anything that breaks a rule is a 400 with the code that those pages name.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final

from gateway.domain.ids import InvalidIdentifier, parse_enterprise_number, parse_ssin
from gateway.simulators.front import Refusal
from gateway.simulators.records import KeptDocument

FILE_PARTS: Final = tuple(f"upfile{n}" for n in range(1, 7))
MEDIA_TYPES: Final = frozenset(
    {
        "application/pdf",
        "application/zip",
        "text/csv",
        "text/html",
        "text/plain",
        "text/xml",
        "application/vnd.oasis.opendocument.text",
        "application/vnd.oasis.opendocument.spreadsheet",
        "application/vnd.oasis.opendocument.presentation",
        "application/vnd.oasis.opendocument.graphics",
        "application/vnd.ms-excel",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/vnd.ms-powerpoint",
        "application/msword",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    }
)
LANGUAGES: Final = frozenset({"nl", "fr", "de"})

_SUBJECT_LIMIT: Final = 400
_FILENAME_LIMIT: Final = 255
_BUSINESS_LIMIT: Final = 256
_NAME_LIMIT: Final = 100


class Dialect(StrEnum):
    """The two generations of field names."""

    V2 = "v2"
    V3 = "v3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """One entry of `attachments`; `digest` is the base64url text, if the sender gave one."""

    part: str
    main: bool
    digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A `messageToPublish` that obeys the schema, in either dialect."""

    recipient_type: str
    recipient_id: str = field(repr=False)
    sender: str
    application: str
    message_type: str
    attachments: tuple[Attachment, ...]
    body_main: bool
    languages: frozenset[str]
    unsupported: tuple[str, ...]  # fields that the schema knows and the NSSO does not serve


def invalid(message: str) -> Refusal:
    """Return the refusal of a request that breaks a rule."""
    return Refusal(HTTPStatus.BAD_REQUEST, "INVALID_INPUT", message)


def parse_publication(message: Mapping[str, Any], dialect: Dialect) -> Publication:
    """
    Check `messageToPublish` against the schema.

    Raises:
        Refusal: 400 `INVALID_INPUT`.
    """
    if _holds_null(message):
        raise invalid("null is not accepted; leave the field out")
    is_v2 = dialect is Dialect.V2
    recipient = _sub(message, "recipient")
    kind = _text(recipient, "eboxType")
    if kind not in ("enterprise", "citizen"):
        raise invalid("recipient.eboxType is enterprise or citizen")
    number = _text(recipient, "eboxIdValue" if is_v2 else "enterpriseNumber" if kind == "enterprise" else "ssin")
    sender = _text(message, "senderOrganizationId") if is_v2 else _v3_sender(message)
    texts = [_translated(_sub(message, "subject"), "subject", _SUBJECT_LIMIT)]
    if "bodyContent" in message:
        texts.append(_translated(_sub(message, "bodyContent"), "bodyContent", None))
    texts += _business_languages(message)
    texts += _title_languages(message)
    body_main = _flag(message, "bodyMainContent" if is_v2 else "isBodyMainContent", required=is_v2)
    _flag(message, "replyAuthorized" if is_v2 else "isReplyAuthorized", required=is_v2)
    if body_main and "bodyContent" not in message:
        raise invalid("the body is the main content, but there is none")
    if _flag(message, "registeredMail" if is_v2 else "isRegisteredMail"):
        raise invalid("only the EPOST service publishes registered mail")
    _check_attention(message, dialect, kind)
    return Publication(
        recipient_type=kind,
        recipient_id=_number(kind, number),
        sender=_enterprise(sender),
        application=_text(message, "senderApplicationId"),
        message_type=_text(message, "messageTypeId"),
        attachments=_attachments(message, dialect),
        body_main=body_main,
        languages=frozenset().union(*texts),
        unsupported=tuple(n for n in ("paymentData", "structuredData", "messageAction") if n in message),
    )


def check_content(publication: Publication, documents: tuple[KeptDocument, ...]) -> None:
    """
    Check languages, main content, parts, media types and digests.

    Raises:
        Refusal: 400 `INVALID_INPUT`, `NOT_IMPLEMENTED` or `DIGEST_DO_NOT_MATCH`.
    """
    if len(publication.languages) > 1:
        raise Refusal(HTTPStatus.BAD_REQUEST, "NOT_IMPLEMENTED", "more than one language in a message")
    if publication.unsupported:
        raise Refusal(HTTPStatus.BAD_REQUEST, "NOT_IMPLEMENTED", f"{publication.unsupported[0]} is not supported")
    mains = sum(attachment.main for attachment in publication.attachments) + publication.body_main
    if mains != 1:
        raise invalid(f"exactly one main content is expected, there are {mains}")
    if len(documents) != len(publication.attachments):
        raise invalid("the number of attachments differs from the number of file parts")
    by_name = {document.name: document for document in documents}
    for document in documents:
        if not document.media_type or not document.filename:
            raise invalid("a file part has no media type or no file name")
        if len(document.filename) > _FILENAME_LIMIT:
            raise invalid("a file name is too long")
        if document.media_type not in MEDIA_TYPES:
            raise invalid("the media type of an attachment is not allowed")
    if {attachment.part for attachment in publication.attachments} != by_name.keys():
        raise invalid("an attachment names a file part that is not there")
    for attachment in publication.attachments:
        _check_digest(attachment, by_name[attachment.part])


def _check_digest(attachment: Attachment, document: KeptDocument) -> None:
    if attachment.digest is None:
        return
    right = base64.urlsafe_b64encode(bytes.fromhex(document.sha256)).decode().rstrip("=")
    if attachment.digest.rstrip("=") != right:
        raise Refusal(HTTPStatus.BAD_REQUEST, "DIGEST_DO_NOT_MATCH", "a digest differs from the received bytes")


def _attachments(message: Mapping[str, Any], dialect: Dialect) -> tuple[Attachment, ...]:
    found = tuple(_attachment(entry, dialect) for entry in _attachment_entries(message))
    if len({attachment.part for attachment in found}) != len(found):
        raise invalid("two attachments name the same part")
    return found


def _attachment_entries(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    listed = message.get("attachments", [])
    if not isinstance(listed, list) or len(listed) > len(FILE_PARTS):
        raise invalid("attachments is a list of at most six")
    if not all(isinstance(entry, dict) for entry in listed):
        raise invalid("an attachment is a JSON object")
    return listed


def _title_languages(message: Mapping[str, Any]) -> list[frozenset[str]]:
    titled = [entry for entry in _attachment_entries(message) if "attachmentTitle" in entry]
    return [_translated(_sub(entry, "attachmentTitle"), "attachmentTitle", None) for entry in titled]


def _attachment(entry: Mapping[str, Any], dialect: Dialect) -> Attachment:
    is_v2 = dialect is Dialect.V2
    part = _text(entry, "httpPartName")
    if part not in FILE_PARTS:
        raise invalid("httpPartName is upfile1 to upfile6")
    _flag(entry, "attachmentSigned" if is_v2 else "isAttachmentSigned")
    digest = None
    if "digest" in entry:
        given = _sub(entry, "digest")
        if _text(given, "digestMethod") != "sha_256":
            raise invalid("digestMethod is sha_256")
        digest = _text(given, "digestValue")
    main = _flag(entry, "mainContent" if is_v2 else "isMainContent", required=True)
    return Attachment(part=part, main=main, digest=digest)


def _v3_sender(message: Mapping[str, Any]) -> str:
    sender = _sub(message, "sender")
    if _text(sender, "eboxType") != "enterprise":
        raise invalid("sender.eboxType is enterprise")
    return _text(sender, "enterpriseNumber")


def _check_attention(message: Mapping[str, Any], dialect: Dialect, recipient_type: str) -> None:
    if "forTheAttentionOf" not in message:
        return
    person = _sub(message, "forTheAttentionOf")
    if recipient_type != "enterprise":
        raise invalid("forTheAttentionOf is for enterprises only")
    if dialect is Dialect.V2 and _text(person, "type") != "person":
        raise invalid("forTheAttentionOf.type is person")
    name, label = ("id", "name") if dialect is Dialect.V2 else ("ssin", "label")
    if name in person:
        _number("citizen", _text(person, name))
    if label in person and len(_text(person, label)) > _NAME_LIMIT:
        raise invalid(f"forTheAttentionOf.{label} is too long")


def _business_languages(message: Mapping[str, Any]) -> list[frozenset[str]]:
    listed = message.get("businessDataList", [])
    if not isinstance(listed, list):
        raise invalid("businessDataList is a list")
    found: list[frozenset[str]] = []
    for entry in listed:
        if not isinstance(entry, dict) or not isinstance(entry.get("values"), list):
            raise invalid("business data have a key and values")
        if len(_text(entry, "key")) > _BUSINESS_LIMIT:
            raise invalid("a business data key is too long")
        for value in entry["values"]:
            if not isinstance(value, dict):
                raise invalid("a business data value is a text per language")
            found.append(_translated(value, "businessDataList", _BUSINESS_LIMIT))
    return found


def _translated(texts: Mapping[str, Any], name: str, limit: int | None) -> frozenset[str]:
    if not texts or not LANGUAGES.issuperset(texts):
        raise invalid(f"{name} has a text in nl, fr or de")
    for language in texts:
        if limit is not None and len(_text(texts, language)) > limit:
            raise invalid(f"{name} is too long")
    return frozenset(texts)


def _number(kind: str, number: str) -> str:
    if kind == "enterprise":
        return _enterprise(number)
    try:
        return parse_ssin(number, allow_test=True)
    except InvalidIdentifier as error:
        raise invalid(str(error)) from error


def _enterprise(number: str) -> str:
    try:
        return parse_enterprise_number(number)
    except InvalidIdentifier as error:
        raise invalid(str(error)) from error


def _sub(message: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = message.get(name)
    if not isinstance(value, dict):
        raise invalid(f"{name} is missing or no JSON object")
    return value


def _text(message: Mapping[str, Any], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str) or not value:
        raise invalid(f"{name} is missing or no text")
    return value


def _flag(message: Mapping[str, Any], name: str, *, required: bool = False) -> bool:
    if name not in message:
        if required:
            raise invalid(f"{name} is missing")
        return False
    value = message[name]
    if not isinstance(value, bool):
        raise invalid(f"{name} is true or false")
    return value


def _holds_null(value: object) -> bool:
    if isinstance(value, dict):
        return any(_holds_null(inner) for inner in value.values())
    if isinstance(value, list):
        return any(_holds_null(inner) for inner in value)
    return value is None
