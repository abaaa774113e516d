"""
What must hold after every run, and what must hold at the very moment of a death.

The senders' receipts say what was promised, the simulators' records what arrived, the ledger what the gateway believes;
the three are held against each other. Stores are opened by their own code, in the harness's process.
"""

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit
from uuid import UUID

from gateway.config import load
from gateway.crypto.sealing import unseal
from gateway.crypto.vault import Vault
from gateway.domain.calendar import day_of
from gateway.domain.ids import EnterpriseNumber, sender_uuid
from gateway.domain.message import Channel
from gateway.domain.retention import CopyState
from gateway.domain.status import DeliveryStatus, MessageStatus, NextAction
from gateway.errors import GatewayError, Kind
from gateway.house import fresh_id
from gateway.integrity.command import verify_stores
from gateway.integrity.findings import Grade, grade_of
from gateway.simulators.records import Records
from gateway.simulators.serve import Simulators
from gateway.stores.documents import Documents
from gateway.stores.files import FileBlobs
from gateway.stores.ledger import Ledger
from gateway.stores.local_keys import LocalKeyring
from gateway.stores.model import DocumentRecord, MessageFilter, MessageRecord
from tests.crash.environment import PROFILE, SENDER, Environment
from tests.crash.ledgers import open_in_run
from tests.crash.scenario import BATCH, ITEMS, REFUSED_ITEM, Story, Written
from tests.crash.speeding import SharedClock

_MANY: Final = 500
_ENDED: Final = frozenset({NextAction.NONE, NextAction.DECIDE})
_UNDER_WAY: Final = frozenset({MessageStatus.ACCEPTED, MessageStatus.SCHEDULED, MessageStatus.IN_DELIVERY})


@dataclass(kw_only=True)
class Snapshot:
    """What was gone for good when the gateway died."""

    erased: set[UUID] = field(default_factory=set)  # messages
    destroyed: set[UUID] = field(default_factory=set)  # data keys


@dataclass(kw_only=True)
class Opened:
    """The stores of a gateway that does not run."""

    ledger: Ledger
    blobs: FileBlobs
    vault: Vault
    blob_folder: Path

    async def messages(self) -> list[MessageRecord]:
        which = MessageFilter(sender=EnterpriseNumber(SENDER), profiles=None)
        return list((await self.ledger.messages(which, after_position=0, limit=_MANY)).messages)

    async def content(self, record: MessageRecord, document: DocumentRecord) -> bytes | None:
        """Return the bytes of a document, None when its key is destroyed."""
        row = await self.ledger.dek(document.dek_id)
        if row is None:
            return None
        sender_id = sender_uuid(record.sender)
        dek = await self.vault.open_dek(row, sender_id)
        pieces = unseal(
            Documents(ledger=self.ledger, blobs=self.blobs).open(document),
            dek.key,
            expect_blob_id=document.document_id,
            expect_dek_id=document.dek_id,
            expect_sender_id=sender_id,
        )
        return b"".join([piece async for piece in pieces])


async def open_stores(environment: Environment, ledger_uri: str, clock: SharedClock, stack: AsyncExitStack) -> Opened:
    """Open the stores as they are on the disk."""
    ledger = await open_in_run(ledger_uri, clock=clock)
    stack.push_async_callback(ledger.close)
    blobs = FileBlobs(environment.blobs)
    stack.push_async_callback(blobs.close)
    keyring = await LocalKeyring.open(environment.folder / "keyring.json")
    stack.push_async_callback(keyring.close)
    vault = Vault(keyring, ledger, clock, fresh_id)
    return Opened(ledger=ledger, blobs=blobs, vault=vault, blob_folder=environment.blobs)


# ── At a death ──


def after_death(environment: Environment, clock: SharedClock, snapshot: Snapshot, story: Story) -> None:
    """Look at what a dead gateway left, without touching it. Runs a loop of its own, so in a thread of its own."""
    asyncio.run(_after_death(environment, clock, snapshot, story))


