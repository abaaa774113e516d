"""
Time that goes faster in the gateway: its event loop's timers and its clock alike, so that what it waits for keeps its
proportions. A provider's ten seconds are still ten of the gateway's seconds, and a lease still outlives a call.
"""

import asyncio
import mmap
import os
import selectors
import struct
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

SPEED: Final = 10.0
_DOUBLE: Final = struct.Struct("d")


class SharedClock:
    """
    The time of a run, the same in every process: it runs `SPEED` times faster, and leaps where the harness says so.

    Both come from one small file: when the run began (wall clock, monotonic clock) and how far was leapt, in seconds.
    """

    def __init__(self, file: Path, *, create: bool = False) -> None:
        if create:
            file.write_bytes(_DOUBLE.pack(time.time()) + _DOUBLE.pack(time.monotonic()) + _DOUBLE.pack(0.0))
        fd = os.open(file, os.O_RDWR)
        try:
            self._memory = mmap.mmap(fd, 3 * _DOUBLE.size)
        finally:
            os.close(fd)
        self._began = datetime.fromtimestamp(self._double(0), UTC)
        self._began_s = self._double(1)

    def __call__(self) -> datetime:
        passed_s = (time.monotonic() - self._began_s) * SPEED
        return self._began + timedelta(seconds=passed_s + self._double(2))

    @property
    def leapt(self) -> bool:
        """Whether it ever leapt."""
        return self._double(2) > 0

    def leap(self, by: timedelta) -> None:
        """Make it later, for everybody."""
        _DOUBLE.pack_into(self._memory, 2 * _DOUBLE.size, self._double(2) + by.total_seconds())

    def _double(self, place: int) -> float:
        value: float = _DOUBLE.unpack_from(self._memory, place * _DOUBLE.size)[0]
        return value


class _FastSelector(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found: list[tuple[selectors.SelectorKey, int]] = super().select(None if timeout is None else timeout / SPEED)
        return found


class FastLoop(asyncio.SelectorEventLoop):
    """An event loop whose seconds are `SPEED` times shorter."""

    def __init__(self) -> None:
        super().__init__(_FastSelector())

    def time(self) -> float:
        return super().time() * SPEED


def monotonic() -> float:
    """Return the seconds of a clock that never goes back, in the gateway's time."""
    return time.monotonic() * SPEED
