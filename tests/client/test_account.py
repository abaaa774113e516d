"""Cancelling, the feed, evidence and whoami, from Python and from the command line, against a real gateway."""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from gateway.app import Part as RunningPart
from gateway.client import commands
from gateway.client.api import GatewayClient
from gateway.client.feed import EventPage
from gateway.client.problems import EvidenceWrong, Problem, UnexpectedAnswer
from gateway.client.sender import load_sender
from gateway.demo.letters import letter_pdf

if TYPE_CHECKING:
    from tests.plugins.house import House
else:
    from house import House

Fake = Any
WAIT_S = 30.0
UNKNOWN = UUID("01a2014e-92d4-7f37-a359-d66bd764a1fe")


@pytest.fixture
def pdf() -> bytes:
    """The letters that a house sends, other than a client's file."""
    return letter_pdf("Uw aanslagbiljet", ["Geachte heer Peeters,"])


@pytest.fixture
async def quiet(make_house: Any) -> House:
    """A gateway that takes letters and delivers none."""
    house: House = await make_house(parts=[RunningPart.INTAKE, RunningPart.SWEEPER])
    return house


@pytest.fixture
async def gateway(
    quiet: House, write_sender: Callable[..., Path], open_client: Callable[..., GatewayClient]
) -> AsyncIterator[GatewayClient]:
    assert quiet.gateway.intake_port is not None
    sender = await asyncio.to_thread(lambda: load_sender(write_sender(quiet.gateway.intake_port)))
    async with open_client(sender) as client:
        yield client


async def events_of(gateway: GatewayClient, count: int) -> EventPage:
    async with asyncio.timeout(WAIT_S):
        while True:
            page = await gateway.events()
            if len(page.events) >= count:
                return page
            await asyncio.sleep(0.02)


async def test_a_message_is_cancelled_once_and_told_so_again(quiet: House, gateway: GatewayClient) -> None:
    message_id = UUID(await (await quiet.sender()).accepted())
    for _ in range(2):
        state = await gateway.cancel(message_id)
        assert (state.message_id, state.status, state.final) == (message_id, "cancelled", True)
    with pytest.raises(Problem, match="not-found"):
        await gateway.cancel(UNKNOWN)


async def test_the_feed_is_read_page_by_page(quiet: House, gateway: GatewayClient) -> None:
    sender = await quiet.sender()
    ids = [UUID(await sender.accepted(reference=f"r-{number}")) for number in range(3)]
    await gateway.cancel(ids[0])
    page = await events_of(gateway, 4)
    assert [(event.number, event.event, event.reference) for event in page.events] == [
        (1, "accepted", "r-0"), (2, "accepted", "r-1"), (3, "accepted", "r-2"), (4, "cancelled", "r-0"),
    ]  # fmt: skip
    assert [event.message_id for event in page.events] == [*ids, ids[0]]
    assert [event.status for event in page.events] == ["accepted"] * 3 + ["cancelled"]
    assert page.events[3].facts["deliveryStatus"] == "cancelled"
    assert page.more is False
    first = await gateway.events(limit=3)
    assert (first.events, first.more, first.epoch) == (page.events[:3], True, page.epoch)
    assert (await gateway.events(first.next_cursor)).events == page.events[3:]
    assert (await gateway.events(page.next_cursor)).events == ()
    with pytest.raises(Problem, match="bad-request"):
        await gateway.events("elsewhere")


async def test_evidence_comes_verified_and_in_order(quiet: House, gateway: GatewayClient) -> None:
    message_id = UUID(await (await quiet.sender()).accepted())
    await gateway.cancel(message_id)
    proven = await gateway.evidence(message_id)
    assert [(each.facts.number, each.facts.event) for each in proven] == [(1, "accepted"), (2, "cancelled")]
    assert {each.facts.message_id for each in proven} == {message_id}
    assert [each.jws for each in await gateway.evidence(message_id)] == [each.jws for each in proven]
    with pytest.raises(Problem, match="not-found"):
        await gateway.evidence(UNKNOWN)


