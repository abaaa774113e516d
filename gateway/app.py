"""
The composition root: opens stores, adapters, workers and servers, in this order, and closes them in reverse.

What is open while the gateway runs stands in `running`; everything else gets what it needs by name.
"""

import asyncio
import hashlib
import logging
import os
import random
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final
from uuid import UUID

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.accept import AcceptDeps, Accepted, AcceptSettings
from gateway.adapters.build import build_adapter
from gateway.admin.expiry import Expiries
from gateway.admin.ops_edge import build_ops_app
from gateway.admin.readiness import Readiness, make_checks
from gateway.admin.socket import AdminDeps, serve_admin
from gateway.config import Config, Environment
from gateway.covers.maker import CoverMaker, CoverSettings
from gateway.crypto.certs import ClientCa, load_certificates, load_client_ca
from gateway.crypto.identity import Identities
from gateway.crypto.receipts import ReceiptSigner
from gateway.crypto.tls import plain_server_context, server_context
from gateway.crypto.vault import Vault
from gateway.deliver import DeliverDeps, Destination, Outcome
from gateway.dispatch.sweeper import SweepDeps, Sweeper, SweepSettings
from gateway.dispatch.worker import Workers, WorkerSettings
from gateway.domain.ids import DeliveryId, uuid7
from gateway.domain.journey import Rules
from gateway.domain.message import Channel
from gateway.domain.registration import Registration
from gateway.domain.routing import DEFAULT_CAPABILITIES, Capability
from gateway.domain.status import NextAction
from gateway.errors import GatewayError
from gateway.intake.body import BodyLimits
from gateway.intake.handlers import IntakeDeps
from gateway.intake.server import EdgeLimits, IntakeServer
from gateway.portal.app import PortalDeps, build_portal
from gateway.preflight import own_uid, preflight
from gateway.records.logs import LogBook
from gateway.registration_files import load_registration
from gateway.staff_files import load_security_matrix, load_staff
from gateway.stores.blobs import BlobStore
from gateway.stores.ledger import Claim, Ledger
from gateway.stores.open import open_blobs, open_keyring, open_ledger
from gateway.telemetry import Metrics
from gateway.toml_reader import ConfigInvalid

_log: Final = logging.getLogger(__name__)
_RANDOM_BYTES: Final = 10
_SHUTDOWN_S: Final = 60


