import asyncio
import base64
import hashlib
from dataclasses import replace
from datetime import timedelta
from urllib.parse import quote

import aiohttp
import pytest

from gateway.simulators import magic
from gateway.simulators.ebox import EboxSimulator
from gateway.simulators.ebox_message import MEDIA_TYPES
from gateway.simulators.ebox_settings import Triple
from gateway.simulators.records import Outcome
from gateway.simulators.serve import Simulators
from gateway.simulators.tokens import (
    SCOPE_CONSULTATION,
    SCOPE_PREFERENCE,
    SCOPE_PUBLICATION,
    SCOPE_REPRESENTATIVE,
)

PDF = b"%PDF-1.7 letter"
REPRESENTATIVE = (SCOPE_REPRESENTATIVE,)
SENDER = "0406798006"


def digest_of(content: bytes) -> dict[str, str]:
    value = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
    return {"digestMethod": "sha_256", "digestValue": value}


def attachment(n: int = 1, **changes: object) -> dict[str, object]:
    return {"httpPartName": f"upfile{n}", "mainContent": n == 1, "attachmentSigned": False, **changes}


async def test_a_published_message_is_kept_with_digest_size_key_and_bytes(ebox, ebox_simulator, clock):
    reply = await ebox.publish(key="8e03978e-40d5-43e8-bc93-6894a57f9324")
    assert reply.status == 201
    assert set(reply.json) == {"messageId", "expirationDate"}
    assert reply.json["expirationDate"] == "2028-11-21T11:00:00+01:00"
    (kept,) = ebox_simulator.records.kept
    assert kept.id == reply.json["messageId"]
    assert (kept.key, kept.recipient) == ("8e03978e-40d5-43e8-bc93-6894a57f9324", magic.CITIZEN_FINE)
    (document,) = kept.documents
    assert (document.content, document.size_bytes) == (PDF, len(PDF))
    assert document.sha256 == hashlib.sha256(PDF).hexdigest()
    assert (document.filename, document.media_type) == ("brief.pdf", "application/pdf")
    assert kept.kept_at == clock()
    assert kept.body == ebox.message()


@pytest.mark.parametrize("message_at", [0, 1, 2, 3])
async def test_parts_may_come_in_any_order(ebox, ebox_simulator, message_at):
    contents = [b"%PDF-1 one", b"%PDF-1 two", b"%PDF-1 three"]
    files = [ebox.part(f"upfile{n}", content) for n, content in enumerate(contents, start=1)]
    attachments = [attachment(n, digest=digest_of(content)) for n, content in enumerate(contents, start=1)]
    message = ebox.message(attachments=attachments)
    reply = await ebox.publish(message, files=[files[2], files[0], files[1]], message_at=message_at)
    assert reply.status == 201
    (kept,) = ebox_simulator.records.kept
    assert [document.name for document in kept.documents] == ["upfile3", "upfile1", "upfile2"]


async def test_a_message_of_many_chunks_is_digested_whole(ebox, ebox_simulator):
    content = bytes(range(256)) * 3_000
    message = ebox.message(attachments=[attachment(digest=digest_of(content))])
    assert (await ebox.publish(message, files=[ebox.part("upfile1", content)])).status == 201
    assert ebox_simulator.records.kept[0].documents[0].content == content


async def test_an_enterprise_gets_its_message(ebox, ebox_simulator):
    reply = await ebox.publish(ebox.message(magic.ENTERPRISE_FINE))
    assert reply.status == 201
    assert ebox_simulator.records.kept[0].recipient == magic.ENTERPRISE_FINE


async def test_the_v3_dialect_publishes_to_citizens_and_enterprises(ebox, ebox_simulator):
    assert (await ebox.publish_v3()).status == 201
    message = ebox.message_v3(
        magic.ENTERPRISE_FINE,
        isBodyMainContent=False,
        isReplyAuthorized=False,
        bodyContent={"nl": "tekst"},
        forTheAttentionOf={"ssin": magic.CITIZEN_FINE, "label": "Jan"},
        businessDataList=[{"key": "OUR_REFERENCE", "values": [{"nl": "2026-1"}]}],
    )
    assert (await ebox.publish_v3(message)).status == 201
    assert [kept.recipient for kept in ebox_simulator.records.kept] == [magic.CITIZEN_FINE, magic.ENTERPRISE_FINE]


