import argparse
import asyncio
import errno
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.admin import tables
from gateway.admin.asking import DONE, NOT_RUNNING, REFUSED, USAGE
from gateway.admin.commands import add_commands
from gateway.domain.message import Channel
from gateway.domain.staff import Role, Staff
from gateway.errors import Refused

EBOX = Channel.EBOX_CITIZEN
ID = "0190163d-8694-739b-aea5-966c26f8ad90"
DEVELOPMENT_CONFIG = Path(__file__).parents[2] / "config" / "gateway.dev.toml"
EVERY_COMMAND = [
    ["ops", "doubts"],
    ["ops", "late"],
    ["ops", "show", ID],
    ["ops", "decide", ID, "accepted", "--reason", "asked them"],
    ["status"],
]
Run = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line as the program does, in a thread of its own; return exit code, stdout and stderr."""
    parser = argparse.ArgumentParser(prog="gateway")
    add_commands(parser.add_subparsers(required=True))

    def carry_out(words: list[str]) -> int:
        try:
            args = parser.parse_args(words)
            code: int = args.run(args)
        except SystemExit as left:
            return int(left.code or 0)
        return code

    async def run(*words: object) -> tuple[int, str, str]:
        code = await asyncio.to_thread(carry_out, [str(word) for word in words])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


# ── what people see ──


async def test_without_doubts_there_is_nothing_to_list(admin: Any, run_command: Run) -> None:
    assert await run_command("ops", "doubts", "--socket", admin.path) == (
        DONE,
        "no delivery waits for a decision\n",
        "",
    )


async def test_doubts_are_listed_for_people(office: Any, admin: Any, run_command: Run) -> None:
    doubt = await office.in_doubt(EBOX)
    code, out, _ = await run_command("ops", "doubts", "--socket", admin.path)
    head, row = out.splitlines()
    assert (code, head.split()[:2]) == (DONE, ["DELIVERY", "MESSAGE"])
    assert row.startswith(f"{doubt.delivery_id}  {doubt.message_id}  0406798006")
    assert row.endswith("accepted, not-accepted, give-up")
    assert head.index("SENDER") == row.index("0406798006")


async def test_doubts_are_listed_for_programs(office: Any, admin: Any, run_command: Run) -> None:
    doubt = await office.in_doubt(EBOX)
    code, out, _ = await run_command("ops", "doubts", "--socket", admin.path, "--json")
    assert (code, json.loads(out)["doubts"][0]["deliveryId"]) == (DONE, str(doubt.delivery_id))


async def test_a_decision_is_shown_before_it_is_made_and_when_it_is_made(
    office: Any, admin: Any, run_command: Run
) -> None:
    doubt = await office.in_doubt(EBOX, Channel.PRINT, fallback=frozenset({"refused"}))
    words = ["ops", "decide", doubt.delivery_id, "give-up", "--reason", "not theirs", "--socket", admin.path]
    code, out, _ = await run_command(*words, "--dry-run")
    assert (code, "would become" in out, "nothing was changed" in out) == (DONE, True, True)
    assert await office.ledger.to_decide() == [doubt]
    code, out, _ = await run_command(*words)
    assert (code, "has become" in out, "next channel: print" in out) == (DONE, True, True)
    assert await office.ledger.to_decide() == []
    assert office.log("admin")[-1]["what"]["reason"] == "not theirs"


async def test_the_providers_own_id_goes_along_with_accepted(office: Any, admin: Any, run_command: Run) -> None:
    doubt = await office.in_doubt(EBOX)
    words = ["ops", "decide", doubt.delivery_id, "accepted", "--reason", "they have it", "--socket", admin.path]
    assert (await run_command(*words, "--provider-reference", "registry-9"))[0] == DONE
    message = await office.message(doubt.message_id)
    assert message.deliveries[0].provider_reference == "registry-9"


async def test_a_message_and_the_status_are_shown(office: Any, admin: Any, run_command: Run) -> None:
    doubt = await office.in_doubt(EBOX)
    code, out, _ = await run_command("ops", "show", doubt.message_id, "--socket", admin.path)
    assert (code, "needs-decision" in out, str(doubt.delivery_id) in out) == (DONE, True, True)
    code, out, _ = await run_command("status", "--socket", admin.path)
    assert (code, "gateway.test" in out, "version 7" in out) == (DONE, True, True)


async def test_late_deliveries_are_listed(office: Any, admin: Any, run_command: Run) -> None:
    assert (await run_command("ops", "late", "--socket", admin.path))[1] == "no delivery is late\n"
    message = await office.post(EBOX)
    office.clock.now = message.deliveries[0].deadline_at.replace(year=2027)
    code, out, _ = await run_command("ops", "late", "--socket", admin.path)
    assert (code, str(message.message_id) in out) == (DONE, True)
    assert out.splitlines()[-1].startswith("worker, send: see that workers run")


async def test_overdue_erasures_are_listed_below(office: Any, admin: Any, run_command: Run) -> None:
    doubt = await office.in_doubt(EBOX)
    await admin.decide(doubt, "accepted")
    office.clock.advance(timedelta(hours=2))
    _, out, _ = await run_command("ops", "late", "--socket", admin.path)
    none, told, message = out.splitlines()
    assert none == "no delivery is late"
    assert told.startswith(
        "messages whose documents are past their date of erasure: 1, the oldest since 2026-11-22T10:"
    )
    assert message.split() == ["message", str(doubt.message_id), "of", "0406798006"]


async def test_what_a_provider_said_cannot_steer_the_terminal(office: Any, admin: Any, run_command: Run) -> None:
    office.providers["bosa"].send_answer = Refused(reason="refused", code="\x1b[2J\nDONE")
    message = await office.post(EBOX)
    await office.work()
    shown = await office.message(message.message_id)
    row = {"deliveryId": shown.deliveries[0].code}
    assert tables.doubts({"doubts": [row], "total": 1}).splitlines()[1].split()[0] == "?[2J?DONE"


def test_a_cut_list_tells_how_many_more_there_are() -> None:
    shown = tables.late({"late": [{"deliveryId": ID}], "total": 1_001, "erasures": {}})
    assert shown.splitlines()[-1] == "and 1000 more"


# ── the exit code ──


@pytest.mark.parametrize("words", EVERY_COMMAND, ids=lambda words: " ".join(words[:2]))
async def test_who_is_no_member_of_staff_is_told_so(admin: Any, run_command: Run, words: list[str]) -> None:
    admin.uid = 4444
    code, out, err = await run_command(*words, "--socket", admin.path)
    assert (code, out) == (REFUSED, "")
    assert "user id 4444 is no member of staff" in err


async def test_who_lacks_the_role_is_told_so(admin: Any, run_command: Run, make_person: Any) -> None:
    admin.staff = Staff(persons=(make_person("A Supporter", admin.uid, Role.SUPPORT),))
    code, _, err = await run_command(*EVERY_COMMAND[3], "--socket", admin.path)
    assert (code, "none of your roles may modify messages" in err) == (REFUSED, True)


async def test_a_refusal_is_a_problem_document_for_programs(admin: Any, run_command: Run) -> None:
    code, out, err = await run_command(*EVERY_COMMAND[3], "--socket", admin.path, "--json")
    assert (code, json.loads(out)["type"]) == (REFUSED, "urn:document-gateway:problem:not-waiting")
    assert err.startswith("gateway: refused: ")


@pytest.mark.parametrize("words", EVERY_COMMAND, ids=lambda words: " ".join(words[:2]))
async def test_a_gateway_that_does_not_run_has_an_exit_code_of_its_own(
    run_command: Run, socket_path: Path, words: list[str]
) -> None:
    code, out, err = await run_command(*words, "--socket", socket_path)
    assert (code, out) == (NOT_RUNNING, "")
    assert f"no gateway answers at {socket_path}" in err


async def test_an_account_that_may_not_reach_the_socket_is_told_so(
    run_command: Run, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forbidden(*_arguments: object, **_options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(asyncio.SelectorEventLoop, "create_unix_connection", forbidden)
    code, _, err = await run_command("status", "--socket", socket_path)
    assert (code, "this account may not reach the admin socket" in err) == (REFUSED, True)


@asynccontextmanager
async def answering(path: Path, answer: bytes) -> AsyncIterator[None]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    path.parent.mkdir()
    async with await asyncio.start_unix_server(serve, path):
        yield


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"not HTTP at all\r\n\r\n",
    ],
)
async def test_a_lost_answer_says_that_the_decision_may_have_been_carried_out(
    run_command: Run, socket_path: Path, answer: bytes
) -> None:
    async with answering(socket_path, answer):
        code, out, err = await run_command(*EVERY_COMMAND[3], "--socket", socket_path)
    assert (code, out) == (NOT_RUNNING, "")
    assert "may have been carried out" in err


@pytest.mark.parametrize(
    "words",
    [
        ["ops"],
        ["ops", "show"],
        ["ops", "show", "not-an-id"],
        ["ops", "decide", ID, "accepted"],
        ["ops", "decide", ID, "accepted", "--reason", "no"],
        ["ops", "decide", ID, "accepted", "--reason", "x" * 501],
        ["ops", "decide", ID, "accepted", "--reason", "it was 90610100155"],
        ["ops", "decide", ID, "maybe", "--reason", "asked them"],
        ["ops", "doubts", "--socket", "a", "--config", "b"],
    ],
)
async def test_wrong_use_is_told_before_anything_is_asked(run_command: Run, words: list[str]) -> None:
    code, out, err = await run_command(*words)
    assert (code, out) == (USAGE, "")
    assert err.startswith("usage: gateway")


# ── which socket ──


async def test_the_socket_stands_in_the_configuration(admin: Any, run_command: Run, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    text = await asyncio.to_thread(DEVELOPMENT_CONFIG.read_text)
    await asyncio.to_thread(config.write_text, f'{text}\n[admin]\nsocket = "{admin.path}"\n')
    code, out, _ = await run_command("status", "--config", config)
    assert (code, "gateway.test" in out) == (DONE, True)


@pytest.mark.parametrize("text", [None, "", "gateway = 1"])
async def test_a_configuration_that_cannot_be_used_is_wrong_use(
    run_command: Run, tmp_path: Path, text: str | None
) -> None:
    config = tmp_path / "gateway.toml"
    if text is not None:
        await asyncio.to_thread(config.write_text, text)
    code, _, err = await run_command("status", "--config", config)
    assert (code, "which cannot be used" in err) == (USAGE, True)
