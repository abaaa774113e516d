"""What the gateway sees of whoever asks."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest

from gateway.crypto.certs import load_certificates, spki_sha256

if TYPE_CHECKING:
    from tests.plugins.house import House, SenderHand
else:
    from house import House, SenderHand


async def whoami(sender: SenderHand, **headers: str) -> Any:
    answer = await sender.call("GET", "/api/v1/whoami", headers=headers)
    assert answer.status == 200, answer.body
    return answer.json


async def test_a_sender_sees_its_certificate_its_profiles_and_what_they_may_send(intake: House) -> None:
    sender = await intake.sender()
    found = await whoami(sender)
    certificate = (await asyncio.to_thread(load_certificates, intake.certs / "gemeente.pem"))[0]
    assert found["gateway"] == "gateway.dev.example"
    assert abs(datetime.fromisoformat(found["serverTime"]) - datetime.now(UTC)) < timedelta(minutes=1)
    shown = found["certificate"]
    assert shown["spkiSha256"] == spki_sha256(certificate)
    assert datetime.fromisoformat(shown["notAfter"]) == certificate.not_valid_after_utc
    assert shown["daysLeft"] == (certificate.not_valid_after_utc - datetime.now(UTC)).days
    assert found["party"] == "0406798006"
    assert found["sender"] == {"enterpriseNumber": "0406798006", "ovoCode": None, "name": "Gemeente Voorbeeld"}
    (profile,) = found["profiles"]
    assert (profile["id"], profile["displayName"], profile["holdSeconds"]) == (
        "burgerzaken", "Burgerzaken Voorbeeld", 0,
    )  # fmt: skip
    assert profile["categories"] == [
        {
            "category": "tax-assessment",
            "channels": ["ebox-citizen", "ebox-enterprise", "print"],
            "recipients": "any",
            "retentionDays": 365,
        },
        {
            "category": "building-permit",
            "channels": ["ebox-citizen", "print"],
            "recipients": "dossier",
            "retentionDays": 90,
        },
    ]


async def test_the_quota_that_is_left_is_told_by_profile(make_house: Any, registered: Any) -> None:
    senders = registered(n0406798006=lambda values: values.update(quota={"messages_per_day": 3}))
    house = await make_house(lambda values: values["gateway"].update(senders=senders), parts=["intake"])
    sender = await house.sender()
    for used in range(4):
        (profile,) = (await whoami(sender))["profiles"]
        assert profile["quota"]["messages"] == {"limit": 3, "used": used, "left": 3 - used}
        assert profile["quota"]["paper"] == {"limit": None, "used": 0, "left": None}
        answer = await sender.send()
        assert answer.status == (201 if used < 3 else 429)


async def test_profiles_count_apart_and_the_day_is_that_of_brussels(make_house: Any, moved_clock: Any) -> None:
    house = await make_house(clock=moved_clock, parts=["intake"])
    moved_clock.ahead = datetime(2027, 1, 1, 23, 30, tzinfo=UTC) - datetime.now(UTC)  # half past midnight in Brussels
    found = await whoami(await house.sender("belasting"))
    assert [profile["id"] for profile in found["profiles"]] == ["personenbelasting", "vennootschapsbelasting"]
    assert {profile["quota"]["day"] for profile in found["profiles"]} == {"2027-01-02"}


@pytest.mark.parametrize("ahead_s", [0, 90, -3_600])
async def test_a_date_header_shows_how_far_the_clocks_are_apart(intake: House, ahead_s: int) -> None:
    sender = await intake.sender()
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead_s), usegmt=True)
    skew_s = (await whoami(sender, Date=date))["clockSkewSeconds"]
    assert abs(skew_s - ahead_s) <= 30


async def test_without_a_date_that_can_be_read_no_skew_is_told(intake: House) -> None:
    sender = await intake.sender()
    assert (await whoami(sender))["clockSkewSeconds"] is None
    for date in ("now", "", "2026-11-22T10:00:00Z"):
        assert (await whoami(sender, Date=date))["clockSkewSeconds"] is None


async def test_a_processor_sees_for_whom_it_asks(intake: House) -> None:
    processor = await intake.sender("belasting")
    found = await whoami(processor, **{"On-Behalf-Of-Enterprise-Number": "0406798006"})
    assert (found["party"], found["sender"]["enterpriseNumber"]) == ("0566988259", "0406798006")
    assert [profile["id"] for profile in found["profiles"]] == ["burgerzaken"]
