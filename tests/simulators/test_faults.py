import asyncio
import json

import aiohttp
import pytest

from gateway.simulators import magic
from gateway.simulators.ebox import EboxSimulator
from gateway.simulators.faults import FAULTS, Fault, FaultEngine, FaultKind
from gateway.simulators.print_house import PrintHouseSimulator
from gateway.simulators.records import Outcome
from gateway.simulators.serve import Simulators

WAIT_S = 20


@pytest.fixture
def engine() -> FaultEngine:
    return FaultEngine(operations=("publish", "status"), header_facts=("idempotency_key",), body_facts=("recipient",))


def test_an_order_is_used_up_by_calls_of_its_operation_only(engine):
    engine.order("publish", "server-error", times=2)
    assert engine.take("status", {}, body_read=True) is None
    taken = [engine.take("publish", {}, body_read=True) for _ in range(3)]
    assert taken == [FAULTS["server-error"], FAULTS["server-error"], None]
    assert engine.pending == ()


def test_orders_are_taken_in_their_order_across_both_points_of_a_call(engine):
    engine.order("publish", "server-error")
    engine.order("publish", "hang")
    assert engine.take("publish", {}, body_read=False) is None
    assert engine.take("publish", {}, body_read=True) is FAULTS["server-error"]
    assert engine.take("publish", {}, body_read=False) is FAULTS["hang"]


def test_a_fault_before_the_body_waits_for_the_next_call_when_it_comes_too_late(engine):
    engine.order("publish", "close")
    assert engine.take("publish", {}, body_read=True) is None
    assert engine.take("publish", {}, body_read=False) is FAULTS["close"]


def test_an_order_strikes_only_calls_whose_facts_match(engine):
    engine.order("publish", "server-error", match={"recipient": "a", "idempotency_key": "1"})
    assert engine.take("publish", {"idempotency_key": "1"}, body_read=False) is None
    assert engine.take("publish", {"idempotency_key": "1", "recipient": "b"}, body_read=True) is None
    assert engine.take("publish", {"idempotency_key": "2", "recipient": "a"}, body_read=True) is None
    wanted = {"idempotency_key": "1", "recipient": "a"}
    assert engine.take("publish", wanted, body_read=True) is FAULTS["server-error"]


def test_an_order_for_somebody_else_does_not_hold_up_the_next(engine):
    engine.order("publish", "server-error", match={"recipient": "a"})
    engine.order("publish", "unavailable")
    assert engine.take("publish", {"recipient": "b"}, body_read=True) is FAULTS["unavailable"]
    assert [order.operation for order in engine.pending] == ["publish"]


@pytest.mark.parametrize(
    "wrong",
    [
        ("print", "server-error", 1, None),
        ("publish", "earthquake", 1, None),
        ("publish", "server-error", 0, None),
        ("publish", "server-error", 1, {"colour": "red"}),
        ("publish", "hang", 1, {"recipient": "a"}),
    ],
    ids=["operation", "fault", "times", "fact", "body fact before the body"],
)
def test_a_wrong_order_is_refused(engine, wrong):
    with pytest.raises(ValueError, match=r"unknown|at least|only"):
        engine.order(*wrong)
    assert engine.pending == ()


def test_cleared_orders_strike_nobody(engine):
    engine.order("publish", "server-error")
    engine.clear()
    assert engine.take("publish", {}, body_read=True) is None


def test_the_named_faults_cover_every_kind():
    assert {fault.kind for fault in FAULTS.values()} == set(FaultKind)
    assert all(fault.name == name for name, fault in FAULTS.items())


ANSWERED = {name: fault for name, fault in FAULTS.items() if fault.kind is FaultKind.ANSWER}
AFTER_KEEPING = {"keep-then-500": 500, "keep-then-504": 504}
BREAKS = ["close", "keep-then-close", "keep-then-truncate"]
HANGS = ["hang", "keep-then-hang"]


@pytest.mark.parametrize("name", ANSWERED)
async def test_an_answered_fault_keeps_nothing_and_wears_the_provider_s_form(ebox, ebox_simulator, name):
    fault = FAULTS[name]
    ebox_simulator.faults.order("publish", name)
    reply = await ebox.publish()
    assert (reply.status, reply.json["code"]) == (fault.status, fault.code)
    for header, value in fault.headers.items():
        assert reply.headers[header] == value
    assert ebox_simulator.records.kept == []
    assert (await ebox.publish()).status == 201


@pytest.mark.parametrize("name", ANSWERED)
async def test_the_print_house_answers_faults_in_its_own_form(printing, print_simulator, name):
    fault = FAULTS[name]
    print_simulator.faults.order("create", name)
    reply = await printing.create(printing.job("d1"))
    assert (reply.status, reply.json) == (fault.status, {"errors": [{"code": fault.code, "field": fault.field}]})
    assert print_simulator.records.kept == []