async def test_the_dialects_do_not_take_each_other_s_fields(ebox):
    assert (await ebox.publish(ebox.message_v3())).json["code"] == "INVALID_INPUT"
    assert (await ebox.publish_v3(ebox.message())).json["code"] == "INVALID_INPUT"


async def test_the_body_may_be_the_main_content(ebox):
    message = ebox.message(attachments=[], bodyMainContent=True, bodyContent={"fr": "texte"}, subject={"fr": "sujet"})
    assert (await ebox.publish(message, files=[])).status == 201


async def test_a_percent_encoded_file_name_is_decoded(ebox, ebox_simulator):
    await ebox.publish(files=[ebox.part("upfile1", PDF, quote("brief Łódź € 100%.pdf"))])
    assert ebox_simulator.records.kept[0].documents[0].filename == "brief Łódź € 100%.pdf"


@pytest.mark.parametrize("media_type", sorted(MEDIA_TYPES))
async def test_every_listed_media_type_is_taken(ebox, media_type):
    assert (await ebox.publish(files=[ebox.part("upfile1", PDF, media_type=media_type)])).status == 201


# What breaks a rule: changes to the message, or the file parts, and the code.
INVALID_MESSAGES = {
    "no main content": {"attachments": [attachment(mainContent=False)]},
    "two main contents": {"bodyMainContent": True, "bodyContent": {"nl": "tekst"}},
    "body is main but missing": {"bodyMainContent": True, "attachments": [attachment(mainContent=False)]},
    "fewer attachments than parts": {"attachments": []},
    "more attachments than parts": {"attachments": [attachment(1), attachment(2)]},
    "attachment without its part": {"attachments": [attachment(2, mainContent=True)]},
    "two attachments for a part": {"attachments": [attachment(), attachment(mainContent=False)]},
    "seven attachments": {"attachments": [attachment(n) for n in range(1, 8)]},
    "part name out of range": {"attachments": [attachment(7, mainContent=True)]},
    "attachments are no list": {"attachments": {}},
    "attachment is no object": {"attachments": ["upfile1"]},
    "attachment without mainContent": {"attachments": [{"httpPartName": "upfile1"}]},
    "flag is text": {"attachments": [attachment(attachmentSigned="no")]},
    "digest is no object": {"attachments": [attachment(digest="abc")]},
    "digest method unknown": {"attachments": [attachment(digest={"digestMethod": "md5", "digestValue": "x"})]},
    "recipient missing": {"recipient": ...},
    "recipient type unknown": {"recipient": {"eboxType": "company", "eboxIdValue": magic.ENTERPRISE_FINE}},
    "recipient number missing": {"recipient": {"eboxType": "citizen"}},
    "citizen number wrong": {"recipient": {"eboxType": "citizen", "eboxIdValue": "90610100156"}},
    "enterprise number wrong": {"recipient": {"eboxType": "enterprise", "eboxIdValue": "0406798007"}},
    "sender number wrong": {"senderOrganizationId": "0316380842"},
    "sender missing": {"senderOrganizationId": ...},
    "application missing": {"senderApplicationId": ...},
    "message type missing": {"messageTypeId": ...},
    "message type is a number": {"messageTypeId": 7},
    "subject missing": {"subject": ...},
    "subject empty": {"subject": {}},
    "subject in an unknown language": {"subject": {"en": "Your tax bill"}},
    "subject too long": {"subject": {"nl": "x" * 401}},
    "body flag missing": {"bodyMainContent": ...},
    "reply flag missing": {"replyAuthorized": ...},
    "null": {"originalMessageId": None},
    "null deep inside": {"attachments": [attachment(digest=None)]},
    "registered mail": {"registeredMail": True},
    "business data without values": {"businessDataList": [{"key": "a"}]},
    "business data are no list": {"businessDataList": {}},
    "business key too long": {"businessDataList": [{"key": "a" * 257, "values": [{"nl": "x"}]}]},
    "business value too long": {"businessDataList": [{"key": "a", "values": [{"nl": "x" * 257}]}]},
    "business value without language": {"businessDataList": [{"key": "a", "values": ["x"]}]},
    "attention of a citizen's housemate": {"forTheAttentionOf": {"type": "person", "id": magic.CITIZEN_FINE}},
}


