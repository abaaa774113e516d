"""
One gateway process: the real gateway, in faster time, with points around it and perhaps without one of its safeguards.

It is forked from a process that has imported everything and has neither threads nor a loop. It speaks to the harness
through a socket, a line for each event, and the end of that socket is its death.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc.jwk import RSAKey

import gateway.accept.taking
import gateway.app
import gateway.deliver.opening
import gateway.house
import gateway.preflight
from gateway.adapters.limits import LimitedAdapter
from gateway.config import load
from gateway.config.providers import EboxProvider
from gateway.covers.lettering import BOLD, PLAIN, face
from gateway.dispatch.sweeper import Sweeper, SweepSettings
from gateway.stores.files import FileBlobs
from gateway.telemetry import set_up_logging
from tests.crash import safeguards
from tests.crash.call_points import CallPoints
from tests.crash.file_points import FilePoints, carrying_label
from tests.crash.forgetting import ForgetfulDisk
from tests.crash.ledger_points import LedgerPoints
from tests.crash.ledgers import kind_of, open_in_run
from tests.crash.points import LABEL, Wire, read_plan, stand_in
from tests.crash.postgres_points import PostgresPoints
from tests.crash.races import Races
from tests.crash.speeding import FastLoop, SharedClock, monotonic
from tests.crash.sqlite_points import SqlitePoints

SWEEPS: Final = SweepSettings(every_s=2.0, hourly=timedelta(seconds=4))
INSIDE: Final[dict[str, Callable[[Wire, ForgetfulDisk], SqlitePoints | PostgresPoints]]] = {
    "sqlite": SqlitePoints,
    "postgres": PostgresPoints,
}
"""The points inside the commits of each kind of ledger."""


def foresee(order: dict[str, Any]) -> None:
    """
    Do here, once, what each gateway forked from here would do at its start: check the keys that it reads, load fonts.

    Checking RSA keys alone was a sixth of a campaign's processor time.
    """
    read_key, import_key = cache(load_pem_private_key), cache(RSAKey.import_key)
    stand_in(gateway.preflight, "load_pem_private_key", read_key)
    stand_in(RSAKey, "import_key", import_key)
    for provider in load(Path(order["config"])).providers.values():
        if isinstance(provider, EboxProvider):
            content = provider.key_file.read_bytes()
            read_key(content, password=None)
            import_key(content)
    for name in (PLAIN, BOLD):
        face(name)


def live(order: dict[str, Any], line: socket.socket) -> None:
    """Run a gateway in this process until SIGTERM, or until the plan ends it."""
    _become_a_process(Path(order["log"]))
    speaking = threading.Lock()

    def tell(text: str) -> None:
        with speaking:
            line.sendall(text.encode() + b"\n")

    config = load(Path(order["config"]))
    set_up_logging()
    root = config.gateway.state
    disk = ForgetfulDisk(Path(order["attic"]))
    wire = Wire(read_plan(order["plan"]), tell=tell, cut=disk.cut)
    clock = SharedClock(Path(order["clock"]))

    async def serve() -> None:
        races = Races(wire, Path(unquote(urlsplit(config.stores.blobs).path)), tell, clock)
        _instrument(wire, races)
        CallPoints(wire, races).put_up()
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
        async with gateway.app.running(config, clock=clock):
            tell("ready")
            await told.wait()
        tell("stopped")

    FilePoints(wire, disk, root).put_up()
    ledger = kind_of(config.stores.ledger)
    INSIDE[ledger](wire, disk).put_up()
    for name in order["without"]:
        safeguards.SAFEGUARDS[name].removals[ledger].take_away()
    try:
        with asyncio.Runner(loop_factory=FastLoop) as runner:
            runner.run(serve())
    except Exception as error:
        tell(f"died\t{type(error).__name__}: {error}")
        logging.getLogger(__name__).exception("died")
        os._exit(1)


def _become_a_process(log: Path) -> None:
    """Undo what the nursery set up for itself, and write to a log of one's own."""
    for number in (signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is a text stream


def _instrument(wire: Wire, races: Races) -> None:
    """Put the ledger's points up, say which letter each task is about, and make the rounds of the sweeper short."""

    async def opened(*args: Any, **named: Any) -> LedgerPoints:
        return LedgerPoints(await open_in_run(*args, **named), wire, races)

    stand_in(gateway.house, "open_ledger", opened)
    stand_in(gateway.app, "SweepSettings", lambda: SWEEPS)
    defaults = LimitedAdapter.__init__.__kwdefaults__ or {}
    defaults["monotonic_s"] = monotonic
    in_thread = FileBlobs._in_thread

    async def with_label(blobs: FileBlobs, step: Callable[..., Any], *args: object) -> Any:
        return await in_thread(blobs, carrying_label(step), *args)

    stand_in(FileBlobs, "_in_thread", with_label)
    _label(gateway.accept.taking, "spool", lambda order: f"{order.signed.message.reference}:in")
    for verb in ("run", "erase_due", "remove_orphans"):
        _label_method(Sweeper, verb, "sweeper")
    open_letter = gateway.deliver.opening.open_letter

    async def opened_letter(*args: Any) -> Any:
        letter = await open_letter(*args)
        LABEL.set(f"{letter.record.reference}:out")
        return letter

    stand_in(gateway.deliver, "open_letter", opened_letter)


def _label(module: Any, name: str, label: Callable[..., str]) -> None:
    real = getattr(module, name)

    async def labelled(first: Any, *rest: Any) -> Any:
        LABEL.set(label(first))
        return await real(first, *rest)

    stand_in(module, name, labelled)


def _label_method(owner: type, name: str, label: str) -> None:
    real: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def labelled(self: Any, *args: Any) -> Any:
        LABEL.set(label)
        return await real(self, *args)

    stand_in(owner, name, labelled)