async def test_a_token_fault_wears_the_oauth_form(ebox, ebox_simulator):
    ebox_simulator.faults.order("token", Fault(kind=FaultKind.ANSWER, status=503, code="temporarily_unavailable"))
    reply = await ebox.ask_token()
    assert (reply.status, reply.json["error"]) == (503, "temporarily_unavailable")


@pytest.mark.parametrize(("name", "status"), AFTER_KEEPING.items())
async def test_a_kept_message_can_be_answered_with_an_error(ebox, ebox_simulator, name, status):
    ebox_simulator.faults.order("publish", name)
    assert (await ebox.publish(key="one")).status == status
    assert len(ebox_simulator.records.kept) == 1
    assert (await ebox.publish(key="one")).status == 409


@pytest.mark.parametrize("name", BREAKS)
async def test_a_connection_breaks_before_or_after_keeping(ebox, ebox_simulator, name):
    await ebox.token()
    ebox_simulator.faults.order("publish", name)
    with pytest.raises(aiohttp.ClientError):
        await ebox.publish()
    assert len(ebox_simulator.records.kept) == (0 if name == "close" else 1)
    call = ebox_simulator.records.calls[-1]
    assert (call.outcome, call.fault, call.status) == (Outcome.CLOSED, name, None)


@pytest.mark.parametrize("name", BREAKS)
async def test_a_connection_to_the_print_house_breaks_before_or_after_keeping(printing, print_simulator, name):
    print_simulator.faults.order("create", name)
    with pytest.raises(aiohttp.ClientError):
        await printing.create(printing.job("d1"))
    assert len(print_simulator.records.kept) == (0 if name == "close" else 1)


@pytest.mark.parametrize("name", HANGS)
async def test_a_hanging_call_lasts_until_its_release_and_is_never_answered(ebox, ebox_simulator, name):
    await ebox.token()
    ebox_simulator.faults.order("publish", name)
    publishing = asyncio.create_task(ebox.publish())
    async with asyncio.timeout(WAIT_S):
        await ebox_simulator.records.until(lambda records: records.held == 1)
        assert ebox_simulator.records.calls[-1].outcome is Outcome.HELD
        assert not publishing.done()
        assert ebox_simulator.front.release() == 1
        with pytest.raises(aiohttp.ClientError):
            await publishing
    assert len(ebox_simulator.records.kept) == (0 if name == "hang" else 1)
    assert ebox_simulator.records.held == 0


@pytest.mark.parametrize("name", HANGS)
async def test_a_hanging_call_ends_when_its_caller_goes_away(ebox, ebox_simulator, name):
    await ebox.token()
    ebox_simulator.faults.order("publish", name)
    publishing = asyncio.create_task(ebox.publish())
    async with asyncio.timeout(WAIT_S):
        await ebox_simulator.records.until(lambda records: records.held == 1)
        publishing.cancel()
        await ebox_simulator.records.until(lambda records: records.calls[-1].outcome is Outcome.DISCONNECTED)
    assert ebox_simulator.records.held == 0
    assert (await ebox.publish()).status == 201


@pytest.mark.parametrize("name", [*HANGS, "slow"])
async def test_shutting_down_ends_hanging_calls(http, clock, ebox, client, name):
    simulator = EboxSimulator(clients=[client], clock=clock)
    running = Simulators(ebox=simulator)
    async with asyncio.timeout(WAIT_S):
        async with running:
            caller = type(ebox)(http, running.ebox_url, ebox.key, clock)
            await caller.token()
            simulator.faults.order("publish", name)
            publishing = asyncio.create_task(caller.publish())
            await simulator.records.until(lambda records: records.held == 1)
        results = await asyncio.gather(publishing, return_exceptions=True)
    assert simulator.records.held == 0
    if name == "slow":
        assert results[0].status == 201  # type: ignore[union-attr] # a slow answer is still an answer
    else:
        assert isinstance(results[0], aiohttp.ClientError)


async def test_a_slow_call_is_answered_truly_when_released(ebox, ebox_simulator):
    await ebox.token()
    ebox_simulator.faults.order("publish", "slow")
    publishing = asyncio.create_task(ebox.publish())
    async with asyncio.timeout(WAIT_S):
        await ebox_simulator.records.until(lambda records: records.held == 1)
        assert len(ebox_simulator.records.kept) == 1
        ebox_simulator.front.release()
        reply = await publishing
    assert (reply.status, reply.json["messageId"]) == (201, ebox_simulator.records.kept[0].id)


