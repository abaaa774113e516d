"""A letter as JSON Web Signature, over the real edge: taken, delivered, answered again in either dialect, refused."""

import asyncio
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from gateway.crypto.certs import load_certificates
from gateway.crypto.dialects import Dialect
from gateway.crypto.manifest import message_json
from gateway.crypto.receipts import verify_receipt_jws
from gateway.domain.ids import Ssin
from gateway.domain.message import Channel, Message, Recipient
from gateway.errors import Kind

if TYPE_CHECKING:
    from tests.plugins.forging import Signer
    from tests.plugins.forging_jws import forge_token, header_of
    from tests.plugins.house import House, Part, SenderHand
else:
    from forging import Signer
    from forging_jws import forge_token, header_of
    from house import House, Part, SenderHand

CHECK = "/api/v1/messages?mode=check"
OTHER = {Dialect.XML: Dialect.JWS, Dialect.JWS: Dialect.XML}


def signer_of(sender: SenderHand) -> Signer:
    return Signer(key=sender.key, certificate=sender.certificate)


async def receipt_certificate(house: House) -> x509.Certificate:
    return (await asyncio.to_thread(load_certificates, house.certs / "receipts.pem"))[0]


# ── Taken ──


@pytest.mark.parametrize("name", ["gemeente", "belasting"])
async def test_a_letter_is_accepted_and_delivered(house: House, name: str) -> None:
    sender = await house.sender(name)  # on P-256 with ES256, and RSA with PS256
    parts = sender.parts(sender.message(), dialect=Dialect.JWS)
    assert parts[0].media_type == "application/jose"
    answer = await sender.post(parts)
    assert answer.status == 201, answer.body
    receipt = verify_receipt_jws(answer.json["receipt"], await receipt_certificate(house))
    assert receipt.message_sha256 == hashlib.sha256(parts[0].content).hexdigest()
    view = await sender.until(answer.json["messageId"], lambda view: view["status"] == "delivered")
    assert view["receipt"] == answer.json["receipt"]
    assert house.simulators.ebox.records.copies(hashlib.sha256(house.pdf).hexdigest()) == 1


async def test_rs256_is_taken_too(intake: House) -> None:
    sender = await intake.sender("belasting")
    message = sender.message()
    token = forge_token(message_json(message), signer_of(sender), header_of(signer_of(sender), alg="RS256"))
    answer = await sender.post(sender.parts(message, manifest=token, dialect=Dialect.JWS))
    assert answer.status == 201, answer.body


async def test_a_processor_signs_for_its_sender(intake: House) -> None:
    processor, sender = await intake.sender("belasting"), await intake.sender("gemeente")
    message = sender.message()
    answer = await processor.post(processor.parts(message, dialect=Dialect.JWS))
    assert answer.status == 201, answer.body


async def test_both_dialects_leave_the_same_behind(house: House, inside: Any) -> None:
    sender = await house.sender()
    message = sender.message(channels=(Channel.EBOX_CITIZEN,))
    entries = {}
    for dialect in Dialect:
        before = len(await inside(house).log("privacy"))
        answer = await sender.post(sender.parts(replace(message, reference=f"R-{dialect}"), dialect=dialect))
        assert answer.status == 201
        await sender.until(answer.json["messageId"], lambda view: view["status"] == "delivered")
        entries[dialect] = (await inside(house).log("privacy"))[before]
    xml, jws = entries[Dialect.XML], entries[Dialect.JWS]
    assert {name for name in xml if xml[name] != jws[name]} <= {"id", "ts", "what", "commit", "who"}
    assert xml["who"] == jws["who"]
    assert xml["what"].keys() == jws["what"].keys()


