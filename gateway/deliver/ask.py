"""Asking a provider: did an earlier call arrive, and how far is the delivery."""

import asyncio

from gateway.adapters.base import Handed
from gateway.deliver import attempt
from gateway.deliver.outcomes import handed_over, undelivered
from gateway.deliver.send import send
from gateway.deliver.settle import journey_state
from gateway.deliver.stages import DeliverDeps, Letter, Outcome
from gateway.domain import journey
from gateway.domain.message import Channel
from gateway.domain.status import may_follow
from gateway.errors import DeliveryError, OutcomeUnknown


async def reconcile(letter: Letter, deps: DeliverDeps) -> Outcome:
    """Find out whether an earlier call arrived, before anything is sent again."""
    destination = deps.destinations[letter.delivery.provider]
    if not destination.adapter.finds:
        return await send(letter, deps, again=True)
    letter = await attempt.begin(letter, destination, deps)
    try:
        async with asyncio.timeout(destination.attempt_timeout_s):
            found = await destination.adapter.find(letter.delivery.delivery_id)
    except TimeoutError:
        return undelivered(letter, OutcomeUnknown("no answer before the attempt's deadline"), deps, again=True)
    except DeliveryError as error:
        return undelivered(letter, error, deps, again=True)
    if found is None:
        verdict = journey.after_surely_absent(journey_state(letter, deps), deps.clock(), deps.rules)
        return Outcome(name="surely-absent", verdict=verdict)
    return handed_over(letter, found, deps)


async def poll(letter: Letter, deps: DeliverDeps) -> Outcome:
    """Ask the provider how far the delivery is."""
    delivery = letter.delivery
    destination = deps.destinations[delivery.provider]
    handed = Handed(
        delivery_id=delivery.delivery_id,
        channel=delivery.channel,
        sender=letter.record.sender,
        provider_reference=delivery.provider_reference,
        recipient=letter.recipient,
    )
    state = journey_state(letter, deps)
    try:
        async with asyncio.timeout(destination.attempt_timeout_s):
            answer = await destination.adapter.status(handed)
    except (TimeoutError, DeliveryError):
        verdict = journey.after_silent_poll(state, delivery.status, deps.clock(), deps.rules)
        return Outcome(name="poll-unanswered", verdict=verdict, attempted=False)
    now = deps.clock()
    if not may_follow(delivery.status, answer.status):
        # Old news, told late: where the delivery stands is known better already.
        verdict = journey.after_silent_poll(state, delivery.status, now, deps.rules)
        return Outcome(name="poll-out-of-order", verdict=verdict, attempted=False)
    if delivery.channel is Channel.PRINT:
        verdict = journey.after_handover(state, answer.status, answer.reason, now, deps.rules)
    else:
        verdict = journey.after_read_poll(state, read=bool(answer.read), now=now, rules=deps.rules)
    return Outcome(name=str(verdict.status), verdict=verdict, code=answer.code, barcode=answer.barcode, attempted=False)
