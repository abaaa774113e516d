"""Sending: may the letter still go, and if so, one call that hands it over."""

import asyncio
from datetime import datetime

from gateway.deliver import attempt
from gateway.deliver.attempt import paper_quota, postponed
from gateway.deliver.outcomes import handed_over, undelivered
from gateway.deliver.parcel import parcel_for
from gateway.deliver.settle import journey_state
from gateway.deliver.stages import DeliverDeps, Letter, Outcome
from gateway.deliver.unreadable import UNREADABLE, unreadable, unreadable_before
from gateway.domain import journey
from gateway.domain.dossier import in_force
from gateway.domain.status import DeliveryStatus, Reason
from gateway.errors import DeliveryError, GatewayError, OutcomeUnknown, QuotaUsedUp, Refused
from gateway.records import personal


async def stopped(letter: Letter, deps: DeliverDeps) -> Outcome | None:
    """Return why a delivery that was surely not handed over must not go any more, or None."""
    now, record = deps.clock(), letter.record
    if record.deliver_before is not None and record.deliver_before <= now:
        reason = Reason.EXPIRED
    elif await _dossier_ended(letter, deps, now):
        reason = Reason.DOSSIER_ENDED
    else:
        return None
    return Outcome(name=str(reason), verdict=journey.never_sent(journey_state(letter, deps), reason), attempted=False)


async def _dossier_ended(letter: Letter, deps: DeliverDeps, now: datetime) -> bool:
    record = letter.record
    deferred_first_try = (
        record.deliver_not_before is not None and letter.delivery.number == 1 and letter.delivery.attempts == 0
    )
    if not record.dossier_rule or not deferred_first_try:
        return False
    index = await deps.vault.blind_index("recipient")
    candidates = personal.recipient_candidates(index, letter.recipient)
    dossiers = await deps.ledger.find_dossiers(record.sender, record.category, candidates)
    return not any(in_force(dossier, now) for dossier in dossiers)


async def send(letter: Letter, deps: DeliverDeps, *, again: bool) -> Outcome:
    """Hand the letter over; the intent is durable before the call."""
    destination = deps.destinations[letter.delivery.provider]
    try:
        parcel = await parcel_for(letter, deps)
    except Refused as refused:
        if again:  # an earlier call may have handed it over all the same
            return await unreadable_before(letter, refused, deps, again=True)
        # No provider was asked, so none rejected it.
        reason, state = Reason(refused.reason), journey_state(letter, deps)
        verdict = journey.after_refusal(state, reason, status=DeliveryStatus.FAILED)
        return Outcome(name="refused", verdict=verdict, code=refused.code, attempted=False)
    except UNREADABLE as error:
        return await unreadable_before(letter, error, deps, again=again)
    try:
        letter = await attempt.begin(letter, destination, deps, paper=paper_quota(letter, deps))
    except QuotaUsedUp:
        return postponed(letter, deps)
    try:
        async with asyncio.timeout(destination.attempt_timeout_s):
            handover = await destination.adapter.send(parcel, again=again)
    except TimeoutError:
        return undelivered(letter, OutcomeUnknown("no answer before the attempt's deadline"), deps, again=again)
    except DeliveryError as error:
        return undelivered(letter, error, deps, again=again)
    except GatewayError as error:
        return unreadable(letter, error, deps, again=again)
    return handed_over(letter, handover, deps)
