"""The stores that a real gateway left behind, once for each worker, and a copy of them for each test to damage."""

import asyncio
import shutil
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import apsw
import pytest

from gateway.clock import utc_now
from gateway.config import Config, load
from gateway.crypto.certs import load_certificates
from gateway.domain.ids import MessageId, Ssin
from gateway.domain.message import Recipient
from gateway.integrity.command import Verdict, verify_stores
from gateway.integrity.findings import Report
from gateway.integrity.walker import Verification, verify
from gateway.simulators import magic
from gateway.simulators.magic import PrintFate
from gateway.stores.open import open_blobs, open_ledger

if TYPE_CHECKING:
    from tests.plugins.batches import BatchHand
    from tests.plugins.house import ADDRESS, House, MakeHouse, channels
    from tests.plugins.records import Records
else:
    from batches import BatchHand
    from house import ADDRESS, House, MakeHouse, channels
    from records import Records


SMALL = b"%PDF-1.7 a small letter"


@dataclass(frozen=True)
class Left:
    """Stores without a gateway, and the messages in them by what became of them."""

    folder: Path
    config: Config
    messages: Mapping[str, MessageId]

    @property
    def ledger_file(self) -> Path:
        return self.folder / "state" / "ledger.db"

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement on the ledger's file, past all its promises."""
        connection = apsw.Connection(str(self.ledger_file))
        rows: list[tuple[Any, ...]] = [tuple(row) for row in connection.execute(statement, values)]
        connection.close()
        return rows

    def change(self, statement: str, *values: Any) -> None:
        """Run a statement that changes exactly one row, whatever triggers forbid it."""
        connection = apsw.Connection(str(self.ledger_file))
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(statement, values)
        changed = connection.changes()
        connection.close()
        assert changed == 1

    def id(self, name: str) -> bytes:
        """Return the id of a message as it stands in the ledger."""
        return self.messages[name].bytes

    def clone(self, table: str, key: bytes, **changes: Any) -> None:
        """Add a copy of the row with that key, the first column, changed in some columns."""
        columns = [row[1] for row in self.sql(f"PRAGMA table_info({table})")]
        (row,) = self.sql(f"SELECT * FROM {table} WHERE {columns[0]} = ?", key)  # noqa: S608 -- names of our own
        values = dict(zip(columns, row, strict=True)) | changes
        places = ", ".join("?" * len(values))
        self.change(f"INSERT INTO {table} VALUES ({places})", *values.values())  # noqa: S608 -- names of our own

    def delivery(self, name: str, number: int = 1) -> bytes:
        """Return the id of a delivery."""
        ((found,),) = self.sql(
            "SELECT delivery_id FROM delivery WHERE message_id = ? AND number = ?", self.id(name), number
        )
        return bytes(found)

    def document(self, name: str) -> UUID:
        """Return the id of a message's first document."""
        ((found,),) = self.sql("SELECT document_id FROM document WHERE message_id = ? AND number = 1", self.id(name))
        return UUID(bytes=found)

    def blob(self, blob_id: UUID) -> Path:
        """Return the file of a blob, there or not."""
        return self.folder / "state" / "blobs" / str(blob_id)[-3:] / str(blob_id)

    async def verify(self, *, deep: bool = False, limit: int = 20) -> Verdict:
        return await verify_stores(self.config, clock=utc_now, deep=deep, limit=limit)

    async def verify_damaged(self, damage: Callable[["Left"], None], *, while_open: bool = False) -> Report:
        """Damage the stores, before or after the ledger is opened, and verify them deeply."""
        if not while_open:
            await asyncio.to_thread(damage, self)
            return (await self.verify(deep=True)).report
        report = Report(limit=20)
        ledger = await open_ledger(self.config.stores.ledger, clock=utc_now)
        blobs = open_blobs(self.config.stores.blobs)
        await asyncio.to_thread(damage, self)
        what = Verification(
            ledger=ledger,
            blobs=blobs,
            vault=None,
            certificates=await asyncio.to_thread(load_certificates, self.config.receipts.certificate),
            clock=utc_now,
            deep=True,
            progress=lambda _counts: None,
        )
        await verify(what, report)
        await blobs.close()
        await ledger.close()
        return report


