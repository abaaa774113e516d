"""Every refusal: which problem it is, that it names its fix, that nothing stays behind, that it is logged."""

import asyncio
import hashlib
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from lxml import etree

from gateway.crypto.manifest import write_message
from gateway.domain.ids import EnterpriseNumber, Ssin
from gateway.domain.message import Channel, Message, Recipient
from gateway.domain.pace import Pace
from gateway.errors import Kind
from gateway.intake.problems import PROBLEMS

if TYPE_CHECKING:
    from tests.plugins.house import Answer, House, Part, SenderHand
else:
    from house import Answer, House, Part, SenderHand

NOW = timedelta(0)
# What stands in the messages below and must stand in no answer.
PERSONAL = ("90610100155", "Jan Peeters", "Kerkstraat", "Uw aanslagbiljet", "Aanslagbiljet 2026", "brief-1.pdf")

Parts = Callable[[SenderHand, Message], Awaitable[list[Part]]]


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """
    One wrong way to send the message `Message`, and what is answered.

    `signed`: the signature holds, so that the refusal is in the logs. `fix`: words of the detail that tell what to do.
    `pointers`: those of `errors`, if any. `extra`: other members of the problem.
    """

    name: str
    kind: Kind
    fix: str
    parts: Parts
    signed: bool = True
    headers: dict[str, str] | None = None
    pointers: Sequence[str] = ()
    extra: Sequence[str] = ()


def changed(**changes: Any) -> Parts:
    """The message with other values, rightly signed."""

    async def parts(sender: SenderHand, message: Message) -> list[Part]:
        return sender.parts(replace(message, **changes))

    return parts


def aged(ahead: timedelta) -> Parts:
    async def parts(sender: SenderHand, message: Message) -> list[Part]:
        return sender.parts(replace(message, created_at=datetime.now(UTC).replace(microsecond=0) + ahead))

    return parts


def manifest(make: Callable[[bytes], bytes]) -> Parts:
    """The signed part, changed after it was signed."""

    async def parts(sender: SenderHand, message: Message) -> list[Part]:
        return sender.parts(message, manifest=make(sender.sign(message)))

    return parts


def signed_by(name: str) -> Parts:
    async def parts(sender: SenderHand, message: Message) -> list[Part]:
        other = SenderHand(sender.house, name, sender.session)
        return sender.parts(message, manifest=other.sign(message))

    return parts


def rearranged(make: Callable[[list[Part]], list[Part]]) -> Parts:
    """The right parts, not as they should be; two documents."""

    async def parts(sender: SenderHand, message: Message) -> list[Part]:
        contents = [sender.house.pdf, sender.house.pdf + b"\n"]
        two = replace(message, documents=sender.message(contents).documents)
        return make(sender.parts(two, contents))

    return parts


def content(make: Callable[[bytes], bytes]) -> Parts:
    """Another document than the manifest's."""

    async def parts(sender: SenderHand, message: Message) -> list[Part]:
        return sender.parts(message, [make(sender.house.pdf)])

    return parts


def documents(*sizes_bytes: int) -> Parts:
    """Documents that claim these sizes."""

    async def parts(sender: SenderHand, message: Message) -> list[Part]:
        entries = sender.message([sender.house.pdf] * len(sizes_bytes)).documents
        claims = tuple(replace(entry, size_bytes=size) for entry, size in zip(entries, sizes_bytes, strict=True))
        return sender.parts(replace(message, documents=claims))

    return parts


async def no_pdf(sender: SenderHand, message: Message) -> list[Part]:
    return sender.parts(replace(message, documents=sender.message([b"<html></html>"]).documents), [b"<html></html>"])


async def unsigned(sender: SenderHand, message: Message) -> list[Part]:
    return sender.parts(message, manifest=etree.tostring(write_message(message), encoding="UTF-8"))


