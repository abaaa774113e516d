"""The e-Box adapter against the simulated registry, through every row of its error table."""

import asyncio
import base64
import hashlib
import json
from typing import Any

import pytest

from gateway.adapters.base import Handover
from gateway.adapters.ebox import EboxSettings
from gateway.domain.status import DeliveryStatus, Reason
from gateway.errors import (
    BlobMissing,
    ChannelBlocked,
    DeliveryError,
    OutcomeUnknown,
    Refused,
    StoreUnavailable,
    Unreachable,
)
from gateway.simulators import magic
from gateway.simulators.ebox_settings import DEMO_APPLICATION, DEMO_MESSAGE_TYPE_CITIZEN, DEMO_ORGANISATION

NOT_REGISTERED = "answered INVALID_SENDER: sender, application and message type are not registered together"
LOST = "the connection was lost"
UNREADABLE = "answered 201, but the answer cannot be read"


async def fails(adapter: Any, parcel: Any, *, again: bool = False) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await adapter.send(parcel, again=again)
    return caught.value


async def test_a_letter_to_a_citizen_is_published_as_it_was_signed(ebox: Any, letters: Any) -> None:
    main, annex = letters.document(), letters.document(b"%PDF annex", main=False, signed=True, filename="bijlage.pdf")
    parcel = letters.to_citizen(documents=(main, annex))
    handover = await ebox.adapter().send(parcel, again=False)
    (kept,) = ebox.simulator.records.kept
    assert handover == Handover(status=DeliveryStatus.DELIVERED, provider_reference=kept.id)
    assert kept.key == str(parcel.delivery_id)
    assert [(d.name, d.filename, d.media_type, d.sha256) for d in kept.documents] == [
        ("upfile1", "brief.pdf", "application/pdf", main.sha256.hex()),
        ("upfile2", "bijlage.pdf", "application/pdf", annex.sha256.hex()),
    ]
    assert kept.documents[1].content == b"%PDF annex"
    assert kept.body == {
        "recipient": {"eboxType": "citizen", "eboxIdValue": magic.CITIZEN_FINE},
        "subject": {"nl": "Uw aanslagbiljet"},
        "messageTypeId": DEMO_MESSAGE_TYPE_CITIZEN,
        "senderOrganizationId": parcel.sender,
        "senderApplicationId": DEMO_APPLICATION,
        "bodyMainContent": False,
        "replyAuthorized": False,
        "attachments": [
            {
                "httpPartName": f"upfile{number}",
                "mainContent": document.main,
                "attachmentSigned": document.signed,
                "digest": {
                    "digestMethod": "sha_256",
                    "digestValue": base64.urlsafe_b64encode(document.sha256).decode(),
                },
            }
            for number, document in enumerate((main, annex), start=1)
        ],
    }


async def test_a_letter_to_an_enterprise_names_the_person_it_is_for(ebox: Any, letters: Any) -> None:
    parcel = letters.to_enterprise(attention_of="Dienst boekhouding " + "x" * 100)
    handover = await ebox.adapter().send(parcel, again=False)
    (kept,) = ebox.simulator.records.kept
    assert handover.status is DeliveryStatus.DELIVERED
    assert kept.recipient == magic.ENTERPRISE_FINE
    assert kept.body["forTheAttentionOf"]["name"] == ("Dienst boekhouding " + "x" * 100)[:100]


async def test_a_client_of_its_own_publishes_without_representing_anybody(ebox: Any, letters: Any) -> None:
    parcel = letters.to_citizen(sender=DEMO_ORGANISATION)
    await ebox.adapter(representative=False, partition_url=None).send(parcel, again=False)
    assert ebox.simulator.records.kept[0].sender == DEMO_ORGANISATION
    assert ebox.calls("mandate") == 0


