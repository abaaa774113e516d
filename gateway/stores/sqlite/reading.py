"""What senders and operators ask: messages, lists of them, and what waits."""

from array import array
from collections.abc import Collection
from heapq import merge
from itertools import islice
from typing import Final

import apsw

from gateway.domain.ids import EnterpriseNumber, MessageId
from gateway.domain.status import MessageStatus
from gateway.stores.model import KeyedMessage, MessageFilter, MessageRecord, Page
from gateway.stores.sqlite.keys import deks
from gateway.stores.sqlite.messages import SELECT_MESSAGES, load_messages
from gateway.stores.sqlite.rows import blobs, to_ms_or_null

_ONE: Final = SELECT_MESSAGES + "WHERE message_id = ?"
_BY_ID: Final = SELECT_MESSAGES + "WHERE message_id IN carray(?)"
_AT: Final = SELECT_MESSAGES + "WHERE position IN carray(?) ORDER BY position"

# Steps along the index from one profile to the next, however many messages each has.
_PROFILES: Final = """
WITH RECURSIVE step (profile) AS (
  SELECT min(profile) FROM message WHERE sender = :sender
  UNION ALL
  SELECT (SELECT min(profile) FROM message WHERE sender = :sender AND profile > step.profile)
  FROM step WHERE step.profile IS NOT NULL
)
SELECT profile FROM step WHERE profile IS NOT NULL
"""
_WALK: Final = """
SELECT position FROM message
WHERE sender = :sender AND profile = :profile AND position > :after
  AND (:status IS NULL OR status = :status)
  AND (:from IS NULL OR accepted_at >= :from) AND (:until IS NULL OR accepted_at < :until)
  AND (:channel IS NULL OR EXISTS (
    SELECT 1 FROM delivery WHERE delivery.message_id = message.message_id AND channel = :channel))
ORDER BY position LIMIT :limit
"""
# The same, for a status that few messages have: the first line lets SQLite use the index of those.
_WALK_FEW: Final = """
SELECT position FROM message
WHERE status <> 'delivered' AND status = :status
  AND sender = :sender AND profile = :profile AND position > :after
  AND (:from IS NULL OR accepted_at >= :from) AND (:until IS NULL OR accepted_at < :until)
  AND (:channel IS NULL OR EXISTS (
    SELECT 1 FROM delivery WHERE delivery.message_id = message.message_id AND channel = :channel))
ORDER BY position LIMIT :limit
"""
# The same, for a reference, of which a profile has at most one.
_LOOK_UP: Final = """
SELECT position FROM message
WHERE message_id = (
    SELECT message_id FROM reference WHERE sender = :sender AND profile = :profile AND reference = :reference)
  AND position > :after
  AND (:status IS NULL OR status = :status)
  AND (:from IS NULL OR accepted_at >= :from) AND (:until IS NULL OR accepted_at < :until)
  AND (:channel IS NULL OR EXISTS (
    SELECT 1 FROM delivery WHERE delivery.message_id = message.message_id AND channel = :channel))
ORDER BY position LIMIT :limit
"""


def message(connection: apsw.Connection, message_id: MessageId) -> MessageRecord | None:
    """See `Ledger.message`."""
    found = load_messages(connection, connection.execute(_ONE, (message_id.bytes,)).fetchall())
    return found[0] if found else None


def keyed_message(connection: apsw.Connection, message_id: MessageId) -> KeyedMessage | None:
    """See `Ledger.keyed_message`."""
    record = message(connection, message_id)
    return None if record is None else KeyedMessage(record=record, deks=deks(connection, record.dek_ids))


def messages_by_id(connection: apsw.Connection, message_ids: Collection[MessageId]) -> list[MessageRecord]:
    """See `Ledger.messages_by_id`."""
    if not message_ids:
        return []
    ids = blobs([message_id.bytes for message_id in message_ids])
    return load_messages(connection, connection.execute(_BY_ID, (ids,)).fetchall())


def messages(connection: apsw.Connection, which: MessageFilter, *, after_position: int, limit: int) -> Page:
    """See `Ledger.messages`. Positions are given out inside commits, one commit at a time, so none appears late."""
    profiles = _profiles(connection, which.sender) if which.profiles is None else sorted(which.profiles)
    # One more than asked for tells whether there is more.
    walks = [_walk(connection, which, profile, after_position, limit + 1) for profile in profiles]
    positions = list(islice(merge(*walks), limit + 1))
    shown = positions[:limit]
    if not shown:
        return Page(messages=(), next_position=None)
    rows = connection.execute(_AT, (apsw.carray(array("q", shown)),)).fetchall()
    return Page(
        messages=tuple(load_messages(connection, rows)),
        next_position=shown[-1] if len(positions) > limit else None,
    )


def _profiles(connection: apsw.Connection, sender: EnterpriseNumber) -> list[str]:
    return [row[0] for row in connection.execute(_PROFILES, {"sender": sender})]


def _walk(connection: apsw.Connection, which: MessageFilter, profile: str, after: int, limit: int) -> list[int]:
    """Return the first `limit` positions after `after` in one profile that pass the filter, in order."""
    parameters = {
        "sender": which.sender,
        "profile": profile,
        "after": after,
        "reference": which.reference,
        "status": which.status,
        "channel": which.channel,
        "from": to_ms_or_null(which.accepted_from),
        "until": to_ms_or_null(which.accepted_until),
        "limit": limit,
    }
    if which.reference is not None:
        statement = _LOOK_UP
    elif which.status not in (None, MessageStatus.DELIVERED):
        statement = _WALK_FEW
    else:
        statement = _WALK
    return [row[0] for row in connection.execute(statement, parameters)]
