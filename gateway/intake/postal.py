"""What the post says of a registered letter: where it is, and the proof that it was posted."""

from typing import Final

from aiohttp import web

from gateway.adapters.base import Handed, ProofUnusable
from gateway.domain.message import Channel, PrintProduct, Recipient
from gateway.errors import DeliveryError, Kind, Refusal
from gateway.intake.caller import Caller
from gateway.intake.handlers import IntakeDeps, own_message
from gateway.intake.views import when
from gateway.stores.model import DeliveryRecord, MessageRecord

_PROOF_OF_POSTING: Final = "proof_of_posting"
_LATER_S: Final = 60


async def bpost_status(request: web.Request, caller: Caller, deps: IntakeDeps) -> web.Response:
    """`GET …/bpost-status`: the postal status of a registered letter; `isEar`: a receipt of delivery was asked for."""
    record = await own_message(request, caller, deps)
    delivery = _registered(record)
    return web.json_response(
        {
            "messageId": str(record.message_id),
            "deliveryId": str(delivery.delivery_id),
            "number": delivery.number,
            "barcode": delivery.barcode,
            "status": delivery.status,
            "statusAt": when(delivery.status_at),
            "isEar": record.print_options.product is PrintProduct.REGISTERED_AR,
        }
    )


async def bpost_attestation(request: web.Request, caller: Caller, deps: IntakeDeps) -> web.Response:
    """`GET …/bpost-attestation`: the proof that a registered letter was posted, as PDF, from the print house."""
    record = await own_message(request, caller, deps)
    content = await _proof_of_posting(record, _registered(record), deps)
    disposition = f'attachment; filename="attestation-{record.message_id}.pdf"'
    return web.Response(body=content, content_type="application/pdf", headers={"Content-Disposition": disposition})


def _registered(record: MessageRecord) -> DeliveryRecord:
    if record.print_options.product is not PrintProduct.STANDARD:
        for delivery in record.deliveries:
            if delivery.channel is Channel.PRINT:
                return delivery
    raise Refusal(Kind.NOT_FOUND, "this message is not, or not yet, a registered letter")


async def _proof_of_posting(record: MessageRecord, delivery: DeliveryRecord, deps: IntakeDeps) -> bytes:
    provider = deps.proving.get(delivery.provider)
    if provider is not None and delivery.handed_over_at is not None:
        handed = Handed(
            delivery_id=delivery.delivery_id,
            channel=delivery.channel,
            sender=record.sender,
            provider_reference=delivery.provider_reference,
            recipient=Recipient(),  # a print house knows its job by our id; nobody's name is unsealed for this
        )
        try:
            for proof in await provider.evidence(handed):
                if proof.kind == _PROOF_OF_POSTING:
                    return await proof.fetch()
        except ProofUnusable as error:
            raise _not_now("the print house gave another file than it listed as proof") from error
        except DeliveryError as error:
            raise _not_now("the print house cannot be asked now") from error
    raise Refusal(Kind.NOT_FOUND, "there is no proof of posting of this letter, or not yet")


def _not_now(detail: str) -> Refusal:
    return Refusal(Kind.PROVIDER_UNAVAILABLE, f"{detail}; ask again later", retry_after_s=_LATER_S)