async def test_the_kit_proves_a_letter_in_this_dialect(house: House) -> None:
    sender = await house.sender()
    parts = sender.parts(sender.message(), dialect=Dialect.JWS)
    message_id = (await sender.post(parts)).json["messageId"]
    await sender.until(message_id, lambda view: view["status"] == "delivered")
    kit = await sender.call("GET", f"/api/v1/messages/{message_id}/kit")
    with zipfile.ZipFile(io.BytesIO(kit.body)) as archive:
        receipts = [archive.read(name) for name in archive.namelist() if name.endswith("receipt.jws")]
    certificate = await receipt_certificate(house)
    (receipt,) = [verify_receipt_jws(each.decode().strip(), certificate) for each in receipts]
    assert receipt.message_sha256 == hashlib.sha256(parts[0].content).hexdigest()
    listed = await sender.call("GET", f"/api/v1/messages/{message_id}/evidence")
    assert listed.json["evidence"][0]["event"] == "accepted"


async def test_the_integrity_of_what_was_taken_in_both_dialects_holds(make_house: Any, assert_clean: Any) -> None:
    async with AsyncExitStack() as run:
        house = await make_house(own_stack=run)
        sender = await house.sender()
        for dialect in Dialect:
            answer = await sender.post(sender.parts(sender.message(), dialect=dialect))
            await sender.until(answer.json["messageId"], lambda view: view["status"] == "delivered")
    await assert_clean(house.config)


# ── Again ──


@pytest.mark.parametrize("first", Dialect)
async def test_the_same_message_again_in_the_other_dialect_gets_the_first_receipt(house: House, first: Dialect) -> None:
    sender = await house.sender()
    message = sender.message()
    taken = await sender.post(sender.parts(message, dialect=first))
    assert taken.status == 201
    later = replace(message, created_at=message.created_at + timedelta(minutes=2))
    for dialect in (OTHER[first], first):
        again = await sender.post(sender.parts(later, [], dialect=dialect))
        assert (again.status, again.json["receipt"]) == (200, taken.json["receipt"])
    xml = [await sender.post(sender.parts(message, dialect=each), {"Accept": "application/xml"}) for each in Dialect]
    assert xml[0].body == xml[1].body
    await sender.until(taken.json["messageId"], lambda view: view["status"] == "delivered")
    assert len(house.simulators.ebox.records.kept) == 1


@pytest.mark.parametrize("first", Dialect)
async def test_a_conflict_across_dialects_names_the_fields(intake: House, first: Dialect) -> None:
    sender = await intake.sender()
    message = sender.message()
    taken = await sender.post(sender.parts(message, dialect=first))
    other = replace(message, subject="Iets anders", recipient=replace(message.recipient, ssin=Ssin("90610100551")))
    for dialect in Dialect:
        answer = await sender.post(sender.parts(other, dialect=dialect))
        assert (answer.status, answer.code) == (409, "reference-conflict")
        assert answer.json["messageId"] == taken.json["messageId"]
        assert answer.json["differingFields"] == ["/recipient/ssin", "/subject/text"]


# ── Dry run ──


async def test_a_dry_run_in_this_dialect_finds_the_same(house: House, inside: Any) -> None:
    sender = await house.sender()
    before = await inside(house).traces()
    outcomes = {}
    for dialect in Dialect:
        good = await sender.post(sender.parts(sender.message(), dialect=dialect), path=CHECK)
        bad = sender.message(category="administrative-fine")
        outcomes[dialect] = [
            good.json["wouldBeAccepted"],
            good.json["channels"],
            (await sender.post(sender.parts(bad, [b"%PDF-another"], dialect=dialect), path=CHECK)).json["findings"],
        ]
    assert outcomes[Dialect.JWS] == outcomes[Dialect.XML]
    assert outcomes[Dialect.JWS][0] is True
    broken = sender.parts(sender.message(), manifest=b"a.b.c", dialect=Dialect.JWS)
    found = (await sender.post(broken, path=CHECK)).json["findings"]
    assert [each["code"] for each in found] == ["malformed-message"]
    assert await inside(house).traces() == before


# ── Refused ──

Make = Callable[[SenderHand, Message], "bytes | list[Part]"]


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """One wrong token, and what is answered; `signed`: the signature holds, so that the refusal is logged."""

    kind: Kind
    fix: str
    make: Make
    signed: bool = True
    pointers: tuple[str, ...] = ()