@pytest.mark.parametrize(
    ("filename", "on_the_wire"),
    [
        ("brief.pdf", "brief.pdf"),
        ("Bijlage (1) bij 'brief'.pdf", "Bijlage (1) bij 'brief'.pdf"),
        ("éénmalig (1).pdf", "%C3%A9%C3%A9nmalig%20(1).pdf"),
        ("Жалоба.pdf", "%D0%96%D0%B0%D0%BB%D0%BE%D0%B1%D0%B0.pdf"),
        ('"100%".pdf', "%22100%25%22.pdf"),
        ("a\\b.pdf", "a%5Cb.pdf"),
    ],
)
async def test_a_filename_is_encoded_only_where_it_must_be(
    ebox: Any, letters: Any, stub: Any, filename: str, on_the_wire: str
) -> None:
    parcel = letters.to_citizen(sender=DEMO_ORGANISATION, documents=(letters.document(filename=filename),))
    await ebox.bare_adapter().send(parcel, again=False)
    assert ebox.simulator.records.kept[0].documents[0].filename == filename
    stub.answers(400)
    await fails(ebox.bare_adapter(base_url=stub.url), parcel)
    _path, headers, body = stub.requests[0]
    assert f'name="upfile1"; filename="{on_the_wire}"\r\n'.encode() in body
    assert headers["Content-Length"] == str(len(body))
    assert headers["Idempotency-Key"] == f'"{parcel.delivery_id}"'


@pytest.mark.parametrize(
    ("fault", "times", "error", "copies"),
    [
        ("bad-request", 1, Refused(Reason.REFUSED, "INVALID_INPUT"), 0),
        ("unprocessable", 1, Refused(Reason.REFUSED, "unprocessable"), 0),
        ("digest-mismatch", 1, Refused(Reason.REFUSED, "DIGEST_DO_NOT_MATCH"), 0),
        ("invalid-sender", 1, ChannelBlocked(NOT_REGISTERED, whole_channel=False), 0),
        ("unauthorised", 2, ChannelBlocked("answered 401"), 0),
        ("forbidden", 1, ChannelBlocked("answered 403"), 0),
        ("conflict", 1, OutcomeUnknown("answered 409: the key was used before", for_good=True), 0),
        ("redirect", 1, ChannelBlocked("answered 302"), 0),
        ("request-timeout", 1, Unreachable("answered 408"), 0),
        ("too-many-requests", 1, Unreachable("answered 429", retry_after_s=7.0), 0),
        ("server-error", 1, OutcomeUnknown("answered 500"), 0),
        ("bad-gateway", 1, OutcomeUnknown("answered 502"), 0),
        ("unavailable", 1, OutcomeUnknown("answered 503"), 0),
        ("gateway-timeout", 1, OutcomeUnknown("answered 504"), 0),
        ("close", 1, OutcomeUnknown(LOST), 0),
        ("keep-then-500", 1, OutcomeUnknown("answered 500"), 1),
        ("keep-then-504", 1, OutcomeUnknown("answered 504"), 1),
        ("keep-then-close", 1, OutcomeUnknown(LOST), 1),
        ("keep-then-truncate", 1, OutcomeUnknown(UNREADABLE), 1),
        ("malformed-json", 1, OutcomeUnknown(UNREADABLE), 1),
        ("wrong-content-type", 1, OutcomeUnknown(UNREADABLE), 1),
    ],
)
async def test_each_failure_of_a_publication_has_its_meaning(
    *, ebox: Any, letters: Any, fault: str, times: int, error: Any, copies: int
) -> None:
    ebox.simulator.faults.order("publish", fault, times)
    found = await fails(ebox.adapter(), letters.to_citizen())
    assert type(found) is type(error)
    # How the loss of a connection shows depends on what the kernel had delivered by then.
    assert {name: LOST if str(value).startswith(LOST) else value for name, value in vars(found).items()} == vars(error)
    assert ebox.copies() == copies
    assert ebox.calls("publish") == times
    assert ebox.simulator.faults.pending == ()


