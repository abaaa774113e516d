"""The work before and around a provider call: leases, attempts, cover pages."""

from collections import deque
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain, islice, zip_longest
from typing import Final

import apsw

from gateway.crypto.vault import DekRow
from gateway.domain.message import Lane
from gateway.domain.schedule import TAKEN_UP_WITHIN
from gateway.domain.status import DeliveryStatus, advance_delivery
from gateway.errors import LeaseLost, QuotaUsedUp
from gateway.stores.model import (
    Claim,
    DocumentRecord,
    PaperQuota,
    RetrievalRecord,
)
from gateway.stores.sqlite.erasing import refuse_tombstones
from gateway.stores.sqlite.keys import add_deks
from gateway.stores.sqlite.retrieving import insert_retrieval
from gateway.stores.sqlite.rows import Row, blobs, delivery_of, from_ms, insert_document, to_ms

# A newer program may have left statuses that this one does not know; it must not touch them.
_KNOWN_STATUSES: Final = tuple(status.value for status in DeliveryStatus)

# While single letters are never all gone, one place in this many is for bulk: `Ledger.claim` promises it.
_BULK_SHARE: Final = 8
# As long as no more than these are due in a lane, they themselves tell which senders have something due.
_FEW: Final = 64
_BEYOND: Final = "~"  # comes after every sender, whose names are digits

_QUEUED: Final = "next_action IN ('send', 'reconcile', 'poll') AND provider = :provider AND lane = :lane"
_FREE: Final = "due_at <= :now AND (lease_until IS NULL OR lease_until <= :now) AND status IN carray(:statuses)"
_FIRST_DUE: Final = f"SELECT sender FROM delivery WHERE {_QUEUED} AND {_FREE} ORDER BY due_at LIMIT :limit"  # noqa: S608 -- made of constants
# Steps from sender to sender along the index, however many rows each has, and over those with nothing due.
_DUE_SENDERS: Final = f"""
WITH RECURSIVE queue (sender) AS (
  SELECT min(sender) FROM delivery WHERE {_QUEUED} AND sender > :after
  UNION ALL
  SELECT (SELECT min(sender) FROM delivery WHERE {_QUEUED} AND sender > queue.sender) FROM queue
  WHERE queue.sender < :through
)
SELECT sender FROM queue WHERE queue.sender <= :through
  AND EXISTS (SELECT 1 FROM delivery WHERE {_QUEUED} AND delivery.sender = queue.sender AND {_FREE})
LIMIT :limit
"""  # noqa: S608 -- made of constants
_DUE_OF_SENDER: Final = f"""
SELECT delivery_id FROM delivery WHERE {_QUEUED} AND sender = :sender AND {_FREE} ORDER BY due_at LIMIT :limit
"""  # noqa: S608 -- made of constants
_TURN: Final = "SELECT last_single, last_bulk, singles FROM turn WHERE provider = ?"
_NEXT_TURN: Final = """
INSERT INTO turn (provider, last_single, last_bulk, singles) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (provider) DO UPDATE SET last_single = ?2, last_bulk = ?3, singles = ?4
"""
_LEASE: Final = """
UPDATE delivery SET lease_token = lease_token + 1, lease_until = ?, worker = ? WHERE delivery_id IN carray(?)
RETURNING
  delivery_id, message_id, number, channel, provider, lane, status, status_at, reason, code, provider_reference,
  barcode, handed_over_at, posted_at, read_seen_at, attempts, first_attempt_at, next_action, due_at, deadline_at,
  lease_token, lease_until
"""
_HELD: Final = """
SELECT status, next_action FROM delivery WHERE delivery_id = ? AND lease_token = ? AND lease_until IS NOT NULL
"""
_BEGIN: Final = """
UPDATE delivery SET
  status = :status, status_at = :now, attempts = attempts + 1, first_attempt_at = coalesce(first_attempt_at, :now),
  next_action = 'reconcile', due_at = :reconcile_at, deadline_at = :late_at, lease_until = :deadline_at
WHERE delivery_id = :delivery_id
RETURNING attempts
"""
# The revision stays: the settlement of this very attempt names the one that was read before it.
_UNDER_WAY: Final = """
UPDATE message SET status = 'in-delivery' WHERE message_id = ? AND status IN ('accepted', 'scheduled')
"""
_ATTEMPT: Final = """
INSERT INTO attempt (delivery_id, number, action, worker, started_at, deadline_at) VALUES (?, ?, ?, ?, ?, ?)
"""
_PAPER: Final = """
INSERT INTO quota (sender, profile, day, messages, paper)
SELECT :sender, :profile, :day, 0, 1 WHERE :limit >= 1
ON CONFLICT (sender, profile, day) DO UPDATE SET paper = paper + 1 WHERE paper < :limit
"""
# An attempt's lease lasts until its deadline; renewing never shortens it.
_RENEW: Final = """
UPDATE delivery SET lease_until = max(lease_until, ?)
WHERE delivery_id = ? AND lease_token = ? AND lease_until IS NOT NULL
RETURNING lease_until
"""
_RELEASE: Final = """
UPDATE delivery SET due_at = max(coalesce(due_at, :due_at), :due_at), lease_until = NULL, worker = NULL
WHERE delivery_id = :delivery_id AND lease_token = :lease_token AND lease_until IS NOT NULL
"""
_GIVE_BACK_ALL: Final = "UPDATE delivery SET lease_until = NULL, worker = NULL WHERE lease_until IS NOT NULL"


