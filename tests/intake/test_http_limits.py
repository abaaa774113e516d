"""What is no proper HTTP, no proper body, or too slow: refused or cut, never a 500, never a hang."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.plugins.house import Answer, House, Part, SenderHand
else:
    from house import Answer, House, Part, SenderHand

IN_FLIGHT = "gateway_requests_in_flight_requests"
GOOD = b"GET /api/v1/messages HTTP/1.1\r\nHost: localhost\r\n\r\n"
FORM = b"Content-Type: multipart/form-data; boundary=simple-boundary\r\n"
START = b"GET /api/v1/messages HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /api/v1/messages HTTP/1.1\r\nHost: localhost\r\n" + FORM


def get(*lines: bytes, start: bytes = b"GET /api/v1/messages HTTP/1.1", host: bytes = b"Host: localhost") -> bytes:
    return b"\r\n".join((start, *((host,) if host else ()), *lines, b"", b""))


# Requests that no sender's software makes by accident, and the only statuses that may answer them.
BAD_HTTP: dict[str, tuple[bytes, int]] = {
    "both lengths": (START + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (START + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
    "two equal lengths": (START + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    "length with a sign": (START + b"Content-Length: +5\r\n\r\nhello", 400),
    "length in hexadecimal": (START + b"Content-Length: 0x5\r\n\r\nhello", 400),
    "endless length": (START + b"Content-Length: " + b"9" * 40 + b"\r\n\r\nhello", 400),
    "two hosts": (get(b"Host: other"), 400),
    "no host": (get(host=b""), 400),
    "bare line feeds": (GOOD.replace(b"\r\n", b"\n"), 400),
    "bare carriage return": (get(b"X-A: a\rb"), 400),
    "NUL in a header": (get(b"X-A: a\0b"), 400),
    "folded header": (get(b"X-A: a", b" b"), 400),
    "space before the colon": (get(b"X-A : a"), 400),
    "nameless header": (get(b": a"), 400),
    "unknown transfer encoding": (START + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "chunked twice": (START + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked before something else": (START + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    "chunk size that is none": (POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n", 400),
    "chunk longer than its size": (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n", 400),
    "HTTP/1.0 and chunked": (START.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "HTTP/2.0": (get(start=b"GET /api/v1/messages HTTP/2.0"), 400),
    "HTTP/0.9": (b"GET /api/v1/messages\r\n\r\n", 400),
    "HTTP/9.9": (get(start=b"GET /api/v1/messages HTTP/9.9"), 400),
    "absolute form": (get(start=b"GET https://localhost/api/v1/messages HTTP/1.1"), 400),
    "authority form": (get(start=b"CONNECT localhost:443 HTTP/1.1"), 400),
    "asterisk form": (get(start=b"OPTIONS * HTTP/1.1"), 400),
    "method that is none": (get(start=b"G\x01T /api/v1/messages HTTP/1.1"), 400),
    "not HTTP at all": (b"\x00\x01\x02\x03 hello\r\n\r\n", 400),
    "target too long": (get(start=b"GET /" + b"a" * 9_000 + b" HTTP/1.1"), 400),
    "header too long": (get(b"X-A: " + b"a" * 9_000), 400),
    "too many headers": (get(*(b"X-%d: a" % n for n in range(200))), 400),
    "Client-Cert": (get(b"Client-Cert: :MIIB:"), 400),
    "Client_Cert": (get(b"Client_Cert: :MIIB:"), 400),
    "Client-Cert-Chain": (get(b"client-cert-chain: :MIIB:"), 400),
    "any header with an underscore": (get(b"On_Behalf_Of: 1"), 400),
    "two correlation ids": (get(b"x-correlation-id: a", b"X-Correlation-Id: b"), 400),
    "two senders acted for": (get(*[b"On-Behalf-Of-Enterprise-Number: 0406798006"] * 2), 400),
    "acting for no number": (get(b"On-Behalf-Of-Enterprise-Number: 0406798007"), 400),
    "Content-Encoding": (POST + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", 415),
    "Content-Encoding of JSON": (
        get(b"Content-Type: application/json", b"Content-Encoding: br", b"Content-Length: 0", start=b"POST "
        b"/api/v1/statusRequest HTTP/1.1"),
        415,
    ),
    "unknown expectation": (get(b"Expect: the-unexpected"), 400),
    "unknown expectation elsewhere": (get(b"Expect: the-unexpected", start=b"GET /elsewhere HTTP/1.1"), 400),
    "no body": (POST + b"\r\n", 400),
    "empty body": (POST + b"Content-Length: 0\r\n\r\n", 400),
}  # fmt: skip


def is_problem(answer: Answer) -> bool:
    """Whether a refusal is a problem document that quotes nothing of the request."""
    problem = answer.json
    text = answer.body.decode()
    return (
        answer.headers["Content-Type"].startswith("application/problem+json")
        and problem["type"].rpartition(":")[2] in ("bad-request", "multipart-invalid", "unsupported-media-type")
        and problem["instance"] == answer.headers["x-correlation-id"]
        and answer.headers["Cache-Control"] == "no-store"
        and not any(
            quoted in text for quoted in ("X-A", "aaaa", "hello", "9999", "xchunked", "the-unexpected", "UNKNOWN")
        )
    )


async def refused(house: House, connect: Any, cases: dict[str, tuple[bytes, int]]) -> list[str]:
    """Which requests got another answer than theirs, or none, or left a gateway that does not answer the next one."""
    wrong = []
    for name, (octets, status) in cases.items():
        wire = await connect(house)
        answer = await wire.ask(octets)
        if answer is None or answer.status != status or not is_problem(answer):
            wrong.append(f"{name}: {answer}")
        wire.break_off()
        good = await (await connect(house)).ask(GOOD)
        if good is None or good.status != 200:
            wrong.append(f"after {name}: {good}")
    return wrong


async def test_what_is_no_proper_http_is_refused_and_the_next_request_is_served(intake: House, connect: Any) -> None:
    assert await refused(intake, connect, BAD_HTTP) == []


async def test_what_the_parser_refuses_is_counted_closes_its_connection_and_is_not_logged(
    intake: House, connect: Any, inside: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    wire = await connect(intake)
    answer = await wire.ask(get(b"X-A: 90610100155\0"))
    assert (answer.status, answer.code, answer.headers["Connection"]) == (400, "bad-request", "close")
    assert await wire.end() == b""
    told = {"edge": "intake", "route": "unknown", "status": "400"}
    assert await inside(intake).metric("gateway_requests_total", **told) == 1
    assert await inside(intake).metric("gateway_messages_refused_total", code="bad-request") == 1
    records = [vars(record) for record in caplog.records if record.levelno > logging.DEBUG]
    (line,) = [told for told in records if told.get("correlation") == answer.headers["x-correlation-id"]]
    assert (line["route"], line["status"], line["outcome"]) == ("unknown", 400, "bad-request")
    assert [told for told in records if "90610100155" in str(told)] == []
    assert [told for told in records if told["levelno"] >= logging.ERROR] == []


async def test_a_smuggled_second_request_is_never_answered(intake: House, connect: Any) -> None:
    for name in ("both lengths", "two lengths", "chunk size that is none", "HTTP/1.0 and chunked"):
        wire = await connect(intake)
        answer = await wire.ask(BAD_HTTP[name][0] + GOOD)
        assert (name, answer.status) == (name, 400)
        assert (name, b"200 OK" in await wire.end()) == (name, False)


async def test_http_1_0_and_pipelined_requests_are_served(intake: House, connect: Any) -> None:
    old = await connect(intake)
    assert (await old.ask(GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"))).status == 200
    wire = await connect(intake)
    await wire.send(GOOD * 40)
    assert [(await wire.answer()).status for _ in range(40)] == [200] * 40


async def test_a_sender_that_waits_for_100_continue_gets_it(intake: House, connect: Any, make_post: Any) -> None:
    sender = await intake.sender()
    head, _, body = make_post(sender.parts(sender.message()), {"Expect": "100-continue"}).partition(b"\r\n\r\n")
    wire = await connect(intake)
    assert (await wire.ask(head + b"\r\n\r\n")).status == 100
    assert (await wire.ask(body)).status == 201


# ── Bodies ──

Change = Callable[[bytes], bytes]


def without(text: bytes) -> Change:
    return lambda body: body.replace(text, b"")


def of_first(old: bytes, new: bytes) -> Change:
    return lambda body: body.replace(old, new, 1)


def of_second(old: bytes, new: bytes) -> Change:
    """In the headers of the first document."""

    def change(body: bytes) -> bytes:
        first, second = body.split(b"\r\n" + OPENING, 1)
        return first + b"\r\n" + OPENING + second.replace(old, new, 1)

    return change


CLOSING = b"\r\n--simple-boundary--\r\n"
OPENING = b"--simple-boundary\r\n"
NAME = b'Content-Disposition: form-data; name="message"'
BAD_BODIES: dict[str, Change] = {
    "no closing boundary": without(CLOSING),
    "cut in a document": lambda body: body[:-2_000],
    "cut in the signed part": lambda body: body[:1_000],
    "cut in the headers of a part": lambda body: body[:60],
    "closed at once": lambda _body: b"--simple-boundary--\r\n",
    "closing boundary only half there": lambda body: body.replace(CLOSING, b"\r\n--simple-bound"),
    "next part announced, none there": lambda body: body.replace(CLOSING, b"\r\n--simple-boundary\r\n"),
    "no boundary at all": without(b"simple-boundary"),
    "another boundary": lambda body: body.replace(b"simple-boundary", b"other-boundary"),
    "a long preamble": lambda body: b"hello\r\n" * 2_000 + body,
    "a long epilogue": lambda body: body + b"hello\r\n" * 2_000,
    "rubbish behind the closing boundary": lambda body: body.rstrip() + b"hello",
    "bare line feeds": lambda body: body.replace(b"\r\n", b"\n"),
    "a bare line feed behind a boundary": of_first(OPENING, b"--simple-boundary\n"),
    "a bare line feed in the headers of a part": of_first(NAME + b"\r\n", NAME + b"\n"),
    "a space behind a boundary": of_first(OPENING, b"--simple-boundary \r\n"),
    "only a preamble": lambda _body: b"hello\r\n" * 10_000,
    "one endless line": lambda _body: b"a" * 1_000_000,
    "rubbish after a boundary": of_first(OPENING, b"--simple-boundary rubbish\r\n"),
    "no headers": lambda body: OPENING + b"\r\n" + body.split(b"\r\n\r\n", 1)[1],
    "no disposition": without(NAME + b"\r\n"),
    "disposition without a name": of_first(b'; name="message"', b""),
    "attachment": of_first(b"form-data", b"attachment"),
    "name twice": of_first(b'; name="message"', b'; name="message"; name="message"'),
    "unended quote": of_first(b'name="message"', b'name="message'),
    "disposition of nonsense": of_first(b'form-data; name="message"', b";;;=;\"'%%"),
    "parameter of nonsense": of_first(b'name="message"', b'name="message"; x*=nonsense'),
    "filename with many semicolons": of_second(b'filename="', b'filename="a;b;c;d;'),
    "filename not in UTF-8": of_second(b'filename="', b'filename="\xff\xfe'),
    "filename in an unknown charset": of_second(b'filename="', b"filename*=nonsense''x; filename=\""),
    "disposition twice": of_first(NAME, NAME + b"\r\n" + NAME),
    "type twice": of_first(b"Content-Type: ", b"Content-Type: application/xml\r\nContent-Type: "),
    "header without a colon": of_first(NAME, b"hello\r\n" + NAME),
    "header with a NUL": of_first(NAME, b"X-A: \0\r\n" + NAME),
    "folded header": of_first(NAME, NAME + b"\r\n folded"),
    "header too long": of_first(NAME, b"X-A: " + b"a" * 20_000 + b"\r\n" + NAME),
    "too many headers": of_first(NAME, b"".join(b"X-%d: a\r\n" % n for n in range(1_000)) + NAME),
    "foreign header": of_first(NAME, b"X-A: a\r\n" + NAME),
    "Content-Transfer-Encoding": of_first(NAME, b"Content-Transfer-Encoding: base64\r\n" + NAME),
    "Content-Encoding": of_first(NAME, b"Content-Encoding: gzip\r\n" + NAME),
    "charset part": of_first(b'name="message"', b'name="_charset_"'),
    "charset part before the message": lambda body: (
        OPENING + b'Content-Disposition: form-data; name="_charset_"\r\n\r\nutf-16\r\n' + body
    ),
    "nested": of_first(b"application/xml", b"multipart/mixed; boundary=inner"),
    "nested without a boundary": of_first(b"application/xml", b"multipart/mixed"),
    "nested document": of_second(b"application/pdf", b"multipart/mixed; boundary=simple-boundary"),
    "message twice": lambda body: body.split(b"\r\n" + OPENING)[0] + b"\r\n" + body,
    "ten thousand tiny parts": lambda _body: tiny(b"p") * 10_000 + CLOSING,
    "ten thousand tiny parts after the documents": lambda body: body.replace(
        CLOSING, b"\r\n" + tiny(b"p") * 10_000 + CLOSING
    ),
    "ten thousand tiny messages": lambda _body: tiny(b"message") * 10_000 + CLOSING,
}


OF_ITS_OWN = {
    "closing boundary only half there": "document-mismatch",
    "ten thousand tiny messages": "unsupported-media-type",
}


def tiny(name: bytes) -> bytes:
    return OPENING + b'Content-Disposition: form-data; name="' + name + b'"\r\n\r\na\r\n'


async def test_what_is_no_proper_body_is_refused_and_the_message_can_be_sent_again(
    intake: House, connect: Any, make_post: Any, inside: Any
) -> None:
    sender, wrong = await intake.sender(), []
    for number, (name, change) in enumerate(BAD_BODIES.items()):
        message = sender.message(reference=f"bad-body-{number}")
        parts = sender.parts(message)
        head, _, body = make_post(parts).partition(b"\r\n\r\n")
        bad = change(body)
        assert bad != body, name
        head = head.replace(b"Content-Length: %d" % len(body), b"Content-Length: %d" % len(bad))
        wire = await connect(intake)
        answer = await wire.ask(head + b"\r\n\r\n" + bad)
        code = answer.json.get("type", "none") if answer is not None else ""
        if code.rpartition(":")[2] not in ("multipart-invalid", "malformed-message", OF_ITS_OWN.get(name)):
            wrong.append(f"{name}: {answer}")
        wire.break_off()
        again = await sender.post(parts)
        if again.status != 201:
            wrong.append(f"after {name}: {again}")
    assert wrong == [], "\n".join(wrong)
    assert len((await inside(intake).traces()).documents) == len(BAD_BODIES)


async def test_a_content_type_without_a_usable_boundary_is_refused(intake: House, connect: Any, make_post: Any) -> None:
    sender, wrong = await intake.sender(), []
    octets = make_post(sender.parts(sender.message()))
    for content_type, status in (
        (b"multipart/form-data", 400),
        (b"multipart/form-data; boundary=", 400),
        (b"multipart/form-data; boundary=" + b"a" * 71, 400),
        (b"multipart/form-data; boundary=other", 400),
        (b"multipart/mixed; boundary=simple-boundary", 415),
        (b"multipart/form-data\xff; boundary=simple-boundary", 415),
        (b"nonsense", 415),
        (b"", 415),
    ):
        wire = await connect(intake)
        answer = await wire.ask(octets.replace(FORM.split(b": ")[1].rstrip(), content_type))
        if answer is None or answer.status != status:
            wrong.append(f"{content_type!r}: {answer}")
    assert wrong == [], "\n".join(wrong)


async def test_a_preamble_an_epilogue_a_part_length_and_chunks_are_taken(
    intake: House, connect: Any, make_post: Any
) -> None:
    sender = await intake.sender()

    def sized(part: Part) -> Part:
        return replace(part, headers={"Content-Length": str(len(part.content))})

    octets = make_post([sized(part) for part in sender.parts(sender.message())])
    assert (await (await connect(intake)).ask(octets)).status == 201

    head, _, body = make_post(sender.parts(sender.message())).partition(b"\r\n\r\n")
    body = b"preamble\r\n" + body + b"epilogue"
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[n : n + 777]), body[n : n + 777]) for n in range(0, len(body), 777))
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    octets = b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", chunks + b"0\r\n\r\n"])
    assert (await (await connect(intake)).ask(octets)).status == 201


async def test_a_lie_about_the_length_of_a_part_changes_nothing(intake: House, connect: Any, make_post: Any) -> None:
    sender = await intake.sender()
    for length in ("0", "1", "-1", "99999999999", "nonsense"):
        parts = sender.parts(sender.message())
        lying = [replace(part, headers={"Content-Length": length}) for part in parts]
        assert (await (await connect(intake)).ask(make_post(lying))).status == 201


async def test_a_body_read_in_pieces_of_any_size_is_the_same_body(intake: House, connect: Any, make_post: Any) -> None:
    sender = await intake.sender()
    for step in (1, 7, 1_000):
        message = sender.message([b"%PDF-1.7\r\n--simple-boundar\r\n--simple\r\n\r\n-"])
        octets = make_post(sender.parts(message, [b"%PDF-1.7\r\n--simple-boundar\r\n--simple\r\n\r\n-"]))
        wire = await connect(intake)
        for start in range(0, len(octets), step):
            wire.writer.write(octets[start : start + step])
            await wire.writer.drain()
            await asyncio.sleep(0)
        assert (await wire.answer()).status == 201


async def test_a_connection_that_breaks_off_leaves_nothing_and_is_no_error_of_the_gateway(
    intake: House, connect: Any, make_post: Any, inside: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sender, look = await intake.sender(), inside(intake)
    letter = intake.pdf + bytes(600_000)
    octets = make_post(sender.parts(sender.message([letter]), [letter]))
    header_end = octets.index(b"\r\n\r\n") + 4
    for cut in (10, header_end, header_end + 500, header_end + 100_000, len(octets) - 10):
        wire = await connect(intake)
        await wire.send(octets[:cut])
        if cut > header_end:
            await look.until_metric(1, IN_FLIGHT, edge="intake")
        wire.break_off()
        await look.until_metric(0, IN_FLIGHT, edge="intake")
    traces = await look.traces()
    assert (traces.documents, traces.messages) == (frozenset(), frozenset())
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert (await (await connect(intake)).ask(octets)).status == 201


async def test_the_end_of_a_connection_is_not_the_end_of_a_body(
    intake: House, connect: Any, make_post: Any, inside: Any
) -> None:
    sender, look = await intake.sender(), inside(intake)
    octets = make_post(sender.parts(sender.message()))
    wire = await connect(intake)
    await wire.send(octets[:-100])
    wire.writer.transport.close()
    counted = {"edge": "intake", "route": "POST /api/v1/messages", "status": "400"}
    await look.until_metric(1, "gateway_requests_total", **counted)

    head, _, body = octets.partition(b"\r\n\r\n")
    unsized = b"\r\n".join(line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length"))
    answer = await (await connect(intake)).ask(unsized + b"\r\n\r\n" + body)
    assert answer.status == 400
    assert (await look.traces()).messages == frozenset()


# ── Slowness ──


async def test_whoever_says_nothing_or_trickles_is_cut(make_house: Any, connect: Any, limited: Any) -> None:
    house = await make_house(limited(handshake_timeout="PT1S", header_timeout="PT1S"), parts=["intake"])
    silent = await connect(house, tls=False)
    idle = await connect(house)
    trickling = await connect(house)
    kept = await connect(house)
    assert (await kept.ask(GOOD)).status == 200

    async def trickle() -> None:
        for octet in GOOD[:-2] + b"X-A: " + b"a" * 2_000:
            trickling.writer.write(bytes([octet]))
            await asyncio.sleep(0.01)

    task = asyncio.create_task(trickle())
    assert [await wire.end() for wire in (silent, idle, trickling, kept)] == [b""] * 4
    task.cancel()
    assert (await (await connect(house)).ask(GOOD)).status == 200


async def test_a_body_that_stalls_anywhere_is_answered_408(
    make_house: Any, connect: Any, limited: Any, make_post: Any, inside: Any
) -> None:
    house = await make_house(limited(body_stall="PT1S"), parts=["intake"])
    sender = await house.sender()
    octets = make_post(sender.parts(sender.message()))
    header_end = octets.index(b"\r\n\r\n") + 4
    status_request = b"POST /api/v1/statusRequest HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    stalling = [octets[:header_end], octets[: header_end + 30], octets[: header_end + 1_000], octets[:-10]]
    stalling += [status_request + b'Content-Length: 100\r\n\r\n{"messages": [']
    stalling += [status_request.replace(b"statusRequest", b"dossiers") + b"Transfer-Encoding: chunked\r\n\r\n"]
    wires = [await connect(house) for _ in stalling]
    answers = await asyncio.gather(*(wire.ask(data) for wire, data in zip(wires, stalling, strict=True)))
    assert [(answer.status, answer.code) for answer in answers] == [(408, "request-timeout")] * len(stalling)
    traces = await inside(house).traces()
    assert (traces.documents, traces.messages) == (frozenset(), frozenset())
    assert (await (await connect(house)).ask(octets)).status == 201


async def test_a_body_slower_than_the_minimum_rate_is_answered_408(
    make_house: Any, connect: Any, limited: Any, make_post: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.intake.body._RATE_GRACE_S", 0.0)
    house = await make_house(limited(minimum_bytes_per_s=1_000_000), parts=["intake"])
    sender = await house.sender()
    octets = make_post(sender.parts(sender.message()))
    wire = await connect(house)

    async def trickle() -> None:
        for octet in octets:
            await wire.send(bytes([octet]))
            await asyncio.sleep(0.001)

    task = asyncio.create_task(trickle())
    answer = await wire.answer()
    task.cancel()
    assert (answer.status, answer.code) == (408, "request-timeout")
    assert "slower than 1000000 bytes per second" in answer.json["detail"]


async def test_a_refusal_is_heard_by_a_sender_that_is_still_sending(
    intake: House, connect: Any, make_post: Any
) -> None:
    sender: SenderHand = await intake.sender()
    letter = intake.pdf + bytes(5_000_000)
    message = sender.message([letter], category="social-benefit")
    wire = await connect(intake)
    answer = await wire.ask(make_post(sender.parts(message, [letter])))
    assert (answer.status, answer.code) == (403, "category-not-authorised")
    assert await wire.end() == b""
