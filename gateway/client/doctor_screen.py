"""How an examination is shown: each finding when it is made, then what to begin with; and one object for programs."""

import os
import shutil
import textwrap
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TextIO

from gateway.client.findings import Check, Finding, Outcome

__all__ = ["Sheet", "report_object"]

_HEADINGS: Final = {
    Check.SENDER_FILE: "Your files",
    Check.NAME_LOOKUP: "The way to the gateway",
    Check.CLIENT_PURPOSE: "Your certificates",
    Check.HANDSHAKE: "What the gateway says",
    Check.RECEIPT_VALIDITY: "Its receipts",
}
_COLOURS: Final = {
    Outcome.OK: "\x1b[32m",
    Outcome.WARNING: "\x1b[33m",
    Outcome.FAILED: "\x1b[1;31m",
    Outcome.SKIPPED: "\x1b[2m",
}
_PLAIN: Final = "\x1b[0m"
_OUTCOME_WIDTH: Final = max(map(len, Outcome))
_LABEL_WIDTH: Final = max(map(len, Check))
_INDENT: Final = 2 + _OUTCOME_WIDTH + 2 + _LABEL_WIDTH + 2
_NARROWEST: Final = 72
_WIDEST: Final = 120


class Sheet:
    """Lays findings out for people. `width`: where lines are folded; None: nowhere, for files and pipes."""

    def __init__(self, *, width: int | None, colour: bool) -> None:
        self._width = width
        self._colour = colour

    @classmethod
    def on(cls, stream: TextIO) -> "Sheet":
        """Return the sheet that suits a stream."""
        if not stream.isatty():
            return cls(width=None, colour=False)
        columns = shutil.get_terminal_size().columns
        return cls(width=min(max(columns, _NARROWEST), _WIDEST), colour="NO_COLOR" not in os.environ)

    def finding(self, finding: Finding) -> str:
        """Return the lines of a finding, under a heading where its part of the examination begins."""
        word = f"{finding.outcome:<{_OUTCOME_WIDTH}}"
        if self._colour:
            word = f"{_COLOURS[finding.outcome]}{word}{_PLAIN}"
        label = finding.check.replace("-", " ")
        first, *more = [*self._folded(finding.found), *self._folded(finding.fix, mark="fix: ")]
        lines = [f"  {word}  {label:<{_LABEL_WIDTH}}  {first}", *(" " * _INDENT + line for line in more)]
        heading = _HEADINGS.get(finding.check)
        if heading is not None:
            lines = [*([] if finding.check is Check.SENDER_FILE else [""]), heading, *lines]
        return "\n".join(lines)

    def summary(self, findings: Sequence[Finding]) -> str:
        """Return what all findings come to, and which one to begin with."""
        wrong = [finding for finding in findings if finding.outcome is Outcome.FAILED]
        warnings = sum(finding.outcome is Outcome.WARNING for finding in findings)
        beside = {0: "", 1: ", with one warning"}.get(warnings, f", with {warnings} warnings")
        if not wrong:
            return f"Nothing found that keeps letters from being sent{beside}."
        count = "One thing keeps" if len(wrong) == 1 else f"{len(wrong)} things keep"
        begin = wrong[0].check.replace("-", " ")
        first = "" if len(wrong) == 1 else f" Begin with the first, {begin}: it may cause others."
        return f"{count} letters from being sent{beside}.{first}"

    def _folded(self, text: str, mark: str = "") -> list[str]:
        lines = (mark + text).splitlines() if text else []
        if self._width is None:
            return lines
        room = self._width - _INDENT
        return [
            part
            for line in lines
            for part in textwrap.wrap(
                line, room, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
            )
        ]


def report_object(file: Path, findings: Sequence[Finding], at: datetime) -> dict[str, Any]:
    """Return an examination for programs; names of checks and facts stay as they are from version to version."""
    counts = Counter(finding.outcome for finding in findings)
    return {
        "sender": str(file),
        "examinedAt": at.isoformat(),
        "outcome": next((each for each in (Outcome.FAILED, Outcome.WARNING) if counts[each]), Outcome.OK),
        "counts": {outcome: counts[outcome] for outcome in Outcome},
        "findings": [
            {
                "name": finding.check,
                "outcome": finding.outcome,
                "found": finding.found,
                "fix": finding.fix or None,
                "unreachable": finding.unreachable,
                "facts": dict(finding.facts),
            }
            for finding in findings
        ],
    }
