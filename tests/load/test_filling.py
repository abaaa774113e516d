"""Ledgers filled in bulk: real ledgers, which are read again by the code that serves them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from gateway.domain.ids import EnterpriseNumber, MessageId
from gateway.domain.message import Channel
from gateway.domain.status import MessageStatus, NextAction
from gateway.stores.ledger import Ledger
from gateway.stores.model import MessageFilter
from gateway.stores.postgres.ledger import PostgresLedger
from gateway.stores.sqlite.ledger import SqliteLedger
from load.filling import TEN_YEARS, fill_postgres, fill_sqlite
from load.problems import CannotRun

SENDER = EnterpriseNumber("0406798006")
A_YEAR = timedelta(days=365)  # ten are hundreds of partitions, which take half a minute to make
COUNT = 2_500  # more than one transaction


def now() -> datetime:
    return datetime.now(UTC)


async def add_samples(ledger: Ledger, records: Any) -> None:
    """Have three messages in a ledger, accepted just now, and their events numbered."""
    await ledger.add_kek(records.kek)
    at = now()
    for _ in range(3):
        index = {"recipient_index": b"i" * 32, "recipient_index_version": 1}
        new = records.new(documents=2, accepted_at=at, delivery={"due_at": at}, **index)
        log = replace(records.log(message_id=new.message.message_id), at=at, sender=SENDER, profile="burgerzaken")
        await ledger.record(replace(new, logs=(log,)))
    assert await ledger.number_events(at=at, limit=100) == 3


async def assert_filled(ledger: Ledger, ids: list[Any], told: list[int], span: timedelta) -> None:
    """By what the ledger itself tells."""
    assert told == [2_000, 2_500]
    assert 900 < len(ids) <= COUNT
    assert len(set(ids)) == len(ids)
    messages = await ledger.messages_by_id([MessageId(each) for each in ids])
    assert len(messages) == len(ids)
    assert {message.status for message in messages} == {MessageStatus.DELIVERED}
    assert len({message.reference for message in messages}) == len(ids)
    assert {len(message.documents) for message in messages} == {2}
    assert len({document.document_id for message in messages for document in message.documents}) == 2 * len(ids)
    assert {delivery.channel for message in messages for delivery in message.deliveries} == {Channel.PRINT}
    assert {delivery.next_action for message in messages for delivery in message.deliveries} == {NextAction.NONE}
    oldest, newest = min(m.accepted_at for m in messages), max(m.accepted_at for m in messages)
    assert span - timedelta(days=20) < newest - oldest < span
    for message in messages[:3]:
        assert len(await ledger.timeline(message.message_id)) == 1
        found = await ledger.find_reference(SENDER, "burgerzaken", message.reference)
        assert found is not None
        assert found.message_id == message.message_id
        assert await ledger.dek(message.meta_dek_id) is not None
    page = await ledger.messages(MessageFilter(sender=SENDER, profiles=None), after_position=0, limit=500)
    assert len(page.messages) == 500


async def assert_goes_on(ledger: Ledger, records: Any) -> None:
    """What comes next is accepted, listed last, numbered next, and due for delivery; nothing old is."""
    before = await ledger.claim("w", lease=timedelta(minutes=1), limit=500, providers=["house-a"])
    assert len(before) == 3  # the samples
    new = records.new(accepted_at=now(), delivery={"due_at": now()})
    log = replace(records.log(message_id=new.message.message_id), sender=SENDER, profile="burgerzaken")
    await ledger.record(replace(new, logs=(log,)))
    claims = await ledger.claim("w", lease=timedelta(minutes=1), limit=500, providers=["house-a"])
    assert [claim.delivery.message_id for claim in claims] == [new.message.message_id]
    assert await ledger.number_events(at=now(), limit=10_000) == 1
    assert await ledger.due_erasures(now() + timedelta(days=1), 10) == []
    assert await ledger.blobs_to_erase(10) == []


# ── SQLite ──


@asynccontextmanager
async def sqlite(file: Path) -> AsyncIterator[SqliteLedger]:
    ledger = await SqliteLedger.open(file, clock=now)
    try:
        yield ledger
    finally:
        await ledger.close()


async def test_ten_years_of_messages_in_sqlite(tmp_path: Path, records: Any) -> None:
    file, told = tmp_path / "ledger.db", list[int]()
    async with sqlite(file) as ledger:
        await add_samples(ledger, records)
    ids = fill_sqlite(file, COUNT, told.append)
    connection = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
    assert list(connection.execute("PRAGMA foreign_key_check")) == []
    assert list(connection.execute("PRAGMA integrity_check")) == [("ok",)]
    connection.close()
    async with sqlite(file) as ledger:
        await assert_filled(ledger, ids, told, TEN_YEARS)
        await assert_goes_on(ledger, records)


async def test_an_empty_ledger_in_sqlite_cannot_be_filled(tmp_path: Path) -> None:
    async with sqlite(tmp_path / "ledger.db"):
        pass
    with pytest.raises(CannotRun, match="no message"):
        fill_sqlite(tmp_path / "ledger.db", 1, lambda _: None)


# ── PostgreSQL ──


@asynccontextmanager
async def postgres(uri: str) -> AsyncIterator[PostgresLedger]:
    ledger = await PostgresLedger.open(uri)
    try:
        yield ledger
    finally:
        await ledger.close()


async def test_a_year_of_messages_in_postgresql(postgres_database: Any, records: Any) -> None:
    told = list[int]()
    async with postgres(postgres_database.uri) as ledger:
        await add_samples(ledger, records)
    async with postgres_database.server.admin(postgres_database.name) as connection:
        ids = await fill_postgres(connection, COUNT, told.append, span=A_YEAR)
        assert await connection.fetchval("SELECT count(*) FROM message") == COUNT + 3
        # In their months: those without one are the samples, whose ids of tests carry no time.
        assert await connection.fetchval("SELECT count(*) FROM message_other") == 3
    async with postgres(postgres_database.uri) as ledger:
        await assert_filled(ledger, ids, told, A_YEAR)
        await assert_goes_on(ledger, records)


async def test_an_empty_ledger_in_postgresql_cannot_be_filled(postgres_database: Any) -> None:
    async with postgres_database.server.admin(postgres_database.name) as connection:
        with pytest.raises(CannotRun, match="no message"):
            await fill_postgres(connection, 1, lambda _: None)
