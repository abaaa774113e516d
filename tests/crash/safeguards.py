"""
The gateway's safeguards, each with a way to take it away, and the fault under which its absence does harm.

A harness that finds nothing proves nothing until it is seen to find something. Most are taken away where they stand, in
the SQLite ledger; what they guard against is the same in every store.
"""

import asyncio
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

import apsw

import gateway.deliver
from gateway.adapters.ebox import EboxAdapter
from gateway.dispatch.sweeper import Sweeper
from gateway.domain.ids import DeliveryId
from gateway.domain.status import DeliveryStatus, NextAction
from gateway.house import fresh_id
from gateway.stores.files import FileBlobs
from gateway.stores.model import Claim, NewMessage, Settlement
from gateway.stores.sqlite import accepting, claiming, erasing, opening, settling
from gateway.stores.sqlite.ledger import SqliteLedger
from tests.crash.points import Plan, Point, Way, stand_in


@dataclass(frozen=True, slots=True, kw_only=True)
class Safeguard:
    """`without` does the damage in a gateway's process before it serves; `plan` None: the story itself suffices."""

    what: str
    without: Callable[[], None]
    plan: Plan | None = None
    rule: str  # of the proof that must be seen to be broken

    def take_away(self) -> None:
        self.without()


def _at(name: str, label: str, nth: int, way: Way) -> Plan:
    return Plan(Point(name, label, nth), way)


def _without_text(owner: Any, name: str, text: str, instead: str) -> None:
    """Change a statement; one that does not hold `text` any more is a mistake of this table."""
    statement = getattr(owner, name)
    if text not in statement:
        raise AssertionError(f"{owner.__name__}.{name} holds no {text!r}")
    stand_in(owner, name, statement.replace(text, instead))


# ── Accepting ──


def _no_tombstone_check() -> None:
    for module in (accepting, claiming):
        stand_in(module, "refuse_tombstones", lambda _connection, _blob_ids: None)


def _reference_apart() -> None:
    """Burn the reference in a transaction of its own, before that of the message."""
    whole = accepting.record

    async def record(ledger: SqliteLedger, new: NewMessage) -> Any:
        known = await ledger._writer.run(lambda c: accepting._burn_reference(c, new.message))
        return known or await ledger._writer.run(lambda c: rest(c, new, ledger))

    def rest(connection: apsw.Connection, new: NewMessage, ledger: SqliteLedger) -> Any:
        burn = accepting._burn_reference
        stand_in(accepting, "_burn_reference", lambda _connection, _message: None)
        try:
            return whole(connection, new, ledger._clock)
        finally:
            stand_in(accepting, "_burn_reference", burn)

    stand_in(SqliteLedger, "record", record)


def _answer_before_the_commit() -> None:
    whole = SqliteLedger.record
    running = set()

    async def record(ledger: SqliteLedger, new: NewMessage) -> None:
        async def later() -> None:
            await asyncio.sleep(2)
            await whole(ledger, new)

        running.add(asyncio.create_task(later()))

    stand_in(SqliteLedger, "record", record)


def _no_sync(is_wanted: Callable[[int], bool]) -> Callable[[], None]:
    def take_away() -> None:
        synced = os.fsync

        def fsync(fd: int) -> None:
            if "blobs" not in Path(f"/proc/self/fd/{fd}").readlink().parts or not is_wanted(os.fstat(fd).st_mode):
                synced(fd)

        stand_in(os, "fsync", fsync)

    return take_away


def _no_ledger_sync() -> None:
    connect = opening.connect_writer

    def without_sync(*args: Any, **named: Any) -> apsw.Connection:
        connection = connect(*args, **named)
        connection.pragma("synchronous", "OFF")
        return connection

    stand_in(opening, "connect_writer", without_sync)


# ── Delivering ──


def _no_fence() -> None:
    for module in (settling, claiming):
        _without_text(module, "_HELD", "lease_token = ?", "(lease_token = ? OR TRUE)")


def _no_revision_when_settling() -> None:
    _without_text(settling, "_MESSAGE", "revision = ?", "(revision = ? OR TRUE)")


