"""What messages under way need of the registration and the configuration, so that it cannot be taken away from them."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from gateway.domain.ids import EnterpriseNumber
from gateway.domain.message import Channel
from gateway.domain.registration import EboxTriple, Registration, Sender
from gateway.domain.routing import Route


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveUse:
    """
    Messages on which something is still to be done, and that use the same.

    `messages` is how many they are; `to_publish` how many of them are still to be handed to an e-Box registry.
    """

    sender: EnterpriseNumber
    profile: str
    category: str
    route: Route
    messages: int
    to_publish: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Something that is missing and that messages under way need; how many they are."""

    what: str
    messages: int


def unmet_needs(uses: Iterable[LiveUse], registration: Registration, providers: Collection[str]) -> list[Need]:
    """
    Return what `uses` need and neither the registration nor the configured providers have; nothing when all is there.

    Rights are no needs: a message keeps the route that it was accepted with. A sender or profile must stay for whoever
    asks about the message, a category for the logs, a provider until the last message that could still go there; an
    e-Box triple until the letter was handed over, because the registry knows the letter by it.
    """
    missing: Counter[str] = Counter()
    for use in uses:
        missing.update(_missing(use, registration, providers))
    return [Need(what=what, messages=messages) for what, messages in missing.items()]


def _missing(use: LiveUse, registration: Registration, providers: Collection[str]) -> dict[str, int]:
    missing = {
        f"provider {provider}": use.messages for provider in use.route.providers.values() if provider not in providers
    }
    if use.category not in registration.categories:
        missing[f"category {use.category}"] = use.messages
    sender = registration.senders.get(use.sender)
    if sender is None:
        return {**missing, f"sender {use.sender}": use.messages}
    if use.profile not in sender.profiles:
        missing[f"profile {use.profile} of sender {use.sender}"] = use.messages
    for channel, (message_type, application) in use.route.ebox.items() if use.to_publish else ():
        triple = EboxTriple(message_type=message_type, application=application)
        if triple not in _triples(sender, channel):
            what = f"e-Box triple {message_type}, {application} ({channel}) of sender {use.sender}"
            missing[what] = use.to_publish
    return missing


def _triples(sender: Sender, channel: Channel) -> set[EboxTriple | None]:
    citizen = channel is Channel.EBOX_CITIZEN
    return {
        authorisation.ebox_citizen if citizen else authorisation.ebox_enterprise
        for profile in sender.profiles.values()
        for authorisation in profile.authorisations.values()
    }
