"""What the recipient of a paper letter does: reads the cover page, and fetches the letter at the portal."""

import re
from dataclasses import dataclass
from html.parser import HTMLParser
from io import BytesIO
from typing import Final

import aiohttp
from pypdf import PdfReader

from gateway.demo.environment import DemoFailed

_NUMBER: Final = re.compile(r"\b\d{4} \d{4} \d{4} \d{4}\b")
_CODE: Final = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverText:
    """The number of the letter and the code to open it."""

    number: str
    code: str


def read_cover(pdf: bytes) -> CoverText | None:
    """Return what a person reads on a cover page, or None when it is not there. Blocks."""
    text = "\n".join(page.extract_text() for page in PdfReader(BytesIO(pdf)).pages)
    number, code = _NUMBER.search(text), _CODE.search(text)
    return CoverText(number=number[0], code=code[0]) if number and code else None


async def fetch_first_document(session: aiohttp.ClientSession, portal: str, cover: CoverText) -> bytes:
    """
    Fill in the number, then the code, then download the letter's first document, as a browser would.

    Raises:
        aiohttp.ClientResponseError, DemoFailed: the portal refused a step.
    """
    asks_code = await _submit(session, portal, "/", {"number": cover.number})
    letter = await _submit(session, portal, asks_code.action, asks_code.hidden | {"code": cover.code})
    if letter.download is None:
        raise DemoFailed("the portal did not show the letter after its code")
    async with session.get(portal + letter.download) as response:
        response.raise_for_status()
        return await response.read()


async def _submit(session: aiohttp.ClientSession, portal: str, path: str, fields: dict[str, str]) -> "_Page":
    async with session.post(portal + path, data=fields, headers={"Origin": portal}) as response:
        response.raise_for_status()
        page = _Page()
        page.feed(await response.text())
        return page


class _Page(HTMLParser):
    """The last form of a page that has an address, its hidden fields, and the first download."""

    def __init__(self) -> None:
        super().__init__()
        self.action = "/"
        self.hidden: dict[str, str] = {}
        self.download: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what matters of an element."""
        found = {name: value or "" for name, value in attrs}
        if tag == "form" and "action" in found:
            self.action, self.hidden = found["action"], {}
        elif tag == "input" and found.get("type") == "hidden":
            self.hidden[found["name"]] = found["value"]
        elif tag == "a" and found.get("id") == "download-1":
            self.download = found["href"]