async def _after_death(environment: Environment, clock: SharedClock, snapshot: Snapshot, story: Story) -> None:
    uri = _copied(environment)
    if uri is None:
        return
    async with AsyncExitStack() as stack:
        opened = await open_stores(environment, uri, clock, stack)
        for record in await opened.messages():
            _nobody_is_forgotten(record, story)
            await _documents_are_whole(record, opened, story)
            await _is_proved(record, opened, story)
            if record.copy_state is CopyState.ERASED:
                snapshot.erased.add(record.message_id)
            snapshot.destroyed |= {
                document.dek_id for document in record.documents if await opened.ledger.dek(document.dek_id) is None
            }


def _copied(environment: Environment) -> str | None:
    """
    Return the URI of a ledger that may be opened, None when there is none yet.

    Opening a SQLite file repairs it, and that is the next gateway's work; so a copy is opened. A database server is no
    part of the gateway that died.
    """
    parts = urlsplit(environment.ledger)
    if parts.scheme != "sqlite":
        return environment.ledger
    source = Path(unquote(parts.path))
    folder = environment.folder / "copied"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if not source.exists():
        return None
    for file in source.parent.glob(f"{source.name}*"):
        shutil.copy(file, folder / file.name)
    return f"sqlite://{folder / source.name}"


def _nobody_is_forgotten(record: MessageRecord, story: Story) -> None:
    """Every delivery that has not ended has an action, a time or a person, and a deadline."""
    live = [delivery for delivery in record.deliveries if delivery.next_action is not NextAction.NONE]
    for delivery in live:
        if delivery.deadline_at is None or (delivery.next_action is not NextAction.DECIDE and delivery.due_at is None):
            story.wrong("every delivery has an owner", f"{record.reference}: {delivery.status} without a deadline")
        if delivery.status is DeliveryStatus.DISPATCHING and delivery.next_action is not NextAction.RECONCILE:
            story.wrong("a call that began is reconciled", f"{record.reference}: {delivery.next_action}")
    if record.status in _UNDER_WAY and not live:
        story.wrong("every delivery has an owner", f"{record.reference} is {record.status}, and nobody works on it")


async def _documents_are_whole(record: MessageRecord, opened: Opened, story: Story) -> None:
    """A document that is ours can be read to its end; one that is erased has no key any more."""
    for document in record.documents:
        key_is_gone = await opened.ledger.dek(document.dek_id) is None
        if key_is_gone != (record.copy_state is CopyState.ERASED):
            state = "gone" if key_is_gone else "there"
            story.wrong("keys go with the erasure", f"{record.reference} is {record.copy_state}, a key is {state}")
        if key_is_gone:
            continue
        try:
            content = await opened.content(record, document)
        except GatewayError as error:
            story.wrong("what was accepted can be read", f"{record.reference}: {type(error).__name__}: {error}")
            continue
        if content is None or len(content) != document.size_bytes:
            story.wrong("what was accepted can be read", f"{record.reference}: another size")


async def _is_proved(record: MessageRecord, opened: Opened, story: Story) -> None:
    """A letter that came in a batch is proved by it from its commit on; one that came alone by itself."""
    batch = await opened.ledger.proving_batch(record.message_id)
    if (None if batch is None else batch.reference) != (BATCH if record.reference in ITEMS else None):
        story.wrong("a batch proves its items", f"{record.reference} is proved by {batch and batch.reference}")


# ── At the end ──


async def after_all(
    environment: Environment, clock: SharedClock, snapshot: Snapshot, simulators: Simulators, story: Story
) -> None:
    """Hold promises, arrivals and the ledger against each other."""
    for written in story.written:
        _promised(written, story)
    keys = _arrived(simulators, story)
    async with AsyncExitStack() as stack:
        opened = await open_stores(environment, environment.ledger, clock, stack)
        records = await opened.messages()
        _each_once(records, keys, story)
        for record in records:
            _nobody_is_forgotten(record, story)
            await _documents_are_whole(record, opened, story)
            await _told_once(record, opened, story)
            await _is_proved(record, opened, story)
        await _batches_are_whole(records, opened, story)
        await _counted(records, opened, clock, story)
        await _feed_is_whole(records, opened, story)
        await _stays_gone(records, snapshot, opened, story)
        _nothing_left_over(records, environment, story)
    await _verified(environment, clock, story)
    _no_part_died(environment.log, story)


