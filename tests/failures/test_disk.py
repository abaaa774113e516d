"""A disk that is nearly full, full, read-only or failing: a clear 503, nothing half kept, and no hand to heal it."""

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import apsw
import pytest

from gateway.errors import StoreUnavailable
from gateway.stores.files import FileBlobs
from tests.plugins.failing import Disk, FaultyFiles, assert_put_off, metric, readiness, until_ready

MEGABYTE = 1_048_576


def on(disk: Disk, store: str, keep_free_bytes: int) -> Callable[[dict[str, Any]], None]:
    """Return the change of the configuration that puts a store onto the disk, where every document is a blob."""
    uris = {"blobs": f"file://{disk.folder}/blobs", "ledger": f"sqlite://{disk.folder}/ledger/ledger.db"}

    def change(values: dict[str, Any]) -> None:
        values.setdefault("stores", {}).update({store: uris[store], "enclose_up_to_bytes": 0})
        values.setdefault("limits", {})["keep_free_bytes"] = keep_free_bytes

    return change


def large(house: Any) -> bytes:
    return bytes(house.pdf + b"\n% " + os.urandom(900_000))


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def known(sender: Any, reference: str) -> list[Any]:
    found: list[Any] = (await sender.call("GET", f"/api/v1/messages?reference={reference}")).json["messages"]
    return found


async def delivered(sender: Any, answer: Any) -> None:
    assert answer.status == 201, answer.body
    await sender.until(answer.json["messageId"], lambda view: view["status"] == "delivered")


async def failing(house: Any) -> set[str]:
    return {name for name, outcome in (await readiness(house))[1].items() if outcome != "ok"}


@pytest.mark.parametrize("store", ["blobs", "ledger"])
async def test_on_a_disk_that_is_nearly_full_nothing_new_is_begun_and_what_was_taken_over_goes_on(
    make_house: Any, disk: Disk, store: str
) -> None:
    house = await make_house(on(disk, store, 4 * MEGABYTE))
    sender = await house.sender()
    house.simulators.ebox.faults.order("publish", "unavailable")
    waiting = await sender.accepted()
    disk.fill(leave_bytes=2 * MEGABYTE)
    await house.gateway.health.look()

    async def body() -> AsyncIterator[bytes]:
        yield b"--simple-boundary\r\n"
        await asyncio.Event().wait()  # the rest never comes: the answer must not wait for it

    headers = {"Content-Type": "multipart/form-data; boundary=simple-boundary"}
    async with sender.session.post(house.url + "/api/v1/messages", data=body(), headers=headers) as response:
        assert (response.status, int(response.headers["Retry-After"]) > 0) == (503, True)
        assert f"the disk of the gateway's {store} is nearly full" in (await response.json())["detail"]
    assert await failing(house) == {f"disk-{store}"}
    assert await metric(house, f'gateway_intake_closed_ratio{{because="disk-{store}"}}') == 1
    # It is delivered, read and erased all the same.
    await sender.until(waiting, lambda view: view["status"] == "delivered")
    disk.free()
    await until_ready(house)
    await delivered(sender, await sender.send())


