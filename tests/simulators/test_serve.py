import asyncio
import json
import signal
import ssl
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from gateway.simulators.__main__ import load_public_key, main
from gateway.simulators.serve import Simulators, server_tls
from gateway.simulators.tokens import SCOPE_PUBLICATION

WAIT_S = 30


async def test_both_simulators_run_on_free_ports_of_loopback(simulators):
    ports = {url.rsplit(":", 1)[1] for url in (simulators.ebox_url, simulators.print_url)}
    assert len(ports) == 2
    assert simulators.ebox_url.startswith("http://127.0.0.1:")


async def test_a_simulator_that_goes_down_breaks_running_calls(simulators, ebox, ebox_simulator):
    await ebox.token()
    ebox_simulator.faults.order("publish", "keep-then-hang")
    publishing = asyncio.create_task(ebox.publish())
    async with asyncio.timeout(WAIT_S):
        await ebox_simulator.records.until(lambda records: records.held == 1)
        await simulators.refuse("ebox")
        with pytest.raises(aiohttp.ClientError):
            await publishing
    assert len(ebox_simulator.records.kept) == 1


async def test_a_refusing_simulator_keeps_its_port_and_memory(simulators, printing, ebox):
    await printing.create(printing.job("d1"))
    await simulators.refuse("print")
    with pytest.raises(aiohttp.ClientConnectorError):
        await printing.status("d1")
    assert (await ebox.publish()).status == 201
    await simulators.admit("print")
    assert (await printing.status("d1")).status == 200


async def test_an_address_in_use_leaves_nothing_running(simulators):
    port = int(simulators.ebox_url.rsplit(":", 1)[1])
    second = Simulators(print_address=("127.0.0.1", port))
    with pytest.raises(OSError, match="address"):
        await second.__aenter__()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", int(second.ebox_url.rsplit(":", 1)[1]))


async def test_https_is_served_with_a_certificate(http, certs):
    trust = ssl.create_default_context(cafile=certs / "ca.pem")
    tls = await asyncio.to_thread(server_tls, certs / "server.pem", certs / "server.key")
    async with Simulators(tls=tls) as running:
        assert running.ebox_url.startswith("https://")
        async with http.get(f"{running.ebox_url}/_simulator/records", ssl=trust) as response:
            assert response.status == 200


@pytest.fixture
def public_pem(tmp_path, client_key):
    file = tmp_path / "client.pem"
    file.write_bytes(client_key.as_pem(private=False))
    return file


async def start(*options):
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway.simulators",
        "--ready-json",
        *map(str, options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_process_tells_its_urls_serves_and_stops_cleanly(ebox, printing, public_pem, number):
    process = await start("--ebox-client-key", public_pem)
    try:
        async with asyncio.timeout(WAIT_S):
            assert process.stdout is not None
            urls = json.loads(await process.stdout.readline())
            assert set(urls) == {"ebox", "print"}
            caller = replace(ebox, url=urls["ebox"], tokens={}, clock=lambda: datetime.now(UTC))
            assert (await caller.publish()).status == 201
            posted = replace(printing, url=urls["print"])
            assert (await posted.create(posted.job("d1"))).status == 201
            assert len((await caller.get("/_simulator/records")).json["kept"]) == 1
            process.send_signal(number)
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, output, errors) == (0, b"", b"")


async def test_a_hanging_call_does_not_keep_the_process_alive(ebox, public_pem):
    process = await start("--ebox-client-key", public_pem)
    try:
        async with asyncio.timeout(WAIT_S):
            assert process.stdout is not None
            urls = json.loads(await process.stdout.readline())
            caller = replace(ebox, url=urls["ebox"], tokens={}, clock=lambda: datetime.now(UTC))
            await caller.token()
            await caller.control("faults", operation="publish", fault="hang")
            publishing = asyncio.create_task(caller.publish())
            assert (await caller.get("/_simulator/wait?held=1")).json["reached"]
            process.send_signal(signal.SIGTERM)
            _, errors = await process.communicate()
            with pytest.raises(aiohttp.ClientError):
                await publishing
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, errors) == (0, b"")


async def test_settings_of_the_process_reach_the_simulators(ebox, printing, public_pem, tmp_path):
    key_file = tmp_path / "api-key"
    key_file.write_text("another-key\n")
    process = await start(
        "--ebox-client-key", public_pem,
        "--ebox-client-id", "other-client",
        "--ebox-client-organisation", "0406798006",
        "--ebox-triple", "*,app,TYPE,citizen",
        "--ebox-triple", "0406798006,app,FIRM,enterprise",
        "--print-api-key-file", key_file,
        "--advance", "manual",
    )  # fmt: skip
    try:
        async with asyncio.timeout(WAIT_S):
            assert process.stdout is not None
            urls = json.loads(await process.stdout.readline())
            caller = replace(ebox, url=urls["ebox"], tokens={}, clock=lambda: datetime.now(UTC))
            named = caller.assertion(iss="other-client", sub="other-client")
            bought = await caller.ask_token(client_assertion=named)
            names = {"senderApplicationId": "app", "senderOrganizationId": "0406798006"}
            caller.tokens[SCOPE_PUBLICATION,] = bought.json["access_token"]
            for kind, recipient in (("TYPE", "90610100155"), ("FIRM", "0406798006")):
                message = caller.message(recipient, messageTypeId=kind, **names)
                assert (await caller.publish(message)).status == 201
            posted = replace(printing, url=urls["print"])
            assert (await posted.create(posted.job("d1"))).status == 401
            allowed = {"X-API-Key": "another-key"}
            assert (await posted.create(posted.job("d1"), headers=allowed)).status == 201
            process.terminate()
            await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize(
    "options",
    [
        ["--ebox", "nowhere"],
        ["--ebox", "127.0.0.1:http"],
        ["--ebox-triple", "a,b,c"],
        ["--ebox-triple", "a,b,c,company"],
        ["--advance", "quickly"],
        ["--ebox-client-key", "missing.pem"],
    ],
)
def test_a_wrong_option_is_told_and_ends_with_code_2(options, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(options)
    assert stopped.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_the_client_key_may_be_a_certificate(tmp_path, client_key):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "document-gateway-dev")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(client_key.public_key)
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(client_key.private_key, hashes.SHA256())
    )
    file = tmp_path / "client.pem"
    file.write_bytes(certificate.public_bytes(Encoding.PEM))
    assert load_public_key(file).public_numbers() == client_key.public_key.public_numbers()


def test_another_kind_of_key_is_refused(tmp_path):
    file = tmp_path / "client.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    file.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(ValueError, match="RSA"):
        load_public_key(file)
