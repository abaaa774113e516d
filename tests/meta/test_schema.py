"""Holds `schema.sql`, which people read, to the sum of the migrations, which make every real ledger."""

import re
from collections.abc import Sequence
from pathlib import Path

import apsw
import pytest

SQLITE = Path(__file__).parents[2] / "gateway" / "stores" / "sqlite"
MIGRATIONS = sorted(SQLITE.joinpath("migrations").iterdir())
NAME = re.compile(r"(?P<number>\d{4})_(?:pre|post)_[a-z0-9_]+\.sql")

# A comment, which is dropped; or a string, a word, or a mark.
TOKEN = re.compile(r"--[^\n]*|/\*.*?\*/|('(?:[^']|'')*'|\w+|[^\s\w])", re.DOTALL)


def normalised(sql: str) -> str:
    """Return `sql` without what SQLite keeps of its layout: comments, white space, the quotes around names."""
    return " ".join(token for token in TOKEN.findall(sql) if token not in {"", '"'})


def schema_after(scripts: Sequence[str]) -> dict[str, str]:
    """Return what an empty database holds after `scripts`: each object's type, name and table, and its definition."""
    with apsw.Connection(":memory:") as connection:
        for script in scripts:
            connection.execute(script)
        rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
    return {f"{kind} {name} of {table}": normalised(str(sql)) for kind, name, table, sql in rows}


def misnumbered(names: Sequence[str]) -> list[str]:
    """Return the names, in the order of the directory, that are not the next number of the series 0001, 0002, …"""
    return [
        name
        for number, name in enumerate(names, start=1)
        if not (match := NAME.fullmatch(name)) or int(match["number"]) != number
    ]


def test_migrations_are_numbered_without_gap_or_double() -> None:
    assert MIGRATIONS
    assert misnumbered([path.name for path in MIGRATIONS]) == []


def test_schema_equals_the_sum_of_the_migrations() -> None:
    summed = schema_after([path.read_text("utf-8") for path in MIGRATIONS])
    assert summed
    assert schema_after([SQLITE.joinpath("schema.sql").read_text("utf-8")]) == summed


@pytest.mark.parametrize(
    "names",
    [
        ["0002_pre_late_start.sql"],
        ["0001_pre_first.sql", "0003_post_gap.sql"],
        ["0001_pre_first.sql", "0001_post_double.sql"],
        ["0001_first.sql"],
        ["0001_pre_first.sql", "notes.txt"],
    ],
)
def test_a_wrong_number_is_found(names: list[str]) -> None:
    assert len(misnumbered(names)) == 1


def test_layout_makes_no_difference() -> None:
    by_hand = "CREATE TABLE a (x INTEGER, -- why\n  y TEXT DEFAULT 'two  words'\n);"
    by_migration = ["CREATE TABLE first(x INTEGER)", "ALTER TABLE first ADD COLUMN y TEXT DEFAULT 'two  words'"]
    assert schema_after([by_hand]) == schema_after([*by_migration, "ALTER TABLE first RENAME TO a"])


@pytest.mark.parametrize(
    "other",
    [
        "CREATE TABLE a (x INTEGER)",
        "CREATE TABLE a (x INTEGER, y TEXT DEFAULT 'two words')",
        "CREATE TABLE a (x INTEGER, y TEXT DEFAULT 'two  words'); CREATE INDEX a_by_x ON a (x)",
        "CREATE TABLE a (x INTEGER, y TEXT DEFAULT 'two  words' NOT NULL)",
    ],
)
def test_a_difference_is_found(other: str) -> None:
    assert schema_after(["CREATE TABLE a (x INTEGER, y TEXT DEFAULT 'two  words')"]) != schema_after([other])
