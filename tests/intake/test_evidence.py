"""What a sender can prove: signed statements that never change, a kit that needs nobody, and whom to trust."""

import asyncio
import hashlib
import json
import subprocess
from base64 import b64encode, urlsafe_b64decode
from contextlib import AsyncExitStack
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zipfile import ZIP_STORED, ZipFile

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc import jws
from joserfc.jwk import ECKey

from gateway.crypto.certs import load_certificates
from gateway.crypto.evidence import verify_evidence_jws
from gateway.domain.message import Channel, PostalAddress, Recipient

if TYPE_CHECKING:
    from tests.plugins.house import Answer, House, SenderHand
else:
    from house import Answer, House, SenderHand

ETSI = "http://uri.etsi.org/19522/Event/"
UNKNOWN = "01a2014e-92d4-7f37-a359-d66bd764a1fe"


async def get(sender: SenderHand, message_id: str, rest: str) -> Answer:
    return await sender.call("GET", f"/api/v1/messages/{message_id}/{rest}")


async def listed(sender: SenderHand, message_id: str) -> list[Any]:
    answer = await get(sender, message_id, "evidence")
    assert answer.status == 200, answer.body
    assert answer.json["messageId"] == message_id
    assert answer.json["qualification"] == "non-qualified"
    found: list[Any] = answer.json["evidence"]
    return found


async def token(sender: SenderHand, message_id: str, number: int) -> str:
    answer = await get(sender, message_id, f"evidence/{number}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/jose"), answer.body
    return answer.body.decode("ascii")


async def settled(sender: SenderHand, message_id: str) -> Any:
    """Return the message once nothing more happens to it."""
    return await sender.until(message_id, lambda view: view["timeline"][-1]["event"] == "erased")


@pytest.fixture
async def signer(certs: Path) -> x509.Certificate:
    return (await asyncio.to_thread(load_certificates, certs / "receipts.pem"))[0]


async def test_each_event_of_a_letter_has_a_statement_that_verifies_offline(
    house: House, signer: x509.Certificate, inside: Any
) -> None:
    sender = await house.sender()
    message = sender.message()
    parts = sender.parts(message)
    accepted = (await sender.post(parts)).json
    message_id = accepted["messageId"]
    view = await settled(sender, message_id)
    entries = await listed(sender, message_id)
    assert [entry["n"] for entry in entries] == [1, 2, 3, 4]
    assert [entry["event"] for entry in entries] == ["accepted", "delivered", "read", "erased"]
    statements = [verify_evidence_jws(await token(sender, message_id, entry["n"]), signer) for entry in entries]
    rows = await inside(house).query(
        "SELECT leaf_sha256 FROM log_entry WHERE log = 'traffic' AND message_id = ? ORDER BY position",
        UUID(message_id).bytes,
    )
    for entry, statement, line, (leaf,) in zip(entries, statements, view["timeline"], rows, strict=True):
        assert statement.number == entry["n"]
        assert statement.event == entry["event"] == line["event"]
        assert entry["at"] == line["at"]
        assert statement.leaf_sha256 == entry["leafSha256"] == leaf.hex()
        assert statement.etsi_event == entry.get("etsiEvent")
        assert (statement.gateway, str(statement.message_id)) == ("gateway.dev.example", message_id)
        assert (statement.sender, statement.profile, statement.reference) == (
            sender.number, "burgerzaken", message.reference,
        )  # fmt: skip
        assert statement.message_sha256 == hashlib.sha256(parts[0].content).hexdigest()
        assert [(each.part, each.sha256) for each in statement.documents] == [
            ("upfile1", hashlib.sha256(house.pdf).hexdigest())
        ]
        assert entry["href"] == f"/api/v1/messages/{message_id}/evidence/{entry['n']}"
    assert [statement.etsi_event for statement in statements] == [
        f"{ETSI}SubmissionAcceptance", f"{ETSI}ContentConsignment", f"{ETSI}ContentAccessTracking", None,
    ]  # fmt: skip


async def test_the_first_statement_is_the_acceptance_and_names_the_receipt(
    house: House, signer: x509.Certificate
) -> None:
    sender = await house.sender()
    message_id = await sender.accepted()
    view = await settled(sender, message_id)
    first, second = [verify_evidence_jws(await token(sender, message_id, number), signer) for number in (1, 2)]
    assert first.receipt_sha256 == hashlib.sha256(view["receipt"].encode()).hexdigest()
    assert (first.delivery, second.receipt_sha256) == (None, None)
    assert second.delivery is not None
    (delivery,) = view["deliveries"]
    assert (str(second.delivery.delivery_id), second.delivery.number) == (delivery["deliveryId"], 1)
    assert (second.delivery.channel, second.delivery.provider) == ("ebox-citizen", "bosa")


