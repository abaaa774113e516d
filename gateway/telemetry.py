"""
How the gateway tells what it is doing: JSON log lines and Prometheus metrics.

Log lines hold ids, states and codes, never content, keys or personal numbers. Metric names start with `gateway_` and
end in their unit; labels have few values. Those whose values are known beforehand are there from the start, as 0:
Prometheus sees no increase in a series that begins with its first event.
"""

import json
import logging
import resource
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.domain.message import Channel, Lane
from gateway.domain.status import DeliveryStatus
from gateway.errors import Kind

# What a visit to the portal can come to.
PORTAL_OUTCOMES: Final = (
    "opened", "downloaded", "receipt-downloaded", "download-broken-off", "wrong-code", "unknown-letter", "malformed",
    "delayed", "not-available", "failed",
)  # fmt: skip
# What became of a change in force: from the files here, or (followed) by another process.
RELOAD_OUTCOMES: Final = ("done", "followed", "refused", "failed")
# Requests that share places at the sender edge, and why one found none: `gateway.intake.admission`.
ADMISSION_POOLS: Final = ("messages", "questions")
ADMISSION_REASONS: Final = (
    "sender-rate", "sender-places", "sender-bytes", "all-places", "all-bytes", "pressure",
)  # fmt: skip
# The usual words of OpenSSL, and our own for a full house; there are rarer ones.
HANDSHAKE_REASONS: Final = (
    "too-many-connections", "too-many-of-one-certificate", "peer-did-not-return-a-certificate",
    "unable-to-get-local-issuer-certificate",
    "certificate-has-expired", "certificate-is-not-yet-valid", "certificate-revoked", "crl-has-expired",
    "unable-to-get-certificate-crl", "unsuitable-certificate-purpose", "ee-certificate-key-too-weak", "http-request",
    "unsupported-protocol", "no-shared-cipher",
)  # fmt: skip
_STANDARD: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


_ENCODER: Final = json.JSONEncoder(default=str, ensure_ascii=False)


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, event, and whatever was passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
        return _ENCODER.encode(line)


def set_up_logging(stream: TextIO = sys.stdout, level: int = logging.INFO) -> None:
    """Send every log line to `stream` as JSON."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=level, force=True)


def place_of(error: BaseException) -> str:
    """Return file and line of the innermost frame of an error; never its values."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""