@pytest.mark.parametrize(("fault", "copies"), [("hang", 0), ("keep-then-hang", 1), ("slow", 1)])
async def test_an_answer_that_does_not_come_in_time_leaves_the_outcome_unknown(
    ebox: Any, letters: Any, fault: str, copies: int
) -> None:
    parcel = letters.to_citizen(sender=DEMO_ORGANISATION)
    ebox.simulator.faults.order("publish", fault)
    found = await fails(ebox.bare_adapter(send_timeout_s=0.3), parcel)
    assert isinstance(found, OutcomeUnknown)
    assert found.detail == "no answer in time"
    async with asyncio.timeout(10):  # the provider may still be working on it
        await ebox.simulator.records.until(lambda records: len(records.kept) == copies)


async def test_a_refused_connection_hands_nothing_over(ebox: Any, letters: Any, closed_port: int) -> None:
    adapter = ebox.bare_adapter(base_url=f"http://127.0.0.1:{closed_port}")
    found = await fails(adapter, letters.to_citizen(sender=DEMO_ORGANISATION))
    assert isinstance(found, Unreachable)
    assert "ECONNREFUSED" in found.detail


async def test_a_registry_that_is_down_hands_nothing_over(ebox: Any, letters: Any) -> None:
    await ebox.simulators.refuse("ebox")
    assert isinstance(await fails(ebox.adapter(), letters.to_citizen()), Unreachable)


@pytest.mark.parametrize("operation", ["token", "consents", "mandate"])
async def test_what_goes_before_publishing_ends_before_the_deadline_of_the_whole(
    ebox: Any, letters: Any, operation: str
) -> None:
    ebox.simulator.faults.order(operation, "hang")
    async with asyncio.timeout(1.0):  # the caller's own deadline, which would leave a doubt
        found = await fails(ebox.adapter(send_timeout_s=1.0), letters.to_citizen())
    assert isinstance(found, Unreachable)
    assert ebox.calls("publish") == 0


async def test_files_that_are_too_large_are_refused(ebox: Any, letters: Any) -> None:
    parcel = letters.to_citizen(documents=(letters.document(b"x" * 1_000_001, chunk_bytes=65_536),))
    found = await fails(ebox.adapter(), parcel)
    assert isinstance(found, Refused)
    assert (found.reason, found.code) == (Reason.REFUSED, "TOO_LARGE")


async def test_a_message_type_that_is_not_registered_blocks_the_channel(ebox: Any, letters: Any) -> None:
    wrong = letters.to_citizen(ebox=("UNKNOWN_TYPE", DEMO_APPLICATION))
    assert isinstance(await fails(ebox.adapter(), wrong), ChannelBlocked)
    assert isinstance(await fails(ebox.adapter(), letters.to_citizen(ebox=None)), ChannelBlocked)
    assert ebox.copies() == 0


async def test_a_token_that_has_run_out_costs_one_more_token_and_one_more_call(ebox: Any, letters: Any) -> None:
    adapter = ebox.bare_adapter()
    await adapter.send(letters.to_citizen(sender=DEMO_ORGANISATION), again=False)
    ebox.simulator.tokens.expire_all()
    handover = await adapter.send(letters.to_citizen(sender=DEMO_ORGANISATION), again=False)
    assert handover.status is DeliveryStatus.DELIVERED
    assert (ebox.calls("token"), ebox.calls("publish"), ebox.copies()) == (2, 3, 2)


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (201, {"data": {"expirationDate": "2027-11-22T01:00:00+01:00"}}, OutcomeUnknown),
        (201, {"data": {"messageId": 7}}, OutcomeUnknown),
        (201, {"data": ["messageId"]}, OutcomeUnknown),
        (201, {"data": None}, OutcomeUnknown),
        (201, {"text": "[" * 100_000, "content_type": "application/json"}, OutcomeUnknown),
        (200, {"data": {"messageId": "m"}}, OutcomeUnknown),
        (202, {"data": {"messageId": "m"}}, OutcomeUnknown),
        (204, {}, OutcomeUnknown),
        (404, {"data": {"code": "NOT_FOUND"}}, ChannelBlocked),
        (405, {}, ChannelBlocked),
        (418, {}, ChannelBlocked),
        (425, {}, Unreachable),
        (400, {"text": "no JSON"}, Refused),
    ],
)
async def test_an_answer_outside_the_contract_is_never_taken_for_a_delivery(
    *, ebox: Any, letters: Any, stub: Any, status: int, answer: dict[str, Any], error: type[DeliveryError]
) -> None:
    stub.answers(status, **answer)
    parcel = letters.to_citizen(sender=DEMO_ORGANISATION)
    assert type(await fails(ebox.bare_adapter(base_url=stub.url), parcel)) is error


