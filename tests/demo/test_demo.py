"""`gateway demo` as a person and as a program runs it: a process of its own, which leaves nothing behind."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import tomli_w

from gateway.client import Document, GatewayClient, Letter, MessageState, load_sender
from gateway.demo.letters import letter_pdf
from gateway.domain.ids import EnterpriseNumber, Ssin
from gateway.domain.message import Channel, PostalAddress, Recipient

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "gateway", "demo"]
WAIT_S = 60
ADDRESS = PostalAddress(
    name="Jan Peeters", street="Kerkstraat", house_number="12", postcode="9000", municipality="Gent", country="BE"
)

Demo = subprocess.Popen[str]
StartDemo = Callable[..., Demo]


@pytest.fixture
def start_demo() -> Iterator[StartDemo]:
    started: list[Demo] = []

    def start(*arguments: str) -> Demo:
        demo = subprocess.Popen(
            [*COMMAND, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(demo)
        return demo

    yield start
    for demo in started:
        if demo.poll() is None:
            demo.terminate()
        demo.communicate(timeout=WAIT_S)


def descendants(pid: int) -> list[int]:
    """Return the processes below `pid`."""
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return [*children, *(below for child in children for below in descendants(child))]


def alive(pids: list[int]) -> list[int]:
    found = []
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if "\nState:\tZ" not in status:
            found.append(pid)
    return found


# ── For a person ──


@pytest.mark.parametrize("own", [False, True], ids=["a made-up letter", "a PDF of one's own"])
def test_the_demonstration_holds_and_says_so(
    start_demo: StartDemo,
    tmp_path: Path,
    own: bool,  # noqa: FBT001 -- pytest names it
) -> None:
    pdf = tmp_path / "own.pdf"
    pdf.write_bytes(letter_pdf("Een eigen brief", ["Niemand anders heeft deze brief."]))
    demo = start_demo("--state", str(tmp_path / "state"), *(["--pdf", str(pdf)] if own else []))
    out, err = demo.communicate(timeout=WAIT_S)
    assert (demo.returncode, err) == (0, "")
    assert "All of this held." in out
    assert "✗" not in out
    assert (f"{pdf.stat().st_size:,} bytes, SHA-256 equal" in out) == own


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--pdf", "no-such-file.pdf"], "no-such-file.pdf cannot be read: No such file or directory"),
        (["--json"], "--json goes with --keep"),
    ],
)
def test_wrong_use_is_told_in_one_line(start_demo: StartDemo, tmp_path: Path, arguments: list[str], told: str) -> None:
    demo = start_demo("--state", str(tmp_path / "state"), *arguments)
    out, err = demo.communicate(timeout=WAIT_S)
    assert (demo.returncode, out, err) == (1, "", f"gateway: {told}\n")


def test_a_folder_with_other_things_in_it_is_left_alone(start_demo: StartDemo, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    demo = start_demo("--state", str(tmp_path))
    _, err = demo.communicate(timeout=WAIT_S)
    assert demo.returncode == 1
    assert "is not empty and was not made by a demonstration" in err
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


# ── For a program ──


def letter(content: bytes, category: str, recipient: Recipient, channel: Channel) -> Letter:
    return Letter(
        recipient=recipient,
        category=category,
        purpose="Aanslagbiljet 2026",
        subject="Uw aanslagbiljet",
        documents=[Document(content=content, filename="brief.pdf")],
        channels=[channel],
    )


def sender_file(told: Any, sender: Any, file: Path) -> Path:
    values = {
        "base_url": told["sender_api"],
        "gateway": told["gateway"],
        "ca": told["ca"],
        "receipt_certificate": told["receipt_cert"],
        "certificate": sender["cert"],
        "key": sender["key"],
        "enterprise_number": sender["enterprise_number"],
        "profile": sender["profile"],
    }
    file.write_text(tomli_w.dumps(values))
    return file


async def arrives(client: GatewayClient, one: Letter) -> MessageState:
    sent = await client.send(one)
    return [state async for state in client.follow(sent.message_id)][-1]


async def kept_documents(told: Any) -> list[str]:
    digests = []
    async with aiohttp.ClientSession() as session:
        for base in told["simulators"].values():
            async with session.get(f"{base}/_simulator/records") as response:
                kept = (await response.json())["kept"]
                digests += [document["sha256"] for each in kept for document in each["documents"]]
    return digests


async def drive(told: Any, folder: Path) -> None:
    """Let every sender send its first category to every recipient on every channel that reaches it."""
    recipients = [
        (Recipient(ssin=Ssin(told["recipients"]["citizen"]), address=ADDRESS), Channel.EBOX_CITIZEN),
        (Recipient(ssin=Ssin(told["recipients"]["citizen_without_ebox"]), address=ADDRESS), Channel.EBOX_CITIZEN),
        (
            Recipient(enterprise_number=EnterpriseNumber(told["recipients"]["enterprise"]), address=ADDRESS),
            Channel.EBOX_ENTERPRISE,
        ),
    ]
    digests: list[str] = []
    for number, sender in enumerate(told["senders"]):
        profile = await asyncio.to_thread(load_sender, sender_file(told, sender, folder / f"{number}.toml"))
        async with GatewayClient(profile) as client:
            letters = [
                letter(written(number, place, channel), sender["categories"][0], recipient, channel)
                for place, (recipient, ebox) in enumerate(recipients)
                for channel in (ebox, Channel.PRINT)
            ]
            states = await asyncio.gather(*(arrives(client, each) for each in letters))
        assert [state.status for state in states] == ["delivered"] * len(letters)
        digests += [document["sha256"] for state in states for document in state.view["documents"]]
    assert len(set(digests)) == 12
    kept = await kept_documents(told)
    assert [kept.count(digest) for digest in digests] == [1] * len(digests)


def written(number: int, place: int, channel: Channel) -> bytes:
    return letter_pdf("Brief", [f"Van {number} aan {place} via {channel}."])


async def test_a_program_can_drive_what_is_kept_running(start_demo: StartDemo, tmp_path: Path) -> None:
    demo = await asyncio.to_thread(start_demo, "--keep", "--json", "--state", str(tmp_path / "state"))
    assert demo.stdout is not None
    line = await asyncio.to_thread(demo.stdout.readline)
    told = json.loads(line)
    assert set(told) == {
        "gateway", "sender_api", "portal", "ops", "ca", "receipt_cert", "senders", "recipients", "simulators", "state",
    }  # fmt: skip
    assert [set(sender) for sender in told["senders"]] == [
        {"enterprise_number", "cert", "key", "profile", "categories"}
    ] * 2
    assert set(told["recipients"]) == {"citizen", "citizen_without_ebox", "enterprise"}
    assert set(told["simulators"]) == {"ebox", "print"}
    await drive(told, tmp_path)

    processes = descendants(demo.pid)
    assert len(processes) >= 2
    demo.send_signal(signal.SIGTERM)
    rest, _ = await asyncio.to_thread(demo.communicate, timeout=WAIT_S)
    assert (demo.returncode, rest) == (0, "")
    assert alive(processes) == []


def test_a_start_that_is_broken_off_leaves_no_process(start_demo: StartDemo, tmp_path: Path) -> None:
    demo = start_demo("--keep", "--json", "--state", str(tmp_path / "state"))
    deadline_s = time.monotonic() + WAIT_S
    while len(processes := descendants(demo.pid)) < 2:  # the simulators and the gateway
        assert demo.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    demo.send_signal(signal.SIGTERM)
    demo.communicate(timeout=WAIT_S)
    assert demo.returncode == 130
    assert alive(processes) == []
