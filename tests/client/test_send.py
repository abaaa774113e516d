import asyncio
import hashlib
import os
import socket
import ssl
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web
from cryptography import x509

from gateway.client.api import GatewayClient
from gateway.client.letter import Document, Letter
from gateway.client.problems import (
    CertificateRefused,
    GatewayNotTrusted,
    LetterInvalid,
    NotReached,
    Problem,
    ReceiptWrong,
    UnexpectedAnswer,
)
from gateway.client.proof import verified_receipt
from gateway.client.retrying import RetryRules
from gateway.client.sender import SenderProfile, load_sender
from gateway.client.transport import CallTiming
from gateway.crypto.dialects import Dialect
from gateway.crypto.receipts import Receipt, ReceiptSigner
from gateway.domain.ids import EnterpriseNumber, MessageId
from gateway.domain.message import Channel, PrintOptions, PrintProduct, Recipient
from gateway.intake.body import BodyLimits, read_message

Fake = Any
MIB = 1_048_576


# ── What is sent ──


async def test_a_letter_arrives_signed_and_its_receipt_is_verified(
    fake: Fake, client: GatewayClient, letter: Letter, pdf: Path, sender: SenderProfile
) -> None:
    sent = await client.send(letter)
    [got] = fake.received
    content = await asyncio.to_thread(pdf.read_bytes)
    assert got.message.recipient == letter.recipient
    assert (got.message.gateway, got.message.sender, got.message.profile) == (
        "gateway.dev.example", "0406798006", "burgerzaken",
    )  # fmt: skip
    assert got.heads == [{"part": "upfile1", "filename": "brief.pdf", "type": "application/pdf"}]
    assert got.digests == [(hashlib.sha256(content).hexdigest(), len(content))]
    assert (sent.repeated, sent.tries, sent.reference) == (False, 1, letter.reference)
    assert sent.signed_message == got.part
    assert str(sent.message_id) == fake.accepted[letter.reference][1]["messageId"]
    assert verified_receipt(sent.receipt_jws, sender.receipt_certificates) == sent.receipt


async def test_a_letter_may_go_out_as_json_web_signature_and_be_sent_again_in_xml(
    fake: Fake, sender: SenderProfile, open_client: Callable[..., GatewayClient], letter: Letter
) -> None:
    async with open_client(replace(sender, dialect=Dialect.JWS)) as client:
        first = await client.send(letter)
    async with open_client(sender) as client:
        again = await client.send(letter)
    assert [got.dialect for got in fake.received] == [Dialect.JWS, Dialect.XML]
    assert fake.received[0].message == replace(fake.received[1].message, created_at=fake.received[0].message.created_at)
    assert first.signed_message == fake.received[0].part
    assert (first.repeated, again.repeated) == (False, True)
    assert again.receipt_jws == first.receipt_jws


async def test_every_field_of_a_letter_is_in_the_message(
    fake: Fake, client: GatewayClient, letter: Letter, tmp_path: Path
) -> None:
    annex = tmp_path / "plan.png"
    annex.write_bytes(b"\x89PNG")
    at = datetime(2026, 12, 1, 8, tzinfo=UTC)
    full = replace(
        letter,
        recipient=Recipient(enterprise_number=EnterpriseNumber("0566988259"), address=letter.recipient.address),
        language="fr",
        attention_of="Service des permis",
        channels=[Channel.EBOX_ENTERPRISE, Channel.PRINT],
        print_options=PrintOptions(product=PrintProduct.REGISTERED, duplex=False),
        retention=timedelta(days=90),
        deliver_not_before=at,
        deliver_before=at + timedelta(days=9),
        billing_reference="Afdeling 7",
        documents=[annex, Document(content=b"<x/>", filename="données.xml", main=True, signed=True)],
    )
    await client.send(full)
    message = fake.received[0].message
    assert message.recipient == full.recipient
    for name in (
        "category", "purpose", "subject", "language", "attention_of", "print_options", "retention",
        "deliver_not_before", "deliver_before", "billing_reference", "reference",
    ):  # fmt: skip
        assert getattr(message, name) == getattr(full, name), name
    assert message.channels == (Channel.EBOX_ENTERPRISE, Channel.PRINT)
    rows = [(each.part, each.filename, each.media_type, each.main, each.signed) for each in message.documents]
    assert rows == [
        ("upfile1", "plan.png", "image/png", False, False),
        ("upfile2", "données.xml", "application/xml", True, True),
    ]


