"""
Identifiers and addresses of a recipient, handed to a running gateway: which are taken, and where the refusal points.

Check digits were worked out by hand from the rules: 97 less the first nine digits modulo 97, with a 2 before them for
births from 2000 (national numbers); 97 less the first eight modulo 97 (enterprise numbers).
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from gateway.app import Part as RunningPart
from gateway.domain.ids import EnterpriseNumber, Ssin
from gateway.domain.message import Channel, PostalAddress, Recipient

if TYPE_CHECKING:
    from tests.plugins.house import ADDRESS, Answer, House, SenderHand
else:
    from house import ADDRESS, Answer, House, SenderHand


def wide(digits: str) -> str:
    """The full-width forms of digits, which many a parser takes for digits."""
    return "".join(chr(ord(digit) + 0xFEE0) for digit in digits)


SSINS = {
    "man": "85073003328",
    "woman": "85073003427",
    "born from 2000": "00012556777",
    "born on 29 February 2000": "00022900145",
    "born in 1985, digits of 2085": "85073003357",
    "last day, last number": "99123199742",
    "remainder nothing": "85073006197",
    "day unknown": "85070003355",
    "month and day unknown": "85000003306",
    "BIS, sex unknown": "85273003371",
    "BIS, sex unknown, December": "85321203364",
    "BIS, sex unknown, date unknown": "85200003349",
    "BIS, sex known": "85473003317",
    "BIS, sex known, December": "85520103349",
    "BIS, sex known, date unknown": "85400003392",
    "BIS, sex known, born from 2000": "10410500184",
}
TEST_SSINS = {"month 61": "90610100155", "month 72": "90723100108"}
NO_SSINS = {
    "check digits one too high": "85073003329",
    "check digits one too low": "85073003327",
    "check digits 00 for 97": "85073006100",
    "neighbours exchanged": "85073003382",
    "month 13": "85133003370",
    "month 19": "85193003315",
    "month 33": "85333003316",
    "month 39": "85393003358",
    "month 53": "85533003359",
    "month 60": "85603003311",
    "month 73": "85733003305",
    "month 99": "85993003390",
    "day 32": "85073203365",
    "day 99": "85079903392",
    "day 32 of a test month": "90613200195",
    "ten digits": "8507300332",
    "twelve digits": "850730033288",
    "as people write it": "85.07.30-033.28",
    "with a space": "850730 03328",
    "with a space before": " 85073003328",
    "with a line end": "85073003328\n",
    "with a sign": "+8507300332",
    "wide digits": wide("85073003328"),
    "Arabic digits": "٨٥٠٧٣٠٠٣٣٢٨",
    "letter for a digit": "8507300332B",
    "an enterprise number": "0406798006",
    "nothing but zeros": "00000000000",
}
NUMBERS = {
    "published": "0566988259",
    "of a city": "0406798006",
    "of the Flemish bodies": "0316380841",
    "begins with 1": "1000000120",
    "remainder nothing": "1000002197",
    "smallest": "0000000196",
    "largest with 09": "0999999922",
}
NO_NUMBERS = {
    "check digits one too high": "0566988260",
    "check digits one too low": "0566988258",
    "check digits 00 for 97": "1000002100",
    "neighbours exchanged": "0566988295",
    "establishment, first": "2000000141",
    "establishment, last": "8000000170",
    "nine digits": "406798006",
    "eleven digits": "00406798006",
    "of the VAT": "BE0406798006",
    "with dots": "0406.798.006",
    "with spaces": "0406 798 006",
    "letter for a zero": "O406798006",
    "wide digits": wide("0406798006"),
    "a national number": "85073003328",
}
ADDRESSES: dict[str, dict[str, Any]] = {
    "without a box": {"box": None},
    "box of letters": {"box": "bus 3"},
    "house number of letters": {"house_number": "12 A-14"},
    "smallest postcode": {"postcode": "1000"},
    "largest postcode": {"postcode": "9992"},
    "longest name": {"name": "n" * 70},
    "longest street": {"street": "Š" * 70},
    "longest house number, box and municipality": {"house_number": "1" * 15, "box": "1" * 15, "municipality": "m" * 70},
    "accents": {"name": "Ægir Ÿstad-D'Hondt", "municipality": "Liège"},
    "Cyrillic": {"name": "Иван Петров", "municipality": "София", "postcode": "1000", "country": "BG"},
    "the Netherlands": {"postcode": "1234 AB", "municipality": "Amsterdam", "country": "NL"},
    "Ireland": {"postcode": "D02 AF30", "municipality": "Dublin", "country": "IE"},
    "Kosovo": {"postcode": "10000", "municipality": "Pristina", "country": "XK"},
}
# The field, the element that the refusal points to, and values that are refused.
NO_ADDRESSES: dict[str, tuple[str, list[str]]] = {
    "name": ("Name", ["", " ", " Jan", "Jan ", "Jan\tPeeters", "Jan\nPeeters", "Jan\u2028", "e\u0301", "n" * 71]),
    "street": ("Street", ["", "Kerk\u202estraat", "Kerk\x85straat", "\ufeff Kerkstraat ", "s" * 71]),
    "house_number": ("HouseNumber", ["", "12 ", "1" * 16]),
    "box": ("Box", ["", " 3", "3\r", "1" * 16]),
    "postcode": (
        "Postcode",
        [
            "",
            "0999",
            "0000",
            "10000",
            "900",
            "B-9000",
            "BE-9000",
            "BE9000",
            "9000 ",
            "9 000",
            wide("9000"),
            "9OOO",
            "9000\n",
        ],
    ),
    "municipality": ("Municipality", ["", "Gent\n", "\xa0Gent", "m" * 71]),
    "country": ("Country", ["", "be", "Be", "B", "BEL", "ZZ", "UK", "EU", "België", "BE ", "\u0412\u0415"]),
}


@pytest.fixture
async def house(make_house: Any) -> House:
    """A gateway that takes the numbers that belong to nobody."""
    made: House = await make_house(parts=[RunningPart.INTAKE])
    return made


@pytest.fixture
async def strict_house(make_house: Any) -> House:
    """A gateway that does not."""

    def change(values: dict[str, Any]) -> None:
        values["identifiers"]["allow_test_ssin"] = False

    made: House = await make_house(change, parts=[RunningPart.INTAKE])
    return made


async def to_citizen(sender: SenderHand, number: str) -> Answer:
    return await sender.send(recipient=Recipient(ssin=Ssin(number), address=ADDRESS))


async def to_company(sender: SenderHand, number: str) -> Answer:
    return await sender.send(recipient=Recipient(enterprise_number=EnterpriseNumber(number), address=ADDRESS))


async def to_address(sender: SenderHand, address: PostalAddress) -> Answer:
    return await sender.send(recipient=Recipient(address=address), channels=(Channel.PRINT,))


def wrong_refusal(answer: Answer, pointer: str, value: str) -> str | None:
    """What is not as it should be in a refusal of one value."""
    if answer.status != 422:
        return f"{answer.status}"
    pointers = [error["pointer"] for error in answer.json["errors"]]
    if (answer.code, pointers) != ("invalid-message", [pointer]):
        return f"{answer.code} {pointers}"
    texts = f"{answer.json['detail']} {answer.json['errors']}"
    return f"repeats it: {texts}" if len(value) > 4 and value in texts else None


async def test_every_national_number_is_taken_or_refused_by_its_own_rules(house: House) -> None:
    sender = await house.sender()
    taken = {name: (await to_citizen(sender, number)).status for name, number in (SSINS | TEST_SSINS).items()}
    assert taken == dict.fromkeys(SSINS | TEST_SSINS, 201)
    refused = {
        name: wrong_refusal(await to_citizen(sender, number), "/Message/Recipient/Ssin", number)
        for name, number in NO_SSINS.items()
    }
    assert refused == dict.fromkeys(NO_SSINS)


async def test_numbers_that_belong_to_nobody_are_refused_where_letters_are_real(strict_house: House) -> None:
    sender = await strict_house.sender()
    for number in TEST_SSINS.values():
        answer = await to_citizen(sender, number)
        assert wrong_refusal(answer, "/Message/Recipient/Ssin", number) is None
        assert "test number" in answer.json["errors"][0]["detail"]
    taken = {name: (await to_citizen(sender, number)).status for name, number in SSINS.items()}
    assert taken == dict.fromkeys(SSINS, 201)


async def test_every_enterprise_number_is_taken_or_refused_by_its_own_rules(house: House) -> None:
    sender = await house.sender()
    taken = {name: (await to_company(sender, number)).status for name, number in NUMBERS.items()}
    assert taken == dict.fromkeys(NUMBERS, 201)
    refused = {
        name: wrong_refusal(await to_company(sender, number), "/Message/Recipient/EnterpriseNumber", number)
        for name, number in NO_NUMBERS.items()
    }
    assert refused == dict.fromkeys(NO_NUMBERS)


async def test_every_postal_address_is_taken_or_refused_at_the_line_that_is_wrong(house: House) -> None:
    sender = await house.sender()
    taken = {name: (await to_address(sender, replace(ADDRESS, **fields))).status for name, fields in ADDRESSES.items()}
    assert taken == dict.fromkeys(ADDRESSES, 201)
    wrong = {}
    for field, (element, values) in NO_ADDRESSES.items():
        for value in values:
            answer = await to_address(sender, replace(ADDRESS, **{field: value}))
            pointer = f"/Message/Recipient/PostalAddress/{element}"
            if fault := wrong_refusal(answer, pointer, value):
                wrong[f"{field} {value!r}"] = fault
    assert wrong == {}


async def test_a_national_number_stands_nowhere_but_in_its_own_field(house: House) -> None:
    sender = await house.sender()
    for field, element in {"reference": "Reference", "billing_reference": "BillingReference"}.items():
        fields: dict[str, Any] = {}
        for number in ("85073003328", "85.07.30-033.28", "X85073003328", "90610100155"):
            fields[field] = number
            answer = await sender.send(**fields)
            assert wrong_refusal(answer, f"/Message/{element}", number) is None
        fields[field] = "85073003329"
        assert (await sender.send(**fields)).status == 201