async def _verified(environment: Environment, clock: SharedClock, story: Story) -> None:
    """End with what an operator would run. That the doubtful letter waits for a person too long is as it should be."""
    config = await asyncio.to_thread(load, environment.config_file)
    verdict = await verify_stores(config, clock=clock, deep=True)
    for finding in verdict.report.findings:
        if grade_of(finding.code) is not Grade.LATE:
            story.wrong("gateway verify finds nothing", f"{finding.code}: {finding.text}")
    for unchecked in verdict.unchecked:
        story.wrong("gateway verify finds nothing", f"not looked at: {unchecked}")


def _promised(written: Written, story: Story) -> None:
    sent = story.sent.get(written.reference)
    if sent is None:
        return  # told already: the story did not come to its end
    if tuple(document.sha256 for document in sent.receipt.documents) != written.digests:
        story.wrong("a receipt names what was sent", written.reference)
    for again in story.sent_again:
        first = story.sent.get(again.reference)
        if first is not None and (again.message_id != first.message_id or again.receipt_jws != first.receipt_jws):
            story.wrong("the same again is the same", again.reference)


def _arrived(simulators: Simulators, story: Story) -> Counter[str]:
    """Hold what the providers took over against what was written; return the keys under which they did."""
    both: tuple[Records, ...] = (simulators.ebox.records, simulators.print_house.records)
    for written in story.written:
        for digest in written.digests:
            copies = sum(records.copies(digest) for records in both)
            if copies > written.copies:
                story.wrong("nothing twice", f"{written.reference} was taken over {copies} times")
            elif copies < written.copies:
                story.wrong("nothing missing", f"{written.reference} was taken over {copies} times")
    keys = Counter((kept.key or "").strip('"') for records in both for kept in records.kept)
    for key, times in keys.items():
        if times > 1:
            story.wrong("nothing twice", f"delivery {key} was taken over {times} times")
    return keys


def _each_once(records: Sequence[MessageRecord], keys: Counter[str], story: Story) -> None:
    """Accepted = delivered + refused + waiting for a person, each letter once."""
    by_reference = Counter(record.reference for record in records)
    wanted = {written.reference: written for written in story.written}
    if sum(by_reference.values()) != len(wanted) or set(by_reference) != set(wanted):
        story.wrong("each letter is one message", f"the ledger has {dict(by_reference)}")
    deliveries = {str(delivery.delivery_id) for record in records for delivery in record.deliveries}
    if not set(keys) <= deliveries:
        story.wrong("what arrived is ours", f"{len(set(keys) - deliveries)} keys that no delivery has")
    for record in records:
        written = wanted.get(record.reference)
        sent = story.sent.get(record.reference)
        if written is None or sent is None:
            continue
        if record.message_id != sent.message_id or record.receipt_jws != sent.receipt_jws:
            story.wrong("the receipt is the message's", record.reference)
        if record.status is not written.status:
            story.wrong("everything ends", f"{record.reference} is {record.status}, not {written.status}")
        if any(delivery.next_action not in _ENDED for delivery in record.deliveries):
            story.wrong("everything ends", f"{record.reference} still waits for a worker")
        documents = tuple(each.sha256.hex() for each in record.documents if each.kind == "document")
        if documents != written.digests:
            story.wrong("a receipt names what was sent", f"{record.reference} in the ledger")
        if tuple(each.enclosed for each in record.documents if each.kind == "document") != written.enclosed:
            story.wrong("small documents lie in the ledger", record.reference)


async def _batches_are_whole(records: Sequence[MessageRecord], opened: Opened, story: Story) -> None:
    """Each item stands for its letter in both batches, proved by the first, and the other one for its refusal."""
    ids = {record.reference: record.message_id for record in records}
    for reference, is_proof in ((BATCH, True), (f"{BATCH}-again", False)):
        batch = await opened.ledger.find_batch(EnterpriseNumber(SENDER), PROFILE, reference)
        if batch is None:
            story.wrong("a batch stays", f"{reference} is not there")
            continue
        links = {
            link.number: (link.message_id, link.is_proof) for link in await opened.ledger.batch_links(batch.batch_id)
        }
        if links != {number: (ids.get(each), is_proof) for each, number in ITEMS.items()}:
            story.wrong("each item is one letter", f"{reference} has items {sorted(links)}")
        refusals = [(each.number, each.kind) for each in await opened.ledger.batch_refusals(batch.batch_id)]
        if refusals != [(REFUSED_ITEM, Kind.CATEGORY_NOT_AUTHORISED)]:
            story.wrong("a refusal stays readable", f"{reference} has {refusals}")


