import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import apsw
import pytest

from gateway.adapters.base import Handover
from gateway.admin.decisions import Decision, possible_decisions
from gateway.dispatch.deadlines import Deadlines, DeadlineSettings
from gateway.domain.message import Channel, PrintOptions, PrintProduct
from gateway.domain.retention import CopyState
from gateway.domain.status import DeliveryStatus, MessageStatus, NextAction, Reason
from gateway.errors import Unreachable
from gateway.stores.model import DeliveryRecord

EBOX, PRINT = Channel.EBOX_CITIZEN, Channel.PRINT
FALLBACK = frozenset({"refused"})


async def waiting_for_a_person(office: Any, *channels: Channel, **route: Any) -> DeliveryRecord:
    """A delivery that surely never left, because its provider could not be reached for longer than we try."""
    office.providers["bosa"].send_answer = office.providers["house-a"].send_answer = Unreachable("test")
    message = await office.post(*channels, **route)
    await office.work()
    office.clock.advance(timedelta(hours=49))
    await office.work()
    found: DeliveryRecord = (await office.message(message.message_id)).deliveries[0]
    assert (found.status, found.next_action) == (DeliveryStatus.WAITING, NextAction.DECIDE)
    return found


# ── accepted ──


async def test_an_ebox_message_decided_accepted_is_delivered(office: Any, admin: Any) -> None:
    doubt = await office.in_doubt(EBOX)
    status, body = await admin.decide(doubt, "accepted")
    message = await office.message(doubt.message_id)
    delivery = message.deliveries[0]
    assert (status, body["after"]["status"], body["after"]["messageStatus"]) == (200, "delivered", "delivered")
    assert (message.status, delivery.status) == (MessageStatus.DELIVERED, DeliveryStatus.DELIVERED)
    assert delivery.next_action is NextAction.NONE
    assert delivery.handed_over_at == office.clock.now
    assert message.copy_state is CopyState.AWAITING_ERASURE
    assert await office.ledger.to_decide() == []


async def test_an_ebox_message_decided_accepted_is_watched_where_paper_follows_when_it_stays_unread(
    office: Any, admin: Any
) -> None:
    doubt = await office.in_doubt(EBOX, PRINT, unread_after=timedelta(days=15))
    status, _ = await admin.decide(doubt, "accepted", providerReference="registry-9")
    message = await office.message(doubt.message_id)
    assert status == 200
    assert message.deliveries[0].next_action is NextAction.POLL
    assert message.deliveries[0].provider_reference == "registry-9"
    assert message.copy_state is CopyState.IN_DELIVERY


async def test_a_print_job_decided_accepted_is_asked_about_until_it_is_posted(office: Any, admin: Any) -> None:
    doubt = await office.in_doubt(PRINT)
    await admin.decide(doubt, "accepted")
    accepted = await office.message(doubt.message_id)
    assert (accepted.status, accepted.deliveries[0].status) == (MessageStatus.IN_DELIVERY, DeliveryStatus.ACCEPTED)
    assert accepted.deliveries[0].next_action is NextAction.POLL
    office.providers["house-a"].status_answer = Handover(status=DeliveryStatus.DISPATCHED)
    office.clock.advance(timedelta(hours=1))
    await office.work()
    posted = await office.message(doubt.message_id)
    assert (posted.status, posted.deliveries[0].status) == (MessageStatus.DELIVERED, DeliveryStatus.DISPATCHED)
    assert office.providers["house-a"].sent == [doubt.delivery_id]


async def test_what_is_decided_accepted_is_in_the_privacy_log_as_disclosed(office: Any, admin: Any) -> None:
    doubt = await office.in_doubt(EBOX)
    await admin.decide(doubt, "accepted")
    last = office.log("privacy")[-1]
    assert (last["ev"], last["res"]) == ("disclosed-to-provider", "decided-accepted")


# ── not accepted ──


async def test_what_is_decided_not_accepted_is_sent_again_at_once_under_the_same_id(
    office: Any, admin: Any, published: Handover
) -> None:
    doubt = await office.in_doubt(EBOX)
    status, body = await admin.decide(doubt, "not-accepted")
    assert (status, body["after"]["status"], body["after"]["nextAction"]) == (200, "waiting", "send")
    assert (await office.message(doubt.message_id)).status is MessageStatus.IN_DELIVERY
    office.providers["bosa"].send_answer = published
    assert await office.work() == [doubt.delivery_id]
    message = await office.message(doubt.message_id)
    assert message.status is MessageStatus.DELIVERED
    assert office.providers["bosa"].sent == [doubt.delivery_id, doubt.delivery_id]
    assert (len(message.deliveries), message.deliveries[0].attempts) == (1, 2)


