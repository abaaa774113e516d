"""What registration files may say; mistakes of all files are told together, each with its place."""

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.config.senders import load_categories, load_registration
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

Values = dict[str, Any]
Change = Callable[[Values, Mapping[str, Any]], Values]
Write = Callable[[str, Values], Path]
Mistakes = Callable[[Callable[[], object]], dict[str, str]]
Load = Callable[..., Registration]

CATEGORIES = {"categories": {"tax": {"description": "Taxes"}, "permit": {"description": "Permits"}}}
A, B, C = EnterpriseNumber("0406798006"), EnterpriseNumber("0566988259"), EnterpriseNumber("0316380841")
SPKI = "ab" * 32
AUTHORISATION = "profiles/0/authorisations/0"


@pytest.fixture
def load(write: Write, tmp_path: Path) -> Load:
    """Load a registration of one or more senders, files a.toml, b.toml and so on."""

    def load_senders(*senders: Values, categories: Values = CATEGORIES, **named: Any) -> Registration:
        write("categories.toml", categories)
        for name, values in zip("abcd", senders, strict=False):
            write(f"senders/{name}.toml", values)
        return load_registration(tmp_path / "senders", tmp_path / "categories.toml", version=7, **named)

    return load_senders


@pytest.fixture
def load_changed(load: Load, sender: Values, changed: Change) -> Callable[[Values], Registration]:
    """Load one sender with some places changed, where only the authority ca-a is configured."""
    return lambda changes: load(changed(sender, changes), authorities={"ca-a"})


def test_a_file_becomes_a_sender(load: Load, sender: Values, changed: Change) -> None:
    changes = {
        "certificates/0/profiles": ["desk"],
        "processors": [{"enterprise_number": B}],
        "return_address": ["Markt 1", "9000 Gent"],
        "active": False,
        "quota": {"messages_per_day": 10},
        "profiles/0/hold": "PT5M",
        f"{AUTHORISATION}/ebox/enterprise": {"message_type": "T2", "application": "APP"},
        f"{AUTHORISATION}/fallback": ["no-box", "refused"],
        f"{AUTHORISATION}/unread_after": "P15D",
        "agreements/ebox-citizen": date(2026, 2, 1),
    }
    processor = {**sender, "enterprise_number": B, "certificates": [{"spki_sha256": SPKI, "uses": ["dpo"]}]}
    registration = load(changed(sender, changes), processor)
    assert (registration.version, registration.categories) == (7, {"tax": "Taxes", "permit": "Permits"})
    assert set(registration.senders) == {A, B}
    assert registration.senders[A] == Sender(
        enterprise_number=A,
        name="Gemeente Voorbeeld",
        contact=Contact(dpo="dpo@a.example", technical="it@a.example", security="ciso@a.example", public="09"),
        active=False,
        agreements={Channel.PRINT: date(2026, 1, 10), Channel.EBOX_CITIZEN: date(2026, 2, 1)},
        certificates=(
            RegisteredCertificate(
                subject="CN=a.example,O=A,C=BE",
                issuer_ca="ca-a",
                uses=frozenset({CertificateUse.TLS, CertificateUse.SIGNING}),
                profiles=frozenset({"desk"}),
            ),
        ),
        processors=frozenset({B}),
        profiles={
            "desk": Profile(
                id="desk",
                display_name="Desk",
                hold=timedelta(minutes=5),
                authorisations={
                    "tax": Authorisation(
                        category="tax",
                        channels=(Channel.EBOX_CITIZEN, Channel.PRINT),
                        recipients=RecipientRule.ANY,
                        legal_basis="Act 1",
                        ebox_citizen=EboxTriple(message_type="T", application="APP"),
                        ebox_enterprise=EboxTriple(message_type="T2", application="APP"),
                        retention=timedelta(days=90),
                        fallback=frozenset({"no-box", "refused"}),
                        unread_after=timedelta(days=15),
                    )
                },
                quota=Quota(messages_per_day=10),
            )
        },
        return_address=("Markt 1", "9000 Gent"),
    )
    assert registration.senders[B].certificates == (
        RegisteredCertificate(spki_sha256=SPKI, uses=frozenset({CertificateUse.DPO})),
    )


