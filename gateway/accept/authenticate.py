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
from gateway.domain.authority import MAY_SPEAK, Denial, Facts, Rule
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
    claims: list[tuple[EnterpriseNumber, frozenset[str] | None]] = []

    def check_signer(claimed: EnterpriseNumber, certificate: x509.Certificate) -> None:
        profiles = deps.identities.check_signer(claimed, certificate, party=peer.party, now=now)
        claims.append((claimed, profiles))

    signed = verify_enveloped(part, schema=_SCHEMA, root_name=MESSAGE_ROOT, signer=check_signer)
    content: Message | Refusal
    try:
        content = read_message(signed.root, allow_test_ssin=deps.settings.allow_test_ssin)
    except Refusal as refusal:
        content = refusal
    sender, signer_profiles = claims[0]
    return Verified(sender=sender, signer_profiles=signer_profiles, content=content)


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
    party = registration.senders.get(peer.party)
    closed = [await deps.ledger.is_suspended(number) for number in {sender.enterprise_number, peer.party}]
    profile = profile_id(message, peer, sender)
    facts = Facts(
        party=peer.party,
        certificate_profiles=peer.profiles,
        signer_profiles=verified.signer_profiles,
        sender=sender,
        suspended=any(closed) or party is None or not party.active,
        profile_id=profile or "",
        message=message,
        live_dossier=False,
    )
    denial = MAY_SPEAK.check(facts)
    if denial is not None or profile is None:
        raise _may_not_speak(denial, profile)
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
    """Return the signed profile, or the only one that the certificate may use; None: no one of them is meant."""
    if message.profile is not None:
        return message.profile
    usable = [profile for profile in sender.profiles if peer.profiles is None or profile in peer.profiles]
    return usable[0] if len(usable) == 1 else None


def _may_not_speak(denial: Denial | None, profile: str | None) -> Refusal:
    if denial is None or (profile is None and denial.rule is Rule.PROFILE_NOT_AUTHORISED):
        return Refusal(
            Kind.PROFILE_NOT_AUTHORISED,
            "this certificate does not have exactly one profile here; name one in Sender/Profile",
        )
    return Refusal(Kind(denial.rule), denial.detail)
