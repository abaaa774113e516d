"""From a claim to its letter: the message is read, then whom it is for is unsealed."""

from gateway.deliver.stages import DeliverDeps, Envelope, Letter
from gateway.domain.ids import sender_uuid
from gateway.errors import KeyringRefused, StoreUnavailable
from gateway.records import personal
from gateway.stores.model import Claim


async def find_envelope(claim: Claim, deps: DeliverDeps) -> Envelope:
    """
    Read the message of a delivery with its keys.

    Raises:
        StoreUnavailable: it cannot be read now.
    """
    found = await deps.ledger.keyed_message(claim.delivery.message_id)
    if found is None:
        raise StoreUnavailable(f"the message of delivery {claim.delivery.delivery_id} cannot be read")
    return Envelope(claim=claim, record=found.record, deks=found.deks)


async def open_letter(envelope: Envelope, deps: DeliverDeps) -> Letter:
    """
    Unseal whom a message is for.

    Raises:
        StoreUnavailable: the keys of its sender cannot be read now.
        KeyringRefused, SealBroken: its key is gone or refused, or what it sealed is damaged.
    """
    record = envelope.record
    row = envelope.deks.get(record.meta_dek_id)
    if row is None:
        raise KeyringRefused(f"the key of message {record.message_id} is gone while it is still needed")
    meta = await deps.vault.open_dek(row, sender_uuid(record.sender))
    recipient, attention_of = personal.open_recipient(meta, record)
    return Letter(
        claim=envelope.claim,
        record=record,
        deks=envelope.deks,
        meta=meta,
        recipient=recipient,
        attention_of=attention_of,
    )
