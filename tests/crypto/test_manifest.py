"""The fields of a message: reading and writing them in XML and JSON, and each rule that they must keep."""

import hashlib
import json
import unicodedata
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from gateway.crypto.fields import message_from_json
from gateway.crypto.manifest import content_sha256, differing_fields, message_json, read_message, write_message
from gateway.crypto.schema import read_schema, schema_faults
from gateway.domain.ids import EnterpriseNumber, Ssin, holds_ssin
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
from gateway.errors import Kind, Refusal

NS = "urn:document-gateway:message:1"
AT = datetime(2026, 11, 22, 10, tzinfo=UTC)
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

ADDRESS = PostalAddress(
    name="Jan Peeters",
    street="Kerkstraat",
    house_number="12",
    box="3",
    postcode="9000",
    municipality="Gent",
    country="BE",
)
LETTER = DocumentEntry(
    part="upfile1",
    filename="brief.pdf",
    media_type="application/pdf",
    size_bytes=102400,
    sha256=EMPTY_SHA256,
    main=True,
)
ANNEX = replace(LETTER, part="upfile2", filename="bijlage.pdf", main=False, signed=True)
SMALL = Message(
    gateway="gateway.example.be",
    reference="2026-000123",
    created_at=AT,
    sender=EnterpriseNumber("0406798006"),
    category="tax-assessment",
    purpose="Aanslagbiljet 2026",
    recipient=Recipient(ssin=Ssin("90610100155")),
    subject="Uw aanslagbiljet",
    language="nl",
    documents=(LETTER,),
)
FULL = replace(
    SMALL,
    sender=EnterpriseNumber("0316380841"),
    ovo_code="OVO000001",
    profile="burgerzaken",
    recipient=Recipient(enterprise_number=EnterpriseNumber("0566988259"), address=ADDRESS),
    attention_of="Boekhouding",
    channels=(Channel.PRINT, Channel.EBOX_ENTERPRISE),
    print_options=PrintOptions(
        product=PrintProduct.REGISTERED_AR,
        duplex=False,
        colour=True,
        priority=Priority.NON_PRIOR,
        cover=Cover.NEVER,
    ),
    retention=timedelta(days=90),
    deliver_not_before=AT + timedelta(days=1),
    deliver_before=AT + timedelta(days=2, microseconds=1),
    lane=Lane.BULK,
    billing_reference="PO 12/345",
    documents=(LETTER, ANNEX),
)


def read(root: etree._Element, *, allow_test_ssin: bool = True) -> Message:
    return read_message(root, allow_test_ssin=allow_test_ssin)


def faults(root: etree._Element, *, allow_test_ssin: bool = True) -> list[tuple[str, str]]:
    with pytest.raises(Refusal) as caught:
        read(root, allow_test_ssin=allow_test_ssin)
    assert caught.value.kind is Kind.INVALID_MESSAGE
    return [(error.pointer, error.detail) for error in caught.value.errors]


# ── The formats, as they will be for ten years ──


def test_the_json_form_of_a_small_message() -> None:
    assert message_json(SMALL) == {
        "gateway": "gateway.example.be",
        "reference": "2026-000123",
        "createdAt": "2026-11-22T10:00:00Z",
        "sender": {"enterpriseNumber": "0406798006"},
        "category": "tax-assessment",
        "purpose": "Aanslagbiljet 2026",
        "recipient": {"ssin": "90610100155"},
        "subject": {"lang": "nl", "text": "Uw aanslagbiljet"},
        "documents": [
            {
                "part": "upfile1",
                "filename": "brief.pdf",
                "mediaType": "application/pdf",
                "size": 102400,
                "sha256": EMPTY_SHA256,
                "main": True,
                "signed": False,
            }
        ],
    }


