"""Both simulators on loopback, and callers that speak to them as a sender's software would."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.jwk import RSAKey
from pypdf import PdfWriter

from gateway.simulators.ebox import EboxSimulator
from gateway.simulators.ebox_settings import (
    DEMO_APPLICATION,
    DEMO_MESSAGE_TYPE_CITIZEN,
    DEMO_MESSAGE_TYPE_ENTERPRISE,
    DEMO_ORGANISATION,
)
from gateway.simulators.magic import CITIZEN_FINE
from gateway.simulators.print_house import DEMO_API_KEY, PrintHouseSimulator
from gateway.simulators.serve import Simulators
from gateway.simulators.tokens import (
    ASSERTION_TYPE,
    SCOPE_CONSULTATION,
    SCOPE_PREFERENCE,
    SCOPE_PUBLICATION,
    SCOPE_REPRESENTATIVE,
    Client,
)

REGISTRY = "/REST/ebox/enterprise/messageRegistry"
ALL = (SCOPE_PUBLICATION, SCOPE_REPRESENTATIVE, SCOPE_CONSULTATION, SCOPE_PREFERENCE)


class SetClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, by: timedelta) -> None:
        self.now += by


@dataclass(frozen=True)
class Reply:
    """An answer that has been read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Part:
    """One part of a multipart body; None leaves the header out."""

    name: str
    content: bytes
    filename: str | None = "brief.pdf"
    media_type: str | None = "application/pdf"


def multipart(parts: Sequence[Part]) -> tuple[bytes, str]:
    """Write the parts as they are, also the wrong ones that a library would not write."""
    boundary = uuid4().hex
    body = b""
    for part in parts:
        filename = "" if part.filename is None else f'; filename="{part.filename}"'
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{part.name}"{filename}\r\n'.encode()
        if part.media_type is not None:
            body += f"Content-Type: {part.media_type}\r\n".encode()
        body += b"\r\n" + part.content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def v2_message(to: str = CITIZEN_FINE, /, *, files: int = 1, **changes: Any) -> dict[str, Any]:
    kind = "citizen" if len(to) == 11 else "enterprise"
    message = {
        "recipient": {"eboxType": kind, "eboxIdValue": to},
        "subject": {"nl": "Uw aanslagbiljet"},
        "senderOrganizationId": DEMO_ORGANISATION,
        "senderApplicationId": DEMO_APPLICATION,
        "messageTypeId": DEMO_MESSAGE_TYPE_CITIZEN if kind == "citizen" else DEMO_MESSAGE_TYPE_ENTERPRISE,
        "bodyMainContent": False,
        "replyAuthorized": False,
        "attachments": [
            {"httpPartName": f"upfile{n}", "mainContent": n == 1, "attachmentSigned": False}
            for n in range(1, files + 1)
        ],
    }
    return {name: value for name, value in {**message, **changes}.items() if value is not ...}


def v3_message(to: str = CITIZEN_FINE, /, **changes: Any) -> dict[str, Any]:
    citizen = len(to) == 11
    message = {
        "sender": {"eboxType": "enterprise", "enterpriseNumber": DEMO_ORGANISATION},
        "recipient": {"eboxType": "citizen", "ssin": to}
        if citizen
        else {"eboxType": "enterprise", "enterpriseNumber": to},
        "subject": {"nl": "Uw aanslagbiljet"},
        "senderApplicationId": DEMO_APPLICATION,
        "messageTypeId": DEMO_MESSAGE_TYPE_CITIZEN if citizen else DEMO_MESSAGE_TYPE_ENTERPRISE,
        "attachments": [{"httpPartName": "upfile1", "isMainContent": True, "isAttachmentSigned": False}],
    }
    return {name: value for name, value in {**message, **changes}.items() if value is not ...}


