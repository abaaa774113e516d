"""What the tests of the sender edge share: raw TLS connections, the gateway's stores seen from outside, a clock."""

import asyncio
import contextlib
import json
import ssl
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import apsw
import pytest
import tomli_w

from gateway.app import Part as RunningPart
from gateway.stores.model import MessageFilter

if TYPE_CHECKING:
    from tests.plugins.house import Answer, House, multipart
else:
    from house import Answer, House, multipart

SENDERS = Path(__file__).parents[2] / "config" / "senders"
WAIT_S = 20.0


def client_tls(certs: Path, name: str | None, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """A client that shows any certificate, however bad: the server alone is to judge it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certs / "ca.pem")
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.maximum_version = maximum
    if name is not None:
        context.load_cert_chain(certs / f"{name}.pem", certs / f"{name}.key")
    return context


@dataclass
class Wire:
    """One raw connection; `alert` is the last word of TLS that ended it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    alert: str | None = None

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> Answer | None:
        """The next answer; None when the gateway closes the connection without one."""
        async with asyncio.timeout(WAIT_S):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError) as error:
                self.alert = error.reason if isinstance(error, ssl.SSLError) else None
                return None
            status_line, *lines = head.decode("latin-1").split("\r\n")[:-2]
            headers = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await self.reader.readexactly(int(headers.get("Content-Length", "0")))
        return Answer(int(status_line.split(" ")[1]), headers, body)

    async def ask(self, data: bytes) -> Answer | None:
        """Send and return the answer, also when the gateway answers before it has read all."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self.send(data)
        return await self.answer()

    async def end(self) -> bytes:
        """What still comes until the gateway closes the connection."""
        async with asyncio.timeout(WAIT_S):
            try:
                return await self.reader.read()
            except (ConnectionError, ssl.SSLError):
                return b""

    def break_off(self) -> None:
        self.writer.transport.abort()


Connect = Callable[..., Awaitable[Wire]]


@pytest.fixture
async def connect(make_house: Any) -> AsyncIterator[Connect]:
    """Open a raw connection to a gateway, by default TLS 1.3 with the certificate of `gemeente`."""
    wires: list[Wire] = []

    async def open_wire(house: House, name: str | None = "gemeente", *, tls: bool = True, **options: Any) -> Wire:
        context = await asyncio.to_thread(client_tls, house.certs, name, **options) if tls else None
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", house.gateway.intake_port, ssl=context, server_hostname="localhost" if tls else None
        )
        wires.append(Wire(reader, writer))
        return wires[-1]

    yield open_wire
    for wire in wires:
        wire.break_off()


def request(method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> bytes:
    """The octets of a request; `Content-Length` goes with a body unless the headers say otherwise."""
    lines = {"Host": "localhost", **(headers or {})}
    if body and not {"Content-Length", "Transfer-Encoding"} & lines.keys():
        lines["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


@pytest.fixture
def make_request() -> Callable[..., bytes]:
    """Return the writer of requests."""
    return request


@pytest.fixture
def make_post() -> Callable[..., bytes]:
    """Return a writer of hand-overs from their parts."""

    def post(parts: list[Any], headers: Mapping[str, str] | None = None) -> bytes:
        usual = {"Content-Type": "multipart/form-data; boundary=simple-boundary"}
        return request("POST", "/api/v1/messages", {**usual, **(headers or {})}, multipart(parts))

    return post


# ── The stores, seen from outside ──


def query(house: House, statement: str, *values: Any) -> list[Any]:
    connection = apsw.Connection(urlsplit(house.config.stores.ledger).path)
    try:
        connection.set_busy_timeout(5_000)
        return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


@dataclass(frozen=True)
class Traces:
    """
    Everything of messages that a gateway holds: documents, which are files of blobs, also half-written ones, or
    enclosed in the ledger; and message ids.
    """

    documents: frozenset[str]
    messages: frozenset[str]


@dataclass(frozen=True)
class Inside:
    """Looks into the stores of a running gateway."""

    house: House

    async def query(self, statement: str, *values: Any) -> list[Any]:
        return await asyncio.to_thread(query, self.house, statement, *values)

    async def log(self, name: str) -> list[Any]:
        """The entries of a log, in order."""
        rows = await self.query("SELECT entry FROM log_entry WHERE log = ? ORDER BY position", name)
        return [json.loads(entry) for (entry,) in rows]

    async def traces(self) -> Traces:
        ids: set[str] = set()
        for (sender,) in await self.query("SELECT DISTINCT sender FROM reference"):
            which = MessageFilter(sender=sender, profiles=None)
            page = await self.house.gateway.ledger.messages(which, after_position=0, limit=500)
            ids |= {str(message.message_id) for message in page.messages}
        rows = await self.query("SELECT message_id FROM message UNION SELECT message_id FROM reference")
        assert len(rows) == len(ids)
        enclosed = await self.query("SELECT hex(document_id) FROM enclosure")
        files = await asyncio.to_thread(self._blob_files)
        return Traces(documents=files | {name for (name,) in enclosed}, messages=frozenset(ids))

    def _blob_files(self) -> frozenset[str]:
        return frozenset(str(path) for path in self.blobs.rglob("*") if path.is_file())

    @property
    def blobs(self) -> Path:
        return Path(urlsplit(self.house.config.stores.blobs).path)

    async def suspend(self, sender: str) -> None:
        await self.query("INSERT INTO suspension (sender, at, reason) VALUES (?, 0, 'test')", sender)

    async def readmit(self, sender: str) -> None:
        await self.query("DELETE FROM suspension WHERE sender = ?", sender)

    async def metric(self, name: str, **labels: str) -> float:
        """A figure as the ops edge shows it; 0 when nothing was counted yet."""
        wanted = ",".join(f'{label}="{value}"' for label, value in labels.items())
        line = f"{name}{{{wanted}}} " if wanted else f"{name} "
        async with aiohttp.ClientSession() as session, session.get(self.house.ops_url + "/metrics") as response:
            text = await response.text()
        return next((float(found.removeprefix(line)) for found in text.splitlines() if found.startswith(line)), 0.0)

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Return once `holds` does."""
        async with asyncio.timeout(WAIT_S):
            while not await holds():  # noqa: ASYNC110 - what happens inside the gateway sets no event out here
                await asyncio.sleep(0.01)

    async def until_metric(self, value: float, name: str, **labels: str) -> None:
        """Return once a figure has this value."""

        async def has_value() -> bool:
            return await self.metric(name, **labels) == value

        await self.until(has_value)