async def test_what_is_decided_not_accepted_too_late_for_its_sender_expires(office: Any, admin: Any) -> None:
    doubt = await office.in_doubt(EBOX, deliver_before=office.clock.now + timedelta(hours=1))
    office.clock.advance(timedelta(hours=2))
    await admin.decide(doubt, "not-accepted")
    await office.work()
    assert (await office.message(doubt.message_id)).status is MessageStatus.EXPIRED
    assert office.providers["bosa"].sent == [doubt.delivery_id]


# ── give up ──


async def test_giving_up_hands_over_to_the_next_channel_where_refusal_is_a_fallback(office: Any, admin: Any) -> None:
    doubt = await office.in_doubt(EBOX, PRINT, fallback=FALLBACK)
    status, body = await admin.decide(doubt, "give-up")
    message = await office.message(doubt.message_id)
    given_up, following = message.deliveries
    assert (status, body["nextChannel"]) == (200, "print")
    assert (given_up.status, given_up.reason) == (DeliveryStatus.FAILED, Reason.GIVEN_UP)
    assert given_up.next_action is NextAction.NONE
    assert (following.channel, following.number, following.status) == (PRINT, 2, DeliveryStatus.WAITING)
    assert message.status is MessageStatus.IN_DELIVERY
    assert await office.work() == [following.delivery_id]


@pytest.mark.parametrize(
    ("channels", "fallback"),
    [
        ((EBOX,), FALLBACK),
        ((EBOX, PRINT), frozenset[str]()),
        ((EBOX, PRINT), frozenset({"no-box"})),
        ((PRINT,), FALLBACK),
    ],
)
async def test_giving_up_without_a_fallback_rule_makes_the_message_undeliverable(
    office: Any, admin: Any, channels: tuple[Channel, ...], fallback: frozenset[str]
) -> None:
    doubt = await office.in_doubt(*channels, fallback=fallback)
    status, body = await admin.decide(doubt, "give-up")
    message = await office.message(doubt.message_id)
    assert (status, body["nextChannel"], message.status) == (200, None, MessageStatus.UNDELIVERABLE)
    assert [(each.status, each.reason) for each in message.deliveries] == [(DeliveryStatus.FAILED, "given-up")]
    assert message.copy_state is CopyState.AWAITING_ERASURE
    assert message.copy_until == office.clock.now + timedelta(days=30)


async def test_giving_up_paper_that_followed_an_unread_ebox_message_leaves_the_message_delivered(
    office: Any, admin: Any, published: Handover
) -> None:
    first = await office.in_doubt(EBOX, PRINT, unread_after=timedelta(days=15))
    await admin.decide(first, "accepted")
    office.providers["bosa"].status_answer = replace(published, read=False)
    office.clock.advance(timedelta(days=15))
    await office.work()  # still unread: paper follows
    await office.work()  # and gets into doubt
    message = await office.message(first.message_id)
    doubt = message.deliveries[1]
    assert (doubt.channel, doubt.status) == (PRINT, DeliveryStatus.IN_DOUBT)
    status, _ = await admin.decide(doubt, "give-up")
    assert status == 200
    assert (await office.message(message.message_id)).status is MessageStatus.DELIVERED


# ── a delivery that surely never left ──


async def test_nobody_can_say_that_a_delivery_arrived_that_never_left(office: Any, admin: Any) -> None:
    waiting = await waiting_for_a_person(office, EBOX)
    status, problem = await admin.decide(waiting, "accepted")
    assert (status, problem["type"]) == (409, "urn:document-gateway:problem:not-possible")
    assert "not-accepted, give-up" in problem["detail"]
    assert [each.delivery_id for each in await office.ledger.to_decide()] == [waiting.delivery_id]


async def test_a_delivery_that_never_left_can_be_sent_again(office: Any, admin: Any, published: Handover) -> None:
    waiting = await waiting_for_a_person(office, EBOX)
    status, _ = await admin.decide(waiting, "not-accepted")
    traffic = office.log("traffic")[-1]
    office.providers["bosa"].send_answer = published
    assert (status, await office.work()) == (200, [waiting.delivery_id])
    assert (await office.message(waiting.message_id)).status is MessageStatus.DELIVERED
    assert (traffic["ev"], traffic["res"]) == ("waiting", "decided-not-accepted")
    assert traffic["what"]["messageStatus"] == "in-delivery"


