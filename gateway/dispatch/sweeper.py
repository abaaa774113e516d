"""
The sweeper: erases documents at their time, and removes what crashes left.

Erasing destroys the data key first, in the ledger, and then the blob; a crash between the two leaves a blob that nobody
can read and that the next round removes. An orphan blob is removed only under a tombstone, which makes a late commit of
it fail; its age is a hint, never the guard.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from gateway.errors import StoreUnavailable
from gateway.records.logs import LogBook, Subject
from gateway.stores.blobs import BlobStore
from gateway.stores.ledger import Ledger
from gateway.stores.model import Log, MessageRecord

_log: Final = logging.getLogger(__name__)
_BATCH: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSettings:
    """`every_s` between rounds; blobs younger than `orphan_age` are not looked at, since they may be arriving."""

    every_s: float = 60.0
    orphan_age: timedelta = timedelta(hours=24)
    hourly: timedelta = timedelta(minutes=50)  # with a round of its own and a busy store, within the hour


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepDeps:
    """What the sweeper needs."""

    ledger: Ledger
    blobs: BlobStore
    logbook: LogBook
    clock: Callable[[], datetime]
    on_erased: Callable[[int], None]  # is told how many messages lost their documents in a round


class Sweeper:
    """Runs the rounds."""

    def __init__(self, settings: SweepSettings, deps: SweepDeps) -> None:
        self._settings = settings
        self._deps = deps
        self._wanted = asyncio.Event()
        self._stopping = False
        self._hourly_due_at: datetime | None = None

    def wake(self) -> None:
        """Start a round soon."""
        self._wanted.set()

    def stop(self) -> None:
        """Make `run` return after the round at hand."""
        self._stopping = True
        self._wanted.set()

    async def run(self) -> None:
        """Sweep until `stop` is called."""
        while not self._stopping:
            try:
                await self.erase_due()
                await self._hourly_work()
            except StoreUnavailable as error:
                _log.warning("sweep broken off", extra={"error": str(error)})
            await self._pause()

    async def erase_due(self) -> int:
        """Erase every document whose time has come; return how many messages lost theirs."""
        deps, erased = self._deps, 0
        while due := await deps.ledger.due_erasures(deps.clock(), _BATCH):
            progressed = 0
            for message in due:
                progressed += await self._destroy_keys(message)
            erased += progressed
            if progressed == 0:
                break  # each of them changed meanwhile; the next round reads them anew
        while document_ids := await deps.ledger.blobs_to_erase(_BATCH):
            for document_id in document_ids:
                await deps.blobs.erase(document_id)
                await deps.ledger.blob_erased(document_id, deps.clock())
        if erased:
            deps.on_erased(erased)
        return erased

    async def remove_orphans(self) -> int:
        """Remove blobs that belong to no message; return how many."""
        deps = self._deps
        oldest = deps.clock() - self._settings.orphan_age
        removed, batch = 0, list[UUID]()
        async for blob in deps.blobs.list():
            if blob.modified_at < oldest:
                batch.append(blob.blob_id)
            if len(batch) == _BATCH:
                removed += await self._bury(batch)
                batch.clear()
        if batch:
            removed += await self._bury(batch)
        if removed:
            _log.info("orphan blobs removed", extra={"count": removed})
        return removed

    async def _bury(self, blob_ids: list[UUID]) -> int:
        forbidden = await self._deps.ledger.tombstone(blob_ids, self._deps.clock())
        for blob_id in forbidden:
            await self._deps.blobs.erase(blob_id)
        return len(forbidden)

    async def _destroy_keys(self, message: MessageRecord) -> bool:
        now = self._deps.clock()
        entry = self._deps.logbook.entry(
            Log.TRAFFIC,
            "erased",
            who={"gateway": self._deps.logbook.gateway},
            what={
                "message": str(message.message_id),
                "documents": len(message.documents),
                "messageStatus": message.status,
            },
            result="erased",
            subject=Subject(sender=message.sender, profile=message.profile, message_id=message.message_id),
            at=now,
        )
        return await self._deps.ledger.destroy_keys(message, now, [entry])

    async def _hourly_work(self) -> None:
        now = self._deps.clock()
        if self._hourly_due_at is not None and now < self._hourly_due_at:
            return
        await self._deps.blobs.sweep_temporary(now - self._settings.orphan_age)
        await self.remove_orphans()
        await self._deps.ledger.compact()
        self._hourly_due_at = now + self._settings.hourly

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.every_s):
                await self._wanted.wait()
        self._wanted.clear()
