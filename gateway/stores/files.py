"""
`file:///…`: blobs as files in a directory on a local disk, fit for production on one machine.

    root/            made with mode 0700 when its parent exists
      tmp/           blobs being written: `<uuid>.<16 random hex>`; what a crash leaves goes with `sweep_temporary`
      000/ … fff/    by the last three hex digits of the id, because UUIDv7 begin with the time and end with chance
        <uuid>       one blob, mode 0600

Life of a blob, and what a crash leaves behind after each step:

1. create `tmp/…` (O_EXCL, O_NOFOLLOW), write, fsync it: a temporary file, which nobody reads
2. make the fan-out directory and fsync root, the first time it is met: an empty directory
3. link the temporary file to its final name; an existing name means the same bytes, or a conflict: a whole blob,
   which may or may not survive a power cut
4. unlink the temporary name, fsync the fan-out directory: the blob, durable

After a failed fsync the pages may be lost although a second fsync succeeds (Linux marks them clean), so it is never
tried again: the file is discarded and the caller gets `StoreUnavailable` and may put the blob anew from its source.

One process at a time owns a directory. Disk calls run in this store's own threads, a small document in a single hop.
"""

import asyncio
import contextlib
import errno
import os
import re
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID
from weakref import WeakValueDictionary

from gateway.errors import BlobConflict, BlobMissing, StoreUnavailable
from gateway.stores.blobs import BlobInfo

_STEP_BYTES: Final = 131_072  # held in memory of one blob being written or read
_THREADS: Final = 8  # enough for the file system to join their fsyncs in one journal commit
_FAN_OUT: Final = re.compile(r"[0-9a-f]{3}\Z")
_BLOB_NAME: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_TEMPORARY_NAME: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[0-9a-f]{16}\Z")

_T = TypeVar("_T")


class FileBlobs:
    """A `BlobStore` in the directory `root`; its promises stand in `stores/blobs.py`. Does no I/O until it is used."""

    def __init__(self, root: Path, *, threads: int = _THREADS) -> None:
        self._root = root
        self._temporary = root / "tmp"
        self._directories = _Directories()
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="blobs")
        self._locks: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    async def put(self, blob_id: UUID, chunks: AsyncIterator[bytes]) -> int:
        """See `BlobStore.put`."""
        draft = _Draft(self._directories, self._temporary, self._path(blob_id))
        parts: list[bytes] = []
        held_bytes = 0
        try:
            async for chunk in chunks:
                parts.append(chunk)
                held_bytes += len(chunk)
                if held_bytes >= _STEP_BYTES:
                    await self._in_thread(draft.append, parts)
                    parts, held_bytes = [], 0
            async with self._lock(blob_id):
                await self._in_thread(draft.keep, parts)
        finally:
            if draft.is_open:
                await self._in_thread(draft.discard)
        return draft.size_bytes

    async def open(self, blob_id: UUID) -> AsyncIterator[bytes]:
        """See `BlobStore.open`."""
        reader = _Reader(self._path(blob_id), self._root)
        try:
            while not reader.at_end:
                piece = await self._in_thread(reader.read)
                if piece:
                    yield piece
        finally:
            reader.close()

    async def list(self) -> AsyncIterator[BlobInfo]:
        """See `BlobStore.list`. Memory: the blobs of one fan-out directory, a 4096th of all."""
        for directory in await self._in_thread(_fan_outs, self._root):
            for info in await self._in_thread(_blobs_in, directory):
                yield info

    async def erase(self, blob_id: UUID) -> None:
        """See `BlobStore.erase`."""
        async with self._lock(blob_id):
            await self._in_thread(_erase, self._path(blob_id), self._root)

    async def sweep_temporary(self, older_than: datetime) -> int:
        """
        Remove temporary files last written to before `older_than` (aware), left by a crash; return how many.

        Should a slow `put` lose its file to this, that `put` fails whole with `StoreUnavailable`.

        Raises:
            StoreUnavailable: the directory cannot be read or written.
        """
        return await self._in_thread(_sweep, self._temporary, older_than)

    async def close(self) -> None:
        """See `BlobStore.close`."""
        await asyncio.to_thread(self._threads.shutdown)

    def _path(self, blob_id: UUID) -> Path:
        name = str(blob_id)
        return self._root / name[-3:] / name

    def _lock(self, blob_id: UUID) -> asyncio.Lock:
        # Publishing and erasing of one id take turns: a failed publisher takes back only what nobody else relies on.
        lock = self._locks.get(blob_id)
        if lock is None:
            lock = self._locks[blob_id] = asyncio.Lock()
        return lock

    async def _in_thread(self, step: Callable[..., _T], *args: object) -> _T:
        """Run a step in a thread. A cancelled caller still waits for its end, so no two steps touch one file."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, step, *args)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                with contextlib.suppress(asyncio.CancelledError):  # raised again below, once the thread is through
                    await asyncio.wait([future])
            raise


class _Directories:
    """Makes directories so that they survive a power cut, and remembers which ones it is sure of."""

    def __init__(self) -> None:
        self._durable: set[Path] = set()
        self._lock = threading.Lock()

    def ensure_root(self, root: Path) -> None:
        """Make `root` (its parent exists) durably unless it is there; an existing one is the operator's work."""
        with self._lock:
            if root not in self._durable:
                if self._make(root):
                    self._sync_name(root, made=True)
                self._durable.add(root)

    def ensure(self, path: Path) -> None:
        """Make `path` (its parent exists) unless it is there, and fsync the parent once, whoever made it."""
        if path in self._durable:
            return
        with self._lock:
            if path not in self._durable:
                self._sync_name(path, made=self._make(path))
                self._durable.add(path)

    @staticmethod
    def _make(path: Path) -> bool:
        try:
            path.mkdir(0o700)
        except FileExistsError:
            return False
        return True

    @staticmethod
    def _sync_name(path: Path, *, made: bool) -> None:
        try:
            sync_directory(path.parent)
        except OSError:
            if made:
                path.rmdir()  # empty: nobody uses a directory before it is in the set
            raise


