"""
The walk: what is there is listed, every message is held against it, and what is left belongs to nobody.

    inventory   all blobs, openable keys and tombstones go into a list on disk; enclosures come with their messages
    messages    in pages, in order of commit; each takes its blobs and keys out of the list
    leftovers   blobs and keys that no message took; rows, enclosures too, whose owner is gone; feeds

Memory stays the same however many messages there are. The stores are ours alone meanwhile.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from cryptography import x509

from gateway.crypto.sealing import SealBroken, sealed_size, unseal
from gateway.crypto.vault import Dek, DekRow, Vault
from gateway.dispatch.sweeper import SweepSettings
from gateway.domain.calendar import day_of
from gateway.domain.ids import EnterpriseNumber, sender_uuid
from gateway.errors import BlobMissing, KeyringRefused
from gateway.integrity.copies import copy_findings, is_needed
from gateway.integrity.deliveries import delivery_findings
from gateway.integrity.findings import Code, Finding, Report
from gateway.integrity.inventory import Inventory
from gateway.integrity.proofs import receipt_findings, signed_message_findings
from gateway.integrity.trail import trail_findings
from gateway.stores.blobs import BlobInfo, BlobStore
from gateway.stores.documents import Documents
from gateway.stores.ledger import Ledger
from gateway.stores.model import AuditedMessage, DocumentRecord, Listed, Listing, MessageRecord

_PAGE: Final = 200  # a signed message has at most 256 KiB, so a page at most 50 MiB, and usually one
_LISTED: Final = 5_000
_SWEEP: Final = SweepSettings()
# The sweeper looks for orphans once an hour, so this long one may be there.
_ORPHAN_AGE: Final = _SWEEP.orphan_age + timedelta(hours=1)
_A_DAY: Final = timedelta(days=1)

LEFTOVERS: Final[Mapping[Listing, tuple[Code, str]]] = {
    Listing.STRAY_REFERENCES: (Code.REFERENCE_STRAY, ""),
    Listing.STRAY_DOCUMENTS: (Code.ROW_STRAY, "document"),
    Listing.STRAY_ENCLOSURES: (Code.ENCLOSURE_STRAY, ""),
    Listing.STRAY_DELIVERIES: (Code.ROW_STRAY, "delivery"),
    Listing.STRAY_ATTEMPTS: (Code.ROW_STRAY, "attempts of a delivery"),
    Listing.STRAY_RETRIEVALS: (Code.RETRIEVAL_STRAY, "no such delivery"),
    Listing.MISQUEUED: (Code.QUEUE_DISAGREES, ""),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """
    What is to be verified, and against what.

    `vault` None: the keyring is not there, and nothing sealed is opened. `certificates` are those that the gateway
    signs and signed with; empty: receipts are not verified. `deep`: unseal every document and compare its digest.
    `progress` is told the counts now and then.
    """

    ledger: Ledger
    blobs: BlobStore
    vault: Vault | None
    certificates: Sequence[x509.Certificate]
    clock: Callable[[], datetime]
    deep: bool
    progress: Callable[[Mapping[str, int]], None]

    @property
    def documents(self) -> Documents:
        """Where documents are read from."""
        return Documents(ledger=self.ledger, blobs=self.blobs)


async def verify(what: Verification, report: Report) -> None:
    """
    Walk everything and note in `report` what is wrong.

    Raises:
        StoreUnavailable: a store cannot be read; what was noted until then holds.
    """
    inventory = Inventory()
    try:
        await _take_inventory(what, inventory, report)
        await _walk(what, inventory, report)
        await _look_at_leftovers(what, inventory, report)
    finally:
        await inventory.close()


# ── Inventory ──


async def _take_inventory(what: Verification, inventory: Inventory, report: Report) -> None:
    batch: list[BlobInfo] = []
    async for info in what.blobs.list():
        batch.append(info)
        if len(batch) == _LISTED:
            await inventory.add_blobs(batch)
            report.counts["blobs"] += len(batch)
            batch.clear()
            what.progress(report.counts)
    await inventory.add_blobs(batch)
    report.counts["blobs"] += len(batch)
    await inventory.sort_blobs()
    async for page in _pages(what, Listing.KEYS):
        await inventory.add_keys([each.id for each in page])
        report.counts["keys"] += len(page)
        what.progress(report.counts)
    async for page in _pages(what, Listing.TOMBSTONES):
        await inventory.add_tombstones([each.id for each in page])


async def _pages(what: Verification, listing: Listing) -> AsyncIterator[list[Listed]]:
    after: UUID | None = None
    while page := await what.ledger.listed(listing, after=after, limit=_LISTED):
        yield page
        after = page[-1].row


# ── Messages ──


async def _walk(what: Verification, inventory: Inventory, report: Report) -> None:
    quotas = _Quotas(what.ledger, report)
    position: int | None = 0
    while position is not None:
        page = await what.ledger.walk(after_position=position, limit=_PAGE)
        for broken in page.unreadable:
            report.add([Finding(code=Code.ROW_UNREADABLE, id=broken.message_id)])
            await inventory.take_blobs(broken.documents)
            await inventory.take_keys(broken.keys)
        records = [audited.message for audited in page.messages]
        blob_ids = [each.document_id for record in records for each in record.documents if not each.enclosed]
        sizes = await inventory.take_blobs(blob_ids)
        sizes |= await _missed_by_the_listing(what, records, sizes)
        await inventory.take_keys([record.meta_dek_id for record in records])
        await inventory.take_keys([each.dek_id for record in records for each in record.documents])
        metas = [await _opened(what, audited, audited.message.meta_dek_id, report) for audited in page.messages]
        now = what.clock()
        found = await asyncio.to_thread(_judged, page.messages, metas, sizes, what.certificates, now)
        report.add(found)
        for audited in page.messages:
            if what.deep and what.vault is not None:
                await _unseal_all(what, audited, sizes, report)
            await quotas.count(audited.message)
        report.counts["messages"] += len(records) + len(page.unreadable)
        report.counts["documents"] += sum(len(record.documents) for record in records)
        report.counts["enclosures"] += sum(len(audited.enclosures) for audited in page.messages)
        report.counts["being removed"] += sum(_being_removed(audited, sizes) for audited in page.messages)
        report.counts["deliveries"] += sum(len(record.deliveries) for record in records)
        what.progress(report.counts)
        position = page.next_position
    await quotas.finish()


async def _missed_by_the_listing(
    what: Verification, records: Sequence[MessageRecord], sizes: Mapping[UUID, int]
) -> dict[UUID, int]:
    """
    Return the size in bytes of needed blobs that are there although the listing lacks them.

    Whoever opens the blob gets the last word on whether it is there; a disk that is not mounted says so here.
    """
    found: dict[UUID, int] = {}
    for record in records:
        for document in record.documents:
            if not document.enclosed and is_needed(document, record) and document.document_id not in sizes:
                with suppress(BlobMissing):
                    found[document.document_id] = await _size(what.blobs, document.document_id)
    return found


async def _size(blobs: BlobStore, blob_id: UUID) -> int:
    return sum([len(piece) async for piece in blobs.open(blob_id)])


def _judged(
    messages: Sequence[AuditedMessage],
    metas: Sequence[Dek | None],
    sizes: Mapping[UUID, int],
    certificates: Sequence[x509.Certificate],
    now: datetime,
) -> list[Finding]:
    """Return what is wrong with each of these messages, as far as facts at hand tell. Blocks for milliseconds each."""

    def each(audited: AuditedMessage, meta: Dek | None) -> Iterator[Finding]:
        yield from delivery_findings(audited, now)
        yield from copy_findings(audited, sizes, now)
        yield from trail_findings(audited)
        if certificates:
            yield from receipt_findings(audited.message, certificates)
        if meta is not None:
            yield from signed_message_findings(audited.message, audited.batch, meta)

    return [finding for audited, meta in zip(messages, metas, strict=True) for finding in each(audited, meta)]


def _being_removed(audited: AuditedMessage, sizes: Mapping[UUID, int]) -> int:
    """Return how many documents of a message have lost their key, and have their blob for a moment more."""
    return sum(
        document.key_destroyed_at is not None
        and document.document_id in sizes
        and document.document_id not in audited.blobs_erased
        for document in audited.message.documents
    )


async def _opened(what: Verification, audited: AuditedMessage, dek_id: UUID, report: Report) -> Dek | None:
    """Return an opened key of a message; None, and a finding, when it does not open; None when it is not there."""
    row: DekRow | None = audited.keys.get(dek_id)
    if row is None or what.vault is None:
        return None
    try:
        return await what.vault.open_dek(row, sender_uuid(audited.message.sender))
    except (KeyringRefused, SealBroken) as error:
        message_id = str(audited.message.message_id)
        report.add([Finding(code=Code.KEY_BROKEN, id=message_id, detail=f"key {dek_id}, {type(error).__name__}")])
        return None


async def _unseal_all(what: Verification, audited: AuditedMessage, sizes: Mapping[UUID, int], report: Report) -> None:
    for document in audited.message.documents:
        size_bytes = (audited.enclosures if document.enclosed else sizes).get(document.document_id)
        # One that is missing, or of the wrong size, is told already.
        if not is_needed(document, audited.message) or size_bytes != sealed_size(document.size_bytes):
            continue
        dek = await _opened(what, audited, document.dek_id, report)
        if dek is not None:
            report.add(await _content_findings(what.documents, document, dek))
            report.counts["unsealed"] += 1


async def _content_findings(documents: Documents, document: DocumentRecord, dek: Dek) -> list[Finding]:
    document_id, digest, size_bytes = str(document.document_id), hashlib.sha256(), 0
    try:
        async for piece in unseal(
            documents.open(document),
            dek.key,
            expect_blob_id=document.document_id,
            expect_dek_id=document.dek_id,
            expect_sender_id=dek.sender_id,
        ):
            digest.update(piece)
            size_bytes += len(piece)
    except SealBroken:
        return [Finding(code=Code.ENCLOSURE_BROKEN if document.enclosed else Code.BLOB_BROKEN, id=document_id)]
    except BlobMissing:
        return [Finding(code=Code.ENCLOSURE_MISSING if document.enclosed else Code.BLOB_MISSING, id=document_id)]
    if (digest.digest(), size_bytes) != (document.sha256, document.size_bytes):
        return [Finding(code=Code.ENCLOSURE_DIFFERS if document.enclosed else Code.BLOB_DIFFERS, id=document_id)]
    return []


class _Quotas:
    """Counts acceptances by day, and holds a day against the ledger's own count once the walk has left it behind."""

    def __init__(self, ledger: Ledger, report: Report) -> None:
        self._ledger = ledger
        self._report = report
        self._accepted: Counter[tuple[date, EnterpriseNumber, str]] = Counter()
        self._newest = date.min

    async def count(self, message: MessageRecord) -> None:
        """Count a message; those of one day follow each other, but for moments around midnight."""
        day = day_of(message.accepted_at)
        if day > self._newest:
            self._newest = day
            await self._compare(day - _A_DAY)
        self._accepted[day, message.sender, message.profile] += 1

    async def finish(self) -> None:
        """Compare what is left."""
        await self._compare(date.max)

    async def _compare(self, before: date) -> None:
        for key in [key for key in self._accepted if key[0] < before]:
            day, sender, profile = key
            accepted, use = self._accepted.pop(key), (await self._ledger.quota_use(sender, day)).get(profile)
            counted = use.messages if use is not None else 0
            if counted < accepted:
                finding = Finding(
                    code=Code.QUOTA_TOO_LOW,
                    id=f"{sender}/{profile}/{day}",
                    detail=f"accepted {accepted}, counted {counted}",
                )
                self._report.add([finding])


