"""
The cover page itself: one sheet of A4, upright, text only, fonts embedded, the same bytes for the same input.

From the top: sender and return address (left, small, outside the postage zone of 74 by 40 mm), the recipient in the
window, and below both how to fetch the letter. It says nothing of what the letter is about.
"""

from dataclasses import dataclass
from io import BytesIO
from threading import Lock
from typing import Any, Final

from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas

from gateway.config.providers import AddressBox
from gateway.covers.address import LEADING, address_lines, fit
from gateway.covers.lettering import BOLD, PLAIN, Unprintable, face, printable, width_pt, wrapped
from gateway.covers.words import WORDS, CoverWords
from gateway.domain.message import PostalAddress
from gateway.records.retrieval import RetrievalSecrets

PAGE_WIDTH_MM: Final = 210.0
PAGE_HEIGHT_MM: Final = 297.0
_SIDE_MM: Final = 20.0
_TOP_MM: Final = 12.0
_BOTTOM_MM: Final = 284.0
_FOOT_MM: Final = 4.0
_POSTAGE_MM: Final = (74.0, 40.0)  # from the upper right corner
_CLEAR_MM: Final = 4.0  # between text and the edges of the window or of the postage zone
_BODY_STARTS_MM: Final = 97.0
_TEXT_MM: Final = PAGE_WIDTH_MM - 2 * _SIDE_MM
_BODY_MM: Final = 176.0  # the most that the text below the window ever takes

_NARROWEST_MM: Final = 60.0
_SENDER_SIZES_PT: Final = ((10.0, 8.5), (9.0, 7.0), (8.0, 6.0))  # of the name, and of the lines below it
_LEADING: Final = 1.35

_BLACK: Final = (0.0, 0.0, 0.0)
_GREY: Final = (0.33, 0.33, 0.33)

_drawing = Lock()  # reportlab keeps the fonts of a document in shared state


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CoverPage:
    """All that one cover page tells; `repr` is hidden because it would be personal data and secrets."""

    language: str
    sender_name: str
    return_address: tuple[str, ...]
    public_contact: str
    recipient: PostalAddress
    attention_of: str | None
    box: AddressBox
    portal_url: str
    secrets: RetrievalSecrets
    term_days: int  # how long the copy stays
    registered: bool  # counted from delivery; otherwise from posting


def require_room(box: AddressBox) -> None:
    """
    Check that the page has room around the window of an envelope.

    Raises:
        ValueError: it has none; says what to change.
    """
    if box.y < _POSTAGE_MM[1]:
        raise ValueError(f"address_box_mm.y must be at least {_POSTAGE_MM[1]:g}: above it are the sender and the stamp")
    lowest = _BOTTOM_MM - _FOOT_MM - _BODY_MM - _CLEAR_MM
    if box.y + box.h > lowest:
        raise ValueError(f"address_box_mm must end at most {lowest:g} mm from the top: the text stands below it")


def render_cover(page: CoverPage) -> bytes:
    """
    Return the page as PDF. Blocks for some ten milliseconds, and for half a second at the first call.

    Raises:
        Unprintable: some text cannot be printed, or does not fit; never half a page.
    """
    with _drawing:
        for name in (PLAIN, BOLD):
            face(name)
        words, target = WORDS[page.language], BytesIO()
        size = (PAGE_WIDTH_MM * mm, PAGE_HEIGHT_MM * mm)
        # Without a first font of ours the file would name Helvetica, which is not embedded.
        canvas = Canvas(
            target, pagesize=size, invariant=1, pageCompression=1, lang=page.language, initialFontName=PLAIN
        )
        canvas.setTitle(words.heading)
        canvas.setAuthor(printable(page.sender_name))
        sheet = _Sheet(canvas)
        _sender(sheet, page)
        _recipient(sheet, page)
        _body(sheet, page, words)
        canvas.showPage()
        canvas.save()
        return target.getvalue()


class _Sheet:
    """A canvas measured in millimetres from its upper left corner; `y_mm` is where the next line stands."""

    def __init__(self, canvas: Canvas) -> None:
        self._canvas: Any = canvas
        self.y_mm = 0.0

    def line(
        self,
        text: str,
        *,
        size_pt: float,
        x_mm: float = _SIDE_MM,
        bold: bool = False,
        colour: tuple[float, float, float] = _BLACK,
        leading: float = _LEADING,
    ) -> None:
        """Write one line, whose top is at `y_mm`, and go below it."""
        baseline_mm = self.y_mm + size_pt / mm * 0.93
        if baseline_mm > _BOTTOM_MM:
            raise Unprintable("page-too-full")
        self._canvas.setFillColorRGB(*colour)
        self._canvas.setFont(BOLD if bold else PLAIN, size_pt)
        self._canvas.drawString(x_mm * mm, (PAGE_HEIGHT_MM - baseline_mm) * mm, text)
        self.y_mm += size_pt * leading / mm

    def paragraph(
        self,
        text: str,
        *,
        size_pt: float,
        x_mm: float = _SIDE_MM,
        width_mm: float = _TEXT_MM,
        bold: bool = False,
        colour: tuple[float, float, float] = _BLACK,
    ) -> None:
        """Write text in as many lines as it takes."""
        for piece in wrapped(text, size_pt, width_mm * mm, bold=bold):
            self.line(piece, size_pt=size_pt, x_mm=x_mm, bold=bold, colour=colour)

    def rule(self) -> None:
        """Draw a thin line across the text."""
        self._canvas.setStrokeColorRGB(*_GREY)
        self._canvas.setLineWidth(0.6)
        y_pt = (PAGE_HEIGHT_MM - self.y_mm) * mm
        self._canvas.line(_SIDE_MM * mm, y_pt, (PAGE_WIDTH_MM - _SIDE_MM) * mm, y_pt)

    def down(self, by_mm: float) -> None:
        """Leave room."""
        self.y_mm += by_mm


