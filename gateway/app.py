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
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

from aiohttp import web

from gateway.accept import AcceptDeps, Accepted, AcceptSettings
from gateway.adapters.base import Foretelling, Proving
from gateway.adapters.build import build_adapter
from gateway.adapters.limits import Circuit, LimitedAdapter
from gateway.admin.decisions import Decided
from gateway.admin.expiry import Expiries
from gateway.admin.gauges import Gauges
from gateway.admin.interface import AdminDeps
from gateway.admin.ops_edge import build_ops_app
from gateway.admin.provider_figures import ProviderFigures
from gateway.admin.readiness import Readiness, ReadinessDeps, make_checks
from gateway.admin.socket import serve_admin
from gateway.clock import SteadyClock
from gateway.config import Address, Config, PrintRestProvider
from gateway.config.reader import ConfigInvalid
from gateway.covers.maker import CoverMaker, CoverSettings
from gateway.crypto.identity import Identities
from gateway.crypto.tls import SwappableContext, plain_server_context, server_context
from gateway.deliver.stages import DeliverDeps, Destination, Outcome
from gateway.dispatch.deadlines import Deadlines, DeadlineSettings
from gateway.dispatch.sweeper import SweepDeps, Sweeper, SweepSettings
from gateway.dispatch.worker import Workers, WorkerSettings
from gateway.domain.ids import DeliveryId, EnterpriseNumber
from gateway.domain.journey import Rules
from gateway.domain.message import Channel, Recipient
from gateway.domain.routing import DEFAULT_CAPABILITIES, Capability
from gateway.domain.status import DeliveryStatus, NextAction, Reason
from gateway.errors import GatewayError
from gateway.health import Health, HealthDeps, HealthSettings
from gateway.house import House, open_house
from gateway.intake.admission import AdmissionLimits
from gateway.intake.body import BodyLimits
from gateway.intake.contract.publishing import publish_for
from gateway.intake.handlers import IntakeDeps
from gateway.intake.server import EdgeLimits, IntakeServer
from gateway.portal.app import PortalDeps, build_portal
from gateway.preflight import preflight
from gateway.records.evidence import EvidenceBook
from gateway.records.sequencer import Sequencer, SequencerSettings
from gateway.reloading import INTAKE, PORTAL, Reloader
from gateway.stores.ledger import Ledger
from gateway.stores.model import Claim, MessageRecord
from gateway.stores.open import folder_of
from gateway.supervising import Supervisor
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
    """
    Where the parts of a running gateway listen; None: not run here.

    `reload` puts in force what the files say, as SIGHUP asks for; it never raises.
    """

    intake_port: int | None
    portal_port: int | None
    ops_port: int
    admin_socket: Path | None
    ledger: Ledger
    health: Health
    workers: Workers | None
    reload: Callable[[], Awaitable[None]]


@dataclass(slots=True, kw_only=True)
class _Edges:
    """What was started so far: the contexts that listen, by name, and the server of the sender edge."""

    contexts: dict[str, SwappableContext] = field(default_factory=dict)
    intake: IntakeServer | None = None

    def close_connections(self, party: EnterpriseNumber) -> int:
        return self.intake.close_connections(party) if self.intake is not None else 0


