"""
Fixtures that run a whole gateway in the test's own event loop: real TLS, real stores, simulated providers.

`house` is a running gateway; `house.sender("gemeente")` posts to it as a registered sender, with full control over
every byte, so that wrong requests can be made as easily as right ones.
"""

import asyncio
import hashlib
import itertools
import json
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import tomli_w
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.app import Running, running
from gateway.config import Config, load
from gateway.crypto.dialects import Dialect, sign_in
from gateway.crypto.tls import client_context
from gateway.demo.letters import letter_pdf
from gateway.domain.ids import EnterpriseNumber, Ssin
from gateway.domain.message import Channel, DocumentEntry, Message, PostalAddress, Recipient
from gateway.simulators.__main__ import load_public_key
from gateway.simulators.ebox import EboxSimulator
from gateway.simulators.ebox_settings import DEMO_CLIENT_ID, DEMO_ORGANISATION
from gateway.simulators.magic import CITIZEN_FINE
from gateway.simulators.print_house import PrintHouseSimulator
from gateway.simulators.serve import Simulators
from gateway.simulators.tokens import Client

ROOT = Path(__file__).parents[2]
GATEWAY = "gateway.dev.example"
NUMBERS = {"gemeente": EnterpriseNumber("0406798006"), "belasting": EnterpriseNumber("0566988259")}
PROFILES = {"gemeente": "burgerzaken", "belasting": "personenbelasting"}
ADDRESS = PostalAddress(
    name="Jan Peeters",
    street="Kerkstraat",
    house_number="12",
    box="3",
    postcode="9000",
    municipality="Gent",
    country="BE",
)
WAIT_S = 30.0


