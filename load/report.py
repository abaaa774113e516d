"""What a run tells: a table for people, JSON for programs, both from the same values."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

_CPU_INFO: Final = Path("/proc/cpuinfo")


class Verdict(StrEnum):
    """What became of an aim."""

    MET = "met"
    MISSED = "missed"
    OPEN = "not judged"  # could not be measured here; the note says why


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows as text, in columns as wide as they need; the first is flush left, the others too."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (head, rule, *rows)
    )


def machine() -> dict[str, Any]:
    """Return when and where this is measured; the load of the machine belongs to every figure. Blocks."""
    model = "unknown"
    if _CPU_INFO.exists():
        names = [line.partition(":")[2].strip() for line in _CPU_INFO.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "load1": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def machine_line(found: Mapping[str, Any]) -> str:
    """Return the same as one line."""
    return (
        f"{found['at']}  {found['processor']}, {found['cores']} cores, load {found['load1']:.1f} at the start, "
        f"{found['system']}, Python {found['python']}"
    )


def write_json(file: Path, values: Mapping[str, Any]) -> None:
    """Write a report for programs. Blocks."""
    file.write_text(json.dumps(values, indent=2) + "\n")
