"""Who is let in while places are scarce, and what is told to, counted of and logged of those who are not."""

import asyncio
import contextlib
import logging
from contextlib import ExitStack
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.limits import Limits
from gateway.errors import Kind
from gateway.intake.admission import Admission, AdmissionLimits, NotAdmitted, Places, Pool, Pressure, Reason
from gateway.telemetry import ADMISSION_POOLS, ADMISSION_REASONS, Metrics

if TYPE_CHECKING:
    from tests.plugins.house import House
else:
    from house import House

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)


# ── Places ──


def holds_by_taking_turns(places: Places, names: list[str], amount: int = 1) -> dict[str, int]:
    """Let each take as much as it is given, by turns, until nobody is given any more."""
    held = dict.fromkeys(names, 0)
    moved = True
    while moved:
        moved = False
        for name in names:
            if places.are_due(name, amount):
                places.take(name, amount)
                held[name] += amount
                moved = True
    return held


@pytest.mark.parametrize(
    ("senders", "shares"), [(1, [100]), (2, [67, 67]), (3, [50, 50, 50]), (4, [40] * 4), (19, [10] * 19)]
)
def test_senders_share_alike_and_some_places_stay_for_whoever_comes_anew(senders: int, shares: list[int]) -> None:
    places = Places(200)
    held = holds_by_taking_turns(places, [str(number) for number in range(senders)])
    assert list(held.values()) == shares
    assert places.are_due("somebody new", 1)


def test_one_place_is_for_whoever_comes_first() -> None:
    places = Places(1)
    assert holds_by_taking_turns(places, ["a", "b"]) == {"a": 1, "b": 0}
    assert not places.are_free(1)
    places.give_back("a", 1)
    assert holds_by_taking_turns(places, ["b", "a"]) == {"b": 1, "a": 0}


def test_bytes_are_shared_like_places_and_nobody_has_more_than_there_are() -> None:
    octets = Places(100)
    assert not octets.are_due("a", 101)
    assert octets.are_due("a", 100)
    octets.take("a", 40)
    assert [octets.are_due("a", 20), octets.are_due("a", 21)] == [True, False]
    assert [octets.are_due("b", 60), octets.are_due("b", 61)] == [True, False]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.booleans()), max_size=80))
def test_what_is_taken_is_what_is_held_and_all_of_it_comes_back(steps: list[tuple[str, int, bool]]) -> None:
    places = Places(60)
    held: list[tuple[str, int]] = []
    for who, amount, leaves in steps:
        if leaves and held:
            places.give_back(*held.pop(0))
        elif places.are_due(who, amount):
            assert places.are_free(amount)
            places.take(who, amount)
            held.append((who, amount))
        assert places.taken == sum(amount for _, amount in held) <= 60
        if places.taken < 60:
            assert places.are_due("somebody new", 1)
    for who, amount in held:
        places.give_back(who, amount)
    assert (places.taken, places._held) == (0, {})


# ── Admission ──


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def make_admission(clock: Clock, metrics: Metrics) -> Any:
    def make(*pressure: Pressure, **changes: Any) -> Admission:
        usual: dict[str, Any] = {"messages": 4, "questions": 2, "message_bytes": 1_000}
        usual |= {"sender_requests_per_s": 1_000.0, "sender_burst": 1_000}
        return Admission(AdmissionLimits(**usual | changes), metrics, clock, pressure)

    return make


def refused(admission: Admission, pool: Pool, who: str, size_bytes: int = 1) -> NotAdmitted:
    with pytest.raises(NotAdmitted) as caught, admission.admitted(pool, who, size_bytes):
        pass
    return caught.value


def shown(metrics: Metrics, name: str, **labels: str) -> float:
    value = metrics.registry.get_sample_value(name, labels)
    assert value is not None, name
    return value


def test_each_reason_has_its_words_and_all_are_in_the_metrics_from_the_start(metrics: Metrics) -> None:
    assert (tuple(Pool), tuple(Reason)) == (ADMISSION_POOLS, ADMISSION_REASONS)
    for pool in Pool:
        assert shown(metrics, "gateway_admitted_requests", pool=pool) == 0
        for reason in Reason:
            assert shown(metrics, "gateway_admission_refused_total", pool=pool, reason=reason) == 0


def test_no_figure_of_admission_has_a_label_that_names_a_sender(metrics: Metrics) -> None:
    labels = {
        label
        for family in metrics.registry.collect()
        if "admi" in family.name
        for sample in family.samples
        for label in sample.labels
    }
    assert labels == {"pool", "reason"}


