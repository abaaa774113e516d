"""A disk that hangs holds no caller for longer than its patience, and what was given up is not done later."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from gateway.errors import StoreUnavailable
from gateway.stores.sqlite.opening import connect_writer
from gateway.stores.sqlite.readers import Readers
from gateway.stores.sqlite.writer import Writer

PATIENCE_S = 0.05


class Disk:
    """What work waits for while the disk hangs."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.answers = threading.Event()

    def hang(self, connection: apsw.Connection) -> int:
        self.reached.set()
        self.answers.wait()
        return count(connection)


def count(connection: apsw.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM thing").get)


def add(connection: apsw.Connection) -> None:
    connection.execute("INSERT INTO thing VALUES (1)")


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    def make() -> Path:
        connection = connect_writer(tmp_path / "things.db")
        connection.execute("CREATE TABLE thing (value)")
        connection.close()
        return tmp_path / "things.db"

    (tmp_path / "things.db").touch()
    return await asyncio.to_thread(make)


@pytest.fixture
async def writer(file: Path) -> AsyncIterator[Writer]:
    writer = Writer(await asyncio.to_thread(connect_writer, file), patience_s=PATIENCE_S)
    yield writer
    await writer.close()


@pytest.fixture
def disk() -> Disk:
    return Disk()


async def test_a_change_that_nobody_waits_for_any_more_is_not_begun(writer: Writer, disk: Disk) -> None:
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await writer.run(disk.hang)
    assert disk.reached.is_set()
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await writer.run(add)
    disk.answers.set()
    await writer.checkpoint()  # behind all that waited; it has no such limit
    assert await writer.run(count) == 0
    await writer.run(add)
    assert await writer.run(count) == 1


async def test_who_is_patient_hears_what_came_of_a_change_that_took_long(writer: Writer, disk: Disk) -> None:
    patient = asyncio.create_task(writer.run(disk.hang, patient=True))
    await asyncio.to_thread(disk.reached.wait)
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await writer.run(add)
    assert not patient.done()
    disk.answers.set()
    assert await patient == 0


async def test_a_time_out_of_the_work_itself_stays_what_it_is(writer: Writer) -> None:
    def work(_connection: apsw.Connection) -> None:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        await writer.run(work)


async def test_reads_that_hang_are_given_up_and_the_threads_serve_again(file: Path, disk: Disk) -> None:
    readers = Readers(file, threads=1, patience_s=PATIENCE_S)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await readers.run(disk.hang)
    walk = asyncio.create_task(readers.run(count, of_all=True))  # patient however long it takes
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await readers.run(count)
    disk.answers.set()
    assert await walk == 0
    await readers.close()
