"""
Who may open a letter: the one who knows its token or number, and its code.

A letter that does not exist, and a wrong code of one that does, cost the same work (one look-up, one keyed hash, one
comparison, one commit) and get the same answer and the same delays. While a delay runs no code is checked at all.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from weakref import WeakValueDictionary

from gateway.crypto.vault import BlindIndex, Vault
from gateway.portal.throttle import Throttle, delay, seconds_until
from gateway.records.retrieval import code_opens, decoy, number_candidates, token_candidates
from gateway.stores.ledger import Ledger
from gateway.stores.model import RetrievalRecord

_MOST_CLIENTS: Final = 10_000
_MOST_UNKNOWN: Final = 10_000
_FREE_TRIES: Final = 10  # of one address, behind which a whole office may sit; each letter's own delay starts at once
_CLIENT_FORGOTTEN_AFTER: Final = timedelta(minutes=15)
_UNKNOWN_FORGOTTEN_AFTER: Final = timedelta(days=366)  # the ledger does not forget either


class Via(StrEnum):
    """By what a letter was found."""

    TOKEN = "token"  # noqa: S105 the name of a way in, no secret
    NUMBER = "number"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LetterKey:
    """A token or number in canonical spelling."""

    via: Via
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The code is right."""

    retrieval: RetrievalRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """No letter opens with this; `known` is for metrics only and never for the one who asks."""

    known: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Delayed:
    """Nothing was checked; `wait_s` seconds from now it will be."""

    wait_s: int


Answer = Opened | Wrong | Delayed


class Access:
    """Checks codes and counts wrong ones; one for a portal."""

    def __init__(self, *, ledger: Ledger, vault: Vault, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._vault = vault
        self._clock = clock
        self._clients = Throttle(most=_MOST_CLIENTS, free=_FREE_TRIES, forget_after=_CLIENT_FORGOTTEN_AFTER)
        self._unknown = Throttle(most=_MOST_UNKNOWN, free=0, forget_after=_UNKNOWN_FORGOTTEN_AFTER)
        self._turns: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    async def try_code(self, key: LetterKey, code: str, client: str) -> Answer:
        """
        Check a canonical code for a letter; `client` is what the asking address is counted by.

        Raises:
            StoreUnavailable, KeyringRefused: nothing was checked.
        """
        wait_s = self._clients.wait_s(client, self._clock())
        if wait_s:
            return Delayed(wait_s=wait_s)
        # Counted before the outcome is known, so that many tries at once do not all slip through.
        self._clients.failed(client, self._clock())
        answer: Answer | None = None
        try:
            index = await self._vault.blind_index("portal")
            answer = await self._in_turn(_candidates(key, index), code, index)
        finally:
            if not isinstance(answer, Wrong):
                self._clients.forgive(client, self._clock())
        return answer

    async def _in_turn(self, candidates: list[tuple[int, bytes]], code: str, index: BlindIndex) -> Answer:
        """Check one code of a letter at a time: each sees the delay that the one before it caused."""
        name = candidates[0][1]
        turn = self._turns.get(name)
        if turn is None:
            turn = self._turns[name] = asyncio.Lock()
        async with turn:
            found = await self._ledger.retrieval(candidates)
            now = self._clock()
            wait_s = self._unknown.wait_s(name, now) if found is None else seconds_until(found.locked_until, now)
            if wait_s:
                return Delayed(wait_s=wait_s)
            if code_opens(found or decoy(index, now), index, code) and found is not None:
                return Opened(retrieval=found)
            if found is not None:
                await self._ledger.retrieval_failed(found.delivery_id, now + delay(found.failures + 1))
            else:
                self._unknown.failed(name, now)
                await self._ledger.heartbeat(now)  # the commit that a wrong code costs
            return Wrong(known=found is not None)


def _candidates(key: LetterKey, index: BlindIndex) -> list[tuple[int, bytes]]:
    return token_candidates(index, key.text) if key.via is Via.TOKEN else number_candidates(index, key.text)
