"""When a call is made again, and after how long; a letter always with the reference that it has."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from gateway.client.problems import ClientError, NotReached, Problem
from gateway.errors import Kind

__all__ = ["OnRetry", "RetryRules", "Sleep", "changes_nothing_twice", "may_repeat", "patiently"]

_T = TypeVar("_T")
Sleep = Callable[[float], Awaitable[None]]
OnRetry = Callable[[ClientError, float], None]
"""Told of each failure that is tried again, and of the seconds until then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRules:
    """
    How long a sender is patient within one call; with these rules some two minutes.

    The gateway's own `Retry-After` is kept to, unless it is longer than `longest_retry_after_s`: then the problem is
    raised at once, for the sender's own queue. A letter signed longer than `resign_after` ago is signed anew, for the
    gateway takes new messages only within a day of their CreatedAt.
    """

    tries: int = 8
    first_wait_s: float = 1.0  # doubles with each further try
    longest_wait_s: float = 60.0
    longest_retry_after_s: float = 300.0
    resign_after: timedelta = timedelta(hours=6)


def may_repeat(error: BaseException) -> bool:
    """Whether a letter, or a question, may be sent again after `error`: it cannot do harm and may well do good."""
    return isinstance(error, NotReached) or (isinstance(error, Problem) and error.is_temporary)


def changes_nothing_twice(error: BaseException) -> bool:
    """Whether a call without a reference may be made again after `error`: surely nothing came of the first."""
    if isinstance(error, NotReached):
        return not error.sent
    return isinstance(error, Problem) and error.code == Kind.OVERLOADED


async def patiently(
    once: Callable[[], Awaitable[_T]],
    rules: RetryRules,
    *,
    sleep: Sleep,
    on_retry: OnRetry | None,
    repeat: Callable[[BaseException], bool] = may_repeat,
) -> _T:
    """
    Return what `once` returns, called again while `repeat` agrees.

    Raises:
        ClientError: the last one.
    """

    def worth_it(error: BaseException) -> bool:
        patience_asked_s = error.retry_after_s or 0 if isinstance(error, Problem) else 0
        return repeat(error) and patience_asked_s <= rules.longest_retry_after_s

    def tell(state: RetryCallState) -> None:
        error, pause = _error_of(state), state.next_action
        if on_retry is not None and isinstance(error, ClientError) and pause is not None:
            on_retry(error, pause.sleep)

    retrying = AsyncRetrying(
        stop=stop_after_attempt(rules.tries),
        wait=lambda state: _wait_s(state, rules),
        retry=retry_if_exception(worth_it),
        before_sleep=tell,
        sleep=sleep,
        reraise=True,
    )
    return await retrying(once)


def _wait_s(state: RetryCallState, rules: RetryRules) -> float:
    error = _error_of(state)
    spread = random.random()  # noqa: S311 - it spreads the senders over time and guards nothing
    if isinstance(error, Problem) and error.retry_after_s is not None:
        return error.retry_after_s + spread * rules.first_wait_s
    longest_s = min(rules.first_wait_s * 2.0 ** min(state.attempt_number - 1, 30), rules.longest_wait_s)
    return longest_s * (1 + spread) / 2


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None
