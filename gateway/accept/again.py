"""The same message again: answered before age, quota, rights and bodies are looked at."""

import hmac

from gateway.accept.stages import AcceptDeps, Accepted, SignedMessage
from gateway.crypto.dialects import read_stored
from gateway.crypto.manifest import differing_fields
from gateway.domain.ids import sender_uuid
from gateway.errors import Kind, Refusal
from gateway.records import personal
from gateway.stores.model import KnownReference, MessageRecord


async def known_reference(signed: SignedMessage, deps: AcceptDeps) -> KnownReference | None:
    """Return what burnt the reference of a message, if anything did."""
    return await deps.ledger.find_reference(
        signed.sender.enterprise_number, signed.profile.id, signed.message.reference
    )


async def answer_again(signed: SignedMessage, known: KnownReference, deps: AcceptDeps) -> Accepted:
    """
    Answer a known reference: with the first message when it is the same content.

    Raises:
        Refusal: reference-conflict, with the earlier messageId and pointers to the fields that differ.
    """
    earlier = await deps.ledger.message(known.message_id)
    if earlier is not None and hmac.compare_digest(known.content_sha256, signed.content_sha256):
        return Accepted(record=earlier, repeated=True)
    fields = await _differing(signed, earlier, deps) if earlier is not None else []
    raise Refusal(
        Kind.REFERENCE_CONFLICT,
        "this reference was used before for another message; give the new message a reference of its own",
        extra={"messageId": str(known.message_id), "differingFields": fields},
    )


async def _differing(signed: SignedMessage, earlier: MessageRecord, deps: AcceptDeps) -> list[str]:
    row = await deps.ledger.dek(earlier.meta_dek_id)
    if row is None:
        return []
    dek = await deps.vault.open_dek(row, sender_uuid(earlier.sender))
    part = personal.open_value(dek, earlier.message_id, "sealed_signed_message", earlier.sealed_signed_message)
    return differing_fields(read_stored(part), signed.message)