async def test_what_went_wrong_is_stated_with_its_reason(make_house: Any, signer: x509.Certificate) -> None:
    house = await make_house(lambda values: values["polling"].update(returned_every_s=1.0))
    address = PostalAddress(
        name="Magic Returned",
        street="Kerkstraat",
        house_number="12",
        box=None,
        postcode="9993",
        municipality="Gent",
        country="BE",
    )
    sender = await house.sender()
    message_id = await sender.accepted(channels=(Channel.PRINT,), recipient=Recipient(address=address))
    await sender.until(message_id, lambda view: view["status"] == "returned")
    last = (await listed(sender, message_id))[-1]
    statement = verify_evidence_jws(await token(sender, message_id, last["n"]), signer)
    assert (statement.event, statement.code) == ("returned", "unknown")
    assert statement.etsi_event == f"{ETSI}ContentHandoverFailure"
    relayed = [entry["etsiEvent"] for entry in await listed(sender, message_id) if entry["event"] == "dispatched"]
    assert relayed == [f"{ETSI}RelayToNonERDS"]


async def test_a_statement_once_given_never_changes(make_house: Any, signer: x509.Certificate) -> None:
    async with AsyncExitStack() as first_run:
        house = await make_house(own_stack=first_run)
        sender = await house.sender()
        message_id = await sender.accepted()
        at_once = await asyncio.gather(*(token(sender, message_id, 1) for _ in range(20)))
        assert len(set(at_once)) == 1
        await settled(sender, message_id)
        kit = await get(sender, message_id, "kit")
        given = [await token(sender, message_id, number) for number in (1, 2, 3, 4)]
        assert given[0] == at_once[0]
        assert (await get(sender, message_id, "kit")).body == kit.body
    with ZipFile(BytesIO(kit.body)) as archive:
        assert [archive.read(f"evidence/00{number}.jws").decode() for number in (1, 2, 3, 4)] == given
    house = await make_house(simulators=house.simulators)
    sender = await house.sender()
    assert [await token(sender, message_id, number) for number in (1, 2, 3, 4)] == given
    assert (await get(sender, message_id, "kit")).body == kit.body
    assert verify_evidence_jws(given[0], signer).event == "accepted"


@pytest.mark.parametrize("number", ["0", "5", "99999999999999999999", "x", "-1", "1.0", "%D9%A1"])
async def test_there_is_no_evidence_of_another_number(intake: House, number: str) -> None:
    sender = await intake.sender()
    message_id = await sender.accepted()
    answer = await get(sender, message_id, f"evidence/{number}")
    assert (answer.status, answer.code) == (404, "not-found")


async def test_nobody_gets_evidence_of_anothers_message(intake: House) -> None:
    sender, other = await intake.sender(), await intake.sender("belasting")
    message_id = await sender.accepted()
    for hand, asked in ((other, message_id), (sender, UNKNOWN), (sender, "none")):
        for rest in ("evidence", "evidence/1", "kit"):
            answer = await get(hand, asked, rest)
            assert (answer.status, answer.code) == (404, "not-found")


async def test_a_kit_holds_what_was_signed_and_names_no_person(house: House, signer: x509.Certificate) -> None:
    sender = await house.sender()
    message = sender.message(channels=(Channel.PRINT,))
    message_id = (await sender.post(sender.parts(message))).json["messageId"]
    view = await sender.until(message_id, lambda view: view["status"] == "delivered")
    answer = await get(sender, message_id, "kit")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/zip")
    with ZipFile(BytesIO(answer.body)) as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {ZIP_STORED}
        contents = {name: archive.read(name) for name in archive.namelist()}
    statements = sorted(name for name in contents if name.startswith("evidence/"))
    assert len(statements) == len(view["timeline"])
    assert set(contents) == {"README.txt", "receipt.jws", "receipt.xml", "certificates/1.pem", *statements}
    assert contents["receipt.jws"].decode() == view["receipt"]
    assert contents["certificates/1.pem"] == signer.public_bytes(Encoding.PEM)
    shown = b"\n".join([*contents.values(), *(middle_of(contents[name].decode()) for name in statements)])
    shown += middle_of(view["receipt"])
    address = message.recipient.address
    assert address is not None
    for text in (message.recipient.ssin, address.name, address.street, message.subject, message.purpose, "brief-1"):
        assert text is not None
        assert text.encode() not in shown


