"""The safeguards inside the PostgreSQL ledger, taken away where they stand."""

from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from gateway.stores.model import Claim, KnownReference, NewMessage, Settlement
from gateway.stores.postgres import accepting, claiming, erasing, opening, settling
from gateway.stores.postgres.ledger import PostgresLedger
from gateway.stores.postgres.sessions import Row, Transaction
from tests.crash import removals
from tests.crash.points import stand_in
from tests.crash.removals import without_text

_IS_NEEDED: Final = "SELECT EXISTS (SELECT 1 FROM document WHERE document_id = $1)"
_BURNT_ALREADY: Final = "SELECT $4::uuid FROM (SELECT $1::text, $2::text, $3::text, $5::bytea) AS known"
_MESSAGE: Final = "SELECT sender, status, revision FROM message WHERE message_id = $1 FOR NO KEY UPDATE"


def no_tombstone_check() -> None:
    """Take a blob for a message although it is forbidden; covers are held by the same statement."""
    without_text(accepting, "_HOLD", "SELECT count(*) FROM held", "SELECT cardinality($1::uuid[])")


def age_as_the_guard() -> None:
    """Remove old blobs without a tombstone."""

    async def is_needed(ledger: PostgresLedger, blob_id: UUID) -> bool:
        return bool(await ledger._sessions.look(lambda tx: tx.connection.fetchval(_IS_NEEDED, blob_id)))

    removals.age_as_the_guard(is_needed)


def reference_apart() -> None:
    """Burn the reference in a transaction of its own, before that of the message."""
    burn = accepting._BURN

    async def burn_reference(tx: Transaction, new: NewMessage) -> KnownReference | None:
        message = new.message
        key = (message.sender, message.profile, message.reference)
        if await tx.connection.fetchval(burn, *key, message.message_id, message.content_sha256) is None:
            return await accepting.find_reference(tx, *key)
        return None

    async def record(ledger: PostgresLedger, new: NewMessage) -> KnownReference | None:
        known = await ledger._sessions.write(lambda tx: burn_reference(tx, new))
        return known or await ledger._sessions.write(lambda tx: accepting.record(tx, new))

    stand_in(accepting, "_BURN", _BURNT_ALREADY)
    stand_in(PostgresLedger, "record", record)


def answer_before_the_commit() -> None:
    """Let `record` return at once, and happen later."""
    removals.answer_before_the_commit(PostgresLedger)


def no_sync() -> None:
    """
    Commit without waiting for the disk, and let no connection notice.

    Nothing is compacted either: that syncs, by the way, what was committed before.
    """

    async def compact(_ledger: PostgresLedger) -> None:
        """Do nothing."""

    stand_in(opening, "_SETTINGS", {**opening._SETTINGS, "synchronous_commit": "off"})
    without_text(opening, "_FACTS", "current_setting('synchronous_commit')", "'on'")
    stand_in(PostgresLedger, "compact", compact)


def no_fence() -> None:
    """Take any token for the present one."""
    for module, name in ((settling, "_HELD"), (claiming, "_HELD_TO_BEGIN"), (claiming, "_HELD_TO_ADD")):
        without_text(module, name, "queue.lease_token = $3", "(queue.lease_token = $3 OR TRUE)")


def no_revision_when_settling() -> None:
    """Settle whatever the message has become."""
    carry_out = settling._carry_out

    async def on_any_look(  # noqa: PLR0917 -- the arguments of what it stands in for
        tx: Transaction, message_id: Any, delivery_id: Any, present: Any, message: Row, settlement: Settlement
    ) -> None:
        sender, status, _ = message
        as_it_was = (sender, status, settlement.message_revision)
        await carry_out(tx, message_id, delivery_id, present, as_it_was, settlement)

    stand_in(settling, "_carry_out", on_any_look)


def no_revision_when_erasing() -> None:
    """Destroy keys whatever the message has become."""
    without_text(erasing, "_LOCK", "revision = $2", "(revision = $2 OR TRUE)")


def attempt_noted_after_the_call() -> None:
    """Begin no attempt before the call."""
    removals.attempt_noted_after_the_call(PostgresLedger)


def send_instead_of_reconciling() -> None:
    """Let an attempt that died be made anew."""
    without_text(claiming, "_BEGIN", "next_action = 'reconcile'", "next_action = 'send'")


class _HalfWay:
    """A connection on which a settlement changes the delivery, and not the message."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def execute(self, statement: str, *parameters: object) -> str:
        half = f"{statement} AND FALSE" if statement == settling._CHANGE else statement
        done: str = await self._connection.execute(half, *parameters)
        return done


def settle_in_two_transactions() -> None:
    """Change the delivery first, and message, next delivery and log then."""

    async def settle(ledger: PostgresLedger, claim: Claim, settlement: Settlement) -> None:
        message_id, delivery_id = claim.delivery.message_id, claim.delivery.delivery_id

        async def half(tx: Transaction) -> None:
            connection: Any = _HalfWay(tx.connection)
            of_delivery = replace(settlement, next_delivery=None, logs=())
            await settling.settle(Transaction(connection, tx.clock), claim, of_delivery)

        async def rest(tx: Transaction) -> None:
            message = await tx.connection.fetchrow(_MESSAGE, message_id)
            assert message is not None
            await settling._carry_out(tx, message_id, delivery_id, settlement.change.status, message, settlement)

        await ledger._sessions.write(half)
        await ledger._sessions.write(rest)

    stand_in(PostgresLedger, "settle", settle)


def erased_may_come_back() -> None:
    """Let later news give an erased copy a new state and a new end."""
    for column in ("copy_state", "copy_until"):
        without_text(
            settling, "_CHANGE", f"CASE WHEN copy_state = 'erased' THEN {column}", f"CASE WHEN FALSE THEN {column}"
        )
