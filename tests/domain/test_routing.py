from datetime import timedelta

import pytest

from gateway.domain.ids import EnterpriseNumber
from gateway.domain.message import Channel, DocumentEntry, PrintOptions, PrintProduct, Recipient
from gateway.domain.routing import DEFAULT_CAPABILITIES, next_channel, plan_route, unread_rule_applies
from gateway.domain.status import Reason

PROVIDERS = {
    Channel.EBOX_CITIZEN: ("bosa",),
    Channel.EBOX_ENTERPRISE: ("nsso",),
    Channel.PRINT: ("house-a", "house-b"),
}


@pytest.fixture
def plan(message, authorisation):
    def make(granted=None, providers=PROVIDERS, **changes):
        return plan_route(message(**changes), granted or authorisation(), DEFAULT_CAPABILITIES, providers)

    return make


def documents(count=1, media_type="application/pdf", size_bytes=1_000):
    return tuple(
        DocumentEntry(
            part=f"upfile{number}",
            filename="f",
            media_type=media_type,
            size_bytes=size_bytes,
            sha256="0" * 64,
            main=number == 1,
        )
        for number in range(1, count + 1)
    )


def test_the_authorisation_gives_the_default_order(plan):
    route = plan()
    assert route.channels == (Channel.EBOX_CITIZEN, Channel.PRINT)
    assert [skip.channel for skip in route.skipped] == [Channel.EBOX_ENTERPRISE]
    assert route.providers == {Channel.EBOX_CITIZEN: "bosa", Channel.PRINT: "house-a"}


def test_the_sender_may_ask_for_another_order(plan):
    assert plan(channels=(Channel.PRINT, Channel.EBOX_CITIZEN)).channels == (Channel.PRINT, Channel.EBOX_CITIZEN)


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({"documents": documents(7)}, (Channel.PRINT,)),
        ({"documents": documents(6)}, (Channel.EBOX_CITIZEN, Channel.PRINT)),
        ({"documents": documents(2, size_bytes=15_000_001)}, ()),
        ({"documents": documents(media_type="text/plain")}, ()),
        ({"language": "en"}, (Channel.PRINT,)),
        ({"print_options": PrintOptions(product=PrintProduct.REGISTERED)}, (Channel.PRINT,)),
    ],
)
def test_channels_that_cannot_carry_are_skipped_and_noted(plan, changes, left):
    route = plan(**changes)
    assert route.channels == left
    assert all(skip.why for skip in route.skipped)
    assert len(route.channels) + len(route.skipped) == 3


def test_an_address_alone_goes_by_print(plan, message):
    address = message().recipient.address
    assert plan(recipient=Recipient(address=address)).channels == (Channel.PRINT,)


def test_a_company_takes_more_types_than_a_citizen(plan):
    company = Recipient(enterprise_number=EnterpriseNumber("0566988259"))
    assert plan(recipient=company, documents=documents(media_type="text/plain")).channels == (Channel.EBOX_ENTERPRISE,)


def test_without_provider_or_triple_a_channel_is_skipped(plan, authorisation):
    assert plan(providers={Channel.PRINT: ("house-a",)}).channels == (Channel.PRINT,)
    assert plan(granted=authorisation(ebox_citizen=None)).channels == (Channel.PRINT,)


@pytest.mark.parametrize("reason", [Reason.NO_CONSENT, Reason.NO_DIGITAL_USER, Reason.REFUSED])
def test_a_named_trigger_opens_the_next_channel(plan, reason):
    assert next_channel(plan(), Channel.EBOX_CITIZEN, reason) is Channel.PRINT


@pytest.mark.parametrize("reason", [Reason.NO_BOX, Reason.UNREAD, Reason.EXPIRED, Reason.GIVEN_UP])
def test_what_is_not_named_opens_nothing(plan, reason):
    assert next_channel(plan(), Channel.EBOX_CITIZEN, reason) is None


def test_after_the_last_channel_comes_none(plan):
    assert next_channel(plan(), Channel.PRINT, Reason.REFUSED) is None


def test_the_unread_rule_needs_a_term_and_a_channel_to_go_to(plan, authorisation):
    waiting = authorisation(unread_after=timedelta(days=15))
    assert unread_rule_applies(plan(granted=waiting), Channel.EBOX_CITIZEN)
    assert not unread_rule_applies(plan(), Channel.EBOX_CITIZEN)
    alone = plan(granted=waiting, channels=(Channel.EBOX_CITIZEN,))
    assert not unread_rule_applies(alone, Channel.EBOX_CITIZEN)
    assert not unread_rule_applies(plan(granted=waiting), Channel.PRINT)
