"""A message as its sender signed it; whoever constructs one from outside data checks it first."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from gateway.domain.ids import EnterpriseNumber, Ssin


class Channel(StrEnum):
    """A way to a recipient."""

    EBOX_CITIZEN = "ebox-citizen"
    EBOX_ENTERPRISE = "ebox-enterprise"
    PRINT = "print"


class Lane(StrEnum):
    """Bulk never delays single letters."""

    SINGLE = "single"
    BULK = "bulk"


class PrintProduct(StrEnum):
    """What the post is asked to do with a letter."""

    STANDARD = "standard"
    REGISTERED = "registered"
    REGISTERED_AR = "registered_ar"


class Priority(StrEnum):
    """The post's speed."""

    PRIOR = "prior"
    NON_PRIOR = "non_prior"


class Cover(StrEnum):
    """Whether a cover page with the retrieval code goes before the letter."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostalAddress:
    """A postal address; `country` is two letters (ISO 3166-1)."""

    name: str
    street: str
    house_number: str
    box: str | None = None
    postcode: str
    municipality: str
    country: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Recipient:
    """One citizen, one company, or only an address; `repr` is hidden because it would be personal data."""

    ssin: Ssin | None = None
    enterprise_number: EnterpriseNumber | None = None
    address: PostalAddress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintOptions:
    """How a letter is printed and posted."""

    product: PrintProduct = PrintProduct.STANDARD
    duplex: bool = True
    colour: bool = False
    priority: Priority = Priority.PRIOR
    cover: Cover = Cover.AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentEntry:
    """One row of the signed manifest; `sha256` is 64 lower-case hexadecimal digits."""

    part: str
    filename: str
    media_type: str
    size_bytes: int
    sha256: str
    main: bool
    signed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Message:
    """All signed fields of a message; `repr` is hidden because it would be personal data."""

    gateway: str
    reference: str
    created_at: datetime
    sender: EnterpriseNumber
    ovo_code: str | None = None
    profile: str | None = None
    category: str
    purpose: str
    recipient: Recipient
    attention_of: str | None = None
    subject: str
    language: str
    channels: tuple[Channel, ...] = ()
    print_options: PrintOptions | None = None
    retention: timedelta | None = None
    deliver_not_before: datetime | None = None
    deliver_before: datetime | None = None
    lane: Lane | None = None
    billing_reference: str | None = None
    documents: tuple[DocumentEntry, ...]
