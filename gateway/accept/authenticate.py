"""Who says so: the signature, its signer, and for whom the party may speak."""

import asyncio
import hashlib
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from cryptography import x509

from gateway.accept.stages import (
    AcceptDeps,
    Membership,
    RawBatch,
    RawMessage,
    SignedBatch,
    SignedMessage,
    Speaker,
    Verified,
    VerifiedBatch,
)
from gateway.crypto.batches import batch_sha256
from gateway.crypto.batches import verify_batch as verify_batch_part
from gateway.crypto.dialects import Dialect, verify_message
from gateway.crypto.identity import Peer
from gateway.crypto.manifest import content_sha256
from gateway.domain.authority import MAY_SPEAK, Denial, Rule, SpeakerFacts
from gateway.domain.batch import Batch
from gateway.domain.ids import EnterpriseNumber
from gateway.domain.message import Message
from gateway.domain.registration import Sender
from gateway.errors import Kind, Refusal
from gateway.stores.model import BatchRecord

T = TypeVar("T")

# Up to this size a part is judged on the event loop: a usual one, of 4 KB, takes some 0.35 ms, and a thread would spend
# part of that again on the hand-over and contend for the interpreter all the while. The worst one of this size that was
# found takes 5 ms. Larger ones are judged in a thread.
_ON_THE_LOOP_BYTES: Final = 32 * 1024


async def verify(raw: RawMessage, peer: Peer, deps: AcceptDeps) -> Verified:
    """
    Verify the signed part, in its dialect; from here on only what was signed is looked at.

    Raises:
        Refusal: malformed-message, invalid-message (the XML schema, or no sender in the JSON), signature-invalid,
            signer-mismatch, certificate-revoked; nobody is known to have said anything.
    """
    signer = _Signer(peer, deps)
    content = await judged(
        raw.manifest,
        partial(verify_message, dialect=raw.dialect, signer=signer, allow_test_ssin=deps.settings.allow_test_ssin),
    )
    return Verified(sender=signer.claimed, dialect=raw.dialect, signer_profiles=signer.profiles, content=content)


async def verify_batch(raw: RawBatch, peer: Peer, deps: AcceptDeps) -> VerifiedBatch:
    """
    Verify the signed part of a batch.

    Raises:
        Refusal: as `verify`.
    """
    signer = _Signer(peer, deps)
    content = await judged(
        raw.manifest,
        partial(
            verify_batch_part,
            dialect=raw.dialect,
            signer=signer,
            limit_bytes=deps.settings.max_batch_manifest_bytes,
        ),
    )
    return VerifiedBatch(sender=signer.claimed, dialect=raw.dialect, signer_profiles=signer.profiles, content=content)


async def judged(part: bytes, judge: Callable[[bytes], T]) -> T:
    """Return what `judge` finds in a part, on the event loop or in a thread, whichever is cheaper."""
    if len(part) <= _ON_THE_LOOP_BYTES:
        return judge(part)
    return await asyncio.to_thread(judge, part)


class _Signer:
    """Judges the signer of one part, and remembers for whom and for which profiles it may sign."""

    claimed: EnterpriseNumber
    profiles: frozenset[str] | None

    def __init__(self, peer: Peer, deps: AcceptDeps) -> None:
        self._party = peer.party
        self._identities = deps.identities
        self._now = deps.clock()

    def __call__(self, claimed: EnterpriseNumber, certificate: x509.Certificate) -> None:
        self.profiles = self._identities.check_signer(claimed, certificate, party=self._party, now=self._now)
        self.claimed = claimed


async def authenticate(verified: Verified, part: bytes, peer: Peer, deps: AcceptDeps) -> SignedMessage:
    """
    Hold a verified message, the octets `part`, to be for this gateway, from a party that may speak for its sender.

    Raises:
        Refusal: invalid-message, wrong-gateway, sender-unknown, sender-suspended, profile-not-authorised.
    """
    message = verified.content
    if isinstance(message, Refusal):
        raise message
    speaker = await _speaker(message, verified.signer_profiles, peer, deps)
    return signed_message(message, verified.dialect, part, speaker)


async def authenticate_batch(verified: VerifiedBatch, part: bytes, peer: Peer, deps: AcceptDeps) -> SignedBatch:
    """
    Hold a verified batch, the octets `part`, to be for this gateway, from a party that may speak for its sender.

    Raises:
        Refusal: as `authenticate`.
    """
    batch = verified.content
    if isinstance(batch, Refusal):
        raise batch
    speaker = await _speaker(batch, verified.signer_profiles, peer, deps)
    record = BatchRecord(
        batch_id=deps.ids(),
        sender=speaker.sender.enterprise_number,
        profile=speaker.profile.id,
        party=peer.party,
        reference=batch.reference,
        content_sha256=batch_sha256(batch),
        accepted_at=deps.clock(),
        part=part,
    )
    return SignedBatch(batch=batch, speaker=speaker, record=record)


def signed_message(
    message: Message, dialect: Dialect, part: bytes, speaker: Speaker, membership: Membership | None = None
) -> SignedMessage:
    """Return a message whose proof held, the octets `part`, and for whom the party speaks."""
    return SignedMessage(
        message=message,
        dialect=dialect,
        peer=speaker.peer,
        sender=speaker.sender,
        profile=speaker.profile,
        registration_version=speaker.registration_version,
        part_sha256=hashlib.sha256(part).digest(),
        content_sha256=content_sha256(message),
        part=part,
        membership=membership,
    )


async def _speaker(
    signed: Message | Batch, signer_profiles: frozenset[str] | None, peer: Peer, deps: AcceptDeps
) -> Speaker:
    if signed.gateway != deps.settings.gateway_name:
        raise Refusal(
            Kind.WRONG_GATEWAY,
            f"this message is for another gateway; here Gateway is {deps.settings.gateway_name}",
        )
    registration = deps.registration()
    sender = registration.senders.get(signed.sender)
    if sender is None:  # it was there when the signature was verified
        raise Refusal(Kind.SENDER_UNKNOWN, "the registration of this sender has just ended")
    party = registration.senders.get(peer.party)
    closed = [await deps.ledger.is_suspended(number) for number in {sender.enterprise_number, peer.party}]
    profile = profile_id(signed, peer, sender)
    facts = SpeakerFacts(
        party=peer.party,
        certificate_profiles=peer.profiles,
        signer_profiles=signer_profiles,
        sender=sender,
        suspended=any(closed) or party is None or not party.active,
        profile_id=profile or "",
    )
    denial = MAY_SPEAK.check(facts)
    if denial is not None or profile is None:
        raise _may_not_speak(denial, profile)
    return Speaker(
        peer=peer,
        sender=sender,
        profile=sender.profiles[profile],
        registration_version=registration.version,
    )


def profile_id(signed: Message | Batch, peer: Peer, sender: Sender) -> str | None:
    """Return the signed profile, or the only one that the certificate may use; None: no one of them is meant."""
    if signed.profile is not None:
        return signed.profile
    usable = [profile for profile in sender.profiles if peer.profiles is None or profile in peer.profiles]
    return usable[0] if len(usable) == 1 else None


def _may_not_speak(denial: Denial | None, profile: str | None) -> Refusal:
    if denial is None or (profile is None and denial.rule is Rule.PROFILE_NOT_AUTHORISED):
        return Refusal(
            Kind.PROFILE_NOT_AUTHORISED,
            "this certificate does not have exactly one profile here; name one in Sender/Profile",
        )
    return Refusal(Kind(denial.rule), denial.detail)
