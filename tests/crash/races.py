"""
Races that would hardly ever happen by themselves, brought about in every run.

In each, a call of the ledger is held until its rival has moved, and must then fail, because the rival came first:

- **late commit, late cover.** The letter `late`, and the cover page of the letter `paper`, are sealed into the blob
  store; before their transaction begins, the sweeper finds the blobs, old by their date, forbids and removes them.
- **stale worker.** The letter `stalled` has no connection to its provider, and its worker none to the ledger: it renews
  its lease no more, and sleeps on the news until another worker has taken the letter up, because the lease is over, and
  is calling the provider. Then it settles.
- **old erasure.** The sweeper has read that the letter `paper` is due to be erased; before it destroys the keys, a
  worker settles another look at the print house.
- **old news.** A worker has asked how far the letter `fallback` is; before it settles, the sweeper erases the letter.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from gateway.errors import StoreUnavailable
from tests.crash.points import LABEL, Way, Wire
from tests.crash.speeding import SharedClock

WENT_THROUGH: Final = "went through"
# What becomes of the one who comes second. Whatever else, it never goes through.
OUTCOMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "late commit": "StoreUnavailable",
        "late cover": "StoreUnavailable",
        "stale worker": "LeaseLost",
        "old erasure": "refused",
        "old news": "LeaseLost",
    }
)
_LATE: Final = "late"
_PAPER: Final = "paper"
_STALLED: Final = "stalled"
_FALLBACK: Final = "fallback"
_PUBLISH: Final = "publishMessage"
_OLD_S: Final = 90_000.0  # a little more than the age at which the sweeper looks at a blob
_LONGEST_S: Final = 40.0  # in the gateway's time; on a very busy machine a rival may not come
_WAYS: Final = (Way.KILL_BEFORE,)

_ATTEMPT: Final[ContextVar[int]] = ContextVar("attempt", default=0)


class Races:
    """The state of the races in one process; `tell` gets a line for each that was run to its end."""

    def __init__(self, wire: Wire, blobs: Path, tell: Callable[[str], None], clock: SharedClock) -> None:
        self._wire = wire
        self._blobs = blobs
        self._tell = tell
        self._clock = clock
        self._begun: set[str] = set()
        # Of races in which the rival has moved: the arguments of the call that comes second, which is that call alone.
        self._lost: dict[str, tuple[Any, ...]] = {}
        self._awaited: frozenset[UUID] = frozenset()
        self._asleep: tuple[UUID, int] | None = None  # the delivery and the lease of the stale worker
        self._swept = asyncio.Event()
        self._second_call = asyncio.Event()
        self._settled = asyncio.Event()
        self._erased = asyncio.Event()

    # ── What the ledger's proxy tells ──

    async def before(self, verb: str, args: tuple[Any, ...]) -> None:
        """Hold a call of the ledger until its rival has moved."""
        if verb == "renew" and self._asleep == (args[0].delivery.delivery_id, args[0].lease_token):
            raise StoreUnavailable("planned: this worker cannot reach the ledger")
        race = self._race(verb, args)
        if race is None or race in self._begun:
            return
        match race:
            case "late commit":
                await self._hold(race, self._sweep_of([each.document_id for each in args[0].message.documents]), args)
            case "late cover":
                await self._hold(race, self._sweep_of([args[1].document_id]), args)
            case "stale worker":
                await self._hold(race, self._second_call, args)
            case "old erasure":
                self._settled.clear()
                await self._hold(race, self._settled, args)
            case "old news" if self._clock.leapt and not self._erased.is_set():
                await self._hold(race, self._erased, args)
            case _:
                return

    def after(self, verb: str, args: tuple[Any, ...], result: Any) -> None:
        """Note what a call of the ledger came to."""
        self._ended(verb, args, "refused" if result is False else WENT_THROUGH)
        if verb == "begin_attempt":
            _ATTEMPT.set(result)
            if _worked_on() == _STALLED and result == 1:
                self._asleep = (args[0].delivery.delivery_id, args[0].lease_token)
        elif verb == "tombstone" and self._awaited & set(args[0]):
            self._swept.set()
        elif verb == "settle" and _worked_on() == _PAPER:
            self._settled.set()
        elif verb == "destroy_keys" and args[0].reference == _FALLBACK and result:
            self._erased.set()

    def failed(self, verb: str, args: tuple[Any, ...], error: Exception) -> None:
        """Note that a call of the ledger raised."""
        self._ended(verb, args, type(error).__name__)

    # ── What the points around providers ask ──

    def breaks(self, operation: str) -> bool:
        """Tell whether a provider's connection breaks now."""
        if _worked_on() != _STALLED or operation != _PUBLISH:
            return False
        if _ATTEMPT.get() == 1:
            return True
        self._second_call.set()
        return False

    # ── Inside ──

    def _race(self, verb: str, args: tuple[Any, ...]) -> str | None:
        match verb:
            case "record" if args[0].message.reference == _LATE:
                return "late commit"
            case "attach_cover" if _worked_on() == _PAPER:
                return "late cover"
            case "settle" if _worked_on() == _STALLED and _ATTEMPT.get() == 1:
                return "stale worker"
            case "settle" if _worked_on() == _FALLBACK:
                return "old news"
            case "destroy_keys" if args[0].reference == _PAPER:
                return "old erasure"
            case _:
                return None

    async def _hold(self, race: str, rival: asyncio.Event, args: tuple[Any, ...]) -> None:
        self._begun.add(race)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_S):
                await rival.wait()
            self._lost[race] = args
        self._wire.arrive(f"race.{race.replace(' ', '-')}", _WAYS, label="-").before()

    def _sweep_of(self, blob_ids: Collection[UUID]) -> asyncio.Event:
        """Return what tells that the sweeper has forbidden these blobs, which are old from now on."""
        self._awaited = frozenset(blob_ids)
        self._swept.clear()
        at = time.time() - _OLD_S
        for blob_id in blob_ids:
            os.utime(self._blobs / str(blob_id)[-3:] / str(blob_id), (at, at))
        return self._swept

    def _ended(self, verb: str, args: tuple[Any, ...], how: str) -> None:
        race = self._race(verb, args)
        if race is not None and self._lost.get(race) is args:
            del self._lost[race]
            self._tell(f"race\t{race}\t{how}")


def _worked_on() -> str:
    return LABEL.get().partition(":")[0]