async def test_a_delivery_that_never_left_can_be_given_up(office: Any, admin: Any) -> None:
    waiting = await waiting_for_a_person(office, EBOX, PRINT, fallback=FALLBACK)
    status, body = await admin.decide(waiting, "give-up")
    assert (status, body["after"]["status"], body["nextChannel"]) == (200, "failed", "print")


DOUBTS = {"accepted", "not-accepted", "give-up"}
POSSIBLE = {
    DeliveryStatus.WAITING: DOUBTS - {"accepted"},
    DeliveryStatus.IN_DOUBT: DOUBTS,
    **{status: {"accepted", "give-up"} for status in ("accepted", "printed", "enclosed")},
    **{status: {"accepted", "delivered", "lost"} for status in ("dispatched", "in_transit", "held")},
    DeliveryStatus.DELIVERED: {"accepted", "read", "unread"},
}


@pytest.mark.parametrize("status", list(DeliveryStatus))
async def test_only_what_can_have_become_of_a_delivery_can_be_decided(office: Any, status: DeliveryStatus) -> None:
    doubt = replace(await office.in_doubt(EBOX), status=status)
    assert set(possible_decisions(doubt)) == POSSIBLE.get(status, set())
    for action in set(NextAction) - {NextAction.DECIDE}:
        assert possible_decisions(replace(doubt, next_action=action)) == ()


# ── a provider that has it and tells nothing ──


async def without_news(office: Any, status: DeliveryStatus, *channels: Channel, **route: Any) -> DeliveryRecord:
    """A delivery that its provider took, and about which it told nothing until a person was asked."""
    provider = "house-a" if channels[0] is PRINT else "bosa"
    office.providers[provider].send_answer = Handover(status=status)
    message = await office.post(*channels, **route)
    await office.work()
    deadlines = Deadlines(DeadlineSettings(), office.deps, lambda _claim, _outcome: None)
    office.clock.advance(timedelta(days=41))
    assert await deadlines.look() == 1
    found: DeliveryRecord = (await office.message(message.message_id)).deliveries[0]
    assert (found.status, found.next_action, found.reason) == (status, NextAction.DECIDE, Reason.NO_NEWS)
    return found


async def test_a_print_job_that_the_house_does_have_is_watched_on(office: Any, admin: Any) -> None:
    silent = await without_news(office, DeliveryStatus.PRINTED, PRINT)
    status, body = await admin.decide(silent, "accepted")
    assert (status, body["before"]["messageStatus"], body["after"]["messageStatus"]) == (
        200,
        "needs-decision",
        "in-delivery",
    )
    assert (body["after"]["status"], body["after"]["nextAction"]) == ("printed", "poll")
    traffic = office.log("traffic")[-1]
    assert (traffic["ev"], traffic["res"]) == ("confirmed", "decided-accepted")
    disclosures = len(office.log("privacy"))
    assert await office.work() == [silent.delivery_id]  # asked at once, and in vain
    assert (await office.message(silent.message_id)).deliveries[0].deadline_at == office.clock.now + timedelta(days=5)
    assert len(office.log("privacy")) == disclosures


async def test_a_print_job_that_the_house_lost_goes_the_way_of_a_refused_one(office: Any, admin: Any) -> None:
    silent = await without_news(office, DeliveryStatus.ACCEPTED, PRINT)
    _, body = await admin.decide(silent, "give-up")
    assert (body["after"]["status"], body["after"]["messageStatus"]) == ("failed", "undeliverable")


@pytest.mark.parametrize(("said", "message_status"), [("delivered", "delivered"), ("lost", "returned")])
async def test_a_person_may_know_what_the_post_did(office: Any, admin: Any, said: str, message_status: str) -> None:
    registered = PrintOptions(product=PrintProduct.REGISTERED)
    silent = await without_news(office, DeliveryStatus.HELD, PRINT, print_options=registered)
    status, body = await admin.decide(silent, said)
    assert (status, body["after"]["status"], body["after"]["messageStatus"]) == (200, said, message_status)
    assert body["after"]["nextAction"] == "none"
    assert (await office.message(silent.message_id)).copy_until is not None


UNREAD = {"unread_after": timedelta(days=15)}


async def test_a_message_whose_reading_nobody_could_tell_is_not_printed_when_it_was_read(
    office: Any, admin: Any
) -> None:
    silent = await without_news(office, DeliveryStatus.DELIVERED, EBOX, PRINT, **UNREAD)
    kept = await office.message(silent.message_id)
    assert (kept.status, kept.copy_state) == (MessageStatus.DELIVERED, CopyState.IN_DELIVERY)
    status, _ = await admin.decide(silent, "read")
    message = await office.message(silent.message_id)
    assert (status, message.status, len(message.deliveries)) == (200, MessageStatus.DELIVERED, 1)
    assert message.deliveries[0].read_seen_at == office.clock.now
    assert message.copy_state is CopyState.AWAITING_ERASURE
    assert office.log("traffic")[-1]["ev"] == "read"


