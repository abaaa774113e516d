"""
What a print job must look like: its fields, its recipient, its PDF files.

All faults are found at once, each with a code and the field it is about. Page rules as in the PDF checks of public
print services (A4 portrait within 2 mm); postal rules as in the guides of the Belgian post.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from typing import Any, Final
from urllib.parse import urlsplit

from pypdf import PageObject, PdfReader

from gateway.simulators.front import FieldFault
from gateway.simulators.records import KeptDocument

PRODUCTS: Final = ("standard", "registered", "registered_ar")
PRIORITIES: Final = ("prior", "non_prior")
_POINTS_PER_MM: Final = 72 / 25.4
_A4_MM: Final = (210.0, 297.0)
_TOLERANCE_MM: Final = 2.0
_MOST_DOCUMENTS: Final = 200
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_SHA256: Final = re.compile(r"[0-9a-f]{64}\Z")
_COUNTRY: Final = re.compile(r"[A-Z]{2}\Z")
_BELGIAN_POSTCODE: Final = re.compile(r"[1-9][0-9]{3}\Z")
_LONGEST_LINE: Final = 100
_LONGEST_REGISTERED_LINE: Final = 50  # the post refuses the announcement of a registered item above that
_LONGEST_SHORT: Final = 15
_MOST_LINES: Final = 6
_ADDRESS_LINES: Final = (("name", True), ("name2", False), ("street", True), ("municipality", True))
_ADDRESS_SHORT: Final = (("number", True), ("box", False), ("postcode", True))


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintJob:
    """A job that obeys all rules; `body` is the JSON as received, file content left out."""

    request_id: str
    product: str
    recipient_name: str = field(repr=False)
    postcode: str = field(repr=False)
    country: str
    sheets: int
    documents: tuple[KeptDocument, ...]
    callback_url: str | None
    body: Mapping[str, Any] = field(repr=False)

    @property
    def is_registered(self) -> bool:
        """Whether the post asks for a signature."""
        return self.product != "standard"


class WrongJob(Exception):
    """The job breaks rules; `errors` holds every one that was found."""

    def __init__(self, errors: tuple[FieldFault, ...]) -> None:
        super().__init__("the print job breaks rules")
        self.errors = errors


def parse_json(text: bytes) -> dict[str, Any]:
    """
    Return the JSON object of a job.

    Raises:
        ValueError: no JSON object, or a name that comes twice in an object.
    """
    value = json.loads(text, object_pairs_hook=_without_repeats)
    if not isinstance(value, dict):
        raise ValueError("the body is no JSON object")  # noqa: TRY004 - one error for all unreadable bodies
    return value


def fingerprint(body: Mapping[str, Any]) -> str:
    """Return what tells two requests of the same id apart: all but `jws`, whose signature differs each time."""
    content = {name: value for name, value in body.items() if name != "jws"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def check_job(body: Mapping[str, Any], *, keep_bytes: bool) -> PrintJob:
    """
    Check a job and take its files out of it. Reads whole PDF files: run it off the event loop.

    Raises:
        WrongJob: with all its faults.
    """
    check = _Check(body)
    documents, pages = check.documents(keep_bytes=keep_bytes)
    duplex = check.flag("duplex")
    for name in ("colour", "publicAdministration"):
        check.flag(name)
    product = check.choice("product", PRODUCTS, required=True)
    check.choice("priority", PRIORITIES, required=False)
    check.address("recipient", required=True)
    check.return_address()
    check.moment("notBefore")
    callback_url = check.url("callbackUrl")
    request_id = check.text("requestId", _REQUEST_ID)
    if check.errors:
        raise WrongJob(tuple(check.errors))
    recipient = body["recipient"]
    return PrintJob(
        request_id=request_id,
        product=product,
        recipient_name=recipient["name"],
        postcode=recipient["postcode"],
        country=recipient["countryIso2"],
        sheets=sum((count + 1) // 2 if duplex else count for count in pages),
        documents=documents,
        callback_url=callback_url,
        body=_without_content(body),
    )


def _without_content(body: Mapping[str, Any]) -> dict[str, Any]:
    documents = [{k: v for k, v in entry.items() if k != "base64"} for entry in body["documents"]]
    return {**body, "documents": documents}


class _Check:
    """Looks at the fields of a job one by one and gathers their faults."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.errors: list[FieldFault] = []
        self._body = body

    def wrong(self, code: str, where: str) -> None:
        self.errors.append(FieldFault(code=code, field=where))

    def text(self, name: str, pattern: re.Pattern[str]) -> str:
        value = self._body.get(name)
        if not isinstance(value, str):
            self.wrong("required", name)
            return ""
        if not pattern.match(value):
            self.wrong("invalid", name)
        return value

    def flag(self, name: str) -> bool:
        value = self._body.get(name, False)
        if not isinstance(value, bool):
            self.wrong("invalid", name)
        return value is True

    def choice(self, name: str, choices: tuple[str, ...], *, required: bool) -> str:
        value = self._body.get(name)
        if value is None and not required:
            return ""
        if value not in choices:
            self.wrong("required" if value is None else "invalid", name)
            return ""
        return str(value)

    def moment(self, name: str) -> None:
        value = self._body.get(name)
        if value is None:
            return
        try:
            is_aware = datetime.fromisoformat(str(value)).tzinfo is not None
        except ValueError:
            is_aware = False
        if not is_aware:
            self.wrong("invalid", name)

    def url(self, name: str) -> str | None:
        value = self._body.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or urlsplit(value).scheme not in ("http", "https"):
            self.wrong("invalid", name)
            return None
        return value

    def address(self, name: str, *, required: bool) -> None:
        address = self._body.get(name)
        if address is None and not required:
            return
        if not isinstance(address, dict):
            self.wrong("required" if address is None else "invalid", name)
            return
        is_standard = self._body.get("product") == "standard"
        longest = _LONGEST_LINE if is_standard else _LONGEST_REGISTERED_LINE
        for part, is_required in _ADDRESS_LINES:
            self._address_part(address, name, part, longest, required=is_required)
        for part, is_required in _ADDRESS_SHORT:
            self._address_part(address, name, part, _LONGEST_SHORT, required=is_required)
        country = address.get("countryIso2")
        if not isinstance(country, str) or not _COUNTRY.match(country):
            self.wrong("required" if country is None else "invalid", f"{name}.countryIso2")
        elif country == "BE" and not _BELGIAN_POSTCODE.match(str(address.get("postcode", ""))):
            self.wrong("invalid", f"{name}.postcode")

    def return_address(self) -> None:
        """Check the sender's address: in fields, or as lines (after a name, if given) as they are to be printed."""
        address = self._body.get("returnAddress")
        if not isinstance(address, dict) or "lines" not in address:
            self.address("returnAddress", required=False)
            return
        lines = address["lines"]
        if not isinstance(lines, list) or not 1 <= len(lines) <= _MOST_LINES:
            self.wrong("invalid", "returnAddress.lines")
            return
        numbered = {f"lines[{number}]": line for number, line in enumerate(lines)}
        for part in numbered:
            self._address_part(numbered, "returnAddress", part, _LONGEST_LINE, required=True)
        self._address_part(address, "returnAddress", "name", _LONGEST_LINE, required=False)

    def _address_part(self, address: Mapping[str, Any], name: str, part: str, longest: int, *, required: bool) -> None:
        value = address.get(part)
        if value is None and not required:
            return
        if not isinstance(value, str) or not value.strip():
            self.wrong("required" if value is None else "invalid", f"{name}.{part}")
        elif len(value) > longest:
            self.wrong("too-long", f"{name}.{part}")

    def documents(self, *, keep_bytes: bool) -> tuple[tuple[KeptDocument, ...], list[int]]:
        """Return the files and their page counts, as far as they are sound."""
        listed = self._body.get("documents")
        if not isinstance(listed, list) or not 1 <= len(listed) <= _MOST_DOCUMENTS:
            self.wrong("required" if listed is None else "invalid", "documents")
            return (), []
        found: list[KeptDocument] = []
        pages: list[int] = []
        for index, entry in enumerate(listed):
            where = f"documents[{index}]"
            if not isinstance(entry, dict):
                self.wrong("invalid", where)
                continue
            if entry.get("order") != index + 1:
                self.wrong("invalid", f"{where}.order")
            content = self._content(entry, where)
            if content is None:
                continue
            pages.append(self._page_count(entry, content, where))
            found.append(
                KeptDocument(
                    name=f"document{index + 1}",
                    filename=None,
                    media_type="application/pdf",
                    sha256=hashlib.sha256(content).hexdigest(),
                    size_bytes=len(content),
                    content=content if keep_bytes else None,
                )
            )
        return tuple(found), pages

    def _content(self, entry: Mapping[str, Any], where: str) -> bytes | None:
        encoded = entry.get("base64")
        if not isinstance(encoded, str):
            self.wrong("unsupported-transfer" if "uri" in entry else "required", f"{where}.base64")
            return None
        try:
            content = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            self.wrong("invalid", f"{where}.base64")
            return None
        named = entry.get("sha256")
        if not isinstance(named, str) or not _SHA256.match(named):
            self.wrong("required" if named is None else "invalid", f"{where}.sha256")
        elif hashlib.sha256(content).hexdigest() != named:
            self.wrong("digest-mismatch", f"{where}.sha256")
        return content

    def _page_count(self, entry: Mapping[str, Any], content: bytes, where: str) -> int:
        named = entry.get("pages")
        if not isinstance(named, int) or isinstance(named, bool) or named < 1:
            self.wrong("required" if named is None else "invalid", f"{where}.pages")
        try:
            reader = PdfReader(BytesIO(content))
            if reader.is_encrypted:
                self.wrong("pdf-encrypted", where)
                return 0
            shapes = [_shape_mm(page) for page in reader.pages]
        except Exception:  # noqa: BLE001 - a broken file can fail anywhere in the reader, and is then no PDF
            self.wrong("not-a-pdf", where)
            return 0
        if named != len(shapes):
            self.wrong("page-count-mismatch", f"{where}.pages")
        if not all(_is_a4_portrait(shape) for shape in shapes):
            self.wrong("letter-not-a4-portrait-oriented", where)
        return len(shapes)


def _shape_mm(page: PageObject) -> tuple[float, float]:
    """Return width and height as a reader sees the page."""
    unit = float(page.user_unit) / _POINTS_PER_MM
    width, height = float(page.mediabox.width) * unit, float(page.mediabox.height) * unit
    return (height, width) if page.rotation % 180 else (width, height)


def _is_a4_portrait(shape_mm: tuple[float, float]) -> bool:
    return all(abs(side - right) <= _TOLERANCE_MM for side, right in zip(shape_mm, _A4_MM, strict=True))
