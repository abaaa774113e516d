"""The shapes of answers about messages: one of them, lists, statuses, events, the post's word; and of what is asked."""

from collections.abc import Mapping
from typing import Final

from gateway.domain.message import PrintProduct
from gateway.intake.contract import meanings
from gateway.intake.contract.shapes import (
    Schema,
    array,
    choice,
    described,
    members,
    nullable,
    number,
    ref,
    text,
    truth,
)
from gateway.intake.handlers import MAX_PAGE, MAX_STATUS_IDS

MAX_DOCUMENTS: Final = 20
COMPACT_JWS: Final = r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$"

VALUES: Final[Mapping[str, Schema]] = {
    "Instant": text(
        "A moment in UTC with milliseconds.",
        format="date-time",
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
    ),
    "MessageId": text(
        "The gateway's number of a message: a UUIDv7 (RFC 9562).",
        format="uuid",
        pattern="^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
    ),
    "DeliveryId": text("The number of a delivery, which the provider knows too.", format="uuid"),
    "DossierId": text("The number of a registered dossier.", format="uuid"),
    "Reference": text(
        "The sender's own number of a message: unique per sender and profile, without a personal number in it.",
        pattern="^[A-Za-z0-9._-]{1,64}$",
    ),
    "Slug": text("An id of the registration.", pattern="^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$"),
    "EnterpriseNumber": text("A number of the KBO/BCE, ten digits with check digits.", pattern="^[01][0-9]{9}$"),
    "Ssin": text(
        "A national (INSZ, NISS) or BIS number, eleven digits with check digits. Never in an answer, never in a URL.",
        pattern="^[0-9]{11}$",
    ),
    "Sha256": text("A SHA-256 in lower-case hexadecimal digits.", pattern="^[0-9a-f]{64}$"),
    "Channel": choice(meanings.CHANNELS, "A way to a recipient."),
    "MessageStatus": choice(meanings.MESSAGE_STATUSES, "Where a message stands."),
    "DeliveryStatus": choice(meanings.DELIVERY_STATUSES, "Where one delivery stands."),
    "Reason": choice(meanings.REASONS, "Why a delivery did not, or not only, go as asked."),
    "CopyState": choice(meanings.COPY_STATES, "What is kept of the documents."),
    "Severity": choice(meanings.SEVERITIES, "What a finding means for a real hand-over."),
    "Outlook": choice(meanings.OUTLOOKS, "What would happen on a channel."),
    "Event": choice(meanings.EVENTS, "What happened."),
}

_BARCODE: Final = "Under which the post knows the letter."
_CODE: Final = "The provider's own code; tell it to the operator when you ask."
_AT: Final = described(ref("Instant"), "When it happened.")
_NEXT: Final = described(ref("Channel"), "The channel that takes over.")
_SUMMARY: Final[Mapping[str, Schema]] = {
    "messageId": ref("MessageId"),
    "reference": ref("Reference"),
    "profile": described(ref("Slug"), "The sender's profile."),
    "status": ref("MessageStatus"),
    "final": truth("Nothing more will happen by itself."),
    "acceptedAt": described(ref("Instant"), "When it became the gateway's care."),
    "deliveries": array(ref("Delivery"), "The journeys, in order; a later one took over from an earlier.", minItems=1),
    "copy": ref("Copy"),
}