@pytest.mark.parametrize("changes", INVALID_MESSAGES.values(), ids=INVALID_MESSAGES)
async def test_a_message_that_breaks_the_schema_is_invalid_input(ebox, ebox_simulator, changes):
    reply = await ebox.publish(ebox.message(**changes))
    assert (reply.status, reply.json["code"]) == (400, "INVALID_INPUT")
    assert set(reply.json) == {"id", "code", "message", "environment"}
    assert reply.json["environment"] == "test"
    assert ebox_simulator.records.kept == []


@pytest.mark.parametrize(
    "person",
    [
        {"type": "group", "id": magic.CITIZEN_FINE},
        {"id": magic.CITIZEN_FINE},
        {"type": "person", "id": "12345678901"},
        {"type": "person", "name": "x" * 101},
        "Jan",
    ],
)
async def test_a_wrong_attention_is_invalid_input(ebox, person):
    reply = await ebox.publish(ebox.message(magic.ENTERPRISE_FINE, forTheAttentionOf=person))
    assert (reply.status, reply.json["code"]) == (400, "INVALID_INPUT")


async def test_an_enterprise_s_message_may_be_for_the_attention_of_a_person(ebox):
    person = {"type": "person", "id": magic.CITIZEN_FINE, "name": "Jan"}
    assert (await ebox.publish(ebox.message(magic.ENTERPRISE_FINE, forTheAttentionOf=person))).status == 201


INVALID_PARTS = {
    "no file name": ("upfile1", PDF, None, "application/pdf"),
    "no media type": ("upfile1", PDF, "brief.pdf", None),
    "file name too long": ("upfile1", PDF, "x" * 252 + ".pdf", "application/pdf"),
    "media type not allowed": ("upfile1", PDF, "brief.xml", "application/xml"),
    "image": ("upfile1", PDF, "brief.png", "image/png"),
    "other part name": ("file", PDF, "brief.pdf", "application/pdf"),
}


@pytest.mark.parametrize("part", INVALID_PARTS.values(), ids=INVALID_PARTS)
async def test_a_file_part_that_breaks_a_rule_is_invalid_input(ebox, ebox_simulator, part):
    reply = await ebox.publish(files=[ebox.part(*part)])
    assert (reply.status, reply.json["code"]) == (400, "INVALID_INPUT")
    assert ebox_simulator.records.kept == []


@pytest.mark.parametrize("text", [b"{", b"[]", b'"text"', b"\xff", b"{" + b" " * 1_100_000 + b"}"])
async def test_a_message_that_is_no_json_object_is_invalid_input(ebox, text):
    reply = await ebox.publish(text)
    assert (reply.status, reply.json["code"]) == (400, "INVALID_INPUT")


async def test_a_missing_or_doubled_message_part_is_invalid_input(ebox):
    doubled = await ebox.publish(files=[ebox.part("messageToPublish", b"{}", None, "application/json")])
    assert (doubled.status, doubled.json["code"]) == (400, "INVALID_INPUT")
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    for body in (b"--x--\r\n", b"", b"no boundary at all"):
        empty = await ebox.post(
            "/REST/ebox/enterprise/messageRegistry/v2/publishMessage",
            data=body,
            headers={**headers, "Authorization": f"Bearer {await ebox.token()}", "Idempotency-Key": '"k"'},
        )
        assert (empty.status, empty.json["code"]) == (400, "INVALID_INPUT")


async def test_a_body_without_its_last_boundary_is_invalid_input(ebox, ebox_simulator):
    opening = b'--x\r\nContent-Disposition: form-data; name="upfile1"; filename="a.pdf"\r\n'
    cut = opening + b"Content-Type: application/pdf\r\n\r\n%PDF-1.7 let"
    reply = await ebox.post(
        "/REST/ebox/enterprise/messageRegistry/v2/publishMessage",
        data=cut,
        headers={
            "Content-Type": "multipart/form-data; boundary=x",
            "Authorization": f"Bearer {await ebox.token()}",
            "Idempotency-Key": '"k"',
        },
    )
    assert (reply.status, reply.json["code"]) == (400, "INVALID_INPUT")
    assert ebox_simulator.records.kept == []