async def test_a_refusal_without_a_readable_code_carries_the_status(ebox: Any, letters: Any, stub: Any) -> None:
    parcel = letters.to_citizen(sender=DEMO_ORGANISATION)
    for code in ("90610100155", "a code with 90.61.01-001.55 in it", "x" * 65, 5, None):
        stub.answers(400, data={"code": code, "message": "90610100155 is not known"})
        found = await fails(ebox.bare_adapter(base_url=stub.url), parcel)
        assert isinstance(found, Refused)
        assert found.code == "400"


async def test_an_error_of_another_environment_blocks_the_channel(ebox: Any, letters: Any) -> None:
    ebox.simulator.faults.order("publish", "bad-request", 2)
    found = await fails(ebox.adapter(environment="production"), letters.to_citizen())
    assert isinstance(found, ChannelBlocked)
    assert isinstance(await fails(ebox.adapter(environment="TEST"), letters.to_citizen()), Refused)


@pytest.mark.parametrize(
    ("citizen", "recipient", "reason"),
    [
        (True, magic.CITIZEN_NO_CONSENT, Reason.NO_CONSENT),
        (False, magic.ENTERPRISE_NO_BOX, Reason.NO_BOX),
        (False, magic.ENTERPRISE_INACTIVE, Reason.NO_BOX),
    ],
)
async def test_a_recipient_who_cannot_be_reached_is_found_before_publishing(
    *, ebox: Any, letters: Any, citizen: bool, recipient: str, reason: Reason
) -> None:
    parcel = (letters.to_citizen if citizen else letters.to_enterprise)(recipient)
    found = await fails(ebox.adapter(), parcel)
    assert isinstance(found, Refused)
    assert found.reason == reason
    assert ebox.calls("publish") == 0


async def test_consent_that_was_withdrawn_counts_at_once(ebox: Any, letters: Any) -> None:
    adapter = ebox.adapter()
    await adapter.send(letters.to_citizen(), again=False)
    ebox.simulator.boxes.set_consent(magic.CITIZEN_FINE, consent=False)
    found = await fails(adapter, letters.to_citizen())
    assert isinstance(found, Refused)
    assert found.reason == Reason.NO_CONSENT


async def test_of_many_letters_at_once_few_calls_ask_for_consent(ebox: Any, letters: Any) -> None:
    adapter = ebox.adapter()
    await adapter.send(letters.to_citizen(), again=False)  # and so there is a token
    before = ebox.calls("consents")
    parcels = [letters.to_citizen() for _ in range(10)]
    refused, *others = await asyncio.gather(
        adapter.send(letters.to_citizen(magic.CITIZEN_NO_CONSENT), again=False),
        *(adapter.send(parcel, again=False) for parcel in parcels),
        return_exceptions=True,
    )
    assert isinstance(refused, Refused)
    assert refused.reason == Reason.NO_CONSENT
    assert [handover.status for handover in others if isinstance(handover, Handover)] == [DeliveryStatus.DELIVERED] * 10
    assert ebox.calls("consents") - before <= 3


async def test_without_consent_check_the_registry_decides(ebox: Any, letters: Any) -> None:
    found = await fails(ebox.adapter(consent_check=False), letters.to_citizen(magic.CITIZEN_NO_CONSENT))
    assert isinstance(found, Refused)
    assert (found.reason, found.code) == (Reason.REFUSED, "INVALID_INPUT")
    assert ebox.calls("consents") == 0