# ── Leftovers ──


async def _look_at_leftovers(what: Verification, inventory: Inventory, report: Report) -> None:
    for listing in (Listing.KEYS_OF_DOSSIERS, Listing.KEYS_OF_LOGS):
        async for page in _pages(what, listing):
            await inventory.take_keys([each.id for each in page])
    key_id: UUID | None = None
    while keys := await inventory.keys_left(after=key_id, limit=_LISTED):
        report.add(Finding(code=Code.KEY_STRAY, id=str(each)) for each in keys)
        key_id = keys[-1]
    await _look_at_blobs_left(inventory, report, oldest=what.clock() - _ORPHAN_AGE)
    for listing, (code, detail) in LEFTOVERS.items():
        async for page in _pages(what, listing):
            report.add(Finding(code=code, id=str(each.id), detail=detail) for each in page)
    report.add(Finding(code=Code.FEED_GAP, id=sender) for sender in await what.ledger.feeds_with_gaps())


async def _look_at_blobs_left(inventory: Inventory, report: Report, *, oldest: datetime) -> None:
    blob_id: UUID | None = None
    while left := await inventory.blobs_left(after=blob_id, limit=_LISTED):
        for each in left:
            if each.is_forbidden:
                report.counts["being removed"] += 1
            elif each.info.modified_at >= oldest:
                report.counts["arriving"] += 1
            else:
                detail = f"since {each.info.modified_at:%Y-%m-%d}"
                report.add([Finding(code=Code.BLOB_STRAY, id=str(each.info.blob_id), detail=detail)])
        blob_id = left[-1].info.blob_id