async def test_a_disk_that_fills_up_while_a_document_comes_in_keeps_nothing_of_it(make_house: Any, disk: Disk) -> None:
    house = await make_house(on(disk, "blobs", 0))
    sender = await house.sender()
    await delivered(sender, await sender.send())
    before = await asyncio.to_thread(files_of, disk.folder / "blobs")
    disk.fill(leave_bytes=MEGABYTE // 4)
    content = large(house)
    assert_put_off(await sender.send([content], reference="large"), "same reference")
    assert await asyncio.to_thread(files_of, disk.folder / "blobs") == before
    assert await known(sender, "large") == []
    disk.free()
    await delivered(sender, await sender.send([content], reference="large"))
    assert len(await known(sender, "large")) == 1
    await until_ready(house)


async def test_a_disk_that_is_full_when_the_ledger_commits_keeps_no_row_and_heals(make_house: Any, disk: Disk) -> None:
    house = await make_house(on(disk, "ledger", 0))
    sender = await house.sender()
    await delivered(sender, await sender.send())
    disk.fill()
    assert_put_off(await sender.send(reference="full"))
    assert await known(sender, "full") == []  # reading goes on
    assert {"commit"} <= await failing(house)
    disk.free()
    await until_ready(house)
    await delivered(sender, await sender.send(reference="full"))
    assert len(await known(sender, "full")) == 1


async def test_a_disk_that_becomes_read_only_is_told_and_heals(make_house: Any, disk: Disk) -> None:
    house = await make_house(on(disk, "blobs", 0))
    sender = await house.sender()
    await delivered(sender, await sender.send())
    before = await asyncio.to_thread(files_of, disk.folder / "blobs")
    await asyncio.to_thread(disk.make_read_only)
    # One that comes before anybody has looked at the disk, and one after.
    assert_put_off(await sender.send(reference="early"))
    await house.gateway.health.look()
    assert_put_off(await sender.send(reference="late"), "the disk of the gateway's blobs is read-only")
    assert {"disk-blobs"} <= await failing(house)
    assert await asyncio.to_thread(files_of, disk.folder / "blobs") == before
    await asyncio.to_thread(disk.make_writable)
    await until_ready(house)
    for reference in ("early", "late"):
        assert await known(sender, reference) == []
        await delivered(sender, await sender.send(reference=reference))


class Syncs:
    """Calls of fsync, by the file that they were for, of which the first is to fail with EIO."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.files: list[int] = []
        self._folder = folder
        self._real = os.fsync
        self.failures = 0
        patch.setattr(os, "fsync", self)

    def __call__(self, fd: int) -> None:
        if not Path(f"/proc/self/fd/{fd}").resolve().is_relative_to(self._folder / "tmp"):
            self._real(fd)
            return
        if Path(f"/proc/self/fd/{fd}").resolve().is_file():
            self.files.append(os.fstat(fd).st_ino)
            if self.failures:
                self.failures -= 1
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._real(fd)


async def test_after_a_failed_fsync_the_file_is_discarded_and_never_synced_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield b"sealed bytes"

    blobs, blob_id, syncs = FileBlobs(tmp_path / "blobs"), uuid4(), Syncs(tmp_path / "blobs", monkeypatch)
    syncs.failures = 1
    try:
        with pytest.raises(StoreUnavailable, match="EIO"):
            await blobs.put(blob_id, content())
        assert len(syncs.files) == 1
        assert await asyncio.to_thread(files_of, tmp_path / "blobs") == []
        assert await blobs.put(blob_id, content()) == len(b"sealed bytes")
        assert len(syncs.files) == 2
    finally:
        await blobs.close()


async def test_a_failed_fsync_of_a_document_is_a_503_and_the_same_message_is_taken_over_next(
    make_house: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await make_house(lambda values: values.setdefault("stores", {}).update(enclose_up_to_bytes=0))
    sender = await house.sender()
    syncs = Syncs(tmp_path / "state" / "blobs", monkeypatch)
    syncs.failures = 1
    assert_put_off(await sender.send(reference="unlucky"))
    assert await known(sender, "unlucky") == []
    await delivered(sender, await sender.send(reference="unlucky"))
    assert len(await known(sender, "unlucky")) == 1


@pytest.mark.parametrize("operation", ["write", "sync"])
async def test_a_failed_write_or_sync_of_the_ledger_is_a_503_and_the_next_commit_is_whole(
    faulty_files: FaultyFiles, make_house: Any, operation: str
) -> None:
    house = await make_house()
    sender = await house.sender()
    faulty_files.faults = {operation: apsw.IOError("EIO")}
    assert_put_off(await sender.send(reference="unlucky"))
    faulty_files.faults = {}
    assert await known(sender, "unlucky") == []
    await until_ready(house)
    await delivered(sender, await sender.send(reference="unlucky"))
    assert len(await known(sender, "unlucky")) == 1
    assert house.simulators.ebox.records.copies(hashlib.sha256(house.pdf).hexdigest()) == 1
