"""
`postgresql://…`: the ledger in PostgreSQL, for any number of gateways.

What each call does stands in the modules beside this one, as functions of a transaction. The promises stand in
`stores/ledger.py`, the life of a delivery in `README.md`.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final, Self
from uuid import UUID

import asyncpg

from gateway.crypto.vault import DekRow, IndexKeyRow, KekRow
from gateway.domain.ids import DeliveryId, DocumentId, EnterpriseNumber, MessageId
from gateway.domain.needs import LiveUse
from gateway.errors import StoreUnavailable
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
from gateway.stores.postgres import (
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
from gateway.stores.postgres.addressing import ServerAddress, parse_address
from gateway.stores.postgres.dossiers import add_dossiers, end_dossier, find_dossiers
from gateway.stores.postgres.migrating import OPEN_MONTHS, migrations
from gateway.stores.postgres.migrating import migrate as migrate_with
from gateway.stores.postgres.opening import connecting, open_pool, shut_out, unreachable
from gateway.stores.postgres.sessions import FAILURES, Connection, OnCommit, Sessions, Transaction

_WAIT_S: Final = 5.0  # for a connection, when all are busy
_SMALL_BYTES: Final = 64 << 20  # a table of keys up to this size is written anew as a whole
_KEYS_SIZE: Final = "SELECT pg_total_relation_size('dek')"


class PostgresLedger:
    """A `Ledger` in PostgreSQL. Made by `open`."""

    def __init__(self, sessions: Sessions, guard: Connection | None) -> None:
        self._sessions = sessions
        self._guard = guard

    @classmethod
    async def open(
        cls,
        uri: str,
        *,
        clock: Callable[[], datetime] | None = None,
        on_commit: OnCommit | None = None,
        alone: bool = False,
    ) -> Self:
        """
        Open the ledger that `gateway migrate` made; `uri` is explained in `addressing.py`.

        `clock` None: the clock of the database server, the only one that several gateways share. `on_commit` gets the
        seconds of each commit, and 1; it must not raise. `alone`: nobody else has it open meanwhile.

        Raises:
            StoreInUse: somebody has it open alone, or, when it is to be opened alone, at all.
            StoreUnavailable: it cannot be reached, or server, role or schema are not as they must be.
        """
        address = _address(uri)
        guard = await shut_out(address) if alone else None
        try:
            pool = await open_pool(address, shared=guard is None)
        except BaseException:
            if guard is not None:
                await guard.close()
            raise
        return cls(Sessions(pool, clock=clock, on_commit=on_commit, wait_s=_WAIT_S), guard)

    async def compact(self) -> None:
        """
        See `Ledger.compact`, and `README.md` for what of a destroyed key stays where. Opens the coming months, too.

        Raises:
            StoreUnavailable: not this time; nothing is lost.
        """
        size = await self._sessions.look(_size_of_keys)
        vacuum = "VACUUM (FULL) dek" if size <= _SMALL_BYTES else "VACUUM dek"
        await self._sessions.apart([OPEN_MONTHS, vacuum])

    async def close(self) -> None:
        """See `Ledger.close`; may be called twice."""
        await self._sessions.close()
        if self._guard is not None:
            await self._guard.close()

    # keys

    async def kek(self, kek_id: UUID) -> KekRow | None:
        """See `Ledger.kek`."""
        return await self._sessions.look(lambda tx: keys.kek(tx, kek_id))

    async def kek_for(self, sender_id: UUID, year: int) -> KekRow | None:
        """See `Ledger.kek_for`."""
        return await self._sessions.look(lambda tx: keys.kek_for(tx, sender_id, year))

    async def add_kek(self, row: KekRow) -> KekRow:
        """See `Ledger.add_kek`."""
        return await self._sessions.write(lambda tx: keys.add_kek(tx, row))

    async def index_keys(self, purpose: str) -> list[IndexKeyRow]:
        """See `Ledger.index_keys`."""
        return await self._sessions.look(lambda tx: keys.index_keys(tx, purpose))

    async def add_index_key(self, row: IndexKeyRow) -> IndexKeyRow:
        """See `Ledger.add_index_key`."""
        return await self._sessions.write(lambda tx: keys.add_index_key(tx, row))

    async def dek(self, dek_id: UUID) -> DekRow | None:
        """See `Ledger.dek`."""
        return await self._sessions.look(lambda tx: keys.dek(tx, dek_id))

    async def log_key(self, sender_id: UUID, year: int) -> DekRow | None:
        """See `Ledger.log_key`."""
        return await self._sessions.look(lambda tx: keys.log_key(tx, sender_id, year))

    async def add_log_key(self, sender_id: UUID, year: int, row: DekRow) -> DekRow:
        """See `Ledger.add_log_key`."""
        return await self._sessions.write(lambda tx: keys.add_log_key(tx, sender_id, year, row))

    # acceptance

    async def find_reference(self, sender: EnterpriseNumber, profile: str, reference: str) -> KnownReference | None:
        """See `Ledger.find_reference`."""
        return await self._sessions.look(lambda tx: accepting.find_reference(tx, sender, profile, reference))

    async def record(self, new: NewMessage) -> KnownReference | None:
        """See `Ledger.record`."""
        return await self._sessions.write(lambda tx: accepting.record(tx, new))

    async def quota_use(self, sender: EnterpriseNumber, day: date) -> Mapping[str, QuotaUse]:
        """See `Ledger.quota_use`."""
        return await self._sessions.look(lambda tx: accepting.quota_use(tx, sender, day))

    async def is_suspended(self, sender: EnterpriseNumber) -> bool:
        """See `Ledger.is_suspended`."""
        return await self._sessions.look(lambda tx: registering.is_suspended(tx, sender))

    async def append(self, entries: Sequence[LogEntry]) -> None:
        """See `Ledger.append`."""
        await self._sessions.write(lambda tx: logs.append(tx, entries))

    # batches

    async def find_batch(self, sender: EnterpriseNumber, profile: str, reference: str) -> BatchRecord | None:
        """See `Ledger.find_batch`."""
        return await self._sessions.look(lambda tx: batching.find_batch(tx, sender, profile, reference))

    async def batch(self, batch_id: UUID) -> BatchRecord | None:
        """See `Ledger.batch`."""
        return await self._sessions.look(lambda tx: batching.batch(tx, batch_id))

    async def batch_links(self, batch_id: UUID) -> list[BatchLink]:
        """See `Ledger.batch_links`."""
        return await self._sessions.look(lambda tx: batching.batch_links(tx, batch_id))

    async def batch_refusals(self, batch_id: UUID) -> list[ItemRefusal]:
        """See `Ledger.batch_refusals`."""
        return await self._sessions.look(lambda tx: batching.batch_refusals(tx, batch_id))

    async def note_refusals(self, batch: BatchRecord, refusals: Sequence[ItemRefusal]) -> None:
        """See `Ledger.note_refusals`."""
        await self._sessions.write(lambda tx: batching.note_refusals(tx, batch, refusals))

    async def link_item(self, batch: BatchRecord, link: BatchLink) -> BatchLink:
        """See `Ledger.link_item`."""
        return await self._sessions.write(lambda tx: batching.link_item(tx, batch, link))

    async def proving_batch(self, message_id: MessageId) -> BatchRecord | None:
        """See `Ledger.proving_batch`."""
        return await self._sessions.look(lambda tx: batching.proving_batch(tx, message_id))

    # dossiers

    async def add_dossiers(self, dossiers: Sequence[DossierRecord], deks: Sequence[DekRow]) -> None:
        """See `Ledger.add_dossiers`."""
        await self._sessions.write(lambda tx: add_dossiers(tx, dossiers, deks))

    async def end_dossier(
        self, sender: EnterpriseNumber, dossier_id: UUID, at: datetime, *, categories: Collection[str] | None = None
    ) -> DossierRecord | None:
        """See `Ledger.end_dossier`."""
        return await self._sessions.write(lambda tx: end_dossier(tx, sender, dossier_id, at, categories))

    async def find_dossiers(
        self, sender: EnterpriseNumber, category: str | None, recipient: Collection[tuple[int, bytes]]
    ) -> list[DossierRecord]:
        """See `Ledger.find_dossiers`."""
        return await self._sessions.look(lambda tx: find_dossiers(tx, sender, category, recipient))

    # reading

    async def message(self, message_id: MessageId) -> MessageRecord | None:
        """See `Ledger.message`."""
        return await self._sessions.read(lambda tx: reading.message(tx, message_id))

    async def keyed_message(self, message_id: MessageId) -> KeyedMessage | None:
        """See `Ledger.keyed_message`."""
        return await self._sessions.read(lambda tx: reading.keyed_message(tx, message_id))

    async def messages_by_id(self, message_ids: Collection[MessageId]) -> list[MessageRecord]:
        """See `Ledger.messages_by_id`."""
        return await self._sessions.read(lambda tx: reading.messages_by_id(tx, message_ids))

    async def messages(self, which: MessageFilter, *, after_position: int, limit: int) -> Page:
        """See `Ledger.messages`."""
        return await self._sessions.read(
            lambda tx: reading.messages(tx, which, after_position=after_position, limit=limit)
        )

    async def enclosure(self, document_id: DocumentId) -> bytes | None:
        """See `Ledger.enclosure`."""
        return await self._sessions.look(lambda tx: enclosing.enclosure(tx, document_id))

    async def timeline(self, message_id: MessageId) -> list[TimelineEntry]:
        """See `Ledger.timeline`."""
        return await self._sessions.look(lambda tx: logs.timeline(tx, message_id))

    # evidence

    async def evidence(self, message_id: MessageId) -> list[EvidenceRecord]:
        """See `Ledger.evidence`."""
        return await self._sessions.look(lambda tx: proving.evidence(tx, message_id))

    async def add_evidence(self, statements: Sequence[EvidenceRecord]) -> None:
        """See `Ledger.add_evidence`."""
        await self._sessions.write(lambda tx: proving.add_evidence(tx, statements))

    # feed

    async def number_events(self, *, at: datetime, limit: int) -> int:
        """See `Ledger.number_events`; nothing is locked when there is nothing to number."""
        if not await self._sessions.look(feeding.is_behind):
            return 0
        return await self._sessions.write(lambda tx: feeding.number_events(tx, at=at, limit=limit))

    async def events(
        self, sender: EnterpriseNumber, profiles: frozenset[str] | None, *, after_number: int, limit: int
    ) -> FeedPage:
        """See `Ledger.events`."""
        return await self._sessions.read(
            lambda tx: feeding.events(tx, sender, profiles, after_number=after_number, limit=limit)
        )

    async def forget_events(self, *, numbered_before: datetime, limit: int) -> int:
        """See `Ledger.forget_events`."""
        return await self._sessions.write(
            lambda tx: feeding.forget_events(tx, numbered_before=numbered_before, limit=limit)
        )

    async def begin_epoch(self, at: datetime) -> UUID:
        """See `Ledger.begin_epoch`."""
        return await self._sessions.write(lambda tx: feeding.begin_epoch(tx, at))

    # delivery

    async def now(self) -> datetime:
        """See `Ledger.now`."""
        return await self._sessions.look(Transaction.now)

    async def claim(self, worker: str, *, lease: timedelta, limit: int, providers: Collection[str]) -> list[Claim]:
        """See `Ledger.claim`."""
        return await self._sessions.write(
            lambda tx: claiming.claim(tx, worker, lease=lease, limit=limit, providers=providers)
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
        return await self._sessions.write(
            lambda tx: claiming.begin_attempt(tx, claim, longest=longest, settle=settle, paper=paper)
        )

    async def renew(self, claim: Claim, lease: timedelta) -> Claim:
        """See `Ledger.renew`."""
        return await self._sessions.write(lambda tx: claiming.renew(tx, claim, lease))

    async def settle(self, claim: Claim, settlement: Settlement) -> None:
        """
        See `Ledger.settle`.

        Raises:
            InvalidMove: a status may not follow the present one; nothing changed.
        """
        await self._sessions.write(lambda tx: settling.settle(tx, claim, settlement))

    async def release(self, claim: Claim, delay: timedelta) -> None:
        """See `Ledger.release`."""
        await self._sessions.write(lambda tx: claiming.release(tx, claim, delay))

    async def attach_cover(
        self, claim: Claim, cover: DocumentRecord, dek: DekRow, retrieval: RetrievalRecord | None
    ) -> None:
        """See `Ledger.attach_cover`."""
        await self._sessions.write(lambda tx: claiming.attach_cover(tx, claim, cover, dek, retrieval))

    async def cancel(self, message_id: MessageId, settlement: Settlement) -> bool:
        """
        See `Ledger.cancel`.

        Raises:
            InvalidMove: a status may not follow the present one; nothing changed.
        """
        return await self._sessions.write(lambda tx: settling.cancel(tx, message_id, settlement))

    async def decide(self, delivery_id: DeliveryId, settlement: Settlement) -> bool:
        """
        See `Ledger.decide`.

        Raises:
            LeaseLost: the message changed since the decision was prepared; nothing changed.
            InvalidMove: a status may not follow the present one; nothing changed.
        """
        return await self._sessions.write(lambda tx: settling.decide(tx, delivery_id, settlement))

    async def to_decide(self) -> list[DeliveryRecord]:
        """See `Ledger.to_decide`."""
        return await self._sessions.look(watching.to_decide)

    async def late(
        self, now: datetime, *, after: DeliveryRecord | None = None, limit: int | None = None
    ) -> list[DeliveryRecord]:
        """See `Ledger.late`."""
        return await self._sessions.look(lambda tx: watching.late(tx, now, after=after, limit=limit))

    async def late_counts(self, now: datetime, *, erased_within: timedelta) -> LateCounts:
        """See `Ledger.late_counts`."""
        return await self._sessions.read(lambda tx: watching.late_counts(tx, now, erased_within=erased_within))

    async def claim_late(
        self, worker: str, delivery_id: DeliveryId, *, now: datetime, lease: timedelta
    ) -> Claim | None:
        """See `Ledger.claim_late`."""
        return await self._sessions.write(
            lambda tx: watching.claim_late(tx, worker, delivery_id, late_at=now, lease=lease)
        )

    async def queue_depths(self) -> list[QueueDepth]:
        """See `Ledger.queue_depths`."""
        return await self._sessions.look(watching.queue_depths)

    # retrieval by recipients

    async def retrieval(self, hashes: Collection[tuple[int, bytes]]) -> RetrievalRecord | None:
        """See `Ledger.retrieval`."""
        return await self._sessions.look(lambda tx: retrieving.retrieval(tx, hashes))

    async def retrieval_failed(self, delivery_id: DeliveryId, locked_until: datetime) -> None:
        """See `Ledger.retrieval_failed`."""
        await self._sessions.write(lambda tx: retrieving.retrieval_failed(tx, delivery_id, locked_until))

    async def retrieved(self, delivery_id: DeliveryId, entries: Sequence[LogEntry]) -> None:
        """See `Ledger.retrieved`."""
        await self._sessions.write(lambda tx: retrieving.retrieved(tx, delivery_id, entries))

    # erasure

    async def due_erasures(self, now: datetime, limit: int) -> list[MessageRecord]:
        """See `Ledger.due_erasures`."""
        return await self._sessions.read(lambda tx: erasing.due_erasures(tx, now, limit))

    async def destroy_keys(self, message: MessageRecord, at: datetime, entries: Sequence[LogEntry]) -> bool:
        """See `Ledger.destroy_keys`; the keys leave the table with the next `compact`."""
        return await self._sessions.write(lambda tx: erasing.destroy_keys(tx, message, at, entries))

    async def blobs_to_erase(self, limit: int) -> list[DocumentId]:
        """See `Ledger.blobs_to_erase`."""
        return await self._sessions.look(lambda tx: erasing.blobs_to_erase(tx, limit))

    async def blob_erased(self, document_id: DocumentId, at: datetime) -> None:
        """See `Ledger.blob_erased`."""
        await self._sessions.write(lambda tx: erasing.blob_erased(tx, document_id, at))

    async def tombstone(self, blob_ids: Sequence[UUID], at: datetime) -> list[UUID]:
        """See `Ledger.tombstone`."""
        return await self._sessions.write(lambda tx: erasing.tombstone(tx, blob_ids, at))

    # registration

    async def registration_number(self) -> int:
        """See `Ledger.registration_number`."""
        return await self._sessions.look(registering.registration_number)

    async def registration_in_force(self) -> RegistrationVersion | None:
        """See `Ledger.registration_in_force`."""
        return await self._sessions.look(registering.registration_in_force)

    async def add_registration(self, new: RegistrationVersion, entries: Sequence[LogEntry]) -> bool:
        """See `Ledger.add_registration`."""
        return await self._sessions.write(lambda tx: registering.add_registration(tx, new, entries))

    async def live_uses(self) -> list[LiveUse]:
        """See `Ledger.live_uses`."""
        return await self._sessions.look(registering.live_uses)

    async def noted_providers(self) -> frozenset[str]:
        """See `Ledger.noted_providers`."""
        return await self._sessions.look(registering.noted_providers)

    async def note_providers(self, names: Collection[str]) -> None:
        """See `Ledger.note_providers`."""
        await self._sessions.write(lambda tx: registering.note_providers(tx, names))

    async def suspend(self, suspension: Suspension, entries: Sequence[LogEntry]) -> bool:
        """See `Ledger.suspend`."""
        return await self._sessions.write(lambda tx: registering.suspend(tx, suspension, entries))

    async def resume(self, sender: EnterpriseNumber, entries: Sequence[LogEntry]) -> bool:
        """See `Ledger.resume`."""
        return await self._sessions.write(lambda tx: registering.resume(tx, sender, entries))

    async def suspensions(self) -> list[Suspension]:
        """See `Ledger.suspensions`."""
        return await self._sessions.look(registering.suspensions)

    # audit

    async def walk(self, *, after_position: int, limit: int) -> AuditPage:
        """See `Ledger.walk`."""
        return await self._sessions.read(lambda tx: auditing.walk(tx, after_position=after_position, limit=limit))

    async def listed(self, what: Listing, *, after: UUID | None, limit: int) -> list[Listed]:
        """See `Ledger.listed`."""
        return await self._sessions.read(lambda tx: auditing.listed(tx, what, after=after, limit=limit))

    async def feeds_with_gaps(self) -> list[EnterpriseNumber]:
        """See `Ledger.feeds_with_gaps`."""
        return await self._sessions.read(auditing.feeds_with_gaps)

    # care

    async def heartbeat(self, at: datetime) -> None:
        """See `Ledger.heartbeat`."""
        await self._sessions.write(lambda tx: watching.heartbeat(tx, at))


async def migrate(owner_uri: str, *, serve_as: str | None = None) -> list[str]:
    """
    Bring the database up to date as its owner; return the names of the steps that were missing.

    `serve_as`: the URI as which gateways will open it; its role gets the rights it needs.

    Raises:
        StoreUnavailable: it cannot be reached, is no ledger, or its schema is newer than this program.
    """
    address = _address(owner_uri)
    role = None if serve_as is None else _address(serve_as).role
    arguments = await connecting(address)
    await asyncio.to_thread(migrations)  # reads files
    unhurried = {"statement_timeout": "0", "transaction_timeout": "0"}
    arguments["server_settings"] = arguments["server_settings"] | unhurried
    try:
        connection = await asyncpg.connect(**arguments)
        try:
            return await migrate_with(connection, serve_as=role)
        finally:
            await connection.close()
    except FAILURES as error:
        raise unreachable(address, error) from error


def _address(uri: str) -> ServerAddress:
    try:
        return parse_address(uri)
    except ValueError as error:
        raise StoreUnavailable(f"the URI of the ledger {error}") from None


async def _size_of_keys(tx: Transaction) -> int:
    size: int = await tx.connection.fetchval(_KEYS_SIZE)
    return size