@dataclass(frozen=True)
class Part:
    """One part of a multipart body, exactly as it will be sent."""

    name: str
    content: bytes
    media_type: str
    filename: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        disposition = f'form-data; name="{self.name}"'
        if self.filename is not None:
            disposition += f'; filename="{self.filename}"'
        lines = {"Content-Disposition": disposition, "Content-Type": self.media_type, **self.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return head.encode() + b"\r\n" + self.content


def multipart(parts: list[Part], boundary: str = "simple-boundary") -> bytes:
    """Return the body of a multipart/form-data request."""
    return b"".join(b"--" + boundary.encode() + b"\r\n" + part.encode() + b"\r\n" for part in parts) + (
        b"--" + boundary.encode() + b"--\r\n"
    )


@dataclass(frozen=True)
class Answer:
    """What the gateway answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a problem document."""
        assert self.headers["Content-Type"].startswith("application/problem+json"), self.body
        kind: str = self.json["type"].removeprefix("urn:document-gateway:problem:")
        return kind


class SenderHand:
    """A sender with its certificate, as a test uses it."""

    def __init__(self, house: "House", name: str, session: aiohttp.ClientSession) -> None:
        self.house = house
        self.name = name
        self.session = session
        self.number = NUMBERS.get(name, NUMBERS["gemeente"])
        self.profile = PROFILES.get(name, "burgerzaken")
        self.certificate = x509.load_pem_x509_certificate((house.certs / f"{name}.pem").read_bytes())
        self.key: Any = load_pem_private_key((house.certs / f"{name}.key").read_bytes(), None)

    def message(self, documents: list[bytes] | None = None, **changes: Any) -> Message:
        """Return a message that this sender may send, with some fields replaced."""
        contents = documents if documents is not None else [self.house.pdf]
        entries = tuple(
            DocumentEntry(
                part=f"upfile{number}",
                filename=f"brief-{number}.pdf",
                media_type="application/pdf",
                size_bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                main=number == 1,
            )
            for number, content in enumerate(contents, start=1)
        )
        valid = Message(
            gateway=GATEWAY,
            reference=f"test-{next(self.house.counter)}",
            created_at=datetime.now(UTC).replace(microsecond=0),
            sender=self.number,
            profile=self.profile,
            category="tax-assessment",
            purpose="Aanslagbiljet 2026",
            recipient=Recipient(ssin=Ssin(CITIZEN_FINE), address=ADDRESS),
            subject="Uw aanslagbiljet",
            language="nl",
            documents=entries,
        )
        return replace(valid, **changes)

    def sign(self, message: Message, dialect: Dialect = Dialect.XML) -> bytes:
        """Return a signed message."""
        return sign_in(dialect, message, self.key, self.certificate)

    def parts(
        self,
        message: Message,
        contents: list[bytes] | None = None,
        manifest: bytes | None = None,
        dialect: Dialect = Dialect.XML,
    ) -> list[Part]:
        """Return the parts of a request: the signed message, then its documents."""
        signed = manifest if manifest is not None else self.sign(message, dialect)
        documents = contents if contents is not None else [self.house.pdf]
        return [
            Part("message", signed, dialect.media_type),
            *(
                Part(entry.part, content, entry.media_type, entry.filename)
                for entry, content in zip(message.documents, documents, strict=False)
            ),
        ]

    async def post(
        self, parts: list[Part], headers: Mapping[str, str] | None = None, path: str = "/api/v1/messages"
    ) -> Answer:
        """POST parts."""
        return await self.call(
            "POST",
            path,
            body=multipart(parts),
            headers={"Content-Type": "multipart/form-data; boundary=simple-boundary", **(headers or {})},
        )

    async def send(self, contents: list[bytes] | None = None, headers: Any = None, **changes: Any) -> Answer:
        """Send a letter in one go."""
        message = self.message(contents, **changes)
        return await self.post(self.parts(message, contents), headers)

    async def accepted(self, contents: list[bytes] | None = None, **changes: Any) -> str:
        """Send a letter that must be accepted; return its messageId."""
        answer = await self.send(contents, **changes)
        assert answer.status == 201, answer.body
        message_id: str = answer.json["messageId"]
        return message_id

    async def call(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Make any request of this sender."""
        async with self.session.request(
            method, self.house.url + path, data=body, headers=headers, allow_redirects=False
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def call_json(self, path: str, body: Any) -> Answer:
        """POST a JSON body."""
        return await self.call(
            "POST", path, body=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
        )

    async def view(self, message_id: str) -> Any:
        """Return what the sender sees of a message."""
        answer = await self.call("GET", f"/api/v1/messages/{message_id}")
        assert answer.status == 200, answer.body
        return answer.json

    async def until(self, message_id: str, reached: Callable[[Any], bool]) -> Any:
        """Ask again until the message is as wanted; fail with its last view."""
        view: Any = None
        try:
            async with asyncio.timeout(WAIT_S):
                while True:
                    view = await self.view(message_id)
                    if reached(view):
                        return view
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"never came to be: {json.dumps(view, indent=1)}")


@dataclass
class House:
    """A running gateway with its simulators."""

    config: Config
    certs: Path
    simulators: Simulators
    gateway: Running
    stack: AsyncExitStack
    pdf: bytes
    counter: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    hands: dict[str, SenderHand] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.gateway.intake_port}"

    @property
    def portal_url(self) -> str:
        return f"http://localhost:{self.gateway.portal_port}"

    @property
    def ops_url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.ops_port}"

    async def sender(self, name: str = "gemeente") -> SenderHand:
        """Return the sender with that certificate, over its own connections."""
        if name not in self.hands:
            context = client_context(
                self.certs / "ca.pem", self.certs / f"{name}.pem", self.certs / f"{name}.key", minimum="1.3"
            )
            session = await self.stack.enter_async_context(
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, limit=0), trust_env=False)
            )
            self.hands[name] = SenderHand(self, name, session)
        return self.hands[name]


Overrides = Callable[[dict[str, Any]], None]
MakeHouse = Callable[..., Awaitable[House]]


@pytest.fixture(scope="session")
def pdf() -> bytes:
    """A real one-page letter."""
    return letter_pdf("Uw aanslagbiljet", ["Geachte heer Peeters,", "U betaalt dit jaar 123,45 euro."])


@pytest.fixture
async def make_house(tmp_path: Path, certs: Path, pdf: bytes) -> AsyncIterator[MakeHouse]:
    """Return a starter of houses; the second start on the same folder is a restart on the same stores."""
    async with AsyncExitStack() as stack:

        async def start(
            change: Overrides | None = None,
            *,
            simulators: Simulators | None = None,
            folder: Path = tmp_path,
            own_stack: AsyncExitStack | None = None,
            **options: Any,
        ) -> House:
            inner = own_stack or stack
            if simulators is None:
                simulators = await stack.enter_async_context(await asyncio.to_thread(make_simulators, certs))
            config = await asyncio.to_thread(write_config, folder, certs, simulators, change)
            gateway = await inner.enter_async_context(running(config, **options))
            return House(config=config, certs=certs, simulators=simulators, gateway=gateway, stack=inner, pdf=pdf)

        yield start


@pytest.fixture
async def house(make_house: MakeHouse) -> House:
    """A running gateway."""
    return await make_house()


def make_simulators(certs: Path) -> Simulators:
    """Return simulators that know the gateway's client key and print key; print jobs advance when asked about."""
    key = load_public_key(certs / "ebox-client.pem")
    return Simulators(
        ebox=EboxSimulator(clients=[Client(client_id=DEMO_CLIENT_ID, public_key=key, organisation=DEMO_ORGANISATION)]),
        print_house=PrintHouseSimulator(api_key=(certs / "print-api-key").read_text().strip()),
    )


def write_config(folder: Path, certs: Path, simulators: Simulators, change: Overrides | None) -> Config:
    """Write the development configuration with everything in `folder`, changed by `change`, and load it."""
    source = ROOT / "config"
    values: dict[str, Any] = tomllib.loads(
        (source / "gateway.dev.toml").read_text().replace("../state/certs", str(certs))
    )
    values["gateway"] |= {
        "state": str(folder / "state"),
        "senders": str(source / "senders"),
        "categories": str(source / "categories.toml"),
        "staff": str(source / "staff.toml"),
        "security_matrix": str(source / "security-matrix.toml"),
    }
    values["intake"] |= {"bind": "127.0.0.1:0"}
    values["portal"] |= {"bind": "127.0.0.1:0"}
    values["ops"]["bind"] = "127.0.0.1:0"
    for key in ("base_url", "token_url", "federation_url", "partition_url"):
        old = values["providers"]["bosa"][key]
        values["providers"]["bosa"][key] = simulators.ebox_url + "/" + old.split("/", 3)[3]
    values["providers"]["house-a"]["base_url"] = simulators.print_url
    values["retry"] |= {"first_delay_s": 1.0, "jitter": 0.0}
    values["polling"] |= {"print_s": 1.0, "read_status_s": [1.0], "read_status_then_s": 1.0}
    values["workers"] = {"poll_s": 0.05}
    if change is not None:
        change(values)
    file = folder / "gateway.toml"
    file.write_text(tomli_w.dumps(values))
    return load(file)


def channels(*names: str) -> tuple[Channel, ...]:
    """Return channels by name."""
    return tuple(Channel(name) for name in names)
