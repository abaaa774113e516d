"""Ids made at run time differ, whichever thread or process makes them."""

import os
import threading
from datetime import UTC, datetime
from uuid import UUID

from gateway.house import fresh_id

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)


def at_that_time() -> datetime:
    return AT


def test_an_id_holds_the_time_and_is_a_uuid7() -> None:
    made = fresh_id(at_that_time)
    assert made.version == 7
    assert int.from_bytes(made.bytes[:6], "big") == AT.timestamp() * 1000


def test_threads_make_different_ids() -> None:
    made: list[UUID] = []
    begin = threading.Barrier(4)

    def make() -> None:
        begin.wait()
        made.extend([fresh_id(at_that_time) for _ in range(3_000)])

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == len(made) == 12_000


def test_a_forked_process_makes_others() -> None:
    fresh_id(at_that_time)  # more are foreseen now
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, fresh_id(at_that_time).bytes)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as from_child:
        theirs = UUID(bytes=from_child.read())
    os.waitpid(child, 0)
    assert theirs != fresh_id(at_that_time)
