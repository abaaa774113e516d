"""The work before and around a provider call: leases, attempts, cover pages."""

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final
from uuid import UUID

from gateway.crypto.vault import DekRow
from gateway.domain.message import Lane
from gateway.domain.schedule import TAKEN_UP_WITHIN
from gateway.domain.status import DeliveryStatus, advance_delivery
from gateway.errors import LeaseLost, QuotaUsedUp
from gateway.stores.model import Claim, DocumentRecord, PaperQuota, RetrievalRecord
from gateway.stores.postgres.accepting import hold_blobs
from gateway.stores.postgres.keys import add_deks
from gateway.stores.postgres.retrieving import insert_retrieval
from gateway.stores.postgres.rows import SELECT_DELIVERIES, delivery_of, insert_documents
from gateway.stores.postgres.sessions import Row, Transaction

# A newer program may have left statuses that this one does not know; it must not touch them.
KNOWN_STATUSES: Final = tuple(status.value for status in DeliveryStatus)

# While single letters are never all gone, one place in this many is for bulk: `Ledger.claim` promises it.
_BULK_SHARE: Final = 8

# The store's time; $1 is the time of a test, or NULL.
_NOW: Final = "date_trunc('milliseconds', coalesce($1::timestamptz, clock_timestamp()))"
_QUEUED: Final = "queue.next_action IN ('send', 'reconcile', 'poll')"
_FREE: Final = (
    "queue.due_at <= {now} AND (queue.lease_until IS NULL OR queue.lease_until <= {now}) AND queue.status = ANY($2)"
)
# Steps from sender to sender along the index, over however many rows each has; of those with nothing due, it looks at
# one row.
_DUE_SENDERS: Final = f"""
WITH RECURSIVE
store AS MATERIALIZED (SELECT {_NOW} AS now),
waiting (provider, lane, sender) AS (
  SELECT asked.provider, lanes.lane, (
    SELECT min(queue.sender) FROM queue
    WHERE {_QUEUED} AND queue.provider = asked.provider AND queue.lane = lanes.lane
  )
  FROM unnest($3::text[]) AS asked (provider) CROSS JOIN unnest($4::text[]) AS lanes (lane)
  UNION ALL
  SELECT waiting.provider, waiting.lane, (
    SELECT min(queue.sender) FROM queue
    WHERE {_QUEUED} AND queue.provider = waiting.provider AND queue.lane = waiting.lane
      AND queue.sender > waiting.sender
  )
  FROM waiting WHERE waiting.sender IS NOT NULL
)
SELECT waiting.provider, waiting.lane, waiting.sender, store.now FROM store CROSS JOIN waiting
WHERE waiting.sender IS NOT NULL AND (
  SELECT true FROM queue
  WHERE {_QUEUED} AND queue.provider = waiting.provider AND queue.lane = waiting.lane
    AND queue.sender = waiting.sender AND {_FREE.format(now="store.now")}
  ORDER BY queue.due_at LIMIT 1
)
ORDER BY waiting.provider, waiting.lane, waiting.sender
"""  # noqa: S608 -- made of constants
# Whoever holds this row claims for the provider; the others wait for their turn.
_TURN: Final = """
INSERT INTO turn (provider) VALUES ($1) ON CONFLICT (provider) DO UPDATE SET provider = excluded.provider
RETURNING last_single, last_bulk, singles
"""
_NEXT_TURN: Final = "UPDATE turn SET last_single = $2, last_bulk = $3, singles = $4 WHERE provider = $1"
# One of each sender, in the order that is asked, then the next of each.
_IN_TURN: Final = f"""
SELECT asked.lane, asked.sender, due.delivery_id
FROM unnest($4::text[], $5::text[], $6::integer[]) WITH ORDINALITY AS asked (lane, sender, at_most, place)
CROSS JOIN LATERAL (
  SELECT first.delivery_id, row_number() OVER (ORDER BY first.due_at) AS round
  FROM (
    SELECT queue.delivery_id, queue.due_at FROM queue
    WHERE {_QUEUED} AND queue.provider = $3 AND queue.lane = asked.lane AND queue.sender = asked.sender
      AND {_FREE.format(now="$1::timestamptz")}
    ORDER BY queue.due_at LIMIT asked.at_most
  ) AS first
) AS due
ORDER BY due.round, asked.place
"""  # noqa: S608 -- made of constants
# Something else may have happened to a row since it was looked at, or be happening right now.
_LEASE: Final = f"""
WITH free AS MATERIALIZED (
  SELECT queue.delivery_id FROM queue
  WHERE queue.delivery_id = ANY($3::uuid[]) AND {_QUEUED} AND {_FREE.format(now=_NOW)} FOR UPDATE SKIP LOCKED
)
UPDATE queue SET
  lease_token = nextval('lease_token'), lease_until = date_trunc('milliseconds', {_NOW} + $4::interval), worker = $5
FROM free WHERE queue.delivery_id = free.delivery_id
RETURNING queue.delivery_id, queue.message_id, queue.lease_token, queue.lease_until
"""  # noqa: S608 -- made of constants
_DELIVERIES: Final = (
    SELECT_DELIVERIES + "WHERE delivery.message_id = ANY($1::uuid[]) AND delivery.delivery_id = ANY($2::uuid[])"
)
# Locks in the order that all changes of a message keep: message, queue, delivery.
_HELD: Final = """
WITH owner AS MATERIALIZED (SELECT 1 FROM message WHERE message_id = $1 FOR {})
SELECT queue.status, queue.next_action FROM owner CROSS JOIN queue
WHERE queue.delivery_id = $2 AND queue.lease_token = $3 AND queue.lease_until IS NOT NULL
FOR UPDATE OF queue
"""
_HELD_TO_BEGIN: Final = _HELD.format("NO KEY UPDATE")
# Keys of the message's documents are destroyed under the message's lock: before this one is added, or after.
_HELD_TO_ADD: Final = _HELD.format("SHARE")
# The revision stays: the settlement of this very attempt names the one that was read before it.
_BEGIN: Final = f"""
WITH
store AS MATERIALIZED (SELECT {_NOW} AS now),
queued AS (
  UPDATE queue SET
    status = $2, next_action = 'reconcile', lease_until = date_trunc('milliseconds', store.now + $6::interval),
    due_at = date_trunc('milliseconds', store.now + $6 + $7::interval),
    deadline_at = date_trunc('milliseconds', store.now + $6 + $7 + $9::interval)
  FROM store WHERE queue.delivery_id = $4
  RETURNING queue.delivery_id, store.now, queue.lease_until, queue.due_at, queue.deadline_at
),
begun AS (
  UPDATE delivery SET
    status = $2, status_at = queued.now, attempts = delivery.attempts + 1,
    first_attempt_at = coalesce(delivery.first_attempt_at, queued.now),
    next_action = 'reconcile', due_at = queued.due_at, deadline_at = queued.deadline_at
  FROM queued WHERE delivery.message_id = $3 AND delivery.delivery_id = queued.delivery_id
  RETURNING delivery.attempts, queued.now, queued.lease_until
),
under_way AS (
  UPDATE message SET status = 'in-delivery' WHERE message_id = $3 AND status IN ('accepted', 'scheduled')
)
INSERT INTO attempt (message_id, delivery_id, number, action, worker, started_at, deadline_at)
SELECT $3, $4, begun.attempts, $5, $8, begun.now, begun.lease_until FROM begun
RETURNING number
"""  # noqa: S608 -- made of constants
_PAPER: Final = """
INSERT INTO quota (sender, profile, day, messages, paper) SELECT $1, $2, $3, 0, 1 WHERE $4::integer >= 1
ON CONFLICT (sender, profile, day) DO UPDATE SET paper = quota.paper + 1 WHERE quota.paper < $4
RETURNING paper
"""
# An attempt's lease lasts until its deadline; renewing never shortens it.
_RENEW: Final = f"""
UPDATE queue SET lease_until = greatest(lease_until, date_trunc('milliseconds', {_NOW} + $4::interval))
WHERE delivery_id = $2 AND lease_token = $3 AND lease_until IS NOT NULL
RETURNING lease_until
"""  # noqa: S608 -- made of constants
_RELEASE: Final = f"""
WITH released AS (
  UPDATE queue SET
    due_at = greatest(due_at, date_trunc('milliseconds', {_NOW} + $5::interval)), lease_until = NULL, worker = NULL
  WHERE delivery_id = $3 AND lease_token = $4 AND lease_until IS NOT NULL
  RETURNING delivery_id, due_at
)
UPDATE delivery SET due_at = released.due_at
FROM released WHERE delivery.message_id = $2 AND delivery.delivery_id = released.delivery_id
"""  # noqa: S608 -- made of constants


