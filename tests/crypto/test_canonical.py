"""Canonical JSON is what the library makes of it, whichever way it is made."""

from typing import Any

import pytest
import rfc8785
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.crypto.canonical import canonical_json
from gateway.domain.status import MessageStatus

TEXTS = st.text(st.characters(), max_size=20)  # half surrogate pairs too
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(2**53), 2**53) | st.floats() | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(TEXTS | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


def made(how: Any, fields: Any) -> bytes | None:
    """Return what `how` makes of it, None when it refuses."""
    try:
        octets: bytes = how(fields)
    except ValueError:
        return None
    return octets


@settings(deadline=None)
@given(fields=st.dictionaries(TEXTS, VALUES, max_size=4))
@example(fields={'\x00\x1f\x7f\u2028"\\/\b\f\n\r\t': '\x00\x1f\x7f\u2028"\\/\b\f\n\r\t—é😀'})
@example(fields={"é": 1, "z": 2, "\ufb33": 3, "😀": 4})  # by UTF-16 the last two change places
@example(fields={"a": 2**53 - 1, "b": -(2**53) + 1})
@example(fields={"a": 2**53})
@example(fields={"a": [{"b": 1.0}]})
@example(fields={"a": {1: "a name that is no text"}})
@example(fields={"a": "\ud800"})
@example(fields={"a": b"octets"})
def test_it_is_what_the_library_makes(fields: dict[str, Any]) -> None:
    assert made(canonical_json, fields) == made(rfc8785.dumps, fields)


def test_words_of_ours_are_texts() -> None:
    assert canonical_json({"status": MessageStatus.ACCEPTED}) == b'{"status":"accepted"}'


def test_what_is_plain_needs_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(rfc8785, "dumps")
    assert canonical_json({"b": [1, None, True], "a": {"c": "é"}}) == '{"a":{"c":"é"},"b":[1,null,true]}'.encode()
