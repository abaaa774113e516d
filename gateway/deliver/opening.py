"""From a claim to its letter: the message is read, then whom it is for is unsealed."""

from gateway.deliver.stages import DeliverDeps, Envelope, Letter
from gateway.domain.ids import sender_uuid
from gateway.errors import KeyringRefused, StoreUnavailable
from gateway.records import personal
from gateway.stores.model import Claim


async def find_envelope(claim: Claim, deps: DeliverDeps) -> Envelope:
    """
    Read the message of a delivery.

    Raises:
        StoreUnavailable: it cannot be read now.
    """
    record = await deps.ledger.message(claim.delivery.message_id)
    if record is None:
        raise StoreUnavailable(f"the message of delivery {claim.delivery.delivery_id} cannot be read")
    return Envelope(claim=claim, record=record)


async def open_letter(envelope: Envelope, deps: DeliverDeps) -> Letter:
    """
    Unseal whom a message is for.

    Raises:
        StoreUnavailable: it cannot be read now.
        KeyringRefused, SealBroken: its key is gone or refused, or what it sealed is damaged.
    """
    record = envelope.record
    row = await deps.ledger.dek(record.meta_dek_id)
    if row is None:
        raise KeyringRefused(f"the key of message {record.message_id} is gone while it is still needed")
    meta = await deps.vault.open_dek(row, sender_uuid(record.sender))
    recipient, attention_of = personal.open_recipient(meta, record)
    return Letter(claim=envelope.claim, record=record, meta=meta, recipient=recipient, attention_of=attention_of)
