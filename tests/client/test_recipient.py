import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.client.letter import new_reference
from gateway.client.recipient import RecipientUnreadable, ask_recipient, read_recipient
from gateway.client.transport import new_correlation_id
from gateway.domain.ids import EnterpriseNumber, Ssin, parse_correlation_id, parse_reference
from gateway.domain.message import PostalAddress, Recipient

PERSON = Ssin("90610100155")
COMPANY = EnterpriseNumber("0566988259")
ADDRESS = PostalAddress(
    name="Jan Peeters",
    street="Kerkstraat",
    house_number="12",
    box="3",
    postcode="9000",
    municipality="Gent",
    country="BE",
)
JSON_ADDRESS = {
    "name": "Jan Peeters",
    "street": "Kerkstraat",
    "houseNumber": "12",
    "box": "3",
    "postcode": "9000",
    "municipality": "Gent",
}
LINES = "name: Jan Peeters\nStreet: Kerkstraat\nhouse number: 12\nBox: 3\npostcode: 9000\nmunicipality: Gent\n"


@pytest.mark.parametrize(
    ("text", "recipient"),
    [
        ("90610100155\n", Recipient(ssin=PERSON)),
        ("90.61.01-001.55", Recipient(ssin=PERSON)),
        ("ssin: 90610100155", Recipient(ssin=PERSON)),
        ("0566988259", Recipient(enterprise_number=COMPANY)),
        ("BE 0566.988.259", Recipient(enterprise_number=COMPANY)),
        ("enterprise number: 0566.988.259", Recipient(enterprise_number=COMPANY)),
        (LINES, Recipient(address=ADDRESS)),
        ("\n90610100155\n\n" + LINES, Recipient(ssin=PERSON, address=ADDRESS)),
        (LINES + "country: BE\nssin: 90610100155", Recipient(ssin=PERSON, address=ADDRESS)),
        (json.dumps({"ssin": PERSON}), Recipient(ssin=PERSON)),
        (json.dumps({"enterpriseNumber": COMPANY}), Recipient(enterprise_number=COMPANY)),
        (json.dumps({"postalAddress": JSON_ADDRESS}), Recipient(address=ADDRESS)),
        (json.dumps({"ssin": PERSON, "postalAddress": JSON_ADDRESS}), Recipient(ssin=PERSON, address=ADDRESS)),
    ],
)
def test_a_recipient_is_read_from_lines_or_json(text: str, recipient: Recipient) -> None:
    assert read_recipient(text) == recipient


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "nothing was given"),
        ("90610100156", "check digits of the SSIN"),
        ("0566988258", "check digits of the enterprise number"),
        ("906101001", "eleven digits"),
        ("90610100155\n90610100155", "line 2 says number for the second time"),
        ("90610100155\nJan Peeters", "line 2 is neither"),
        ("naam: Jan Peeters", "line 1 is neither"),
        ("name: Jan Peeters\nstreet:\n", "lacks street, houseNumber, postcode, municipality"),
        ("{", "not JSON"),
        ('{"ssin": "90610100155", "ssin": "90610100155"}', "a name stands twice"),
        ('{"ssin": 90610100155}', "text, in quotes"),
        ('{"ssin": "90610100155", "enterpriseNumber": "0566988259"}', "nothing else"),
        ('{"nummer": "90610100155"}', "nothing else"),
        ('{"postalAddress": {"naam": "Jan Peeters"}}', "postalAddress is an object of"),
        ('{"postalAddress": "Jan Peeters"}', "postalAddress is an object of"),
        ("{}", "needs a number"),
    ],
)
def test_what_names_no_recipient_is_refused_without_being_repeated(text: str, why: str) -> None:
    with pytest.raises(RecipientUnreadable, match=why) as found:
        read_recipient(text)
    assert "Peeters" not in str(found.value)
    assert "9061010015" not in str(found.value)


def answers(*lines: str) -> Iterator[str]:
    return iter([line + "\n" for line in lines])


@pytest.mark.parametrize(
    ("lines", "recipient"),
    [
        (("90610100155", ""), Recipient(ssin=PERSON)),
        (("", "Jan Peeters", "Kerkstraat", "12", "3", "9000", "Gent", ""), Recipient(address=ADDRESS)),
        (
            ("90.61.01-001.55", "Jan Peeters", "Kerkstraat", "12", "3", "9000", "Gent", "BE"),
            Recipient(ssin=PERSON, address=ADDRESS),
        ),
    ],
)
def test_a_person_is_asked_one_thing_after_another(lines: tuple[str, ...], recipient: Recipient) -> None:
    given_answers = answers(*lines)
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return next(given_answers)

    assert ask_recipient(ask, with_address=True) == recipient
    assert next(given_answers, None) is None
    assert len(asked) == len(lines)


def test_for_a_dossier_only_the_number_is_asked() -> None:
    given_answers = answers("0566988259")
    found = ask_recipient(lambda _question: next(given_answers), with_address=False)
    assert found == Recipient(enterprise_number=COMPANY)


@given(st.text(max_size=60))
def test_whatever_is_piped_is_a_recipient_or_refused(text: str) -> None:
    try:
        found = read_recipient(text)
    except RecipientUnreadable:
        return
    assert found.ssin or found.enterprise_number or found.address


def test_references_and_correlation_ids_made_here_are_always_taken() -> None:
    references = {parse_reference(new_reference()) for _ in range(500)}
    assert len(references) == 500
    assert len({parse_correlation_id(new_correlation_id()) for _ in range(5_000)}) == 5_000
