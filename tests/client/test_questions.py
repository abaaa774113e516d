from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest

from gateway.client.answers import MessageState
from gateway.client.api import FollowRules, GatewayClient
from gateway.client.problems import LetterInvalid, NotReached, Problem, UnexpectedAnswer
from gateway.client.sender import SenderProfile
from gateway.domain.ids import EnterpriseNumber, Ssin
from gateway.domain.message import PostalAddress, Recipient

Fake = Any
IDS = [UUID(int=(0x0190163D8694739BAEA50000 << 32) + number) for number in range(1_200)]
PERSON = Recipient(ssin=Ssin("90610100155"))


async def test_a_message_is_shown_with_its_journey(fake: Fake, client: GatewayClient) -> None:
    fake.states.append(
        fake.state(
            IDS[0],
            "r-1",
            "delivered",
            final=True,
            timeline=[{"at": "2026-11-22T10:00:01.250Z", "event": "status", "channel": "print", "number": 2}],
            skippedChannels=[{"channel": "print", "why": "no-address"}],
            receipt="a.b.c",
            addedLater={"by": "a newer gateway"},
        )
    )
    state = await client.status(IDS[0])
    assert fake.asked == [(f"/api/v1/messages/{IDS[0]}", {}, None)]
    assert (state.message_id, state.reference, state.status, state.final) == (IDS[0], "r-1", "delivered", True)
    assert state.accepted_at == datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert state.timeline[0].at == datetime(2026, 11, 22, 10, 0, 1, 250_000, tzinfo=UTC)
    assert state.timeline[0].facts == {"channel": "print", "number": 2}
    assert state.skipped_channels == (("print", "no-address"),)
    assert (state.deliveries[0].channel, state.copy.retrievals, state.receipt) == ("ebox-citizen", 0, "a.b.c")


async def test_a_message_of_nobody_is_a_problem(fake: Fake, client: GatewayClient) -> None:
    with pytest.raises(Problem, match="not-found") as found:
        await client.status(IDS[0])
    assert found.value.status == 404


@pytest.mark.parametrize("spoilt", [{"messageId": "x"}, {"deliveries": None}, {"status": 1}, {"acceptedAt": "today"}])
async def test_an_answer_that_breaks_the_interface_is_not_believed(
    fake: Fake, client: GatewayClient, spoilt: dict[str, Any]
) -> None:
    fake.states.append(fake.state(IDS[0], "r-1") | spoilt)
    with pytest.raises(UnexpectedAnswer):
        await client.status(IDS[0])


async def test_a_reference_is_found_in_the_senders_own_profile(fake: Fake, client: GatewayClient) -> None:
    other = fake.state(IDS[0], "r-1") | {"profile": "parkeren"}
    fake.pages = [{"messages": [other, fake.state(IDS[1], "r-1")]}]
    fake.states.append(fake.state(IDS[1], "r-1"))
    state = await client.find("r-1")
    assert state is not None
    assert state.message_id == IDS[1]
    assert fake.asked[0] == ("/api/v1/messages", {"reference": "r-1", "limit": "100"}, None)


async def test_a_reference_that_is_not_there_is_none(fake: Fake, client: GatewayClient) -> None:
    fake.pages = [{"messages": []}]
    assert await client.find("r-1") is None


async def test_pages_are_followed_to_their_end(fake: Fake, client: GatewayClient) -> None:
    fake.pages = [
        {"messages": [fake.state(IDS[0], "a"), fake.state(IDS[1], "b")], "nextCursor": "c-1"},
        {"messages": [fake.state(IDS[2], "c")], "nextCursor": "c-2"},
        {"messages": []},
    ]
    since = datetime(2026, 11, 1, tzinfo=UTC)
    found = [state.reference async for state in client.messages(status="accepted", accepted_from=since, page_size=2)]
    assert found == ["a", "b", "c"]
    first = {"status": "accepted", "from": "2026-11-01T00:00:00Z", "limit": "2"}
    assert [query for _, query, _ in fake.asked] == [first, first | {"cursor": "c-1"}, first | {"cursor": "c-2"}]


async def test_many_statuses_are_asked_500_at_a_time_and_each_once(fake: Fake, client: GatewayClient) -> None:
    fake.pages = [
        {"messages": [fake.state(IDS[0], "a")], "unknown": []},
        {"messages": [], "unknown": []},
        {"messages": [fake.state(IDS[1_199], "z")], "unknown": []},
    ]
    found = await client.status_many([*IDS, *IDS])
    assert {message_id: state.reference for message_id, state in found.items()} == {IDS[0]: "a", IDS[1_199]: "z"}
    chunks = [[item["messageId"] for item in body["messages"]] for _, _, body in fake.asked]
    assert [len(chunk) for chunk in chunks] == [500, 500, 200]
    assert [text for chunk in chunks for text in chunk] == [str(each) for each in IDS]


async def test_a_question_is_asked_again_after_trouble(fake: Fake, client: GatewayClient, waits: list[float]) -> None:
    fake.pages = [{"problem": 503, "code": "overloaded"}, {"messages": [], "unknown": []}]
    assert await client.status_many(IDS[:1]) == {}
    assert len(waits) == 1


async def test_following_tells_every_change_and_looks_ever_less_often_between(
    fake: Fake, client: GatewayClient, waits: list[float]
) -> None:
    for status in ("accepted", "accepted", "accepted", "accepted", "in-delivery", "in-delivery", "delivered"):
        fake.states.append(fake.state(IDS[0], "r-1", status))
    rules = FollowRules(first_wait_s=1, longest_wait_s=3, factor=2)
    seen = [state.status async for state in client.follow(IDS[0], rules=rules)]
    assert seen == ["accepted", "in-delivery", "delivered"]
    assert waits == [1, 2, 3, 3, 1, 2]


