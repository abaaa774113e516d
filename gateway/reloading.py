"""
Changes while the gateway runs: certificates, authorities, revocation lists, registration, staff and security matrix.

Everything new is read and built off the event loop and held against all rules first; then it is committed, and only
then swapped in, in one step. Whatever fails, what was in force stays, and the metric, the log and the answer say why.
Running requests keep what they began with; no connection is dropped.
"""

import asyncio
import contextlib
import hashlib
import hmac
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes

from gateway.config import Config, ConfigInvalid, load
from gateway.config.reader import shown
from gateway.config.registration_files import RegistrationFiles, reread_registration
from gateway.crypto.certs import CertificateRejected
from gateway.crypto.crls import succeed
from gateway.crypto.tls import SwappableContext, plain_server_context, server_context
from gateway.domain.differences import Facts, differences, matrix_facts, registration_facts, staff_facts
from gateway.errors import FieldError, GatewayError, StoreUnavailable
from gateway.house import House, InForce, load_registration_of, read_files
from gateway.preflight import preflight
from gateway.records.registrations import (
    Occasion,
    Overtaken,
    Reloaded,
    StillNeeded,
    by_itself,
    next_step,
    require_needs_met,
    take_step,
)
from gateway.stores.ledger import RegistrationVersion

_log: Final = logging.getLogger(__name__)
_FOLLOW_S: Final = 2.0  # a version that another process put in force holds here within 5 s
_SWAPPED: Final = Path()


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """The listeners whose TLS can be swapped; None: not run here, or without TLS."""

    intake: SwappableContext | None = None
    portal: SwappableContext | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """What is to be in force, built; `swap` puts its TLS contexts to use and cannot fail."""

    in_force: InForce
    files: RegistrationFiles
    swap: Callable[[], None]


