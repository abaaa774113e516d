"""Several gateways over one ledger: what one is told holds for all, and when one dies the others go on."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.admin.client import ask
from gateway.client import GatewayClient, Letter, NotReached, Problem, RetryRules, Sent
from gateway.demo.story import SENDERS

LETTERS = 30
AT_ONCE = 4
PATIENT = RetryRules(tries=100, first_wait_s=0.1, longest_wait_s=0.5)
IMPATIENT = RetryRules(tries=1, first_wait_s=0.1, longest_wait_s=0.1)


@pytest.fixture
def written(make_letter: Any) -> list[tuple[Letter, str]]:
    return [make_letter(number) for number in range(LETTERS)]


async def test_one_of_two_intakes_and_one_of_two_workers_die_and_each_letter_arrives_once(
    make_cluster: Any, written: Any, assert_each_arrived_once: Any
) -> None:
    letters, digests = zip(*written, strict=True)
    async with asyncio.timeout(110):
        cluster = await make_cluster()
        intakes = [await cluster.start("intake-1", "intake"), await cluster.start("intake-2", "intake")]
        workers = [
            await cluster.start(name, "workers", "sweeper") for name in ("workers-1", "workers-2")
        ]  # one after the other: the first to start puts the registration in force
        for base, operation in ((cluster.addresses.ebox, "publish"), (cluster.addresses.print_house, "create")):
            # Of each provider, one call takes the letter over and is not answered any more, and one never gets through.
            await cluster.control(base, "faults", {"operation": operation, "fault": "keep-then-hang", "times": 1})
            await cluster.control(base, "faults", {"operation": operation, "fault": "hang", "times": 1})
        places = asyncio.Semaphore(AT_ONCE)
        halfway = asyncio.Event()
        count = 0

        async def hand_over(number: int, clients: Sequence[GatewayClient]) -> Sent:
            nonlocal count
            async with places:
                try:
                    sent = await clients[number % 2].send(letters[number])
                except NotReached:  # its gateway died: the same letter goes to the other one
                    sent = await clients[1].send(letters[number])
            count += 1
            if count == LETTERS // 3:
                halfway.set()
            return sent

        mortal = await cluster.profile(intakes[0].sender_api)
        living = await cluster.profile(intakes[1].sender_api)
        async with GatewayClient(mortal, retry=IMPATIENT) as first, GatewayClient(living, retry=PATIENT) as second:
            sending = [asyncio.create_task(hand_over(number, (first, second))) for number in range(LETTERS)]
            await halfway.wait()
            await intakes[0].kill()
            for base in (cluster.addresses.ebox, cluster.addresses.print_house):
                assert (await cluster.control(base, "wait", held=2, timeout_s=30))["reached"]
            worked = [await cluster.metric(each, "gateway_attempts_total") for each in workers]
            await workers[0].kill()
            sent = await asyncio.gather(*sending)
            assert max(each.tries for each in sent) >= 1
            await assert_each_arrived_once(cluster, second, sent, digests)
            assert await cluster.metric(workers[1], "gateway_attempts_total") > worked[1]


async def test_a_sender_that_is_suspended_at_one_gateway_is_refused_by_all(make_cluster: Any, written: Any) -> None:
    (before, _), (meanwhile, _), (after, _) = written[:3]
    number = {"enterpriseNumber": SENDERS[0].enterprise_number, "reason": "their key was stolen"}
    async with asyncio.timeout(60):
        cluster = await make_cluster()
        one, other = await cluster.start("one"), await cluster.start("other")
        async with GatewayClient(await cluster.profile(other.sender_api), retry=IMPATIENT) as client:
            await client.send(before)
            assert not (await ask(one.admin_socket, "POST", "/senders/suspend", number)).refused
            with pytest.raises(Problem) as refused:
                await client.send(meanwhile)
            assert refused.value.code == "sender-suspended"
            assert not (await ask(one.admin_socket, "POST", "/senders/resume", number)).refused
            await client.send(after)


async def test_a_registration_put_in_force_at_one_gateway_is_followed_by_the_others(
    make_cluster: Any, written: Any, assert_each_arrived_once: Any
) -> None:
    (letter, _) = written[0]
    async with asyncio.timeout(60):
        cluster = await make_cluster()
        one, other = await cluster.start("one"), await cluster.start("other")
        file = one.config_file.parent / "senders" / f"{SENDERS[0].enterprise_number}.toml"
        file.write_text(re.sub(r"messages_per_day = \d+", "messages_per_day = 0", file.read_text()))
        assert not (await ask(one.admin_socket, "POST", "/senders/apply", {"reason": "test"})).refused
        async with GatewayClient(await cluster.profile(other.sender_api), retry=IMPATIENT) as client:
            while not await cluster.metric(other, "gateway_reloads_total", outcome="followed"):
                pass  # asks again; it looks every two seconds
            with pytest.raises(Problem) as refused:
                await client.send(letter)
            assert refused.value.code == "quota-exceeded"
