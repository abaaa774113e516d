"""What is logged of a message that was refused after its signature held."""

from gateway.accept.authenticate import profile_id
from gateway.accept.stages import AcceptDeps, Verified
from gateway.crypto.identity import Peer
from gateway.domain.message import Message
from gateway.errors import Kind, Refusal
from gateway.records.logs import Subject
from gateway.stores.model import Log


async def log_refusal(verified: Verified, peer: Peer, refusal: Refusal, deps: AcceptDeps) -> None:
    """Enter a refusal after a valid signature into the traffic and the privacy log, at most at the sender's pace."""
    if refusal.kind is Kind.STILL_RECEIVING:
        return  # its first copy is on its way and writes the record
    held_back = deps.refusal_pace.admit(verified.sender, deps.clock())
    if held_back is None:
        return  # it is in the metrics; the next entry tells how many were held back
    message = verified.content if isinstance(verified.content, Message) else None
    sender = deps.registration().senders.get(verified.sender)
    profile = profile_id(message, peer, sender) if message is not None and sender is not None else None
    who = {"party": peer.party, "sender": verified.sender} | ({"profile": profile} if profile is not None else {})
    subject = Subject(sender=verified.sender, profile=profile)
    what: dict[str, str | int] = {}
    personal_values = None
    if message is not None:
        what = {"reference": message.reference, "category": message.category}
        log_key = await deps.logbook.log_key(verified.sender)
        personal_values = await deps.logbook.about(message.recipient, message.purpose, log_key)
    if held_back:
        what["heldBack"] = held_back
    result = str(refusal.kind)
    traffic = deps.logbook.entry(Log.TRAFFIC, "refused", who=who, what=what, result=result, subject=subject)
    privacy = deps.logbook.entry(
        Log.PRIVACY,
        "message-refused",
        who=who,
        what=what,
        result=result,
        subject=subject,
        personal=personal_values,
    )
    await deps.ledger.append([traffic, privacy])
