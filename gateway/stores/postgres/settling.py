"""The end of a piece of work on a delivery, or a person's decision about it: all of it, or nothing."""

from typing import Final

from gateway.domain.ids import DeliveryId, EnterpriseNumber, MessageId
from gateway.domain.status import DeliveryStatus, MessageStatus, advance_delivery, advance_message
from gateway.errors import LeaseLost
from gateway.stores.model import Claim, Settlement
from gateway.stores.postgres.logs import append
from gateway.stores.postgres.rows import floor_ms, floor_ms_or_null, insert_deliveries
from gateway.stores.postgres.sessions import Row, Transaction

# Every change of a message locks first the message, then the queue, then the delivery. With the message locked before
# anything is written, its log entries get positions in the order in which they are numbered.
_LOCK: Final = """
WITH owner AS MATERIALIZED (
  SELECT sender, status, revision FROM message WHERE message_id = $1 FOR NO KEY UPDATE
)
SELECT queue.status, owner.sender, owner.status, owner.revision FROM owner CROSS JOIN queue
WHERE queue.delivery_id = $2 AND {}
FOR UPDATE OF queue
"""
_HELD: Final = _LOCK.format("queue.lease_token = $3 AND queue.lease_until IS NOT NULL")
_UNDECIDED: Final = _LOCK.format("queue.next_action = 'decide'")
_TO_DECIDE: Final = "SELECT message_id FROM queue WHERE delivery_id = $1 AND next_action = 'decide'"

# No provider was called for a message in these states: `begin_attempt` moves it on in the transaction that writes down
# that one is about to be.
_TO_CANCEL: Final = """
SELECT sender, status, revision FROM message
WHERE message_id = $1 AND status IN ('accepted', 'scheduled') FOR NO KEY UPDATE
"""
_WAITING: Final = """
WITH waiting AS MATERIALIZED (SELECT delivery_id FROM delivery WHERE message_id = $1 AND status = 'waiting'),
queued AS MATERIALIZED (
  SELECT queue.delivery_id FROM queue JOIN waiting ON waiting.delivery_id = queue.delivery_id FOR UPDATE OF queue
)
SELECT delivery_id, (SELECT count(*) FROM queued) FROM waiting
"""
# The queue's row goes when nothing is to be done any more, and comes when something is again. Whoever held a lease
# holds it no longer, and the next lease has another token.
# What is erased stays erased: no later news of a delivery brings a destroyed key back.
_CHANGE: Final = """
WITH changed AS (
  UPDATE delivery SET
    status_at = CASE WHEN status = $3 THEN status_at ELSE $4 END, status = $3,
    next_action = $5, due_at = $6, deadline_at = $7,
    reason = coalesce($8, reason), code = coalesce($9, code),
    provider_reference = coalesce($10, provider_reference), barcode = coalesce($11, barcode),
    first_attempt_at = coalesce($12, first_attempt_at), handed_over_at = coalesce($13, handed_over_at),
    posted_at = coalesce($14, posted_at), read_seen_at = coalesce($15, read_seen_at)
  WHERE message_id = $1 AND delivery_id = $2
  RETURNING channel, provider, lane, status, next_action, due_at, deadline_at, attempts
),
ended AS (
  DELETE FROM queue USING changed WHERE queue.delivery_id = $2 AND changed.next_action = 'none'
),
queued AS (
  INSERT INTO queue (
    delivery_id, message_id, sender, channel, provider, lane, status, next_action, due_at, deadline_at
  )
  SELECT $2, $1, $16, channel, provider, lane, status, next_action, due_at, deadline_at
  FROM changed WHERE next_action <> 'none'
  ON CONFLICT (delivery_id) DO UPDATE SET
    status = excluded.status, next_action = excluded.next_action, due_at = excluded.due_at,
    deadline_at = excluded.deadline_at, lease_until = NULL, worker = NULL
),
attempted AS (
  UPDATE attempt SET ended_at = $4, outcome = $17, code = $9
  FROM changed
  WHERE attempt.message_id = $1 AND attempt.delivery_id = $2 AND attempt.number = changed.attempts
    AND attempt.ended_at IS NULL AND $17::text IS NOT NULL
)
UPDATE message SET
  status = $18, revision = revision + 1,
  copy_until = CASE WHEN copy_state = 'erased' THEN copy_until ELSE $20 END,
  copy_state = CASE WHEN copy_state = 'erased' THEN copy_state ELSE $19 END
WHERE message_id = $1
"""


async def settle(tx: Transaction, claim: Claim, settlement: Settlement) -> None:
    """See `Ledger.settle`."""
    message_id, delivery_id = claim.delivery.message_id, claim.delivery.delivery_id
    row = await tx.connection.fetchrow(_HELD, message_id, delivery_id, claim.lease_token)
    if row is None:
        raise LeaseLost
    await _carry_out(tx, message_id, delivery_id, DeliveryStatus(row[0]), row[1:], settlement)


async def decide(tx: Transaction, delivery_id: DeliveryId, settlement: Settlement) -> bool:
    """See `Ledger.decide`."""
    message_id = await tx.connection.fetchval(_TO_DECIDE, delivery_id)
    if message_id is None:
        return False
    row = await tx.connection.fetchrow(_UNDECIDED, message_id, delivery_id)
    if row is None:
        return False
    await _carry_out(tx, MessageId(message_id), delivery_id, DeliveryStatus(row[0]), row[1:], settlement)
    return True


async def cancel(tx: Transaction, message_id: MessageId, settlement: Settlement) -> bool:
    """See `Ledger.cancel`."""
    message = await tx.connection.fetchrow(_TO_CANCEL, message_id)
    if message is None:
        return False
    waiting = await tx.connection.fetchrow(_WAITING, message_id)
    if waiting is None:
        return False
    await _carry_out(tx, message_id, DeliveryId(waiting[0]), DeliveryStatus.WAITING, message, settlement)
    return True


async def _carry_out(  # noqa: PLR0917 -- one caller's row beside another's: names would only repeat the types
    tx: Transaction,
    message_id: MessageId,
    delivery_id: DeliveryId,
    present: DeliveryStatus,
    message: Row,
    settlement: Settlement,
) -> None:
    """Write a settlement; `message` is its sender, status and revision, and is locked, as is the queue's row."""
    sender, status, revision = message
    if revision != settlement.message_revision:
        raise LeaseLost
    change = settlement.change
    advance_delivery(present, change.status)
    advance_message(MessageStatus(status), settlement.message_status)
    await tx.connection.execute(
        _CHANGE,
        message_id,
        delivery_id,
        change.status,
        floor_ms(change.at),
        change.next_action,
        floor_ms_or_null(change.due_at),
        floor_ms_or_null(change.deadline_at),
        change.reason,
        change.code,
        change.provider_reference,
        change.barcode,
        floor_ms_or_null(change.first_attempt_at),
        floor_ms_or_null(change.handed_over_at),
        floor_ms_or_null(change.posted_at),
        floor_ms_or_null(change.read_seen_at),
        sender,
        change.attempt_outcome,
        settlement.message_status,
        settlement.keep.state,
        floor_ms_or_null(settlement.keep.until),
    )
    if settlement.next_delivery is not None:
        await insert_deliveries(tx, EnterpriseNumber(sender), [settlement.next_delivery])
    await append(tx, settlement.logs)
