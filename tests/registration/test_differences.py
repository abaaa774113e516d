"""Whatever changes between two registrations, staff lists or matrices is told in a line."""

from dataclasses import fields, replace
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.differences import differences, matrix_facts, registration_facts, staff_facts
from gateway.domain.ids import EnterpriseNumber
from gateway.domain.message import Channel
from gateway.domain.registration import (
    Authorisation,
    CertificateUse,
    Contact,
    EboxTriple,
    Profile,
    Quota,
    RecipientRule,
    RegisteredCertificate,
    Registration,
    Sender,
)
from gateway.domain.staff import Part, Person, Role, SecurityMatrix, Staff, Verb

A, B = EnterpriseNumber("0406798006"), EnterpriseNumber("0566988259")
PLACE = f"sender {A}"
RIGHT = Authorisation(
    category="tax",
    channels=(Channel.EBOX_CITIZEN, Channel.PRINT),
    recipients=RecipientRule.ANY,
    legal_basis="Act 1",
    ebox_citizen=EboxTriple(message_type="T", application="APP"),
    retention=timedelta(days=90),
)
CERTIFICATE = RegisteredCertificate(subject="CN=a", issuer_ca="ca-a", uses=frozenset({CertificateUse.TLS}))
PROFILE = Profile(id="desk", display_name="Desk", authorisations={"tax": RIGHT}, quota=Quota(messages_per_day=5))
SENDER = Sender(
    enterprise_number=A,
    name="A",
    contact=Contact(dpo="d", technical="t", security="s", public="p"),
    agreements={Channel.PRINT: date(2026, 1, 10)},
    certificates=(CERTIFICATE,),
    processors=frozenset({B}),
    profiles={"desk": PROFILE},
)
PERSON = Person(
    name="Jo",
    uid=1000,
    roles=frozenset({Role.OPERATOR}),
    confidentiality_statement=date(2026, 1, 10),
    until=date(2036, 1, 10),
)


def registered(sender: Sender = SENDER, **categories: str) -> Registration:
    return Registration(
        version=1, senders={sender.enterprise_number: sender}, categories=categories or {"tax": "Taxes"}
    )


def told(sender: Sender) -> list[str]:
    return differences(registration_facts(registered()), registration_facts(registered(sender)))


def with_right(**changes: Any) -> Sender:
    return replace(SENDER, profiles={"desk": replace(PROFILE, authorisations={"tax": replace(RIGHT, **changes)})})


def with_profile(**changes: Any) -> Sender:
    return replace(SENDER, profiles={"desk": replace(PROFILE, **changes)})


def with_contact(**changes: Any) -> Sender:
    return replace(SENDER, contact=replace(SENDER.contact, **changes))


def with_certificate(**changes: Any) -> Sender:
    return replace(SENDER, certificates=(replace(CERTIFICATE, **changes),))


