"""
Reads who may send what: a TOML file per sender, and the list of categories of personal data that they may name.

Every file is read before anything is refused, so that one run shows every mistake of all of them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from gateway.config.reader import Findings, Table, open_table, shown
from gateway.config.values import BOOLEAN, DATE, choice, days, duration, integer, of_text, text
from gateway.crypto.certs import SubjectUnreadable, parse_subject
from gateway.domain.ids import EnterpriseNumber, holds_ssin, parse_enterprise_number, parse_ovo_code, parse_slug
from gateway.domain.message import Channel
from gateway.domain.registration import (
    Authorisation,
    CertificateUse,
    Contact,
    EboxTriple,
    Profile,
    Quota,
    RecipientRule,
    RegisteredCertificate,
    Registration,
    Sender,
)
from gateway.domain.routing import FALLBACK_TRIGGERS

FLEMISH_GOVERNMENT: Final = EnterpriseNumber("0316380841")  # one number, many bodies: the OVO code tells which

_ENTERPRISE_NUMBER: Final = of_text(parse_enterprise_number, EnterpriseNumber(""))
_OVO_CODE: Final = of_text(parse_ovo_code, "")
_SLUG: Final = of_text(parse_slug, "")
_CHANNEL: Final = choice(tuple(Channel))
_USE: Final = choice(tuple(CertificateUse))
_TRIGGER: Final = choice(tuple(sorted(str(trigger) for trigger in FALLBACK_TRIGGERS)))
_SPKI: Final = text(longest=64, pattern="[0-9a-f]{64}", fix="must be 64 lower-case hexadecimal digits")
_EBOX_NAME: Final = text(longest=100)
_PER_DAY: Final = integer(0, 100_000_000)
_ALONE: Final = frozenset({CertificateUse.DPO, CertificateUse.APPROVER})
_MOST_LINES: Final = 6
_LINE: Final = text(longest=60)
_DAY: Final = timedelta(days=1)
_HOLD: Final = duration(timedelta(0), 7 * _DAY)
# Nothing is no term but a way to print every letter twice; who never wants it leaves the key out.
_UNREAD_AFTER: Final = duration(timedelta(seconds=1), 365 * _DAY)


def load_categories(file: Path) -> dict[str, str]:
    """
    Read the categories and their descriptions. Blocks.

    Raises:
        ConfigInvalid: the file cannot be read or holds mistakes; all of them.
    """
    findings = Findings()
    categories = _read_categories(open_table(file, findings))
    findings.raise_if_any()
    return categories or {}


def load_registration(
    senders_dir: Path, categories_file: Path, *, version: int, authorities: Collection[str] | None = None
) -> Registration:
    """
    Read the categories and every `*.toml` in the folder of senders as one whole. Blocks.

    `authorities` are the names of the configured client CAs, of which each `issuer_ca` must be one; None: not checked.

    Raises:
        ConfigInvalid: a file cannot be read or holds mistakes; all mistakes of all files.
    """
    findings = Findings()
    categories = open_table(categories_file, findings)
    tables = [open_table(file, findings) for file in sender_files(senders_dir, findings)]
    return build_registration(categories, tables, findings, version=version, authorities=authorities)


def build_registration(
    categories_root: Table | None,
    sender_roots: Iterable[Table | None],
    findings: Findings,
    *,
    version: int,
    authorities: Collection[str] | None,
) -> Registration:
    """
    Make one whole of files that were opened; None stands for one that could not be, with its reason in `findings`.

    Raises:
        ConfigInvalid: everything in `findings`, also what was there before.
    """
    categories = _read_categories(categories_root)
    known_names = _Known(categories=categories, authorities=authorities)
    read = [(root, _read_sender(root, known_names)) for root in sender_roots if root is not None]
    _check_together(read)
    findings.raise_if_any()
    return Registration(
        version=version,
        senders={sender.enterprise_number: sender for _, sender in read},
        categories=categories or {},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """The names that sender files may refer to; None where nothing is known, and so nothing is refused."""

    categories: Mapping[str, str] | None
    authorities: Collection[str] | None


def _read_categories(root: Table | None) -> dict[str, str] | None:
    if root is None:
        return None
    table = root.table("categories")
    categories: dict[str, str] = {}
    for written, category in table.names(_SLUG):
        categories[category] = table.table(written).required("description", text())
    if not categories:
        root.wrong("categories", "is missing; name at least one, as [categories.<id>] with a description")
    root.finish()
    return categories or None


def sender_files(folder: Path, findings: Findings) -> list[Path]:
    """Return the files of senders in a folder, by name; what is wrong with it is among the findings."""
    try:
        # A name that begins with a dot is an editor's or a mount's, never a sender's.
        files = sorted(path for path in folder.iterdir() if path.suffix == ".toml" and not path.name.startswith("."))
    except OSError as exc:
        findings.add(shown(folder), f"cannot be read: {exc.strerror}")
        return []
    for file in files:
        if not file.name.isascii() or not file.name.isprintable():
            findings.add(shown(folder), "holds a file whose name is not plain ASCII; name it by the enterprise number")
    return files


def _read_sender(root: Table, known_names: _Known) -> Sender:
    number = root.required("enterprise_number", _ENTERPRISE_NUMBER)
    profiles = _read_profiles(root, known_names)
    sender = Sender(
        enterprise_number=number,
        ovo_code=_read_ovo_code(root, number),
        name=root.required("name", text(longest=100)),
        contact=_read_contact(root.table("contact")),
        active=root.optional("active", BOOLEAN, default=True),
        agreements=root.mapping("agreements", _CHANNEL, DATE),
        certificates=tuple(_read_certificate(table, profiles, known_names) for table in root.tables("certificates")),
        processors=_read_processors(root, number),
        profiles=profiles,
        return_address=root.optional_list("return_address", _LINE, ()),
    )
    if len(sender.return_address) > _MOST_LINES:
        root.wrong("return_address", f"must be at most {_MOST_LINES} lines")
    root.finish()
    return sender


def _read_ovo_code(root: Table, number: EnterpriseNumber) -> str | None:
    ovo_code = root.optional("ovo_code", _OVO_CODE, None)
    if ovo_code is not None and number not in ("", FLEMISH_GOVERNMENT):
        root.wrong("ovo_code", f"is only for bodies that share the enterprise number {FLEMISH_GOVERNMENT}")
    if ovo_code is None and number == FLEMISH_GOVERNMENT:
        root.wrong("ovo_code", "is missing; many bodies share this enterprise number, and the code tells which it is")
    return ovo_code


def _read_contact(table: Table) -> Contact:
    return Contact(
        dpo=table.required("dpo", text()),
        technical=table.required("technical", text()),
        security=table.required("security", text()),
        public=table.required("public", text()),
    )


def _read_processors(root: Table, own: EnterpriseNumber) -> frozenset[EnterpriseNumber]:
    found: set[EnterpriseNumber] = set()
    for table in root.tables("processors"):
        number = table.required("enterprise_number", _ENTERPRISE_NUMBER)
        if number and number == own:
            table.wrong("enterprise_number", "is the sender itself, which needs no processor to send")
        elif number and number in found:
            table.wrong("enterprise_number", "stands there twice; once is enough")
        found.add(number)
    return frozenset(found)


# ── Certificates ──


def _read_certificate(table: Table, profiles: Mapping[str, Profile], known_names: _Known) -> RegisteredCertificate:
    spki_sha256 = table.optional("spki_sha256", _SPKI, None)
    subject = table.optional("subject", of_text(_subject, ""), None)
    issuer_ca = table.optional("issuer_ca", text(longest=64), None)
    if (spki_sha256, subject, issuer_ca) == (None, None, None):
        table.wrong(None, "must name a certificate: by spki_sha256, or by subject together with issuer_ca")
    if spki_sha256 is not None and (subject is not None or issuer_ca is not None):
        table.wrong(None, "must name the certificate once: by spki_sha256 alone, or by subject together with issuer_ca")
    elif subject is not None and issuer_ca is None:
        table.wrong("issuer_ca", "is missing; a subject says nothing without the authority that vouches for it")
    elif issuer_ca is not None and subject is None:
        table.wrong("subject", "is missing; issuer_ca alone would admit everybody whom it issued a certificate to")
    if issuer_ca and known_names.authorities is not None and issuer_ca not in known_names.authorities:
        table.wrong("issuer_ca", f"is none of the configured client_cas: {', '.join(sorted(known_names.authorities))}")
    uses = frozenset(table.required_list("uses", _USE))
    if uses & _ALONE and len(uses) > 1:
        table.wrong("uses", "dpo and approver each stand alone; register another certificate for the other uses")
    return RegisteredCertificate(
        spki_sha256=spki_sha256,
        subject=subject,
        issuer_ca=issuer_ca,
        uses=uses,
        profiles=_certificate_profiles(table, profiles),
    )


def _certificate_profiles(table: Table, profiles: Mapping[str, Profile]) -> frozenset[str] | None:
    named = table.optional_list("profiles", _SLUG, None)
    if named is None:
        return None
    for number, profile in enumerate(named):
        if profile not in profiles:
            table.wrong("profiles", f"there is no profile {profile} in this file", number=number)
    return frozenset(named)


def _subject(written: str) -> str:
    try:
        parse_subject(written)
    except SubjectUnreadable:
        raise ValueError(
            "must be a subject in the form CN=host.example,O=Organisation,C=BE (RFC 4514), without spaces after commas"
        ) from None
    if holds_ssin(written):
        raise ValueError("holds a personal number, which may stand in no registration; name the key: spki_sha256")
    return written


# ── Profiles and their rights ──


def _read_profiles(root: Table, known_names: _Known) -> dict[str, Profile]:
    profiles: dict[str, Profile] = {}
    kinds: dict[EboxTriple, Channel] = {}
    quota = _read_quota(root.table("quota"))
    for table in root.tables("profiles"):
        profile_id = table.required("id", _SLUG)
        if profile_id and profile_id in profiles:
            table.wrong("id", "stands there twice; each profile has its own id")
        profiles[profile_id] = Profile(
            id=profile_id,
            display_name=table.required("display_name", text(longest=100)),
            hold=table.optional("hold", _HOLD, timedelta(0)),
            authorisations=_read_authorisations(table, known_names, kinds),
            quota=quota,
        )
    return profiles


def _read_quota(table: Table) -> Quota:
    return Quota(
        messages_per_day=table.optional("messages_per_day", _PER_DAY, None),
        paper_per_day=table.optional("paper_per_day", _PER_DAY, None),
    )


def _read_authorisations(
    profile: Table, known_names: _Known, kinds: dict[EboxTriple, Channel]
) -> dict[str, Authorisation]:
    found: dict[str, Authorisation] = {}
    for table in profile.tables("authorisations"):
        authorisation = _read_authorisation(table, known_names, kinds)
        category = authorisation.category
        if category and category in found:
            table.wrong("category", "stands there twice; a profile has one authorisation for each category")
        found[category] = authorisation
    return found


def _read_authorisation(table: Table, known_names: _Known, kinds: dict[EboxTriple, Channel]) -> Authorisation:
    category = table.required("category", _SLUG)
    if category and known_names.categories is not None and category not in known_names.categories:
        table.wrong("category", f"is not registered; registered are: {', '.join(sorted(known_names.categories))}")
    channels = table.required_list("channels", _CHANNEL)
    ebox = table.table("ebox")
    return Authorisation(
        category=category,
        channels=channels,
        recipients=table.required("recipients", choice(tuple(RecipientRule))),
        legal_basis=table.required("legal_basis", text()),
        ebox_citizen=_read_triple(ebox, "citizen", Channel.EBOX_CITIZEN, channels, kinds),
        ebox_enterprise=_read_triple(ebox, "enterprise", Channel.EBOX_ENTERPRISE, channels, kinds),
        retention=table.required("retention", days(1, 3_650)),
        fallback=frozenset(table.optional_list("fallback", _TRIGGER, ())),
        unread_after=table.optional("unread_after", _UNREAD_AFTER, None),
    )


def _read_triple(
    ebox: Table, key: str, channel: Channel, channels: Sequence[Channel], kinds: dict[EboxTriple, Channel]
) -> EboxTriple | None:
    if not ebox.states(key):
        if channel in channels:
            ebox.wrong(key, f"is missing; the channel {channel} needs its message_type and application")
        return None
    table = ebox.table(key)
    triple = EboxTriple(
        message_type=table.required("message_type", _EBOX_NAME), application=table.required("application", _EBOX_NAME)
    )
    # With the sender's number this is what a registry knows the letter by, and it configures each for one kind only.
    if triple.message_type and triple.application and kinds.setdefault(triple, channel) is not channel:
        table.wrong(None, "serves the other kind of e-Box in this file already; a combination is for one kind only")
    return triple


# ── All files together ──


def _check_together(read: Iterable[tuple[Table, Sender]]) -> None:
    read = list(read)
    numbers: dict[EnterpriseNumber, Table] = {}
    for root, sender in read:
        number = sender.enterprise_number
        if number and number in numbers:
            also = " (bodies that share one number cannot be told apart yet)" if number == FLEMISH_GOVERNMENT else ""
            root.wrong("enterprise_number", f"is registered in {numbers[number].place()} already{also}")
        numbers.setdefault(number, root)
    for root, sender in read:
        for number in sorted(sender.processors - numbers.keys() - {""}):
            root.wrong("processors", f"{number} has no registration file, so none of its certificates is known")
    _check_certificates(read)


def _check_certificates(read: Iterable[tuple[Table, Sender]]) -> None:
    known: dict[str | tuple[x509.Name, str], str] = {}
    for root, sender in read:
        for number, certificate in enumerate(sender.certificates):
            name: str | tuple[x509.Name, str] | None = certificate.spki_sha256
            if certificate.subject and certificate.issuer_ca:
                name = (parse_subject(certificate.subject), certificate.issuer_ca)
            if not name:
                continue
            if name in known:
                also = f"is named at {known[name]} already; register each once, for one party only"
                root.wrong("certificates", also, number=number)
            known.setdefault(name, root.place("certificates", number))
