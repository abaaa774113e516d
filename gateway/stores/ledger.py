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
from datetime import date, datetime, timedelta
from typing import Protocol
from uuid import UUID

from gateway.crypto.vault import DekRow, IndexKeyRow, KekRow
from gateway.domain.ids import DeliveryId, DocumentId, EnterpriseNumber, MessageId
from gateway.domain.needs import LiveUse
from gateway.stores.model import (
    AuditPage,
    BatchLink,
    BatchRecord,
    Claim,
    DeliveryRecord,
    DocumentRecord,
    DossierRecord,
    EvidenceRecord,
    FeedPage,
    ItemRefusal,
    KeyedMessage,
    KnownReference,
    LateCounts,
    Listed,
    Listing,
    LogEntry,
    MessageFilter,
    MessageRecord,
    NewMessage,
    Page,
    PaperQuota,
    QueueDepth,
    QuotaUse,
    RegistrationVersion,
    RetrievalRecord,
    Settlement,
    Suspension,
    TimelineEntry,
)


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
        Commit a message with its documents, enclosures, first delivery, keys and log entries: the commit point of
        acceptance. With an item of a batch, its link as the proof, and the batch itself when it is not there yet.

        Returns None, or what burnt the reference first; then nothing was kept.

        Raises:
            Refusal: quota-exceeded; reference-conflict, when a batch of other content holds the batch's reference.
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

    # batches
    async def find_batch(self, sender: EnterpriseNumber, profile: str, reference: str) -> BatchRecord | None:
        """Return the batch under this reference, if an item of one was ever recorded or linked."""
        ...

    async def batch(self, batch_id: UUID) -> BatchRecord | None:
        """Return a batch by id."""
        ...

    async def batch_links(self, batch_id: UUID) -> list[BatchLink]:
        """Return the messages that stand for items of a batch, in order of their numbers."""
        ...

    async def batch_refusals(self, batch_id: UUID) -> list[ItemRefusal]:
        """Return why items of a batch were refused for which no message stands, in order of their numbers."""
        ...

    async def note_refusals(self, batch: BatchRecord, refusals: Sequence[ItemRefusal]) -> None:
        """
        Note why items were refused; an item for which a message stands keeps that. Where the batch itself is not there,
        or another one under its reference, nothing is noted: a refusal alone makes no batch.
        """
        ...

    async def link_item(self, batch: BatchRecord, link: BatchLink) -> BatchLink:
        """
        Note which message stands for an item, and the batch itself when it is not there yet; return the link in force,
        which is an earlier one if there was one. That the item was refused before is forgotten.

        Raises:
            Refusal: reference-conflict, when a batch of other content holds the reference; nothing was noted.
        """
        ...

    async def proving_batch(self, message_id: MessageId) -> BatchRecord | None:
        """Return the batch as an item of which a message was recorded; None: it came alone."""
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

    async def keyed_message(self, message_id: MessageId) -> KeyedMessage | None:
        """Return a message with its data keys, as they are at one moment."""
        ...

    async def messages_by_id(self, message_ids: Collection[MessageId]) -> list[MessageRecord]:
        """Return those of these messages that exist, in any order."""
        ...

    async def messages(self, which: MessageFilter, *, after_position: int, limit: int) -> Page:
        """Return messages in order of commit, so that later pages never skip or repeat one."""
        ...

    async def enclosure(self, document_id: DocumentId) -> bytes | None:
        """Return the sealed bytes of an enclosed document, or None when there are none, or no more."""
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
    async def now(self) -> datetime:
        """Return the time on the store's clock, by which leases begin and end and deliveries fall due."""
        ...

    async def claim(self, worker: str, *, lease: timedelta, limit: int, providers: Collection[str]) -> list[Claim]:
        """
        Lease deliveries that are due, up to `limit` for each of these providers: what waits for one provider takes no
        place from another. They come provider by provider, for each in this order:

        - Single letters go before bulk; but of every eight places a provider has, one is for bulk while bulk is due.
        - In each of these lanes, senders take turns: no sender with something due is passed over twice by the same
          other, in one call or over many. How much a sender has waiting makes no difference to another.
        - Of one sender, the longest due goes first.

        Where the turns stand is part of the ledger; calls at the same time take theirs one after the other, and never
        lease the same delivery. The cost does not grow with what waits, due or not.
        """
        ...

    async def begin_attempt(
        self,
        claim: Claim,
        *,
        longest: timedelta,
        settle: timedelta,
        paper: PaperQuota | None = None,
    ) -> int:
        """
        Write down that a provider is about to be called: status dispatching, the message in delivery, a numbered
        attempt that is over after `longest`, and that from `settle` later anybody who finds it still dispatching must
        reconcile it. The deadline of the delivery becomes `TAKEN_UP_WITHIN` (see `domain.schedule`) after that: so long
        nobody is late. Return the attempt's number. With `paper`, the first attempt of a delivery counts against that
        quota.

        Raises:
            LeaseLost: somebody else holds it.
            QuotaUsedUp: nothing was written down.
        """
        ...

    async def renew(self, claim: Claim, lease: timedelta) -> Claim:
        """
        Keep a delivery until `lease` from now; a lease that lasts longer anyway, as during an attempt, stays.

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

    async def release(self, claim: Claim, delay: timedelta) -> None:
        """
        Give a lease back; due again after `delay`, or later where it already was (a call that began waits for its
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

    async def late(
        self, now: datetime, *, after: DeliveryRecord | None = None, limit: int | None = None
    ) -> list[DeliveryRecord]:
        """
        Return the deliveries that have not ended and whose deadline lies before `now`, by deadline, then by id.

        With `after`, a delivery of an earlier answer: only those behind it, also when it is late no more. With `limit`:
        at most that many.
        """
        ...

    async def late_counts(self, now: datetime, *, erased_within: timedelta) -> LateCounts:
        """
        Count what is late, in one look and without reading it.

        Deliveries: those of `late`, in groups by channel, status and next action; a group of none is left out.
        Copies: messages of which `due_erasures` was due more than `erased_within` before `now`. Blobs: documents whose
        key was destroyed more than `erased_within` before `now`, and whose blob was not noted as gone.
        """
        ...

    async def claim_late(
        self, worker: str, delivery_id: DeliveryId, *, now: datetime, lease: timedelta
    ) -> Claim | None:
        """
        Lease one delivery on which a worker may act (send, reconcile, poll) and whose deadline lies before `now`,
        whether it is due or not.

        The fence is that of `claim`: the token grows, and whoever held an older one gets `LeaseLost`. None, and nothing
        changes, when somebody holds it, it is not late, it waits for a person, it has ended, or is not there.
        """
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
        """
        Destroy the data keys of all documents, and with them the enclosures; False when the message changed since it
        was read.
        """
        ...

    async def blobs_to_erase(self, limit: int) -> list[DocumentId]:
        """Return documents whose key is destroyed and whose blob may still be there; an enclosed one has none."""
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

    # audit
    async def walk(self, *, after_position: int, limit: int) -> AuditPage:
        """
        Return each message once with all that belongs to it, however wrong it is; the oldest first, or nearly so.

        `after_position` is 0 or what the page before said; it is no position of `messages`.
        """
        ...

    async def listed(self, what: Listing, *, after: UUID | None, limit: int) -> list[Listed]:
        """Return up to `limit` rows of a listing, in order of `row`, those after `after`."""
        ...

    async def feeds_with_gaps(self) -> list[EnterpriseNumber]:
        """Return the senders whose feed lacks a number between the oldest that is kept and the newest. Reads it all."""
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
