"""
What can go wrong for a sender, each kind named for what it has to do next.

Texts that come from the gateway are shown as they are, except what could harm a screen or a log: control characters,
and any text that holds a personal number.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from gateway.domain.ids import holds_ssin
from gateway.errors import FieldError, GatewayError, Kind

__all__ = [
    "CertificateRefused",
    "ClientError",
    "EvidenceWrong",
    "GatewayNotTrusted",
    "LetterInvalid",
    "NotReached",
    "Problem",
    "ReceiptWrong",
    "UnexpectedAnswer",
    "harmless",
    "problem_of",
]

_TYPE_PREFIX: Final = "urn:document-gateway:problem:"
_OWN_MEMBERS: Final = frozenset({"type", "title", "status", "detail", "instance", "errors"})
_CODE: Final = re.compile(r"[a-z0-9-]{1,64}\Z")
_CORRELATION: Final = re.compile(r"[A-Za-z0-9-]{1,36}\Z")
_TEXT_LIMIT: Final = 2_000
_ERRORS_LIMIT: Final = 1_000
_TEMPORARY: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


class ClientError(GatewayError):
    """The base of every error that the client raises on purpose."""


@dataclass(eq=False)
class Problem(ClientError):
    """
    The gateway refused, in its own words (RFC 9457).

    `code` is the last part of the problem's type, such as `category-not-authorised`, or `http-502` where the answer was
    no problem document. `status` is None when there was no HTTP answer. `correlation_id` finds the request in the
    gateway's logs. `members` are the other members of the document, such as `messageId` of a `reference-conflict`.
    """

    code: str
    detail: str
    status: int | None
    title: str = ""
    errors: Sequence[FieldError] = ()
    correlation_id: str | None = None
    retry_after_s: float | None = None
    members: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may well be taken later, unchanged."""
        if self.status is None:
            return False
        return (
            self.status in _TEMPORARY
            or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR
            or self.code == Kind.STILL_RECEIVING
        )

    def __str__(self) -> str:
        """Return the code and the fix."""
        return f"{self.code}: {self.detail}"


class CertificateRefused(Problem):
    """The gateway ended the TLS handshake when it saw our certificate; nothing was sent."""


@dataclass(eq=False)
class NotReached(ClientError):
    """
    No answer came. `sent`: the request may have arrived all the same.

    A letter is safe to send again with the same reference, whatever `sent` says.
    """

    detail: str
    sent: bool

    def __str__(self) -> str:
        """Return what stood in the way."""
        return self.detail


@dataclass(eq=False)
class GatewayNotTrusted(ClientError):
    """Whoever answers is not the gateway that our `ca` vouches for; nothing was sent."""

    detail: str

    def __str__(self) -> str:
        """Return what is wrong with the certificate of the other side."""
        return f"the certificate of the other side does not hold: {self.detail}"


@dataclass(eq=False)
class UnexpectedAnswer(ClientError):
    """The answer is not what the sender interface promises."""

    detail: str

    def __str__(self) -> str:
        """Return what is wrong with the answer."""
        return f"unexpected answer: {self.detail}"


@dataclass(eq=False)
class ReceiptWrong(ClientError):
    """The receipt does not prove that this gateway accepted this message; do not count the letter as sent."""

    detail: str

    def __str__(self) -> str:
        """Return which rule the receipt broke."""
        return f"the receipt does not hold: {self.detail}"


@dataclass(eq=False)
class EvidenceWrong(ClientError):
    """What came as evidence proves nothing about this message."""

    detail: str

    def __str__(self) -> str:
        """Return which rule the evidence broke."""
        return f"the evidence does not hold: {self.detail}"


@dataclass(eq=False)
class LetterInvalid(ClientError):
    """The letter breaks rules of the format; nothing was sent. Every fault is there, none repeats a value."""

    errors: Sequence[FieldError]

    def __str__(self) -> str:
        """Return each wrong field and what to do."""
        return "; ".join(f"{error.pointer} {error.detail}" for error in self.errors)


def problem_of(
    status: int, document: Any, *, correlation_id: str | None = None, retry_after_s: float | None = None
) -> Problem:
    """
    Return the problem that an answer states; `document` is its JSON value, or None when it is no problem document.

    `correlation_id` is that of the answer's header, for documents that lack one.
    """
    stated = document if isinstance(document, dict) else {}
    kind = stated.get("type")
    code = kind.removeprefix(_TYPE_PREFIX) if isinstance(kind, str) else ""
    detail = stated.get("detail")
    instance = stated.get("instance")
    listed = stated.get("errors")
    return Problem(
        code=code if _CODE.match(code) else f"http-{status}",
        detail=harmless(detail) if isinstance(detail, str) else f"answered {status} without a word of why",
        status=status,
        title=harmless(title) if isinstance(title := stated.get("title"), str) else "",
        errors=_field_errors(listed[:_ERRORS_LIMIT] if isinstance(listed, list) else []),
        correlation_id=_correlation_id(instance) or _correlation_id(correlation_id),
        retry_after_s=retry_after_s,
        members={name: value for name, value in stated.items() if name not in _OWN_MEMBERS},
    )


def harmless(text: str) -> str:
    """Return text of another party as it may be shown: no control characters, no personal number, not endless."""
    shown = "".join(character if character.isprintable() else " " for character in text[:_TEXT_LIMIT])
    return "(withheld: this text holds a personal number)" if holds_ssin(shown) else shown


def _field_errors(listed: Sequence[Any]) -> tuple[FieldError, ...]:
    return tuple(
        FieldError(pointer=harmless(str(item.get("pointer", ""))), detail=harmless(str(item.get("detail", ""))))
        for item in listed
        if isinstance(item, dict)
    )


def _correlation_id(value: object) -> str | None:
    return value if isinstance(value, str) and _CORRELATION.match(value) else None
