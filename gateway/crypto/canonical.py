"""
JSON in its one canonical form (RFC 8785), which digests and signatures are taken over.

Nearly everything that we write so holds texts, whole numbers and names in ASCII. For those the encoder of the standard
library, told to sort, gives the same octets several times as fast; all else is left to `rfc8785`.
"""

from collections.abc import Mapping
from json import JSONEncoder
from typing import Any, Final

import rfc8785

__all__ = ["canonical_json"]

_LARGEST: Final = 2**53 - 1  # whole numbers that every reader of JSON takes exactly (RFC 8785, section 3.2.2.3)
_SORTED: Final = JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(members: Mapping[str, Any]) -> bytes:
    """
    Return a JSON object in canonical form, in UTF-8.

    Raises:
        ValueError: something in it has none: a number out of range, half a surrogate pair, a value of another type.
    """
    fields = dict(members)
    return _SORTED.encode(fields).encode() if _is_plain(fields) else rfc8785.dumps(fields)


def _is_plain(value: object) -> bool:
    if isinstance(value, str) or value is None:
        return True
    if isinstance(value, dict):
        for name, each in value.items():
            # The standard orders names by their UTF-16, which for ASCII is the order of the encoder.
            if not isinstance(name, str) or not name.isascii():
                return False
            if not isinstance(each, str) and not _is_plain(each):  # most are texts: no call for those
                return False
        return True
    if isinstance(value, int):
        return -_LARGEST <= value <= _LARGEST
    return isinstance(value, list | tuple) and all(map(_is_plain, value))
