"""
What several gateways on one PostgreSQL ledger do at the same moment: one wins, and the other sees it.

In a duel the first stands still before its commit (or is undone) until the second waits for it, so each order of events
is tested for certain. In the crowd nobody stands still.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gateway.domain.ids import EnterpriseNumber
from gateway.domain.message import Lane
from gateway.domain.retention import CopyState, Keep
from gateway.domain.status import DeliveryStatus, MessageStatus, NextAction
from gateway.errors import LeaseLost, QuotaUsedUp, StoreUnavailable
from gateway.stores.model import (
    Claim,
    DeliveryRecord,
    Listing,
    MessageRecord,
    NewMessage,
    PaperQuota,
    RegistrationVersion,
    Settlement,
)
from gateway.stores.postgres import accepting, claiming, erasing, registering, settling
from gateway.stores.postgres.ledger import PostgresLedger
from gateway.stores.postgres.sessions import Transaction

if TYPE_CHECKING:
    from tests.plugins.postgres import Database, Server

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
TODAY = NOW.date()
PROVIDERS = ("house-a", "bosa")
SENDERS = tuple(EnterpriseNumber(f"040000000{number}") for number in range(4))

Work = Callable[[Transaction], Awaitable[Any]]


@dataclass
class Place:
    """A database, three gateways' ledgers on it, and the clock of all."""

    database: "Database"
    ledgers: list[PostgresLedger]
    records: Any
    now: datetime = NOW

    async def record(self, **named: Any) -> NewMessage:
        new: NewMessage = self.records.new(**named)
        assert await self.ledgers[0].record(new) is None
        return new

    async def claim(self, ledger: int = 0, *, limit: int = 100, worker: str = "w1") -> list[Claim]:
        return await self.ledgers[ledger].claim(worker, lease=HOUR, limit=limit, providers=PROVIDERS)

    async def claim_one(self, ledger: int = 0, worker: str = "w1") -> Claim:
        (claimed,) = await self.claim(ledger, worker=worker)
        return claimed

    async def begin(self, claimed: Claim, ledger: int = 0, **named: Any) -> int:
        return await self.ledgers[ledger].begin_attempt(claimed, longest=MINUTE, settle=MINUTE, **named)

    async def read(self, new: NewMessage) -> MessageRecord:
        message = await self.ledgers[0].message(new.message.message_id)
        assert message is not None
        return message

    async def delivery(self, new: NewMessage) -> DeliveryRecord:
        return (await self.read(new)).deliveries[0]

    @asynccontextmanager
    async def unfinished(self, work: Work, *, undo: bool = False) -> AsyncIterator[Any]:
        """Do `work` in a transaction that is committed, or undone, when the block ends; yield what it returned."""
        async with self.database.server.admin(self.database.name) as connection:
            transaction = connection.transaction()
            await transaction.start()
            yield await work(Transaction(connection, lambda: self.now))
            await (transaction.rollback() if undo else transaction.commit())

    async def duel(self, first: Work, second: Awaitable[Any], *, undo: bool = False) -> Any:
        """Return what `second`, begun while `first` is not finished, returns once it is; it must wait that long."""
        async with self.unfinished(first, undo=undo):
            later = asyncio.ensure_future(second)
            async with self.database.server.admin(self.database.name) as admin:
                while not await admin.fetchval(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND usename = 'gateway' AND wait_event_type = 'Lock'"
                ):
                    assert not later.done(), "it did not wait"
        return await later


