import argparse
import asyncio
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from gateway.client import commands
from gateway.client.api import GatewayClient
from gateway.client.retrying import RetryRules
from gateway.client.transport import CallTiming
from gateway.crypto.dialects import Dialect
from gateway.domain.message import Channel, Cover, Lane, PrintOptions

Fake = Any
Run = Callable[..., Any]
ID = UUID("0190163d-8694-739b-aea5-966c26f8ad90")
LINES = "90610100155\nname: Jan Peeters\nstreet: Kerkstraat\nhouse number: 12\npostcode: 9000\nmunicipality: Gent\n"
LETTER = ("--category", "tax-assessment", "--purpose", "Aanslagbiljet 2026", "--subject", "Uw aanslagbiljet")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def parse(*arguments: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gateway")
    commands.add_commands(parser.add_subparsers(required=True))
    return parser.parse_args(["client", *map(str, arguments)])


@pytest.fixture
def run(open_client: Callable[..., GatewayClient], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line in a thread of its own, as the process would; `stdin` is what is piped or typed."""

    async def go(*arguments: object, stdin: io.StringIO | None = None, **changes: Any) -> int:
        monkeypatch.setattr("sys.stdin", stdin or io.StringIO(LINES))
        return await asyncio.to_thread(
            lambda: commands.run(parse(*arguments), open_client=partial(open_client, **changes))
        )

    return go


async def test_a_letter_is_sent_and_what_became_of_it_is_told(
    fake: Fake, run: Run, sender_file: Path, pdf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = await run("send", pdf, "--to", "-", *LETTER, "--reference", "2026-1", "--sender", sender_file)
    out, err = capsys.readouterr()
    [got] = fake.received
    view = fake.accepted["2026-1"][1]
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("Handed over at 20")
    assert f"  message     {view['messageId']}" in lines
    assert "  reference   2026-1" in lines
    assert "  delivery 1  e-Box citizen, waiting" in lines
    assert f"  upfile1     {got.digests[0][1]} bytes, sha256 {got.digests[0][0]}" in lines
    assert "  receipt     of gateway.dev.example, verified" in lines
    assert got.message.recipient.ssin == "90610100155"
    assert got.message.recipient.address.municipality == "Gent"


async def test_every_option_reaches_the_message(fake: Fake, run: Run, sender_file: Path, pdf: Path) -> None:
    code = await run(
        "send", pdf, pdf, "--to", "-", *LETTER, "--sender", sender_file, "--lang", "fr",
        "--channel", "print", "--channel", "ebox-citizen", "--billing-reference", "Afdeling 7",
        "--retention-days", 90, "--not-before", "2026-12-01T09:00:00+01:00", "--before", "2026-12-09T08:00:00Z",
        "--lane", "bulk", "--cover", "always", "--simplex", "--colour",
    )  # fmt: skip
    message = fake.received[0].message
    assert code == 0
    assert (message.language, message.channels) == ("fr", (Channel.PRINT, Channel.EBOX_CITIZEN))
    assert (message.billing_reference, message.lane) == ("Afdeling 7", Lane.BULK)
    assert message.retention is not None
    assert message.retention.days == 90
    assert message.deliver_not_before == datetime(2026, 12, 1, 8, tzinfo=UTC)
    assert message.deliver_before == datetime(2026, 12, 9, 8, tzinfo=UTC)
    assert message.print_options == PrintOptions(cover=Cover.ALWAYS, duplex=False, colour=True)
    assert [(each.part, each.main) for each in message.documents] == [("upfile1", True), ("upfile2", False)]


async def test_the_dialect_is_the_sender_files_unless_the_command_says_another(
    fake: Fake, run: Run, write_sender: Callable[..., Path], pdf: Path
) -> None:
    for stated, asked, used in (
        (None, (), Dialect.XML),
        ("xml", (), Dialect.XML),
        ("jws", (), Dialect.JWS),
        (None, ("--dialect", "jws"), Dialect.JWS),
        ("jws", ("--dialect", "xml"), Dialect.XML),
    ):
        file = write_sender(fake.port, dialect=stated)
        code = await run("send", pdf, "--to", "-", *LETTER, "--sender", file, *asked)
        assert (stated, asked, code, fake.received[-1].dialect) == (stated, asked, 0, used)


async def test_programs_get_one_json_object(
    fake: Fake, run: Run, sender_file: Path, pdf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.then_problem(503, "overloaded", "0")
    code = await run("send", pdf, "--to", "-", *LETTER, "--reference", "2026-1", "--sender", sender_file, "--json")
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    assert json.loads(out) == fake.accepted["2026-1"][1] | {"repeated": False, "tries": 2}


async def test_a_letter_handed_over_before_is_told_apart(
    run: Run, sender_file: Path, pdf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = ("send", pdf, "--to", "-", *LETTER, "--reference", "2026-1", "--sender", sender_file)
    assert [await run(*same), await run(*same)] == [0, 0]
    assert "Handed over before: the gateway has this letter since" in capsys.readouterr().out


async def test_trouble_on_the_way_is_told_while_it_lasts(
    fake: Fake, run: Run, sender_file: Path, pdf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.then_problem(409, "still-receiving", "3")
    assert await run("send", pdf, "--to", "-", *LETTER, "--sender", sender_file) == 0
    assert "Not taken for now: still-receiving (409); trying again in " in capsys.readouterr().err


async def test_a_refusal_is_told_in_the_gateways_words(
    fake: Fake, run: Run, sender_file: Path, pdf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = [{"pointer": "/Message/Category", "detail": "must be one of yours"}]
    fake.then_problem(403, "category-not-authorised", errors=errors)
    code = await run("send", pdf, "--to", "-", *LETTER, "--sender", sender_file)
    out, err = capsys.readouterr()
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "Refused: category-not-authorised (403)",
        "  the words of the gateway about category-not-authorised",
        "  - /Message/Category: must be one of yours",
        "  correlation id 3f0c9a52-correlation, for when you ask the operator",
    ]


async def test_a_refusal_is_told_to_programs_too(
    fake: Fake, run: Run, sender_file: Path, pdf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.then_problem(409, "reference-conflict", messageId=str(ID), differingFields=["subject"])
    code = await run("send", pdf, "--to", "-", *LETTER, "--reference", "2026-1", "--sender", sender_file, "--json")
    told = json.loads(capsys.readouterr().out)
    assert (code, told["reference"]) == (1, "2026-1")
    assert told["error"] == {
        "kind": "Problem",
        "code": "reference-conflict",
        "status": 409,
        "detail": "the words of the gateway about reference-conflict",
        "errors": [],
        "correlationId": "3f0c9a52-correlation",
        "retryAfterSeconds": None,
        "messageId": str(ID),
        "differingFields": "subject",
    }


async def test_a_gateway_out_of_reach_is_told_with_the_reference_to_send_again(
    fake: Fake, run: Run, sender_file: Path, pdf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(5):
        fake.then_cut(accepting=False)
    code = await run("send", pdf, "--to", "-", *LETTER, "--sender", sender_file)
    err = capsys.readouterr().err
    reference = fake.received[0].message.reference
    assert code == 3
    assert "The gateway was not reached: the connection was lost" in err
    assert f"It cannot arrive twice: give the same command again, with --reference {reference}" in err


async def test_a_wrong_receipt_is_told_not_to_be_counted(
    fake: Fake, run: Run, sender_file: Path, pdf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def bare(_gateway: Fake, request: Any) -> Any:
        return web.json_response(fake.view(await fake.read(request)) | {"receipt": "a.b.c"}, status=201)

    fake.acts.append(bare)
    assert await run("send", pdf, "--to", "-", *LETTER, "--sender", sender_file) == 1
    err = capsys.readouterr().err
    assert "The receipt does not hold: " in err
    assert "Do not count the letter as sent" in err


async def test_a_wrong_letter_is_wrong_use(
    fake: Fake, run: Run, sender_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = await run("send", tmp_path / "none.pdf", "--to", "-", *LETTER, "--sender", sender_file)
    assert (code, fake.received) == (2, [])
    assert capsys.readouterr().err.splitlines() == [
        "The letter cannot be sent as it is:",
        "  - /documents/0: cannot be read: No such file or directory",
    ]


async def test_a_wrong_sender_file_is_wrong_use(
    run: Run, tmp_path: Path, pdf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = await run("send", pdf, "--to", "-", *LETTER, "--sender", tmp_path / "none.toml")
    assert code == 2
    assert "cannot be read: No such file" in capsys.readouterr().err


async def test_the_receipt_is_written_and_holds_offline(
    run: Run, sender_file: Path, pdf: Path, *, tmp_path: Path, certs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt = tmp_path / "receipt.jws"
    await run("send", pdf, "--to", "-", *LETTER, "--sender", sender_file, "--receipt", receipt, "--reference", "r-1")
    capsys.readouterr()
    assert await run("verify-receipt", receipt, "--sender", sender_file, "--document", pdf) == 0
    out = capsys.readouterr().out
    assert out.startswith("The receipt holds.\n")
    assert "  reference    r-1" in out.splitlines()
    assert "The documents are those that the gateway took." in out
    assert await run("verify-receipt", receipt, "--certificate", certs / "receipts.pem", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["holds"], told["reference"], told["gateway"]) == (True, "r-1", "gateway.dev.example")


async def test_a_receipt_is_found_in_the_answer_it_came_in(
    run: Run, sender_file: Path, pdf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await run("send", pdf, "--to", "-", *LETTER, "--sender", sender_file, "--json")
    answer = tmp_path / "answer.json"
    await asyncio.to_thread(answer.write_text, capsys.readouterr().out)
    assert await run("verify-receipt", answer, "--sender", sender_file) == 0


async def test_a_receipt_for_other_documents_or_of_another_key_does_not_hold(
    run: Run, sender_file: Path, pdf: Path, *, tmp_path: Path, certs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt, other = tmp_path / "receipt.jws", tmp_path / "other.pdf"
    await asyncio.to_thread(other.write_bytes, b"%PDF-")
    await run("send", pdf, "--to", "-", *LETTER, "--sender", sender_file, "--receipt", receipt)
    assert await run("verify-receipt", receipt, "--sender", sender_file, "--document", other) == 1
    assert await run("verify-receipt", receipt, "--certificate", certs / "server.pem") == 1
    err = capsys.readouterr().err
    assert "its upfile1 is not that of the letter" in err
    assert "another certificate than the trusted one" in err


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"not a receipt", 1), (b"<Receipt/>", 1), (b"{}", 2), (b"{", 2), (b"x" * 2_000_000, 2), (None, 2)],
)
async def test_a_file_that_is_no_receipt_is_told(
    run: Run, sender_file: Path, tmp_path: Path, content: bytes | None, code: int
) -> None:
    file = tmp_path / "receipt"
    if content is not None:
        await asyncio.to_thread(file.write_bytes, content)
    assert await run("verify-receipt", file, "--sender", sender_file) == code


async def test_an_xml_receipt_is_verified_too(
    fake: Fake, run: Run, sender_file: Path, pdf: Path, *, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept: list[bytes] = []

    def sign(receipt: Any) -> str:
        kept.append(fake.signer.xml(receipt))
        token: str = fake.signer.jws(receipt)
        return token

    fake.sign = sign
    await run("send", pdf, "--to", "-", *LETTER, "--sender", sender_file)
    file = tmp_path / "receipt.xml"
    await asyncio.to_thread(file.write_bytes, kept[0])
    capsys.readouterr()
    assert await run("verify-receipt", file, "--sender", sender_file) == 0
    assert capsys.readouterr().out.startswith("The receipt holds.")


# ── Following and looking ──


@pytest.mark.parametrize(("end", "code"), [("delivered", 0), ("undeliverable", 1), ("needs-decision", 1)])
async def test_following_shows_each_step_and_ends_with_its_outcome(
    fake: Fake, run: Run, sender_file: Path, pdf: Path, capsys: pytest.CaptureFixture[str], *, end: str, code: int
) -> None:
    fake.states += [fake.state(ID, "r-1", status) for status in ("accepted", "accepted", "in-delivery", end)]
    assert await run("send", pdf, "--to", "-", *LETTER, "--sender", sender_file, "--follow") == code
    steps = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert [step[12:].partition(",")[0] for step in steps] == [
        "accepted",
        "in delivery",
        {"needs-decision": "waiting for a decision of the gateway's operator"}.get(end, end),
    ]


async def test_following_that_fails_does_not_unsay_the_hand_over(
    fake: Fake, run: Run, sender_file: Path, pdf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = await run("send", pdf, "--to", "-", *LETTER, "--sender", sender_file, "--follow")
    out, err = capsys.readouterr()
    message_id = next(iter(fake.accepted.values()))[1]["messageId"]
    assert code == 1
    assert out.startswith("Handed over at")
    assert f"The letter is handed over; look again with: gateway client status {message_id}" in err


async def test_a_message_is_shown(fake: Fake, run: Run, sender_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    timeline = [{"at": "2026-11-22T10:00:01.250Z", "event": "status", "channel": "print", "status": "in_transit"}]
    state = fake.state(
        ID, "r-1", "in-delivery", timeline=timeline, skippedChannels=[{"channel": "print", "why": "no address"}]
    )
    fake.states.append(state)
    assert await run("status", ID, "--sender", sender_file) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"Message {ID}: in delivery",
        "  reference   r-1",
        "  profile     burgerzaken",
        "  accepted    2026-11-22 10:00:00 UTC",
        "  delivery 1  e-Box citizen, waiting",
        "  skipped     print and post: no address",
        "  copy        in-delivery, not fetched",
        "",
        "  2026-11-22 10:00:01 UTC  status: channel print, status in_transit",
    ]
    assert await run("status", ID, "--sender", sender_file, "--json") == 0
    assert json.loads(capsys.readouterr().out) == state


async def test_a_message_is_found_by_its_reference(
    fake: Fake, run: Run, sender_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.pages = [{"messages": [fake.state(ID, "r-1")]}, {"messages": []}]
    fake.states.append(fake.state(ID, "r-1"))
    assert await run("status", "--reference", "r-1", "--sender", sender_file) == 0
    assert await run("status", "--reference", "r-2", "--sender", sender_file) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"Message {ID}: accepted")
    assert "no message of this sender and profile has this reference" in err


async def test_words_of_the_gateway_cannot_steer_the_terminal(
    fake: Fake, run: Run, sender_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.states.append(fake.state(ID, "r-1", "\x1b[2Jgone"))
    await run("status", ID, "--sender", sender_file)
    assert "\x1b" not in capsys.readouterr().out


# ── Dossiers, and who is meant ──


async def test_a_dossier_is_registered_about_whom_is_piped(
    fake: Fake, run: Run, sender_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.pages = [{"dossiers": [{"dossierId": str(ID)}]}]
    code = await run(
        "dossier", "--about", "-", "--category", "building-permit", "--from", "2026-11-22", "--sender", sender_file,
        stdin=io.StringIO('{"ssin": "90610100155"}'),
    )  # fmt: skip
    assert (code, capsys.readouterr().out) == (
        0, f"Registered: dossier {ID}\n  building-permit, from 2026-11-22\n",
    )  # fmt: skip
    wanted = {"recipient": {"ssin": "90610100155"}, "category": "building-permit", "from": "2026-11-22"}
    assert fake.asked[0][2] == {"dossiers": [wanted]}


async def test_a_dossier_that_may_be_registered_is_told_so(
    fake: Fake, run: Run, sender_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.pages = [{"cut": True}]
    code = await run(
        "dossier", "--about", "-", "--category", "building-permit", "--from", "2026-11-22", "--sender", sender_file,
        stdin=io.StringIO("90610100155"),
    )  # fmt: skip
    assert code == 3
    assert "It may be registered; registering it again makes two" in capsys.readouterr().err


async def test_at_a_terminal_the_recipient_is_asked_for(
    fake: Fake, run: Run, sender_file: Path, pdf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = Terminal("90.61.01-001.55\nJan Peeters\nKerkstraat\n12\n\n9000\nGent\n\n")
    assert await run("send", pdf, "--to", "-", *LETTER, "--sender", sender_file, "--json", stdin=typed) == 0
    out, err = capsys.readouterr()
    assert "National or enterprise number" in err
    assert json.loads(out)["status"] == "accepted"
    assert fake.received[0].message.recipient.address.country == "BE"


async def test_a_recipient_may_stand_in_a_file(
    fake: Fake, run: Run, sender_file: Path, pdf: Path, tmp_path: Path
) -> None:
    file = tmp_path / "to.txt"
    await asyncio.to_thread(file.write_text, LINES)
    assert await run("send", pdf, "--to", file, *LETTER, "--sender", sender_file) == 0
    assert fake.received[0].message.recipient.ssin == "90610100155"


async def test_what_names_nobody_is_wrong_use_and_is_not_repeated(
    fake: Fake, run: Run, sender_file: Path, pdf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = await run("send", pdf, "--to", "-", *LETTER, "--sender", sender_file, stdin=io.StringIO("90610100156"))
    assert (code, fake.received) == (2, [])
    err = capsys.readouterr().err
    assert "The recipient cannot be read: the check digits of the SSIN are wrong" in err
    assert "90610100156" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("send", "a.pdf", "--to", "90610100155", *LETTER),
        ("send", "a.pdf", "--to", "90.61.01-001.55", *LETTER),
        ("send", "a.pdf", "--to", "0566988259", *LETTER),
        ("send", "a.pdf", "--to", "-", *LETTER, "--subject", "over 90610100155"),
        ("send", "a.pdf", "--to", "-", *LETTER, "--reference", "90610100155"),
        ("dossier", "--about", "90610100155", "--category", "building-permit", "--from", "2026-11-22"),
        ("status", "90610100155"),
    ],
)
def test_a_number_of_a_person_is_no_argument_and_is_not_repeated(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as found:
        parse(*arguments)
    assert found.value.code == 2
    err = capsys.readouterr().err.replace(".", "").replace("-", "")
    assert "90610100155" not in err
    assert "0566988259" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("send", "--to", "-", *LETTER),
        ("send", "a.pdf", *LETTER),
        ("send", "a.pdf", "--to", "-", *LETTER, "--channel", "pigeon"),
        ("send", "a.pdf", "--to", "-", *LETTER, "--before", "2026-12-01T08:00:00"),
        ("status",),
        ("status", str(ID), "--reference", "r-1"),
        ("dossier", "--about", "-", "--category", "Building", "--from", "2026-11-22"),
        ("dossier", "--about", "-", "--category", "building-permit", "--from", "22/11/2026"),
        ("verify-receipt",),
    ],
)
def test_wrong_use_is_told_at_once(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as found:
        parse(*arguments)
    assert found.value.code == 2


async def test_a_refused_certificate_is_a_refusal(
    fake: Fake,
    run: Run,
    write_sender: Callable[..., Path],
    certs: Path,
    *,
    pdf: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = {"signing_certificate": str(certs / "gemeente.pem"), "signing_key": str(certs / "gemeente.key")}
    file = await asyncio.to_thread(
        partial(write_sender, fake.port, certificate=str(certs / "revoked.pem"), key=str(certs / "revoked.key"), **own)
    )
    code = await run(
        "send", pdf, "--to", "-", *LETTER, "--sender", file,
        timing=CallTiming(verdict_wait_s=30), retry=RetryRules(tries=2),
    )  # fmt: skip
    assert code == 1
    assert capsys.readouterr().err.startswith(
        "Refused: certificate-refused\n  the gateway refused the client certificate"
    )