async def many_faults(sender: SenderHand, message: Message) -> list[Part]:
    address = message.recipient.address
    assert address is not None
    return sender.parts(
        replace(
            message,
            recipient=Recipient(ssin=Ssin("90610100156"), address=replace(address, postcode="900")),
            documents=(replace(message.documents[0], main=False),),
            purpose=" spatie vooraan",
        )
    )


def part(number: int, **changes: Any) -> Callable[[list[Part]], list[Part]]:
    return lambda parts: [replace(each, **changes) if n == number else each for n, each in enumerate(parts)]


TABLE = (
    # The signed part
    Wrong(
        name="not XML",
        kind=Kind.MALFORMED_MESSAGE,
        fix="line 1",
        parts=manifest(lambda _xml: b"this is no XML"),
        signed=False,
    ),
    Wrong(
        name="empty part",
        kind=Kind.MALFORMED_MESSAGE,
        fix="XML",
        parts=manifest(lambda _xml: b""),
        signed=False,
    ),
    Wrong(
        name="DTD",
        kind=Kind.MALFORMED_MESSAGE,
        fix="DTD",
        parts=manifest(lambda xml: xml.replace(b"?>", b"?><!DOCTYPE Message>", 1)),
        signed=False,
    ),
    Wrong(
        name="too deep",
        kind=Kind.MALFORMED_MESSAGE,
        fix="32",
        parts=manifest(lambda _xml: b"<a>" * 33 + b"</a>" * 33),
        signed=False,
    ),
    Wrong(
        name="not UTF-8",
        kind=Kind.MALFORMED_MESSAGE,
        fix="UTF-8",
        parts=manifest(lambda xml: xml.decode().encode("utf-16")),
        signed=False,
    ),
    Wrong(
        name="another root",
        kind=Kind.INVALID_MESSAGE,
        fix="schema",
        parts=manifest(lambda _xml: b'<Letter xmlns="urn:document-gateway:message:1"/>'),
        signed=False,
        pointers=["/"],
    ),
    Wrong(
        name="element that nobody knows",
        kind=Kind.INVALID_MESSAGE,
        fix="schema",
        parts=manifest(lambda xml: xml.replace(b"<Category>", b"<Haste>high</Haste><Category>")),
        signed=False,
        pointers=["/Message/Haste"],
    ),
    Wrong(
        name="unsigned",
        kind=Kind.SIGNATURE_INVALID,
        fix="not signed",
        parts=unsigned,
        signed=False,
    ),
    Wrong(
        name="changed after signing",
        kind=Kind.SIGNATURE_INVALID,
        fix="changed after it was signed",
        parts=manifest(lambda xml: xml.replace(b"Uw aanslagbiljet", b"Uw vrijspraak")),
        signed=False,
    ),
    Wrong(
        name="sender changed after signing",
        kind=Kind.SIGNER_MISMATCH,
        fix="may send for",
        parts=manifest(lambda xml: xml.replace(b"0406798006", b"0566988259")),
        signed=False,
    ),
    Wrong(
        name="signed by another sender",
        kind=Kind.SIGNER_MISMATCH,
        fix="registered certificate",
        parts=signed_by("belasting"),
        signed=False,
    ),
    Wrong(
        name="signed with a revoked certificate",
        kind=Kind.CERTIFICATE_REVOKED,
        fix="use another",
        parts=signed_by("revoked"),
        signed=False,
    ),
    Wrong(
        name="part message too large",
        kind=Kind.MESSAGE_TOO_LARGE,
        fix="262144",
        parts=manifest(lambda xml: xml + b" " * 262_144),
        signed=False,
    ),
    # What was signed
    Wrong(
        name="several faults at once",
        kind=Kind.INVALID_MESSAGE,
        fix="see errors",
        parts=many_faults,
        pointers=[
            "/Message/Recipient/Ssin",
            "/Message/Recipient/PostalAddress/Postcode",
            "/Message/Purpose",
            "/Message/Documents",
        ],
    ),
    Wrong(
        name="unknown category",
        kind=Kind.INVALID_MESSAGE,
        fix="see errors",
        parts=changed(category="no-such-category"),
        pointers=["/Message/Category"],
    ),
    Wrong(
        name="retention beyond the authorised term",
        kind=Kind.INVALID_MESSAGE,
        fix="see errors",
        parts=changed(retention=timedelta(days=366)),
        pointers=["/Message/Retention"],
    ),
    Wrong(
        name="a deadline that has passed",
        kind=Kind.INVALID_MESSAGE,
        fix="see errors",
        parts=changed(deliver_before=datetime(2026, 1, 1, tzinfo=UTC)),
        pointers=["/Message/DeliverBefore"],
    ),
    Wrong(
        name="paper without an address",
        kind=Kind.INVALID_MESSAGE,
        fix="see errors",
        parts=changed(recipient=Recipient(ssin=Ssin("90610100155"))),
        pointers=["/Message/Recipient/PostalAddress"],
    ),
    Wrong(
        name="for another gateway",
        kind=Kind.WRONG_GATEWAY,
        fix="gateway.dev.example",
        parts=changed(gateway="gateway.example.be"),
    ),
    Wrong(
        name="from yesterday",
        kind=Kind.CREATED_AT_OUT_OF_WINDOW,
        fix="Set the sender's clock",
        parts=aged(timedelta(hours=-25)),
        extra=["skewSeconds"],
    ),
    Wrong(
        name="from the future",
        kind=Kind.CREATED_AT_OUT_OF_WINDOW,
        fix="Set the sender's clock",
        parts=aged(timedelta(minutes=10)),
        extra=["skewSeconds"],
    ),
    # May it be sent?
    Wrong(
        name="category of others",
        kind=Kind.CATEGORY_NOT_AUTHORISED,
        fix="not authorised for category social-benefit",
        parts=changed(category="social-benefit"),
    ),
    Wrong(
        name="no dossier",
        kind=Kind.RECIPIENT_NOT_AUTHORISED,
        fix="POST /api/v1/dossiers",
        parts=changed(category="building-permit"),
    ),
    Wrong(
        name="channel outside the authorisation",
        kind=Kind.CHANNEL_NOT_CONTRACTED,
        fix="ebox-enterprise",
        parts=changed(category="building-permit", channels=(Channel.EBOX_ENTERPRISE,)),
    ),
    Wrong(
        name="profile of others",
        kind=Kind.PROFILE_NOT_AUTHORISED,
        fix="use one of its own profiles",
        parts=changed(profile="personenbelasting"),
    ),
    Wrong(
        name="no channel for this language",
        kind=Kind.CHANNEL_CANNOT_CARRY,
        fix="see errors",
        parts=changed(channels=(Channel.EBOX_CITIZEN,), language="en"),
        pointers=["/Message/Channels/ebox-citizen"],
    ),
    Wrong(
        name="no channel for this recipient",
        kind=Kind.CHANNEL_CANNOT_CARRY,
        fix="see errors",
        parts=changed(
            channels=(Channel.EBOX_CITIZEN,), recipient=Recipient(enterprise_number=EnterpriseNumber("0406798006"))
        ),
        pointers=["/Message/Channels/ebox-citizen"],
    ),
    Wrong(
        name="one document too large",
        kind=Kind.DOCUMENT_TOO_LARGE,
        fix="30000000",
        parts=documents(30_000_001),
    ),
    Wrong(
        name="all documents too large",
        kind=Kind.MESSAGE_TOO_LARGE,
        fix="30000000",
        parts=documents(20_000_000, 20_000_000),
    ),
    Wrong(
        name="another Idempotency-Key",
        kind=Kind.BAD_REQUEST,
        fix="must equal the signed Reference",
        parts=changed(),
        headers={"Idempotency-Key": "another"},
    ),
    # The parts
    Wrong(
        name="first part with another name",
        kind=Kind.MULTIPART_INVALID,
        fix="must be named message",
        parts=rearranged(part(0, name="manifest")),
        signed=False,
        pointers=["/"],
    ),
    Wrong(
        name="first part of another type",
        kind=Kind.UNSUPPORTED_MEDIA_TYPE,
        fix="application/xml",
        parts=rearranged(part(0, media_type="text/plain")),
        signed=False,
    ),
    Wrong(
        name="documents only",
        kind=Kind.MULTIPART_INVALID,
        fix="must be named message",
        parts=rearranged(lambda parts: parts[1:]),
        signed=False,
        pointers=["/"],
    ),
    Wrong(
        name="part missing",
        kind=Kind.MULTIPART_INVALID,
        fix="did not arrive",
        parts=rearranged(lambda parts: parts[:-1]),
    ),
    Wrong(
        name="part too many",
        kind=Kind.MULTIPART_INVALID,
        fix="remove the others",
        parts=rearranged(lambda parts: [*parts, replace(parts[-1], name="upfile3")]),
    ),
    Wrong(
        name="parts swapped",
        kind=Kind.MULTIPART_INVALID,
        fix="manifest order",
        parts=rearranged(lambda parts: [parts[0], parts[2], parts[1]]),
    ),
    Wrong(
        name="wrong filename",
        kind=Kind.MULTIPART_INVALID,
        fix="filename",
        parts=rearranged(part(1, filename="anders.pdf")),
    ),
    Wrong(
        name="no filename",
        kind=Kind.MULTIPART_INVALID,
        fix="filename",
        parts=rearranged(part(2, filename=None)),
    ),
    Wrong(
        name="wrong Content-Type",
        kind=Kind.MULTIPART_INVALID,
        fix="Content-Type",
        parts=rearranged(part(1, media_type="application/pdf; charset=x")),
    ),
    Wrong(
        name="transfer encoding of a part",
        kind=Kind.MULTIPART_INVALID,
        fix="send its bytes as they are",
        parts=rearranged(part(1, headers={"Content-Transfer-Encoding": "base64"})),
        pointers=["/"],
    ),
    # The documents
    Wrong(
        name="document longer than claimed",
        kind=Kind.DOCUMENT_MISMATCH,
        fix="more than the",
        parts=content(lambda pdf: pdf + b"\n"),
        pointers=["/upfile1"],
    ),
    Wrong(
        name="document shorter than claimed",
        kind=Kind.DOCUMENT_MISMATCH,
        fix="where the manifest says",
        parts=content(lambda pdf: pdf[:-1]),
        pointers=["/upfile1"],
    ),
    Wrong(
        name="document changed",
        kind=Kind.DOCUMENT_MISMATCH,
        fix="compute it over the very bytes",
        parts=content(lambda pdf: pdf[:-1] + b"!"),
        pointers=["/upfile1"],
    ),
    Wrong(
        name="no PDF",
        kind=Kind.DOCUMENT_NOT_ACCEPTABLE,
        fix="correct the media type or the document",
        parts=no_pdf,
    ),
)