def days_ahead(days: int) -> datetime:
    return (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)


def has_come_to(fate: str, view: Any) -> bool:
    return fate in (view["status"], view["copy"]["state"])


async def letters(house: House) -> dict[str, MessageId]:
    """Send a letter to each fate, and wait until all have come to theirs."""
    sender = await house.sender()

    def to(ssin: str, name: str = ADDRESS.name) -> Recipient:
        return Recipient(ssin=Ssin(ssin), address=replace(ADDRESS, name=name))

    fine = to(magic.CITIZEN_FINE)
    plan: dict[str, tuple[dict[str, Any], str]] = {
        "published": ({"channels": channels("ebox-citizen")}, "erased"),
        "printed": ({"channels": channels("print")}, "delivered"),
        "returned": (
            {"channels": channels("print"), "recipient": to(fine.ssin or "", magic.PRINT_NAMES[PrintFate.RETURNED])},
            "returned",
        ),
        "both": (
            {"channels": channels("ebox-citizen", "print"), "recipient": to(magic.CITIZEN_NO_BOX)},
            "delivered",
        ),
        "refused": (
            {"channels": channels("ebox-citizen"), "recipient": to(magic.CITIZEN_REFUSED)},
            "undeliverable",
        ),
        "doubtful": (
            {"channels": channels("ebox-citizen"), "recipient": to(magic.CITIZEN_DOUBT)},
            "needs-decision",
        ),
        "scheduled": ({"deliver_not_before": days_ahead(3)}, "scheduled"),
        "cancelled": ({"deliver_not_before": days_ahead(3), "contents": [SMALL]}, "cancelled"),
        "small": ({"channels": channels("ebox-citizen"), "contents": [SMALL]}, "erased"),
    }
    found = {name: await sender.accepted(**changes) for name, (changes, _) in plan.items() if name != "scheduled"}
    # One came in a batch.
    batch = BatchHand(sender, [sender.message(**plan["scheduled"][0])])
    found["scheduled"] = (await batch.taken())[0]["messageId"]
    assert (await sender.call("POST", f"/api/v1/messages/{found['cancelled']}/cancel")).status == 200
    for name, (_, fate) in plan.items():
        await sender.until(found[name], partial(has_come_to, fate))
    dossier = {"recipient": {"ssin": magic.CITIZEN_FINE}, "category": "building-permit", "from": "2026-01-01"}
    assert (await sender.call_json("/api/v1/dossiers", {"dossiers": [dossier]})).status == 200
    # A refusal is logged under a key of the sender's own.
    assert (await sender.send(category="administrative-fine")).status == 403
    return {name: MessageId(UUID(message_id)) for name, message_id in found.items()}


def set_up(values: dict[str, Any]) -> None:
    """Ask the print house each second whether a letter came back; let most documents be blobs, and few be enclosed."""
    values["polling"] |= {"returned_every_s": 1.0}
    values.setdefault("stores", {})["enclose_up_to_bytes"] = 1_000


@pytest.fixture(scope="session")
def records_maker() -> Records:
    """A maker of records for properties, which share it between their examples."""
    return Records()


_ONCE: dict[str, Left] = {}


@pytest.fixture
async def original(make_house: MakeHouse, tmp_path_factory: pytest.TempPathFactory) -> Left:
    """The stores as they were left; never to be changed."""
    if not _ONCE:
        folder = tmp_path_factory.mktemp("left")
        async with AsyncExitStack() as stack:
            house = await make_house(set_up, folder=folder, own_stack=stack)
            messages = await letters(house)
            events = await house.gateway.ledger.number_events(at=utc_now(), limit=1_000)
            assert events < 1_000
        _ONCE["left"] = Left(folder, house.config, messages)
    return _ONCE["left"]


@pytest.fixture
async def left(original: Left, tmp_path: Path) -> Left:
    """A copy of the stores, to be damaged."""
    folder = tmp_path / "copy"

    def copy() -> Config:
        shutil.copytree(original.folder, folder, ignore=shutil.ignore_patterns("*.sock"))
        file = folder / "gateway.toml"
        file.write_text(file.read_text().replace(str(original.folder), str(folder)))
        return load(file)

    return replace(original, folder=folder, config=await asyncio.to_thread(copy))
