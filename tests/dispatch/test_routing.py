"""Which channels a letter takes, and when a later one takes over."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.domain.message import PostalAddress, PrintOptions, PrintProduct
from gateway.simulators import magic
from gateway.simulators.ebox_settings import DEMO_ORGANISATION
from gateway.simulators.magic import PrintFate

EBOX_THEN_PRINT = ("ebox-citizen", "print")
COMPANY_THEN_PRINT = ("ebox-enterprise", "print")
FINE_COMPANY = "0316380841"
NO_RULES = {"fallback": None}


def living_at(name: str) -> PostalAddress:
    return PostalAddress(
        name=name, street="Kerkstraat", house_number="12", postcode="9000", municipality="Gent", country="BE"
    )


@dataclass(frozen=True, kw_only=True)
class Case:
    """`journeys`: channel, status and reason of each delivery; `copies` at the e-Box and at the print house."""

    what: str
    letter: dict[str, Any]
    journeys: list[tuple[str, str, str | None]]
    copies: tuple[int, int]
    status: str = "delivered"
    rules: dict[str, Any] = field(default_factory=dict)


CASES = [
    Case(
        what="a citizen with an e-Box gets no paper",
        letter={"ssin": magic.CITIZEN_FINE, "channels": EBOX_THEN_PRINT},
        journeys=[("ebox-citizen", "delivered", None)],
        copies=(1, 0),
    ),
    Case(
        what="a company with an e-Box gets no paper",
        letter={"enterprise_number": FINE_COMPANY, "channels": COMPANY_THEN_PRINT},
        journeys=[("ebox-enterprise", "delivered", None)],
        copies=(1, 0),
    ),
    Case(
        what="a letter for an address goes on paper",
        letter={"address": living_at("Ann Janssens"), "channels": ("print",)},
        journeys=[("print", "dispatched", None)],
        copies=(0, 1),
    ),
    Case(
        what="without channels the authorisation's order counts, and what cannot serve is left out",
        letter={"enterprise_number": FINE_COMPANY},
        journeys=[("ebox-enterprise", "delivered", None)],
        copies=(1, 0),
    ),
    Case(
        what="a box that was never opened gets the letter, and paper goes too",
        letter={"ssin": magic.CITIZEN_NO_BOX, "channels": EBOX_THEN_PRINT},
        journeys=[("ebox-citizen", "delivered", "no-digital-user"), ("print", "dispatched", None)],
        copies=(1, 1),
    ),
    Case(
        what="a box that was never opened, without a rule for it: the e-Box alone",
        letter={"ssin": magic.CITIZEN_NO_BOX, "channels": EBOX_THEN_PRINT},
        journeys=[("ebox-citizen", "delivered", "no-digital-user")],
        copies=(1, 0),
        rules=NO_RULES,
    ),
    Case(
        what="a citizen without consent gets paper",
        letter={"ssin": magic.CITIZEN_NO_CONSENT, "channels": EBOX_THEN_PRINT},
        journeys=[("ebox-citizen", "rejected", "no-consent"), ("print", "dispatched", None)],
        copies=(0, 1),
    ),
    Case(
        what="a citizen without consent, without a rule for it: undeliverable",
        letter={"ssin": magic.CITIZEN_NO_CONSENT, "channels": EBOX_THEN_PRINT},
        journeys=[("ebox-citizen", "rejected", "no-consent")],
        copies=(0, 0),
        status="undeliverable",
        rules=NO_RULES,
    ),
    Case(
        what="a company without a box gets paper",
        letter={"enterprise_number": magic.ENTERPRISE_NO_BOX, "channels": COMPANY_THEN_PRINT},
        journeys=[("ebox-enterprise", "rejected", "no-box"), ("print", "dispatched", None)],
        copies=(0, 1),
    ),
    Case(
        what="refused by the e-Box: paper",
        letter={"ssin": magic.CITIZEN_REFUSED, "channels": EBOX_THEN_PRINT},
        journeys=[("ebox-citizen", "rejected", "refused"), ("print", "dispatched", None)],
        copies=(0, 1),
    ),
    Case(
        what="refused by the e-Box, without a rule for it: undeliverable",
        letter={"ssin": magic.CITIZEN_REFUSED, "channels": EBOX_THEN_PRINT},
        journeys=[("ebox-citizen", "rejected", "refused")],
        copies=(0, 0),
        status="undeliverable",
        rules=NO_RULES,
    ),
    Case(
        what="refused by the e-Box and by the print house: undeliverable",
        letter={
            "ssin": magic.CITIZEN_REFUSED,
            "address": living_at(magic.PRINT_NAMES[PrintFate.REFUSED]),
            "channels": EBOX_THEN_PRINT,
        },
        journeys=[("ebox-citizen", "rejected", "refused"), ("print", "rejected", "refused")],
        copies=(0, 0),
        status="undeliverable",
    ),
    Case(
        what="in a box that was never opened, and refused by the print house: it did arrive",
        letter={
            "ssin": magic.CITIZEN_NO_BOX,
            "address": living_at(magic.PRINT_NAMES[PrintFate.REFUSED]),
            "channels": EBOX_THEN_PRINT,
        },
        journeys=[("ebox-citizen", "delivered", "no-digital-user"), ("print", "rejected", "refused")],
        copies=(1, 0),
    ),
    Case(
        what="print first, refused: the rules lead to the e-Box as well",
        letter={
            "ssin": magic.CITIZEN_FINE,
            "address": living_at(magic.PRINT_NAMES[PrintFate.REFUSED]),
            "channels": ("print", "ebox-citizen"),
        },
        journeys=[("print", "rejected", "refused"), ("ebox-citizen", "delivered", None)],
        copies=(1, 0),
    ),
    Case(
        what="a slow print house is waited for",
        letter={"address": living_at(magic.PRINT_NAMES[PrintFate.SLOW]), "channels": ("print",)},
        journeys=[("print", "dispatched", None)],
        copies=(0, 1),
    ),
    Case(
        what="registered mail goes on paper, and has arrived only when it is in somebody's hands",
        letter={
            "ssin": magic.CITIZEN_FINE,
            "channels": EBOX_THEN_PRINT,
            "print_options": PrintOptions(product=PrintProduct.REGISTERED),
        },
        journeys=[("print", "delivered", None)],
        copies=(0, 1),
    ),
    Case(
        what="registered mail that nobody collected comes back",
        letter={
            "address": living_at(magic.PRINT_NAMES[PrintFate.NOT_COLLECTED]),
            "channels": ("print",),
            "print_options": PrintOptions(product=PrintProduct.REGISTERED),
        },
        journeys=[("print", "returned", None)],
        copies=(0, 1),
        status="returned",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
async def test_a_letter_takes_the_channels_that_its_rules_name(make_bench: Any, case: Case) -> None:
    bench = await make_bench(authorisation=case.rules)
    record = await bench.settled(await bench.send(**case.letter))
    journeys = [(delivery.channel, delivery.status, delivery.reason) for delivery in record.deliveries]
    assert journeys == case.journeys
    assert record.status == case.status
    assert bench.copies() == case.copies
    view = await bench.sender.view(str(record.message_id))
    assert [(each["channel"], each["status"]) for each in view["deliveries"]] == [step[:2] for step in case.journeys]


async def test_a_sender_without_mandate_waits_alone(make_bench: Any) -> None:
    bench = await make_bench(ebox={"mandates": [("0566988259", DEMO_ORGANISATION)]})
    other = await bench.house.sender("belasting")
    blocked = [await bench.send(channels=("ebox-citizen",)) for _ in range(6)]  # the circuit would open at five
    for message_id in blocked:
        await bench.until(message_id, lambda record: record.deliveries[0].attempts >= 1, leaping=False)
    message = await other.accepted(channels=("ebox-citizen",))
    await other.until(message, lambda view: view["status"] == "delivered")
    assert bench.copies() == (1, 0)
    assert await bench.metric("gateway_attempts_total", provider="bosa", outcome="blocked") >= 6
    assert {(await bench.record(message_id)).status for message_id in blocked} == {"in-delivery"}
