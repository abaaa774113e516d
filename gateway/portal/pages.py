"""
The pages, as HTML: templates with automatic escaping and the texts of one language, and nothing that runs in a browser.

Templates and texts are read when this module is imported, so that no request waits for a disk.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web
from jinja2 import DictLoader, Environment, StrictUndefined

from gateway.portal.letters import Availability, OpenDocument, OpenLetter
from gateway.portal.sessions import Visit
from gateway.portal.words import LANGUAGES, WORDS, Choice, Words, show_date, show_size, show_time, show_wait
from gateway.records.retrieval import show_number
from gateway.stores.model import MessageRecord

STYLE: Final = Path(__file__).with_name("style.css").read_bytes()
PDF: Final = "application/pdf"

_SOURCES: Final = {file.name: file.read_text("utf-8") for file in Path(__file__).parent.glob("templates/*.html")}
_ENVIRONMENT: Final = Environment(
    loader=DictLoader(_SOURCES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_TEMPLATES: Final = {name: _ENVIRONMENT.get_template(name) for name in _SOURCES}
_UNSAFE_IN_FILENAME: Final = re.compile(r'["\\/:*?<>|]')
_OUTSIDE_ASCII: Final = re.compile(r"[^ -~]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    Where a page stands: `base` is the path below which the portal lives, `path` the page's own below that.

    `resend` are the fields that a page made from a form needs to be shown again in another language.
    """

    base: str
    path: str
    choice: Choice
    resend: Mapping[str, str] | None = None

    def link(self, path: str) -> str:
        """Return the address of another page, in the language that the visitor chose."""
        return f"{self.base}{path}" + (f"?lang={self.choice.language}" if self.choice.chosen else "")


def start_page(place: Place, *, wrong: bool = False) -> web.Response:
    """Return the page that asks for a letter's number."""
    words = place.choice.words["start"]
    error = words["wrong"] if wrong else None
    return _page("start", place, title=words["title"], error=error, status=422 if wrong else 200)


def code_page(
    place: Place, *, number: str | None, error: str | None = None, status: int = 200, wait_s: int = 0
) -> web.Response:
    """Return the page that asks for the code; `error` names the text of what was wrong with the last one."""
    words = place.choice.words
    response = _page(
        "code",
        place,
        title=words["wait"]["title"] if wait_s else words["code"]["title"],
        error=words["code"][error] if error is not None else None,
        status=status,
        number=show_number(number) if number is not None else None,
        wait=show_wait(wait_s, words) if wait_s else None,
    )
    if wait_s:
        response.headers["Retry-After"] = str(wait_s)
    return response


def letter_page(place: Place, letter: OpenLetter, visit: Visit) -> web.Response:
    """Return the open letter."""
    record, words = letter.record, place.choice.words
    until = record.copy_until
    return _page(
        "letter",
        place,
        title=words["letter"]["title"].format(sender=record.letterhead.display_name),
        letter_language=record.language,
        subject=letter.subject,
        sender=record.letterhead.display_name,
        organisation=record.letterhead.sender_name,
        contact=record.letterhead.public_contact,
        sent=show_date(letter.sent_at, words),
        until=f"{show_date(until, words)}, {show_time(until)}" if until is not None else None,
        open_until=show_time(visit.ends_at),
        documents=[_document(document, words) for document in letter.documents],
    )


def unavailable_page(place: Place, record: MessageRecord | None, why: Availability) -> web.Response:
    """Return why a letter cannot be had now, to one who knows its code."""
    words = place.choice.words
    texts = words["not_yet" if why is Availability.NOT_YET else "gone"]
    return _page(
        "notice",
        place,
        title=texts["title"],
        text=texts["text"],
        sender=record.letterhead.display_name if record is not None else None,
        contact=record.letterhead.public_contact if record is not None else None,
        back=words["errors"]["back"],
        status=404 if why is Availability.NOT_YET else 410,
    )


def visit_page(place: Place, name: str, status: int) -> web.Response:
    """Return the page that says that a letter was closed (`left`), or closed itself (`ended`)."""
    texts = place.choice.words[name]
    return _page(
        "notice", place, title=texts["title"], text=texts["text"], contact=None, back=texts["again"], status=status
    )


def error_page(place: Place, name: str, status: int) -> web.Response:
    """Return the page of an error, in the words of that name."""
    texts = place.choice.words["errors"]
    return _page(
        "notice",
        place,
        title=texts[name],
        text=texts[f"{name}_text"],
        contact=None,
        back=texts["back"],
        status=status,
    )


def text_page(place: Place, name: str) -> web.Response:
    """Return the help, the privacy notice or the accessibility statement."""
    page = place.choice.words[name]
    return _page("text", place, title=page["title"], page=page)


def safe_filename(filename: str) -> str:
    """Return a file name without what file systems refuse, and without signs that are invisible or turn text round."""
    visible = "".join(sign for sign in filename if not unicodedata.category(sign).startswith("C"))
    return _UNSAFE_IN_FILENAME.sub("_", visible).strip(" .") or "document"


def content_disposition(filename: str) -> str:
    """Return the header that saves a download under its sender's name for it (RFC 6266, RFC 8187)."""
    safe = safe_filename(filename)
    plain = _OUTSIDE_ASCII.sub("_", safe).replace("%", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(safe, safe='')}"


def _document(document: OpenDocument, words: Words) -> dict[str, Any]:
    record = document.record
    return {
        "number": record.number,
        "filename": safe_filename(document.filename),
        "type": words["letter"]["type_pdf" if record.media_type == PDF else "type_other"],
        "size": show_size(record.size_bytes, words),
        "main": record.main,
        "sha256": record.sha256.hex(),
    }


def _page(name: str, place: Place, *, title: str, status: int = 200, **context: Any) -> web.Response:
    html = _TEMPLATES[f"{name}.html"].render(
        w=place.choice.words,
        language=place.choice.language,
        languages=_language_names(),
        base=place.base,
        path=place.path,
        link=place.link,
        resend=place.resend,
        title=title,
        **{"error": None, **context},
    )
    response = web.Response(status=status, text=html, content_type="text/html", charset="utf-8")
    response.headers["Content-Language"] = place.choice.language
    return response


def _language_names() -> Sequence[tuple[str, str]]:
    return [(language, WORDS[language]["name"]) for language in LANGUAGES]