async def claim(
    tx: Transaction, worker: str, *, lease: timedelta, limit: int, providers: Collection[str]
) -> list[Claim]:
    """See `Ledger.claim`. When nothing is due, nothing is written and nobody waited for."""
    if limit <= 0:
        return []
    due = {provider for provider, *_ in await _due_senders(tx, sorted(set(providers)))}
    leased: list[Row] = []
    for provider in sorted(due):  # in order, so that no two calls wait for each other
        leased += await _take_turns(tx, provider, worker=worker, lease=lease, limit=limit)
    return await claims_of(tx, worker, leased)


async def claims_of(tx: Transaction, worker: str, leased: Sequence[Row]) -> list[Claim]:
    """
    Return the claims of rows (delivery, message, token, end) that were leased in this transaction, in their order.

    A statement of its own: the one that leased them may have waited for somebody, and sees deliveries as of before.
    """
    if not leased:
        return []
    rows = await tx.connection.fetch(_DELIVERIES, [row[1] for row in leased], [row[0] for row in leased])
    deliveries = {delivery.delivery_id: delivery for delivery in map(delivery_of, rows)}
    return [
        Claim(delivery=deliveries[delivery_id], worker=worker, lease_token=token, lease_until=until)
        for delivery_id, _, token, until in leased
    ]