class Reloader:
    """
    Puts in force what the files say, when it is asked to, and what other processes put in force.

    `edges` is asked when something is swapped. `run` and `stop` each once.
    """

    def __init__(self, house: House, edges: Callable[[], Edges], *, follow_s: float = _FOLLOW_S) -> None:
        self._house = house
        self._edges = edges
        self._follow_s = follow_s
        self._alone = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._not_followed: tuple[int, str] | None = None

    # ── On somebody's word ──

    async def look(self) -> Reloaded:
        """
        Return what putting the registration files in force would change; nothing is.

        Raises:
            ConfigInvalid, StillNeeded: it would be refused.
        """
        async with self._alone:
            return await self._put_in_force(await self._registration_alone(), None)

    async def apply(self, occasion: Occasion, *, digest: str | None = None) -> Reloaded:
        """
        Put the registration files in force; with `digest`, the beginning of the one that `look` told, only those.

        Raises:
            ConfigInvalid, StillNeeded, Overtaken: nothing changed.
            StoreUnavailable: it may or may not be in force; `run` finds out.
        """
        return await self._told(self._apply(occasion, digest), occasion)

    async def reload(self, occasion: Occasion, *, dry_run: bool = False) -> Reloaded:
        """
        Put everything in force that can change without a restart; with `dry_run`, only tell.

        Raises:
            ConfigInvalid, StillNeeded, Overtaken: nothing changed.
            StoreUnavailable: the registration may or may not be in force; nothing else changed.
        """
        return await self._told(self._reload(occasion, dry_run=dry_run), occasion)

    async def reload_on_signal(self) -> None:
        """Do as `reload` for SIGHUP; what goes wrong is in the log, the admin log and the metric."""
        house = self._house
        occasion = by_itself("SIGHUP", house.logbook.gateway)
        try:
            done = await self.reload(occasion)
            if not done.changes:
                entry = occasion.entry(house.logbook, result="unchanged", what={})
                await house.ledger.append([entry])
        except (ConfigInvalid, StillNeeded, Overtaken):
            entry = occasion.entry(house.logbook, result="refused", what={})
            with contextlib.suppress(StoreUnavailable):  # the refusal itself is logged and counted already
                await house.ledger.append([entry])
        except StoreUnavailable as error:
            _log.error("reload on signal not finished", extra={"why": str(error)})  # noqa: TRY400 no trace: why says it

    async def _apply(self, occasion: Occasion, digest: str | None) -> Reloaded:
        async with self._alone:
            candidate = await self._registration_alone()
            if digest is not None and not candidate.files.digest.hex().startswith(digest):
                raise ConfigInvalid(
                    [_mistake("registration files", "are not those whose digest was given; look at what changed now")]
                )
            return await self._put_in_force(candidate, occasion)

    async def _reload(self, occasion: Occasion, *, dry_run: bool) -> Reloaded:
        async with self._alone:
            candidate = await asyncio.to_thread(self._build, self._house.in_force, self._edges())
            return await self._put_in_force(candidate, None if dry_run else occasion)

    async def _registration_alone(self) -> _Candidate:
        present = self._house.in_force
        files = await asyncio.to_thread(load_registration_of, present.config)
        return _Candidate(
            in_force=replace(present, registration=files.registration), files=files, swap=lambda: None
        )

    async def _put_in_force(self, candidate: _Candidate, occasion: Occasion | None) -> Reloaded:
        """Commit and swap; without an occasion, only look whether that could be done."""
        house, present = self._house, self._house.in_force
        step = await next_step(candidate.files, house.ledger)
        if step.is_new:
            await require_needs_met(candidate.in_force.registration, present.config.providers, house.ledger)
        changed = _changes(present, candidate.in_force)
        lines = [line for each in changed.values() for line in each]
        if occasion is not None and (step.is_new or lines):
            # What the registration said is kept as text, version by version; of the rest the log alone will know.
            rest = {part: "\n".join(each) for part, each in changed.items() if each and part != "registration"}
            entry = occasion.entry(house.logbook, result="in-force", what={**step.told, **rest})
            await take_step(step, occasion, [entry], house.clock(), house.ledger)
            # From here to the end nothing waits and nothing can fail: it is all swapped, or (above) none of it.
            candidate.swap()
            registration = replace(candidate.in_force.registration, version=step.number_after)
            house.in_force = replace(candidate.in_force, registration=registration)
        return Reloaded(
            number_before=step.number_before,
            number_after=step.number_after,
            digest=candidate.files.digest.hex(),
            changes=tuple(lines),
        )

    async def _told(self, work: "asyncio._CoroutineLike[Reloaded]", occasion: Occasion) -> Reloaded:
        reloads = self._house.metrics.reloads
        try:
            done = await work
        except (ConfigInvalid, StillNeeded, Overtaken) as error:
            reloads.labels(outcome="refused").inc()
            _log.error("reload refused", extra={"command": occasion.command, "why": str(error)})  # noqa: TRY400 as above
            raise
        except BaseException:
            reloads.labels(outcome="failed").inc()
            raise
        reloads.labels(outcome="done").inc()
        _log.info(
            "reloaded",
            extra={"command": occasion.command, "registration": done.number_after, "changes": len(done.changes)},
        )
        return done

    # ── Reading and building, off the loop ──

    def _build(self, present: InForce, edges: Edges) -> _Candidate:
        """
        Read every file anew, hold it against all rules, and build what will use it. Blocks.

        Raises:
            ConfigInvalid: with everything that is wrong.
        """
        config = load(present.config.file)
        problems = [*_needs_restart(present.config, config), *preflight(config, now=self._house.clock())]
        if problems:
            raise ConfigInvalid(problems)
        try:
            in_force, files = read_files(config)
            swap = _prepared_swap(in_force, edges)
        except ConfigInvalid:
            raise
        except (GatewayError, OSError) as error:
            why = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else str(error)
            raise ConfigInvalid([_mistake(shown(config.file), why)]) from error
        _refuse_older_lists(present, in_force)
        return _Candidate(in_force=in_force, files=files, swap=swap)

    # ── What other processes put in force ──

    async def run(self) -> None:
        """Follow the ledger until `stop` is called."""
        while not self._stopping.is_set():
            try:
                await self.follow()
            except StoreUnavailable as error:
                _log.warning("cannot look for a newer registration", extra={"why": str(error)})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._follow_s):
                    await self._stopping.wait()

    def stop(self) -> None:
        """Make `run` return soon."""
        self._stopping.set()

    async def follow(self) -> None:
        """
        Use the registration with the highest number, unless it is used already.

        Raises:
            StoreUnavailable: not this time.
        """
        if await self._house.ledger.registration_number() <= self._house.in_force.registration.version:
            return
        async with self._alone:
            newest = await self._house.ledger.registration_in_force()
            present = self._house.in_force
            if newest is None or newest.version <= present.registration.version:
                return
            authorities = {ca.name for ca in present.config.client_cas}
            try:
                registration = await asyncio.to_thread(_reread, newest, authorities)
            except ConfigInvalid as invalid:
                self._cannot_follow(newest.version, str(invalid))
                return
            self._house.in_force = replace(present, registration=registration)
            self._house.metrics.reloads.labels(outcome="followed").inc()
            _log.info("registration followed", extra={"registration": newest.version, "author": newest.author})

    def _cannot_follow(self, version: int, why: str) -> None:
        """Tell it once, not every few seconds."""
        if self._not_followed != (version, why):
            self._not_followed = (version, why)
            self._house.metrics.reloads.labels(outcome="refused").inc()
            _log.error("registration not followed", extra={"registration": version, "why": why})


def _reread(newest: RegistrationVersion, authorities: set[str]) -> "object":
    ...
