"""A small office with real stores, letters that get into doubt by themselves, and a server on a real Unix socket."""

import json
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, cast
from uuid import UUID

import aiohttp
import apsw
import pytest

from gateway.adapters.base import Adapter, Handed, Handover, Parcel
from gateway.admin.decisions import Decided
from gateway.admin.interface import AdminDeps
from gateway.admin.socket import serve_admin
from gateway.config.staff import load_security_matrix
from gateway.crypto.vault import Vault
from gateway.deliver import deliver
from gateway.deliver.stages import DeliverDeps, Destination, Letter
from gateway.domain.ids import (
    DeliveryId,
    DocumentId,
    EnterpriseNumber,
    MessageId,
    Ssin,
    sender_uuid,
    uuid7,
)
from gateway.domain.journey import Rules
from gateway.domain.message import Channel, Lane, PostalAddress, PrintOptions, Recipient
from gateway.domain.registration import Registration
from gateway.domain.routing import Route
from gateway.domain.schedule import PollRules, RetryRules
from gateway.domain.staff import Person, Role, SecurityMatrix, Staff
from gateway.domain.status import DeliveryStatus, MessageStatus
from gateway.errors import DeliveryError, OutcomeUnknown, Unreachable
from gateway.records import personal
from gateway.records.logs import LogBook
from gateway.records.registrations import Occasion, Reloaded
from gateway.stores.documents import Documents
from gateway.stores.files import FileBlobs
from gateway.stores.ledger import Ledger
from gateway.stores.local_keys import LocalKeyring
from gateway.stores.model import (
    DeliveryRecord,
    DocumentRecord,
    Letterhead,
    MessageRecord,
    NewMessage,
)
from gateway.stores.sqlite.ledger import SqliteLedger
from gateway.telemetry import Metrics

START = datetime(2026, 11, 22, 10, tzinfo=UTC)
SENDER = EnterpriseNumber("0406798006")
MATRIX_FILE = Path(__file__).parents[2] / "config" / "security-matrix.toml"
# What must never be shown to an operator.
PERSONAL = ("90610100155", "Peeters", "Kerkstraat", "Uw aanslagbiljet", "Aanslag 2026", "brief.pdf")


@dataclass(slots=True)
class Clock:
    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, by: timedelta) -> None:
        self.now += by


@dataclass(slots=True)
class Provider:
    """A provider that answers what a test says, and remembers the ids it was sent."""

    send_answer: Handover | DeliveryError = field(default_factory=lambda: OutcomeUnknown("test", for_good=True))
    status_answer: Handover | DeliveryError = field(default_factory=lambda: Unreachable("test"))
    sent: list[DeliveryId] = field(default_factory=list)
    finds: bool = False
    resend_is_safe: bool = False

    async def send(self, parcel: Parcel, *, again: bool) -> Handover:  # noqa: ARG002 as the protocol names it
        self.sent.append(parcel.delivery_id)
        return _told(self.send_answer)

    async def find(self, _delivery_id: DeliveryId) -> Handover | None:
        raise OutcomeUnknown("test")

    async def status(self, _handed: Handed) -> Handover:
        return _told(self.status_answer)

    async def close(self) -> None:
        pass


def _told(answer: Handover | DeliveryError) -> Handover:
    if isinstance(answer, DeliveryError):
        raise answer
    return answer


class NoCovers:
    async def ensure(self, letter: Letter) -> MessageRecord:
        return letter.record


