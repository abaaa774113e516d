"""
Changes while the gateway runs: certificates, authorities, revocation lists, registration, staff and security matrix.

Everything new is read and built off the event loop and held against all rules first; then it is committed, and only
then swapped in, all at once. Whatever fails, what was in force stays, and the metric, the log and the answer say why.
Running requests keep what they began with, and no connection is dropped.
"""

import asyncio
import contextlib
import hashlib
import hmac
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.config import Config, ConfigInvalid, load
from gateway.config.reader import shown
from gateway.config.registration_files import RegistrationFiles, reread_registration
from gateway.crypto.crls import succeed
from gateway.crypto.tls import SwappableContext, plain_server_context, server_context
from gateway.domain.differences import Facts, differences, matrix_facts, registration_facts, staff_facts
from gateway.domain.registration import Registration
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
from gateway.stores.model import RegistrationVersion

__all__ = ["INTAKE", "PORTAL", "Reloader"]

_log: Final = logging.getLogger(__name__)
# The listeners whose TLS can be swapped.
INTAKE: Final = "intake"
PORTAL: Final = "portal"
_FOLLOW_S: Final = 2.0  # what another process put in force holds here within 5 s
_REFUSALS: Final = (ConfigInvalid, StillNeeded, Overtaken)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """What is to be in force, built; `swap` puts its TLS contexts to use, and cannot fail."""

    in_force: InForce
    files: RegistrationFiles
    swap: Callable[[], None]


