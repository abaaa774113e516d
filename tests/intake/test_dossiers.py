"""Dossiers: what a sender says it is handling about whom, and the letters that this permits."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from gateway.domain.calendar import BRUSSELS as ZONE
from gateway.domain.ids import Ssin
from gateway.domain.message import Channel, Recipient

if TYPE_CHECKING:
    from tests.plugins.house import Answer, House, SenderHand
else:
    from house import Answer, House, SenderHand

CITIZEN = "90610100155"
OTHER_CITIZEN = "90610100551"
DOSSIER = {"dossierId", "category", "from", "until", "registeredAt", "endedAt", "inForce"}


def dossier(about: str = CITIZEN, **changes: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {"recipient": {"ssin": about}, "category": "building-permit", "from": "2026-01-01"}
    return usual | changes


async def register(sender: SenderHand, *dossiers: dict[str, Any]) -> list[str]:
    answer = await sender.call_json("/api/v1/dossiers", {"dossiers": list(dossiers)})
    assert answer.status == 200, answer.body
    return [found["dossierId"] for found in answer.json["dossiers"]]


async def search(sender: SenderHand, *recipients: dict[str, str]) -> list[list[dict[str, Any]]]:
    answer = await sender.call_json("/api/v1/dossiers/search", {"recipients": list(recipients)})
    assert answer.status == 200, answer.body
    assert CITIZEN not in answer.body.decode()
    return [result["dossiers"] for result in answer.json["results"]]


async def permit(sender: SenderHand, ssin: str = CITIZEN, **changes: Any) -> Answer:
    recipient = replace(sender.message().recipient, ssin=Ssin(ssin))
    return await sender.send(category="building-permit", recipient=recipient, **changes)


async def test_a_letter_under_the_dossier_rule_needs_a_dossier_in_force_about_its_recipient(intake: House) -> None:
    sender, other = await intake.sender("gemeente"), await intake.sender("belasting")
    message = sender.message(category="building-permit")
    assert (await sender.post(sender.parts(message))).code == "recipient-not-authorised"
    await register(sender, dossier(category="tax-assessment"))
    await register(other, dossier(category="tax-assessment"))
    assert (await sender.post(sender.parts(message))).code == "recipient-not-authorised"
    (dossier_id,) = await register(sender, dossier())
    assert UUID(dossier_id).version == 7
    assert (await sender.post(sender.parts(message))).status == 201
    assert (await permit(sender, OTHER_CITIZEN)).code == "recipient-not-authorised"
    answer = await sender.call_json("/api/v1/dossiers/end", {"dossiers": [{"dossierId": dossier_id}]})
    assert answer.json["dossiers"][0]["outcome"] == "ended"
    assert (await permit(sender)).code == "recipient-not-authorised"
    assert (await sender.post(sender.parts(message))).status == 200


async def test_an_address_alone_is_nobody_a_dossier_is_about(intake: House) -> None:
    sender = await intake.sender()
    await register(sender, dossier())
    nobody = Recipient(address=sender.message().recipient.address)
    answer = await sender.send(category="building-permit", recipient=nobody, channels=(Channel.PRINT,))
    assert answer.code == "recipient-not-authorised"


async def test_a_dossier_holds_from_its_first_day_until_the_end_of_its_last(make_house: Any, moved_clock: Any) -> None:
    house = await make_house(clock=moved_clock, parts=["intake"])
    sender = await house.sender()
    today = datetime.now(ZONE).date()
    days = {"from": (today + timedelta(days=2)).isoformat(), "until": (today + timedelta(days=3)).isoformat()}
    await register(sender, dossier(**days))
    taken = []
    for day in range(6):
        moved_clock.ahead = timedelta(days=day)
        created_at = moved_clock().replace(microsecond=0)
        answer = await permit(sender, created_at=created_at)
        ((found,),) = await search(sender, {"ssin": CITIZEN})
        assert found["inForce"] == (answer.status == 201)
        assert answer.status == 201 or answer.code == "recipient-not-authorised"
        taken += [day] * (answer.status == 201)
    assert taken == [2, 3]


async def test_dossiers_are_found_by_their_recipient_and_show_no_personal_data(intake: House, inside: Any) -> None:
    sender, other = await intake.sender("gemeente"), await intake.sender("belasting")
    ids = await register(
        sender,
        dossier(),
        dossier(OTHER_CITIZEN, until="2099-12-31"),
        dossier(recipient={"enterpriseNumber": "0406798006"}, category="tax-assessment"),
    )
    await register(other, dossier(category="tax-assessment"))
    first, second, third, none = await search(
        sender, {"ssin": CITIZEN}, {"ssin": OTHER_CITIZEN}, {"enterpriseNumber": "0406798006"}, {"ssin": "90610100254"}
    )
    assert [[found["dossierId"] for found in result] for result in (first, second, third)] == [[each] for each in ids]
    assert none == []
    assert first[0].keys() == DOSSIER
    assert (first[0]["category"], first[0]["from"], first[0]["until"]) == ("building-permit", "2026-01-01", None)
    assert (second[0]["until"], second[0]["inForce"], second[0]["endedAt"]) == ("2099-12-31", True, None)
    rows = await inside(intake).query("SELECT sealed_recipient FROM dossier")
    assert [row for (row,) in rows if CITIZEN.encode() in row] == []
    events = [entry["ev"] for entry in await inside(intake).log("privacy")]
    assert events == ["dossiers-registered"] * 2 + ["dossiers-searched"]


async def test_an_ended_dossier_keeps_its_first_end_and_nobody_ends_anothers(intake: House) -> None:
    sender, other = await intake.sender("gemeente"), await intake.sender("belasting")
    (dossier_id,) = await register(sender, dossier())
    body = {"dossiers": [{"dossierId": dossier_id}, {"dossierId": str(uuid4())}]}
    theirs = await other.call_json("/api/v1/dossiers/end", body)
    assert [found["outcome"] for found in theirs.json["dossiers"]] == ["not-found", "not-found"]
    assert (await search(sender, {"ssin": CITIZEN}))[0][0]["inForce"] is True
    ended = await sender.call_json("/api/v1/dossiers/end", body)
    assert [found["outcome"] for found in ended.json["dossiers"]] == ["ended", "not-found"]
    assert [found["endedAt"] is None for found in ended.json["dossiers"]] == [False, True]
    again = await sender.call_json("/api/v1/dossiers/end", body)
    assert again.json["dossiers"][0]["endedAt"][:23] == ended.json["dossiers"][0]["endedAt"][:23]
    ((found,),) = await search(sender, {"ssin": CITIZEN})
    assert (found["inForce"], found["endedAt"]) == (False, ended.json["dossiers"][0]["endedAt"])


async def test_wrong_dossiers_are_all_told_at_once_and_none_is_registered(intake: House) -> None:
    sender = await intake.sender()
    wrong = [
        dossier(),
        dossier("90610100156"),
        dossier(recipient={"ssin": CITIZEN, "enterpriseNumber": "0406798006"}),
        dossier(recipient={"ssin": 90610100155}),
        dossier(recipient=None),
        dossier(category="social-benefit"),
        dossier(category=["building-permit"]),
        dossier() | {"from": "yesterday"},
        dossier() | {"from": None},
        dossier() | {"from": "0001-01-01"},
        dossier(until="2025-12-31"),
        dossier(colour="red"),
        "dossier",
    ]
    answer = await sender.call_json("/api/v1/dossiers", {"dossiers": wrong})
    assert (answer.status, answer.code) == (422, "invalid-message")
    assert [error["pointer"] for error in answer.json["errors"]] == [
        "/dossiers/1/recipient",
        "/dossiers/2/recipient",
        "/dossiers/3/recipient",
        "/dossiers/4/recipient",
        "/dossiers/5/category",
        "/dossiers/6/category",
        "/dossiers/7/from",
        "/dossiers/8/from",
        "/dossiers/9/from",
        "/dossiers/10/until",
        "/dossiers/11/colour",
        "/dossiers/12",
    ]
    assert CITIZEN not in answer.body.decode()
    assert await search(sender, {"ssin": CITIZEN}) == [[]]


@pytest.mark.parametrize(
    ("path", "name", "item"),
    [
        ("/api/v1/dossiers", "dossiers", dossier()),
        ("/api/v1/dossiers/search", "recipients", {"ssin": CITIZEN}),
        ("/api/v1/dossiers/end", "dossiers", {"dossierId": "01a2014e-92d4-7f37-a359-d66bd764a1fe"}),
    ],
)
async def test_a_call_about_dossiers_takes_one_to_a_thousand(
    intake: House, path: str, name: str, item: dict[str, Any]
) -> None:
    sender = await intake.sender()
    answer = await sender.call_json(path, {name: [item] * 1_000})
    assert answer.status == 200, answer.body
    (listed,) = answer.json.values()
    assert len(listed) == 1_000
    bodies: list[Any] = [{name: []}, {name: [item] * 1_001}, {name: item}, {name: [item], "other": 1}, {}, [item]]
    for body in bodies:
        answer = await sender.call_json(path, body)
        assert (answer.status, answer.code) == (400, "bad-request")


async def test_a_processor_keeps_a_senders_dossiers_for_it(intake: House) -> None:
    sender, processor = await intake.sender("gemeente"), await intake.sender("belasting")
    answer = await processor.call(
        "POST",
        "/api/v1/dossiers",
        body=b'{"dossiers": [{"recipient": {"ssin": "90610100155"}, "category": "building-permit", '
        b'"from": "2026-01-01"}]}',
        headers={"Content-Type": "application/json", "On-Behalf-Of-Enterprise-Number": sender.number},
    )
    assert answer.status == 200, answer.body
    assert (await permit(sender)).status == 201