# Shown by a test of its own, here or in the module named.
SHOWN = {
    Kind.SENDER_UNKNOWN: "test_a_certificate_that_nobody_registered_is_sender_unknown",
    Kind.SENDER_SUSPENDED: "test_a_suspended_sender_is_told_so_and_may_send_again_later",
    Kind.QUOTA_EXCEEDED: "test_the_quota_of_a_day_ends_at_midnight_in_brussels",
    Kind.NOT_FOUND: "test_what_is_not_there_and_what_is_not_allowed_are_problems_too",
    Kind.METHOD_NOT_ALLOWED: "test_what_is_not_there_and_what_is_not_allowed_are_problems_too",
    Kind.OVERLOADED: "test_a_busy_gateway_keeps_nothing_and_says_when_to_come_back",
    Kind.REQUEST_TIMEOUT: "test_a_body_that_stalls_is_cut_and_can_be_sent_again",
    Kind.STORE_UNAVAILABLE: "test_a_store_that_is_away_keeps_nothing_and_is_told_as_such",
    Kind.INTERNAL: "test_a_defect_of_the_gateway_tells_nothing_of_itself",
    Kind.REFERENCE_CONFLICT: "test_same_again: test_other_content_under_a_known_reference_is_a_conflict",
    Kind.ALREADY_DISPATCHED: "test_cancel: test_a_letter_that_was_handed_over_is_not_stopped",
    Kind.STILL_RECEIVING: "test_same_again: test_a_second_copy_waits_while_the_first_is_arriving",
}
NOT_YET = {
    Kind.FEED_RESTORED: "the feed of events has no tests yet",
    Kind.CURSOR_EXPIRED: "the feed of events has no tests yet",
    Kind.PROVIDER_UNAVAILABLE: "the postal status has no tests yet",
}


