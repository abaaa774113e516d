"""What each word of the sender interface means; one line for a person who meets it in an answer."""

from collections.abc import Mapping
from typing import Final

from gateway.accept.check import Severity
from gateway.domain.message import Channel
from gateway.domain.retention import CopyState
from gateway.domain.status import DeliveryStatus, MessageStatus, Reason

CHANNELS: Final[Mapping[str, str]] = {
    Channel.EBOX_CITIZEN: "the citizen's e-Box",
    Channel.EBOX_ENTERPRISE: "the company's e-Box",
    Channel.PRINT: "printed, enclosed and posted",
}

MESSAGE_STATUSES: Final[Mapping[str, str]] = {
    MessageStatus.ACCEPTED: "the gateway has it and will deliver it; no provider was called yet, so it can be stopped",
    MessageStatus.SCHEDULED: "as accepted, but nothing happens before `DeliverNotBefore` or the profile's time to undo",
    MessageStatus.IN_DELIVERY: "a provider was called; it can no longer be stopped",
    MessageStatus.DELIVERED: "published in the e-Box, handed to the post (standard letter), or handed over by the post "
    "(registered letter); it may still become returned, or in-delivery again on the next channel",
    MessageStatus.RETURNED: "the post brought it back, or lost it",
    MessageStatus.UNDELIVERABLE: "no channel could deliver it; the end",
    MessageStatus.NEEDS_DECISION: "a person at the operator decides how it goes on: nobody knows whether it arrived, "
    "or trouble lasted too long",
    MessageStatus.CANCELLED: "it was stopped in time; the end",
    MessageStatus.EXPIRED: "`DeliverBefore` passed before any provider had it; the end",
}

DELIVERY_STATUSES: Final[Mapping[str, str]] = {
    DeliveryStatus.WAITING: "waits to be handed over, for the first time or again",
    DeliveryStatus.DISPATCHING: "the provider is being called",
    DeliveryStatus.IN_DOUBT: "the provider may have it; this is found out before anything is sent again",
    DeliveryStatus.ACCEPTED: "the print house has it",
    DeliveryStatus.REJECTED: "the provider will not take it; `reason` and `code` say why",
    DeliveryStatus.PRINTED: "printed",
    DeliveryStatus.ENCLOSED: "in its envelope",
    DeliveryStatus.DISPATCHED: "handed to the post",
    DeliveryStatus.IN_TRANSIT: "on its way through the post",
    DeliveryStatus.HELD: "waits at a post office for its recipient",
    DeliveryStatus.DELIVERED: "published in the e-Box, or handed over by the post",
    DeliveryStatus.RETURNED: "brought back by the post",
    DeliveryStatus.LOST: "lost by the post",
    DeliveryStatus.FAILED: "ended without delivery; `reason` and `code` say why",
    DeliveryStatus.CANCELLED: "stopped before it was posted",
}

REASONS: Final[Mapping[str, str]] = {
    Reason.NO_CONSENT: "the recipient does not want digital letters",
    Reason.NO_BOX: "the recipient has no e-Box",
    Reason.NO_DIGITAL_USER: "the recipient never opened the e-Box; the letter is in it all the same",
    Reason.REFUSED: "the provider refused this letter",
    Reason.UNREAD: "not opened within the term of the registration",
    Reason.DOSSIER_ENDED: "the dossier about the recipient ended before the letter was handed over",
    Reason.EXPIRED: "`DeliverBefore` passed",
    Reason.PROVIDER_TROUBLE: "the provider cannot be reached or is out of order; tried again later",
    Reason.OUTCOME_UNKNOWN: "the provider did not say whether it took the letter",
    Reason.DOCUMENT_UNREADABLE: "a stored document could not be read; the operator looks into it",
    Reason.GIVEN_UP: "the operator ended it",
    Reason.QUOTA_EXCEEDED: "the paper that may be posted today is used up; it goes out on a later day",
    Reason.NO_NEWS: "the provider told no end of it in time; the operator asks",
}

SEVERITIES: Final[Mapping[str, str]] = {
    Severity.ERROR: "it would be refused",
    Severity.WARNING: "it would be accepted, and something is worth knowing",
}

OUTLOOKS: Final[Mapping[str, str]] = {
    "will-carry": "it would go this way, in its turn",
    "would-refuse": "the provider would refuse this recipient",
    "skipped": "it cannot carry this message",
    "unknown": "the provider could not be asked",
}

COPY_STATES: Final[Mapping[str, str]] = {
    CopyState.IN_DELIVERY: "the documents are kept sealed, because delivery may still need them",
    CopyState.KEPT: "the authentic copy: the recipient can fetch it until `until`",
    CopyState.AWAITING_ERASURE: "needed no more; erased at `until`",
    CopyState.ERASED: "erased for good",
}

EVENTS: Final[Mapping[str, str]] = {
    **DELIVERY_STATUSES,
    DeliveryStatus.ACCEPTED: "without a delivery: the gateway accepted the message; "
    "with one: the print house has the letter",
    "read": "the recipient opened the letter in the e-Box",
    "overdue": "the provider, which has the letter, told no end of it in time; the operator asks",
    "confirmed": "the operator learnt that the provider does have the letter; it is watched on",
    "retrieved": "the recipient fetched the authentic copy at the portal",
    "erased": "the keys of the documents were destroyed; nobody can read them any more",
}
