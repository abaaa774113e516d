"""
A list of letters as a file: CSV in UTF-8 with a header, one letter a row, separated by commas or semicolons.

    reference;files;number;name;street;house number;box;postcode;municipality;country;subject
    2026-000123;letters/123.pdf|letters/annex.pdf;90610100155;Jan Peeters;Kerkstraat;12;3;9000;Gent;BE;Uw aanslagbiljet

`files` start at the list's own folder; the letter first, then its annexes, with `|` between them. `reference` makes it
safe to send the same list again, so it has to be there. `number` and the address are those of a recipient
(`recipient.py`); `category`, `purpose`, `subject`, `lang` and `channels` (with `|` between them) may be columns too, or
hold for all letters. Nothing of a row but its place stands in an error.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from gateway.client.letter import Letter
from gateway.client.problems import LetterInvalid
from gateway.client.recipient import RecipientUnreadable, read_recipient
from gateway.domain.ids import InvalidIdentifier, parse_reference
from gateway.domain.message import Channel, Recipient
from gateway.errors import FieldError

__all__ = ["read_list"]

_BETWEEN: Final = "|"
_OF_RECIPIENT: Final = ("number", "name", "street", "house number", "box", "postcode", "municipality", "country")
_OF_LETTER: Final = ("category", "purpose", "subject", "lang", "channels")
_REQUIRED: Final = ("reference", "files")
_LONGEST_LIST_BYTES: Final = 50_000_000


def read_list(file: Path, common: Callable[[Recipient, str, Sequence[Path]], Letter]) -> list[Letter]:
    """
    Return the letters of a list; `common` makes one of recipient, reference and files, with what holds for all. Blocks.

    Raises:
        LetterInvalid: every fault of every row, each with a pointer such as `/letters/3/files`.
        OSError: the list cannot be read.
    """
    rows = _rows(file)
    errors: list[FieldError] = []
    letters = [
        letter
        for place, row in enumerate(rows)
        if (letter := _letter(row, f"/letters/{place}", file.parent, common, errors)) is not None
    ]
    if errors:
        raise LetterInvalid(errors)
    return letters


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open("rb") as stream:
        octets = stream.read(_LONGEST_LIST_BYTES + 1)
    if len(octets) > _LONGEST_LIST_BYTES:
        raise _unreadable(f"is larger than {_LONGEST_LIST_BYTES} bytes")
    try:
        lines = octets.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise _unreadable("is not UTF-8") from None
    if not lines:
        raise _unreadable("is empty")
    separator = ";" if lines[0].count(";") > lines[0].count(",") else ","
    try:
        header, *rows = [row for row in csv.reader(lines, delimiter=separator, strict=True) if any(row)]
    except csv.Error as exc:
        raise _unreadable("is no CSV") from exc
    names = [name.strip().lower().replace("_", " ") for name in header]
    known = {*_REQUIRED, *_OF_RECIPIENT, *_OF_LETTER}
    if len(set(names)) < len(names) or not known >= set(names) >= set(_REQUIRED):
        raise _unreadable(f"has a header of {', '.join(_REQUIRED)}, and any of {', '.join(sorted(known))}, each once")
    if not rows:
        raise _unreadable("holds no letter")
    found = []
    for place, row in enumerate(rows):
        if len(row) != len(names):
            raise LetterInvalid(
                [FieldError(pointer=f"/letters/{place}", detail="has not as many fields as the header")]
            )
        found.append({name: value.strip() for name, value in zip(names, row, strict=True) if value.strip()})
    return found


def _letter(
    row: Mapping[str, str],
    at: str,
    folder: Path,
    common: Callable[[Recipient, str, Sequence[Path]], Letter],
    errors: list[FieldError],
) -> Letter | None:
    before = len(errors)
    errors += [FieldError(pointer=f"{at}/{name}", detail="is required") for name in _REQUIRED if name not in row]
    try:
        parse_reference(row.get("reference", "-"))
    except InvalidIdentifier as exc:
        errors.append(FieldError(pointer=f"{at}/reference", detail=str(exc)))
    channels: list[Channel] = []
    for name in filter(None, row.get("channels", "").split(_BETWEEN)):
        if name.strip() in set(Channel):
            channels.append(Channel(name.strip()))
        else:
            errors.append(FieldError(pointer=f"{at}/channels", detail=f"are {', '.join(Channel)}"))
    try:
        recipient = read_recipient("\n".join(f"{name}: {row[name]}" for name in _OF_RECIPIENT if name in row))
    except RecipientUnreadable as exc:
        errors.append(FieldError(pointer=f"{at}/recipient", detail=exc.detail))
        return None
    if len(errors) > before:
        return None
    files = [folder / name.strip() for name in row["files"].split(_BETWEEN)]
    letter = common(recipient, row["reference"], files)
    letter = replace(
        letter,
        category=row.get("category", letter.category),
        purpose=row.get("purpose", letter.purpose),
        subject=row.get("subject", letter.subject),
        language=row.get("lang", letter.language),
        channels=channels or letter.channels,
    )
    lacking = [name for name in ("category", "purpose", "subject") if not getattr(letter, name)]
    errors += [FieldError(pointer=f"{at}/{name}", detail="is in no column and no option") for name in lacking]
    return letter


def _unreadable(detail: str) -> LetterInvalid:
    return LetterInvalid([FieldError(pointer="/letters", detail=f"the list {detail}")])
