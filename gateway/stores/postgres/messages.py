"""Messages as rows; each statement stands beside the function that knows its columns."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

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
from gateway.stores.postgres.rows import (
    deliveries_of,
    documents_of,
    floor_ms,
    floor_ms_or_null,
    insert_deliveries,
    insert_documents,
)
from gateway.stores.postgres.sessions import Row, Transaction

_S: Final = timedelta(seconds=1)

_INSERT_MESSAGE: Final = """
INSERT INTO message (
  message_id, revision, sender, profile, party, registration_version, reference, category, legal_basis, language, lane,
  status, accepted_at, created_at, deliver_not_before, deliver_before, retention_s, billing_reference, route,
  letterhead, print_options, dossier_rule, content_sha256, message_sha256, recipient_index, recipient_index_version,
  meta_dek_id, sealed_recipient, sealed_subject, sealed_purpose, sealed_signed_message, receipt_jws, receipt_xml,
  copy_state, copy_until, retrievals, entries,
  position
) VALUES (
  $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25,
  $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, position_of($38)
)
"""


async def insert_message(tx: Transaction, message: MessageRecord, *, entries: int) -> None:
    """Add a message with its documents and deliveries; the caller adds the first `entries` log entries about it."""
    await tx.connection.execute(
        _INSERT_MESSAGE,
        message.message_id,
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
        floor_ms(message.accepted_at),
        floor_ms(message.created_at),
        floor_ms_or_null(message.deliver_not_before),
        floor_ms_or_null(message.deliver_before),
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
        message.meta_dek_id,
        message.sealed_recipient,
        message.sealed_subject,
        message.sealed_purpose,
        message.sealed_signed_message,
        message.receipt_jws,
        message.receipt_xml,
        message.copy_state,
        floor_ms_or_null(message.copy_until),
        message.retrievals,
        entries,
        tx.place(),
    )
    await insert_documents(tx, message.message_id, message.documents)
    await insert_deliveries(tx, message.sender, message.deliveries)


SELECT_MESSAGES: Final = """
SELECT
  message_id, revision, sender, profile, party, registration_version, reference, category, legal_basis, language, lane,
  status, accepted_at, created_at, deliver_not_before, deliver_before, retention_s, billing_reference, route,
  letterhead, print_options, dossier_rule, content_sha256, message_sha256, recipient_index, recipient_index_version,
  meta_dek_id, sealed_recipient, sealed_subject, sealed_purpose, sealed_signed_message, receipt_jws, receipt_xml,
  copy_state, copy_until, retrievals
FROM message
"""


async def load_messages(tx: Transaction, rows: Sequence[Row]) -> list[MessageRecord]:
    """Return the messages of rows of `SELECT_MESSAGES`, in their order, with documents and deliveries."""
    if not rows:
        return []
    ids = [row[0] for row in rows]
    documents = await documents_of(tx, ids)
    deliveries = await deliveries_of(tx, ids)
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
        message_id=MessageId(message_id),
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
        accepted_at=accepted_at,
        created_at=created_at,
        deliver_not_before=deliver_not_before,
        deliver_before=deliver_before,
        retention=retention_s * _S,
        billing_reference=billing_reference,
        route=route_of(route),
        letterhead=letterhead_of(letterhead),
        print_options=print_options_of(print_options),
        dossier_rule=dossier_rule,
        content_sha256=content_sha256,
        message_sha256=message_sha256,
        recipient_index=recipient_index,
        recipient_index_version=recipient_index_version,
        meta_dek_id=meta_dek_id,
        sealed_recipient=sealed_recipient,
        sealed_subject=sealed_subject,
        sealed_purpose=sealed_purpose,
        sealed_signed_message=sealed_signed_message,
        receipt_jws=receipt_jws,
        receipt_xml=receipt_xml,
        copy_state=CopyState(copy_state),
        copy_until=copy_until,
        retrievals=retrievals,
        documents=tuple(documents),
        deliveries=tuple(deliveries),
    )
