"""
The kinds of value that our configuration files hold, and the words that mend a wrong one.

A key whose name ends in `_s` is a number of seconds; every other duration is written as ISO 8601 gives it, with days,
hours, minutes and seconds only (`P90D`, `PT5S`), because months and years have no fixed length. Sizes are bytes.
"""

import ipaddress
import math
import os
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

_DURATION: Final = re.compile(
    r"P(?:(?P<days>[0-9]{1,5})D)?"
    r"(?:T(?=[0-9])(?:(?P<hours>[0-9]{1,6})H)?(?:(?P<minutes>[0-9]{1,8})M)?(?:(?P<seconds>[0-9]{1,9})S)?)?\Z"
)
_ADDRESS: Final = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]*)):(?P<port>[0-9]{1,5})\Z")
_HOST_NAME: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9-]+)*\Z")
_LARGEST_PORT: Final = 65_535
_LOOPBACK: Final = "127.0.0.1"

TYPE_NAMES: Final[Mapping[type, str]] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dict: "a table",
    list: "an array",
}


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """
    How one kind of value is read.

    `parse` raises ValueError with the fix as its text; `blank` stands in for a value that could not be read.
    """

    parse: Callable[[Any], T]
    blank: T


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; port 0 is any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return the address as a configuration file writes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host == "localhost" or (_is_ip(self.host) and ipaddress.ip_address(self.host).is_loopback)


def type_name(value: object) -> str:
    """Return how to call the type of a TOML value."""
    return TYPE_NAMES.get(type(value), "a date or time")


def of_text(parse: Callable[[str], T], blank: T) -> Kind[T]:
    """Read text that `parse` understands; it raises ValueError with the fix."""
    return Kind(lambda value: parse(_text(value)), blank)


def text(*, longest: int = 200, pattern: str = "", fix: str = "") -> Kind[str]:
    """Read one line of text, in Unicode form NFC; `fix` says what `pattern` asks for."""

    def parse(value: str) -> str:
        if not value or value != value.strip() or len(value) > longest:
            raise ValueError(f"must be 1 to {longest} characters, without spaces around them")
        if not value.isprintable():
            raise ValueError("must be one line without control characters")
        if not unicodedata.is_normalized("NFC", value):
            raise ValueError("must be in Unicode form NFC; type it anew instead of pasting it")
        if pattern and not re.fullmatch(pattern, value):
            raise ValueError(fix)
        return value

    return of_text(parse, "")


