"""The JSON Schema of messages: it takes every message that the gateway takes, and refuses what a schema can refuse."""

import copy
import json
import unicodedata
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from lxml import etree

from gateway.crypto.fields import message_from_json
from gateway.crypto.manifest import message_json
from gateway.domain.ids import EnterpriseNumber
from gateway.domain.message import (
    Channel,
    Cover,
    DocumentEntry,
    Lane,
    Message,
    PostalAddress,
    PrintOptions,
    PrintProduct,
    Priority,
    Recipient,
)
from gateway.errors import Refusal

if TYPE_CHECKING:
    from tests.plugins.any_message import messages
else:
    from any_message import messages

SCHEMA: Any = json.loads(files("gateway.intake.contract").joinpath("message_schema.json").read_text("utf-8"))
TAKEN = Draft202012Validator(SCHEMA)
XS = "{http://www.w3.org/2001/XMLSchema}"
AT = datetime(2026, 11, 22, 10, tzinfo=UTC)
DOCUMENT = DocumentEntry(
    part="upfile1",
    filename="brief.pdf",
    media_type="application/pdf",
    size_bytes=346,
    sha256="ab" * 32,
    main=True,
)
FULL = message_json(
    Message(
        gateway="gateway.example.be",
        reference="2026-000123",
        created_at=AT,
        sender=EnterpriseNumber("0316380841"),
        ovo_code="OVO000001",
        profile="burgerzaken",
        category="tax-assessment",
        purpose="Aanslagbiljet 2026",
        recipient=Recipient(
            enterprise_number=EnterpriseNumber("0566988259"),
            address=PostalAddress(
                name="Jan Peeters",
                street="Kerkstraat",
                house_number="12",
                box="3",
                postcode="9000",
                municipality="Gent",
                country="BE",
            ),
        ),
        attention_of="Boekhouding",
        subject="Uw aanslagbiljet",
        language="nl",
        channels=(Channel.PRINT, Channel.EBOX_ENTERPRISE),
        print_options=PrintOptions(),
        retention=timedelta(days=90),
        deliver_not_before=AT,
        deliver_before=AT + timedelta(days=2),
        lane=Lane.BULK,
        billing_reference="PO 12/345",
        documents=(DOCUMENT,),
    )
)
REQUIRED = ("gateway", "reference", "createdAt", "sender", "category", "purpose", "recipient", "subject", "documents")

# The way to a member, and the values that it may not have.
WRONG: dict[str, list[Any]] = {
    "gateway": ["gate way", "", "g" * 254, None, 1],
    "reference": ["a b", "a" * 65, "", "é"],
    "createdAt": ["2026-11-22", "2026-11-22T10:00:00+01:00", "2026-11-22T10:00:00", "2026-11-22 10:00:00Z", ""],
    "sender": [{}, {"profile": "a"}, "0406798006", {"enterpriseNumber": "0406798006", "ovoCode": "OVO000001"}],
    "sender/enterpriseNumber": ["BE0406798006", "2316380841", "031638084", 316380841],
    "sender/ovoCode": ["OVO1", "ovo000001"],
    "sender/profile": ["Burgerzaken", "-a", "a-", "a" * 65, ""],
    "category": ["tax assessment", "", "Tax"],
    "purpose": ["", "x" * 201, "a\tb", "a\nb", "a\n", "a\x85b", "a\u2028b", "a\u202eb", " a", "a ", "\xa0a", "a\u3000"],
    "recipient": [
        {},
        {"ssin": "90610100155", "enterpriseNumber": "0566988259"},
        {"ssin": "9061010015"},
        {"ssin": "90610100155"},  # somebody's attention is asked for, which only companies have
        {"name": "Jan"},
    ],
    "recipient/enterpriseNumber": ["56698825", ""],
    "recipient/postalAddress/name": ["", "x" * 71, "a\nb"],
    "recipient/postalAddress/houseNumber": ["", "x" * 16],
    "recipient/postalAddress/box": ["", "x" * 16],
    "recipient/postalAddress/postcode": ["0999", "90000", "B-9000", "٩٠٠٠", ""],
    "recipient/postalAddress/country": ["be", "BEL", "", "B1"],
    "forTheAttentionOf": ["", "x" * 101],
    "subject": ["Uw aanslagbiljet", {"text": "a"}, {"lang": "nl"}, {"lang": "nl", "text": "a", "dir": "ltr"}],
    "subject/lang": ["es", "NL"],
    "subject/text": ["", "x" * 401],
    "channels": [[], ["print", "print"], ["fax"], "print"],
    "print": [{"paper": "a4"}, "standard"],
    "print/product": ["express", ""],
    "print/duplex": ["true", 1],
    "print/priority": ["non-prior"],
    "print/cover": [True],
    "retention": ["P0D", "P1M", "90", "P100000D", 90],
    "deliverBefore": ["tomorrow", None],
    "lane": ["fast"],
    "billingReference": ["", "x" * 65],
    "documents": [[], {}],
    "documents/0": [[], {}, "upfile1"],
    "documents/0/part": ["upfile0", "upfile2", "upfile01", "document"],
    "documents/0/filename": ["", "x" * 256, "../a.pdf", "C:\\a.pdf", ".", "..", "a\x7fb", "a.pdf "],
    "documents/0/mediaType": ["pdf", "text/plain; charset=utf-8", "", "a/b/c"],
    "documents/0/size": [0, -1, 10**12, "346", 1.5, True],
    "documents/0/sha256": ["AB" * 32, "ab" * 31, ""],
    "documents/0/main": [False, "true", 1],
    "documents/0/signed": ["false", 0],
}