@dataclass
class EboxCaller:
    """A client of the e-Box, as `document-gateway-dev` unless told otherwise."""

    http: aiohttp.ClientSession
    url: str
    key: RSAKey
    clock: Callable[[], datetime]
    tokens: dict[tuple[str, ...], str] = field(default_factory=dict)

    message = staticmethod(v2_message)
    message_v3 = staticmethod(v3_message)
    part = staticmethod(Part)
    all_scopes = ALL

    def assertion(self, *, key: RSAKey | None = None, alg: str = "RS256", **changes: Any) -> str:
        now_s = int(self.clock().timestamp())
        claims = {
            "iss": "document-gateway-dev",
            "sub": "document-gateway-dev",
            "aud": f"{self.url}/REST/oauth/v5/token",
            "iat": now_s,
            "exp": now_s + 240,
            "jti": str(uuid4()),
            **changes,
        }
        kept = {name: value for name, value in claims.items() if value is not ...}
        return jwt.encode({"alg": alg}, kept, key or self.key, algorithms=[alg])

    def form(self, **changes: Any) -> dict[str, str]:
        fields = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": changes.get("client_assertion") or self.assertion(),
            "scope": SCOPE_PUBLICATION,
            **changes,
        }
        return {name: value for name, value in fields.items() if value is not ...}

    async def ask_token(self, **changes: Any) -> Reply:
        return await self.post("/REST/oauth/v5/token", data=self.form(**changes))

    async def token(self, *scopes: str) -> str:
        wanted = scopes or (SCOPE_PUBLICATION,)
        if wanted not in self.tokens:
            self.tokens[wanted] = (await self.ask_token(scope=" ".join(wanted))).json["access_token"]
        return self.tokens[wanted]

    async def post(self, path: str, **options: Any) -> Reply:
        return await read(self.http.post(self.url + path, allow_redirects=False, **options))

    async def get(self, path: str, **options: Any) -> Reply:
        return await read(self.http.get(self.url + path, allow_redirects=False, **options))

    async def publish(
        self,
        message: Mapping[str, Any] | bytes | None = None,
        *,
        files: Sequence[Part] | None = None,
        key: str | None = "",
        headers: Mapping[str, str] | None = None,
        scopes: Sequence[str] = (SCOPE_PUBLICATION,),
        message_at: int = 0,
        path: str = f"{REGISTRY}/v2/publishMessage",
    ) -> Reply:
        """`key` "" makes one up; `message_at` is where `messageToPublish` stands among the parts."""
        given = v2_message() if message is None else message
        text = given if isinstance(given, bytes) else json.dumps(given).encode()
        parts = list([Part("upfile1", b"%PDF-1.7 letter")] if files is None else files)
        parts.insert(message_at, Part("messageToPublish", text, None, "application/json"))
        body, content_type = multipart(parts)
        sent = {"Content-Type": content_type, "Authorization": f"Bearer {await self.token(*scopes)}"}
        if key is not None:
            sent["Idempotency-Key"] = f'"{key or uuid4()}"'
        return await self.post(path, data=BytesIO(body), headers={**sent, **(headers or {})})

    async def publish_v3(self, message: Mapping[str, Any] | None = None, **options: Any) -> Reply:
        path = f"{REGISTRY}/v3/ebox/messages"
        return await self.publish(v3_message() if message is None else message, path=path, **options)

    async def status(self, *asked: tuple[str, str], scopes: Sequence[str] = (SCOPE_CONSULTATION,)) -> Reply:
        """`asked` are message id and recipient."""
        return await self.call(
            f"{REGISTRY}/v2/searchMessageStatus",
            [
                {
                    "messageId": message_id,
                    "eboxId": {"eboxType": "citizen" if len(to) == 11 else "enterprise", "eboxIdValue": to},
                }
                for message_id, to in asked
            ],
            scopes,
        )

    async def call(self, path: str, body: Any, scopes: Sequence[str]) -> Reply:
        headers = {"Authorization": f"Bearer {await self.token(*scopes)}"}
        return await self.post(path, json=body, headers=headers)

    async def control(self, name: str, **order: Any) -> Reply:
        return await self.post(f"/_simulator/{name}", json=order)


async def read(request: Any) -> Reply:
    async with request as response:
        return Reply(response.status, dict(response.headers), await response.read())


def make_pdf(pages: int = 1, *, width_mm: float = 210, height_mm: float = 297, rotate: int = 0, **more: Any) -> bytes:
    writer = PdfWriter()
    for _ in range(pages):
        page = writer.add_blank_page(width_mm * 72 / 25.4, height_mm * 72 / 25.4)
        page.rotate(rotate)
    writer.add_metadata({"/Title": "x" * more.get("padding_bytes", 0)})
    if "password" in more:
        writer.encrypt(more["password"], algorithm="RC4-128")
    content = BytesIO()
    writer.write(content)
    return content.getvalue()


