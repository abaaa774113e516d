"""The shapes of answers about batches."""

from collections.abc import Mapping
from typing import Final

from gateway.accept import Outcome
from gateway.domain.batch import MAX_ITEMS
from gateway.errors import Kind
from gateway.intake.contract.shapes import (
    Schema,
    array,
    choice,
    described,
    members,
    nullable,
    number,
    one_of,
    ref,
    text,
)

OUTCOMES: Final[Mapping[str, str]] = {
    Outcome.ACCEPTED: "taken over as this item, now or when the same batch came before",
    Outcome.REPEATED: "the same message was taken over before, alone or in another batch",
    Outcome.REFUSED: "nothing of it was kept when it came last; `code` says why. It may be sent again under the same "
    "batch, and is judged anew",
    Outcome.MISSING: "it never came whole; it may be sent, now or later, under the same batch",
}
_STOPPED: Final[Mapping[str, str]] = {
    "cancelled": "it is stopped, by this or an earlier call; nothing of it was or will be sent",
    "already-dispatched": "a provider was called for it, or it has ended; it can no longer be stopped",
    Outcome.REFUSED: "it was refused when it came last, so there is nothing to stop",
    Outcome.MISSING: "it never came whole, so there is nothing to stop",
}

_NUMBER: Final = number("Its number in the batch.", minimum=1)
_ITEM: Final[Mapping[str, Schema]] = {
    "number": _NUMBER,
    "reference": ref("Reference"),
    "outcome": ref("ItemOutcome"),
}
_MESSAGE: Final[Mapping[str, Schema]] = {
    "messageId": ref("MessageId"),
    "status": described(ref("MessageStatus"), "Where the message stands now."),
}

BATCH_VALUES: Final[Mapping[str, Schema]] = {
    "BatchId": text(
        "The gateway's number of a batch: a UUIDv7 (RFC 9562).",
        format="uuid",
        pattern="^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
    ),
    "ItemOutcome": choice(OUTCOMES, "What became of an item of a batch."),
    "StopOutcome": choice(_STOPPED, "What became of the wish to stop an item."),
}
BATCH_SCHEMAS: Final[Mapping[str, Schema]] = {
    "BatchTaken": members(
        "What became of each item of a batch, in the order of their numbers.",
        {
            "batchId": nullable(ref("BatchId"), "Null: nothing was taken over, so the reference is still free."),
            "reference": described(ref("Reference"), "Of the batch."),
            "items": array(ref("BatchItem"), "All items of the batch.", minItems=1, maxItems=MAX_ITEMS),
        },
    ),
    "Batch": members(
        "A batch of which at least one item was taken over.",
        {
            "batchId": ref("BatchId"),
            "reference": described(ref("Reference"), "Of the batch."),
            "profile": described(ref("Slug"), "The sender's profile."),
            "acceptedAt": described(ref("Instant"), "When its first item arrived."),
            "items": array(ref("BatchItem"), "All items of the batch.", minItems=1, maxItems=MAX_ITEMS),
        },
    ),
    "BatchItem": members(
        "One item: with its message and receipt once it was taken over, with the code of the problem when it was "
        "refused: in the answer to the request in which it came the whole problem too, afterwards when that was.",
        _ITEM,
        {
            **_MESSAGE,
            "receipt": ref("ReceiptToken"),
            "code": one_of(Kind, "Why it was refused: the code of the problem."),
            "problem": described(ref("Problem"), "Why it was refused, as a message that comes alone would have been."),
            "refusedAt": described(ref("Instant"), "When it came last."),
            "retryAfter": number("Try this item again after so many seconds.", minimum=1),
        },
    ),
    "BatchStopped": members(
        "What became of the wish to stop a batch, item by item.",
        {
            "batchId": ref("BatchId"),
            "reference": described(ref("Reference"), "Of the batch."),
            "items": array(ref("StoppedItem"), "All items of the batch.", minItems=1, maxItems=MAX_ITEMS),
        },
    ),
    "StoppedItem": members(
        "One item.", {"number": _NUMBER, "reference": ref("Reference"), "outcome": ref("StopOutcome")}, _MESSAGE
    ),
}
