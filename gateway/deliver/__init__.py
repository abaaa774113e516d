"""
The second spine: one delivery from the ledger to a provider, inside a worker.

open the letter → may it still go? → write down that a provider is called → call → settle. Whatever the provider did is
settled in one transaction, which also opens the next channel and says what is kept. A worker that dies anywhere leaves
the delivery with an action and a time in the ledger; the next worker takes it from there.

Each step is a module; `stages` holds what they hand on.
"""

from typing import assert_never

from gateway.deliver.ask import poll, reconcile
from gateway.deliver.opening import find_envelope, open_letter
from gateway.deliver.send import send, stopped
from gateway.deliver.settle import settlement
from gateway.deliver.stages import DeliverDeps, Outcome
from gateway.deliver.unreadable import UNREADABLE, unopened
from gateway.domain.status import NextAction
from gateway.errors import GatewayError
from gateway.stores.model import Claim


async def deliver(claim: Claim, deps: DeliverDeps) -> Outcome:
    """
    Do the next thing for a claimed delivery, and settle it.

    Raises:
        LeaseLost: somebody else holds it now; nothing was settled here.
        StoreUnavailable: it stays as it is and is taken up again when the lease ends.
    """
    envelope = await find_envelope(claim, deps)
    try:
        letter = await open_letter(envelope, deps)
    except UNREADABLE as error:
        outcome = await unopened(envelope, error, deps)
        await deps.ledger.settle(claim, await settlement(envelope, outcome, deps))
        return outcome
    match claim.delivery.next_action:
        case NextAction.SEND:
            outcome = await stopped(letter, deps) or await send(letter, deps, again=False)
        case NextAction.RECONCILE:
            outcome = await reconcile(letter, deps)
        case NextAction.POLL:
            outcome = await poll(letter, deps)
        case NextAction.DECIDE | NextAction.NONE:
            raise GatewayError(f"delivery {claim.delivery.delivery_id} was claimed with nothing to do")
        case never:
            assert_never(never)
    await deps.ledger.settle(claim, await settlement(letter, outcome, deps))
    return outcome
