"""
The one story of every run: letters that meet everything a letter can meet, through kills and faults, to the end.

1. All letters are handed over at once, nine alone and three in a batch with one that is refused, and handed over again
   until there is a receipt. One of those, and the batch, are then handed over once more.
2. Each is delivered, refused, or put before a person; one is sent again by its sender.
3. Two days pass: what was kept a day is erased, while the print house is still asked about its letters.
4. A week passes: nothing is left to do. The gateway is asked to stop.

Small documents lie in the ledger, enclosed in their letter; large ones are blobs. A letter may have both.

Whenever the gateway dies, another is started, without a plan, on what the first one left. Meanwhile the recipient of
the letter `wavering` withdraws consent to the e-Box: whoever sends that letter anew would then send it on paper too.
"""

import asyncio
import contextlib
import hashlib
import os
import random
import signal
import socket
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final

import aiohttp

from gateway.client.answers import MessageState, has_settled
from gateway.client.api import GatewayClient, Sent
from gateway.client.batch import ItemOutcome, ItemSent
from gateway.client.letter import Document, Letter
from gateway.client.problems import ClientError
from gateway.client.retrying import RetryRules
from gateway.client.sender import SenderProfile
from gateway.client.transport import CallTiming
from gateway.crypto.receipts import Receipt
from gateway.crypto.sealing import sealed_size
from gateway.demo.letters import letter_pdf
from gateway.domain.ids import EnterpriseNumber, MessageId, Ssin
from gateway.domain.message import Channel, PostalAddress, Recipient
from gateway.domain.status import MessageStatus
from gateway.simulators import magic
from gateway.simulators.faults import FAULTS
from gateway.simulators.records import Outcome, Records
from gateway.simulators.serve import Simulators
from tests.crash.environment import ENCLOSED_BYTES, KEPT, Environment
from tests.crash.nursery import Nursery
from tests.crash.points import KILLS, Plan
from tests.crash.races import WENT_THROUGH
from tests.crash.speeding import SPEED, SharedClock

_E, _P, _C = Channel.EBOX_CITIZEN, Channel.PRINT, Channel.EBOX_ENTERPRISE
_D, _U, _N = MessageStatus.DELIVERED, MessageStatus.UNDELIVERABLE, MessageStatus.NEEDS_DECISION
WAVERING: Final = Ssin("90610101145")
STALLED: Final = Ssin("90610101244")
_PATIENT: Final = RetryRules(tries=300, first_wait_s=0.05, longest_wait_s=0.1)
# Far less than the gateway waits for a request, in its time: hanging up then would look like refusing a certificate.
_TIMING: Final = CallTiming(verdict_wait_s=0.3)
_LOOK_S: Final = 0.1
_SLOW_ANSWER_S: Final = 4.0 / SPEED  # longer than it takes until a letter is tried again
_AGAIN: Final = "box"
_SMALL, _LARGE = "s", "L"  # a letter's documents, each by its size
_LARGE_LINES: Final = 150
BATCH: Final = "batch"
ITEMS: Final[Mapping[str, int]] = {"batch-first": 1, "batch-middle": 3, "batch-last": 4}
"""The letters that come in a batch, and their numbers in it."""
REFUSED_ITEM: Final = 2
_NOT_GRANTED: Final = "administrative-fine"
_MAKES: Final = frozenset({"publish", "create"})


@dataclass(frozen=True, kw_only=True)
class Written:
    """
    A letter, and what must become of it: its status, and how many copies the providers took over.

    `enclosed` tells which of its documents lie in the ledger.
    """

    letter: Letter
    status: MessageStatus
    copies: int
    digests: tuple[str, ...]
    enclosed: tuple[bool, ...]

    @property
    def reference(self) -> str:
        return self.letter.reference


def _written(
    reference: str,
    channels: Sequence[Channel],
    status: MessageStatus,
    copies: int,
    recipient: Recipient,
    *,
    documents: str = _SMALL,
) -> Written:
    contents = [_content(reference, number, size) for number, size in enumerate(documents)]
    address = PostalAddress(
        name="Jan Peeters", street="Kerkstraat", house_number="12", postcode="9000", municipality="Gent", country="BE"
    )
    letter = Letter(
        reference=reference,
        recipient=replace(recipient, address=address),
        category="tax-assessment",
        purpose="Aanslagbiljet 2026",
        subject=f"Brief {reference}",
        documents=[
            Document(content=each, filename=f"brief-{number}.pdf") for number, each in enumerate(contents, start=1)
        ],
        channels=list(channels),
        retention=KEPT,
    )
    digests = tuple(hashlib.sha256(each).hexdigest() for each in contents)
    enclosed = tuple(size == _SMALL for size in documents)
    if enclosed != tuple(sealed_size(len(each)) <= ENCLOSED_BYTES for each in contents):
        raise ValueError(f"the documents of {reference} have other sizes than the story has it")
    return Written(letter=letter, status=status, copies=copies, digests=digests, enclosed=enclosed)


