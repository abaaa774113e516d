from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.ids import (
    InvalidIdentifier,
    holds_ssin,
    parse_correlation_id,
    parse_enterprise_number,
    parse_ovo_code,
    parse_reference,
    parse_slug,
    parse_ssin,
    sender_uuid,
    uuid7,
)


def check_digits(first_nine: int, *, from_2000: bool) -> int:
    return 97 - (int(f"2{first_nine:09d}") if from_2000 else first_nine) % 97


@pytest.mark.parametrize("number", ["0566988259", "0406798006", "0316380841"])
def test_known_enterprise_numbers_are_valid(number):
    assert parse_enterprise_number(number) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "406798006",
        "2406798006",
        "0406798007",
        "04067980066",
        "0406 798006",
        "٠٤٠٦٧٩٨٠٠٦",
        "0406798006\n",
        "BE0406798006",
    ],
)
def test_what_is_no_enterprise_number_is_refused_without_repeating_it(text):
    with pytest.raises(InvalidIdentifier) as refused:
        parse_enterprise_number(text)
    assert not text.strip() or text not in str(refused.value)


@given(st.integers(0, 19_999_999))
def test_exactly_one_pair_of_check_digits_makes_an_enterprise_number(first_eight):
    valid = []
    for check in range(100):
        try:
            valid.append(parse_enterprise_number(f"{first_eight:08d}{check:02d}"))
        except InvalidIdentifier:
            continue
    assert valid == [f"{first_eight:08d}{97 - first_eight % 97:02d}"]


@pytest.mark.parametrize(
    ("number", "test_number"),
    [
        ("00012556777", False),  # valid only as born from 2000
        ("90610100155", True),  # month 61
        ("85073003328", False),
        (f"854730033{check_digits(854730033, from_2000=False):02d}", False),  # BIS number, sex known
        (f"852730033{check_digits(852730033, from_2000=False):02d}", False),  # BIS number, sex unknown
        (f"850000033{check_digits(850000033, from_2000=False):02d}", False),  # unknown date of birth
    ],
)
def test_known_personal_numbers_are_valid(number, test_number):
    assert parse_ssin(number, allow_test=test_number) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8507300332",
        "85073003329",
        "85.07.30-033.28",
        f"851330033{check_digits(851330033, from_2000=False):02d}",  # month 13
        f"855330033{check_digits(855330033, from_2000=False):02d}",  # month 53: 13 with the BIS 40
        f"850732033{check_digits(850732033, from_2000=False):02d}",  # day 32
        f"857330033{check_digits(857330033, from_2000=False):02d}",  # month 73
    ],
)
def test_what_is_no_personal_number_is_refused_without_repeating_it(text):
    with pytest.raises(InvalidIdentifier) as refused:
        parse_ssin(text, allow_test=True)
    assert not text or text not in str(refused.value)


def test_a_test_number_needs_permission():
    with pytest.raises(InvalidIdentifier, match="test number"):
        parse_ssin("90610100155", allow_test=False)


@pytest.mark.parametrize("text", ["85073003328", "ref-85.07.30-033.28", "x850730_03328y", "2026_85073003328"])
def test_a_personal_number_hides_nowhere(text):
    assert holds_ssin(text)
    with pytest.raises(InvalidIdentifier, match="personal number"):
        parse_reference(text)


@pytest.mark.parametrize("text", ["2026-000123", "a", "A" * 64, "85073003329", "x.y_z-1", "2026850730033281"])
def test_ordinary_references_pass(text):
    assert parse_reference(text) == text


@pytest.mark.parametrize("text", ["", "A" * 65, "a b", "a/b", "é", "a\n"])
def test_other_references_are_refused(text):
    with pytest.raises(InvalidIdentifier):
        parse_reference(text)


def test_correlation_ids_are_short_and_hold_no_personal_number():
    assert parse_correlation_id("0b2c8f6e-5d0f-4d7e-9a39-0c8d3c1b7d11")
    for text in ("", "a" * 37, "a.b", "85073003328", "850730-03328"):
        with pytest.raises(InvalidIdentifier):
            parse_correlation_id(text)


def test_ovo_codes_and_ids_of_profiles():
    assert parse_ovo_code("OVO000123") == "OVO000123"
    assert parse_slug("tax-assessment") == "tax-assessment"
    for parse, text in (
        (parse_ovo_code, "OVO00012"),
        (parse_ovo_code, "ovo000123"),
        (parse_slug, "-a"),
        (parse_slug, "a-"),
        (parse_slug, "A"),
        (parse_slug, "a" * 65),
        (parse_slug, ""),
    ):
        with pytest.raises(InvalidIdentifier):
            parse(text)


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_uuid7_has_version_variant_and_time(unix_ms, random):
    made = uuid7(unix_ms, random)
    assert made.version == 7
    assert made.variant == "specified in RFC 4122"
    assert made.int >> 80 == unix_ms


def test_a_sender_keeps_its_uuid_for_ever():
    assert sender_uuid(parse_enterprise_number("0406798006")) == UUID("dbf2c054-fd9d-54f6-9f43-133bde5995f5")
