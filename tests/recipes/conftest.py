"""An outsider: a folder with one recipe, certificates and a letter, and of this project nothing else."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key, pkcs12

House = Any  # of tests/plugins/house.py
RECIPES = Path(__file__).parents[2] / "docs" / "recipes"
PASSWORD = "mine"
RUN_LIMIT_S = 60.0
SENDERS = {"gemeente": ("0406798006", "burgerzaken"), "belasting": ("0566988259", "personenbelasting")}


@dataclass(frozen=True)
class Ended:
    """How a recipe ended: its exit code, and what it said on each stream."""

    code: int
    out: str
    err: str


@dataclass
class Outsider:
    """Runs one recipe as somebody would who has only its file; `settings` are the variables of sender.env."""

    folder: Path
    command: tuple[str, ...]
    settings: dict[str, str]
    running: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def send(self, reference: str, *documents: str, recipient: str = "recipient.txt", typed: str = "") -> Ended:
        """Run the recipe to its end."""
        process = await asyncio.create_subprocess_exec(
            *self.command,
            reference,
            recipient,
            *(documents or ("brief.pdf",)),
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C.UTF-8", **self.settings},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self.running.append(process)
        out, err = await asyncio.wait_for(process.communicate(typed.encode()), RUN_LIMIT_S)
        assert process.returncode is not None
        return Ended(code=process.returncode, out=out.decode(), err=err.decode())

    def kept(self, reference: str) -> dict[str, bytes]:
        """What the recipe kept of a letter, by name."""
        return {path.name: path.read_bytes() for path in (self.folder / "sent" / reference).iterdir()}


MakeOutsider = Callable[..., Outsider]


@pytest.fixture(scope="session")
def java_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Java recipe, compiled; a warning is an error."""
    folder = tmp_path_factory.mktemp("classes")
    command = ["javac", "-Xlint:all", "-Werror", "-d", str(folder), str(RECIPES / "java" / "SendLetter.java")]
    subprocess.run(command, check=True, capture_output=True, timeout=RUN_LIMIT_S)
    return folder


@pytest.fixture
async def make_outsider(
    tmp_path: Path, certs: Path, pdf: bytes, request: pytest.FixtureRequest
) -> AsyncIterator[MakeOutsider]:
    """Makes outsiders: `make(house, "curl", "gemeente")`; the last is the registered sender that it is."""
    made: list[Outsider] = []

    def make(house: House, recipe: str, sender: str = "gemeente", **settings: str) -> Outsider:
        folder = tmp_path / "outsider"
        folder.mkdir()
        match recipe:
            case "curl":
                shutil.copy(RECIPES / "curl" / "send.sh", folder)
                command: tuple[str, ...] = ("./send.sh",)
            case "python" | "python-jws" | "python-batch":
                name = {"python": "send.py", "python-jws": "send_jws.py", "python-batch": "send_batch.py"}[recipe]
                shutil.copy(RECIPES / "python" / name, folder)
                command = (sys.executable, "-I", name)
            case _:
                property_ = () if recipe == "java" else (f"-Dcom.sun.org.apache.xml.internal.security.{recipe}",)
                # One small process among several: the fast compiler alone, and a heap of a letter's size.
                memory = ("-XX:TieredStopAtLevel=1", "-Xmx64m")
                classes = request.getfixturevalue("java_classes")
                command = ("java", *memory, *property_, "-cp", str(classes), "SendLetter")
        write_belongings(folder, certs, pdf, sender)
        outsider = Outsider(folder=folder, command=command, settings=settings_for(house, sender) | settings)
        made.append(outsider)
        return outsider

    yield make
    for outsider in made:
        for process in outsider.running:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def write_belongings(folder: Path, certs: Path, pdf: bytes, sender: str) -> None:
    (folder / "brief.pdf").write_bytes(pdf)
    shutil.copy(RECIPES / "recipient.txt", folder)
    for name, source in {
        "gateway-ca.pem": "ca.pem",
        "receipts.pem": "receipts.pem",
        "mine.pem": f"{sender}.pem",
        "mine.key": f"{sender}.key",
    }.items():
        shutil.copy(certs / source, folder / name)
    leaf, *issuers = x509.load_pem_x509_certificates((folder / "mine.pem").read_bytes())
    key: Any = load_pem_private_key((folder / "mine.key").read_bytes(), None)
    encryption = BestAvailableEncryption(PASSWORD.encode())
    (folder / "mine.p12").write_bytes(pkcs12.serialize_key_and_certificates(b"mine", key, leaf, issuers, encryption))
    (folder / "mine.password").write_text(PASSWORD + "\n")


