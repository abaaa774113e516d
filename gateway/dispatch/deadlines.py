"""
The deadlines: acts on deliveries whose time has passed, where acting is right; the rest stays late, for all to see.

What follows is decided by `domain.deadlines`. A delivery is leased as a worker would lease it, so that a worker and
this never both win; then it is looked at again, and settled like any other piece of work. No provider is called.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from gateway.deliver.opening import find_envelope
from gateway.deliver.settle import journey_state, settlement
from gateway.deliver.stages import DeliverDeps, Envelope, Outcome
from gateway.domain.deadlines import Pending, after_deadline
from gateway.domain.journey import Verdict
from gateway.domain.schedule import TAKEN_UP_WITHIN
from gateway.domain.status import InvalidMove, NextAction, Reason
from gateway.errors import LeaseLost, StoreUnavailable
from gateway.stores.model import Claim, DeliveryRecord

_log: Final = logging.getLogger(__name__)
_WORKER: Final = "deadlines"
_OVERDUE: Final = "overdue"
_AT_ONCE: Final = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineSettings:
    """
    `every_s` between rounds. A round looks at `most` late deliveries, in pages of `page`; the next goes on from there,
    so that what stays late keeps nothing behind it from sight. Each is leased for `lease`.
    """

    every_s: float = 60.0
    page: int = 200
    most: int = 5_000
    lease: timedelta = timedelta(seconds=60)


class Deadlines:
    """
    Runs the rounds.

    In its first minutes it only ends what has expired: after a rest, workers first do what fell due meanwhile.
    """

    def __init__(
        self, settings: DeadlineSettings, deps: DeliverDeps, on_outcome: Callable[[Claim, Outcome], None]
    ) -> None:
        self._settings = settings
        self._deps = deps
        self._on_outcome = on_outcome
        self._awake_at = deps.clock() + TAKEN_UP_WITHIN
        self._seen: DeliveryRecord | None = None  # the last one that was looked at; None: begin with the latest
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Make `run` return after the round at hand."""
        self._stopping.set()

    async def run(self) -> None:
        """Look after deadlines until `stop` is called."""
        while not self._stopping.is_set():
            try:
                await self.look()
            except StoreUnavailable as error:
                _log.warning("deadlines not looked after", extra={"error": str(error)})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.every_s):
                    await self._stopping.wait()

    async def look(self) -> int:
        """
        Act on what is late, once; return on how many deliveries.

        Raises:
            StoreUnavailable: not on all of them.
        """
        acted = looked_at = 0
        now = self._deps.clock()
        while looked_at < self._settings.most and not self._stopping.is_set():
            page = await self._deps.ledger.late(now, after=self._seen, limit=self._settings.page)
            for delivery in page:
                if delivery.next_action is not NextAction.DECIDE:  # those are a person's
                    acted += await self._act(delivery)
            looked_at += len(page)
            self._seen = page[-1] if len(page) == self._settings.page else None
            if self._seen is None:
                break
        return acted

    async def _act(self, delivery: DeliveryRecord) -> bool:
        deps, now = self._deps, self._deps.clock()
        seen = Claim(delivery=delivery, worker=_WORKER, lease_token=0, lease_until=now)  # only to look; holds nothing
        if self._verdict(await find_envelope(seen, deps), now) is None:
            return False
        claim = await deps.ledger.claim_late(_WORKER, delivery.delivery_id, now=now, lease=self._settings.lease)
        if claim is None:
            return False
        envelope = await find_envelope(claim, deps)
        verdict = self._verdict(envelope, now)
        if verdict is None:
            await deps.ledger.release(claim, _AT_ONCE)
            return False
        outcome = _outcome(delivery, verdict)
        try:
            await deps.ledger.settle(claim, await settlement(envelope, outcome, deps))
        except LeaseLost:
            return False
        except InvalidMove as error:  # one that cannot be settled must not keep the others from it
            _log.error("deadline not settled", extra={"delivery": str(delivery.delivery_id), "error": str(error)})
            return False
        self._on_outcome(claim, outcome)
        return True

    def _verdict(self, envelope: Envelope, now: datetime) -> Verdict | None:
        delivery = envelope.delivery
        if delivery.deadline_at is None:
            return None
        pending = Pending(
            status=delivery.status,
            action=delivery.next_action,
            reason=Reason(delivery.reason) if delivery.reason is not None else None,
            due_at=delivery.due_at,
            deadline_at=delivery.deadline_at,
        )
        verdict = after_deadline(journey_state(envelope, self._deps), pending, now, self._deps.rules)
        expires = verdict is not None and verdict.reason is Reason.EXPIRED
        return verdict if expires or now >= self._awake_at else None


def _outcome(delivery: DeliveryRecord, verdict: Verdict) -> Outcome:
    held_by_provider = delivery.next_action is NextAction.POLL
    to_person = verdict.next_action is NextAction.DECIDE
    return Outcome(
        name=str(Reason.EXPIRED) if verdict.reason is Reason.EXPIRED else _OVERDUE,
        verdict=verdict,
        attempted=delivery.next_action is NextAction.RECONCILE,  # ends the attempt that nobody ended
        event=_OVERDUE if held_by_provider and to_person else None,
    )