def test_the_json_form_of_a_message_with_every_field() -> None:
    fields = message_json(FULL)
    assert list(fields) == [
        "gateway",
        "reference",
        "createdAt",
        "sender",
        "category",
        "purpose",
        "recipient",
        "forTheAttentionOf",
        "subject",
        "channels",
        "print",
        "retention",
        "deliverNotBefore",
        "deliverBefore",
        "lane",
        "billingReference",
        "documents",
    ]
    assert fields["sender"] == {"enterpriseNumber": "0316380841", "ovoCode": "OVO000001", "profile": "burgerzaken"}
    assert fields["recipient"] == {
        "enterpriseNumber": "0566988259",
        "postalAddress": {
            "name": "Jan Peeters",
            "street": "Kerkstraat",
            "houseNumber": "12",
            "box": "3",
            "postcode": "9000",
            "municipality": "Gent",
            "country": "BE",
        },
    }
    assert fields["channels"] == ["print", "ebox-enterprise"]
    assert fields["print"] == {
        "product": "registered_ar",
        "duplex": False,
        "colour": True,
        "priority": "non_prior",
        "cover": "never",
    }
    assert fields["retention"] == "P90D"
    assert fields["deliverNotBefore"] == "2026-11-23T10:00:00Z"
    assert fields["deliverBefore"] == "2026-11-24T10:00:00.000001Z"
    assert (fields["lane"], fields["billingReference"]) == ("bulk", "PO 12/345")
    assert [document["signed"] for document in fields["documents"]] == [False, True]


def test_the_digest_of_the_content_is_that_of_its_canonical_json() -> None:
    canonical = (
        '{"category":"tax-assessment","documents":[{"filename":"brief.pdf","main":true,"mediaType":"application/pdf",'
        f'"part":"upfile1","sha256":"{EMPTY_SHA256}","signed":false,"size":102400}}],"gateway":"gateway.example.be",'
        '"purpose":"Aanslagbiljet 2026","recipient":{"ssin":"90610100155"},"reference":"2026-000123",'
        '"sender":{"enterpriseNumber":"0406798006"},"subject":{"lang":"nl","text":"Uw aanslagbiljet"}}'
    )
    assert content_sha256(SMALL) == hashlib.sha256(canonical.encode()).digest()


def test_signing_again_later_is_the_same_content() -> None:
    assert content_sha256(replace(FULL, created_at=AT + timedelta(days=3))) == content_sha256(FULL)


def fields_that_differ(one: object, other: object, path: str = "") -> list[str]:
    if one == other:
        return []
    if not is_dataclass(one) or type(one) is not type(other):
        return [path]
    names = [field.name for field in fields(one) if path or field.name != "created_at"]
    return [
        found
        for name in names
        for found in fields_that_differ(getattr(one, name), getattr(other, name), f"{path}.{name}".lstrip("."))
    ]


@pytest.mark.parametrize("field", sorted(set(fields_that_differ(SMALL, FULL)) - {"recipient.ssin"}))
def test_every_signed_field_but_the_time_is_content(field: str) -> None:
    top, _, inner = field.partition(".")
    value: Any = getattr(FULL, top)
    if inner:
        value = replace(getattr(SMALL, top), **{inner: getattr(value, inner)})
    changed: Message = replace(SMALL, **{top: value})
    assert content_sha256(changed) != content_sha256(SMALL)


@pytest.mark.parametrize("message", [SMALL, FULL], ids=["small", "full"])
def test_the_written_xml_keeps_the_schema(message: Message) -> None:
    root = write_message(message)
    schema = read_schema("message.xsd")
    assert schema(root), schema.error_log
    assert root.nsmap == {None: NS}


def test_the_fields_stand_in_the_xml_as_published() -> None:
    root = write_message(FULL)
    assert root.get("Id") == "message"
    assert [etree.QName(child).localname for child in root] == [
        "Gateway",
        "Reference",
        "CreatedAt",
        "Sender",
        "Category",
        "Purpose",
        "Recipient",
        "ForTheAttentionOf",
        "Subject",
        "Channels",
        "Print",
        "Retention",
        "DeliverNotBefore",
        "DeliverBefore",
        "Lane",
        "BillingReference",
        "Documents",
    ]
    assert (
        etree.tostring(root[10])
        .decode()
        .endswith('product="registered_ar" duplex="false" colour="true" priority="non_prior" cover="never"/>')
    )
    assert (
        etree.tostring(root[16][1])
        .decode()
        .endswith(
            'part="upfile2" filename="bijlage.pdf" mediaType="application/pdf" size="102400" '
            f'sha256="{EMPTY_SHA256}" main="false" signed="true"/>'
        )
    )


