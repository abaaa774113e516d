"""Workers: claim what is due, deliver it, and let go in order when the gateway stops."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from gateway.deliver import DeliverDeps, Outcome, deliver
from gateway.errors import GatewayError, LeaseLost, StoreUnavailable
from gateway.stores.model import Claim

_log: Final = logging.getLogger(__name__)
_AFTER_TROUBLE: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """
    `count` deliveries at once for each provider, so that a slow one keeps no other waiting.

    Each is leased for `lease`; the ledger is asked at least every `poll_s`.
    """

    name: str
    count: int
    lease: timedelta
    poll_s: float


class Workers:
    """
    A pool of deliveries in progress.

    `wake` is a hint that something may be due; the ledger is the truth and is asked anyway.
    """

    def __init__(
        self, settings: WorkerSettings, deps: DeliverDeps, on_outcome: Callable[[Claim, Outcome], None]
    ) -> None:
        self._settings = settings
        self._deps = deps
        self._on_outcome = on_outcome
        self._running: dict[asyncio.Task[None], str] = {}  # with the provider that each works for
        self._wanted = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """Look for work soon."""
        self._wanted.set()

    async def run(self) -> None:
        """Claim and deliver until `stop` is called; then finish what is running."""
        while not self._stopping:
            claimed = await self._claim()
            for claim in claimed:
                task = asyncio.create_task(self._work(claim), name=f"deliver {claim.delivery.delivery_id}")
                self._running[task] = claim.delivery.provider
                task.add_done_callback(self._finished)
            if not claimed:
                await self._pause(self._settings.poll_s)
        if self._running:
            await asyncio.wait(self._running)

    def stop(self) -> None:
        """Claim no more; `run` returns when what is running has ended."""
        self._stopping = True
        self._wanted.set()

    def _finished(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._wanted.set()

    async def _claim(self) -> list[Claim]:
        busy = Counter(self._running.values())
        free = {
            provider: self._settings.count - busy[provider]
            for provider in self._deps.destinations
            if busy[provider] < self._settings.count
        }
        if not free:
            return []
        try:
            return await self._deps.ledger.claim(
                self._settings.name,
                lease=self._settings.lease,
                limit=min(free.values()),  # so that they may all be for one provider
                providers=free.keys(),
            )
        except StoreUnavailable as error:
            _log.warning("cannot claim deliveries", extra={"error": str(error)})
            return []

    async def _work(self, claim: Claim) -> None:
        try:
            outcome = await deliver(claim, self._deps)
        except LeaseLost:
            _log.info("lease lost", extra={"delivery": str(claim.delivery.delivery_id)})
        except Exception as error:  # noqa: BLE001 -- one letter's trouble must not stop the others; `late` shows it
            known = isinstance(error, GatewayError)
            # No traceback: texts of foreign errors may quote personal data; type and place suffice.
            _log.error(
                "delivery postponed",
                extra={
                    "delivery": str(claim.delivery.delivery_id),
                    "error": str(error) if known else type(error).__name__,
                    "place": _place(error),
                },
            )
            await self._give_back(claim)
        else:
            self._on_outcome(claim, outcome)

    async def _give_back(self, claim: Claim) -> None:
        """Return a delivery on which no call was begun; one in the middle of a call waits for its own time."""
        with contextlib.suppress(StoreUnavailable):  # the lease ends by itself
            await self._deps.ledger.release(claim, _AFTER_TROUBLE)

    async def _pause(self, longest_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._wanted.wait()
        self._wanted.clear()


def _place(error: BaseException) -> str:
    """Return file and line of the innermost frame; never its values."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
