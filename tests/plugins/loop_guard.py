"""Pytest plugin: a blocking call that gateway code makes on a running event loop fails the test."""

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, BlockBusterFunction

import gateway

# Calls that wait for a disk or a name server and that BlockBuster does not know of itself.
ALSO_BLOCKING = (
    "apsw.Connection.execute",
    "apsw.Connection.executemany",
    "apsw.Cursor.execute",
    "apsw.Cursor.executemany",
    "os.fdatasync",
    "os.fsync",
    "os.open",
    "socket.getaddrinfo",
)


def make_guard() -> BlockBuster:
    """Return a guard, not yet active, that looks only at calls with gateway code among their callers."""
    guard = BlockBuster(scanned_modules=[gateway])
    for name in ALSO_BLOCKING:
        guard.functions[name] = BlockBusterFunction(None, name, scanned_modules=[gateway])
    return guard


@pytest.fixture(autouse=True)
def loop_guard() -> Iterator[None]:
    """Guard the test; `blockbuster.BlockingError` is raised where the blocking call is made."""
    guard = make_guard()
    guard.activate()
    yield
    guard.deactivate()
