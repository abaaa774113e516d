"""The files of the contract as the gateway sends them: their bytes, how long they hold, the example, and the page."""

import asyncio
import base64
import hashlib
import json
import re
import subprocess
from collections import Counter
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from jsonschema import Draft202012Validator
from lxml import etree

from gateway.crypto.batches import BATCH_LIMIT_BYTES, read_item, verify_batch
from gateway.crypto.dialects import Dialect, verify_message
from gateway.crypto.manifest import MESSAGE_ROOT, content_sha256, read_message
from gateway.crypto.schema import read_schema
from gateway.crypto.xmlsig import verify_enveloped
from gateway.domain.batch import Batch
from gateway.domain.ids import EnterpriseNumber, InvalidIdentifier, parse_ssin
from gateway.domain.message import Message
from gateway.errors import Kind, Refusal

if TYPE_CHECKING:
    from tests.plugins.house import Answer, House
else:
    from house import Answer, House

TYPES = {
    "openapi.json": "application/json",
    "docs": "text/html; charset=utf-8",
    "message.xsd": "application/xml",
    "batch.xsd": "application/xml",
    "receipt.xsd": "application/xml",
    "xmldsig-subset.xsd": "application/xml",
    "message.schema.json": "application/schema+json",
    "batch.schema.json": "application/schema+json",
    "examples/message.xml": "application/xml",
    "examples/message.jws": "application/jose",
    "examples/batch.xml": "application/xml",
    "examples/batch.jws": "application/jose",
    "examples/batch-m1.xml": "application/xml",
    "examples/batch-m1.json": "application/json",
}
DS = "{http://www.w3.org/2000/09/xmldsig#}"
VOID = {"meta", "br"}


async def get(house: House, name: str, **headers: str) -> Answer:
    sender = await house.sender("unknown-sender")
    answer = await sender.call("GET", f"/api/v1/{name}", headers=headers)
    assert answer.status in (200, 304), answer.body
    return answer


# ── How they are sent ──


@pytest.mark.parametrize("name", TYPES)
async def test_a_file_may_be_kept_and_is_sent_again_only_when_it_has_changed(intake: House, name: str) -> None:
    first = await get(intake, name)
    assert first.headers["Content-Type"] == TYPES[name]
    assert first.headers["Cache-Control"] == "public, max-age=3600"
    assert first.headers["X-Content-Type-Options"] == "nosniff"
    tag = first.headers["ETag"]
    for known in (tag, f'"another", {tag}', f"W/{tag}", "*"):
        again = await get(intake, name, **{"If-None-Match": known})
        assert (known, again.status, again.body, again.headers["ETag"]) == (known, 304, b"", tag)
    other = await get(intake, name, **{"If-None-Match": '"another"'})
    assert (other.status, other.body) == (200, first.body)


async def test_nothing_else_may_be_kept(intake: House) -> None:
    sender = await intake.sender()
    for path in ("/api/v1/whoami", "/api/v1/trust", "/api/v1/messages", "/api/v1/nowhere"):
        assert (await sender.call("GET", path)).headers["Cache-Control"] == "no-store"


async def test_the_schemas_are_those_that_messages_and_receipts_are_held_against(intake: House) -> None:
    for name in ("message.xsd", "batch.xsd", "receipt.xsd", "xmldsig-subset.xsd"):
        used = await asyncio.to_thread(files("gateway.crypto").joinpath(name).read_bytes)
        assert (await get(intake, name)).body == used
    imported = etree.fromstring((await get(intake, "message.xsd")).body).find("{*}import")
    assert imported is not None
    assert imported.get("schemaLocation") == "xmldsig-subset.xsd"
    schemas = [(await get(intake, f"{what}.schema.json")).json for what in ("message", "batch")]
    assert [schema["title"] for schema in schemas] == ["Message", "Batch"]
    for schema in schemas:
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


