"""What a cover page says, per language; the texts stand in `words.toml`."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverWords:
    """All that a cover page says in one language. `{…}` stands for a value."""

    heading: str
    intro: str
    steps: list[str]  # the portal's address, the letter's number, the code
    alike: str
    direct: str
    term_title: str
    term_after_posting: str
    term_after_delivery: str
    days: str
    one_day: str
    personal_title: str
    personal: str
    questions_title: str
    questions: str
    follows: str
    attention: str
    box: str | None = None  # the word before a box number; None: that of the region


WORDS: Final[Mapping[str, CoverWords]] = {
    language: CoverWords(**texts)
    for language, texts in tomllib.loads(Path(__file__).with_name("words.toml").read_text("utf-8")).items()
}