def with_value(path: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(FULL)
    *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    place: Any = changed
    for step in steps:
        place = place[step]
    place[last] = value
    return changed


def with_documents(*entries: dict[str, Any]) -> dict[str, Any]:
    return FULL | {"documents": [FULL["documents"][0] | entry for entry in entries]}


def is_taken(fields: dict[str, Any]) -> bool:
    """Whether the gateway itself takes this JSON form."""
    try:
        message_from_json(fields, allow_test_ssin=True)
    except Refusal:
        return False
    return True


def test_the_schema_is_valid_and_takes_a_message_with_every_field() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert is_taken(FULL)
    assert list(TAKEN.iter_errors(FULL)) == []
    assert FULL.keys() == SCHEMA["properties"].keys()


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, values in WRONG.items() for value in values])
def test_what_the_gateway_refuses_by_its_form_the_schema_refuses_too(path: str, value: Any) -> None:
    changed = with_value(path, value)
    assert not is_taken(changed)
    assert not TAKEN.is_valid(changed)


@pytest.mark.parametrize("name", sorted(FULL))
def test_what_may_be_left_out_of_a_message(name: str) -> None:
    shorter = {key: value for key, value in FULL.items() if key != name}
    assert TAKEN.is_valid(shorter) == is_taken(shorter) == (name not in REQUIRED)


@pytest.mark.parametrize("place", ["", "sender", "recipient", "recipient/postalAddress", "subject", "documents/0"])
def test_no_object_of_a_message_has_other_members(place: str) -> None:
    changed = with_value(f"{place}/colour".removeprefix("/"), "blue")
    assert not is_taken(changed)
    assert not TAKEN.is_valid(changed)


@pytest.mark.parametrize(
    ("entries", "taken"),
    [
        ([{}, {"part": "upfile2", "main": False}], True),
        ([{"main": False}, {"part": "upfile2"}], True),
        ([{}, {"part": "upfile2"}], False),
        ([{"main": False}, {"part": "upfile2", "main": False}], False),
        ([{}, {"part": "upfile3", "main": False}], False),
        ([{"part": "upfile2"}, {"part": "upfile1", "main": False}], False),
        ([{}, *({"part": f"upfile{number}", "main": False} for number in range(2, 21))], True),
        ([{}, *({"part": f"upfile{number}", "main": False} for number in range(2, 22))], False),
    ],
)
def test_documents_come_in_order_with_one_main_one(entries: list[dict[str, Any]], *, taken: bool) -> None:
    assert TAKEN.is_valid(with_documents(*entries)) == is_taken(with_documents(*entries)) == taken


def test_a_foreign_postcode_is_free_text() -> None:
    address = FULL["recipient"]["postalAddress"] | {"country": "NL", "postcode": "1012 AB"}
    assert TAKEN.is_valid(with_value("recipient/postalAddress", address))


@pytest.mark.parametrize("kind", [Channel, Lane, PrintProduct, Priority, Cover])
def test_the_words_of_the_schema_are_those_of_the_gateway(kind: Any) -> None:
    properties = SCHEMA["properties"]
    told = {
        Channel: properties["channels"]["items"]["enum"],
        Lane: properties["lane"]["enum"],
        PrintProduct: properties["print"]["properties"]["product"]["enum"],
        Priority: properties["print"]["properties"]["priority"]["enum"],
        Cover: properties["print"]["properties"]["cover"]["enum"],
    }
    assert told[kind] == list(kind)


def test_the_members_are_the_elements_of_the_xml_schema_in_their_order() -> None:
    schema = etree.fromstring(files("gateway.crypto").joinpath("message.xsd").read_bytes())
    (sequence,) = schema.iterfind(f"{XS}complexType[@name='MessageType']/{XS}sequence")
    names = [str(each.get("name")) for each in sequence if each.get("name") is not None]
    assert [name[0].lower() + name[1:] for name in names] == list(SCHEMA["properties"]) == list(FULL)


def test_what_may_be_left_out_of_print_has_the_default_of_the_gateway() -> None:
    defaults = {name: member["default"] for name, member in SCHEMA["properties"]["print"]["properties"].items()}
    assert defaults == FULL["print"]


# ── Whatever the gateway takes ──


@settings(max_examples=80, deadline=None)
@given(message=messages())
def test_every_message_that_the_gateway_takes_keeps_the_schema(message: Message) -> None:
    fields = json.loads(json.dumps(message_json(message)))
    assert message_from_json(fields, allow_test_ssin=True) == message
    assert [(fault.json_path, fault.message) for fault in TAKEN.iter_errors(fields)] == []


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=5))  # half a pair is no text to any schema
def test_the_schema_and_the_gateway_agree_about_text(text: str) -> None:
    normal = unicodedata.normalize("NFC", text)
    fields = FULL | {"purpose": normal}
    assert TAKEN.is_valid(fields) == is_taken(fields)
