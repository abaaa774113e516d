"""Batches, and the messages that stand for their items."""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from gateway.domain.ids import EnterpriseNumber, MessageId
from gateway.errors import Kind
from gateway.stores.encoding import batch_conflict
from gateway.stores.model import BatchLink, BatchRecord, ItemRefusal
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
ON CONFLICT DO NOTHING RETURNING batch_id -- of another request, or of another item of this one
"""
_LINK: Final = """
INSERT INTO batch_item (batch_id, number, message_id, is_proof) VALUES ($1, $2, $3, $4)
ON CONFLICT (batch_id, number) DO UPDATE
SET message_id = excluded.message_id, is_proof = excluded.is_proof, refused_as = NULL, refused_at = NULL
WHERE batch_item.message_id IS NULL
"""
_LINKED: Final = "SELECT number, message_id, is_proof FROM batch_item WHERE batch_id = $1 AND number = $2"
_LINKS: Final = """
SELECT number, message_id, is_proof FROM batch_item WHERE batch_id = $1 AND message_id IS NOT NULL ORDER BY number
"""
_REFUSE: Final = """
INSERT INTO batch_item (batch_id, number, is_proof, refused_as, refused_at)
SELECT $1, refusal.number, FALSE, refusal.code, refusal.refused_at
FROM unnest($2::integer[], $3::text[], $4::timestamptz[]) AS refusal (number, code, refused_at)
ORDER BY refusal.number
ON CONFLICT (batch_id, number) DO UPDATE
SET refused_as = excluded.refused_as, refused_at = excluded.refused_at
WHERE batch_item.message_id IS NULL
"""
_REFUSALS: Final = """
SELECT number, refused_as, refused_at FROM batch_item WHERE batch_id = $1 AND message_id IS NULL ORDER BY number
"""
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


async def batch_refusals(tx: Transaction, batch_id: UUID) -> list[ItemRefusal]:
    """See `Ledger.batch_refusals`."""
    return [
        ItemRefusal(number=number, kind=Kind(code), refused_at=refused_at)
        for number, code, refused_at in await tx.connection.fetch(_REFUSALS, batch_id)
    ]


async def note_refusals(tx: Transaction, batch: BatchRecord, refusals: Sequence[ItemRefusal]) -> None:
    """See `Ledger.note_refusals`."""
    known = await tx.connection.fetchrow(_KNOWN, batch.sender, batch.profile, batch.reference)
    if known is None or known[1] != batch.content_sha256:
        return
    numbers = [refusal.number for refusal in refusals]
    codes = [str(refusal.kind) for refusal in refusals]
    await tx.connection.execute(_REFUSE, known[0], numbers, codes, [floor_ms(each.refused_at) for each in refusals])


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