def middle_of(compact: str) -> bytes:
    middle = compact.split(".")[1]
    return urlsafe_b64decode(middle + "=" * (-len(middle) % 4))


@pytest.mark.needs("openssl", "xmlsec1")
async def test_the_commands_in_a_kit_verify_it_and_find_a_change(house: House, tmp_path: Path) -> None:
    sender = await house.sender()
    message_id = await sender.accepted()
    await settled(sender, message_id)
    content = (await get(sender, message_id, "kit")).body
    outcome = await asyncio.to_thread(verify_kit, content, tmp_path / "whole")
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.count("Verified OK") == 5  # the receipt and four statements
    assert "OK" in outcome.stderr.splitlines()  # of xmlsec1
    for name in ("evidence/002.jws", "receipt.jws", "receipt.xml"):
        changed = await asyncio.to_thread(verify_kit, content, tmp_path / name.replace("/", "-"), spoil=name)
        assert changed.returncode != 0, name


def verify_kit(content: bytes, folder: Path, spoil: str | None = None) -> subprocess.CompletedProcess[str]:
    """Do as README.txt says, stopping at the first failure."""
    with ZipFile(BytesIO(content)) as archive:
        archive.extractall(folder)
    if spoil is not None:
        file = folder / spoil
        whole = file.read_bytes()
        if file.suffix == ".xml":
            changed = whole.replace(b"burgerzaken", b"burgerzakem")
        else:
            at = whole.index(b".") + 20  # inside the facts
            changed = whole[:at] + (b"A" if whole[at : at + 1] != b"A" else b"B") + whole[at + 1 :]
        assert changed != whole
        file.write_bytes(changed)
    readme = (folder / "README.txt").read_text("utf-8")
    commands = "\n".join(line.removeprefix("    ") for line in readme.splitlines() if line.startswith("    "))
    return subprocess.run(
        ["sh", "-e", "-c", commands], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


async def test_the_published_key_verifies_a_statement_by_itself(house: House, signer: x509.Certificate) -> None:
    sender = await house.sender()
    message_id = await sender.accepted()
    statement = await token(sender, message_id, 1)
    published = (await sender.call("GET", "/api/v1/trust")).json
    (entry,), (key,) = published["certificates"], published["jwks"]["keys"]
    assert published["gateway"] == "gateway.dev.example"
    assert entry["pem"] == signer.public_bytes(Encoding.PEM).decode()
    assert entry["x5c"] == key["x5c"] == [b64encode(signer.public_bytes(Encoding.DER)).decode()]
    assert (entry["present"], entry["uses"]) == (True, ["receipts", "evidence"])
    registry = jws.JWSRegistry(algorithms=["ES256"])
    registry.max_header_length = 65_536
    imported = ECKey.import_key(key)
    assert json.loads(jws.deserialize_compact(statement, imported, registry=registry).payload)["sub"] == message_id
    assert key["kid"] == imported.thumbprint()


async def test_earlier_certificates_stay_published_and_go_into_kits(
    make_house: Any, certs: Path, tmp_path: Path, signer: x509.Certificate
) -> None:
    past = tmp_path / "past"

    def with_past(values: dict[str, Any]) -> None:
        past.mkdir()
        (past / "2024.pem").write_bytes((certs / "server.pem").read_bytes())
        (past / "notes.txt").write_text("not a certificate")
        values["receipts"]["past"] = str(past)

    house = await make_house(with_past)
    sender = await house.sender()
    earlier = (await asyncio.to_thread(load_certificates, certs / "server.pem"))[0]
    published = (await sender.call("GET", "/api/v1/trust")).json
    assert [each["present"] for each in published["certificates"]] == [True, False]
    pems = [certificate.public_bytes(Encoding.PEM) for certificate in (signer, earlier)]
    assert [each["pem"].encode() for each in published["certificates"]] == pems
    kit = await get(sender, await sender.accepted(), "kit")
    with ZipFile(BytesIO(kit.body)) as archive:
        assert [archive.read(f"certificates/{number}.pem") for number in (1, 2)] == pems


async def test_anybody_with_a_client_certificate_may_ask_whom_to_trust(intake: House, connect: Any) -> None:
    for name in ("gemeente", "unknown-sender"):
        wire = await connect(intake, name)
        answer = await wire.ask(b"GET /api/v1/trust HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer.status == 200
        assert len(answer.json["certificates"]) == 1