def fresh_id() -> UUID:
    return uuid7(int(START.timestamp() * 1000), secrets.token_bytes(10))


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    clock: Clock
    ledger: SqliteLedger
    ledger_file: Path
    keyring: LocalKeyring
    blobs: FileBlobs
    vault: Vault
    deps: DeliverDeps
    providers: dict[str, Provider]

    async def post(
        self,
        *channels: Channel,
        fallback: frozenset[str] = frozenset(),
        unread_after: timedelta | None = None,
        deliver_before: datetime | None = None,
        print_options: PrintOptions | None = None,
    ) -> MessageRecord:
        """Accept a message for these channels."""
        route = Route(
            channels=channels,
            fallback=fallback,
            unread_after=unread_after,
            providers={channel: _PROVIDER_OF[channel] for channel in channels},
            ebox={channel: ("letter", "test") for channel in channels if channel is not Channel.PRINT},
        )
        new = await _new_message(self, route, deliver_before)
        if print_options is not None:
            new = replace(new, message=replace(new.message, print_options=print_options))
        assert await self.ledger.record(new) is None
        return new.message

    async def work(self) -> list[DeliveryId]:
        """Do what is due, as the workers would, once."""
        claims = await self.ledger.claim("test", lease=timedelta(minutes=1), limit=10, providers=list(self.providers))
        for claim in claims:
            await deliver(claim, self.deps)
        return [claim.delivery.delivery_id for claim in claims]

    async def in_doubt(self, *channels: Channel, **route: Any) -> DeliveryRecord:
        """Accept a message, and let its first delivery get into a doubt that only a person can end."""
        message = await self.post(*channels, **route)
        await self.work()
        return (await self.message(message.message_id)).deliveries[0]

    async def message(self, message_id: MessageId) -> MessageRecord:
        record = await self.ledger.message(message_id)
        assert record is not None
        return record

    def log(self, log: str) -> list[dict[str, Any]]:
        """Return the entries of a log, in order, from the file itself."""
        connection = apsw.Connection(str(self.ledger_file), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            cursor: Any = connection.execute("SELECT entry FROM log_entry WHERE log = ? ORDER BY position", (log,))
            rows = cursor.fetchall()
        finally:
            connection.close()
        return [json.loads(row[0]) for row in rows]


_PROVIDER_OF = {Channel.EBOX_CITIZEN: "bosa", Channel.EBOX_ENTERPRISE: "bosa", Channel.PRINT: "house-a"}


async def _new_message(office: Office, route: Route, deliver_before: datetime | None) -> NewMessage:
    now = office.clock()
    message_id, document_id = MessageId(fresh_id()), DocumentId(fresh_id())
    meta = await office.vault.new_dek(sender_uuid(SENDER), "meta")
    dek = await office.vault.new_dek(sender_uuid(SENDER), "document")
    recipient = Recipient(
        ssin=Ssin("90610100155"),
        address=PostalAddress(
            name="Jan Peeters",
            street="Kerkstraat",
            house_number="12",
            postcode="9000",
            municipality="Gent",
            country="BE",
        ),
    )
    first = DeliveryRecord(
        delivery_id=DeliveryId(fresh_id()),
        message_id=message_id,
        number=1,
        channel=route.channels[0],
        provider=route.providers[route.channels[0]],
        lane=Lane.SINGLE,
        status_at=now,
        due_at=now,
        deadline_at=now + timedelta(days=2),
    )
    document = DocumentRecord(
        document_id=document_id,
        number=1,
        part="upfile1",
        media_type="application/pdf",
        size_bytes=100,
        sha256=bytes(32),
        main=True,
        signed=False,
        pages=1,
        sealed_filename=personal.seal_filename(meta, document_id, "brief.pdf"),
        dek_id=dek.row.dek_id,
    )
    message = MessageRecord(
        message_id=message_id,
        sender=SENDER,
        profile="burgerzaken",
        party=SENDER,
        registration_version=1,
        reference=f"ref-{secrets.token_hex(8)}",
        category="tax-assessment",
        legal_basis="WIB92 art. 302",
        language="nl",
        lane=Lane.SINGLE,
        status=MessageStatus.ACCEPTED,
        accepted_at=now,
        created_at=now,
        deliver_not_before=None,
        deliver_before=deliver_before,
        retention=timedelta(days=90),
        billing_reference=None,
        route=route,
        letterhead=Letterhead(sender_name="Gemeente", display_name="Burgerzaken", public_contact="09 000 00 00"),
        print_options=PrintOptions(),
        dossier_rule=False,
        content_sha256=secrets.token_bytes(32),
        message_sha256=secrets.token_bytes(32),
        recipient_index=None,
        recipient_index_version=None,
        meta_dek_id=meta.row.dek_id,
        sealed_recipient=personal.seal_recipient(meta, message_id, recipient, None),
        sealed_subject=personal.seal_value(meta, message_id, "sealed_subject", b"Uw aanslagbiljet"),
        sealed_purpose=personal.seal_value(meta, message_id, "sealed_purpose", b"Aanslag 2026"),
        sealed_signed_message=personal.seal_value(meta, message_id, "sealed_signed_message", b"<Message/>"),
        receipt_jws="receipt",
        receipt_xml=b"<Receipt/>",
        documents=(document,),
        deliveries=(first,),
    )
    return NewMessage(message=message, deks=(meta.row, dek.row), logs=(), day=date(2026, 11, 22), messages_per_day=None)


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    clock = Clock()
    ledger_file = tmp_path / "state" / "ledger.db"
    ledger = await SqliteLedger.open(ledger_file, clock=clock)
    await LocalKeyring.create(tmp_path / "keyring", at=START)
    keyring = await LocalKeyring.open(tmp_path / "keyring")
    blobs = FileBlobs(tmp_path / "blobs")
    vault = Vault(keyring, ledger, clock, fresh_id)
    providers = {"bosa": Provider(), "house-a": Provider()}
    deps = DeliverDeps(
        ledger=ledger,
        documents=Documents(ledger=ledger, blobs=blobs),
        vault=vault,
        destinations={
            name: Destination(adapter=cast("Adapter", provider), attempt_timeout_s=10.0, settle_s=2.0)
            for name, provider in providers.items()
        },
        covers=NoCovers(),
        logbook=LogBook(gateway="gateway.test", clock=clock, ids=fresh_id, vault=vault, ledger=ledger),
        rules=Rules(retry=RetryRules(), poll=PollRules()),
        keep_undelivered=timedelta(days=30),
        clock=clock,
        ids=lambda: DeliveryId(fresh_id()),
        paper_per_day=lambda _sender, _profile: None,
        draw=lambda: 0.5,
    )
    yield Office(
        clock=clock,
        ledger=ledger,
        ledger_file=ledger_file,
        keyring=keyring,
        blobs=blobs,
        vault=vault,
        deps=deps,
        providers=providers,
    )
    await ledger.close()
    await blobs.close()
    await keyring.close()


# ── The admin interface ──

OPERATOR_UID = 1001
STRANGER_UID = 4444


def person(name: str, uid: int, *roles: Role, until: date = date(2036, 12, 31)) -> Person:
    return Person(name=name, uid=uid, roles=frozenset(roles), confidentiality_statement=date(2026, 1, 10), until=until)


class NoChanges:
    """The files say what is in force."""

    async def look(self) -> Reloaded:
        return Reloaded(number_before=7, number_after=7, digest="00", changes=())

    async def apply(self, _occasion: Occasion, *, digest: str | None = None) -> Reloaded:  # noqa: ARG002 as the protocol names it
        return await self.look()

    async def reload(self, _occasion: Occasion, *, dry_run: bool = False) -> Reloaded:  # noqa: ARG002 as the protocol names it
        return await self.look()


class MakePerson(Protocol):
    def __call__(self, name: str, uid: int, *roles: Role, until: date = ...) -> Person: ...


@pytest.fixture
def make_person() -> MakePerson:
    return person


@dataclass(slots=True, kw_only=True)
class Admin:
    """The interface as somebody with the user id `uid` meets it; `uid` and `staff` may change while it runs."""

    office: Office
    path: Path
    matrix: SecurityMatrix
    metrics: Metrics = field(default_factory=Metrics)
    uid: int = OPERATOR_UID
    staff: Staff = field(default_factory=lambda: Staff(persons=(person("An Operator", OPERATOR_UID, Role.OPERATOR),)))
    decided: list[Decided] = field(default_factory=list)
    session: aiohttp.ClientSession | None = None

    def deps(self, ledger: Ledger | None = None) -> AdminDeps:
        deliver_deps = self.office.deps
        if ledger is not None:
            deliver_deps = replace(deliver_deps, ledger=ledger, logbook=replace(deliver_deps.logbook, ledger=ledger))
        return AdminDeps(
            deliver=deliver_deps,
            staff=lambda: self.staff,
            matrix=lambda: self.matrix,
            registration=lambda: Registration(version=7, senders={}, categories={}),
            changes=NoChanges(),
            close_connections=lambda _party: 0,
            version="1.2.3",
            started_at=START,
            on_decided=self.decided.append,
        )

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        return await self.ask("GET", path)

    async def decide(self, delivery: DeliveryRecord, said: str, **more: Any) -> tuple[int, dict[str, Any]]:
        body = {
            "deliveryId": str(delivery.delivery_id),
            "decision": said,
            "reason": "asked the provider by telephone",
        }
        return await self.ask("POST", "/ops/decide", json=body | more)

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, dict[str, Any]]:
        assert self.session is not None
        async with self.session.request(method, f"http://gateway{path}", **more) as response:
            if not response.ok:
                assert response.content_type == "application/problem+json"
            return response.status, json.loads(await response.read())


