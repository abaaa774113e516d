"""
Whether the gateway can do its work now, proven by doing it: it signs, asks the keyring, seals and opens, and commits.

Nothing of a probe stays: its statement is thrown away, its key is never written, its blob is erased. A blob that a
crash leaves belongs to no message, and the sweeper removes it.
"""

import asyncio
import hmac
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

from cryptography import x509

from gateway.admin.bounded import Bounded
from gateway.crypto.certs import require_current
from gateway.crypto.jws import verify_jws
from gateway.crypto.receipts import ReceiptSigner
from gateway.crypto.sealing import BlobHeader, generate_key, seal, unseal
from gateway.crypto.values import format_instant
from gateway.crypto.vault import MasterKeys, Vault
from gateway.errors import GatewayError
from gateway.stores.blobs import BlobStore
from gateway.stores.ledger import Ledger

_log: Final = logging.getLogger(__name__)
Check = Callable[[], Awaitable[None]]

# A type of its own: a statement about readiness can never be taken for the receipt of a message.
PROBE_TYP: Final = "dgw-readiness+jws"
# Owns the probes, as senders own their documents; no enterprise number gives this id.
HOUSE: Final = uuid5(NAMESPACE_URL, "urn:document-gateway:house")
_KEYRING_CONTEXT: Final = {"dgw": "readiness.v1"}
_PROBE_BYTES: Final = 64


class Outcome(StrEnum):
    """What a check came to."""

    OK = "ok"
    FAILED = "failed"
    TIMED_OUT = "timed-out"


class ProbeFailed(GatewayError):
    """A probe did not come back as it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Whether the gateway is ready, and the outcome of each check by name; why one failed is in the technical log."""

    ready: bool
    draining: bool
    checks: Mapping[str, Outcome]


