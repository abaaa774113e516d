"""A real Prometheus, with our configuration, rules and prober, watches a real gateway at work."""

import asyncio
import json
import math
import re
import shutil
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import tomli_w
import yaml

from gateway.client.api import GatewayClient
from gateway.client.letter import Document, Letter, new_reference
from gateway.client.problems import CertificateRefused, Problem
from gateway.client.sender import SenderProfile, load_sender
from gateway.demo.environment import free_ports
from gateway.demo.story import SENDINGS

LIMIT_S = 45.0
POLL_S = 0.2
# One series as a rule names it. Every metric that is not Prometheus' or the prober's own begins with gateway_.
SELECTOR = re.compile(r"\b(?:gateway_\w+|up|probe_success)\b(?:{[^}]*})?")
# What Grafana puts in: here, everything since the test began.
INTERVAL = ("$__rate_interval", "5m")


@dataclass(frozen=True)
class Prometheus:
    """The API of a running Prometheus."""

    url: str
    session: aiohttp.ClientSession

    async def get(self, path: str, **parameters: str) -> Any:
        async with self.session.get(f"{self.url}/api/v1/{path}", params=parameters) as response:
            answer = await response.json()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]

    async def values(self, expression: str) -> list[float]:
        """Return what an expression comes to now; of no number, nothing."""
        data = await self.get("query", query=expression)
        values = [float(row["value"][1]) for row in data["result"]]
        return [value for value in values if not math.isnan(value)]

    async def without_data(self, expressions: Iterable[str]) -> list[str]:
        """Return the expressions that have no number now."""
        return [expression for expression in expressions if not await self.values(expression)]