@pytest.mark.parametrize(
    ("status", "final", "ends"),
    [
        ("accepted", False, False),
        ("scheduled", False, False),
        ("in-delivery", False, False),
        ("delivered", False, True),
        ("returned", False, True),
        ("undeliverable", True, True),
        ("needs-decision", False, True),
        ("cancelled", True, True),
        ("expired", True, True),
        ("a-newer-word", False, False),
        ("a-newer-word", True, True),
    ],
)
async def test_following_ends_where_nothing_more_is_to_be_seen(
    fake: Fake, client: GatewayClient, waits: list[float], *, status: str, final: bool, ends: bool
) -> None:
    fake.states += [fake.state(IDS[0], "r-1", status, final=final), fake.state(IDS[0], "r-1", "cancelled", final=True)]
    seen = [state.status async for state in client.follow(IDS[0])]
    assert seen == [status] if ends else seen == [status, "cancelled"]
    assert len(waits) == (0 if ends else 1)


async def test_following_may_be_told_when_to_end(fake: Fake, client: GatewayClient) -> None:
    read = fake.state(IDS[0], "r-1", "delivered")
    read["deliveries"][0]["readSeenAt"] = "2026-11-23T08:00:00Z"
    fake.states += [fake.state(IDS[0], "r-1", "delivered"), read]

    def was_read(state: MessageState) -> bool:
        return any(delivery.read_seen_at for delivery in state.deliveries)

    assert len([state async for state in client.follow(IDS[0], until=was_read)]) == 2


@pytest.mark.parametrize(
    ("about", "number"),
    [
        (PERSON, {"ssin": "90610100155"}),
        (Recipient(enterprise_number=EnterpriseNumber("0566988259")), {"enterpriseNumber": "0566988259"}),
    ],
)
async def test_a_dossier_is_registered(
    fake: Fake, client: GatewayClient, about: Recipient, number: dict[str, str]
) -> None:
    fake.pages = [{"dossiers": [{"dossierId": str(IDS[7])}]}]
    found = await client.register_dossier(
        about, category="building-permit", from_on=date(2026, 11, 22), until_on=date(2027, 1, 1)
    )
    assert found == IDS[7]
    wanted = {"recipient": number, "category": "building-permit", "from": "2026-11-22", "until": "2027-01-01"}
    assert fake.asked == [("/api/v1/dossiers", {}, {"dossiers": [wanted]})]


async def test_a_dossier_about_an_address_is_not_sent(fake: Fake, client: GatewayClient) -> None:
    address = PostalAddress(
        name="Jan", street="Markt", house_number="1", postcode="9000", municipality="Gent", country="BE"
    )
    with pytest.raises(LetterInvalid, match="/recipient"):
        await client.register_dossier(
            Recipient(address=address), category="building-permit", from_on=date(2026, 11, 22)
        )
    assert fake.asked == []


async def test_a_dossier_is_registered_again_when_a_busy_gateway_kept_nothing(
    fake: Fake, client: GatewayClient
) -> None:
    fake.pages = [{"problem": 503, "code": "overloaded"}, {"dossiers": [{"dossierId": str(IDS[7])}]}]
    await client.register_dossier(PERSON, category="building-permit", from_on=date(2026, 11, 22))
    assert len(fake.asked) == 2


@pytest.mark.parametrize(("status", "code"), [(503, "store-unavailable"), (500, "internal"), (429, "quota-exceeded")])
async def test_a_dossier_that_may_be_registered_is_not_registered_again(
    fake: Fake, client: GatewayClient, status: int, code: str
) -> None:
    fake.pages = [{"problem": status, "code": code}, {"dossiers": [{"dossierId": str(IDS[7])}]}]
    with pytest.raises(Problem, match=code):
        await client.register_dossier(PERSON, category="building-permit", from_on=date(2026, 11, 22))
    assert len(fake.asked) == 1


async def test_a_dossier_whose_answer_was_lost_may_be_registered_and_is_said_to_be(
    fake: Fake, client: GatewayClient, waits: list[float]
) -> None:
    fake.pages = [{"cut": True}]
    with pytest.raises(NotReached) as found:
        await client.register_dossier(PERSON, category="building-permit", from_on=date(2026, 11, 22))
    assert (found.value.sent, waits, len(fake.asked)) == (True, [], 1)


async def test_dossiers_about_a_person_are_looked_up_without_a_number_in_the_address(
    fake: Fake, client: GatewayClient
) -> None:
    dossier = {
        "dossierId": str(IDS[7]),
        "category": "building-permit",
        "from": "2026-11-22",
        "until": None,
        "registeredAt": "2026-11-22T10:00:00.000Z",
        "endedAt": None,
        "inForce": True,
    }
    fake.pages = [{"results": [{"dossiers": [dossier]}]}]
    [found] = await client.dossiers(PERSON)
    assert (found.dossier_id, found.from_on, found.until_on, found.in_force) == (IDS[7], date(2026, 11, 22), None, True)
    [(path, query, body)] = fake.asked
    assert "90610100155" not in path + str(query)
    assert body == {"recipients": [{"ssin": "90610100155"}]}


async def test_a_client_that_is_not_open_says_so(
    sender: SenderProfile, open_client: Callable[..., GatewayClient]
) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await open_client(sender).status(IDS[0])


async def test_every_question_says_for_whom(
    fake: Fake, sender: SenderProfile, open_client: Callable[..., GatewayClient]
) -> None:
    fake.pages = [{"messages": [], "unknown": []}]
    async with open_client(replace(sender, enterprise_number=EnterpriseNumber("0566988259"))) as client:
        await client.status_many(IDS[:1])
    assert fake.spoke_for == ["0566988259"]
