"""What senders and operators ask: messages, and lists of them."""

from collections.abc import Collection
from typing import Final

from gateway.domain.ids import EnterpriseNumber, MessageId
from gateway.domain.status import MessageStatus
from gateway.stores.model import KeyedMessage, MessageFilter, MessageRecord, Page
from gateway.stores.postgres.keys import deks
from gateway.stores.postgres.messages import SELECT_MESSAGES, load_messages
from gateway.stores.postgres.rows import floor_ms_or_null
from gateway.stores.postgres.sessions import Transaction

_ONE: Final = SELECT_MESSAGES + "WHERE message_id = $1"
_BY_ID: Final = SELECT_MESSAGES + "WHERE message_id = ANY($1::uuid[])"
_IN_ORDER: Final = _BY_ID + " ORDER BY position"

# Steps along the index from one profile to the next, however many messages each has.
_PROFILES: Final = """
WITH RECURSIVE step (profile) AS (
  SELECT min(profile) FROM reference WHERE sender = $1
  UNION ALL
  SELECT (SELECT min(profile) FROM reference WHERE sender = $1 AND profile > step.profile)
  FROM step WHERE step.profile IS NOT NULL
)
SELECT profile FROM step WHERE profile IS NOT NULL
"""
# In each profile the first messages that pass; of those, the first. Each is a short walk along an index.
_FILTER: Final = """
    AND sender = $1 AND profile = asked.profile AND position > $3 AND position < visible_below()
    AND ($5::text IS NULL OR status = $5)
    AND ($6::timestamptz IS NULL OR accepted_at >= $6) AND ($7::timestamptz IS NULL OR accepted_at < $7)
    AND ($8::text IS NULL OR EXISTS (
      SELECT FROM delivery WHERE delivery.message_id = message.message_id AND channel = $8))
    AND ($9::text IS NULL OR message.reference = $9)
  ORDER BY position LIMIT $4
) AS found
ORDER BY position LIMIT $4
"""
_FIRST_OF_EACH: Final = """
SELECT found.message_id, found.position FROM unnest($2::text[]) AS asked (profile) CROSS JOIN LATERAL (
  SELECT message_id, position FROM message WHERE
"""
_WALK: Final = _FIRST_OF_EACH + "true" + _FILTER
# The same, for a status that few messages have: the condition lets PostgreSQL use the index of those.
_WALK_FEW: Final = _FIRST_OF_EACH + "status <> 'delivered'" + _FILTER
# The same, for a reference, of which a profile has at most one.
_REFERRED_TO: Final = """message_id = (
      SELECT message_id FROM reference WHERE sender = $1 AND profile = asked.profile AND reference = $9)"""
_LOOK_UP: Final = _FIRST_OF_EACH + _REFERRED_TO + _FILTER


async def message(tx: Transaction, message_id: MessageId) -> MessageRecord | None:
    """See `Ledger.message`."""
    found = await load_messages(tx, await tx.connection.fetch(_ONE, message_id))
    return found[0] if found else None


async def keyed_message(tx: Transaction, message_id: MessageId) -> KeyedMessage | None:
    """See `Ledger.keyed_message`."""
    record = await message(tx, message_id)
    return None if record is None else KeyedMessage(record=record, deks=await deks(tx, record.dek_ids))


async def messages_by_id(tx: Transaction, message_ids: Collection[MessageId]) -> list[MessageRecord]:
    """See `Ledger.messages_by_id`."""
    if not message_ids:
        return []
    return await load_messages(tx, await tx.connection.fetch(_BY_ID, list(message_ids)))


async def messages(tx: Transaction, which: MessageFilter, *, after_position: int, limit: int) -> Page:
    """See `Ledger.messages`. It shows no further than where every transaction has ended, so none appears late."""
    # One more than asked for tells whether there is more.
    found = await _walk(tx, which, after_position, limit + 1)
    shown = found[:limit]
    if not shown:
        return Page(messages=(), next_position=None)
    rows = await tx.connection.fetch(_IN_ORDER, [message_id for message_id, _ in shown])
    return Page(
        messages=tuple(await load_messages(tx, rows)),
        next_position=shown[-1][1] if len(found) > limit else None,
    )


async def _profiles(tx: Transaction, sender: EnterpriseNumber) -> list[str]:
    return [row[0] for row in await tx.connection.fetch(_PROFILES, sender)]


async def _walk(tx: Transaction, which: MessageFilter, after: int, limit: int) -> list[tuple[MessageId, int]]:
    """Return id and position of the first `limit` messages after position `after` that pass the filter, in order."""
    if which.reference is not None:
        statement = _LOOK_UP
    elif which.status not in (None, MessageStatus.DELIVERED):
        statement = _WALK_FEW
    else:
        statement = _WALK
    rows = await tx.connection.fetch(
        statement,
        which.sender,
        await _profiles(tx, which.sender) if which.profiles is None else list(which.profiles),
        after,
        limit,
        which.status,
        floor_ms_or_null(which.accepted_from),
        floor_ms_or_null(which.accepted_until),
        which.channel,
        which.reference,
    )
    return [(MessageId(message_id), position) for message_id, position in rows]
