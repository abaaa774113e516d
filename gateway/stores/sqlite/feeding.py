"""
The feed of each sender: the traffic log's entries about its messages, numbered; and the epoch that cursors name.

Positions of log entries are given out inside the writer's transactions, one after the other, so their order is that of
commit. Numbering is one more change of the writer, from where the last one stopped: it meets no entry that another
could still come before. Numbers stand beside the log, which never changes.
"""

from array import array
from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from typing import Final
from uuid import UUID, uuid4

import apsw

from gateway.domain.ids import DeliveryId, EnterpriseNumber, MessageId
from gateway.stores.model import FeedEvent, FeedPage
from gateway.stores.sqlite.rows import Row, from_ms, to_ms

# One page looks at no more events than this, however few of them the reader may see.
_SCAN: Final = 5_000

_IS_BEHIND: Final = """
SELECT EXISTS (SELECT 1 FROM log_entry WHERE position > (SELECT position FROM feed_progress WHERE id = 1))
"""
_PROGRESS: Final = "SELECT position FROM feed_progress WHERE id = 1"
_NEXT: Final = """
SELECT count(*), max(position) FROM (SELECT position FROM log_entry WHERE position > ? ORDER BY position LIMIT ?)
"""
_NUMBER: Final = """
INSERT INTO feed_event (sender, number, profile, position, numbered_at)
SELECT
  sender,
  coalesce((SELECT last_number FROM feed WHERE feed.sender = log_entry.sender), 0)
    + row_number() OVER (PARTITION BY sender ORDER BY position),
  profile, position, :at
FROM log_entry
WHERE position > :after AND position <= :through
  AND log = 'traffic' AND sender IS NOT NULL AND message_id IS NOT NULL
"""
_COUNT: Final = """
INSERT INTO feed (sender, last_number)
SELECT sender, count(*) FROM log_entry
WHERE position > :after AND position <= :through
  AND log = 'traffic' AND sender IS NOT NULL AND message_id IS NOT NULL
GROUP BY sender
ON CONFLICT (sender) DO UPDATE SET last_number = last_number + excluded.last_number
"""
_ADVANCE: Final = "UPDATE feed_progress SET position = ? WHERE id = 1"

_FEED: Final = "SELECT last_number, removed_through FROM feed WHERE sender = ?"
_AFTER: Final = """
SELECT number, position, profile FROM feed_event WHERE sender = ? AND number > ? ORDER BY number LIMIT ?
"""
_ENTRIES: Final = """
SELECT log_entry.position, log_entry.at, log_entry.event, log_entry.message_id, log_entry.delivery_id,
  log_entry.profile, log_entry.entry, message.reference
FROM log_entry LEFT JOIN message ON message.message_id = log_entry.message_id
WHERE log_entry.position IN carray(?)
"""

_FEEDS: Final = "SELECT sender FROM feed WHERE last_number > removed_through"
_OLDEST: Final = "SELECT number, numbered_at FROM feed_event WHERE sender = ? ORDER BY number LIMIT ?"
_REMOVE: Final = "DELETE FROM feed_event WHERE sender = ? AND number <= ?"
_REMOVED: Final = "UPDATE feed SET removed_through = ? WHERE sender = ?"

_EPOCH: Final = "SELECT epoch_id FROM epoch ORDER BY number DESC LIMIT 1"
_BEGIN_EPOCH: Final = """
INSERT INTO epoch (number, epoch_id, begun_at) SELECT max(number) + 1, ?, ? FROM epoch
"""


def is_behind(connection: apsw.Connection) -> bool:
    """Tell whether there are log entries that `number_events` has not looked at."""
    return bool(connection.execute(_IS_BEHIND).get)


def number_events(connection: apsw.Connection, *, at: datetime, limit: int) -> int:
    """See `Ledger.number_events`."""
    after = connection.execute(_PROGRESS).get
    count, through = connection.execute(_NEXT, (after, limit)).get
    if count:
        entries = {"after": after, "through": through}
        connection.execute(_NUMBER, {**entries, "at": to_ms(at)})
        connection.execute(_COUNT, entries)
        connection.execute(_ADVANCE, (through,))
    return int(count)


def events(
    connection: apsw.Connection,
    sender: EnterpriseNumber,
    profiles: frozenset[str] | None,
    *,
    after_number: int,
    limit: int,
) -> FeedPage:
    """See `Ledger.events`."""
    last_number, removed_through = connection.execute(_FEED, (sender,)).fetchone() or (0, 0)
    next_number = after_number
    shown: list[tuple[int, int]] = []
    for number, position, profile in connection.execute(_AFTER, (sender, after_number, _SCAN)):
        next_number = number
        if profiles is None or profile in profiles:
            shown.append((number, position))
            if len(shown) == limit:
                break
    return FeedPage(
        events=_load(connection, shown),
        epoch=UUID(bytes=connection.execute(_EPOCH).get),
        removed_through=removed_through,
        last_number=last_number,
        next_number=next_number,
    )


def forget_events(connection: apsw.Connection, *, numbered_before: datetime, limit: int) -> int:
    """See `Ledger.forget_events`."""
    before_ms, left = to_ms(numbered_before), limit
    for (sender,) in connection.execute(_FEEDS).fetchall():
        if left == 0:
            break
        oldest: Sequence[Row] = connection.execute(_OLDEST, (sender, left)).fetchall()
        # From the front, up to the first that is to stay: what is kept of a feed never has a gap.
        over = list(takewhile(lambda row: row[1] < before_ms, oldest))
        if over:
            connection.execute(_REMOVE, (sender, over[-1][0]))
            connection.execute(_REMOVED, (over[-1][0], sender))
            left -= len(over)
    return limit - left


def begin_epoch(connection: apsw.Connection, at: datetime) -> UUID:
    """See `Ledger.begin_epoch`."""
    epoch = uuid4()
    connection.execute(_BEGIN_EPOCH, (epoch.bytes, to_ms(at)))
    return epoch


def _load(connection: apsw.Connection, shown: Sequence[tuple[int, int]]) -> tuple[FeedEvent, ...]:
    """Return the events of (number, log position) pairs, in their order."""
    if not shown:
        return ()
    numbers = {position: number for number, position in shown}
    found = {}
    for row in connection.execute(_ENTRIES, (apsw.carray(array("q", numbers)),)):
        position, at, event, message_id, delivery_id, profile, entry, reference = row
        found[position] = FeedEvent(
            number=numbers[position],
            at=from_ms(at),
            event=event,
            message_id=MessageId(UUID(bytes=message_id)),
            delivery_id=None if delivery_id is None else DeliveryId(UUID(bytes=delivery_id)),
            reference=reference,
            profile=profile,
            entry=entry,
        )
    return tuple(found[position] for _, position in shown)