async def test_an_upload_that_breaks_off_leaves_nothing_and_its_key_free(ebox, ebox_simulator):
    token = await ebox.token()

    async def half_a_body():
        yield b'--x\r\nContent-Disposition: form-data; name="upfile1"; filename="a.pdf"\r\n'
        yield b"Content-Type: application/pdf\r\n\r\n%PDF"
        async with asyncio.timeout(20):
            await ebox_simulator.records.until(lambda records: records.calls[-1].operation == "publish")
        raise OSError("the disk broke")

    headers = {
        "Content-Type": "multipart/form-data; boundary=x",
        "Authorization": f"Bearer {token}",
        "Idempotency-Key": '"one"',
    }
    with pytest.raises((aiohttp.ClientError, OSError)):
        await ebox.post("/REST/ebox/enterprise/messageRegistry/v2/publishMessage", data=half_a_body(), headers=headers)
    async with asyncio.timeout(20):
        await ebox_simulator.records.until(lambda records: records.calls[-1].outcome is Outcome.DISCONNECTED)
    assert ebox_simulator.records.kept == []
    assert (await ebox.publish(key="one")).status == 201


async def test_a_body_that_is_not_multipart_is_unsupported(ebox):
    reply = await ebox.publish(headers={"Content-Type": "application/json"})
    assert reply.status == 415


async def test_files_above_the_limit_are_too_large_and_leave_nothing(ebox, ebox_simulator):
    files = [ebox.part("upfile1", b"x" * 600_000), ebox.part("upfile2", b"x" * 600_000)]
    reply = await ebox.publish(ebox.message(files=2), files=files)
    assert reply.status == 413
    assert ebox_simulator.records.kept == []


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": {"nl": "een", "fr": "un"}},
        {"bodyContent": {"fr": "texte"}},
        {"businessDataList": [{"key": "a", "values": [{"de": "x"}]}]},
        {"attachments": [attachment(attachmentTitle={"fr": "titre"})]},
        {"paymentData": {"amount": 1}},
    ],
)
async def test_a_second_language_or_payment_data_are_not_implemented(ebox, changes):
    reply = await ebox.publish(ebox.message(**changes))
    assert (reply.status, reply.json["code"]) == (400, "NOT_IMPLEMENTED")


@pytest.mark.parametrize(
    "value",
    [
        base64.urlsafe_b64encode(hashlib.sha256(b"other").digest()).decode(),
        hashlib.sha256(PDF).hexdigest(),
        base64.b64encode(hashlib.sha256(PDF).digest()).decode().replace("-", "+").replace("_", "/") + "x",
    ],
    ids=["other bytes", "hexadecimal", "not base64url"],
)
async def test_a_digest_that_differs_from_the_bytes_is_named(ebox, ebox_simulator, value):
    digest = {"digestMethod": "sha_256", "digestValue": value}
    reply = await ebox.publish(ebox.message(attachments=[attachment(digest=digest)]))
    assert (reply.status, reply.json["code"]) == (400, "DIGEST_DO_NOT_MATCH")
    assert ebox_simulator.records.kept == []


@pytest.mark.parametrize("padding", ["", "="])
async def test_a_base64url_digest_is_taken_with_and_without_padding(ebox, padding):
    digest = digest_of(PDF)
    digest["digestValue"] = digest["digestValue"].rstrip("=") + padding
    assert (await ebox.publish(ebox.message(attachments=[attachment(digest=digest)]))).status == 201


@pytest.mark.parametrize(
    "changes",
    [
        {"senderApplicationId": "another-application"},
        {"messageTypeId": "ANOTHER_TYPE"},
        {"messageTypeId": "LETTER_ENTERPRISE"},
    ],
    ids=["application", "message type", "type of the other kind of recipient"],
)
async def test_a_triple_that_is_not_configured_is_invalid_sender(ebox, changes):
    reply = await ebox.publish(ebox.message(**changes))
    assert (reply.status, reply.json["code"]) == (400, "INVALID_SENDER")


