"""
What every part of a running gateway shares: its stores, its keys, its registration, its signature.

`open_house` opens them in order and hands their closing to the caller's stack.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.config import Config, Environment
from gateway.config.senders import load_registration
from gateway.crypto.certs import ClientCa, load_certificates, load_client_ca
from gateway.crypto.receipts import ReceiptSigner
from gateway.crypto.vault import Vault
from gateway.domain.ids import uuid7
from gateway.domain.registration import Registration
from gateway.errors import GatewayError
from gateway.records.logs import LogBook
from gateway.stores.blobs import BlobStore
from gateway.stores.keyring import Keyring
from gateway.stores.ledger import Ledger
from gateway.stores.open import open_blobs, open_keyring, open_ledger
from gateway.telemetry import Metrics

_RANDOM_BYTES: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What every part shares."""

    config: Config
    registration: Registration
    client_cas: tuple[ClientCa, ...]
    ledger: Ledger
    blobs: BlobStore
    vault: Vault
    logbook: LogBook
    keyring: Keyring
    receipts: ReceiptSigner
    receipts_certificate: x509.Certificate
    metrics: Metrics
    clock: Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def fresh_id() -> UUID:
    """Return a new UUIDv7."""
    return uuid7(int(utc_now().timestamp() * 1000), secrets.token_bytes(_RANDOM_BYTES))


def load_registration_of(config: Config) -> tuple[Registration, bytes]:
    """
    Read all registration files; return them as version 0, with the digest of their bytes.

    Raises:
        ConfigInvalid: with every mistake.
    """
    registration = load_registration(
        config.gateway.senders,
        config.gateway.categories,
        version=0,
        authorities={ca.name for ca in config.client_cas},
    )
    digest = hashlib.sha256()
    for file in [config.gateway.categories, *sorted(config.gateway.senders.glob("[!.]*.toml"))]:
        digest.update(hashlib.sha256(file.name.encode()).digest() + hashlib.sha256(file.read_bytes()).digest())
    return registration, digest.digest()


def load_client_cas(config: Config) -> tuple[ClientCa, ...]:
    """
    Read the authorities of senders' certificates with their revocation lists.

    Raises:
        CertificateRejected, OSError.
    """
    return tuple(
        load_client_ca(ca.name, ca.file, crl_file=ca.crl_file, revocation=ca.revocation) for ca in config.client_cas
    )


async def open_house(config: Config, clock: Callable[[], datetime], stack: AsyncExitStack) -> House:
    """
    Open everything that the parts share; `stack` closes it again.

    Raises:
        GatewayError, OSError: something cannot be opened; what was opened before is closed by the stack.
    """
    metrics = Metrics()
    await asyncio.to_thread(config.gateway.state.mkdir, mode=0o700, parents=True, exist_ok=True)
    registration, digest = await asyncio.to_thread(load_registration_of, config)
    client_cas = await asyncio.to_thread(load_client_cas, config)

    def on_commit(seconds: float, transactions: int) -> None:
        metrics.commit_seconds.observe(seconds)
        metrics.commit_batch.observe(transactions)

    ledger = await open_ledger(config.stores.ledger, clock=clock, on_commit=on_commit)
    stack.push_async_callback(ledger.close)
    blobs = open_blobs(config.stores.blobs)
    stack.push_async_callback(blobs.close)
    # A production keyring is made by hand: one made by itself after a lost disk would hide that every key is gone.
    create_at = None if config.gateway.environment is Environment.PRODUCTION else clock()
    keyring = await open_keyring(config.stores.keyring, create_at=create_at)
    stack.push_async_callback(keyring.close)
    vault = Vault(keyring, ledger, clock, fresh_id)
    number = await ledger.registration_version(digest, author="start-up", at=clock())
    receipts, certificate = await asyncio.to_thread(_receipt_signer, config)
    return House(
        config=config,
        registration=replace(registration, version=number),
        client_cas=client_cas,
        ledger=ledger,
        blobs=blobs,
        vault=vault,
        logbook=LogBook(gateway=config.gateway.name, clock=clock, ids=fresh_id, vault=vault, ledger=ledger),
        keyring=keyring,
        receipts=receipts,
        receipts_certificate=certificate,
        metrics=metrics,
        clock=clock,
    )


def _receipt_signer(config: Config) -> tuple[ReceiptSigner, x509.Certificate]:
    certificate = load_certificates(config.receipts.certificate)[0]
    key = load_pem_private_key(config.receipts.key_file.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise GatewayError(f"{config.receipts.key_file} must hold an EC P-256 key: receipts are signed with ES256")
    return ReceiptSigner(certificate, key), certificate
