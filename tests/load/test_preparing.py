"""Prepared messages: distinct, of the size that was asked for, and taken by the code that takes them in."""

import email
import email.policy
import hashlib
from io import BytesIO
from pathlib import Path

import pytest
from pypdf import PdfReader

from gateway.client import SenderProfile
from gateway.crypto.batches import read_item, read_stored_batch
from gateway.crypto.certs import load_certificates
from gateway.crypto.dialects import Dialect as Written
from gateway.domain.ids import parse_ssin
from gateway.domain.message import Channel
from gateway.simulators.magic import CITIZEN_DOUBT, CITIZEN_FINE, CITIZEN_NO_BOX, CITIZEN_REFUSED
from load.bodies import BATCHES, CONTENT_TYPE, MESSAGES, PIECE_BYTES, BodySet, Content, Entry, data_file, write_index
from load.dialects import Dialect
from load.preparing import Order, multipart, packed, pdf, prepare, recipient
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


def parts_of(body: bytes) -> list[tuple[str, str, bytes]]:
    """Return the parts of a form: name, media type, content."""
    header = f"Content-Type: {CONTENT_TYPE}\r\n\r\n".encode()
    parsed = email.message_from_bytes(header + body, policy=email.policy.HTTP)
    return [
        (
            str(part.get_param("name", header="content-disposition")),
            part.get_content_type(),
            bytes(part.get_payload(decode=True)),
        )
        for part in parsed.iter_parts()
    ]


def test_a_body_is_a_form_with_the_message_first() -> None:
    body = multipart([("message", "application/xml", b"<Message/>")], [b"%PDF-1.4 x"])
    assert parts_of(body) == [
        ("message", "application/xml", b"<Message/>"),
        ("upfile1", "application/pdf", b"%PDF-1.4 x"),
    ]


def test_a_batch_is_a_form_in_which_each_message_is_followed_by_its_document() -> None:
    parts = [("batch", "application/xml", b"<B/>"), ("m1", "application/xml", b"1"), ("m2", "application/xml", b"2")]
    names = [name for name, _, _ in parts_of(multipart(parts, [b"one", b"two"]))]
    assert names == ["batch", "m1", "m1-upfile1", "m2", "m2-upfile1"]


@pytest.mark.parametrize(
    ("documents", "packs"),
    [
        ([20_000] * 120, [range(50), range(50, 100), range(100, 120)]),
        ([2_000] * 60, [range(50), range(50, 60)]),
        ([100_000] * 20, [range(10), range(10, 20)]),
        ([2_000, 2_000_000, 10_000_000, 2_000], [range(1), range(1, 2), range(2, 3), range(3, 4)]),
        ([500_000, 500_000, 1], [range(2), range(2, 3)]),
        ([], []),
    ],
)
def test_a_batch_holds_a_megabyte_of_documents_and_fifty_at_most(documents: list[int], packs: list[range]) -> None:
    assert packed(documents) == packs


@pytest.mark.parametrize(("dialect", "written"), [(Dialect.BATCH, Written.XML), (Dialect.BATCH_JWS, Written.JWS)])
def test_a_set_of_batches_holds_every_message_once(workshop: Workshop, dialect: Dialect, written: Written) -> None:
    folder = workshop.prepared(Order(label=f"set-{dialect}", mix="100k", count=25, dialect=dialect))
    with BodySet(folder) as bodies:
        assert (bodies.path, bodies.are_batches, len(bodies)) == (BATCHES, True, 3)
        assert [bodies.numbers_in(number) for number in range(3)] == [range(10), range(10, 20), range(20, 25)]
        assert [message.reference for message in bodies.messages] == [f"set-{dialect}-{number}" for number in range(25)]
        for number in range(3):
            (_, media_type, signed), *others = parts_of(b"".join(bodies.pieces(number)))
            listed = read_stored_batch(signed)
            assert (media_type, listed.reference) == (written.media_type, f"set-{dialect}-batch-{10 * number}")
            assert len(others) == 2 * len(listed.items) == 2 * len(bodies.numbers_in(number))
            for item, message, document in zip(listed.items, others[::2], others[1::2], strict=True):
                known = bodies.messages[bodies.numbers_in(number)[item.number - 1]]
                assert item.reference == known.reference
                assert item.sha256 == hashlib.sha256(message[2]).hexdigest()
                assert hashlib.sha256(document[2]).hexdigest() == known.sha256
                assert read_item(message[2], written, allow_test_ssin=True).reference == item.reference


def test_a_set_holds_distinct_signed_messages_in_order(workshop: Workshop) -> None:
    folder = workshop.prepared(Order(label="set", mix="x-road", count=40, print_every=4))
    assert workshop.prepared(Order(label="set", mix="x-road", count=40, print_every=4)) == folder
    with BodySet(folder) as bodies:
        assert (bodies.path, bodies.are_batches, bodies.messages_each) == (MESSAGES, False, 1)
        assert [message.reference for message in bodies.messages] == [f"set-{number}" for number in range(40)]
        assert len({message.sha256 for message in bodies.messages}) == 40
        on_paper = 0
        for number, entry in enumerate(bodies.entries):
            body = b"".join(bodies.pieces(number))
            assert len(body) == entry.size_bytes
            (content,) = entry.contents
            assert content.reference.encode() in body
            document = body.partition(b"Content-Type: application/pdf\r\n\r\n")[2].rpartition(b"\r\n--")[0]
            assert hashlib.sha256(document).hexdigest() == content.sha256
            on_paper += Channel.PRINT.encode() in body
        assert on_paper == 10


def test_a_set_of_fewer_messages_than_processes_is_whole(workshop: Workshop, tmp_path: Path) -> None:
    prepare(tmp_path / "one", Order(label="one", mix="20k", count=1), workshop.sender_file, processes=3)
    with BodySet(tmp_path / "one") as bodies:
        assert len(bodies) == 1


def test_the_sender_is_the_one_of_the_certificates(workshop: Workshop) -> None:
    sender: SenderProfile = workshop.set_up()
    assert sender.tls_certificate == load_certificates(workshop.certs / "gemeente.pem")[0]


def test_a_large_body_comes_in_pieces(tmp_path: Path) -> None:
    content = bytes(range(256)) * 3_000
    data_file(tmp_path, 0).write_bytes(b"before" + content)
    entry = Entry(file=0, offset=6, size_bytes=len(content), contents=(Content(reference="r", sha256="0"),))
    write_index(tmp_path, MESSAGES, [entry])
    with BodySet(tmp_path) as bodies:
        pieces = list(bodies.pieces(0))
    assert b"".join(pieces) == content
    assert [len(piece) for piece in pieces] == [PIECE_BYTES, PIECE_BYTES, len(content) - 2 * PIECE_BYTES]
