"""
The composition root: opens stores, adapters, workers and servers, in this order, and closes them in reverse.

What is open while the gateway runs stands in `running`; everything else gets what it needs by name.
"""

import asyncio
import logging
import os
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Final

from aiohttp import web
from cryptography import x509

from gateway.accept import AcceptDeps, Accepted, AcceptSettings
from gateway.adapters.build import build_adapter
from gateway.admin.expiry import Expiries
from gateway.admin.gauges import Gauges
from gateway.admin.ops_edge import build_ops_app
from gateway.admin.readiness import Readiness, ReadinessDeps, make_checks
from gateway.admin.routes import AdminDeps
from gateway.admin.socket import serve_admin
from gateway.config import Address, Config, PrintRestProvider
from gateway.config.reader import ConfigInvalid
from gateway.config.staff import load_security_matrix, load_staff
from gateway.covers.maker import CoverMaker, CoverSettings
from gateway.crypto.certs import load_certificates
from gateway.crypto.identity import Identities
from gateway.crypto.tls import plain_server_context, server_context
from gateway.deliver import DeliverDeps, Destination, Outcome
from gateway.dispatch.sweeper import SweepDeps, Sweeper, SweepSettings
from gateway.dispatch.worker import Workers, WorkerSettings
from gateway.domain.ids import DeliveryId
from gateway.domain.journey import Rules
from gateway.domain.message import Channel
from gateway.domain.routing import DEFAULT_CAPABILITIES, Capability
from gateway.domain.status import NextAction
from gateway.errors import GatewayError
from gateway.house import House, fresh_id, open_house, utc_now
from gateway.intake.body import BodyLimits
from gateway.intake.handlers import IntakeDeps
from gateway.intake.server import EdgeLimits, IntakeServer
from gateway.portal.app import PortalDeps, build_portal
from gateway.preflight import own_uid, preflight
from gateway.stores.ledger import Claim, Ledger
from gateway.telemetry import Metrics

_log: Final = logging.getLogger(__name__)


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
        house = await open_house(config, clock, stack)
        sweeper = Sweeper(
            SweepSettings(),
            SweepDeps(ledger=house.ledger, blobs=house.blobs, logbook=house.logbook, clock=clock),
        )
        destinations = await _destinations(house, stack)
        deliver_deps = _deliver_deps(house, destinations)
        workers = Workers(_worker_settings(config), deliver_deps, _outcome_counter(house.metrics, sweeper))
        admin_socket = await _start_admin(house, deliver_deps, workers, stack) if Part.ADMIN in parts else None
        ops_port = await _start_ops(house, stack)
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


# ── Delivery ──


async def _destinations(house: House, stack: AsyncExitStack) -> dict[str, Destination]:
    destinations: dict[str, Destination] = {}
    for name, provider in house.config.providers.items():
        adapter = await build_adapter(
            provider, clock=house.clock, sign_job=lambda claims: house.receipts.sign_jws(claims, "dgw-print-job+jws")
        )
        stack.push_async_callback(adapter.close)
        destinations[name] = Destination(
            adapter=adapter,
            attempt_timeout_s=provider.call.attempt_timeout_s,
            settle_s=provider.call.settle_s,
        )
    return destinations


def _deliver_deps(house: House, destinations: Mapping[str, Destination]) -> DeliverDeps:
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
    return CoverSettings(
        public_url=config.portal.public_url,
        address_boxes={
            name: provider.address_box_mm
            for name, provider in config.providers.items()
            if isinstance(provider, PrintRestProvider)
        },
    )


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