@asynccontextmanager
async def running(program: str, *arguments: str, log: Path) -> AsyncIterator[asyncio.StreamReader]:
    """Run a program until the context closes; give what it prints, its errors are in `log`."""
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=errors
        )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(LIMIT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def placed(kit: Path, folder: Path, gateway: str, prober: str) -> Path:
    """Put our configuration in a folder of its own, asking each second; return its file."""
    source = kit / "prometheus"
    config = yaml.safe_load((source / "prometheus.yml").read_text("utf-8"))
    hurried = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    config["global"] |= {**hurried, "evaluation_interval": "1s"}
    for job in config["scrape_configs"]:
        job.update(hurried)
    (folder / "targets").mkdir(parents=True)
    targets = yaml.safe_load((source / "targets" / "gateway.yml").read_text("utf-8"))
    targets[0] |= {"targets": [gateway], "labels": {**targets[0]["labels"], "__prober__": prober}}
    (folder / "targets" / "gateway.yml").write_text(yaml.safe_dump(targets))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(source / "alerts.yml", folder)
    return folder / "prometheus.yml"


@asynccontextmanager
async def watching(kit: Path, folder: Path, gateway: str) -> AsyncIterator[Prometheus]:
    """Run Prometheus and the prober, until both have found a gateway that is ready."""
    ports = free_ports(2)
    config = placed(kit, folder, gateway, f"127.0.0.1:{ports[1]}")
    async with (
        running(
            "prometheus-blackbox-exporter",
            f"--config.file={kit / 'prometheus' / 'blackbox.yml'}",
            f"--web.listen-address=127.0.0.1:{ports[1]}",
            log=folder / "prober.log",
        ),
        running(
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{ports[0]}",
            log=folder / "prometheus.log",
        ),
        aiohttp.ClientSession() as session,
    ):
        prometheus = Prometheus(f"http://127.0.0.1:{ports[0]}", session)
        await until_answered(prometheus)
        wanted = ['up{job="document-gateway"} == 1', 'probe_success{job="document-gateway-ready"} == 1']
        assert await lacking(prometheus, wanted) == []
        yield prometheus


async def until_answered(prometheus: Prometheus) -> None:
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                async with prometheus.session.get(f"{prometheus.url}/-/ready") as response:
                    if response.ok:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(POLL_S)


async def lacking(prometheus: Prometheus, expressions: Iterable[str]) -> list[str]:
    """Wait until every expression has data; return those that never had."""
    left = sorted(set(expressions))
    ends_at = asyncio.get_running_loop().time() + LIMIT_S
    while left and asyncio.get_running_loop().time() < ends_at:
        left = await prometheus.without_data(left)
        await asyncio.sleep(POLL_S if left else 0)
    return left


@asynccontextmanager
async def gateway_at_work(folder: Path) -> AsyncIterator[dict[str, Any]]:
    """Run a gateway with simulated providers; give its addresses, certificates and senders."""
    arguments = ("-m", "gateway", "demo", "--keep", "--json", "--state", str(folder / "demo"))
    async with running(sys.executable, *arguments, log=folder / "demo.log") as printed:
        async with asyncio.timeout(LIMIT_S):
            line = await printed.readline()
        yield json.loads(line)


def profile_of(view: dict[str, Any], certificate: str, key: str) -> SenderProfile:
    """Return the first sender, who shows this certificate."""
    sender = view["senders"][0]
    file = Path(view["state"]) / "sender.toml"
    values = {
        "base_url": view["sender_api"],
        "gateway": view["gateway"],
        "ca": view["ca"],
        "certificate": certificate,
        "key": key,
        "receipt_certificate": view["receipt_cert"],
        "enterprise_number": sender["enterprise_number"],
        "profile": sender["profile"],
    }
    file.write_text(tomli_w.dumps(values))
    return load_sender(file)


async def keep_busy(view: dict[str, Any], pdf: bytes) -> None:
    """Send letters, also into trouble; be refused, at the door and behind it."""
    letter = Letter(
        recipient=SENDINGS[0].recipient,
        category="tax-assessment",
        purpose="Aanslagbiljet 2026",
        subject="Uw aanslagbiljet 2026",
        documents=[Document(content=pdf, filename="brief.pdf")],
    )
    sender = view["senders"][0]
    profile = await asyncio.to_thread(profile_of, view, sender["cert"], sender["key"])
    async with GatewayClient(profile) as client, aiohttp.ClientSession() as session:
        # The print house refuses us once, then breaks the connection once: two letters on paper are tried again.
        for fault in ("forbidden", "close"):
            order = {"operation": "create", "fault": fault}
            async with session.post(f"{view['simulators']['print']}/_simulator/faults", json=order) as response:
                assert response.ok, await response.text()
        for sending in SENDINGS:
            one = replace(letter, recipient=sending.recipient, channels=sending.channels)
            await client.send(replace(one, reference=new_reference()))
        with pytest.raises(Problem):
            await client.send(replace(letter, reference=new_reference(), category="administrative-fine"))
    other_ca = Path(view["state"]) / "certs" / "other-ca"
    foreign = await asyncio.to_thread(profile_of, view, f"{other_ca}.pem", f"{other_ca}.key")
    async with GatewayClient(foreign) as stranger:
        with pytest.raises(CertificateRefused):
            await stranger.send(letter)


def questions(kit: Path) -> list[str]:
    """Return the expressions of every panel."""
    return [
        target["expr"].replace(*INTERVAL)
        for path in (kit / "grafana" / "dashboards").glob("*.json")
        for panel in json.loads(path.read_text("utf-8"))["panels"]
        for target in panel.get("targets", [])
    ]


@pytest.mark.needs("prometheus", "prometheus-blackbox-exporter")
async def test_every_panel_and_every_rule_finds_its_data_in_a_gateway_at_work(
    kit: Path, tmp_path: Path, pdf: bytes
) -> None:
    async with (
        gateway_at_work(tmp_path) as view,
        watching(kit, tmp_path / "watch", view["ops"].removeprefix("http://")) as prometheus,
    ):
        assert await prometheus.without_data(["gateway_imagined_total"]) == ["gateway_imagined_total"]
        await keep_busy(view, pdf)
        expressions = await asyncio.to_thread(questions, kit)
        assert len(expressions) > 30
        assert await lacking(prometheus, expressions) == []

        rules = [rule for group in (await prometheus.get("rules"))["groups"] for rule in group["rules"]]
        assert [rule["name"] for rule in rules if rule["health"] != "ok" or rule.get("lastError")] == []
        selectors = {selector for rule in rules for selector in SELECTOR.findall(rule["query"])}
        assert len(selectors) > 15
        assert await lacking(prometheus, selectors) == []
        # One refusal of ours by a provider is enough for an alert, also the first of its kind.
        assert await lacking(prometheus, ['ALERTS{alertname="GatewayProviderBlocked",alertstate="firing"}']) == []