def test_every_kind_of_refusal_is_shown_or_has_a_reason_why_not_yet() -> None:
    tabled = {wrong.kind for wrong in TABLE}
    assert tabled | SHOWN.keys() | NOT_YET.keys() == set(Kind)
    assert not tabled & SHOWN.keys()
    assert not NOT_YET.keys() & (tabled | SHOWN.keys())
    folder = Path(__file__).parent
    for shown in SHOWN.values():
        module, _, name = shown.rpartition(": ")
        source = (folder / f"{module or Path(__file__).stem}.py").read_text("utf-8")
        assert f"async def {name}" in source, shown


def check_problem(answer: Answer, kind: Kind, fix: str = "") -> None:
    """The members of a problem document, RFC 9457."""
    problem = answer.json
    assert answer.headers["Content-Type"].split(";")[0] == "application/problem+json"
    assert problem["type"] == f"urn:document-gateway:problem:{kind}", problem
    assert problem["title"] == PROBLEMS[kind].title
    assert problem["status"] == answer.status == PROBLEMS[kind].status
    assert fix in problem["detail"]
    assert problem["detail"]
    assert problem["instance"] == answer.headers["x-correlation-id"]
    assert ("Retry-After" in answer.headers) == (answer.status in (429, 503))
    for error in problem.get("errors", ()):
        assert error.keys() == {"pointer", "detail"}
        assert error["detail"]
    text = answer.body.decode()
    assert [value for value in PERSONAL if value in text] == []