@pytest.mark.parametrize(
    "filename",
    [
        "brief.pdf",
        "één brief.pdf",
        'a "b".pdf',
        "a;b.pdf",
        "a;b;c.pdf",
        "100%.pdf",
        "%22.pdf",
        "a'b.pdf",
        "信.pdf",
        "x,y=z.pdf",
    ],
)
async def test_the_gateways_own_reader_sees_the_same_names_and_octets(
    certs: Path, write_sender: Callable[..., Path], letter: Letter, filename: str
) -> None:
    seen: list[tuple[str, str, str, bytes]] = []

    async def messages(request: web.Request) -> web.Response:
        raw = await read_message(
            request,
            BodyLimits(
                manifest_bytes=262_144, batch_manifest_bytes=2_097_152, batch_bytes=1, stall_s=30, minimum_bytes_per_s=1
            ),
        )
        async for part in raw.parts:
            octets = b"".join([chunk async for chunk in part.chunks])
            seen.append((part.name, part.filename, part.media_type, octets))
        return web.Response(status=418)

    application = web.Application()
    application.router.add_post("/api/v1/messages", messages)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certs / "server.pem", certs / "server.key")
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        document = Document(content=b"octets", filename=filename, media_type="application/pdf")
        sender = await asyncio.to_thread(load_sender, write_sender(runner.addresses[0][1]))
        async with GatewayClient(sender) as client:
            with pytest.raises(Problem, match="http-418"):
                await client.send(replace(letter, documents=[document]))
    finally:
        await runner.cleanup()
    assert seen == [("upfile1", filename, "application/pdf", b"octets")]


async def test_texts_are_sent_in_normal_form(fake: Fake, client: GatewayClient, letter: Letter, tmp_path: Path) -> None:
    file = tmp_path / "e\u0301.pdf"
    file.write_bytes(b"%PDF-")
    await client.send(replace(letter, subject="Uw e\u0301e\u0301n", documents=[file]))
    message = fake.received[0].message
    assert (message.subject, message.documents[0].filename) == ("Uw \xe9\xe9n", "\xe9.pdf")


