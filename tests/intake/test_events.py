"""The feed of a sender's events: whole, in order, for its own eyes, and honest about what it no longer has."""

import asyncio
import base64
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from gateway.app import Part as RunningPart
from gateway.domain.ids import EnterpriseNumber
from gateway.domain.message import Channel, Recipient

if TYPE_CHECKING:
    from tests.plugins.house import Answer, House, SenderHand
else:
    from house import Answer, House, SenderHand

WAIT_S = 30.0
COMPANY = Recipient(enterprise_number=EnterpriseNumber("0406798006"))
# A certificate of the development authority that the shipped registration does not know.
SPARE_CERTIFICATE = "CN=documenten.onbekend.example,O=Onbekend Voorbeeld,C=BE"


async def page(sender: SenderHand, after: str | None = None, limit: int = 100, on_behalf_of: str | None = None) -> Any:
    answer = await ask(sender, f"?limit={limit}" + (f"&after={after}" if after is not None else ""), on_behalf_of)
    assert answer.status == 200, answer.body
    return answer.json


async def ask(sender: SenderHand, query: str, on_behalf_of: str | None = None) -> Answer:
    headers = {} if on_behalf_of is None else {"On-Behalf-Of-Enterprise-Number": on_behalf_of}
    return await sender.call("GET", f"/api/v1/events{query}", headers=headers)


async def until(sender: SenderHand, reached: Callable[[list[Any]], bool], limit: int = 100) -> list[Any]:
    """Read on from the beginning until the events are as wanted."""
    found: list[Any] = []
    after: str | None = None
    async with asyncio.timeout(WAIT_S):
        while not reached(found):
            got = await page(sender, after, limit)
            found += got["events"]
            after = got["nextCursor"]
            if not got["more"]:
                await asyncio.sleep(0.02)
    return found


def number_of(cursor: str) -> int:
    return int(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().rpartition(":")[2])


async def test_the_feed_tells_the_life_of_a_letter(house: House) -> None:
    sender = await house.sender()
    message_id = await sender.accepted(reference="F-1")
    found = await until(sender, lambda events: "erased" in {event["event"] for event in events})
    accepted, delivered, read, erased = found
    assert [event["number"] for event in found] == [1, 2, 3, 4]
    timeline = (await sender.view(message_id))["timeline"]
    assert [(event["at"], event["event"]) for event in found] == [(entry["at"], entry["event"]) for entry in timeline]
    usual = {"messageId": message_id, "reference": "F-1", "profile": "burgerzaken"}
    assert accepted == usual | {"number": 1, "at": timeline[0]["at"], "event": "accepted", "status": "accepted"}
    (delivery,) = (await sender.view(message_id))["deliveries"]
    assert delivered == usual | {
        "number": 2,
        "at": timeline[1]["at"],
        "event": "delivered",
        "status": "delivered",
        "deliveryId": delivery["deliveryId"],
        "deliveryNumber": 1,
        "deliveryStatus": "delivered",
        "channel": "ebox-citizen",
    }
    assert (read["event"], read["status"], read["deliveryId"]) == ("read", "delivered", delivery["deliveryId"])
    assert erased == usual | {"number": 4, "at": timeline[3]["at"], "event": "erased", "status": "delivered"}


async def test_the_feed_names_no_person(house: House) -> None:
    sender = await house.sender()
    message = sender.message(channels=(Channel.PRINT,))
    assert (await sender.post(sender.parts(message))).status == 201
    found = await until(sender, lambda events: any(event["status"] == "delivered" for event in events))
    shown = json.dumps(found)
    address = message.recipient.address
    assert address is not None
    for text in (message.recipient.ssin, address.name, address.street, message.subject, message.purpose, "brief-1.pdf"):
        assert text is not None
        assert text not in shown


@pytest.fixture
async def quiet(make_house: Any) -> House:
    """A gateway that delivers nothing: each letter gives one event, that it was accepted."""
    house: House = await make_house(parts=[RunningPart.INTAKE, RunningPart.SWEEPER])
    return house


