import pytest

from gateway.domain.ids import parse_enterprise_number, parse_ssin
from gateway.simulators import magic

CITIZENS = {name: number for name, number in vars(magic).items() if name.startswith("CITIZEN_")}
ENTERPRISES = {name: number for name, number in vars(magic).items() if name.startswith("ENTERPRISE_")}


@pytest.mark.parametrize("ssin", CITIZENS.values(), ids=CITIZENS)
def test_a_magic_citizen_has_a_valid_number_that_belongs_to_nobody(ssin: str) -> None:
    assert parse_ssin(ssin, allow_test=True) == ssin
    assert 61 <= int(ssin[2:4]) <= 72


@pytest.mark.parametrize("number", ENTERPRISES.values(), ids=ENTERPRISES)
def test_a_magic_enterprise_has_a_valid_number(number: str) -> None:
    assert parse_enterprise_number(number) == number


def test_no_two_magic_recipients_share_a_number() -> None:
    numbers = [*CITIZENS.values(), *ENTERPRISES.values()]
    assert len(numbers) == len(set(numbers)) == 14


@pytest.mark.parametrize("fate", magic.PRINT_NAMES)
def test_a_print_fate_is_known_by_name_in_any_case_and_by_belgian_postcode(fate: magic.PrintFate) -> None:
    assert magic.print_fate(magic.PRINT_NAMES[fate].upper(), "1000", "BE") is fate
    assert magic.print_fate("Jan Peeters", magic.PRINT_POSTCODES[fate], "BE") is fate
    assert magic.print_fate("Jan Peeters", magic.PRINT_POSTCODES[fate], "FR") is magic.PrintFate.FINE


def test_every_fate_but_the_fine_one_has_a_name_and_a_postcode() -> None:
    magic_fates = set(magic.PrintFate) - {magic.PrintFate.FINE}
    assert set(magic.PRINT_NAMES) == set(magic.PRINT_POSTCODES) == magic_fates


def test_the_table_in_the_module_text_names_every_number_and_postcode() -> None:
    text = magic.__doc__ or ""
    for word in (*CITIZENS.values(), *ENTERPRISES.values(), *CITIZENS, *ENTERPRISES):
        assert word in text
    for word in (*magic.PRINT_POSTCODES.values(), *magic.PRINT_NAMES.values()):
        assert word in text
