"""Prepared messages: distinct, of the size that was asked for, and taken by the code that takes them in."""

import email
import email.policy
import hashlib
from io import BytesIO
from pathlib import Path

import pytest
from pypdf import PdfReader

from gateway.client import SenderProfile
from gateway.crypto.certs import load_certificates
from gateway.domain.ids import parse_ssin
from gateway.domain.message import Channel
from gateway.simulators.magic import CITIZEN_DOUBT, CITIZEN_FINE, CITIZEN_NO_BOX, CITIZEN_REFUSED
from load.bodies import CONTENT_TYPE, PIECE_BYTES, BodySet, Entry, data_file, write_index
from load.dialects import Dialect, is_available
from load.preparing import Order, multipart, pdf, prepare, recipient
from load.problems import CannotRun
from load.workshop import Workshop


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    made = Workshop(tmp_path_factory.mktemp("work"))
    made.set_up()
    return made


@pytest.mark.parametrize("size", [2_000, 20_000, 2_000_000])
def test_a_pdf_has_the_size_that_was_asked_for_and_can_be_read(size: int) -> None:
    made = pdf("Een brief", size)
    assert len(made) == size
    reader = PdfReader(BytesIO(made), strict=True)
    assert [page.extract_text() for page in reader.pages] == ["Een brief"]
    assert made != pdf("Een brief", size)


def test_a_pdf_that_cannot_be_so_small_is_refused() -> None:
    with pytest.raises(ValueError, match="needs"):
        pdf("Een brief", 600)


def test_recipients_differ_belong_to_nobody_and_have_no_special_fate() -> None:
    numbers = [*range(5_000), *range(300_000, 305_000)]
    found = [recipient(number).ssin for number in numbers]
    assert len(set(found)) == len(numbers)
    for ssin in found:
        assert ssin is not None
        assert 61 <= int(parse_ssin(ssin, allow_test=True)[2:4]) <= 72


def test_recipients_with_a_fate_of_their_own_are_left_out() -> None:
    # 90610100 plus a serial are the first days of the simulators' table: the year 90, month 61, day 1.
    first = 90 * 12 * 28 * 997
    around = {recipient(number).ssin for number in range(first, first + 997)}
    assert not around & {CITIZEN_NO_BOX, CITIZEN_REFUSED, CITIZEN_DOUBT}
    assert CITIZEN_FINE in around


def test_a_body_is_a_form_with_the_message_first() -> None:
    body = multipart("application/xml", b"<Message/>", b"%PDF-1.4 x")
    header = f"Content-Type: {CONTENT_TYPE}\r\n\r\n".encode()
    parsed = email.message_from_bytes(header + body, policy=email.policy.HTTP)
    parts = list(parsed.iter_parts())
    assert [part.get_content_type() for part in parts] == ["application/xml", "application/pdf"]
    assert [part.get_param("name", header="content-disposition") for part in parts] == ["message", "upfile1"]
    assert parts[1].get_payload(decode=True) == b"%PDF-1.4 x"


def test_a_set_holds_distinct_signed_messages_in_order(workshop: Workshop) -> None:
    folder = workshop.prepared(Order(label="set", mix="x-road", count=40, print_every=4))
    assert workshop.prepared(Order(label="set", mix="x-road", count=40, print_every=4)) == folder
    with BodySet(folder) as bodies:
        assert [entry.reference for entry in bodies.entries] == [f"set-{number}" for number in range(40)]
        assert len({entry.sha256 for entry in bodies.entries}) == 40
        on_paper = 0
        for number, entry in enumerate(bodies.entries):
            body = b"".join(bodies.pieces(number))
            assert len(body) == entry.size_bytes
            assert entry.reference.encode() in body
            document = body.partition(b"Content-Type: application/pdf\r\n\r\n")[2].rpartition(b"\r\n--")[0]
            assert hashlib.sha256(document).hexdigest() == entry.sha256
            on_paper += Channel.PRINT.encode() in body
        assert on_paper == 10


def test_a_set_of_fewer_messages_than_processes_is_whole(workshop: Workshop, tmp_path: Path) -> None:
    prepare(tmp_path / "one", Order(label="one", mix="20k", count=1), workshop.sender_file, processes=3)
    with BodySet(tmp_path / "one") as bodies:
        assert len(bodies) == 1


@pytest.mark.parametrize("dialect", [dialect for dialect in Dialect if not is_available(dialect)])
def test_a_dialect_that_is_not_available_is_refused_before_anything_is_made(
    workshop: Workshop, tmp_path: Path, dialect: Dialect
) -> None:
    with pytest.raises(CannotRun, match="not available"):
        prepare(tmp_path / "set", Order(label="x", mix="20k", count=1, dialect=dialect), workshop.sender_file)
    assert not (tmp_path / "set").exists()


def test_the_sender_is_the_one_of_the_certificates(workshop: Workshop) -> None:
    sender: SenderProfile = workshop.set_up()
    assert sender.tls_certificate == load_certificates(workshop.certs / "gemeente.pem")[0]


def test_a_large_body_comes_in_pieces(tmp_path: Path) -> None:
    content = bytes(range(256)) * 3_000
    data_file(tmp_path, 0).write_bytes(b"before" + content)
    entry = Entry(file=0, offset=6, size_bytes=len(content), reference="r", sha256="0")
    write_index(tmp_path, [entry])
    with BodySet(tmp_path) as bodies:
        pieces = list(bodies.pieces(0))
    assert b"".join(pieces) == content
    assert [len(piece) for piece in pieces] == [PIECE_BYTES, PIECE_BYTES, len(content) - 2 * PIECE_BYTES]
