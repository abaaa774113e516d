"""A cluster: several gateway processes over one PostgreSQL, one folder of blobs and one keyring, and the providers."""

import asyncio
import hashlib
import tomllib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
import pytest
import tomli_w
from prometheus_client.parser import text_string_to_metric_families

from gateway.client import Document, GatewayClient, Letter, MessageState, Sent
from gateway.client.sender import SenderProfile
from gateway.config import load
from gateway.demo.environment import Environment, free_ports
from gateway.demo.letters import letter_pdf
from gateway.demo.story import SENDERS, sender_profile
from gateway.domain.ids import Ssin
from gateway.domain.message import Channel, PostalAddress, Recipient
from gateway.simulators.magic import CITIZEN_FINE

LONGEST_CALL_S = 3


@dataclass
class Replica:
    """A process of the gateway, and where it listens."""

    name: str
    config_file: Path
    sender_api: str
    ops: str
    admin_socket: Path
    parts: tuple[str, ...]
    process: asyncio.subprocess.Process | None = None

    @property
    def intake_port(self) -> int:
        return int(self.sender_api.rpartition(":")[2])

    @property
    def ops_port(self) -> int:
        return int(self.ops.rpartition(":")[2])

    async def kill(self) -> None:
        """End it as a power cut would."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()
        self.process = None


class Cluster(Environment):
    """The demonstration's environment with as many gateways as are asked for, over one ledger in PostgreSQL."""

    def __init__(self, state: Path, ledger_uri: str, changes: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(state)
        self._ledger_uri = ledger_uri
        self._changes = changes
        self.replicas: dict[str, Replica] = {}

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)

    async def start_gateway(self) -> None:
        """Start none: each is started by its name."""

    async def stop_gateway(self) -> None:
        """Ask all to finish what they do, at once."""
        await asyncio.gather(*(self.stop(name) for name in self.replicas))

    def _write_config(self, ports: list[int]) -> None:
        super()._write_config(ports)
        config = tomllib.loads(self.config_file.read_text())
        config["stores"] = {
            "ledger": self._ledger_uri,
            "blobs": f"file://{self.state / 'blobs'}",
            "keyring": f"local:{self.state / 'keyring.json'}",
        }
        for provider in config["providers"].values():
            provider |= {"attempt_timeout_s": LONGEST_CALL_S, "connect_timeout_s": LONGEST_CALL_S, "settle_s": 1}
        config["providers"]["bosa"]["conflict_means"] = "accepted"
        config["retry"]["first_delay_s"] = 1
        config["workers"] = {"lease_s": 5}
        self._changes(config)
        staff = self.config_file.parent / "staff.toml"
        staff.write_text(staff.read_text().replace('"operator"', '"access-manager"'))
        self.config_file.write_text(tomli_w.dumps(config))

    async def start(self, name: str, *parts: str) -> Replica:
        """Start a gateway that runs these parts, or all, and wait until it is ready; one that ended, again."""
        if name not in self.replicas:
            await asyncio.to_thread(self._new, name, parts)
        replica = self.replicas[name]
        only = [argument for part in replica.parts for argument in ("--only", part)]
        log = self.state / f"{name}.log"
        arguments = ["-m", "gateway", "serve", "--config", str(replica.config_file), *only]
        replica.process = await self._spawn(arguments, log)
        await self._wait_until_ready(replica.process, f"{replica.ops}/health/ready", log)
        return replica

    async def stop(self, name: str) -> None:
        """Ask one to finish what it does, and wait until it has ended in order."""
        replica = self.replicas[name]
        if replica.process is not None:
            replica.process.terminate()
            assert await replica.process.wait() == 0, (self.state / f"{name}.log").read_text()[-2_000:]
            replica.process = None

    def _new(self, name: str, parts: tuple[str, ...]) -> None:
        intake, portal, ops = free_ports(3)
        config = tomllib.loads(self.config_file.read_text())
        folder = self.config_file.parent
        config["gateway"]["state"] = str(self.state / f"data-{name}")
        config["intake"] |= {"bind": f"127.0.0.1:{intake}"}
        config["portal"] |= {"bind": f"127.0.0.1:{portal}"}
        config["ops"]["bind"] = f"127.0.0.1:{ops}"
        config["admin"] = {"socket": str(self.state / f"{name}.sock")}
        file = folder / f"gateway-{name}.toml"
        file.write_text(tomli_w.dumps(config))
        self.replicas[name] = Replica(
            name=name,
            config_file=file,
            sender_api=f"https://localhost:{intake}",
            ops=f"http://127.0.0.1:{ops}",
            admin_socket=self.state / f"{name}.sock",
            parts=parts,
        )

    # ── Senders and providers ──

    async def profile(self, base_url: str) -> SenderProfile:
        """Return how the first sender of the demonstration reaches a gateway at `base_url`."""
        found = await asyncio.to_thread(sender_profile, self, SENDERS[0])
        return replace(found, base_url=base_url)

    async def control(self, base: str, path: str, order: Any = None, **query: Any) -> Any:
        """Speak to a simulator's control interface."""
        url = f"{base}/_simulator/{path}" + (f"?{urlencode(query)}" if query else "")
        async with aiohttp.ClientSession() as session:
            call = session.get(url) if order is None else session.post(url, json=order)
            async with call as response:
                assert response.ok, await response.text()
                return await response.json()

    async def kept(self) -> list[dict[str, Any]]:
        """Return what the providers took over, by their own records."""
        bases = (self.addresses.ebox, self.addresses.print_house)
        return [each for base in bases for each in (await self.control(base, "records"))["kept"]]

    async def metric(self, replica: Replica, name: str, **labels: str) -> float:
        """Return the sum of a metric over the series that have these labels."""
        async with aiohttp.ClientSession() as session, session.get(f"{replica.ops}/metrics") as response:
            families = list(text_string_to_metric_families(await response.text()))
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


