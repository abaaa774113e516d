"""What messages under way need is found missing, with how many they are."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.domain.ids import EnterpriseNumber
from gateway.domain.message import Channel
from gateway.domain.needs import LiveUse, Need, unmet_needs
from gateway.domain.registration import Authorisation, Contact, EboxTriple, Profile, RecipientRule, Registration, Sender
from gateway.domain.routing import Route

A = EnterpriseNumber("0406798006")
TRIPLE = EboxTriple(message_type="T", application="APP")
RIGHT = Authorisation(
    category="tax",
    channels=(Channel.EBOX_CITIZEN, Channel.PRINT),
    recipients=RecipientRule.ANY,
    legal_basis="Act 1",
    ebox_citizen=TRIPLE,
    retention=timedelta(days=90),
)
SENDER = Sender(
    enterprise_number=A,
    name="A",
    contact=Contact(dpo="d", technical="t", security="s", public="p"),
    certificates=(),
    profiles={"desk": Profile(id="desk", display_name="Desk", authorisations={"tax": RIGHT})},
)
REGISTRATION = Registration(version=1, senders={A: SENDER}, categories={"tax": "Taxes"})
ROUTE = Route(
    channels=(Channel.EBOX_CITIZEN, Channel.PRINT),
    providers={Channel.EBOX_CITIZEN: "bosa", Channel.PRINT: "house-a"},
    ebox={Channel.EBOX_CITIZEN: ("T", "APP")},
)
USE = LiveUse(sender=A, profile="desk", category="tax", route=ROUTE, messages=5, to_publish=2)
PROVIDERS = {"bosa", "house-a"}


def with_profiles(**profiles: Profile) -> Registration:
    return replace(REGISTRATION, senders={A: replace(SENDER, profiles=profiles)})


def with_rights(*rights: Authorisation) -> Registration:
    authorisations = {right.category: right for right in rights}
    return with_profiles(desk=Profile(id="desk", display_name="Desk", authorisations=authorisations))


NO_TRIPLE = Need(what=f"e-Box triple T, APP (ebox-citizen) of sender {A}", messages=2)


@pytest.mark.parametrize(
    ("registration", "needs"),
    [
        (REGISTRATION, []),
        (replace(REGISTRATION, senders={}), [Need(what=f"sender {A}", messages=5)]),
        (replace(REGISTRATION, categories={"x": "X"}), [Need(what="category tax", messages=5)]),
        (with_profiles(x=SENDER.profiles["desk"]), [Need(what=f"profile desk of sender {A}", messages=5)]),
        (with_profiles(), [Need(what=f"profile desk of sender {A}", messages=5), NO_TRIPLE]),
        (with_rights(), [NO_TRIPLE]),
        (with_rights(replace(RIGHT, ebox_citizen=replace(TRIPLE, application="B"))), [NO_TRIPLE]),
        (with_rights(replace(RIGHT, ebox_citizen=None, ebox_enterprise=TRIPLE)), [NO_TRIPLE]),
        (with_rights(replace(RIGHT, category="other")), []),  # the registry still knows the letter
        (with_rights(replace(RIGHT, channels=(Channel.PRINT,))), []),
        (replace(REGISTRATION, senders={A: replace(SENDER, active=False)}), []),
    ],
)
def test_what_is_missing_is_told_with_how_many_need_it(registration: Registration, needs: list[Need]) -> None:
    assert unmet_needs([USE], registration, PROVIDERS) == needs


def test_a_triple_is_needed_until_the_letter_was_handed_over() -> None:
    assert unmet_needs([replace(USE, to_publish=0)], with_rights(), PROVIDERS) == []


def test_a_provider_is_needed_by_every_message_that_could_still_go_there() -> None:
    assert unmet_needs([USE], REGISTRATION, {"bosa"}) == [Need(what="provider house-a", messages=5)]


def test_one_provider_of_two_channels_is_counted_once() -> None:
    route = replace(ROUTE, providers=dict.fromkeys(ROUTE.channels, "bosa"))
    assert unmet_needs([replace(USE, route=route)], REGISTRATION, []) == [Need(what="provider bosa", messages=5)]


def test_counts_of_all_uses_come_together() -> None:
    uses: list[Any] = [USE, replace(USE, profile="other", messages=3, to_publish=1)]
    assert unmet_needs(uses, replace(REGISTRATION, senders={}), PROVIDERS) == [Need(what=f"sender {A}", messages=8)]


def test_nothing_under_way_needs_nothing() -> None:
    assert unmet_needs([], Registration(version=1, senders={}, categories={}), []) == []
