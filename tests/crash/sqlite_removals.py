"""The safeguards inside the SQLite ledger, taken away where they stand."""

from typing import Any
from uuid import UUID

import apsw

from gateway.stores.model import Claim, NewMessage, Settlement
from gateway.stores.sqlite import accepting, claiming, erasing, opening, settling
from gateway.stores.sqlite.ledger import SqliteLedger
from tests.crash import removals
from tests.crash.points import stand_in
from tests.crash.removals import without_text


def no_tombstone_check() -> None:
    """Take a blob for a message although it is forbidden."""
    for module in (accepting, claiming):
        stand_in(module, "refuse_tombstones", lambda _connection, _blob_ids: None)


def age_as_the_guard() -> None:
    """Remove old blobs without a tombstone."""

    async def is_needed(ledger: SqliteLedger, blob_id: UUID) -> bool:
        return bool(await ledger._readers.run(lambda c: c.execute(erasing._IS_NEEDED, (blob_id.bytes,)).get))

    removals.age_as_the_guard(is_needed)


def reference_apart() -> None:
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


def answer_before_the_commit() -> None:
    """Let `record` return at once, and happen later."""
    removals.answer_before_the_commit(SqliteLedger)


def no_sync() -> None:
    """Commit without a sync."""
    connect = opening.connect_writer

    def without_sync(*args: Any, **named: Any) -> apsw.Connection:
        connection = connect(*args, **named)
        connection.pragma("synchronous", "OFF")
        return connection

    stand_in(opening, "connect_writer", without_sync)


def no_fence() -> None:
    """Take any token for the present one."""
    for module in (settling, claiming):
        without_text(module, "_HELD", "lease_token = ?", "(lease_token = ? OR TRUE)")


def no_revision_when_settling() -> None:
    """Settle whatever the message has become."""
    without_text(settling, "_MESSAGE", "revision = ?", "(revision = ? OR TRUE)")


def no_revision_when_erasing() -> None:
    """Destroy keys whatever the message has become."""
    without_text(erasing, "_MARK_MESSAGE", "revision = ?", "(revision = ? OR TRUE)")


def attempt_noted_after_the_call() -> None:
    """Begin no attempt before the call."""
    removals.attempt_noted_after_the_call(SqliteLedger)


def send_instead_of_reconciling() -> None:
    """Let an attempt that died be made anew."""
    without_text(claiming, "_BEGIN", "next_action = 'reconcile'", "next_action = 'send'")


def settle_in_two_transactions() -> None:
    """Change the delivery first, and message, next delivery and log then."""

    async def settle(ledger: SqliteLedger, claim: Claim, settlement: Settlement) -> None:
        delivery_id = claim.delivery.delivery_id
        await ledger._writer.run(lambda c: settling._change_delivery(c, delivery_id, settlement.change))

        def rest(connection: apsw.Connection) -> None:
            present, message_id = settlement.change.status, claim.delivery.message_id.bytes
            settling._carry_out(connection, delivery_id, message_id, present, settlement)

        await ledger._writer.run(rest)

    stand_in(SqliteLedger, "settle", settle)


def erased_may_come_back() -> None:
    """Let later news give an erased copy a new state and a new end."""
    for column in ("copy_state", "copy_until"):
        without_text(
            settling,
            "_CHANGE_MESSAGE",
            f"CASE WHEN copy_state = 'erased' THEN {column}",
            f"CASE WHEN FALSE THEN {column}",
        )
