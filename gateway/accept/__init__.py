"""
The first spine: a message from its bytes to the ledger, inside the request.

authenticate → known reference? → authorise → spool the documents, sealed → record. The answer is sent after the ledger
has committed: a crash before that leaves orphan blobs for the sweeper, never half a message.

Each stage is a module; each takes what only the stage before it can make.
"""

from gateway.accept.again import answer_again, known_reference
from gateway.accept.authenticate import authenticate, verify
from gateway.accept.authorise import authorise
from gateway.accept.record import record
from gateway.accept.refusals import log_refusal
from gateway.accept.spool import spool
from gateway.accept.stages import AcceptDeps, Accepted, AcceptSettings, RawMessage, RawPart, SignedMessage
from gateway.crypto.identity import Peer
from gateway.errors import Kind, Refusal

__all__ = ["AcceptDeps", "AcceptSettings", "Accepted", "RawMessage", "RawPart", "accept"]


async def accept(raw: RawMessage, peer: Peer, deps: AcceptDeps) -> Accepted:
    """
    Take a message over from its sender.

    Raises:
        Refusal: it is answered with a problem; nothing of it is kept but a log entry.
        StoreUnavailable: it may be sent again.
    """
    verified = await verify(raw.manifest, peer, deps)
    try:
        signed = await authenticate(verified, raw.manifest, peer, deps)
        _require_same_key(raw.idempotency_key, signed)
        known = await known_reference(signed, deps)
        if known is not None:
            return await answer_again(signed, known, deps)
        with deps.arrivals.receiving(signed.sender.enterprise_number, signed.profile.id, signed.message.reference):
            order = await authorise(signed, deps)
            spooled = await spool(order, raw.parts, deps)
            return await record(spooled, deps)
    except Refusal as refusal:
        await log_refusal(verified, peer, refusal, deps)
        raise


def _require_same_key(key: str | None, signed: SignedMessage) -> None:
    if key is not None and key.strip('"') != signed.message.reference:
        raise Refusal(Kind.BAD_REQUEST, "Idempotency-Key, when sent, must equal the signed Reference")