def _run_beside(work: Coroutine[None, None, None], stop: Callable[[], None], name: str, stack: AsyncExitStack) -> None:
    """Run `work` in a task of its own; when the stack unwinds, tell it to stop and wait until it has."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_report_death)

    async def finish() -> None:
        stop()
        await asyncio.wait([task])

    stack.push_async_callback(finish)


def _report_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical("a part of the gateway died", extra={"part": task.get_name(), "error": type(error).__name__})


# ── Edges ──


async def _start_intake(house: House, workers: Workers, stack: AsyncExitStack) -> int:
    config = house.config
    identities = Identities(lambda: house.registration, lambda: house.client_cas)
    accept_deps = AcceptDeps(
        settings=_accept_settings(config),
        registration=lambda: house.registration,
        identities=identities,
        vault=house.vault,
        blobs=house.blobs,
        ledger=house.ledger,
        receipts=house.receipts,
        logbook=house.logbook,
        clock=house.clock,
        ids=fresh_id,
    )

    def on_accepted(accepted: Accepted) -> None:
        record = accepted.record
        house.metrics.accepted.labels(channel=record.deliveries[0].channel, lane=record.lane).inc()
        workers.wake()

    deps = IntakeDeps(
        accept=accept_deps,
        ledger=house.ledger,
        vault=house.vault,
        logbook=house.logbook,
        clock=house.clock,
        public_url=config.intake.public_url or f"https://{config.intake.bind}",
        on_accepted=on_accepted,
    )
    context = await asyncio.to_thread(
        server_context,
        config.intake.certificate,
        config.intake.key_file,
        house.client_cas,
        config.intake.tls_minimum,
        on_handshake_failure=_handshake_reporter(house.metrics),
    )
    server = IntakeServer(deps, identities, _edge_limits(config), house.metrics)
    stack.push_async_callback(server.stop)
    return await server.start(config.intake.bind.host, config.intake.bind.port, context)


def _accept_settings(config: Config) -> AcceptSettings:
    return AcceptSettings(
        gateway_name=config.gateway.name,
        max_documents=config.limits.documents,
        max_total_bytes=config.limits.message_bytes,
        created_at_past=config.limits.created_at_past,
        created_at_future=config.limits.created_at_future,
        allow_test_ssin=config.identifiers.allow_test_ssin,
        capabilities={channel: _capability(channel, config) for channel in Channel},
        providers=config.channels,
    )


def _capability(channel: Channel, config: Config) -> Capability:
    """Return what a channel carries: what its kind can, within the limits of the provider that serves it."""
    usual = DEFAULT_CAPABILITIES[channel]
    names = config.channels.get(channel, ())
    if not names:
        return usual
    provider = config.providers[names[0]]
    return replace(usual, max_documents=provider.max_documents, max_total_bytes=provider.max_total_bytes)


def _edge_limits(config: Config) -> EdgeLimits:
    limits = config.limits
    return EdgeLimits(
        connections=limits.connections,
        requests_in_flight=limits.requests_in_flight,
        handshake_s=limits.handshake_timeout.total_seconds(),
        header_s=limits.header_timeout.total_seconds(),
        drain_s=limits.drain_timeout.total_seconds(),
        body=BodyLimits(
            manifest_bytes=limits.manifest_bytes,
            stall_s=limits.body_stall.total_seconds(),
            minimum_bytes_per_s=limits.minimum_bytes_per_s,
        ),
    )


def _handshake_reporter(metrics: Metrics) -> Callable[[str], None]:
    def report(reason: str) -> None:
        metrics.handshakes_refused.labels(reason=reason).inc()
        _log.warning("handshake refused", extra={"edge": "intake", "reason": reason})

    return report


async def _start_portal(house: House, stack: AsyncExitStack) -> int:
    config = house.config.portal
    application = build_portal(
        PortalDeps(
            ledger=house.ledger,
            blobs=house.blobs,
            vault=house.vault,
            logbook=house.logbook,
            clock=house.clock,
            public_url=config.public_url,
            on_outcome=lambda outcome: house.metrics.retrievals.labels(outcome=outcome).inc(),
        )
    )
    context = None
    if config.certificate is not None and config.key_file is not None:
        context = await asyncio.to_thread(plain_server_context, config.certificate, config.key_file)
    return await _serve(application, config.bind, context, house.config, stack)


async def _start_ops(house: House, stack: AsyncExitStack) -> int:
    readiness = Readiness(
        make_checks(
            ReadinessDeps(
                receipts=house.receipts,
                certificate=house.receipts_certificate,
                keyring=house.keyring,
                vault=house.vault,
                blobs=house.blobs,
                ledger=house.ledger,
                clock=house.clock,
                ids=fresh_id,
            )
        )
    )
    chains = await asyncio.to_thread(_certificate_chains, house.config)
    expiries = Expiries(certificates=lambda: chains, client_cas=lambda: house.client_cas)
    gauges = Gauges(house.metrics, ledger=house.ledger, expiries=expiries, clock=house.clock)
    application = build_ops_app(house.metrics, readiness, refresh=gauges.refresh)
    return await _serve(application, house.config.ops.bind, None, house.config, stack)


def _certificate_chains(config: Config) -> dict[str, tuple[x509.Certificate, ...]]:
    files = {"intake": config.intake.certificate, "receipts": config.receipts.certificate}
    if config.portal.certificate is not None:
        files["portal"] = config.portal.certificate
    return {duty: load_certificates(file) for duty, file in files.items()}


async def _serve(
    application: web.Application,
    bind: Address,
    context: ssl.SSLContext | None,
    config: Config,
    stack: AsyncExitStack,
) -> int:
    """Serve an application; return its port."""
    runner = web.AppRunner(application, access_log=None, keepalive_timeout=config.limits.header_timeout.total_seconds())
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    if runner.server is None:
        raise GatewayError("the HTTP server was not set up")
    server = await asyncio.get_running_loop().create_server(
        runner.server,
        bind.host,
        bind.port,
        ssl=context,
        ssl_handshake_timeout=None if context is None else config.limits.handshake_timeout.total_seconds(),
    )
    stack.callback(server.close)
    port: int = server.sockets[0].getsockname()[1]
    return port


async def _start_admin(house: House, deliver: DeliverDeps, workers: Workers, stack: AsyncExitStack) -> Path:
    config = house.config
    staff = await asyncio.to_thread(load_staff, config.gateway.staff, self_uid=own_uid(config))
    matrix = await asyncio.to_thread(load_security_matrix, config.gateway.security_matrix)
    deps = AdminDeps(
        deliver=deliver,
        staff=lambda: staff,
        matrix=lambda: matrix,
        registration_version=lambda: house.registration.version,
        version=await asyncio.to_thread(version, "document-gateway"),
        started_at=house.clock(),
        on_decided=lambda _decided: workers.wake(),
    )
    await stack.enter_async_context(serve_admin(config.admin.socket, deps, house.metrics))
    return config.admin.socket