async def test_an_empty_feed_has_a_cursor_from_which_later_events_are_seen(quiet: House) -> None:
    sender = await quiet.sender()
    empty = await page(sender)
    assert (empty["events"], empty["more"]) == ([], False)
    message_id = await sender.accepted()
    await until(sender, bool)
    assert (await page(sender, empty["nextCursor"], limit=1))["events"][0]["messageId"] == message_id


async def test_while_many_letters_are_sent_readers_miss_none_and_see_every_number_once(house: House) -> None:
    senders = [await house.sender("gemeente"), await house.sender("belasting")]
    each = 30
    ids: dict[str, set[str]] = {}

    async def send(sender: SenderHand) -> None:
        ids[sender.name] = set(await asyncio.gather(*(sender.accepted() for _ in range(each))))

    async def read(sender: SenderHand, limit: int) -> list[Any]:
        return await until(sender, lambda events: [event["event"] for event in events].count("erased") == each, limit)

    readers = [asyncio.create_task(read(sender, limit)) for sender in senders for limit in (1, 7, 500)]
    await asyncio.gather(*(send(sender) for sender in senders))
    seen = await asyncio.gather(*readers)
    for number, sender in enumerate(senders):
        ours = seen[3 * number : 3 * number + 3]
        assert ours[0] == ours[1] == ours[2]
        assert [event["number"] for event in ours[0]] == list(range(1, len(ours[0]) + 1))
        assert {event["messageId"] for event in ours[0]} == ids[sender.name]
        for message_id in ids[sender.name]:
            timeline = (await sender.view(message_id))["timeline"]
            events = [event for event in ours[0] if event["messageId"] == message_id]
            assert [event["event"] for event in events] == [entry["event"] for entry in timeline]


async def test_numbers_and_cursors_outlive_a_restart(make_house: Any) -> None:
    parts = [RunningPart.INTAKE, RunningPart.SWEEPER]
    async with AsyncExitStack() as first_run:
        house = await make_house(own_stack=first_run, parts=parts)
        sender = await house.sender()
        await sender.accepted(reference="before")
        before = await until(sender, bool)
        cursor = (await page(sender))["nextCursor"]
    house = await make_house(simulators=house.simulators, parts=parts)
    sender = await house.sender()
    await sender.accepted(reference="after")
    found = await until(sender, lambda events: len(events) == 2)
    assert found[:1] == before
    after = (await page(sender, cursor))["events"]
    assert [(event["number"], event["reference"]) for event in after] == [(2, "after")]


@pytest.fixture
async def two_profiles(make_house: Any, registered: Any) -> House:
    """A gateway at which the tax authority has a second certificate, for one of its two profiles."""

    def second_certificate(values: dict[str, Any]) -> None:
        entry = {
            "subject": SPARE_CERTIFICATE,
            "issuer_ca": "dev-clients",
            "uses": ["tls"],
            "profiles": ["vennootschapsbelasting"],
        }
        values["certificates"].append(entry)

    senders = registered(n0566988259=second_certificate)
    house: House = await make_house(
        lambda values: values["gateway"].update(senders=senders), parts=[RunningPart.INTAKE, RunningPart.SWEEPER]
    )
    return house


async def test_a_certificate_sees_its_profiles_only_and_its_cursor_passes_the_others(two_profiles: House) -> None:
    everything, some = await two_profiles.sender("belasting"), await two_profiles.sender("unknown-sender")
    shown: dict[str, Any] = {
        "profile": "vennootschapsbelasting",
        "recipient": COMPANY,
        "channels": (Channel.EBOX_ENTERPRISE,),
    }
    ids = [await everything.accepted(**changes) for changes in ({}, {}, {}, shown, shown, {})]
    all_events = await until(everything, lambda events: len(events) == 6)
    mine = all_events[3:5]
    assert [event["messageId"] for event in mine] == ids[3:5]
    got = await page(some)
    assert got["events"] == mine
    assert number_of(got["nextCursor"]) == 6
    assert got["more"] is False
    one = await page(some, limit=1)
    assert (one["events"], one["more"]) == (mine[:1], True)
    assert (await page(some, one["nextCursor"]))["events"] == mine[1:]
    await everything.accepted()
    await until(everything, lambda events: len(events) == 7)
    later = await page(some, got["nextCursor"])
    assert later["events"] == []
    assert number_of(later["nextCursor"]) == 7


