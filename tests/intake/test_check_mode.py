from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from gateway.domain.ids import Ssin
from gateway.domain.message import Channel
from gateway.simulators.magic import CITIZEN_NO_CONSENT

if TYPE_CHECKING:
    from tests.plugins.house import House, MakeHouse

CHECK = "/api/v1/messages?mode=check"


async def dry_run(sender: Any, parts: list[Any], path: str = CHECK) -> Any:
    return await sender.post(parts, path=path)


async def test_a_good_message_would_be_accepted_and_nothing_of_it_is_kept(house: "House", inside: Any) -> None:
    sender = await house.sender()
    message = sender.message()
    before = await inside(house).traces()
    answer = await dry_run(sender, sender.parts(message))
    assert answer.status == 200
    assert answer.json["wouldBeAccepted"] is True
    assert answer.json["findings"] == []
    assert [(each["channel"], each["outlook"]) for each in answer.json["channels"]] == [
        ("ebox-enterprise", "skipped"),
        ("ebox-citizen", "will-carry"),
        ("print", "will-carry"),
    ]
    assert await inside(house).traces() == before
    assert house.simulators.ebox.records.kept == []
    assert (await sender.post(sender.parts(message))).status == 201


async def test_what_would_be_refused_is_found_all_in_one_call(house: "House") -> None:
    sender = await house.sender()
    message = sender.message(category="administrative-fine")
    answer = await dry_run(sender, sender.parts(message, [b"%PDF-another letter"]))
    assert answer.status == 200
    assert answer.json["wouldBeAccepted"] is False
    assert [finding["code"] for finding in answer.json["findings"]] == ["category-not-authorised", "document-mismatch"]
    assert all(finding["detail"] for finding in answer.json["findings"])


async def test_a_signature_that_does_not_hold_is_a_finding(house: "House") -> None:
    sender = await house.sender()
    message = sender.message()
    tampered = sender.sign(message).replace(b"Uw aanslagbiljet", b"Uw belastingkorting")
    answer = await dry_run(sender, sender.parts(message, manifest=tampered))
    assert (answer.status, answer.json["findings"][0]["code"]) == (200, "signature-invalid")
    assert answer.json["reference"] is None


async def test_the_providers_are_asked_whom_they_would_refuse(house: "House") -> None:
    sender = await house.sender()
    recipient = replace(sender.message().recipient, ssin=Ssin(CITIZEN_NO_CONSENT))
    message = sender.message(recipient=recipient, channels=(Channel.EBOX_CITIZEN, Channel.PRINT))
    answer = await dry_run(sender, sender.parts(message))
    assert answer.json["channels"] == [
        {"channel": "ebox-citizen", "outlook": "would-refuse", "why": "no-consent"},
        {"channel": "print", "outlook": "will-carry", "why": None},
    ]


async def test_a_provider_that_is_away_leaves_the_outlook_unknown(house: "House") -> None:
    sender = await house.sender()
    await house.simulators.refuse("ebox")
    answer = await dry_run(sender, sender.parts(sender.message()))
    outlooks = {each["channel"]: each["outlook"] for each in answer.json["channels"]}
    assert answer.json["wouldBeAccepted"] is True
    assert outlooks["ebox-citizen"] == "unknown"


async def test_a_known_reference_is_told(house: "House") -> None:
    sender = await house.sender()
    message = sender.message()
    assert (await sender.post(sender.parts(message))).status == 201
    same = await dry_run(sender, sender.parts(message))
    assert same.json["wouldBeAccepted"] is True
    assert [(each["severity"], each["code"]) for each in same.json["findings"]] == [("warning", "reference-known")]
    other = replace(message, subject="Een ander onderwerp")
    conflict = await dry_run(sender, sender.parts(other))
    assert [finding["code"] for finding in conflict.json["findings"]] == ["reference-conflict"]


async def test_a_used_up_quota_is_found(make_house: "MakeHouse", registered: Any) -> None:
    senders = registered(n0406798006=lambda values: values["quota"].update(messages_per_day=1))
    house = await make_house(lambda values: values["gateway"].update(senders=senders))
    sender = await house.sender()
    assert (await sender.send()).status == 201
    answer = await dry_run(sender, sender.parts(sender.message()))
    assert [finding["code"] for finding in answer.json["findings"]] == ["quota-exceeded"]


@pytest.mark.parametrize("query", ["mode=dry", "mode=check&mode=check", "mode=check&x=1", "x=1"])
async def test_other_parameters_are_refused(house: "House", query: str) -> None:
    sender = await house.sender()
    answer = await dry_run(sender, sender.parts(sender.message()), f"/api/v1/messages?{query}")
    assert (answer.status, answer.code) == (400, "bad-request")