@asynccontextmanager
async def running(
    config: Config, *, parts: Collection[Part] = tuple(Part), clock: Callable[[], datetime] | None = None
) -> AsyncIterator[Running]:
    """
    Run the gateway while the context is open; without `clock`, by that of the machine.

    Raises:
        ConfigInvalid, GatewayError, OSError: it cannot start; nothing is left open.
    """
    clock = clock or SteadyClock(settle_s=settle_s(config))
    problems = await asyncio.to_thread(preflight, config, now=clock())
    if problems:
        raise ConfigInvalid(problems)
    async with AsyncExitStack() as stack:
        house = await open_house(config, clock, stack)
        supervisor = Supervisor(house.metrics)
        health = _health(house)
        await health.look()
        stack.push_async_callback(supervisor.run_beside("health", health.run, health.stop))
        sweeper = Sweeper(
            SweepSettings(),
            SweepDeps(
                ledger=house.ledger,
                blobs=house.blobs,
                logbook=house.logbook,
                clock=clock,
                on_erased=house.metrics.erased.inc,
            ),
        )
        destinations = await _destinations(house, stack)
        deliver_deps = _deliver_deps(house, destinations)
        on_outcome = _outcome_counter(house.metrics, sweeper)
        workers = Workers(_worker_settings(config), deliver_deps, on_outcome, no_new_call=health.no_new_call)
        edges = _Edges()
        reloader = Reloader(house, edges.contexts)
        async with reloader.held_back():
            admin_socket = None
            if Part.ADMIN in parts:
                admin_socket = await _start_admin(
                    house,
                    stack,
                    deliver=deliver_deps,
                    workers=workers,
                    sweeper=sweeper,
                    reloader=reloader,
                    edges=edges,
                )
            started = asyncio.Event()
            ops_port, readiness = await _start_ops(house, health, supervisor, started, stack)
            if Part.SWEEPER in parts:
                sequencer = Sequencer(SequencerSettings(), house.ledger, clock)
                deadlines = Deadlines(DeadlineSettings(), deliver_deps, on_outcome)
                stack.push_async_callback(supervisor.run_beside("sweeper", sweeper.run, sweeper.stop))
                stack.push_async_callback(supervisor.run_beside("deadlines", deadlines.run, deadlines.stop))
                stack.push_async_callback(supervisor.run_beside("sequencer", sequencer.run, sequencer.stop))
            if Part.WORKERS in parts:
                stack.push_async_callback(supervisor.run_beside("workers", workers.run, workers.stop))
            portal_port = await _start_portal(house, edges, stack) if Part.PORTAL in parts else None
            intake_port = None
            if Part.INTAKE in parts:
                intake_port = await _start_intake(house, destinations, workers, edges, stack, health=health)
        stack.push_async_callback(supervisor.run_beside("reloader", reloader.run, reloader.stop))
        started.set()
        readiness.look_anew()
        # The first thing at the end, while everything still works.
        stack.push_async_callback(_announce_end, readiness, edges, config.limits.drain_notice)
        yield Running(
            intake_port=intake_port,
            portal_port=portal_port,
            ops_port=ops_port,
            admin_socket=admin_socket,
            ledger=house.ledger,
            health=health,
            workers=workers if Part.WORKERS in parts else None,
            reload=reloader.reload_on_signal,
        )


async def _announce_end(readiness: Readiness, edges: _Edges, notice: timedelta) -> None:
    """Let whoever deals out requests notice that none should come here any more, before they are taken no more."""
    readiness.drain()
    if edges.intake is not None:
        edges.intake.announce_end()
    await asyncio.sleep(notice.total_seconds())


# ── Health ──


def settle_s(config: Config) -> float:
    """Return the seconds in which every delivery ends that is claimed now, with all that its provider may still do."""
    calls = [provider.call for provider in config.providers.values()]
    return config.workers.lease_s + max((call.attempt_timeout_s + call.settle_s for call in calls), default=0.0)


def _health(house: House) -> Health:
    stores = {"ledger": house.config.stores.ledger, "blobs": house.config.stores.blobs}
    folders = {what: folder_of(uri) for what, uri in stores.items()}
    return Health(
        HealthSettings(keep_free_bytes=house.config.limits.keep_free_bytes),
        HealthDeps(
            ledger=house.ledger,
            logbook=house.logbook,
            metrics=house.metrics,
            clock=house.clock,
            steady=house.clock if isinstance(house.clock, SteadyClock) else None,
            disks={what: folder for what, folder in folders.items() if folder is not None},
        ),
    )


# ── Delivery ──


async def _destinations(house: House, stack: AsyncExitStack) -> dict[str, Destination]:
    destinations: dict[str, Destination] = {}
    adapters: dict[str, LimitedAdapter] = {}
    for name, provider in house.config.providers.items():
        adapter = await build_adapter(
            provider,
            clock=house.clock,
            sign_job=lambda claims: house.in_force.receipts.sign_jws(claims, "dgw-print-job+jws"),
        )
        stack.push_async_callback(adapter.close)
        adapters[name] = adapter
        house.metrics.breaker_open.labels(provider=name).set_function(partial(_is_paused, adapter))
        destinations[name] = Destination(
            adapter=adapter,
            attempt_timeout_s=provider.call.attempt_timeout_s,
            settle_s=provider.call.settle_s,
        )
    house.metrics.registry.register(ProviderFigures(adapters))
    return destinations


