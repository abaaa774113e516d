"""The operations on batches."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from gateway.crypto.batches import ITEM_MEDIA_TYPES
from gateway.crypto.dialects import Dialect
from gateway.errors import Kind
from gateway.intake.contract import examples
from gateway.intake.contract.facts import Facts
from gateway.intake.contract.letter_operations import JSON, SUBMIT_PROBLEMS
from gateway.intake.contract.operation import Answer, Body, Content, Group, Operation, Parameter
from gateway.intake.contract.shapes import Schema, ref, text

BATCHES: Final = "/api/v1/batches"
_ONE: Final = BATCHES + "/{batchId}"
_OCTETS: Final = "application/octet-stream"
_BATCH_ID: Final = Parameter(
    name="batchId",
    where="path",
    schema=text(format="uuid"),
    description="The gateway's number of the batch.",
    required=True,
)
# Of one message, and so outcomes of an item, never of the request.
_OF_ITEMS: Final = frozenset(
    {
        Kind.CREATED_AT_OUT_OF_WINDOW,
        Kind.DOCUMENT_MISMATCH,
        Kind.DOCUMENT_NOT_ACCEPTABLE,
        Kind.CHANNEL_CANNOT_CARRY,
        Kind.CATEGORY_NOT_AUTHORISED,
        Kind.RECIPIENT_NOT_AUTHORISED,
        Kind.CHANNEL_NOT_CONTRACTED,
        Kind.DOCUMENT_TOO_LARGE,
        Kind.STILL_RECEIVING,
        Kind.QUOTA_EXCEEDED,
    }
)
_PARTS: Final[Schema] = {
    "type": "object",
    "description": "In this order.",
    "properties": {
        "batch": {
            "anyOf": [text(contentMediaType=each.media_type) for each in Dialect],
            "description": "The signed batch, the first part.",
        }
    },
    "patternProperties": {
        "^m[1-9][0-9]{0,2}$": {
            "anyOf": [text(contentMediaType=each) for each in ITEM_MEDIA_TYPES.values()],
            "description": "A message without a signature, in XML or in its JSON form.",
        },
        "^m[1-9][0-9]{0,2}-upfile([1-9]|1[0-9]|20)$": text(
            "A document of that message, by the part name in its manifest.", contentMediaType=_OCTETS
        ),
    },
    "required": ["batch"],
    "additionalProperties": False,
}
_ITEM: Final[dict[str, Any]] = {
    "number": 1,
    "reference": "2026-000123",
    "outcome": "accepted",
    "messageId": examples.MESSAGE_ID,
    "status": "accepted",
    "receipt": examples.TOKEN,
}
_BATCH_ID_SHOWN: Final = "01a2014e-90c1-7b02-9d55-0e5a4c7d2f11"
_BATCH_REFERENCE: Final = "aanslagbiljetten-2026-11"
_MISSING: Final[dict[str, Any]] = {"number": 3, "reference": "2026-000125", "outcome": "missing"}
_TAKEN: Final[dict[str, Any]] = {
    "batchId": _BATCH_ID_SHOWN,
    "reference": _BATCH_REFERENCE,
    "items": [
        _ITEM,
        {
            "number": 2,
            "reference": "2026-000124",
            "outcome": "refused",
            "code": "recipient-not-authorised",
            "problem": {
                "type": "urn:document-gateway:problem:recipient-not-authorised",
                "title": "The recipient is not authorised",
                "status": 403,
                "detail": "no dossier of this sender is in force for this recipient and category building-permit; "
                "register one with POST /api/v1/dossiers",
                "instance": "4f9b3f6e-6a52-4b0e-9c86-27c6a3c1b9d4",
            },
        },
        _MISSING,
    ],
}
_BATCH: Final[dict[str, Any]] = {
    "batchId": _BATCH_ID_SHOWN,
    "reference": _BATCH_REFERENCE,
    "profile": "burgerzaken",
    "acceptedAt": "2026-11-22T10:00:00.000Z",
    "items": [
        {**_ITEM, "status": "delivered"},
        {
            "number": 2,
            "reference": "2026-000124",
            "outcome": "refused",
            "code": "recipient-not-authorised",
            "refusedAt": "2026-11-22T10:00:01.250Z",
        },
        _MISSING,
    ],
}
_STOPPED: Final[dict[str, Any]] = {
    "batchId": _BATCH_ID_SHOWN,
    "reference": _BATCH_REFERENCE,
    "items": [
        {
            "number": 1,
            "reference": "2026-000123",
            "outcome": "already-dispatched",
            "messageId": examples.MESSAGE_ID,
            "status": "delivered",
        },
        {"number": 2, "reference": "2026-000124", "outcome": "refused"},
        _MISSING,
    ],
}


def batch_operations(facts: Facts) -> Sequence[Operation]:
    """Return the operations, with the limits of this gateway."""
    return (_submit(facts), *_FOLLOWING)


def _submit(facts: Facts) -> Operation:
    return Operation(
        method="POST",
        path=BATCHES,
        name="submitBatch",
        group=Group.SEND,
        summary="Hand over many messages under one signature",
        description=(
            f"Up to {facts.batch_items} messages. The signed batch lists the reference of each and the SHA-256 of the "
            "octets of its part; the messages themselves carry no signature. `Gateway` and `Sender` in each are those "
            "of the batch, member by member. A message that names no `Lane` goes as `bulk`.\n\n"
            "`200` says what became of each item: an item that is wrong is refused by itself, and the next one goes "
            "on. Each item is taken over as soon as its last part is on durable storage. So when the connection "
            "breaks, what came before stays; send the same batch again, whole or with only the items that are "
            "missing, and the answer tells of all of them: sent alone, without any item, the batch asks what became "
            "of them. What was taken over is answered with its first receipt, whatever comes in its place; what was "
            "refused is judged anew.\n\n"
            "Any other answer is about the batch itself, or about parts that belong to no item: they come in the "
            "order of their numbers, each item once, its documents behind it. Items before such a part stay "
            "accepted.\n\n"
            "The `Reference` of a batch is used up by its first item that is taken over: from then on it means these "
            "items with these digests. You may sign anew: how old the items may be is told by the `CreatedAt` of the "
            "batch."
        ),
        parameters=(
            Parameter(
                name="Idempotency-Key",
                where="header",
                schema=text(pattern='^"?[A-Za-z0-9._-]{1,64}"?$'),
                description="Not needed. When sent, it has to equal the signed `Reference` of the batch.",
            ),
        ),
        body=Body(
            description=(
                "The part `batch` first; then `m1`, the first message, and its documents `m1-upfile1`, `m1-upfile2` "
                "and so on (`upfile1`, `upfile2` in the message itself); then `m2`, and so on. For the rest as for a "
                f"message alone. At most {facts.batch_manifest_bytes:,} bytes of batch and {facts.batch_bytes:,} bytes "
                "behind it; each message within its own limits."
            ),
            content={
                "multipart/form-data": Content(
                    schema=_PARTS,
                    encoding={"batch": {"contentType": ", ".join(each.media_type for each in Dialect)}},
                )
            },
        ),
        answers=(
            Answer(
                status=HTTPStatus.OK,
                description="What became of each item.",
                content={JSON: Content(schema=ref("BatchTaken"), example=_TAKEN)},
                sometimes_headers=("Location",),
            ),
        ),
        problems=SUBMIT_PROBLEMS - _OF_ITEMS,
    )


_FOLLOWING: Final = (
    Operation(
        method="GET",
        path=_ONE,
        name="getBatch",
        group=Group.FOLLOW,
        summary="Look at a batch",
        description="Each item as it stands now, also for who lost the answer to handing the batch over, whose "
        "`Location` is this. Of an item that was refused the code is kept; to hear what exactly was wrong, send it "
        "again under the same batch.",
        parameters=(_BATCH_ID,),
        answers=(
            Answer(
                status=HTTPStatus.OK,
                description="The batch.",
                content={JSON: Content(schema=ref("Batch"), example=_BATCH)},
            ),
        ),
        problems=frozenset({Kind.NOT_FOUND}),
    ),
    Operation(
        method="POST",
        path=_ONE + "/cancel",
        name="cancelBatch",
        group=Group.SEND,
        summary="Stop a batch",
        description="Stops every message of the batch for which no provider was called, also one that was taken over "
        "before the batch came. There is no body.",
        parameters=(_BATCH_ID,),
        answers=(
            Answer(
                status=HTTPStatus.OK,
                description="What became of each item.",
                content={JSON: Content(schema=ref("BatchStopped"), example=_STOPPED)},
            ),
        ),
        problems=frozenset({Kind.NOT_FOUND}),
    ),
)