def test_what_a_file_leaves_out_grants_nothing(load: Load) -> None:
    bare = {
        "enterprise_number": A,
        "name": "Bare",
        "contact": dict.fromkeys(("dpo", "technical", "security", "public"), "x"),
    }
    sender = load(bare).senders[A]
    assert (sender.active, sender.certificates, sender.profiles, sender.processors) == (True, (), {}, frozenset())
    assert (sender.agreements, sender.return_address, sender.ovo_code) == ({}, (), None)


def test_an_authorisation_never_falls_back_by_itself(load: Load, sender: Values) -> None:
    authorisation = load(sender).senders[A].profiles["desk"].authorisations["tax"]
    assert (authorisation.fallback, authorisation.unread_after) == (frozenset(), None)


def test_the_quota_of_a_sender_holds_for_each_profile(load: Load, sender: Values) -> None:
    sender["profiles"].append({"id": "other", "display_name": "Other"})
    sender["quota"] = {"messages_per_day": 5, "paper_per_day": 0}
    profiles = load(sender).senders[A].profiles
    assert {profile.quota for profile in profiles.values()} == {Quota(messages_per_day=5, paper_per_day=0)}


def test_a_body_that_shares_its_number_has_an_ovo_code(load: Load, sender: Values) -> None:
    sender |= {"enterprise_number": C, "ovo_code": "OVO000001"}
    assert load(sender).senders[C].ovo_code == "OVO000001"


def test_only_toml_files_that_are_not_hidden_are_read(load: Load, sender: Values, tmp_path: Path) -> None:
    folder = tmp_path / "senders"
    folder.mkdir()
    for name in (".a.toml", "README.md", "b.toml~"):
        (folder / name).write_text("not TOML")
    assert set(load(sender).senders) == {A}


