"""The gauges that are read at scrape time: what waits, what is late, and what is about to expire."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from gateway.admin.expiry import Expiries
from gateway.domain.deadlines import COPY_DUTY, DUTIES, ERASED_WITHIN, duty_of
from gateway.domain.message import Channel
from gateway.domain.status import NextAction
from gateway.stores.ledger import Ledger
from gateway.stores.model import LateCounts, QueueDepth
from gateway.telemetry import Metrics

# Those with nothing to do are told as 0: a series that is absent looks like a gateway that is.
_ALL_QUEUES: Final = tuple(
    (str(channel), str(action)) for channel in Channel for action in NextAction if action is not NextAction.NONE
)
_ALL_LATE: Final = tuple(dict.fromkeys((str(duty.owner), str(action)) for (_, action), duty in DUTIES.items()))
_ERASURE: Final = (str(COPY_DUTY.owner), "erase")
_UNKNOWN: Final = "unknown"  # who owes a step that only a newer program knows


class Gauges:
    """Fills gauges; give `refresh` to `build_ops_app`."""

    def __init__(self, metrics: Metrics, *, ledger: Ledger, expiries: Expiries, clock: Callable[[], datetime]) -> None:
        self._metrics = metrics
        self._ledger = ledger
        self._expiries = expiries
        self._clock = clock

    async def refresh(self) -> None:
        """
        Read everything anew.

        Raises:
            StoreUnavailable: what the ledger knows is as it was at the last scrape; all else is up to date.
        """
        now = self._clock()
        self._expiry(now)
        depths = await self._ledger.queue_depths()
        late = await self._ledger.late_counts(now, erased_within=ERASED_WITHIN)
        self._queues(depths, now)
        self._late(late, now)
        self._metrics.gauges_read.set(now.timestamp())

    def _expiry(self, now: datetime) -> None:
        left = self._expiries.days_left(now)
        self._metrics.certificate_days.clear()
        for duty, days in left.certificates.items():
            self._metrics.certificate_days.labels(certificate=duty).set(days)
        self._metrics.crl_days.clear()
        for ca, days in left.crls.items():
            self._metrics.crl_days.labels(ca=ca).set(days)

    def _queues(self, depths: Sequence[QueueDepth], now: datetime) -> None:
        found = {(depth.channel, depth.action): depth for depth in depths}
        for channel, action in dict.fromkeys([*_ALL_QUEUES, *found]):
            depth = found.get((channel, action))
            due_at = depth.oldest_due_at if depth is not None else None
            overdue_s = (now - due_at).total_seconds() if due_at is not None else 0.0
            self._metrics.queue.labels(channel=channel, action=action).set(depth.count if depth is not None else 0)
            self._metrics.queue_age.labels(channel=channel, action=action).set(max(overdue_s, 0.0))

    def _late(self, late: LateCounts, now: datetime) -> None:
        counts = dict.fromkeys(_ALL_LATE, 0)
        ages_s = dict.fromkeys([*_ALL_LATE, _ERASURE], 0.0)
        for group in late.deliveries:
            duty = duty_of(group.status, group.action)
            who = (str(duty.owner) if duty is not None else _UNKNOWN, group.action)
            counts[who] = counts.get(who, 0) + group.count
            ages_s[who] = max(ages_s.get(who, 0.0), (now - group.oldest_deadline_at).total_seconds())
        for erasures in (late.copies, late.blobs):
            if erasures.oldest_due_at is not None:
                overdue_s = (now - erasures.oldest_due_at - ERASED_WITHIN).total_seconds()
                ages_s[_ERASURE] = max(ages_s[_ERASURE], overdue_s)
        # Cleared, so that a group of which none is left is not told on; in one step of the loop, so no scrape sees it.
        self._metrics.late.clear()
        self._metrics.late_age.clear()
        for (owner, action), count in counts.items():
            self._metrics.late.labels(owner=owner, action=action).set(count)
        for (owner, action), age_s in ages_s.items():
            self._metrics.late_age.labels(owner=owner, action=action).set(age_s)
        self._metrics.late_copies.set(late.copies.count)
        self._metrics.late_blobs.set(late.blobs.count)
