"""
The signed statements about a message: statement n is about the n-th entry of its traffic log, which only ever grows.

A statement is signed when it is first asked for, kept, and never made again. What it says rests on the log entry and on
what was frozen at acceptance, so it would always have said the same.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gateway.crypto.evidence import ETSI_EVENTS, EVIDENCE_TYP, Evidence, EvidenceDelivery
from gateway.crypto.receipts import ReceiptDocument, ReceiptSigner
from gateway.domain.message import Channel
from gateway.domain.status import DeliveryStatus, MessageStatus, Reason
from gateway.records.logs import leaf_sha256
from gateway.stores.ledger import Ledger
from gateway.stores.model import EvidenceRecord, MessageRecord, TimelineEntry

# Events of ETSI EN 319 522-3, table 2. What is not here has no counterpart: it is stated under our own word alone.
_OF_MESSAGES: Final[Mapping[str, str]] = {
    "accepted": "SubmissionAcceptance",
    "retrieved": "ContentHandover",
}
_AT_EBOX: Final[Mapping[str, str]] = {
    DeliveryStatus.ACCEPTED: "RelayAcceptance",
    DeliveryStatus.DELIVERED: "ContentConsignment",
    DeliveryStatus.REJECTED: "RelayRejection",
    DeliveryStatus.FAILED: "RelayFailure",
    "read": "ContentAccessTracking",
}
_ON_PAPER: Final[Mapping[str, str]] = {
    DeliveryStatus.ACCEPTED: "RelayToNonERDS",  # to the print house
    DeliveryStatus.DISPATCHED: "RelayToNonERDS",  # to the post
    DeliveryStatus.REJECTED: "RelayToNonERDSFailure",
    DeliveryStatus.FAILED: "RelayToNonERDSFailure",
    DeliveryStatus.CANCELLED: "RelayToNonERDSFailure",
    DeliveryStatus.LOST: "RelayToNonERDSFailure",
    DeliveryStatus.DELIVERED: "ContentHandover",
    DeliveryStatus.RETURNED: "ContentHandoverFailure",
}
_NEVER_SENT: Final = frozenset({Reason.EXPIRED, Reason.DOSSIER_ENDED})


def etsi_event(event: str, what: Mapping[str, Any]) -> str | None:
    """Return the URI of the standard's event that an entry corresponds to, or None."""
    match what.get("reason"):
        case Reason.UNREAD:
            return None  # the e-Box message was consigned before; that nobody read it is no event of the standard
        case reason if reason in _NEVER_SENT:
            return f"{ETSI_EVENTS}ContentHandoverFailure"
        case _:
            pass
    channel = what.get("channel")
    if channel is None:
        name = _OF_MESSAGES.get(event)
    elif what.get("messageStatus") == MessageStatus.CANCELLED:
        name = None  # by the sender, before anything was relayed
    else:
        name = (_ON_PAPER if channel == Channel.PRINT else _AT_EBOX).get(event)
    return None if name is None else ETSI_EVENTS + name


def statement(
    number: int, entry: TimelineEntry, record: MessageRecord, *, gateway: str, issued_at: datetime
) -> Evidence:
    """Return what is stated about the `number`-th entry of a message's traffic log."""
    what = json.loads(entry.entry)["what"]
    return Evidence(
        gateway=gateway,
        message_id=record.message_id,
        number=number,
        issued_at=issued_at,
        event=entry.event,
        etsi_event=etsi_event(entry.event, what),
        at=entry.at,
        sender=record.sender,
        profile=record.profile,
        reference=record.reference,
        delivery=_delivery(entry, what),
        reason=what.get("reason"),
        code=what.get("code"),
        documents=tuple(
            ReceiptDocument(part=document.part, sha256=document.sha256.hex(), size_bytes=document.size_bytes)
            for document in record.documents
            if document.kind == "document"
        ),
        message_sha256=record.message_sha256.hex(),
        leaf_sha256=leaf_sha256(entry.entry).hex(),
        receipt_sha256=hashlib.sha256(record.receipt_jws.encode()).hexdigest() if number == 1 else None,
    )


def _delivery(entry: TimelineEntry, what: Mapping[str, Any]) -> EvidenceDelivery | None:
    if entry.delivery_id is None:
        return None
    return EvidenceDelivery(
        delivery_id=entry.delivery_id,
        number=what.get("number"),
        channel=what.get("channel"),
        provider=what.get("provider"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceBook:
    """Gives statements in the name of `gateway`, each always in the same octets."""

    gateway: str
    ledger: Ledger
    signer: Callable[[], ReceiptSigner]
    clock: Callable[[], datetime]

    async def listed(self, record: MessageRecord) -> list[Evidence]:
        """Return what could be stated about a message by now; nothing is signed."""
        now = self.clock()
        timeline = await self.ledger.timeline(record.message_id)
        return [
            statement(number, entry, record, gateway=self.gateway, issued_at=now)
            for number, entry in enumerate(timeline, start=1)
        ]

    async def given(self, record: MessageRecord, number: int) -> str | None:
        """
        Return one statement as a compact JWS, signed now if it never was; None when there is no such entry.

        Raises:
            StoreUnavailable: the statement was not given; ask again.
        """
        facts = await self.listed(record)
        if not 1 <= number <= len(facts):
            return None
        return (await self._kept(record, [facts[number - 1]]))[number]

    async def all_given(self, record: MessageRecord) -> list[str]:
        """
        Return every statement about a message by now, in order, as compact JWS.

        Raises:
            StoreUnavailable: they were not given; ask again.
        """
        facts = await self.listed(record)
        kept = await self._kept(record, facts)
        return [kept[each.number] for each in facts]

    async def _kept(self, record: MessageRecord, wanted: Sequence[Evidence]) -> dict[int, str]:
        kept = await self._stored(record)
        missing = [each for each in wanted if each.number not in kept]
        if missing:
            await self.ledger.add_evidence(await asyncio.to_thread(_signed, missing, self.signer()))
            # Read back, because somebody who asked at the same time may have been faster: the first one stands.
            kept = await self._stored(record)
        return kept

    async def _stored(self, record: MessageRecord) -> dict[int, str]:
        return {each.number: each.jws for each in await self.ledger.evidence(record.message_id)}


def _signed(facts: Sequence[Evidence], signer: ReceiptSigner) -> list[EvidenceRecord]:
    return [
        EvidenceRecord(
            message_id=each.message_id,
            number=each.number,
            jws=signer.sign_jws(each.claims(), EVIDENCE_TYP),
            signed_at=each.issued_at,
        )
        for each in facts
    ]
