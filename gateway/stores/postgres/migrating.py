"""
Migrations of a PostgreSQL ledger: numbered SQL files, applied in order, each in one transaction with its entry in
`schema_migration`. `pre` files suit the old program too; `post` files come a release later. They run as the owner of
the database, which is another role than that of the gateways.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from gateway.errors import StoreUnavailable
from gateway.stores.postgres.sessions import Connection

_NAME: Final = re.compile(r"(?P<version>[0-9]{4})_(?P<name>(?:pre|post)_[a-z0-9_]+)\.sql\Z")

# Of two that migrate at once, the second waits, and then finds nothing left to do. Any number that nobody else uses.
_LOCK: Final = "SELECT pg_advisory_lock(7017017017017)"
_UNLOCK: Final = "SELECT pg_advisory_unlock(7017017017017)"
_VERSION: Final = """
SELECT to_regclass('schema_migration') IS NOT NULL AS is_ledger,
  EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')) AS has_tables
"""
_NEWEST: Final = "SELECT coalesce(max(version), 0) FROM schema_migration"
_NOTE: Final = "INSERT INTO schema_migration (version, name) VALUES ($1, $2)"
# This month and the next three.
OPEN_MONTHS: Final = """
SELECT open_month((date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC') + ahead * interval '1 month')::date)
FROM generate_series(0, 3) AS ahead
"""
_QUOTED: Final = "SELECT quote_ident($1)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step of the schema."""

    version: int
    name: str
    script: str


@cache
def migrations() -> tuple[Migration, ...]:
    """Return every migration this program knows, in order."""
    files = resources.files(__package__).joinpath("migrations").iterdir()
    found = (
        Migration(version=int(match["version"]), name=match["name"], script=file.read_text(encoding="utf-8"))
        for file in files
        if (match := _NAME.match(file.name))
    )
    return tuple(sorted(found, key=lambda migration: migration.version))


def newest_known() -> int:
    """Return the version of the schema that this program works with."""
    return migrations()[-1].version


async def migrate(
    connection: Connection, *, serve_as: str | None = None, known: Sequence[Migration] | None = None
) -> list[str]:
    """
    Bring the database up to date and open the coming months; return the names of the steps that were missing.

    `serve_as`: the role of the gateways, which gets the rights of `gateway_app`. A failed step leaves those before it.

    Raises:
        StoreUnavailable: it is another database than a ledger, or its schema is newer than this program.
    """
    steps = migrations() if known is None else known
    await connection.execute(_LOCK)
    try:
        present = await _version(connection)
        if present > steps[-1].version:
            raise StoreUnavailable(
                f"this ledger has schema version {present} and this program knows {steps[-1].version}: "
                "run the newer program"
            )
        missing = [step for step in steps if step.version > present]
        for step in missing:
            async with connection.transaction():
                await connection.execute(step.script)
                await connection.execute(_NOTE, step.version, step.name)
        await connection.execute(OPEN_MONTHS)
        if serve_as is not None:
            await connection.execute(f"GRANT gateway_app TO {await connection.fetchval(_QUOTED, serve_as)}")
    finally:
        await connection.execute(_UNLOCK)
    return [f"{step.version:04}_{step.name}" for step in missing]


async def _version(connection: Connection) -> int:
    (row,) = await connection.fetch(_VERSION)
    is_ledger, has_tables = row
    if is_ledger:
        newest: int = await connection.fetchval(_NEWEST)
        return newest
    if has_tables:
        raise StoreUnavailable("this database holds tables and is no ledger; name another one")
    return 0
