"""Certificate and revocation list are swapped while letters keep coming in."""

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import aiohttp

from gateway.crypto.tls import client_context
from gateway.domain.staff import Role

if TYPE_CHECKING:
    from tests.plugins.house import SenderHand
else:
    from house import SenderHand

CLIENTS = 8
BEFORE, AFTER = 3, 3  # letters of each client before the first swap, and after the last


class Clients:
    """Keep sending, each over connections of its own: one half keeps its connection, the other makes new ones."""

    def __init__(self) -> None:
        self.sent = [0] * CLIENTS
        self.statuses: Counter[int] = Counter()
        self.progress = asyncio.Condition()
        self.enough = False

    async def run(self, number: int, hand: SenderHand) -> None:
        while not self.enough:
            answer = await hand.send()
            self.statuses[answer.status] += 1
            async with self.progress:
                self.sent[number] += 1
                self.progress.notify_all()

    async def each_sent(self, more: int) -> None:
        """Return when every client has sent that many more letters."""
        wanted = [count + more for count in self.sent]
        async with self.progress:
            await self.progress.wait_for(lambda: all(map(int.__ge__, self.sent, wanted)))


async def test_no_request_fails_while_certificate_and_list_are_swapped(premises_with: Any, files: Any) -> None:
    await asyncio.to_thread(files.write_staff, Role.OPERATOR)
    premises = await premises_with()
    clients = Clients()
    revoked = await premises.wire("belasting")
    assert (await revoked.ask())[0] == 200
    first = await premises.wire()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        context = await asyncio.to_thread(
            client_context, files.certs / "ca.pem", files.certs / "gemeente.pem", files.certs / "gemeente.key"
        )
        for number in range(CLIENTS):
            connector = aiohttp.TCPConnector(ssl=context, force_close=number % 2 == 0)
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, trust_env=False))
            group.create_task(clients.run(number, SenderHand(premises.house, "gemeente", session)))
        await clients.each_sent(BEFORE)
        renewed = await asyncio.to_thread(files.renew, "server")
        await premises.done("/reload", reason="a new certificate")
        await clients.each_sent(1)
        await asyncio.to_thread(files.revoke, "belasting")
        await premises.done("/reload", reason="a certificate was revoked")
        status, body = await revoked.ask()
        await clients.each_sent(AFTER)
        clients.enough = True
    assert (status, json.loads(body)["type"].rpartition(":")[2]) == (403, "certificate-revoked")
    assert await (await premises.wire("belasting")).ask() is None
    last = await premises.wire()
    assert (first.server_certificate != renewed, last.server_certificate == renewed) == (True, True)
    assert clients.statuses == Counter({201: sum(clients.sent)})
    assert (await first.ask())[0] == 200