async def test_a_triple_of_one_organisation_is_not_another_s(ebox, client, clock):
    triple = Triple(
        organisation=SENDER,
        application="app",
        message_type="TYPE",
        recipient_type="citizen",
        validity=timedelta(days=1),
    )
    names = {"senderApplicationId": "app", "messageTypeId": "TYPE"}
    only = EboxSimulator(clients=[client], clock=clock, triples=[triple])
    async with Simulators(ebox=only) as running:
        caller = replace(ebox, url=running.ebox_url, tokens={})
        own = await caller.publish(caller.message(**names))
        assert (own.status, own.json["code"]) == (400, "INVALID_SENDER")
        other = await caller.publish(
            caller.message(senderOrganizationId=SENDER, **names),
            scopes=REPRESENTATIVE,
            headers={"On-Behalf-Of-Enterprise-Number": SENDER},
        )
        assert other.status == 201
        assert other.json["expirationDate"] == "2026-11-23T11:00:00+01:00"


async def test_another_organisation_than_the_token_s_is_invalid_sender(ebox):
    reply = await ebox.publish(ebox.message(senderOrganizationId=SENDER))
    assert (reply.status, reply.json["code"]) == (400, "INVALID_SENDER")


@pytest.mark.parametrize(
    ("header", "scope", "sender", "want"),
    [
        (SENDER, SCOPE_REPRESENTATIVE, SENDER, (201, None)),
        (None, SCOPE_REPRESENTATIVE, SENDER, (400, "INVALID_INPUT")),
        ("0406798007", SCOPE_REPRESENTATIVE, SENDER, (400, "INVALID_INPUT")),
        (SENDER, SCOPE_PUBLICATION, SENDER, (403, "FORBIDDEN")),
        (SENDER, SCOPE_REPRESENTATIVE, "0566988259", (400, "INVALID_SENDER")),
        (magic.ENTERPRISE_WITHOUT_MANDATE, SCOPE_REPRESENTATIVE, magic.ENTERPRISE_WITHOUT_MANDATE, (403, "FORBIDDEN")),
    ],
    ids=["mandated", "header missing", "header wrong", "scope missing", "other sender", "no mandate"],
)
async def test_publishing_for_another_needs_scope_header_and_mandate(ebox, header, scope, sender, want):
    headers = {} if header is None else {"On-Behalf-Of-Enterprise-Number": header}
    reply = await ebox.publish(ebox.message(senderOrganizationId=sender), headers=headers, scopes=[scope])
    assert (reply.status, reply.json.get("code")) == want


@pytest.mark.parametrize("token", ["", "Bearer", "Bearer unknown-token", "Basic abc"])
async def test_a_missing_or_unknown_token_is_unauthorised(ebox, ebox_simulator, token):
    reply = await ebox.publish(headers={"Authorization": token})
    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert ebox_simulator.records.kept == []


async def test_an_expired_token_is_unauthorised(ebox, clock):
    assert (await ebox.publish()).status == 201
    clock.move(timedelta(minutes=5))
    assert (await ebox.publish()).status == 401


@pytest.mark.parametrize("scope", [SCOPE_CONSULTATION, SCOPE_PREFERENCE])
async def test_a_token_without_a_publication_scope_is_forbidden(ebox, scope):
    assert (await ebox.publish(scopes=[scope])).status == 403


@pytest.mark.parametrize(
    "header", ["unquoted", '"open', "'single'", '"é"', '""x', "8e03978e-40d5-43e8-bc93-6894a57f9324"]
)
async def test_a_key_that_is_no_structured_field_string_is_invalid_input(ebox, header):
    reply = await ebox.publish(headers={"Idempotency-Key": header})
    assert (reply.status, reply.json["code"]) == (400, "INVALID_INPUT")


async def test_a_missing_key_is_invalid_input_unless_keys_are_optional(ebox, client, clock):
    assert (await ebox.publish(key=None)).json["code"] == "INVALID_INPUT"
    lenient = EboxSimulator(clients=[client], clock=clock, require_idempotency_key=False)
    async with Simulators(ebox=lenient) as running:
        caller = replace(ebox, url=running.ebox_url, tokens={})
        assert (await caller.publish(key=None)).status == 201
        assert (await caller.publish(key=None)).status == 201


