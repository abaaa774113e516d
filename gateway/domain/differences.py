"""
What changes between two registrations, staff lists or matrices, in lines that a person reads before agreeing.

Each becomes plain facts, a thing with named values; two sets of facts are then compared without knowing what they are.
`+` stands before what is added, `-` before what goes, `~` before what changes.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta

from gateway.domain.registration import Authorisation, EboxTriple, RegisteredCertificate, Registration, Sender
from gateway.domain.staff import SecurityMatrix, Staff

Facts = Mapping[str, Mapping[str, str]]
_Fact = tuple[str, dict[str, str]]
_NONE = "none"


def differences(before: Facts, after: Facts) -> list[str]:
    """Return a line for each thing that is added, goes or changes; things in the order of their names."""
    return [
        line
        for thing in sorted(before.keys() | after.keys())
        if (line := _difference(thing, before.get(thing), after.get(thing))) is not None
    ]


def _difference(thing: str, before: Mapping[str, str] | None, after: Mapping[str, str] | None) -> str | None:
    if before is None or after is None:
        sign, values = ("+", after) if before is None else ("-", before)
        told = "; ".join(f"{name} {value}" for name, value in (values or {}).items() if value != _NONE)
        return f"{sign} {thing}: {told}" if told else f"{sign} {thing}"
    changed = [
        f"{name} {before.get(name, _NONE)} -> {after.get(name, _NONE)}"
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    ]
    return f"~ {thing}: {'; '.join(changed)}" if changed else None


def registration_facts(registration: Registration) -> Facts:
    """Return all that a registration says."""
    facts: dict[str, dict[str, str]] = {
        f"category {category}": {"description": description}
        for category, description in registration.categories.items()
    }
    for sender in registration.senders.values():
        facts |= dict(_sender_facts(sender))
    return facts


def _sender_facts(sender: Sender) -> Iterator[_Fact]:
    place = f"sender {sender.enterprise_number}"
    contact = sender.contact
    yield (
        place,
        {
            "name": sender.name,
            "active": "yes" if sender.active else "no",
            "OVO code": sender.ovo_code or _NONE,
            "return address": _listed(sender.return_address),
            "contact dpo": contact.dpo,
            "contact technical": contact.technical,
            "contact security": contact.security,
            "contact public": contact.public,
        },
    )
    for channel, since in sender.agreements.items():
        yield f"{place}, agreement for {channel}", {"since": since.isoformat()}
    for certificate in sender.certificates:
        yield _certificate_fact(place, certificate)
    for number in sender.processors:
        yield f"{place}, processor {number}", {}
    for profile in sender.profiles.values():
        within = f"{place}, profile {profile.id}"
        yield (
            within,
            {
                "display name": profile.display_name,
                "hold": _duration(profile.hold),
                "messages per day": _limit(profile.quota.messages_per_day),
                "paper per day": _limit(profile.quota.paper_per_day),
            },
        )
        for authorisation in profile.authorisations.values():
            yield f"{within}, authorisation {authorisation.category}", _authorisation_values(authorisation)


def _certificate_fact(place: str, certificate: RegisteredCertificate) -> _Fact:
    if certificate.spki_sha256 is not None:
        name = f"certificate with key {certificate.spki_sha256}"
    else:
        name = f"certificate {certificate.subject} by {certificate.issuer_ca}"
    profiles = "all" if certificate.profiles is None else _listed(sorted(certificate.profiles))
    return f"{place}, {name}", {"uses": _listed(sorted(certificate.uses)), "profiles": profiles}


def _authorisation_values(authorisation: Authorisation) -> dict[str, str]:
    unread_after = authorisation.unread_after
    return {
        "channels": _listed(authorisation.channels),
        "recipients": authorisation.recipients,
        "legal basis": authorisation.legal_basis,
        "e-Box of citizens": _triple(authorisation.ebox_citizen),
        "e-Box of enterprises": _triple(authorisation.ebox_enterprise),
        "retention": _duration(authorisation.retention),
        "fallback": _listed(sorted(authorisation.fallback)),
        "unread after": _NONE if unread_after is None else _duration(unread_after),
    }


def staff_facts(staff: Staff) -> Facts:
    """Return who works on the gateway, and in which roles."""
    return {
        f"person {person.name}": {
            "user id": str(person.uid),
            "roles": _listed(sorted(person.roles)),
            "statement": person.confidentiality_statement.isoformat(),
            "until": person.until.isoformat(),
        }
        for person in staff.persons
    }


def matrix_facts(matrix: SecurityMatrix) -> Facts:
    """Return what each role may do."""
    return {
        f"right of {role} on {part}": {"verbs": _listed(sorted(verbs))}
        for part, row in matrix.grants.items()
        for role, verbs in row.items()
    }


def _listed(values: Iterable[str]) -> str:
    return ", ".join(values) or _NONE


def _triple(triple: EboxTriple | None) -> str:
    return _NONE if triple is None else f"{triple.message_type}, {triple.application}"


def _limit(limit: int | None) -> str:
    return _NONE if limit is None else str(limit)


def _duration(value: timedelta) -> str:
    """Return a duration as the files write it (ISO 8601), in days or in seconds."""
    days, rest = divmod(value, timedelta(days=1))
    return f"P{days}D" if not rest and days else f"PT{value // timedelta(seconds=1)}S"