# Each row: what is changed, where the mistake is told, and words of its fix. Only that one mistake may be told.
MISTAKES: list[tuple[Values, str, str]] = [
    # the sender
    ({"enterprise_number": ...}, "enterprise_number", "is missing"),
    ({"enterprise_number": "0406798007"}, "enterprise_number", "check digits"),
    ({"enterprise_number": 406798006}, "enterprise_number", "must be text in quotes"),
    ({"ovo_code": "OVO000001"}, "ovo_code", "only for bodies that share"),
    ({"enterprise_number": C}, "ovo_code", "is missing"),
    ({"enterprise_number": C, "ovo_code": "OVO1"}, "ovo_code", "six digits"),
    ({"name": ""}, "name", "1 to 100 characters"),
    ({"contact/public": ...}, "contact.public", "is missing"),
    ({"contact": "me"}, "contact", "must be a table"),
    ({"active": "yes"}, "active", "true or false"),
    ({"agreements/fax": "2026-01-10"}, "agreements.fax", "ebox-citizen"),
    ({"agreements/print": "10/01/2026"}, "agreements.print", "like 2026-01-10"),
    ({"agreements/print": "2026-02-30"}, "agreements.print", "no day of the calendar"),
    ({"agreements/print": True}, "agreements.print", "like 2026-01-10"),
    ({"return_address": ["x"] * 2}, "return_address[1]", "twice"),
    ({"return_address": list("abcdefg")}, "return_address", "at most 6 lines"),
    ({"return_address": ["x" * 61]}, "return_address[0]", "1 to 60 characters"),
    ({"callback": {"url": "https://a.example"}}, "callback", "is not known here"),
    ({"profiles/0/quota": {"messages_per_day": 1}}, "profiles[0].quota", "is not known here"),
    ({"quota": {"messages_per_day": -1}}, "quota.messages_per_day", "from 0"),
    ({"quota": {"per_hour": 1}}, "quota.per_hour", "known are"),
    # certificates
    ({"certificates/0/subject": "CN=a, O=b"}, "certificates[0].subject", "without spaces after commas"),
    ({"certificates/0/subject": "a.example"}, "certificates[0].subject", "RFC 4514"),
    ({"certificates/0/issuer_ca": ...}, "certificates[0].issuer_ca", "is missing"),
    ({"certificates/0/subject": ...}, "certificates[0].subject", "is missing"),
    ({"certificates/0/spki_sha256": SPKI}, "certificates[0]", "must name the certificate once"),
    ({"certificates/0": {"uses": ["tls"]}}, "certificates[0]", "must name a certificate"),
    ({"certificates/0": {"uses": ["tls"], "spki_sha256": "AB" * 32}}, "certificates[0].spki_sha256", "lower-case"),
    ({"certificates/0/issuer_ca": "ca-b"}, "certificates[0].issuer_ca", "none of the configured client_cas: ca-a"),
    ({"certificates/0/uses": ...}, "certificates[0].uses", "is missing"),
    ({"certificates/0/uses": []}, "certificates[0].uses", "at least one"),
    ({"certificates/0/uses": ["send"]}, "certificates[0].uses[0]", "tls, signing, dpo, approver"),
    ({"certificates/0/uses": ["tls", "dpo"]}, "certificates[0].uses", "stand alone"),
    ({"certificates/0/uses": ["signing", "approver"]}, "certificates[0].uses", "stand alone"),
    ({"certificates/0/uses": ["dpo", "approver"]}, "certificates[0].uses", "stand alone"),
    ({"certificates/0/profiles": ["desk", "none"]}, "certificates[0].profiles[1]", "no profile none"),
    ({"certificates/0/profiles": []}, "certificates[0].profiles", "at least one"),
    # processors
    ({"processors": [{"enterprise_number": B}]}, "processors", f"{B} has no registration file"),
    ({"processors": [{"enterprise_number": A}]}, "processors[0].enterprise_number", "itself"),
    ({"processors": [{"enterprise_number": "1"}]}, "processors[0].enterprise_number", "ten digits"),
    ({"processors": [{}]}, "processors[0].enterprise_number", "is missing"),
    # profiles
    ({"profiles/0/id": "Desk"}, "profiles[0].id", "a-z 0-9 -"),
    ({"profiles/0/display_name": "a\tb"}, "profiles[0].display_name", "control characters"),
    ({"profiles/0/hold": "P8D"}, "profiles[0].hold", "from PT0S to P7D"),
    ({f"{AUTHORISATION}/category": "taxes"}, "profiles[0].authorisations[0].category", "registered are: permit, tax"),
    ({f"{AUTHORISATION}/channels": ...}, "profiles[0].authorisations[0].channels", "is missing"),
    ({f"{AUTHORISATION}/channels": ["email"]}, "profiles[0].authorisations[0].channels[0]", "ebox-citizen"),
    ({f"{AUTHORISATION}/recipients": "all"}, "profiles[0].authorisations[0].recipients", "any, dossier"),
    ({f"{AUTHORISATION}/legal_basis": ...}, "profiles[0].authorisations[0].legal_basis", "is missing"),
    ({f"{AUTHORISATION}/ebox": ...}, "profiles[0].authorisations[0].ebox.citizen", "the channel ebox-citizen needs"),
    (
        {f"{AUTHORISATION}/channels": ["ebox-citizen", "ebox-enterprise"]},
        "profiles[0].authorisations[0].ebox.enterprise",
        "the channel ebox-enterprise needs",
    ),
    (
        {f"{AUTHORISATION}/ebox/citizen": {"message_type": "T"}},
        "profiles[0].authorisations[0].ebox.citizen.application",
        "is missing",
    ),
    (
        {f"{AUTHORISATION}/ebox/enterprise": {"message_type": "T", "application": "APP"}},
        "profiles[0].authorisations[0].ebox.enterprise",
        "for one kind only",
    ),
    (
        {f"{AUTHORISATION}/ebox/print": {"message_type": "T", "application": "APP"}},
        "profiles[0].authorisations[0].ebox.print",
        "not known here",
    ),
    ({f"{AUTHORISATION}/retention": ...}, "profiles[0].authorisations[0].retention", "is missing"),
    ({f"{AUTHORISATION}/retention": "P0D"}, "profiles[0].authorisations[0].retention", "from P1D to P3650D"),
    ({f"{AUTHORISATION}/retention": "P3651D"}, "profiles[0].authorisations[0].retention", "from P1D to P3650D"),
    ({f"{AUTHORISATION}/retention": "PT24H"}, "profiles[0].authorisations[0].retention", "whole days"),
    (
        {f"{AUTHORISATION}/fallback": ["unread"]},
        "profiles[0].authorisations[0].fallback[0]",
        "no-box, no-consent, no-digital-user, refused",
    ),
    ({f"{AUTHORISATION}/unread_after": "P0D"}, "profiles[0].authorisations[0].unread_after", "from PT1S to P365D"),
    ({f"{AUTHORISATION}/unread_after": "P366D"}, "profiles[0].authorisations[0].unread_after", "from PT1S to P365D"),
]