def _is_paused(adapter: LimitedAdapter) -> float:
    return 0.0 if adapter.state.circuit is Circuit.CLOSED else 1.0


def _deliver_deps(house: House, destinations: Mapping[str, Destination]) -> DeliverDeps:
    config = house.config
    covers = CoverMaker(
        settings=_cover_settings(config),
        ledger=house.ledger,
        blobs=house.blobs,
        vault=house.vault,
        clock=house.clock,
        ids=house.ids,
    )
    return DeliverDeps(
        ledger=house.ledger,
        documents=house.documents,
        vault=house.vault,
        destinations=destinations,
        covers=covers,
        logbook=house.logbook,
        rules=Rules(retry=config.retry, poll=config.polling),
        keep_undelivered=config.retention.keep_undelivered,
        clock=house.clock,
        ids=lambda: DeliveryId(house.ids()),
        draw=random.random,
        paper_per_day=partial(_paper_per_day, house),
    )


def _paper_per_day(house: House, sender: EnterpriseNumber, profile: str) -> int | None:
    """Return today's limit of the registration in force; a profile that is gone has none left to speak for it."""
    found = house.in_force.registration.senders.get(sender)
    known = found.profiles.get(profile) if found is not None else None
    return known.quota.paper_per_day if known is not None else None


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


# ── Edges ──


async def _start_intake(
    house: House,
    destinations: Mapping[str, Destination],
    workers: Workers,
    edges: _Edges,
    stack: AsyncExitStack,
    *,
    health: Health,
) -> int:
    config = house.config
    identities = Identities(lambda: house.in_force.registration, lambda: house.in_force.client_cas)
    accept_deps = AcceptDeps(
        settings=_accept_settings(config),
        registration=lambda: house.in_force.registration,
        identities=identities,
        vault=house.vault,
        blobs=house.blobs,
        ledger=house.ledger,
        receipts=lambda: house.in_force.receipts,
        logbook=house.logbook,
        clock=house.clock,
        ids=house.ids,
    )

    def on_accepted(accepted: Accepted) -> None:
        record = accepted.record
        house.metrics.accepted.labels(channel=record.deliveries[0].channel, lane=record.lane).inc()
        workers.wake()

    def on_cancelled(record: MessageRecord) -> None:
        channel = record.deliveries[0].channel
        house.metrics.settled.labels(channel=channel, status=DeliveryStatus.CANCELLED).inc()

    public_url = config.intake.public_url or f"https://{config.intake.bind}"
    deps = IntakeDeps(
        accept=accept_deps,
        ledger=house.ledger,
        vault=house.vault,
        logbook=house.logbook,
        clock=house.clock,
        public_url=public_url,
        evidence=EvidenceBook(
            gateway=config.gateway.name,
            ledger=house.ledger,
            signer=lambda: house.in_force.receipts,
            clock=house.clock,
        ),
        signers=lambda: (house.in_force.certificates["receipts"][0], *house.in_force.past_receipts),
        proving={name: each.adapter for name, each in destinations.items() if isinstance(each.adapter, Proving)},
        keep_undelivered=config.retention.keep_undelivered,
        contract=await asyncio.to_thread(publish_for, config, public_url),
        on_accepted=on_accepted,
        on_cancelled=on_cancelled,
        forecast=partial(_forecast, destinations),
    )
    context = await asyncio.to_thread(
        server_context,
        config.intake.certificate,
        config.intake.key_file,
        house.in_force.client_cas,
        config.intake.tls_minimum,
        on_handshake_failure=_handshake_reporter(house.metrics),
    )
    edges.contexts[INTAKE] = SwappableContext(context)
    edges.intake = IntakeServer(deps, identities, _edge_limits(config), house.metrics, [health.no_new_message])
    stack.push_async_callback(edges.intake.stop)
    return await edges.intake.start(config.intake.bind.host, config.intake.bind.port, edges.contexts[INTAKE].listening)


async def _forecast(
    destinations: Mapping[str, Destination], provider: str, channel: Channel, recipient: Recipient
) -> Reason | None:
    adapter = destinations[provider].adapter
    return await adapter.forecast(channel, recipient) if isinstance(adapter, Foretelling) else None


