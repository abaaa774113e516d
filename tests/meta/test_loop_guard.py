"""Shows that the guard of tests/plugins/loop_guard.py catches what it is there for, and leaves the rest alone."""

import asyncio
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import FunctionType

import apsw
import pytest
from blockbuster import BlockingError

import gateway


def sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


BLOCKING: dict[str, Callable[[Path], object]] = {
    "sleep": lambda _: time.sleep(0),
    "file read": lambda path: path.read_bytes(),
    "file write": lambda path: path.write_bytes(b"x"),
    "rename": lambda path: path.rename(path),
    "open": lambda path: os.close(os.open(path, os.O_RDONLY)),
    "fsync": sync,
    "name look-up": lambda _: socket.getaddrinfo("127.0.0.1", 0),
    "SQLite": lambda _: apsw.Connection(":memory:").execute("SELECT 1"),
    "SQLite cursor": lambda _: apsw.Connection(":memory:").cursor().execute("SELECT 1"),
}
every_blocking_call = pytest.mark.parametrize("call", BLOCKING.values(), ids=BLOCKING)


def as_gateway_code(function: Callable[[Path], object]) -> Callable[[Path], object]:
    """Return `function` as if its source stood in a module of the gateway."""
    assert isinstance(function, FunctionType)
    filename = str(Path(gateway.__path__[0]) / "imagined.py")
    return FunctionType(function.__code__.replace(co_filename=filename), function.__globals__)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


@every_blocking_call
async def test_gateway_code_may_not_block_the_event_loop(call: Callable[[Path], object], file: Path) -> None:
    with pytest.raises(BlockingError):
        as_gateway_code(call)(file)


@every_blocking_call
async def test_gateway_code_may_block_a_thread(call: Callable[[Path], object], file: Path) -> None:
    await asyncio.to_thread(as_gateway_code(call), file)


@every_blocking_call
def test_gateway_code_may_block_where_no_loop_runs(call: Callable[[Path], object], file: Path) -> None:
    as_gateway_code(call)(file)


@every_blocking_call
async def test_a_test_may_block_its_own_loop(call: Callable[[Path], object], file: Path) -> None:
    call(file)