def test_what_has_a_default_may_be_left_out() -> None:
    root = write_message(replace(SMALL, print_options=PrintOptions()))
    for element in root.iter(f"{{{NS}}}Print", f"{{{NS}}}Document"):
        for name in ("product", "duplex", "colour", "priority", "cover", "signed"):
            if name in element.attrib:
                del element.attrib[name]
    assert read_schema("message.xsd")(root)
    assert read(root) == replace(SMALL, print_options=PrintOptions())


@pytest.mark.parametrize(
    ("written", "at"),
    [
        ("2026-11-22T10:00:00Z", AT),
        ("2026-11-22T10:00:00.5Z", AT + timedelta(milliseconds=500)),
        ("2026-11-22T10:00:00.000Z", AT),
        ("2026-11-22T10:00:00.123456Z", AT + timedelta(microseconds=123456)),
        ("2026-11-22T10:00:00.1234567Z", AT + timedelta(microseconds=123456)),
        ("2026-11-22T10:00:00.123456999Z", AT + timedelta(microseconds=123456)),
        ("2024-02-29T23:59:59Z", datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_times_are_read_to_the_microsecond(written: str, at: datetime) -> None:
    root = write_message(SMALL)
    root[2].text = written
    assert read_schema("message.xsd")(root)
    assert read(root).created_at == at


# ── The rules ──

WRONG_FIELDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "gateway": ({"gateway": "gate way"}, "/Message/Gateway", "must be 1 to 253 printable ASCII"),
    "gateway empty": ({"gateway": ""}, "/Message/Gateway", "must be 1 to 253 printable ASCII"),
    "reference": ({"reference": "a b"}, "/Message/Reference", "a reference is 1 to 64"),
    "reference too long": ({"reference": "a" * 65}, "/Message/Reference", "a reference is 1 to 64"),
    "reference with SSIN": ({"reference": "x-90.61.01-001.55"}, "/Message/Reference", "a reference must not hold"),
    "sender": ({"sender": "0406798007"}, "/Message/Sender/EnterpriseNumber", "the check digits of the enterprise"),
    "sender form": ({"sender": "BE0406798006"}, "/Message/Sender/EnterpriseNumber", "an enterprise number is ten"),
    "OVO code": (
        {"sender": "0316380841", "ovo_code": "OVO1"},
        "/Message/Sender/OvoCode",
        "an OVO code is OVO and six digits",
    ),
    "OVO code of another": ({"ovo_code": "OVO000001"}, "/Message/Sender/OvoCode", "only bodies that share enterprise"),
    "profile": ({"profile": "Burgerzaken"}, "/Message/Sender/Profile", "an id is 1 to 64"),
    "category": ({"category": "tax assessment"}, "/Message/Category", "an id is 1 to 64"),
    "purpose empty": ({"purpose": ""}, "/Message/Purpose", "must be 1 to 200 characters"),
    "purpose too long": ({"purpose": "x" * 201}, "/Message/Purpose", "must be 1 to 200 characters"),
    "purpose with tab": ({"purpose": "a\tb"}, "/Message/Purpose", "must not hold control characters"),
    "purpose with line end": ({"purpose": "a\nb"}, "/Message/Purpose", "must not hold control characters"),
    "purpose with C1": ({"purpose": "a\x85b"}, "/Message/Purpose", "must not hold control characters"),
    "purpose with line separator": ({"purpose": "a\u2028b"}, "/Message/Purpose", "must not hold control characters"),
    "purpose not NFC": ({"purpose": "e\u0301"}, "/Message/Purpose", "must be in Unicode normalisation form NFC"),
    "purpose with space before": ({"purpose": " a"}, "/Message/Purpose", "must not start or end with white space"),
    "purpose with space after": ({"purpose": "a "}, "/Message/Purpose", "must not start or end with white space"),
    "purpose with hard space after": ({"purpose": "a\xa0"}, "/Message/Purpose", "must not start or end with white"),
    "subject too long": ({"subject": "x" * 401}, "/Message/Subject", "must be 1 to 400 characters"),
    "subject empty": ({"subject": ""}, "/Message/Subject", "must be 1 to 400 characters"),
    "language": ({"language": "es"}, "/Message/Subject/@lang", "must be one of nl, fr, de, en"),
    "SSIN": ({"recipient": Recipient(ssin=Ssin("90610100154"))}, "/Message/Recipient/Ssin", "the check digits of the"),
    "SSIN form": ({"recipient": Recipient(ssin=Ssin("9061010015"))}, "/Message/Recipient/Ssin", "an SSIN is eleven"),
    "SSIN date": ({"recipient": Recipient(ssin=Ssin("90013200163"))}, "/Message/Recipient/Ssin", "the date in the"),
    "company": (
        {"recipient": Recipient(enterprise_number=EnterpriseNumber("0566988258"))},
        "/Message/Recipient/EnterpriseNumber",
        "the check digits of the enterprise number are wrong",
    ),
    "citizen and company": (
        {"recipient": Recipient(ssin=Ssin("90610100155"), enterprise_number=EnterpriseNumber("0566988259"))},
        "/Message/Recipient",
        "names a citizen or a company, not both",
    ),
    "attention without company": ({"attention_of": "An"}, "/Message/ForTheAttentionOf", "is for companies only"),
    "channel twice": (
        {"channels": (Channel.PRINT, Channel.PRINT)},
        "/Message/Channels/Channel[2]",
        "names a channel twice",
    ),
    "unknown channel": (
        {"channels": ("fax",)},
        "/Message/Channels/Channel[1]",
        "must be one of ebox-citizen, ebox-enterprise, print",
    ),
    "print product": (
        {"print_options": PrintOptions(product="express")},  # type: ignore[arg-type]  # wrong on purpose
        "/Message/Print/@product",
        "must be one of standard, registered, registered_ar",
    ),
    "lane": ({"lane": "fast"}, "/Message/Lane", "must be one of single, bulk"),
    "retention of no day": ({"retention": timedelta(hours=1)}, "/Message/Retention", "must be a number of days"),
    "before not after": (
        {"deliver_not_before": AT, "deliver_before": AT},
        "/Message/DeliverBefore",
        "must be later than",
    ),
    "billing reference": ({"billing_reference": "x" * 65}, "/Message/BillingReference", "must be 1 to 64 characters"),
    "billing reference with SSIN": (
        {"billing_reference": "PO 90.61.01-001.55"},
        "/Message/BillingReference",
        "must not hold a personal number",
    ),
    "no document": ({"documents": ()}, "/Message/Documents", "a message has 1 to 20 documents"),
    "21 documents": (
        {"documents": (LETTER, *(replace(ANNEX, part=f"upfile{number}") for number in range(2, 22)))},
        "/Message/Documents",
        "a message has 1 to 20 documents",
    ),
    "no main document": (
        {"documents": (replace(LETTER, main=False),)},
        "/Message/Documents",
        "exactly one document is",
    ),
    "two main documents": (
        {"documents": (LETTER, replace(ANNEX, main=True))},
        "/Message/Documents",
        "exactly one document is",
    ),
    "part out of order": (
        {"documents": (LETTER, replace(ANNEX, part="upfile3"))},
        "/Message/Documents/Document[2]/@part",
        "parts are upfile1, upfile2 and so on",
    ),
    "part from 0": (
        {"documents": (replace(LETTER, part="upfile0"),)},
        "/Message/Documents/Document[1]/@part",
        "parts are upfile1, upfile2 and so on",
    ),
}

WRONG_ADDRESS: dict[str, tuple[dict[str, Any], str, str]] = {
    "name": ({"name": "x" * 71}, "Name", "must be 1 to 70 characters"),
    "street": ({"street": "x" * 71}, "Street", "must be 1 to 70 characters"),
    "street with line end": ({"street": "a\nb"}, "Street", "must not hold control characters"),
    "house number": ({"house_number": "x" * 16}, "HouseNumber", "must be 1 to 15 characters"),
    "no house number": ({"house_number": ""}, "HouseNumber", "must be 1 to 15 characters"),
    "box": ({"box": "x" * 16}, "Box", "must be 1 to 15 characters"),
    "postcode": ({"postcode": "x" * 16, "country": "NL"}, "Postcode", "must be 1 to 15 characters"),
    "Belgian postcode too low": ({"postcode": "0999"}, "Postcode", "a Belgian postcode is four digits"),
    "Belgian postcode too long": ({"postcode": "90000"}, "Postcode", "a Belgian postcode is four digits"),
    "Belgian postcode with prefix": ({"postcode": "B-9000"}, "Postcode", "a Belgian postcode is four digits"),
    "Belgian postcode in other digits": ({"postcode": "٩٠٠٠"}, "Postcode", "a Belgian postcode is four digits"),
    "municipality": ({"municipality": "x" * 71}, "Municipality", "must be 1 to 70 characters"),
    "country in small": ({"country": "be"}, "Country", "must be a country code of two capitals"),
    "no such country": ({"country": "ZZ"}, "Country", "must be a country code of two capitals"),
    "country of three letters": ({"country": "BEL"}, "Country", "must be a country code of two capitals"),
}

WRONG_DOCUMENT: dict[str, tuple[dict[str, Any], str, str]] = {
    "filename empty": ({"filename": ""}, "filename", "must be 1 to 255 characters"),
    "filename too long": ({"filename": "x" * 256}, "filename", "must be 1 to 255 characters"),
    "filename with control": ({"filename": "a\x7fb"}, "filename", "must not hold control characters"),
    "filename that reads backwards": ({"filename": "a\u202efdp.exe"}, "filename", "must not hold control characters"),
    "filename with slash": ({"filename": "../brief.pdf"}, "filename", "must be a name, not a path"),
    "filename with backslash": ({"filename": "C:\\brief.pdf"}, "filename", "must be a name, not a path"),
    "filename .": ({"filename": "."}, "filename", "must be a name, not a path"),
    "filename ..": ({"filename": ".."}, "filename", "must be a name, not a path"),
    "filename with outer space": ({"filename": "brief.pdf "}, "filename", "must not start or end with white space"),
    "media type": ({"media_type": "pdf"}, "mediaType", "must be type/subtype without parameters"),
    "media type with parameter": (
        {"media_type": "text/plain; charset=utf-8"},
        "mediaType",
        "must be type/subtype without parameters",
    ),
    "size 0": ({"size_bytes": 0}, "size", "must be a number of bytes, at least 1"),
    "size negative": ({"size_bytes": -1}, "size", "must be a number of bytes, at least 1"),
    "size of a petabyte": ({"size_bytes": 10**15}, "size", "must be a number of bytes, at least 1"),
    "digest in capitals": ({"sha256": EMPTY_SHA256.upper()}, "sha256", "must be 64 lower-case hexadecimal digits"),
    "digest too short": ({"sha256": EMPTY_SHA256[:-1]}, "sha256", "must be 64 lower-case hexadecimal digits"),
}

WRONG = {
    **WRONG_FIELDS,
    **{
        f"address, {name}": (
            {"recipient": Recipient(address=replace(ADDRESS, **fields))},
            f"/Message/Recipient/PostalAddress/{field}",
            detail,
        )
        for name, (fields, field, detail) in WRONG_ADDRESS.items()
    },
    **{
        f"document, {name}": (
            {"documents": (LETTER, replace(ANNEX, **fields))},
            f"/Message/Documents/Document[2]/@{field}",
            detail,
        )
        for name, (fields, field, detail) in WRONG_DOCUMENT.items()
    },
}


@pytest.mark.parametrize(("fields", "pointer", "detail"), WRONG.values(), ids=WRONG)
def test_a_broken_rule_is_told_with_the_field_that_broke_it(fields: dict[str, Any], pointer: str, detail: str) -> None:
    found = faults(write_message(replace(SMALL, **fields)))
    assert [(where, what[: len(detail)]) for where, what in found] == [(pointer, detail)]


@pytest.mark.parametrize(
    ("element", "text", "detail"),
    [
        ("CreatedAt", "2026-11-22T10:00:00+00:00", "must be a time in UTC"),
        ("CreatedAt", "2026-11-22T10:00:00", "must be a time in UTC"),
        ("CreatedAt", "2026-11-22T10:00:00z", "must be a time in UTC"),
        ("CreatedAt", "2026-11-22 10:00:00Z", "must be a time in UTC"),
        ("CreatedAt", "2026-11-22T10:00:00Z\n", "must be a time in UTC"),
        ("CreatedAt", "2026-02-29T10:00:00Z", "is not a real date and time"),
        ("CreatedAt", "2026-11-22T24:00:00Z", "is not a real date and time"),
        ("CreatedAt", "2026-11-22T23:59:60Z", "is not a real date and time"),
        ("CreatedAt", "0000-01-01T00:00:00Z", "is not a real date and time"),
        ("DeliverBefore", "2026-13-01T00:00:00Z", "is not a real date and time"),
        ("Retention", "P3M", "must be a number of days"),
        ("Retention", "P0D", "must be a number of days"),
        ("Retention", "P090D", "must be a number of days"),
        ("Retention", "P1DT1H", "must be a number of days"),
    ],
)
def test_a_time_or_term_that_is_none_is_refused(element: str, text: str, detail: str) -> None:
    root = write_message(FULL)
    found = root.find(f"{{{NS}}}{element}")
    assert found is not None
    found.text = text
    assert [(where, what[: len(detail)]) for where, what in faults(root)] == [(f"/Message/{element}", detail)]


@pytest.mark.parametrize("size", ["01x", "1.0", "+1", "1e3", "9" * 5000, "٣"])
def test_a_size_that_is_no_number_is_refused(size: str) -> None:
    root = write_message(SMALL)
    root[-1][0].set("size", size)
    assert [where for where, _ in faults(root)] == ["/Message/Documents/Document[1]/@size"]


def test_a_truth_is_true_or_false() -> None:
    root = write_message(SMALL)
    root[-1][0].set("main", "1")
    assert ("/Message/Documents/Document[1]/@main", "must be true or false") in faults(root)


def test_all_faults_are_told_at_once() -> None:
    wrong = replace(
        FULL,
        reference="?",
        category="?",
        recipient=Recipient(enterprise_number=EnterpriseNumber("0566988258"), address=replace(ADDRESS, country="?")),
        documents=(replace(LETTER, sha256="?"), replace(ANNEX, filename="/")),
    )
    assert {pointer for pointer, _ in faults(write_message(wrong))} == {
        "/Message/Reference",
        "/Message/Category",
        "/Message/Recipient/EnterpriseNumber",
        "/Message/Recipient/PostalAddress/Country",
        "/Message/Documents/Document[1]/@sha256",
        "/Message/Documents/Document[2]/@filename",
    }


def test_every_missing_field_is_told() -> None:
    assert {pointer for pointer, _ in faults(etree.Element(f"{{{NS}}}Message"))} == {
        "/Message/Gateway",
        "/Message/Reference",
        "/Message/CreatedAt",
        "/Message/Sender",
        "/Message/Category",
        "/Message/Purpose",
        "/Message/Recipient",
        "/Message/Subject",
        "/Message/Documents",
    }


def test_a_refusal_repeats_no_value() -> None:
    wrong = replace(
        SMALL,
        reference="90610100155",
        recipient=Recipient(ssin=Ssin("90610100155"), address=replace(ADDRESS, postcode="Gheim", name="Gheim\t")),
        subject="Gheim ",
    )
    with pytest.raises(Refusal) as caught:
        read(write_message(wrong), allow_test_ssin=False)
    assert len(caught.value.errors) == 5
    told = f"{caught.value!r} {caught.value} {caught.value.errors}"
    assert "90610100155" not in told
    assert "Gheim" not in told


def test_test_numbers_are_taken_only_where_they_are_allowed() -> None:
    root = write_message(SMALL)
    assert read(root, allow_test_ssin=True) == SMALL
    assert faults(root, allow_test_ssin=False) == [
        ("/Message/Recipient/Ssin", "this SSIN is a test number, which this gateway does not take")
    ]


# ── The JSON dialect's own freedoms ──


def changed_json(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(json.dumps(message_json(FULL)))
    change(fields)
    return fields


@pytest.mark.parametrize(
    ("change", "pointer", "detail"),
    [
        (lambda m: m.update(extra=1), "/extra", "is not a field of a message"),
        (lambda m: m["sender"].update({"a/b~": 1}), "/sender/a~1b~0", "is not a field of a message"),
        (lambda m: m["documents"][1].update(x=1), "/documents/1/x", "is not a field of a message"),
        (lambda m: m["print"].update(x=1), "/print/x", "is not a field of a message"),
        (lambda m: m["subject"].update(x=1), "/subject/x", "is not a field of a message"),
        (lambda m: m["recipient"].update(x=1), "/recipient/x", "is not a field of a message"),
        (lambda m: m["recipient"]["postalAddress"].update(x=1), "/recipient/postalAddress/x", "is not a field of"),
        (lambda m: m.update(lane=None), "/lane", "must be one of single, bulk"),
        (lambda m: m.update(reference=1), "/reference", "must be text"),
        (lambda m: m.update(sender="0316380841"), "/sender", "must be an object"),
        (lambda m: m.update(channels="print"), "/channels", "must be an array"),
        (lambda m: m.update(channels=[]), "/channels", "names at least one channel"),
        (lambda m: m.update(documents={}), "/documents", "must be an array"),
        (lambda m: m["documents"].__setitem__(1, "x"), "/documents/1", "must be an object"),
        (lambda m: m["documents"][0].update(size="102400"), "/documents/0/size", "must be a number of bytes"),
        (lambda m: m["documents"][0].update(size=True), "/documents/0/size", "must be a number of bytes"),
        (lambda m: m["documents"][0].update(size=1.0), "/documents/0/size", "must be a number of bytes"),
        (lambda m: m["documents"][1].update(signed="true"), "/documents/1/signed", "must be true or false"),
        (lambda m: m["print"].update(duplex=1), "/print/duplex", "must be true or false"),
        (lambda m: m.update(purpose="a\ud800"), "/purpose", "must not hold control characters"),
        (lambda m: m.update(purpose="a\uffffb"), "/purpose", "must not hold control characters"),
        (lambda m: m.update(purpose="a\0b"), "/purpose", "must not hold control characters"),
    ],
)
def test_json_may_hold_no_more_than_xml_can(
    change: Callable[[dict[str, Any]], object], pointer: str, detail: str
) -> None:
    with pytest.raises(Refusal) as caught:
        message_from_json(changed_json(change), allow_test_ssin=True)
    first = caught.value.errors[0]
    assert (first.pointer, first.detail[: len(detail)]) == (pointer, detail)


# ── Properties ──


def no_ssin(text: str) -> bool:
    return not holds_ssin(text)


def clean(text: str) -> bool:
    return text == text.strip() and unicodedata.is_normalized("NFC", text)


def texts(limit: int) -> st.SearchStrategy[str]:
    forbidden = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufffe\uffff"
    allowed = st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters=forbidden)
    return st.text(allowed, min_size=1, max_size=min(limit, 30)).filter(clean)


def slugs() -> st.SearchStrategy[str]:
    return st.from_regex(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?", fullmatch=True)


def enterprise_numbers() -> st.SearchStrategy[EnterpriseNumber]:
    return st.integers(0, 19_999_999).map(lambda number: EnterpriseNumber(f"{number:08}{97 - number % 97:02}"))


def ssins() -> st.SearchStrategy[Ssin]:
    def number(birth: date, serial: int) -> Ssin:
        first = f"{birth:%y%m%d}{serial:03}"
        return Ssin(f"{first}{97 - int(('2' if birth.year >= 2000 else '') + first) % 97:02}")

    return st.builds(number, st.dates(date(1930, 1, 1), date(2029, 1, 1)), st.integers(1, 998))


def addresses() -> st.SearchStrategy[PostalAddress]:
    return st.builds(
        PostalAddress,
        name=texts(70),
        street=texts(70),
        house_number=texts(15).filter(lambda text: len(text) <= 15),
        box=st.none() | texts(15).filter(lambda text: len(text) <= 15),
        postcode=st.integers(1000, 9999).map(str),
        municipality=texts(70),
        country=st.sampled_from(["BE", "NL", "FR", "XK"]),
    )


def print_options() -> st.SearchStrategy[PrintOptions]:
    return st.builds(
        PrintOptions,
        product=st.sampled_from(PrintProduct),
        duplex=st.booleans(),
        colour=st.booleans(),
        priority=st.sampled_from(Priority),
        cover=st.sampled_from(Cover),
    )


def recipients() -> st.SearchStrategy[Recipient]:
    address = st.none() | addresses()
    return (
        st.builds(Recipient, ssin=ssins(), address=address)
        | st.builds(Recipient, enterprise_number=enterprise_numbers(), address=address)
        | st.builds(Recipient, address=addresses())
    )


@st.composite
def documents(draw: st.DrawFn) -> tuple[DocumentEntry, ...]:
    count = draw(st.integers(1, 20))
    main = draw(st.integers(1, count))
    names = texts(255).filter(lambda name: name not in (".", "..") and not set("/\\") & set(name))
    return tuple(
        DocumentEntry(
            part=f"upfile{place}",
            filename=draw(names),
            media_type=draw(st.sampled_from(["application/pdf", "text/plain", "application/vnd.ms-x+xml"])),
            size_bytes=draw(st.integers(1, 10**12 - 1)),
            sha256=draw(st.binary(min_size=32, max_size=32)).hex(),
            main=place == main,
            signed=draw(st.booleans()),
        )
        for place in range(1, count + 1)
    )


@st.composite
def messages(draw: st.DrawFn) -> Message:
    recipient = draw(recipients())
    instants = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive by Hypothesis's rule
    shared = draw(st.booleans())
    first, second = sorted(draw(st.lists(instants, min_size=2, max_size=2, unique=True)))
    return Message(
        gateway=draw(st.from_regex(r"[!-~]{1,253}", fullmatch=True)),
        reference=draw(st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True).filter(no_ssin)),
        created_at=draw(instants),
        sender=EnterpriseNumber("0316380841") if shared else draw(enterprise_numbers()),
        ovo_code=draw(st.from_regex(r"OVO[0-9]{6}", fullmatch=True)) if shared else None,
        profile=draw(st.none() | slugs()),
        category=draw(slugs()),
        purpose=draw(texts(200)),
        recipient=recipient,
        attention_of=draw(st.none() | texts(100)) if recipient.enterprise_number else None,
        subject=draw(texts(400)),
        language=draw(st.sampled_from(["nl", "fr", "de", "en"])),
        channels=tuple(draw(st.lists(st.sampled_from(Channel), unique=True))),
        print_options=draw(st.none() | print_options()),
        retention=draw(st.none() | st.integers(1, 99_999).map(lambda days: timedelta(days=days))),
        deliver_not_before=draw(st.none() | st.just(first)),
        deliver_before=draw(st.none() | st.just(second)),
        lane=draw(st.none() | st.sampled_from(Lane)),
        billing_reference=draw(st.none() | texts(64).filter(no_ssin)),
        documents=draw(documents()),
    )


@settings(max_examples=60, deadline=None)
@given(message=messages())
def test_what_is_written_is_read_back_and_keeps_the_schema(message: Message) -> None:
    body = etree.tostring(write_message(message), encoding="UTF-8")
    root = etree.fromstring(body)
    assert schema_faults(read_schema("message.xsd"), root) == []
    assert read(root) == message


@settings(max_examples=60, deadline=None)
@given(message=messages())
def test_both_dialects_give_the_same_message_and_the_same_content(message: Message) -> None:
    again = message_from_json(json.loads(json.dumps(message_json(message))), allow_test_ssin=True)
    assert again == message
    assert content_sha256(again) == content_sha256(read(write_message(message)))


@settings(max_examples=60, deadline=None)
@given(one=messages(), other=messages())
def test_messages_have_the_same_digest_if_and_only_if_nothing_but_the_time_differs(
    one: Message, other: Message
) -> None:
    for message in (other, replace(one, created_at=other.created_at), replace(other, documents=one.documents)):
        assert (content_sha256(one) == content_sha256(message)) == (differing_fields(one, message) == [])


@pytest.mark.parametrize("channels", [["fax"] * 5_000, ["print"] * 5_000, [["print"]] * 5_000])
def test_of_more_channels_than_there_are_only_the_first_are_judged(channels: list[object]) -> None:
    with pytest.raises(Refusal) as caught:
        message_from_json({**message_json(SMALL), "channels": channels}, allow_test_ssin=True)
    assert 1 <= len(caught.value.errors) <= len(Channel) + 1