async def test_every_gateway_so_configured_sends_the_same_files(make_house: Any, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first, second = [await make_house(parts=["intake"], folder=tmp_path / name) for name in ("one", "two")]
    for name in TYPES:
        assert (await get(first, name)).headers["ETag"] == (await get(second, name)).headers["ETag"]


# ── The example ──


def signer_of(example: bytes) -> x509.Certificate:
    found = etree.fromstring(example).findtext(f".//{DS}X509Certificate")
    assert found is not None
    return x509.load_der_x509_certificate(base64.b64decode(found))


def accepted(example: bytes) -> Message:
    certificate = signer_of(example)

    def check(number: EnterpriseNumber, given: x509.Certificate) -> None:
        if (number, given) != ("0406798006", certificate):
            raise Refusal(Kind.SIGNER_MISMATCH, "not registered")

    signed = verify_enveloped(example, schema=read_schema("message.xsd"), root_name=MESSAGE_ROOT, signer=check)
    return read_message(signed.root, allow_test_ssin=True)


def changed(example: bytes) -> bytes:
    assert b"Uw aanslagbiljet" in example
    return example.replace(b"Uw aanslagbiljet", b"Uw belastingkorting")


async def test_the_example_is_a_message_that_the_gateway_verifies(intake: House) -> None:
    example = (await get(intake, "examples/message.xml")).body
    message = accepted(example)
    assert message.gateway == "gateway.example.be"
    with pytest.raises(Refusal, match="signature-invalid: digest"):
        accepted(changed(example))


async def test_the_person_in_the_example_belongs_to_nobody(intake: House) -> None:
    example = (await get(intake, "examples/message.xml")).body
    ssin = accepted(example).recipient.ssin
    assert ssin is not None
    with pytest.raises(InvalidIdentifier, match="test number"):
        parse_ssin(ssin, allow_test=False)
    for name in ("docs", "openapi.json"):
        text = (await get(intake, name)).body.decode()
        assert set(re.findall(r"(?<![0-9a-f-])[0-9]{11}(?![0-9a-f-])", text)) == {ssin}


async def test_python_xmlsec_verifies_the_example(intake: House) -> None:
    example = (await get(intake, "examples/message.xml")).body
    pem = signer_of(example).public_bytes(Encoding.PEM)

    def verify(body: bytes) -> None:
        root = etree.fromstring(body)
        xmlsec.tree.add_ids(root, ["Id"])
        context = xmlsec.SignatureContext()
        context.key = xmlsec.Key.from_memory(pem, xmlsec.constants.KeyDataFormatCertPem)
        (signature,) = root.findall(f"{DS}Signature")
        context.verify(signature)

    verify(example)
    with pytest.raises(xmlsec.VerificationError):
        verify(changed(example))


@pytest.mark.needs("xmlsec1")
async def test_the_xmlsec1_program_verifies_the_example(intake: House, tmp_path: Path) -> None:
    example = (await get(intake, "examples/message.xml")).body

    def verifies(body: bytes) -> bool:
        (tmp_path / "signer.pem").write_bytes(signer_of(example).public_bytes(Encoding.PEM))
        (tmp_path / "message.xml").write_bytes(body)
        command = ["xmlsec1", "--verify", "--id-attr:Id", "urn:document-gateway:message:1:Message"]
        command += ["--enabled-key-data", "key-name", "--pubkey-cert-pem", "signer.pem", "message.xml"]
        return subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, timeout=30).returncode == 0

    assert await asyncio.to_thread(verifies, example)
    assert not await asyncio.to_thread(verifies, changed(example))


async def test_the_example_cannot_be_handed_over(intake: House) -> None:
    sender = await intake.sender()
    example = (await get(intake, "examples/message.xml")).body
    answer = await sender.post(sender.parts(sender.message(), manifest=example))
    assert (answer.status, answer.code, answer.json["rule"]) == (400, "signature-invalid", "unknown-issuer")


# ── The example as JSON Web Signature ──


def header_and_payload(token: bytes) -> list[Any]:
    return [json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))) for part in token.split(b".")[:2]]


