"""
Entries of the traffic, privacy and admin log. The format lives for ten years.

An entry is RFC 8785 JSON: `v` 1, `log`, `id`, `ts`, `ev`, `who` (organisation numbers, roles), `what` (ids, states,
codes), `res` (outcome), and `commit`: for each personal value the hexadecimal HMAC-SHA-256(r, field ‖ 0x00 ‖ value),
where r is 32 random bytes. r and the clear values are sealed beside the entry; once they are destroyed, the entry
proves what it always proved and tells nothing. The Merkle leaf is SHA-256(0x00 ‖ entry) (RFC 6962, section 2.1).
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from gateway.crypto.canonical import canonical_json
from gateway.crypto.vault import Dek, Vault
from gateway.domain.ids import DeliveryId, EnterpriseNumber, MessageId, sender_uuid
from gateway.domain.message import Recipient
from gateway.records.personal import recipient_index
from gateway.stores.ledger import Ledger
from gateway.stores.model import Log, LogEntry

_LEAF: Final = b"\x00"
_BLINDING_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Personal:
    """The personal values of an entry, the key that seals them and, where there is one, the index of the person."""

    values: Mapping[str, str]
    dek: Dek
    about_index: bytes | None = None
    about_index_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose message an entry is about; all None for entries about none."""

    sender: EnterpriseNumber | None = None
    profile: str | None = None
    message_id: MessageId | None = None
    delivery_id: DeliveryId | None = None


@dataclass(frozen=True, slots=True)
class LogBook:
    """Makes entries for the gateway of that name; `ids` gives a fresh UUIDv7, `clock` the time."""

    gateway: str
    clock: Callable[[], datetime]
    ids: Callable[[], UUID]
    vault: Vault
    ledger: Ledger

    def entry(
        self,
        log: Log,
        event: str,
        *,
        who: Mapping[str, str],
        what: Mapping[str, str | int],
        result: str,
        subject: Subject,
        personal: Personal | None = None,
        at: datetime | None = None,
    ) -> LogEntry:
        """Return an entry that happened at `at` (now), ready for the ledger."""
        at = at or self.clock()
        entry_id = self.ids()
        body: dict[str, object] = {
            "v": 1,
            "log": str(log),
            "id": str(entry_id),
            "ts": at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "ev": event,
            "who": dict(who),
            "what": dict(what),
            "res": result,
        }
        sealed: bytes | None = None
        if personal is not None:
            blinding = secrets.token_bytes(_BLINDING_BYTES)
            body["commit"] = {name: commitment(blinding, name, value) for name, value in personal.values.items()}
            clear = json.dumps({"r": blinding.hex(), **personal.values}, ensure_ascii=False).encode()
            sealed = personal.dek.seal_field(table="log_entry", column="sealed_clear", row=entry_id.bytes, value=clear)
        entry = canonical_json(body)
        return LogEntry(
            entry_id=entry_id,
            log=log,
            at=at,
            event=event,
            sender=subject.sender,
            profile=subject.profile,
            message_id=subject.message_id,
            delivery_id=subject.delivery_id,
            about_index=personal.about_index if personal is not None else None,
            about_index_version=personal.about_index_version if personal is not None else None,
            entry=entry,
            leaf_sha256=leaf_sha256(entry),
            dek_id=personal.dek.row.dek_id if personal is not None else None,
            sealed_clear=sealed,
        )

    async def about(self, recipient: Recipient, purpose: str, dek: Dek) -> Personal:
        """Return the personal values of an entry about a recipient, indexed for the data protection officer."""
        index = await self.vault.blind_index("privacy")
        number = recipient.ssin or recipient.enterprise_number
        about_index = recipient_index(index, recipient)
        return Personal(
            values={"purpose": purpose} | ({"about": number} if number is not None else {}),
            dek=dek,
            about_index=about_index,
            about_index_version=index.version if about_index is not None else None,
        )

    async def log_key(self, sender: EnterpriseNumber) -> Dek:
        """Return the key that seals this sender's entries of this year, for entries about no accepted message."""
        sender_id, year = sender_uuid(sender), self.clock().year
        row = await self.ledger.log_key(sender_id, year)
        if row is None:
            fresh = await self.vault.new_dek(sender_id, "log")
            row = await self.ledger.add_log_key(sender_id, year, fresh.row)
        return await self.vault.open_dek(row, sender_id)


def leaf_sha256(entry: bytes) -> bytes:
    """Return the Merkle leaf of an entry, SHA-256(0x00 ‖ entry)."""
    return hashlib.sha256(_LEAF + entry).digest()


def commitment(blinding: bytes, name: str, value: str) -> str:
    """Return the hexadecimal HMAC-SHA-256(blinding, name ‖ 0x00 ‖ value) that stands for a personal value."""
    return hmac.new(blinding, name.encode() + b"\x00" + value.encode(), hashlib.sha256).hexdigest()