async def test_each_wrong_message_gets_its_problem_leaves_nothing_and_can_be_mended(
    intake: House, inside: Any, subtests: pytest.Subtests
) -> None:
    sender = await intake.sender()
    look = inside(intake)
    for number, wrong in enumerate(TABLE):
        with subtests.test(wrong.name):
            message = sender.message(reference=f"wrong-{number}")
            before, logged = await look.traces(), len(await look.log("traffic"))
            correlation_id = f"case-{number}"
            headers = {"x-correlation-id": correlation_id, **(wrong.headers or {})}
            answer = await sender.post(await wrong.parts(sender, message), headers)

            check_problem(answer, wrong.kind, wrong.fix)
            problem = answer.json
            assert problem["instance"] == correlation_id
            assert [error["pointer"] for error in problem.get("errors", ())] == list(wrong.pointers)
            usual = {"type", "title", "status", "detail", "instance"} | ({"errors"} if wrong.pointers else set())
            assert problem.keys() == usual | set(wrong.extra)
            assert await look.traces() == before

            traffic, privacy = await look.log("traffic"), await look.log("privacy")
            assert len(traffic) == logged + wrong.signed
            if wrong.signed:
                assert (traffic[-1]["ev"], traffic[-1]["res"]) == ("refused", wrong.kind)
                assert (privacy[-1]["ev"], privacy[-1]["res"]) == ("message-refused", wrong.kind)
                assert traffic[-1]["who"]["sender"] == privacy[-1]["who"]["party"] == sender.number

            mended = await sender.post(sender.parts(message))
            assert mended.status == 201, mended.body


