"""
Reading whom a letter is for, or a dossier is about, without the number ever being an argument of a command.

From a terminal it is asked for; otherwise the text is lines, or JSON as in a message:

    90610100155                      {"ssin": "90610100155",
    name: Jan Peeters                 "postalAddress": {"name": "Jan Peeters", "street": "Kerkstraat",
    street: Kerkstraat                  "houseNumber": "12", "box": "3", "postcode": "9000",
    house number: 12                    "municipality": "Gent", "country": "BE"}}
    box: 3
    postcode: 9000
    municipality: Gent
    country: BE

The number is a national number (eleven digits) or an enterprise number (ten); dots, hyphens and spaces are skipped.
Number or address may be left out, and the country when it is Belgium. Nothing of the text stands in an error.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.client.problems import ClientError
from gateway.crypto.jws import strict_json
from gateway.domain.ids import InvalidIdentifier, parse_enterprise_number, parse_ssin
from gateway.domain.message import PostalAddress, Recipient

__all__ = ["Ask", "RecipientUnreadable", "ask_recipient", "read_recipient"]

Ask = Callable[[str], str]
"""Puts a question to a person and returns the answer."""

_SSIN_DIGITS: Final = 11
_ENTERPRISE_DIGITS: Final = 10
_SEPARATORS: Final = re.compile(r"[\s./-]")
_NUMBER_LINE: Final = re.compile(r"(?:BE\s*)?[0-9][0-9\s./-]*\Z", re.IGNORECASE)
_HOME: Final = "BE"
_REQUIRED: Final = ("name", "street", "houseNumber", "postcode", "municipality")
_OPTIONAL: Final = ("box", "country")
_QUESTIONS: Final = {
    "name": "Name on the envelope (empty: no postal address): ",
    "street": "Street: ",
    "houseNumber": "House number: ",
    "box": "Box (empty: none): ",
    "postcode": "Postcode: ",
    "municipality": "Municipality: ",
    "country": f"Country (empty: {_HOME}): ",
}


@dataclass(eq=False)
class RecipientUnreadable(ClientError):
    """What was typed or piped names no recipient; the text says why and never repeats it."""

    detail: str

    def __str__(self) -> str:
        """Return what to write instead."""
        return f"the recipient cannot be read: {self.detail}"


def read_recipient(text: str) -> Recipient:
    """
    Return the recipient that lines or JSON name.

    Raises:
        RecipientUnreadable: it is neither, a number is wrong, or the address is incomplete.
    """
    stripped = text.strip()
    if not stripped:
        raise RecipientUnreadable("nothing was given")
    fields = _from_json(stripped) if stripped.startswith("{") else _from_lines(stripped)
    return _recipient(fields)


def ask_recipient(ask: Ask, *, with_address: bool) -> Recipient:
    """
    Return the recipient that a person answers with; `with_address` asks for a postal address too.

    Raises:
        RecipientUnreadable: a number is wrong, or the address is incomplete.
    """
    fields = {"number": ask("National or enterprise number (empty: none): " if with_address else "Number: ").strip()}
    for name, question in _QUESTIONS.items() if with_address else ():
        fields[name] = ask(question).strip()
        if not fields["name"]:
            break
    return _recipient({name: value for name, value in fields.items() if value})


def _recipient(fields: Mapping[str, str]) -> Recipient:
    number = fields.get("number", "")
    address = {name: value for name, value in fields.items() if name != "number"}
    if not number and not address:
        raise RecipientUnreadable("it needs a number, a postal address, or both")
    digits = _SEPARATORS.sub("", number).upper().removeprefix(_HOME)
    try:
        match len(digits):
            case 0:
                return Recipient(address=_address(address))
            case length if length == _SSIN_DIGITS:
                return Recipient(ssin=parse_ssin(digits, allow_test=True), address=_address(address))
            case length if length == _ENTERPRISE_DIGITS:
                return Recipient(enterprise_number=parse_enterprise_number(digits), address=_address(address))
            case _:
                raise RecipientUnreadable("a number has eleven digits (national) or ten (enterprise)")
    except InvalidIdentifier as exc:
        raise RecipientUnreadable(str(exc)) from None


def _address(fields: Mapping[str, str]) -> PostalAddress | None:
    if not fields:
        return None
    missing = [name for name in _REQUIRED if not fields.get(name)]
    if missing:
        raise RecipientUnreadable(f"the postal address lacks {', '.join(missing)}")
    return PostalAddress(
        name=fields["name"],
        street=fields["street"],
        house_number=fields["houseNumber"],
        box=fields.get("box"),
        postcode=fields["postcode"],
        municipality=fields["municipality"],
        country=fields.get("country", _HOME),
    )


def _from_lines(text: str) -> dict[str, str]:
    known = {_plain(name): name for name in (*_REQUIRED, *_OPTIONAL)}
    known |= {"ssin": "number", "enterprisenumber": "number", "number": "number"}
    fields: dict[str, str] = {}
    for place, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        key, colon, value = line.partition(":")
        if not colon and _NUMBER_LINE.match(line.strip()):
            key, value = "number", line
        name = known.get(_plain(key)) if colon or key == "number" else None
        if name is None:
            raise RecipientUnreadable(
                f"line {place} is neither a number nor one of name, street, house number, box, postcode, municipality "
                "and country, each followed by a colon and its value"
            )
        if name in fields:
            raise RecipientUnreadable(f"line {place} says {name} for the second time")
        if value.strip():
            fields[name] = value.strip()
    return fields


def _from_json(text: str) -> dict[str, str]:
    try:
        value: Any = strict_json(text.encode())
    except ValueError as exc:
        raise RecipientUnreadable(str(exc)) from None
    address = value.get("postalAddress", {})
    numbers = [value[name] for name in ("ssin", "enterpriseNumber") if name in value]
    if value.keys() - {"ssin", "enterpriseNumber", "postalAddress"} or len(numbers) > 1:
        raise RecipientUnreadable("the JSON has ssin or enterpriseNumber, and postalAddress, and nothing else")
    if not isinstance(address, dict) or address.keys() - {*_REQUIRED, *_OPTIONAL}:
        raise RecipientUnreadable(f"postalAddress is an object of {', '.join((*_REQUIRED, *_OPTIONAL))}")
    fields = address | ({"number": numbers[0]} if numbers else {})
    if not all(isinstance(each, str) for each in fields.values()):
        raise RecipientUnreadable("every value in the JSON is text, in quotes")
    return fields


def _plain(key: str) -> str:
    return re.sub(r"[\s_-]", "", key).lower()
