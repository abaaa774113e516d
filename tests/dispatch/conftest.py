"""A whole gateway whose clock the test moves, so that hours of retrying and years of keeping need no waiting."""

import asyncio
import hashlib
import json
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

import aiohttp
import apsw
import pytest
import tomli_w
from prometheus_client.parser import text_string_to_metric_families

from gateway.admin.client import Reply, ask
from gateway.deliver.stages import Outcome
from gateway.dispatch.worker import Workers, WorkerSettings
from gateway.domain.ids import MessageId
from gateway.domain.message import Recipient
from gateway.domain.status import DeliveryStatus, MessageStatus, NextAction
from gateway.simulators.__main__ import load_public_key
from gateway.simulators.ebox import EboxSimulator
from gateway.simulators.ebox_settings import DEMO_CLIENT_ID, DEMO_ORGANISATION
from gateway.simulators.print_house import PrintHouseSimulator
from gateway.simulators.records import Call
from gateway.simulators.serve import Simulators
from gateway.simulators.tokens import Client
from gateway.stores.ledger import Ledger
from gateway.stores.model import Claim, MessageRecord

if TYPE_CHECKING:
    from tests.plugins.house import House, MakeHouse, SenderHand

SENDERS = Path(__file__).parents[2] / "config" / "senders"
UNDER_WAY = frozenset({MessageStatus.ACCEPTED, MessageStatus.SCHEDULED, MessageStatus.IN_DELIVERY})
WAIT_S = 30.0
LEASE = timedelta(seconds=60)

Reached = Callable[[MessageRecord], bool]