class _Draft:
    """One blob being written; every method runs in a thread, one at a time. A failed step discards the file."""

    def __init__(self, directories: _Directories, temporary: Path, final: Path) -> None:
        self._directories = directories
        self._path = temporary / f"{final.name}.{secrets.token_hex(8)}"
        self._final = final
        self._fd: int | None = None
        self.is_open = False
        self.size_bytes = 0

    def append(self, parts: Sequence[bytes]) -> None:
        """Write `parts` at the end, creating the file first when there is none."""
        with self._discarded_on_failure():
            self._write(parts)

    def keep(self, parts: Sequence[bytes]) -> None:
        """Write the last `parts`, then publish the blob under its final name, durably."""
        with self._discarded_on_failure():
            fd = self._write(parts)
            os.fsync(fd)
            self._directories.ensure(self._final.parent)
            published = self._publish()
            self.discard()
            try:
                sync_directory(self._final.parent)
            except OSError:
                if published:
                    self._final.unlink()
                raise

    def discard(self) -> None:
        """Close the file and remove its temporary name."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
        if self.is_open:
            self.is_open = False
            # Left behind at worst, for sweep_temporary; what happened to the blob is known without it.
            with contextlib.suppress(OSError):
                self._path.unlink()

    @contextlib.contextmanager
    def _discarded_on_failure(self) -> Iterator[None]:
        try:
            with _translated("writing a blob"):
                yield
        except BaseException:
            self.discard()
            raise

    def _write(self, parts: Sequence[bytes]) -> int:
        if self._fd is None:
            self._directories.ensure_root(self._path.parent.parent)
            self._directories.ensure(self._path.parent)
            self._fd = create_file(self._path)
            self.is_open = True
        for part in parts:  # joined, they would be in memory twice, and each thread keeps what it once needed
            write_all(self._fd, part)
            self.size_bytes += len(part)
        return self._fd

    def _publish(self) -> bool:
        """Link the final name; False when the same bytes live there already."""
        try:
            os.link(self._path, self._final)
        except FileExistsError:
            if not _same_bytes(self._path, self._final):
                raise BlobConflict(f"other bytes already live under blob {self._final.name}") from None
            return False
        return True


class _Reader:
    """One blob being read; `read` runs in a thread."""

    def __init__(self, path: Path, root: Path) -> None:
        self._path = path
        self._root = root
        self._fd: int | None = None
        self._left_bytes = -1  # not known before the file is open

    @property
    def at_end(self) -> bool:
        """Whether the whole blob was read, which is known without one more step."""
        return self._left_bytes == 0

    def read(self) -> bytes:
        """Return the next piece, b"" only of an empty blob; opens the file the first time."""
        with _translated("reading a blob"):
            if self._fd is None:
                self._fd = self._open()
                self._left_bytes = os.fstat(self._fd).st_size
            piece = os.read(self._fd, min(_STEP_BYTES, self._left_bytes))
            if self._left_bytes and not piece:
                raise StoreUnavailable(f"the file of blob {self._path.name} became shorter")
            self._left_bytes -= len(piece)
            return piece

    def close(self) -> None:
        """Close the file, which does not block: nothing was written to it."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _open(self) -> int:
        try:
            return _open_to_read(self._path)
        except FileNotFoundError:
            self._root.stat()  # a missing root is a disk that is not mounted, not a missing blob
            raise BlobMissing(f"no blob {self._path.name}") from None


