"""
Tells the parts of a `multipart/form-data` body apart, in one pass and without I/O: octets go in, events come out.

    [preamble CRLF] --boundary CRLF part { CRLF --boundary CRLF part } CRLF --boundary-- [CRLF epilogue]

    part = { header line CRLF } CRLF content

That is RFC 2046, section 5.1.1, read strictly: a line ends with CRLF, nothing stands behind a boundary on its line, and
CRLF--boundary within a content is its end whatever follows. Preamble, epilogue and the header lines of a part have at
most 8,190 octets each; the former two are skipped. A part without content may lack the CRLF before its boundary.

However the octets are cut into blocks, the events are the same, but for the places where a content is cut.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

from gateway.intake.part_heads import PartHead, inseparable, multipart_invalid, parse_head

CHUNK_BYTES: Final = 65_536  # a piece of content has no more
_LONGEST_BYTES: Final = 8_190  # of a preamble, an epilogue, a head
_CRLF: Final = b"\r\n"


class Mark(Enum):
    """An end: of the content of a part, known as soon as its boundary is here; of the whole body."""

    PART_END = "part-end"
    BODY_END = "body-end"


Event = PartHead | bytes | Mark
"""A part begins; a piece of its content, never empty; an end."""


class MultipartParser:
    """
    One body: `feed` it what arrived, take from `next` until that has nothing, and so on; `end` it once.

    Holds one block, and of the ones before it what cannot be told yet: the beginning of a head, or of a boundary.
    """

    def __init__(self, boundary: str) -> None:
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._held = _CRLF  # so that the first boundary, too, stands behind a CRLF
        self._place = 0  # in `_held`, before which all is told
        self._is_ended = False
        # A plain function: a bound method here would keep this object, and a block with it, until the next collection.
        self._step: Callable[[MultipartParser], Event | None] = MultipartParser._preamble

    def feed(self, block: bytes) -> None:
        """Take the next octets. Those that `next` did not tell yet are kept."""
        self._held = self._held[self._place :] + block
        self._place = 0

    def end(self) -> None:
        """Say that there are no more octets."""
        self._is_ended = True

    def next(self) -> Event | None:
        """
        Return the next event, BODY_END for ever after the last one; None: more octets are needed.

        Raises:
            Refusal: multipart-invalid; call nothing afterwards.
        """
        event = self._step(self)
        if event is None and self._is_ended:
            is_within = self._step in (MultipartParser._before_content, MultipartParser._content)
            raise multipart_invalid("a part does not end with the boundary") if is_within else inseparable()
        return event

    def _preamble(self) -> Event | None:
        place = self._find(self._delimiter)
        if place is None:
            return None
        return self._go(place + len(self._delimiter), MultipartParser._behind_boundary)

    def _behind_boundary(self) -> Event | None:
        match self._held[self._place : self._place + 2]:
            case b"\r\n":
                return self._go(self._place, MultipartParser._head)
            case b"--":
                return self._go(self._place + 2, MultipartParser._epilogue)
            case b"" | b"\r" | b"-":
                return None
            case _:
                raise inseparable()

    def _head(self) -> Event | None:
        # The CRLF before the head is still there: an empty head is that and one more.
        place = self._find(b"\r\n\r\n")
        if place is None:
            return None
        head = parse_head(self._held[self._place + 2 : place])
        self._place, self._step = place + 2, MultipartParser._before_content
        return head

    def _before_content(self) -> Event | None:
        # Here stands the CRLF of the empty line, which may be that of the boundary already.
        begun = self._held[self._place : self._place + len(self._delimiter)]
        if begun != self._delimiter:
            if self._delimiter.startswith(begun):
                return None
            self._place += 2
        return self._go(self._place, MultipartParser._content)

    def _content(self) -> Event | None:
        place = self._held.find(self._delimiter, self._place)
        if place == self._place:
            self._place, self._step = place + len(self._delimiter), MultipartParser._behind_boundary
            return Mark.PART_END
        certain = place if place >= 0 else self._end_of_certain()
        begin, self._place = self._place, min(certain, self._place + CHUNK_BYTES)
        return self._held[begin : self._place] or None

    def _epilogue(self) -> Event | None:
        rest = self._held[self._place :]
        if len(rest) > _LONGEST_BYTES or not _CRLF.startswith(rest[:2]):
            raise inseparable()
        return Mark.BODY_END if self._is_ended and rest != b"\r" else None

    def _go(self, place: int, step: "Callable[[MultipartParser], Event | None]") -> Event | None:
        self._place, self._step = place, step
        return step(self)

    def _find(self, octets: bytes) -> int | None:
        """Return where `octets` begin, None when they are not here yet; they must not be too far away."""
        furthest = self._place + _LONGEST_BYTES + len(octets)
        place = self._held.find(octets, self._place, furthest)
        if place < 0 and len(self._held) >= furthest:
            raise inseparable()
        return place if place >= 0 else None

    def _end_of_certain(self) -> int:
        """Return where what may become a delimiter begins. A delimiter has one carriage return: at its beginning."""
        place = self._held.rfind(b"\r", max(self._place, len(self._held) - len(self._delimiter)))
        return place if place >= 0 and self._delimiter.startswith(self._held[place:]) else len(self._held)
