"""The languages of the portal: which one a visitor gets, and its texts, dates and sizes."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

LANGUAGES: Final = ("nl", "fr", "de", "en")
ZONE: Final = ZoneInfo("Europe/Brussels")

_FOLDER: Final = Path(__file__).parent / "texts"
_KILO: Final = 1_000
_MEGA: Final = 1_000_000

Words = Mapping[str, Any]  # texts by name; tables of texts by name

WORDS: Final[Mapping[str, Words]] = {
    language: tomllib.loads((_FOLDER / f"{language}.toml").read_text("utf-8")) for language in LANGUAGES
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The language of an answer; `chosen`: the visitor asked for it by name, so it stays theirs."""

    language: str
    chosen: bool

    @property
    def words(self) -> Words:
        """The texts."""
        return WORDS[self.language]

    def for_letter(self, language: str) -> "Choice":
        """Return the language of a letter's page and those after it: the letter's own, unless another was chosen."""
        return Choice(language, chosen=True) if not self.chosen and language in LANGUAGES else self


def choose(asked: str | None, accept_language: str) -> Choice:
    """Return the language named by `?lang=`, else the best of `Accept-Language` (RFC 9110, 12.5.4), else Dutch."""
    if asked in LANGUAGES:
        return Choice(asked, chosen=True)
    wanted: dict[str, float] = {}
    for item in accept_language[:500].split(","):
        tag, _, parameters = item.partition(";")
        language = tag.strip().lower().partition("-")[0]
        if language in LANGUAGES:
            wanted[language] = max(wanted.get(language, 0.0), _quality(parameters))
    best = max(wanted, key=lambda language: wanted[language], default=LANGUAGES[0])
    return Choice(best if wanted.get(best, 0.0) > 0 else LANGUAGES[0], chosen=False)


def show_date(at: datetime, words: Words) -> str:
    """Return a date in Belgium, such as `22 november 2026`."""
    local = at.astimezone(ZONE)
    day = words["first_day"] if local.day == 1 else str(local.day)
    return str(words["date"].format(day=day, month=words["months"][local.month - 1], year=local.year))


def show_time(at: datetime) -> str:
    """Return a time of day in Belgium, such as `14:35`."""
    return at.astimezone(ZONE).strftime("%H:%M")


def show_size(size_bytes: int, words: Words) -> str:
    """Return a size in decimal units, such as `1,2 MB`."""
    if size_bytes < _KILO:
        return str(words["bytes"].format(size=size_bytes))
    if size_bytes < _MEGA:
        return str(words["kilobytes"].format(size=round(size_bytes / _KILO)))
    megabytes = f"{size_bytes / _MEGA:.1f}".replace(".", words["decimal"])
    return str(words["megabytes"].format(size=megabytes))


def show_wait(wait_s: int, words: Words) -> str:
    """Return a delay in words, such as `8 seconden`."""
    return str(words["one_second"] if wait_s == 1 else words["seconds"].format(count=wait_s))


def _quality(parameters: str) -> float:
    name, _, value = parameters.partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
