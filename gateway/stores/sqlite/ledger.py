"""
`sqlite:///…`: the ledger in one SQLite file, fit for production on one machine, for one process at a time.

What each call does stands in the modules beside this one, as functions of a connection; here they are given to the
writer's thread or to a reader's. The promises stand in `stores/ledger.py`, the life of a delivery in `README.md`.
"""

import asyncio
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Self
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
from gateway.stores.sqlite import (
    accepting,
    auditing,
    batching,
    claiming,
    enclosing,
    erasing,
    feeding,
    keys,
    logs,
    proving,
    reading,
    registering,
    retrieving,
    settling,
    watching,
)
from gateway.stores.sqlite.dossiers import add_dossiers, end_dossier, find_dossiers
from gateway.stores.sqlite.opening import open_exclusively
from gateway.stores.sqlite.readers import Readers
from gateway.stores.sqlite.writer import OnCommit, Writer


class SqliteLedger:
    """A `Ledger` in a SQLite file. Made by `open`."""

    def __init__(self, writer: Writer, readers: Readers, *, clock: Callable[[], datetime], lock_fd: int) -> None:
        self._writer = writer
        self._readers = readers
        self._clock = clock
        self._lock_fd: int | None = lock_fd

    @classmethod
    async def open(cls, path: Path, *, clock: Callable[[], datetime], on_commit: OnCommit | None = None) -> Self:
        """
        Open the ledger at `path`, made with mode 0600 when it is missing, and apply the migrations it lacks.

        `clock` returns an aware time. `on_commit` gets the seconds and the number of changes of each commit, in the
        writer's thread; it must not raise.

        Raises:
            StoreInUse: another process has it open.
            StoreUnavailable: it cannot be read or written, is no ledger, or was written by a newer version.
        """
        connection, lock_fd = await asyncio.to_thread(open_exclusively, path, clock())
        return cls(Writer(connection, on_commit=on_commit), Readers(path), clock=clock, lock_fd=lock_fd)

    async def compact(self) -> None:
        """
        Move everything into the database file and truncate its log; destroyed keys are then in neither.

        Raises:
            StoreUnavailable: a reader held an old snapshot for too long, or the disk failed; nothing is lost.
        """
        await self._writer.checkpoint()

    async def close(self) -> None:
        """
        See `Ledger.close`; may be called twice.

        Raises:
            StoreUnavailable: the last checkpoint failed; what was committed is safe in the log beside the file.
        """
        try:
            await self._readers.close()
            await self._writer.close()
        finally:
            lock_fd, self._lock_fd = self._lock_fd, None
            if lock_fd is not None:
                os.close(lock_fd)

    # keys

    async def kek(self, kek_id: UUID) -> KekRow | None:
        """See `Ledger.kek`."""
        return await self._readers.run(lambda c: keys.kek(c, kek_id))

    async def kek_for(self, sender_id: UUID, year: int) -> KekRow | None:
        """See `Ledger.kek_for`."""
        return await self._readers.run(lambda c: keys.kek_for(c, sender_id, year))

    async def add_kek(self, row: KekRow) -> KekRow:
        """See `Ledger.add_kek`."""
        return await self._writer.run(lambda c: keys.add_kek(c, row))

    async def index_keys(self, purpose: str) -> list[IndexKeyRow]:
        """See `Ledger.index_keys`."""
        return await self._readers.run(lambda c: keys.index_keys(c, purpose))

    async def add_index_key(self, row: IndexKeyRow) -> IndexKeyRow:
        """See `Ledger.add_index_key`."""
        return await self._writer.run(lambda c: keys.add_index_key(c, row))

    async def dek(self, dek_id: UUID) -> DekRow | None:
        """See `Ledger.dek`."""
        return await self._readers.run(lambda c: keys.dek(c, dek_id))

    async def log_key(self, sender_id: UUID, year: int) -> DekRow | None:
        """See `Ledger.log_key`."""
        return await self._readers.run(lambda c: keys.log_key(c, sender_id, year))

    async def add_log_key(self, sender_id: UUID, year: int, row: DekRow) -> DekRow:
        """See `Ledger.add_log_key`."""
        return await self._writer.run(lambda c: keys.add_log_key(c, sender_id, year, row))

    # acceptance

    async def find_reference(self, sender: EnterpriseNumber, profile: str, reference: str) -> KnownReference | None:
        """See `Ledger.find_reference`."""
        return await self._readers.run(lambda c: accepting.find_reference(c, sender, profile, reference))

    async def record(self, new: NewMessage) -> KnownReference | None:
        """See `Ledger.record`."""
        return await self._writer.run(lambda c: accepting.record(c, new, self._clock))

    async def quota_use(self, sender: EnterpriseNumber, day: date) -> Mapping[str, QuotaUse]:
        """See `Ledger.quota_use`."""
        return await self._readers.run(lambda c: accepting.quota_use(c, sender, day))

    async def is_suspended(self, sender: EnterpriseNumber) -> bool:
        """See `Ledger.is_suspended`."""
        return await self._readers.run(lambda c: registering.is_suspended(c, sender))

    async def append(self, entries: Sequence[LogEntry]) -> None:
        """See `Ledger.append`."""
        await self._writer.run(lambda c: logs.append(c, entries))

    # batches

    async def find_batch(self, sender: EnterpriseNumber, profile: str, reference: str) -> BatchRecord | None:
        """See `Ledger.find_batch`."""
        return await self._readers.run(lambda c: batching.find_batch(c, sender, profile, reference))

    async def batch(self, batch_id: UUID) -> BatchRecord | None:
        """See `Ledger.batch`."""
        return await self._readers.run(lambda c: batching.batch(c, batch_id))

    async def batch_links(self, batch_id: UUID) -> list[BatchLink]:
        """See `Ledger.batch_links`."""
        return await self._readers.run(lambda c: batching.batch_links(c, batch_id))

    async def batch_refusals(self, batch_id: UUID) -> list[ItemRefusal]:
        """See `Ledger.batch_refusals`."""
        return await self._readers.run(lambda c: batching.batch_refusals(c, batch_id))

    async def note_refusals(self, batch: BatchRecord, refusals: Sequence[ItemRefusal]) -> None:
        """See `Ledger.note_refusals`."""
        await self._writer.run(lambda c: batching.note_refusals(c, batch, refusals))

    async def link_item(self, batch: BatchRecord, link: BatchLink) -> BatchLink:
        """See `Ledger.link_item`."""
        return await self._writer.run(lambda c: batching.link_item(c, batch, link))

    async def proving_batch(self, message_id: MessageId) -> BatchRecord | None:
        """See `Ledger.proving_batch`."""
        return await self._readers.run(lambda c: batching.proving_batch(c, message_id))

    # dossiers

    async def add_dossiers(self, dossiers: Sequence[DossierRecord], deks: Sequence[DekRow]) -> None:
        """See `Ledger.add_dossiers`."""
        await self._writer.run(lambda c: add_dossiers(c, dossiers, deks))

    async def end_dossier(
        self, sender: EnterpriseNumber, dossier_id: UUID, at: datetime, *, categories: Collection[str] | None = None
    ) -> DossierRecord | None:
        """See `Ledger.end_dossier`."""
        return await self._writer.run(lambda c: end_dossier(c, sender, dossier_id, at, categories))

    async def find_dossiers(
        self, sender: EnterpriseNumber, category: str | None, recipient: Collection[tuple[int, bytes]]
    ) -> list[DossierRecord]:
        """See `Ledger.find_dossiers`."""
        return await self._readers.run(lambda c: find_dossiers(c, sender, category, recipient))

    # reading

    async def message(self, message_id: MessageId) -> MessageRecord | None:
        """See `Ledger.message`."""
        return await self._readers.run(lambda c: reading.message(c, message_id))

    async def keyed_message(self, message_id: MessageId) -> KeyedMessage | None:
        """See `Ledger.keyed_message`."""
        return await self._readers.run(lambda c: reading.keyed_message(c, message_id))

    async def messages_by_id(self, message_ids: Collection[MessageId]) -> list[MessageRecord]:
        """See `Ledger.messages_by_id`."""
        return await self._readers.run(lambda c: reading.messages_by_id(c, message_ids))

    async def messages(self, which: MessageFilter, *, after_position: int, limit: int) -> Page:
        """See `Ledger.messages`."""
        return await self._readers.run(lambda c: reading.messages(c, which, after_position=after_position, limit=limit))

    async def enclosure(self, document_id: DocumentId) -> bytes | None:
        """See `Ledger.enclosure`."""
        return await self._readers.run(lambda c: enclosing.enclosure(c, document_id))

    async def timeline(self, message_id: MessageId) -> list[TimelineEntry]:
        """See `Ledger.timeline`."""
        return await self._readers.run(lambda c: logs.timeline(c, message_id))

    # evidence

    async def evidence(self, message_id: MessageId) -> list[EvidenceRecord]:
        """See `Ledger.evidence`."""
        return await self._readers.run(lambda c: proving.evidence(c, message_id))

    async def add_evidence(self, statements: Sequence[EvidenceRecord]) -> None:
        """See `Ledger.add_evidence`."""
        await self._writer.run(lambda c: proving.add_evidence(c, statements))

    # feed

    async def number_events(self, *, at: datetime, limit: int) -> int:
        """See `Ledger.number_events`; the writer is not troubled when there is nothing to number."""
        if not await self._readers.run(feeding.is_behind):
            return 0
        return await self._writer.run(lambda c: feeding.number_events(c, at=at, limit=limit))

    async def events(
        self, sender: EnterpriseNumber, profiles: frozenset[str] | None, *, after_number: int, limit: int
    ) -> FeedPage:
        """See `Ledger.events`."""
        return await self._readers.run(
            lambda c: feeding.events(c, sender, profiles, after_number=after_number, limit=limit)
        )

    async def forget_events(self, *, numbered_before: datetime, limit: int) -> int:
        """See `Ledger.forget_events`."""
        return await self._writer.run(lambda c: feeding.forget_events(c, numbered_before=numbered_before, limit=limit))

    async def begin_epoch(self, at: datetime) -> UUID:
        """See `Ledger.begin_epoch`."""
        return await self._writer.run(lambda c: feeding.begin_epoch(c, at))

    # delivery

    async def now(self) -> datetime:
        """See `Ledger.now`."""
        return self._clock()

    async def claim(self, worker: str, *, lease: timedelta, limit: int, providers: Collection[str]) -> list[Claim]:
        """See `Ledger.claim`."""
        # A lease that is committed after its caller gave up would keep the deliveries from everybody until it ends.
        return await self._writer.run(
            lambda c: claiming.claim(c, worker, now=self._clock(), lease=lease, limit=limit, providers=providers),
            patient=True,
        )

    async def begin_attempt(
        self,
        claim: Claim,
        *,
        longest: timedelta,
        settle: timedelta,
        paper: PaperQuota | None = None,
    ) -> int:
        """See `Ledger.begin_attempt`."""
        return await self._writer.run(
            lambda c: claiming.begin_attempt(c, claim, now=self._clock(), longest=longest, settle=settle, paper=paper)
        )

    async def renew(self, claim: Claim, lease: timedelta) -> Claim:
        """See `Ledger.renew`."""
        return await self._writer.run(lambda c: claiming.renew(c, claim, self._clock() + lease))

    async def settle(self, claim: Claim, settlement: Settlement) -> None:
        """
        See `Ledger.settle`.

        Raises:
            InvalidMove: a status may not follow the present one; nothing changed.
        """
        await self._writer.run(lambda c: settling.settle(c, claim, settlement))

    async def release(self, claim: Claim, delay: timedelta) -> None:
        """See `Ledger.release`."""
        await self._writer.run(lambda c: claiming.release(c, claim, self._clock() + delay))

    async def attach_cover(
        self, claim: Claim, cover: DocumentRecord, dek: DekRow, retrieval: RetrievalRecord | None
    ) -> None:
        """See `Ledger.attach_cover`."""
        await self._writer.run(lambda c: claiming.attach_cover(c, claim, cover, dek, retrieval))

    async def cancel(self, message_id: MessageId, settlement: Settlement) -> bool:
        """
        See `Ledger.cancel`.

        Raises:
            InvalidMove: a status may not follow the present one; nothing changed.
        """
        return await self._writer.run(lambda c: settling.cancel(c, message_id, settlement))

    async def decide(self, delivery_id: DeliveryId, settlement: Settlement) -> bool:
        """
        See `Ledger.decide`.

        Raises:
            LeaseLost: the message changed since the decision was prepared; nothing changed.
            InvalidMove: a status may not follow the present one; nothing changed.
        """
        return await self._writer.run(lambda c: settling.decide(c, delivery_id, settlement))

    async def to_decide(self) -> list[DeliveryRecord]:
        """See `Ledger.to_decide`."""
        return await self._readers.run(watching.to_decide)

    async def late(
        self, now: datetime, *, after: DeliveryRecord | None = None, limit: int | None = None
    ) -> list[DeliveryRecord]:
        """See `Ledger.late`."""
        return await self._readers.run(lambda c: watching.late(c, now, after=after, limit=limit))

    async def late_counts(self, now: datetime, *, erased_within: timedelta) -> LateCounts:
        """See `Ledger.late_counts`."""
        return await self._readers.run(lambda c: watching.late_counts(c, now, erased_within=erased_within))

    async def claim_late(
        self, worker: str, delivery_id: DeliveryId, *, now: datetime, lease: timedelta
    ) -> Claim | None:
        """See `Ledger.claim_late`."""
        return await self._writer.run(
            lambda c: watching.claim_late(c, worker, delivery_id, late_at=now, now=self._clock(), lease=lease),
            patient=True,  # as in `claim`
        )

    async def queue_depths(self) -> list[QueueDepth]:
        """See `Ledger.queue_depths`."""
        return await self._readers.run(watching.queue_depths)

    # retrieval by recipients

    async def retrieval(self, hashes: Collection[tuple[int, bytes]]) -> RetrievalRecord | None:
        """See `Ledger.retrieval`."""
        return await self._readers.run(lambda c: retrieving.retrieval(c, hashes))

    async def retrieval_failed(self, delivery_id: DeliveryId, locked_until: datetime) -> None:
        """See `Ledger.retrieval_failed`."""
        await self._writer.run(lambda c: retrieving.retrieval_failed(c, delivery_id, locked_until))

    async def retrieved(self, delivery_id: DeliveryId, entries: Sequence[LogEntry]) -> None:
        """See `Ledger.retrieved`."""
        await self._writer.run(lambda c: retrieving.retrieved(c, delivery_id, entries))

    # erasure

    async def due_erasures(self, now: datetime, limit: int) -> list[MessageRecord]:
        """See `Ledger.due_erasures`."""
        return await self._readers.run(lambda c: erasing.due_erasures(c, now, limit))

    async def destroy_keys(self, message: MessageRecord, at: datetime, entries: Sequence[LogEntry]) -> bool:
        """See `Ledger.destroy_keys`; the keys leave the file with the next `compact`."""
        return await self._writer.run(lambda c: erasing.destroy_keys(c, message, at, entries))

    async def blobs_to_erase(self, limit: int) -> list[DocumentId]:
        """See `Ledger.blobs_to_erase`."""
        return await self._readers.run(lambda c: erasing.blobs_to_erase(c, limit))

    async def blob_erased(self, document_id: DocumentId, at: datetime) -> None:
        """See `Ledger.blob_erased`."""
        await self._writer.run(lambda c: erasing.blob_erased(c, document_id, at))

    async def tombstone(self, blob_ids: Sequence[UUID], at: datetime) -> list[UUID]:
        """See `Ledger.tombstone`."""
        return await self._writer.run(lambda c: erasing.tombstone(c, blob_ids, at))

    # registration

    async def registration_number(self) -> int:
        """See `Ledger.registration_number`."""
        return await self._readers.run(registering.registration_number)

    async def registration_in_force(self) -> RegistrationVersion | None:
        """See `Ledger.registration_in_force`."""
        return await self._readers.run(registering.registration_in_force)

    async def add_registration(self, new: RegistrationVersion, entries: Sequence[LogEntry]) -> bool:
        """See `Ledger.add_registration`."""
        return await self._writer.run(lambda c: registering.add_registration(c, new, entries))

    async def live_uses(self) -> list[LiveUse]:
        """See `Ledger.live_uses`."""
        return await self._readers.run(registering.live_uses, of_all=True)

    async def noted_providers(self) -> frozenset[str]:
        """See `Ledger.noted_providers`."""
        return await self._readers.run(registering.noted_providers)

    async def note_providers(self, names: Collection[str]) -> None:
        """See `Ledger.note_providers`."""
        await self._writer.run(lambda c: registering.note_providers(c, names))

    async def suspend(self, suspension: Suspension, entries: Sequence[LogEntry]) -> bool:
        """See `Ledger.suspend`."""
        return await self._writer.run(lambda c: registering.suspend(c, suspension, entries))

    async def resume(self, sender: EnterpriseNumber, entries: Sequence[LogEntry]) -> bool:
        """See `Ledger.resume`."""
        return await self._writer.run(lambda c: registering.resume(c, sender, entries))

    async def suspensions(self) -> list[Suspension]:
        """See `Ledger.suspensions`."""
        return await self._readers.run(registering.suspensions)

    # audit

    async def walk(self, *, after_position: int, limit: int) -> AuditPage:
        """See `Ledger.walk`."""
        return await self._readers.run(lambda c: auditing.walk(c, after_position=after_position, limit=limit))

    async def listed(self, what: Listing, *, after: UUID | None, limit: int) -> list[Listed]:
        """See `Ledger.listed`."""
        return await self._readers.run(lambda c: auditing.listed(c, what, after=after, limit=limit))

    async def feeds_with_gaps(self) -> list[EnterpriseNumber]:
        """See `Ledger.feeds_with_gaps`."""
        return await self._readers.run(auditing.feeds_with_gaps)

    # care

    async def heartbeat(self, at: datetime) -> None:
        """See `Ledger.heartbeat`."""
        await self._writer.run(lambda c: watching.heartbeat(c, at))
