"""A gateway whose clock leaps, whose disk fills up, whose ledger breaks."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.simulators.__main__ import load_public_key
from gateway.simulators.ebox import EboxSimulator
from gateway.simulators.ebox_settings import DEMO_CLIENT_ID, DEMO_ORGANISATION
from gateway.simulators.print_house import PrintHouseSimulator
from gateway.simulators.serve import Simulators
from gateway.simulators.tokens import Client
from tests.plugins.failing import (
    Breakable,
    BreakablePostgres,
    BreakableSqlite,
    Disk,
    FaultyFiles,
    Machine,
    MountedDisk,
    PretendedDisk,
    mount,
)

if TYPE_CHECKING:
    from tests.plugins.house import House, MakeHouse


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
async def clocked_house(make_house: "MakeHouse", machine: Machine, certs: Path) -> AsyncIterator["House"]:
    """A gateway on the clocks of `machine`, and providers that have its time."""

    def make() -> Simulators:
        client = Client(
            client_id=DEMO_CLIENT_ID,
            public_key=load_public_key(certs / "ebox-client.pem"),
            organisation=DEMO_ORGANISATION,
        )
        return Simulators(
            ebox=EboxSimulator(clients=[client], clock=machine.wall),
            print_house=PrintHouseSimulator(api_key=(certs / "print-api-key").read_text().strip(), clock=machine.wall),
        )

    async with await asyncio.to_thread(make) as simulators:
        yield await make_house(simulators=simulators, clock=machine.steady())


@pytest.fixture
def faulty_files() -> Iterator[FaultyFiles]:
    """Every SQLite file that is opened from now on lies on a disk that can fail."""
    files = FaultyFiles()
    yield files
    files.faults.clear()
    files.answering.set()
    files.unregister()


@pytest.fixture(params=["sqlite", "postgres"])
def each_ledger(request: pytest.FixtureRequest) -> Breakable:
    """Each kind of ledger."""
    if request.param == "sqlite":
        return BreakableSqlite(request.getfixturevalue("faulty_files"))
    return BreakablePostgres(request.getfixturevalue("postgres_database"))


@pytest.fixture
async def breakable(each_ledger: Breakable) -> AsyncIterator[Breakable]:
    """Each kind of ledger, in a form that can be broken; whole again at the end."""
    yield each_ledger
    await each_ledger.mend()


@pytest.fixture(params=["mounted", "pretended"])
def disk(
    request: pytest.FixtureRequest, tmp_path: Path, faulty_files: FaultyFiles, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Disk]:
    """A small disk; where nothing may be mounted, both are pretended."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "mounted":
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            mount("-t", "tmpfs", "-o", "size=16m,mode=700", "gateway-test", str(folder))
            try:
                yield MountedDisk(folder)
            finally:
                subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True, timeout=30)
            return
    yield PretendedDisk(folder, faulty_files, monkeypatch)
