"""
The feed of each sender: the traffic log's entries about its messages, numbered; and the epoch that cursors name.

Transactions commit in another order than that of their positions, so numbering goes no further than `visible_below`:
what is below is committed, or never will be. The lock on the one row of `feed_progress` is the right to number; it is
held until the commit, so whoever numbers next begins where the last one ended. Numbers stand beside the log, which
never changes.
"""

from datetime import datetime
from itertools import takewhile
from typing import Final
from uuid import UUID, uuid4

from gateway.domain.ids import DeliveryId, EnterpriseNumber, MessageId
from gateway.stores.model import FeedEvent, FeedPage
from gateway.stores.postgres.rows import floor_ms
from gateway.stores.postgres.sessions import Row, Transaction

# One page looks at no more events than this, however few of them the reader may see.
_SCAN: Final = 5_000

_IS_BEHIND: Final = """
SELECT EXISTS (SELECT FROM log_entry WHERE position > (SELECT position FROM feed_progress WHERE id = 1))
"""
# Waits for whoever is numbering: who was told that there is nothing left may rely on it.
_PROGRESS: Final = "SELECT position FROM feed_progress WHERE id = 1 FOR UPDATE"
_NEXT: Final = """
SELECT count(*), max(position) FROM (
  SELECT position FROM log_entry WHERE position > $1 AND position < visible_below() ORDER BY position LIMIT $2
) AS next
"""
_NUMBER: Final = """
WITH found AS MATERIALIZED (
  SELECT sender, profile, filed_under, position,
    row_number() OVER (PARTITION BY sender ORDER BY position) AS nth, count(*) OVER (PARTITION BY sender) AS total
  FROM log_entry
  WHERE position > $1 AND position <= $2 AND log = 'traffic' AND sender IS NOT NULL AND message_id IS NOT NULL
), counted AS (
  INSERT INTO feed (sender, last_number) SELECT sender, count(*) FROM found GROUP BY sender ORDER BY sender
  ON CONFLICT (sender) DO UPDATE SET last_number = feed.last_number + excluded.last_number
  RETURNING sender, last_number
)
INSERT INTO feed_event (sender, number, profile, filed_under, position, numbered_at)
SELECT found.sender, counted.last_number - found.total + found.nth, found.profile, found.filed_under, found.position, $3
FROM found JOIN counted ON counted.sender = found.sender
"""
_ADVANCE: Final = "UPDATE feed_progress SET position = $1 WHERE id = 1"

_FEED: Final = "SELECT last_number, removed_through FROM feed WHERE sender = $1"
_EVENTS: Final = """
WITH scanned AS (
  SELECT number, filed_under, position, profile FROM feed_event WHERE sender = $1 AND number > $2
  ORDER BY number LIMIT $3
), shown AS (
  SELECT number, filed_under, position FROM scanned WHERE $4::text[] IS NULL OR profile = ANY($4)
  ORDER BY number LIMIT $5
)
SELECT shown.number, log_entry.at, log_entry.event, log_entry.message_id, log_entry.delivery_id, log_entry.profile,
  log_entry.entry, message.reference
FROM shown
JOIN log_entry ON log_entry.filed_under = shown.filed_under AND log_entry.position = shown.position
LEFT JOIN message ON message.message_id = log_entry.message_id
ORDER BY shown.number
"""
_SCANNED: Final = """
SELECT max(number) FROM (
  SELECT number FROM feed_event WHERE sender = $1 AND number > $2 ORDER BY number LIMIT $3
) AS scanned
"""

_FEEDS: Final = """
SELECT feed.sender FROM feed CROSS JOIN LATERAL (
  SELECT numbered_at FROM feed_event WHERE feed_event.sender = feed.sender ORDER BY number LIMIT 1
) AS oldest
WHERE oldest.numbered_at < $1 ORDER BY feed.sender
"""
_OLDEST: Final = "SELECT number, numbered_at FROM feed_event WHERE sender = $1 ORDER BY number LIMIT $2"
_REMOVE: Final = "DELETE FROM feed_event WHERE sender = $1 AND number <= $2"
_REMOVED: Final = "UPDATE feed SET removed_through = greatest(removed_through, $2) WHERE sender = $1"

_EPOCH: Final = "SELECT epoch_id FROM epoch ORDER BY number DESC LIMIT 1"
_BEGIN_EPOCH: Final = """
INSERT INTO epoch (number, epoch_id, begun_at) SELECT max(number) + 1, $1, $2 FROM epoch
"""


async def is_behind(tx: Transaction) -> bool:
    """Tell whether there are log entries that `number_events` has not looked at."""
    return bool(await tx.connection.fetchval(_IS_BEHIND))


async def number_events(tx: Transaction, *, at: datetime, limit: int) -> int:
    """See `Ledger.number_events`."""
    after = await tx.connection.fetchval(_PROGRESS)
    count, through = await _row(tx, _NEXT, after, limit)
    if count:
        await tx.connection.execute(_NUMBER, after, through, floor_ms(at))
        await tx.connection.execute(_ADVANCE, through)
    return int(count)


async def events(
    tx: Transaction, sender: EnterpriseNumber, profiles: frozenset[str] | None, *, after_number: int, limit: int
) -> FeedPage:
    """See `Ledger.events`."""
    feed = await tx.connection.fetchrow(_FEED, sender)
    last_number, removed_through = (0, 0) if feed is None else feed
    seen = None if profiles is None else list(profiles)
    shown = await tx.connection.fetch(_EVENTS, sender, after_number, _SCAN, seen, limit)
    if len(shown) == limit:
        next_number = shown[-1][0]
    else:  # everything that was scanned has been looked at
        next_number = await tx.connection.fetchval(_SCANNED, sender, after_number, _SCAN) or after_number
    return FeedPage(
        events=tuple(map(_event_of, shown)),
        epoch=await tx.connection.fetchval(_EPOCH),
        removed_through=removed_through,
        last_number=last_number,
        next_number=next_number,
    )


async def forget_events(tx: Transaction, *, numbered_before: datetime, limit: int) -> int:
    """See `Ledger.forget_events`."""
    before, left = floor_ms(numbered_before), limit
    for (sender,) in await tx.connection.fetch(_FEEDS, before):
        if left == 0:
            break
        oldest = await tx.connection.fetch(_OLDEST, sender, left)
        # From the front, up to the first that is to stay: what is kept of a feed never has a gap.
        over = list(takewhile(lambda row: row[1] < before, oldest))
        if over:
            await tx.connection.execute(_REMOVE, sender, over[-1][0])
            await tx.connection.execute(_REMOVED, sender, over[-1][0])
            left -= len(over)
    return limit - left


async def begin_epoch(tx: Transaction, at: datetime) -> UUID:
    """See `Ledger.begin_epoch`."""
    epoch = uuid4()
    await tx.connection.execute(_BEGIN_EPOCH, epoch, floor_ms(at))
    return epoch


async def _row(tx: Transaction, statement: str, *parameters: object) -> Row:
    (row,) = await tx.connection.fetch(statement, *parameters)
    return row


def _event_of(row: Row) -> FeedEvent:
    number, at, event, message_id, delivery_id, profile, entry, reference = row
    return FeedEvent(
        number=number,
        at=at,
        event=event,
        message_id=MessageId(message_id),
        delivery_id=None if delivery_id is None else DeliveryId(delivery_id),
        reference=reference,
        profile=profile,
        entry=entry,
    )
