"""
The ledger: who sent what to whom, where it stands, and what is to be done next.

`Ledger` is the promise that every implementation keeps:

- Each call is one transaction. When it returns, its effect is durable; when it raises, there is none, except for
  `StoreUnavailable`, after which the effect may or may not be there.
- No message is ever in two states: a change names the lease and the revision that it saw, and fails with `LeaseLost`
  when either has moved on.
- Personal values arrive sealed; the ledger never sees them in clear.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from gateway.crypto.vault import DekRow, IndexKeyRow, KekRow
from gateway.domain.ids import DeliveryId, DocumentId, EnterpriseNumber, MessageId
from gateway.domain.message import Channel, Lane, PrintOptions
from gateway.domain.needs import LiveUse
from gateway.domain.retention import CopyState, Keep
from gateway.domain.routing import Route
from gateway.domain.status import DeliveryStatus, MessageStatus, NextAction


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
    """One sealed document; its id is the id of its blob."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """Everything that one acceptance commits. `messages_per_day` is the quota (None: no limit) on `day`."""

    message: MessageRecord
    deks: tuple[DekRow, ...]
    logs: tuple[LogEntry, ...]
    day: date
    messages_per_day: int | None


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


class Ledger(Protocol):
    """See the module text for what every call promises."""

    # keys
    async def kek(self, kek_id: UUID) -> KekRow | None:
        """Return a sender key by id."""
        ...

    async def kek_for(self, sender_id: UUID, year: int) -> KekRow | None:
        """Return the sender key of a year."""
        ...

    async def add_kek(self, row: KekRow) -> KekRow:
        """Add a sender key; return the one in force, which is an earlier one if there was one."""
        ...

    async def index_keys(self, purpose: str) -> list[IndexKeyRow]:
        """Return all versions of a blind-index key, oldest first."""
        ...

    async def add_index_key(self, row: IndexKeyRow) -> IndexKeyRow:
        """Add a version; return the one in force under that number."""
        ...

    async def dek(self, dek_id: UUID) -> DekRow | None:
        """Return a data key, or None when it was destroyed."""
        ...

    async def log_key(self, sender_id: UUID, year: int) -> DekRow | None:
        """Return the key that seals log entries of a sender and year."""
        ...

    async def add_log_key(self, sender_id: UUID, year: int, row: DekRow) -> DekRow:
        """Add it; return the one in force."""
        ...

    # acceptance
    async def find_reference(self, sender: EnterpriseNumber, profile: str, reference: str) -> KnownReference | None:
        """Return what burnt this reference, if anything did."""
        ...

    async def record(self, new: NewMessage) -> KnownReference | None:
        """
        Commit a message with its documents, first delivery, keys and log entries: the commit point of acceptance.

        Returns None, or what burnt the reference first; then nothing was kept.

        Raises:
            Refusal: quota-exceeded.
            StoreUnavailable: also when a tombstone lies on one of the blobs.
        """
        ...

    async def quota_use(self, sender: EnterpriseNumber, day: date) -> Mapping[str, QuotaUse]:
        """Return what each of the sender's profiles used on `day`; a profile that used nothing may be missing."""
        ...

    async def is_suspended(self, sender: EnterpriseNumber) -> bool:
        """Tell whether an operator suspended this sender."""
        ...

    async def append(self, entries: Sequence[LogEntry]) -> None:
        """Add log entries that belong to no other change."""
        ...

    # dossiers
    async def add_dossiers(self, dossiers: Sequence[DossierRecord], deks: Sequence[DekRow]) -> None:
        """Add all, or none."""
        ...

    async def end_dossier(
        self, sender: EnterpriseNumber, dossier_id: UUID, at: datetime, *, categories: Collection[str] | None = None
    ) -> DossierRecord | None:
        """
        End a dossier of this sender now; return it as it was, or None when the sender has no such dossier, or none in
        one of `categories`.
        """
        ...

    async def find_dossiers(
        self, sender: EnterpriseNumber, category: str | None, recipient: Collection[tuple[int, bytes]]
    ) -> list[DossierRecord]:
        """Return the sender's dossiers about a recipient, given as (index version, blind index) candidates."""
        ...

    # reading
    async def message(self, message_id: MessageId) -> MessageRecord | None:
        """Return a message with its documents and deliveries."""
        ...

    async def messages_by_id(self, message_ids: Collection[MessageId]) -> list[MessageRecord]:
        """Return those of these messages that exist, in any order."""
        ...

    async def messages(self, which: MessageFilter, *, after_position: int, limit: int) -> Page:
        """Return messages in order of commit, so that later pages never skip or repeat one."""
        ...

    async def timeline(self, message_id: MessageId) -> list[TimelineEntry]:
        """Return the traffic-log entries of a message, in order; entries are only ever added at the end."""
        ...

    # evidence
    async def evidence(self, message_id: MessageId) -> list[EvidenceRecord]:
        """Return the statements about a message that were given so far, in order of their numbers."""
        ...

    async def add_evidence(self, statements: Sequence[EvidenceRecord]) -> None:
        """Keep statements for ever. Of two about the same entry the first stays, and the second is forgotten."""
        ...

    # feed
    async def number_events(self, *, at: datetime, limit: int) -> int:
        """
        Number the traffic-log entries about messages that have no number yet, each in its sender's feed: from 1,
        without gap, in order of commit. Looks at up to `limit` committed log entries; returns how many it looked at.

        No event is ever seen before one with a lower number; calls at the same time number nothing twice.
        """
        ...

    async def events(
        self, sender: EnterpriseNumber, profiles: frozenset[str] | None, *, after_number: int, limit: int
    ) -> FeedPage:
        """
        Return up to `limit` events of the sender's feed after `after_number`, those of other profiles left out.

        `profiles` None: all. A page may be empty and its `next_number` beyond `after_number` all the same.
        """
        ...

    async def forget_events(self, *, numbered_before: datetime, limit: int) -> int:
        """Remove up to `limit` of the oldest events of feeds, from the front; return how many. The log stays."""
        ...

    async def begin_epoch(self, at: datetime) -> UUID:
        """Give the ledger a new epoch, which ends every cursor into a feed: for when a backup was restored."""
        ...

    # delivery
    async def claim(
        self, worker: str, *, now: datetime, lease: timedelta, limit: int, providers: Collection[str]
    ) -> list[Claim]:
        """Lease up to `limit` due deliveries of these providers; single letters before bulk, then the longest due."""
        ...

    async def begin_attempt(
        self,
        claim: Claim,
        *,
        now: datetime,
        deadline_at: datetime,
        reconcile_at: datetime,
        paper: PaperQuota | None = None,
    ) -> int:
        """
        Write down that a provider is about to be called: status dispatching, the message in delivery, a numbered
        attempt, and the time from which anybody who finds it still dispatching must reconcile it. Return the attempt's
        number. With `paper`, the first attempt of a delivery counts against that quota.

        Raises:
            LeaseLost: somebody else holds it.
            QuotaUsedUp: nothing was written down.
        """
        ...

    async def renew(self, claim: Claim, lease_until: datetime) -> Claim:
        """
        Keep a delivery for longer.

        Raises:
            LeaseLost: somebody else holds it.
        """
        ...

    async def settle(self, claim: Claim, settlement: Settlement) -> None:
        """
        End the work on a delivery and give the lease back.

        Raises:
            LeaseLost: somebody else holds the delivery, or its message changed since it was read.
        """
        ...

    async def release(self, claim: Claim, due_at: datetime) -> None:
        """
        Give a lease back; due again at `due_at`, or later where it already was (a call that began waits for its
        time). Without effect when the lease was lost.
        """
        ...

    async def attach_cover(
        self, claim: Claim, cover: DocumentRecord, dek: DekRow, retrieval: RetrievalRecord | None
    ) -> None:
        """
        Add the cover page of a print delivery.

        Raises:
            LeaseLost: somebody else holds it.
            StoreUnavailable: also when a tombstone lies on its blob.
        """
        ...

    async def cancel(self, message_id: MessageId, settlement: Settlement) -> bool:
        """
        Stop a message for which no provider was called: its one delivery is settled, whoever may hold it.

        False when it is not accepted or scheduled any more; nothing changed. A worker that holds the delivery gets
        `LeaseLost` when it is about to call the provider.

        Raises:
            LeaseLost: the message changed since it was read.
        """
        ...

    async def decide(self, delivery_id: DeliveryId, settlement: Settlement) -> bool:
        """Carry out a person's decision on a delivery that waits for one; False when it does not."""
        ...

    async def to_decide(self) -> list[DeliveryRecord]:
        """Return the deliveries that wait for a person, the most urgent first."""
        ...

    async def late(self, now: datetime) -> list[DeliveryRecord]:
        """Return every delivery that has not ended and whose deadline has passed."""
        ...

    async def queue_depths(self) -> list[QueueDepth]:
        """Return how much waits, per channel and action."""
        ...

    # retrieval by recipients
    async def retrieval(self, hashes: Collection[tuple[int, bytes]]) -> RetrievalRecord | None:
        """Return what a token or a letter's number opens, given as (index version, keyed hash) candidates."""
        ...

    async def retrieval_failed(self, delivery_id: DeliveryId, locked_until: datetime) -> None:
        """Count a wrong code."""
        ...

    async def retrieved(self, delivery_id: DeliveryId, entries: Sequence[LogEntry]) -> None:
        """Count a retrieval, clear its failures and log it."""
        ...

    # erasure
    async def due_erasures(self, now: datetime, limit: int) -> list[MessageRecord]:
        """Return messages whose documents are to be erased by now."""
        ...

    async def destroy_keys(self, message: MessageRecord, at: datetime, entries: Sequence[LogEntry]) -> bool:
        """Destroy the data keys of all documents; False when the message changed since it was read."""
        ...

    async def blobs_to_erase(self, limit: int) -> list[DocumentId]:
        """Return documents whose key is destroyed and whose blob may still be there."""
        ...

    async def blob_erased(self, document_id: DocumentId, at: datetime) -> None:
        """Note that a blob is gone."""
        ...

    async def tombstone(self, blob_ids: Sequence[UUID], at: datetime) -> list[UUID]:
        """Forbid these blobs for ever and return those that were forbidden: the ones that no document needs."""
        ...

    # registration
    async def registration_number(self) -> int:
        """Return the number of the registration in force, 0 when there is none yet."""
        ...

    async def registration_in_force(self) -> RegistrationVersion | None:
        """Return the registration with the highest number."""
        ...

    async def add_registration(self, new: RegistrationVersion, entries: Sequence[LogEntry]) -> bool:
        """
        Put the next registration in force, with the log entries about it; False, and nothing of it is kept, when its
        number is not the one after the highest, because somebody else was faster.
        """
        ...

    async def live_uses(self) -> list[LiveUse]:
        """
        Return what the messages on which something is still to be done use, and how many they are. It reads them all,
        about 60,000 in a second.
        """
        ...

    async def noted_providers(self) -> frozenset[str]:
        """Return the providers that were noted last."""
        ...

    async def note_providers(self, names: Collection[str]) -> None:
        """Note which providers are configured, in place of those noted before."""
        ...

    async def suspend(self, suspension: Suspension, entries: Sequence[LogEntry]) -> bool:
        """Suspend a sender, with the log entries about it; False, and nothing changes, when it is suspended already."""
        ...

    async def resume(self, sender: EnterpriseNumber, entries: Sequence[LogEntry]) -> bool:
        """End a suspension, with the log entries about it; False, and nothing changes, when there is none."""
        ...

    async def suspensions(self) -> list[Suspension]:
        """Return the suspended senders, the longest suspended first."""
        ...

    # care
    async def heartbeat(self, at: datetime) -> None:
        """Commit something, to prove that commits work."""
        ...

    async def compact(self) -> None:
        """
        Make destroyed keys leave the store's files too, its own log included; called at least hourly.

        Raises:
            StoreUnavailable: not this time; nothing is lost.
        """
        ...

    async def close(self) -> None:
        """Finish what was asked and let go of the store."""
        ...