async def _due_senders(tx: Transaction, providers: Sequence[str]) -> list[Row]:
    """Return rows (provider, lane, sender, now) of the senders with something due, in order."""
    lanes = [lane.value for lane in Lane]
    return await tx.connection.fetch(_DUE_SENDERS, tx.now_or_null, KNOWN_STATUSES, providers, lanes)


async def _take_turns(tx: Transaction, provider: str, *, worker: str, lease: timedelta, limit: int) -> list[Row]:
    """Lease what comes next for a provider, and note where the turns stand after it; return rows for `claims_of`."""
    ((last_single, last_bulk, singles),) = await tx.connection.fetch(_TURN, provider)
    single, bulk = await _in_turn(tx, provider, {Lane.SINGLE: last_single, Lane.BULK: last_bulk}, limit)
    dealt = _deal(single, bulk, singles, limit)
    if not dealt:  # whoever had the turn before took it all
        return []
    found = await tx.connection.fetch(
        _LEASE, tx.now_or_null, KNOWN_STATUSES, [delivery_id for _, _, delivery_id in dealt], lease, worker
    )
    rows = {row[0]: row for row in found}
    leased: list[Row] = []
    for lane, sender, delivery_id in dealt:
        if delivery_id not in rows:
            continue
        leased.append(rows[delivery_id])
        if lane == Lane.BULK:
            last_bulk, singles = sender, 0
        else:
            last_single, singles = sender, min(singles + 1, _BULK_SHARE - 1)
    if leased:
        await tx.connection.execute(_NEXT_TURN, provider, last_single, last_bulk, singles)
    return leased


_Place = tuple[str, str, UUID]  # lane, sender, delivery