async def test_evidence_of_another_signer_or_about_another_message_is_not_believed(
    quiet: House, gateway: GatewayClient, write_sender: Callable[..., Path], open_client: Any, certs: Path
) -> None:
    sender = await quiet.sender()
    one, other = [UUID(await sender.accepted()) for _ in range(2)]
    wrong = await asyncio.to_thread(
        lambda: load_sender(write_sender(quiet.gateway.intake_port or 0, receipt_certificate=str(certs / "server.pem")))
    )
    async with open_client(wrong) as client:
        with pytest.raises(EvidenceWrong, match="x5c"):
            await client.evidence(one)
    (statement,) = await gateway.evidence(one)
    with pytest.raises(EvidenceWrong, match="about another message"):
        gateway._proven(statement.jws, other, 1)


async def test_the_gateway_tells_what_it_sees_of_us(quiet: House, gateway: GatewayClient) -> None:
    account = await gateway.whoami()
    assert (account.gateway, account.party, account.sender_number) == (
        "gateway.dev.example",
        "0406798006",
        "0406798006",
    )
    assert account.clock_skew_s is not None
    assert abs(account.clock_skew_s) <= 30
    assert account.certificate_days_left > 300
    (profile,) = account.profiles
    assert (profile.id, profile.quotas["messages"].used) == ("burgerzaken", 0)


async def test_an_answer_without_its_cursor_is_not_believed(fake: Fake, client: GatewayClient) -> None:
    fake.pages = [{"events": [], "more": False, "epoch": "00"}]
    with pytest.raises(UnexpectedAnswer):
        await client.events()


# ── Commands ──


@pytest.fixture
def run(quiet: House, write_sender: Callable[..., Path], open_client: Any) -> Callable[..., Any]:
    """Runs a command line in a thread of its own, as the process would."""
    assert quiet.gateway.intake_port is not None
    sender_file = write_sender(quiet.gateway.intake_port)

    def go(arguments: tuple[object, ...]) -> int:
        parser = argparse.ArgumentParser(prog="gateway")
        commands.add_commands(parser.add_subparsers(required=True))
        args = parser.parse_args(["client", *map(str, arguments), "--sender", str(sender_file)])
        return commands.run(args, open_client=open_client)

    return lambda *arguments: asyncio.to_thread(go, arguments)


async def test_the_commands_cancel_and_show_events(
    quiet: House, gateway: GatewayClient, run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    message_id = await (await quiet.sender()).accepted(reference="r-1")
    assert await run("cancel", message_id) == 0
    assert capsys.readouterr().out.startswith(f"Message {message_id}: cancelled\n")
    page = await events_of(gateway, 2)
    assert await run("events") == 0
    out = capsys.readouterr().out.splitlines()
    assert ["accepted" in out[0], "r-1" in out[0], "cancelled" in out[1]] == [True, True, True]
    assert out[2] == f"Look again later with --after {page.next_cursor}"
    assert await run("events", "--limit", 1) == 0
    assert "There is more; go on with --after " in capsys.readouterr().out
    assert await run("events", "--after", page.next_cursor) == 0
    assert capsys.readouterr().out.startswith("Nothing that you were not shown before.\n")
    assert await run("events", "--json") == 0
    assert [event["number"] for event in json.loads(capsys.readouterr().out)["events"]] == [1, 2]
    assert await run("cancel", UNKNOWN) == 1
    assert "not-found" in capsys.readouterr().err


async def test_the_command_shows_what_the_gateway_sees(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert await run("whoami") == 0
    out = capsys.readouterr().out
    for text in (
        "0406798006 Gemeente Voorbeeld", "gateway.dev.example", "Profile burgerzaken: Burgerzaken Voorbeeld",
        "tax-assessment by ebox-citizen, ebox-enterprise, print\n", "0 today, 50000 of 50000 left",
        "s from the gateway's",
        "building-permit by ebox-citizen, print, to those about whom you registered a dossier",
    ):  # fmt: skip
        assert text in out
    assert await run("whoami", "--json") == 0
    assert json.loads(capsys.readouterr().out)["party"] == "0406798006"
