"""Which registration is in force, what messages under way need of it, and who is suspended."""

from collections.abc import Collection, Sequence
from typing import Final

from gateway.domain.ids import EnterpriseNumber
from gateway.domain.needs import LiveUse
from gateway.stores.encoding import route_of
from gateway.stores.model import LogEntry, RegistrationVersion, Suspension
from gateway.stores.postgres.logs import append
from gateway.stores.postgres.rows import floor_ms
from gateway.stores.postgres.sessions import Transaction

_NUMBER: Final = "SELECT coalesce(max(version), 0) FROM registration_version"
_IN_FORCE: Final = """
SELECT version, digest, author, at, files FROM registration_version ORDER BY version DESC LIMIT 1
"""
# Whoever adds the same number at this moment is waited for: one of them gets it.
_ADD: Final = """
INSERT INTO registration_version (version, digest, author, at, files)
SELECT $1, $2, $3, $4, $5 WHERE $1::integer = (SELECT coalesce(max(version), 0) + 1 FROM registration_version)
ON CONFLICT (version) DO NOTHING RETURNING version
"""
# What is handed to an e-Box registry needs its triple; what was handed over needs it no more.
_LIVE_USES: Final = """
WITH live AS (
  SELECT message_id, bool_or(next_action <> 'poll' AND channel <> 'print') AS to_publish FROM queue GROUP BY message_id
)
SELECT
  message.sender, message.profile, message.category, message.route, count(*), count(*) FILTER (WHERE live.to_publish)
FROM live JOIN message ON message.message_id = live.message_id
GROUP BY message.sender, message.profile, message.category, message.route
"""
_NOTED_PROVIDERS: Final = "SELECT name FROM configured_provider"
# Two that note at once: the later one's list stands, not both.
_LOCK_PROVIDERS: Final = "LOCK TABLE configured_provider IN SHARE ROW EXCLUSIVE MODE"
_FORGET_PROVIDERS: Final = "DELETE FROM configured_provider"
_NOTE_PROVIDERS: Final = "INSERT INTO configured_provider (name) SELECT unnest($1::text[])"
_IS_SUSPENDED: Final = "SELECT EXISTS (SELECT 1 FROM suspension WHERE sender = $1)"
_SUSPEND: Final = """
INSERT INTO suspension (sender, at, reason) VALUES ($1, $2, $3) ON CONFLICT (sender) DO NOTHING RETURNING sender
"""
_RESUME: Final = "DELETE FROM suspension WHERE sender = $1 RETURNING sender"
_SUSPENSIONS: Final = "SELECT sender, at, reason FROM suspension ORDER BY at, sender"


async def registration_number(tx: Transaction) -> int:
    """See `Ledger.registration_number`."""
    number: int = await tx.connection.fetchval(_NUMBER)
    return number


async def registration_in_force(tx: Transaction) -> RegistrationVersion | None:
    """See `Ledger.registration_in_force`."""
    row = await tx.connection.fetchrow(_IN_FORCE)
    if row is None:
        return None
    version, digest, author, at, files = row
    return RegistrationVersion(version=version, digest=digest, author=author, at=at, text=files)


async def add_registration(tx: Transaction, new: RegistrationVersion, entries: Sequence[LogEntry]) -> bool:
    """See `Ledger.add_registration`."""
    added = await tx.connection.fetchval(_ADD, new.version, new.digest, new.author, floor_ms(new.at), new.text)
    if added is None:
        return False
    await append(tx, entries)
    return True


async def live_uses(tx: Transaction) -> list[LiveUse]:
    """See `Ledger.live_uses`."""
    return [
        LiveUse(
            sender=EnterpriseNumber(sender),
            profile=profile,
            category=category,
            route=route_of(route),
            messages=messages,
            to_publish=to_publish,
        )
        for sender, profile, category, route, messages, to_publish in await tx.connection.fetch(_LIVE_USES)
    ]


async def noted_providers(tx: Transaction) -> frozenset[str]:
    """See `Ledger.noted_providers`."""
    return frozenset(name for (name,) in await tx.connection.fetch(_NOTED_PROVIDERS))


async def note_providers(tx: Transaction, names: Collection[str]) -> None:
    """See `Ledger.note_providers`."""
    await tx.connection.execute(_LOCK_PROVIDERS)
    await tx.connection.execute(_FORGET_PROVIDERS)
    await tx.connection.execute(_NOTE_PROVIDERS, sorted(set(names)))


async def is_suspended(tx: Transaction, sender: EnterpriseNumber) -> bool:
    """See `Ledger.is_suspended`."""
    suspended: bool = await tx.connection.fetchval(_IS_SUSPENDED, sender)
    return suspended


async def suspend(tx: Transaction, suspension: Suspension, entries: Sequence[LogEntry]) -> bool:
    """See `Ledger.suspend`."""
    suspended = await tx.connection.fetchval(_SUSPEND, suspension.sender, floor_ms(suspension.at), suspension.reason)
    if suspended is None:
        return False
    await append(tx, entries)
    return True


async def resume(tx: Transaction, sender: EnterpriseNumber, entries: Sequence[LogEntry]) -> bool:
    """See `Ledger.resume`."""
    if await tx.connection.fetchval(_RESUME, sender) is None:
        return False
    await append(tx, entries)
    return True


async def suspensions(tx: Transaction) -> list[Suspension]:
    """See `Ledger.suspensions`."""
    return [
        Suspension(sender=EnterpriseNumber(sender), at=at, reason=reason)
        for sender, at, reason in await tx.connection.fetch(_SUSPENSIONS)
    ]