def print_document(order: int = 1, content: bytes | None = None, **changes: Any) -> dict[str, Any]:
    pdf = make_pdf() if content is None else content
    document = {
        "order": order,
        "sha256": hashlib.sha256(pdf).hexdigest(),
        "pages": 1,
        "base64": base64.b64encode(pdf).decode(),
    }
    return {name: value for name, value in {**document, **changes}.items() if value is not ...}


@dataclass
class PrintCaller:
    """A client of the print house."""

    http: aiohttp.ClientSession
    url: str

    pdf = staticmethod(make_pdf)
    document = staticmethod(print_document)

    def job(self, request_id: str, **changes: Any) -> dict[str, Any]:
        """`name`, `postcode`, … change the recipient; other names change the job."""
        recipient: dict[str, Any] = {
            "name": "Jan Peeters",
            "street": "Kerkstraat",
            "number": "12",
            "postcode": "9000",
            "municipality": "Gent",
            "countryIso2": "BE",
        }
        for name in (*recipient, "name2", "box"):
            if name in changes:
                recipient[name] = changes.pop(name)
        job = {
            "requestId": request_id,
            "product": "standard",
            "priority": "prior",
            "duplex": True,
            "colour": False,
            "recipient": {name: value for name, value in recipient.items() if value is not ...},
            "documents": [print_document()],
            "metadata": {"profile": "burgerzaken", "category": "tax-assessment"},
            **changes,
        }
        return {name: value for name, value in job.items() if value is not ...}

    async def create(self, job: Any, *, headers: Mapping[str, str] | None = None) -> Reply:
        """Headers given as "" are left out."""
        key = str(job.get("requestId", "x")) if isinstance(job, dict) else "x"
        sent = {"X-API-Key": DEMO_API_KEY, "Content-Type": "application/json", "Idempotency-Key": key}
        body = job if isinstance(job, bytes) else json.dumps(job).encode()
        kept = {name: value for name, value in {**sent, **(headers or {})}.items() if value}
        return await read(
            self.http.post(f"{self.url}/print-jobs", data=BytesIO(body), headers=kept, allow_redirects=False)
        )

    async def get(self, path: str, *, api_key: str = DEMO_API_KEY) -> Reply:
        return await read(self.http.get(self.url + path, headers={"X-API-Key": api_key}))

    async def status(self, request_id: str) -> Reply:
        return await self.get(f"/print-jobs/{request_id}")

    async def control(self, name: str, **order: Any) -> Reply:
        return await read(self.http.post(f"{self.url}/_simulator/{name}", json=order))


@pytest.fixture(scope="session")
def rsa_keys() -> tuple[RSAKey, RSAKey]:
    """The registered client's key and a stranger's."""
    first, second = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
    return RSAKey.import_key(first), RSAKey.import_key(second)


@pytest.fixture
def client_key(rsa_keys: tuple[RSAKey, RSAKey]) -> RSAKey:
    return rsa_keys[0]


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def client(client_key: RSAKey) -> Client:
    public_key = client_key.public_key
    assert isinstance(public_key, rsa.RSAPublicKey)
    return Client(client_id="document-gateway-dev", public_key=public_key, organisation=DEMO_ORGANISATION)


@pytest.fixture
def ebox_simulator(clock: SetClock, client: Client) -> EboxSimulator:
    return EboxSimulator(clients=[client], clock=clock, advance="manual", keep_bytes=True, limit_bytes=1_000_000)


@pytest.fixture
def print_simulator(clock: SetClock) -> PrintHouseSimulator:
    return PrintHouseSimulator(clock=clock, advance="manual", keep_bytes=True, limit_bytes=4_000_000)


@pytest.fixture
async def simulators(ebox_simulator: EboxSimulator, print_simulator: PrintHouseSimulator) -> AsyncIterator[Simulators]:
    async with Simulators(ebox=ebox_simulator, print_house=print_simulator) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


@pytest.fixture
def ebox(http: aiohttp.ClientSession, simulators: Simulators, client_key: RSAKey, clock: SetClock) -> EboxCaller:
    return EboxCaller(http, simulators.ebox_url, client_key, clock)


@pytest.fixture
def printing(http: aiohttp.ClientSession, simulators: Simulators) -> PrintCaller:
    return PrintCaller(http, simulators.print_url)
