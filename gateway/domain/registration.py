"""What a public body registered: its certificates, profiles and rights. Read from `config/senders/*.toml`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum

from gateway.domain.ids import EnterpriseNumber
from gateway.domain.message import Channel


class CertificateUse(StrEnum):
    """What a registered certificate may be used for."""

    TLS = "tls"
    SIGNING = "signing"
    DPO = "dpo"
    APPROVER = "approver"


class RecipientRule(StrEnum):
    """To whom an authorisation reaches."""

    ANY = "any"
    DOSSIER = "dossier"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredCertificate:
    """Named by its key (`spki_sha256`, hex), or by its subject together with the CA that issued it."""

    spki_sha256: str | None = None
    subject: str | None = None
    issuer_ca: str | None = None
    uses: frozenset[CertificateUse]
    profiles: frozenset[str] | None = None  # None: all profiles


@dataclass(frozen=True, slots=True, kw_only=True)
class EboxTriple:
    """What an e-Box registry knows a kind of letter by; the sender's number is the third of the triple."""

    message_type: str
    application: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorisation:
    """The right of a profile to send one category."""

    category: str
    channels: tuple[Channel, ...]  # also the default order
    recipients: RecipientRule
    legal_basis: str
    ebox_citizen: EboxTriple | None = None
    ebox_enterprise: EboxTriple | None = None
    retention: timedelta  # of the authentic copy
    fallback: frozenset[str] = frozenset()  # names of domain.routing.FallbackTrigger
    unread_after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Per day, Europe/Brussels; None: no limit."""

    messages_per_day: int | None = None
    paper_per_day: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One display name of a sender with its own rights."""

    id: str
    display_name: str
    hold: timedelta = timedelta(0)
    authorisations: Mapping[str, Authorisation] = field(default_factory=dict)  # by category
    quota: Quota = field(default_factory=Quota)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """Who answers for a sender; `public` is shown to recipients."""

    dpo: str
    technical: str
    security: str
    public: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """One public body with a contract, as one registration file states it."""

    enterprise_number: EnterpriseNumber
    ovo_code: str | None = None
    name: str
    contact: Contact
    active: bool = True
    agreements: Mapping[Channel, date] = field(default_factory=dict)
    certificates: tuple[RegisteredCertificate, ...]
    processors: frozenset[EnterpriseNumber] = frozenset()
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    return_address: tuple[str, ...] = ()  # lines printed on the cover page and the envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """All senders in force, as one numbered version."""

    version: int
    senders: Mapping[EnterpriseNumber, Sender]
    categories: Mapping[str, str]  # id -> description