class LeapingClock:
    """The real time, plus what the test has leapt ahead; gateway and simulators share it."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def leap(self, by: timedelta) -> None:
        self._ahead += by

    def leap_to(self, at: datetime) -> None:
        """Make it `at`, unless it is later already."""
        self._ahead = max(self._ahead, at - datetime.now(UTC))


@dataclass
class Bench:
    """A running gateway, one of its senders, and its providers."""

    house: "House"
    sender: "SenderHand"
    clock: LeapingClock

    @property
    def ledger(self) -> Ledger:
        return self.house.gateway.ledger

    @property
    def ebox(self) -> EboxSimulator:
        return self.house.simulators.ebox

    @property
    def print_house(self) -> PrintHouseSimulator:
        return self.house.simulators.print_house

    # ── Sending ──

    async def send(self, content: bytes | None = None, **changes: Any) -> MessageId:
        """Send a letter that must be accepted; `ssin`, `enterprise_number` and `address` are the recipient's."""
        fields = {name: changes.pop(name) for name in ("ssin", "enterprise_number", "address") if name in changes}
        if fields:
            usual = self.sender.message().recipient
            changes["recipient"] = Recipient(**{"address": usual.address, **fields})
        accepted = await self.sender.accepted([content] if content is not None else None, **changes)
        return MessageId(UUID(accepted))

    async def record(self, message_id: MessageId) -> MessageRecord:
        record = await self.ledger.message(message_id)
        assert record is not None
        return record

    async def until(self, message_id: MessageId, reached: Reached, *, leaping: bool = True) -> MessageRecord:
        """
        Return the message once it is as wanted; fail with where it stands.

        While no provider is being called, the clock leaps to the time of the next action, so that nothing waits.
        """
        record = await self.record(message_id)
        try:
            async with asyncio.timeout(WAIT_S):
                while not reached(record):
                    if leaping:
                        self._leap_to_next(record)
                    await asyncio.sleep(0.02)
                    record = await self.record(message_id)
        except TimeoutError:
            pytest.fail(f"never came to be: {record.status}, {record.deliveries}, {await self.results(message_id)}")
        return record

    async def settled(self, message_id: MessageId) -> MessageRecord:
        """Return the message once it has arrived, ended otherwise, or waits for a person."""
        return await self.until(message_id, lambda record: record.status not in UNDER_WAY)

    async def results(self, message_id: MessageId) -> list[str]:
        """Return what each step came to, by the traffic log, the acceptance left out."""
        return [json.loads(entry.entry)["res"] for entry in await self.ledger.timeline(message_id)][1:]

    def _leap_to_next(self, record: MessageRecord) -> None:
        waiting = [
            delivery.due_at
            for delivery in record.deliveries
            if delivery.next_action in (NextAction.SEND, NextAction.RECONCILE, NextAction.POLL)
            and delivery.status is not DeliveryStatus.DISPATCHING
            and delivery.due_at is not None
        ]
        if waiting:
            self.clock.leap_to(min(waiting))

    # ── What the providers saw ──

    def calls(self, operation: str) -> list[Call]:
        """Return the calls of an operation, at whichever provider has it; `find` is a look at a print job."""
        if operation in ("create", "find"):
            wanted = {"create": "create", "find": "status"}[operation]
            return [call for call in self.print_house.records.calls if call.operation == wanted]
        return [call for call in self.ebox.records.calls if call.operation == operation]

    def copies(self, content: bytes | None = None) -> tuple[int, int]:
        """Return how often the letter was taken over by the e-Box and by the print house."""
        sha256 = hashlib.sha256(content if content is not None else self.house.pdf).hexdigest()
        return self.ebox.records.copies(sha256), self.print_house.records.copies(sha256)

    async def held(self, simulator: EboxSimulator | PrintHouseSimulator, count: int = 1) -> None:
        """Wait until a provider holds so many calls that it does not answer."""
        async with asyncio.timeout(WAIT_S):
            await simulator.records.until(lambda records: records.held == count)

    def own_pdf(self, number: int) -> bytes:
        """Return a letter unlike any other number's."""
        return self.house.pdf + f"\n% letter {number}".encode()

    # ── What the gateway keeps and tells ──

    def blob_names(self) -> set[str]:
        """Return the names of the files in the blob store."""
        root = Path(unquote(urlsplit(self.house.config.stores.blobs).path))
        return {file.name for file in root.glob("???/*") if file.parent.name != "tmp"}

    def blob_file(self, blob_id: object) -> Path:
        root = Path(unquote(urlsplit(self.house.config.stores.blobs).path))
        return root / str(blob_id)[-3:] / str(blob_id)

    def document_ids(self) -> set[UUID]:
        """Return the documents whose sealed bytes are there, as a blob or enclosed in the ledger."""
        connection = apsw.Connection(unquote(urlsplit(self.house.config.stores.ledger).path))
        enclosed: list[Any] = connection.execute("SELECT document_id FROM enclosure").fetchall()
        connection.close()
        return {UUID(name) for name in self.blob_names()} | {UUID(bytes=document_id) for (document_id,) in enclosed}

    async def keys_left(self, record: MessageRecord) -> list[bool]:
        """Tell for each document of a message whether its data key is still there."""
        return [await self.ledger.dek(document.dek_id) is not None for document in record.documents]

    async def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric over the samples that carry these labels."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.house.ops_url}/metrics") as response:
            families = list(text_string_to_metric_families(await response.text()))
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def ops(self, path: str, body: Mapping[str, Any] | None = None) -> Reply:
        """Ask as the operator, over the admin socket."""
        socket = self.house.gateway.admin_socket
        assert socket is not None
        return await ask(socket, "GET" if body is None else "POST", path, body)

    async def doubts(self) -> list[Any]:
        """Return what the operator sees of the deliveries that wait for a decision."""
        found: list[Any] = (await self.ops("/ops/doubts")).body["doubts"]
        return found

    async def late(self) -> list[Any]:
        """Return what the operator sees of the deliveries past their deadline."""
        found: list[Any] = (await self.ops("/ops/late")).body["late"]
        return found


MakeBench = Callable[..., Awaitable[Bench]]