DESK = f"{PLACE}, profile desk"
GRANTED = "channels ebox-citizen, print; recipients any; legal basis Act 1; e-Box of citizens T, APP; retention P90D"
CHANGES: dict[tuple[type, str], tuple[Sender, list[str]]] = {
    (Sender, "enterprise_number"): (replace(SENDER, enterprise_number=B), []),  # below
    (Sender, "ovo_code"): (replace(SENDER, ovo_code="OVO000001"), [f"~ {PLACE}: OVO code none -> OVO000001"]),
    (Sender, "name"): (replace(SENDER, name="B"), [f"~ {PLACE}: name A -> B"]),
    (Sender, "contact"): (with_contact(dpo="x", public="y"), [f"~ {PLACE}: contact dpo d -> x; contact public p -> y"]),
    (Sender, "active"): (replace(SENDER, active=False), [f"~ {PLACE}: active yes -> no"]),
    (Sender, "agreements"): (replace(SENDER, agreements={}), [f"- {PLACE}, agreement for print: since 2026-01-10"]),
    (Sender, "certificates"): (
        replace(SENDER, certificates=()),
        [f"- {PLACE}, certificate CN=a by ca-a: uses tls; profiles all"],
    ),
    (Sender, "processors"): (replace(SENDER, processors=frozenset()), [f"- {PLACE}, processor {B}"]),
    (Sender, "profiles"): (
        replace(SENDER, profiles={"desk": PROFILE, "x": Profile(id="x", display_name="X")}),
        [f"+ {PLACE}, profile x: display name X; hold PT0S"],
    ),
    (Sender, "return_address"): (
        replace(SENDER, return_address=("Markt 1", "Gent")),
        [f"~ {PLACE}: return address none -> Markt 1, Gent"],
    ),
    (Contact, "dpo"): (with_contact(dpo="x"), [f"~ {PLACE}: contact dpo d -> x"]),
    (Contact, "technical"): (with_contact(technical="x"), [f"~ {PLACE}: contact technical t -> x"]),
    (Contact, "security"): (with_contact(security="x"), [f"~ {PLACE}: contact security s -> x"]),
    (Contact, "public"): (with_contact(public="x"), [f"~ {PLACE}: contact public p -> x"]),
    (RegisteredCertificate, "spki_sha256"): (
        with_certificate(spki_sha256="ab" * 32),
        [
            f"- {PLACE}, certificate CN=a by ca-a: uses tls; profiles all",
            f"+ {PLACE}, certificate with key {'ab' * 32}: uses tls; profiles all",
        ],
    ),
    (RegisteredCertificate, "subject"): (
        with_certificate(subject="CN=b"),
        [
            f"- {PLACE}, certificate CN=a by ca-a: uses tls; profiles all",
            f"+ {PLACE}, certificate CN=b by ca-a: uses tls; profiles all",
        ],
    ),
    (RegisteredCertificate, "issuer_ca"): (
        with_certificate(issuer_ca="ca-b"),
        [
            f"- {PLACE}, certificate CN=a by ca-a: uses tls; profiles all",
            f"+ {PLACE}, certificate CN=a by ca-b: uses tls; profiles all",
        ],
    ),
    (RegisteredCertificate, "uses"): (
        with_certificate(uses=frozenset({CertificateUse.TLS, CertificateUse.SIGNING})),
        [f"~ {PLACE}, certificate CN=a by ca-a: uses tls -> signing, tls"],
    ),
    (RegisteredCertificate, "profiles"): (
        with_certificate(profiles=frozenset({"desk"})),
        [f"~ {PLACE}, certificate CN=a by ca-a: profiles all -> desk"],
    ),
    (Profile, "id"): (
        replace(SENDER, profiles={"x": Profile(id="x", display_name="Desk")}),
        [
            f"- {DESK}: display name Desk; hold PT0S; messages per day 5",
            f"- {DESK}, authorisation tax: {GRANTED}",
            f"+ {PLACE}, profile x: display name Desk; hold PT0S",
        ],
    ),
    (Profile, "display_name"): (with_profile(display_name="X"), [f"~ {DESK}: display name Desk -> X"]),
    (Profile, "hold"): (with_profile(hold=timedelta(minutes=5)), [f"~ {DESK}: hold PT0S -> PT300S"]),
    (Profile, "authorisations"): (
        with_profile(authorisations={}),
        [
            f"- {DESK}, authorisation tax: {GRANTED}",
        ],
    ),
    (Profile, "quota"): (
        with_profile(quota=Quota(paper_per_day=0)),
        [f"~ {DESK}: messages per day 5 -> none; paper per day none -> 0"],
    ),
    (Quota, "messages_per_day"): (
        with_profile(quota=Quota(messages_per_day=6)),
        [f"~ {DESK}: messages per day 5 -> 6"],
    ),
    (Quota, "paper_per_day"): (
        with_profile(quota=Quota(messages_per_day=5, paper_per_day=7)),
        [f"~ {DESK}: paper per day none -> 7"],
    ),
    (Authorisation, "category"): (
        with_profile(authorisations={"x": replace(RIGHT, category="x")}),
        [
            f"- {DESK}, authorisation tax: {GRANTED}",
            f"+ {DESK}, authorisation x: {GRANTED}",
        ],
    ),
    (Authorisation, "channels"): (
        with_right(channels=(Channel.PRINT, Channel.EBOX_CITIZEN)),
        [f"~ {DESK}, authorisation tax: channels ebox-citizen, print -> print, ebox-citizen"],
    ),
    (Authorisation, "recipients"): (
        with_right(recipients=RecipientRule.DOSSIER),
        [f"~ {DESK}, authorisation tax: recipients any -> dossier"],
    ),
    (Authorisation, "legal_basis"): (
        with_right(legal_basis="Act 2"),
        [f"~ {DESK}, authorisation tax: legal basis Act 1 -> Act 2"],
    ),
    (Authorisation, "ebox_citizen"): (
        with_right(ebox_citizen=EboxTriple(message_type="T", application="B")),
        [f"~ {DESK}, authorisation tax: e-Box of citizens T, APP -> T, B"],
    ),
    (Authorisation, "ebox_enterprise"): (
        with_right(ebox_enterprise=EboxTriple(message_type="E", application="B")),
        [f"~ {DESK}, authorisation tax: e-Box of enterprises none -> E, B"],
    ),
    (Authorisation, "retention"): (
        with_right(retention=timedelta(days=30)),
        [f"~ {DESK}, authorisation tax: retention P90D -> P30D"],
    ),
    (Authorisation, "fallback"): (
        with_right(fallback=frozenset({"no-box", "refused"})),
        [f"~ {DESK}, authorisation tax: fallback none -> no-box, refused"],
    ),
    (Authorisation, "unread_after"): (
        with_right(unread_after=timedelta(days=15, hours=1)),
        [f"~ {DESK}, authorisation tax: unread after none -> PT1299600S"],
    ),
}
COVERED = [Sender, Contact, RegisteredCertificate, Profile, Quota, Authorisation]