async def test_the_second_example_is_the_same_message_in_the_other_dialect(intake: House) -> None:
    xml, token = [(await get(intake, f"examples/message.{name}")).body for name in ("xml", "jws")]
    header, payload = header_and_payload(token)
    certificate = x509.load_der_x509_certificate(base64.b64decode(header["x5c"][0]))

    def check(number: EnterpriseNumber, given: x509.Certificate) -> None:
        assert (number, given) == ("0406798006", certificate)

    message = verify_message(token, Dialect.JWS, signer=check, allow_test_ssin=True)
    assert isinstance(message, Message)
    assert content_sha256(message) == content_sha256(accepted(xml))
    schema = (await get(intake, "message.schema.json")).json
    assert [fault.message for fault in Draft202012Validator(schema).iter_errors(payload)] == []
    broken = token[:-4] + (b"AAAA" if token[-4:] != b"AAAA" else b"BBBB")
    with pytest.raises(Refusal, match="signature-invalid: signature value"):
        verify_message(broken, Dialect.JWS, signer=check, allow_test_ssin=True)


async def test_the_second_example_cannot_be_handed_over(intake: House) -> None:
    sender = await intake.sender()
    token = (await get(intake, "examples/message.jws")).body
    answer = await sender.post(sender.parts(sender.message(), manifest=token, dialect=Dialect.JWS))
    assert (answer.status, answer.code, answer.json["rule"]) == (400, "signature-invalid", "unknown-issuer")


# ── The example of a batch ──


@pytest.mark.parametrize(("dialect", "item"), [(Dialect.XML, "batch-m1.xml"), (Dialect.JWS, "batch-m1.json")])
async def test_the_batch_is_one_that_the_gateway_verifies_and_lists_the_item(
    intake: House, dialect: Dialect, item: str
) -> None:
    example = (await get(intake, "examples/batch.xml" if dialect is Dialect.XML else "examples/batch.jws")).body
    seen: list[EnterpriseNumber] = []

    def check(number: EnterpriseNumber, _: x509.Certificate) -> None:
        seen.append(number)

    batch = verify_batch(example, dialect, signer=check, limit_bytes=BATCH_LIMIT_BYTES)
    assert isinstance(batch, Batch)
    assert seen == [batch.sender] == ["0406798006"]
    octets = (await get(intake, f"examples/{item}")).body
    second = octets.replace(b"2026-000123", b"2026-000124")
    assert [each.sha256 for each in batch.items] == [hashlib.sha256(each).hexdigest() for each in (octets, second)]
    for listed, each in zip(batch.items, (octets, second), strict=True):
        message = read_item(each, dialect, allow_test_ssin=True)
        assert (message.reference, message.gateway, message.sender) == (listed.reference, batch.gateway, batch.sender)
        assert message.profile == batch.profile
    xml = accepted((await get(intake, "examples/message.xml")).body)
    assert content_sha256(read_item(octets, dialect, allow_test_ssin=True)) == content_sha256(xml)
    with pytest.raises(Refusal, match="signature-invalid"):
        verify_batch(flipped(example, dialect), dialect, signer=check, limit_bytes=BATCH_LIMIT_BYTES)


def flipped(example: bytes, dialect: Dialect) -> bytes:
    """An example of which one signed thing was changed."""
    if dialect is Dialect.XML:
        return example.replace(b"2026-000124", b"2026-000125")
    return example[:-4] + (b"AAAA" if example[-4:] != b"AAAA" else b"BBBB")


async def test_the_batch_as_a_token_keeps_its_schema(intake: House) -> None:
    header, payload = header_and_payload((await get(intake, "examples/batch.jws")).body)
    assert header["cty"] == "batch+json"
    for schema, value in (
        ("batch.schema.json", payload),
        ("message.schema.json", (await get(intake, "examples/batch-m1.json")).json),
    ):
        validator = Draft202012Validator((await get(intake, schema)).json)
        assert [fault.message for fault in validator.iter_errors(value)] == []


