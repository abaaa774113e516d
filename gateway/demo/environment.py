"""
A gateway with simulated providers in a folder of its own: certificates, configuration, processes.

The processes are real and separate, so that one can be killed while the others go on.
"""

import asyncio
import importlib.util
import os
import random
import shutil
import signal
import socket
import sys
import tomllib
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import tomli_w

from gateway.errors import GatewayError

ROOT: Final = Path(__file__).parents[2]
_MARK: Final = "made-by-gateway-demo"
_READY_S: Final = 60.0
_STOP_S: Final = 30.0
_POLL_S: Final = 0.05
_PORTS: Final = range(20_000, 32_768)


class DemoFailed(GatewayError):
    """The demonstration cannot go on; the text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where everything listens."""

    sender_api: str
    portal: str
    ops: str
    ebox: str
    print_house: str


class Environment:
    """
    Sets up and runs everything in `state`. Use as an asynchronous context manager.

    A folder that an earlier demonstration made is emptied; any other that is not empty is refused.
    """

    def __init__(self, state: Path) -> None:
        self.state = state.absolute()
        self.certs = self.state / "certs"
        self.config_file = self.state / "config" / "gateway.toml"
        self._stack = AsyncExitStack()
        self._gateway: asyncio.subprocess.Process | None = None
        self.addresses: Addresses

    async def __aenter__(self) -> Self:
        """Make certificates and configuration, and start the simulators and the gateway."""
        try:
            await asyncio.to_thread(self._prepare)
            ports = free_ports(5)
            self.addresses = Addresses(
                sender_api=f"https://localhost:{ports[0]}",
                portal=f"http://localhost:{ports[1]}",
                ops=f"http://127.0.0.1:{ports[2]}",
                ebox=f"http://127.0.0.1:{ports[3]}",
                print_house=f"http://127.0.0.1:{ports[4]}",
            )
            await asyncio.to_thread(self._write_config, ports)
            await self._start_simulators(ports[3], ports[4])
            self._stack.push_async_callback(self.stop_gateway)  # first, so that a start that is broken off ends too
            await self.start_gateway()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop every process that was started here."""
        await self._stack.aclose()

    # ── The gateway's process ──

    @property
    def gateway_pid(self) -> int | None:
        """The id of the gateway's process, None while it does not run."""
        return self._gateway.pid if self._gateway is not None else None

    async def start_gateway(self) -> None:
        """
        Start the gateway and wait until it is ready.

        Raises:
            DemoFailed: it does not become ready; the text quotes the end of its log.
        """
        log = self.state / "gateway.log"
        self._gateway = await self._spawn(["-m", "gateway", "serve", "--config", str(self.config_file)], log)
        await self._wait_until_ready(self._gateway, f"{self.addresses.ops}/health/ready", log)

    async def stop_gateway(self) -> None:
        """Ask the gateway to finish what it does and end."""
        if self._gateway is not None:
            await _end(self._gateway)
            self._gateway = None

    async def kill_gateway(self) -> None:
        """End the gateway as a power cut would (SIGKILL)."""
        if self._gateway is not None:
            self._gateway.kill()
            await self._gateway.wait()
            self._gateway = None

    # ── Preparation ──

    def _prepare(self) -> None:
        if not (ROOT / "config").is_dir() or not (ROOT / "certs-dev" / "make.py").is_file():
            raise DemoFailed("the demonstration needs the project's source tree, with config/ and certs-dev/")
        mark = self.state / _MARK
        if self.state.is_dir() and any(self.state.iterdir()):
            if not mark.is_file():
                raise DemoFailed(f"{self.state} is not empty and was not made by a demonstration; name another --state")
            shutil.rmtree(self.state)
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark.touch()
        make = _certificate_maker()
        make(self.certs, datetime.now(UTC))

    def _write_config(self, ports: list[int]) -> None:
        source = ROOT / "config"
        folder = self.config_file.parent
        shutil.copytree(source, folder)
        config: dict[str, Any] = tomllib.loads((source / "gateway.dev.toml").read_text())
        config["gateway"]["state"] = str(self.state / "data")
        config["intake"] |= {"bind": f"127.0.0.1:{ports[0]}", "public_url": self.addresses.sender_api}
        config["portal"] |= {"bind": f"127.0.0.1:{ports[1]}", "public_url": self.addresses.portal}
        config["ops"]["bind"] = f"127.0.0.1:{ports[2]}"
        config["admin"] = {"socket": str(self.state / "admin.sock")}
        for table, key, file in (
            (config["intake"], "certificate", "server.pem"),
            (config["intake"], "key_file", "server.key"),
            (config["receipts"], "certificate", "receipts.pem"),
            (config["receipts"], "key_file", "receipts.key"),
            (config["client_cas"][0], "file", "clients-ca.pem"),
            (config["client_cas"][0], "crl_file", "clients.crl.pem"),
            (config["providers"]["bosa"], "key_file", "ebox-client.key"),
            (config["providers"]["house-a"], "api_key_file", "print-api-key"),
        ):
            table[key] = str(self.certs / file)
        for key in ("base_url", "token_url", "federation_url", "partition_url"):
            config["providers"]["bosa"][key] = _moved(config["providers"]["bosa"][key], self.addresses.ebox)
        config["providers"]["house-a"]["base_url"] = self.addresses.print_house
        config["polling"] |= {"print_s": 1.0, "read_status_s": [2.0]}
        self.config_file.write_text(tomli_w.dumps(config))

    async def _start_simulators(self, ebox_port: int, print_port: int) -> None:
        await self._run_simulators(ebox_port, print_port, "--keep-bytes")

    async def _run_simulators(self, ebox_port: int, print_port: int, *options: str) -> asyncio.subprocess.Process:
        arguments = [
            "-m", "gateway.simulators", *options,
            "--ebox", f"127.0.0.1:{ebox_port}",
            "--print", f"127.0.0.1:{print_port}",
            "--ebox-client-key", str(self.certs / "ebox-client.pem"),
            "--print-api-key-file", str(self.certs / "print-api-key"),
        ]  # fmt: skip
        log = self.state / "simulators.log"
        process = await self._spawn(arguments, log)
        self._stack.push_async_callback(_end, process)
        await self._wait_until_ready(process, f"{self.addresses.print_house}/_simulator/records", log)
        return process

    async def _spawn(self, arguments: list[str], log: Path) -> asyncio.subprocess.Process:
        with log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    async def _wait_until_ready(self, process: asyncio.subprocess.Process, url: str, log: Path) -> None:
        try:
            async with asyncio.timeout(_READY_S), aiohttp.ClientSession() as session:
                while process.returncode is None:
                    try:
                        async with session.get(url) as response:
                            if response.ok:
                                return
                    except aiohttp.ClientConnectionError:
                        pass
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            await _end(process)
        raise DemoFailed(f"a process did not become ready; the end of {log}:\n{_end_of(log)}")


def free_ports(count: int) -> list[int]:
    """
    Return ports of 127.0.0.1 that are free now.

    They lie below those that systems give to connections by themselves: a gateway that is started again finds its own.
    """
    found: list[int] = []
    with ExitStack() as stack:
        for port in random.sample(_PORTS, len(_PORTS)):
            try:
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
            if len(found) == count:
                return found
    raise DemoFailed("no ports of this machine are free")


def _certificate_maker() -> Any:
    spec = importlib.util.spec_from_file_location("certs_dev_make", ROOT / "certs-dev" / "make.py")
    if spec is None or spec.loader is None:
        raise DemoFailed("certs-dev/make.py cannot be read")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.make


def _moved(url: str, base: str) -> str:
    return base + "/" + url.split("/", 3)[3]


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _end_of(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-15:]
    return "\n".join(f"  {line}" for line in lines) or "  (nothing)"
