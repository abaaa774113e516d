"""How a batch stands with the gateway, item by item, as types; members that are new to this version are let pass."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from gateway.client.answers import items_of, text_or_none
from gateway.crypto.values import instant
from gateway.domain.ids import MessageId

__all__ = ["BatchState", "ItemState", "batch_state", "stopped_items"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemState:
    """
    How one item stands; `outcome`, `status` and `code` are the gateway's words.

    With a message once it was taken over; `receipt` is not verified. With `code` and `refused_at` when it was refused
    when it came last; sent again, it is judged anew.
    """

    number: int
    reference: str
    outcome: str
    message_id: MessageId | None = None
    status: str | None = None
    receipt: str | None = field(default=None, repr=False)
    code: str | None = None
    refused_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchState:
    """A batch of which at least one item was taken over."""

    batch_id: UUID
    reference: str
    profile: str
    accepted_at: datetime
    items: tuple[ItemState, ...]


def batch_state(value: Any) -> BatchState:
    """Return a batch's state; to be called through `answers.read`."""
    return BatchState(
        batch_id=UUID(value["batchId"]),
        reference=str(value["reference"]),
        profile=str(value["profile"]),
        accepted_at=instant(value["acceptedAt"]),
        items=tuple(_item(each) for each in items_of(value, name="items")),
    )


def stopped_items(value: Any) -> list[ItemState]:
    """Return what became of the wish to stop a batch, item by item; to be called through `answers.read`."""
    return [_item(each) for each in items_of(value, name="items")]


def _item(value: Any) -> ItemState:
    message_id, refused_at = text_or_none(value.get("messageId")), text_or_none(value.get("refusedAt"))
    return ItemState(
        number=int(value["number"]),
        reference=str(value["reference"]),
        outcome=str(value["outcome"]),
        message_id=None if message_id is None else MessageId(UUID(message_id)),
        status=text_or_none(value.get("status")),
        receipt=text_or_none(value.get("receipt")),
        code=text_or_none(value.get("code")),
        refused_at=None if refused_at is None else instant(refused_at),
    )
