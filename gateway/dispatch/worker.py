"""
Workers: claim what is due, deliver it, and let go in order when the gateway stops.

A lease is kept for as long as the work on its delivery takes: waiting for a place or a turn at the provider, opening
the letter, making its cover page, counting its pages, asking how far it is. (An attempt has its own lease, until its
deadline, which renewing leaves alone.) When a lease is lost all the same, the work ends at once, a call that is under
way included: whoever holds the delivery by then finds out what the call did, and nothing of it is settled here.
"""

import asyncio
import contextlib
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from gateway.adapters.limits import LimitedAdapter
from gateway.deliver import deliver
from gateway.deliver.stages import DeliverDeps, Outcome
from gateway.errors import GatewayError, LeaseLost, StoreUnavailable
from gateway.stores.model import Claim
from gateway.telemetry import place_of

_log: Final = logging.getLogger(__name__)
_AFTER_TROUBLE: Final = timedelta(seconds=5)
_AT_ONCE: Final = timedelta(0)
_RENEWALS_PER_LEASE: Final = 3  # so that one may fail


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """
    `count` deliveries at once for each provider, so that a slow one keeps no other waiting; fewer where its adapter
    takes fewer calls at once.

    Each is leased for `lease` at a time; the ledger is asked at least every `poll_s`.
    """

    name: str
    count: int
    lease: timedelta
    poll_s: float


class _NotBegun(Exception):
    """The gateway stops while a delivery waits for its turn: nothing was done for it yet."""


class Workers:
    """
    A pool of deliveries in progress.

    `wake` is a hint that something may be due; the ledger is the truth and is asked anyway. `no_new_call` says why no
    provider may be called now, if so; nothing is claimed then.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        deps: DeliverDeps,
        on_outcome: Callable[[Claim, Outcome], None],
        *,
        no_new_call: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._deps = deps
        self._on_outcome = on_outcome
        self._no_new_call = no_new_call
        self._running: dict[asyncio.Task[None], str] = {}  # with the provider that each works for
        self._not_begun: set[asyncio.Timeout] = set()  # what ends each that waits for its turn
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
        for fence in self._not_begun:
            _end(fence)

    def _finished(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._wanted.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.critical("a worker died", extra={"error": type(error).__name__, "place": place_of(error)})

    async def _claim(self) -> list[Claim]:
        """Claim as much for each provider as it has free places; what one is busy with costs no other a place."""
        claimed: list[Claim] = []
        if self._no_new_call() is not None:
            return claimed
        try:
            for places, providers in self._free().items():
                claimed += await self._deps.ledger.claim(
                    self._settings.name, lease=self._settings.lease, limit=places, providers=providers
                )
        except StoreUnavailable as error:
            _log.warning("cannot claim deliveries", extra={"error": str(error)})
        return claimed

    def _free(self) -> dict[int, list[str]]:
        """Return the providers that have free places, by how many they have."""
        busy = Counter(self._running.values())
        free: defaultdict[int, list[str]] = defaultdict(list)
        for provider in self._deps.destinations:
            if (places := self._places(provider) - busy[provider]) > 0:
                free[places].append(provider)
        return free

    def _places(self, provider: str) -> int:
        adapter = self._deps.destinations[provider].adapter
        count = self._settings.count
        return min(count, adapter.concurrent_calls) if isinstance(adapter, LimitedAdapter) else count

    async def _work(self, claim: Claim) -> None:
        delivery = str(claim.delivery.delivery_id)
        try:
            outcome = await self._deliver(claim)
        except LeaseLost:
            _log.info("lease lost", extra={"delivery": delivery})
        except _NotBegun:
            await self._give_back(claim, _AT_ONCE)
        except Exception as error:  # noqa: BLE001 -- one letter's trouble must not stop the others; `late` shows it
            known = isinstance(error, GatewayError)
            # No traceback: texts of foreign errors may quote personal data; type and place suffice.
            _log.error(
                "delivery postponed",
                extra={
                    "delivery": delivery,
                    "error": str(error) if known else type(error).__name__,
                    "place": place_of(error),
                },
            )
            await self._give_back(claim, _AFTER_TROUBLE)
        else:
            self._on_outcome(claim, outcome)

    async def _deliver(self, claim: Claim) -> Outcome:
        """
        Deliver when the provider has a place and a turn, and keep the lease all the while.

        Raises:
            LeaseLost: somebody else holds it.
            _NotBegun: the pool was stopped before the turn came.
        """
        fence = asyncio.timeout(None)
        try:
            async with fence, self._kept(claim, fence), self._in_turn(claim, fence):
                return await deliver(claim, self._deps)
        except TimeoutError:
            if not fence.expired():
                raise
            raise (_NotBegun if fence in self._not_begun else LeaseLost) from None
        finally:
            self._not_begun.discard(fence)

    @contextlib.asynccontextmanager
    async def _in_turn(self, claim: Claim, fence: asyncio.Timeout) -> AsyncIterator[None]:
        """Wait until the provider has a place and a turn, which the attempt's deadline does not count."""
        adapter = self._deps.destinations[claim.delivery.provider].adapter
        if not isinstance(adapter, LimitedAdapter):
            yield
            return
        self._not_begun.add(fence)
        async with adapter.reserved():
            self._not_begun.discard(fence)
            yield

    @contextlib.asynccontextmanager
    async def _kept(self, claim: Claim, fence: asyncio.Timeout) -> AsyncIterator[None]:
        keeper = asyncio.create_task(self._keep(claim, fence), name=f"keep {claim.delivery.delivery_id}")
        try:
            yield
        finally:
            keeper.cancel()

    async def _keep(self, claim: Claim, fence: asyncio.Timeout) -> None:
        """Renew a lease again and again; when it is lost, end what goes on under it."""
        lease = self._settings.lease
        while True:
            await asyncio.sleep(lease.total_seconds() / _RENEWALS_PER_LEASE)
            try:
                await self._deps.ledger.renew(claim, lease)
            except LeaseLost:
                self._not_begun.discard(fence)
                _end(fence)
                return
            except Exception as error:  # noqa: BLE001 -- tried again; should the lease end meanwhile, nothing is settled
                _log.warning("lease not renewed", extra={"error": type(error).__name__, "place": place_of(error)})

    async def _give_back(self, claim: Claim, delay: timedelta) -> None:
        """Return a delivery on which no call was begun; one in the middle of a call waits for its own time."""
        with contextlib.suppress(StoreUnavailable):  # the lease ends by itself
            await self._deps.ledger.release(claim, delay)

    async def _pause(self, longest_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._wanted.wait()
        self._wanted.clear()


def _end(fence: asyncio.Timeout) -> None:
    """End what runs under a fence, now; ending it twice is fine."""
    if not fence.expired():
        fence.reschedule(asyncio.get_running_loop().time())
