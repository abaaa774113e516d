"""What is done with a message once its proof held: the same for one that came alone and for an item of a batch."""

from collections.abc import AsyncIterator

from gateway.accept.again import answer_again, known_reference
from gateway.accept.authorise import authorise
from gateway.accept.record import record
from gateway.accept.spool import spool
from gateway.accept.stages import AcceptDeps, Accepted, RawPart, SignedMessage, Spooled
from gateway.errors import Kind, Refusal


async def take_over(signed: SignedMessage, parts: AsyncIterator[RawPart], deps: AcceptDeps) -> Accepted:
    """
    Answer a known reference, or take the message over with its documents; of those not all may have been read.

    Raises:
        Refusal: nothing of it is kept.
        StoreUnavailable: it may be sent again.
    """
    received = await receive(signed, parts, deps)
    return received if isinstance(received, Accepted) else await record(received, deps)


async def receive(signed: SignedMessage, parts: AsyncIterator[RawPart], deps: AcceptDeps) -> Accepted | Spooled:
    """
    Answer a known reference, or read and seal the documents of a message that may be sent, so that it can be recorded.

    Raises:
        Refusal: nothing of it is kept.
        StoreUnavailable: it may be sent again.
    """
    known = await known_reference(signed, deps)
    if known is not None:
        return await answer_again(signed, known, deps)
    with deps.arrivals.receiving(signed.sender.enterprise_number, signed.profile.id, signed.message.reference):
        order = await authorise(signed, deps)
        return await spool(order, parts, deps)


def require_same_key(key: str | None, reference: str) -> None:
    """
    Hold the header `Idempotency-Key`, when it was sent, to say the signed reference.

    Raises:
        Refusal: bad-request.
    """
    if key is not None and key.strip('"') != reference:
        raise Refusal(Kind.BAD_REQUEST, "Idempotency-Key, when sent, must equal the signed Reference")