def create_file(path: Path) -> int:
    """Create a file of mode 0600 that nobody else created or can redirect, and return its descriptor for writing."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _open_to_read(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`, however small the steps the system takes."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. After an OSError they are not, and a second call proves nothing."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _erase(path: Path, root: Path) -> None:
    with _translated("erasing a blob"):
        path.unlink(missing_ok=True)
        try:
            # Also when the name was gone already: an earlier erase may have died before this line.
            sync_directory(path.parent)
        except FileNotFoundError:
            root.stat()  # no fan-out directory: such a blob never was; no root: the disk is not mounted


def _fan_outs(root: Path) -> list[Path]:
    with _translated("listing blobs"):
        if not root.exists():
            return []  # nothing was ever put
        with os.scandir(root) as entries:
            return [Path(entry.path) for entry in entries if _FAN_OUT.match(entry.name)]


def _blobs_in(directory: Path) -> list[BlobInfo]:
    found = []
    with _translated("listing blobs"), os.scandir(directory) as entries:
        for entry in entries:
            if not _BLOB_NAME.match(entry.name):
                continue
            with contextlib.suppress(FileNotFoundError):  # erased while we look
                state = entry.stat(follow_symlinks=False)
                found.append(
                    BlobInfo(
                        blob_id=UUID(entry.name),
                        size_bytes=state.st_size,
                        modified_at=datetime.fromtimestamp(state.st_mtime, UTC),
                    )
                )
    return found


def _sweep(temporary: Path, older_than: datetime) -> int:
    swept = 0
    with _translated("sweeping temporary files"):
        if not temporary.is_dir():
            return 0
        with os.scandir(temporary) as entries:
            for entry in entries:
                if not _TEMPORARY_NAME.match(entry.name):
                    continue
                with contextlib.suppress(FileNotFoundError):  # its put ended while we look
                    if entry.stat(follow_symlinks=False).st_mtime < older_than.timestamp():
                        Path(entry.path).unlink()
                        swept += 1
    return swept


def _same_bytes(one: Path, other: Path) -> bool:
    # Digests would say the same for more work; sealed bytes are no secret that timing could betray.
    with os.fdopen(_open_to_read(one), "rb") as left, os.fdopen(_open_to_read(other), "rb") as right:
        while True:
            piece = left.read(_STEP_BYTES)
            if piece != right.read(_STEP_BYTES):
                return False
            if not piece:
                return True


@contextlib.contextmanager
def _translated(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        reason = errno.errorcode.get(exc.errno or 0, "unknown error")
        raise StoreUnavailable(f"{doing} failed: {reason}") from exc
