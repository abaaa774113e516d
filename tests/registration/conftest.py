"""A gateway on files of its own, which a test changes and has put in force over the real admin socket."""

import asyncio
import json
import os
import shutil
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import apsw
import pytest
import tomli_w
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from gateway.admin.client import Reply, ask
from gateway.app import Part
from gateway.crypto.certs import load_certificates
from gateway.crypto.tls import client_context
from gateway.domain.staff import Role

if TYPE_CHECKING:
    from tests.plugins.house import House
else:
    from house import House

CONFIG = Path(__file__).parents[2] / "config"
WAIT_S = 30.0
LIST = b"GET /api/v1/messages HTTP/1.1\r\nHost: localhost\r\n\r\n"
Edit = Callable[[dict[str, Any]], None]


@dataclass
class Files:
    """The files of one gateway: its configuration, registrations and certificates."""

    folder: Path
    other_certs: Path

    @property
    def certs(self) -> Path:
        return self.folder / "certs"

    @property
    def config(self) -> Path:
        return self.folder / "gateway.toml"

    @property
    def staff(self) -> Path:
        return self.folder / "staff.toml"

    @property
    def matrix(self) -> Path:
        return self.folder / "security-matrix.toml"

    def sender(self, number: str) -> Path:
        return self.folder / "senders" / f"{number}.toml"

    def point(self, values: dict[str, Any]) -> None:
        """Make a configuration name these files."""
        values["gateway"] |= {
            "senders": str(self.folder / "senders"),
            "categories": str(self.folder / "categories.toml"),
            "staff": str(self.staff),
            "security_matrix": str(self.matrix),
        }
        for table, name in ((values["intake"], "server"), (values["receipts"], "receipts")):
            table |= {"certificate": str(self.certs / f"{name}.pem"), "key_file": str(self.certs / f"{name}.key")}
        values["client_cas"][0] |= {
            "file": str(self.certs / "clients-ca.pem"),
            "crl_file": str(self.certs / "clients.crl.pem"),
        }

    def write_staff(self, *roles: Role, **more: Any) -> None:
        person = {
            "name": "Jo Peeters",
            "uid": os.getuid(),
            "roles": [str(role) for role in roles],
            "confidentiality_statement": date(2026, 1, 10),
            "until": date(2036, 12, 31),
            **more,
        }
        self.staff.write_text(tomli_w.dumps({"persons": [person]}))

    def edit(self, file: Path, edit: Edit) -> None:
        values = tomllib.loads(file.read_text())
        edit(values)
        file.write_text(tomli_w.dumps(values))

    def renew(self, name: str, duty: str | None = None) -> x509.Certificate:
        """Put a new certificate of that name, of another authority that clients trust too, in place."""
        for end in ("pem", "key"):
            shutil.copyfile(self.other_certs / f"{name}.{end}", self.certs / f"{duty or name}.{end}")
        return load_certificates(self.certs / f"{duty or name}.pem")[0]

    def revoke(self, *names: str, number: int | None = None) -> None:
        """Put a new revocation list of the clients' CA in place, on which these stand."""
        issuer = x509.load_pem_x509_certificates((self.certs / "clients-ca.pem").read_bytes())[0]
        key: Any = load_pem_private_key((self.certs / "clients-ca.key").read_bytes(), None)
        file = self.certs / "clients.crl.pem"
        old, root_list = (
            x509.load_pem_x509_crl(b"-----BEGIN" + part) for part in file.read_bytes().split(b"-----BEGIN")[1:]
        )
        assert old.issuer == issuer.subject
        newest = old.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.subject)
            .last_update(old.last_update_utc)
            .next_update(old.last_update_utc + timedelta(days=30))
            .add_extension(x509.CRLNumber(number if number is not None else newest + 1), critical=False)
        )
        for name in names:
            serial = load_certificates(self.certs / f"{name}.pem")[0].serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(old.last_update_utc).build()
            builder = builder.add_revoked_certificate(entry)
        lists = (builder.sign(key, hashes.SHA256()), root_list)
        file.write_bytes(b"".join(crl.public_bytes(Encoding.PEM) for crl in lists))


