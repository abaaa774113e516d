"""Batches, and the messages that stand for their items."""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from gateway.domain.ids import EnterpriseNumber, MessageId
from gateway.stores.encoding import batch_conflict
from gateway.stores.model import BatchLink, BatchRecord
from gateway.stores.postgres.rows import floor_ms
from gateway.stores.postgres.sessions import Row, Transaction

_SELECT: Final = """
SELECT batch_id, sender, profile, party, reference, content_sha256, accepted_at, part FROM batch
"""
_FIND: Final = _SELECT + "WHERE sender = $1 AND profile = $2 AND reference = $3"
_SOME: Final = _SELECT + "WHERE batch_id = ANY($1::uuid[])"
_KNOWN: Final = "SELECT batch_id, content_sha256 FROM batch WHERE sender = $1 AND profile = $2 AND reference = $3"
_INSERT: Final = """
INSERT INTO batch (batch_id, sender, profile, party, reference, content_sha256, accepted_at, part)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (sender, profile, reference) DO NOTHING RETURNING batch_id
"""
_LINK: Final = """
INSERT INTO batch_item (batch_id, number, message_id, is_proof) VALUES ($1, $2, $3, $4)
ON CONFLICT (batch_id, number) DO NOTHING
"""
_LINKED: Final = "SELECT number, message_id, is_proof FROM batch_item WHERE batch_id = $1 AND number = $2"
_LINKS: Final = "SELECT number, message_id, is_proof FROM batch_item WHERE batch_id = $1 ORDER BY number"
_PROVING: Final = "SELECT message_id, batch_id FROM batch_item WHERE message_id = ANY($1::uuid[]) AND is_proof"


async def link_item(tx: Transaction, batch: BatchRecord, link: BatchLink) -> BatchLink:
    """See `Ledger.link_item`."""
    batch_id = await _keep(tx, batch)
    await tx.connection.execute(_LINK, batch_id, link.number, link.message_id, link.is_proof)
    (row,) = await tx.connection.fetch(_LINKED, batch_id, link.number)
    return _link_of(row)


async def find_batch(tx: Transaction, sender: EnterpriseNumber, profile: str, reference: str) -> BatchRecord | None:
    """See `Ledger.find_batch`."""
    row = await tx.connection.fetchrow(_FIND, sender, profile, reference)
    return None if row is None else _batch_of(row)


async def batch(tx: Transaction, batch_id: UUID) -> BatchRecord | None:
    """See `Ledger.batch`."""
    row = await tx.connection.fetchrow(_SOME, [batch_id])
    return None if row is None else _batch_of(row)


async def batch_links(tx: Transaction, batch_id: UUID) -> list[BatchLink]:
    """See `Ledger.batch_links`."""
    return [_link_of(row) for row in await tx.connection.fetch(_LINKS, batch_id)]


async def proving_batch(tx: Transaction, message_id: MessageId) -> BatchRecord | None:
    """See `Ledger.proving_batch`."""
    return (await proving_batches(tx, [message_id])).get(message_id)


async def proving_batches(tx: Transaction, message_ids: Sequence[MessageId]) -> Mapping[MessageId, BatchRecord]:
    """Return the batches that prove some messages, each read once; messages that came alone are left out."""
    rows = await tx.connection.fetch(_PROVING, list(message_ids))
    if not rows:
        return {}
    kept = await tx.connection.fetch(_SOME, list({batch_id for _, batch_id in rows}))
    found = {row[0]: _batch_of(row) for row in kept}
    return {MessageId(message_id): found[batch_id] for message_id, batch_id in rows if batch_id in found}


async def _keep(tx: Transaction, new: BatchRecord) -> UUID:
    """
    Write a batch down unless it is; return the id of the one in force.

    It is looked for first, for its octets may be two million. Whoever writes the same reference at this moment is
    waited for, so one row tells who was first.
    """
    key = (new.sender, new.profile, new.reference)
    known = await tx.connection.fetchrow(_KNOWN, *key)
    if known is None:
        values = (new.batch_id, *key[:2], new.party, new.reference, new.content_sha256, floor_ms(new.accepted_at))
        if await tx.connection.fetchval(_INSERT, *values, new.part) is not None:
            return new.batch_id
        (known,) = await tx.connection.fetch(_KNOWN, *key)
    batch_id: UUID = known[0]
    if known[1] != new.content_sha256:
        raise batch_conflict(batch_id)
    return batch_id


def _batch_of(row: Row) -> BatchRecord:
    batch_id, sender, profile, party, reference, content_sha256, accepted_at, part = row
    return BatchRecord(
        batch_id=batch_id,
        sender=EnterpriseNumber(sender),
        profile=profile,
        party=EnterpriseNumber(party),
        reference=reference,
        content_sha256=content_sha256,
        accepted_at=accepted_at,
        part=part,
    )


def _link_of(row: Row) -> BatchLink:
    number, message_id, is_proof = row
    return BatchLink(number=number, message_id=MessageId(message_id), is_proof=is_proof)
