"""
May this be sent? Pure policies over facts already fetched. Deny unless every rule says yes.

A policy returns None (yes) or a `Denial`. `AllOf` with no policies denies: an empty list is a mistake, no permission.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, Protocol, TypeVar

from gateway.domain.ids import EnterpriseNumber
from gateway.domain.message import Channel, Message
from gateway.domain.registration import Authorisation, Profile, RecipientRule, Sender


class Rule(StrEnum):
    """Which rule denied; each is a problem code of the sender interface."""

    SENDER_UNKNOWN = "sender-unknown"
    SENDER_SUSPENDED = "sender-suspended"
    PROFILE_NOT_AUTHORISED = "profile-not-authorised"
    CATEGORY_NOT_AUTHORISED = "category-not-authorised"
    CHANNEL_NOT_CONTRACTED = "channel-not-contracted"
    RECIPIENT_NOT_AUTHORISED = "recipient-not-authorised"


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """A no, with the rule that said it and how to mend it; never personal data."""

    rule: Rule
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakerFacts:
    """
    What tells for whom a party may speak.

    `party` is whom the TLS certificate names; `certificate_profiles` the profiles of that certificate,
    `signer_profiles` those of the signing certificate (None: all); `suspended` whether sender or party may not act at
    all; `profile_id` the signed or only profile.
    """

    party: EnterpriseNumber
    certificate_profiles: frozenset[str] | None
    signer_profiles: frozenset[str] | None
    sender: Sender
    suspended: bool
    profile_id: str

    @property
    def connection_profiles(self) -> frozenset[str] | None:
        """
        The profiles of this sender that the connection may use; None: all.

        A certificate that its party limited to profiles of its own has none of another sender's, whatever their names.
        """
        if self.party == self.sender.enterprise_number or self.certificate_profiles is None:
            return self.certificate_profiles
        return frozenset()

    @property
    def profile(self) -> Profile | None:
        """The registered profile, if there is one of that name."""
        return self.sender.profiles.get(self.profile_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts(SpeakerFacts):
    """
    Everything the policies look at, of one message.

    `live_dossier`: whether this sender has a dossier in force now for this recipient and category.
    """

    message: Message
    live_dossier: bool

    @property
    def authorisation(self) -> Authorisation | None:
        """The profile's right to the message's category, if it has one."""
        return self.profile.authorisations.get(self.message.category) if self.profile is not None else None


_Seen_contra = TypeVar("_Seen_contra", contravariant=True)
_All = TypeVar("_All")


class Policy(Protocol[_Seen_contra]):
    """One rule."""

    def check(self, facts: _Seen_contra) -> Denial | None:
        """Return None to agree, or why not."""
        ...


@dataclass(frozen=True, slots=True)
class AllOf(Generic[_All]):
    """Agrees when there is at least one policy and every one agrees; the first denial wins."""

    policies: Sequence[Policy[_All]]

    def check(self, facts: _All) -> Denial | None:
        """Return the first denial, or None."""
        for policy in self.policies:
            denial = policy.check(facts)
            if denial is not None:
                return denial
        if not self.policies:
            return Denial(rule=Rule.SENDER_UNKNOWN, detail="no rule permits this")
        return None


class PartySpeaksForSender:
    """The certificate's party is the sender, or a processor that the sender registered."""

    def check(self, facts: SpeakerFacts) -> Denial | None:
        """Deny a party that may not act for the signed sender."""
        if facts.party == facts.sender.enterprise_number or facts.party in facts.sender.processors:
            return None
        return Denial(
            rule=Rule.SENDER_UNKNOWN,
            detail="the party of the client certificate is not registered to send for the signed Sender; "
            "the sender can register it as a processor",
        )


class SenderActive:
    """The sender is neither inactive nor suspended."""

    def check(self, facts: SpeakerFacts) -> Denial | None:
        """Deny a sender whose contract does not run now."""
        if facts.sender.active and not facts.suspended:
            return None
        return Denial(rule=Rule.SENDER_SUSPENDED, detail="this sender is suspended; contact the gateway's operator")


class ProfileOfCertificate:
    """The profile exists and the certificate may use it."""

    def check(self, facts: SpeakerFacts) -> Denial | None:
        """Deny a profile that is unknown or belongs to other certificates."""
        limits = (facts.connection_profiles, facts.signer_profiles)
        if facts.profile is not None and all(limit is None or facts.profile_id in limit for limit in limits):
            return None
        return Denial(
            rule=Rule.PROFILE_NOT_AUTHORISED,
            detail=f"the certificates of connection and signature may not both send as profile {facts.profile_id}; "
            "use one of its own profiles, or have it added to the registration",
        )


class CategoryOfProfile:
    """The profile holds an authorisation for the category."""

    def check(self, facts: Facts) -> Denial | None:
        """Deny a category that the profile was not granted."""
        if facts.authorisation is not None:
            return None
        return Denial(
            rule=Rule.CATEGORY_NOT_AUTHORISED,
            detail=f"profile {facts.profile_id} is not authorised for category {facts.message.category}",
        )


class ChannelsContracted:
    """Each asked channel stands in the authorisation, and the sender has an agreement with its provider."""

    def check(self, facts: Facts) -> Denial | None:
        """Deny a channel outside the authorisation or without agreement."""
        authorisation = facts.authorisation
        granted: tuple[Channel, ...] = authorisation.channels if authorisation is not None else ()
        for channel in facts.message.channels or granted:
            if channel not in granted:
                return Denial(
                    rule=Rule.CHANNEL_NOT_CONTRACTED,
                    detail=f"channel {channel} is not in the authorisation for {facts.message.category}",
                )
            if channel not in facts.sender.agreements:
                return Denial(
                    rule=Rule.CHANNEL_NOT_CONTRACTED,
                    detail=f"the sender has no agreement for channel {channel}; "
                    "record its date under `agreements` in the registration",
                )
        return None


class RecipientWithinRule:
    """With the rule `dossier`, the sender is handling a dossier about this recipient for this category."""

    def check(self, facts: Facts) -> Denial | None:
        """Deny a recipient about whom no dossier is in force."""
        authorisation = facts.authorisation
        if authorisation is not None and (
            authorisation.recipients is RecipientRule.ANY or (_is_known(facts.message) and facts.live_dossier)
        ):
            return None
        return Denial(
            rule=Rule.RECIPIENT_NOT_AUTHORISED,
            detail=f"no dossier of this sender is in force for this recipient and category {facts.message.category}; "
            "register one with POST /api/v1/dossiers",
        )


def _is_known(message: Message) -> bool:
    return message.recipient.ssin is not None or message.recipient.enterprise_number is not None


# Asked of every signed message and batch, before anything is said about an earlier one with the same reference.
MAY_SPEAK: Final[AllOf[SpeakerFacts]] = AllOf((PartySpeaksForSender(), SenderActive(), ProfileOfCertificate()))
# Asked of every new message.
MAY_SEND: Final[AllOf[Facts]] = AllOf((CategoryOfProfile(), ChannelsContracted(), RecipientWithinRule()))
