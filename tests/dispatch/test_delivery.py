"""What one delivery comes to under every fault of its provider: its end, its calls, and never a second copy."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from gateway.adapters.print_rest import PrintRestAdapter
from gateway.domain.status import DeliveryStatus, MessageStatus

SHORT_CALLS = {"attempt_timeout_s": 3, "connect_timeout_s": 3}
DELIVERED, UNDELIVERABLE = MessageStatus.DELIVERED, MessageStatus.UNDELIVERABLE
NEEDS_DECISION = MessageStatus.NEEDS_DECISION
UNCOUNTABLE = b"%PDF-1.7 and nothing behind it"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A fault ordered once, and what must hold afterwards; `results` are those of the calls, in order."""

    fault: str
    calls: int
    results: tuple[str, ...]
    status: MessageStatus = DELIVERED
    delivery: DeliveryStatus = DeliveryStatus.DELIVERED
    reason: str | None = None
    code: str | None = None
    copies: int = 1
    conflict_means: str = "doubt"


def patience(fault: str) -> dict[str, int]:
    """Return how long to wait for a provider: not long where it never answers."""
    return SHORT_CALLS if "hang" in fault else {}


def cases(*rows: Case) -> list[Any]:
    return [pytest.param(row, id=f"{row.fault}, 409 means {row.conflict_means}") for row in rows]


# ── e-Box: no look-up, so a lost call is made again under the same key ──

NOT_KEPT = ("server-error", "bad-gateway", "unavailable", "gateway-timeout", "close", "hang")
KEPT = (
    "keep-then-500",
    "keep-then-504",
    "keep-then-close",
    "keep-then-hang",
    "keep-then-truncate",
    "malformed-json",
    "wrong-content-type",
)
EBOX = cases(
    *(
        Case(fault=fault, calls=2, results=("unreachable", "delivered"), reason="provider-trouble")
        for fault in ("request-timeout", "too-many-requests")
    ),
    *(
        Case(fault=fault, calls=2, results=("blocked", "delivered"), reason="provider-trouble")
        for fault in ("forbidden", "invalid-sender", "redirect")
    ),
    Case(fault="unauthorised", calls=2, results=("delivered",)),
    *(
        Case(fault=fault, calls=2, results=("unknown", "delivered"), reason="outcome-unknown", conflict_means=means)
        for fault in NOT_KEPT
        for means in ("doubt", "accepted")
    ),
    *(
        Case(
            fault=fault,
            calls=2,
            results=("unknown", "unknown"),
            status=NEEDS_DECISION,
            delivery=DeliveryStatus.IN_DOUBT,
            reason="outcome-unknown",
        )
        for fault in KEPT
    ),
    *(
        Case(
            fault=fault,
            calls=2,
            results=("unknown", "delivered"),
            reason="outcome-unknown",
            code="409",
            conflict_means="accepted",
        )
        for fault in KEPT
    ),
    # A 409 at the first call; where it means doubt, see test_peers_dispatch.py.
    Case(
        fault="conflict",
        calls=2,
        results=("unknown", "delivered"),
        reason="outcome-unknown",
        conflict_means="accepted",
    ),
    *(
        Case(
            fault=fault,
            calls=1,
            results=("refused",),
            status=UNDELIVERABLE,
            delivery=DeliveryStatus.REJECTED,
            reason="refused",
            code=code,
            copies=0,
        )
        for fault, code in (("bad-request", "INVALID_INPUT"), ("digest-mismatch", "DIGEST_DO_NOT_MATCH"))
    ),
)


@pytest.mark.parametrize("case", EBOX)
async def test_an_ebox_delivery_ends_as_its_fault_demands(make_bench: Any, case: Case) -> None:
    bench = await make_bench(providers={"bosa": {**patience(case.fault), "conflict_means": case.conflict_means}})
    bench.ebox.faults.order("publish", case.fault)
    record = await bench.settled(await bench.send(channels=("ebox-citizen",)))
    await assert_ended(bench, record, case)
    assert bench.copies() == (case.copies, 0)
    assert_one_key(record, bench.calls("publish"), case.calls)


# ── Print: a look-up tells, so nothing is sent again that is there ──

PRINT = cases(
    *(
        Case(
            fault=fault,
            calls=2,
            results=(result, "accepted"),
            delivery=DeliveryStatus.DISPATCHED,
            reason="provider-trouble",
        )
        for fault, result in (
            ("request-timeout", "unreachable"),
            ("too-many-requests", "unreachable"),
            ("unauthorised", "blocked"),
            ("forbidden", "blocked"),
            ("redirect", "blocked"),
        )
    ),
    *(
        Case(
            fault=fault,
            calls=2,
            results=("unknown", "surely-absent", "accepted"),
            delivery=DeliveryStatus.DISPATCHED,
            reason="outcome-unknown",
        )
        for fault in (*NOT_KEPT, "conflict")
    ),
    *(
        Case(
            fault=fault,
            calls=1,
            results=("unknown", "printed"),
            delivery=DeliveryStatus.DISPATCHED,
            reason="outcome-unknown",
        )
        for fault in KEPT
    ),
    *(
        Case(
            fault=fault,
            calls=1,
            results=("refused",),
            status=UNDELIVERABLE,
            delivery=DeliveryStatus.REJECTED,
            reason="refused",
            code=code,
            copies=0,
        )
        for fault, code in (
            ("bad-request", "INVALID_INPUT"),
            ("unprocessable", "unprocessable"),
            ("not-a4", "letter-not-a4-portrait-oriented"),
        )
    ),
)


