"""`gateway senders …` and `gateway reload` as people at a terminal meet them."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.cli import main
from gateway.domain.staff import Role

GEMEENTE = "0406798006"
Run = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def run(premises: Any, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command against the premises; return exit code, stdout and stderr."""

    def carry_out(words: list[str]) -> int:
        try:
            return main(words)
        except SystemExit as left:
            return int(left.code or 0)

    async def command(*words: str) -> tuple[int, str, str]:
        where = ["--config", str(premises.files.config)]
        code = await asyncio.to_thread(carry_out, [*words, *where])
        told = capsys.readouterr()
        return code, told.out, told.err

    return command


def deactivate(values: Any) -> None:
    values["active"] = False


async def test_a_change_is_looked_at_applied_and_then_in_force(premises: Any, run: Run) -> None:
    code, out, _ = await run("senders", "diff")
    assert (code, out) == (0, "the files are those of registration 1, which is in force\n")
    await premises.edit(premises.files.sender(GEMEENTE), deactivate)
    code, out, _ = await run("senders", "diff")
    change, verdict = out.splitlines()
    assert (code, change) == (0, f"~ sender {GEMEENTE}: active yes -> no")
    told, _, digest = verdict.rpartition(" ")
    assert told == "registration 1 would become 2, digest"
    code, out, _ = await run("senders", "apply", "--digest", digest, "--reason", "their contract ended")
    assert (code, out.splitlines()) == (0, [change, "registration 2 is in force, after 1"])
    code, out, _ = await run("senders", "apply", "--reason", "once more")
    assert (code, out) == (0, "nothing to change: what the files say is in force (registration 2)\n")


async def test_a_comment_is_told_as_such(premises: Any, run: Run) -> None:
    file = premises.files.sender(GEMEENTE)
    await asyncio.to_thread(file.write_text, file.read_text() + "\n# seen\n")
    _, out, _ = await run("senders", "apply", "--reason", "seen by the auditor")
    assert out.splitlines() == ["no more than comments or layout", "registration 2 is in force, after 1"]


async def test_what_stands_in_the_way_is_shown_before_and_told_after(premises: Any, run: Run) -> None:
    await (await premises.house.sender("belasting")).accepted()
    await asyncio.to_thread(premises.files.sender("0566988259").unlink)
    await premises.edit(premises.files.sender(GEMEENTE), lambda values: values.pop("processors"))
    code, out, _ = await run("senders", "diff")
    assert (code, out.splitlines()[-1]) == (0, "refused as long as 1 messages need sender 0566988259")
    code, out, err = await run("senders", "apply", "--reason", "they left")
    assert (code, out) == (1, "")
    assert "sender 0566988259 1 messages under way need it" in err


async def test_mistakes_are_told_with_their_places(premises: Any, run: Run) -> None:
    await premises.edit(premises.files.sender(GEMEENTE), lambda values: values.update(typo=1))
    for words in (["diff"], ["apply", "--reason", "a test"]):
        code, _, err = await run("senders", *words)
        assert (code, f"senders/{GEMEENTE}.toml: typo is not known here" in err) == (1, True)


async def test_a_sender_is_suspended_listed_and_resumed(premises: Any, run: Run) -> None:
    wire = await premises.wire()
    assert (await wire.ask())[0] == 200
    code, out, _ = await run("senders", "suspend", GEMEENTE, "--reason", "their key was stolen")
    assert (code, out) == (0, f"{GEMEENTE} Gemeente Voorbeeld: suspended; 1 connections closed\n")
    code, out, _ = await run("senders", "list")
    version, head, suspended, other = out.splitlines()
    assert (code, version, head.split()[0]) == (0, "registration 1", "NUMBER")
    assert (GEMEENTE in suspended, "their key was stolen" in suspended, other.split()[-1]) == (True, True, "-")
    code, out, _ = await run("senders", "resume", GEMEENTE, "--reason", "they have another")
    assert (code, out) == (0, f"{GEMEENTE} Gemeente Voorbeeld: resumed\n")
    code, _, err = await run("senders", "resume", GEMEENTE, "--reason", "they have another")
    assert (code, "not suspended" in err) == (1, True)


async def test_a_reload_is_shown_before_it_is_made_and_when_it_is_made(premises: Any, run: Run) -> None:
    await asyncio.to_thread(premises.files.write_staff, Role.OPERATOR)
    await premises.house.gateway.reload()
    await asyncio.to_thread(premises.files.renew, "server")
    words = ["reload", "--reason", "renewed"]
    code, out, _ = await run(*words, "--dry-run")
    change, *rest = out.splitlines()
    assert (code, change.split(":")[0], rest) == (0, "~ certificate of intake", ["nothing was changed (dry run)"])
    code, out, _ = await run(*words)
    assert (code, out.splitlines()) == (0, [change, "registration 1 is in force"])
    code, out, _ = await run(*words, "--json")
    assert (code, json.loads(out)["changes"]) == (0, [])


@pytest.mark.parametrize(
    "words",
    [
        ["senders", "apply"],
        ["senders", "suspend", GEMEENTE],
        ["senders", "suspend", "0406798007", "--reason", "a reason"],
        ["senders", "resume", GEMEENTE, "--reason", "x"],
        ["reload"],
        ["reload", "--reason", "about 90610100155"],
        ["senders"],
    ],
)
async def test_a_command_without_what_it_needs_is_wrong_use(run: Run, words: list[str]) -> None:
    code, out, err = await run(*words)
    assert (code, out, "usage: gateway" in err) == (2, "", True)
