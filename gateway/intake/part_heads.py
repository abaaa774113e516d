"""
What the head of a part says: its name, its filename and its type. And the boundary that the request itself names.

A head has at most one Content-Disposition, one Content-Type and one Content-Length (which is not looked at), in UTF-8,
each on one line. Parameters are those of RFC 9110, section 5.6.6, each once, with nothing beside them; a filename may
also come as `filename*` (RFC 8187, in UTF-8), which then counts.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from gateway.errors import FieldError, Kind, Refusal

_TAKEN: Final = frozenset({"content-disposition", "content-type", "content-length"})
_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 -- a token of a grammar, no secret
_QUOTED: Final = r'"[^"\\]*(?:\\["\\][^"\\]*)*"'
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([^\x00-\x08\x0a-\x1f\x7f]*)")
_KIND: Final = re.compile(rf"{_TOKEN}(?:/{_TOKEN})?")
_PARAMETER: Final = re.compile(rf"[ \t]*;[ \t]*({_TOKEN})=({_TOKEN}|{_QUOTED})")
# Software commonly leaves the quotation marks out around a boundary that would need them.
_LOOSE_PARAMETER: Final = re.compile(rf'[ \t]*;[ \t]*({_TOKEN})=([^ \t;"]+|{_QUOTED})')
_ESCAPED: Final = re.compile(r'\\(["\\])')
_EXTENDED: Final = re.compile(r"utf-8'[A-Za-z0-9-]*'((?:[!#$&+\-.^_`|~0-9A-Za-z]|%[0-9A-Fa-f]{2})*)", re.IGNORECASE)
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PartHead:
    """Where a part begins; `filename` and `media_type` are "" when it states none."""

    name: str
    filename: str
    media_type: str


def multipart_invalid(detail: str) -> Refusal:
    """Return the refusal of a body whose parts are not as they must be."""
    return Refusal(Kind.MULTIPART_INVALID, detail, errors=[FieldError(pointer="/", detail=detail)])


def inseparable() -> Refusal:
    """Return the refusal of a body whose parts or heads cannot be told from one another."""
    return multipart_invalid("the parts cannot be told apart; check the boundary and the headers of each part")


def parse_boundary(content_type: str) -> str:
    """
    Return the boundary that the `Content-Type` of a request names (RFC 2046, section 5.1.1).

    Raises:
        Refusal: multipart-invalid, when it names none, several, or one that is none.
    """
    try:
        _, parameters = _parameters(content_type, _LOOSE_PARAMETER)
    except ValueError:
        parameters = {}
    boundary = _unquoted(parameters.get("boundary", ""))
    if not _BOUNDARY.fullmatch(boundary):
        raise multipart_invalid("the Content-Type has no usable boundary")
    return boundary


def parse_head(octets: bytes) -> PartHead:
    """
    Return what the header lines of a part say; `octets` are those lines, without the end of the last one.

    Raises:
        Refusal: multipart-invalid.
    """
    fields = [_field(line) for line in octets.split(b"\r\n")] if octets else []
    values = dict(fields)
    media_type = values.get("content-type", "")
    if media_type.partition("/")[0].strip().lower() == "multipart":
        raise multipart_invalid("parts must not be nested")
    foreign = sorted(values.keys() - _TAKEN)
    if foreign or len(values) != len(fields):
        detail = f"a part has the header {foreign[0]}" if foreign else "a part has a header twice"
        raise multipart_invalid(
            f"{detail}; give each part one Content-Disposition and one Content-Type, and send its bytes as they are"
        )
    name, filename = parse_disposition(values.get("content-disposition", ""))
    if name == "_charset_":
        raise multipart_invalid("a part named _charset_ is not taken; texts are UTF-8")
    return PartHead(name=name, filename=filename, media_type=media_type)


def parse_disposition(text: str) -> tuple[str, str]:
    """
    Return name and filename ("" when there is none) of a `Content-Disposition` (RFC 7578, section 4.2).

    Raises:
        Refusal: multipart-invalid.
    """
    kind, parameters = ("", {}) if not text else _disposition(text)
    if kind != "form-data" or "name" not in parameters:
        raise multipart_invalid("each part needs Content-Disposition: form-data with a name")
    return parameters["name"], parameters.get("filename*", parameters.get("filename", ""))


def _disposition(text: str) -> tuple[str, dict[str, str]]:
    try:
        kind, parameters = _parameters(text, _PARAMETER)
        return kind, {
            name: _extended(value) if name.endswith("*") else _unquoted(value) for name, value in parameters.items()
        }
    except ValueError as error:
        raise multipart_invalid(
            "a Content-Disposition is not well formed; write names in quotation marks, or a filename as filename* "
            "(RFC 8187)"
        ) from error


def _field(line: bytes) -> tuple[str, str]:
    field = _FIELD.fullmatch(line)
    if field is None:
        raise inseparable()
    try:
        return field[1].decode().lower(), field[2].decode().strip(" \t")
    except UnicodeDecodeError as error:
        raise inseparable() from error


def _parameters(text: str, parameter: re.Pattern[str]) -> tuple[str, dict[str, str]]:
    """
    Return what comes first, in lower case, and the parameters behind it, as written.

    Raises:
        ValueError: they are not well formed, or one comes twice.
    """
    kind = _KIND.match(text)
    if kind is None:
        raise ValueError("nothing stands before the parameters")
    place, found = kind.end(), dict[str, str]()
    while place < len(text):
        one = parameter.match(text, place)
        if one is None or (name := one[1].lower()) in found:
            raise ValueError("no parameter, or one that was there")
        found[name], place = one[2], one.end()
    return kind[0].lower(), found


def _unquoted(value: str) -> str:
    return _ESCAPED.sub(r"\1", value[1:-1]) if value.startswith('"') else value


def _extended(value: str) -> str:
    """
    Return the text of an extended value.

    Raises:
        ValueError: it is none, or not UTF-8.
    """
    extended = _EXTENDED.fullmatch(value)
    if extended is None:
        raise ValueError("no extended value in UTF-8")
    return unquote(extended[1], errors="strict")
