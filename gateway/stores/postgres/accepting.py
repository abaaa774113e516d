"""The commit point of acceptance: one reference, one quota unit, one message."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Final
from uuid import UUID

from gateway.domain.ids import EnterpriseNumber, MessageId
from gateway.stores.encoding import quota_exceeded, swept
from gateway.stores.model import BatchLink, KnownReference, NewMessage, QuotaUse
from gateway.stores.postgres.batching import link_item
from gateway.stores.postgres.enclosing import insert_enclosures
from gateway.stores.postgres.keys import add_deks
from gateway.stores.postgres.logs import append, insert_entries
from gateway.stores.postgres.messages import insert_message
from gateway.stores.postgres.rows import floor_ms
from gateway.stores.postgres.sessions import Transaction

_BURN: Final = """
INSERT INTO reference (sender, profile, reference, message_id, content_sha256) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (sender, profile, reference) DO NOTHING RETURNING message_id
"""
_FIND: Final = """
SELECT message_id, content_sha256 FROM reference WHERE sender = $1 AND profile = $2 AND reference = $3
"""
_HOLD: Final = """
WITH held AS (
  INSERT INTO blob (blob_id, message_id, at) SELECT blob_id, $2, $3 FROM unnest($1::uuid[]) AS asked (blob_id)
  ORDER BY blob_id
  ON CONFLICT (blob_id) DO NOTHING RETURNING blob_id
)
SELECT count(*) FROM held
"""
_COUNT: Final = """
INSERT INTO quota (sender, profile, day, messages, paper)
SELECT $1, $2, $3, 1, 0 WHERE $4::integer IS NULL OR $4 >= 1
ON CONFLICT (sender, profile, day) DO UPDATE SET messages = quota.messages + 1
  WHERE $4 IS NULL OR quota.messages < $4
RETURNING messages
"""
_USE: Final = "SELECT profile, messages, paper FROM quota WHERE sender = $1 AND day = $2"


async def record(tx: Transaction, new: NewMessage) -> KnownReference | None:
    """See `Ledger.record`."""
    message = new.message
    key = (message.sender, message.profile, message.reference)
    # Whoever burns the same reference at this moment is waited for, so one row tells who was first.
    if await tx.connection.fetchval(_BURN, *key, message.message_id, message.content_sha256) is None:
        return await find_reference(tx, *key)
    blob_ids = [document.document_id for document in message.documents if not document.enclosed]
    await hold_blobs(tx, message.message_id, blob_ids, message.accepted_at)
    await insert_enclosures(tx, new.enclosures)
    await add_deks(tx, new.deks)
    if all(entry.message_id in (None, message.message_id) for entry in new.logs):
        # Nobody else can know of this message yet, so its first entries are numbered without a lock.
        about = sum(entry.message_id is not None for entry in new.logs)
        await insert_message(tx, message, entries=about)
        await insert_entries(tx, new.logs, {message.message_id: 0})
    else:
        await insert_message(tx, message, entries=0)
        await append(tx, new.logs)
    if new.item is not None:
        link = BatchLink(number=new.item.number, message_id=message.message_id, is_proof=True)
        await link_item(tx, new.item.batch, link)
    # Last, because from here to the commit no other message of this profile is accepted.
    await _count_against_quota(tx, new)
    return None


async def find_reference(
    tx: Transaction, sender: EnterpriseNumber, profile: str, reference: str
) -> KnownReference | None:
    """See `Ledger.find_reference`."""
    row = await tx.connection.fetchrow(_FIND, sender, profile, reference)
    return None if row is None else KnownReference(message_id=MessageId(row[0]), content_sha256=row[1])


async def quota_use(tx: Transaction, sender: EnterpriseNumber, day: date) -> Mapping[str, QuotaUse]:
    """See `Ledger.quota_use`."""
    rows = await tx.connection.fetch(_USE, sender, day)
    return {profile: QuotaUse(messages=messages, paper=paper) for profile, messages, paper in rows}


async def hold_blobs(tx: Transaction, message_id: MessageId, blob_ids: Sequence[UUID], at: datetime) -> None:
    """
    Note that a message needs these blobs.

    Raises:
        StoreUnavailable: a tombstone lies on one of them.
    """
    if blob_ids and await tx.connection.fetchval(_HOLD, blob_ids, message_id, floor_ms(at)) < len(blob_ids):
        raise swept()


async def _count_against_quota(tx: Transaction, new: NewMessage) -> None:
    message = new.message
    counted = await tx.connection.fetchval(_COUNT, message.sender, message.profile, new.day, new.messages_per_day)
    if counted is None:
        raise quota_exceeded(new, await tx.now())