def test_places_run_out_for_a_sender_first_and_then_for_all(make_admission: Any, metrics: Metrics) -> None:
    admission = make_admission()
    with ExitStack() as under_way:
        for who in ("a", "a"):
            under_way.enter_context(admission.admitted(Pool.MESSAGES, who, 1))
        problem = refused(admission, Pool.MESSAGES, "a")
        assert (problem.kind, problem.reason, problem.retry_after_s) == (Kind.OVERLOADED, Reason.SENDER_PLACES, 2)
        for who in ("b", "c"):
            under_way.enter_context(admission.admitted(Pool.MESSAGES, who, 1))
        assert refused(admission, Pool.MESSAGES, "d").reason is Reason.ALL_PLACES
        assert shown(metrics, "gateway_admitted_requests", pool="messages") == 4
        with admission.admitted(Pool.QUESTIONS, "a", 0):
            assert shown(metrics, "gateway_admitted_requests", pool="questions") == 1
    assert shown(metrics, "gateway_admitted_requests", pool="messages") == 0
    for reason in (Reason.SENDER_PLACES, Reason.ALL_PLACES):
        assert shown(metrics, "gateway_admission_refused_total", pool="messages", reason=reason) == 1


def test_bytes_run_out_for_a_sender_first_and_then_for_all(make_admission: Any, metrics: Metrics) -> None:
    admission = make_admission()
    with ExitStack() as under_way:
        under_way.enter_context(admission.admitted(Pool.MESSAGES, "a", 500))
        assert refused(admission, Pool.MESSAGES, "a", 1).reason is Reason.SENDER_BYTES
        assert refused(admission, Pool.MESSAGES, "b", 501).reason is Reason.ALL_BYTES
        under_way.enter_context(admission.admitted(Pool.MESSAGES, "b", 500))
        assert shown(metrics, "gateway_admitted_bytes") == 1_000
        problem = refused(admission, Pool.MESSAGES, "c", 1)
        assert (problem.kind, problem.reason, problem.retry_after_s) == (Kind.OVERLOADED, Reason.ALL_BYTES, 2)
        with admission.admitted(Pool.QUESTIONS, "c", 0):
            pass
    assert shown(metrics, "gateway_admitted_bytes") == 0


def test_a_place_comes_back_however_its_request_ended(make_admission: Any) -> None:
    admission = make_admission(messages=1)
    for error in (ValueError, asyncio.CancelledError):
        with contextlib.suppress(error), admission.admitted(Pool.MESSAGES, "a", 1_000):
            raise error
    with admission.admitted(Pool.MESSAGES, "a", 1_000):
        pass


def test_a_sender_in_a_hurry_is_told_how_long_to_wait_and_costs_the_others_nothing(
    make_admission: Any, clock: Clock
) -> None:
    admission = make_admission(sender_requests_per_s=0.25, sender_burst=2)
    for who, pool in (("a", Pool.MESSAGES), ("a", Pool.QUESTIONS), ("b", Pool.MESSAGES)):
        for _ in range(2):
            with admission.admitted(pool, who, 1):
                pass
        problem = refused(admission, pool, who)
        assert (problem.kind, problem.reason, problem.retry_after_s) == (Kind.OVERLOADED, Reason.SENDER_RATE, 4)
        assert "than one sender may" in problem.detail
    clock.now += timedelta(seconds=1)
    assert refused(admission, Pool.MESSAGES, "a").retry_after_s == 3
    clock.now += timedelta(seconds=3)
    with admission.admitted(Pool.MESSAGES, "a", 1):
        pass
    assert refused(admission, Pool.MESSAGES, "a").reason is Reason.SENDER_RATE


def test_only_what_was_let_in_counts_for_the_rate(make_admission: Any) -> None:
    admission = make_admission(messages=1, sender_requests_per_s=0.01, sender_burst=2)
    with admission.admitted(Pool.MESSAGES, "a", 1):
        for _ in range(5):
            assert refused(admission, Pool.MESSAGES, "a").reason is Reason.ALL_PLACES
    with admission.admitted(Pool.MESSAGES, "a", 1):
        pass


def test_pressure_closes_the_way_for_messages_and_for_nothing_else(make_admission: Any, metrics: Metrics) -> None:
    why: list[str | None] = [None, None]
    admission = make_admission(lambda: why[0], lambda: why[1])
    with admission.admitted(Pool.MESSAGES, "a", 1):
        pass
    why[1] = "the disk is nearly full"
    problem = refused(admission, Pool.MESSAGES, "a")
    assert (problem.kind, problem.reason, problem.retry_after_s) == (Kind.STORE_UNAVAILABLE, Reason.PRESSURE, 30)
    assert "the disk is nearly full; nothing was kept" in problem.detail
    with admission.admitted(Pool.QUESTIONS, "a", 0):
        pass
    why[0] = "too much waits for the ledger"
    assert "too much waits for the ledger" in refused(admission, Pool.MESSAGES, "a").detail
    why[:] = [None, None]
    with admission.admitted(Pool.MESSAGES, "a", 1):
        pass
    assert shown(metrics, "gateway_admission_refused_total", pool="messages", reason="pressure") == 2


