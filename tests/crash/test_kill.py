"""The gateway is killed while letters come in and go out: every one that was handed over arrives, once."""

import asyncio
import hashlib
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
import tomli_w

from gateway.client import Document, GatewayClient, Letter, MessageState, RetryRules, Sent
from gateway.demo.environment import Environment
from gateway.demo.letters import letter_pdf
from gateway.demo.story import SENDERS, sender_profile
from gateway.domain.ids import Ssin
from gateway.domain.message import Channel, PostalAddress, Recipient
from gateway.simulators.magic import CITIZEN_FINE

LETTERS = 20
AT_ONCE = 4  # so that a kill in the middle always finds letters that have not begun
PATIENT = RetryRules(tries=100, first_wait_s=0.1, longest_wait_s=0.5)
ADDRESS = PostalAddress(
    name="Jan Peeters", street="Kerkstraat", house_number="12", postcode="9000", municipality="Gent", country="BE"
)


class Impatient(Environment):
    """The demonstration's environment, where what a dead worker held is taken up again within seconds."""

    def _write_config(self, ports: list[int]) -> None:
        super()._write_config(ports)
        config = tomllib.loads(self.config_file.read_text())
        for provider in config["providers"].values():
            provider |= {"attempt_timeout_s": 4, "connect_timeout_s": 4, "settle_s": 1}
        config["providers"]["bosa"]["conflict_means"] = "accepted"
        config["retry"]["first_delay_s"] = 1
        config["workers"] = {"lease_s": 5}
        self.config_file.write_text(tomli_w.dumps(config))


def make_letter(number: int) -> tuple[Letter, str]:
    """Return a letter like no other, for the e-Box or for print in turn, and the digest of its document."""
    content = letter_pdf(f"Brief {number}", [f"Dit is brief nummer {number}."])
    letter = Letter(
        recipient=Recipient(ssin=Ssin(CITIZEN_FINE), address=ADDRESS),
        category="tax-assessment",
        purpose="Aanslagbiljet 2026",
        subject=f"Brief {number}",
        documents=[Document(content=content, filename="brief.pdf")],
        channels=[Channel.EBOX_CITIZEN if number % 2 else Channel.PRINT],
    )
    return letter, hashlib.sha256(content).hexdigest()


@pytest.fixture
def written() -> list[tuple[Letter, str]]:
    return [make_letter(number) for number in range(LETTERS)]


@dataclass
class Senders:
    """Hands letters over, a few at once, each again and again until there is a receipt."""

    client: GatewayClient
    letters: Sequence[Letter]
    sent: dict[str, Sent] = field(default_factory=dict)
    one_more: asyncio.Condition = field(default_factory=asyncio.Condition)
    begun: int = 0

    async def run(self) -> None:
        places = asyncio.Semaphore(AT_ONCE)

        async def hand_over(letter: Letter) -> None:
            async with places:
                self.begun += 1
                sent = await self.client.send(letter)
            async with self.one_more:
                self.sent[letter.reference] = sent
                self.one_more.notify_all()

        async with asyncio.TaskGroup() as group:
            for letter in self.letters:
                group.create_task(hand_over(letter))

    async def accepted(self, count: int) -> None:
        async with self.one_more:
            await self.one_more.wait_for(lambda: len(self.sent) >= count)


async def control(base: str, path: str, order: Any = None, **query: Any) -> Any:
    """Speak to a simulator's control interface."""
    url = f"{base}/_simulator/{path}" + (f"?{urlencode(query)}" if query else "")
    async with aiohttp.ClientSession() as session:
        call = session.get(url) if order is None else session.post(url, json=order)
        async with call as response:
            assert response.ok, await response.text()
            return await response.json()


async def kept(environment: Environment) -> list[dict[str, Any]]:
    bases = (environment.addresses.ebox, environment.addresses.print_house)
    records = [await control(base, "records") for base in bases]
    return [each for record in records for each in record["kept"]]


async def arrived(client: GatewayClient, sent: Sent) -> MessageState:
    return [state async for state in client.follow(sent.message_id)][-1]


async def assert_each_arrived_once(environment: Environment, senders: Senders, digests: Sequence[str]) -> None:
    assert sorted(senders.sent) == sorted(letter.reference for letter in senders.letters)
    assert len({sent.message_id for sent in senders.sent.values()}) == len(digests)
    for letter, digest in zip(senders.letters, digests, strict=True):
        receipt = senders.sent[letter.reference].receipt  # its signature was verified before it got here
        assert [document.sha256 for document in receipt.documents] == [digest]
    states = await asyncio.gather(*(arrived(senders.client, sent) for sent in senders.sent.values()))
    assert Counter(state.status for state in states) == {"delivered": len(digests)}
    found = await kept(environment)
    copies = Counter(document["sha256"] for each in found for document in each["documents"])
    assert {digest: copies[digest] for digest in digests} == dict.fromkeys(digests, 1)
    keys = Counter(each["key"].strip('"') for each in found)
    assert keys == {str(delivery.delivery_id): 1 for state in states for delivery in state.deliveries}


@pytest.mark.parametrize("accepted", [3, 12])
async def test_a_kill_while_letters_come_in_loses_none_and_doubles_none(
    tmp_path: Path, written: Any, accepted: int
) -> None:
    letters, digests = zip(*written, strict=True)
    async with asyncio.timeout(100), Impatient(tmp_path / "demo") as environment:
        profile = await asyncio.to_thread(sender_profile, environment, SENDERS[0])
        async with GatewayClient(profile, retry=PATIENT) as client:
            senders = Senders(client, letters)
            sending = asyncio.create_task(senders.run())
            await senders.accepted(accepted)
            await environment.kill_gateway()
            assert senders.begun < LETTERS
            await environment.start_gateway()
            await sending
            assert max(sent.tries for sent in senders.sent.values()) > 1  # the kill was felt
            await assert_each_arrived_once(environment, senders, digests)


async def test_a_kill_while_providers_are_being_called_loses_none_and_doubles_none(
    tmp_path: Path, written: Any
) -> None:
    letters, digests = zip(*written, strict=True)
    async with asyncio.timeout(100), Impatient(tmp_path / "demo") as environment:
        ebox, house = environment.addresses.ebox, environment.addresses.print_house
        # Two calls of each provider take the letter over and are not answered any more; two more never got through.
        for base, operation in ((ebox, "publish"), (house, "create")):
            await control(base, "faults", {"operation": operation, "fault": "keep-then-hang", "times": 1})
            await control(base, "faults", {"operation": operation, "fault": "hang", "times": 1})
        profile = await asyncio.to_thread(sender_profile, environment, SENDERS[0])
        async with GatewayClient(profile, retry=PATIENT) as client:
            senders = Senders(client, letters)
            sending = asyncio.create_task(senders.run())
            for base in (ebox, house):
                assert (await control(base, "wait", held=2, timeout_s=30))["reached"]
            await environment.kill_gateway()
            await environment.start_gateway()
            await sending
            await assert_each_arrived_once(environment, senders, digests)