_MESSAGES: Final[Mapping[str, Schema]] = {
    "MessageSummary": members("A message as lists show it; no personal data.", _SUMMARY),
    "Message": members(
        "A message with its documents, timeline and receipt; no personal data.",
        {
            **_SUMMARY,
            "documents": array(ref("Document"), "As they were stored.", minItems=1, maxItems=MAX_DOCUMENTS),
            "skippedChannels": array(ref("SkippedChannel"), "Asked channels that cannot carry this message."),
            "timeline": array(ref("TimelineEntry"), "What happened, in order.", minItems=1),
            "receipt": ref("ReceiptToken"),
        },
    ),
    "Document": members(
        "One stored document.",
        {
            "part": text("Its part of the request, and its Document in the signed message.", pattern="^upfile[0-9]+$"),
            "sha256": ref("Sha256"),
            "size": number("In bytes.", minimum=1),
        },
    ),
    "SkippedChannel": members(
        "An asked channel that stays out of the plan.", {"channel": ref("Channel"), "why": text("In words.")}
    ),
    "Delivery": members(
        "The journey on one channel.",
        {
            "deliveryId": ref("DeliveryId"),
            "number": number("Its place among the deliveries of the message.", minimum=1),
            "channel": ref("Channel"),
            "provider": text("The provider that carries it, by its name at this gateway."),
            "status": ref("DeliveryStatus"),
            "reason": nullable(ref("Reason"), "Null: it went as asked so far."),
            "barcode": nullable(text(), f"{_BARCODE} Null: it has none."),
            "readSeenAt": nullable(ref("Instant"), "When the gateway saw that it was read. Null: not seen."),
        },
    ),
    "Copy": members(
        "What is kept of the documents.",
        {
            "state": ref("CopyState"),
            "until": nullable(ref("Instant"), "Null: until something happens to the message."),
            "retrievals": number("How often the recipient fetched the authentic copy."),
        },
    ),
    "TimelineEntry": members(
        "One thing that happened. A member that says nothing about it is absent.",
        {"at": _AT, "event": ref("Event")},
        {
            "number": number("The delivery it happened to, by its number.", minimum=1),
            "channel": ref("Channel"),
            "status": {
                "anyOf": [ref("DeliveryStatus"), ref("MessageStatus")],
                "description": "Of the delivery; of the message where there is no delivery.",
            },
            "messageStatus": ref("MessageStatus"),
            "reason": ref("Reason"),
            "code": text(_CODE),
            "barcode": text(_BARCODE),
            "nextChannel": _NEXT,
        },
    ),
    "CheckOutcome": members(
        "What a dry run found; no personal data.",
        {
            "wouldBeAccepted": truth("The same bytes, handed over just now, would be accepted."),
            "reference": nullable(ref("Reference"), "Null: not even the signature held."),
            "findings": array(
                members(
                    "One thing found.",
                    {
                        "severity": ref("Severity"),
                        "code": text("The code of a problem, or a word of its own for a warning."),
                        "detail": text("What it is, and what to do about it."),
                        "errors": array(ref("FieldError"), "Every wrong field."),
                    },
                ),
                "All of them.",
            ),
            "channels": array(
                members(
                    "One asked channel.",
                    {
                        "channel": ref("Channel"),
                        "outlook": ref("Outlook"),
                        "why": nullable(text(), "In words, or the reason that the provider would give. Null: none."),
                    },
                ),
                "Empty when the message may not be sent at all.",
            ),
        },
    ),
    "MessageList": members(
        "A page of messages, oldest acceptance first.",
        {"messages": array(ref("MessageSummary"), "One page.", maxItems=MAX_PAGE)},
        {"nextCursor": text("Where the list goes on. Absent: this is its end.")},
    ),
}

_STATUS_REQUESTS: Final[Mapping[str, Schema]] = {
    "StatusRequest": members(
        "Which messages.",
        {
            "messages": array(
                members("One message.", {"messageId": text("Its messageId.")}, closed=False),
                "In any order; one named twice is answered once.",
                minItems=1,
                maxItems=MAX_STATUS_IDS,
            )
        },
        closed=False,
    ),
    "WrappedStatusRequest": members(
        "The same in the wrapper of MAGDA's Documentendienst.",
        {"messagesStatusRequest": ref("StatusRequest")},
        closed=False,
    ),
    "StatusAnswer": members(
        "The messages found, and what was not found.",
        {
            "messages": array(ref("MessageSummary"), "In the order asked.", maxItems=MAX_STATUS_IDS),
            "unknown": array(
                text("As it was asked."),
                "Ids under which this caller has no message; also those of other senders and profiles.",
                maxItems=MAX_STATUS_IDS,
            ),
        },
    ),
}

_FEED: Final[Mapping[str, Schema]] = {
    "EventPage": members(
        "Events in order.",
        {
            "events": array(ref("FeedEvent"), "One page; may be empty.", maxItems=MAX_PAGE),
            "nextCursor": text("What to ask after next time; keep it with what you made of this page."),
            "more": truth("There is more already: ask again at once."),
            "epoch": text("Changes when the gateway is restored from a backup.", pattern="^[0-9a-f]{32}$"),
        },
    ),
    "FeedEvent": members(
        "One event of the sender's messages. A member that says nothing about it is absent.",
        {
            "number": number(
                "Counts the sender's events without gaps; a certificate with some of the profiles sees only theirs.",
                minimum=1,
            ),
            "at": _AT,
            "event": ref("Event"),
            "messageId": ref("MessageId"),
            "reference": ref("Reference"),
            "profile": described(ref("Slug"), "The sender's profile."),
        },
        {
            "status": ref("MessageStatus"),
            "deliveryId": ref("DeliveryId"),
            "deliveryNumber": number("The delivery's place among those of the message.", minimum=1),
            "deliveryStatus": ref("DeliveryStatus"),
            "channel": ref("Channel"),
            "reason": ref("Reason"),
            "code": text(_CODE),
            "barcode": text(_BARCODE),
            "nextChannel": _NEXT,
        },
    ),
}

_POST: Final[Mapping[str, Schema]] = {
    "PostalStatus": members(
        "What the post says of a registered letter.",
        {
            "messageId": ref("MessageId"),
            "deliveryId": ref("DeliveryId"),
            "number": number("The delivery's place among those of the message.", minimum=1),
            "barcode": nullable(text(), f"{_BARCODE} Null: the print house has not told it yet."),
            "status": ref("DeliveryStatus"),
            "statusAt": described(ref("Instant"), "When the gateway learnt of it."),
            "isEar": truth(f"A receipt of delivery was asked for: `product` is `{PrintProduct.REGISTERED_AR}`."),
        },
    ),
}

LETTER_SCHEMAS: Final[Mapping[str, Schema]] = {**_MESSAGES, **_STATUS_REQUESTS, **_FEED, **_POST}
