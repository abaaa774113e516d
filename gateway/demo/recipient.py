"""What the recipient of a paper letter does: reads the cover page, and fetches the letter at the portal."""

import re
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import aiohttp
from lxml import html
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
    page = await _submit(session, f"{portal}/", {"number": cover.number})
    form: Any = html.document_fromstring(page).find(".//main//form")
    page = await _submit(session, portal + form.action, dict(form.fields) | {"code": cover.code})
    download: Any = html.document_fromstring(page).find(".//main//a[@id='download-1']")
    if download is None:
        raise DemoFailed("the portal did not show the letter after its code")
    async with session.get(portal + download.get("href")) as response:
        response.raise_for_status()
        return await response.read()


async def _submit(session: aiohttp.ClientSession, url: str, fields: dict[str, str]) -> str:
    async with session.post(url, data=fields, headers={"Origin": url.rsplit("/", 1)[0]}) as response:
        response.raise_for_status()
        return await response.text()