def settings_for(house: House, sender: str) -> dict[str, str]:
    number, profile = SENDERS[sender]
    return {
        "GATEWAY_URL": house.url,
        "GATEWAY_NAME": "gateway.dev.example",
        "GATEWAY_CA": "gateway-ca.pem",
        "RECEIPT_CERTIFICATE": "receipts.pem",
        "SENDER_NUMBER": number,
        "SENDER_PROFILE": profile,
        "SENDER_CERTIFICATE": "mine.pem",
        "SENDER_KEY": "mine.key",
        "SENDER_KEYSTORE": "mine.p12",
        "SENDER_KEYSTORE_PASSWORD_FILE": "mine.password",
        "LETTER_CATEGORY": "tax-assessment",
        "LETTER_PURPOSE": "Aanslagbiljet & bijlage <2026> — één",
        "LETTER_SUBJECT": 'Uw "aanslagbiljet"',
        "LETTER_LANGUAGE": "nl",
    }


class LossyLine:
    """
    A line to the gateway on which the first request arrives and its answer does not.

    `arrived` is awaited once the request is on its way; then the line breaks. Later connections pass untouched.
    """

    def __init__(self, url: str, request_bytes: int, arrived: Callable[[], Awaitable[object]]) -> None:
        self._gateway = urlsplit(url)
        self._request_bytes = request_bytes
        self._arrived = arrived
        self._server: asyncio.Server | None = None
        self._connections: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def connections(self) -> int:
        return len(self._connections)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"https://localhost:{self._server.sockets[0].getsockname()[1]}"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.append(task)
        theirs, ours = await asyncio.open_connection("127.0.0.1", self._gateway.port)
        sent = asyncio.Event()
        is_lossy = len(self._connections) == 1
        upwards = asyncio.create_task(self._send(reader, ours, sent))
        downwards = asyncio.create_task(self._answer(theirs, writer, sent if is_lossy else None))
        try:
            if is_lossy:
                await sent.wait()
                await self._arrived()
                writer.transport.abort()
            else:
                await asyncio.wait([upwards, downwards], return_when=asyncio.FIRST_COMPLETED)
        finally:
            upwards.cancel()
            downwards.cancel()
            await asyncio.gather(upwards, downwards, return_exceptions=True)
            for each in (ours, writer):
                each.close()

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: asyncio.Event) -> None:
        count = 0
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
            count += len(data)
            if count >= self._request_bytes:
                sent.set()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost_after: asyncio.Event | None
    ) -> None:
        while data := await reader.read(65_536):
            if lost_after is None or not lost_after.is_set():
                writer.write(data)
                await writer.drain()


@pytest.fixture
def lossy_line(pdf: bytes) -> Callable[[House, str], LossyLine]:
    """Makes a line that breaks once the gateway of a house holds a message under a reference."""

    def make(house: House, reference: str) -> LossyLine:
        async def arrived() -> None:
            sender = await house.sender()
            async with asyncio.timeout(RUN_LIMIT_S):
                while True:
                    answer = await sender.call("GET", f"/api/v1/messages?reference={reference}")
                    if answer.json["messages"]:
                        return
                    await asyncio.sleep(0.02)

        return LossyLine(house.url, len(pdf), arrived)

    return make
