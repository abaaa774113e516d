"""What the hostile tests share: honest parties, an honest message, an attacker's, and the judgement of the gateway."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lxml import etree

from gateway.crypto.manifest import read_message, write_message
from gateway.domain.ids import EnterpriseNumber, Ssin
from gateway.domain.message import (
    Channel,
    DocumentEntry,
    Lane,
    Message,
    PostalAddress,
    PrintOptions,
    PrintProduct,
    Recipient,
)

if TYPE_CHECKING:
    from tests.plugins.forging import Signer, load_signer
    from tests.plugins.second_opinion import agreed
else:
    from forging import Signer, load_signer
    from second_opinion import agreed

HONEST = Message(
    gateway="gateway.example.be",
    reference="2026-000123",
    created_at=datetime(2026, 11, 22, 10, tzinfo=UTC),
    sender=EnterpriseNumber("0406798006"),
    profile="burgerzaken",
    category="tax-assessment",
    purpose="Aanslagbiljet & bijlage 2026, één",
    recipient=Recipient(
        ssin=Ssin("90610100155"),
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
    subject="Uw aanslagbiljet",
    language="nl",
    channels=(Channel.EBOX_CITIZEN, Channel.PRINT),
    print_options=PrintOptions(product=PrintProduct.REGISTERED),
    retention=timedelta(days=90),
    deliver_before=datetime(2026, 12, 1, tzinfo=UTC),
    lane=Lane.BULK,
    billing_reference="K-17",
    documents=(
        DocumentEntry(
            part="upfile1",
            filename="brief.pdf",
            media_type="application/pdf",
            size_bytes=102_400,
            sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            main=True,
        ),
        DocumentEntry(
            part="upfile2",
            filename="bijlage.pdf",
            media_type="application/pdf",
            size_bytes=2_048,
            sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            main=False,
        ),
    ),
)
EVIL = replace(
    HONEST,
    reference="2026-000666",
    purpose="Kwijtschelding",
    recipient=Recipient(
        ssin=Ssin("00012556777"),
        address=PostalAddress(
            name="An Ander",
            street="Elders",
            house_number="99",
            box="6",
            postcode="1000",
            municipality="Brussel",
            country="FR",
        ),
    ),
    subject="Schuldig verklaard",
    language="fr",
    channels=(Channel.PRINT, Channel.EBOX_CITIZEN),
    retention=timedelta(days=1),
    billing_reference="K-99",
    documents=tuple(replace(document, filename="vals.pdf", sha256="0" * 64) for document in HONEST.documents),
)

Judge = Callable[[bytes, Signer], Message]


@pytest.fixture(scope="session")
def honest() -> Message:
    """A message with nearly every field."""
    return HONEST


@pytest.fixture(scope="session")
def honest_xml() -> bytes:
    """The same, unsigned."""
    return etree.tostring(write_message(HONEST))


@pytest.fixture(scope="session")
def evil_xml() -> bytes:
    """What an attacker would have the gateway take for it; nobody signed it."""
    return etree.tostring(write_message(EVIL))


@pytest.fixture(scope="session")
def gemeente(certs: Path) -> Signer:
    """An EC key on P-256."""
    return load_signer(certs, "gemeente")


@pytest.fixture(scope="session")
def belasting(certs: Path) -> Signer:
    """An RSA key of 3072 bits."""
    return load_signer(certs, "belasting")


@pytest.fixture(scope="session")
def judge() -> Judge:
    """Read a signed message of a sender who has registered one certificate, and signxml agrees; raises the Refusal."""

    def read(body: bytes, registered: Signer) -> Message:
        return read_message(agreed(body, registered.certificate, HONEST.sender).root, allow_test_ssin=True)

    return read
