"""
A list of blobs and keys that is larger than memory: a nameless SQLite file, which the system removes when it is closed.

It holds ids, sizes and times; keys themselves never come here. What is found at its owner's is taken out, so that what
is left at the end belongs to nobody.
"""

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import apsw

from gateway.errors import StoreUnavailable
from gateway.stores.blobs import BlobInfo
from gateway.stores.sqlite.rows import Row, blobs, from_ms, to_ms

_CACHE_KIB: Final = 65_536
_TABLES: Final = """
CREATE TABLE listed (id BLOB NOT NULL, size_bytes INTEGER NOT NULL, modified_at INTEGER NOT NULL) STRICT;
CREATE TABLE blob (
  id BLOB PRIMARY KEY, size_bytes INTEGER NOT NULL, modified_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE data_key (id BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE tombstone (id BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
"""
# Listed in no order, then sorted once: much faster than to look up the place of each among millions.
_SORT: Final = (
    "INSERT OR IGNORE INTO blob SELECT id, size_bytes, modified_at FROM listed ORDER BY id; DROP TABLE listed"
)
_TAKE_BLOBS: Final = "DELETE FROM blob WHERE id IN carray(?) RETURNING id, size_bytes"
_TAKE_KEYS: Final = "DELETE FROM data_key WHERE id IN carray(?)"
_BLOBS_LEFT: Final = """
SELECT id, size_bytes, modified_at, EXISTS (SELECT 1 FROM tombstone WHERE tombstone.id = blob.id)
FROM blob WHERE id > ? ORDER BY id LIMIT ?
"""
_KEYS_LEFT: Final = "SELECT id FROM data_key WHERE id > ? ORDER BY id LIMIT ?"


@dataclass(frozen=True, slots=True)
class Left:
    """A blob that no document owns; `is_forbidden`: a tombstone lies on it."""

    info: BlobInfo
    is_forbidden: bool


class Inventory:
    """Made, used and closed by one event loop; each call runs in the inventory's own thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inventory")
        self._connection: apsw.Connection | None = None

    async def add_blobs(self, infos: Collection[BlobInfo]) -> None:
        """Note blobs that are there."""
        rows = [(info.blob_id.bytes, info.size_bytes, to_ms(info.modified_at)) for info in infos]
        await self._many("INSERT INTO listed VALUES (?, ?, ?)", rows)

    async def sort_blobs(self) -> None:
        """End the listing of blobs; only then can any be taken out."""
        await self._rows(_SORT)

    async def add_keys(self, key_ids: Iterable[UUID]) -> None:
        """Note keys that can be opened, by their ids."""
        await self._many("INSERT OR IGNORE INTO data_key VALUES (?)", [(key_id.bytes,) for key_id in key_ids])

    async def add_tombstones(self, blob_ids: Iterable[UUID]) -> None:
        """Note blobs that are forbidden."""
        await self._many("INSERT OR IGNORE INTO tombstone VALUES (?)", [(blob_id.bytes,) for blob_id in blob_ids])

    async def take_blobs(self, blob_ids: Collection[UUID]) -> dict[UUID, int]:
        """Take out blobs that have an owner; return the size in bytes of those that are there."""
        if not blob_ids:
            return {}
        rows = await self._rows(_TAKE_BLOBS, (blobs([blob_id.bytes for blob_id in blob_ids]),))
        return {UUID(bytes=blob_id): size_bytes for blob_id, size_bytes in rows}

    async def take_keys(self, key_ids: Collection[UUID]) -> None:
        """Take out keys that have an owner."""
        if key_ids:
            await self._rows(_TAKE_KEYS, (blobs([key_id.bytes for key_id in key_ids]),))

    async def blobs_left(self, *, after: UUID | None, limit: int) -> list[Left]:
        """Return blobs that nobody took out, in order of their ids."""
        rows = await self._rows(_BLOBS_LEFT, (b"" if after is None else after.bytes, limit))
        return [
            Left(
                info=BlobInfo(blob_id=UUID(bytes=blob_id), size_bytes=size_bytes, modified_at=from_ms(modified_at)),
                is_forbidden=bool(is_forbidden),
            )
            for blob_id, size_bytes, modified_at, is_forbidden in rows
        ]

    async def keys_left(self, *, after: UUID | None, limit: int) -> list[UUID]:
        """Return keys that nobody took out, in order."""
        rows = await self._rows(_KEYS_LEFT, (b"" if after is None else after.bytes, limit))
        return [UUID(bytes=row[0]) for row in rows]

    async def close(self) -> None:
        """Remove the list."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        await asyncio.to_thread(self._thread.shutdown)

    async def _rows(self, statement: str, parameters: Any = ()) -> list[Row]:
        def run() -> list[Row]:
            with _translated():
                return self._opened().execute(statement, parameters).fetchall()

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    async def _many(self, statement: str, rows: Collection[Row]) -> None:
        def run() -> None:
            with _translated(), self._opened() as connection:
                connection.executemany(statement, rows)

        await asyncio.get_running_loop().run_in_executor(self._thread, run)

    def _opened(self) -> apsw.Connection:
        if self._connection is None:
            self._connection = apsw.Connection("")  # nameless: SQLite's own temporary file (sqlite.org/inmemorydb.html)
            for name, value in (("journal_mode", "OFF"), ("synchronous", "OFF"), ("cache_size", -_CACHE_KIB)):
                self._connection.pragma(name, value)
            self._connection.execute(_TABLES)
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        raise StoreUnavailable(
            f"the temporary list of blobs and keys failed ({type(error).__name__}): it needs about 100 bytes of "
            "disk for each document, in SQLITE_TMPDIR or /var/tmp"
        ) from error
