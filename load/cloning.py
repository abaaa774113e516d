"""
Messages that look like those that a ledger holds: the rows of real ones, written again under new ids and times.

The rows keep every constraint of the tables, and the sizes of real ones. What is sealed in them is a copy, under the id
of another key, so nobody can open it: such a ledger is for measuring. The messages were delivered, and their documents
erased, long ago.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

Row = Mapping[str, Any]

# In the order in which rows are added, so that what is referred to is there.
TABLES: Final = (
    "dek", "message", "reference", "blob", "document", "delivery", "attempt", "log_entry", "evidence", "feed_event",
)  # fmt: skip
# The columns that give a message's rows their own ids; wherever such an id stands, the clone's stands in the clone.
_OWN_IDS: Final = {
    "message": "message_id",
    "dek": "dek_id",
    "document": "document_id",
    "delivery": "delivery_id",
    "log_entry": "entry_id",
}
# What is said of a message that was delivered, in the columns that a table has.
_SETTLED: Final[Mapping[str, Row]] = {
    "message": {"status": "delivered", "copy_state": "erased", "copy_until": None},
    "delivery": {
        "status": "delivered",
        "next_action": "none",
        "due_at": None,
        "deadline_at": None,
        "lease_until": None,
    },
}
# Of documents that were erased: when is told by the time at which their message was accepted.
_ERASED: Final = {"document": ("key_destroyed_at", "blob_erased_at")}
_TIMES: Final = frozenset(
    {
        "at", "accepted_at", "created_at", "deliver_not_before", "deliver_before", "key_destroyed_at", "blob_erased_at",
        "status_at", "handed_over_at", "posted_at", "read_seen_at", "first_attempt_at", "started_at", "ended_at",
        "numbered_at", "signed_at", "deadline_at",
    }
)  # fmt: skip
_PEOPLE: Final = frozenset({"recipient_index", "about_index"})
_LETTERS_EACH: Final = 5  # of one recipient, in ten years
_FEED_KEPT: Final = timedelta(days=400)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a database writes ids and times."""

    id_of: Callable[[UUID], Any]
    time_of: Callable[[datetime], Any]


@dataclass(slots=True, kw_only=True)
class Numbering:
    """The last numbers given out: positions of keys (where they have one), messages, log entries; events of a feed."""

    dek: int
    message: int
    log_entry: int
    event: int


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A row to be filled in: places of ids (with the number of the id), of times, of the person, of the reference."""

    table: str
    values: tuple[Any, ...]
    ids: tuple[tuple[int, int], ...]
    times: tuple[int, ...]
    people: tuple[int, ...]
    reference: int | None
    position: int | None
    event: int | None
    entry: int  # of a feed event: which of the log entries it is about


class Sample:
    """A real message, taken apart: `rows` are all its rows by table, those of its own keys among them."""

    def __init__(self, rows: Mapping[str, Sequence[Row]], form: Form) -> None:
        self._accepted_at = rows["message"][0]["accepted_at"]
        own = [row[column] for table, column in _OWN_IDS.items() for row in rows.get(table, ())]
        self.ids: Final = len(own)
        numbers = {value: number for number, value in enumerate(own)}  # the message's own is the first
        entries = [row["position"] for row in rows["log_entry"]]
        self.patterns: Final = [
            _pattern(table, self._settled(table, row), numbers, entries, form)
            for table in TABLES
            for row in rows.get(table, ())
        ]

    @property
    def accepted_at(self) -> Any:
        """When it was accepted, as the database writes it."""
        return self._accepted_at

    def _settled(self, table: str, row: Row) -> Row:
        settled = {column: value for column, value in _SETTLED.get(table, {}).items() if column in row}
        return {**row, **settled, **dict.fromkeys(_ERASED.get(table, ()), self._accepted_at)}


def _pattern(table: str, row: Row, numbers: Mapping[Any, int], entries: Sequence[int], form: Form) -> _Pattern:
    columns = list(row)
    values = list(row.values())
    places = {column: place for place, column in enumerate(columns)}
    is_id = type(form.id_of(UUID(int=0)))
    ids = tuple(
        (place, numbers[value]) for place, value in enumerate(values) if isinstance(value, is_id) and value in numbers
    )

    def set_in(names: frozenset[str]) -> tuple[int, ...]:
        return tuple(place for column, place in places.items() if column in names and row[column] is not None)

    return _Pattern(
        table=table,
        values=tuple(values),
        ids=ids,
        times=set_in(_TIMES),
        people=set_in(_PEOPLE),
        reference=places.get("reference"),
        position=places.get("position"),
        event=places["number"] if table == "feed_event" else None,
        entry=entries.index(row["position"]) if table == "feed_event" else 0,
    )


def spread(count: int, first: datetime, last: datetime) -> Iterator[datetime]:
    """Yield so many times between two, in order and evenly."""
    step = (last - first) / max(count, 1)
    return (first + step * number for number in range(count))


def clone(
    samples: Sequence[Sample], times: Iterator[datetime], numbering: Numbering, form: Form, now: datetime
) -> Iterator[tuple[UUID, list[tuple[str, tuple[Any, ...]]]]]:
    """Yield a message for each of `times`: its id, and its rows with their tables, in the order of `TABLES`."""
    draw = random.Random(1)  # noqa: S311 -- ids of made-up messages
    for number, at in enumerate(times):
        sample = samples[number % len(samples)]
        fresh = _new_ids(at, sample.ids, draw)
        yield fresh[0], _filled(sample, number, at, [form.id_of(each) for each in fresh], numbering, form, now)


def _new_ids(at: datetime, count: int, draw: random.Random) -> list[UUID]:
    ms = int(at.timestamp() * 1000)
    high = (ms << 80) | (7 << 76) | (2 << 62)
    return [UUID(int=high | (draw.getrandbits(12) << 64) | draw.getrandbits(62)) for _ in range(count)]


def _filled(  # noqa: PLR0917 -- one private call, in the innermost loop
    sample: Sample, number: int, at: datetime, ids: list[Any], numbering: Numbering, form: Form, now: datetime
) -> list[tuple[str, tuple[Any, ...]]]:
    person = sha256(b"recipient %d" % (number // _LETTERS_EACH)).digest()
    moved_by, in_feed = form.time_of(at) - sample.accepted_at, now - at < _FEED_KEPT
    rows, positions = list[tuple[str, tuple[Any, ...]]](), list[int]()
    for pattern in sample.patterns:
        if pattern.event is not None and not in_feed:
            continue
        values = list(pattern.values)
        for place, which in pattern.ids:
            values[place] = ids[which]
        for place in pattern.times:
            values[place] += moved_by
        for place in pattern.people:
            values[place] = person
        if pattern.reference is not None:
            values[pattern.reference] = f"ten-years-{number}"
        if pattern.event is not None:
            numbering.event += 1
            values[pattern.event] = numbering.event
        if pattern.position is not None:
            match pattern.table:
                case "dek":
                    numbering.dek += 1
                    values[pattern.position] = numbering.dek
                case "message":
                    numbering.message += 1
                    values[pattern.position] = numbering.message
                case "log_entry":
                    numbering.log_entry += 1
                    positions.append(numbering.log_entry)
                    values[pattern.position] = numbering.log_entry
                case _:
                    values[pattern.position] = positions[pattern.entry]
        rows.append((pattern.table, tuple(values)))
    return rows
