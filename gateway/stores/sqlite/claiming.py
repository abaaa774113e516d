"""The work before and around a provider call: leases, attempts, cover pages."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import apsw

from gateway.crypto.vault import DekRow
from gateway.domain.message import Lane
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
from gateway.stores.sqlite.rows import blobs, delivery_of, from_ms, insert_document, to_ms

# A newer program may have left statuses that this one does not know; it must not touch them.
_KNOWN_STATUSES: Final = tuple(status.value for status in DeliveryStatus)

_DUE: Final = """
SELECT due_at, delivery_id FROM delivery
WHERE next_action IN ('send', 'reconcile', 'poll') AND provider = ? AND lane = ? AND due_at <= ?
  AND (lease_until IS NULL OR lease_until <= ?) AND status IN carray(?)
ORDER BY due_at LIMIT ?
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
  next_action = 'reconcile', due_at = :reconcile_at, deadline_at = :deadline_at, lease_until = :deadline_at
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
_RENEW: Final = """
UPDATE delivery SET lease_until = ? WHERE delivery_id = ? AND lease_token = ? AND lease_until IS NOT NULL
"""
_RELEASE: Final = """
UPDATE delivery SET due_at = max(coalesce(due_at, :due_at), :due_at), lease_until = NULL, worker = NULL
WHERE delivery_id = :delivery_id AND lease_token = :lease_token AND lease_until IS NOT NULL
"""


def claim(
    connection: apsw.Connection, worker: str, *, now: datetime, lease: timedelta, limit: int, providers: Collection[str]
) -> list[Claim]:
    """See `Ledger.claim`."""
    ids = _due(connection, to_ms(now), limit, sorted(set(providers)))
    if not ids:
        return []
    rows = connection.execute(_LEASE, (to_ms(now + lease), worker, blobs(ids)))
    claims = {
        row[0]: Claim(delivery=delivery_of(row[:-2]), worker=worker, lease_token=row[-2], lease_until=from_ms(row[-1]))
        for row in rows
    }
    return [claims[delivery_id] for delivery_id in ids]


def _due(connection: apsw.Connection, now_ms: int, limit: int, providers: Collection[str]) -> list[bytes]:
    """Return what is due, single letters first; each look is a short walk along one end of an index."""
    ids: list[bytes] = []
    for lane in (Lane.SINGLE, Lane.BULK):
        left = limit - len(ids)
        if left <= 0:
            break
        due: list[tuple[int, bytes]] = []
        for provider in providers:
            due += connection.execute(_DUE, (provider, lane, now_ms, now_ms, apsw.carray(_KNOWN_STATUSES), left))
        ids += [delivery_id for _, delivery_id in sorted(due)[:left]]
    return ids


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
    until_ms = to_ms(lease_until)
    connection.execute(_RENEW, (until_ms, claim.delivery.delivery_id.bytes, claim.lease_token))
    if not connection.changes():
        raise LeaseLost
    return replace(claim, lease_until=from_ms(until_ms))


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
