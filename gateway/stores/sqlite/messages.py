"""Messages as rows; each statement stands beside the function that knows its columns."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import apsw

from gateway.domain.ids import EnterpriseNumber, MessageId
from gateway.domain.message import Channel, Cover, Lane, PrintOptions, PrintProduct, Priority
from gateway.domain.retention import CopyState
from gateway.domain.routing import Route, SkippedChannel
from gateway.domain.status import MessageStatus
from gateway.stores.model import (
    DeliveryRecord,
    DocumentRecord,
    Letterhead,
    MessageRecord,
)
from gateway.stores.sqlite.rows import (
    Row,
    deliveries_of,
    documents_of,
    from_ms,
    from_ms_or_null,
    insert_delivery,
    insert_document,
    to_ms,
    to_ms_or_null,
)

_S: Final = timedelta(seconds=1)

_INSERT_MESSAGE: Final = """
INSERT INTO message (
  message_id, revision, sender, profile, party, registration_version, reference, category, legal_basis, language, lane,
  status, accepted_at, created_at, deliver_not_before, deliver_before, retention_s, billing_reference, route,
  letterhead, print_options, dossier_rule, content_sha256, message_sha256, recipient_index, recipient_index_version,
  meta_dek_id, sealed_recipient, sealed_subject, sealed_purpose, sealed_signed_message, receipt_jws, receipt_xml,
  copy_state, copy_until, retrievals
) VALUES (
  ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
)
"""


def insert_message(connection: apsw.Connection, message: MessageRecord) -> None:
    """Add a message with its documents and deliveries."""
    connection.execute(
        _INSERT_MESSAGE,
        (
            message.message_id.bytes,
            message.revision,
            message.sender,
            message.profile,
            message.party,
            message.registration_version,
            message.reference,
            message.category,
            message.legal_basis,
            message.language,
            message.lane,
            message.status,
            to_ms(message.accepted_at),
            to_ms(message.created_at),
            to_ms_or_null(message.deliver_not_before),
            to_ms_or_null(message.deliver_before),
            message.retention // _S,
            message.billing_reference,
            _route_json(message.route),
            _letterhead_json(message.letterhead),
            _print_json(message.print_options),
            message.dossier_rule,
            message.content_sha256,
            message.message_sha256,
            message.recipient_index,
            message.recipient_index_version,
            message.meta_dek_id.bytes,
            message.sealed_recipient,
            message.sealed_subject,
            message.sealed_purpose,
            message.sealed_signed_message,
            message.receipt_jws,
            message.receipt_xml,
            message.copy_state,
            to_ms_or_null(message.copy_until),
            message.retrievals,
        ),
    )
    for document in message.documents:
        insert_document(connection, message.message_id, document)
    for delivery in message.deliveries:
        insert_delivery(connection, delivery)


SELECT_MESSAGES: Final = """
SELECT
  message_id, revision, sender, profile, party, registration_version, reference, category, legal_basis, language, lane,
  status, accepted_at, created_at, deliver_not_before, deliver_before, retention_s, billing_reference, route,
  letterhead, print_options, dossier_rule, content_sha256, message_sha256, recipient_index, recipient_index_version,
  meta_dek_id, sealed_recipient, sealed_subject, sealed_purpose, sealed_signed_message, receipt_jws, receipt_xml,
  copy_state, copy_until, retrievals