def test_no_field_of_a_registration_is_left_out() -> None:
    assert {(kind, field.name) for kind in COVERED for field in fields(kind)} == CHANGES.keys()


@pytest.mark.parametrize(
    ("sender", "lines"),
    [change for (_, name), change in CHANGES.items() if name != "enterprise_number"],
    ids=[f"{kind.__name__}.{name}" for kind, name in CHANGES if name != "enterprise_number"],
)
def test_a_changed_field_is_told_with_both_values(sender: Sender, lines: list[str]) -> None:
    assert sorted(told(sender)) == sorted(lines)


def test_a_sender_that_goes_and_one_that_comes_are_told_with_all_they_may() -> None:
    lines = told(replace(SENDER, enterprise_number=B))
    gone, come = ([line for line in lines if line.startswith(sign)] for sign in "-+")
    assert (len(lines), len(gone)) == (12, 6)
    assert [line[2:].replace(A, "#") for line in gone if "processor" not in line] == [
        line[2:].replace(B, "#") for line in come if "processor" not in line
    ]


def test_categories_are_told() -> None:
    before, after = registered(tax="Taxes", old="Old"), registered(tax="All taxes", new="New")
    assert differences(registration_facts(before), registration_facts(after)) == [
        "+ category new: description New",
        "- category old: description Old",
        "~ category tax: description Taxes -> All taxes",
    ]


def test_the_number_of_a_registration_is_no_difference() -> None:
    facts = registration_facts(registered())
    assert differences(facts, registration_facts(replace(registered(), version=9))) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"uid": 1001}, "~ person Jo: user id 1000 -> 1001"),
        ({"roles": frozenset({Role.DPO, Role.AUDITOR})}, "~ person Jo: roles operator -> auditor, dpo"),
        ({"confidentiality_statement": date(2026, 2, 1)}, "~ person Jo: statement 2026-01-10 -> 2026-02-01"),
        ({"until": date(2026, 3, 1)}, "~ person Jo: until 2036-01-10 -> 2026-03-01"),
    ],
)
def test_what_changes_about_a_person_is_told(change: dict[str, Any], line: str) -> None:
    after = Staff(persons=(replace(PERSON, **change),))
    assert differences(staff_facts(Staff(persons=(PERSON,))), staff_facts(after)) == [line]


def test_rights_that_come_go_and_change_are_told() -> None:
    def matrix(*grants: tuple[Part, Role, Verb]) -> SecurityMatrix:
        return SecurityMatrix(grants={part: {role: frozenset({verb})} for part, role, verb in grants})

    before = matrix((Part.KEYS, Role.AUDITOR, Verb.READ), (Part.SENDERS, Role.DPO, Verb.READ))
    after = matrix((Part.SENDERS, Role.DPO, Verb.MODIFY), (Part.REPORTS, Role.DPO, Verb.READ))
    assert differences(matrix_facts(before), matrix_facts(after)) == [
        "- right of auditor on keys: verbs read",
        "+ right of dpo on reports: verbs read",
        "~ right of dpo on senders: verbs read -> modify",
    ]


FACTS = st.dictionaries(
    st.text(max_size=3), st.dictionaries(st.sampled_from("abc"), st.text(max_size=2), max_size=3), max_size=4
)


@given(before=FACTS, after=FACTS)
def test_each_thing_that_differs_has_one_line_and_what_is_equal_none(before: Any, after: Any) -> None:
    differing = {thing for thing in before.keys() | after.keys() if before.get(thing) != after.get(thing)}
    assert len(differences(before, after)) == len(differing)
    assert differences(before, before) == []