async def test_a_message_that_was_not_read_is_printed_when_a_person_says_so(office: Any, admin: Any) -> None:
    silent = await without_news(office, DeliveryStatus.DELIVERED, EBOX, PRINT, **UNREAD)
    status, body = await admin.decide(silent, "unread")
    message = await office.message(silent.message_id)
    assert (status, body["nextChannel"], message.status) == (200, "print", MessageStatus.IN_DELIVERY)
    assert [each.status for each in message.deliveries] == [DeliveryStatus.DELIVERED, DeliveryStatus.WAITING]
    assert message.deliveries[0].reason == Reason.UNREAD


async def test_with_the_registrys_own_id_a_message_is_asked_about_again(office: Any, admin: Any) -> None:
    silent = await without_news(office, DeliveryStatus.DELIVERED, EBOX, PRINT, **UNREAD)
    assert silent.provider_reference is None
    await admin.decide(silent, "accepted", providerReference="registry-9")
    office.providers["bosa"].status_answer = Handover(status=DeliveryStatus.DELIVERED, read=True)
    assert await office.work() == [silent.delivery_id]
    (delivery,) = (await office.message(silent.message_id)).deliveries
    assert (delivery.provider_reference, delivery.read_seen_at) == ("registry-9", office.clock.now)


# ── a letter that cannot be opened ──


async def test_a_letter_whose_key_is_refused_can_be_given_up_but_not_be_called_accepted(
    office: Any, admin: Any
) -> None:
    doubt = await office.in_doubt(EBOX)
    record = await office.message(doubt.message_id)
    without_key(office, record.meta_dek_id)
    status, problem = await admin.decide(doubt, "accepted")
    assert (status, problem["type"]) == (409, "urn:document-gateway:problem:not-possible")
    assert f"the key of message {record.message_id} is gone" in problem["detail"]
    assert await office.message(doubt.message_id) == record
    status, body = await admin.decide(doubt, "give-up")
    assert (status, body["after"]["messageStatus"]) == (200, "undeliverable")


def without_key(office: Any, dek_id: Any) -> None:
    """Take a key away behind the ledger's back, as a mistaken restore would."""
    connection = apsw.Connection(str(office.ledger_file))
    connection.set_busy_timeout(10_000)
    connection.execute(
        "UPDATE dek SET destroyed = 1, wrapped = zeroblob(length(wrapped)) WHERE dek_id = ?", (dek_id.bytes,)
    )
    connection.close()


# ── once, or not at all ──


@pytest.mark.parametrize("first", sorted(DOUBTS))
async def test_a_delivery_is_decided_about_once(office: Any, admin: Any, first: str) -> None:
    doubt = await office.in_doubt(EBOX, PRINT, fallback=FALLBACK)
    assert (await admin.decide(doubt, first))[0] == 200
    decided = await office.message(doubt.message_id)
    for again in Decision:
        status, problem = await admin.decide(doubt, again)
        assert (status, problem["type"]) == (409, "urn:document-gateway:problem:not-waiting")
    assert await office.message(doubt.message_id) == decided
    refused = office.log("admin")[-1]
    assert (refused["res"], refused["what"]["delivery"]) == ("not-waiting", str(doubt.delivery_id))
    assert refused["what"]["reason"] == "asked the provider by telephone"
    assert len(admin.decided) == 1


async def test_of_two_who_decide_at_the_same_moment_one_is_refused(office: Any, admin: Any) -> None:
    doubt = await office.in_doubt(EBOX)
    answers = await asyncio.gather(admin.decide(doubt, "accepted"), admin.decide(doubt, "not-accepted"))
    assert sorted(status for status, _ in answers) == [200, 409]
    assert [entry["res"] for entry in office.log("admin")].count("decided") == 1


async def test_a_delivery_that_nobody_knows_cannot_be_decided_about(office: Any, admin: Any) -> None:
    message = await office.post(EBOX)
    status, problem = await admin.decide(message.deliveries[0], "accepted")
    assert (status, problem["type"]) == (409, "urn:document-gateway:problem:not-waiting")


