"""Evidence: believed only when the gateway's certificate signed it, as evidence, with every fact in its form."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.crypto.evidence import EVIDENCE_TYP, Evidence, EvidenceDelivery, verify_evidence_jws
from gateway.crypto.receipts import RECEIPT_TYP, ReceiptDocument, ReceiptSigner
from gateway.domain.ids import DeliveryId, EnterpriseNumber, MessageId, uuid7
from gateway.errors import Kind, Refusal

DELIVERY_ID = "01a2014e-92d4-7f37-a359-d66bd764a1fe"


def certificate_of(certs: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificates((certs / f"{name}.pem").read_bytes())[0]


@pytest.fixture(scope="module")
def certificate(certs: Path) -> x509.Certificate:
    return certificate_of(certs, "receipts")


@pytest.fixture(scope="module")
def signer(certs: Path, certificate: x509.Certificate) -> ReceiptSigner:
    key = load_pem_private_key((certs / "receipts.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return ReceiptSigner(certificate, key)


@pytest.fixture(scope="module")
def evidence(certificate: x509.Certificate) -> Evidence:
    issued_at = certificate.not_valid_before_utc + timedelta(hours=1)
    return Evidence(
        gateway="gateway.example.be",
        message_id=MessageId(uuid7(1_795_341_600_000, b"0123456789")),
        number=3,
        issued_at=issued_at,
        event="returned",
        etsi_event="http://uri.etsi.org/19522/Event/ContentHandoverFailure",
        at=issued_at - timedelta(microseconds=5_000),
        sender=EnterpriseNumber("0406798006"),
        profile="burgerzaken",
        reference="2026-000123",
        delivery=EvidenceDelivery(
            delivery_id=DeliveryId(UUID(DELIVERY_ID)), number=2, channel="print", provider="house-a"
        ),
        reason="refused",
        code="moved",
        documents=(ReceiptDocument(part="upfile1", sha256="0" * 64, size_bytes=1),),
        message_sha256="1" * 64,
        leaf_sha256="2" * 64,
        receipt_sha256="3" * 64,
    )


def bare(evidence: Evidence) -> Evidence:
    """The same statement with only what every statement has."""
    return replace(evidence, etsi_event=None, delivery=None, reason=None, code=None, receipt_sha256=None)


def test_a_statement_is_read_back_as_it_was_made(
    signer: ReceiptSigner, certificate: x509.Certificate, evidence: Evidence
) -> None:
    partly = EvidenceDelivery(delivery_id=DeliveryId(UUID(DELIVERY_ID)), number=None, channel=None, provider=None)
    for each in (evidence, bare(evidence), replace(evidence, delivery=partly), replace(evidence, documents=())):
        assert verify_evidence_jws(signer.sign_jws(each.claims(), EVIDENCE_TYP), certificate) == each


def test_a_statement_says_that_it_is_not_qualified(evidence: Evidence) -> None:
    claims = evidence.claims()
    assert claims["qualification"] == "non-qualified"
    assert (claims["iss"], claims["sub"], claims["n"]) == (evidence.gateway, str(evidence.message_id), 3)
    assert claims["delivery"] == {
        "deliveryId": DELIVERY_ID, "number": 2, "channel": "print", "provider": "house-a",
    }  # fmt: skip
    assert set(bare(evidence).claims()) == set(claims) - {"etsiEvent", "delivery", "reason", "code", "receiptSha256"}


def test_members_of_later_versions_are_let_pass(
    signer: ReceiptSigner, certificate: x509.Certificate, evidence: Evidence
) -> None:
    token = signer.sign_jws(evidence.claims() | {"weather": {"sky": "blue"}}, EVIDENCE_TYP)
    assert verify_evidence_jws(token, certificate) == evidence


Spoil = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda claims: claims.pop("n"),
        lambda claims: claims.pop("leafSha256"),
        lambda claims: claims.pop("qualification"),
        lambda claims: claims.update(qualification="qualified"),
        lambda claims: claims.update(n=0),
        lambda claims: claims.update(n=True),
        lambda claims: claims.update(n="1"),
        lambda claims: claims.update(sub="x"),
        lambda claims: claims.update(iat=-1),
        lambda claims: claims.update(at="yesterday"),
        lambda claims: claims.update(event=1),
        lambda claims: claims.update(sender="0406798007"),
        lambda claims: claims.update(profile="A B"),
        lambda claims: claims.update(reference=""),
        lambda claims: claims.update(reason=4),
        lambda claims: claims.update(documents={}),
        lambda claims: claims.update(documents=[{"part": "upfile1"}]),
        lambda claims: claims.update(messageSha256="00"),
        lambda claims: claims.update(receiptSha256="zz"),
        lambda claims: claims.update(delivery={}),
        lambda claims: claims.update(delivery={"deliveryId": "1"}),
        lambda claims: claims.update(delivery={"deliveryId": DELIVERY_ID, "number": 0}),
    ],
)
def test_a_statement_with_a_fact_in_another_form_is_none(
    signer: ReceiptSigner, certificate: x509.Certificate, evidence: Evidence, spoil: Spoil
) -> None:
    claims = evidence.claims()
    spoil(claims)
    with pytest.raises(Refusal) as refused:
        verify_evidence_jws(signer.sign_jws(claims, EVIDENCE_TYP), certificate)
    assert refused.value.kind is Kind.INVALID_MESSAGE


def test_another_kind_of_statement_another_signer_and_another_time_are_refused(
    signer: ReceiptSigner, certs: Path, certificate: x509.Certificate, evidence: Evidence
) -> None:
    token = signer.sign_jws(evidence.claims(), EVIDENCE_TYP)
    too_early = replace(evidence, issued_at=certificate.not_valid_before_utc - timedelta(seconds=1))
    for wrong, trusted in (
        (signer.sign_jws(evidence.claims(), RECEIPT_TYP), certificate),
        (token, certificate_of(certs, "server")),
        (token[:-4] + "AAAA", certificate),
        (token.replace(".", "", 1), certificate),
        (signer.sign_jws(too_early.claims(), EVIDENCE_TYP), certificate),
    ):
        with pytest.raises(Refusal) as refused:
            verify_evidence_jws(wrong, trusted)
        assert refused.value.kind is Kind.SIGNATURE_INVALID
