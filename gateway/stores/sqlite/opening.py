"""How a SQLite ledger is opened: one process, a file of its own, the settings on which its promises rest."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import apsw

from gateway.errors import StoreInUse, StoreUnavailable
from gateway.stores.files import create_file, sync_directory
from gateway.stores.sqlite.claiming import give_back_all
from gateway.stores.sqlite.migrating import migrate

_WAIT_MS: Final = 5_000  # a checkpoint waits this long for readers of old snapshots
_CHECKPOINT_PAGES: Final = 4_000  # 16 MB of log between passive checkpoints
_WRITER_CACHE_KIB: Final = 32_768
_READER_CACHE_KIB: Final = 8_192


def open_exclusively(path: Path, at: datetime) -> tuple[apsw.Connection, int]:
    """
    Return a connection to write with, to the ledger at `path`, and the descriptor whose closing gives the ledger free.

    Makes the file (0600) when it is missing, in a directory (0700) that is made when its parent exists, applies the
    migrations it lacks, and gives back the leases that are left of the process before.

    Raises:
        StoreInUse: another process has it open.
        StoreUnavailable: it cannot be read or written, is no ledger, or was written by a newer version.
    """
    with contextlib.ExitStack() as undo, _translated(path):
        if not path.parent.is_dir():
            path.parent.mkdir(0o700)
            sync_directory(path.parent.parent)
        lock_fd = _lock(path)
        undo.callback(os.close, lock_fd)
        with contextlib.suppress(FileExistsError):
            os.close(create_file(path))
            sync_directory(path.parent)
        connection = connect_writer(path)
        undo.callback(connection.close)
        migrate(connection, at)
        give_back_all(connection)
        undo.pop_all()
    return connection, lock_fd


def connect_writer(path: Path) -> apsw.Connection:
    """Return a connection whose commits are durable on return and whose deletions leave no trace in the pages."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(_WAIT_MS)
    for name, value in (
        ("journal_mode", "WAL"),
        ("synchronous", "FULL"),
        ("foreign_keys", "ON"),
        ("secure_delete", "ON"),
        ("recursive_triggers", "ON"),  # or REPLACE would delete a row without its DELETE trigger
        ("temp_store", "MEMORY"),  # or undo records, with keys in them, would go to temporary files
        ("cache_size", -_WRITER_CACHE_KIB),
    ):
        connection.pragma(name, value)
    connection.wal_autocheckpoint(_CHECKPOINT_PAGES)
    return connection


def connect_reader(path: Path) -> apsw.Connection:
    """Return a connection that cannot write."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(_WAIT_MS)
    connection.pragma("temp_store", "MEMORY")
    connection.pragma("cache_size", -_READER_CACHE_KIB)
    return connection


def _lock(path: Path) -> int:
    name = path.with_name(f"{path.name}.lock")
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise StoreInUse(
            f"another process has the ledger {path} open; stop it first, or, to run several processes, "
            'keep the ledger in PostgreSQL (stores.ledger = "postgresql://…")'
        ) from None
    except OSError:
        os.close(fd)
        raise
    return fd


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise StoreUnavailable(f"the ledger {path} cannot be opened: {exc.strerror}") from exc
    except apsw.Error as exc:
        raise StoreUnavailable(f"the ledger {path} cannot be opened: {exc}") from exc