def _accept_settings(config: Config) -> AcceptSettings:
    return AcceptSettings(
        gateway_name=config.gateway.name,
        max_documents=config.limits.documents,
        max_total_bytes=config.limits.message_bytes,
        max_manifest_bytes=config.limits.manifest_bytes,
        max_batch_items=config.limits.batch_items,
        max_batch_manifest_bytes=config.limits.batch_manifest_bytes,
        created_at_past=config.limits.created_at_past,
        created_at_future=config.limits.created_at_future,
        allow_test_ssin=config.identifiers.allow_test_ssin,
        capabilities={channel: _capability(channel, config) for channel in Channel},
        providers=config.channels,
        enclose_up_to_bytes=config.stores.enclose_up_to_bytes,
        retry=config.retry,
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
        admission=AdmissionLimits(
            messages=limits.requests_in_flight,
            questions=limits.questions_in_flight,
            message_bytes=limits.bytes_in_flight,
            sender_requests_per_s=limits.sender_requests_per_s,
            sender_burst=limits.sender_burst,
        ),
        largest_message_bytes=limits.request_bytes,
        largest_batch_bytes=limits.batch_request_bytes,
        handshake_s=limits.handshake_timeout.total_seconds(),
        header_s=limits.header_timeout.total_seconds(),
        drain_s=limits.drain_timeout.total_seconds(),
        body=BodyLimits(
            manifest_bytes=limits.manifest_bytes,
            batch_manifest_bytes=limits.batch_manifest_bytes,
            batch_bytes=limits.batch_bytes,
            stall_s=limits.body_stall.total_seconds(),
            minimum_bytes_per_s=limits.minimum_bytes_per_s,
        ),
    )


def _handshake_reporter(metrics: Metrics) -> Callable[[str], None]:
    def report(reason: str) -> None:
        metrics.handshakes_refused.labels(reason=reason).inc()
        _log.warning("handshake refused", extra={"edge": "intake", "reason": reason})

    return report


async def _start_portal(house: House, edges: _Edges, stack: AsyncExitStack) -> int:
    config = house.config.portal
    application = build_portal(
        PortalDeps(
            ledger=house.ledger,
            documents=house.documents,
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
        edges.contexts[PORTAL] = SwappableContext(context)
    return await _serve(application, config.bind, context, house.config, stack)


async def _start_ops(
    house: House, health: Health, supervisor: Supervisor, started: asyncio.Event, stack: AsyncExitStack
) -> tuple[int, Readiness]:
    async def listens() -> None:
        if not started.is_set():
            raise GatewayError("the gateway is starting")

    proofs = make_checks(
        ReadinessDeps(
            receipts=lambda: (house.in_force.receipts, house.in_force.certificates["receipts"][0]),
            keyring=house.keyring,
            vault=house.vault,
            blobs=house.blobs,
            ledger=house.ledger,
            clock=house.clock,
            ids=house.ids,
        )
    )
    readiness = Readiness({**proofs, **health.checks(), "parts": supervisor.check, "started": listens})
    expiries = Expiries(certificates=lambda: house.in_force.certificates, client_cas=lambda: house.in_force.client_cas)
    gauges = Gauges(house.metrics, ledger=house.ledger, expiries=expiries, clock=house.clock)
    application = build_ops_app(house.metrics, readiness, refresh=gauges.refresh)
    return await _serve(application, house.config.ops.bind, None, house.config, stack), readiness


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


async def _start_admin(
    house: House,
    stack: AsyncExitStack,
    *,
    deliver: DeliverDeps,
    workers: Workers,
    sweeper: Sweeper,
    reloader: Reloader,
    edges: _Edges,
) -> Path:
    def on_decided(_decided: Decided) -> None:
        workers.wake()
        sweeper.wake()

    socket_path = house.config.admin.socket
    deps = AdminDeps(
        deliver=deliver,
        staff=lambda: house.in_force.staff,
        matrix=lambda: house.in_force.matrix,
        registration=lambda: house.in_force.registration,
        changes=reloader,
        close_connections=edges.close_connections,
        version=await asyncio.to_thread(version, "document-gateway"),
        started_at=house.clock(),
        on_decided=on_decided,
    )
    await stack.enter_async_context(serve_admin(socket_path, deps, house.metrics))
    return socket_path