async def test_senders_read_their_own_feed_and_processors_that_of_the_sender_they_name(quiet: House) -> None:
    sender, processor = await quiet.sender(), await quiet.sender("belasting")
    await sender.accepted()
    found = await until(sender, lambda events: len(events) == 1)
    assert (await page(processor))["events"] == []
    named = await page(processor, on_behalf_of=sender.number)
    assert named["events"] == found
    answer = await ask(sender, "", processor.number)
    assert (answer.status, answer.code) == (403, "sender-unknown")
    mixed = await ask(processor, f"?after={named['nextCursor']}")
    assert (mixed.status, mixed.code) == (400, "bad-request")
    assert "another sender" in mixed.json["detail"]


async def test_a_cursor_from_before_a_restored_backup_is_refused(quiet: House) -> None:
    sender = await quiet.sender()
    await sender.accepted()
    found = await until(sender, lambda events: len(events) == 1)
    before = await page(sender)
    await quiet.gateway.ledger.begin_epoch(datetime.now(UTC))
    answer = await ask(sender, f"?after={before['nextCursor']}")
    assert (answer.status, answer.code) == (410, "feed-restored")
    again = await page(sender)
    assert again["events"] == found
    assert again["epoch"] != before["epoch"]
    assert (await page(sender, again["nextCursor"]))["events"] == []


async def test_a_cursor_to_events_that_were_never_given_shows_a_restored_backup_too(quiet: House) -> None:
    sender = await quiet.sender()
    await sender.accepted()
    await until(sender, lambda events: len(events) == 1)
    cursor = (await page(sender))["nextCursor"]
    text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    ahead = base64.urlsafe_b64encode((text.rpartition(":")[0] + ":2").encode()).decode().rstrip("=")
    answer = await ask(sender, f"?after={ahead}")
    assert (answer.status, answer.code) == (410, "feed-restored")


async def test_a_cursor_to_events_that_are_gone_has_expired_and_the_rest_can_be_read(quiet: House) -> None:
    sender, ledger = await quiet.sender(), quiet.gateway.ledger
    start = (await page(sender))["nextCursor"]
    await sender.accepted()
    message_id = await sender.accepted()
    found = await until(sender, lambda events: len(events) == 2)
    middle = (await page(sender, limit=1))["nextCursor"]
    last = (await page(sender, middle))["nextCursor"]
    later = datetime.now(UTC) + timedelta(days=1)
    assert await ledger.forget_events(numbered_before=later, limit=1) == 1
    assert (await page(sender))["events"] == (await page(sender, middle))["events"] == found[1:]
    assert await ledger.forget_events(numbered_before=later, limit=1) == 1
    for cursor in (start, middle):
        answer = await ask(sender, f"?after={cursor}")
        assert (answer.status, answer.code) == (410, "cursor-expired")
    assert (await page(sender, last))["events"] == []
    fresh = await page(sender)
    assert (fresh["events"], fresh["nextCursor"], fresh["more"]) == ([], last, False)
    assert len((await sender.view(message_id))["timeline"]) == 1


@pytest.mark.parametrize(
    "query",
    [
        "?limit=0", "?limit=501", "?limit=x", "?limit=-1", "?limit=٣", "?limit=1&limit=2", "?before=1", "?after=",
        "?after=x", "?after=!!!", "?after=ZjE6", "?after=MTo1", "?after=a&after=b", "?after=%C3%A9",
    ],
)  # fmt: skip
async def test_wrong_questions_are_refused(intake: House, query: str) -> None:
    sender = await intake.sender()
    answer = await ask(sender, quote(query, safe="?&=%"))
    assert (answer.status, answer.code) == (400, "bad-request")


async def test_a_changed_cursor_is_none_of_ours(house: House) -> None:
    sender = await house.sender()
    cursor = (await page(sender))["nextCursor"]
    for changed in (cursor[:-1], cursor + "A", cursor.upper(), "A" + cursor, cursor + "%20", cursor + "=="):
        answer = await ask(sender, f"?after={changed}")
        assert (answer.status, answer.code) == (400, "bad-request")
