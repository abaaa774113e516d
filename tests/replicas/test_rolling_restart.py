"""Gateways are restarted one after the other under load, behind a balancer that asks for their readiness."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.client import GatewayClient, Letter, RetryRules, Sent
from gateway.demo.environment import free_ports

AT_ONCE = 4
ONCE = RetryRules(tries=1, first_wait_s=0.1, longest_wait_s=0.1)
BALANCER = """
global
  maxconn 500
defaults
  mode tcp
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  timeout check 5s
  retries 3
  option redispatch
frontend senders
  bind 127.0.0.1:{port}
  default_backend gateways
backend gateways
  option httpchk GET /health/ready
  default-server check inter 200ms rise 1 fall 1
"""
LINE = "  server {name} 127.0.0.1:{intake} port {ops}\n"


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def balancer(folder: Path, replicas: Sequence[Any]) -> AsyncIterator[int]:
    """Run HAProxy in front of these; it passes TLS on as it is. Yield its port."""
    (port,) = free_ports(1)
    lines = [LINE.format(name=each.name, intake=each.intake_port, ops=each.ops_port) for each in replicas]
    file = folder / "haproxy.cfg"
    file.write_text(BALANCER.format(port=port) + "".join(lines))
    process = await asyncio.create_subprocess_exec("haproxy", "-db", "-f", str(file), stdin=asyncio.subprocess.DEVNULL)
    try:
        while not await listens(port):
            assert process.returncode is None
        yield port
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
async def test_a_rolling_restart_under_load_fails_no_request(
    tmp_path: Path, make_cluster: Any, make_letter: Any, assert_each_arrived_once: Any
) -> None:
    def notice(config: dict[str, Any]) -> None:
        config["limits"] = {**config.get("limits", {}), "drain_notice": "PT2S"}

    async with asyncio.timeout(150):
        cluster = await make_cluster(notice)
        replicas = [await cluster.start("one"), await cluster.start("other")]
        async with balancer(tmp_path, replicas) as port:
            profile = await cluster.profile(f"https://localhost:{port}")
            sent: list[Sent] = []
            digests: list[str] = []
            enough = asyncio.Event()

            async def send_on(worker: int, client: GatewayClient) -> None:
                number = 0
                while not enough.is_set():
                    number += 1
                    letter: Letter
                    letter, digest = await asyncio.to_thread(make_letter, AT_ONCE * number + worker)
                    sent.append(await client.send(letter))  # one try: a request that fails, fails the test
                    digests.append(digest)

            async with GatewayClient(profile, retry=ONCE) as client:
                async with asyncio.TaskGroup() as senders:
                    for worker in range(AT_ONCE):
                        senders.create_task(send_on(worker, client))
                    for replica in replicas:
                        before = len(sent)
                        await cluster.stop(replica.name)
                        assert len(sent) > before  # the load went on meanwhile
                        await cluster.start(replica.name)
                    enough.set()
                await assert_each_arrived_once(cluster, client, sent, digests)
            served = [await cluster.metric(each, "gateway_accepted_messages_total") for each in replicas]
            assert sum(served) < len(sent)  # what was accepted before the restarts is not among the figures of now
