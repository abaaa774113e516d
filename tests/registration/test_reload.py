"""Certificates, lists, authorities, staff and matrix change while the gateway runs; with any mistake, none does."""

import asyncio
import json
import os
import shutil
import signal
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.app import Part
from gateway.crypto.certs import load_certificates
from gateway.crypto.receipts import verify_receipt_jws
from gateway.crypto.tls import client_context
from gateway.domain.staff import Role
from gateway.errors import Refusal, StoreUnavailable

EMPTY = (200, b'{"messages": []}')


@pytest.fixture
async def operated(premises: Any) -> Any:
    """A running gateway; whoever asks here is operator."""
    await asyncio.to_thread(premises.files.write_staff, Role.OPERATOR)
    await premises.house.gateway.reload()
    return premises


async def test_a_new_server_certificate_is_shown_to_new_connections_and_old_ones_live_on(operated: Any) -> None:
    old = await operated.wire()
    assert await old.ask() == EMPTY
    renewed = await asyncio.to_thread(operated.files.renew, "server")
    done = await operated.done("/reload", reason="renewed by the authority")
    assert [line.partition(":")[0] for line in done["changes"]] == ["~ certificate of intake"]
    new = await operated.wire()
    assert (old.server_certificate != renewed, new.server_certificate == renewed) == (True, True)
    assert [await wire.ask() for wire in (old, new)] == [EMPTY, EMPTY]
    (entry,) = await operated.log("reload")
    assert (entry["who"]["role"], entry["res"]) == ("operator", "in-force")
    assert entry["what"]["certificates"] == "\n".join(done["changes"])
    assert (entry["what"]["reason"], entry["what"]["versionAfter"]) == ("renewed by the authority", 1)


async def test_a_client_without_server_name_is_shown_the_new_certificate_too(operated: Any) -> None:
    renewed = await asyncio.to_thread(operated.files.renew, "server")
    await operated.done("/reload")
    certs = operated.files.certs
    context = await asyncio.to_thread(client_context, certs / "ca.pem", certs / "gemeente.pem", certs / "gemeente.key")
    context.check_hostname = False
    _, writer = await asyncio.open_connection(
        "127.0.0.1", operated.house.gateway.intake_port, ssl=context, server_hostname=""
    )
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    assert shown == renewed.public_bytes(Encoding.DER)
    writer.close()
    await writer.wait_closed()


async def test_a_revoked_certificate_is_refused_at_the_next_request_and_at_the_next_handshake(operated: Any) -> None:
    wire, other = await operated.wire("belasting"), await operated.wire("gemeente")
    assert [await each.ask() for each in (wire, other)] == [EMPTY, EMPTY]
    await asyncio.to_thread(operated.files.revoke, "belasting")
    done = await operated.done("/reload")
    assert [line.partition(":")[0] for line in done["changes"]] == ["~ revocation list 1 of client CA dev-clients"]
    status, body = await wire.ask()
    assert (status, json.loads(body)["type"].rpartition(":")[2]) == (403, "certificate-revoked")
    assert await other.ask() == EMPTY
    assert await (await operated.wire("belasting")).ask() is None
    assert await operated.metric('gateway_handshakes_refused_total{reason="certificate-revoked"}') == 1


async def test_authorities_change_for_handshake_and_request(premises_with: Any, files: Any) -> None:
    await asyncio.to_thread(files.write_staff, Role.OPERATOR)
    premises = await premises_with(lambda values: values["client_cas"][0].update(revocation="soft-fail"))
    ca_file = files.certs / "clients-ca.pem"
    both = ca_file.read_bytes() + (files.certs / "other-clients-ca.pem").read_bytes()
    assert await (await premises.wire("other-ca")).ask() is None
    before = ca_file.read_bytes()
    await asyncio.to_thread(ca_file.write_bytes, both)
    await premises.done("/reload")
    wire = await premises.wire("other-ca")
    assert await wire.ask() == EMPTY
    await asyncio.to_thread(ca_file.write_bytes, before)
    await premises.done("/reload")
    assert (await wire.ask())[0] == 403
    assert await (await premises.wire("other-ca")).ask() is None


async def test_receipts_are_signed_with_the_new_certificate_and_the_old_ones_stay(operated: Any) -> None:
    sender = await operated.house.sender()
    certificate = operated.files.certs / "receipts.pem"
    (old, *_) = await asyncio.to_thread(load_certificates, certificate)
    first = (await sender.send()).json
    new = await asyncio.to_thread(operated.files.renew, "receipts")
    await operated.done("/reload")
    second = (await sender.send()).json
    assert verify_receipt_jws(second["receipt"], new).reference == second["reference"]
    with pytest.raises(Refusal):
        verify_receipt_jws(second["receipt"], old)
    assert (await sender.view(first["messageId"]))["receipt"] == first["receipt"]
    assert verify_receipt_jws(first["receipt"], old).reference == first["reference"]