@pytest.mark.parametrize("answer", [{"data": []}, {"data": [{"ssin": "90610100254", "consent": True}]}])
async def test_an_answer_that_does_not_name_the_citizen_is_no_consent(
    ebox: Any, letters: Any, stub: Any, answer: dict[str, Any]
) -> None:
    stub.answers(200, **answer)
    found = await fails(ebox.adapter(federation_url=stub.url), letters.to_citizen())
    assert isinstance(found, Refused)
    assert found.reason == Reason.NO_CONSENT


async def test_a_citizen_without_an_opened_box_is_published_to_and_marked(ebox: Any, letters: Any) -> None:
    handover = await ebox.adapter().send(letters.to_citizen(magic.CITIZEN_NO_BOX), again=False)
    assert handover.status is DeliveryStatus.DELIVERED
    assert (handover.reason, handover.code) == (Reason.NO_DIGITAL_USER, "NO_DIGITAL_USER")
    assert handover.provider_reference == ebox.simulator.records.kept[0].id


async def test_a_sender_without_mandate_blocks_the_channel_before_publishing(ebox: Any, letters: Any) -> None:
    parcel = letters.to_citizen(sender=magic.ENTERPRISE_WITHOUT_MANDATE)
    found = await fails(ebox.adapter(), parcel)
    assert isinstance(found, ChannelBlocked)
    assert not found.whole_channel
    assert ebox.calls("publish") == 0
    await fails(ebox.adapter(), parcel)
    assert ebox.calls("mandate") == 2


async def test_a_mandate_is_remembered_for_minutes(ebox: Any, letters: Any) -> None:
    adapter = ebox.adapter(mandate_cache_s=240.0)
    for wanted, moved_s in ((1, 239.0), (1, 1.0), (2, 0.0)):
        await adapter.send(letters.to_citizen(), again=False)
        assert ebox.calls("mandate") == wanted
        ebox.clock.move(seconds=moved_s)


LOOK_UPS = [
    (operation, fault, error)
    for operation in ("consents", "mandate")
    for fault, error in (
        ("forbidden", ChannelBlocked),
        ("redirect", ChannelBlocked),
        ("malformed-json", Unreachable),
        ("wrong-content-type", Unreachable),
    )
]


@pytest.mark.parametrize(("operation", "fault", "error"), LOOK_UPS)
async def test_a_look_up_that_is_refused_or_cannot_be_read_stops_the_publication(
    ebox: Any, letters: Any, operation: str, fault: str, error: type[DeliveryError]
) -> None:
    ebox.simulator.faults.order(operation, fault)
    assert type(await fails(ebox.adapter(), letters.to_citizen())) is error
    assert ebox.calls(operation) == 1
    assert ebox.calls("publish") == 0


async def test_a_number_that_the_look_up_does_not_take_is_refused(ebox: Any, letters: Any) -> None:
    ebox.simulator.faults.order("preferences", "bad-request")
    found = await fails(ebox.adapter(), letters.to_enterprise())
    assert isinstance(found, Refused)
    assert (found.reason, found.code) == (Reason.REFUSED, "INVALID_INPUT")


@pytest.mark.parametrize("fault", ["server-error", "unavailable", "close", "keep-then-truncate"])
async def test_a_look_up_is_tried_three_times(ebox: Any, letters: Any, fault: str) -> None:
    times = 2 if fault != "unavailable" else 1
    ebox.simulator.faults.order("preferences", "server-error" if fault == "unavailable" else fault, times)
    await ebox.adapter().send(letters.to_enterprise(), again=False)
    assert ebox.calls("preferences") == times + 1
    ebox.simulator.faults.order("preferences", fault, 3)
    found = await fails(ebox.adapter(), letters.to_enterprise())
    assert isinstance(found, Unreachable)
    assert ebox.copies() == 1


