"""What a sender learns afterwards: one message, lists, statuses by id; and nothing of anybody else's."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from gateway.domain.ids import EnterpriseNumber, Ssin
from gateway.domain.message import Channel, Recipient

if TYPE_CHECKING:
    from tests.plugins.house import House, SenderHand
else:
    from house import House, SenderHand

LIST = "/api/v1/messages"
SUMMARY = {"messageId", "reference", "profile", "status", "final", "acceptedAt", "deliveries", "copy"}
PERSONAL = ("90610100155", "Jan Peeters", "Kerkstraat", "Uw aanslagbiljet", "Aanslagbiljet 2026", "brief-1.pdf")


async def walk(sender: SenderHand, query: str = "", limit: int = 100) -> list[str]:
    """The ids of a whole list, page by page."""
    found: list[str] = []
    cursor = ""
    while True:
        answer = await sender.call("GET", f"{LIST}?limit={limit}{query}{cursor}")
        assert answer.status == 200, answer.body
        page = answer.json
        assert len(page["messages"]) <= limit
        found += [message["messageId"] for message in page["messages"]]
        if "nextCursor" not in page:
            return found
        assert len(page["messages"]) == limit
        cursor = f"&cursor={page['nextCursor']}"


async def test_a_delivered_letter_shows_every_step_and_no_personal_data(house: House) -> None:
    sender = await house.sender()
    message_id = await sender.accepted(channels=(Channel.PRINT,))
    view = await sender.until(message_id, lambda view: view["status"] == "delivered")
    steps = [entry["status"] for entry in view["timeline"]]
    assert steps[0] == "accepted"
    assert steps[-1] == "dispatched"
    assert view["timeline"] == sorted(view["timeline"], key=lambda entry: entry["at"])
    assert view["deliveries"][0]["status"] == "dispatched"
    assert view["copy"]["state"] == "kept"
    assert view["copy"]["until"].endswith("Z")
    listed = await sender.call("GET", LIST)
    asked = await sender.call_json("/api/v1/statusRequest", {"messages": [{"messageId": message_id}]})
    (summary,) = listed.json["messages"]
    assert summary.keys() == SUMMARY
    assert asked.json == {"messages": [summary], "unknown": []}
    assert {name: view[name] for name in SUMMARY} == summary
    for text in (str(view), listed.body.decode(), asked.body.decode()):
        assert [value for value in PERSONAL if value in text] == []


async def test_a_fallback_to_paper_is_a_second_delivery_of_the_same_message(house: House) -> None:
    sender = await house.sender()
    no_consent = replace(sender.message().recipient, ssin=Ssin("90610100254"))
    message_id = await sender.accepted(recipient=no_consent)
    view = await sender.until(message_id, lambda view: view["deliveries"][-1]["status"] == "accepted")
    first, second = view["deliveries"]
    assert (first["number"], first["channel"], first["reason"]) == (1, "ebox-citizen", "no-consent")
    assert (second["number"], second["channel"], second["status"]) == (2, "print", "accepted")


# ── Lists ──


async def test_a_list_can_be_narrowed_by_every_field(
    make_house: Any, moved_clock: Any, subtests: pytest.Subtests
) -> None:
    house = await make_house(clock=moved_clock, parts=["intake"])
    sender = await house.sender()
    later = (datetime.now(UTC) + timedelta(days=30)).replace(microsecond=0)
    ebox = await sender.accepted(reference="first")
    paper = await sender.accepted(channels=(Channel.PRINT,))
    scheduled = await sender.accepted(deliver_not_before=later)
    moved_clock.ahead = timedelta(hours=2)
    between = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    late = await sender.accepted(channels=(Channel.PRINT,))
    accepted_at = (await sender.view(late))["acceptedAt"]
    for query, expected in (
        ("", [ebox, paper, scheduled, late]),
        ("&reference=first", [ebox]),
        ("&reference=none", []),
        ("&status=accepted", [ebox, paper, late]),
        ("&status=scheduled", [scheduled]),
        ("&status=delivered", []),
        ("&channel=print", [paper, late]),
        ("&channel=ebox-citizen", [ebox, scheduled]),
        (f"&from={between}", [late]),
        (f"&until={between}", [ebox, paper, scheduled]),
        (f"&from={accepted_at}", [late]),
        (f"&until={accepted_at}", [ebox, paper, scheduled]),
        (f"&from={between}&until={between}", []),
        (f"&status=accepted&channel=print&until={between}", [paper]),
        ("&reference=first&status=scheduled", []),
    ):
        with subtests.test(query):
            assert await walk(sender, query) == expected
            assert await walk(sender, query, limit=1) == expected


async def test_wrong_parameters_of_a_list_are_all_told_at_once(intake: House, subtests: pytest.Subtests) -> None:
    sender = await intake.sender()
    answer = await sender.call(
        "GET",
        f"{LIST}?status=sent&channel=fax&from=yesterday&until=2026-11-22T10:00:00&limit=501&colour=red&reference=/",
    )
    assert (answer.status, answer.code) == (400, "bad-request")
    assert {error["pointer"] for error in answer.json["errors"]} == {
        "?status", "?channel", "?from", "?until", "?limit", "?colour", "?reference",
    }  # fmt: skip
    for query in (
        "limit=0",
        "limit=-1",
        "limit=+1",
        "limit=1.0",
        "limit=%D9%A1",
        "limit=" + "9" * 5_000,
        "limit=",
        "limit=1&limit=2",
        "reference=90610100155",
        "from=9999-99-99T00:00:00Z",
        "from=2026-11-22T10:00:00%2B01:00",
        "cursor=",
        "cursor=nonsense",
        "cursor=MTox!",
        "cursor=MTotMQ",  # 1:-1
        "cursor=Mjox",  # 2:1
        "cursor=MTo5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk",  # 1:99999999999999999999999999
        "cursor=%FF",
    ):
        with subtests.test(query[:60]):
            answer = await sender.call("GET", f"{LIST}?{query}")
            assert (answer.status, answer.code) == (400, "bad-request"), answer.body
    for limit in (1, 500):
        assert (await sender.call("GET", f"{LIST}?limit={limit}")).status == 200


async def test_pages_neither_skip_nor_repeat_while_others_send(intake: House) -> None:
    sender = await intake.sender()
    done: list[str] = []

    async def send_some() -> None:
        for _ in range(8):
            message_id = await sender.accepted()
            done.append(message_id)

    sending = [asyncio.create_task(send_some()) for _ in range(4)]
    walks: list[list[str]] = []
    while not all(task.done() for task in sending):
        before = list(done)
        found = await walk(sender, limit=3)
        assert set(before) <= set(found)
        walks.append(found)
    await asyncio.gather(*sending)
    whole = await walk(sender, limit=5)
    assert sorted(whole) == sorted(done)
    assert len(set(whole)) == 32
    assert [found for found in walks if found != whole[: len(found)]] == []
    assert len({len(found) for found in walks}) > 1


# ── Statuses by id ──


async def test_statuses_of_five_hundred_messages_come_in_one_answer(intake: House) -> None:
    sender = await intake.sender()
    known = [await sender.accepted() for _ in range(3)]
    unknown = [str(uuid4()) for _ in range(495)] + ["no-uuid", ""]
    asked = [*unknown[:250], known[2], *unknown[250:], known[0], known[1]]
    body = {"messages": [{"messageId": message_id} for message_id in asked]}
    answer = await sender.call_json("/api/v1/statusRequest", body)
    assert answer.status == 200
    assert [message["messageId"] for message in answer.json["messages"]] == [known[2], known[0], known[1]]
    assert answer.json["unknown"] == unknown
    wrapped = await sender.call_json(
        "/api/v1/statusRequest", {"messagesStatusRequest": {"deliveryChannel": "EBOX", **body}}
    )
    assert wrapped.json == answer.json
    for count in (0, 501):
        too_many = {"messages": [{"messageId": known[0]}] * count}
        assert (await sender.call_json("/api/v1/statusRequest", too_many)).code == "bad-request"


async def test_one_id_asked_twice_or_in_another_form_is_answered_once(intake: House) -> None:
    sender = await intake.sender()
    message_id = await sender.accepted()
    items = [{"messageId": message_id}, {"messageId": message_id}, {"messageId": message_id.upper()}]
    answer = await sender.call_json("/api/v1/statusRequest", {"messages": items})
    assert [message["messageId"] for message in answer.json["messages"]] == [message_id]
    assert answer.json["unknown"] == []


async def test_a_malformed_status_request_says_which_items_are_wrong(intake: House) -> None:
    sender = await intake.sender()
    items = [{"messageId": str(uuid4())}, {}, {"messageId": 7}, "id", None]
    answer = await sender.call_json("/api/v1/statusRequest", {"messages": items})
    assert (answer.status, answer.code) == (400, "bad-request")
    assert [error["pointer"] for error in answer.json["errors"]] == [f"/messages/{n}/messageId" for n in (1, 2, 3, 4)]
    bodies: list[Any] = [{}, {"messages": {}}, {"messages": None}, {"messagesStatusRequest": []}, [], "x", 1, None]
    for body in bodies:
        assert (await sender.call_json("/api/v1/statusRequest", body)).code == "bad-request"
    odd = await sender.call_json("/api/v1/statusRequest", {"messages": [{"messageId": "\ud800"}]})
    assert odd.json == {"messages": [], "unknown": ["\ud800"]}


# ── Whose ──


@pytest.fixture
async def three(make_house: Any, registered: Any) -> tuple[SenderHand, SenderHand, SenderHand]:
    """A sender with one profile; one with two; and a certificate of the latter for its second profile only."""

    def second_certificate(values: Any) -> None:
        subject = "CN=documenten.onbekend.example,O=Onbekend Voorbeeld,C=BE"
        values["certificates"].append(
            {**values["certificates"][0], "subject": subject, "profiles": ["vennootschapsbelasting"]}
        )

    senders = registered(n0566988259=second_certificate)
    house = await make_house(lambda values: values["gateway"].update(senders=senders), parts=["intake"])
    narrow = await house.sender("unknown-sender")
    narrow.number, narrow.profile = EnterpriseNumber("0566988259"), "vennootschapsbelasting"
    return await house.sender("gemeente"), await house.sender("belasting"), narrow


def company() -> dict[str, Any]:
    return {
        "recipient": Recipient(enterprise_number=EnterpriseNumber("0406798006")),
        "channels": (Channel.EBOX_ENTERPRISE,),
    }


async def test_another_senders_or_profiles_message_is_not_there(
    three: tuple[SenderHand, SenderHand, SenderHand],
) -> None:
    gemeente, belasting, narrow = three
    ids = {
        "gemeente": await gemeente.accepted(),
        "first": await belasting.accepted(),
        "second": await narrow.accepted(**company()),
    }
    sees = {gemeente: ["gemeente"], belasting: ["first", "second"], narrow: ["second"]}
    items = [{"messageId": message_id} for message_id in ids.values()]
    for hand, visible in sees.items():
        for name, message_id in ids.items():
            answer = await hand.call("GET", f"{LIST}/{message_id}")
            assert answer.status == (200 if name in visible else 404), (hand.name, name)
            assert name in visible or answer.code == "not-found"
        assert await walk(hand) == [ids[name] for name in visible]
        answer = await hand.call_json("/api/v1/statusRequest", {"messages": items})
        assert [found["messageId"] for found in answer.json["messages"]] == [ids[name] for name in visible]
        assert answer.json["unknown"] == [message_id for name, message_id in ids.items() if name not in visible]
    refused = await narrow.send(profile="personenbelasting")
    assert (refused.status, refused.code) == (403, "profile-not-authorised")


async def test_a_refusal_to_see_is_the_same_for_what_exists_and_what_does_not(intake: House) -> None:
    gemeente, belasting = await intake.sender("gemeente"), await intake.sender("belasting")
    theirs = await belasting.accepted()
    answers = [await gemeente.call("GET", f"{LIST}/{message_id}") for message_id in (theirs, str(uuid4()), "nonsense")]
    shown = [{name: value for name, value in answer.json.items() if name != "instance"} for answer in answers]
    assert shown[0] == shown[1] == shown[2]


async def test_a_processor_asks_for_the_sender_that_it_names(intake: House) -> None:
    gemeente, belasting = await intake.sender("gemeente"), await intake.sender("belasting")
    message_id = await gemeente.accepted()
    header = {"On-Behalf-Of-Enterprise-Number": gemeente.number}
    assert (await belasting.call("GET", f"{LIST}/{message_id}")).status == 404
    assert (await belasting.call("GET", f"{LIST}/{message_id}", headers=header)).status == 200
    for number, status, code in (
        ("0566988259", 403, "sender-unknown"),
        ("0999900150", 403, "sender-unknown"),
        ("0406798007", 400, "bad-request"),
        ("", 400, "bad-request"),
    ):
        answer = await gemeente.call("GET", LIST, headers={"On-Behalf-Of-Enterprise-Number": number})
        assert (answer.status, answer.code) == (status, code)