@pytest.mark.parametrize("decision", sorted(DOUBTS))
async def test_a_dry_run_tells_what_would_happen_and_changes_nothing(office: Any, admin: Any, decision: str) -> None:
    doubt = await office.in_doubt(EBOX, PRINT, fallback=FALLBACK)
    before = await office.message(doubt.message_id)
    traffic = office.log("traffic")
    status, told = await admin.decide(doubt, decision, dryRun=True)
    assert (status, told["dryRun"]) == (200, True)
    assert await office.message(doubt.message_id) == before
    assert office.log("traffic") == traffic
    assert admin.decided == []
    assert office.log("admin")[-1]["res"] == "dry-run"
    _, done = await admin.decide(doubt, decision)
    assert done == told | {"dryRun": False}


# ── the logs ──


async def test_the_admin_log_tells_who_decided_what_in_which_role_and_why(office: Any, admin: Any) -> None:
    doubt = await office.in_doubt(EBOX, PRINT, fallback=FALLBACK)
    await admin.decide(doubt, "give-up")
    entry = office.log("admin")[-1]
    assert (entry["ev"], entry["res"]) == ("ops-decide", "decided")
    assert entry["who"] == {"person": "An Operator", "uid": "1001", "role": "operator"}
    assert entry["what"] == {
        "delivery": str(doubt.delivery_id),
        "message": str(doubt.message_id),
        "decision": "give-up",
        "reason": "asked the provider by telephone",
        "statusBefore": "in-doubt",
        "actionBefore": "decide",
        "messageStatusBefore": "needs-decision",
        "statusAfter": "failed",
        "actionAfter": "none",
        "messageStatusAfter": "in-delivery",
        "nextChannel": "print",
    }


async def test_the_sender_sees_a_decision_in_the_timeline_and_nothing_of_the_person(office: Any, admin: Any) -> None:
    doubt = await office.in_doubt(EBOX)
    await admin.decide(doubt, "accepted")
    last = (await office.ledger.timeline(doubt.message_id))[-1]
    assert last.event == "delivered"
    assert b"decided-accepted" in last.entry
    assert b"Operator" not in last.entry
    assert b"telephone" not in last.entry


async def test_the_decided_is_told_after_its_commit(office: Any, admin: Any) -> None:
    doubt = await office.in_doubt(EBOX)
    await admin.decide(doubt, "accepted")
    assert [(each.message_id, each.after.status) for each in admin.decided] == [(doubt.message_id, "delivered")]


# ── what is ordered ──


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"reason": "no"}, "/reason"),
        ({"reason": "x" * 501}, "/reason"),
        ({"reason": " asked them"}, "/reason"),
        ({"reason": "asked\nthem"}, "/reason"),
        ({"reason": "asked \x1b[2Jthem"}, "/reason"),
        ({"reason": "it was for 90.61.01-001.55"}, "/reason"),
        ({"reason": "it was for 906101 00155"}, "/reason"),
        ({"reason": None}, "/reason"),
        ({"decision": "maybe"}, "/decision"),
        ({"decision": ["accepted"]}, "/decision"),
        ({"deliveryId": "1"}, "/deliveryId"),
        ({"deliveryId": 1}, "/deliveryId"),
        ({"dryRun": "true"}, "/dryRun"),
        ({"dry_run": True}, "/dry_run"),
        ({"decision": "give-up", "providerReference": "registry-1"}, "/providerReference"),
        ({"providerReference": "two words"}, "/providerReference"),
        ({"providerReference": ""}, "/providerReference"),
    ],
)
async def test_a_wrong_order_names_the_wrong_member_and_decides_nothing(
    office: Any, admin: Any, change: dict[str, Any], pointer: str
) -> None:
    doubt = await office.in_doubt(EBOX)
    status, problem = await admin.decide(doubt, "accepted", **change)
    assert (status, [error["pointer"] for error in problem["errors"]]) == (400, [pointer])
    assert await office.ledger.to_decide() == [doubt]


async def test_every_missing_member_is_named_at_once(admin: Any) -> None:
    status, problem = await admin.ask("POST", "/ops/decide", json={})
    assert status == 400
    assert [error["pointer"] for error in problem["errors"]] == ["/decision", "/deliveryId", "/reason"]
    assert {error["detail"] for error in problem["errors"]} == {"is missing"}


async def test_reasons_of_three_and_of_five_hundred_characters_are_taken(office: Any, admin: Any) -> None:
    doubt = await office.in_doubt(EBOX)
    assert (await admin.decide(doubt, "accepted", reason="yes", dryRun=True))[0] == 200
    assert (await admin.decide(doubt, "accepted", reason="y" * 500))[0] == 200