def _sender(sheet: _Sheet, page: CoverPage) -> None:
    """Write sender and return address beside the window where that leaves a column, else above it."""
    beside_mm = page.box.x - _CLEAR_MM - _SIDE_MM
    is_beside = beside_mm >= _NARROWEST_MM
    width_mm = beside_mm if is_beside else PAGE_WIDTH_MM - _POSTAGE_MM[0] - _CLEAR_MM - _SIDE_MM
    room_mm = (_BODY_STARTS_MM if is_beside else page.box.y) - _TOP_MM
    name = printable(page.sender_name)
    others = [printable(text) for text in page.return_address if text != page.sender_name]
    for name_pt, other_pt in _SENDER_SIZES_PT:
        name_lines = wrapped(name, name_pt, width_mm * mm, bold=True)
        other_lines = [piece for text in others for piece in wrapped(text, other_pt, width_mm * mm)]
        if (len(name_lines) * name_pt + len(other_lines) * other_pt) * _LEADING / mm <= room_mm:
            break
    else:
        raise Unprintable("return-address-too-long")
    sheet.y_mm = _TOP_MM
    for text in name_lines:
        sheet.line(text, size_pt=name_pt, bold=True)
    for text in other_lines:
        sheet.line(text, size_pt=other_pt, colour=_GREY)


def _recipient(sheet: _Sheet, page: CoverPage) -> None:
    """Write the address into the window, with nothing else there."""
    box = page.box
    address = fit(
        address_lines(page.recipient, page.attention_of, page.language),
        width=(box.w - 2 * _CLEAR_MM) * mm,
        height=(box.h - _CLEAR_MM) * mm,
    )
    tall_mm = len(address.lines) * address.size_pt * LEADING / mm
    sheet.y_mm = box.y + (box.h - tall_mm) / 2
    for text in address.lines:
        sheet.line(text, size_pt=address.size_pt, x_mm=box.x + _CLEAR_MM, leading=LEADING)


def _body(sheet: _Sheet, page: CoverPage, words: CoverWords) -> None:
    sheet.y_mm = max(_BODY_STARTS_MM, page.box.y + page.box.h + _CLEAR_MM)
    sheet.paragraph(words.heading, size_pt=17.5, bold=True)
    sheet.down(2.5)
    sheet.paragraph(words.intro, size_pt=11)
    sheet.down(3.5)
    _steps(sheet, page, words)
    sheet.down(3.5)
    sheet.paragraph(words.direct, size_pt=11)
    sheet.down(0.6)
    _on_one_line(sheet, f"{_base(page)}/d/{page.secrets.shown_token}", size_pt=11, x_mm=_SIDE_MM, smallest_pt=6.5)
    sheet.down(5)
    _notes(sheet, page, words)
    last_line_mm = _BOTTOM_MM - _FOOT_MM
    if sheet.y_mm > last_line_mm:
        raise Unprintable("page-too-full")
    sheet.y_mm = last_line_mm
    sheet.line(words.follows, size_pt=9.5, colour=_GREY)


def _steps(sheet: _Sheet, page: CoverPage, words: CoverWords) -> None:
    values = (_base(page), page.secrets.shown_number, page.secrets.shown_code)
    x_mm = _SIDE_MM + 12
    sheet.rule()
    for number, (step, value) in enumerate(zip(words.steps, values, strict=True), start=1):
        sheet.down(2.8)
        top_mm = sheet.y_mm
        sheet.line(str(number), size_pt=20, bold=True, colour=_GREY)
        sheet.y_mm = top_mm
        sheet.line(step, size_pt=11, x_mm=x_mm)
        _on_one_line(sheet, value, size_pt=15 if number == 1 else 20, x_mm=x_mm, smallest_pt=8)
        if number == len(values):
            sheet.line(words.alike, size_pt=9, x_mm=x_mm, colour=_GREY)
        sheet.down(1.6)
        sheet.rule()


def _notes(sheet: _Sheet, page: CoverPage, words: CoverWords) -> None:
    term = words.term_after_delivery if page.registered else words.term_after_posting
    days = words.one_day if page.term_days == 1 else words.days.format(count=page.term_days)
    contact = words.questions.format(sender=printable(page.sender_name), contact=printable(page.public_contact))
    for title, text in (
        (words.term_title, term.format(days=days)),
        (words.personal_title, words.personal),
        (words.questions_title, contact),
    ):
        sheet.line(title, size_pt=11, bold=True)
        sheet.paragraph(text, size_pt=10.5)
        sheet.down(2.8)


def _base(page: CoverPage) -> str:
    return printable(page.portal_url.rstrip("/"))


def _on_one_line(sheet: _Sheet, text: str, *, size_pt: float, x_mm: float, smallest_pt: float) -> None:
    """Write what people copy, in bold and unbroken: as large as given, smaller where it would not fit."""
    room_pt = (PAGE_WIDTH_MM - _SIDE_MM - x_mm) * mm
    while width_pt(text, size_pt, bold=True) > room_pt:
        size_pt -= 0.5
        if size_pt < smallest_pt:
            raise Unprintable("portal-address-too-long")
    sheet.line(text, size_pt=size_pt, x_mm=x_mm, bold=True)
