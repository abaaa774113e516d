"""What may be asked of the gateway, and when it tries again, asks and erases: `[limits]` to `[workers]`."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from gateway.config.reader import Table
from gateway.config.values import duration, integer, number
from gateway.domain.batch import MAX_ITEMS
from gateway.domain.schedule import PollRules, RetryRules

_DAY: Final = timedelta(days=1)
_DAY_S: Final = 86_400.0
_AROUND_A_PART_BYTES: Final = 16_384  # its boundary and its headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one sender, one connection or one message may ask of the gateway."""

    documents: int = 20
    message_bytes: int = 30_000_000
    manifest_bytes: int = 262_144
    batch_items: int = 500
    batch_bytes: int = 1_073_741_824
    batch_manifest_bytes: int = 2_097_152
    connections: int = 1_000
    requests_in_flight: int = 200
    questions_in_flight: int = 200
    bytes_in_flight: int = 1_000_000_000
    sender_requests_per_s: float = 1_000.0
    sender_burst: int = 2_000
    handshake_timeout: timedelta = timedelta(seconds=10)
    header_timeout: timedelta = timedelta(seconds=15)
    body_stall: timedelta = timedelta(seconds=20)
    minimum_bytes_per_s: int = 1_000
    drain_notice: timedelta = timedelta(0)
    drain_timeout: timedelta = timedelta(seconds=30)
    created_at_past: timedelta = timedelta(hours=24)
    created_at_future: timedelta = timedelta(minutes=5)
    keep_free_bytes: int = 1_073_741_824

    @property
    def request_bytes(self) -> int:
        """The most that a request may have that hands a message over: signed part, documents, and what parts them."""
        return self.manifest_bytes + self.message_bytes + (self.documents + 1) * _AROUND_A_PART_BYTES

    @property
    def batch_request_bytes(self) -> int:
        """The most that a request may have that hands a batch over: signed part, items, and what parts them."""
        parts = 1 + self.batch_items * (1 + self.documents)
        return self.batch_manifest_bytes + self.batch_bytes + parts * _AROUND_A_PART_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long documents stay that no sender set a term for."""

    keep_undelivered: timedelta = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Who delivers: how many at once for each provider, how long they hold a delivery, how often they look for work."""

    count: int = 4
    lease_s: float = 60.0
    poll_s: float = 1.0


def read_limits(table: Table) -> Limits:
    """Read `[limits]`."""
    usual = Limits()
    timeout = duration(timedelta(seconds=1), timedelta(hours=1))
    past, future = duration(timedelta(minutes=1), 30 * _DAY), duration(timedelta(0), _DAY)
    limits = Limits(
        documents=table.optional("documents", integer(1, 100), usual.documents),
        message_bytes=table.optional("message_bytes", integer(1_000, 1_073_741_824), usual.message_bytes),
        manifest_bytes=table.optional("manifest_bytes", integer(16_384, 1_048_576), usual.manifest_bytes),
        batch_items=table.optional("batch_items", integer(1, MAX_ITEMS), usual.batch_items),
        batch_bytes=table.optional("batch_bytes", integer(1_000, 1_099_511_627_776), usual.batch_bytes),
        batch_manifest_bytes=table.optional(
            "batch_manifest_bytes", integer(16_384, 8_388_608), usual.batch_manifest_bytes
        ),
        connections=table.optional("connections", integer(1, 100_000), usual.connections),
        requests_in_flight=table.optional("requests_in_flight", integer(1, 100_000), usual.requests_in_flight),
        questions_in_flight=table.optional("questions_in_flight", integer(1, 100_000), usual.questions_in_flight),
        bytes_in_flight=table.optional("bytes_in_flight", integer(1, 1_000_000_000_000), usual.bytes_in_flight),
        sender_requests_per_s=table.optional(
            "sender_requests_per_s", number(0.01, 100_000), usual.sender_requests_per_s
        ),
        sender_burst=table.optional("sender_burst", integer(1, 1_000_000), usual.sender_burst),
        handshake_timeout=table.optional("handshake_timeout", timeout, usual.handshake_timeout),
        header_timeout=table.optional("header_timeout", timeout, usual.header_timeout),
        body_stall=table.optional("body_stall", timeout, usual.body_stall),
        minimum_bytes_per_s=table.optional("minimum_bytes_per_s", integer(0, 1_000_000_000), usual.minimum_bytes_per_s),
        drain_notice=table.optional("drain_notice", duration(timedelta(0), timedelta(minutes=5)), usual.drain_notice),
        drain_timeout=table.optional("drain_timeout", timeout, usual.drain_timeout),
        created_at_past=table.optional("created_at_past", past, usual.created_at_past),
        created_at_future=table.optional("created_at_future", future, usual.created_at_future),
        keep_free_bytes=table.optional("keep_free_bytes", integer(0, 1_125_899_906_842_624), usual.keep_free_bytes),
    )
    if limits.requests_in_flight > limits.connections:
        table.wrong("requests_in_flight", "must not be more than connections")
    if limits.bytes_in_flight < limits.request_bytes:
        table.wrong(
            "bytes_in_flight", f"must have room for one message as large as may be, so at least {limits.request_bytes}"
        )
    return limits


def read_retry(table: Table) -> RetryRules:
    """Read `[retry]`."""
    usual = RetryRules()
    rules = RetryRules(
        first_delay_s=table.optional("first_delay_s", number(1, _DAY_S), usual.first_delay_s),
        longest_delay_s=table.optional("longest_delay_s", number(1, 7 * _DAY_S), usual.longest_delay_s),
        decide_after_s=table.optional("decide_after_s", number(1, 30 * _DAY_S), usual.decide_after_s),
        jitter=table.optional("jitter", number(0, 0.9), usual.jitter),
    )
    if rules.first_delay_s > rules.longest_delay_s:
        table.wrong("first_delay_s", "must not be longer than longest_delay_s")
    if rules.longest_delay_s > rules.decide_after_s:
        table.wrong("longest_delay_s", "must not be longer than decide_after_s")
    return rules


def read_polling(table: Table) -> PollRules:
    """Read `[polling]`."""
    usual = PollRules()
    often, late = number(1, 30 * _DAY_S), number(1, 365 * _DAY_S)
    rules = PollRules(
        read_status_s=table.optional_list("read_status_s", often, usual.read_status_s),
        read_status_then_s=table.optional("read_status_then_s", often, usual.read_status_then_s),
        print_s=table.optional("print_s", often, usual.print_s),
        print_silent_after_s=table.optional("print_silent_after_s", late, usual.print_silent_after_s),
        returned_watch_s=table.optional("returned_watch_s", late, usual.returned_watch_s),
        returned_every_s=table.optional("returned_every_s", often, usual.returned_every_s),
    )
    if list(rules.read_status_s) != sorted(rules.read_status_s):
        table.wrong("read_status_s", "must go up: each counts from the hand-over")
    return rules


def read_retention(table: Table) -> Retention:
    """Read `[retention]`."""
    kept = duration(_DAY, 3_650 * _DAY)
    return Retention(keep_undelivered=table.optional("keep_undelivered", kept, Retention().keep_undelivered))


def read_workers(table: Table) -> Workers:
    """Read `[workers]`."""
    usual = Workers()
    workers = Workers(
        count=table.optional("count", integer(1, 1_000), usual.count),
        lease_s=table.optional("lease_s", number(5, 3_600), usual.lease_s),
        poll_s=table.optional("poll_s", number(0.05, 60), usual.poll_s),
    )
    if workers.poll_s >= workers.lease_s:
        table.wrong("poll_s", "must be shorter than lease_s")
    return workers
