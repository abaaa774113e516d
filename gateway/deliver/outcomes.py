"""What a call came to, by what the provider's adapter returned or raised."""

from gateway.adapters.base import Handover
from gateway.deliver.settle import journey_state
from gateway.deliver.stages import DeliverDeps, Letter, Outcome
from gateway.domain import journey
from gateway.domain.status import Reason
from gateway.errors import ChannelBlocked, DeliveryError, OutcomeUnknown, Refused, Unreachable


def handed_over(letter: Letter, handover: Handover, deps: DeliverDeps) -> Outcome:
    """Translate what a provider answered that took the letter over."""
    verdict = journey.after_handover(
        journey_state(letter, deps), handover.status, handover.reason, deps.clock(), deps.rules
    )
    return Outcome(
        name=str(handover.status),
        verdict=verdict,
        code=handover.code,
        provider_reference=handover.provider_reference,
        barcode=handover.barcode,
        disclosed=True,
    )


def undelivered(letter: Letter, error: DeliveryError, deps: DeliverDeps, *, again: bool) -> Outcome:
    """Translate what an adapter raised; after an earlier doubt, only a refusal or an answer ends the doubt."""
    state, now = journey_state(letter, deps), deps.clock()
    adapter = deps.destinations[letter.delivery.provider].adapter
    can_reconcile = adapter.finds or adapter.resend_is_safe
    match error:
        case Refused(reason=reason, code=code):
            return Outcome(name="refused", verdict=journey.after_refusal(state, Reason(reason)), code=code)
        case OutcomeUnknown(for_good=for_good):
            verdict = journey.after_unknown(state, now, deps.rules, can_reconcile=can_reconcile and not for_good)
            return Outcome(name="unknown", verdict=verdict, disclosed=True)
        case Unreachable(retry_after_s=wish_s) if not again:
            verdict = journey.after_unreachable(state, now, deps.rules, wish_s=wish_s)
            return Outcome(name="unreachable", verdict=verdict)
        case ChannelBlocked() if not again:
            return Outcome(name="blocked", verdict=journey.after_unreachable(state, now, deps.rules))
        case _:
            verdict = journey.after_unknown(state, now, deps.rules, can_reconcile=can_reconcile)
            return Outcome(name="unknown", verdict=verdict)
