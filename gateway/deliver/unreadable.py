"""When something of ours cannot be read: the log tells it, it is tried ever more rarely, and ends before a person."""

import logging
from dataclasses import replace
from typing import Final

from gateway.crypto.sealing import SealBroken
from gateway.deliver import attempt
from gateway.deliver.attempt import paper_quota, postponed
from gateway.deliver.settle import journey_state
from gateway.deliver.stages import DeliverDeps, Envelope, Outcome
from gateway.domain import journey
from gateway.domain.status import NextAction, Reason
from gateway.errors import BlobMissing, GatewayError, KeyringRefused, QuotaUsedUp

_log: Final = logging.getLogger(__name__)
# What does not mend by itself, or not soon: a damaged document, one that is gone, a key that is gone or refused.
UNREADABLE: Final = (SealBroken, BlobMissing, KeyringRefused)


async def unopened(envelope: Envelope, error: GatewayError, deps: DeliverDeps) -> Outcome:
    """Its key or its seal is in the way: nobody can be called for it now."""
    delivery = envelope.delivery
    if delivery.next_action is NextAction.POLL:
        _tell_unreadable(envelope, error)
        verdict = journey.after_silent_poll(journey_state(envelope, deps), delivery.status, deps.clock(), deps.rules)
        return Outcome(name="poll-unanswered", verdict=verdict, attempted=False)
    return await unreadable_before(envelope, error, deps, again=delivery.next_action is NextAction.RECONCILE)


def unreadable(envelope: Envelope, error: GatewayError, deps: DeliverDeps, *, again: bool) -> Outcome:
    """
    A document of ours broke off: the call was cut off with it and handed nothing over.

    Tried again like any trouble, ever more rarely, until a person must look.
    """
    _tell_unreadable(envelope, error)
    state, now = journey_state(envelope, deps), deps.clock()
    if again:
        verdict = journey.after_unknown(state, now, deps.rules, can_reconcile=True)
    else:
        verdict = journey.after_unreachable(state, now, deps.rules, reason=Reason.DOCUMENT_UNREADABLE)
    # The letter's description goes before its documents.
    return Outcome(name=str(Reason.DOCUMENT_UNREADABLE), verdict=verdict, disclosed=True)


async def unreadable_before(envelope: Envelope, error: GatewayError, deps: DeliverDeps, *, again: bool) -> Outcome:
    """It broke off before anybody was called. An attempt all the same, so that the ledger knows since when it fails."""
    destination = deps.destinations[envelope.delivery.provider]
    try:
        envelope = await attempt.begin(envelope, destination, deps, paper=paper_quota(envelope, deps))
    except QuotaUsedUp:
        return postponed(envelope, deps)
    return replace(unreadable(envelope, error, deps, again=again), disclosed=False)


def _tell_unreadable(envelope: Envelope, error: GatewayError) -> None:
    delivery = str(envelope.delivery.delivery_id)
    _log.error("document unreadable", extra={"delivery": delivery, "error": f"{type(error).__name__}: {error}"})
