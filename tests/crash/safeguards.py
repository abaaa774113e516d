"""
The gateway's safeguards, each with a way to take it away, and the fault under which its absence does harm.

A harness that finds nothing proves nothing until it is seen to find something. A safeguard inside the ledger is taken
away in each ledger by itself; the rule that is broken without it is the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from tests.crash import postgres_removals, removals, sqlite_removals
from tests.crash.ledgers import LEDGERS
from tests.crash.points import Plan, Point, Way


@dataclass(frozen=True, slots=True)
class Removal:
    """`take_away` does the damage in a gateway's process before it serves; `plan` None: the story itself suffices."""

    take_away: Callable[[], None]
    plan: Plan | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Safeguard:
    """What must not be missing, and how it is taken away with each of `LEDGERS`."""

    what: str
    rule: str  # of the proof that must be seen to be broken
    removals: Mapping[str, Removal]


def _at(name: str, label: str, nth: int, way: Way) -> Plan:
    return Plan(Point(name, label, nth), way)


def _outside(take_away: Callable[[], None], plan: Plan | None = None) -> Mapping[str, Removal]:
    """Return the removal of what is no part of a ledger."""
    return dict.fromkeys(LEDGERS, Removal(take_away, plan))


def _inside(
    sqlite: Callable[[], None], postgres: Callable[[], None], plan: Plan | None = None
) -> Mapping[str, Removal]:
    """Return the removals of what each ledger has for itself, under the same fault."""
    return {"sqlite": Removal(sqlite, plan), "postgres": Removal(postgres, plan)}


_WAVERING_CALLED: Final = _at("call.publishMessage", "wavering:out", 1, Way.KILL_AFTER)

SAFEGUARDS: Final[Mapping[str, Safeguard]] = MappingProxyType(
    {
        "tombstone-check": Safeguard(
            what="`record` refuses a swept blob",
            rule="whoever comes second gives way",
            removals=_inside(sqlite_removals.no_tombstone_check, postgres_removals.no_tombstone_check),
        ),
        "tombstone-first": Safeguard(
            what="a blob is forbidden before it is removed",
            rule="what was accepted can be read",
            removals=_inside(sqlite_removals.age_as_the_guard, postgres_removals.age_as_the_guard),
        ),
        "reference-with-message": Safeguard(
            what="the reference is burnt in the message's transaction",
            rule="every sender gets a receipt",
            removals={
                "sqlite": Removal(sqlite_removals.reference_apart, _at("sqlite.sync", "record/box", 2, Way.CUT_BEFORE)),
                "postgres": Removal(
                    postgres_removals.reference_apart, _at("postgres.commit", "record/box", 2, Way.KILL_BEFORE)
                ),
            },
        ),
        "answer-after-commit": Safeguard(
            what="the 201 comes after the commit",
            rule="each letter is one message",
            removals={
                "sqlite": Removal(
                    sqlite_removals.answer_before_the_commit, _at("sqlite.sync", "record/box", 1, Way.CUT_BEFORE)
                ),
                "postgres": Removal(
                    postgres_removals.answer_before_the_commit,
                    _at("postgres.commit", "record/box", 1, Way.KILL_BEFORE),
                ),
            },
        ),
        "blob-sync": Safeguard(
            what="a blob is synced before it is recorded",
            rule="what was accepted can be read",
            removals=_outside(removals.no_sync_of_blobs, _at("ledger.record", "paper", 1, Way.CUT_AFTER)),
        ),
        "directory-sync": Safeguard(
            what="a blob's name is synced before it is recorded",
            rule="what was accepted can be read",
            removals=_outside(removals.no_sync_of_directories, _at("ledger.record", "paper", 1, Way.CUT_AFTER)),
        ),
        "ledger-sync": Safeguard(
            what="a commit is synced before anybody hears of it",
            rule="each letter is one message",
            removals=_inside(
                sqlite_removals.no_sync, postgres_removals.no_sync, _at("ledger.settle", "box:out", 1, Way.CUT_AFTER)
            ),
        ),
        "fence": Safeguard(
            what="a lease's token counts when it is used",
            rule="whoever comes second gives way",
            removals=_inside(sqlite_removals.no_fence, postgres_removals.no_fence),
        ),
        "revision-settle": Safeguard(
            what="`settle` refuses what was decided on an old look at the message",
            rule="whoever comes second gives way",
            removals=_inside(sqlite_removals.no_revision_when_settling, postgres_removals.no_revision_when_settling),
        ),
        "revision-erase": Safeguard(
            what="`destroy_keys` refuses what was decided on an old look",
            rule="whoever comes second gives way",
            removals=_inside(sqlite_removals.no_revision_when_erasing, postgres_removals.no_revision_when_erasing),
        ),
        "attempt-before-call": Safeguard(
            what="the attempt is written down before the call",
            rule="nothing twice",
            removals=_inside(
                sqlite_removals.attempt_noted_after_the_call,
                postgres_removals.attempt_noted_after_the_call,
                _WAVERING_CALLED,
            ),
        ),
        "reconcile": Safeguard(
            what="after a dead attempt it is found out what happened, not sent anew",
            rule="nothing twice",
            removals=_inside(
                sqlite_removals.send_instead_of_reconciling,
                postgres_removals.send_instead_of_reconciling,
                _WAVERING_CALLED,
            ),
        ),
        "stable-key": Safeguard(
            what="the delivery id is the key of every call",
            rule="nothing twice",
            removals=_outside(removals.another_key_each_time, _at("call.publishMessage", "box:out", 1, Way.KILL_AFTER)),
        ),
        "settle-at-once": Safeguard(
            what="delivery, message and next delivery change in one transaction",
            rule="every delivery has an owner",
            removals={
                "sqlite": Removal(
                    sqlite_removals.settle_in_two_transactions,
                    _at("sqlite.sync", "settle/fallback:out", 2, Way.CUT_BEFORE),
                ),
                "postgres": Removal(
                    postgres_removals.settle_in_two_transactions,
                    _at("postgres.commit", "settle/fallback:out", 2, Way.KILL_BEFORE),
                ),
            },
        ),
        "key-before-blob": Safeguard(
            what="a key is destroyed before its blob is removed",
            rule="what was accepted can be read",
            removals=_outside(removals.blob_before_key, _at("ledger.destroy_keys", "box", 1, Way.KILL_BEFORE)),
        ),
        "erased-for-good": Safeguard(
            what="what is erased stays erased",
            rule="the log tells each once",
            removals=_inside(sqlite_removals.erased_may_come_back, postgres_removals.erased_may_come_back),
        ),
        "orphan-sweep": Safeguard(
            what="blobs that belong to no message are removed",
            rule="no orphan blob and no temporary file",
            removals=_outside(removals.no_sweep_of_orphans, _at("ledger.record", "paper", 1, Way.KILL_BEFORE)),
        ),
        "temporary-sweep": Safeguard(
            what="temporary files of a crash are removed",
            rule="no orphan blob and no temporary file",
            removals=_outside(removals.no_sweep_of_temporary_files, _at("file.sync", "paper:in", 1, Way.KILL_BEFORE)),
        ),
    }
)
