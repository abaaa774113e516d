"""
A postal address as it stands in the window of the envelope, by the rules of the Belgian post.

At most: name; for whose attention; street, number, `bus` or `bte` and box; postcode and municipality; abroad the
country in capitals. 11 or 12 points, left aligned, no blank lines. What is too wide is abbreviated, then broken at a
space; only where that is not enough do the letters get smaller.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.covers.countries import COUNTRIES
from gateway.covers.lettering import Unprintable, printable, width_pt, wrapped
from gateway.covers.words import WORDS
from gateway.domain.message import PostalAddress

_HOME: Final = "BE"
_SIZES_PT: Final = (12.0, 11.0)
_SMALLER_SIZES_PT: Final = (10.0, 9.0, 8.0)  # still read by the sorting machines
LEADING: Final = 1.25

# Whole words, and the ends of Dutch and German street names.
_SHORTER: Final[Sequence[tuple[re.Pattern[str], str]]] = tuple(
    (re.compile(pattern, re.IGNORECASE), short)
    for pattern, short in (
        (r"straat\b", "str"),
        (r"(?<=[a-z])laan\b", "ln"),
        (r"steenweg\b", "stwg"),
        (r"(?<=[a-z])plein\b", "pl"),
        (r"stra(?:ß|ss)e\b", "str"),
        (r"\bavenue\b", "av"),
        (r"\bboulevard\b", "bd"),
        (r"\bchauss[ée]e\b", "ch"),
        (r"\bplace\b", "pl"),
        (r"\bsaint\b", "St"),
        (r"\bsainte\b", "Ste"),
        (r"\bburgemeester\b", "Burg"),
        (r"\bprofessor\b", "Prof"),
        (r"\bdokter\b", "Dr"),
    )
)
# Where a box is `bte`: Brussels, Walloon Brabant, and from Liège to Hainaut. Elsewhere it is `bus`.
_FRENCH_POSTCODES: Final = ((1000, 1499), (4000, 7999))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AddressLines:
    """An address as lines; `street_at` is the place of the one that may be abbreviated."""

    lines: tuple[str, ...]
    street_at: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class FittedAddress:
    """The lines of an address, and the size in points at which they fit."""

    lines: tuple[str, ...]
    size_pt: float


def address_lines(address: PostalAddress, attention_of: str | None, language: str) -> AddressLines:
    """
    Return the lines of an address.

    Raises:
        Unprintable: `letters`, or `country`: no such country.
    """
    words = WORDS[language]
    lines = [address.name]
    if attention_of is not None:
        lines.append(words.attention.format(name=attention_of))
    street = f"{address.street} {address.house_number}"
    if address.box is not None:
        street = f"{street} {words.box or _box_word(address)} {address.box}"
    street_at = len(lines)
    lines += [street, f"{address.postcode} {address.municipality}"]
    if address.country != _HOME:
        if address.country not in COUNTRIES:
            raise Unprintable("country")
        lines.append(COUNTRIES[address.country])
    return AddressLines(lines=tuple(" ".join(printable(line).split()) for line in lines), street_at=street_at)


def fit(address: AddressLines, *, width: float, height: float) -> FittedAddress:
    """
    Return the lines at the largest size at which they stand within `width` and `height` points.

    Raises:
        Unprintable: `address-too-long`.
    """
    for size_pt in _SIZES_PT:
        if _fits(address.lines, size_pt, width, height):
            return FittedAddress(lines=address.lines, size_pt=size_pt)
    for size_pt in (_SIZES_PT[-1], *_SMALLER_SIZES_PT):
        broken = tuple(piece for line in _shorter(address, size_pt, width) for piece in wrapped(line, size_pt, width))
        if _fits(broken, size_pt, width, height):
            return FittedAddress(lines=broken, size_pt=size_pt)
    raise Unprintable("address-too-long")


def _shorter(address: AddressLines, size_pt: float, width: float) -> list[str]:
    lines = list(address.lines)
    if width_pt(lines[address.street_at], size_pt) > width:
        for pattern, short in _SHORTER:
            lines[address.street_at] = pattern.sub(short, lines[address.street_at])
    return lines


def _fits(lines: Sequence[str], size_pt: float, width: float, height: float) -> bool:
    tall = len(lines) * size_pt * LEADING
    return tall <= height and all(width_pt(line, size_pt) <= width for line in lines)


def _box_word(address: PostalAddress) -> str:
    if address.country != _HOME:
        return "box"
    postcode = int(address.postcode) if address.postcode.isdecimal() else 0
    return "bte" if any(first <= postcode <= last for first, last in _FRENCH_POSTCODES) else "bus"