async def _told_once(record: MessageRecord, opened: Opened, story: Story) -> None:
    timeline = await opened.ledger.timeline(record.message_id)
    events = Counter(entry.event for entry in timeline if entry.delivery_id is None)
    if events["accepted"] != 1 or events["erased"] != (record.copy_state is CopyState.ERASED):
        story.wrong("the log tells each once", f"{record.reference}: {dict(events)}")
    told = {json.loads(entry.entry)["what"]["messageStatus"] for entry in timeline if entry.delivery_id is not None}
    if record.status not in told:
        story.wrong("the log tells how it ended", f"{record.reference}: {record.status} is not in it")


async def _counted(records: Sequence[MessageRecord], opened: Opened, clock: SharedClock, story: Story) -> None:
    """The quota counted each message once, and each paper letter that a call was begun for."""
    days = {day_of(record.accepted_at) for record in records} | {day_of(clock())}
    use = [use for day in days for use in (await opened.ledger.quota_use(EnterpriseNumber(SENDER), day)).values()]
    if sum(each.messages for each in use) != len(records):
        story.wrong("the quota counts each once", f"{sum(each.messages for each in use)} messages")
    printed = sum(
        delivery.channel is Channel.PRINT and delivery.attempts > 0
        for record in records
        for delivery in record.deliveries
    )
    if sum(each.paper for each in use) != printed:
        story.wrong("the quota counts each once", f"{sum(each.paper for each in use)} on paper, not {printed}")


async def _feed_is_whole(records: Sequence[MessageRecord], opened: Opened, story: Story) -> None:
    while await opened.ledger.number_events(at=datetime.now(UTC), limit=_MANY):
        pass
    page = await opened.ledger.events(EnterpriseNumber(SENDER), None, after_number=0, limit=10 * _MANY)
    numbers = [event.number for event in page.events]
    entries = [entry.entry for record in records for entry in await opened.ledger.timeline(record.message_id)]
    if numbers != list(range(1, len(entries) + 1)) or Counter(e.entry for e in page.events) != Counter(entries):
        story.wrong("the feed tells each once", f"{len(numbers)} events of {len(entries)} entries")


async def _stays_gone(records: Sequence[MessageRecord], snapshot: Snapshot, opened: Opened, story: Story) -> None:
    erased = {record.message_id for record in records if record.copy_state is CopyState.ERASED}
    if not snapshot.erased <= erased:
        story.wrong("what is erased stays so", "a message is no longer erased")
    for dek_id in snapshot.destroyed:
        if await opened.ledger.dek(dek_id) is not None:
            story.wrong("destroyed keys stay destroyed", str(dek_id))
    for record in records:
        if record.status is not MessageStatus.NEEDS_DECISION and record.copy_state is not CopyState.ERASED:
            story.wrong("what is erased stays so", f"{record.reference} is {record.copy_state} at the end")


def _nothing_left_over(records: Sequence[MessageRecord], environment: Environment, story: Story) -> None:
    needed = {
        str(document.document_id)
        for record in records
        if record.copy_state is not CopyState.ERASED
        for document in record.documents
        if not document.enclosed
    }
    found = {file.name for file in environment.blobs.glob("*/*")}
    if found != needed:
        story.wrong(
            "no orphan blob and no temporary file", f"{len(found - needed)} left, {len(needed - found)} missing"
        )


def _no_part_died(log: Path, story: Story) -> None:
    for line in log.read_text(errors="replace").splitlines():
        try:
            entry: Any = json.loads(line)
        except ValueError:
            story.wrong("the log is in JSON lines", line[:200])
            return
        if str(entry.get("level", "")).upper() == "CRITICAL":
            story.wrong("no part of the gateway dies", line[:300])
