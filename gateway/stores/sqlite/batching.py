"""Batches, and the messages that stand for their items."""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

import apsw

from gateway.domain.ids import EnterpriseNumber, MessageId
from gateway.errors import Kind
from gateway.stores.encoding import batch_conflict
from gateway.stores.model import BatchLink, BatchRecord, ItemRefusal
from gateway.stores.sqlite.rows import Row, blobs, from_ms, to_ms

_SELECT: Final = """
SELECT batch_id, sender, profile, party, reference, content_sha256, accepted_at, part FROM batch
"""
_FIND: Final = _SELECT + "WHERE sender = ? AND profile = ? AND reference = ?"
_ONE: Final = _SELECT + "WHERE batch_id = ?"
_KNOWN: Final = "SELECT batch_id, content_sha256 FROM batch WHERE sender = ? AND profile = ? AND reference = ?"
_INSERT: Final = """
INSERT INTO batch (batch_id, sender, profile, party, reference, content_sha256, accepted_at, part)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_LINK: Final = """
INSERT INTO batch_item (batch_id, number, message_id, is_proof) VALUES (?, ?, ?, ?)
ON CONFLICT (batch_id, number) DO UPDATE
SET message_id = excluded.message_id, is_proof = excluded.is_proof, refused_as = NULL, refused_at = NULL
WHERE message_id IS NULL
"""
_LINKED: Final = "SELECT number, message_id, is_proof FROM batch_item WHERE batch_id = ? AND number = ?"
_LINKS: Final = """
SELECT number, message_id, is_proof FROM batch_item WHERE batch_id = ? AND message_id IS NOT NULL ORDER BY number
"""
_REFUSE: Final = """
INSERT INTO batch_item (batch_id, number, is_proof, refused_as, refused_at) VALUES (?, ?, 0, ?, ?)
ON CONFLICT (batch_id, number) DO UPDATE
SET refused_as = excluded.refused_as, refused_at = excluded.refused_at
WHERE message_id IS NULL
"""
_REFUSALS: Final = """
SELECT number, refused_as, refused_at FROM batch_item WHERE batch_id = ? AND message_id IS NULL ORDER BY number
"""
_PROVING: Final = "SELECT message_id, batch_id FROM batch_item WHERE message_id IN carray(?) AND is_proof = 1"


def link_item(connection: apsw.Connection, batch: BatchRecord, link: BatchLink) -> BatchLink:
    """See `Ledger.link_item`."""
    batch_id = _keep(connection, batch)
    connection.execute(_LINK, (batch_id, link.number, link.message_id.bytes, int(link.is_proof)))
    (row,) = connection.execute(_LINKED, (batch_id, link.number)).fetchall()
    return _link_of(row)


def find_batch(
    connection: apsw.Connection, sender: EnterpriseNumber, profile: str, reference: str
) -> BatchRecord | None:
    """See `Ledger.find_batch`."""
    return _batch_of(connection.execute(_FIND, (sender, profile, reference)).fetchone())


def batch(connection: apsw.Connection, batch_id: UUID) -> BatchRecord | None:
    """See `Ledger.batch`."""
    return _batch_of(connection.execute(_ONE, (batch_id.bytes,)).fetchone())


def batch_links(connection: apsw.Connection, batch_id: UUID) -> list[BatchLink]:
    """See `Ledger.batch_links`."""
    return [_link_of(row) for row in connection.execute(_LINKS, (batch_id.bytes,))]


def batch_refusals(connection: apsw.Connection, batch_id: UUID) -> list[ItemRefusal]:
    """See `Ledger.batch_refusals`."""
    return [
        ItemRefusal(number=number, kind=Kind(code), refused_at=from_ms(refused_at))
        for number, code, refused_at in connection.execute(_REFUSALS, (batch_id.bytes,))
    ]


def note_refusals(connection: apsw.Connection, batch: BatchRecord, refusals: Sequence[ItemRefusal]) -> None:
    """See `Ledger.note_refusals`."""
    known = connection.execute(_KNOWN, (batch.sender, batch.profile, batch.reference)).fetchone()
    if known is None or known[1] != batch.content_sha256:
        return
    rows = [(known[0], refusal.number, refusal.kind, to_ms(refusal.refused_at)) for refusal in refusals]
    connection.executemany(_REFUSE, rows)


def proving_batch(connection: apsw.Connection, message_id: MessageId) -> BatchRecord | None:
    """See `Ledger.proving_batch`."""
    return proving_batches(connection, [message_id]).get(message_id)


def proving_batches(connection: apsw.Connection, message_ids: Sequence[MessageId]) -> Mapping[MessageId, BatchRecord]:
    """Return the batches that prove some messages, each read once; messages that came alone are left out."""
    if not message_ids:
        return {}
    rows: Sequence[Row] = connection.execute(_PROVING, (blobs([each.bytes for each in message_ids]),)).fetchall()
    found = {batch_id: batch(connection, UUID(bytes=batch_id)) for batch_id in {batch_id for _, batch_id in rows}}
    return {
        MessageId(UUID(bytes=message_id)): kept
        for message_id, batch_id in rows
        if (kept := found[batch_id]) is not None
    }


def _keep(connection: apsw.Connection, new: BatchRecord) -> bytes:
    """Write a batch down unless it is; return the id of the one in force."""
    known = connection.execute(_KNOWN, (new.sender, new.profile, new.reference)).fetchone()
    if known is None:
        values = (new.batch_id.bytes, new.sender, new.profile, new.party, new.reference, new.content_sha256)
        connection.execute(_INSERT, (*values, to_ms(new.accepted_at), new.part))
        return new.batch_id.bytes
    batch_id, content_sha256 = known
    if content_sha256 != new.content_sha256:
        raise batch_conflict(UUID(bytes=batch_id))
    return bytes(batch_id)


def _batch_of(row: Row | None) -> BatchRecord | None:
    if row is None:
        return None
    batch_id, sender, profile, party, reference, content_sha256, accepted_at, part = row
    return BatchRecord(
        batch_id=UUID(bytes=batch_id),
        sender=EnterpriseNumber(sender),
        profile=profile,
        party=EnterpriseNumber(party),
        reference=reference,
        content_sha256=content_sha256,
        accepted_at=from_ms(accepted_at),
        part=part,
    )


def _link_of(row: Row) -> BatchLink:
    number, message_id, is_proof = row
    return BatchLink(number=number, message_id=MessageId(UUID(bytes=message_id)), is_proof=bool(is_proof))