async def test_a_refused_message_is_in_the_log_with_its_reference_and_whom_it_was_about(
    intake: House, inside: Any
) -> None:
    sender = await intake.sender()
    assert (await sender.send(category="social-benefit", reference="R-7")).status == 403
    rows = await inside(intake).query("SELECT about_index, sealed_clear FROM log_entry WHERE event = 'message-refused'")
    assert [len(index) for index, _ in rows] == [32]
    assert rows[0][1] is not None
    (entry,) = await inside(intake).log("privacy")
    assert entry["what"] == {"reference": "R-7", "category": "social-benefit"}
    assert entry["who"] == {"party": sender.number, "sender": sender.number, "profile": "burgerzaken"}
    assert entry["commit"].keys() == {"purpose", "about"}


async def test_the_measured_skew_stands_in_the_problem(intake: House) -> None:
    sender = await intake.sender()
    for ahead in (timedelta(hours=-25), timedelta(minutes=10)):
        created_at = datetime.now(UTC).replace(microsecond=0) + ahead
        answer = await sender.send(created_at=created_at)
        assert abs(answer.json["skewSeconds"] - ahead.total_seconds()) <= 5
        assert f"{answer.json['skewSeconds']:+d}"[:4] in answer.json["detail"]
    for ahead in (timedelta(hours=-23, minutes=-59), timedelta(minutes=4, seconds=55)):
        assert (await sender.send(created_at=datetime.now(UTC).replace(microsecond=0) + ahead)).status == 201


async def test_a_certificate_that_nobody_registered_is_sender_unknown(intake: House, inside: Any) -> None:
    stranger = await intake.sender("unknown-sender")
    for answer in (
        await stranger.send(),
        await stranger.call("GET", "/api/v1/messages"),
        await stranger.call_json("/api/v1/statusRequest", {"messages": []}),
    ):
        check_problem(answer, Kind.SENDER_UNKNOWN, "ask the gateway's access manager")
    assert (await inside(intake).traces()).documents == frozenset()


async def test_a_suspended_sender_is_told_so_and_may_send_again_later(intake: House, inside: Any) -> None:
    sender, other = await intake.sender("gemeente"), await intake.sender("belasting")
    look = inside(intake)
    message = sender.message()
    await look.suspend(sender.number)
    check_problem(await sender.post(sender.parts(message)), Kind.SENDER_SUSPENDED, "contact the gateway's operator")
    check_problem(await sender.call("GET", "/api/v1/messages"), Kind.SENDER_SUSPENDED, "contact the gateway's operator")
    as_processor = await other.send(sender=sender.number, profile=sender.profile)
    check_problem(as_processor, Kind.SENDER_SUSPENDED)
    assert [entry["res"] for entry in await look.log("traffic")] == [Kind.SENDER_SUSPENDED] * 2
    assert [entry["res"] for entry in await look.log("privacy")] == [Kind.SENDER_SUSPENDED] * 2
    assert (await other.send()).status == 201
    await look.readmit(sender.number)
    assert (await sender.post(sender.parts(message))).status == 201


async def test_the_quota_of_a_day_ends_at_midnight_in_brussels(
    make_house: Any, registered: Any, moved_clock: Any, inside: Any
) -> None:
    senders = registered(n0406798006=lambda values: values["quota"].update(messages_per_day=2))
    house = await make_house(
        lambda values: values["gateway"].update(senders=senders), clock=moved_clock, parts=["intake"]
    )
    sender, other = await house.sender("gemeente"), await house.sender("belasting")
    brussels = datetime.now(ZoneInfo("Europe/Brussels"))
    noon = brussels.replace(hour=12, minute=0, second=0) + timedelta(days=1)  # never back: the certificates are new
    moved_clock.ahead = noon - brussels
    created_at = (noon - timedelta(minutes=1)).astimezone(UTC).replace(microsecond=0)
    for _ in range(2):
        assert (await sender.send(created_at=created_at)).status == 201
    before = await inside(house).traces()
    message = sender.message(created_at=created_at)
    answer = await sender.post(sender.parts(message))
    check_problem(answer, Kind.QUOTA_EXCEEDED, "after midnight (Europe/Brussels)")
    retry_after_s = int(answer.headers["Retry-After"])
    assert abs(retry_after_s - 12 * 3600) <= 60 + 3600  # an hour for the nights on which clocks change
    assert await inside(house).traces() == before
    assert (await inside(house).log("privacy"))[-1]["res"] == Kind.QUOTA_EXCEEDED
    assert (await other.send(created_at=created_at)).status == 201
    moved_clock.ahead += timedelta(seconds=retry_after_s + 1)
    assert (await sender.post(sender.parts(message))).status == 201