async def test_a_big_file_streams_in_constant_memory(
    fake: Fake, client: GatewayClient, letter: Letter, tmp_path: Path
) -> None:
    file = tmp_path / "big.pdf"
    file.touch()
    os.truncate(file, 96 * MIB)
    await client.send(letter)  # what is loaded once is loaded now
    tracemalloc.start()
    try:
        sent = await client.send(replace(letter, reference="big", documents=[file]))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sent.receipt.documents[0].size_bytes == 96 * MIB
    assert peak_bytes < 6 * MIB  # sender and gateway together


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"subject": ""}, "/subject/text"),
        ({"subject": "two\nlines"}, "/subject/text"),
        ({"language": "es"}, "/subject/lang"),
        ({"reference": "90610100155"}, "/reference"),
        ({"recipient": Recipient()}, "/recipient"),
        ({"documents": []}, "/documents"),
        ({"documents": [b"%PDF-"]}, "/documents/0/filename"),
        ({"documents": [Document(content=b"x", filename="brief.unknown")]}, "/documents/0/mediaType"),
        ({"documents": [Document(content=b"", filename="brief.pdf")]}, "/documents/0/size"),
        ({"documents": [Path("there-is-none.pdf")]}, "/documents/0"),
        ({"retention": timedelta(hours=30)}, "/retention"),
        ({"retention": timedelta(0)}, "/retention"),
        ({"deliver_before": datetime(2026, 12, 1)}, "/deliverBefore"),  # noqa: DTZ001 - that is the fault
    ],
)
async def test_a_wrong_letter_is_told_field_by_field_and_never_sent(
    fake: Fake, client: GatewayClient, letter: Letter, changes: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(LetterInvalid) as found:
        await client.send(replace(letter, **changes))
    assert [error.pointer for error in found.value.errors] == [pointer]
    assert "90610100155" not in str(found.value)
    assert fake.received == []


async def test_a_file_that_grew_after_signing_cuts_the_request(
    fake: Fake, client: GatewayClient, letter: Letter, pdf: Path
) -> None:
    async def busy(_gateway: Fake, request: web.Request) -> web.StreamResponse:
        await fake.read(request)
        with pdf.open("ab") as stream:
            stream.write(b"more")
        refusal: web.Response = fake.problem(503, "overloaded", "0")
        return refusal

    fake.acts.append(busy)
    with pytest.raises(LetterInvalid, match="/documents/0 changed its size"):
        await client.send(letter)
    assert fake.accepted == {}


def test_neither_letter_nor_result_shows_personal_data_in_its_repr(letter: Letter) -> None:
    assert "Peeters" not in repr(letter)
    assert "Peeters" not in repr(letter.recipient)
    assert "906101" not in repr(letter)


# ── Trying again ──


@pytest.mark.parametrize(
    "trouble", ["cut", "accepted-and-cut", "receiving", "busy", "internal", "bad-gateway", "slow", "quota"]
)
async def test_after_trouble_the_same_reference_is_sent_again_and_taken_once(
    fake: Fake, client: GatewayClient, letter: Letter, trouble: str
) -> None:
    match trouble:
        case "cut":
            fake.then_cut(accepting=False)
        case "accepted-and-cut":
            fake.then_cut(accepting=True)
        case "receiving":
            fake.then_problem(409, "still-receiving", "2")
        case "busy":
            fake.then_problem(503, "overloaded", "2")
        case "internal":
            fake.then_problem(500, "internal")
        case "bad-gateway":
            fake.then_answer(b"<html>", "text/html", 502)
        case "slow":
            fake.then_problem(408, "request-timeout")
        case _:
            fake.then_problem(429, "quota-exceeded", "2")
    sent = await client.send(letter)
    assert [got.message.reference for got in fake.received] == [letter.reference] * 2
    assert len({got.part for got in fake.received}) == 1
    assert len({got.correlation_id for got in fake.received}) == 2
    assert list(fake.accepted) == [letter.reference]
    assert (sent.tries, sent.repeated) == (2, trouble == "accepted-and-cut")


async def test_after_a_time_out_the_same_reference_is_sent_again(
    fake: Fake, sender: SenderProfile, open_client: Callable[..., GatewayClient], letter: Letter
) -> None:
    fake.then_hang()
    async with open_client(sender, timing=CallTiming(answer_timeout_s=0.3)) as client:
        sent = await client.send(letter)
    assert [got.message.reference for got in fake.received] == [letter.reference] * 2
    assert sent.tries == 2


async def test_a_connection_that_nobody_accepts_is_tried_again_until_patience_ends(
    fake: Fake, sender: SenderProfile, open_client: Callable[..., GatewayClient], letter: Letter, waits: list[float]
) -> None:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    nobody = replace(sender, base_url=f"https://localhost:{port}")
    heard: list[str] = []
    async with open_client(nobody, on_retry=lambda error, _wait: heard.append(str(error))) as client:
        with pytest.raises(NotReached, match="no connection") as found:
            await client.send(letter)
    assert not found.value.sent
    assert len(waits) == len(heard) == 4
    for wait_s, longest_s in zip(waits, (1, 2, 4, 8), strict=True):
        assert longest_s / 2 <= wait_s <= longest_s


@pytest.mark.parametrize(("header", "least", "most"), [("7", 7, 8), ("0", 0, 1)])
async def test_retry_after_is_kept_to(
    fake: Fake, client: GatewayClient, letter: Letter, *, waits: list[float], header: str, least: float, most: float
) -> None:
    fake.then_problem(503, "overloaded", header)
    await client.send(letter)
    assert len(waits) == 1
    assert least <= waits[0] <= most


async def test_retry_after_may_be_a_date(
    fake: Fake, sender: SenderProfile, open_client: Callable[..., GatewayClient], letter: Letter, waits: list[float]
) -> None:
    fake.then_problem(503, "overloaded", "Sun, 22 Nov 2026 10:00:30 GMT")
    async with open_client(sender, clock=lambda: datetime(2026, 11, 22, 10, tzinfo=UTC)) as client:
        await client.send(letter)
    assert 30 <= waits[0] <= 31


async def test_a_retry_after_beyond_patience_is_raised_at_once(
    fake: Fake, client: GatewayClient, letter: Letter, waits: list[float]
) -> None:
    fake.then_problem(429, "quota-exceeded", "36000")
    with pytest.raises(Problem, match="quota-exceeded") as found:
        await client.send(letter)
    assert (found.value.retry_after_s, found.value.is_temporary, waits) == (36_000, True, [])


async def test_a_gateway_that_stays_busy_is_given_up_with_its_own_words(
    fake: Fake, client: GatewayClient, letter: Letter, waits: list[float]
) -> None:
    for _ in range(5):
        fake.then_problem(503, "store-unavailable", "1")
    with pytest.raises(Problem, match="the words of the gateway about store-unavailable"):
        await client.send(letter)
    assert (len(fake.received), len(waits)) == (5, 4)


async def test_a_retry_long_after_is_signed_anew_with_the_same_reference(
    fake: Fake, sender: SenderProfile, open_client: Callable[..., GatewayClient], letter: Letter
) -> None:
    start = datetime(2026, 11, 22, tzinfo=UTC)
    now = [start]

    async def sleep(_seconds: float) -> None:
        now[0] += timedelta(hours=3.5)

    fake.then_problem(503, "overloaded", "1")
    fake.then_cut(accepting=True)
    async with open_client(
        sender, clock=lambda: now[0], sleep=sleep, retry=RetryRules(resign_after=timedelta(hours=6))
    ) as client:
        sent = await client.send(letter)
    created = [got.message.created_at - start for got in fake.received]
    assert created == [timedelta(0), timedelta(0), timedelta(hours=7)]
    assert len({got.message.reference for got in fake.received}) == 1
    # The gateway kept the first copy, so the receipt is about that one, and so is what is kept here.
    assert sent.repeated
    assert sent.signed_message == fake.received[1].part != fake.received[2].part


async def test_the_same_letter_sent_again_by_a_later_run_gets_the_first_receipt(
    fake: Fake, client: GatewayClient, letter: Letter
) -> None:
    first = await client.send(letter)
    second = await client.send(letter)
    assert (second.repeated, second.receipt, second.message_id) == (True, first.receipt, first.message_id)
    assert second.signed_message is None  # an earlier run signed what the receipt is about


# ── Refusals ──


async def test_a_refusal_is_raised_once_with_the_gateways_words(
    fake: Fake, client: GatewayClient, letter: Letter, waits: list[float]
) -> None:
    errors = [{"pointer": "/Message/Category", "detail": "must be one of yours"}]
    fake.then_problem(403, "category-not-authorised", errors=errors)
    with pytest.raises(Problem) as found:
        await client.send(letter)
    problem = found.value
    assert (problem.code, problem.status, problem.correlation_id) == (
        "category-not-authorised", 403, "3f0c9a52-correlation",
    )  # fmt: skip
    assert problem.detail == "the words of the gateway about category-not-authorised"
    assert [(error.pointer, error.detail) for error in problem.errors] == [
        ("/Message/Category", "must be one of yours")
    ]
    assert (waits, len(fake.received)) == ([], 1)


async def test_a_reference_used_for_another_letter_names_the_earlier_message(
    fake: Fake, client: GatewayClient, letter: Letter
) -> None:
    sent = await client.send(letter)
    with pytest.raises(Problem, match="reference-conflict") as found:
        await client.send(replace(letter, subject="Iets anders"))
    assert found.value.members == {"messageId": str(sent.message_id)}
    assert not found.value.is_temporary


async def test_a_refusal_before_a_big_body_was_read_is_heard(
    fake: Fake, client: GatewayClient, letter: Letter, tmp_path: Path
) -> None:
    file = tmp_path / "big.pdf"
    file.touch()
    os.truncate(file, 24 * MIB)
    fake.then_refuse_unread(403, "sender-suspended")
    with pytest.raises(Problem, match="sender-suspended"):
        await client.send(replace(letter, documents=[file]))


async def test_a_personal_number_in_the_gateways_words_goes_no_further(
    fake: Fake, client: GatewayClient, letter: Letter
) -> None:
    fake.then_problem(422, "invalid-message", detail="no such person: 90.61.01-001.55 \x1b[2J")
    with pytest.raises(Problem) as found:
        await client.send(letter)
    assert "001" not in found.value.detail


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"<Receipt/>", "application/xml"), (b"{}", "application/json"), (b"[", "application/json")],
)
async def test_an_answer_of_another_shape_is_no_success(
    fake: Fake, client: GatewayClient, letter: Letter, body: bytes, content_type: str
) -> None:
    fake.then_answer(body, content_type)
    with pytest.raises(UnexpectedAnswer):
        await client.send(letter)