def test_a_flood_of_refusals_is_counted_whole_and_logged_once_in_ten_seconds_for_each_reason(
    make_admission: Any, metrics: Metrics, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    admission = make_admission(messages=1)
    with admission.admitted(Pool.MESSAGES, "a", 1):
        for _ in range(500):
            refused(admission, Pool.MESSAGES, "b")
        clock.now += timedelta(seconds=11)
        refused(admission, Pool.MESSAGES, "b")
    told = [vars(record) for record in caplog.records]
    assert [(line["message"], line["reason"], line["unlogged_before"]) for line in told] == [
        ("request not admitted", Reason.ALL_PLACES, 0),
        ("request not admitted", Reason.ALL_PLACES, 499),
    ]
    assert shown(metrics, "gateway_admission_refused_total", pool="messages", reason="all-places") == 501


# ── At the edge ──

ONE_AT_A_TIME = {"requests_in_flight": 1, "questions_in_flight": 1, "body_stall": "PT5M", "minimum_bytes_per_s": 0}


@pytest.fixture
def hold(connect: Any, make_post: Any, inside: Any) -> Any:
    """Begin to hand a message over, and return the connection once it has its place, with the rest of the message."""

    async def begin(house: House) -> Any:
        sender = await house.sender()
        octets = make_post(sender.parts(sender.message()))
        wire = await connect(house)
        await wire.send(octets[:-100])
        await inside(house).until_metric(1, "gateway_admitted_requests", pool="messages")
        return wire, octets[-100:]

    return begin


async def test_who_waits_for_100_continue_is_refused_without_it(
    make_house: Any, limited: Any, connect: Any, make_post: Any, hold: Any
) -> None:
    house = await make_house(limited(**ONE_AT_A_TIME), parts=["intake"])
    sender = await house.sender("belasting")
    wire, rest = await hold(house)
    octets = make_post(sender.parts(sender.message()), {"Expect": "100-continue"})
    head = octets[: octets.index(b"\r\n\r\n") + 4]
    late = await connect(house, "belasting")
    answer = await late.ask(head)
    assert (answer.status, answer.code) == (503, "overloaded")
    assert (answer.headers["Connection"], answer.headers["Retry-After"]) == ("close", "2")
    assert await wire.ask(rest) is not None
    again = await connect(house, "belasting")
    assert (await again.ask(head)).status == 100
    assert (await again.ask(octets[len(head) :])).status == 201


async def test_a_request_that_is_larger_than_any_message_is_refused_by_its_header(intake: House, connect: Any) -> None:
    largest = intake.config.limits.request_bytes
    head = "POST /api/v1/messages HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n"
    answer = await (await connect(intake)).ask(head.format(largest + 1).encode())
    assert (answer.status, answer.code) == (413, "message-too-large")
    assert str(largest) in answer.json["detail"]
    assert (await (await connect(intake)).ask(head.format(largest).encode())).status == 100


async def test_a_message_that_does_not_say_its_size_counts_as_the_largest(
    intake: House, connect: Any, inside: Any, make_post: Any
) -> None:
    sender, look = await intake.sender(), inside(intake)
    octets = make_post(sender.parts(sender.message()))
    head, _, body = octets.partition(b"\r\n\r\n")
    wire = await connect(intake)
    await wire.send(octets[:-100])
    await look.until_metric(len(body), "gateway_admitted_bytes")
    assert (await wire.ask(octets[-100:])).status == 201
    await look.until_metric(0, "gateway_admitted_bytes")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    first, rest = (b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[:200], body[200:]))
    wire = await connect(intake)
    await wire.send(b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", first]))
    await look.until_metric(intake.config.limits.request_bytes, "gateway_admitted_bytes")
    assert (await wire.ask(rest + b"0\r\n\r\n")).status == 200


async def test_a_sender_beyond_its_rate_is_told_whose_rate_that_is_and_the_next_is_served(
    make_house: Any, limited: Any
) -> None:
    house = await make_house(limited(sender_requests_per_s=0.01, sender_burst=2), parts=["intake"])
    sender, other = await house.sender("gemeente"), await house.sender("belasting")
    assert [(await sender.send()).status for _ in range(2)] == [201, 201]
    answer = await sender.send()
    assert (answer.status, answer.code) == (503, "overloaded")
    assert "more requests a second than one sender may" in answer.json["detail"]
    assert 1 <= int(answer.headers["Retry-After"]) <= 100
    assert [(await sender.call("GET", "/api/v1/messages")).status for _ in range(3)] == [200, 200, 503]
    assert (await other.send()).status == 201


async def test_the_shares_of_what_anybody_may_read_go_by_certificate(make_house: Any, limited: Any) -> None:
    house = await make_house(limited(sender_requests_per_s=0.01, sender_burst=2), parts=["intake"])
    for name in ("gemeente", "belasting", "unknown-sender"):
        sender = await house.sender(name)
        statuses = [(await sender.call("GET", "/api/v1/trust")).status for _ in range(3)]
        assert (name, statuses) == (name, [200, 200, 503])


async def test_a_flood_at_a_full_gateway_writes_no_line_for_each_request(
    make_house: Any, limited: Any, hold: Any, inside: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    house = await make_house(limited(**ONE_AT_A_TIME), parts=["intake"])
    look, sender = inside(house), await house.sender("belasting")
    await hold(house)
    before = len(caplog.records)
    for _ in range(20):
        assert (await sender.send()).status == 503
    lines = [record.getMessage() for record in caplog.records[before:] if record.name.startswith("gateway.")]
    assert lines == ["request not admitted"]
    assert await look.metric("gateway_admission_refused_total", pool="messages", reason="all-places") == 20
    assert await look.metric("gateway_messages_refused_total", code="overloaded") == 20


# ── Connections ──

GOOD = b"GET /api/v1/messages HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_more_connections_than_there_is_room_for_are_closed_before_their_handshake(
    make_house: Any, connect: Any, limited: Any, inside: Any
) -> None:
    house = await make_house(limited(connections=2, requests_in_flight=2), parts=["intake"])
    wires = [await connect(house, name) for name in ("gemeente", "belasting")]
    assert [(await wire.ask(GOOD)).status for wire in wires] == [200, 200]
    bare = await connect(house, tls=False)
    assert await bare.end() == b""
    with pytest.raises(ConnectionError):
        await connect(house)
    assert await inside(house).metric("gateway_handshakes_refused_total", reason="too-many-connections") == 2
    wires[0].break_off()

    async def is_served() -> bool:
        with contextlib.suppress(ConnectionError):
            answer = await (await connect(house)).ask(GOOD)
            return answer is not None and answer.status == 200
        return False

    await inside(house).until(is_served)


async def test_a_handshake_that_does_not_end_counts_as_a_connection_until_it_is_cut(
    make_house: Any, connect: Any, limited: Any, inside: Any
) -> None:
    limits = limited(connections=3, requests_in_flight=3, handshake_timeout="PT3S")
    house = await make_house(limits, parts=["intake"])
    silent = [await connect(house, tls=False) for _ in range(3)]
    late = await connect(house, tls=False)
    assert await late.end() == b""
    assert await inside(house).metric("gateway_handshakes_refused_total", reason="too-many-connections") == 1
    assert [await wire.end() for wire in silent] == [b""] * 3
    assert (await (await connect(house)).ask(GOOD)).status == 200


async def test_one_certificate_cannot_have_every_connection(
    make_house: Any, connect: Any, limited: Any, inside: Any
) -> None:
    house = await make_house(limited(connections=4, requests_in_flight=4), parts=["intake"])
    wires = [await connect(house) for _ in range(2)]
    assert [(await wire.ask(GOOD)).status for wire in wires] == [200, 200]
    third = await connect(house)
    assert await third.ask(GOOD) is None
    assert await inside(house).metric("gateway_handshakes_refused_total", reason="too-many-of-one-certificate") == 1
    assert (await (await connect(house, "belasting")).ask(GOOD)).status == 200
    wires[0].break_off()

    async def is_served() -> bool:
        answer = await (await connect(house)).ask(GOOD)
        return answer is not None and answer.status == 200

    await inside(house).until(is_served)


async def test_an_answer_that_nobody_takes_ends_with_its_connection(
    intake: House, connect: Any, inside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.intake.connection._LONGEST_ANSWER_S", 0.5)
    wire = await connect(intake)
    wire.writer.transport.pause_reading()
    asked = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"

    async def is_cut() -> bool:
        # More answers than all buffers on the way can hold; the gateway stops to read while it cannot write.
        closing: bool = wire.writer.transport.is_closing()
        if not closing:
            wire.writer.write(asked * 30)
        return closing

    await inside(intake).until(is_cut)
    assert (await (await connect(intake)).ask(GOOD)).status == 200


def test_no_more_requests_than_agreed_wait_on_one_connection() -> None:
    assert MAX_MSG_QUEUE_SIZE <= 32


def test_the_page_about_limits_names_every_one_that_can_be_set() -> None:
    page = (Path(__file__).parents[2] / "docs" / "limits.md").read_text("utf-8")
    assert [limit.name for limit in fields(Limits) if f"`{limit.name}`" not in page] == []
