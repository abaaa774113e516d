"""
Who works on the gateway, and what each role may do. Read from `config/staff.toml` and `config/security-matrix.toml`.

Nobody reads the content of a letter by role alone: it is no part of the matrix, so no file can grant it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum


class Role(StrEnum):
    """What a person is trusted with."""

    OPERATOR = "operator"
    CERTIFICATE_MANAGER = "certificate-manager"
    KEY_MANAGER = "key-manager"
    ACCESS_MANAGER = "access-manager"
    DPO = "dpo"
    AUDITOR = "auditor"
    SUPPORT = "support"


MANAGERS = frozenset({Role.CERTIFICATE_MANAGER, Role.KEY_MANAGER, Role.ACCESS_MANAGER})


class Part(StrEnum):
    """What a right is about."""

    GATEWAY = "gateway"  # its state, its configuration, stopping and reloading it
    MESSAGES = "messages"  # what became of messages and deliveries; never their content
    CHANNELS = "channels"  # pausing and resuming a provider
    SENDERS = "senders"  # registrations and suspensions
    ACCESS = "access"  # persons, roles and this matrix
    CERTIFICATES = "certificates"
    KEYS = "keys"
    RETENTION = "retention"  # terms and holds
    TRAFFIC_LOG = "traffic-log"
    PRIVACY_LOG = "privacy-log"
    ADMIN_LOG = "admin-log"
    REPORTS = "reports"


LOGS = frozenset({Part.TRAFFIC_LOG, Part.PRIVACY_LOG, Part.ADMIN_LOG})
# What managers answer for and operators therefore never change.
MANAGED = frozenset({Part.ACCESS, Part.CERTIFICATES, Part.KEYS})


class Verb(StrEnum):
    """What is done with a part."""

    READ = "read"
    WRITE = "write"  # add something new
    MODIFY = "modify"  # change or end what is there


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A member of staff, known by the user id of their processes; in service from the statement until the end date."""

    name: str
    uid: int
    roles: frozenset[Role]
    confidentiality_statement: date
    until: date

    def in_service(self, on: date) -> bool:
        """Tell whether the person may act on this day; the first and the last day count."""
        return self.confidentiality_statement <= on <= self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Staff:
    """Everybody who may operate the gateway; no two share a name or a user id."""

    persons: tuple[Person, ...] = ()

    def person(self, uid: int, *, on: date) -> Person | None:
        """Return who has this user id and is in service on this day, or None: a stranger."""
        return next((person for person in self.persons if person.uid == uid and person.in_service(on)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityMatrix:
    """Part by role: the verbs that are granted. What is not granted is refused."""

    grants: Mapping[Part, Mapping[Role, frozenset[Verb]]] = field(default_factory=dict)

    def may(self, role: Role, part: Part, verb: Verb) -> bool:
        """Tell whether a role may do this with a part."""
        return verb in self.grants.get(part, {}).get(role, frozenset())

    def role_for(self, roles: Collection[Role], part: Part, verb: Verb) -> Role | None:
        """Return the first of these roles, by name, that may do this with a part; None: refused."""
        return next((role for role in sorted(roles) if self.may(role, part, verb)), None)


def incompatible(roles: Collection[Role]) -> bool:
    """Tell whether nobody may hold these roles together: an operator manages no certificates, keys or access."""
    return Role.OPERATOR in roles and not MANAGERS.isdisjoint(roles)


def forbidden(role: Role, part: Part, verb: Verb) -> str | None:
    """Return why no matrix may grant this right, or None when one may."""
    if part in LOGS and verb is not Verb.READ:
        return "logs are written by the gateway alone; only read can be granted"
    if role is Role.OPERATOR and part in MANAGED and verb is not Verb.READ:
        return "an operator never changes access, certificates or keys; grant it to the role that manages them"
    return None