async def test_escapes_in_a_key_are_resolved(ebox, ebox_simulator):
    await ebox.publish(headers={"Idempotency-Key": r'"a\"b\\c"'})
    assert ebox_simulator.records.kept[0].key == r'a"b\c'


@pytest.mark.parametrize(
    "changes",
    [{}, {"recipient": {"eboxType": "citizen", "eboxIdValue": magic.CITIZEN_UNREAD}}, {"subject": ...}],
    ids=["same", "other recipient", "invalid"],
)
async def test_a_used_key_conflicts_whatever_the_payload(ebox, ebox_simulator, changes):
    assert (await ebox.publish(key="one")).status == 201
    again = await ebox.publish(ebox.message(**changes), key="one")
    assert (again.status, again.json["code"]) == (409, "CONFLICT")
    assert "messageId" not in again.json
    assert len(ebox_simulator.records.kept) == 1


async def test_a_key_that_published_nothing_stays_free(ebox):
    assert (await ebox.publish(ebox.message(subject=...), key="one")).status == 400
    assert (await ebox.publish(key="one")).status == 201


async def test_keys_of_different_senders_do_not_collide(ebox):
    assert (await ebox.publish(key="one")).status == 201
    other = await ebox.publish(
        ebox.message(senderOrganizationId=SENDER),
        key="one",
        scopes=REPRESENTATIVE,
        headers={"On-Behalf-Of-Enterprise-Number": SENDER},
    )
    assert other.status == 201


async def test_one_key_sent_many_times_at_once_publishes_once(ebox, ebox_simulator):
    await ebox.token()
    replies = await asyncio.gather(*(ebox.publish(key="one") for _ in range(8)))
    assert sorted(reply.status for reply in replies) == [201] + [409] * 7
    assert len(ebox_simulator.records.kept) == 1


@pytest.mark.parametrize("recipient", [magic.CITIZEN_NO_BOX, magic.ENTERPRISE_NO_BOX])
async def test_a_recipient_without_box_is_published_and_flagged(ebox, ebox_simulator, recipient):
    reply = await ebox.publish(ebox.message(recipient))
    assert (reply.status, reply.json["code"]) == (201, "NO_DIGITAL_USER")
    assert ebox_simulator.records.kept[0].recipient == recipient


@pytest.mark.parametrize("recipient", [magic.CITIZEN_REFUSED, magic.CITIZEN_NO_CONSENT, magic.ENTERPRISE_INACTIVE])
async def test_a_refused_recipient_is_invalid_input_and_named_in_the_text(ebox, ebox_simulator, recipient):
    reply = await ebox.publish(ebox.message(recipient))
    assert (reply.status, reply.json["code"]) == (400, "INVALID_INPUT")
    assert recipient in reply.json["message"]
    assert ebox_simulator.records.kept == []


async def test_a_citizen_without_consent_can_be_published_to_and_flagged_instead(ebox, client, clock):
    lenient = EboxSimulator(clients=[client], clock=clock, without_consent="no-digital-user")
    async with Simulators(ebox=lenient) as running:
        caller = replace(ebox, url=running.ebox_url, tokens={})
        reply = await caller.publish(caller.message(magic.CITIZEN_NO_CONSENT))
    assert (reply.status, reply.json["code"]) == (201, "NO_DIGITAL_USER")


@pytest.mark.parametrize("recipient", [magic.CITIZEN_DOUBT, magic.ENTERPRISE_DOUBT])
async def test_a_doubtful_recipient_is_kept_unsaid_and_conflicts_on_the_same_key(ebox, ebox_simulator, recipient):
    message = ebox.message(recipient)
    assert (await ebox.publish(message, key="one")).status == 504
    assert (await ebox.publish(message, key="one")).status == 409
    (kept,) = ebox_simulator.records.kept
    assert [call.kept_id for call in ebox_simulator.records.calls if call.operation == "publish"] == [kept.id, None]


async def test_bytes_are_not_kept_unless_asked_for(ebox, client, clock):
    simulator = EboxSimulator(clients=[client], clock=clock)
    async with Simulators(ebox=simulator) as running:
        await replace(ebox, url=running.ebox_url, tokens={}).publish()
    (document,) = simulator.records.kept[0].documents
    assert document.content is None
    assert document.sha256 == hashlib.sha256(PDF).hexdigest()
