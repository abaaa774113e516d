from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from gateway.domain.ids import EnterpriseNumber, Ssin
from gateway.domain.message import Channel, DocumentEntry, Message, PostalAddress, Recipient
from gateway.domain.registration import (
    Authorisation,
    Contact,
    EboxTriple,
    Profile,
    RecipientRule,
    Sender,
)

ADDRESS = PostalAddress(
    name="Jan Peeters", street="Kerkstraat", house_number="12", postcode="9000", municipality="Gent", country="BE"
)


@pytest.fixture
def message() -> Callable[..., Message]:
    """Return a maker of messages: a valid one, with some fields replaced."""
    valid = Message(
        gateway="gateway.test",
        reference="r-1",
        created_at=datetime(2026, 11, 22, 10, tzinfo=UTC),
        sender=EnterpriseNumber("0406798006"),
        profile="burgerzaken",
        category="tax-assessment",
        purpose="Aanslagbiljet",
        recipient=Recipient(ssin=Ssin("90610100155"), address=ADDRESS),
        subject="Uw aanslagbiljet",
        language="nl",
        documents=(
            DocumentEntry(
                part="upfile1",
                filename="brief.pdf",
                media_type="application/pdf",
                size_bytes=1_000,
                sha256="0" * 64,
                main=True,
            ),
        ),
    )

    def make(**changes: Any) -> Message:
        return replace(valid, **changes)

    return make


@pytest.fixture
def authorisation() -> Callable[..., Authorisation]:
    """Return a maker of authorisations."""
    valid = Authorisation(
        category="tax-assessment",
        channels=(Channel.EBOX_CITIZEN, Channel.EBOX_ENTERPRISE, Channel.PRINT),
        recipients=RecipientRule.ANY,
        legal_basis="WIB92 art. 302",
        ebox_citizen=EboxTriple(message_type="TAX", application="APP"),
        ebox_enterprise=EboxTriple(message_type="TAX", application="APP"),
        retention=timedelta(days=365),
        fallback=frozenset({"no-consent", "no-digital-user", "refused"}),
    )

    def make(**changes: Any) -> Authorisation:
        return replace(valid, **changes)

    return make


@pytest.fixture
def sender(authorisation: Callable[..., Authorisation]) -> Callable[..., Sender]:
    """Return a maker of senders with the profiles `burgerzaken` and `belastingen`."""

    def make(**changes: Any) -> Sender:
        granted: Authorisation = changes.pop("authorisation", authorisation())
        valid = Sender(
            enterprise_number=EnterpriseNumber("0406798006"),
            name="Gemeente Voorbeeld",
            contact=Contact(dpo="d@x.be", technical="t@x.be", security="s@x.be", public="09 000 00 00"),
            agreements=dict.fromkeys(Channel, date(2026, 1, 10)),
            certificates=(),
            profiles={
                "burgerzaken": Profile(
                    id="burgerzaken", display_name="Burgerzaken", authorisations={granted.category: granted}
                ),
                "belastingen": Profile(id="belastingen", display_name="Belastingen"),
            },
        )
        return replace(valid, **changes)

    return make
