"""The promises of `BlobStore`, held against every implementation; then what only files can get wrong."""

import asyncio
import errno
import os
import stat
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gateway.errors import BlobConflict, BlobMissing, StoreUnavailable
from gateway.stores.blobs import BlobStore
from gateway.stores.files import FileBlobs
from gateway.stores.measured import MeasuredBlobs

STEP = 131_072
BLOB = UUID("019a0000-0000-7000-8000-00000000abcd")
OTHER = UUID("019a0000-0000-7000-8000-00000000abce")


@pytest.fixture(params=["file", "measured file"])
async def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    root = tmp_path / "blobs"
    await asyncio.to_thread(root.mkdir)
    stores: dict[str, Callable[[], BlobStore]] = {
        "file": lambda: FileBlobs(root),
        "measured file": lambda: MeasuredBlobs(FileBlobs(root), lambda _call, _seconds: None),
    }
    store = stores[request.param]()
    yield store
    await store.close()


async def stream(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def content(store: BlobStore, blob_id: UUID) -> bytes:
    return b"".join([piece async for piece in store.open(blob_id)])


async def ids(store: BlobStore) -> set[UUID]:
    return {info.blob_id async for info in store.list()}


async def is_missing(store: BlobStore, blob_id: UUID) -> bool:
    try:
        await content(store, blob_id)
    except BlobMissing:
        return blob_id not in await ids(store)
    return False


@pytest.mark.parametrize("size", [0, 1, STEP - 1, STEP, STEP + 1, 2 * STEP, 3 * STEP + 17])
@pytest.mark.parametrize("piece", [1_000, 65_536, STEP, 4 * STEP])
async def test_what_was_put_is_read_back(blobs: BlobStore, size: int, piece: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    stored = await blobs.put(BLOB, stream(data[at : at + piece] for at in range(0, size, piece)))
    assert stored == size
    assert await content(blobs, BLOB) == data
    (info,) = [info async for info in blobs.list()]
    assert (info.blob_id, info.size_bytes) == (BLOB, size)
    assert abs(datetime.now(UTC) - info.modified_at) < timedelta(hours=1)


async def test_an_unknown_blob_is_missing(blobs: BlobStore) -> None:
    assert await is_missing(blobs, BLOB)
    await blobs.put(OTHER, stream([b"neighbour"]))
    assert await is_missing(blobs, BLOB)


async def test_other_bytes_under_the_same_id_are_a_conflict_and_change_nothing(blobs: BlobStore) -> None:
    await blobs.put(BLOB, stream([b"first"]))
    for other in (b"other", b"firs", b"first and more", b"", bytes(2 * STEP)):
        with pytest.raises(BlobConflict):
            await blobs.put(BLOB, stream([other]))
        assert await content(blobs, BLOB) == b"first"
    assert await ids(blobs) == {BLOB}


@pytest.mark.parametrize("size", [0, 5, 2 * STEP + 1])
async def test_the_same_bytes_may_be_put_again(blobs: BlobStore, size: int) -> None:
    assert await blobs.put(BLOB, stream([bytes(size)])) == size
    assert await blobs.put(BLOB, stream([bytes(size)])) == size
    assert await content(blobs, BLOB) == bytes(size)


async def test_of_many_puts_at_once_one_content_wins_whole(blobs: BlobStore) -> None:
    contents = [bytes([letter]) * (STEP + letter) for letter in range(12)]
    results = await asyncio.gather(*(blobs.put(BLOB, stream([each])) for each in contents), return_exceptions=True)
    winners = [result for result in results if isinstance(result, int)]
    assert len(winners) == 1
    assert [type(result) for result in results if not isinstance(result, int)] == [BlobConflict] * 11
    assert await content(blobs, BLOB) == contents[winners[0] - STEP]


async def test_the_same_bytes_put_at_once_all_succeed(blobs: BlobStore) -> None:
    assert await asyncio.gather(*(blobs.put(BLOB, stream([b"same"])) for _ in range(12))) == [4] * 12
    assert await content(blobs, BLOB) == b"same"


async def test_an_erased_blob_is_missing(blobs: BlobStore) -> None:
    await blobs.put(BLOB, stream([b"letter"]))
    await blobs.put(OTHER, stream([b"another"]))
    await blobs.erase(BLOB)
    assert await is_missing(blobs, BLOB)
    assert await content(blobs, OTHER) == b"another"


async def test_erasing_twice_or_what_never_was_is_fine(blobs: BlobStore) -> None:
    await blobs.erase(BLOB)
    await blobs.put(BLOB, stream([b"letter"]))
    await blobs.erase(BLOB)
    await blobs.erase(BLOB)
    assert await ids(blobs) == set()


async def test_all_blobs_are_listed_once(blobs: BlobStore) -> None:
    wanted = {UUID(int=BLOB.int + 37 * k) for k in range(60)}
    await asyncio.gather(*(blobs.put(blob_id, stream([blob_id.bytes])) for blob_id in wanted))
    listed = [info.blob_id async for info in blobs.list()]
    assert len(listed) == len(wanted)
    assert set(listed) == wanted
    assert await content(blobs, min(wanted)) == min(wanted).bytes


@pytest.mark.parametrize("before", [[], [b"beginning"], [bytes(STEP)], [bytes(STEP)] * 3 + [b"rest"]])
async def test_nothing_is_kept_when_the_source_fails(blobs: BlobStore, before: list[bytes]) -> None:
    async def broken() -> AsyncIterator[bytes]:
        for piece in before:
            yield piece
        raise ConnectionResetError(errno.ECONNRESET, "the sender went away")

    with pytest.raises(ConnectionResetError):
        await blobs.put(BLOB, broken())
    assert await is_missing(blobs, BLOB)
    assert await blobs.put(BLOB, stream([b"second try"])) == 10


@pytest.mark.parametrize("before", [[], [b"beginning"], [bytes(STEP)] * 3 + [b"rest"]])
async def test_nothing_is_kept_when_the_put_is_cancelled_while_it_reads(blobs: BlobStore, before: list[bytes]) -> None:
    reached = asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        for piece in before:
            yield piece
        reached.set()
        await asyncio.Event().wait()

    put = asyncio.create_task(blobs.put(BLOB, stalled()))
    await reached.wait()
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        await put
    assert await is_missing(blobs, BLOB)


async def test_a_blob_being_put_is_neither_listed_nor_read(blobs: BlobStore) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield bytes(2 * STEP)
        reached.set()
        await go_on.wait()
        yield b"end"

    put = asyncio.create_task(blobs.put(BLOB, slow()))
    await reached.wait()
    assert await is_missing(blobs, BLOB)
    go_on.set()
    assert await put == 2 * STEP + 3


async def test_a_reader_that_began_may_finish_although_the_blob_is_erased(blobs: BlobStore) -> None:
    await blobs.put(BLOB, stream([bytes(2 * STEP + 1)]))
    reader = blobs.open(BLOB)
    first = await anext(reader)
    await blobs.erase(BLOB)
    rest = [piece async for piece in reader]
    assert len(first) + sum(map(len, rest)) == 2 * STEP + 1
    assert await is_missing(blobs, BLOB)


async def test_putting_and_reading_32_mib_takes_less_than_2_mib_of_memory(blobs: BlobStore) -> None:
    piece = bytes(65_536)
    tracemalloc.start()
    try:
        stored = await blobs.put(BLOB, stream(piece for _ in range(512)))
        read = 0
        async for part in blobs.open(BLOB):
            read += len(part)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert stored == read == 512 * 65_536
    assert peak < 2 * 1024 * 1024


async def test_closing_twice_is_fine(blobs: BlobStore) -> None:
    await blobs.put(BLOB, stream([b"letter"]))
    await blobs.close()
    await blobs.close()


# What only files can get wrong.


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[FileBlobs]:
    store = FileBlobs(tmp_path / "blobs")
    yield store
    await store.close()


def everything(root: Path) -> list[str]:
    """All files under a store, temporary ones too."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def nth_call_fails(monkeypatch: pytest.MonkeyPatch, name: str, nth: int, code: int) -> list[int]:
    """Let the nth call of `os.<name>` fail (0: none); returns the numbers of the calls made so far."""
    real = getattr(os, name)
    lock = threading.Lock()
    calls: list[int] = []

    def failing(*args: Any, **kwargs: Any) -> Any:
        with lock:
            calls.append(len(calls) + 1)
            number = calls[-1]
        if number == nth:
            raise OSError(code, os.strerror(code))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, failing)
    return calls


# The calls that a fresh store makes for a put of three steps, each by its number; each may fail.
STEPS = [
    *(("mkdir", nth, errno.EROFS) for nth in (1, 2, 3)),  # root, tmp, fan-out
    *(("fsync", nth, errno.EIO) for nth in (1, 2, 3, 4, 5)),  # root's name, tmp's name, the file, fan-out's, the blob's
    *(("open", nth, errno.EMFILE) for nth in (1, 2, 3, 4, 5)),  # the same, the file before its fsync
    *(("write", nth, errno.ENOSPC) for nth in (1, 2, 3)),
    ("link", 1, errno.ENOSPC),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step[0]}-{step[1]}")
async def test_a_disk_error_at_any_step_keeps_nothing_and_a_new_put_succeeds(
    files: FileBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[str, int, int]
) -> None:
    name, nth, code = step
    data = [bytes(STEP), bytes(STEP), b"end"]
    with monkeypatch.context() as patch:
        calls = nth_call_fails(patch, name, nth, code)
        with pytest.raises(StoreUnavailable, match=errno.errorcode[code]):
            await files.put(BLOB, stream(data))
        assert len(calls) >= nth
    assert await asyncio.to_thread(everything, tmp_path) == []
    assert await ids(files) == set()
    assert await files.put(BLOB, stream(data)) == 2 * STEP + 3
    assert len(await content(files, BLOB)) == 2 * STEP + 3
    assert await asyncio.to_thread(everything, tmp_path) == [f"blobs/bcd/{BLOB}"]


async def test_the_fault_table_covers_every_call_of_a_put(files: FileBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {name for name, _, _ in STEPS}
    calls = {name: nth_call_fails(monkeypatch, name, 0, 0) for name in names}
    await files.put(BLOB, stream([bytes(STEP), bytes(STEP), b"end"]))
    assert {name: len(made) for name, made in calls.items()} == {
        name: max(nth for each, nth, _ in STEPS if each == name) for name in names
    }


async def test_no_fsync_is_repeated_after_it_failed(files: FileBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    await files.put(OTHER, stream([b"so that the directories are there"]))
    blob_id = UUID(int=OTHER.int + (1 << 64))  # the same fan-out directory
    calls = nth_call_fails(monkeypatch, "fsync", 1, errno.EIO)
    with pytest.raises(StoreUnavailable):
        await files.put(blob_id, stream([b"letter"]))
    assert calls == [1]


async def test_a_failed_publication_takes_back_only_what_it_published(
    files: FileBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await files.put(BLOB, stream([b"letter"]))
    with monkeypatch.context() as patch:
        nth_call_fails(patch, "fsync", 2, errno.EIO)  # of the directory, after the file's
        with pytest.raises(StoreUnavailable):
            await files.put(BLOB, stream([b"letter"]))
    assert await content(files, BLOB) == b"letter"


async def test_a_put_of_the_same_bytes_is_not_undone_by_another_that_fails_to_publish(
    files: FileBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await files.put(UUID(int=BLOB.int + (1 << 64)), stream([b"so that the directories are there"]))
    in_fsync, go_on = threading.Event(), threading.Event()
    real = os.fsync
    calls = iter(range(1, 100))

    def failing(fd: int) -> None:
        if next(calls) == 2:  # of the directory, after the file's
            in_fsync.set()
            go_on.wait(30)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)

    monkeypatch.setattr(os, "fsync", failing)
    first = asyncio.create_task(files.put(BLOB, stream([b"letter"])))
    await asyncio.to_thread(in_fsync.wait, 30)
    second = asyncio.create_task(files.put(BLOB, stream([b"letter"])))
    await asyncio.wait([second], timeout=0.1)  # it has its chance to rely on what the first will take back
    go_on.set()
    with pytest.raises(StoreUnavailable):
        await first
    assert await second == 6
    assert await content(files, BLOB) == b"letter"


@pytest.mark.parametrize(("nth", "left"), [(1, set()), (2, {"blobs"}), (4, {"blobs", "blobs/tmp"})])
async def test_a_directory_whose_name_is_not_durable_is_taken_back(
    files: FileBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int, left: set[str]
) -> None:
    nth_call_fails(monkeypatch, "fsync", nth, errno.EIO)
    with pytest.raises(StoreUnavailable):
        await files.put(BLOB, stream([b"letter"]))
    found = await asyncio.to_thread(lambda: {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")})
    assert found == left


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT, errno.EACCES])
async def test_every_disk_error_is_store_unavailable_and_names_its_cause(
    files: FileBlobs, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    nth_call_fails(monkeypatch, "write", 1, code)
    with pytest.raises(StoreUnavailable, match=errno.errorcode[code]) as caught:
        await files.put(BLOB, stream([b"letter"]))
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(("name", "code"), [("unlink", errno.EROFS), ("fsync", errno.EIO)])
async def test_an_erasure_that_fails_can_be_repeated(
    files: FileBlobs, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    await files.put(BLOB, stream([b"letter"]))
    with monkeypatch.context() as patch:
        nth_call_fails(patch, name, 1, code)
        with pytest.raises(StoreUnavailable):
            await files.erase(BLOB)
    await files.erase(BLOB)
    assert await is_missing(files, BLOB)


async def test_an_erasure_that_died_before_its_fsync_is_made_durable_by_the_next(
    files: FileBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await files.put(BLOB, stream([b"letter"]))
    await asyncio.to_thread((tmp_path / "blobs" / "bcd" / str(BLOB)).unlink)
    calls = nth_call_fails(monkeypatch, "fsync", 0, 0)
    await files.erase(BLOB)
    assert calls == [1]


@pytest.mark.parametrize("name", ["open", "read", "fstat"])
async def test_a_blob_that_cannot_be_read_is_unavailable_not_missing(
    files: FileBlobs, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    await files.put(BLOB, stream([b"letter"]))
    nth_call_fails(monkeypatch, name, 1, errno.EIO)
    with pytest.raises(StoreUnavailable):
        await content(files, BLOB)


async def test_a_blob_whose_file_was_cut_is_unavailable_not_short(files: FileBlobs, tmp_path: Path) -> None:
    await files.put(BLOB, stream([bytes(2 * STEP)]))
    reader = files.open(BLOB)
    await anext(reader)
    path = tmp_path / "blobs" / "bcd" / str(BLOB)
    await asyncio.to_thread(os.truncate, path, STEP)
    with pytest.raises(StoreUnavailable, match="shorter"):
        await anext(reader)


async def test_a_root_that_is_not_mounted_is_unavailable_not_empty(files: FileBlobs) -> None:
    with pytest.raises(StoreUnavailable):
        await content(files, BLOB)
    with pytest.raises(StoreUnavailable):
        await files.erase(BLOB)


async def test_a_root_without_a_parent_is_not_made(tmp_path: Path) -> None:
    store = FileBlobs(tmp_path / "mispelt" / "blobs")
    with pytest.raises(StoreUnavailable):
        await store.put(BLOB, stream([b"letter"]))
    await store.close()
    assert await asyncio.to_thread(everything, tmp_path) == []


async def test_a_store_that_was_never_written_lists_nothing(files: FileBlobs) -> None:
    assert await ids(files) == set()
    assert await files.sweep_temporary(datetime.now(UTC)) == 0


async def test_directories_are_0700_and_files_0600(files: FileBlobs, tmp_path: Path) -> None:
    await files.put(BLOB, stream([b"letter"]))
    await files.put(OTHER, stream([bytes(3 * STEP)]))

    def modes() -> set[tuple[bool, int]]:
        root = tmp_path / "blobs"
        return {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in [root, *root.rglob("*")]}

    assert await asyncio.to_thread(modes) == {(True, 0o700), (False, 0o600)}


async def test_blobs_fan_out_by_the_last_digits_of_their_id(files: FileBlobs, tmp_path: Path) -> None:
    await files.put(BLOB, stream([b"one"]))
    await files.put(OTHER, stream([b"other"]))
    assert await asyncio.to_thread(everything, tmp_path / "blobs") == [f"bcd/{BLOB}", f"bce/{OTHER}"]


async def test_the_file_is_durable_before_its_name_and_the_name_before_put_returns(
    files: FileBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    root = tmp_path / "blobs"

    def told(name: str, show: Callable[..., str]) -> None:
        real = getattr(os, name)

        def telling(*args: Any, **kwargs: Any) -> Any:
            events.append(f"{name} {show(*args)}")
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, telling)

    def of_fd(fd: int) -> str:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        return "temporary" if path.parent.name == "tmp" else path.name

    told("fsync", of_fd)
    told("link", lambda _, final: Path(final).relative_to(root).parent.name)
    await files.put(BLOB, stream([b"letter"]))
    await files.put(UUID(int=BLOB.int + (1 << 64)), stream([b"letter"]))
    made = [tmp_path.name, "blobs", "temporary", "blobs"]
    assert events == [
        *(f"fsync {name}" for name in made),
        "link bcd",
        "fsync bcd",
        "fsync temporary",
        "link bcd",
        "fsync bcd",
    ]


async def test_a_small_blob_takes_one_hop_to_a_thread_each_way(
    files: FileBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    hops: list[str] = []
    real = asyncio.get_running_loop().run_in_executor

    def counting(executor: Any, step: Callable[..., Any], *args: Any) -> Any:
        hops.append(step.__name__)
        return real(executor, step, *args)

    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", counting)
    await files.put(BLOB, stream([bytes(1_000)] * 100))
    assert await content(files, BLOB) == bytes(100_000)
    assert hops == ["keep", "read"]


async def test_a_put_cancelled_while_it_publishes_is_kept_whole(
    files: FileBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_fsync, go_on = threading.Event(), threading.Event()
    real = os.fsync

    def slow(fd: int) -> None:
        in_fsync.set()
        go_on.wait(30)
        real(fd)

    monkeypatch.setattr(os, "fsync", slow)
    put = asyncio.create_task(files.put(BLOB, stream([b"letter"])))
    await asyncio.to_thread(in_fsync.wait, 30)
    put.cancel()
    await asyncio.sleep(0)
    put.cancel()
    assert not put.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await put
    assert await content(files, BLOB) == b"letter"
    assert await asyncio.to_thread(everything, tmp_path / "blobs") == [f"bcd/{BLOB}"]


@pytest.mark.parametrize("failure", [None, OSError(errno.ENOSPC, "full")])
async def test_a_put_cancelled_while_it_writes_keeps_nothing(
    files: FileBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: OSError | None
) -> None:
    in_write, go_on = threading.Event(), threading.Event()
    real = os.write

    def slow(fd: int, data: bytes) -> int:
        in_write.set()
        go_on.wait(30)
        if failure is not None:
            raise failure
        return real(fd, data)

    monkeypatch.setattr(os, "write", slow)
    put = asyncio.create_task(files.put(BLOB, stream([bytes(STEP), b"end"])))
    await asyncio.to_thread(in_write.wait, 30)
    put.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await put
    assert await is_missing(files, BLOB)
    assert await asyncio.to_thread(everything, tmp_path / "blobs") == []


async def test_temporary_files_of_a_crash_are_swept_by_age_and_nothing_else_is(
    files: FileBlobs, tmp_path: Path
) -> None:
    await files.put(BLOB, stream([b"letter"]))
    tmp = tmp_path / "blobs" / "tmp"
    now = datetime.now(UTC)

    def leave(name: str, age: timedelta) -> None:
        (tmp / name).write_bytes(b"half a let")
        at = (now - age).timestamp()
        os.utime(tmp / name, (at, at))

    old, young = f"{OTHER}.{'0' * 16}", f"{OTHER}.{'1' * 16}"
    for name, age in ((old, timedelta(hours=2)), (young, timedelta(minutes=1)), ("lost+found", timedelta(days=9))):
        await asyncio.to_thread(leave, name, age)
    assert await ids(files) == {BLOB}
    assert await files.sweep_temporary(now - timedelta(hours=1)) == 1
    left = await asyncio.to_thread(everything, tmp_path / "blobs")
    assert left == [f"bcd/{BLOB}", f"tmp/{young}", "tmp/lost+found"]


async def test_a_put_whose_temporary_file_was_swept_fails_whole(files: FileBlobs) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield bytes(STEP)
        assert await files.sweep_temporary(datetime.now(UTC) + timedelta(hours=1)) == 1
        yield b"end"

    with pytest.raises(StoreUnavailable):
        await files.put(BLOB, slow())
    assert await is_missing(files, BLOB)


async def test_foreign_names_in_the_directory_are_not_listed(files: FileBlobs, tmp_path: Path) -> None:
    await files.put(BLOB, stream([b"letter"]))
    root = tmp_path / "blobs"

    def litter() -> None:
        (root / "lost+found").mkdir()
        (root / "bcd" / "notes.txt").touch()
        (root / "bcd" / str(OTHER).upper()).touch()

    await asyncio.to_thread(litter)
    assert await ids(files) == {BLOB}


async def test_a_link_planted_under_a_blobs_name_is_not_followed(files: FileBlobs, tmp_path: Path) -> None:
    await files.put(UUID(int=BLOB.int + (1 << 64)), stream([b"letter"]))
    outside = tmp_path / "outside"

    def plant() -> None:
        outside.write_bytes(b"secret")
        (tmp_path / "blobs" / "bcd" / str(BLOB)).symlink_to(outside)

    await asyncio.to_thread(plant)
    with pytest.raises(StoreUnavailable, match="ELOOP"):
        await content(files, BLOB)
    with pytest.raises(StoreUnavailable, match="ELOOP"):
        await files.put(BLOB, stream([b"letter"]))
    assert await asyncio.to_thread(outside.read_bytes) == b"secret"


async def test_blobs_survive_the_store_being_opened_anew(files: FileBlobs, tmp_path: Path) -> None:
    await files.put(BLOB, stream([b"letter"]))
    await files.close()
    again = FileBlobs(tmp_path / "blobs")
    assert await content(again, BLOB) == b"letter"
    assert await again.put(OTHER, stream([b"another"])) == 7
    await again.close()
