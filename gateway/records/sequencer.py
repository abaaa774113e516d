"""
The sequencer: gives the events of each sender's feed their numbers, and lets go of those whose time in it is over.

Numbers are given to committed log entries only, in order of commit, by one transaction after the other. So a reader
that saw number n has seen, or could have seen, every number below n.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from gateway.errors import StoreUnavailable
from gateway.stores.ledger import Ledger

_log: Final = logging.getLogger(__name__)
_BATCH: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SequencerSettings:
    """`every_s` between rounds; events stay in the feed for `keep`, and are looked through for that `forget_every`."""

    every_s: float = 0.5
    keep: timedelta = timedelta(days=400)
    forget_every: timedelta = timedelta(hours=1)


class Sequencer:
    """Runs the rounds; several, in several processes, do no harm."""

    def __init__(self, settings: SequencerSettings, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._ledger = ledger
        self._clock = clock
        self._stop_wanted = asyncio.Event()
        self._forget_due_at: datetime | None = None

    def stop(self) -> None:
        """Make `run` return after the round at hand."""
        self._stop_wanted.set()

    async def run(self) -> None:
        """Number what was committed, until `stop` is called."""
        while not self._stop_wanted.is_set():
            try:
                await self.number()
                await self._forget_now_and_then()
            except StoreUnavailable as error:
                _log.warning("feed not numbered", extra={"error": str(error)})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.every_s):
                    await self._stop_wanted.wait()

    async def number(self) -> None:
        """Number everything that was committed before this call."""
        while await self._ledger.number_events(at=self._clock(), limit=_BATCH) == _BATCH:
            pass

    async def forget(self) -> None:
        """Remove the events whose time in the feed is over."""
        before = self._clock() - self._settings.keep
        while await self._ledger.forget_events(numbered_before=before, limit=_BATCH) == _BATCH:
            pass

    async def _forget_now_and_then(self) -> None:
        now = self._clock()
        if self._forget_due_at is None or now >= self._forget_due_at:
            await self.forget()
            self._forget_due_at = now + self._settings.forget_every