def registration(folder: Path, authorisation: Mapping[str, Any]) -> str:
    """Write the sender files, with changes to the first authorisation of the municipality (None: left out)."""
    folder.mkdir()
    for source in SENDERS.glob("*.toml"):
        values: dict[str, Any] = tomllib.loads(source.read_text())
        if source.stem == "0406798006":
            changed = values["profiles"][0]["authorisations"][0] | authorisation
            values["profiles"][0]["authorisations"][0] = {k: v for k, v in changed.items() if v is not None}
        (folder / source.name).write_text(tomli_w.dumps(values))
    return str(folder)


def simulators_at(clock: LeapingClock, certs: Path, ebox: Mapping[str, Any]) -> Simulators:
    client = Client(
        client_id=DEMO_CLIENT_ID,
        public_key=load_public_key(certs / "ebox-client.pem"),
        organisation=DEMO_ORGANISATION,
    )
    api_key = (certs / "print-api-key").read_text().strip()
    return Simulators(
        ebox=EboxSimulator(clients=[client], clock=clock, **ebox),
        print_house=PrintHouseSimulator(api_key=api_key, clock=clock, keep_bytes=True),
    )


@pytest.fixture
async def make_bench(make_house: "MakeHouse", certs: Path, tmp_path: Path) -> Any:
    """
    Return a starter: `providers` changes the tables of both providers, `authorisation` that of the sender, `ebox`
    holds options of its simulator.
    """
    async with AsyncExitStack() as stack:

        async def start(
            *,
            providers: Mapping[str, Any] | None = None,
            authorisation: Mapping[str, Any] | None = None,
            ebox: Mapping[str, Any] | None = None,
            change: Callable[[dict[str, Any]], None] | None = None,
            **options: Any,
        ) -> Bench:
            clock = LeapingClock()
            made = await asyncio.to_thread(simulators_at, clock, certs, ebox or {})
            simulators = await stack.enter_async_context(made)

            def changed(values: dict[str, Any]) -> None:
                values["polling"] = {}  # as rarely as in production: the clock leaps from one look to the next
                for name, keys in (providers or {}).items():
                    values["providers"][name] |= keys
                if authorisation is not None:
                    values["gateway"]["senders"] = registration(tmp_path / "senders", authorisation)
                if change is not None:
                    change(values)

            house = await make_house(changed, simulators=simulators, clock=clock, **options)
            return Bench(house=house, sender=await house.sender(), clock=clock)

        yield start


@pytest.fixture
async def bench(make_bench: MakeBench) -> Bench:
    """A gateway with the registration and the configuration that ship with it."""
    return await make_bench()


@dataclass
class Pool:
    """Workers of their own on the ledger of a running gateway, whose own workers have stopped."""

    name: str
    bench: Bench
    count: int
    outcomes: list[str] = field(default_factory=list)
    served: list[MessageId] = field(default_factory=list)  # whose letters came to an outcome, in order

    def __post_init__(self) -> None:
        settings = WorkerSettings(name=self.name, count=self.count, lease=LEASE, poll_s=0.02)
        self.workers = Workers(settings, self._stopped()._deps, self._note)
        self.task = asyncio.create_task(self.workers.run())

    def _stopped(self) -> Workers:
        workers = self.bench.house.gateway.workers
        assert workers is not None
        workers.stop()
        return workers

    def _note(self, claim: Claim, outcome: Outcome) -> None:
        self.outcomes.append(outcome.name)
        self.served.append(claim.delivery.message_id)

    async def kill(self) -> None:
        """End it as a crash would: in the middle of whatever it does."""
        tasks = [self.task, *self.workers._running]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def stop(self) -> None:
        """Let it finish what runs."""
        self.workers.stop()
        async with asyncio.timeout(30):
            await asyncio.wait([self.task])


@pytest.fixture
async def start_pool() -> AsyncIterator[Any]:
    pools: list[Pool] = []

    def start(bench: Bench, name: str, count: int = 4) -> Pool:
        pools.append(Pool(name, bench, count))
        return pools[-1]

    yield start
    for pool in pools:
        await pool.kill()
