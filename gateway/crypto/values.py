"""
The rules of single values in our formats; every text that leaves here names the rule and never repeats the value.

A parser takes what a dialect carried and returns the value or raises `WrongValue`. Texts are NFC, without control
characters or outer white space, so that the same text has the same bytes, and the same digest, in every dialect.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, TypeVar

from gateway.domain.ids import holds_ssin

__all__ = [
    "Parser",
    "WrongValue",
    "array",
    "billing_reference",
    "country",
    "days",
    "filename",
    "format_instant",
    "gateway_name",
    "instant",
    "language",
    "media_type",
    "one_of",
    "parsed",
    "sha256_hex",
    "size",
    "string",
    "text",
    "truth",
]

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)
Parser = Callable[[object], T]

_LANGUAGES: Final = ("nl", "fr", "de", "en")
_SIZE_LIMIT: Final = 10**12

_GATEWAY: Final = re.compile(r"[!-~]{1,253}\Z")
_INSTANT: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?Z\Z")
_DAYS: Final = re.compile(r"P([1-9][0-9]{0,4})D\Z")
_SHA256: Final = re.compile(r"[0-9a-f]{64}\Z")
_RESTRICTED_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]"  # RFC 6838, section 4.2
_MEDIA_TYPE: Final = re.compile(rf"{_RESTRICTED_NAME}{{0,62}}/{_RESTRICTED_NAME}{{0,126}}\Z")
# Controls (Cc), line and paragraph separators, directional embeddings, overrides and isolates ("fdp.exe" would read as
# "exe.pdf"), surrogates, and the two non-characters that XML cannot carry.
_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")

# ISO 3166-1 alpha-2, and XK, which the posts use for Kosovo.
_COUNTRIES: Final = frozenset(
    """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC
    CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD
    GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH
    KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW
    MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC
    SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY
    UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW
    """.split()  # noqa: SIM905 - as a list literal this takes 250 lines
)


class WrongValue(ValueError):
    """A value breaks a rule; the text says which and never repeats the value."""


def string(value: object) -> str:
    """Return a value that must be text."""
    if not isinstance(value, str):
        raise WrongValue("must be text")
    return value


def array(value: object) -> Sequence[object]:
    """Return a value that must be an array."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise WrongValue("must be an array")
    return value


def truth(value: object) -> bool:
    """Return a value that must be a boolean."""
    if not isinstance(value, bool):
        raise WrongValue("must be true or false")
    return value


def size(value: object) -> int:
    """Return a number of bytes, at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < _SIZE_LIMIT:
        raise WrongValue("must be a number of bytes, at least 1")
    return value


def parsed(parse: Callable[[str], T]) -> Parser[T]:
    """Make a parser of values from one of texts."""
    return lambda value: parse(string(value))


def one_of(kind: type[E]) -> Parser[E]:
    """Make a parser of the members of an enumeration."""

    def parse(value: object) -> E:
        try:
            return kind(value)  # type: ignore[arg-type]  # what is no text is no member either
        except ValueError:
            raise WrongValue("must be one of " + ", ".join(kind)) from None

    return parse


def text(limit: int) -> Parser[str]:
    """Make a parser of texts of 1 to `limit` characters."""

    def parse(value: object) -> str:
        found = string(value)
        if not 1 <= len(found) <= limit:
            raise WrongValue(f"must be 1 to {limit} characters")
        if _FORBIDDEN.search(found):
            raise WrongValue("must not hold control characters")
        if found != found.strip():
            raise WrongValue("must not start or end with white space")
        if not unicodedata.is_normalized("NFC", found):
            raise WrongValue("must be in Unicode normalisation form NFC")
        return found

    return parse


def gateway_name(value: object) -> str:
    """Return the name of a gateway."""
    found = string(value)
    if not _GATEWAY.match(found):
        raise WrongValue("must be 1 to 253 printable ASCII characters without spaces")
    return found


def language(value: object) -> str:
    """Return one of the languages that letters are in."""
    if value not in _LANGUAGES:
        raise WrongValue("must be one of " + ", ".join(_LANGUAGES))
    return string(value)


def instant(value: object) -> datetime:
    """Return a moment, `YYYY-MM-DDThh:mm:ss[.f]Z`; digits finer than a microsecond are dropped."""
    parts = _INSTANT.match(string(value))
    if not parts:
        raise WrongValue("must be a time in UTC such as 2026-11-22T10:00:00Z")
    try:
        whole = datetime.fromisoformat(parts[1])
    except ValueError:
        raise WrongValue("is not a real date and time") from None
    return whole.replace(microsecond=int((parts[2] or "0").ljust(6, "0")[:6]), tzinfo=UTC)


def format_instant(at: datetime) -> str:
    """Return a moment in UTC, `2026-11-22T10:00:00Z`, with six digits of fraction when it has one."""
    naive = at.astimezone(UTC).replace(tzinfo=None)
    return naive.isoformat(timespec="microseconds" if naive.microsecond else "seconds") + "Z"


def days(value: object) -> timedelta:
    """Return a number of days, `P90D`, at least one."""
    found = _DAYS.match(string(value))
    if not found:
        raise WrongValue("must be a number of days such as P90D, at least P1D")
    return timedelta(days=int(found[1]))


def billing_reference(value: object) -> str:
    """Return what a sender wants on its invoices: 1 to 64 characters without a personal number in them."""
    found = text(64)(value)
    if holds_ssin(found):
        raise WrongValue("must not hold a personal number; it is printed on invoices")
    return found


def country(value: object) -> str:
    """Return a country code of two capitals."""
    found = string(value)
    if found not in _COUNTRIES:
        raise WrongValue("must be a country code of two capitals (ISO 3166-1)")
    return found


def filename(value: object) -> str:
    """Return a file's name, which is no path."""
    found = text(255)(value)
    if found in (".", "..") or "/" in found or "\\" in found:
        raise WrongValue("must be a name, not a path")
    return found


def media_type(value: object) -> str:
    """Return a media type without parameters."""
    found = string(value)
    if not _MEDIA_TYPE.match(found):
        raise WrongValue("must be type/subtype without parameters, such as application/pdf")
    return found


def sha256_hex(value: object) -> str:
    """Return a SHA-256 as 64 lower-case hexadecimal digits."""
    found = string(value)
    if not _SHA256.match(found):
        raise WrongValue("must be 64 lower-case hexadecimal digits")
    return found
