"""Who may operate the gateway: what the files may say, and what they can never grant."""

from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from gateway.config.staff import load_security_matrix, load_staff
from gateway.domain.staff import LOGS, MANAGERS, Part, Person, Role, SecurityMatrix, Staff, Verb, incompatible

Values = dict[str, Any]
Change = Callable[[Values, Mapping[str, Any]], Values]
Write = Callable[[str, Values], Path]
Mistakes = Callable[[Callable[[], object]], dict[str, str]]

FROM, UNTIL = date(2026, 1, 10), date(2026, 12, 31)


@pytest.fixture
def staff() -> Values:
    """Two persons that `load_staff` takes."""
    return {
        "persons": [
            {
                "name": "Ann",
                "uid": 1000,
                "roles": ["operator", "support"],
                "confidentiality_statement": FROM,
                "until": UNTIL,
            },
            {
                "name": "Bo",
                "uid": 1001,
                "roles": ["key-manager"],
                "confidentiality_statement": "2026-01-10",
                "until": "2026-12-31",
            },
        ]
    }


def test_a_file_becomes_staff(write: Write, staff: Values) -> None:
    assert load_staff(write("staff.toml", staff)) == Staff(
        persons=(
            Person(
                name="Ann",
                uid=1000,
                roles=frozenset({Role.OPERATOR, Role.SUPPORT}),
                confidentiality_statement=FROM,
                until=UNTIL,
            ),
            Person(
                name="Bo", uid=1001, roles=frozenset({Role.KEY_MANAGER}), confidentiality_statement=FROM, until=UNTIL
            ),
        )
    )


def test_self_is_the_given_user(write: Write, staff: Values, changed: Change) -> None:
    file = write("staff.toml", changed(staff, {"persons/0/uid": "self"}))
    assert load_staff(file, self_uid=42).persons[0].uid == 42


def test_self_cannot_be_somebody_else_as_well(write: Write, staff: Values, changed: Change, mistakes: Mistakes) -> None:
    file = write("staff.toml", changed(staff, {"persons/0/uid": "self"}))
    assert list(mistakes(lambda: load_staff(file, self_uid=1001))) == ["staff.toml: persons[1].uid"]


@pytest.mark.parametrize(
    ("changes", "pointer", "words"),
    [
        ({"persons/0/uid": "self"}, "persons[0].uid", "for development only"),
        ({"persons/0/uid": "ann"}, "persons[0].uid", "must be a whole number"),
        ({"persons/0/uid": -1}, "persons[0].uid", "from 0"),
        ({"persons/1/uid": 1000}, "persons[1].uid", "no two persons share one"),
        ({"persons/1/name": "Ann"}, "persons[1].name", "twice"),
        ({"persons/0/roles": ["boss"]}, "persons[0].roles[0]", "must be one of: operator"),
        ({"persons/0/roles": []}, "persons[0].roles", "at least one"),
        ({"persons/0/roles": ["operator", "key-manager"]}, "persons[0].roles", "goes with none of"),
        ({"persons/0/confidentiality_statement": ...}, "persons[0].confidentiality_statement", "is missing"),
        ({"persons/0/until": ...}, "persons[0].until", "is missing"),
        ({"persons/0/until": date(2026, 1, 9)}, "persons[0].until", "before the date"),
        ({"persons/0/phone": "1"}, "persons[0].phone", "is not known here"),
        ({"person": []}, "person", "did you mean persons?"),
    ],
)
def test_a_mistake_about_staff_is_told(
    write: Write,
    staff: Values,
    changed: Change,
    mistakes: Mistakes,
    *,
    changes: Values,
    pointer: str,
    words: str,
) -> None:
    told = mistakes(lambda: load_staff(write("staff.toml", changed(staff, changes))))
    assert list(told) == [f"staff.toml: {pointer}"]
    assert words in told[f"staff.toml: {pointer}"]


