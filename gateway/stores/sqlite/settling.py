"""The end of a piece of work on a delivery, or a person's decision about it: all of it, or nothing."""

from typing import Final
from uuid import UUID

import apsw

from gateway.domain.ids import DeliveryId, MessageId
from gateway.domain.status import DeliveryStatus, MessageStatus, advance_delivery, advance_message
from gateway.errors import LeaseLost
from gateway.stores.model import Claim, DeliveryChange, Settlement
from gateway.stores.sqlite.logs import append
from gateway.stores.sqlite.rows import insert_delivery, to_ms, to_ms_or_null

_HELD: Final = """
SELECT message_id, status FROM delivery WHERE delivery_id = ? AND lease_token = ? AND lease_until IS NOT NULL
"""
_TO_DECIDE: Final = "SELECT message_id, status FROM delivery WHERE delivery_id = ? AND next_action = 'decide'"
# No provider was called for a message in these states: `begin_attempt` moves it on in the transaction that writes down
# that one is about to be.
_TO_CANCEL: Final = """
SELECT delivery.delivery_id FROM delivery JOIN message ON message.message_id = delivery.message_id
WHERE delivery.message_id = ? AND delivery.status = 'waiting' AND message.status IN ('accepted', 'scheduled')
"""
_FENCE: Final = "UPDATE delivery SET lease_token = lease_token + 1 WHERE delivery_id = ?"
_MESSAGE: Final = "SELECT status FROM message WHERE message_id = ? AND revision = ?"
_CHANGE_DELIVERY: Final = """
UPDATE delivery SET
  status_at = CASE WHEN status = :status THEN status_at ELSE :at END, status = :status,
  next_action = :next_action, due_at = :due_at, deadline_at = :deadline_at,
  reason = coalesce(:reason, reason), code = coalesce(:code, code),
  provider_reference = coalesce(:provider_reference, provider_reference), barcode = coalesce(:barcode, barcode),
  first_attempt_at = coalesce(:first_attempt_at, first_attempt_at),
  handed_over_at = coalesce(:handed_over_at, handed_over_at), posted_at = coalesce(:posted_at, posted_at),
  read_seen_at = coalesce(:read_seen_at, read_seen_at),
  lease_until = NULL, worker = NULL
WHERE delivery_id = :delivery_id
"""
_END_ATTEMPT: Final = """
UPDATE attempt SET ended_at = :at, outcome = :outcome, code = :code
WHERE delivery_id = :delivery_id AND ended_at IS NULL
  AND number = (SELECT attempts FROM delivery WHERE delivery_id = :delivery_id)
"""
# What is erased stays erased: no later news of a delivery brings a destroyed key back.
_CHANGE_MESSAGE: Final = """
UPDATE message SET
  status = :status, revision = revision + 1,
  copy_until = CASE WHEN copy_state = 'erased' THEN copy_until ELSE :copy_until END,
  copy_state = CASE WHEN copy_state = 'erased' THEN copy_state ELSE :copy_state END
WHERE message_id = :message_id
"""


def settle(connection: apsw.Connection, claim: Claim, settlement: Settlement) -> None:
    """See `Ledger.settle`."""
    delivery_id = claim.delivery.delivery_id
    row = connection.execute(_HELD, (delivery_id.bytes, claim.lease_token)).fetchone()
    if row is None:
        raise LeaseLost
    _carry_out(connection, delivery_id, row[0], DeliveryStatus(row[1]), settlement)


def decide(connection: apsw.Connection, delivery_id: DeliveryId, settlement: Settlement) -> bool:
    """See `Ledger.decide`."""
    row = connection.execute(_TO_DECIDE, (delivery_id.bytes,)).fetchone()
    if row is None:
        return False
    _carry_out(connection, delivery_id, row[0], DeliveryStatus(row[1]), settlement)
    return True


def cancel(connection: apsw.Connection, message_id: MessageId, settlement: Settlement) -> bool:
    """See `Ledger.cancel`."""
    row = connection.execute(_TO_CANCEL, (message_id.bytes,)).fetchone()
    if row is None:
        return False
    connection.execute(_FENCE, row)
    _carry_out(connection, DeliveryId(UUID(bytes=row[0])), message_id.bytes, DeliveryStatus.WAITING, settlement)
    return True


def _carry_out(
    connection: apsw.Connection,
    delivery_id: DeliveryId,
    message_id: bytes,
    present: DeliveryStatus,
    settlement: Settlement,
) -> None:
    message = connection.execute(_MESSAGE, (message_id, settlement.message_revision)).fetchone()
    if message is None:
        raise LeaseLost
    advance_delivery(present, settlement.change.status)
    advance_message(MessageStatus(message[0]), settlement.message_status)
    _change_delivery(connection, delivery_id, settlement.change)
    connection.execute(
        _CHANGE_MESSAGE,
        {
            "status": settlement.message_status,
            "copy_state": settlement.keep.state,
            "copy_until": to_ms_or_null(settlement.keep.until),
            "message_id": message_id,
        },
    )
    if settlement.next_delivery is not None:
        insert_delivery(connection, settlement.next_delivery)
    append(connection, settlement.logs)


def _change_delivery(connection: apsw.Connection, delivery_id: DeliveryId, change: DeliveryChange) -> None:
    connection.execute(
        _CHANGE_DELIVERY,
        {
            "status": change.status,
            "at": to_ms(change.at),
            "next_action": change.next_action,
            "due_at": to_ms_or_null(change.due_at),
            "deadline_at": to_ms_or_null(change.deadline_at),
            "reason": change.reason,
            "code": change.code,
            "provider_reference": change.provider_reference,
            "barcode": change.barcode,
            "first_attempt_at": to_ms_or_null(change.first_attempt_at),
            "handed_over_at": to_ms_or_null(change.handed_over_at),
            "posted_at": to_ms_or_null(change.posted_at),
            "read_seen_at": to_ms_or_null(change.read_seen_at),
            "delivery_id": delivery_id.bytes,
        },
    )
    if change.attempt_outcome is not None:
        connection.execute(
            _END_ATTEMPT,
            {
                "at": to_ms(change.at),
                "outcome": change.attempt_outcome,
                "code": change.code,
                "delivery_id": delivery_id.bytes,
            },
        )