def _no_revision_when_erasing() -> None:
    _without_text(erasing, "_MARK_MESSAGE", "revision = ?", "(revision = ? OR TRUE)")


def _send_instead_of_reconciling() -> None:
    _without_text(claiming, "_BEGIN", "next_action = 'reconcile'", "next_action = 'send'")


def _another_key_each_time() -> None:
    publish = EboxAdapter._publish

    async def under_a_new_key(adapter: EboxAdapter, parcel: Any, triple: Any) -> Any:
        return await publish(adapter, replace(parcel, delivery_id=DeliveryId(fresh_id())), triple)

    stand_in(EboxAdapter, "_publish", under_a_new_key)


def _attempt_noted_after_the_call() -> None:
    settle = SqliteLedger.settle

    async def begin_nothing(letter: Any, _destination: Any, deps: Any, **_named: Any) -> Any:
        delivery = replace(
            letter.delivery,
            status=DeliveryStatus.DISPATCHING,
            attempts=letter.delivery.attempts + 1,
            first_attempt_at=letter.delivery.first_attempt_at or deps.clock(),
        )
        return replace(letter, claim=replace(letter.claim, delivery=delivery))

    async def begin_and_settle(ledger: SqliteLedger, claim: Claim, settlement: Settlement) -> None:
        if claim.delivery.next_action in (NextAction.SEND, NextAction.RECONCILE):
            await ledger.begin_attempt(claim, longest=timedelta(seconds=5), settle=timedelta(seconds=1))
        await settle(ledger, claim, settlement)

    stand_in(gateway.deliver, "_begin", begin_nothing)
    stand_in(SqliteLedger, "settle", begin_and_settle)


def _settle_in_two_transactions() -> None:
    async def settle(ledger: SqliteLedger, claim: Claim, settlement: Settlement) -> None:
        delivery_id = claim.delivery.delivery_id
        await ledger._writer.run(lambda c: settling._change_delivery(c, delivery_id, settlement.change))

        def rest(connection: apsw.Connection) -> None:
            present, message_id = settlement.change.status, claim.delivery.message_id.bytes
            settling._carry_out(connection, delivery_id, message_id, present, settlement)

        await ledger._writer.run(rest)

    stand_in(SqliteLedger, "settle", settle)


# ── Erasing ──


def _blob_before_key() -> None:
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


def _erased_may_come_back() -> None:
    _without_text(
        settling,
        "_CHANGE_MESSAGE",
        "CASE WHEN copy_state = 'erased' THEN copy_state",
        "CASE WHEN FALSE THEN copy_state",
    )
    _without_text(
        settling,
        "_CHANGE_MESSAGE",
        "CASE WHEN copy_state = 'erased' THEN copy_until",
        "CASE WHEN FALSE THEN copy_until",
    )


def _age_as_the_guard() -> None:
    async def bury(sweeper: Sweeper, blob_ids: list[UUID]) -> int:
        proxied: Any = sweeper._deps.ledger
        needed = 0
        for blob_id in blob_ids:
            needed += await proxied._ledger._readers.run(
                lambda c, blob_id=blob_id: c.execute(erasing._IS_NEEDED, (blob_id.bytes,)).get
            )
            if not needed:
                await sweeper._deps.blobs.erase(blob_id)
        return len(blob_ids)

    stand_in(Sweeper, "_bury", bury)


def _no_sweep_of_temporary_files() -> None:
    async def sweep_temporary(_blobs: FileBlobs, _older_than: Any) -> int:
        return 0

    stand_in(FileBlobs, "sweep_temporary", sweep_temporary)


def _no_sweep_of_orphans() -> None:
    async def remove_orphans(_sweeper: Sweeper) -> int:
        return 0

    stand_in(Sweeper, "remove_orphans", remove_orphans)


_WAVERING_CALLED: Final = _at("call.publishMessage", "wavering:out", 1, Way.KILL_AFTER)

