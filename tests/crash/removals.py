"""
Safeguards taken away where they do not depend on the ledger; what those inside a ledger have in common.

Each function does its damage in the gateway's process, before it serves.
"""

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from gateway.adapters.ebox import EboxAdapter
from gateway.deliver import attempt
from gateway.dispatch.sweeper import Sweeper
from gateway.domain.ids import DeliveryId
from gateway.domain.status import DeliveryStatus, NextAction
from gateway.house import fresh_id
from gateway.stores.files import FileBlobs
from gateway.stores.model import Claim, NewMessage, Settlement
from tests.crash.points import stand_in


def without_text(owner: Any, name: str, text: str, instead: str) -> None:
    """Change a statement; one that does not hold `text` any more is a mistake of whoever takes it away."""
    statement = getattr(owner, name)
    if text not in statement:
        raise AssertionError(f"{owner.__name__}.{name} holds no {text!r}")
    stand_in(owner, name, statement.replace(text, instead))


# ── The same in every ledger ──


def answer_before_the_commit(ledger_class: Any) -> None:
    """Let `record` return at once, and happen later."""
    whole = ledger_class.record
    running = set()

    async def record(ledger: Any, new: NewMessage) -> None:
        async def later() -> None:
            await asyncio.sleep(2)
            await whole(ledger, new)

        running.add(asyncio.create_task(later()))

    stand_in(ledger_class, "record", record)


def attempt_noted_after_the_call(ledger_class: Any) -> None:
    """Begin no attempt before the call, and both begin and settle it afterwards."""
    settle = ledger_class.settle

    async def begin_nothing(letter: Any, _destination: Any, deps: Any, **_named: Any) -> Any:
        delivery = replace(
            letter.delivery,
            status=DeliveryStatus.DISPATCHING,
            attempts=letter.delivery.attempts + 1,
            first_attempt_at=letter.delivery.first_attempt_at or deps.clock(),
        )
        return replace(letter, claim=replace(letter.claim, delivery=delivery))

    async def begin_and_settle(ledger: Any, claim: Claim, settlement: Settlement) -> None:
        if claim.delivery.next_action in (NextAction.SEND, NextAction.RECONCILE):
            await ledger.begin_attempt(claim, longest=timedelta(seconds=5), settle=timedelta(seconds=1))
        await settle(ledger, claim, settlement)

    stand_in(attempt, "begin", begin_nothing)
    stand_in(ledger_class, "settle", begin_and_settle)


def age_as_the_guard(is_needed: Callable[[Any, UUID], Awaitable[bool]]) -> None:
    """Remove blobs that are old and that no message needs at this moment, without a tombstone."""

    async def bury(sweeper: Sweeper, blob_ids: list[UUID]) -> int:
        proxied: Any = sweeper._deps.ledger
        for blob_id in blob_ids:
            if not await is_needed(proxied._ledger, blob_id):
                await sweeper._deps.blobs.erase(blob_id)
        return len(blob_ids)

    stand_in(Sweeper, "_bury", bury)


# ── Outside the ledger ──


def no_sync_of_blobs() -> None:
    """Sync no file of the blob store."""
    _no_sync(stat.S_ISREG)


def no_sync_of_directories() -> None:
    """Sync no directory of the blob store."""
    _no_sync(stat.S_ISDIR)


def _no_sync(is_wanted: Callable[[int], bool]) -> None:
    synced = os.fsync

    def fsync(fd: int) -> None:
        if "blobs" not in Path(f"/proc/self/fd/{fd}").readlink().parts or not is_wanted(os.fstat(fd).st_mode):
            synced(fd)

    stand_in(os, "fsync", fsync)


def another_key_each_time() -> None:
    """Give each call to the e-Box a key of its own."""
    publish = EboxAdapter._publish

    async def under_a_new_key(adapter: EboxAdapter, parcel: Any, triple: Any) -> Any:
        return await publish(adapter, replace(parcel, delivery_id=DeliveryId(fresh_id())), triple)

    stand_in(EboxAdapter, "_publish", under_a_new_key)


def blob_before_key() -> None:
    """Remove the blobs of a letter first, and destroy its keys then."""

    async def erase_due(sweeper: Sweeper) -> int:
        deps, erased = sweeper._deps, 0
        for message in await deps.ledger.due_erasures(deps.clock(), 200):
            for document in message.documents:
                await deps.blobs.erase(document.document_id)
            erased += await sweeper._destroy_keys(message)
        for document_id in await deps.ledger.blobs_to_erase(200):
            await deps.ledger.blob_erased(document_id, deps.clock())
        return erased

    stand_in(Sweeper, "erase_due", erase_due)


def no_sweep_of_temporary_files() -> None:
    """Leave temporary files where they are."""

    async def sweep_temporary(_blobs: FileBlobs, _older_than: Any) -> int:
        return 0

    stand_in(FileBlobs, "sweep_temporary", sweep_temporary)


def no_sweep_of_orphans() -> None:
    """Leave blobs without a message where they are."""

    async def remove_orphans(_sweeper: Sweeper) -> int:
        return 0

    stand_in(Sweeper, "remove_orphans", remove_orphans)