async def test_an_earlier_receipt_certificate_that_is_published_from_now_on_is_told(
    premises_with: Any, files: Any
) -> None:
    await asyncio.to_thread(files.write_staff, Role.OPERATOR)
    past = files.folder / "past"
    past.mkdir()
    premises = await premises_with(lambda values: values["receipts"].update(past=str(past)))
    await asyncio.to_thread(shutil.copy, files.certs / "receipts.pem", past / "2026.pem")
    await asyncio.to_thread(files.renew, "receipts")
    done = await premises.done("/reload")
    assert [line.rpartition(" ")[0] for line in done["changes"] if line.startswith("+")] == [
        "+ earlier certificate of receipts"
    ]


async def test_staff_and_matrix_hold_from_the_next_command_on_and_are_logged_line_by_line(operated: Any) -> None:
    assert (await operated.refused("/senders/apply"))["status"] == 403
    await asyncio.to_thread(operated.files.write_staff, Role.ACCESS_MANAGER)
    await operated.edit(
        operated.files.matrix, lambda values: values["gateway"].update({"access-manager": ["read", "modify"]})
    )
    done = await operated.done("/reload")
    assert done["changes"] == [
        "~ person Jo Peeters: roles operator -> access-manager",
        "+ right of access-manager on gateway: verbs modify, read",
    ]
    await operated.done("/senders/apply")
    await operated.done("/reload")
    entry = (await operated.log("reload"))[0]
    assert (entry["what"]["staff"], entry["what"]["matrix"]) == tuple(done["changes"])


async def test_a_reload_puts_the_registration_in_force_too(operated: Any) -> None:
    await operated.edit(operated.files.sender("0406798006"), lambda values: values.update(name="Gemeente Nieuwe Naam"))
    done = await operated.done("/reload")
    assert (done["registrationInForce"], done["registrationAfter"]) == (1, 2)
    assert await operated.query("SELECT author FROM registration_version WHERE version = 2") == [("Jo Peeters",)]


async def test_a_dry_run_tells_and_changes_nothing(operated: Any) -> None:
    await asyncio.to_thread(operated.files.revoke, "gemeente")
    await operated.edit(operated.files.sender("0406798006"), lambda values: values.update(name="Nieuwe Naam"))
    done = await operated.done("/reload", dryRun=True)
    assert (done["dryRun"], len(done["changes"]), done["registrationAfter"]) == (True, 2, 2)
    assert await (await operated.wire("gemeente")).ask() == EMPTY
    assert await operated.version() == 1
    (entry,) = await operated.log("reload")
    assert (entry["res"], entry["what"]) == ("answered", {"reason": "a test", "dryRun": 1})


# ── What is refused ──


def break_key(files: Any) -> str:
    shutil.copyfile(files.certs / "receipts.key", files.certs / "server.key")
    return "is not the key of the certificate"


def break_certificate(files: Any) -> str:
    (files.certs / "server.pem").write_text("nothing")
    return "cannot be used"


def expire_list(files: Any) -> str:
    shutil.copyfile(files.certs / "stale.crl.pem", files.certs / "clients.crl.pem")
    return "has expired, so with hard-fail nobody gets in"


def bring_old_list_back(files: Any) -> str:
    files.revoke(number=1)
    return "crl-older"


def soften(files: Any) -> str:
    files.edit(files.config, lambda values: values["client_cas"][0].update(revocation="soft-fail"))
    return "needs a restart"


def change_limits(files: Any) -> str:
    files.edit(files.config, lambda values: values.setdefault("limits", {}).update(documents=3))
    return "restart"


def move_listener(files: Any) -> str:
    files.edit(files.config, lambda values: values["intake"].update(bind="127.0.0.1:1"))
    return "restart"


def lose_authority(files: Any) -> str:
    files.edit(files.config, lambda values: values["client_cas"][0].update(name="renamed"))
    return "is none of the configured client_cas"


def break_staff(files: Any) -> str:
    files.write_staff(Role.OPERATOR, Role.KEY_MANAGER)
    return "operator goes with none of"


def break_matrix(files: Any) -> str:
    files.matrix.write_text("[gateway]\noperator = ['fly']\n")
    return "must be one of"


def lose_configuration(files: Any) -> str:
    files.config.write_text("[")
    return "is not TOML"


