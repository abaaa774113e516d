"""The formats of batches: read back as written, in both dialects, closed, and the same digest for ten years."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from lxml import etree

from gateway.crypto.batches import (
    BATCH_LIMIT_BYTES,
    batch_sha256,
    differing_batch_fields,
    read_item,
    read_stored_batch,
    sign_batch,
    signer_of_stored,
    verify_batch,
    write_batch,
    write_item,
)
from gateway.crypto.dialects import Dialect, read_stored
from gateway.crypto.manifest import content_sha256
from gateway.domain.batch import Batch, BatchItem
from gateway.domain.ids import EnterpriseNumber, Ssin
from gateway.domain.message import DocumentEntry, Message, Recipient
from gateway.errors import Kind, Refusal

BATCH = Batch(
    gateway="gateway.example.be",
    reference="batch-1",
    created_at=datetime(2026, 11, 22, 10, tzinfo=UTC),
    sender=EnterpriseNumber("0406798006"),
    profile="burgerzaken",
    items=(
        BatchItem(number=1, reference="2026-1", sha256="a" * 64),
        BatchItem(number=2, reference="2026-2", sha256="b" * 64),
    ),
)
MESSAGE = Message(
    gateway="gateway.example.be",
    reference="2026-1",
    created_at=datetime(2026, 11, 22, 10, tzinfo=UTC),
    sender=EnterpriseNumber("0406798006"),
    category="tax-assessment",
    purpose="Aanslagbiljet 2026",
    recipient=Recipient(ssin=Ssin("90610100155")),
    subject="Uw aanslagbiljet",
    language="nl",
    documents=(
        DocumentEntry(
            part="upfile1", filename="b.pdf", media_type="application/pdf", size_bytes=7, sha256="c" * 64, main=True
        ),
    ),
)


@pytest.fixture
def signer(certs: Path) -> tuple[Any, x509.Certificate]:
    key = load_pem_private_key((certs / "gemeente.key").read_bytes(), None)
    return key, x509.load_pem_x509_certificate((certs / "gemeente.pem").read_bytes())


def verified(part: bytes, dialect: Dialect) -> Batch | Refusal:
    return verify_batch(part, dialect, signer=lambda _number, _certificate: None, limit_bytes=BATCH_LIMIT_BYTES)


@pytest.mark.parametrize("dialect", [*Dialect])
@pytest.mark.parametrize("changes", [{}, {"profile": None}, {"ovo_code": "OVO002949", "sender": "0316380841"}])
def test_a_batch_is_read_as_it_was_written(signer: Any, dialect: Dialect, changes: dict[str, Any]) -> None:
    batch = replace(BATCH, **changes)
    part = sign_batch(dialect, batch, *signer)
    assert verified(part, dialect) == batch
    assert read_stored_batch(part) == batch
    assert signer_of_stored(part) == signer[1]


def test_what_makes_a_batch_the_same_is_pinned() -> None:
    assert batch_sha256(BATCH).hex() == "4575158caf021ac7411ee64d293a01f03a00ddb00db3b2c6d1115f760295cfe6"
    later = replace(BATCH, created_at=datetime(2027, 1, 1, tzinfo=UTC))
    assert batch_sha256(later) == batch_sha256(BATCH)
    shorter = replace(BATCH, reference="batch-2", items=BATCH.items[:1])
    assert differing_batch_fields(BATCH, shorter) == ["/reference", "/items/1"]
    assert differing_batch_fields(BATCH, later) == []


FAULTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no item": ({"items": ()}, ["/items"]),
    "501 items": (
        {"items": tuple(BatchItem(number=n, reference=f"r-{n}", sha256="a" * 64) for n in range(1, 502))},
        ["/items"],
    ),
    "a number": ({"items": (replace(BATCH.items[0], number=7),)}, ["/items/0/number"]),
    "a digest": ({"items": (replace(BATCH.items[0], sha256="A" * 64),)}, ["/items/0/sha256"]),
    "a reference": ({"items": (replace(BATCH.items[0], reference="a b"),)}, ["/items/0/reference"]),
    "one twice": (
        {"items": (BATCH.items[0], replace(BATCH.items[1], reference="2026-1"))},
        ["/items/1/reference"],
    ),
    "a personal number": ({"reference": "90610100155"}, ["/reference"]),
    "an ovo code": ({"ovo_code": "OVO002949"}, ["/sender/ovoCode"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_rule_of_a_field_holds(signer: Any, fault: str) -> None:
    changes, pointers = FAULTS[fault]
    refusal = verified(sign_batch(Dialect.JWS, replace(BATCH, **changes), *signer), Dialect.JWS)
    assert isinstance(refusal, Refusal)
    assert (refusal.kind, [error.pointer for error in refusal.errors]) == (Kind.INVALID_MESSAGE, pointers)


def test_faults_in_xml_are_told_by_their_xpath(signer: Any) -> None:
    twice = replace(BATCH, items=(BATCH.items[0], replace(BATCH.items[1], reference="2026-1")))
    refusal = verified(sign_batch(Dialect.XML, twice, *signer), Dialect.XML)
    assert isinstance(refusal, Refusal)
    assert [error.pointer for error in refusal.errors] == ["/Batch/Items/Item[2]/@reference"]
    wrong = replace(BATCH, items=(replace(BATCH.items[0], sha256="none"),))
    with pytest.raises(Refusal) as caught:
        verified(sign_batch(Dialect.XML, wrong, *signer), Dialect.XML)
    assert [error.pointer for error in caught.value.errors] == ["/Batch/Items/Item/@sha256"]


def test_a_batch_and_a_message_do_not_pass_for_each_other(signer: Any) -> None:
    part = sign_batch(Dialect.JWS, BATCH, *signer)
    with pytest.raises(Refusal, match="not well-formed XML"):
        verified(part, Dialect.XML)
    with pytest.raises(Refusal, match="compact JWS"):
        verified(sign_batch(Dialect.XML, BATCH, *signer), Dialect.JWS)


@pytest.mark.parametrize("dialect", [*Dialect])
def test_an_item_is_read_as_it_was_written_now_and_from_the_store(dialect: Dialect) -> None:
    part = write_item(dialect, MESSAGE)
    assert read_item(part, dialect, allow_test_ssin=True) == MESSAGE
    assert content_sha256(read_stored(part)) == content_sha256(MESSAGE)


@pytest.mark.parametrize(
    ("part", "dialect", "kind"),
    [
        (b"<Message", Dialect.XML, Kind.MALFORMED_MESSAGE),
        (b"<!DOCTYPE a><Message/>", Dialect.XML, Kind.MALFORMED_MESSAGE),
        (b"<Message/>", Dialect.XML, Kind.INVALID_MESSAGE),
        (b"<a>" * 40 + b"</a>" * 40, Dialect.XML, Kind.MALFORMED_MESSAGE),
        (b"[]", Dialect.JWS, Kind.MALFORMED_MESSAGE),
        (b' {"gateway": "a"}', Dialect.JWS, Kind.MALFORMED_MESSAGE),
        (b'{"gateway": "a", "gateway": "b"}', Dialect.JWS, Kind.MALFORMED_MESSAGE),
        (b'{"gateway": "a"}', Dialect.JWS, Kind.INVALID_MESSAGE),
        (b"{" + b" " * 300_000 + b"}", Dialect.JWS, Kind.MALFORMED_MESSAGE),
        (b" " * 300_000, Dialect.XML, Kind.MALFORMED_MESSAGE),
    ],
)
def test_an_item_that_is_none_is_refused(part: bytes, dialect: Dialect, kind: Kind) -> None:
    with pytest.raises(Refusal) as caught:
        read_item(part, dialect, allow_test_ssin=True)
    assert caught.value.kind is kind


def test_a_comment_in_an_item_changes_nothing_and_hides_nothing() -> None:
    part = write_item(Dialect.XML, MESSAGE)
    assert read_item(part.replace(b"Uw aanslag", b"Uw <!-- x -->aanslag"), Dialect.XML, allow_test_ssin=True) == MESSAGE
    split = part.replace(b"<Reference>2026-1", b"<Reference>2026<!-- x -->-1")
    assert read_item(split, Dialect.XML, allow_test_ssin=True).reference == "2026-1"


def test_an_item_with_a_signature_or_foreign_attributes_is_refused() -> None:
    part = write_item(Dialect.XML, MESSAGE)
    signed = part.replace(b"</Message>", b'<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"/></Message>')
    typed = part.replace(b'Id="message"', b'Id="message" xmlns:x="urn:x" x:a="1"')
    for wrong, pointer in ((signed, "/Message/Signature"), (typed, "/Message")):
        with pytest.raises(Refusal) as caught:
            read_item(wrong, Dialect.XML, allow_test_ssin=True)
        assert [error.pointer for error in caught.value.errors] == [pointer]


def test_the_xml_of_a_batch_is_pinned() -> None:
    assert etree.tostring(write_batch(replace(BATCH, items=BATCH.items[:1]))).decode() == (
        '<Batch xmlns="urn:document-gateway:batch:1" Id="batch"><Gateway>gateway.example.be</Gateway>'
        "<Reference>batch-1</Reference><CreatedAt>2026-11-22T10:00:00Z</CreatedAt><Sender>"
        "<EnterpriseNumber>0406798006</EnterpriseNumber><Profile>burgerzaken</Profile></Sender>"
        f'<Items><Item number="1" reference="2026-1" sha256="{"a" * 64}"/></Items></Batch>'
    )