def claim(
    connection: apsw.Connection, worker: str, *, now: datetime, lease: timedelta, limit: int, providers: Collection[str]
) -> list[Claim]:
    """See `Ledger.claim`."""
    now_ms, ids = to_ms(now), list[bytes]()
    for provider in sorted(set(providers)):
        ids += _take_turns(connection, provider, now_ms, limit)
    if not ids:
        return []
    rows = connection.execute(_LEASE, (to_ms(now + lease), worker, blobs(ids)))
    claims = {
        row[0]: Claim(delivery=delivery_of(row[:-2]), worker=worker, lease_token=row[-2], lease_until=from_ms(row[-1]))
        for row in rows
    }
    return [claims[delivery_id] for delivery_id in ids]


def _take_turns(connection: apsw.Connection, provider: str, now_ms: int, limit: int) -> list[bytes]:
    """Return what comes next for a provider, and note where the turns stand after it."""
    last_single, last_bulk, singles = connection.execute(_TURN, (provider,)).fetchone() or ("", "", 0)
    single = _Lane(connection, provider, Lane.SINGLE, now_ms).in_turn(last_single, limit)
    for_bulk = (singles + limit) // _BULK_SHARE if len(single) >= limit else limit
    bulk = _Lane(connection, provider, Lane.BULK, now_ms).in_turn(last_bulk, for_bulk)
    ids: list[bytes] = []
    while len(ids) < limit and (single or bulk):
        if bulk and (not single or singles >= _BULK_SHARE - 1):
            last_bulk, delivery_id = bulk.popleft()
            singles = 0
        else:
            last_single, delivery_id = single.popleft()
            singles = min(singles + 1, _BULK_SHARE - 1)
        ids.append(delivery_id)
    if ids:
        connection.execute(_NEXT_TURN, (provider, last_single, last_bulk, singles))
    return ids


class _Lane:
    """What is due in a lane of a provider; each look is a few short walks along an index, however long the queue is."""

    def __init__(self, connection: apsw.Connection, provider: str, lane: Lane, now_ms: int) -> None:
        self._connection = connection
        self._names = {"provider": provider, "lane": lane, "now": now_ms, "statuses": apsw.carray(_KNOWN_STATUSES)}

    def in_turn(self, last_sender: str, limit: int) -> deque[tuple[str, bytes]]:
        """Return up to `limit` deliveries, each with its sender: one of each sender, then the next of each."""
        if limit <= 0:
            return deque()
        senders = self._senders(last_sender, limit)
        of_each = 1 if len(senders) == limit else limit
        queues = [
            [(sender, row[0]) for row in self._rows(_DUE_OF_SENDER, of_each, sender=sender)] for sender in senders
        ]
        rounds = chain.from_iterable(zip_longest(*queues))
        return deque(islice((each for each in rounds if each is not None), limit))

    def _senders(self, last_sender: str, limit: int) -> list[str]:
        """Return up to `limit` senders with something due, in the order of their turns."""
        first_due = [row[0] for row in self._rows(_FIRST_DUE, _FEW + 1)]
        if len(first_due) <= _FEW:
            return sorted(set(first_due), key=lambda sender: (sender <= last_sender, sender))[:limit]
        after = [row[0] for row in self._rows(_DUE_SENDERS, limit, after=last_sender, through=_BEYOND)]
        around = self._rows(_DUE_SENDERS, limit - len(after), after="", through=last_sender)
        return [*after, *(row[0] for row in around)]

    def _rows(self, statement: str, limit: int, **names: str) -> list[Row]:
        return list(self._connection.execute(statement, {**self._names, "limit": limit, **names}))