async def test_what_is_not_there_and_what_is_not_allowed_are_problems_too(intake: House) -> None:
    sender = await intake.sender()
    for path in ("/", "/api/v1", "/api/v2/messages", "/api/v1/messages/", "/api/v1/messages/a/b", "/metrics", "/%00"):
        check_problem(await sender.call("GET", path), Kind.NOT_FOUND, "no such path")
    for path in ("/api/v1/messages/no-uuid", "/api/v1/messages/01a2014e-92d4-7f37-a359-d66bd764a1fe"):
        check_problem(await sender.call("GET", path), Kind.NOT_FOUND, "no message of this caller")
    for method, path, allowed in (
        ("DELETE", "/api/v1/messages", "GET, POST"),
        ("PUT", "/api/v1/messages/01a2014e-92d4-7f37-a359-d66bd764a1fe", "GET"),
        ("GET", "/api/v1/statusRequest", "POST"),
        ("OPTIONS", "/api/v1/dossiers", "POST"),
    ):
        answer = await sender.call(method, path)
        check_problem(answer, Kind.METHOD_NOT_ALLOWED, allowed)
        assert answer.headers["Allow"] == allowed


async def test_a_busy_gateway_keeps_nothing_and_says_when_to_come_back(
    make_house: Any, limited: Any, connect: Any, make_post: Any, inside: Any
) -> None:
    house = await make_house(limited(requests_in_flight=1), parts=["intake"])
    sender = await house.sender()
    held, other = sender.message(), sender.message()
    whole = make_post(sender.parts(held))
    wire = await connect(house)
    await wire.send(whole[:-1_000])
    look = inside(house)
    await look.until_metric(1, "gateway_requests_in_flight_requests", edge="intake")
    answer = await sender.post(sender.parts(other))
    check_problem(answer, Kind.OVERLOADED, "send the same request again")
    assert (await look.traces()).messages == frozenset()
    await wire.send(whole[-1_000:])
    assert (await wire.answer()).status == 201
    assert (await sender.post(sender.parts(other))).status == 201


async def test_a_body_that_stalls_is_cut_and_can_be_sent_again(
    make_house: Any, limited: Any, connect: Any, make_post: Any, inside: Any
) -> None:
    house = await make_house(limited(body_stall="PT1S"), parts=["intake"])
    sender = await house.sender()
    letter = house.pdf + bytes(600_000)
    message = sender.message([letter])
    wire = await connect(house)
    await wire.send(make_post(sender.parts(message, [letter]))[:-1_000])
    answer = await wire.answer()
    check_problem(answer, Kind.REQUEST_TIMEOUT, "send it again, with the same reference")
    traces = await inside(house).traces()
    assert (traces.documents, traces.messages) == (frozenset(), frozenset())
    assert [entry["res"] for entry in await inside(house).log("privacy")] == [Kind.REQUEST_TIMEOUT]
    assert (await sender.post(sender.parts(message, [letter]))).status == 201


def take_away(blobs: Path) -> None:
    """Put a file where the blob store wants a folder."""
    shutil.rmtree(blobs / "tmp")
    (blobs / "tmp").write_bytes(b"")


def give_back(blobs: Path) -> None:
    (blobs / "tmp").unlink()
    (blobs / "tmp").mkdir()


