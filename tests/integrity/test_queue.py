"""A ledger whose queue is a table of its own, in PostgreSQL: it must say what the deliveries say."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.clock import utc_now
from gateway.integrity.findings import Code, Report
from gateway.integrity.walker import Verification, verify
from gateway.stores.files import FileBlobs
from gateway.stores.postgres.ledger import PostgresLedger

if TYPE_CHECKING:
    from tests.plugins.records import Records
else:
    Records = object


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM queue",
        "UPDATE queue SET due_at = due_at + interval '1 day'",
        "UPDATE queue SET status = 'in-doubt'",
    ],
)
async def test_a_queue_that_disagrees_is_named(
    postgres_server: Any, records: Records, tmp_path: Path, damage: str
) -> None:
    database = await postgres_server.emptied_database()
    ledger = await PostgresLedger.open(database.uri)
    await ledger.add_kek(records.kek)
    now = utc_now()
    new = records.new(
        accepted_at=now, delivery={"due_at": now + timedelta(days=1), "deadline_at": now + timedelta(days=3)}
    )
    assert await ledger.record(new) is None

    async def found() -> Report:
        report = Report(limit=5)
        blobs = FileBlobs(tmp_path / "blobs")
        what = Verification(
            ledger=ledger,
            blobs=blobs,
            vault=None,
            certificates=(),
            clock=utc_now,
            deep=False,
            progress=lambda _counts: None,
        )
        (tmp_path / "blobs").mkdir(exist_ok=True)
        await verify(what, report)
        await blobs.close()
        return report

    before = dict((await found()).totals)  # the record is made up: it has no blob and no real receipt
    async with postgres_server.admin(database.name) as admin:
        await admin.execute(damage)
    after = await found()
    assert dict(after.totals) == {**before, Code.QUEUE_DISAGREES: 1}
    (told,) = [each for each in after.findings if each.code is Code.QUEUE_DISAGREES]
    assert told.id == str(new.message.deliveries[0].delivery_id)
    await ledger.close()
