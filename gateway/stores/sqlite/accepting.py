"""The commit point of acceptance: one reference, one quota unit, one message."""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Final
from uuid import UUID

import apsw

from gateway.domain.ids import EnterpriseNumber, MessageId
from gateway.stores.encoding import quota_exceeded
from gateway.stores.model import (
    BatchLink,
    KnownReference,
    MessageRecord,
    NewMessage,
    QuotaUse,
)
from gateway.stores.sqlite.batching import link_item
from gateway.stores.sqlite.enclosing import insert_enclosures
from gateway.stores.sqlite.erasing import refuse_tombstones
from gateway.stores.sqlite.keys import add_deks
from gateway.stores.sqlite.logs import append
from gateway.stores.sqlite.messages import insert_message

_BURN: Final = """
INSERT INTO reference (sender, profile, reference, message_id, content_sha256) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (sender, profile, reference) DO NOTHING
"""
_FIND: Final = """
SELECT message_id, content_sha256 FROM reference WHERE sender = ? AND profile = ? AND reference = ?
"""
_COUNT: Final = """
INSERT INTO quota (sender, profile, day, messages, paper)
SELECT :sender, :profile, :day, 1, 0 WHERE :limit IS NULL OR :limit >= 1
ON CONFLICT (sender, profile, day) DO UPDATE SET messages = messages + 1 WHERE :limit IS NULL OR messages < :limit
"""
_USE: Final = "SELECT profile, messages, paper FROM quota WHERE sender = ? AND day = ?"


def record(connection: apsw.Connection, new: NewMessage, clock: Callable[[], datetime]) -> KnownReference | None:
    """See `Ledger.record`."""
    known = _burn_reference(connection, new.message)
    if known is not None:
        return known
    refuse_tombstones(connection, [each.document_id for each in new.message.documents if not each.enclosed])
    _count_against_quota(connection, new, clock)
    add_deks(connection, new.deks)
    insert_message(connection, new.message)
    insert_enclosures(connection, new.enclosures)
    append(connection, new.logs)
    if new.item is not None:
        link = BatchLink(number=new.item.number, message_id=new.message.message_id, is_proof=True)
        link_item(connection, new.item.batch, link)
    return None


def find_reference(
    connection: apsw.Connection, sender: EnterpriseNumber, profile: str, reference: str
) -> KnownReference | None:
    """See `Ledger.find_reference`."""
    row = connection.execute(_FIND, (sender, profile, reference)).fetchone()
    return None if row is None else KnownReference(message_id=MessageId(UUID(bytes=row[0])), content_sha256=row[1])


def quota_use(connection: apsw.Connection, sender: EnterpriseNumber, day: date) -> Mapping[str, QuotaUse]:
    """See `Ledger.quota_use`."""
    rows = connection.execute(_USE, (sender, day.isoformat()))
    return {profile: QuotaUse(messages=messages, paper=paper) for profile, messages, paper in rows}


def _burn_reference(connection: apsw.Connection, message: MessageRecord) -> KnownReference | None:
    """Burn the reference of a message; return what burnt it before, if anything did."""
    key = (message.sender, message.profile, message.reference)
    connection.execute(_BURN, (*key, message.message_id.bytes, message.content_sha256))
    return None if connection.changes() else find_reference(connection, *key)


def _count_against_quota(connection: apsw.Connection, new: NewMessage, clock: Callable[[], datetime]) -> None:
    connection.execute(
        _COUNT,
        {
            "sender": new.message.sender,
            "profile": new.message.profile,
            "day": new.day.isoformat(),
            "limit": new.messages_per_day,
        },
    )
    if not connection.changes():
        raise quota_exceeded(new, clock())
