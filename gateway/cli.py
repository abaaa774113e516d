"""
The command `gateway`.

Exit codes: 0 done; 1 refused, or what was asked does not hold; 2 wrong use; 3 the other side was not reached.
"""

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import gateway.admin.commands as admin_commands
import gateway.client.commands as client_commands
from gateway.allocator import give_back_large_buffers
from gateway.app import Part, running
from gateway.clock import utc_now
from gateway.config import Config, load
from gateway.config.reader import ConfigInvalid, describe
from gateway.demo import story
from gateway.errors import GatewayError
from gateway.house import load_client_cas, load_registration_of
from gateway.integrity import command as verifying
from gateway.preflight import preflight
from gateway.stores.open import create_keyring, migrate_ledger
from gateway.telemetry import set_up_logging

_log: Final = logging.getLogger(__name__)
_CONFIG: Final = Path("config/gateway.toml")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except ConfigInvalid as invalid:
        print(describe(invalid.errors), file=sys.stderr)  # noqa: T201 -- the answer of a command
        return 1
    except GatewayError as error:
        print(f"gateway: {error}", file=sys.stderr)  # noqa: T201 -- the answer of a command
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gateway", description="The document-delivery gateway.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run the gateway, or some of its parts")
    _add_config(serve)
    serve.add_argument("--only", action="append", choices=[*Part], metavar="PART", help=f"one of {', '.join(Part)}")
    serve.set_defaults(run=_serve)

    demo = commands.add_parser("demo", help="send real letters through a gateway with simulated providers, here")
    story.add_arguments(demo)
    demo.set_defaults(run=lambda arguments: asyncio.run(story.run(arguments)))

    check = commands.add_parser("check-config", help="report every mistake in the configuration and around it")
    _add_config(check)
    check.set_defaults(run=_check_config)

    verify = commands.add_parser(
        "verify", help="name every broken promise in ledger, blobs and keys; stop serving first"
    )
    _add_config(verify)
    verifying.add_arguments(verify)
    verify.set_defaults(run=lambda arguments: verifying.run(arguments, clock=utc_now))

    migrate = commands.add_parser("migrate", help="bring the ledger's schema up to date")
    _add_config(migrate)
    migrate.add_argument("--as", dest="owner", metavar="URI", help="the ledger's database, as its owner")
    migrate.add_argument("--grant", action="store_true", help="give the role in stores.ledger the rights of a gateway")
    migrate.set_defaults(run=_migrate)

    keys = commands.add_parser("keys", help="the gateway's own keys").add_subparsers(required=True, metavar="COMMAND")
    create = keys.add_parser("create", help="make the keyring that the configuration names; never over another")
    _add_config(create)
    create.set_defaults(run=_create_keyring)

    admin_commands.add_commands(commands)
    client_commands.add_commands(commands)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, default=_CONFIG, metavar="FILE", help=f"configuration ({_CONFIG})")


def _check_config(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)
    problems = preflight(config, now=utc_now())
    if problems:
        raise ConfigInvalid(problems)
    files = load_registration_of(config)
    registration = files.registration
    load_client_cas(config)
    print(  # noqa: T201 -- the answer of a command
        f"{arguments.config}: good. {len(registration.senders)} senders, {len(config.providers)} providers, "
        f"{len(registration.categories)} categories; registration {files.digest.hex()[:16]}"
    )
    return 0


def _migrate(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)
    steps = asyncio.run(
        migrate_ledger(config.stores.ledger, clock=utc_now, owner_uri=arguments.owner, grant=arguments.grant)
    )
    for step in steps:
        print(f"applied {step}")  # noqa: T201 -- the answer of a command
    print("The ledger is up to date.")  # noqa: T201 -- the answer of a command
    return 0


def _create_keyring(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)
    master_id = asyncio.run(create_keyring(config.stores.keyring, at=utc_now()))
    print(  # noqa: T201 -- the answer of a command
        f"{config.stores.keyring}: made, master key {master_id}. Back it up apart from everything else: without it "
        "nothing that the gateway keeps can be read."
    )
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    give_back_large_buffers()
    config = load(arguments.config)
    set_up_logging()
    parts = [Part(name) for name in arguments.only] if arguments.only else list(Part)
    asyncio.run(_serve_until_told(config, parts))
    return 0


async def _serve_until_told(config: Config, parts: Sequence[Part]) -> None:
    """Run until SIGTERM or SIGINT; then finish what runs, and end. SIGHUP: put in force what the files say."""
    told, reload_wanted = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    loop.add_signal_handler(signal.SIGHUP, reload_wanted.set)  # from now on: its default is to kill the process
    async with running(config, parts=parts) as now:
        _log.info(
            "ready",
            extra={"intake_port": now.intake_port, "portal_port": now.portal_port, "ops_port": now.ops_port},
        )
        # Modules, configuration and keys stay until the end: the collector of garbage need not look at them again.
        gc.collect()
        gc.freeze()
        await _tell_service_manager("READY=1")
        reloading = asyncio.create_task(_reload_whenever(reload_wanted, now.reload))
        await told.wait()
        _log.info("stopping")
        await _tell_service_manager("STOPPING=1")
        reloading.cancel()
        await asyncio.wait([reloading])
    _log.info("stopped")


async def _reload_whenever(wanted: asyncio.Event, reload: Callable[[], Awaitable[None]]) -> None:
    while True:
        await wanted.wait()
        wanted.clear()
        await reload()


async def _tell_service_manager(state: str) -> None:
    """Tell systemd how far we are, when it started us and listens (sd_notify(3), `Type=notify`)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    # A name that begins with @ stands in no file system (unix(7), abstract).
    target = "\0" + address[1:] if address.startswith("@") else address

    def send() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(state.encode(), target)

    try:
        await asyncio.to_thread(send)
    except OSError as error:
        _log.warning("service manager not told", extra={"state": state, "error": type(error).__name__})
