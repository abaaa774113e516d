"""
The first spine: a message from its bytes to the ledger, inside the request.

authenticate → known reference? → authorise → spool the documents, sealed → record. The answer is sent after the ledger
has committed: a crash before that leaves orphan blobs for the sweeper, never half a message.

Each stage is a module; each takes what only the stage before it can make. The items of a batch go the same way, one by
one (`batch.py`); only what proves them is another.
"""

from gateway.accept.authenticate import authenticate, verify
from gateway.accept.batch import BatchTaken, ItemOutcome, Outcome, accept_batch, outcomes_of
from gateway.accept.refusals import log_refusal
from gateway.accept.stages import AcceptDeps, Accepted, AcceptSettings, RawBatch, RawMessage, RawPart
from gateway.accept.taking import require_same_key, take_over
from gateway.crypto.identity import Peer
from gateway.errors import Refusal

__all__ = [
    "AcceptDeps",
    "AcceptSettings",
    "Accepted",
    "BatchTaken",
    "ItemOutcome",
    "Outcome",
    "RawBatch",
    "RawMessage",
    "RawPart",
    "accept",
    "accept_batch",
    "outcomes_of",
]


async def accept(raw: RawMessage, peer: Peer, deps: AcceptDeps) -> Accepted:
    """
    Take a message over from its sender.

    Raises:
        Refusal: it is answered with a problem; nothing of it is kept but a log entry.
        StoreUnavailable: it may be sent again.
    """
    verified = await verify(raw, peer, deps)
    try:
        signed = await authenticate(verified, raw.manifest, peer, deps)
        require_same_key(raw.idempotency_key, signed.message.reference)
        return await take_over(signed, raw.parts, deps)
    except Refusal as refusal:
        await log_refusal(verified, peer, refusal, deps)
        raise
