import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from gateway.admin.expiry import Expiries
from gateway.admin.gauges import Gauges
from gateway.admin.ops_edge import build_ops_app
from gateway.admin.readiness import Readiness
from gateway.crypto.certs import load_certificates, load_client_ca
from gateway.domain.message import Channel
from gateway.errors import StoreUnavailable
from gateway.telemetry import Metrics

UNITS = ("seconds", "days", "ratio", "bytes", "deliveries", "requests", "transactions", "messages", "documents")
SUFFIXES = ("_total", "_bucket", "_sum", "_count", "_created", *(f"_{unit}" for unit in UNITS))
NO_EXPIRIES = Expiries(certificates=dict, client_cas=list)


async def nothing() -> None:
    pass


async def fails() -> None:
    raise StoreUnavailable("disk full at /secret")


async def hangs() -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def ops(
    metrics: Metrics | None = None,
    check: Callable[[], Awaitable[None]] = nothing,
    refresh: Callable[[], Awaitable[None]] = nothing,
    limit_s: float = 60.0,
) -> AsyncIterator[Callable[..., Awaitable[tuple[int, str]]]]:
    application = build_ops_app(
        metrics or Metrics(), Readiness({"check": check}, limit_s=limit_s), refresh=refresh, refresh_limit_s=limit_s
    )
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    async with aiohttp.ClientSession() as session:

        async def ask(path: str, method: str = "GET") -> tuple[int, str]:
            async with session.request(method, f"http://{host}:{port}{path}") as response:
                return response.status, await response.text()

        yield ask
    await runner.cleanup()


def value(text: str, name: str, **labels: str) -> float:
    """Return the one sample of this name and labels."""
    found = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    assert len(found) == 1
    return found[0]


# ── metrics ──


def exercised() -> Metrics:
    """Metrics of which every one has a sample."""
    metrics = Metrics()
    for metric in vars(metrics).values():
        names = getattr(metric, "_labelnames", None)
        if not names:
            continue
        child = metric.labels(*("x" for _ in names))
        (getattr(child, "observe", None) or getattr(child, "inc", None) or child.set)(1)
    return metrics


async def test_every_metric_is_ours_by_name_and_ends_in_its_unit() -> None:
    async with ops(exercised()) as ask:
        status, text = await ask("/metrics")
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    names = {sample.name for sample in samples}
    assert status == 200
    assert len(names) > 30
    assert [name for name in sorted(names) if not name.startswith("gateway_")] == []
    assert [name for name in sorted(names) if not name.endswith(SUFFIXES)] == []
    bare = {name.removesuffix("_bucket") for name in names if name.endswith("_bucket")}
    assert [name for name in sorted(bare) if not name.endswith(UNITS)] == []


@pytest.mark.parametrize("refresh", [fails, hangs])
async def test_a_scrape_is_answered_and_the_failure_counted_when_the_gauges_cannot_be_read(
    refresh: Callable[[], Awaitable[None]],
) -> None:
    metrics = Metrics()
    metrics.late.labels(owner="worker", action="send").set(3)
    async with ops(metrics, refresh=refresh, limit_s=0.01) as ask:
        await ask("/metrics")
        status, text = await ask("/metrics")
    assert status == 200
    assert value(text, "gateway_gauge_refresh_failures_total") == 2
    assert value(text, "gateway_late_deliveries", owner="worker", action="send") == 3
    assert "secret" not in text


async def test_queues_and_late_deliveries_are_those_of_the_moment(office: Any) -> None:
    metrics = Metrics()
    gauges = Gauges(metrics, ledger=office.ledger, expiries=NO_EXPIRIES, clock=office.clock)
    async with ops(metrics, refresh=gauges.refresh) as ask:
        _, empty = await ask("/metrics")
        await office.in_doubt(Channel.EBOX_CITIZEN)
        await office.post(Channel.PRINT)
        office.clock.advance(timedelta(days=1, seconds=1))
        _, full = await ask("/metrics")
    assert value(empty, "gateway_queue_deliveries", channel="print", action="send") == 0
    assert value(full, "gateway_queue_deliveries", channel="print", action="send") == 1
    assert value(full, "gateway_queue_oldest_seconds", channel="print", action="send") == 86_401
    assert value(full, "gateway_queue_deliveries", channel="ebox-citizen", action="decide") == 1
    assert value(full, "gateway_queue_oldest_seconds", channel="ebox-citizen", action="decide") == 0
    persons = {"owner": "person", "action": "decide"}
    late = [value(text, "gateway_late_deliveries", **persons) for text in (empty, full)]
    ages_s = [value(text, "gateway_late_oldest_seconds", **persons) for text in (empty, full)]
    assert (late, ages_s) == ([0, 1], [0, 1])
    assert value(full, "gateway_late_deliveries", owner="worker", action="send") == 0
    assert value(full, "gateway_gauges_read_timestamp_seconds") == office.clock.now.timestamp()


