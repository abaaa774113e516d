"""Whatever goes wrong, no error and no address of a call tells who a letter is for."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.adapters.base import Handover
from gateway.domain.status import DeliveryStatus
from gateway.errors import GatewayError
from gateway.simulators import magic
from gateway.simulators.faults import FAULTS

WAITING = {"hang", "keep-then-hang", "slow"}
PASSING = sorted(set(FAULTS) - WAITING)


async def scan(letters: Any, *calls: Any) -> None:
    """Make the calls one by one; whatever they raise is ours and leaks nothing."""
    for call in calls:
        for outcome in await asyncio.gather(call(), return_exceptions=True):
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, GatewayError)
                assert letters.leaks(outcome) == []


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("operation", ["token", "consents", "mandate", "publish", "status"])
async def test_an_ebox_in_trouble_gives_nobody_away(
    *, ebox: Any, letters: Any, seen_urls: list[str], operation: str, fault: str
) -> None:
    ebox.simulator.faults.order(operation, fault, 4)
    adapter, parcel = ebox.adapter(), letters.to_citizen()
    handed = letters.handed(parcel, Handover(status=DeliveryStatus.DELIVERED, provider_reference="message-1"))
    await scan(
        letters,
        lambda: adapter.send(parcel, again=False),
        lambda: adapter.send(parcel, again=True),
        lambda: adapter.find(parcel.delivery_id),
        lambda: adapter.status(handed),
    )
    assert seen_urls
    assert not [url for url in seen_urls for datum in letters.personal if datum in url]


@pytest.mark.parametrize(
    "ssin",
    [magic.CITIZEN_NO_CONSENT, magic.CITIZEN_REFUSED, magic.CITIZEN_DOUBT, "90610100199"],
)
async def test_a_citizen_who_is_refused_is_not_named(ebox: Any, letters: Any, ssin: str) -> None:
    adapter, parcel = ebox.adapter(), letters.to_citizen(ssin)
    with pytest.raises(GatewayError) as caught:
        await adapter.send(parcel, again=False)
    assert ssin not in repr(caught.value) + str(caught.value)
    assert letters.leaks(caught.value) == []
    assert ssin not in repr(parcel) + repr(parcel.documents) + repr(
        letters.handed(parcel, Handover(status=DeliveryStatus.DELIVERED))
    )


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("operation", ["create", "status"])
async def test_a_print_house_in_trouble_gives_nobody_away(
    *, printing: Any, letters: Any, seen_urls: list[str], operation: str, fault: str
) -> None:
    adapter, parcel = printing.adapter(), letters.on_paper()
    printing.simulator.faults.order(operation, fault, 4)
    handed = letters.handed(parcel, Handover(status=DeliveryStatus.ACCEPTED))
    await scan(
        letters,
        lambda: adapter.send(parcel, again=False),
        lambda: adapter.find(parcel.delivery_id),
        lambda: adapter.status(handed),
    )
    assert seen_urls
    assert not [url for url in seen_urls for datum in letters.personal if datum in url]


async def test_an_answer_that_quotes_the_recipient_is_not_quoted(
    ebox: Any, printing: Any, letters: Any, stub: Any
) -> None:
    echo = dict.fromkeys(("code", "error", "status", "messageId", "requestId"), f"{magic.CITIZEN_FINE} Jan Peeters")
    citizen, paper = letters.to_citizen(), letters.on_paper(replace(letters.address, name="Jan Peeters"))
    on_ebox = letters.handed(citizen, Handover(status=DeliveryStatus.DELIVERED, provider_reference="m"))
    on_paper = letters.handed(paper, Handover(status=DeliveryStatus.ACCEPTED))
    registry = ebox.adapter(base_url=stub.url)
    elsewhere = ebox.adapter(token_url=stub.url)
    house = printing.adapter(base_url=stub.url)
    for status in (200, 201, 302, 400, 401, 403, 404, 409, 422, 429, 500):
        stub.answers(status, data={**echo, "errors": [echo], "reason": echo["code"]})
        await scan(
            letters,
            lambda: registry.send(citizen, again=False),
            lambda: registry.status(on_ebox),
            lambda: elsewhere.send(citizen, again=False),
            lambda: house.send(paper, again=False),
            lambda: house.find(paper.delivery_id),
            lambda: house.status(on_paper),
        )
    assert len(stub.requests) > 60