FAULTS = [
    break_key, break_certificate, expire_list, bring_old_list_back, soften, change_limits, move_listener,
    lose_authority, break_staff, break_matrix, lose_configuration,
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
async def test_whatever_is_wrong_nothing_changes_and_all_ways_tell_why(
    operated: Any, caplog: pytest.LogCaptureFixture, fault: Any
) -> None:
    shown = (await operated.wire()).server_certificate
    await operated.edit(operated.files.sender("0566988259"), lambda values: values.update(name="Nieuwe Naam"))
    why = await asyncio.to_thread(fault, operated.files)
    problem = await operated.refused("/reload")
    assert (problem["status"], problem["type"].rpartition(":")[2]) == (422, "config-invalid")
    assert [error for error in problem["errors"] if why in error["detail"]], problem["errors"]
    assert await operated.reloads("refused") == 1
    assert [record for record in caplog.records if record.msg == "reload refused" and why in vars(record)["why"]]
    await operated.house.gateway.reload()  # as SIGHUP does
    assert [entry["res"] for entry in await operated.log("SIGHUP")] == ["in-force", "refused"]
    assert (await operated.version(), await operated.reloads("refused")) == (1, 2)
    wire = await operated.wire()
    assert (await wire.ask(), wire.server_certificate) == (EMPTY, shown)


async def test_several_mistakes_are_told_at_once(operated: Any) -> None:
    whys = [await asyncio.to_thread(fault, operated.files) for fault in (break_key, break_matrix, change_limits)]
    problem = await operated.refused("/reload")
    details = [error["detail"] for error in problem["errors"]]
    assert [why for why in whys if not any(why in detail for detail in details)] == []


async def test_what_could_not_be_committed_is_not_swapped_in(operated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = await operated.wire("belasting")
    await asyncio.to_thread(operated.files.revoke, "belasting")

    async def fail(*_: Any) -> None:
        raise StoreUnavailable("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(operated.house.gateway.ledger, "append", fail)
        assert (await operated.refused("/reload"))["status"] == 503
        await operated.house.gateway.reload()
    assert await wire.ask() == EMPTY
    assert (await operated.reloads("refused"), await operated.reloads("failed")) == (0, 2)
    await operated.done("/reload")
    assert (await wire.ask())[0] == 403


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({"dryRun": "yes"}, "/dryRun"), ({"reason": "x"}, "/reason"), ({"force": True}, "/force")],
)
async def test_a_wrong_order_is_refused_with_its_place(operated: Any, body: Any, pointer: str) -> None:
    problem = await operated.refused("/reload", **body)
    assert (problem["status"], [error["pointer"] for error in problem["errors"]]) == (400, [pointer])


async def test_the_portal_too_shows_its_new_certificate(premises_with: Any, files: Any) -> None:
    await asyncio.to_thread(files.write_staff, Role.OPERATOR)
    for end in ("pem", "key"):
        shutil.copy(files.certs / f"server.{end}", files.certs / f"portal.{end}")
    paths = {"certificate": str(files.certs / "portal.pem"), "key_file": str(files.certs / "portal.key")}
    premises = await premises_with(lambda values: values["portal"].update(paths), parts=[Part.PORTAL, Part.ADMIN])
    context = await asyncio.to_thread(client_context, files.certs / "ca.pem")

    async def shown() -> bytes:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", premises.house.gateway.portal_port, ssl=context, server_hostname="localhost"
        )
        certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
        return certificate

    before = await shown()
    await asyncio.to_thread(files.renew, "server", "portal")
    done = await premises.done("/reload")
    assert [line.partition(":")[0] for line in done["changes"]] == ["~ certificate of portal"]
    assert await shown() != before


# ── The signal ──


async def test_a_hangup_reloads_and_a_wrong_file_does_not_end_the_process(
    make_house: Any, files: Any, tmp_path: Path
) -> None:
    house = await make_house(files.point, parts=[])
    values = tomllib.loads(house.config.file.read_text())
    values["gateway"]["state"] = str(tmp_path / "state-of-process")
    config = tmp_path / "of-process.toml"
    config.write_text(tomli_w.dumps(values))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "serve", "--config", str(config), "--only", "admin",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    lines = process.stdout

    async def event(name: str) -> dict[str, Any]:
        async with asyncio.timeout(60):
            while line := await lines.readline():
                told: dict[str, Any] = json.loads(line)
                if told["event"] == name:
                    return told
        raise AssertionError(f"the process ended without {name}")

    try:
        await event("ready")
        await asyncio.to_thread(files.revoke, "gemeente")
        os.kill(process.pid, signal.SIGHUP)
        assert (await event("reloaded"))["changes"] == 1
        await asyncio.to_thread(break_matrix, files)
        os.kill(process.pid, signal.SIGHUP)
        assert "must be one of" in (await event("reload refused"))["why"]
        os.kill(process.pid, signal.SIGTERM)
        await event("stopped")
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