async def test_a_queue_that_was_emptied_is_told_as_zero(office: Any) -> None:
    metrics = Metrics()
    gauges = Gauges(metrics, ledger=office.ledger, expiries=NO_EXPIRIES, clock=office.clock)
    await office.post(Channel.PRINT)
    async with ops(metrics, refresh=gauges.refresh) as ask:
        _, before = await ask("/metrics")
        await office.work()
        _, after = await ask("/metrics")
    assert value(before, "gateway_queue_deliveries", channel="print", action="send") == 1
    assert value(after, "gateway_queue_deliveries", channel="print", action="send") == 0


async def test_what_is_not_due_yet_is_not_overdue(office: Any, admin: Any) -> None:
    metrics = Metrics()
    await admin.decide(await office.in_doubt(Channel.PRINT), "accepted")  # asked about in an hour
    gauges = Gauges(metrics, ledger=office.ledger, expiries=NO_EXPIRIES, clock=office.clock)
    async with ops(metrics, refresh=gauges.refresh) as ask:
        _, text = await ask("/metrics")
    assert value(text, "gateway_queue_deliveries", channel="print", action="poll") == 1
    assert value(text, "gateway_queue_oldest_seconds", channel="print", action="poll") == 0


# ── expiry ──


def expiries(certs: Path, crl: str) -> Expiries:
    ca = load_client_ca("dev-clients", certs / "clients-ca.pem", crl_file=certs / crl, revocation="hard-fail")
    bare = load_client_ca("without-list", certs / "clients-ca.pem", crl_file=None, revocation="soft-fail")
    certificates = {
        "intake": load_certificates(certs / "server.pem"),
        "receipts": load_certificates(certs / "receipts.pem"),
        "portal": (),
    }
    return Expiries(certificates=lambda: certificates, client_cas=lambda: [ca, bare])


def test_the_first_certificate_of_a_chain_to_end_counts(certs: Path) -> None:
    chain = load_certificates(certs / "server.pem")
    ends_at = min(certificate.not_valid_after_utc for certificate in chain)
    assert len({certificate.not_valid_after_utc for certificate in chain}) > 1
    found = expiries(certs, "clients.crl.pem")
    assert found.days_left(ends_at - timedelta(days=30)).certificates["intake"] == 30
    assert found.days_left(ends_at + timedelta(hours=12)).certificates["intake"] == -0.5


def test_the_first_list_of_a_ca_to_end_counts(certs: Path) -> None:
    ca = load_client_ca("ca", certs / "clients-ca.pem", crl_file=certs / "clients.crl.pem", revocation="hard-fail")
    now = datetime.now(UTC)
    ends = [replace(ca.crls[0], next_update_at=now + timedelta(days=days)) for days in (9, 2, 5)]
    one = replace(ca, crls=tuple(ends))
    assert Expiries(certificates=dict, client_cas=lambda: [one]).days_left(now).crls == {"ca": 2}


def test_what_has_no_end_has_no_days_left(certs: Path) -> None:
    left = expiries(certs, "clients.crl.pem").days_left(datetime.now(UTC))
    assert left.certificates.keys() == {"intake", "receipts"}
    assert left.crls.keys() == {"dev-clients"}


def test_a_stale_list_has_less_than_no_days_left(certs: Path) -> None:
    assert expiries(certs, "stale.crl.pem").days_left(datetime.now(UTC)).crls["dev-clients"] < 0


async def test_days_left_are_told_even_when_the_ledger_is_away(office: Any, certs: Path) -> None:
    metrics = Metrics()
    now = datetime.now(UTC)
    ends = await asyncio.to_thread(expiries, certs, "clients.crl.pem")
    gauges = Gauges(metrics, ledger=office.ledger, expiries=ends, clock=lambda: now)
    await office.ledger.close()
    async with ops(metrics, refresh=gauges.refresh) as ask:
        _, text = await ask("/metrics")
    assert value(text, "gateway_certificate_expiry_days", certificate="receipts") > 300
    assert value(text, "gateway_crl_expiry_days", ca="dev-clients") > 0
    assert value(text, "gateway_gauge_refresh_failures_total") == 1


# ── health ──


async def test_a_gateway_whose_loop_turns_is_live_whatever_its_stores_do() -> None:
    async with ops(check=fails, refresh=fails) as ask:
        assert await ask("/health/live") == (200, '{"status": "live"}')


@pytest.mark.parametrize(
    ("check", "status", "outcome"), [(nothing, 200, "ok"), (fails, 503, "failed"), (hangs, 503, "timed-out")]
)
async def test_readiness_tells_the_outcome_of_each_check_and_never_why(
    check: Callable[[], Awaitable[None]], status: int, outcome: str
) -> None:
    async with ops(check=check, limit_s=0.01 if check is hangs else 60.0) as ask:
        answered, text = await ask("/health/ready")
    assert answered == status
    assert json.loads(text) == {"ready": status == 200, "draining": False, "checks": {"check": outcome}}


@pytest.mark.parametrize("path", ["/metrics", "/health/live", "/health/ready"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
async def test_only_get_is_taken(path: str, method: str) -> None:
    async with ops() as ask:
        assert (await ask(path, method))[0] == 405


@pytest.mark.parametrize("path", ["/", "/health", "/metrics/", "/status", "/ops/doubts", "/api/v1/messages"])
async def test_there_is_nothing_else(path: str) -> None:
    async with ops() as ask:
        assert (await ask(path))[0] == 404