@pytest.fixture
def inside() -> type[Inside]:
    """Return the look into the stores of a house."""
    return Inside


# ── What a house is made of ──


@dataclass
class MovedClock:
    """The real time, moved by `ahead`."""

    ahead: timedelta = field(default_factory=timedelta)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def moved_clock() -> MovedClock:
    """A clock for a gateway that a test can move."""
    return MovedClock()


@pytest.fixture
async def intake(make_house: Any) -> House:
    """A gateway that takes letters over and delivers none: what it holds changes by requests alone."""
    house: House = await make_house(parts=[RunningPart.INTAKE])
    return house


@pytest.fixture
async def blobs_only(make_house: Any) -> House:
    """As `intake`; there each document, however small, is a blob."""

    def change(values: dict[str, Any]) -> None:
        values.setdefault("stores", {})["enclose_up_to_bytes"] = 0

    house: House = await make_house(change, parts=[RunningPart.INTAKE])
    return house


Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def limited() -> Callable[..., Edit]:
    """Return a maker of changes to `[limits]` of a configuration."""

    def change(**limits: Any) -> Edit:
        return lambda values: values.setdefault("limits", {}).update(limits)

    return change


@pytest.fixture
def registered(tmp_path: Path) -> Callable[..., str]:
    """Return a maker of registration folders: the shipped one, each sender's file changed by its edit."""

    def write(**edits: Edit) -> str:
        folder = tmp_path / "senders"
        folder.mkdir()
        for file in SENDERS.glob("*.toml"):
            values = tomllib.loads(file.read_text())
            edits.get(f"n{file.stem}", lambda _values: None)(values)
            (folder / file.name).write_text(tomli_w.dumps(values))
        return str(folder)

    return write