@pytest.mark.parametrize("case", PRINT)
async def test_a_print_delivery_ends_as_its_fault_demands(make_bench: Any, case: Case) -> None:
    bench = await make_bench(providers={"house-a": patience(case.fault)})
    bench.print_house.faults.order("create", case.fault)
    record = await bench.settled(await bench.send(channels=("print",)))
    await assert_ended(bench, record, case)
    assert bench.copies() == (0, case.copies)
    assert_one_key(record, bench.calls("create"), case.calls)


async def assert_ended(bench: Any, record: Any, case: Case) -> None:
    (delivery,) = record.deliveries
    seen = (record.status, delivery.status, delivery.reason, delivery.code)
    assert seen == (case.status, case.delivery, case.reason, case.code)
    results = await bench.results(record.message_id)
    assert tuple(results[: len(case.results)]) == case.results
    assert bench.ebox.faults.pending == bench.print_house.faults.pending == ()


def assert_one_key(record: Any, calls: list[Any], count: int) -> None:
    assert [call.key for call in calls] == [str(record.deliveries[0].delivery_id)] * count


# ── Faults of more than one call ──


@pytest.mark.parametrize("fault", ["server-error", "forbidden", "close", "malformed-json", "wrong-content-type"])
async def test_a_print_house_that_cannot_be_asked_is_asked_again_before_anything_is_sent(
    bench: Any, fault: str
) -> None:
    bench.print_house.faults.order("create", "keep-then-500")
    # A look-up is tried three times; the library repeats a GET whose connection broke once more by itself.
    bench.print_house.faults.order("status", fault, times=6 if fault == "close" else 3)
    record = await bench.settled(await bench.send(channels=("print",)))
    assert record.status == DELIVERED
    assert (await bench.results(record.message_id))[:2] == ["unknown", "unknown"]
    assert (len(bench.calls("create")), bench.copies()) == (1, (0, 1))


@pytest.mark.parametrize(("name", "channel", "copies"), [("ebox", "ebox-citizen", (1, 0)), ("print", "print", (0, 1))])
async def test_a_provider_that_was_down_gets_the_letter_once_when_it_is_back(
    bench: Any, name: Any, channel: str, copies: tuple[int, int]
) -> None:
    await bench.house.simulators.refuse(name)
    message_id = await bench.send(channels=(channel,))
    record = await bench.until(message_id, lambda record: tried_in_vain(record) >= 2)
    assert (record.status, bench.copies()) == (MessageStatus.IN_DELIVERY, (0, 0))
    await bench.house.simulators.admit(name)
    record = await bench.settled(message_id)
    assert (record.status, bench.copies()) == (DELIVERED, copies)
    assert await bench.metric("gateway_attempts_total", channel=channel, outcome="unreachable") >= 2


def tried_in_vain(record: Any) -> int:
    """Return how many calls have ended without a hand-over; 0 while one is being made."""
    (delivery,) = record.deliveries
    return int(delivery.attempts) if delivery.status is DeliveryStatus.WAITING else 0


async def test_a_provider_that_stays_down_becomes_a_persons_decision_and_nothing_is_failed(bench: Any) -> None:
    await bench.house.simulators.refuse("print")
    record = await bench.settled(await bench.send(channels=("print",)))
    (delivery,) = record.deliveries
    assert (record.status, delivery.status, delivery.reason) == (
        NEEDS_DECISION,
        DeliveryStatus.WAITING,
        "provider-trouble",
    )
    assert delivery.first_attempt_at is not None
    patience_s = bench.house.config.retry.decide_after_s
    tried_s = (delivery.status_at - delivery.first_attempt_at).total_seconds()
    assert patience_s - bench.house.config.retry.longest_delay_s - 1 <= tried_s <= patience_s + 1
    assert [doubt["deliveryId"] for doubt in await bench.doubts()] == [str(delivery.delivery_id)]


async def test_a_registry_that_never_answers_well_leaves_a_doubt_for_a_person(bench: Any) -> None:
    bench.ebox.faults.order("publish", "server-error", times=1_000)
    record = await bench.settled(await bench.send(channels=("ebox-citizen",)))
    (delivery,) = record.deliveries
    assert (record.status, delivery.status, delivery.reason) == (
        NEEDS_DECISION,
        DeliveryStatus.IN_DOUBT,
        "outcome-unknown",
    )
    assert bench.copies() == (0, 0)
    assert len(bench.calls("publish")) == delivery.attempts > 10


