"""
Measures how much memory the gateway needs to accept one document of 30 MB.

    .venv/bin/python -m load memory

A gateway of its own is started in a temporary folder and warmed up with letters, of which every second is large enough
for a blob of its own. Then the peak of its resident memory is set back to what it has now (proc(5), clear_refs; where
the kernel lacks that, the memory is sampled), and one large letter is handed over that is to be delivered tomorrow, so
that only its acceptance is measured. Exit code 1 when the memory rises by `LIMIT_BYTES` or more: a document streams
through, and is never held.
"""

import asyncio
import os
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from gateway.client import Document, GatewayClient, Letter
from gateway.demo.environment import Environment
from gateway.demo.letters import letter_pdf
from gateway.demo.story import SENDERS, sender_profile
from gateway.domain.ids import Ssin
from gateway.domain.message import Channel, PostalAddress, Recipient
from gateway.simulators.magic import CITIZEN_FINE

DOCUMENT_BYTES: Final = 29_900_000
LIMIT_BYTES: Final = 1_048_576
_SMALL_LETTERS: Final = 40
_BLOB_BYTES: Final = 300_000  # more than is enclosed in the ledger
_SAMPLE_S: Final = 0.005
_RESET_PEAK: Final = "5"  # proc(5): sets VmHWM to the present VmRSS


@dataclass(frozen=True, slots=True, kw_only=True)
class Rise:
    """Resident memory before, and the most that there was; `sampled`: the true peak may lie between two samples."""

    before_bytes: int
    peak_bytes: int
    sampled: bool

    @property
    def rise_bytes(self) -> int:
        """The difference."""
        return self.peak_bytes - self.before_bytes


class Watch:
    """Watches the resident memory of a process while the context is open; `rise` tells afterwards."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        self._sampled = False
        self._before_bytes = 0
        self._most_bytes = 0
        self._sampler: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            (self._folder / "clear_refs").write_text(_RESET_PEAK)
        except OSError:
            self._sampled = True
        self._before_bytes = self._most_bytes = self._read("VmRSS")
        self._sampled = self._sampled or self._read("VmHWM") > self._before_bytes + LIMIT_BYTES // 8
        self._sampler = asyncio.create_task(self._sample())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._most_bytes = max(self._most_bytes, self._read("VmRSS" if self._sampled else "VmHWM"))
        if self._sampler is not None:
            self._sampler.cancel()
            with suppress(asyncio.CancelledError):
                await self._sampler

    @property
    def rise(self) -> Rise:
        """What was seen."""
        return Rise(before_bytes=self._before_bytes, peak_bytes=self._most_bytes, sampled=self._sampled)

    async def _sample(self) -> None:
        while True:
            self._most_bytes = max(self._most_bytes, self._read("VmRSS"))
            await asyncio.sleep(_SAMPLE_S)

    def _read(self, name: str) -> int:
        for line in (self._folder / "status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise LookupError(f"{self._folder}/status has no {name}")


def letter(content: bytes, *, deliver_not_before: datetime | None = None) -> Letter:
    """Return a letter on paper with one document."""
    return Letter(
        recipient=Recipient(
            ssin=Ssin(CITIZEN_FINE),
            address=PostalAddress(
                name="Jan Peeters",
                street="Kerkstraat",
                house_number="12",
                postcode="9000",
                municipality="Gent",
                country="BE",
            ),
        ),
        category="tax-assessment",
        purpose="Aanslagbiljet 2026",
        subject="Uw aanslagbiljet",
        documents=[Document(content=content, filename="brief.pdf")],
        channels=[Channel.PRINT],
        deliver_not_before=deliver_not_before,
    )


async def measure(state: Path) -> Rise:
    """Start a gateway in `state`, and return how far its memory rises while it accepts the large letter."""
    small = letter_pdf("Een kleine brief", ["Om warm te lopen."])
    medium, large = (small + b"\n%" + os.urandom(size - len(small) - 2) for size in (_BLOB_BYTES, DOCUMENT_BYTES))
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    async with Environment(state) as environment:
        pid = environment.gateway_pid
        if pid is None:
            raise RuntimeError("the gateway does not run")
        profile = await asyncio.to_thread(sender_profile, environment, SENDERS[0])
        async with GatewayClient(profile) as client:
            for number in range(_SMALL_LETTERS):
                await client.send(letter(medium if number % 2 else small, deliver_not_before=tomorrow))
            async with Watch(pid) as watch:
                await client.send(letter(large, deliver_not_before=tomorrow))
    return watch.rise


def main() -> int:
    """Measure, tell, and return the exit code."""
    with tempfile.TemporaryDirectory(prefix="gateway-memory-") as folder:
        found = asyncio.run(measure(Path(folder) / "state"))
    how = "sampled" if found.sampled else "peak"
    print(
        f"resident memory rose by {found.rise_bytes / 1e6:.1f} MB ({how}; {found.before_bytes / 1e6:.1f} MB before) "
        f"while a document of {DOCUMENT_BYTES / 1e6:.1f} MB was accepted; it must stay below {LIMIT_BYTES / 1e6:.1f} MB"
    )
    return int(found.rise_bytes >= LIMIT_BYTES)


if __name__ == "__main__":
    sys.exit(main())