class Readiness:
    """
    Runs the checks together, at most once in `fresh_s` seconds however many ask, each for at most `limit_s` seconds.

    `monotonic` gives seconds of a clock that never goes back.
    """

    def __init__(
        self,
        checks: Mapping[str, Check],
        *,
        limit_s: float = 5.0,
        fresh_s: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if not checks:
            raise ValueError("readiness without checks would prove nothing")
        self._checks = {name: Bounded(check, limit_s) for name, check in checks.items()}
        self._fresh_s = fresh_s
        self._monotonic = monotonic
        self._flight = asyncio.Lock()
        self._outcomes: Mapping[str, Outcome] = {}
        self._known_until = float("-inf")
        self._changes = 0
        self._draining = False

    def drain(self) -> None:
        """Be ready no more: the gateway is stopping, and finishes only what runs."""
        self._draining = True

    def look_anew(self) -> None:
        """Forget what was seen before now: something changed for which somebody waits."""
        self._known_until = float("-inf")
        self._changes += 1

    async def report(self) -> Report:
        """Return how it stands, at most `fresh_s` seconds old."""
        async with self._flight:
            if self._monotonic() >= self._known_until:
                changes = self._changes
                self._outcomes = await self._run()
                if changes == self._changes:
                    self._known_until = self._monotonic() + self._fresh_s
            outcomes = self._outcomes
        all_well = all(outcome is Outcome.OK for outcome in outcomes.values())
        return Report(ready=all_well and not self._draining, draining=self._draining, checks=outcomes)

    async def close(self) -> None:
        """Break off what runs."""
        await asyncio.gather(*(check.close() for check in self._checks.values()))

    async def _run(self) -> Mapping[str, Outcome]:
        outcomes = await asyncio.gather(*(self._outcome(name) for name in self._checks))
        return dict(zip(self._checks, outcomes, strict=True))

    async def _outcome(self, name: str) -> Outcome:
        try:
            await self._checks[name].run()
        except TimeoutError:
            outcome, cause = Outcome.TIMED_OUT, ""
        except Exception as error:  # noqa: BLE001 -- whatever a check raises, it has failed
            outcome, cause = Outcome.FAILED, _cause(error)
        else:
            outcome, cause = Outcome.OK, ""
        self._tell(name, outcome, cause)
        return outcome

    def _tell(self, name: str, outcome: Outcome, cause: str) -> None:
        """Log a change, not every repetition: readiness is asked every few seconds."""
        before = self._outcomes.get(name, Outcome.OK)
        if outcome is not before:
            level = logging.INFO if outcome is Outcome.OK else logging.WARNING
            _log.log(level, "readiness changed", extra={"check": name, "outcome": str(outcome), "cause": cause})


def _cause(error: Exception) -> str:
    # Texts of foreign errors may hold anything; ours hold no secrets.
    return f"{type(error).__name__}: {error}" if isinstance(error, GatewayError) else type(error).__name__


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadinessDeps:
    """What the checks work with; `receipts` returns what signs receipts now, and the certificate it signs with."""

    receipts: Callable[[], tuple[ReceiptSigner, x509.Certificate]]
    keyring: MasterKeys
    vault: Vault
    blobs: BlobStore
    ledger: Ledger
    clock: Callable[[], datetime]
    ids: Callable[[], UUID]


def make_checks(deps: ReadinessDeps) -> dict[str, Check]:
    """Return the checks of a gateway by name."""

    async def signs() -> None:
        await asyncio.to_thread(_sign_and_verify, deps)

    async def asks_the_keyring() -> None:
        await _wrap_and_unwrap(deps)

    async def seals_and_opens() -> None:
        await _seal_and_open(deps)

    async def commits() -> None:
        await deps.ledger.heartbeat(deps.clock())

    return {"sign": signs, "keyring": asks_the_keyring, "seal": seals_and_opens, "commit": commits}


def _sign_and_verify(deps: ReadinessDeps) -> None:
    """
    Sign a statement with the receipt key, and verify it as a receipt's holder would.

    Raises:
        CertificateRejected: the certificate is outside its validity, so that its receipts would prove nothing.
        Refusal: the signature is not that of the certificate.
    """
    now = deps.clock()
    signer, certificate = deps.receipts()
    require_current(certificate, now)
    statement = {"at": format_instant(now), "nonce": secrets.token_hex(16)}
    token = signer.sign_jws(statement, PROBE_TYP)
    if verify_jws(token, PROBE_TYP, certificate) != statement:
        raise ProbeFailed("what was signed is not what was to be signed")


async def _wrap_and_unwrap(deps: ReadinessDeps) -> None:
    """Ask the keyring itself: the vault would answer for minutes from the keys that it holds."""
    key = generate_key()
    wrapped = await deps.keyring.wrap(key, _KEYRING_CONTEXT)
    if not hmac.compare_digest(await deps.keyring.unwrap(wrapped, _KEYRING_CONTEXT), key):
        raise ProbeFailed("the keyring unwrapped another key than it had wrapped")


async def _seal_and_open(deps: ReadinessDeps) -> None:
    """Take a small document along the way of every document: key, seal, blob store, and back."""
    content = secrets.token_bytes(_PROBE_BYTES)
    dek = await deps.vault.new_dek(HOUSE, "document")
    header = BlobHeader(blob_id=deps.ids(), dek_id=dek.row.dek_id, sender_id=HOUSE, created_at=deps.clock())
    try:
        await deps.blobs.put(header.blob_id, seal(_once(content), header, dek.key))
        opened = await deps.vault.open_dek(dek.row, HOUSE)
        pieces = unseal(
            deps.blobs.open(header.blob_id),
            opened.key,
            expect_blob_id=header.blob_id,
            expect_dek_id=header.dek_id,
            expect_sender_id=HOUSE,
        )
        back = b"".join([piece async for piece in pieces])
    finally:
        await deps.blobs.erase(header.blob_id)
    if not hmac.compare_digest(back, content):
        raise ProbeFailed("a sealed document did not come back as it was")


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