def begin_attempt(
    connection: apsw.Connection,
    claim: Claim,
    *,
    now: datetime,
    longest: timedelta,
    settle: timedelta,
    paper: PaperQuota | None,
) -> int:
    """See `Ledger.begin_attempt`."""
    status, action = _held(connection, claim)
    if paper is not None and claim.delivery.attempts == 0:
        _count_paper(connection, paper)
    delivery_id, deadline_at = claim.delivery.delivery_id.bytes, now + longest
    number = connection.execute(
        _BEGIN,
        {
            "status": advance_delivery(DeliveryStatus(status), DeliveryStatus.DISPATCHING),
            "now": to_ms(now),
            "reconcile_at": to_ms(deadline_at + settle),
            "late_at": to_ms(deadline_at + settle + TAKEN_UP_WITHIN),
            "deadline_at": to_ms(deadline_at),
            "delivery_id": delivery_id,
        },
    ).get
    connection.execute(_UNDER_WAY, (claim.delivery.message_id.bytes,))
    connection.execute(_ATTEMPT, (delivery_id, number, action, claim.worker, to_ms(now), to_ms(deadline_at)))
    return int(number)


def _count_paper(connection: apsw.Connection, paper: PaperQuota) -> None:
    connection.execute(
        _PAPER,
        {"sender": paper.sender, "profile": paper.profile, "day": paper.day.isoformat(), "limit": paper.limit},
    )
    if not connection.changes():
        raise QuotaUsedUp


def renew(connection: apsw.Connection, claim: Claim, lease_until: datetime) -> Claim:
    """See `Ledger.renew`."""
    row = connection.execute(
        _RENEW, (to_ms(lease_until), claim.delivery.delivery_id.bytes, claim.lease_token)
    ).fetchone()
    if row is None:
        raise LeaseLost
    return replace(claim, lease_until=from_ms(row[0]))


def release(connection: apsw.Connection, claim: Claim, due_at: datetime) -> None:
    """See `Ledger.release`."""
    connection.execute(
        _RELEASE,
        {
            "due_at": to_ms(due_at),
            "delivery_id": claim.delivery.delivery_id.bytes,
            "lease_token": claim.lease_token,
        },
    )


def give_back_all(connection: apsw.Connection) -> None:
    """
    Give back every lease, when the ledger is opened: its one process is new, so whoever held them is dead.

    A call that had begun is still reconciled at its time only, which is when the delivery is due.
    """
    connection.execute(_GIVE_BACK_ALL)


def attach_cover(
    connection: apsw.Connection, claim: Claim, cover: DocumentRecord, dek: DekRow, retrieval: RetrievalRecord | None
) -> None:
    """See `Ledger.attach_cover`."""
    _held(connection, claim)
    refuse_tombstones(connection, [cover.document_id])
    add_deks(connection, [dek])
    insert_document(connection, claim.delivery.message_id, cover)
    if retrieval is not None:
        insert_retrieval(connection, retrieval)


def _held(connection: apsw.Connection, claim: Claim) -> tuple[str, str]:
    """Return status and next action of a delivery that the claim still holds; LeaseLost when it does not."""
    row = connection.execute(_HELD, (claim.delivery.delivery_id.bytes, claim.lease_token)).fetchone()
    if row is None:
        raise LeaseLost
    return row[0], row[1]
