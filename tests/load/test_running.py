"""The tool as a person runs it: small runs against real gateways, and against nginx where it is installed."""

import asyncio
import json
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from PIL import Image

from load import nginx
from load.bodies import BodySet
from load.generator import Uploads, run
from load.nginx import Nginx
from load.preparing import Order
from load.problems import CannotRun
from load.processes import Cores
from load.workshop import Workshop

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def loop_guard() -> None:
    """Processes are started and files prepared here, which blocks; what is measured runs on its own."""


def load(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "load", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=110
    )


def test_thirty_messages_are_accepted_delivered_and_verified(tmp_path: Path) -> None:
    report = tmp_path / "report"
    done = load("soak", "--messages", "30", "--mix", "20k", "--print-every", "3", "--report", str(report))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    told = json.loads((report / "report.json").read_text())
    assert (told["accepted"], told["delivered"], told["errors"], told["faults"]) == (30, 30, 0, [])
    assert told["codes"] == {"201": 30}
    assert told["samples"][-1]["delivered"] == 30
    assert told["samples"][-1]["resident_bytes"] > 10_000_000
    assert told["serverCpuMsPerMessage"] > 0
    with Image.open(report / "chart.png") as picture:
        assert picture.size == (1100, 884)


def test_what_the_time_is_spent_on_is_told_by_module() -> None:
    done = load("profile", "--messages", "8")
    assert done.returncode == 0, done.stdout + done.stderr
    found = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.count("  ") >= 2}
    assert {"asyncio", "gateway/crypto/xmlsig.py", "everything"} <= found.keys()
    share, each = found["gateway/crypto/xmlsig.py"]
    assert 0 < float(share.rstrip("%")) < 50
    assert 10 < int(each) < 200


def test_a_goal_that_is_not_reached_fails_and_says_so(tmp_path: Path) -> None:
    work = tmp_path / "work"
    made = load("prepare", "--work", str(work), "--messages", "6")
    assert made.returncode == 0, made.stderr
    again = load("prepare", "--work", str(work), "--messages", "6")
    assert (again.returncode, "is there already" in again.stderr) == (2, True)
    done = load("steps", "--work", str(work), "--messages", "6", "--first", "3", "--step", "1", "--goal-rate", "100000")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED: the goal is 100000.0" in done.stdout


@pytest.mark.parametrize("dialect", ["batch", "batch-jws"])
def test_the_messages_of_batches_are_accepted_delivered_and_verified(tmp_path: Path, dialect: str) -> None:
    report = tmp_path / "report"
    done = load("soak", "--messages", "25", "--mix", "100k", "--dialect", dialect, "--report", str(report))
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((report / "report.json").read_text())
    assert (told["accepted"], told["delivered"], told["errors"], told["faults"]) == (25, 25, 0, [])
    assert told["codes"] == {"accepted": 25}


@pytest.fixture
def nginx_installed() -> None:
    if nginx.program() is None:
        pytest.skip("not installed: nginx")


async def test_nginx_takes_the_same_bodies_over_the_same_mutual_tls(tmp_path: Path, nginx_installed: None) -> None:
    workshop = Workshop(tmp_path / "work")
    sender = workshop.set_up()
    with BodySet(workshop.prepared(Order(label="x", mix="x-road", count=20))) as bodies:
        async with Nginx(tmp_path / "nginx", workshop.certs, sender, Cores.of([0]).server) as limit:
            assert len(limit.worker_pids) == 1
            numbers = (number for number, _ in zip(count(), range(40), strict=False))
            result = await run([limit.target], Uploads(bodies, "/r"), connections=4, numbers=numbers, longest_s=60)
        assert result.codes == {"201": 40}
        for number in range(40):
            spooled = (tmp_path / "nginx" / "spool" / "r" / str(number)).read_bytes()
            assert spooled == b"".join(bodies.pieces(number % 20))


async def test_nginx_refuses_who_has_no_certificate(tmp_path: Path, nginx_installed: None) -> None:
    workshop = Workshop(tmp_path / "work")
    sender = workshop.set_up()
    async with Nginx(tmp_path / "nginx", workshop.certs, sender, Cores.of([0]).server) as limit:
        port = limit.target.base_url.rpartition(":")[2]
        asked = ["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", f"https://localhost:{port}/x"]
        done = await asyncio.to_thread(subprocess.run, asked, capture_output=True, text=True, check=False)
    assert done.stdout in {"400", "000"}


async def test_nginx_that_cannot_start_says_why(tmp_path: Path, nginx_installed: None) -> None:
    workshop = Workshop(tmp_path / "work")
    sender = workshop.set_up()
    (workshop.certs / "clients.crl.pem").unlink()
    with pytest.raises(CannotRun, match=r"clients\.crl\.pem"):
        async with Nginx(tmp_path / "nginx", workshop.certs, sender, Cores.of([0]).server):
            pass
