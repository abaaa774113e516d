"""When something is tried again, or never. Hours of retrying live here and in the ledger, never in memory."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

# What is due is taken up within this time by workers that run; after it, it is late.
TAKEN_UP_WITHIN: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRules:
    """How temporary trouble is met: doubling delays with jitter, until a person must look."""

    first_delay_s: float = 60.0
    longest_delay_s: float = 21_600.0  # 6 h
    decide_after_s: float = 172_800.0  # 48 h: then needs-decision, never failed by itself
    jitter: float = 0.2  # each delay is drawn from ±20 %


def next_attempt(
    attempts: int,
    *,
    first_attempt_at: datetime,
    now: datetime,
    rules: RetryRules,
    draw: float,
    wish_s: float | None = None,
) -> datetime | None:
    """
    Return when to try again after `attempts` tries, or None when a person must decide.

    `draw` is a random number in [0, 1); `wish_s` is the provider's `Retry-After`, honoured up to the longest delay.
    """
    delay_s = min(rules.first_delay_s * 2.0 ** min(max(attempts - 1, 0), 30), rules.longest_delay_s)
    delay_s *= 1.0 + rules.jitter * (2.0 * draw - 1.0)
    if wish_s is not None:
        delay_s = max(delay_s, min(wish_s, rules.longest_delay_s))
    due_at = now + timedelta(seconds=delay_s)
    return due_at if due_at <= first_attempt_at + timedelta(seconds=rules.decide_after_s) else None


def send_by(due_at: datetime, deliver_before: datetime | None, rules: RetryRules) -> datetime:
    """Return until when a letter that falls due at `due_at` should have been handed over."""
    deadline_at = due_at + timedelta(seconds=rules.decide_after_s)
    return deadline_at if deliver_before is None else min(deadline_at, deliver_before)


@dataclass(frozen=True, slots=True, kw_only=True)
class PollRules:
    """How often a provider is asked for progress: soon, then ever less, as seconds since the hand-over."""

    read_status_s: tuple[float, ...] = (3_600.0, 21_600.0)  # e-Box: after 1 h, 6 h …
    read_status_then_s: float = 86_400.0  # … then daily
    print_s: float = 3_600.0  # print house: hourly
    print_silent_after_s: float = 432_000.0  # 5 d without an end: listed as late
    returned_watch_s: float = 2_592_000.0  # 30 d after dispatch a standard letter is asked about no more
    returned_every_s: float = 86_400.0


def next_read_poll(handed_over_at: datetime, now: datetime, rules: PollRules) -> datetime:
    """Return when to ask next whether an e-Box message was read."""
    for since_s in rules.read_status_s:
        due_at = handed_over_at + timedelta(seconds=since_s)
        if due_at > now:
            return due_at
    return now + timedelta(seconds=rules.read_status_then_s)