@pytest.mark.parametrize("manager", sorted(MANAGERS))
def test_an_operator_manages_nothing(manager: Role) -> None:
    assert incompatible({Role.OPERATOR, manager})
    assert not incompatible({manager, *MANAGERS})
    assert not incompatible({Role.OPERATOR, Role.DPO, Role.AUDITOR, Role.SUPPORT})


@pytest.mark.parametrize(
    ("on", "name"),
    [(date(2026, 1, 9), None), (FROM, "Ann"), (UNTIL, "Ann"), (date(2027, 1, 1), None)],
)
def test_a_person_acts_from_the_statement_to_the_end_date(
    write: Write, staff: Values, on: date, name: str | None
) -> None:
    person = load_staff(write("staff.toml", staff)).person(1000, on=on)
    assert (person.name if person else None) == name


def test_an_unknown_user_is_nobody(write: Write, staff: Values) -> None:
    assert load_staff(write("staff.toml", staff)).person(0, on=FROM) is None


def test_only_what_the_matrix_grants_is_allowed(write: Write) -> None:
    matrix = load_security_matrix(write("m.toml", {"messages": {"operator": ["read", "modify"], "auditor": ["read"]}}))
    allowed = {(role, part, verb) for role in Role for part in Part for verb in Verb if matrix.may(role, part, verb)}
    assert allowed == {
        (Role.OPERATOR, Part.MESSAGES, Verb.READ),
        (Role.OPERATOR, Part.MESSAGES, Verb.MODIFY),
        (Role.AUDITOR, Part.MESSAGES, Verb.READ),
    }
    assert matrix.role_for({Role.OPERATOR, Role.AUDITOR}, Part.MESSAGES, Verb.MODIFY) is Role.OPERATOR
    assert matrix.role_for({Role.OPERATOR, Role.AUDITOR}, Part.MESSAGES, Verb.READ) is Role.AUDITOR
    assert matrix.role_for({Role.DPO}, Part.MESSAGES, Verb.READ) is None
    assert matrix.role_for((), Part.MESSAGES, Verb.READ) is None


def test_an_empty_matrix_allows_nothing() -> None:
    assert not any(SecurityMatrix().may(role, part, verb) for role in Role for part in Part for verb in Verb)


@pytest.mark.parametrize(
    ("matrix", "pointer", "words"),
    [
        ({"content": {"operator": ["read"]}}, "content", "the name of this key: must be one of: gateway, messages"),
        ({"messages": {"boss": ["read"]}}, "messages.boss", "must be one of: operator"),
        ({"messages": {"operator": ["delete"]}}, "messages.operator[0]", "read, write, modify"),
        ({"messages": {"operator": "read"}}, "messages.operator", "must be an array"),
        ({"messages": ["operator"]}, "messages", "must be a table"),
        ({"keys": {"operator": ["read", "modify"]}}, "keys.operator[1]", "never changes access, certificates or keys"),
        ({"access": {"operator": ["write"]}}, "access.operator[0]", "never changes"),
        *(
            ({log: {"auditor": ["read", "modify"]}}, f"{log}.auditor[1]", "only read can be granted")
            for log in sorted(LOGS)
        ),
        ({"admin-log": {"access-manager": ["write"]}}, "admin-log.access-manager[0]", "only read can be granted"),
    ],
)
def test_a_mistake_in_the_matrix_is_told(
    write: Write, mistakes: Mistakes, matrix: Values, pointer: str, words: str
) -> None:
    told = mistakes(lambda: load_security_matrix(write("m.toml", matrix)))
    assert list(told) == [f"m.toml: {pointer}"]
    assert words in told[f"m.toml: {pointer}"]


@pytest.mark.parametrize("load", [load_staff, load_security_matrix])
def test_a_missing_file_is_told(load: Callable[[Path], object], tmp_path: Path, mistakes: Mistakes) -> None:
    assert mistakes(lambda: load(tmp_path / "f.toml")) == {"f.toml": "cannot be read: No such file or directory"}