@pytest.mark.parametrize(
    ("changes", "pointer", "words"), MISTAKES, ids=[f"{row[1]}-{number}" for number, row in enumerate(MISTAKES)]
)
def test_a_mistake_is_told_with_its_place_and_its_fix(
    load_changed: Callable[[Values], Registration], mistakes: Mistakes, changes: Values, pointer: str, words: str
) -> None:
    told = mistakes(lambda: load_changed(changes))
    assert list(told) == [f"senders/a.toml: {pointer}"]
    assert words in told[f"senders/a.toml: {pointer}"]


def same(sender: Values, **changes: Any) -> Values:
    return {**sender, "enterprise_number": B, **changes}


def test_one_number_in_two_files_is_refused(load: Load, sender: Values, mistakes: Mistakes) -> None:
    told = mistakes(lambda: load(sender, {**sender, "certificates": []}))
    assert "is registered in " in told["senders/b.toml: enterprise_number"]


def test_bodies_that_share_a_number_are_told_that_only_one_can_be_registered(
    load: Load, sender: Values, mistakes: Mistakes
) -> None:
    first = {**sender, "enterprise_number": C, "ovo_code": "OVO000001"}
    told = mistakes(lambda: load(first, {**first, "ovo_code": "OVO000002", "certificates": []}))
    assert "cannot be told apart yet" in told["senders/b.toml: enterprise_number"]


@pytest.mark.parametrize(
    "certificate",
    [
        {"subject": "CN=a.example,O=A,C=BE", "issuer_ca": "ca-a", "uses": ["signing"]},
        {"spki_sha256": SPKI, "uses": ["dpo"]},
    ],
)
def test_a_certificate_in_two_files_is_refused(
    load: Load, sender: Values, mistakes: Mistakes, certificate: Values
) -> None:
    sender["certificates"].append({"spki_sha256": SPKI, "uses": ["tls"]})
    told = mistakes(lambda: load(sender, same(sender, certificates=[certificate])))
    assert list(told) == ["senders/b.toml: certificates[0]"]
    assert "a.toml: certificates[" in told["senders/b.toml: certificates[0]"]


def test_a_certificate_twice_in_one_file_is_refused(load: Load, sender: Values, mistakes: Mistakes) -> None:
    sender["certificates"] *= 2
    assert list(mistakes(lambda: load(sender))) == ["senders/a.toml: certificates[1]"]


def test_a_subject_may_stand_in_two_files_under_two_authorities(load: Load, sender: Values) -> None:
    other = {"subject": "CN=a.example,O=A,C=BE", "issuer_ca": "ca-b", "uses": ["tls"]}
    assert set(load(sender, same(sender, certificates=[other])).senders) == {A, B}