@pytest.fixture(autouse=True)
def loop_guard() -> None:
    """Starting processes and reading their logs blocks; what these tests watch runs in processes of their own."""


ADDRESS = PostalAddress(
    name="Jan Peeters", street="Kerkstraat", house_number="12", postcode="9000", municipality="Gent", country="BE"
)


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


async def arrived(client: GatewayClient, sent: Sent) -> MessageState:
    return [state async for state in client.follow(sent.message_id)][-1]


async def assert_each_arrived_once(
    cluster: Any, client: GatewayClient, sent: Sequence[Sent], digests: Sequence[str]
) -> None:
    """By the senders' receipts, by what the gateway tells, and by what the providers have."""
    assert len({each.message_id for each in sent}) == len(digests)
    for each, digest in zip(sent, digests, strict=True):
        assert [document.sha256 for document in each.receipt.documents] == [digest]
    states = await asyncio.gather(*(arrived(client, each) for each in sent))
    assert Counter(state.status for state in states) == {"delivered": len(digests)}
    found = await cluster.kept()
    copies = Counter(document["sha256"] for each in found for document in each["documents"])
    assert {digest: copies[digest] for digest in digests} == dict.fromkeys(digests, 1)
    keys = Counter(each["key"].strip('"') for each in found)
    assert keys == {str(delivery.delivery_id): 1 for state in states for delivery in state.deliveries}


@pytest.fixture(name="make_letter")
def _make_letter() -> Callable[[int], tuple[Letter, str]]:
    return make_letter


@pytest.fixture(name="assert_each_arrived_once")
def _assert_each_arrived_once() -> Callable[..., Awaitable[None]]:
    return assert_each_arrived_once


MakeCluster = Callable[..., Awaitable[Cluster]]


@pytest.fixture
async def make_cluster(tmp_path: Path, postgres_database: Any, assert_clean: Any) -> Any:
    """Return a function that makes a cluster; at the end of the test all is stopped, and verified."""
    made: list[Cluster] = []

    async def make(changes: Callable[[dict[str, Any]], None] = lambda _config: None) -> Cluster:
        cluster = Cluster(tmp_path / "cluster", postgres_database.uri, changes)
        await cluster.__aenter__()
        made.append(cluster)
        return cluster

    try:
        yield make
        for cluster in made:
            await cluster.stop_gateway()
            await assert_clean(await asyncio.to_thread(load, next(iter(cluster.replicas.values())).config_file))
    finally:
        for cluster in made:
            await cluster.__aexit__(None, None, None)