class Part(StrEnum):
    """What one process may run of the gateway."""

    INTAKE = "intake"
    PORTAL = "portal"
    WORKERS = "workers"
    SWEEPER = "sweeper"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Where the parts of a running gateway listen; None: not run here."""

    intake_port: int | None
    portal_port: int | None
    ops_port: int
    admin_socket: Path | None
    ledger: Ledger
    workers: Workers | None


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
    for file in [config.gateway.categories, *sorted(config.gateway.senders.glob("*.toml"))]:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _House:
    """What every part shares."""

    config: Config
    registration: Registration
    client_cas: tuple[ClientCa, ...]
    ledger: Ledger
    blobs: BlobStore
    vault: Vault
    logbook: LogBook
    receipts: ReceiptSigner
    metrics: Metrics
    clock: Callable[[], datetime]


@asynccontextmanager
async def running(
    config: Config, *, parts: Collection[Part] = tuple(Part), clock: Callable[[], datetime] = utc_now
) -> AsyncIterator[Running]:
    """
    Run the gateway while the context is open.

    Raises:
        ConfigInvalid, GatewayError, OSError: it cannot start; nothing is left open.
    """
    problems = await asyncio.to_thread(preflight, config, now=clock())
    if problems:
        raise ConfigInvalid(problems)
    async with AsyncExitStack() as stack:
        house = await _open_house(config, clock, stack)
        sweeper = Sweeper(
            SweepSettings(),
            SweepDeps(ledger=house.ledger, blobs=house.blobs, logbook=house.logbook, clock=clock),
        )
        destinations = await _destinations(house, stack)
        deliver_deps = _deliver_deps(house, destinations)
        workers = Workers(_worker_settings(config), deliver_deps, _outcome_counter(house.metrics, sweeper))
        admin_socket = await _start_admin(house, deliver_deps, workers, stack) if Part.ADMIN in parts else None
        ops_port = await _start_ops(house, destinations, stack)
        if Part.SWEEPER in parts:
            _run_beside(sweeper.run(), sweeper.stop, "sweeper", stack)
        if Part.WORKERS in parts:
            _run_beside(workers.run(), workers.stop, "workers", stack)
        portal_port = await _start_portal(house, stack) if Part.PORTAL in parts else None
        intake_port = await _start_intake(house, workers, stack) if Part.INTAKE in parts else None
        yield Running(
            intake_port=intake_port,
            portal_port=portal_port,
            ops_port=ops_port,
            admin_socket=admin_socket,
            ledger=house.ledger,
            workers=workers if Part.WORKERS in parts else None,
        )


async def _open_house(config: Config, clock: Callable[[], datetime], stack: AsyncExitStack) -> _House:
    metrics = Metrics()
    config.gateway.state.mkdir(mode=0o700, parents=True, exist_ok=True)
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
    version = await ledger.registration_version(digest, author="start-up", at=clock())
    return _House(
        config=config,
        registration=replace(registration, version=version),
        client_cas=client_cas,
        ledger=ledger,
        blobs=blobs,
        vault=vault,
        logbook=LogBook(gateway=config.gateway.name, clock=clock, ids=fresh_id, vault=vault, ledger=ledger),
        receipts=await asyncio.to_thread(_receipt_signer, config),
        metrics=metrics,
        clock=clock,
    )


def _receipt_signer(config: Config) -> ReceiptSigner:
    certificate = load_certificates(config.receipts.certificate)[0]
    key = load_pem_private_key(config.receipts.key_file.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise GatewayError(f"{config.receipts.key_file} must hold an EC P-256 key: receipts are signed with ES256")
    return ReceiptSigner(certificate, key)


# ── Delivery ──


async def _destinations(house: _House, stack: AsyncExitStack) -> dict[str, Destination]:
    destinations: dict[str, Destination] = {}
    for name, provider in house.config.providers.items():
        adapter = build_adapter(
            provider, clock=house.clock, sign_job=lambda claims: house.receipts.sign_jws(claims, "dgw-print-job+jws")
        )
        stack.push_async_callback(adapter.close)
        destinations[name] = Destination(
            adapter=adapter,
            attempt_timeout_s=provider.call.attempt_timeout_s,
            settle_s=provider.call.settle_s,
        )
    return destinations


def _deliver_deps(house: _House, destinations: Mapping[str, Destination]) -> DeliverDeps:
    config = house.config
    covers = CoverMaker(
        settings=_cover_settings(config),
        ledger=house.ledger,
        blobs=house.blobs,
        vault=house.vault,
        clock=house.clock,
        ids=fresh_id,
    )
    return DeliverDeps(
        ledger=house.ledger,
        blobs=house.blobs,
        vault=house.vault,
        destinations=destinations,
        covers=covers,
        logbook=house.logbook,
        rules=Rules(retry=config.retry, poll=config.polling),
        keep_undelivered=config.retention.keep_undelivered,
        clock=house.clock,
        ids=lambda: DeliveryId(fresh_id()),
        draw=random.random,
    )


def _cover_settings(config: Config) -> CoverSettings:
    raise NotImplementedError


def _worker_settings(config: Config) -> WorkerSettings:
    return WorkerSettings(
        name=f"{socket.gethostname()}/{os.getpid()}",
        count=config.workers.count,
        lease=timedelta(seconds=config.workers.lease_s),
        poll_s=config.workers.poll_s,
    )


def _outcome_counter(metrics: Metrics, sweeper: Sweeper) -> Callable[[Claim, Outcome], None]:
    def count(claim: Claim, outcome: Outcome) -> None:
        delivery, verdict = claim.delivery, outcome.verdict
        if outcome.attempted:
            metrics.attempts.labels(channel=delivery.channel, provider=delivery.provider, outcome=outcome.name).inc()
        if verdict.next_action is NextAction.SEND:
            metrics.retries.labels(channel=delivery.channel).inc()
        if verdict.status != delivery.status:
            metrics.settled.labels(channel=delivery.channel, status=verdict.status).inc()
        sweeper.wake()
        _log.info(
            "attempt",
            extra={
                "delivery": str(delivery.delivery_id),
                "message_id": str(delivery.message_id),
                "channel": delivery.channel,
                "provider": delivery.provider,
                "outcome": outcome.name,
                "status": verdict.status,
                "next": verdict.next_action,
            },
        )

    return count
