"""
The letters of a cover page: DejaVu Sans, embedded, and what may be printed with it.

A sign that the fonts lack is replaced by the plain letters it is made of where Unicode knows them (compatibility
decomposition, less its marks). Where that does not help, and where letters run from right to left, which is not done
here, nothing is printed: a name with a gap is worse than a letter that goes another way.
"""

import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any, Final

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

from gateway.errors import GatewayError

# Names of our own: whatever else in this process draws with reportlab has its fonts, we have ours.
PLAIN: Final = "CoverPlain"
BOLD: Final = "CoverBold"
_FOLDER: Final = Path(__file__).parent / "fonts"
_FILES: Final = {PLAIN: _FOLDER / "DejaVuSans.ttf", BOLD: _FOLDER / "DejaVuSans-Bold.ttf"}
_HYPHENATED: Final = re.compile(r"[^-]*-+|[^-]+")
_RIGHT_TO_LEFT: Final = frozenset({"R", "AL", "AN"})


class Unprintable(GatewayError):
    """A text cannot be printed, or does not fit; `code` says what is wrong and holds nothing of the text."""

    def __init__(self, code: str) -> None:
        super().__init__(f"the cover page cannot be printed: {code}")
        self.code = code


@cache
def face(name: str) -> Any:
    """Return a font, read at the first call, which blocks; from then on a canvas knows it by its name."""
    font = TTFont(name, _FILES[name])
    pdfmetrics.registerFont(font)
    return font


def width_pt(text: str, size_pt: float, *, bold: bool = False) -> float:
    """Return how wide a line is."""
    return float(face(BOLD if bold else PLAIN).stringWidth(text, size_pt))


def printable(text: str) -> str:
    """
    Return `text` as the fonts can print it.

    Raises:
        Unprintable: `letters`: some sign has no likeness in the fonts.
    """
    return "".join(_printable(sign) for sign in unicodedata.normalize("NFC", text))


def wrapped(text: str, size_pt: float, width: float, *, bold: bool = False) -> list[str]:
    """
    Return `text` broken into lines of at most `width` points: at spaces, and after the hyphens of a word that is wider.

    Spaces that do not break stay. What cannot be broken stands alone on a line that is too wide.
    """
    lines: list[str] = []
    for word in filter(None, text.split(" ")):
        joint = " "
        for piece in _HYPHENATED.findall(word) if width_pt(word, size_pt, bold=bold) > width else [word]:
            longer = f"{lines[-1]}{joint}{piece}" if lines else piece
            if lines and width_pt(longer, size_pt, bold=bold) <= width:
                lines[-1] = longer
            else:
                lines.append(piece)
            joint = ""
    return lines


def _printable(sign: str) -> str:
    if sign.isspace():
        return " "
    if unicodedata.category(sign) == "Cf":
        return ""  # invisible: joiners, soft hyphens, marks of direction
    if unicodedata.bidirectional(sign) in _RIGHT_TO_LEFT:
        raise Unprintable("letters")
    if _has(sign):
        return sign
    plain = "".join(part for part in unicodedata.normalize("NFKD", sign) if not unicodedata.combining(part))
    if not plain or not all(_has(part) for part in plain):
        raise Unprintable("letters")
    return plain


def _has(sign: str) -> bool:
    return all(ord(sign) in face(name).face.charToGlyph for name in (PLAIN, BOLD))