def test_a_profile_twice_in_one_file_is_refused(load: Load, sender: Values, mistakes: Mistakes) -> None:
    sender["profiles"] *= 2
    assert list(mistakes(lambda: load(sender))) == ["senders/a.toml: profiles[1].id"]


def test_a_category_twice_in_one_profile_is_refused(load: Load, sender: Values, mistakes: Mistakes) -> None:
    sender["profiles"][0]["authorisations"] *= 2
    assert list(mistakes(lambda: load(sender))) == ["senders/a.toml: profiles[0].authorisations[1].category"]


def test_a_combination_serves_one_kind_of_box_in_the_whole_file(load: Load, sender: Values, mistakes: Mistakes) -> None:
    authorisation = sender["profiles"][0]["authorisations"][0]
    other = {**authorisation, "channels": ["ebox-enterprise"], "ebox": {"enterprise": authorisation["ebox"]["citizen"]}}
    sender["profiles"].append({"id": "other", "display_name": "Other", "authorisations": [other]})
    told = mistakes(lambda: load(sender))
    assert list(told) == ["senders/a.toml: profiles[1].authorisations[0].ebox.enterprise"]


def test_a_processor_twice_in_one_file_is_refused(load: Load, sender: Values, mistakes: Mistakes) -> None:
    processors = [{"enterprise_number": B}] * 2
    told = mistakes(lambda: load({**sender, "processors": processors}, same(sender, certificates=[])))
    assert list(told) == ["senders/a.toml: processors[1].enterprise_number"]


def test_mistakes_of_all_files_are_told_at_once(load: Load, sender: Values, mistakes: Mistakes) -> None:
    first = {**sender, "name": 1, "colour": "green", "certificates": []}
    second = {**sender, "enterprise_number": "x", "agreements": {"print": 1}}
    told = mistakes(lambda: load(first, second, categories={"categories": {"Tax": {"description": "x"}}}))
    assert set(told) == {
        "categories.toml: categories.Tax", "categories.toml: categories",
        "senders/a.toml: name", "senders/a.toml: colour",
        "senders/b.toml: enterprise_number", "senders/b.toml: agreements.print",
    }  # fmt: skip


def test_files_that_cannot_be_read_are_told_beside_the_others(
    load: Load, sender: Values, mistakes: Mistakes, tmp_path: Path
) -> None:
    (tmp_path / "senders").mkdir()
    (tmp_path / "senders" / "z.toml").write_text("= 1")
    (tmp_path / "senders" / "y.toml").mkdir()
    told = mistakes(lambda: load({**sender, "name": ""}))
    assert set(told) == {"senders/a.toml: name", "senders/y.toml", "senders/z.toml"}


def test_a_missing_folder_and_missing_categories_are_both_told(tmp_path: Path, mistakes: Mistakes) -> None:
    told = mistakes(lambda: load_registration(tmp_path / "senders", tmp_path / "categories.toml", version=1))
    assert set(told) == {"senders", "categories.toml"}


def test_categories_are_read(write: Write) -> None:
    assert load_categories(write("categories.toml", CATEGORIES)) == {"tax": "Taxes", "permit": "Permits"}


@pytest.mark.parametrize(
    ("values", "pointer"),
    [
        ({}, "categories"),
        ({"categories": {"tax": {}}}, "categories.tax.description"),
        ({"categories": {"tax": "Taxes"}}, "categories.tax"),
        ({"categories": {"tax": {"description": "x", "level": 4}}}, "categories.tax.level"),
        ({"categories": {"tax": {"description": "x"}}, "version": 1}, "version"),
        ({"categories": {"tax": {"description": "x"}, "-": {"description": "x"}}}, "categories.-"),
    ],
)
def test_a_mistake_in_the_categories_is_told(write: Write, mistakes: Mistakes, values: Values, pointer: str) -> None:
    assert list(mistakes(lambda: load_categories(write("c.toml", values)))) == [f"c.toml: {pointer}"]
