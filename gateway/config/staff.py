"""Reads who works on the gateway and what each role may do: `staff.toml` and `security-matrix.toml`."""

from pathlib import Path
from typing import Final

from gateway.config.reader import ConfigInvalid, Findings, Table, open_table
from gateway.config.values import DATE, Kind, choice, integer, text
from gateway.domain.staff import (
    MANAGERS,
    Part,
    Person,
    Role,
    SecurityMatrix,
    Staff,
    Verb,
    forbidden,
    incompatible,
)

SELF: Final = "self"  # stands for the user id of the gateway's own process

_PART: Final = choice(tuple(Part))
_ROLE: Final = choice(tuple(Role))
_VERB: Final = choice(tuple(Verb))
_UID: Final = integer(0, 4_294_967_294)  # the highest that uid_t of Linux holds, less the one that means "none"


def load_staff(file: Path, *, self_uid: int | None = None) -> Staff:
    """
    Read who works on the gateway. Blocks.

    `self_uid` is what `uid = "self"` stands for, which is for development; None refuses it.

    Raises:
        ConfigInvalid: the file cannot be read or holds mistakes; all of them.
    """
    findings = Findings()
    root = open_table(file, findings)
    if root is None:
        raise ConfigInvalid(findings.errors)
    names: set[str] = set()
    uids: set[int] = set()
    persons: list[Person] = []
    for table in root.tables("persons"):
        person = _read_person(table, _uid(self_uid))
        if person.name and person.name in names:
            table.wrong("name", "stands there twice; each person stands here once")
        if person.uid != _NOBODY and person.uid in uids:
            table.wrong("uid", "stands there twice; a user id tells who acts, so no two persons share one")
        names.add(person.name)
        uids.add(person.uid)
        persons.append(person)
    root.finish()
    findings.raise_if_any()
    return Staff(persons=tuple(persons))


def load_security_matrix(file: Path) -> SecurityMatrix:
    """
    Read what each role may do with each part. Blocks.

    Raises:
        ConfigInvalid: the file cannot be read or holds mistakes; all of them.
    """
    findings = Findings()
    root = open_table(file, findings)
    if root is None:
        raise ConfigInvalid(findings.errors)
    grants = {part: _read_row(root.table(written), part) for written, part in root.names(_PART)}
    root.finish()
    findings.raise_if_any()
    return SecurityMatrix(grants=grants)


_NOBODY: Final = -1


def _uid(self_uid: int | None) -> Kind[int]:
    def parse(value: object) -> int:
        if value != SELF:
            return _UID.parse(value)
        if self_uid is None:
            raise ValueError(f'must be a number; "{SELF}" is for development only')
        return self_uid

    return Kind(parse, _NOBODY)


def _read_person(table: Table, uid: Kind[int]) -> Person:
    person = Person(
        name=table.required("name", text(longest=100)),
        uid=table.required("uid", uid),
        roles=frozenset(table.required_list("roles", _ROLE)),
        confidentiality_statement=table.required("confidentiality_statement", DATE),
        until=table.required("until", DATE),
    )
    if incompatible(person.roles):
        table.wrong("roles", f"operator goes with none of: {', '.join(sorted(MANAGERS))}; give them to another person")
    if person.until < person.confidentiality_statement and table.states("until"):
        table.wrong("until", "lies before the date of the confidentiality statement")
    return person


def _read_row(table: Table, part: Part) -> dict[Role, frozenset[Verb]]:
    row: dict[Role, frozenset[Verb]] = {}
    for written, role in table.names(_ROLE):
        verbs = table.required_list(written, _VERB)
        for number, verb in enumerate(verbs):
            why = forbidden(role, part, verb)
            if why is not None:
                table.wrong(written, why, number=number)
        row[role] = frozenset(verbs)
    return row
