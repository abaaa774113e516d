"""Batches as tests make them: signed, with their items and documents, each exactly as it will be sent."""

import hashlib
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest

from gateway.crypto.batches import ITEM_MEDIA_TYPES, sign_batch, write_item
from gateway.crypto.dialects import Dialect
from gateway.domain.batch import Batch, BatchItem
from gateway.domain.message import Message

if TYPE_CHECKING:
    from tests.plugins.house import GATEWAY, Answer, Part, SenderHand, multipart
else:
    from house import GATEWAY, Answer, Part, SenderHand, multipart

BATCHES = "/api/v1/batches"
_numbers = itertools.count(1)


@dataclass
class BatchHand:
    """A batch of one sender; everything in it can be changed before it is sent."""

    sender: SenderHand
    messages: list[Message]
    dialect: Dialect = Dialect.XML
    reference: str = field(default_factory=lambda: f"batch-{next(_numbers)}")
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def batch(self, **changes: Any) -> Batch:
        """Return what is signed, with some fields replaced."""
        items = tuple(
            BatchItem(number=number, reference=message.reference, sha256=hashlib.sha256(octets).hexdigest())
            for number, (message, octets) in enumerate(zip(self.messages, self.octets(), strict=True), start=1)
        )
        valid = Batch(
            gateway=GATEWAY,
            reference=self.reference,
            created_at=self.created_at,
            sender=self.sender.number,
            profile=self.sender.profile,
            items=items,
        )
        return replace(valid, **changes)

    def octets(self) -> list[bytes]:
        """Return the part of each message."""
        return [write_item(self.dialect, message) for message in self.messages]

    def signed(self, **changes: Any) -> Part:
        """Return the first part."""
        content = sign_batch(self.dialect, self.batch(**changes), self.sender.key, self.sender.certificate)
        return Part("batch", content, self.dialect.media_type)

    def item(self, number: int, contents: Sequence[bytes] | None = None) -> list[Part]:
        """Return the parts of one item: its message, then its documents."""
        message = self.messages[number - 1]
        documents = contents if contents is not None else [self.sender.house.pdf] * len(message.documents)
        octets = write_item(self.dialect, message)
        return [
            Part(f"m{number}", octets, ITEM_MEDIA_TYPES[self.dialect]),
            *(
                Part(f"m{number}-{entry.part}", content, entry.media_type, entry.filename)
                for entry, content in zip(message.documents, documents, strict=True)
            ),
        ]

    def parts(self, numbers: Sequence[int] | None = None, **changes: Any) -> list[Part]:
        """Return all parts of the request, or those of some items."""
        wanted = numbers if numbers is not None else range(1, len(self.messages) + 1)
        return [self.signed(**changes), *(part for number in wanted for part in self.item(number))]

    async def send(self, parts: list[Part] | None = None, headers: Any = None) -> Answer:
        """POST the batch."""
        body = BytesIO(multipart(parts if parts is not None else self.parts()))
        typed = {"Content-Type": "multipart/form-data; boundary=simple-boundary", **(headers or {})}
        async with self.sender.session.post(self.sender.house.url + BATCHES, data=body, headers=typed) as response:
            return Answer(response.status, response.headers, await response.read())

    async def taken(self, parts: list[Part] | None = None) -> list[Any]:
        """POST the batch, which must be answered item by item; return these."""
        answer = await self.send(parts)
        assert answer.status == 200, answer.body
        items: list[Any] = answer.json["items"]
        return items


def batch_of(sender: SenderHand, size: int, **options: Any) -> BatchHand:
    """Return a batch of messages that this sender may send."""
    return BatchHand(sender, [sender.message() for _ in range(size)], **options)


def outcomes(items: list[Any]) -> list[str]:
    """Return what became of each item; of one that was refused the code of its problem."""
    for item in items:
        assert ("code" in item) == (item["outcome"] == "refused")
        assert "problem" not in item or item["problem"]["type"] == f"urn:document-gateway:problem:{item['code']}"
    return [item.get("code", item["outcome"]) for item in items]


@pytest.fixture
def batches() -> Any:
    """Return this module."""
    return sys.modules[__name__]