class Metrics:
    """Every metric of the gateway, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # prometheus_client appends `_total` to counters by itself.
        self.accepted = self._counter("gateway_messages_accepted", "Messages taken over", "channel", "lane")
        self.repeated = self._counter("gateway_messages_repeated", "Known messages answered again")
        self.refused = self._counter("gateway_messages_refused", "Requests answered with a problem", "code")
        self.accept_seconds = self._histogram(
            "gateway_accept_seconds", "From a request's header to its answer", "outcome"
        )
        self.handshakes_refused = self._counter("gateway_handshakes_refused", "TLS handshakes refused", "reason")
        self.requests = self._counter(
            "gateway_requests", "Requests by edge, route and status", "edge", "route", "status"
        )
        self.in_flight = self._gauge("gateway_requests_in_flight_requests", "Requests being answered now", "edge")
        self.admitted = self._gauge("gateway_admitted_requests", "Requests that hold a place now", "pool")
        self.admitted_bytes = self._gauge("gateway_admitted_bytes", "Size of the messages that arrive now, as stated")
        self.not_admitted = self._counter(
            "gateway_admission_refused", "Requests that found no place, by why", "pool", "reason"
        )
        self.attempts = self._counter("gateway_attempts", "Calls to providers", "channel", "provider", "outcome")
        self.retries = self._counter("gateway_retries", "Deliveries put back to be tried again", "channel")
        self.settled = self._counter("gateway_deliveries", "Deliveries by the state they came to", "channel", "status")
        self.queue = self._gauge("gateway_queue_deliveries", "Deliveries that wait for an action", "channel", "action")
        self.queue_age = self._gauge(
            "gateway_queue_oldest_seconds", "How long the most overdue of them has been due", "channel", "action"
        )
        self.late = self._gauge(
            "gateway_late_deliveries", "Deliveries past their deadline, by who owes the next step", "owner", "action"
        )
        self.late_age = self._gauge(
            "gateway_late_oldest_seconds", "How long ago the oldest of those deadlines was", "owner", "action"
        )
        self.late_copies = self._gauge(
            "gateway_late_erasure_messages", "Messages whose documents are past their date of erasure"
        )
        self.late_blobs = self._gauge(
            "gateway_late_erasure_documents", "Documents whose key was destroyed and whose blob is still there"
        )
        self.gauges_read = self._gauge(
            "gateway_gauges_read_timestamp_seconds", "When queues, late deliveries and expiry were last read"
        )
        self.gauge_refresh_failures = self._counter(
            "gateway_gauge_refresh_failures", "Scrapes before which those could not be read"
        )
        self.commit_seconds = self._histogram("gateway_ledger_commit_seconds", "One commit of the ledger")
        self.commit_batch = Histogram(
            "gateway_ledger_commit_transactions",
            "Transactions that share one commit",
            registry=self.registry,
            buckets=(1, 2, 5, 10, 20, 50, 100, 200),
        )
        self.blob_seconds = self._histogram("gateway_blob_seconds", "One call to the blob store", "call")
        self.certificate_days = self._gauge(
            "gateway_certificate_expiry_days", "Days until a certificate ends", "certificate"
        )
        self.crl_days = self._gauge("gateway_crl_expiry_days", "Days until a revocation list ends", "ca")
        self.breaker_open = self._gauge(
            "gateway_provider_blocked_ratio", "1 while calls to a provider pause", "provider"
        )
        self.clock_jumps = self._counter("gateway_clock_jumps", "Leaps of the machine's clock that were not followed")
        self.clock_skew = self._gauge(
            "gateway_clock_skew_seconds", "How far a clock is ahead of the gateway's time", "clock"
        )
        self.disk_free = self._gauge("gateway_disk_free_bytes", "Room left for the gateway on a disk", "disk")
        self.closed = self._gauge(
            "gateway_intake_closed_ratio", "1 while no new message is taken over, by what is wrong", "because"
        )
        self.part_running = self._gauge(
            "gateway_part_running_ratio", "1 while a part of the gateway runs, and has not just died", "part"
        )
        self.part_deaths = self._counter("gateway_part_deaths", "Deaths of parts of the gateway", "part")
        self.retrievals = self._counter("gateway_retrievals", "Visits of recipients to the portal", "outcome")
        self.reloads = self._counter(
            "gateway_reloads", "Registrations, certificates and lists put in force, or refused", "outcome"
        )
        self.erased = self._counter("gateway_erased_messages", "Messages whose documents were erased")
        self._begin_at_zero()
        self.registry.register(ProcessFigures())

    def _begin_at_zero(self) -> None:
        for channel in Channel:
            for lane in Lane:
                self.accepted.labels(channel=channel, lane=lane)
            for status in DeliveryStatus:
                self.settled.labels(channel=channel, status=status)
            self.retries.labels(channel=channel)
        for code in Kind:
            self.refused.labels(code=code)
        for outcome in ("accepted", "refused"):
            self.accept_seconds.labels(outcome=outcome)
        for reason in HANDSHAKE_REASONS:
            self.handshakes_refused.labels(reason=reason)
        for outcome in PORTAL_OUTCOMES:
            self.retrievals.labels(outcome=outcome)
        for outcome in RELOAD_OUTCOMES:
            self.reloads.labels(outcome=outcome)
        self.in_flight.labels(edge="intake")
        for pool in ADMISSION_POOLS:
            self.admitted.labels(pool=pool)
            for reason in ADMISSION_REASONS:
                self.not_admitted.labels(pool=pool, reason=reason)
        for clock in ("machine", "ledger"):
            self.clock_skew.labels(clock=clock)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReadFromProc:
    resident_bytes: int
    open_files_ratio: float


class ProcessFigures(Collector):
    """
    What this process uses: processor time, memory, open files.

    `/proc` is read in a thread, so that the event loop never waits for it; what is told of it was read just after the
    scrape before. The library's own collector reads where it is called, needs more of `/proc` than a hardened unit
    shows (`ProcSubset=pid`), and has names without our prefix.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._own = proc / "self"
        self._started_at_s = time.time()
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="process-figures")
        self._known: _ReadFromProc | None = None
        self._reading: Future[_ReadFromProc | None] = self._reader.submit(self._read)

    def collect(self) -> Iterator[Metric]:
        """Yield the figures; without `/proc`, those that need none."""
        if self._reading.done():
            self._known = self._reading.result()
            self._reading = self._reader.submit(self._read)
        yield GaugeMetricFamily(
            "gateway_process_start_time_seconds", "When the process began, since 1970", self._started_at_s
        )
        yield CounterMetricFamily("gateway_process_cpu_seconds", "Processor time used", time.process_time())
        if self._known is not None:
            yield GaugeMetricFamily(
                "gateway_process_resident_memory_bytes", "Memory in use", self._known.resident_bytes
            )
            yield GaugeMetricFamily(
                "gateway_process_open_files_ratio",
                "Open files and connections, of those allowed",
                self._known.open_files_ratio,
            )

    def _read(self) -> _ReadFromProc | None:
        try:
            pages = int((self._own / "statm").read_text("ascii").split()[1])
            open_files = sum(1 for _ in (self._own / "fd").iterdir())
        except OSError:
            return None
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return _ReadFromProc(
            resident_bytes=pages * resource.getpagesize(),
            open_files_ratio=0.0 if allowed == resource.RLIM_INFINITY else open_files / allowed,
        )
