"""
Makes messages beforehand: distinct, signed, as bodies of whole requests, so that the generator only has to send them.

Signing is spread over processes. Documents are PDFs of one page, filled up with random octets.
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

from gateway.client.letter import Document, Letter, describe, message_of
from gateway.client.sender import SenderProfile, load_sender
from gateway.domain.ids import Ssin, parse_ssin
from gateway.domain.message import Channel, PostalAddress, Recipient
from gateway.simulators import magic
from load.bodies import BOUNDARY, Entry, data_file, write_index
from load.dialects import Dialect, Signed, require_available, sign
from load.mixes import sizes

_ADDRESS: Final = PostalAddress(
    name="Jan Peeters", street="Kerkstraat", house_number="12", postcode="9000", municipality="Gent", country="BE"
)
_FATED: Final = frozenset({value for name, value in vars(magic).items() if name.startswith("CITIZEN_")})
_SERIALS: Final = 997  # 001 to 997 on one day
_DAYS: Final = 28
_MONTHS: Final = 12
_FIRST_TEST_MONTH: Final = 61


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
    """
    Fill `folder`, which is made, with a set of bodies signed by the sender of `sender_file`. Blocks.

    Raises:
        CannotRun: the dialect is not available.
    """
    require_available(order.dialect)
    drawn = sizes(order.mix, order.count)
    count = max(min(processes or len(os.sched_getaffinity(0)), order.count), 1)
    at = datetime.now(UTC).replace(microsecond=0)
    folder.mkdir(parents=True)
    parts = [
        _Part(
            order=order,
            sender_file=sender_file,
            file=file,
            numbers=range(file, order.count, count),
            sizes=drawn[file::count],
            at=at,
        )
        for file in range(count)
    ]
    # Not forked: the one who asks may have threads and a loop.
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        written = list(pool.map(partial(_write_part, folder), parts))
    entries = [written[number % count][number // count] for number in range(order.count)]
    write_index(folder, entries)


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
    """What one process does of an order: the messages of these numbers, with documents of these sizes."""

    order: Order
    sender_file: Path
    file: int
    numbers: Sequence[int]
    sizes: Sequence[int]
    at: datetime


def _write_part(folder: Path, part: _Part) -> list[Entry]:
    sender = load_sender(part.sender_file)
    entries, offset = list[Entry](), 0
    with data_file(folder, part.file).open("wb") as file:
        for number, size_bytes in zip(part.numbers, part.sizes, strict=True):
            content = pdf(f"{part.order.label}-{number}", size_bytes)
            letter = _letter(part.order, number, content, part.at)
            body = multipart(*_signed(letter, part.order.dialect, sender, part.at), content)
            file.write(body)
            entries.append(
                Entry(
                    file=part.file,
                    offset=offset,
                    size_bytes=len(body),
                    reference=letter.reference,
                    sha256=hashlib.sha256(content).hexdigest(),
                )
            )
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


def _signed(letter: Letter, dialect: Dialect, sender: SenderProfile, at: datetime) -> Signed:
    message = message_of(
        letter,
        describe(letter.listed()),
        gateway=sender.gateway,
        sender=sender.enterprise_number,
        ovo_code=sender.ovo_code,
        profile=sender.profile,
        created_at=at,
    )
    return sign(dialect, message, sender)


def multipart(media_type: str, part: bytes, document: bytes) -> bytes:
    """Return the body of a request that hands over one message with one PDF, `brief.pdf`."""
    return b"".join(
        (
            _head('name="message"', media_type), part, b"\r\n",
            _head('name="upfile1"; filename="brief.pdf"', "application/pdf"), document, b"\r\n",
            f"--{BOUNDARY}--\r\n".encode(),
        )
    )  # fmt: skip


def _head(disposition: str, media_type: str) -> bytes:
    lines = f"--{BOUNDARY}", f"Content-Disposition: form-data; {disposition}", f"Content-Type: {media_type}", "", ""
    return "\r\n".join(lines).encode()
