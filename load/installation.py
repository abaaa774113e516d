"""
Gateways to be measured: one over SQLite or several over PostgreSQL, with simulated providers, each pinned to its core.

They have the limits and the polling of production; the demonstration's impatience is taken away, and one sender may do
as much as the machine can.
"""

import asyncio
import shutil
import subprocess
import sys
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final

import aiohttp
import tomli_w

from gateway.client import SenderProfile
from gateway.demo.environment import ROOT, Environment, free_ports
from load.generator import Target
from load.problems import CannotRun
from load.processes import Cores, pin

_IN_FLIGHT: Final = 400  # a sender may have half of them
_PER_S: Final = 100_000  # as much as can be configured
_BYTES: Final = 10_000_000_000
_WORKERS: Final = 64  # as many letters at a time as senders have connections: one core is shared by both
_WORKERS_OF_SEVERAL: Final = 24  # of each gateway over PostgreSQL: more than its connections gain nothing
_LISTENS_S: Final = 10.0
_POLL_S: Final = 0.02
_NONE: Final = 1_000_000_000  # beyond the number of any record


@dataclass(slots=True, kw_only=True)
class Member:
    """A process of the gateway; `started_in_s`: from its start until it was ready."""

    name: str
    config_file: Path
    sender_api: str
    ops: str
    process: asyncio.subprocess.Process | None = None
    started_in_s: float = 0.0

    @property
    def pid(self) -> int:
        """Its process id; it runs."""
        if self.process is None:
            raise CannotRun(f"gateway {self.name} does not run")
        return self.process.pid


