"""What `gateway serve` tells the service manager that started it (sd_notify(3))."""

import asyncio
import json
import os
import secrets
import signal
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway import cli

WAIT_S = 60.0


async def heard(manager: socket.socket) -> bytes:
    """Return the next thing that the gateway says."""
    async with asyncio.timeout(WAIT_S):
        return await asyncio.get_running_loop().sock_recv(manager, 256)


def listening(address: str) -> socket.socket:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(address)
    manager.setblocking(False)
    return manager


async def test_serve_says_that_it_is_ready_when_it_listens_and_that_it_stops_when_told(
    make_house: Any, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        config = (await make_house(own_stack=stack)).config
    with listening(str(tmp_path / "notify")) as manager:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "serve", "--config", str(config.file),
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert await heard(manager) == b"READY=1"
            assert process.stdout is not None
            ready = json.loads(await process.stdout.readline())
            _, writer = await asyncio.open_connection("127.0.0.1", ready["intake_port"])
            writer.close()
            process.send_signal(signal.SIGTERM)
            assert await heard(manager) == b"STOPPING=1"
            async with asyncio.timeout(WAIT_S):
                await process.communicate()
            assert process.returncode == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_a_name_outside_the_file_system_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"gateway-test-{secrets.token_hex(8)}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    with listening(f"\0{name}") as manager:
        await cli._tell_service_manager("READY=1")
        assert await heard(manager) == b"READY=1"


async def test_a_service_manager_that_has_gone_is_noted_and_changes_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    await cli._tell_service_manager("READY=1")
    assert [record.getMessage() for record in caplog.records] == ["service manager not told"]


async def test_without_a_service_manager_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    await cli._tell_service_manager("READY=1")
    assert caplog.records == []
