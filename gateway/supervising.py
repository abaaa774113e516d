"""
Parts that run beside the edges: workers, sweeper, sequencer and their like. None of them dies unseen.

A part that dies is started again after a pause, which doubles with each death up to a limit; what it worked on is in
the ledger, and it takes up from there. Until it has run for a while again the gateway is not ready, the metrics say
which part it is, and the log says where it broke.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Final

from gateway.errors import GatewayError
from gateway.telemetry import Metrics, place_of

_log: Final = logging.getLogger(__name__)


class PartDown(GatewayError):
    """A part died, and has not run again for long enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartRules:
    """The first pause and the longest; a part is well, and its next pause the first, when it has run for `steady_s`."""

    first_pause_s: float = 1.0
    longest_pause_s: float = 60.0
    steady_s: float = 10.0


@dataclass(slots=True, kw_only=True, eq=False)
class _Part:
    """A part with `started_at_s`, None while it does not run; a part that never died is well from its start."""

    name: str
    stop_wanted: asyncio.Event
    started_at_s: float | None = None
    has_died: bool = False


class Supervisor:
    """Runs parts until they are told to stop; `monotonic_s` is a clock that never goes back."""

    def __init__(
        self,
        metrics: Metrics,
        rules: RestartRules | None = None,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._rules = rules or RestartRules()
        self._monotonic_s = monotonic_s
        self._parts: list[_Part] = []

    def run_beside(
        self, name: str, work: Callable[[], Coroutine[None, None, None]], stop: Callable[[], None]
    ) -> Callable[[], Awaitable[None]]:
        """
        Run `work` in a task of its own; a return is its end, anything raised a death.

        Return what tells it to stop, by `stop`, and waits until it has.
        """
        part = _Part(name=name, stop_wanted=asyncio.Event())
        self._parts.append(part)
        self._metrics.part_deaths.labels(part=name)
        self._metrics.part_running.labels(part=name).set_function(lambda: float(self._is_well(part)))
        task = asyncio.create_task(self._supervise(part, work), name=name)

        async def finish() -> None:
            part.stop_wanted.set()
            stop()
            await asyncio.wait([task])

        return finish

    async def check(self) -> None:
        """
        Prove that every part runs; for readiness.

        Raises:
            PartDown: with the names of those that do not.
        """
        down = [part.name for part in self._parts if not self._is_well(part)]
        if down:
            raise PartDown(f"died and not well again: {', '.join(down)}")

    def _is_well(self, part: _Part) -> bool:
        if not part.has_died:
            return True
        ran_s = 0.0 if part.started_at_s is None else self._monotonic_s() - part.started_at_s
        return ran_s >= self._rules.steady_s

    async def _supervise(self, part: _Part, work: Callable[[], Coroutine[None, None, None]]) -> None:
        pause_s = self._rules.first_pause_s
        while not part.stop_wanted.is_set():
            part.started_at_s = self._monotonic_s()
            death = await _death_of(work())
            if death is None:
                return
            if self._is_well(part):
                pause_s = self._rules.first_pause_s
            part.started_at_s, part.has_died = None, True
            self._metrics.part_deaths.labels(part=part.name).inc()
            _log.critical(
                "a part of the gateway died",
                extra={
                    "part": part.name,
                    "error": type(death).__name__,
                    "place": place_of(death),
                    "restart_after_s": pause_s,
                },
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await part.stop_wanted.wait()
            pause_s = min(2 * pause_s, self._rules.longest_pause_s)


async def _death_of(work: Coroutine[None, None, None]) -> BaseException | None:
    """Return what ended a part, None when it returned. Whoever cancels its task is obeyed."""
    try:
        await work
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return error  # of something that it waited for, which would otherwise end the task without a word
    except Exception as error:  # noqa: BLE001 -- whatever ends a part, it is told and the part is started again
        return error
    return None
