"""
Every error that the gateway raises on purpose, named for the decision it forces.

A `Refusal` is an answer to a sender: its `Kind` is the code of the problem document. All other errors are about our
own stores and providers; the edges translate them. Texts never hold content, keys or personal numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class GatewayError(Exception):
    """The base of every error raised on purpose."""


class Kind(StrEnum):
    """The problem codes of the sender interface; `intake/problems.py` holds their status and title."""

    MALFORMED_MESSAGE = "malformed-message"
    MULTIPART_INVALID = "multipart-invalid"
    BAD_REQUEST = "bad-request"
    SIGNATURE_INVALID = "signature-invalid"
    INVALID_MESSAGE = "invalid-message"
    WRONG_GATEWAY = "wrong-gateway"
    CREATED_AT_OUT_OF_WINDOW = "created-at-out-of-window"
    DOCUMENT_MISMATCH = "document-mismatch"
    DOCUMENT_NOT_ACCEPTABLE = "document-not-acceptable"
    CHANNEL_CANNOT_CARRY = "channel-cannot-carry"
    SENDER_UNKNOWN = "sender-unknown"
    SENDER_SUSPENDED = "sender-suspended"
    CERTIFICATE_REVOKED = "certificate-revoked"
    SIGNER_MISMATCH = "signer-mismatch"
    CATEGORY_NOT_AUTHORISED = "category-not-authorised"
    RECIPIENT_NOT_AUTHORISED = "recipient-not-authorised"
    CHANNEL_NOT_CONTRACTED = "channel-not-contracted"
    PROFILE_NOT_AUTHORISED = "profile-not-authorised"
    DOCUMENT_TOO_LARGE = "document-too-large"
    MESSAGE_TOO_LARGE = "message-too-large"
    REFERENCE_CONFLICT = "reference-conflict"
    STILL_RECEIVING = "still-receiving"
    ALREADY_DISPATCHED = "already-dispatched"
    NOT_FOUND = "not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    REQUEST_TIMEOUT = "request-timeout"
    FEED_RESTORED = "feed-restored"
    CURSOR_EXPIRED = "cursor-expired"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type"
    QUOTA_EXCEEDED = "quota-exceeded"
    INTERNAL = "internal"
    OVERLOADED = "overloaded"
    STORE_UNAVAILABLE = "store-unavailable"
    PROVIDER_UNAVAILABLE = "provider-unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One wrong field: a pointer to it (`/Recipient/Ssin`, `config/senders/x.toml: profiles[0].id`) and what to do."""

    pointer: str
    detail: str


@dataclass(eq=False)
class Refusal(GatewayError):
    """
    The request is answered with a problem; nothing of it is kept.

    `detail` tells the fix. `extra` becomes members of the problem document. `retry_after_s` becomes `Retry-After`.
    """

    kind: Kind
    detail: str
    errors: Sequence[FieldError] = ()
    extra: Mapping[str, str | int | Sequence[str]] = field(default_factory=dict)
    retry_after_s: int | None = None

    def __str__(self) -> str:
        """Return the code and the fix; never personal data, because `detail` holds none."""
        return f"{self.kind}: {self.detail}"


class StoreUnavailable(GatewayError):
    """A store cannot be reached or cannot write; what was asked may or may not have happened."""


class StoreInUse(GatewayError):
    """Another process has the store open, and it cannot be shared with this one; the text tells what to stop."""


class BlobMissing(GatewayError):
    """No blob lives under this id, or it was erased."""


class BlobConflict(GatewayError):
    """Other bytes already live under this id; blobs never change."""


class KeyringRefused(GatewayError):
    """The keyring would not open this: wrong context, unknown master key, or a destroyed one."""


class QuotaUsedUp(GatewayError):
    """Today's quota of paper is used up: what is more waits for tomorrow."""


class LeaseLost(GatewayError):
    """Somebody else holds this delivery now; drop the work, change nothing."""


class DeliveryError(GatewayError):
    """What an adapter raises when a provider did not take a delivery."""


@dataclass(eq=False)
class Refused(DeliveryError):
    """The provider will never take this delivery; `reason` is one of `domain.status.Reason`."""

    reason: str
    code: str = ""

    def __str__(self) -> str:
        """Return the reason and the provider's code."""
        return f"refused: {self.reason} {self.code}".rstrip()


@dataclass(eq=False)
class Unreachable(DeliveryError):
    """Nothing was handed over; sending again is safe. `retry_after_s` is the provider's own wish."""

    detail: str
    retry_after_s: float | None = None

    def __str__(self) -> str:
        """Return what stood in the way."""
        return f"unreachable: {self.detail}"


@dataclass(eq=False)
class OutcomeUnknown(DeliveryError):
    """It may have arrived; reconcile before anything is sent again. `for_good`: no call will ever tell more."""

    detail: str
    for_good: bool = False

    def __str__(self) -> str:
        """Return why nobody knows."""
        return f"outcome unknown: {self.detail}"


@dataclass(eq=False)
class ChannelBlocked(DeliveryError):
    """
    The provider refuses us, not the letter: raise an alarm.

    `whole_channel`: for every sender (credentials, contract), so stop the channel; else only for this one (mandate).
    """

    detail: str
    whole_channel: bool = True

    def __str__(self) -> str:
        """Return what the provider refused."""
        return f"channel blocked: {self.detail}"
