"""`gateway verify` as a command: what it says, in text and JSON, what it logs, what it needs."""

import asyncio
import json
import sqlite3
import tomllib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w

from gateway.cli import main
from gateway.clock import utc_now
from gateway.config import Config, load
from gateway.errors import StoreInUse
from gateway.integrity.command import Said, as_json, as_text, verify_stores
from gateway.integrity.findings import COUNTED, Code, Grade, grade_of, told
from gateway.simulators import magic

if TYPE_CHECKING:
    from tests.integrity.conftest import Left
    from tests.plugins.house import ADDRESS, House
    from tests.plugins.verifying import AssertClean
else:
    from house import ADDRESS, House

    AssertClean = Left = object


DOCUMENTATION = Path(__file__).parents[2] / "docs" / "verify.md"


async def verify(left: Left, *options: str) -> int:
    """Run the command; it blocks, and has an event loop of its own."""
    return await asyncio.to_thread(main, ["verify", "--config", str(left.config.file), *options])


def admin_log(left: Left) -> list[dict[str, Any]]:
    rows = left.sql("SELECT entry FROM log_entry WHERE log = 'admin' AND event LIKE 'verif%' ORDER BY position")
    return [json.loads(entry) for (entry,) in rows]


async def test_what_a_gateway_leaves_behind_is_clean(left: Left, assert_clean: AssertClean) -> None:
    await assert_clean(left.config)
    verdict = await left.verify(deep=True)
    counts = verdict.report.counts
    assert counts["messages"] == len(left.messages)
    assert counts["deliveries"] == len(left.messages) + 1
    assert counts["enclosures"] == 1
    assert counts["blobs"] + counts["enclosures"] == counts["unsealed"]
    assert tuple(counts) == COUNTED


async def test_the_function_that_tests_end_with_fails_on_a_broken_promise(
    left: Left, assert_clean: AssertClean
) -> None:
    await asyncio.to_thread(left.blob(left.document("scheduled")).unlink)
    with pytest.raises(AssertionError, match="blob-missing"):
        await assert_clean(left.config)


async def test_a_clean_run_says_so_and_exits_with_0(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    assert await verify(left) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].startswith("9 messages, ")
    assert out.splitlines()[-1] == "clean: no promise is broken, nothing is late"
    assert err == ""


