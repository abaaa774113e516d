"""
Makes messages beforehand: distinct, signed, as bodies of whole requests, so that the generator only has to send them.

Signing is spread over processes. Documents are PDFs of one page, filled up with random octets. A batch holds as many
messages as have documents of one megabyte together, and 50 at most.
"""

import hashlib
import os
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from gateway.client.letter import Document, Letter
from gateway.client.sender import load_sender
from gateway.domain.ids import Ssin, parse_ssin
from gateway.domain.message import Channel, PostalAddress, Recipient
from gateway.simulators import magic
from load.bodies import BOUNDARY, Content, Entry, data_file, write_index
from load.dialects import Dialect, Part, signed_parts
from load.mixes import sizes

_ADDRESS: Final = PostalAddress(
    name="Jan Peeters", street="Kerkstraat", house_number="12", postcode="9000", municipality="Gent", country="BE"
)
_FATED: Final = frozenset({value for name, value in vars(magic).items() if name.startswith("CITIZEN_")})
_SERIALS: Final = 997  # 001 to 997 on one day
_DAYS: Final = 28
_MONTHS: Final = 12
_FIRST_TEST_MONTH: Final = 61
_BATCH_BYTES: Final = 1_000_000  # of documents
_BATCH_ITEMS: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """
    What to prepare: `count` messages of a mix; every `print_every`th goes on paper, none when it is 0.

    `label` goes into the references: two orders with different labels have no reference in common. `later`: not to be
    delivered before tomorrow, so that a run measures acceptance alone.
    """

    label: str
    mix: str
    count: int
    dialect: Dialect = Dialect.XML
    print_every: int = 0
    later: bool = False


def prepare(folder: Path, order: Order, sender_file: Path, *, processes: int | None = None) -> None:
    """Fill `folder`, which is made, with a set of bodies signed by the sender of `sender_file`. Blocks."""
    drawn = sizes(order.mix, order.count)
    packs = packed(drawn) if order.dialect.is_batch else [range(number, number + 1) for number in range(order.count)]
    count = max(min(processes or len(os.sched_getaffinity(0)), len(packs)), 1)
    at = datetime.now(UTC).replace(microsecond=0)
    folder.mkdir(parents=True)
    parts = [
        _Part(order=order, sender_file=sender_file, file=file, packs=packs[file::count], sizes=drawn, at=at)
        for file in range(count)
    ]
    # Not forked: the one who asks may have threads and a loop.
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        written = list(pool.map(partial(_write_part, folder), parts))
    entries = [written[number % count][number // count] for number in range(len(packs))]
    write_index(folder, order.dialect.path, entries)


def packed(documents: Sequence[int]) -> list[range]:
    """Return which messages, by the sizes of their documents in bytes, go into one batch together."""
    packs, size_bytes = list[range](), 0
    for number, each in enumerate(documents):
        size_bytes += each
        if packs and len(packs[-1]) < _BATCH_ITEMS and size_bytes <= _BATCH_BYTES:
            packs[-1] = range(packs[-1].start, number + 1)
        else:
            packs.append(range(number, number + 1))
            size_bytes = each
    return packs


def pdf(title: str, size_bytes: int) -> bytes:
    """
    Return a PDF of one page, no two alike, of exactly so many bytes; `title` is ASCII without brackets.

    What fills it up is an object of its own, that nothing refers to: behind the end of the file it would keep readers
    from finding the end.

    Raises:
        ValueError: a PDF needs more.
    """
    least_bytes = len(_pdf(title, b""))
    if least_bytes > size_bytes:
        raise ValueError(f"a page needs {least_bytes} bytes")
    return _pdf(title, random.randbytes(size_bytes - least_bytes))  # noqa: S311 -- filling, no secret


def _pdf(title: str, filling: bytes) -> bytes:
    # Numbers that depend on the filling have a fixed width, so that the size grows with it byte by byte.
    text = f"BT /F1 14 Tf 72 720 Td ({title}) Tj ET".encode("ascii")
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources 6 0 R >>",
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(text), text),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Font << /F1 5 0 R >> >>",
        b"<< /Length %010d >>\nstream\n%b\nendstream" % (len(filling), filling),
    )
    file, places = bytearray(b"%PDF-1.4\n"), list[int]()
    for number, content in enumerate(objects, start=1):
        places.append(len(file))
        file += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = len(file)
    file += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    file += b"".join(b"%010d 00000 n \n" % place for place in places)
    file += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%010d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(file)


