"""Which registration is in force, what messages under way need of it, and who is suspended."""

from collections.abc import Collection, Sequence
from typing import Final

import apsw

from gateway.domain.ids import EnterpriseNumber
from gateway.domain.needs import LiveUse
from gateway.stores.encoding import route_of
from gateway.stores.model import LogEntry, RegistrationVersion, Suspension
from gateway.stores.sqlite.logs import append
from gateway.stores.sqlite.rows import from_ms, to_ms

_NUMBER: Final = "SELECT coalesce(max(version), 0) FROM registration_version"
_IN_FORCE: Final = """
SELECT version, digest, author, at, files FROM registration_version ORDER BY version DESC LIMIT 1
"""
_ADD: Final = "INSERT INTO registration_version (version, digest, author, at, files) VALUES (?, ?, ?, ?, ?)"
# What is handed to an e-Box registry needs its triple; what was handed over needs it no more.
_LIVE_USES: Final = """
WITH live AS (
  SELECT message_id, max(next_action <> 'poll' AND channel <> 'print') AS to_publish
  FROM delivery WHERE next_action <> 'none' GROUP BY message_id
)
SELECT message.sender, message.profile, message.category, message.route, count(*), sum(live.to_publish)
FROM live JOIN message ON message.message_id = live.message_id
GROUP BY message.sender, message.profile, message.category, message.route
"""
_NOTED_PROVIDERS: Final = "SELECT name FROM configured_provider"
_FORGET_PROVIDERS: Final = "DELETE FROM configured_provider"
_NOTE_PROVIDER: Final = "INSERT INTO configured_provider (name) VALUES (?)"
_IS_SUSPENDED: Final = "SELECT count(*) FROM suspension WHERE sender = ?"
_SUSPEND: Final = """
INSERT INTO suspension (sender, at, reason) VALUES (?, ?, ?) ON CONFLICT (sender) DO NOTHING
"""
_RESUME: Final = "DELETE FROM suspension WHERE sender = ?"
_SUSPENSIONS: Final = "SELECT sender, at, reason FROM suspension ORDER BY at, sender"


def registration_number(connection: apsw.Connection) -> int:
    """See `Ledger.registration_number`."""
    return int(connection.execute(_NUMBER).get)


def registration_in_force(connection: apsw.Connection) -> RegistrationVersion | None:
    """See `Ledger.registration_in_force`."""
    row = connection.execute(_IN_FORCE).fetchone()
    if row is None:
        return None
    version, digest, author, at, files = row
    return RegistrationVersion(version=version, digest=digest, author=author, at=from_ms(at), text=files)


def add_registration(connection: apsw.Connection, new: RegistrationVersion, entries: Sequence[LogEntry]) -> bool:
    """See `Ledger.add_registration`."""
    if new.version != registration_number(connection) + 1:
        return False
    connection.execute(_ADD, (new.version, new.digest, new.author, to_ms(new.at), new.text))
    append(connection, entries)
    return True


def live_uses(connection: apsw.Connection) -> list[LiveUse]:
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
        for sender, profile, category, route, messages, to_publish in connection.execute(_LIVE_USES)
    ]


def noted_providers(connection: apsw.Connection) -> frozenset[str]:
    """See `Ledger.noted_providers`."""
    return frozenset(name for (name,) in connection.execute(_NOTED_PROVIDERS))


def note_providers(connection: apsw.Connection, names: Collection[str]) -> None:
    """See `Ledger.note_providers`."""
    connection.execute(_FORGET_PROVIDERS)
    connection.executemany(_NOTE_PROVIDER, ((name,) for name in sorted(names)))


def is_suspended(connection: apsw.Connection, sender: EnterpriseNumber) -> bool:
    """See `Ledger.is_suspended`."""
    return bool(connection.execute(_IS_SUSPENDED, (sender,)).get)


def suspend(connection: apsw.Connection, suspension: Suspension, entries: Sequence[LogEntry]) -> bool:
    """See `Ledger.suspend`."""
    connection.execute(_SUSPEND, (suspension.sender, to_ms(suspension.at), suspension.reason))
    if not connection.changes():
        return False
    append(connection, entries)
    return True


def resume(connection: apsw.Connection, sender: EnterpriseNumber, entries: Sequence[LogEntry]) -> bool:
    """See `Ledger.resume`."""
    connection.execute(_RESUME, (sender,))
    if not connection.changes():
        return False
    append(connection, entries)
    return True


def suspensions(connection: apsw.Connection) -> list[Suspension]:
    """See `Ledger.suspensions`."""
    return [
        Suspension(sender=EnterpriseNumber(sender), at=from_ms(at), reason=reason)
        for sender, at, reason in connection.execute(_SUSPENSIONS)
    ]
