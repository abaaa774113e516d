"""What delivery hands from step to step: a message sealed, then opened, then what came of it; and what it needs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from gateway.adapters.base import Adapter
from gateway.crypto.vault import Dek, DekRow, Vault
from gateway.domain.ids import DeliveryId, EnterpriseNumber
from gateway.domain.journey import Rules, Verdict
from gateway.domain.message import Recipient
from gateway.records import personal
from gateway.records.logs import LogBook
from gateway.stores.documents import Documents
from gateway.stores.ledger import Ledger
from gateway.stores.model import Claim, DeliveryRecord, MessageRecord


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Envelope:
    """A delivery with its message, still sealed, and those of its data keys that were not destroyed."""

    claim: Claim
    record: MessageRecord
    deks: Mapping[UUID, DekRow]

    @property
    def delivery(self) -> DeliveryRecord:
        """The delivery at hand."""
        return self.claim.delivery


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Letter(Envelope):
    """A delivery with its message, opened."""

    meta: Dek
    recipient: Recipient
    attention_of: str | None

    @property
    def subject(self) -> str:
        """The subject line, unsealed."""
        return self._text("sealed_subject", self.record.sealed_subject)

    @property
    def purpose(self) -> str:
        """The purpose of the processing, unsealed."""
        return self._text("sealed_purpose", self.record.sealed_purpose)

    def _text(self, column: str, sealed: bytes) -> str:
        return personal.open_value(self.meta, self.record.message_id, column, sealed).decode()


class Covers(Protocol):
    """Makes the sealed cover page of a print delivery; see `gateway.covers.maker`."""

    async def ensure(self, letter: Letter) -> MessageRecord:
        """Return the message with the delivery's cover page among its documents, made now if there was none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A provider as workers see it. `settle_s`: how long a call may take effect after its deadline."""

    adapter: Adapter
    attempt_timeout_s: float
    settle_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverDeps:
    """What delivery needs; `draw` is random in [0, 1)."""

    ledger: Ledger
    documents: Documents
    vault: Vault
    destinations: Mapping[str, Destination]
    covers: Covers
    logbook: LogBook
    rules: Rules
    keep_undelivered: timedelta
    clock: Callable[[], datetime]
    ids: Callable[[], DeliveryId]
    draw: Callable[[], float]
    paper_per_day: Callable[[EnterpriseNumber, str], int | None]  # of a sender's profile; None: no limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    What a piece of work came to: a name for logs and metrics, the verdict, and what the provider told.

    `event` names it in the traffic log where the status, which stays as it was, does not.
    """

    name: str
    verdict: Verdict
    code: str | None = None
    provider_reference: str | None = None
    barcode: str | None = None
    attempted: bool = True
    disclosed: bool = False  # personal data reached the provider in this call; only of a `Letter`
    event: str | None = None
