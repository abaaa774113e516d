"""
Migrations of a SQLite ledger: numbered SQL files, applied in order, each in one transaction with its entry in
`schema_migration`. `pre` files suit the old program too; `post` files come a release later.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Final

import apsw

from gateway.errors import StoreUnavailable
from gateway.stores.sqlite.rows import to_ms

_NAME: Final = re.compile(r"(?P<version>[0-9]{4})_(?P<name>(?:pre|post)_[a-z0-9_]+)\.sql\Z")

_IS_EMPTY: Final = "SELECT count(*) = 0 FROM sqlite_master"
_IS_LEDGER: Final = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'schema_migration'"
_NEWEST: Final = "SELECT coalesce(max(version), 0) FROM schema_migration"
_NOTE: Final = "INSERT INTO schema_migration (version, name, applied_at) VALUES (?, ?, ?)"


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


def migrate(connection: apsw.Connection, at: datetime, known: Sequence[Migration] | None = None) -> None:
    """
    Bring the database up to date; `known` defaults to `migrations()`. A failed step leaves the ones before it.

    Raises:
        StoreUnavailable: it is no ledger, or its schema is newer than this program.
    """
    steps = migrations() if known is None else known
    newest_known = steps[-1].version if steps else 0
    present = _version(connection)
    if present > newest_known:
        raise StoreUnavailable(
            f"this ledger has schema version {present} and this program knows {newest_known}: run the newer program"
        )
    for step in steps:
        if step.version > present:
            with connection:
                connection.execute(step.script)
                connection.execute(_NOTE, (step.version, step.name, to_ms(at)))


def _version(connection: apsw.Connection) -> int:
    if connection.execute(_IS_EMPTY).get:
        return 0
    if not connection.execute(_IS_LEDGER).get:
        raise StoreUnavailable("this SQLite database is no ledger; name another file")
    return int(connection.execute(_NEWEST).get)
