"""Who says so: the signature, its signer, and for whom the party may speak."""

import asyncio
import hashlib
from datetime import datetime
from typing import Final

from cryptography import x509

from gateway.accept.stages import (
    AcceptDeps,
    SignedMessage,
    Verified,
)
from gateway.crypto.identity import Peer
from gateway.crypto.manifest import MESSAGE_ROOT, content_sha256, read_message
from gateway.crypto.schema import read_schema
from gateway.crypto.xmlsig import verify_enveloped
from gateway.domain.authority import MAY_SPEAK, Facts
from gateway.domain.ids import EnterpriseNumber
from gateway.domain.message import Message
from gateway.domain.registration import Sender
from gateway.errors import Kind, Refusal

_SCHEMA: Final = read_schema("message.xsd")


async def verify(part: bytes, peer: Peer, deps: AcceptDeps) -> Verified:
    """
    Verify the signed part; from here on only what was signed is looked at.

    Raises:
        Refusal: malformed-message, invalid-message (the schema), signature-invalid, signer-mismatch,
            certificate-revoked; nobody is known to have said anything.
    """
    return await asyncio.to_thread(_verified, part, peer, deps, deps.clock())


def _verified(part: bytes, peer: Peer, deps: AcceptDeps, now: datetime) -> Verified:
    claims: list[EnterpriseNumber] = []

    def check_signer(claimed: EnterpriseNumber, certificate: x509.Certificate) -> None:
        deps.identities.check_signer(claimed, certificate, party=peer.party, now=now)
        claims.append(claimed)

    signed = verify_enveloped(part, schema=_SCHEMA, root_name=MESSAGE_ROOT, signer=check_signer)
    content: Message | Refusal
    try:
        content = read_message(signed.root, allow_test_ssin=deps.settings.allow_test_ssin)
    except Refusal as refusal:
        content = refusal
    return Verified(sender=claims[0], content=content)


async def authenticate(verified: Verified, part: bytes, peer: Peer, deps: AcceptDeps) -> SignedMessage:
    """
    Hold a verified message, the octets `part`, to be for this gateway, from a party that may speak for its sender.

    Raises:
        Refusal: invalid-message, wrong-gateway, sender-unknown, sender-suspended, profile-not-authorised.
    """
    message = verified.content
    if isinstance(message, Refusal):
        raise message
    if message.gateway != deps.settings.gateway_name:
        raise Refusal(
            Kind.WRONG_GATEWAY,
            f"this message is for another gateway; here Gateway is {deps.settings.gateway_name}",
        )
    registration = deps.registration()
    sender = registration.senders.get(message.sender)
    if sender is None:  # it was there when the signature was verified
        raise Refusal(Kind.SENDER_UNKNOWN, "the registration of this sender has just ended")
    profile = profile_id(message, peer, sender)
    if profile is None:
        raise Refusal(
            Kind.PROFILE_NOT_AUTHORISED,
            "this certificate has more than one profile; name one in Sender/Profile",
        )
    facts = Facts(
        party=peer.party,
        certificate_profiles=peer.profiles,
        sender=sender,
        suspended=await deps.ledger.is_suspended(sender.enterprise_number)
        or await deps.ledger.is_suspended(peer.party),
        profile_id=profile,
        message=message,
        live_dossier=False,
    )
    denial = MAY_SPEAK.check(facts)
    if denial is not None:
        raise Refusal(Kind(denial.rule), denial.detail)
    return SignedMessage(
        message=message,
        peer=peer,
        sender=sender,
        profile=sender.profiles[profile],
        registration_version=registration.version,
        part_sha256=hashlib.sha256(part).digest(),
        content_sha256=content_sha256(message),
        part=part,
    )


def profile_id(message: Message, peer: Peer, sender: Sender) -> str | None:
    """Return the signed profile, or the only one of the certificate; None: there are several, and none was named."""
    """Return the signed profile, or the only one that the certificate may use."""
    if message.profile is not None:
        return message.profile
    usable = [profile for profile in sender.profiles if peer.profiles is None or profile in peer.profiles]
    return usable[0] if len(usable) == 1 else None
