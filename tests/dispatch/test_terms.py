"""Terms that pass: unread letters, first and last moments, dossiers that end, letters that come back."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.domain.message import PostalAddress
from gateway.domain.retention import CopyState
from gateway.domain.status import DeliveryStatus, NextAction
from gateway.simulators import magic
from gateway.simulators.magic import PrintFate

EBOX_THEN_PRINT = ("ebox-citizen", "print")
UNREAD_AFTER = timedelta(days=15)  # what the sender's file says


def soon(**term: float) -> datetime:
    return (datetime.now(UTC) + timedelta(**term)).replace(microsecond=0)


# ── Unread ──


async def test_paper_follows_an_ebox_message_that_nobody_read_in_time(bench: Any) -> None:
    message_id = await bench.send(ssin=magic.CITIZEN_UNREAD, channels=EBOX_THEN_PRINT)
    record = await bench.settled(message_id)
    assert (record.status, bench.copies()) == ("delivered", (1, 0))
    assert record.copy_state == CopyState.IN_DELIVERY  # a rule may still need it
    published_at = record.deliveries[0].handed_over_at
    record = await bench.until(message_id, lambda record: posted(record) is not None)
    ebox, paper = record.deliveries
    assert (ebox.status, ebox.reason, paper.status) == ("delivered", "unread", "dispatched")
    assert paper.first_attempt_at is not None
    assert paper.first_attempt_at - published_at >= UNREAD_AFTER
    assert (record.status, bench.copies()) == ("delivered", (1, 1))


async def test_a_message_that_was_read_is_neither_printed_nor_kept(bench: Any) -> None:
    message_id = await bench.send(ssin=magic.CITIZEN_FINE, channels=EBOX_THEN_PRINT)
    record = await bench.until(message_id, lambda record: record.copy_state == CopyState.ERASED)
    (delivery,) = record.deliveries
    assert delivery.read_seen_at is not None
    assert (record.status, delivery.next_action) == ("delivered", NextAction.NONE)
    assert await bench.keys_left(record) == [False]
    bench.clock.leap(2 * UNREAD_AFTER)
    assert bench.copies() == (1, 0)


async def test_paper_is_never_sent_on_a_guess_while_the_registry_cannot_be_asked(bench: Any) -> None:
    message_id = await bench.send(ssin=magic.CITIZEN_UNREAD, channels=EBOX_THEN_PRINT)
    record = await bench.settled(message_id)
    bench.ebox.faults.order("status", "server-error", times=3)  # as often as one look-up is tried
    bench.clock.leap_to(record.deliveries[0].handed_over_at + UNREAD_AFTER + timedelta(days=2))
    await bench.until(message_id, lambda _: bench.ebox.faults.pending == (), leaping=False)
    assert bench.copies() == (1, 0)
    record = await bench.until(message_id, lambda record: posted(record) is not None)
    assert (record.deliveries[0].reason, bench.copies()) == ("unread", (1, 1))


def posted(record: Any) -> datetime | None:
    found: datetime | None = record.deliveries[-1].posted_at
    return found


# ── First and last moments ──


async def test_a_letter_that_no_provider_took_before_its_last_moment_expires(bench: Any) -> None:
    last_moment = soon(minutes=5)
    await bench.house.simulators.refuse("print")
    record = await bench.settled(await bench.send(channels=("print",), deliver_before=last_moment))
    (delivery,) = record.deliveries
    assert (record.status, delivery.status, delivery.reason) == ("expired", "failed", "expired")
    assert delivery.attempts > 1
    assert last_moment <= delivery.status_at < last_moment + timedelta(minutes=1)
    await bench.house.simulators.admit("print")
    bench.clock.leap(timedelta(days=3))
    assert bench.copies() == (0, 0)


async def test_a_doubt_outlives_the_last_moment_because_the_letter_may_have_arrived(make_bench: Any) -> None:
    bench = await make_bench()
    bench.print_house.faults.order("create", "keep-then-500")
    message_id = await bench.send(channels=("print",), deliver_before=soon(minutes=5))
    await bench.until(message_id, lambda record: record.deliveries[0].status == "in-doubt", leaping=False)
    bench.clock.leap(timedelta(hours=1))
    record = await bench.settled(message_id)
    assert (record.status, bench.copies()) == ("delivered", (0, 1))


@pytest.mark.parametrize("channel", ["ebox-citizen", "print"])
async def test_a_letter_is_kept_back_until_its_first_moment(bench: Any, channel: str) -> None:
    first_moment = soon(days=3)
    message_id = await bench.send(channels=(channel,), deliver_not_before=first_moment)
    view = await bench.sender.view(str(message_id))
    assert (view["status"], view["final"]) == ("scheduled", False)
    bench.clock.leap_to(first_moment - timedelta(minutes=1))
    providers = bench.house.config.providers
    assert await bench.ledger.claim("x", lease=timedelta(1), limit=9, providers=providers) == []
    record = await bench.settled(message_id)
    assert record.status == "delivered"
    kept = [*bench.ebox.records.kept, *bench.print_house.records.kept]
    assert [each.kept_at >= first_moment for each in kept] == [True]


async def test_the_undo_time_of_a_profile_keeps_letters_back(make_bench: Any, tmp_path: Any) -> None:
    def hold(values: dict[str, Any]) -> None:
        file = next((tmp_path / "senders").glob("0406798006.toml"))
        file.write_text(file.read_text().replace('hold = "PT0S"', 'hold = "PT30M"'))
        values["gateway"]["senders"] = str(tmp_path / "senders")

    bench = await make_bench(authorisation={}, change=hold)
    message_id = await bench.send(channels=("print",))
    record = await bench.record(message_id)
    assert record.status == "scheduled"
    record = await bench.settled(message_id)
    assert record.deliveries[0].first_attempt_at - record.accepted_at >= timedelta(minutes=30)


# ── Dossiers ──


@pytest.mark.parametrize("ended", [True, False])
async def test_a_dossier_counts_again_before_a_deferred_dispatch(
    bench: Any,
    ended: bool,  # noqa: FBT001 -- pytest names it
) -> None:
    number = {"ssin": magic.CITIZEN_FINE}
    about = {"recipient": number, "category": "building-permit", "from": "2026-01-01"}
    answer = await bench.sender.call_json("/api/v1/dossiers", {"dossiers": [about]})
    dossier = {"dossierId": answer.json["dossiers"][0]["dossierId"]}
    message_id = await bench.send(
        **number, category="building-permit", channels=EBOX_THEN_PRINT, deliver_not_before=soon(days=2)
    )
    if ended:
        answer = await bench.sender.call_json("/api/v1/dossiers/end", {"dossiers": [dossier]})
        assert answer.json["dossiers"][0]["outcome"] == "ended"
    record = await bench.settled(message_id)
    (delivery,) = record.deliveries
    if ended:
        assert (record.status, delivery.reason, delivery.attempts) == ("undeliverable", "dossier-ended", 0)
        assert (bench.copies(), bench.ebox.records.calls) == ((0, 0), [])
    else:
        assert (record.status, bench.copies()) == ("delivered", (1, 0))


async def test_a_dossier_that_ends_between_two_tries_does_not_stop_the_letter(bench: Any) -> None:
    number = {"ssin": magic.CITIZEN_FINE}
    about = {"recipient": number, "category": "building-permit", "from": "2026-01-01"}
    answer = await bench.sender.call_json("/api/v1/dossiers", {"dossiers": [about]})
    dossier = {"dossierId": answer.json["dossiers"][0]["dossierId"]}
    bench.ebox.faults.order("publish", "too-many-requests")
    message_id = await bench.send(
        **number, category="building-permit", channels=("ebox-citizen",), deliver_not_before=soon(days=2)
    )
    bench.clock.leap(timedelta(days=2))
    await bench.until(message_id, lambda record: record.deliveries[0].status == "waiting" and tried(record))
    await bench.sender.call_json("/api/v1/dossiers/end", {"dossiers": [dossier]})
    assert ((await bench.settled(message_id)).status, bench.copies()) == ("delivered", (1, 0))


def tried(record: Any) -> bool:
    return bool(record.deliveries[0].attempts)


# ── Letters that come back ──


async def test_a_letter_that_comes_back_after_dispatch_is_returned_and_its_copy_stays(bench: Any) -> None:
    address = PostalAddress(
        name=magic.PRINT_NAMES[PrintFate.RETURNED],
        street="Kerkstraat",
        house_number="12",
        postcode="9000",
        municipality="Gent",
        country="BE",
    )
    message_id = await bench.send(address=address, channels=("print",))
    assert (await bench.settled(message_id)).status == "delivered"
    record = await bench.until(message_id, lambda record: record.status == "returned")
    (delivery,) = record.deliveries
    assert (delivery.status, delivery.code, delivery.next_action) == (DeliveryStatus.RETURNED, "unknown", "none")
    assert (record.copy_state, bench.copies()) == (CopyState.KEPT, (0, 1))


async def test_a_standard_letter_is_watched_for_a_month_and_then_left_alone(bench: Any) -> None:
    message_id = await bench.send(channels=("print",))
    posted_at = (await bench.settled(message_id)).deliveries[0].posted_at
    bench.clock.leap_to(posted_at + timedelta(days=29))
    looked = len(bench.calls("find"))
    await bench.until(message_id, lambda _: len(bench.calls("find")) > looked, leaping=False)
    bench.clock.leap_to(posted_at + timedelta(days=31))
    record = await bench.until(message_id, lambda record: record.deliveries[0].next_action is NextAction.NONE)
    assert (record.status, record.deliveries[0].status) == ("delivered", "dispatched")