async def test_a_look_up_that_names_its_own_delay_is_not_tried_again(ebox: Any, letters: Any) -> None:
    ebox.simulator.faults.order("preferences", "too-many-requests", 2)
    found = await fails(ebox.adapter(), letters.to_enterprise())
    assert isinstance(found, Unreachable)
    assert found.retry_after_s == 7.0
    assert ebox.calls("preferences") == 1


@pytest.mark.parametrize(
    ("conflict_means", "again", "accepted"),
    [("doubt", False, False), ("doubt", True, False), ("accepted", False, False), ("accepted", True, True)],
)
async def test_a_used_key_means_accepted_only_when_repeated_and_told_so(
    *, ebox: Any, letters: Any, conflict_means: str, again: bool, accepted: bool
) -> None:
    adapter = ebox.adapter(conflict_means=conflict_means)
    parcel = letters.to_citizen(magic.CITIZEN_DOUBT)
    assert isinstance(await fails(adapter, parcel), OutcomeUnknown)
    if accepted:
        handover = await adapter.send(parcel, again=again)
        assert handover == Handover(status=DeliveryStatus.DELIVERED, code="409")
    else:
        found = await fails(adapter, parcel, again=again)
        assert isinstance(found, OutcomeUnknown)
        assert found.for_good == (conflict_means == "doubt")
    assert ebox.copies() == 1


async def test_a_letter_that_never_arrived_is_delivered_by_the_repeated_call(ebox: Any, letters: Any) -> None:
    adapter, parcel = ebox.adapter(), letters.to_citizen()
    ebox.simulator.faults.order("publish", "close")
    assert isinstance(await fails(adapter, parcel), OutcomeUnknown)
    handover = await adapter.send(parcel, again=True)
    assert handover.status is DeliveryStatus.DELIVERED
    assert [kept.key for kept in ebox.simulator.records.kept] == [str(parcel.delivery_id)]


async def test_a_repeated_call_never_refuses_what_may_have_arrived(ebox: Any, letters: Any) -> None:
    adapter, parcel = ebox.adapter(), letters.to_citizen()
    ebox.simulator.faults.order("publish", "keep-then-close")
    await fails(adapter, parcel)
    ebox.simulator.boxes.set_consent(magic.CITIZEN_FINE, consent=False)
    assert isinstance(await fails(adapter, parcel, again=True), OutcomeUnknown)
    assert ebox.calls("consents") == 1


@pytest.mark.parametrize("error", [BlobMissing("gone"), StoreUnavailable("away"), OSError(5, "disk")])
async def test_a_document_that_cannot_be_read_stops_the_call_with_its_own_error(
    ebox: Any, letters: Any, error: Exception
) -> None:
    parcel = letters.to_citizen(documents=(letters.document(), letters.failing(error)))
    with pytest.raises(type(error)) as caught:
        await ebox.adapter().send(parcel, again=False)
    assert caught.value is error
    assert ebox.copies() == 0


async def test_a_citizen_who_reads_is_seen_to_have_read(ebox: Any, letters: Any) -> None:
    adapter, parcel = ebox.adapter(), letters.to_citizen()
    handover = await adapter.send(parcel, again=False)
    reference = handover.provider_reference
    unread = Handover(status=DeliveryStatus.DELIVERED, provider_reference=reference, read=False)
    assert await adapter.status(letters.handed(parcel, handover)) == unread
    ebox.simulator.registry.mark_read(reference)
    read = Handover(status=DeliveryStatus.DELIVERED, provider_reference=reference, read=True)
    assert await adapter.status(letters.handed(parcel, handover)) == read


async def test_a_message_accepted_by_a_conflict_cannot_be_asked_about(ebox: Any, letters: Any) -> None:
    handed = letters.handed(letters.to_citizen(), Handover(status=DeliveryStatus.DELIVERED, code="409"))
    with pytest.raises(Unreachable):
        await ebox.adapter().status(handed)
    assert ebox.calls("status") == 0