class Reloader:
    """
    Puts in force what the files say, on somebody's word, and follows what other processes put in force.

    `edges` are the contexts that listen now, by name; those of edges that are not run here are absent. `run` and `stop`
    each once.
    """

    def __init__(self, house: House, edges: Mapping[str, SwappableContext], *, follow_s: float = _FOLLOW_S) -> None:
        self._house = house
        self._edges = edges
        self._follow_s = follow_s
        self._alone = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._not_followed: tuple[int, str] | None = None

    # ── On somebody's word ──

    @contextlib.asynccontextmanager
    async def held_back(self) -> AsyncIterator[None]:
        """Let whoever asks wait while the context is open: the edges are being started."""
        async with self._alone:
            yield

    async def look(self) -> Reloaded:
        """
        Return what putting the registration files in force would change; nothing is.

        Raises:
            ConfigInvalid: they hold mistakes.
        """
        async with self._alone:
            return await self._put_in_force(await self._registration_alone(), None)

    async def apply(self, occasion: Occasion, *, digest: str | None = None) -> Reloaded:
        """
        Put the registration files in force; with `digest`, the beginning of the one that `look` told, only those.

        Raises:
            ConfigInvalid, StillNeeded, Overtaken: nothing changed.
            StoreUnavailable: they may or may not be in force.
        """
        return await self._told(self._apply(occasion, digest), occasion)

    async def reload(self, occasion: Occasion, *, dry_run: bool = False) -> Reloaded:
        """
        Put everything in force that can change without a restart; with `dry_run`, only tell what would change.

        Raises:
            ConfigInvalid, StillNeeded, Overtaken: nothing changed.
            StoreUnavailable: the registration may or may not be in force; nothing else changed.
        """
        work = self._reload(occasion, dry_run=dry_run)
        return await (work if dry_run else self._told(work, occasion))

    async def reload_on_signal(self) -> None:
        """Do as `reload`, for SIGHUP; what goes wrong is in the log, the admin log and the metric."""
        house = self._house
        occasion = by_itself("SIGHUP", house.logbook.gateway)
        try:
            done = await self.reload(occasion)
        except _REFUSALS:
            result = "refused"
        except Exception as error:  # noqa: BLE001 -- nobody waits for an answer to a signal; the log has to tell
            why = str(error) if isinstance(error, GatewayError) else type(error).__name__
            _log.error("reload failed", extra={"command": occasion.command, "why": why})
            return
        else:
            if done.is_change:
                return  # its entry was written with the change
            result = "unchanged"
        with contextlib.suppress(StoreUnavailable):  # nothing was changed that the entry would have to tell
            await house.ledger.append([occasion.entry(house.logbook, result=result, what={})])

    async def _apply(self, occasion: Occasion, digest: str | None) -> Reloaded:
        async with self._alone:
            candidate = await self._registration_alone()
            if digest is not None and not candidate.files.digest.hex().startswith(digest):
                why = "have changed since their digest was told; look at them again"
                raise ConfigInvalid([FieldError(pointer="the registration files", detail=why)])
            return await self._put_in_force(candidate, occasion)

    async def _reload(self, occasion: Occasion, *, dry_run: bool) -> Reloaded:
        async with self._alone:
            await self._catch_up()
            candidate = await asyncio.to_thread(self._build, self._house.in_force)
            return await self._put_in_force(candidate, None if dry_run else occasion)

    async def _registration_alone(self) -> _Candidate:
        await self._catch_up()
        present = self._house.in_force
        files = await asyncio.to_thread(load_registration_of, present.config)
        in_force = replace(present, registration=files.registration)
        return _Candidate(in_force=in_force, files=files, swap=lambda: None)

    async def _put_in_force(self, candidate: _Candidate, occasion: Occasion | None) -> Reloaded:
        """Commit and swap; without an occasion only look at what that would be."""
        house, present, wanted = self._house, self._house.in_force, candidate.in_force
        step = await next_step(candidate.files, house.ledger)
        changes = _changes(present, wanted)
        lines = tuple(line for part in changes.values() for line in part)
        done = Reloaded(
            number_before=step.number_before,
            number_after=step.number_after,
            digest=step.files.digest.hex(),
            changes=lines,
        )
        try:
            if step.is_new:
                await require_needs_met(wanted.registration, present.config.providers, house.ledger)
        except StillNeeded as unmet:
            if occasion is None:
                return replace(done, needs=tuple(unmet.needs))
            raise
        if occasion is None:
            return done
        if done.is_change:
            # The ledger keeps the text of each registration; of the rest, this entry is all that will be known.
            rest = {part: "\n".join(told) for part, told in changes.items() if told and part != "registration"}
            entry = occasion.entry(house.logbook, result="in-force", what={**step.told, **rest})
            await take_step(step, occasion, [entry], house.clock(), house.ledger)
        # Nothing below waits or fails, so that no request sees a part of it.
        candidate.swap()
        house.in_force = replace(wanted, registration=replace(wanted.registration, version=step.number_after))
        return done

    async def _told(self, work: Awaitable[Reloaded], occasion: Occasion) -> Reloaded:
        """Do the work; count and log how it went."""
        counted = self._house.metrics.reloads
        try:
            done = await work
        except _REFUSALS as refusal:
            counted.labels(outcome="refused").inc()
            why = {"command": occasion.command, "why": str(refusal)}
            _log.error("reload refused", extra=why)
            raise
        except BaseException:
            counted.labels(outcome="failed").inc()
            raise
        counted.labels(outcome="done").inc()
        told = {"command": occasion.command, "registration": done.number_after, "changes": len(done.changes)}
        _log.info("reloaded", extra=told)
        return done

    def _build(self, present: InForce) -> _Candidate:
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
            _require_newer_lists(present, in_force)
            swap = _prepare_swap(in_force, self._edges)
        except ConfigInvalid:
            raise
        except (GatewayError, OSError) as error:
            why = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
            raise ConfigInvalid([FieldError(pointer=shown(config.file), detail=why)]) from error
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
        async with self._alone:
            await self._catch_up()

    async def _catch_up(self) -> None:
        house = self._house
        present = house.in_force
        if await house.ledger.registration_number() <= present.registration.version:
            return
        newest = await house.ledger.registration_in_force()
        if newest is None:
            return
        try:
            registration = await asyncio.to_thread(_reread, newest, present.config)
        except ConfigInvalid as invalid:
            self._cannot_follow(newest.version, str(invalid))
            return
        house.in_force = replace(present, registration=registration)
        house.metrics.reloads.labels(outcome="followed").inc()
        _log.info("registration followed", extra={"registration": newest.version, "author": newest.author})

    def _cannot_follow(self, version: int, why: str) -> None:
        """Tell it once, not every few seconds."""
        if self._not_followed == (version, why):
            return
        self._not_followed = (version, why)
        self._house.metrics.reloads.labels(outcome="refused").inc()
        _log.error("registration not followed", extra={"registration": version, "why": why})


def _reread(newest: RegistrationVersion, config: Config) -> Registration:
    text = newest.text or ""
    if not hmac.compare_digest(hashlib.sha256(text.encode()).digest(), newest.digest):
        why = "its text in the ledger is not the one that was put in force"
        raise ConfigInvalid([FieldError(pointer=f"registration {newest.version}", detail=why)])
    return reread_registration(text, version=newest.version, authorities={ca.name for ca in config.client_cas})


# ── What may change, and what needs a restart ──