SAFEGUARDS: Final[Mapping[str, Safeguard]] = MappingProxyType(
    {
        "tombstone-check": Safeguard(
            rule="whoever comes second gives way", what="`record` refuses a swept blob", without=_no_tombstone_check
        ),
        "tombstone-first": Safeguard(
            rule="what was accepted can be read",
            what="a blob is forbidden before it is removed",
            without=_age_as_the_guard,
        ),
        "reference-with-message": Safeguard(
            rule="every sender gets a receipt",
            what="the reference is burnt in the message's transaction",
            without=_reference_apart,
            plan=_at("sqlite.sync", "record/box", 2, Way.CUT_BEFORE),
        ),
        "answer-after-commit": Safeguard(
            rule="each letter is one message",
            what="the 201 comes after the commit",
            without=_answer_before_the_commit,
            plan=_at("sqlite.sync", "record/box", 1, Way.CUT_BEFORE),
        ),
        "blob-sync": Safeguard(
            rule="what was accepted can be read",
            what="a blob is synced before it is recorded",
            without=_no_sync(stat.S_ISREG),
            plan=_at("ledger.record", "paper", 1, Way.CUT_AFTER),
        ),
        "directory-sync": Safeguard(
            rule="what was accepted can be read",
            what="a blob's name is synced before it is recorded",
            without=_no_sync(stat.S_ISDIR),
            plan=_at("ledger.record", "paper", 1, Way.CUT_AFTER),
        ),
        "ledger-sync": Safeguard(
            rule="each letter is one message",
            what="a commit is synced before anybody hears of it",
            without=_no_ledger_sync,
            plan=_at("ledger.settle", "box:out", 1, Way.CUT_AFTER),
        ),
        "fence": Safeguard(
            rule="whoever comes second gives way", what="a lease's token counts when it is used", without=_no_fence
        ),
        "revision-settle": Safeguard(
            rule="whoever comes second gives way",
            what="`settle` refuses what was decided on an old look at the message",
            without=_no_revision_when_settling,
        ),
        "revision-erase": Safeguard(
            rule="whoever comes second gives way",
            what="`destroy_keys` refuses what was decided on an old look",
            without=_no_revision_when_erasing,
        ),
        "attempt-before-call": Safeguard(
            rule="nothing twice",
            what="the attempt is written down before the call",
            without=_attempt_noted_after_the_call,
            plan=_WAVERING_CALLED,
        ),
        "reconcile": Safeguard(
            rule="nothing twice",
            what="after a dead attempt it is found out what happened, not sent anew",
            without=_send_instead_of_reconciling,
            plan=_WAVERING_CALLED,
        ),
        "stable-key": Safeguard(
            rule="nothing twice",
            what="the delivery id is the key of every call",
            without=_another_key_each_time,
            plan=_at("call.publishMessage", "box:out", 1, Way.KILL_AFTER),
        ),
        "settle-at-once": Safeguard(
            rule="every delivery has an owner",
            what="delivery, message and next delivery change in one transaction",
            without=_settle_in_two_transactions,
            plan=_at("sqlite.sync", "settle/fallback:out", 2, Way.CUT_BEFORE),
        ),
        "key-before-blob": Safeguard(
            rule="what was accepted can be read",
            what="a key is destroyed before its blob is removed",
            without=_blob_before_key,
            plan=_at("ledger.destroy_keys", "box", 1, Way.KILL_BEFORE),
        ),
        "erased-for-good": Safeguard(
            rule="the log tells each once", what="what is erased stays erased", without=_erased_may_come_back
        ),
        "orphan-sweep": Safeguard(
            rule="no orphan blob and no temporary file",
            what="blobs that belong to no message are removed",
            without=_no_sweep_of_orphans,
            plan=_at("ledger.record", "paper", 1, Way.KILL_BEFORE),
        ),
        "temporary-sweep": Safeguard(
            rule="no orphan blob and no temporary file",
            what="temporary files of a crash are removed",
            without=_no_sweep_of_temporary_files,
            plan=_at("file.sync", "paper:in", 1, Way.KILL_BEFORE),
        ),
    }
)