def recipient(number: int) -> Recipient:
    """Return a citizen who belongs to nobody, with whom nothing special happens; the next number is another one."""
    serial, rest = number % _SERIALS + 1, number // _SERIALS
    day, rest = rest % _DAYS + 1, rest // _DAYS
    month, year = rest % _MONTHS + _FIRST_TEST_MONTH, rest // _MONTHS % 100
    digits = f"{year:02}{month:02}{day:02}{serial:03}"
    ssin = parse_ssin(f"{digits}{97 - int(digits) % 97:02}", allow_test=True)
    return Recipient(ssin=Ssin(magic.CITIZEN_FINE) if ssin in _FATED else ssin, address=_ADDRESS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What one process does of an order: bodies with messages of these numbers; `sizes`: of the documents of all."""

    order: Order
    sender_file: Path
    file: int
    packs: Sequence[range]
    sizes: Sequence[int]
    at: datetime


def _write_part(folder: Path, part: _Part) -> list[Entry]:
    sender, order = load_sender(part.sender_file), part.order
    entries, offset = list[Entry](), 0
    with data_file(folder, part.file).open("wb") as file:
        for numbers in part.packs:
            documents = [pdf(f"{order.label}-{number}", part.sizes[number]) for number in numbers]
            letters = [
                _letter(order, number, content, part.at) for number, content in zip(numbers, documents, strict=True)
            ]
            reference = f"{order.label}-batch-{numbers.start}"
            body = multipart(signed_parts(order.dialect, letters, sender, reference, part.at), documents)
            file.write(body)
            contents = tuple(
                Content(reference=letter.reference, sha256=hashlib.sha256(content).hexdigest())
                for letter, content in zip(letters, documents, strict=True)
            )
            entries.append(Entry(file=part.file, offset=offset, size_bytes=len(body), contents=contents))
            offset += len(body)
    return entries


def _letter(order: Order, number: int, content: bytes, at: datetime) -> Letter:
    on_paper = order.print_every > 0 and number % order.print_every == 0
    return Letter(
        recipient=recipient(number),
        category="tax-assessment",
        purpose="Aanslagbiljet 2026",
        subject="Uw aanslagbiljet",
        documents=[Document(content=content, filename="brief.pdf")],
        reference=f"{order.label}-{number}",
        channels=[Channel.PRINT if on_paper else Channel.EBOX_CITIZEN],
        deliver_not_before=at + timedelta(days=1) if order.later else None,
    )


def multipart(parts: Sequence[Part], documents: Sequence[bytes]) -> bytes:
    """
    Return the body of a request that hands over messages, each with one PDF, `brief.pdf`.

    The parts of a batch are as `signed_parts` has them; each message is followed by its document.
    """
    signed, *items = parts
    pieces = [_part(signed)]
    if items:
        for item, document in zip(items, documents, strict=True):
            pieces += [_part(item), _document(f"{item[0]}-upfile1", document)]
    else:
        pieces += [_document("upfile1", document) for document in documents]
    return b"".join([*pieces, f"--{BOUNDARY}--\r\n".encode()])


def _part(part: Part) -> bytes:
    name, media_type, octets = part
    return _octets(f'name="{name}"', media_type, octets)


def _document(name: str, content: bytes) -> bytes:
    return _octets(f'name="{name}"; filename="brief.pdf"', "application/pdf", content)


def _octets(disposition: str, media_type: str, octets: bytes) -> bytes:
    lines = f"--{BOUNDARY}", f"Content-Disposition: form-data; {disposition}", f"Content-Type: {media_type}", "", ""
    return b"".join(("\r\n".join(lines).encode(), octets, b"\r\n"))
