"""What event loops ask of a ledger's threads, and how they hear of it: many answers with one wake-up."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import apsw

_T = TypeVar("_T")


@dataclass(slots=True, kw_only=True, eq=False)
class Call(Generic[_T]):
    """Work for a thread, and the future of the caller who waits for it in `loop`."""

    work: Callable[[apsw.Connection], _T]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[_T]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call came to: a value, or the error its caller gets."""

    value: Any = None
    error: BaseException | None = None


def answer(calls: Sequence[Call[Any]], outcomes: Sequence[Outcome]) -> None:
    """Tell every caller, with one wake-up for each event loop. Runs in any thread."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Outcome]]] = {}
    for call, outcome in zip(calls, outcomes, strict=True):
        by_loop.setdefault(call.loop, []).append((call.future, outcome))
    for loop, results in by_loop.items():
        with contextlib.suppress(RuntimeError):  # a loop that was closed has nobody left who waits
            loop.call_soon_threadsafe(_set_results, results)


def _set_results(results: Sequence[tuple[asyncio.Future[Any], Outcome]]) -> None:
    for future, outcome in results:
        if future.done():  # its caller was cancelled
            continue
        if outcome.error is not None:
            future.set_exception(outcome.error)
        else:
            future.set_result(outcome.value)