async def test_a_store_that_is_away_keeps_nothing_and_is_told_as_such(blobs_only: House, inside: Any) -> None:
    sender = await blobs_only.sender()
    await sender.accepted()
    look = inside(blobs_only)
    message = sender.message()
    await asyncio.to_thread(take_away, look.blobs)
    before = await look.traces()
    check_problem(await sender.post(sender.parts(message)), Kind.STORE_UNAVAILABLE, "with the same reference")
    assert await look.traces() == before
    await asyncio.to_thread(give_back, look.blobs)
    assert (await sender.post(sender.parts(message))).status == 201


async def test_a_defect_of_the_gateway_tells_nothing_of_itself(
    intake: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def defect(*_arguments: object) -> None:
        raise RuntimeError("Jan Peeters, 90610100155")

    monkeypatch.setattr(intake.gateway.ledger, "message", defect)
    sender = await intake.sender()
    answer = await sender.call("GET", "/api/v1/messages/01a2014e-92d4-7f37-a359-d66bd764a1fe")
    check_problem(answer, Kind.INTERNAL, "name the correlation id")
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    told = vars(record)
    assert (told["error"], told["correlation"]) == ("RuntimeError", answer.headers["x-correlation-id"])
    assert "test_refusals.py" in told["cause"]
    assert "Peeters" not in str(told)


async def test_json_bodies_are_refused_with_their_fix(
    intake: House, connect: Any, make_request: Any, subtests: pytest.Subtests
) -> None:
    sender = await intake.sender()
    json_type = {"Content-Type": "application/json"}
    for name, body, kind, fix in (
        ("no JSON", b"{", Kind.BAD_REQUEST, "line 1"),
        ("not UTF-8", b'{"messages": "\xff"}', Kind.BAD_REQUEST, "UTF-8"),
        ("duplicate key", b'{"messages": [], "messages": []}', Kind.BAD_REQUEST, "twice"),
        ("NaN", b'{"messages": [NaN]}', Kind.BAD_REQUEST, "NaN"),
        ("too deep", b'{"messages":' + b"[" * 40 + b"]" * 40 + b"}", Kind.BAD_REQUEST, "32"),
        ("far too deep", b"[" * 100_000, Kind.BAD_REQUEST, "nested too deeply"),
        ("long number", b'{"messages": [' + b"9" * 5_000 + b"]}", Kind.BAD_REQUEST, "not acceptable JSON"),
        ("an array", b"[]", Kind.BAD_REQUEST, "messages must be"),
        ("nothing", b"", Kind.BAD_REQUEST, "not acceptable JSON"),
    ):
        with subtests.test(name):
            answer = await sender.call("POST", "/api/v1/statusRequest", body=body, headers=json_type)
            check_problem(answer, kind, fix)
    wrong_type = await sender.call("POST", "/api/v1/statusRequest", body=b"{}", headers={"Content-Type": "text/plain"})
    check_problem(wrong_type, Kind.UNSUPPORTED_MEDIA_TYPE, "application/json")
    no_multipart = await sender.call("POST", "/api/v1/messages", body=b"{}", headers=json_type)
    check_problem(no_multipart, Kind.UNSUPPORTED_MEDIA_TYPE, "multipart/form-data")


async def test_a_refused_digest_is_that_of_the_bytes_and_not_of_the_claim(intake: House) -> None:
    sender = await intake.sender()
    message = sender.message()
    claimed = replace(message.documents[0], sha256=hashlib.sha256(b"other").hexdigest())
    answer = await sender.post(sender.parts(replace(message, documents=(claimed,))))
    check_problem(answer, Kind.DOCUMENT_MISMATCH, "SHA-256")


async def test_a_flood_of_refusals_is_logged_at_the_senders_pace(
    make_house: Any, inside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.accept.stages.Pace", lambda **_: Pace(burst=2, per_s=0.0))
    house = await make_house()
    sender = await house.sender()
    for _ in range(5):
        assert (await sender.send(category="administrative-fine")).code == "category-not-authorised"
    look = inside(house)
    for log, event in (("traffic", "refused"), ("privacy", "message-refused")):
        assert [entry["ev"] for entry in await look.log(log)].count(event) == 2
