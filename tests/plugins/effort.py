"""How much work SQLite does for something, counted in the steps of its virtual machine: the same on every machine."""

from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

import apsw

Row = tuple[Any, ...]


def steps_of(connection: apsw.Connection, work: Callable[[apsw.Connection], Any]) -> int:
    """Return the steps of all statements that `work` runs to their end."""
    steps: list[int] = []

    def note(event: dict[str, Any]) -> None:
        steps.append(event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"])

    connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, note)
    try:
        work(connection)
    finally:
        connection.trace_v2(0)
    assert steps
    return sum(steps)


def add_deliveries(connection: apsw.Connection, count: int, **columns: Any) -> None:
    """Add deliveries without messages, as rows: due at 0, of a sender in bulk at house-a, unless `columns` differ."""
    usual: dict[str, Any] = {
        "number": 1,
        "channel": "print",
        "provider": "house-a",
        "lane": "bulk",
        "status": "waiting",
        "status_at": 0,
        "next_action": "send",
        "due_at": 0,
        "deadline_at": 0,
        "sender": "0406798006",
    }
    named = {**usual, **columns}
    marks = ", ".join("?" for _ in range(len(named) + 2))
    statement = f"INSERT INTO delivery (delivery_id, message_id, {', '.join(named)}) VALUES ({marks})"  # noqa: S608 -- names of columns
    rows: Iterable[Row] = ((uuid4().bytes, uuid4().bytes, *named.values()) for _ in range(count))
    with connection:
        connection.executemany(statement, rows)