async def test_a_redirection_is_not_followed(fake: Fake, client: GatewayClient, letter: Letter) -> None:
    async def away(_gateway: Fake, _request: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect("https://elsewhere.example/")

    fake.acts.append(away)
    with pytest.raises(UnexpectedAnswer, match="redirection"):
        await client.send(letter)


# ── The handshake ──


@pytest.mark.parametrize("name", ["expired", "revoked", "other-ca", "server-only-eku"])
async def test_a_certificate_refused_in_the_handshake_is_called_that(
    fake: Fake,
    write_sender: Callable[..., Path],
    certs: Path,
    *,
    open_client: Callable[..., GatewayClient],
    letter: Letter,
    waits: list[float],
    name: str,
) -> None:
    file = write_sender(
        fake.port,
        certificate=str(certs / f"{name}.pem"),
        key=str(certs / f"{name}.key"),
        signing_certificate=str(certs / "gemeente.pem"),
        signing_key=str(certs / "gemeente.key"),
    )
    async with open_client(await asyncio.to_thread(load_sender, file), timing=CallTiming(verdict_wait_s=30)) as client:
        with pytest.raises(CertificateRefused, match="refused the client certificate in the TLS handshake") as found:
            await client.send(letter)
    assert (found.value.code, found.value.status, waits) == ("certificate-refused", None, [])
    assert ("expired: valid until" in found.value.detail) == (name == "expired")
    assert fake.handshakes_refused


@pytest.fixture
async def alerting(certs: Path) -> AsyncIterator[int]:
    """A server, not of asyncio, that sends the TLS alert before it hangs up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / "server.pem", certs / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cafile=certs / "clients-ca.pem")
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                try:
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(2)
    server.close()
    await asyncio.to_thread(thread.join, 20)


async def test_the_reason_of_a_tls_alert_is_told(
    alerting: int,
    write_sender: Callable[..., Path],
    certs: Path,
    open_client: Callable[..., GatewayClient],
    letter: Letter,
) -> None:
    file = write_sender(
        alerting,
        certificate=str(certs / "expired.pem"),
        key=str(certs / "expired.key"),
        signing_certificate=str(certs / "gemeente.pem"),
        signing_key=str(certs / "gemeente.key"),
    )
    async with open_client(await asyncio.to_thread(load_sender, file), timing=CallTiming(verdict_wait_s=30)) as client:
        with pytest.raises(CertificateRefused, match=r"\(certificate-expired\)"):
            await client.send(letter)


@pytest.fixture
async def dying(certs: Path) -> AsyncIterator[int]:
    """A server that takes the certificate, hangs up without farewell on two connections, and then is no more."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / "server.pem", certs / "server.key")
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for last in (False, True):
            connection, _ = server.accept()
            with context.wrap_socket(connection, server_side=True) as tls:
                if last:
                    server.close()
                else:
                    tls.recv(1)
                tls.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=serve)
    thread.start()
    yield server.getsockname()[1]
    await asyncio.to_thread(thread.join, 20)