@pytest.mark.parametrize(
    ("fault", "times"),
    [("server-error", 3), ("forbidden", 1), ("unauthorised", 2), ("redirect", 1), ("malformed-json", 1), ("close", 3)],
)
async def test_a_status_that_is_not_told_changes_nothing(ebox: Any, letters: Any, fault: str, times: int) -> None:
    adapter, parcel = ebox.adapter(), letters.to_citizen()
    handover = await adapter.send(parcel, again=False)
    ebox.simulator.faults.order("status", fault, times)
    with pytest.raises(Unreachable):
        await adapter.status(letters.handed(parcel, handover))
    assert ebox.simulator.faults.pending == ()
    assert (await adapter.status(letters.handed(parcel, handover))).read is False


async def test_a_refused_client_only_leaves_the_status_unasked(ebox: Any, letters: Any) -> None:
    ebox.simulator.faults.order("token", "unauthorised")
    handed = letters.handed(letters.to_citizen(), Handover(status=DeliveryStatus.DELIVERED, provider_reference="m"))
    with pytest.raises(Unreachable, match="token: answered 401"):
        await ebox.adapter().status(handed)


async def test_a_message_that_the_registry_does_not_know_has_no_status(ebox: Any, letters: Any, stub: Any) -> None:
    handed = letters.handed(letters.to_citizen(), Handover(status=DeliveryStatus.DELIVERED, provider_reference="none"))
    with pytest.raises(Unreachable):
        await ebox.adapter().status(handed)
    stub.answers(201, data=[{"messageId": "other", "readStatus": True}, {"messageId": "none", "readStatus": "yes"}, 7])
    with pytest.raises(Unreachable):
        await ebox.adapter(base_url=stub.url).status(handed)


async def test_the_registry_has_no_look_up_by_our_id(ebox: Any, unknown_delivery: Any) -> None:
    adapter = ebox.adapter()
    assert (adapter.finds, adapter.resend_is_safe) == (False, True)
    with pytest.raises(OutcomeUnknown) as caught:
        await adapter.find(unknown_delivery)
    assert caught.value.for_good


async def test_a_letter_of_many_chunks_arrives_with_its_digest(ebox: Any, letters: Any) -> None:
    content = bytes(range(256)) * 3_500
    parcel = letters.to_citizen(documents=(letters.document(content, chunk_bytes=60_001),))
    await ebox.adapter().send(parcel, again=False)
    (document,) = ebox.simulator.records.kept[0].documents
    assert (document.sha256, document.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))


def test_a_consent_check_needs_a_place_to_ask() -> None:
    given: dict[str, Any] = {
        "base_url": "https://registry.example",
        "token_url": "https://login.example/token",
        "audience": "https://login.example/token",
        "client_id": "gateway",
    }
    assert EboxSettings(**given, consent_check=False).conflict_means == "doubt"
    with pytest.raises(ValueError, match="federation_url"):
        EboxSettings(**given)


async def test_without_a_place_to_look_up_mandates_the_registry_decides(ebox: Any, letters: Any) -> None:
    found = await fails(ebox.adapter(partition_url=None), letters.to_citizen(sender=magic.ENTERPRISE_WITHOUT_MANDATE))
    assert isinstance(found, ChannelBlocked)
    assert (ebox.calls("mandate"), ebox.calls("publish")) == (0, 1)


async def test_the_message_goes_before_the_files(ebox: Any, letters: Any, stub: Any) -> None:
    stub.answers(400)
    await fails(ebox.bare_adapter(base_url=stub.url), letters.to_citizen(sender=DEMO_ORGANISATION))
    path, headers, body = stub.requests[0]
    boundary = headers["Content-Type"].partition("boundary=")[2].encode()
    empty, message, file, end = body.split(b"--" + boundary)
    assert (path, empty, end) == ("/publishMessage", b"", b"--\r\n")
    assert json.loads(message.split(b"\r\n\r\n")[1])["subject"] == {"nl": "Uw aanslagbiljet"}
    assert file.split(b"\r\n\r\n", 1)[1] == letters.pdf() + b"\r\n"
