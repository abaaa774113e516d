"""The commit point: the message, its receipt and its log entries in one transaction."""

from collections.abc import Iterable
from datetime import datetime

from gateway.accept.again import answer_again
from gateway.accept.spool import discard
from gateway.accept.stages import (
    AcceptDeps,
    Accepted,
    Spooled,
)
from gateway.crypto.receipts import Receipt, ReceiptDocument
from gateway.crypto.vault import Dek
from gateway.domain.calendar import day_of
from gateway.domain.ids import DeliveryId
from gateway.domain.message import Lane, Message, PrintOptions
from gateway.domain.registration import RecipientRule
from gateway.domain.schedule import send_by
from gateway.domain.status import MessageStatus
from gateway.errors import Refusal
from gateway.records import personal
from gateway.records.logs import Subject
from gateway.stores.model import (
    DeliveryRecord,
    Letterhead,
    Log,
    LogEntry,
    MessageRecord,
    NewItem,
    NewMessage,
    TimelineEntry,
)


async def record(spooled: Spooled, deps: AcceptDeps) -> Accepted:
    """
    Commit the message with its receipt. When this returns, the message is ours.

    Raises:
        Refusal: quota-exceeded, or reference-conflict when another copy, or another batch of this one's reference,
            was faster.
        StoreUnavailable: it may be sent again.
    """
    now = deps.clock()
    new = await _new_message(spooled, now, deps)
    try:
        # The commit point. A crash before this line leaves orphan blobs for the sweeper; after it, a letter we owe.
        known = await deps.ledger.record(new)
    except Refusal:
        await discard(spooled.documents, deps)
        raise
    if known is not None:
        await discard(spooled.documents, deps)
        return await answer_again(spooled.order.signed, known, deps)
    return Accepted(record=new.message, repeated=False, timeline=_timeline(new.logs))


async def _new_message(spooled: Spooled, now: datetime, deps: AcceptDeps) -> NewMessage:
    order, meta, message_id = spooled.order, spooled.meta, spooled.message_id
    signed, message = order.signed, order.signed.message
    index = await deps.vault.blind_index("recipient")
    about = personal.recipient_index(index, message.recipient)
    due_at = max(now + signed.profile.hold, message.deliver_not_before or now)
    status = MessageStatus.SCHEDULED if due_at > now else MessageStatus.ACCEPTED
    receipt = _receipt(spooled, status, now, deps)
    signer = deps.receipts()
    delivery = DeliveryRecord(
        delivery_id=DeliveryId(deps.ids()),
        message_id=message_id,
        number=1,
        channel=order.route.channels[0],
        provider=order.route.providers[order.route.channels[0]],
        lane=message.lane or (Lane.SINGLE if signed.membership is None else Lane.BULK),
        status_at=now,
        due_at=due_at,
        deadline_at=send_by(due_at, message.deliver_before, deps.settings.retry),
    )
    record_ = MessageRecord(
        message_id=message_id,
        sender=signed.sender.enterprise_number,
        profile=signed.profile.id,
        party=signed.peer.party,
        registration_version=signed.registration_version,
        reference=message.reference,
        category=message.category,
        legal_basis=order.authorisation.legal_basis,
        language=message.language,
        lane=delivery.lane,
        status=status,
        accepted_at=now,
        created_at=message.created_at,
        deliver_not_before=message.deliver_not_before,
        deliver_before=message.deliver_before,
        retention=order.retention,
        billing_reference=message.billing_reference,
        route=order.route,
        letterhead=Letterhead(
            sender_name=signed.sender.name,
            display_name=signed.profile.display_name,
            public_contact=signed.sender.contact.public,
            return_address=signed.sender.return_address,
        ),
        print_options=message.print_options or PrintOptions(),
        dossier_rule=order.authorisation.recipients is RecipientRule.DOSSIER,
        content_sha256=signed.content_sha256,
        message_sha256=signed.part_sha256,
        recipient_index=about,
        recipient_index_version=index.version if about is not None else None,
        meta_dek_id=meta.row.dek_id,
        sealed_recipient=personal.seal_recipient(meta, message_id, message.recipient, message.attention_of),
        sealed_subject=personal.seal_value(meta, message_id, "sealed_subject", message.subject.encode()),
        sealed_purpose=personal.seal_value(meta, message_id, "sealed_purpose", message.purpose.encode()),
        sealed_signed_message=personal.seal_value(meta, message_id, "sealed_signed_message", signed.part),
        receipt_jws=signer.jws(receipt),
        receipt_xml=signer.xml(receipt),
        documents=spooled.documents,
        deliveries=(delivery,),
    )
    return NewMessage(
        message=record_,
        deks=(meta.row, *(dek.row for dek in spooled.deks)),
        logs=await _acceptance_entries(record_, message, meta, deps),
        day=day_of(now),
        messages_per_day=signed.profile.quota.messages_per_day,
        item=None
        if signed.membership is None
        else NewItem(batch=signed.membership.batch.record, number=signed.membership.number),
        enclosures=spooled.enclosures,
    )


def _timeline(logs: Iterable[LogEntry]) -> tuple[TimelineEntry, ...]:
    """Return what the ledger gives as the timeline of a message with these entries and no others."""
    return tuple(
        TimelineEntry(at=entry.at, event=entry.event, delivery_id=entry.delivery_id, entry=entry.entry)
        for entry in logs
        if entry.log is Log.TRAFFIC
    )


def _receipt(spooled: Spooled, status: MessageStatus, now: datetime, deps: AcceptDeps) -> Receipt:
    signed = spooled.order.signed
    return Receipt(
        gateway=deps.settings.gateway_name,
        message_id=spooled.message_id,
        issued_at=now,
        sender=signed.sender.enterprise_number,
        profile=signed.profile.id,
        reference=signed.message.reference,
        status=status,
        accepted_at=now,
        documents=tuple(
            ReceiptDocument(part=document.part, sha256=document.sha256.hex(), size_bytes=document.size_bytes)
            for document in spooled.documents
        ),
        message_sha256=signed.part_sha256.hex(),
    )


async def _acceptance_entries(
    record_: MessageRecord, message: Message, meta: Dek, deps: AcceptDeps
) -> tuple[LogEntry, LogEntry]:
    who = {"party": record_.party, "sender": record_.sender, "profile": record_.profile}
    subject = Subject(sender=record_.sender, profile=record_.profile, message_id=record_.message_id)
    what: dict[str, str | int] = {"message": str(record_.message_id), "category": record_.category}
    traffic = deps.logbook.entry(
        Log.TRAFFIC,
        "accepted",
        who=who,
        what={**what, "status": record_.status, "documents": len(record_.documents)},
        result="accepted",
        subject=subject,
        at=record_.accepted_at,
    )
    privacy = deps.logbook.entry(
        Log.PRIVACY,
        "message-accepted",
        who=who,
        what={**what, "legalBasis": record_.legal_basis},
        result="accepted",
        subject=subject,
        personal=await deps.logbook.about(message.recipient, message.purpose, meta),
        at=record_.accepted_at,
    )
    return traffic, privacy
