"""Messages as rows; each statement stands beside the function that knows its columns."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import apsw

from gateway.domain.ids import EnterpriseNumber, MessageId
from gateway.domain.message import Lane
from gateway.domain.retention import CopyState
from gateway.domain.status import MessageStatus
from gateway.stores.encoding import (
    letterhead_json,
    letterhead_of,
    print_options_json,
    print_options_of,
    route_json,
    route_of,
)
from gateway.stores.model import (
    DeliveryRecord,
    DocumentRecord,
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
            route_json(message.route),
            letterhead_json(message.letterhead),
            print_options_json(message.print_options),
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
        letterhead=letterhead_of(letterhead),
        print_options=print_options_of(print_options),
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