def with_fields(change: Callable[[dict[str, Any]], object], **header: Any) -> Make:
    def make(sender: SenderHand, message: Message) -> bytes:
        fields = message_json(message)
        change(fields)
        return forge_token(fields, signer_of(sender), header_of(signer_of(sender), **header))

    return make


def with_message(**changes: Any) -> Make:
    return lambda sender, message: sender.sign(replace(message, **changes), Dialect.JWS)


def with_token(change: Callable[[bytes], bytes]) -> Make:
    return lambda sender, message: change(sender.sign(message, Dialect.JWS))


def signed_by(name: str) -> Make:
    return lambda sender, message: SenderHand(sender.house, name, sender.session).sign(message, Dialect.JWS)


def of_type(media_type: str) -> Make:
    def make(sender: SenderHand, message: Message) -> "list[Part]":
        first, *rest = sender.parts(message, dialect=Dialect.JWS)
        return [replace(first, media_type=media_type), *rest]

    return make


def keep(_fields: object) -> None:
    """Change nothing."""


TABLE: Mapping[str, Wrong] = {
    "no token": Wrong(kind=Kind.MALFORMED_MESSAGE, fix="compact JWS", make=with_token(lambda _: b"{}"), signed=False),
    "a line end": Wrong(
        kind=Kind.MALFORMED_MESSAGE, fix="white space", make=with_token(lambda it: it + b"\n"), signed=False
    ),
    "too large": Wrong(
        kind=Kind.MESSAGE_TOO_LARGE, fix="262144", make=with_token(lambda it: it + b"A" * 262_144), signed=False
    ),
    "typ": Wrong(kind=Kind.SIGNATURE_INVALID, fix="nothing else", make=with_fields(keep, typ="JWT"), signed=False),
    "alg none": Wrong(kind=Kind.SIGNATURE_INVALID, fix="alg", make=with_fields(keep, alg="none"), signed=False),
    "a letter changed": Wrong(
        kind=Kind.SIGNATURE_INVALID,
        fix="does not match",
        make=with_token(lambda it: it[:-10] + (b"A" if it[-10:-9] != b"A" else b"B") + it[-9:]),
        signed=False,
    ),
    "of another sender": Wrong(kind=Kind.SIGNER_MISMATCH, fix="x5c", make=signed_by("belasting"), signed=False),
    "revoked": Wrong(kind=Kind.CERTIFICATE_REVOKED, fix="use another", make=signed_by("revoked"), signed=False),
    "expired": Wrong(kind=Kind.SIGNATURE_INVALID, fix="expired", make=signed_by("expired"), signed=False),
    "of no known authority": Wrong(
        kind=Kind.SIGNATURE_INVALID, fix="unknown-issuer", make=signed_by("other-ca"), signed=False
    ),
    "not for signatures": Wrong(
        kind=Kind.SIGNATURE_INVALID, fix="no-digital-signature", make=signed_by("no-digital-signature"), signed=False
    ),
    "a key too short": Wrong(
        kind=Kind.SIGNATURE_INVALID,
        fix="does not fit",
        make=lambda sender, message: forge_token(
            message_json(message), signer_of(SenderHand(sender.house, "weak-key", sender.session))
        ),
        signed=False,
    ),
    "for a sender it may not send for": Wrong(
        kind=Kind.SIGNER_MISMATCH,
        fix="may send for",
        make=with_fields(lambda it: it["sender"].update(enterpriseNumber="0566988259")),
        signed=False,
    ),
    "XML under the type of the other": Wrong(
        kind=Kind.MALFORMED_MESSAGE,
        fix="compact JWS",
        make=lambda sender, message: sender.sign(message, Dialect.XML),
        signed=False,
    ),
    "a token under the type of XML": Wrong(
        kind=Kind.MALFORMED_MESSAGE, fix="line 1", make=of_type("application/xml"), signed=False
    ),
    "another type": Wrong(
        kind=Kind.UNSUPPORTED_MEDIA_TYPE,
        fix="application/xml or application/jose",
        make=of_type("application/jose+json"),
        signed=False,
    ),
    "a type with a parameter": Wrong(
        kind=Kind.UNSUPPORTED_MEDIA_TYPE,
        fix="application/jose",
        make=of_type("application/jose; charset=utf-8"),
        signed=False,
    ),
    "several fields": Wrong(
        kind=Kind.INVALID_MESSAGE,
        fix="see errors",
        make=with_fields(lambda it: [it.update(purpose=" a", haste=True), it["documents"][0].update(size="346")]),
        pointers=("/purpose", "/documents/0/size", "/haste"),
    ),
    "an unknown category": Wrong(
        kind=Kind.INVALID_MESSAGE,
        fix="see errors",
        make=with_message(category="no-such-category"),
        pointers=("/category",),
    ),
    "what the authorisation forbids": Wrong(
        kind=Kind.INVALID_MESSAGE,
        fix="see errors",
        make=with_message(
            retention=timedelta(days=366),
            deliver_before=datetime(2026, 1, 1, tzinfo=UTC),
            recipient=Recipient(ssin=Ssin("90610100155")),
        ),
        pointers=("/retention", "/deliverBefore", "/recipient/postalAddress"),
    ),
    "no channel": Wrong(
        kind=Kind.CHANNEL_CANNOT_CARRY,
        fix="see errors",
        make=with_message(channels=(Channel.EBOX_CITIZEN,), language="en"),
        pointers=("/channels/ebox-citizen",),
    ),
    "another gateway": Wrong(
        kind=Kind.WRONG_GATEWAY, fix="gateway.dev.example", make=with_message(gateway="gateway.example.be")
    ),
    "from yesterday": Wrong(
        kind=Kind.CREATED_AT_OUT_OF_WINDOW,
        fix="clock",
        make=with_message(created_at=datetime.now(UTC).replace(microsecond=0) - timedelta(hours=25)),
    ),
    "a category of others": Wrong(
        kind=Kind.CATEGORY_NOT_AUTHORISED, fix="social-benefit", make=with_message(category="social-benefit")
    ),
}