async def test_findings_are_told_one_per_line_and_exit_with_1(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    document_id = left.document("scheduled")
    await asyncio.to_thread(left.blob(document_id).unlink)
    assert await verify(left) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[1].startswith(f"blob-missing  {document_id}  a document that is still needed has no blob; ")
    assert out[2:] == ["1 broken, 0 late"]


async def test_what_is_late_exits_with_1_too(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    left.change("UPDATE delivery SET deadline_at = 1 WHERE delivery_id = ?", left.delivery("scheduled"))
    assert await verify(left) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 broken, 1 late"


async def test_many_findings_of_a_kind_are_capped_with_a_count(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(left.ledger_file) as connection:
        connection.execute("DELETE FROM reference")
    connection.close()
    assert await verify(left, "--limit", "3") == 1
    out = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in out[1:-1]] == ["reference-missing"] * 4
    assert out[-2] == "reference-missing  and 6 more"
    assert out[-1] == "9 broken, 0 late"


async def test_the_answer_in_json(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    document_id = left.document("scheduled")
    await asyncio.to_thread(left.blob(document_id).unlink)
    left.change("UPDATE delivery SET deadline_at = 1 WHERE delivery_id = ?", left.delivery("scheduled"))
    assert await verify(left, "--json", "--deep") == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["clean"], told["broken"], told["late"], told["unchecked"]) == (False, 1, 1, [])
    assert told["totals"] == {"blob-missing": 1, "late": 1}
    assert told["counts"]["messages"] == 9
    assert {"beingRemoved", "arriving", "unsealed"} <= told["counts"].keys()
    found = [(each["code"], each["grade"], each["id"]) for each in told["findings"]]
    assert found[0] == ("blob-missing", "broken", str(document_id))
    assert found[1][:2] == ("late", "late")


async def test_the_admin_log_says_that_it_was_begun_and_what_it_found(left: Left) -> None:
    left.change("UPDATE delivery SET deadline_at = 1 WHERE delivery_id = ?", left.delivery("scheduled"))
    await left.verify()
    begun, verified = admin_log(left)
    assert (begun["ev"], begun["res"]) == ("verify-begun", "begun")
    assert (verified["ev"], verified["res"]) == ("verified", "findings")
    assert verified["who"].keys() == {"uid"}
    assert {key: verified["what"][key] for key in ("messages", "broken", "late", "depth", "unchecked")} == {
        "messages": 9,
        "broken": 0,
        "late": 1,
        "depth": "usual",
        "unchecked": 0,
    }


async def test_what_breaks_off_has_been_logged_before(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    blobs = left.folder / "state" / "blobs"
    await asyncio.to_thread(blobs.rename, blobs.with_name("elsewhere"))
    await asyncio.to_thread(blobs.write_text, "not a folder")
    assert await verify(left) == 1
    assert capsys.readouterr().err.startswith("gateway: listing blobs failed")
    assert [entry["ev"] for entry in admin_log(left)] == ["verify-begun"]


async def test_a_disk_that_is_not_mounted_is_no_lost_letter(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    blobs = left.folder / "state" / "blobs"
    await asyncio.to_thread(blobs.rename, blobs.with_name("elsewhere"))
    assert await verify(left) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gateway: reading a blob failed")


async def test_without_the_keyring_everything_else_is_verified(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    await asyncio.to_thread((left.folder / "state" / "keyring").unlink)
    assert await verify(left, "--deep") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[1].startswith("not verified: sealed content (signed messages, documents), because the keyring")
    assert not (left.folder / "state" / "keyring").exists()
    (_, verified) = admin_log(left)
    assert verified["what"]["unchecked"] == 1


async def test_receipts_of_an_earlier_certificate_verify(left: Left, certs: Path) -> None:
    past = left.folder / "past"
    past.mkdir()

    def renewed() -> Config:
        values = tomllib.loads(left.config.file.read_text())
        values["receipts"] |= {"certificate": str(certs / "gemeente.pem"), "past": str(past)}
        left.config.file.write_text(tomli_w.dumps(values))
        return load(left.config.file)

    config = await asyncio.to_thread(renewed)
    found = (await verify_stores(config, clock=utc_now)).report.totals
    assert found == {"receipt-invalid": 18}  # two of each message
    (past / "2025.pem").write_bytes(left.config.receipts.certificate.read_bytes())
    assert (await verify_stores(config, clock=utc_now)).report.is_clean


async def test_quick_leaves_out_the_receipts_and_says_so(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    left.change("UPDATE message SET receipt_jws = 'none' WHERE message_id = ?", left.id("refused"))
    assert await verify(left, "--quick") == 0
    assert "not verified: the signatures of receipts (--quick)" in capsys.readouterr().out.splitlines()
    assert await verify(left) == 1
    begun = [entry["what"]["depth"] for entry in admin_log(left) if entry["ev"] == "verify-begun"]
    assert begun == ["quick", "usual"]


async def test_a_young_blob_of_nothing_is_arriving(left: Left) -> None:
    blob = left.blob(left.document("published"))
    young = blob.with_name("0" * 8 + str(blob.name)[8:])
    young.parent.mkdir(exist_ok=True)
    young.write_bytes(b"half a letter")
    report = (await left.verify()).report
    assert report.is_clean
    assert report.counts["arriving"] == 1


async def test_a_blob_under_a_tombstone_is_being_removed(left: Left) -> None:
    source = left.blob(left.document("scheduled"))
    buried = source.with_name("0" * 8 + source.name[8:])
    buried.write_bytes(b"an orphan")
    left.change("INSERT INTO tombstone (blob_id, at) VALUES (?, 0)", bytes.fromhex(buried.name.replace("-", "")))
    report = (await left.verify()).report
    assert report.is_clean
    assert (report.counts["being removed"], report.counts["arriving"]) == (1, 0)


async def test_a_running_gateway_keeps_its_stores(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StoreInUse):
        await verify_stores(house.config, clock=utc_now)
    assert await asyncio.to_thread(main, ["verify", "--config", str(house.config.file)]) == 1
    assert "another process has the ledger" in capsys.readouterr().err


async def test_a_wrong_configuration_is_no_clean_one(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    await asyncio.to_thread(left.ledger_file.unlink)
    assert await verify(left) == 1
    assert "there is no ledger" in capsys.readouterr().err
    assert not left.ledger_file.exists()


async def test_a_certificate_that_cannot_be_read_is_told(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    text = left.config.file.read_text().replace(str(left.config.receipts.certificate), "/nowhere/receipts.pem")
    left.config.file.write_text(text)
    assert await verify(left) == 1
    assert "/nowhere/receipts.pem cannot be read" in capsys.readouterr().err


async def test_nothing_personal_is_told(left: Left) -> None:
    with sqlite3.connect(left.ledger_file) as connection:
        connection.execute("UPDATE message SET status = 'scheduled', sealed_signed_message = x'00'")
        connection.execute("UPDATE delivery SET due_at = NULL, deadline_at = 1")
        connection.execute("DELETE FROM reference")
    connection.close()
    verdict = await left.verify(deep=True)
    assert not verdict.report.is_clean
    log = json.dumps(admin_log(left))
    for secret in (magic.CITIZEN_FINE, magic.CITIZEN_NO_BOX, ADDRESS.name, "Uw aanslagbiljet", "Aanslagbiljet 2026"):
        for shown in (as_text(verdict), as_json(verdict), log):
            assert secret not in shown


def test_progress_is_told_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counter({"blobs": 5_000, "messages": 0})
    said = Said()
    said(counts)
    assert capsys.readouterr().err == ""
    Said(every_s=0.0)(counts)
    assert capsys.readouterr().err == "gateway verify: 5,000 blobs so far\n"


@pytest.mark.parametrize("code", Code)
def test_the_documentation_names_every_code_as_the_command_does(code: Code) -> None:
    late = " (late)" if grade_of(code) is Grade.LATE else ""
    assert f"\n| `{code}`{late} | {told(code)} |\n" in DOCUMENTATION.read_text()
