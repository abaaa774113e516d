"""
What the ledger holds, as records that pass between it and its callers.

Every implementation of `gateway.stores.ledger.Ledger` reads and writes these. Names that begin with `sealed_` are
ciphertext; the ledger never sees a personal value in clear.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from gateway.crypto.vault import DekRow
from gateway.domain.ids import DeliveryId, DocumentId, EnterpriseNumber, MessageId
from gateway.domain.message import Channel, Lane, PrintOptions
from gateway.domain.retention import CopyState, Keep
from gateway.domain.routing import Route
from gateway.domain.status import DeliveryStatus, MessageStatus, NextAction
from gateway.errors import Kind


class Log(StrEnum):
    """The three logs kept ten years."""

    TRAFFIC = "traffic"
    PRIVACY = "privacy"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One entry; made by `gateway.records.logs`, never by hand."""

    entry_id: UUID
    log: Log
    at: datetime
    event: str
    sender: EnterpriseNumber | None = None
    profile: str | None = None
    message_id: MessageId | None = None
    delivery_id: DeliveryId | None = None
    about_index: bytes | None = None
    about_index_version: int | None = None
    entry: bytes
    leaf_sha256: bytes
    dek_id: UUID | None = None
    sealed_clear: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Letterhead:
    """What a recipient is told of the sender; frozen at acceptance."""

    sender_name: str
    display_name: str
    public_contact: str
    return_address: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRecord:
    """
    One sealed document; its id is the id of its blob.

    An `enclosed` one has no blob: its sealed bytes came with its message and lie in the ledger until its key is
    destroyed.
    """

    document_id: DocumentId
    delivery_id: DeliveryId | None = None  # of a cover page
    number: int
    part: str
    kind: str = "document"  # or "cover"
    media_type: str
    size_bytes: int
    sha256: bytes
    main: bool
    signed: bool
    pages: int | None = None
    sealed_filename: bytes
    dek_id: UUID
    key_destroyed_at: datetime | None = None
    enclosed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRecord:
    """One journey on one channel, and its place in the queue."""

    delivery_id: DeliveryId
    message_id: MessageId
    number: int
    channel: Channel
    provider: str
    lane: Lane
    status: DeliveryStatus = DeliveryStatus.WAITING
    status_at: datetime
    reason: str | None = None
    code: str | None = None
    provider_reference: str | None = None
    barcode: str | None = None
    handed_over_at: datetime | None = None
    posted_at: datetime | None = None
    read_seen_at: datetime | None = None
    attempts: int = 0
    first_attempt_at: datetime | None = None
    next_action: NextAction = NextAction.SEND
    due_at: datetime | None
    deadline_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MessageRecord:
    """A message as the ledger holds it: what is personal is sealed under `meta_dek_id`."""

    message_id: MessageId
    revision: int = 0
    sender: EnterpriseNumber
    profile: str
    party: EnterpriseNumber
    registration_version: int
    reference: str
    category: str
    legal_basis: str
    language: str
    lane: Lane
    status: MessageStatus
    accepted_at: datetime
    created_at: datetime
    deliver_not_before: datetime | None
    deliver_before: datetime | None
    retention: timedelta
    billing_reference: str | None
    route: Route
    letterhead: Letterhead
    print_options: PrintOptions
    dossier_rule: bool
    content_sha256: bytes
    message_sha256: bytes
    recipient_index: bytes | None
    recipient_index_version: int | None
    meta_dek_id: UUID
    sealed_recipient: bytes
    sealed_subject: bytes
    sealed_purpose: bytes
    sealed_signed_message: bytes
    receipt_jws: str
    receipt_xml: bytes
    copy_state: CopyState = CopyState.IN_DELIVERY
    copy_until: datetime | None = None
    retrievals: int = 0
    documents: tuple[DocumentRecord, ...] = ()
    deliveries: tuple[DeliveryRecord, ...] = ()

    @property
    def dek_ids(self) -> tuple[UUID, ...]:
        """The ids of its data keys: of its personal values, then of each document."""
        return (self.meta_dek_id, *(document.dek_id for document in self.documents))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class KeyedMessage:
    """A message, and those of its data keys that were not destroyed, by their ids."""

    record: MessageRecord
    deks: Mapping[UUID, DekRow]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BatchRecord:
    """
    A batch of which at least one item was taken over; `part` holds the octets of the first one that came, as signed.

    They hold references and digests only, so they lie in clear. `content_sha256` is equal when the same batch is signed
    again.
    """

    batch_id: UUID
    sender: EnterpriseNumber
    profile: str
    party: EnterpriseNumber
    reference: str
    content_sha256: bytes
    accepted_at: datetime
    part: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLink:
    """
    The message that stands for an item of a batch. `is_proof`: it was taken over as this item, and the batch proves it;
    else it was there before.
    """

    number: int
    message_id: MessageId
    is_proof: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRefusal:
    """Why an item of a batch was refused when it came last: the code alone, which says nothing of its recipient."""

    number: int
    kind: Kind
    refused_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """The place in a batch of a message that is being recorded; the batch itself is kept with its first item."""

    batch: BatchRecord
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """
    Everything that one acceptance commits. `messages_per_day` is the quota (None: no limit) on `day`; `enclosures` are
    the sealed bytes of those documents that are enclosed.
    """

    message: MessageRecord
    deks: tuple[DekRow, ...]
    logs: tuple[LogEntry, ...]
    day: date
    messages_per_day: int | None
    item: NewItem | None = None
    enclosures: Mapping[DocumentId, bytes] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Refuse a message that would be ours without the bytes of its documents."""
        if self.enclosures.keys() != {each.document_id for each in self.message.documents if each.enclosed}:
            raise ValueError("the enclosures are not those of the enclosed documents")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownReference:
    """A reference that was burnt before."""

    message_id: MessageId
    content_sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A delivery that is ours to work on until `lease_until`; `lease_token` is the fence."""

    delivery: DeliveryRecord
    worker: str
    lease_token: int
    lease_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperQuota:
    """How many letters a profile may have printed on `day`; the first attempt of a delivery counts."""

    sender: EnterpriseNumber
    profile: str
    day: date
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryChange:
    """What becomes of a delivery. Fields left None keep their value, except `due_at` and `deadline_at`."""

    status: DeliveryStatus
    next_action: NextAction
    due_at: datetime | None
    deadline_at: datetime | None
    at: datetime
    reason: str | None = None
    code: str | None = None
    provider_reference: str | None = None
    barcode: str | None = None
    first_attempt_at: datetime | None = None
    handed_over_at: datetime | None = None
    posted_at: datetime | None = None
    read_seen_at: datetime | None = None
    attempt_outcome: str | None = None  # ends the running attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """The end of one piece of work on a delivery: the delivery, its message, what follows and what is logged."""

    change: DeliveryChange
    message_revision: int
    message_status: MessageStatus
    keep: Keep
    next_delivery: DeliveryRecord | None = None
    logs: tuple[LogEntry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RetrievalRecord:
    """How a paper letter's recipient opens it; keyed hashes of token, number and code."""

    delivery_id: DeliveryId
    message_id: MessageId
    token_hash: bytes
    number_hash: bytes
    code_hash: bytes
    index_version: int
    created_at: datetime
    failures: int = 0
    locked_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DossierRecord:
    """A sender's statement that it handles a file about a recipient; `until_on` is the last day in force."""

    dossier_id: UUID
    sender: EnterpriseNumber
    category: str
    recipient_index: bytes
    recipient_index_version: int
    from_on: date
    until_on: date | None
    registered_at: datetime
    ended_at: datetime | None = None
    dek_id: UUID
    sealed_recipient: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One traffic-log entry of a message, as its sender sees it; `entry` is the canonical JSON."""

    at: datetime
    event: str
    delivery_id: DeliveryId | None
    entry: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """Which messages a list shows; every field narrows. `profiles` None: all of the sender."""

    sender: EnterpriseNumber
    profiles: frozenset[str] | None
    reference: str | None = None
    status: MessageStatus | None = None
    channel: Channel | None = None
    accepted_from: datetime | None = None
    accepted_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of a list; `next_position` is where the next part starts, None at the end of what is there now."""

    messages: tuple[MessageRecord, ...]
    next_position: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedEvent:
    """A traffic-log entry about a message in its sender's feed; `number` counts from 1 without gap."""

    number: int
    at: datetime
    event: str
    message_id: MessageId
    delivery_id: DeliveryId | None
    reference: str | None  # None: the message's metadata are gone
    profile: str | None
    entry: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedPage:
    """
    A part of a sender's feed, as far as it was looked at: everything through `next_number`.

    `epoch` is that of the whole ledger; events through `removed_through` are gone; `last_number` is the newest.
    """

    events: tuple[FeedEvent, ...]
    epoch: UUID
    removed_through: int
    last_number: int
    next_number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceRecord:
    """The signed statement about the `number`-th traffic-log entry of a message, as it was first given."""

    message_id: MessageId
    number: int
    jws: str
    signed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaUse:
    """What a profile used of its quota on one day."""

    messages: int
    paper: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """How many deliveries of a channel wait for an action, and since when the oldest one is due."""

    channel: str
    action: str
    count: int
    oldest_due_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LateDeliveries:
    """How many late deliveries of a channel are in this state, and the earliest deadline that they missed."""

    channel: str
    status: str
    action: str
    count: int
    oldest_deadline_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LateErasures:
    """How many erasures are overdue, and since when the oldest one is due (None: none is)."""

    count: int
    oldest_due_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LateCounts:
    """All that is late, counted: deliveries, messages whose documents should be erased, blobs that should be gone."""

    deliveries: tuple[LateDeliveries, ...]
    copies: LateErasures
    blobs: LateErasures


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RegistrationVersion:
    """
    What was in force from `at` until the next version.

    `text` is every file as it was validated (see `gateway.config.registration_files`), None in versions from before
    texts were kept; `digest` is its SHA-256; `author` a person, or what happened.
    """

    version: int
    digest: bytes
    author: str
    at: datetime
    text: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspension:
    """A sender whose requests are all refused until it is resumed."""

    sender: EnterpriseNumber
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One call to a provider, as it was written down; `outcome` None: nobody wrote what came of it."""

    delivery_id: DeliveryId
    number: int
    action: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedMessage:
    """
    A message with everything that the ledger promises about it, for `gateway verify`.

    `reference` is what burnt the message's reference, `keys` those of its documents and of the message that can still
    be opened; `blobs_erased` the documents whose blob, or enclosure, was noted as gone; `enclosures` the size in bytes
    of each enclosure that is there; `leases` when each lease on a delivery ends; `retrievals` the deliveries whose
    recipient can fetch the copy.
    """

    message: MessageRecord
    reference: KnownReference | None
    keys: Mapping[UUID, DekRow]
    blobs_erased: frozenset[DocumentId]
    attempts: tuple[AttemptRecord, ...]
    leases: Mapping[DeliveryId, datetime]
    retrievals: frozenset[DeliveryId]
    timeline: tuple[TimelineEntry, ...]
    enclosures: Mapping[DocumentId, int] = field(default_factory=dict)
    batch: BatchRecord | None = None  # that proves the message


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableMessage:
    """A row that is no message any more, with the ids of its documents and keys; `message_id` in hexadecimal."""

    message_id: str
    documents: tuple[UUID, ...]
    keys: tuple[UUID, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage:
    """A part of the walk over all messages; `next_position` is where the next part starts, None at the end."""

    messages: tuple[AuditedMessage, ...]
    unreadable: tuple[UnreadableMessage, ...]
    next_position: int | None


class Listing(StrEnum):
    """What `Ledger.listed` lists. A stray is a row whose owner is gone."""

    KEYS = "keys"  # data keys that can be opened
    KEYS_OF_DOSSIERS = "keys-of-dossiers"
    KEYS_OF_LOGS = "keys-of-logs"
    TOMBSTONES = "tombstones"  # blobs that may never be committed
    STRAY_REFERENCES = "stray-references"  # by the message they name, which has another reference or is not there
    STRAY_DOCUMENTS = "stray-documents"
    STRAY_ENCLOSURES = "stray-enclosures"  # of no document, or of one that is not enclosed
    STRAY_DELIVERIES = "stray-deliveries"
    STRAY_ATTEMPTS = "stray-attempts"  # by the delivery they name
    STRAY_RETRIEVALS = "stray-retrievals"  # by the delivery they name
    MISQUEUED = "misqueued"  # deliveries whose queue entry, where it is a row of its own, says something else


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One row of a listing: `row` is where the next part starts after, `id` what is listed."""

    row: UUID
    id: UUID
