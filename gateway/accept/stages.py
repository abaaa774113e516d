"""What acceptance hands from stage to stage: each can only be made by the stage before it."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from gateway.accept.recording import SparePlaces
from gateway.arrivals import Arrivals
from gateway.crypto.dialects import Dialect
from gateway.crypto.identity import Identities, Peer
from gateway.crypto.receipts import ReceiptSigner
from gateway.crypto.vault import Dek, Vault
from gateway.domain.batch import Batch
from gateway.domain.ids import DocumentId, EnterpriseNumber, MessageId
from gateway.domain.message import Channel, Message
from gateway.domain.pace import Pace
from gateway.domain.registration import Authorisation, Profile, Registration, Sender
from gateway.domain.routing import Capability, Route
from gateway.domain.schedule import RetryRules
from gateway.errors import Refusal
from gateway.records.logs import LogBook
from gateway.stores.blobs import BlobStore
from gateway.stores.ledger import Ledger
from gateway.stores.model import BatchRecord, DocumentRecord, MessageRecord, TimelineEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class RawPart:
    """One document part as it arrives; `chunks` can be read once."""

    name: str
    filename: str
    media_type: str
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawMessage:
    """
    The octets of the signed part, and the document parts behind it, each to be read before the next.

    `dialect` is what the type of the signed part says. `idempotency_key` is the header of that name, if it was sent.
    """

    manifest: bytes
    dialect: Dialect
    parts: AsyncIterator[RawPart]
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RawBatch:
    """
    The octets of a signed batch, and the parts behind it: each item, then its documents, each to be read before the
    next. For the rest as `RawMessage`.
    """

    manifest: bytes
    dialect: Dialect
    parts: AsyncIterator[RawPart]
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptSettings:
    """The limits of the contract."""

    gateway_name: str
    max_documents: int
    max_total_bytes: int
    max_manifest_bytes: int  # of a message
    max_batch_items: int
    max_batch_manifest_bytes: int
    created_at_past: timedelta
    created_at_future: timedelta
    allow_test_ssin: bool
    capabilities: Mapping[Channel, Capability]
    providers: Mapping[Channel, Sequence[str]]
    enclose_up_to_bytes: int  # sealed documents up to this size lie in the ledger, others in blobs
    retry: RetryRules  # says from when on a delivery that still waits is late


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptDeps:
    """What acceptance needs; `registration` and `receipts` are asked anew by each message; `ids` mints UUIDv7s."""

    settings: AcceptSettings
    registration: Callable[[], Registration]
    identities: Identities
    vault: Vault
    blobs: BlobStore
    ledger: Ledger
    receipts: Callable[[], ReceiptSigner]
    logbook: LogBook
    clock: Callable[[], datetime]
    ids: Callable[[], UUID]
    arrivals: Arrivals = field(default_factory=Arrivals)
    spare_places: SparePlaces = field(default_factory=SparePlaces)
    refusal_pace: Pace[EnterpriseNumber] = field(default_factory=lambda: Pace(burst=200, per_s=5.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """
    The message is ours now; `repeated`: it was already.

    `timeline` of a message that is new: all that it holds; None: it stands in the ledger.
    """

    record: MessageRecord
    repeated: bool
    timeline: Sequence[TimelineEntry] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verified:
    """What a valid signature covers: whose it is, and the message, or why it is none."""

    sender: EnterpriseNumber
    dialect: Dialect
    signer_profiles: frozenset[str] | None  # that the signing certificate may sign for; None: all
    content: Message | Refusal


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VerifiedBatch:
    """What the valid signature of a batch covers: whose it is, and the batch, or why it is none."""

    sender: EnterpriseNumber
    dialect: Dialect
    signer_profiles: frozenset[str] | None
    content: Batch | Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """For whom a party may speak: judged once, for a message or for all items of a batch."""

    peer: Peer
    sender: Sender
    profile: Profile
    registration_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedBatch:
    """A batch whose signature held, from a party that may speak; `record` is what is kept with its first item."""

    batch: Batch
    speaker: Speaker
    record: BatchRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """The place of a message in the signed batch that proves it."""

    batch: SignedBatch
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedMessage:
    """
    A message whose proof held, from a party that may speak for its sender and profile.

    The proof is the signature in `part`; or, of an item, that the signed batch of `membership` lists its digest.
    """

    message: Message
    dialect: Dialect
    peer: Peer
    sender: Sender
    profile: Profile
    registration_version: int
    part_sha256: bytes  # of the octets of the signed part
    content_sha256: bytes
    part: bytes
    membership: Membership | None = None

    @property
    def signed_at(self) -> datetime:
        """When its sender says that it signed: of an item, the CreatedAt of its batch."""
        return self.message.created_at if self.membership is None else self.membership.batch.batch.created_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A signed message that may be sent, and how."""

    signed: SignedMessage
    authorisation: Authorisation
    route: Route
    retention: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """An order whose documents are sealed: durable as blobs, or as `enclosures`, which the message takes with it."""

    order: Order
    message_id: MessageId
    documents: tuple[DocumentRecord, ...]
    enclosures: Mapping[DocumentId, bytes]
    deks: tuple[Dek, ...]
    meta: Dek
