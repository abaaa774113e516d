"""The attempt, written down before its provider is called, within the sender's paper of the day."""

from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from gateway.deliver.settle import journey_state
from gateway.deliver.stages import DeliverDeps, Destination, Envelope, Outcome
from gateway.domain import journey
from gateway.domain.calendar import day_of, end_of
from gateway.domain.message import Channel
from gateway.domain.status import DeliveryStatus
from gateway.stores.model import PaperQuota

_E = TypeVar("_E", bound=Envelope)


async def begin(letter: _E, destination: Destination, deps: DeliverDeps, *, paper: PaperQuota | None = None) -> _E:
    """
    Write down that a provider is about to be called, and return the letter as it is then.

    Raises:
        LeaseLost: somebody else holds it now.
        QuotaUsedUp: the sender's paper of today is used up; nothing was written down.
    """
    number = await deps.ledger.begin_attempt(
        letter.claim,
        longest=timedelta(seconds=destination.attempt_timeout_s),
        settle=timedelta(seconds=destination.settle_s),
        paper=paper,
    )
    delivery = replace(
        letter.delivery,
        status=DeliveryStatus.DISPATCHING,
        attempts=number,
        first_attempt_at=letter.delivery.first_attempt_at or deps.clock(),
    )
    return replace(letter, claim=replace(letter.claim, delivery=delivery))


def paper_quota(letter: Envelope, deps: DeliverDeps) -> PaperQuota | None:
    """Return the limit that an attempt counts towards; None where there is none."""
    record = letter.record
    limit = deps.paper_per_day(record.sender, record.profile) if letter.delivery.channel is Channel.PRINT else None
    if limit is None:
        return None
    return PaperQuota(sender=record.sender, profile=record.profile, day=day_of(deps.clock()), limit=limit)


def postponed(letter: Envelope, deps: DeliverDeps) -> Outcome:
    """Return what comes of a letter for which there is no paper today: it waits for tomorrow's."""
    next_day_at = end_of(day_of(deps.clock()))
    verdict = journey.after_quota(letter.record.status, journey_state(letter, deps), next_day_at=next_day_at)
    return Outcome(name="quota-exceeded", verdict=verdict, attempted=False)