@pytest.mark.parametrize(("operation", "channel"), [("publish", "ebox-citizen"), ("create", "print")])
async def test_the_provider_says_itself_when_to_come_back(bench: Any, operation: str, channel: str) -> None:
    simulator = bench.ebox if operation == "publish" else bench.print_house
    simulator.faults.order(operation, "too-many-requests")  # Retry-After: 7, where our own first delay is 1 s
    message_id = await bench.send(channels=(channel,))
    record = await bench.until(
        message_id, lambda record: record.deliveries[0].reason == "provider-trouble", leaping=False
    )
    (delivery,) = record.deliveries
    assert 7.0 <= (delivery.due_at - delivery.first_attempt_at).total_seconds() < 30.0
    assert (await bench.settled(message_id)).status == DELIVERED


async def test_a_token_that_the_registry_forgot_is_fetched_anew_once(bench: Any) -> None:
    assert (await bench.settled(await bench.send(channels=("ebox-citizen",)))).status == DELIVERED
    fetched = len(bench.calls("token"))
    bench.ebox.tokens.expire_all()
    record = await bench.settled(await bench.send(channels=("ebox-citizen",)))
    assert (record.status, record.deliveries[0].attempts) == (DELIVERED, 1)
    assert len(bench.calls("token")) == fetched + 2  # one for look-ups, one for publishing
    assert [call.status for call in bench.calls("publish")] == [201, 401, 201]
    assert bench.copies() == (2, 0)


async def test_a_registry_that_refuses_us_shows_in_the_metrics_until_it_takes_us_again(bench: Any) -> None:
    bench.ebox.faults.order("publish", "forbidden", times=2)
    record = await bench.settled(await bench.send(channels=("ebox-citizen",)))
    assert (record.status, bench.copies()) == (DELIVERED, (1, 0))
    assert (await bench.results(record.message_id))[:3] == ["blocked", "blocked", "delivered"]
    assert await bench.metric("gateway_attempts_total", provider="bosa", outcome="blocked") == 2
    assert await bench.metric("gateway_retries_total", channel="ebox-citizen") == 2


async def test_a_print_house_that_tells_its_steps_out_of_order_moves_nothing_back(bench: Any, caplog: Any) -> None:
    message_id = await bench.send(channels=("print",))
    record = await bench.until(message_id, lambda record: record.deliveries[0].status is DeliveryStatus.ENCLOSED)
    job = str(record.deliveries[0].delivery_id)
    bench.print_house.queue.jobs[job].to_come.clear()
    bench.print_house.queue.advance(job, to="PRINTED")
    looked = len(bench.calls("find"))
    record = await bench.until(message_id, lambda _: len(bench.calls("find")) >= looked + 2)
    assert record.deliveries[0].status is DeliveryStatus.ENCLOSED
    assert "delivery postponed" not in caplog.text
    bench.print_house.queue.advance(job, to="DISPATCHED")
    assert (await bench.settled(message_id)).deliveries[0].status is DeliveryStatus.DISPATCHED


async def test_paper_whose_pages_cannot_be_counted_ends_before_any_call(bench: Any) -> None:
    message_id = await bench.send(UNCOUNTABLE, channels=("print",))
    record = await bench.settled(message_id)
    (delivery,) = record.deliveries
    assert (record.status, delivery.status, delivery.reason, delivery.code) == (
        "undeliverable", "failed", "refused", "pdf-unreadable",
    )  # fmt: skip
    assert bench.calls("create") == []


async def test_paper_whose_pages_cannot_be_counted_stays_in_doubt_where_an_earlier_call_may_have_arrived(
    bench: Any, start_pool: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(PrintRestAdapter, "finds", False)  # a print house that can only be sent the letter again
    bench.house.gateway.workers.stop()
    message_id = await bench.send(UNCOUNTABLE, channels=("print",))
    (dying,) = await bench.ledger.claim("dying", lease=timedelta(seconds=60), limit=1, providers=["house-a"])
    # By the ledger, it was calling when it died: whether the letter arrived, nobody knows.
    await bench.ledger.begin_attempt(dying, longest=timedelta(seconds=20), settle=timedelta(seconds=20))
    bench.clock.leap(timedelta(seconds=60))
    start_pool(bench, "second")
    record = await bench.settled(message_id)
    (delivery,) = record.deliveries
    assert (record.status, delivery.status, delivery.reason, delivery.code) == (
        NEEDS_DECISION, DeliveryStatus.IN_DOUBT, "outcome-unknown", None,
    )  # fmt: skip
    assert 2 < delivery.attempts < 30  # ever more rarely, not every few seconds
    assert set(await bench.results(message_id)) == {"document-unreadable"}
    assert [doubt["deliveryId"] for doubt in await bench.doubts()] == [str(delivery.delivery_id)]
    (told, *_) = [entry for entry in caplog.records if entry.message == "document unreadable"]
    assert (told.delivery, told.error) == (str(delivery.delivery_id), "Refused: refused: refused pdf-unreadable")
    assert bench.calls("create") == bench.calls("find") == []
