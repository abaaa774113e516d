"""Reads answers of HTTP/1.1 from a byte stream, as few of its forms as the servers that are measured use."""

import json
from dataclasses import dataclass
from typing import Any, Final

_HEAD_END: Final = b"\r\n\r\n"
_HEAD_LIMIT_BYTES: Final = 65_536
_BODILESS: Final = frozenset({204, 304})
_SUCCESS: Final = range(200, 300)
_INFORMATIONAL: Final = range(100, 200)
_TAKEN_OVER: Final = frozenset({"accepted", "repeated"})  # of the outcomes of items of a batch


class AnswerUnreadable(Exception):
    """The stream holds what this reader does not take."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `closes`: no other follows on this connection."""

    status: int
    body: bytes
    closes: bool

    @property
    def is_success(self) -> bool:
        """Tell whether the status is 2xx."""
        return self.status in _SUCCESS

    @property
    def code(self) -> str:
        """What to count it under: the status, and the code of a problem document where it is one."""
        if self.is_success:
            return str(self.status)
        try:
            return f"{self.status} {json.loads(self.body)['code']}"
        except (ValueError, KeyError, TypeError):
            return str(self.status)


# What to count something under that was asked for, and whether it succeeded.
Outcome = tuple[str, bool]


def outcomes_of_batch(answer: Answer, items: int) -> list[Outcome]:
    """Return what became of each of so many items of a batch; those that the answer does not speak of are missing."""
    if not answer.is_success:
        return [(answer.code, False)] * items
    try:
        told = [_outcome_of_item(each) for each in json.loads(answer.body)["items"]]
    except (ValueError, KeyError, TypeError):
        told = []
    return (told + [("missing", False)] * items)[:items]


def _outcome_of_item(item: Any) -> Outcome:
    outcome = str(item["outcome"])
    if outcome == "refused":
        return f"{item['problem']['status']} {item['problem']['code']}", False
    return outcome, outcome in _TAKEN_OVER


class AnswerReader:
    """Takes octets as they come, and gives an answer as soon as it is whole."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: tuple[int, int, bool] | None = None  # status, length of the body, closes

    def feed(self, data: bytes) -> Answer | None:
        """
        Add octets; return the answer that they complete, if they do. One answer at a time: nothing is pipelined.

        Raises:
            AnswerUnreadable: this is not HTTP/1.1, or a form of it that is not expected here.
        """
        self._buffer += data
        while self._head is None:
            end = self._buffer.find(_HEAD_END)
            if end < 0:
                if len(self._buffer) > _HEAD_LIMIT_BYTES:
                    raise AnswerUnreadable("a header without an end")
                return None
            head = _parse(bytes(self._buffer[:end]))
            del self._buffer[: end + len(_HEAD_END)]
            if head[0] not in _INFORMATIONAL:
                self._head = head
        status, length, closes = self._head
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        if self._buffer:
            raise AnswerUnreadable("octets after the end of an answer")
        self._head = None
        return Answer(status, body, closes)


def _parse(head: bytes) -> tuple[int, int, bool]:
    first, *lines = head.split(b"\r\n")
    version, _, rest = first.partition(b" ")
    if version != b"HTTP/1.1" or not rest[:3].isdigit():
        raise AnswerUnreadable("not an answer of HTTP/1.1")
    status, length, closes = int(rest[:3]), None, False
    for line in lines:
        name, _, value = line.partition(b":")
        match name.strip().lower():
            case b"content-length":
                if not value.strip().isdigit():
                    raise AnswerUnreadable("a length that is no number")
                length = int(value)
            case b"transfer-encoding":
                raise AnswerUnreadable("a body without a stated length")
            case b"connection":
                closes = value.strip().lower() == b"close"
            case _:
                pass
    if status in _BODILESS or status in _INFORMATIONAL:
        length = 0
    if length is None:
        raise AnswerUnreadable("a body without a stated length")
    return status, length, closes
