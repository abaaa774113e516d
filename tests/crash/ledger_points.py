"""
Points around every call of the ledger, whichever ledger it is.

A proxy stands before the `Ledger`: it can end the process before a call begins, or after it returned and before anybody
was told; it can say that the store is not there, or lose the answer of a call that happened.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final

from gateway.errors import StoreUnavailable
from gateway.stores.ledger import Ledger
from tests.crash.points import LABEL, Way, Wire
from tests.crash.races import Races

VERB: Final[ContextVar[str]] = ContextVar("verb", default="-")
"""The call of the ledger that the running task is in, and the letter that it is about."""

READS: Final = frozenset(
    {
        "kek", "kek_for", "index_keys", "dek", "log_key", "find_reference", "quota_use", "is_suspended",
        "find_dossiers", "message", "messages_by_id", "messages", "timeline", "evidence", "events", "to_decide", "late",
        "queue_depths", "retrieval", "due_erasures", "blobs_to_erase", "registration_number", "registration_in_force",
        "live_uses", "noted_providers", "suspensions", "find_batch", "batch", "batch_links", "batch_refusals",
        "proving_batch", "enclosure",
    }
)  # fmt: skip
_UNTOUCHED: Final = frozenset({"now", "close"})
_FOR_ALL: Final = frozenset({"add_kek", "add_index_key", "add_log_key"})
# After these, somebody outside or another store relies on the ledger.
_PROMISES: Final = frozenset({"record", "attach_cover", "begin_attempt", "settle", "destroy_keys", "tombstone"})
_WRITE_WAYS: Final = (Way.KILL_BEFORE, Way.KILL_AFTER, Way.FAIL, Way.LOST)


class LedgerPoints:
    """A `Ledger` that passes a point at each call."""

    def __init__(self, ledger: Ledger, wire: Wire, races: Races) -> None:
        self._ledger = ledger
        self._wire = wire
        self._races = races

    def __getattr__(self, verb: str) -> Any:
        call = getattr(self._ledger, verb)
        return call if verb in _UNTOUCHED else self._instrumented(verb, call)

    def _instrumented(self, verb: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        ways = (Way.FAIL,) if verb in READS else (*_WRITE_WAYS, Way.CUT_AFTER) if verb in _PROMISES else _WRITE_WAYS

        async def instrumented(*args: Any, **named: Any) -> Any:
            if _does_nothing(verb, args):
                return await call(*args, **named)
            label = label_of(verb, args)
            VERB.set(f"{verb}/{label}")
            passage = self._wire.arrive(f"ledger.{verb}", ways, label=label)
            passage.before()
            if passage.way is Way.FAIL:
                raise StoreUnavailable("planned: the ledger is not there")
            await self._races.before(verb, args)
            try:
                result = await call(*args, **named)
            except Exception as error:
                self._races.failed(verb, args, error)
                raise
            self._races.after(verb, args, result)
            passage.after()
            if passage.way is Way.LOST:
                raise StoreUnavailable("planned: the ledger's answer was lost")
            if verb == "claim" and result:
                self._wire.arrive("ledger.claimed", (Way.KILL_AFTER,), label="-").after()
            return result

        return instrumented


def _does_nothing(verb: str, args: tuple[Any, ...]) -> bool:
    return verb == "tombstone" and not args[0]


def label_of(verb: str, args: tuple[Any, ...]) -> str:
    """Return the letter that a call is about; none where the first letter that comes pays for all."""
    if verb in READS or verb in _FOR_ALL:
        return "-"
    if verb == "record":
        return str(args[0].message.reference)
    if verb in ("link_item", "note_refusals"):
        return str(args[0].reference)
    if verb == "destroy_keys":
        return str(args[0].reference)
    return LABEL.get()