async def test_a_slow_call_with_a_delay_is_answered_without_release(ebox, ebox_simulator):
    ebox_simulator.faults.order("publish", Fault(kind=FaultKind.SLOW, delay_s=0.01))
    async with asyncio.timeout(WAIT_S):
        assert (await ebox.publish()).status == 201


async def test_malformed_json_keeps_the_message_and_the_true_status(ebox, ebox_simulator):
    ebox_simulator.faults.order("publish", "malformed-json")
    reply = await ebox.publish()
    assert (reply.status, reply.headers["Content-Type"]) == (201, "application/json")
    with pytest.raises(json.JSONDecodeError):
        _ = reply.json
    assert len(ebox_simulator.records.kept) == 1


async def test_a_wrong_content_type_keeps_the_message_and_the_true_status(printing, print_simulator):
    print_simulator.faults.order("create", "wrong-content-type")
    reply = await printing.create(printing.job("d1"))
    assert (reply.status, reply.headers["Content-Type"]) == (201, "text/html")
    assert reply.body.startswith(b"<!doctype html>")
    assert len(print_simulator.records.kept) == 1


async def test_a_fault_strikes_the_recipient_it_names(ebox, ebox_simulator):
    ebox_simulator.faults.order("publish", "server-error", match={"recipient": magic.CITIZEN_UNREAD})
    assert (await ebox.publish()).status == 201
    assert (await ebox.publish(ebox.message(magic.CITIZEN_UNREAD))).status == 500
    assert (await ebox.publish(ebox.message(magic.CITIZEN_UNREAD))).status == 201


async def test_a_fault_strikes_the_key_it_names_in_both_simulators(ebox, ebox_simulator, printing, print_simulator):
    ebox_simulator.faults.order("publish", "close", match={"idempotency_key": "two"})
    assert (await ebox.publish(key="one")).status == 201
    with pytest.raises(aiohttp.ClientError):
        await ebox.publish(key="two")
    print_simulator.faults.order("status", "server-error", match={"request_id": "d2"})
    for request_id in ("d1", "d2"):
        await printing.create(printing.job(request_id))
    assert [(await printing.status(request_id)).status for request_id in ("d1", "d2")] == [200, 500]


async def test_faults_strike_every_operation(ebox, ebox_simulator, printing, print_simulator):
    await ebox.token(*ebox.all_scopes)
    headers = {"Authorization": f"Bearer {await ebox.token(*ebox.all_scopes)}"}
    base = "/REST/ebox/enterprise"
    calls = {
        "publish": lambda: ebox.publish(scopes=ebox.all_scopes),
        "status": lambda: ebox.status(scopes=ebox.all_scopes),
        "preferences": lambda: ebox.post(f"{base}/federation/v1/eboxPreferences/search", json={}, headers=headers),
        "consents": lambda: ebox.post(f"{base}/federation/v1/citizenEboxConsents/search", json={}, headers=headers),
        "mandate": lambda: ebox.get(f"{base}/partition/v1/ebox/0406798006/hasMandate", headers=headers),
        "token": ebox.ask_token,
    }
    assert set(calls) == ebox_simulator.faults.operations
    for operation, call in calls.items():
        ebox_simulator.faults.order(operation, "unavailable")
        assert (await call()).status == 503
        assert (await call()).status != 503
    await printing.create(printing.job("d1", product="registered"))
    await printing.control("advance", requestId="d1", to="DISPATCHED")
    looks = {
        "create": lambda: printing.create(printing.job("d1")),
        "status": lambda: printing.status("d1"),
        "evidence": lambda: printing.get("/print-jobs/d1/evidence"),
        "evidence-file": lambda: printing.get("/print-jobs/d1/evidence/1"),
    }
    assert set(looks) == print_simulator.faults.operations
    for operation, look in looks.items():
        print_simulator.faults.order(operation, "unavailable")
        assert (await look()).status == 503
        assert (await look()).status != 503


async def test_work_goes_on_when_the_caller_leaves_while_it_is_done(printing, print_simulator, monkeypatch):
    checking, go_on = asyncio.Event(), asyncio.Event()
    check = PrintHouseSimulator._checked

    async def slow_check(*args):
        checking.set()
        await go_on.wait()
        return await check(*args)

    monkeypatch.setattr(PrintHouseSimulator, "_checked", slow_check)
    creating = asyncio.create_task(printing.create(printing.job("d1")))
    async with asyncio.timeout(WAIT_S):
        await checking.wait()
        creating.cancel()
        await print_simulator.records.until(lambda records: records.calls[-1].outcome is Outcome.DISCONNECTED)
        go_on.set()
        await print_simulator.records.until(lambda records: len(records.kept) == 1)
    assert (await printing.status("d1")).status == 200