@pytest.fixture
def socket_path() -> Iterator[Path]:
    # Not below tmp_path, whose length may exceed what the name of a socket may have.
    with tempfile.TemporaryDirectory(prefix="dgw-") as directory:
        yield Path(directory) / "admin" / "admin.sock"


@pytest.fixture
def matrix() -> SecurityMatrix:
    return load_security_matrix(MATRIX_FILE)


@pytest.fixture
async def admin(office: Office, socket_path: Path, matrix: SecurityMatrix) -> AsyncIterator[Admin]:
    found = Admin(office=office, path=socket_path, matrix=matrix)
    async with (
        serve_admin(socket_path, found.deps(), found.metrics, uid_of=lambda _transport: found.uid),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(socket_path))) as session,
    ):
        found.session = session
        yield found


@pytest.fixture
def new_admin(office: Office, socket_path: Path, matrix: SecurityMatrix) -> Callable[[], Admin]:
    """Make an interface that the test itself serves."""
    return lambda: Admin(office=office, path=socket_path, matrix=matrix)


@pytest.fixture
def no_personal_data() -> Callable[[object], None]:
    def check(shown: object) -> None:
        text = json.dumps(shown)
        assert [value for value in PERSONAL if value in text] == []

    return check


@pytest.fixture
def published() -> Handover:
    return Handover(status=DeliveryStatus.DELIVERED, provider_reference="registry-1")