class Installation(Environment):
    """
    Gateways, started one by one, and the providers. Use as an asynchronous context manager.

    `ledger`: a database's URI, or None for SQLite, which takes one gateway at a time.
    """

    def __init__(self, state: Path, certs: Path, sender: SenderProfile, cores: Cores, *, ledger: str | None) -> None:
        super().__init__(state)
        self.cores: Final = cores
        self.members: Final = dict[str, Member]()
        self.ledger: Final = ledger if ledger is not None else f"sqlite://{self.state / 'ledger.db'}"
        self._several = ledger is not None
        self._shared_certs = certs
        self._sender = sender

    async def start(
        self, name: str, *parts: str, cores: frozenset[int] | None = None, profile: Path | None = None
    ) -> Member:
        """
        Start a gateway that runs these parts, or all, on `cores` (the server's, unless others are named); with
        `profile` under the profiler, which leaves there what it saw of the event loop.

        Raises:
            DemoFailed: it does not become ready; the text quotes the end of its log.
        """
        if name not in self.members:
            self.members[name] = await asyncio.to_thread(self._new, name)
        member = self.members[name]
        log = self.state / f"{name}.log"
        only = [argument for part in parts for argument in ("--only", part)]
        began_s = monotonic()
        runner = ["-m"] if profile is None else ["-m", "load.under_profiler", str(profile)]
        served = ["gateway", "serve", "--config", str(member.config_file), *only]
        process = await self._spawn([*runner, *served], log)
        try:
            await self._wait_until_ready(process, f"{member.ops}/health/ready", log)
            if not parts or "intake" in parts:
                await _until_listening(int(member.sender_api.rpartition(":")[2]))
        except BaseException:
            await _end(process)
            raise
        member.process, member.started_in_s = process, monotonic() - began_s
        pin(process.pid, cores or self.cores.server)
        return member

    async def stop(self, name: str) -> None:
        """
        Ask a gateway to finish what it does, and wait until it has ended.

        Raises:
            CannotRun: it did not end in order, or has ended before.
        """
        process, self.members[name].process = self.members[name].process, None
        if process is not None:
            if process.returncode is None:
                process.terminate()
            code = await process.wait()
            if code:
                raise CannotRun(f"gateway {name} ended with {code}; see {self.state / name}.log")

    async def start_gateway(self) -> None:
        """Start none: each is started by its name."""

    async def stop_gateway(self) -> None:
        """Stop all."""
        await asyncio.gather(*(self.stop(name) for name in self.members))

    def target(self, name: str) -> Target:
        """Return how the generator reaches a gateway."""
        return Target(base_url=self.members[name].sender_api, tls=self._sender.tls)

    # ── The providers ──

    async def count_kept(self) -> int:
        """Return how many messages the providers took over."""
        return sum([(await self._control(base, "wait?timeout_s=0"))["kept"] for base in self._providers])

    async def kept(self) -> list[dict[str, Any]]:
        """Return what the providers took over, by their own records."""
        path = f"records?calls_after={_NONE}"
        return [each for base in self._providers for each in (await self._control(base, path))["kept"]]

    @property
    def _providers(self) -> tuple[str, str]:
        return self.addresses.ebox, self.addresses.print_house

    async def _control(self, base: str, path: str) -> Any:
        async with aiohttp.ClientSession() as session, session.get(f"{base}/_simulator/{path}") as response:
            response.raise_for_status()
            return await response.json()

    # ── After the run ──

    async def verify(self) -> str | None:
        """Run `gateway verify` over what the gateways left; return None when it is clean, else what it says."""
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "gateway", "verify", "--config", str(next(iter(self.members.values())).config_file)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        return None if done.returncode == 0 else (done.stdout + done.stderr).strip()

    # ── Preparation ──

    def _prepare(self) -> None:
        if self.state.exists():
            raise CannotRun(f"{self.state} is there already; each run has a folder of its own")
        self.state.mkdir(mode=0o700, parents=True)
        shutil.copytree(self._shared_certs, self.certs)

    def _write_config(self, ports: list[int]) -> None:
        super()._write_config(ports)
        config = tomllib.loads(self.config_file.read_text())
        config["stores"] = {
            "ledger": self.ledger,
            "blobs": f"file://{self.state / 'blobs'}",
            "keyring": f"local:{self.state / 'keyring.json'}",
        }
        config["limits"] = {
            "requests_in_flight": _IN_FLIGHT,
            "bytes_in_flight": _BYTES,
            "sender_requests_per_s": _PER_S,
            "sender_burst": _PER_S,
        }
        workers = _WORKERS_OF_SEVERAL if self._several else _WORKERS
        config["workers"] = {"count": workers}
        for provider in config["providers"].values():
            provider["concurrency"] = workers
        for impatient in ("polling", "retry"):
            del config[impatient]
        self.config_file.write_text(tomli_w.dumps(config))
        for file in (self.config_file.parent / "senders").glob("*.toml"):
            registration = tomllib.loads(file.read_text())
            registration.pop("quota", None)
            file.write_text(tomli_w.dumps(registration))

    def _new(self, name: str) -> Member:
        intake, portal, ops = free_ports(3)
        config = tomllib.loads(self.config_file.read_text())
        config["gateway"]["state"] = str(self.state / f"data-{name}")
        config["intake"]["bind"] = f"127.0.0.1:{intake}"
        config["portal"]["bind"] = f"127.0.0.1:{portal}"
        config["ops"]["bind"] = f"127.0.0.1:{ops}"
        config["admin"] = {"socket": str(self.state / f"{name}.sock")}
        file = self.config_file.parent / f"gateway-{name}.toml"
        file.write_text(tomli_w.dumps(config))
        return Member(
            name=name,
            config_file=file,
            sender_api=f"https://localhost:{intake}",
            ops=f"http://127.0.0.1:{ops}",
        )

    async def _start_simulators(self, ebox_port: int, print_port: int) -> None:
        # Without --keep-bytes: they would hold every document in memory.
        pin((await self._run_simulators(ebox_port, print_port)).pid, self.cores.others)


async def _until_listening(port: int) -> None:
    """Wait for the sender edge: readiness may be told a moment before it listens."""
    async with asyncio.timeout(_LISTENS_S):
        while True:
            with suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(_POLL_S)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        await process.wait()