async def test_each_wrong_token_gets_its_problem_and_leaves_nothing(
    intake: House, inside: Any, subtests: pytest.Subtests
) -> None:
    sender = await intake.sender()
    look = inside(intake)
    for number, (name, wrong) in enumerate(TABLE.items()):
        with subtests.test(name):
            message = sender.message(reference=f"wrong-{number}")
            before, logged = await look.traces(), len(await look.log("traffic"))
            made = wrong.make(sender, message)
            parts = sender.parts(message, manifest=made, dialect=Dialect.JWS) if isinstance(made, bytes) else made
            answer = await sender.post(parts)
            assert answer.code == wrong.kind, answer.body
            assert wrong.fix in answer.json["detail"]
            assert tuple(error["pointer"] for error in answer.json.get("errors", ())) == wrong.pointers
            assert [value for value in ("90610100155", "Peeters", "Uw aan") if value in answer.body.decode()] == []
            assert await look.traces() == before
            assert len(await look.log("traffic")) == logged + wrong.signed
            assert (await sender.post(sender.parts(message, dialect=Dialect.JWS))).status == 201


async def test_a_payload_far_too_deep_does_not_disturb_the_gateway(intake: House) -> None:
    sender = await intake.sender()
    message = sender.message()
    text = json.dumps(message_json(message))[:-1] + ', "a": ' + "[" * 90_000 + "]" * 90_000 + "}"
    token = forge_token(text.encode(), signer_of(sender))
    answer = await sender.post(sender.parts(message, manifest=token, dialect=Dialect.JWS))
    assert (answer.status, answer.code) == (400, "malformed-message")
    assert (await sender.post(sender.parts(message, dialect=Dialect.JWS))).status == 201