@pytest.fixture
async def place(postgres_server: "Server", records: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    """Nothing is done anew: a deadlock fails the test. And whatever happened, the queue agrees with the deliveries."""
    monkeypatch.setattr("gateway.stores.postgres.sessions._TRIES", 1)
    made = Place(await postgres_server.emptied_database(), [], records)
    async with AsyncExitStack() as stack:
        for _ in range(3):
            ledger = await PostgresLedger.open(made.database.uri, clock=lambda: made.now)
            stack.push_async_callback(ledger.close)
            made.ledgers.append(ledger)
        await made.ledgers[0].add_kek(records.kek)
        yield made
        assert await made.ledgers[0].listed(Listing.MISQUEUED, after=None, limit=10) == []


def ended(records: Any, **named: Any) -> Settlement:
    """Return a settlement after which nothing is to be done."""
    change = records.change(status=DeliveryStatus.CANCELLED, next_action=NextAction.NONE, due_at=None, deadline_at=None)
    named = {"message_status": MessageStatus.CANCELLED, **named}
    settlement: Settlement = records.settlement(change, **named)
    return settlement


# claims


async def test_a_claim_waits_for_the_one_before_it_and_takes_the_next_turn(place: Place) -> None:
    for sender in SENDERS[:2]:
        for minutes in (3, 2, 1):
            await place.record(sender=sender, delivery={"due_at": NOW - minutes * MINUTE})
    first: list[Claim] = []

    async def claim_first(tx: Transaction) -> None:
        first.extend(await claiming.claim(tx, "w1", lease=HOUR, limit=3, providers=PROVIDERS))

    second = await place.duel(claim_first, place.claim(1, limit=3, worker="w2"))
    deliveries = [one.delivery for one in first + second]
    assert len({one.delivery_id for one in deliveries}) == 6
    messages = [await place.ledgers[2].message(one.message_id) for one in deliveries]
    assert [message.sender for message in messages if message is not None] == [*SENDERS[:2]] * 3
    tokens = [one.lease_token for one in first + second]
    assert len(set(tokens)) == 6
    assert min(tokens[3:]) > max(tokens[:3])


async def test_a_claim_that_waited_may_find_that_nothing_is_left(place: Place) -> None:
    await place.record()

    async def claim_first(tx: Transaction) -> None:
        assert await claiming.claim(tx, "w1", lease=HOUR, limit=3, providers=PROVIDERS)

    assert await place.duel(claim_first, place.claim(1, worker="w2")) == []


async def test_a_claim_that_was_undone_leaves_its_turn_and_its_deliveries(place: Place) -> None:
    new = await place.record()

    async def claim_first(tx: Transaction) -> None:
        assert await claiming.claim(tx, "w1", lease=HOUR, limit=3, providers=PROVIDERS)

    (claimed,) = await place.duel(claim_first, place.claim(1, worker="w2"), undo=True)
    assert claimed.delivery == new.message.deliveries[0]
    assert claimed.worker == "w2"


async def test_claims_of_different_providers_do_not_wait_for_each_other(place: Place) -> None:
    for provider in PROVIDERS:
        await place.record(delivery={"provider": provider})

    async def claim_first(tx: Transaction) -> list[Claim]:
        return await claiming.claim(tx, "w1", lease=HOUR, limit=3, providers=PROVIDERS[:1])

    async with place.unfinished(claim_first) as first:
        second = await place.ledgers[1].claim("w2", lease=HOUR, limit=3, providers=PROVIDERS[1:])
    assert [one.delivery.provider for one in first + second] == list(PROVIDERS)


async def test_a_claim_waits_for_nobody_when_nothing_is_due(place: Place) -> None:
    await place.record()

    async def claim_first(tx: Transaction) -> list[Claim]:
        return await claiming.claim(tx, "w1", lease=HOUR, limit=3, providers=PROVIDERS)

    async with place.unfinished(claim_first):
        assert await place.ledgers[1].claim("w2", lease=HOUR, limit=3, providers=PROVIDERS[1:]) == []


async def test_what_somebody_is_about_to_change_is_passed_over_by_a_claim(place: Place, records: Any) -> None:
    cancelled, other = await place.record(), await place.record()

    async def cancel(tx: Transaction) -> None:
        assert await settling.cancel(tx, cancelled.message.message_id, ended(records))

    async with place.unfinished(cancel):
        (claimed,) = await place.claim(1)
    assert claimed.delivery.delivery_id == other.message.deliveries[0].delivery_id
    assert await place.claim(2) == []


class Interrupted:
    """A connection on which something else happens before deliveries are leased."""

    def __init__(self, connection: Any, meanwhile: Callable[[], Awaitable[Any]]) -> None:
        self._connection = connection
        self._meanwhile = meanwhile

    async def fetch(self, statement: str, *parameters: object) -> Any:
        if statement == claiming._LEASE:
            await self._meanwhile()
        return await self._connection.fetch(statement, *parameters)


async def test_what_changed_after_a_claim_looked_at_it_is_left_alone(place: Place, records: Any) -> None:
    new = await place.record()
    later = records.change(status=DeliveryStatus.WAITING, next_action=NextAction.SEND, due_at=NOW + HOUR)
    settlement = records.settlement(later, message_status=MessageStatus.ACCEPTED)

    async def postpone() -> None:
        assert await place.ledgers[1].cancel(new.message.message_id, settlement)

    async def claim(tx: Transaction) -> list[Claim]:
        interrupted = Transaction(Interrupted(tx.connection, postpone), tx.clock)  # type: ignore[arg-type]  # all it needs
        return await claiming.claim(interrupted, "w1", lease=HOUR, limit=3, providers=PROVIDERS)

    async with place.unfinished(claim) as claims:
        assert claims == []


async def test_what_a_settlement_made_due_again_is_claimed_as_it_is_then(place: Place, records: Any) -> None:
    new = await place.record()
    claimed = await place.claim_one()
    await place.begin(claimed)
    change = records.change(due_at=NOW, deadline_at=NOW - MINUTE, provider_reference="ref-1")

    async def settle(tx: Transaction) -> None:
        await settling.settle(tx, claimed, records.settlement(change))

    # One that waits for the lease to end sees all that the settlement wrote.
    delivery_id = new.message.deliveries[0].delivery_id
    late = place.ledgers[1].claim_late("w2", delivery_id, now=NOW + DAY, lease=HOUR)
    place.now = NOW + 2 * MINUTE
    second = await place.duel(settle, late)
    assert second is not None
    assert second.delivery == await place.delivery(new)
    assert second.delivery.provider_reference == "ref-1"
    assert second.lease_token > claimed.lease_token


async def test_a_token_is_worth_nothing_once_another_gateway_has_the_lease(place: Place, records: Any) -> None:
    new = await place.record()
    stale = await place.claim_one(0)
    place.now = stale.lease_until
    fresh = await place.claim_one(1, worker="w2")
    dek = records.dek()
    for act in (
        lambda: place.begin(stale, 0),
        lambda: place.ledgers[0].renew(stale, HOUR),
        lambda: place.ledgers[0].settle(stale, ended(records)),
        lambda: place.ledgers[0].attach_cover(stale, records.document(dek.dek_id, kind="cover"), dek, None),
    ):
        with pytest.raises(LeaseLost):
            await act()
    await place.ledgers[0].release(stale, DAY)
    assert await place.read(new) == new.message
    assert await place.begin(fresh, 1) == 1


async def test_of_two_settlements_with_one_token_the_second_finds_it_used_up(place: Place, records: Any) -> None:
    new = await place.record()
    claimed = await place.claim_one()

    async def settle(tx: Transaction) -> None:
        entry = records.log(message_id=new.message.message_id)
        await settling.settle(tx, claimed, ended(records, logs=(entry,)))

    with pytest.raises(LeaseLost):
        await place.duel(settle, place.ledgers[1].settle(claimed, ended(records)))
    assert (await place.read(new)).revision == 1


# cancelling, deciding


async def test_a_call_that_is_about_to_begin_makes_a_cancellation_too_late(place: Place, records: Any) -> None:
    new = await place.record()
    claimed = await place.claim_one()

    async def begin(tx: Transaction) -> None:
        assert await claiming.begin_attempt(tx, claimed, longest=MINUTE, settle=MINUTE, paper=None) == 1

    assert not await place.duel(begin, place.ledgers[1].cancel(new.message.message_id, ended(records)))
    assert (await place.delivery(new)).status == DeliveryStatus.DISPATCHING


async def test_a_cancellation_makes_a_call_that_is_about_to_begin_too_late(place: Place, records: Any) -> None:
    new = await place.record()
    claimed = await place.claim_one()

    async def cancel(tx: Transaction) -> None:
        assert await settling.cancel(tx, new.message.message_id, ended(records))

    with pytest.raises(LeaseLost):
        await place.duel(cancel, place.begin(claimed, 1))
    assert (await place.delivery(new)).status == DeliveryStatus.CANCELLED
    assert await place.claim(2) == []


async def test_whoever_comes_second_goes_on_when_the_first_is_undone(place: Place, records: Any) -> None:
    begun, cancelled = await place.record(), await place.record()
    claims = {claimed.delivery.message_id: claimed for claimed in await place.claim()}
    began, to_begin = claims[begun.message.message_id], claims[cancelled.message.message_id]

    async def begin(tx: Transaction) -> None:
        await claiming.begin_attempt(tx, began, longest=MINUTE, settle=MINUTE, paper=None)

    async def cancel(tx: Transaction) -> None:
        assert await settling.cancel(tx, to_begin.delivery.message_id, ended(records))

    assert await place.duel(begin, place.ledgers[1].cancel(begun.message.message_id, ended(records)), undo=True)
    assert await place.duel(cancel, place.begin(to_begin, 1), undo=True) == 1


async def test_a_decision_is_carried_out_by_the_first(place: Place, records: Any) -> None:
    new = await place.record(
        status=MessageStatus.NEEDS_DECISION,
        delivery={"status": DeliveryStatus.IN_DOUBT, "next_action": NextAction.DECIDE, "due_at": None},
    )
    delivery_id = new.message.deliveries[0].delivery_id
    again = records.change(status=DeliveryStatus.WAITING, next_action=NextAction.SEND, due_at=NOW)

    async def decide(tx: Transaction) -> None:
        assert await settling.decide(tx, delivery_id, records.settlement(again))

    assert not await place.duel(decide, place.ledgers[1].decide(delivery_id, records.settlement(again)))
    assert (await place.claim_one(2)).delivery.next_action == NextAction.SEND


async def test_what_had_left_the_queue_comes_back_when_something_is_to_be_done_again(
    place: Place, records: Any
) -> None:
    new = await place.record(delivery={"next_action": NextAction.NONE, "due_at": None})
    assert await place.claim() == []
    again = records.change(status=DeliveryStatus.WAITING, next_action=NextAction.SEND, due_at=NOW)
    reopened = records.settlement(again, message_status=MessageStatus.ACCEPTED)
    assert await place.ledgers[0].cancel(new.message.message_id, reopened)
    claimed = await place.claim_one()
    assert claimed.delivery == await place.delivery(new)
    await place.ledgers[0].settle(claimed, ended(records, message_revision=1))
    assert await place.ledgers[0].queue_depths() == []


# quota


async def test_no_more_letters_are_printed_than_the_quota_says_whoever_prints_them(place: Place) -> None:
    for _ in range(12):
        await place.record()
    quota = PaperQuota(sender=SENDERS[0], profile="burgerzaken", day=TODAY, limit=5)

    async def begin(claimed: Claim, ledger: int) -> bool:
        try:
            await place.begin(claimed, ledger, paper=quota)
        except QuotaUsedUp:
            return False
        return True

    claims = await place.claim()
    began = await asyncio.gather(*(begin(claimed, number % 3) for number, claimed in enumerate(claims)))
    assert Counter(began) == {True: 5, False: 7}
    assert (await place.ledgers[0].quota_use(SENDERS[0], TODAY))["burgerzaken"].paper == 5


# blobs and keys


async def test_a_tombstone_waits_for_a_message_and_gives_way(place: Place, records: Any) -> None:
    new = records.new()
    blob_id = new.message.documents[0].document_id

    async def record(tx: Transaction) -> None:
        assert await accepting.record(tx, new) is None

    assert await place.duel(record, place.ledgers[1].tombstone([blob_id], NOW)) == []


@pytest.mark.parametrize("undo", [False, True])
async def test_a_message_waits_for_a_tombstone_and_gives_way(place: Place, records: Any, *, undo: bool) -> None:
    new = records.new()
    blob_id = new.message.documents[0].document_id

    async def forbid(tx: Transaction) -> None:
        assert await erasing.tombstone(tx, [blob_id], NOW) == [blob_id]

    recording = place.duel(forbid, place.ledgers[1].record(new), undo=undo)
    if undo:
        assert await recording is None
    else:
        with pytest.raises(StoreUnavailable, match="swept"):
            await recording
    assert (await place.ledgers[2].message(new.message.message_id) is None) is not undo


async def test_a_cover_page_waits_for_a_tombstone_and_gives_way(place: Place, records: Any) -> None:
    await place.record()
    claimed, dek = await place.claim_one(), records.dek()
    cover = records.document(dek.dek_id, kind="cover", number=2)

    async def forbid(tx: Transaction) -> None:
        assert await erasing.tombstone(tx, [cover.document_id], NOW) == [cover.document_id]

    with pytest.raises(StoreUnavailable, match="swept"):
        await place.duel(forbid, place.ledgers[1].attach_cover(claimed, cover, dek, None))


async def test_erasure_waits_for_a_cover_page_and_takes_its_key_too(place: Place, records: Any) -> None:
    new = await place.record()
    claimed, dek = await place.claim_one(), records.dek()
    cover = records.document(dek.dek_id, kind="cover", number=2)

    async def attach(tx: Transaction) -> None:
        await claiming.attach_cover(tx, claimed, cover, dek, records.retrieval(claimed))

    assert await place.duel(attach, place.ledgers[1].destroy_keys(new.message, NOW, []))
    assert await place.ledgers[0].dek(dek.dek_id) is None
    assert {document.key_destroyed_at for document in (await place.read(new)).documents} == {NOW}
    assert await place.ledgers[0].listed(Listing.STRAY_RETRIEVALS, after=None, limit=10) == []


async def test_a_settlement_that_waits_for_an_erasure_finds_the_message_changed(place: Place, records: Any) -> None:
    keep = Keep(state=CopyState.KEPT, until=NOW)
    new = await place.record(copy_state=keep.state, copy_until=keep.until)
    claimed = await place.claim_one()

    async def destroy(tx: Transaction) -> None:
        assert await erasing.destroy_keys(tx, new.message, NOW, [])

    with pytest.raises(LeaseLost):
        await place.duel(destroy, place.ledgers[1].settle(claimed, ended(records)))
    await place.ledgers[1].settle(claimed, ended(records, message_revision=1, keep=keep))
    assert (await place.read(new)).copy_state == CopyState.ERASED


# registration


@pytest.mark.parametrize("undo", [False, True])
async def test_a_registration_waits_for_one_with_its_number(place: Place, *, undo: bool) -> None:
    first = RegistrationVersion(version=1, digest=b"1" * 32, author="an", at=NOW, text="{}")
    second = replace(first, digest=b"2" * 32, author="bo")

    async def add(tx: Transaction) -> None:
        assert await registering.add_registration(tx, first, [])

    assert await place.duel(add, place.ledgers[1].add_registration(second, []), undo=undo) is undo
    assert await place.ledgers[2].registration_in_force() == (second if undo else first)


async def test_of_providers_noted_at_once_the_later_stand_alone(place: Place) -> None:
    async def note(tx: Transaction) -> None:
        await registering.note_providers(tx, ["house-a", "house-b"])

    await place.duel(note, place.ledgers[1].note_providers(["house-b", "bosa"]))
    assert await place.ledgers[2].noted_providers() == {"house-b", "bosa"}


# the crowd


async def test_each_of_many_deliveries_is_settled_once_however_many_work_on_them(place: Place, records: Any) -> None:
    """Thirty-two workers of three gateways; some give leases back, and some messages are cancelled meanwhile."""
    chance = random.Random(7)
    messages = [
        await place.record(
            sender=chance.choice(SENDERS),
            delivery={"lane": chance.choice(list(Lane)), "provider": chance.choice(PROVIDERS)},
        )
        for _ in range(300)
    ]
    settled: Counter[Any] = Counter()

    async def work_on(claimed: Claim, ledger: PostgresLedger) -> None:
        fate = chance.random()
        if fate < 0.1:
            await ledger.release(claimed, timedelta())
            return
        if fate < 0.2:
            claimed = await ledger.renew(claimed, 2 * HOUR)
            dek = records.dek()
            await ledger.attach_cover(claimed, records.document(dek.dek_id, kind="cover", number=2), dek, None)
        if fate < 0.9:
            await ledger.begin_attempt(claimed, longest=MINUTE, settle=MINUTE)
        message_id = claimed.delivery.message_id
        entry = records.log(message_id=message_id)
        await ledger.settle(claimed, ended(records, message_status=MessageStatus.UNDELIVERABLE, logs=(entry,)))
        settled[message_id] += 1

    async def work(number: int) -> None:
        ledger = place.ledgers[number % 3]
        while len(settled) < len(messages):
            limit = chance.randint(1, 9)
            for claimed in await ledger.claim(f"w{number}", lease=HOUR, limit=limit, providers=PROVIDERS):
                with suppress(LeaseLost):  # it was cancelled
                    await work_on(claimed, ledger)

    async def cancel(ledger: PostgresLedger) -> None:
        for message_id in [new.message.message_id for new in chance.sample(messages, 60)]:
            entry = records.log(message_id=message_id)
            with suppress(LeaseLost):  # it was settled, and its revision moved on
                if await ledger.cancel(message_id, ended(records, logs=(entry,))):
                    settled[message_id] += 1

    await asyncio.gather(*(work(number) for number in range(32)), *(cancel(one) for one in place.ledgers[1:]))
    assert settled == Counter(new.message.message_id for new in messages)
    assert await place.ledgers[0].queue_depths() == []
    for new in messages:
        message = await place.read(new)
        assert message.revision == 1
        assert message.deliveries[0].status == DeliveryStatus.CANCELLED
        assert len(await place.ledgers[0].timeline(message.message_id)) == 2  # recorded, and ended once
