"""
Which channels a message may take, and which comes after one that did not serve.

The plan is fixed at acceptance and stored with the message, so that a later change of rights never re-routes a letter
that is already on its way.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from gateway.domain.message import Channel, Message, PrintProduct
from gateway.domain.registration import Authorisation
from gateway.domain.status import Reason

FALLBACK_TRIGGERS = frozenset({Reason.NO_CONSENT, Reason.NO_BOX, Reason.NO_DIGITAL_USER, Reason.REFUSED})

# What an e-Box registry takes, from the Message Registry contract; citizens see only PDF properly.
EBOX_ENTERPRISE_TYPES = frozenset(
    {
        "application/pdf",
        "application/zip",
        "text/csv",
        "text/html",
        "text/plain",
        "text/xml",
        "application/vnd.oasis.opendocument.text",
        "application/vnd.oasis.opendocument.spreadsheet",
        "application/vnd.oasis.opendocument.presentation",
        "application/vnd.oasis.opendocument.graphics",
        "application/vnd.ms-excel",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/vnd.ms-powerpoint",
        "application/msword",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """What one channel can carry."""

    max_documents: int
    max_total_bytes: int
    media_types: frozenset[str]
    languages: frozenset[str]


DEFAULT_CAPABILITIES: Mapping[Channel, Capability] = {
    Channel.EBOX_CITIZEN: Capability(
        max_documents=6,
        max_total_bytes=30_000_000,
        media_types=frozenset({"application/pdf"}),
        languages=frozenset({"nl", "fr", "de"}),
    ),
    Channel.EBOX_ENTERPRISE: Capability(
        max_documents=6,
        max_total_bytes=30_000_000,
        media_types=EBOX_ENTERPRISE_TYPES,
        languages=frozenset({"nl", "fr", "de"}),
    ),
    Channel.PRINT: Capability(
        max_documents=20,
        max_total_bytes=30_000_000,
        media_types=frozenset({"application/pdf"}),
        languages=frozenset({"nl", "fr", "de", "en"}),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedChannel:
    """A channel that stays out of the plan, and why, in words for the sender."""

    channel: Channel
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """
    The channels of a message in order, and the rules by which a later one is used. Frozen at acceptance.

    `providers` names the configured provider per channel; `ebox` holds (message type, application) per e-Box channel.
    """

    channels: tuple[Channel, ...]
    skipped: tuple[SkippedChannel, ...] = ()
    fallback: frozenset[str] = frozenset()
    unread_after: timedelta | None = None
    providers: Mapping[Channel, str] = field(default_factory=dict)
    ebox: Mapping[Channel, tuple[str, str]] = field(default_factory=dict)


def cannot_carry(
    channel: Channel, message: Message, capability: Capability, authorisation: Authorisation
) -> str | None:
    """Return why `channel` cannot carry `message`, in words for the sender, or None when it can."""
    recipient = message.recipient
    if channel is Channel.PRINT:
        if recipient.address is None:
            return "the recipient has no PostalAddress"
    else:
        citizen = channel is Channel.EBOX_CITIZEN
        if (recipient.ssin if citizen else recipient.enterprise_number) is None:
            return f"it needs a recipient with {'Ssin' if citizen else 'EnterpriseNumber'}"
        if (authorisation.ebox_citizen if citizen else authorisation.ebox_enterprise) is None:
            return "no e-Box message type is registered for this category and kind of recipient"
        if message.print_options is not None and message.print_options.product is not PrintProduct.STANDARD:
            return "it cannot carry registered mail"
    total_bytes = sum(document.size_bytes for document in message.documents)
    foreign = {document.media_type for document in message.documents} - capability.media_types
    if len(message.documents) > capability.max_documents:
        return f"it carries at most {capability.max_documents} documents"
    if total_bytes > capability.max_total_bytes:
        return f"it carries at most {capability.max_total_bytes} bytes together"
    if foreign:
        return f"it does not carry {', '.join(sorted(foreign))}"
    if message.language not in capability.languages:
        return f"it does not carry the language {message.language}"
    return None


def plan_route(
    message: Message,
    authorisation: Authorisation,
    capabilities: Mapping[Channel, Capability],
    providers: Mapping[Channel, Sequence[str]],
) -> Route:
    """
    Return the route of a message; `channels` is empty when no asked channel can carry it.

    The asked order wins; without one, the authorisation's order holds.
    """
    asked: Iterable[Channel] = message.channels or authorisation.channels
    able: list[Channel] = []
    skipped: list[SkippedChannel] = []
    for channel in asked:
        why = cannot_carry(channel, message, capabilities[channel], authorisation)
        if why is None and not providers.get(channel):
            why = "this gateway has no provider for it"
        if why is None:
            able.append(channel)
        else:
            skipped.append(SkippedChannel(channel=channel, why=why))
    triples = {
        Channel.EBOX_CITIZEN: authorisation.ebox_citizen,
        Channel.EBOX_ENTERPRISE: authorisation.ebox_enterprise,
    }
    return Route(
        channels=tuple(able),
        skipped=tuple(skipped),
        fallback=authorisation.fallback,
        unread_after=authorisation.unread_after,
        providers={channel: providers[channel][0] for channel in able},
        ebox={
            channel: (triple.message_type, triple.application)
            for channel, triple in triples.items()
            if channel in able and triple is not None
        },
    )


def next_channel(route: Route, after: Channel, reason: Reason) -> Channel | None:
    """Return the channel that takes over when `after` ended with `reason`, or None when no rule says so."""
    fires = reason is Reason.UNREAD if route.unread_after is not None else False
    if not fires and reason not in route.fallback:
        return None
    later = route.channels[route.channels.index(after) + 1 :]
    return later[0] if later else None


def unread_rule_applies(route: Route, channel: Channel) -> bool:
    """Tell whether an unread e-Box message on `channel` would still be followed by another channel."""
    return channel is not Channel.PRINT and next_channel(route, channel, Reason.UNREAD) is not None
