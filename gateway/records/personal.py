"""
The personal values of a message, as they lie sealed in the ledger. The formats live for ten years.

Each value is sealed by `Dek.seal_field` under the message's `meta` key and bound to table `message`, its column and the
message id; file names to table `document`, column `sealed_filename` and the document id. The recipient is JSON with the
keys of `_recipient_json`; the other values are UTF-8 text or, for the signed message, the octets of its part.
"""

import json
from typing import Any, Final

from gateway.crypto.vault import BlindIndex, Dek
from gateway.domain.ids import DocumentId, EnterpriseNumber, MessageId, Ssin
from gateway.domain.message import PostalAddress, Recipient
from gateway.stores.model import DocumentRecord, MessageRecord

TABLE: Final = "message"
LABEL_SSIN: Final = "dgw.insz"
LABEL_ENTERPRISE_NUMBER: Final = "dgw.enterprise"


def seal_recipient(dek: Dek, message_id: MessageId, recipient: Recipient, attention_of: str | None) -> bytes:
    """Return the sealed recipient, with the person it is for the attention of."""
    text = json.dumps(_recipient_json(recipient, attention_of), ensure_ascii=False, separators=(",", ":"))
    return seal_value(dek, message_id, "sealed_recipient", text.encode())


def open_recipient(dek: Dek, record: MessageRecord) -> tuple[Recipient, str | None]:
    """
    Return the recipient and the person it is for the attention of.

    Raises:
        SealBroken: the bytes were changed or moved.
    """
    raw = json.loads(open_value(dek, record.message_id, "sealed_recipient", record.sealed_recipient))
    return _recipient_from(raw), raw.get("attentionOf")


def seal_value(dek: Dek, message_id: MessageId, column: str, value: bytes) -> bytes:
    """Return `value` sealed for one column of the message's row."""
    return dek.seal_field(table=TABLE, column=column, row=message_id.bytes, value=value)


def open_value(dek: Dek, message_id: MessageId, column: str, sealed: bytes) -> bytes:
    """
    Return what `seal_value` sealed.

    Raises:
        SealBroken: the bytes were changed or moved.
    """
    return dek.open_field(table=TABLE, column=column, row=message_id.bytes, sealed=sealed)


def seal_filename(dek: Dek, document_id: DocumentId, filename: str) -> bytes:
    """Return a file name sealed for the document's row."""
    return dek.seal_field(table="document", column="sealed_filename", row=document_id.bytes, value=filename.encode())


def open_filename(dek: Dek, document: DocumentRecord) -> str:
    """
    Return the file name of a document.

    Raises:
        SealBroken: the bytes were changed or moved.
    """
    return dek.open_field(
        table="document",
        column="sealed_filename",
        row=document.document_id.bytes,
        sealed=document.sealed_filename,
    ).decode()


def recipient_index(index: BlindIndex, recipient: Recipient) -> bytes | None:
    """Return the blind index of a recipient's number, or None when only an address is known."""
    if recipient.ssin is not None:
        return index.of(LABEL_SSIN, recipient.ssin)
    if recipient.enterprise_number is not None:
        return index.of(LABEL_ENTERPRISE_NUMBER, recipient.enterprise_number)
    return None


def recipient_candidates(index: BlindIndex, recipient: Recipient) -> list[tuple[int, bytes]]:
    """Return the blind indexes of a recipient under every version of the key; empty when only an address is known."""
    if recipient.ssin is not None:
        return index.candidates(LABEL_SSIN, recipient.ssin)
    if recipient.enterprise_number is not None:
        return index.candidates(LABEL_ENTERPRISE_NUMBER, recipient.enterprise_number)
    return []


def _recipient_json(recipient: Recipient, attention_of: str | None) -> dict[str, Any]:
    values: dict[str, Any] = {
        "ssin": recipient.ssin,
        "enterpriseNumber": recipient.enterprise_number,
        "attentionOf": attention_of,
    }
    address = recipient.address
    if address is not None:
        values["address"] = {
            "name": address.name,
            "street": address.street,
            "houseNumber": address.house_number,
            "box": address.box,
            "postcode": address.postcode,
            "municipality": address.municipality,
            "country": address.country,
        }
    return {key: value for key, value in values.items() if value is not None}


def _recipient_from(raw: dict[str, Any]) -> Recipient:
    address = raw.get("address")
    return Recipient(
        ssin=Ssin(raw["ssin"]) if "ssin" in raw else None,
        enterprise_number=EnterpriseNumber(raw["enterpriseNumber"]) if "enterpriseNumber" in raw else None,
        address=None
        if address is None
        else PostalAddress(
            name=address["name"],
            street=address["street"],
            house_number=address["houseNumber"],
            box=address["box"],
            postcode=address["postcode"],
            municipality=address["municipality"],
            country=address["country"],
        ),
    )
