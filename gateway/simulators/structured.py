"""Strings in structured header fields, RFC 8941."""

import re
from typing import Final

_SF_STRING: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"\Z')  # section 3.3.3


def sf_string(text: str) -> str | None:
    """Return the value of a structured-field string, or None if `text` is none."""
    quoted = _SF_STRING.match(text.strip(" "))
    return None if quoted is None else re.sub(r"\\(.)", r"\1", quoted.group(1))
