from dataclasses import replace
from datetime import date

import pytest

from gateway.domain.authority import MAY_SEND, MAY_SPEAK, AllOf, Facts, Rule
from gateway.domain.ids import EnterpriseNumber
from gateway.domain.message import Channel, Recipient
from gateway.domain.registration import RecipientRule

PROCESSOR = EnterpriseNumber("0566988259")


@pytest.fixture
def facts(sender, message):
    return Facts(
        party=EnterpriseNumber("0406798006"),
        certificate_profiles=None,
        signer_profiles=None,
        sender=sender(),
        suspended=False,
        profile_id="burgerzaken",
        message=message(),
        live_dossier=False,
    )


def rule_of(policy, facts):
    denial = policy.check(facts)
    return denial.rule if denial is not None else None


def test_a_sender_with_every_right_may_send(facts):
    assert rule_of(MAY_SPEAK, facts) is None
    assert rule_of(MAY_SEND, facts) is None


def test_no_policies_deny(facts):
    assert rule_of(AllOf(()), facts) is not None


def test_a_stranger_may_not_speak_for_a_sender(facts):
    assert rule_of(MAY_SPEAK, replace(facts, party=PROCESSOR)) is Rule.SENDER_UNKNOWN


def test_a_registered_processor_may(facts, sender):
    processed = replace(facts, party=PROCESSOR, sender=sender(processors=frozenset({PROCESSOR})))
    assert rule_of(MAY_SPEAK, processed) is None


def test_a_processors_certificate_limited_to_its_own_profiles_has_none_of_another_sender(facts, sender):
    processed = replace(facts, party=PROCESSOR, sender=sender(processors=frozenset({PROCESSOR})))
    same_name = replace(processed, certificate_profiles=frozenset({"burgerzaken"}))
    assert rule_of(MAY_SPEAK, same_name) is Rule.PROFILE_NOT_AUTHORISED


def test_suspended_and_inactive_senders_may_not(facts, sender):
    assert rule_of(MAY_SPEAK, replace(facts, suspended=True)) is Rule.SENDER_SUSPENDED
    assert rule_of(MAY_SPEAK, replace(facts, sender=sender(active=False))) is Rule.SENDER_SUSPENDED


def test_a_certificate_speaks_only_for_its_profiles(facts):
    others = replace(facts, certificate_profiles=frozenset({"belastingen"}))
    assert rule_of(MAY_SPEAK, others) is Rule.PROFILE_NOT_AUTHORISED
    assert rule_of(MAY_SPEAK, replace(facts, profile_id="nobody")) is Rule.PROFILE_NOT_AUTHORISED


def test_a_certificate_signs_only_for_its_profiles(facts):
    others = replace(facts, signer_profiles=frozenset({"belastingen"}))
    assert rule_of(MAY_SPEAK, others) is Rule.PROFILE_NOT_AUTHORISED
    both = replace(facts, certificate_profiles=frozenset({"burgerzaken"}), signer_profiles=frozenset({"burgerzaken"}))
    assert rule_of(MAY_SPEAK, both) is None


def test_a_category_belongs_to_a_profile(facts, message):
    assert rule_of(MAY_SEND, replace(facts, profile_id="belastingen")) is Rule.CATEGORY_NOT_AUTHORISED
    other = replace(facts, message=message(category="building-permit"))
    assert rule_of(MAY_SEND, other) is Rule.CATEGORY_NOT_AUTHORISED


def test_an_asked_channel_must_be_granted(facts, sender, message, authorisation):
    only_print = sender(authorisation=authorisation(channels=(Channel.PRINT,)))
    asking = message(channels=(Channel.EBOX_CITIZEN,))
    assert rule_of(MAY_SEND, replace(facts, sender=only_print, message=asking)) is Rule.CHANNEL_NOT_CONTRACTED


def test_every_channel_needs_an_agreement(facts, sender, message):
    agreed = sender(agreements={Channel.PRINT: date(2026, 1, 1)})
    assert rule_of(MAY_SEND, replace(facts, sender=agreed)) is Rule.CHANNEL_NOT_CONTRACTED
    asking = replace(facts, sender=agreed, message=message(channels=(Channel.PRINT,)))
    assert rule_of(MAY_SEND, asking) is None


def test_the_dossier_rule_asks_for_a_dossier_about_a_known_recipient(facts, sender, message, authorisation):
    strict = replace(facts, sender=sender(authorisation=authorisation(recipients=RecipientRule.DOSSIER)))
    assert rule_of(MAY_SEND, strict) is Rule.RECIPIENT_NOT_AUTHORISED
    assert rule_of(MAY_SEND, replace(strict, live_dossier=True)) is None
    nameless = message(recipient=Recipient(address=message().recipient.address))
    assert rule_of(MAY_SEND, replace(strict, live_dossier=True, message=nameless)) is Rule.RECIPIENT_NOT_AUTHORISED


def test_denials_name_no_person(facts, message):
    strict = replace(facts, profile_id="nobody")
    denial = MAY_SPEAK.check(strict)
    assert denial is not None
    assert "90610100155" not in denial.detail
    assert "Peeters" not in denial.detail
