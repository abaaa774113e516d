"""How the demonstration tells its story on a terminal."""

import sys
from collections.abc import Sequence
from typing import TextIO

from gateway.client.answers import MessageState, TimelineEvent

_LABEL_WIDTH = 34


class Account:
    """Writes the account as it happens; `held` turns false with the first thing that does not hold."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream = stream
        self.held = True

    def say(self, text: str = "") -> None:
        """Write a line."""
        self._stream.write(text + "\n")
        self._stream.flush()

    def chapter(self, title: str) -> None:
        """Begin a part of the account."""
        self.say()
        self.say(title)
        self.say("─" * len(title))

    def fact(self, label: str, value: str) -> None:
        """Write something that is so."""
        self.say(f"  {label:<{_LABEL_WIDTH}} {value}")

    def check(self, label: str, holds: bool, value: str) -> None:  # noqa: FBT001 -- reads as a sentence at its calls
        """Write something that must be so; the demonstration fails when it is not."""
        self.held = self.held and holds
        self.say(f"  {'✓' if holds else '✗'} {label:<{_LABEL_WIDTH - 2}} {value}")

    def timeline(self, title: str, state: MessageState) -> None:
        """Write what became of a letter."""
        self.say()
        self.say(f"  {title}: {state.status}")
        for event in state.timeline:
            self.say(f"    {event.at:%H:%M:%S}.{event.at.microsecond // 1000:03d}  {_told(event)}")
        copy = state.copy
        until = f" until {copy.until:%Y-%m-%d}" if copy.until is not None else ""
        self.say(f"    copy: {copy.state}{until}")


def _told(event: TimelineEvent) -> str:
    facts = event.facts
    if "channel" not in facts:
        return f"{event.event} by the gateway"
    words: Sequence[str] = [
        f"{facts['channel']:<16}{facts['status']}",
        f"({facts['reason']})" if "reason" in facts else "",
        f"→ {facts['nextChannel']}" if "nextChannel" in facts else "",
    ]
    return " ".join(word for word in words if word)