def _needs_restart(before: Config, after: Config) -> list[FieldError]:
    """Return the tables of the configuration that differ in what is fixed when the gateway starts."""
    was, is_now = _fixed(before), _fixed(after)
    why = "differs from what runs in a key that changes with a restart only; restart, or put it back"
    return [
        FieldError(pointer=f"{shown(after.file)}: {table}", detail=why) for table in was if was[table] != is_now[table]
    ]


def _fixed(config: Config) -> dict[str, object]:
    """Return, by table, what is fixed when the gateway starts: all but what is named here."""
    fixed: dict[str, object] = {field.name: getattr(config, field.name) for field in fields(config)}
    del fixed["file"], fixed["receipts"], fixed["client_cas"]
    gateway, intake, portal = config.gateway, config.intake, config.portal
    nowhere = config.file
    return fixed | {
        "gateway": replace(gateway, senders=nowhere, categories=nowhere, staff=nowhere, security_matrix=nowhere),
        "intake": replace(intake, certificate=nowhere, key_file=nowhere),
        # With or without TLS is fixed; which certificate is not.
        "portal": portal if portal.certificate is None else replace(portal, certificate=nowhere, key_file=nowhere),
    }


def _require_newer_lists(before: InForce, after: InForce) -> None:
    """
    Refuse a revocation list that is older than the one in use (RFC 5280, 5.2.3): it could bring a certificate back.

    Raises:
        CertificateRejected: CRL_OLDER.
    """
    known = {ca.name: ca.crls for ca in before.client_cas}
    for ca in after.client_cas:
        succeed(known.get(ca.name, ()), ca.crls)


def _prepare_swap(in_force: InForce, edges: Mapping[str, SwappableContext]) -> Callable[[], None]:
    """
    Build the TLS contexts of the edges that run, and return what swaps them in. Blocks.

    Raises:
        TlsRefused: one cannot be built, or cannot take the place of the one that runs.
    """
    config = in_force.config
    ready: list[tuple[SwappableContext, ssl.SSLContext]] = []
    if INTAKE in edges:
        context = server_context(
            config.intake.certificate,
            config.intake.key_file,
            in_force.client_cas,
            config.intake.tls_minimum,
            on_handshake_failure=lambda _reason: None,  # that of the listening context is told, also after a swap
        )
        ready.append((edges[INTAKE], context))
    if PORTAL in edges and config.portal.certificate is not None and config.portal.key_file is not None:
        ready.append((edges[PORTAL], plain_server_context(config.portal.certificate, config.portal.key_file)))
    for edge, context in ready:
        edge.require_swappable(context)

    def swap() -> None:
        for edge, context in ready:
            edge.swap(context)

    return swap


# ── Telling what changes ──


def _changes(before: InForce, after: InForce) -> dict[str, list[str]]:
    """Return the lines of what changes, by what it is about."""
    return {
        "registration": differences(registration_facts(before.registration), registration_facts(after.registration)),
        "certificates": differences(_trust_facts(before), _trust_facts(after)),
        "staff": differences(staff_facts(before.staff), staff_facts(after.staff)),
        "matrix": differences(matrix_facts(before.matrix), matrix_facts(after.matrix)),
    }


def _trust_facts(in_force: InForce) -> Facts:
    """Return whom we are and whom we trust."""
    facts: dict[str, dict[str, str]] = {
        f"certificate of {duty}": {"SHA-256": _fingerprint(chain), "until": f"{chain[0].not_valid_after_utc:%Y-%m-%d}"}
        for duty, chain in in_force.certificates.items()
    }
    for certificate in in_force.past_receipts:
        facts[f"earlier certificate of receipts {_fingerprint([certificate])}"] = {}
    for ca in in_force.client_cas:
        facts[f"client CA {ca.name}"] = {"SHA-256": _fingerprint(ca.certificates), "revocation": ca.revocation}
        for place, crl in enumerate(ca.crls, start=1):
            facts[f"revocation list {place} of client CA {ca.name}"] = {
                "number": str(crl.number),
                "until": f"{crl.next_update_at:%Y-%m-%dT%H:%M:%SZ}",
                "revoked": str(len(crl.serials)),
                "SHA-256": _fingerprint([crl.source]),
            }
    return facts


def _fingerprint(objects: Sequence[x509.Certificate | x509.CertificateRevocationList]) -> str:
    return hashlib.sha256(b"".join(each.public_bytes(Encoding.DER) for each in objects)).hexdigest()