def _content(reference: str, number: int, size: str) -> bytes:
    """Return a PDF like no other; a large one is full of words that nobody can make shorter."""
    dice = random.Random(f"{reference} {number}")
    words = ["".join(dice.choices(string.ascii_letters, k=70)) for _ in range(_LARGE_LINES if size == _LARGE else 0)]
    return letter_pdf(f"Brief {reference}", [f"Stuk {number}.", *words])


def _citizen(number: str) -> Recipient:
    return Recipient(ssin=Ssin(number))


def letters() -> tuple[Written, ...]:
    """Write every letter of the story."""
    return (
        _written("box", [_E], _D, 1, _citizen(magic.CITIZEN_FINE), documents=_LARGE),
        _written("paper", [_P], _D, 1, _citizen(magic.CITIZEN_FINE), documents=_SMALL + _LARGE),
        _written("fallback", [_E, _P], _D, 1, _citizen(magic.CITIZEN_NO_CONSENT)),
        _written("refused", [_E], _U, 0, _citizen(magic.CITIZEN_REFUSED)),
        # Answered 504 although it was taken over; a second look settles the first, and nobody can settle the other.
        _written("lost", [_E], _D, 1, _citizen(magic.CITIZEN_DOUBT)),
        _written(
            "doubt",
            [_C],
            _N,
            1,
            Recipient(enterprise_number=EnterpriseNumber(magic.ENTERPRISE_DOUBT)),
            documents=_LARGE + _SMALL,
        ),
        _written("wavering", [_E, _P], _D, 1, _citizen(WAVERING)),
        _written("late", [_E], _D, 1, _citizen(magic.CITIZEN_FINE), documents=_LARGE),
        _written("stalled", [_E], _D, 1, _citizen(STALLED)),
        *(_written(reference, [_E], _D, 1, _citizen(magic.CITIZEN_FINE)) for reference in ITEMS),
    )


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What the gateway told a sender of a letter that it took over; the signature of the receipt was verified."""

    reference: str
    message_id: MessageId
    receipt: Receipt
    receipt_jws: str

    @classmethod
    def of(cls, sent: Sent) -> "Promise":
        return cls(
            reference=sent.reference,
            message_id=sent.message_id,
            receipt=sent.receipt,
            receipt_jws=sent.receipt_jws,
        )


@dataclass(kw_only=True)
class Story:
    """What came of a run, as everybody outside the gateway saw it."""

    written: Sequence[Written]
    sent: dict[str, Promise] = field(default_factory=dict)
    sent_again: list[Promise] = field(default_factory=list)
    points: list[tuple[str, str, int, str]] = field(default_factory=list)
    races: list[tuple[str, str]] = field(default_factory=list)
    hit: bool = False
    deaths: int = 0
    violations: list[str] = field(default_factory=list)

    def wrong(self, rule: str, text: str) -> None:
        """Note what must never be."""
        self.violations.append(f"{rule}: {text}")


class Telling:
    """Runs the story once in `environment`."""

    def __init__(
        self,
        environment: Environment,
        nursery: Nursery,
        *,
        plan: Plan | None,
        without: Sequence[str],
        after_death: Callable[[Story], Any],
        longest_s: float,
    ) -> None:
        self._environment = environment
        self._nursery = nursery
        self._plan = plan
        self._without = without
        self._after_death = after_death
        self._longest_s = longest_s
        self._clock_file = environment.folder / "clock"
        self.clock = SharedClock(self._clock_file, create=True)
        self.simulators: Simulators
        self.story = Story(written=letters())
        self._stopping = False
        self._over = False
        self._ready = asyncio.Event()
        self._pid = 0
        self._last_words = "without a word"

    async def tell(self) -> Story:
        """Return what came of it, with the violations that are seen from outside."""
        async with self._environment.simulators(self.clock) as self.simulators:
            for records in (self.simulators.ebox.records, self.simulators.print_house.records):
                _watch_overlaps(records, self.story)
            slow = replace(FAULTS["slow"], delay_s=_SLOW_ANSWER_S)
            self.simulators.ebox.faults.order("publish", slow, 1, {"recipient": STALLED})
            gateway = asyncio.create_task(self._keep_alive())
            try:
                async with asyncio.timeout(self._longest_s):
                    await self._ready.wait()
                    await self._chapters()
                    await gateway
            except* TimeoutError:
                self.story.wrong("everything ends", self._where_it_stands())
            except* ClientError as errors:
                for error in errors.exceptions:
                    self.story.wrong("every sender gets a receipt", f"{type(error).__name__}: {error}")
            finally:
                await self._end(gateway)
        return self.story

    # ── The gateway's lives ──

    async def _keep_alive(self) -> None:
        """Start the gateway, and another whenever it dies, until it was asked to stop."""
        plan = self._plan
        while True:
            self._pid, line = await asyncio.to_thread(self._nursery.start, self._order(plan))
            with line:
                stopped = await self._listen(line)
            if self._over:
                return
            began = self._ready.is_set()
            self._ready.clear()
            if stopped and self._stopping:
                return
            self.story.deaths += 1
            if plan is None or (began and plan.way not in KILLS):  # a start may fail for what it met
                self.story.wrong("no death but the planned one", f"the gateway ended: {self._last_words}")
            if self.story.deaths > 3:
                self.story.wrong("a gateway starts again", "it died three times")
                return
            await asyncio.to_thread(self._after_death, self.story)
            self.simulators.ebox.boxes.set_consent(WAVERING, consent=False)
            plan = None

    def _order(self, plan: Plan | None) -> dict[str, Any]:
        environment = self._environment
        return {
            "config": str(environment.config_file),
            "clock": str(self._clock_file),
            "log": str(environment.log),
            "attic": str(environment.folder / "attic"),
            "plan": None if plan is None else plan.as_json(),
            "without": list(self._without),
        }

    async def _listen(self, line: socket.socket) -> bool:
        """Hear what a gateway says until it ends; return whether it ended in order."""
        line.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=line)
        stopped = False
        try:
            while said := await reader.readline():
                word, *rest = said.decode().rstrip("\n").split("\t")
                match word:
                    case "point":
                        self.story.points.append((rest[0], rest[1], int(rest[2]), rest[3]))
                    case "race":
                        self.story.races.append((rest[0], rest[1]))
                        if rest[1] == WENT_THROUGH:
                            self.story.wrong("whoever comes second gives way", rest[0])
                    case "hit":
                        self.story.hit = True
                    case "ready":
                        self._ready.set()
                        if self._stopping:
                            os.kill(self._pid, signal.SIGTERM)
                    case "stopped":
                        stopped = True
                    case "died":
                        self._last_words = rest[0]
                    case _:
                        pass
        except ConnectionResetError:
            pass
        finally:
            writer.close()
        return stopped

    async def _end(self, gateway: "asyncio.Task[None]") -> None:
        """End the gateway, whichever life it is in, and raise what went wrong with keeping it alive."""
        self._over = True
        while not gateway.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            await asyncio.wait([gateway], timeout=_LOOK_S)
        gateway.result()

    # ── The chapters ──

    async def _chapters(self) -> None:
        sender = await asyncio.to_thread(self._environment.sender)
        async with self._client(sender) as client:
            async with asyncio.TaskGroup() as group:
                for written in self.story.written:
                    if written.reference not in ITEMS:
                        group.create_task(self._hand_over(client, written))
                group.create_task(self._hand_over_batch(client))
                group.create_task(self._ask_readiness())
            await self._until(client, has_settled)
            self.clock.leap(KEPT * 2)
            await self._until(client, lambda state: state.status == _N or state.copy.state == "erased")
            await self._asked_again()
            self.clock.leap(timedelta(days=8))
            await self._until(client, lambda state: state.status == _N or state.final)
            await self._until_swept()
        await self._stop()

    def _client(self, sender: SenderProfile) -> GatewayClient:
        async def sleep(seconds: float) -> None:
            await asyncio.sleep(min(seconds, _PATIENT.longest_wait_s))

        return GatewayClient(sender, timing=_TIMING, retry=_PATIENT, clock=self.clock, sleep=sleep)

    async def _hand_over(self, client: GatewayClient, written: Written) -> None:
        self.story.sent[written.reference] = Promise.of(await client.send(written.letter))
        if written.reference == _AGAIN:
            self.story.sent_again.append(Promise.of(await client.send(written.letter)))

    async def _hand_over_batch(self, client: GatewayClient) -> None:
        """Hand the batch over, and its letters once more in another batch: then the gateway has had them all."""
        letters = [each.letter for each in self.story.written if each.reference in ITEMS]
        letters.insert(REFUSED_ITEM - 1, replace(letters[0], reference="not-granted", category=_NOT_GRANTED))
        first = await client.send_batch(letters, reference=BATCH)
        self.story.sent |= {each.reference: each for each in self._promises(first.items, ItemOutcome.ACCEPTED)}
        again = await client.send_batch(letters, reference=f"{BATCH}-again")
        self.story.sent_again += self._promises(again.items, ItemOutcome.REPEATED)

    def _promises(self, items: Sequence[ItemSent], outcome: ItemOutcome) -> list[Promise]:
        """Return what was promised of the items, of which each must have the outcome but the one that is refused."""
        promises = []
        for number, item in enumerate(items, start=1):
            if item.outcome is not (ItemOutcome.REFUSED if number == REFUSED_ITEM else outcome):
                self.story.wrong("each item has its outcome", f"{item.reference} is {item.outcome}")
            if item.message_id is not None and item.receipt is not None and item.receipt_jws is not None:
                promises.append(
                    Promise(
                        reference=item.reference,
                        message_id=item.message_id,
                        receipt=item.receipt,
                        receipt_jws=item.receipt_jws,
                    )
                )
        return promises

    async def _ask_readiness(self) -> None:
        """Ask once whether the gateway is ready, which takes a document the whole way; whatever comes of it."""
        url = f"http://127.0.0.1:{self._environment.ports.ops}/health/ready"
        with contextlib.suppress(aiohttp.ClientError):  # it was killed meanwhile
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                await response.read()

    async def _states(self, client: GatewayClient) -> Mapping[Any, MessageState]:
        return await client.status_many(sent.message_id for sent in self.story.sent.values())

    async def _until(self, client: GatewayClient, reached: Callable[[MessageState], bool]) -> None:
        while True:
            states = await self._states(client)
            if len(states) == len(self.story.sent) and all(reached(state) for state in states.values()):
                return
            await asyncio.sleep(_LOOK_S)

    async def _asked_again(self) -> None:
        """Return when the print house was asked about its letters twice more."""
        records = self.simulators.print_house.records
        seen = _looks(records)
        await records.until(lambda now: _looks(now) >= seen + 2 * len(now.kept))

    async def _until_swept(self) -> None:
        """Return when nothing is left to sweep: only the blobs of the doubtful letter, no temporary file."""
        wanted = sum(each.enclosed.count(False) for each in self.story.written if each.status is _N)
        while len(await asyncio.to_thread(blob_names, self._environment)) > wanted:  # noqa: ASYNC110 -- another process
            await asyncio.sleep(_LOOK_S)

    async def _stop(self) -> None:
        self._stopping = True
        if self._ready.is_set():  # else it is asked as soon as it is ready
            os.kill(self._pid, signal.SIGTERM)

    def _where_it_stands(self) -> str:
        missing = [each.reference for each in self.story.written if each.reference not in self.story.sent]
        return f"not at the end after {self._longest_s:.0f} s; no receipt for {missing or 'none'}"


def blob_names(environment: Environment) -> set[str]:
    """Return the files in the blob store, temporary ones too."""
    return {file.name for file in environment.blobs.glob("*/*")}


def _looks(records: Records) -> int:
    return sum(call.operation == "status" and call.outcome is Outcome.ANSWERED for call in records.calls)


def _watch_overlaps(records: Records, story: Story) -> None:
    """Note when two calls that make a provider take a letter over run at the same time for one letter."""
    changed = records.changed

    def watching() -> None:
        running = [
            call.key
            for call in records.calls
            if call.operation in _MAKES and call.outcome in (Outcome.RUNNING, Outcome.HELD)
        ]
        if len(running) != len(set(running)):
            story.wrong("one call at a time", "two calls for one delivery ran at the same time")
        changed()

    records.changed = watching  # type: ignore[method-assign]  # the instrument
