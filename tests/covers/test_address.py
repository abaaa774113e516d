"""Addresses by the rules of the Belgian post, and how they are made to fit."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.covers.address import LEADING, address_lines, fit
from gateway.covers.lettering import Unprintable, width_pt
from gateway.domain.message import PostalAddress

ADDRESS = PostalAddress(
    name="Jan Peeters",
    street="Kerkstraat",
    house_number="12",
    box="3",
    postcode="9000",
    municipality="Gent",
    country="BE",
)
WIDTH_PT, HEIGHT_PT = 218.0, 102.0


def lines(address: PostalAddress, language: str = "nl", attention_of: str | None = None) -> list[str]:
    return list(address_lines(address, attention_of, language).lines)


def fitted(address: PostalAddress, language: str = "nl") -> tuple[float, list[str]]:
    found = fit(address_lines(address, None, language), width=WIDTH_PT, height=HEIGHT_PT)
    return found.size_pt, list(found.lines)


@pytest.mark.parametrize(
    ("language", "postcode", "street"),
    [
        ("nl", "9000", "Kerkstraat 12 bus 3"),
        ("fr", "9000", "Kerkstraat 12 bte 3"),
        ("de", "4700", "Kerkstraat 12 bte 3"),
        ("de", "2000", "Kerkstraat 12 bus 3"),
        ("en", "1000", "Kerkstraat 12 bte 3"),
        ("en", "1500", "Kerkstraat 12 bus 3"),
        ("en", "8000", "Kerkstraat 12 bus 3"),
    ],
)
def test_the_word_before_a_box_number_follows_the_language(language: str, postcode: str, street: str) -> None:
    assert lines(replace(ADDRESS, postcode=postcode), language)[1] == street


def test_an_address_at_home_has_three_lines_and_no_country() -> None:
    assert lines(ADDRESS) == ["Jan Peeters", "Kerkstraat 12 bus 3", "9000 Gent"]
    assert lines(replace(ADDRESS, box=None))[1] == "Kerkstraat 12"


@pytest.mark.parametrize(("country", "name"), [("FR", "FRANCE"), ("CI", "CÔTE D'IVOIRE"), ("XK", "KOSOVO")])
def test_abroad_the_last_line_is_the_country_in_capitals(country: str, name: str) -> None:
    assert lines(replace(ADDRESS, country=country))[-1] == name


def test_a_country_that_does_not_exist_stops_the_page() -> None:
    with pytest.raises(Unprintable, match="country"):
        lines(replace(ADDRESS, country="ZZ"))


@pytest.mark.parametrize(
    ("language", "line"), [("nl", "t.a.v. An Smet"), ("fr", "à l\u2019att. de An Smet"), ("en", "attn An Smet")]
)
def test_for_whose_attention_stands_below_the_name(language: str, line: str) -> None:
    assert lines(ADDRESS, language, "An Smet")[:2] == ["Jan Peeters", line]


def test_an_ordinary_address_stands_in_twelve_points() -> None:
    assert fitted(ADDRESS) == (12.0, lines(ADDRESS))


def test_a_long_street_is_abbreviated_before_it_is_broken_or_shrunk() -> None:
    size_pt, found = fitted(replace(ADDRESS, street="Burgemeester Vandersteenstraat", house_number="1204"))
    assert (size_pt, found[1]) == (11.0, "Burg Vandersteenstr 1204 bus 3")


def test_a_name_is_broken_and_never_abbreviated() -> None:
    size_pt, found = fitted(replace(ADDRESS, name="Maria Magdalena Vanderlaan-Kerkstraat van den Boulevard"))
    assert size_pt == 11.0
    assert " ".join(found[:-2]) == "Maria Magdalena Vanderlaan-Kerkstraat van den Boulevard"


def test_what_fits_at_no_size_stops_the_page() -> None:
    with pytest.raises(Unprintable, match="address-too-long"):
        fitted(replace(ADDRESS, municipality="W" * 70))


_words = st.lists(st.text(alphabet="abcdefgh-", min_size=1, max_size=12), min_size=1, max_size=6).map(" ".join)


@settings(max_examples=60)
@given(_words, _words, _words)
def test_an_address_that_is_printed_stands_within_its_window_and_is_whole(name: str, street: str, town: str) -> None:
    address = replace(ADDRESS, name=name, street=street, municipality=town)
    try:
        size_pt, found = fitted(address)
    except Unprintable:
        return
    assert all(width_pt(line, size_pt) <= WIDTH_PT for line in found)
    assert len(found) * size_pt * LEADING <= HEIGHT_PT
    assert all(found)
    assert "".join(found).replace(" ", "") == "".join(lines(address)).replace(" ", "")