def integer(lowest: int, highest: int) -> Kind[int]:
    """Read a whole number within limits, both included."""

    def parse(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong_type("a whole number", value)
        if not lowest <= value <= highest:
            raise ValueError(f"must be from {lowest} to {highest}")
        return value

    return Kind(parse, lowest)


def number(lowest: float, highest: float) -> Kind[float]:
    """Read a number within limits, both included; a whole number will do."""

    def parse(value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise _wrong_type("a number", value)
        if not math.isfinite(value) or not lowest <= value <= highest:
            raise ValueError(f"must be from {lowest:g} to {highest:g}")
        return float(value)

    return Kind(parse, lowest)


def choice(options: tuple[T, ...]) -> Kind[T]:
    """Read one of a few words."""

    def parse(value: str) -> T:
        for option in options:
            if option == value:
                return option
        raise ValueError(f"must be one of: {', '.join(map(str, options))}")

    return of_text(parse, options[0])


def duration(shortest: timedelta, longest: timedelta) -> Kind[timedelta]:
    """Read an ISO 8601 duration of days, hours, minutes and seconds, within limits, both included."""

    def parse(value: str) -> timedelta:
        match = _DURATION.match(value)
        if match is None or value == "P":
            raise ValueError("must be a duration like P90D, PT12H, PT5M or PT5S (ISO 8601: no years, months, weeks)")
        read = timedelta(**{unit: int(amount) for unit, amount in match.groupdict().items() if amount})
        if not shortest <= read <= longest:
            raise ValueError(f"must be from {duration_text(shortest)} to {duration_text(longest)}")
        return read

    return of_text(parse, shortest)


def days(fewest: int, most: int) -> Kind[timedelta]:
    """Read a duration of whole days, `PnD`."""

    def parse(value: str) -> timedelta:
        if not re.fullmatch(r"P[0-9]{1,5}D", value) or not fewest <= int(value[1:-1]) <= most:
            raise ValueError(f"must be whole days, from P{fewest}D to P{most}D")
        return timedelta(days=int(value[1:-1]))

    return of_text(parse, timedelta(days=fewest))


def duration_text(value: timedelta) -> str:
    """Return a duration of whole seconds as ISO 8601 writes it, in days, or else in hours, minutes or seconds."""
    seconds = value.days * 86_400 + value.seconds
    if seconds % 86_400 == 0 and seconds:
        return f"P{seconds // 86_400}D"
    for unit, length in (("H", 3_600), ("M", 60)):
        if seconds % length == 0 and seconds:
            return f"PT{seconds // length}{unit}"
    return f"PT{seconds}S"


def path_in(folder: Path) -> Kind[Path]:
    """Read the path of a file or folder; a relative one starts at `folder`. Symbolic links are left as they are."""

    def parse(value: str) -> Path:
        if not value or "\0" in value:
            raise ValueError("must be the path of a file or folder")
        # Not Path.resolve: where a mounted secret is a link, its target changes with every rotation.
        return Path(os.path.abspath(folder / value))  # noqa: PTH100 the only way to drop `..` without following links

    return of_text(parse, folder)


def store_uri(scheme: str, form: str, folder: Path) -> Kind[str]:
    """
    Read the URI of an embedded store, `scheme:` and a path, which stands there as it is, without percent-encoding.

    A relative path starts at `folder`. What is returned has an absolute path, written as `form` (`sqlite://{}`) says.
    """

    def parse(value: str) -> str:
        given, colon, rest = value.partition(":")
        if not colon or given != scheme:
            raise ValueError(f"must be {form.format('/absolute/path')} or {scheme}:relative/path")
        if rest.startswith("//"):
            rest = rest[2:]
            if not rest.startswith("/"):
                raise ValueError(f"names a host; write {form.format('/absolute/path')} or {scheme}:relative/path")
        if not rest or any(sign in rest for sign in "%?#\0"):
            raise ValueError("must hold a path, as it is, without any of % ? #")
        return form.format(os.path.abspath(folder / rest))  # noqa: PTH100 as in path_in

    return of_text(parse, form.format(folder))


def web_address(*schemes: str) -> Kind[str]:
    """Read the absolute URL of a service, without credentials, query and fragment; a final slash is dropped."""

    def parse(value: str) -> str:
        try:
            parts = urlsplit(value)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("is not a URL") from None
        if parts.scheme not in schemes:
            raise ValueError(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        if not host or port == 0:
            raise ValueError(f"must be a URL like {schemes[0]}://host.example/path")
        if not value.isascii() or not value.isprintable() or " " in value:
            raise ValueError("must be written in ASCII; percent-encode other characters")
        if "@" in parts.netloc:
            raise ValueError("must not hold credentials; they stand in files of their own")
        if "?" in value or "#" in value:
            raise ValueError("must not hold a query or a fragment")
        return value.rstrip("/")

    return of_text(parse, f"{schemes[0]}://blank.invalid")


def _wrong_type(wanted: str, value: object) -> ValueError:
    return ValueError(f"must be {wanted}, not {type_name(value)}")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _wrong_type("text in quotes", value)
    return value


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type("true or false", value)
    return value


def _date(value: object) -> date:
    if isinstance(value, str):
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            try:
                return date.fromisoformat(value)
            except ValueError:
                raise ValueError("is no day of the calendar") from None
    elif isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise ValueError("must be a date like 2026-01-10")


def _address(value: str) -> Address:
    match = _ADDRESS.match(value)
    if match is None or int(match["port"]) > _LARGEST_PORT:
        raise ValueError("must be an address and a port, like 127.0.0.1:8443 or [::]:8443")
    host = match["ipv6"] or match["host"] or _LOOPBACK
    if not (_is_ip(host) or (match["host"] and re.search("[A-Za-z]", host) and _HOST_NAME.match(host))):
        raise ValueError("does not name an IP address or host to listen on")
    return Address(host, int(match["port"]))


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


BOOLEAN: Final = Kind(_boolean, blank=False)
DATE: Final = Kind(_date, date.min)
ADDRESS: Final = of_text(_address, Address(_LOOPBACK, 0))