async def _in_turn(
    tx: Transaction, provider: str, last: Mapping[Lane, str], limit: int
) -> tuple[list[_Place], list[_Place]]:
    """Return up to `limit` due in each lane: one of each sender, from the one after the last, then the next of each."""
    due = await _due_senders(tx, [provider])
    if not due:
        return [], []
    asked: list[tuple[str, str, int]] = []
    for lane, last_sender in last.items():
        senders = [sender for _, its_lane, sender, _ in due if its_lane == lane]
        ring = sorted(senders, key=lambda sender: (sender <= last_sender, sender))[:limit]
        at_most = 1 if len(ring) == limit else limit
        asked += [(lane, sender, at_most) for sender in ring]
    now = due[0][3]
    columns = [list(column) for column in zip(*asked, strict=True)]
    rows = [
        (row[0], row[1], row[2]) for row in await tx.connection.fetch(_IN_TURN, now, KNOWN_STATUSES, provider, *columns)
    ]
    return [row for row in rows if row[0] == Lane.SINGLE][:limit], [row for row in rows if row[0] == Lane.BULK][:limit]


def _deal(single: Sequence[_Place], bulk: Sequence[_Place], singles: int, limit: int) -> list[_Place]:
    """Return up to `limit` of both, as `Ledger.claim` orders them, `singles` single letters after the last bulk."""
    left_single, left_bulk, dealt = deque(single), deque(bulk), list[_Place]()
    while len(dealt) < limit and (left_single or left_bulk):
        if left_bulk and (not left_single or singles >= _BULK_SHARE - 1):
            dealt.append(left_bulk.popleft())
            singles = 0
        else:
            dealt.append(left_single.popleft())
            singles += 1
    return dealt


async def begin_attempt(
    tx: Transaction, claim: Claim, *, longest: timedelta, settle: timedelta, paper: PaperQuota | None
) -> int:
    """See `Ledger.begin_attempt`."""
    status, action = await _held(tx, _HELD_TO_BEGIN, claim)
    advanced = advance_delivery(DeliveryStatus(status), DeliveryStatus.DISPATCHING)
    delivery = claim.delivery
    number: int = await tx.connection.fetchval(
        _BEGIN,
        tx.now_or_null,
        advanced,
        delivery.message_id,
        delivery.delivery_id,
        action,
        longest,
        settle,
        claim.worker,
        TAKEN_UP_WITHIN,
    )
    if paper is not None and delivery.attempts == 0:
        await _count_paper(tx, paper)
    return number


async def _count_paper(tx: Transaction, paper: PaperQuota) -> None:
    """Count a letter; last in its transaction, because until the commit no other of the profile is counted."""
    if await tx.connection.fetchval(_PAPER, paper.sender, paper.profile, paper.day, paper.limit) is None:
        raise QuotaUsedUp


async def renew(tx: Transaction, claim: Claim, lease: timedelta) -> Claim:
    """See `Ledger.renew`."""
    until = await tx.connection.fetchval(_RENEW, tx.now_or_null, claim.delivery.delivery_id, claim.lease_token, lease)
    if until is None:
        raise LeaseLost
    return replace(claim, lease_until=until)


async def release(tx: Transaction, claim: Claim, delay: timedelta) -> None:
    """See `Ledger.release`."""
    delivery = claim.delivery
    await tx.connection.execute(
        _RELEASE, tx.now_or_null, delivery.message_id, delivery.delivery_id, claim.lease_token, delay
    )


async def attach_cover(
    tx: Transaction, claim: Claim, cover: DocumentRecord, dek: DekRow, retrieval: RetrievalRecord | None
) -> None:
    """See `Ledger.attach_cover`."""
    await _held(tx, _HELD_TO_ADD, claim)
    await hold_blobs(tx, claim.delivery.message_id, [cover.document_id], await tx.now())
    await add_deks(tx, [dek])
    await insert_documents(tx, claim.delivery.message_id, [cover])
    if retrieval is not None:
        await insert_retrieval(tx, retrieval)


async def _held(tx: Transaction, statement: str, claim: Claim) -> tuple[str, str]:
    """Lock a delivery that the claim still holds; return its status and next action. LeaseLost when it does not."""
    row = await tx.connection.fetchrow(
        statement, claim.delivery.message_id, claim.delivery.delivery_id, claim.lease_token
    )
    if row is None:
        raise LeaseLost
    return row[0], row[1]
