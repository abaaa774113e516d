"""Letters to demonstrate with: real PDFs, made here."""

from io import BytesIO
from pathlib import Path
from typing import Final

from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

_FONT: Final = "DejaVuSans"
_FONT_FILE: Final = Path(__file__).parents[1] / "covers" / "fonts" / "DejaVuSans.ttf"
_LEADING: Final = 16


def letter_pdf(title: str, paragraphs: list[str]) -> bytes:
    """Return a one-page A4 letter with embedded fonts."""
    if _FONT not in pdfmetrics.getRegisteredFontNames():
        pdfmetrics.registerFont(TTFont(_FONT, _FONT_FILE))
    output = BytesIO()
    canvas = Canvas(output, pagesize=A4)
    canvas.setTitle(title)
    canvas.setFont(_FONT, 16)
    canvas.drawString(25 * mm, A4[1] - 40 * mm, title)
    text = canvas.beginText(25 * mm, A4[1] - 60 * mm)
    text.setFont(_FONT, 11, leading=_LEADING)
    for paragraph in paragraphs:
        text.textLines(paragraph)
        text.textLine("")
    canvas.drawText(text)
    canvas.save()
    return output.getvalue()
