"""
`gateway verify`: opens the stores itself, exclusively, and says so in the admin log before it looks.

Exit codes: 0 clean; 1 findings, or it could not look (the reason is on standard error). What is late counts too.
"""

import argparse
import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any, Final
from uuid import UUID

from cryptography import x509

from gateway.config import Config, load
from gateway.crypto.certs import load_certificates
from gateway.crypto.vault import Vault
from gateway.domain.ids import uuid7
from gateway.errors import GatewayError, KeyringRefused
from gateway.integrity.findings import Grade, Report, grade_of
from gateway.integrity.walker import Verification, verify
from gateway.records.logs import LogBook, Subject
from gateway.stores.keyring import Keyring
from gateway.stores.model import Log, LogEntry
from gateway.stores.open import ledger_exists, open_blobs, open_keyring, open_ledger

_CLEAN: Final = 0
_FINDINGS: Final = 1
_SHOWN: Final = 20
_PROGRESS_S: Final = 10.0
_RANDOM_BYTES: Final = 10

Progress = Callable[[Mapping[str, int]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a verification came to; `unchecked` says what could not be looked at, and why."""

    report: Report
    unchecked: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Said:
    """Tells on standard error how far a long verification is, at most every ten seconds."""

    said_at_s: float = field(default_factory=time.monotonic)
    every_s: float = _PROGRESS_S

    def __call__(self, counts: Mapping[str, int]) -> None:
        """Tell, when it is time to."""
        now_s = time.monotonic()
        if now_s - self.said_at_s >= self.every_s:
            self.said_at_s = now_s
            print(f"gateway verify: {_counted(counts)} so far", file=sys.stderr)  # noqa: T201 -- of a command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--deep", action="store_true", help="also unseal every document and compare its digest")
    parser.add_argument(
        "--quick", action="store_true", help="leave out the signatures of receipts, which take most of the time"
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    parser.add_argument(
        "--limit",
        type=int,
        default=_SHOWN,
        metavar="N",
        help=f"show at most N findings of each kind, and how many more there are ({_SHOWN})",
    )
    parser.epilog = "Stop the gateway first: nobody else may have the stores open. Exit code 0: clean; 1: findings."


def run(arguments: argparse.Namespace, *, clock: Callable[[], datetime]) -> int:
    """
    Verify, and tell what was found; return the exit code.

    Raises:
        ConfigInvalid, GatewayError: it could not look.
    """
    verdict = asyncio.run(
        verify_stores(
            load(arguments.config),
            clock=clock,
            deep=arguments.deep,
            quick=arguments.quick,
            limit=arguments.limit,
            progress=Said(),
        )
    )
    print(as_json(verdict) if arguments.json else as_text(verdict))  # noqa: T201 -- the answer of a command
    return _CLEAN if verdict.report.is_clean else _FINDINGS


async def verify_stores(
    config: Config,
    *,
    clock: Callable[[], datetime],
    deep: bool = False,
    quick: bool = False,
    limit: int = _SHOWN,
    progress: Progress = lambda _counts: None,
) -> Verdict:
    """
    Open the stores of a configuration, log that they are verified, verify them, and log what was found.

    `deep`: also unseal every document. `quick`: without the signatures of receipts.

    Raises:
        StoreInUse: a gateway has them open.
        GatewayError: they cannot be opened or read, or were never there.
    """
    certificates = await asyncio.to_thread(_certificates, config)
    if not await asyncio.to_thread(ledger_exists, config.stores.ledger):
        raise GatewayError(f"there is no ledger {config.stores.ledger}: nothing to verify, or the wrong configuration")
    report, unchecked = Report(limit=limit), list[str]()
    async with AsyncExitStack() as stack:
        ledger = await open_ledger(config.stores.ledger, clock=clock, alone=True)
        stack.push_async_callback(ledger.close)
        blobs = open_blobs(config.stores.blobs)
        stack.push_async_callback(blobs.close)
        keyring = await _keyring(config, stack, unchecked)

        def ids() -> UUID:
            return uuid7(int(clock().timestamp() * 1000), secrets.token_bytes(_RANDOM_BYTES))

        vault = Vault(keyring or _NoKeyring(), ledger, clock, ids)
        logbook = LogBook(gateway=config.gateway.name, clock=clock, ids=ids, vault=vault, ledger=ledger)
        depth = " ".join(name for name, is_so in (("deep", deep), ("quick", quick)) if is_so) or "usual"
        if quick:
            unchecked.append("the signatures of receipts (--quick)")
        await ledger.append([_entry(logbook, "verify-begun", {"depth": depth}, "begun")])
        await verify(
            Verification(
                ledger=ledger,
                blobs=blobs,
                vault=vault if keyring is not None else None,
                certificates=() if quick else certificates,
                clock=clock,
                deep=deep,
                progress=progress,
            ),
            report,
        )
        found: dict[str, str | int] = {"depth": depth, **_named(report.counts), "unchecked": len(unchecked)}
        found |= {"broken": report.total(Grade.BROKEN), "late": report.total(Grade.LATE)}
        await ledger.append([_entry(logbook, "verified", found, "clean" if report.is_clean else "findings")])
    return Verdict(report=report, unchecked=tuple(unchecked))


def as_text(verdict: Verdict) -> str:
    """Return the verdict for a person."""
    report = verdict.report
    lines = [_counted(report.counts), *(f"not verified: {each}" for each in verdict.unchecked)]
    for code, findings in groupby(report.findings, key=lambda each: each.code):
        shown = [f"{code}  {each.id}  {each.text}" for each in findings]
        lines += shown
        if report.totals[code] > len(shown):
            lines.append(f"{code}  and {report.totals[code] - len(shown):,} more")
    if report.is_clean:
        return "\n".join([*lines, "clean: no promise is broken, nothing is late"])
    broken, late = report.total(Grade.BROKEN), report.total(Grade.LATE)
    return "\n".join([*lines, f"{broken:,} broken, {late:,} late"])


def as_json(verdict: Verdict) -> str:
    """Return the verdict for a program: one object, whose names stay."""
    report = verdict.report
    body: dict[str, Any] = {
        "clean": report.is_clean,
        "broken": report.total(Grade.BROKEN),
        "late": report.total(Grade.LATE),
        "counts": _named(report.counts),
        "unchecked": list(verdict.unchecked),
        "totals": {str(code): number for code, number in sorted(report.totals.items())},
        "findings": [
            {"code": each.code, "grade": grade_of(each.code), "id": each.id, "text": each.text}
            for each in report.findings
        ],
    }
    return json.dumps(body, indent=2)


# ── What it stands on ──


class _NoKeyring:
    """Stands where the keyring is not there: it opens nothing."""

    master_id = "none"

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:  # noqa: ARG002 -- a keyring's call
        """See `Keyring.wrap`."""
        raise KeyringRefused("the keyring is not there")

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:  # noqa: ARG002 -- a keyring's call
        """See `Keyring.unwrap`."""
        raise KeyringRefused("the keyring is not there")


async def _keyring(config: Config, stack: AsyncExitStack, unchecked: list[str]) -> Keyring | None:
    try:
        keyring = await open_keyring(config.stores.keyring)
    except GatewayError as error:
        unchecked.append(f"sealed content (signed messages, documents), because the keyring does not open: {error}")
        return None
    stack.push_async_callback(keyring.close)
    return keyring


def _certificates(config: Config) -> list[x509.Certificate]:
    """Return the certificates that sign receipts, now and before. Blocks."""
    past = [] if config.receipts.past is None else sorted(config.receipts.past.glob("*.pem"))
    try:
        return [load_certificates(file)[0] for file in (config.receipts.certificate, *past)]
    except OSError as error:
        raise GatewayError(f"the certificate {error.filename} cannot be read: {error.strerror}") from error


def _entry(logbook: LogBook, event: str, what: Mapping[str, str | int], result: str) -> LogEntry:
    who = {"uid": str(os.getuid())}
    return logbook.entry(Log.ADMIN, event, who=who, what=what, result=result, subject=Subject())


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items() if number) or "nothing there"


def _named(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the counts as JSON names them."""
    return {"beingRemoved" if name == "being removed" else name: number for name, number in counts.items()}
