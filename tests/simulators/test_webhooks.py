import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web

from gateway.simulators.print_house import PrintHouseSimulator
from gateway.simulators.serve import Simulators
from gateway.simulators.webhooks import WebhookSettings

KEY = b"a secret of thirty-two octets...."
WAIT_S = 20


@dataclass
class Receiver:
    """A sender's hook that takes events, or answers as it is told."""

    url: str = ""
    status: int = 204
    events: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.events.append((dict(request.headers), await request.read()))
        return web.Response(status=self.status)

    @property
    def payloads(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.events]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.router.add_post("/hooks/house-a", found.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hooks/house-a"
    yield found
    await runner.cleanup()


@pytest.fixture
def print_simulator(clock) -> PrintHouseSimulator:
    secret = "whsec_" + base64.b64encode(KEY).decode()
    return PrintHouseSimulator(clock=clock, advance="manual", webhooks=WebhookSettings(secret=secret))


async def sent(print_simulator, count):
    def done(records):
        hooks = [call for call in records.calls if call.operation == "webhook" and call.outcome != "running"]
        return len(hooks) >= count

    async with asyncio.timeout(WAIT_S):
        await print_simulator.records.until(done)


async def test_every_status_goes_out_signed_and_numbered(printing, print_simulator, receiver, clock):
    await printing.create(printing.job("d1", product="registered", callbackUrl=receiver.url))
    for _ in range(4):
        await printing.control("advance", requestId="d1")
    await sent(print_simulator, 5)
    statuses = [(payload["sequence"], payload["status"]) for payload in receiver.payloads]
    assert statuses == [(1, "ACCEPTED"), (2, "PRINTED"), (3, "ENCLOSED"), (4, "DISPATCHED"), (5, "DELIVERED")]
    last = receiver.payloads[-1]
    assert set(last) == {"id", "requestId", "sequence", "status", "statusAt", "barcode", "evidence"}
    assert (last["requestId"], last["statusAt"]) == ("d1", "2026-11-22T10:00:00.000Z")
    assert [proof["type"] for proof in last["evidence"]] == ["proof_of_posting"]
    for headers, body in receiver.events:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        mac = base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
        assert headers["webhook-signature"] == f"v1,{mac}"
        assert headers["webhook-timestamp"] == str(int(clock().timestamp()))
        assert headers["webhook-id"] == json.loads(body)["id"]
    assert len({headers["webhook-id"] for headers, _ in receiver.events}) == 5


async def test_a_returned_letter_tells_its_reason(printing, print_simulator, receiver):
    await printing.create(printing.job("d1", callbackUrl=receiver.url))
    await printing.control("advance", requestId="d1", to="RETURNED", reason="moved")
    await sent(print_simulator, 2)
    assert (receiver.payloads[1]["status"], receiver.payloads[1]["reason"]) == ("RETURNED", "moved")


async def test_an_event_that_was_refused_goes_out_again_on_order_under_the_same_id(printing, print_simulator, receiver):
    receiver.status = 503
    await printing.create(printing.job("d1", callbackUrl=receiver.url))
    await sent(print_simulator, 1)
    receiver.status = 204
    assert (await printing.control("webhooks/redeliver")).json == {"queued": 1}
    await sent(print_simulator, 2)
    assert receiver.payloads[0] == receiver.payloads[1]
    assert (await printing.control("webhooks/redeliver")).json == {"queued": 0}
    assert (await printing.control("webhooks/redeliver", everything=True)).json == {"queued": 1}
    await sent(print_simulator, 3)


async def test_a_receiver_that_is_gone_does_not_stop_the_others(printing, print_simulator, receiver):
    await printing.create(printing.job("d1", callbackUrl="http://127.0.0.1:1/hooks"))
    await printing.create(printing.job("d2", callbackUrl=receiver.url))
    await sent(print_simulator, 2)
    assert [payload["requestId"] for payload in receiver.payloads] == ["d2"]
    hooks = [call for call in print_simulator.records.calls if call.operation == "webhook"]
    assert [call.outcome for call in hooks] == ["disconnected", "answered"]


async def test_a_job_without_callback_sends_nothing(printing, print_simulator):
    await printing.create(printing.job("d1"))
    assert print_simulator.webhooks is not None
    assert print_simulator.webhooks.events == []


async def test_switched_off_webhooks_send_nothing(printing, receiver, clock):
    silent = PrintHouseSimulator(clock=clock)
    async with Simulators(print_house=silent) as running:
        caller = replace(printing, url=running.print_url)
        await caller.create(caller.job("d1", callbackUrl=receiver.url))
        assert (await caller.control("webhooks/redeliver")).status == 400
    assert receiver.events == []