async def test_the_page_shows_a_batch_and_its_first_item(intake: House, docs: tuple["Page", Answer, Any]) -> None:
    page, *_ = docs
    for name in ("batch.xml", "batch-m1.xml"):
        assert (await get(intake, f"examples/{name}")).body.decode() in page.text
    payload = header_and_payload((await get(intake, "examples/batch.jws")).body)[1]
    assert json.dumps(payload, indent=2, ensure_ascii=False) in page.text


# ── The page ──


class Page(HTMLParser):
    """What a page is made of; every element is closed, and in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.style = ""
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids.update(value or "" for name, value in attrs if name == "id")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["style"]:
            self.style += data
        else:
            self.text += data


@pytest.fixture
async def docs(intake: House) -> tuple[Page, Answer, Any]:
    """The page, the answer it came in, and the document it shows."""
    answer, document = await get(intake, "docs"), (await get(intake, "openapi.json")).json
    return Page(answer.body.decode()), answer, document


async def test_the_page_runs_nothing_and_loads_nothing_from_anywhere(docs: tuple[Page, Answer, Any]) -> None:
    page, answer, _ = docs
    foreign = {"script", "link", "img", "iframe", "object", "embed", "form", "svg", "base", "video", "audio", "source"}
    assert foreign & page.tags.keys() == set()
    assert [each for each in page.attributes if each[1].startswith("on") or each[1] in ("style", "src", "srcset")] == []
    links = {value for _, name, value in page.attributes if name in ("href", "action", "cite", "data")}
    assert {link for link in links if not link.startswith("#")} == TYPES.keys() - {"docs"}
    assert re.findall(r"url\(|@import|expression|https?:", page.style) == []
    policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert policy == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["Referrer-Policy"] == "no-referrer"


async def test_the_page_shows_every_operation_problem_and_schema(docs: tuple[Page, Answer, Any]) -> None:
    page, _, document = docs
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    wanted = {operation["operationId"] for operation in operations}
    wanted |= {f"problem-{kind}" for kind in Kind}
    wanted |= {f"schema-{name}" for name in document["components"]["schemas"]}
    assert wanted <= page.ids.keys()
    for path, methods in document["paths"].items():
        assert path in page.text
        for operation in methods.values():
            assert operation["summary"] in page.text
            assert all(each["name"] in page.text for each in operation["parameters"] if "name" in each)
    members = [each.get("properties", {}) for each in document["components"]["schemas"].values()]
    assert [name for each in members for name in each if name not in page.text] == []


async def test_every_link_of_the_page_leads_somewhere_and_every_anchor_is_one_place(
    docs: tuple[Page, Answer, Any],
) -> None:
    page, *_ = docs
    assert [name for name, count in page.ids.items() if count > 1] == []
    targets = {value.removeprefix("#") for _, name, value in page.attributes if name == "href" and value[:1] == "#"}
    assert len(targets) > 100
    assert targets - page.ids.keys() == set()
    labelled = {value for _, name, value in page.attributes if name == "aria-labelledby"}
    assert labelled <= page.ids.keys()


async def test_what_the_page_shows_is_text_and_never_markup(docs: tuple[Page, Answer, Any]) -> None:
    page, answer, document = docs
    assert "<Reference>2026-000123</Reference>" in page.text
    assert b"&lt;Reference&gt;2026-000123&lt;/Reference&gt;" in answer.body
    example = document["paths"]["/api/v1/whoami"]["get"]["responses"]["200"]["content"]["application/json"]["example"]
    assert json.dumps(example, indent=2, ensure_ascii=False) in page.text
    assert "&amp;lt;" not in answer.body.decode()
    assert "`" not in page.text


async def test_the_page_shows_what_is_in_the_second_example(intake: House, docs: tuple[Page, Answer, Any]) -> None:
    token = (await get(intake, "examples/message.jws")).body
    page, *_ = docs
    assert token.decode() in page.text
    for part in header_and_payload(token):
        assert json.dumps(part, indent=2, ensure_ascii=False) in page.text
