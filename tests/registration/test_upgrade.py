"""A ledger from before texts were kept, and versions that nobody can change."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest

from gateway.stores.model import RegistrationVersion
from gateway.stores.sqlite.ledger import SqliteLedger
from gateway.stores.sqlite.migrating import migrate, migrations

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)


def write_old_ledger(file: Path) -> None:
    file.parent.mkdir(mode=0o700, parents=True)
    with apsw.Connection(str(file)) as connection:
        migrate(connection, AT, migrations()[:1])
        connection.execute("INSERT INTO registration_version (version, digest, at, author) VALUES (5, x'00', 0, 'x')")


async def test_a_registration_from_before_texts_were_kept_is_followed_by_one_with_text(
    premises_with: Any, tmp_path: Path
) -> None:
    await asyncio.to_thread(write_old_ledger, tmp_path / "state" / "ledger.db")
    premises = await premises_with()
    assert await premises.version() == 6
    rows = await premises.query("SELECT version, files IS NULL FROM registration_version ORDER BY version")
    assert rows == [(5, 1), (6, 0)]


@pytest.mark.parametrize(
    "statement", ["UPDATE registration_version SET author = 'me'", "DELETE FROM registration_version"]
)
async def test_what_was_in_force_is_neither_changed_nor_deleted(tmp_path: Path, statement: str) -> None:
    ledger = await SqliteLedger.open(tmp_path / "ledger.db", clock=lambda: AT)
    new = RegistrationVersion(version=1, digest=b"d", author="somebody", at=AT, text="{}")
    assert await ledger.add_registration(new, [])
    with pytest.raises(apsw.ConstraintError):
        await ledger._writer.run(lambda connection: connection.execute(statement))
    assert await ledger.registration_in_force() == new
    await ledger.close()