FROM message
"""


def load_messages(connection: apsw.Connection, rows: Sequence[Row]) -> list[MessageRecord]:
    """Return the messages of rows of `SELECT_MESSAGES`, in their order, with documents and deliveries."""
    if not rows:
        return []
    ids = [row[0] for row in rows]
    documents = documents_of(connection, ids)
    deliveries = deliveries_of(connection, ids)
    return [_message_of(row, documents[row[0]], deliveries[row[0]]) for row in rows]


def _message_of(row: Row, documents: list[DocumentRecord], deliveries: list[DeliveryRecord]) -> MessageRecord:
    # fmt: off
    (
        message_id, revision, sender, profile, party, registration_version, reference, category, legal_basis, language,
        lane, status, accepted_at, created_at, deliver_not_before, deliver_before, retention_s, billing_reference,
        route, letterhead, print_options, dossier_rule, content_sha256, message_sha256, recipient_index,
        recipient_index_version, meta_dek_id, sealed_recipient, sealed_subject, sealed_purpose, sealed_signed_message,
        receipt_jws, receipt_xml, copy_state, copy_until, retrievals,
    ) = row
    # fmt: on
    return MessageRecord(
        message_id=MessageId(UUID(bytes=message_id)),
        revision=revision,
        sender=EnterpriseNumber(sender),
        profile=profile,
        party=EnterpriseNumber(party),
        registration_version=registration_version,
        reference=reference,
        category=category,
        legal_basis=legal_basis,
        language=language,
        lane=Lane(lane),
        status=MessageStatus(status),
        accepted_at=from_ms(accepted_at),
        created_at=from_ms(created_at),
        deliver_not_before=from_ms_or_null(deliver_not_before),
        deliver_before=from_ms_or_null(deliver_before),
        retention=retention_s * _S,
        billing_reference=billing_reference,
        route=route_of(route),
        letterhead=_letterhead_of(letterhead),
        print_options=_print_of(print_options),
        dossier_rule=bool(dossier_rule),
        content_sha256=content_sha256,
        message_sha256=message_sha256,
        recipient_index=recipient_index,
        recipient_index_version=recipient_index_version,
        meta_dek_id=UUID(bytes=meta_dek_id),
        sealed_recipient=sealed_recipient,
        sealed_subject=sealed_subject,
        sealed_purpose=sealed_purpose,
        sealed_signed_message=sealed_signed_message,
        receipt_jws=receipt_jws,
        receipt_xml=receipt_xml,
        copy_state=CopyState(copy_state),
        copy_until=from_ms_or_null(copy_until),
        retrievals=retrievals,
        documents=tuple(documents),
        deliveries=tuple(deliveries),
    )


# The three JSON columns hold what is frozen at acceptance and never searched.
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _route_json(route: Route) -> str:
    return _json(
        {
            "channels": route.channels,
            "skipped": [[skipped.channel, skipped.why] for skipped in route.skipped],
            "fallback": sorted(route.fallback),
            "unread_after_s": None if route.unread_after is None else route.unread_after // _S,
            "providers": dict(route.providers),
            "ebox": dict(route.ebox),
        }
    )


def route_of(text: str) -> Route:
    """Return the route in the column of that name."""
    value = json.loads(text)
    unread_after_s = value["unread_after_s"]
    return Route(
        channels=tuple(Channel(channel) for channel in value["channels"]),
        skipped=tuple(SkippedChannel(channel=Channel(channel), why=why) for channel, why in value["skipped"]),
        fallback=frozenset(value["fallback"]),
        unread_after=None if unread_after_s is None else unread_after_s * _S,
        providers={Channel(channel): provider for channel, provider in value["providers"].items()},
        ebox={Channel(channel): (kind, application) for channel, (kind, application) in value["ebox"].items()},
    )


def _letterhead_json(letterhead: Letterhead) -> str:
    return _json(
        {
            "sender_name": letterhead.sender_name,
            "display_name": letterhead.display_name,
            "public_contact": letterhead.public_contact,
            "return_address": letterhead.return_address,
        }
    )


def _letterhead_of(text: str) -> Letterhead:
    value = json.loads(text)
    return Letterhead(
        sender_name=value["sender_name"],
        display_name=value["display_name"],
        public_contact=value["public_contact"],
        return_address=tuple(value["return_address"]),
    )


def _print_json(options: PrintOptions) -> str:
    return _json(
        {
            "product": options.product,
            "duplex": options.duplex,
            "colour": options.colour,
            "priority": options.priority,
            "cover": options.cover,
        }
    )


def _print_of(text: str) -> PrintOptions:
    value = json.loads(text)
    return PrintOptions(
        product=PrintProduct(value["product"]),
        duplex=value["duplex"],
        colour=value["colour"],
        priority=Priority(value["priority"]),
        cover=Cover(value["cover"]),
    )