@dataclass
class Wire:
    """One TLS connection of a sender, on which requests follow each other."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, request: bytes = LIST) -> tuple[int, bytes] | None:
        """Return status and body of the answer; None when the connection is closed instead."""
        try:
            self.writer.write(request)
            return await self.answer()
        except (OSError, asyncio.IncompleteReadError):
            return None

    async def answer(self) -> tuple[int, bytes] | None:
        async with asyncio.timeout(WAIT_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.split("\r\n"))
            }
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head.split(" ")[1]), body

    async def closed(self) -> None:
        """Return when the gateway has closed it."""
        async with asyncio.timeout(WAIT_S):
            with suppress(OSError):
                assert await self.reader.read() == b""

    def break_off(self) -> None:
        self.writer.transport.abort()

    @property
    def server_certificate(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.writer.get_extra_info("ssl_object").getpeercert(binary_form=True))


@dataclass
class Premises:
    """A running gateway and its files."""

    files: Files
    house: House
    stack: AsyncExitStack

    async def admin(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Reply:
        socket = self.house.gateway.admin_socket
        assert socket is not None
        return await ask(socket, method, path, body)

    async def done(self, path: str, **body: Any) -> Mapping[str, Any]:
        """Give a command that must be carried out, and return its answer."""
        reply = await self.admin("POST", path, {"reason": "a test", **body})
        assert not reply.refused, reply.body
        return reply.body

    async def refused(self, path: str, **body: Any) -> Mapping[str, Any]:
        """Give a command that must be refused, and return the problem."""
        reply = await self.admin("POST", path, {"reason": "a test", **body})
        assert reply.refused, reply.body
        return reply.body

    async def diff(self) -> Mapping[str, Any]:
        reply = await self.admin("GET", "/senders/diff")
        assert not reply.refused, reply.body
        return reply.body

    async def edit(self, file: Path, edit: Edit) -> None:
        await asyncio.to_thread(self.files.edit, file, edit)

    async def version(self) -> int:
        """Return the number of the registration that the gateway says it uses."""
        reply = await self.admin("GET", "/senders")
        number: int = reply.body["registrationVersion"]
        return number

    async def reloads(self, outcome: str) -> float:
        """Return how many reloads had that outcome."""
        return await self.metric(f'gateway_reloads_total{{outcome="{outcome}"}}')

    async def metric(self, series: str) -> float:
        """Return a figure as the ops edge shows it."""
        line = f"{series} "
        async with aiohttp.ClientSession() as session, session.get(self.house.ops_url + "/metrics") as response:
            text = await response.text()
        return next(float(found.removeprefix(line)) for found in text.splitlines() if found.startswith(line))

    async def wire(self, name: str = "gemeente") -> Wire:
        """Open a connection of a sender."""
        certs = self.files.certs
        context = await asyncio.to_thread(
            client_context, certs / "ca.pem", certs / f"{name}.pem", certs / f"{name}.key", minimum="1.3"
        )
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.house.gateway.intake_port, ssl=context, server_hostname="localhost"
        )
        wire = Wire(reader, writer)
        self.stack.callback(wire.break_off)
        return wire

    async def log(self, event: str) -> list[Any]:
        """Return the entries of the admin log about a command, in order."""
        rows = await asyncio.to_thread(self._query, "SELECT entry FROM log_entry WHERE log = 'admin' ORDER BY position")
        return [entry for (row,) in rows if (entry := json.loads(row))["ev"] == event]

    async def query(self, statement: str) -> list[Any]:
        return await asyncio.to_thread(self._query, statement)

    def _query(self, statement: str) -> list[Any]:
        connection = apsw.Connection(urlsplit(self.house.config.stores.ledger).path, flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not await holds():  # noqa: ASYNC110 - what happens inside the gateway sets no event out here
                await asyncio.sleep(0.02)


@pytest.fixture(scope="session")
def other_certs(certs_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second set of certificates, of other authorities."""
    directory = tmp_path_factory.mktemp("other-certs")
    certs_maker.make(directory, datetime.now(UTC))
    return directory


@pytest.fixture
def files(tmp_path: Path, certs: Path, other_certs: Path) -> Files:
    """The shipped files and certificates, in a folder where they can be changed; clients trust both authorities."""
    found = Files(tmp_path, other_certs)
    shutil.copytree(certs, found.certs)
    (found.certs / "ca.pem").write_bytes((certs / "ca.pem").read_bytes() + (other_certs / "ca.pem").read_bytes())
    shutil.copytree(CONFIG / "senders", tmp_path / "senders")
    for name in ("categories.toml", "security-matrix.toml"):
        shutil.copyfile(CONFIG / name, tmp_path / name)
    found.write_staff(Role.ACCESS_MANAGER, Role.AUDITOR)
    return found


Open = Callable[..., Awaitable[Premises]]


@pytest.fixture
async def premises_with(files: Files, make_house: Any) -> Open:
    """Open premises that take letters over and deliver none, so that messages stay under way."""

    async def start(change: Edit | None = None, **options: Any) -> Premises:
        def point(values: dict[str, Any]) -> None:
            files.point(values)
            if change is not None:
                change(values)

        house = await make_house(point, **{"parts": [Part.INTAKE, Part.ADMIN], **options})
        house.certs = files.certs
        return Premises(files, house, house.stack)

    return start


@pytest.fixture
async def premises(premises_with: Open) -> Premises:
    """A running gateway on its own files; whoever asks here is access manager and auditor."""
    return await premises_with()