async def test_a_gateway_that_dies_while_it_is_asked_about_the_certificate_did_not_refuse_it(
    dying: int, write_sender: Callable[..., Path], open_client: Callable[..., GatewayClient], letter: Letter
) -> None:
    file = write_sender(dying)
    async with open_client(
        await asyncio.to_thread(load_sender, file), timing=CallTiming(verdict_wait_s=30), retry=RetryRules(tries=1)
    ) as client:
        with pytest.raises(NotReached, match="connection was lost"):
            await client.send(letter)


async def test_a_busy_gateway_that_says_farewell_properly_did_not_refuse_the_certificate(
    fake_tls: Callable[..., ssl.SSLContext],
    write_sender: Callable[..., Path],
    open_client: Callable[..., GatewayClient],
    letter: Letter,
) -> None:
    class Closing(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.close()

    refused: list[str] = []
    context = await asyncio.to_thread(fake_tls, refused.append)
    server = await asyncio.get_running_loop().create_server(Closing, "127.0.0.1", 0, ssl=context)
    async with server:
        file = write_sender(server.sockets[0].getsockname()[1])
        async with open_client(
            await asyncio.to_thread(load_sender, file), timing=CallTiming(verdict_wait_s=30)
        ) as client:
            with pytest.raises(NotReached, match="connection was lost"):
                await client.send(letter)
    assert refused == []


async def test_a_gateway_that_the_ca_does_not_vouch_for_gets_nothing(
    fake: Fake,
    write_sender: Callable[..., Path],
    certs: Path,
    *,
    open_client: Callable[..., GatewayClient],
    letter: Letter,
    waits: list[float],
) -> None:
    file = write_sender(fake.port, ca=str(certs / "other-clients-ca.pem"))
    async with open_client(await asyncio.to_thread(load_sender, file)) as client:
        with pytest.raises(GatewayNotTrusted, match="unable to get local issuer certificate"):
            await client.send(letter)
    assert (fake.received, waits) == ([], [])


# ── Receipts ──

OTHER_ID = MessageId(UUID("0190163d-8694-739b-aea5-966c26f8ad90"))


@pytest.mark.parametrize(
    ("fact", "spoil"),
    [
        ("gateway", lambda receipt: replace(receipt, gateway="gateway.other.example")),
        ("messageId", lambda receipt: replace(receipt, message_id=OTHER_ID)),
        ("sender", lambda receipt: replace(receipt, sender=EnterpriseNumber("0566988259"))),
        ("profile", lambda receipt: replace(receipt, profile="parkeren")),
        ("reference", lambda receipt: replace(receipt, reference="another")),
        ("messageSha256", lambda receipt: replace(receipt, message_sha256="0" * 64)),
        ("documents", lambda receipt: replace(receipt, documents=())),
        ("documents", lambda receipt: replace(receipt, documents=receipt.documents * 2)),
        ("upfile1", lambda receipt: replace(receipt, documents=(replace(receipt.documents[0], sha256="0" * 64),))),
        ("upfile1", lambda receipt: replace(receipt, documents=(replace(receipt.documents[0], size_bytes=1),))),
        ("upfile1", lambda receipt: replace(receipt, documents=(replace(receipt.documents[0], part="upfile2"),))),
        (
            "outside the validity of the certificate",
            lambda receipt: replace(receipt, issued_at=datetime(2020, 1, 1, tzinfo=UTC)),
        ),
    ],
)
async def test_a_receipt_about_anything_else_is_refused(
    fake: Fake, client: GatewayClient, letter: Letter, fact: str, spoil: Callable[[Receipt], Receipt]
) -> None:
    fake.spoil = spoil
    with pytest.raises(ReceiptWrong, match=fact):
        await client.send(letter)
    assert len(fake.received) == 1


async def test_a_receipt_signed_by_another_key_is_refused(
    fake: Fake, client: GatewayClient, letter: Letter, other_signer: ReceiptSigner
) -> None:
    fake.sign = other_signer.jws
    with pytest.raises(ReceiptWrong, match="another certificate than the trusted one"):
        await client.send(letter)


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_receipt_with_a_changed_part_is_refused(
    fake: Fake, client: GatewayClient, letter: Letter, place: int
) -> None:
    def sign(receipt: Receipt) -> str:
        pieces = fake.signer.jws(receipt).split(".")
        text = pieces[place]
        middle = len(text) // 2
        pieces[place] = text[:middle] + ("A" if text[middle] != "A" else "B") + text[middle + 1 :]
        return ".".join(pieces)

    fake.sign = sign
    with pytest.raises(ReceiptWrong):
        await client.send(letter)


async def test_an_answer_without_a_receipt_is_refused(fake: Fake, client: GatewayClient, letter: Letter) -> None:
    async def bare(_gateway: Fake, request: web.Request) -> web.StreamResponse:
        got = await fake.read(request)
        return web.json_response(fake.view(got) | {"receipt": None}, status=201)

    fake.acts.append(bare)
    with pytest.raises(ReceiptWrong, match="none in the answer"):
        await client.send(letter)


async def test_the_next_receipt_certificate_may_be_trusted_beside_the_present_one(
    fake: Fake, write_sender: Callable[..., Path], certs: Path, tmp_path: Path, *, open_client: Any, letter: Letter
) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes((certs / "server.pem").read_bytes() + (certs / "receipts.pem").read_bytes())
    sender = await asyncio.to_thread(load_sender, write_sender(fake.port, receipt_certificate=str(both)))
    assert len(sender.receipt_certificates) == 2
    assert all(isinstance(each, x509.Certificate) for each in sender.receipt_certificates)
    async with open_client(sender) as client:
        assert (await client.send(letter)).tries == 1
