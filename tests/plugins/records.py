"""Pytest plugin: records to put into a ledger."""

import itertools
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway.crypto.vault import DekRow, KekRow
from gateway.domain.ids import DeliveryId, DocumentId, EnterpriseNumber, MessageId, sender_uuid
from gateway.domain.message import Channel, Cover, Lane, PrintOptions, PrintProduct, Priority
from gateway.domain.retention import CopyState, Keep
from gateway.domain.routing import Route, SkippedChannel
from gateway.domain.status import DeliveryStatus, MessageStatus, NextAction
from gateway.stores.model import (
    Claim,
    DeliveryChange,
    DeliveryRecord,
    DocumentRecord,
    DossierRecord,
    Letterhead,
    Log,
    LogEntry,
    MessageRecord,
    NewMessage,
    RetrievalRecord,
    Settlement,
)

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
TODAY = NOW.date()
SENDER = EnterpriseNumber("0406798006")


class Records:
    """Makes records that are right and differ from each other; what a test is about, it names."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.kek = KekRow(
            kek_id=uuid4(), sender_id=sender_uuid(SENDER), year=2026, master_id="local-1", wrapped=os.urandom(104)
        )

    def dek(self, **named: Any) -> DekRow:
        made = DekRow(dek_id=uuid4(), kek_id=self.kek.kek_id, purpose="document", wrapped=os.urandom(104))
        return replace(made, **named)

    def log(self, **named: Any) -> LogEntry:
        number = next(self._numbers)
        made = LogEntry(
            entry_id=uuid4(),
            log=Log.TRAFFIC,
            at=NOW,
            event=f"event-{number}",
            entry=b'{"number":%d}' % number,
            leaf_sha256=os.urandom(32),
        )
        return replace(made, **named)

    def document(self, dek_id: UUID, **named: Any) -> DocumentRecord:
        made = DocumentRecord(
            document_id=DocumentId(uuid4()),
            number=1,
            part="upfile1",
            media_type="application/pdf",
            size_bytes=20_000,
            sha256=os.urandom(32),
            main=True,
            signed=False,
            sealed_filename=os.urandom(40),
            dek_id=dek_id,
        )
        return replace(made, **named)

    def delivery(self, message_id: MessageId, **named: Any) -> DeliveryRecord:
        made = DeliveryRecord(
            delivery_id=DeliveryId(uuid4()),
            message_id=message_id,
            number=1,
            channel=Channel.PRINT,
            provider="house-a",
            lane=Lane.SINGLE,
            status_at=NOW,
            due_at=NOW,
            deadline_at=NOW + timedelta(days=2),
        )
        return replace(made, **named)

    def new(
        self,
        *,
        documents: int = 1,
        delivery: dict[str, Any] | None = None,
        day: date = TODAY,
        messages_per_day: int | None = None,
        logs: tuple[LogEntry, ...] | None = None,
        **named: Any,
    ) -> NewMessage:
        """Return a message as acceptance commits it, with `documents` documents and one delivery."""
        message_id = MessageId(uuid4())
        meta = self.dek(purpose="meta")
        deks = [self.dek() for _ in range(documents)]
        message = MessageRecord(
            message_id=message_id,
            sender=SENDER,
            profile="burgerzaken",
            party=EnterpriseNumber("0566988259"),
            registration_version=3,
            reference=f"2026-{next(self._numbers):06}",
            category="tax-assessment",
            legal_basis="WIB92 art. 302",
            language="nl",
            lane=Lane.SINGLE,
            status=MessageStatus.ACCEPTED,
            accepted_at=NOW,
            created_at=NOW - timedelta(minutes=1),
            deliver_not_before=None,
            deliver_before=None,
            retention=timedelta(days=90),
            billing_reference=None,
            route=Route(channels=(Channel.PRINT,), providers={Channel.PRINT: "house-a"}),
            letterhead=Letterhead(sender_name="Gemeente", display_name="Burgerzaken", public_contact="09 000 00 00"),
            print_options=PrintOptions(),
            dossier_rule=False,
            content_sha256=os.urandom(32),
            message_sha256=os.urandom(32),
            recipient_index=None,
            recipient_index_version=None,
            meta_dek_id=meta.dek_id,
            sealed_recipient=os.urandom(200),
            sealed_subject=os.urandom(60),
            sealed_purpose=os.urandom(60),
            sealed_signed_message=os.urandom(4_000),
            receipt_jws="eyJ.eyJ.sig",
            receipt_xml=b"<Receipt/>",
            documents=tuple(
                self.document(dek.dek_id, number=number, part=f"upfile{number}", main=number == 1)
                for number, dek in enumerate(deks, start=1)
            ),
            deliveries=(self.delivery(message_id, **(delivery or {})),),
        )
        message = replace(message, **named)
        return NewMessage(
            message=message,
            deks=(*deks, meta),
            logs=(self.log(message_id=message.message_id),) if logs is None else logs,
            day=day,
            messages_per_day=messages_per_day,
        )

    def enclosing(self, *sealed: bytes, **named: Any) -> NewMessage:
        """Return a message whose documents are enclosed in it, sealed as these bytes."""
        return _enclosed(self.new(documents=len(sealed), **named), sealed)

    def mixed(self, *sealed: bytes, **named: Any) -> NewMessage:
        """Return a message with documents that are enclosed, sealed as these bytes, and behind them one that is not."""
        return _enclosed(self.new(documents=len(sealed) + 1, **named), sealed)

    def full(self) -> NewMessage:
        """Return a message in which every field that may be absent is there, and none has its default."""
        new = self.new(
            documents=2,
            deliver_not_before=NOW + timedelta(days=1),
            deliver_before=NOW + timedelta(days=9),
            billing_reference="kost-7",
            lane=Lane.BULK,
            status=MessageStatus.SCHEDULED,
            route=Route(
                channels=(Channel.EBOX_CITIZEN, Channel.PRINT),
                skipped=(SkippedChannel(channel=Channel.EBOX_ENTERPRISE, why="it needs a recipient with … “é”"),),
                fallback=frozenset({"no-consent", "unread"}),
                unread_after=timedelta(days=15),
                providers={Channel.EBOX_CITIZEN: "bosa", Channel.PRINT: "house-a"},
                ebox={Channel.EBOX_CITIZEN: ("TAX", "app-1")},
            ),
            letterhead=Letterhead(
                sender_name="Gemeente Voorbeeld",
                display_name="Burgerzaken",
                public_contact="09 000 00 00",
                return_address=("Postbus 1", "9000 Gent"),
            ),
            print_options=PrintOptions(
                product=PrintProduct.REGISTERED_AR,
                duplex=False,
                colour=True,
                priority=Priority.NON_PRIOR,
                cover=Cover.NEVER,
            ),
            dossier_rule=True,
            recipient_index=os.urandom(32),
            recipient_index_version=2,
            copy_state=CopyState.KEPT,
            copy_until=NOW + timedelta(days=30),
        )
        delivery = replace(
            new.message.deliveries[0],
            channel=Channel.EBOX_CITIZEN,
            provider="bosa",
            lane=Lane.BULK,
            status=DeliveryStatus.ACCEPTED,
            reason="no-digital-user",
            code="NO_DIGITAL_USER",
            provider_reference="ref-1",
            barcode="323299901059900000010000",
            handed_over_at=NOW,
            posted_at=NOW + timedelta(hours=1),
            read_seen_at=NOW + timedelta(hours=2),
            attempts=4,
            first_attempt_at=NOW - timedelta(hours=1),
            next_action=NextAction.POLL,
        )
        second = self.delivery(new.message.message_id, number=2, due_at=None, deadline_at=None)
        first_document, second_document = new.message.documents
        documents = (
            replace(first_document, pages=3, signed=True, enclosed=True),
            replace(second_document, delivery_id=second.delivery_id, kind="cover", key_destroyed_at=NOW),
        )
        message = replace(new.message, deliveries=(delivery, second), documents=documents)
        return replace(new, message=message, enclosures={first_document.document_id: os.urandom(20_137)})

    def change(self, **named: Any) -> DeliveryChange:
        made = DeliveryChange(
            status=DeliveryStatus.ACCEPTED,
            next_action=NextAction.POLL,
            due_at=NOW + timedelta(hours=1),
            deadline_at=NOW + timedelta(days=5),
            at=NOW + timedelta(minutes=1),
        )
        return replace(made, **named)

    def settlement(self, change: DeliveryChange | None = None, **named: Any) -> Settlement:
        made = Settlement(
            change=change or self.change(),
            message_revision=0,
            message_status=MessageStatus.IN_DELIVERY,
            keep=Keep(state=CopyState.IN_DELIVERY, until=None),
        )
        return replace(made, **named)

    def retrieval(self, claim: Claim, **named: Any) -> RetrievalRecord:
        made = RetrievalRecord(
            delivery_id=claim.delivery.delivery_id,
            message_id=claim.delivery.message_id,
            token_hash=os.urandom(32),
            number_hash=os.urandom(32),
            code_hash=os.urandom(32),
            index_version=1,
            created_at=NOW,
        )
        return replace(made, **named)

    def dossier(self, dek_id: UUID, **named: Any) -> DossierRecord:
        made = DossierRecord(
            dossier_id=uuid4(),
            sender=SENDER,
            category="tax-assessment",
            recipient_index=b"r" * 32,
            recipient_index_version=1,
            from_on=date(2026, 1, 1),
            until_on=None,
            registered_at=NOW,
            dek_id=dek_id,
            sealed_recipient=os.urandom(60),
        )
        return replace(made, **named)


def _enclosed(new: NewMessage, sealed: Sequence[bytes]) -> NewMessage:
    """Return a message whose first documents are enclosed."""
    first, rest = new.message.documents[: len(sealed)], new.message.documents[len(sealed) :]
    documents = (*(replace(document, enclosed=True) for document in first), *rest)
    enclosures = {document.document_id: each for document, each in zip(first, sealed, strict=True)}
    return replace(new, message=replace(new.message, documents=documents), enclosures=enclosures)


@pytest.fixture
def records() -> Records:
    return Records()
