"""Subjects of certificates as people write them in registration files (RFC 4514), and comparing the two."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from gateway.errors import GatewayError

# Names that eIDAS certificates use and RFC 4514 does not list; without them operators would read bare OIDs.
_ATTRIBUTE_NAMES: Final[Mapping[x509.ObjectIdentifier, str]] = {
    NameOID.EMAIL_ADDRESS: "emailAddress",
    NameOID.SERIAL_NUMBER: "serialNumber",
    NameOID.ORGANIZATION_IDENTIFIER: "organizationIdentifier",
}
_ATTRIBUTE_OIDS: Final = {name: oid for oid, name in _ATTRIBUTE_NAMES.items()}


@dataclass(eq=False)
class SubjectUnreadable(GatewayError):
    """A registration file names a subject that is not RFC 4514 text."""

    text: str

    def __str__(self) -> str:
        """Return the text as the file has it."""
        return f"not a subject in the form CN=host.example,O=Organisation,C=BE (RFC 4514): {self.text!r}"


def subject_text(certificate: x509.Certificate) -> str:
    """
    Return the subject as a registration file writes it (RFC 4514), `CN=host.example,O=Organisation,C=BE`.

    In the certificate of a person this is personal data: not for logs, metrics or errors.
    """
    return certificate.subject.rfc4514_string(_ATTRIBUTE_NAMES)


@lru_cache(maxsize=1024)
def parse_subject(text: str) -> x509.Name:
    """
    Read the subject of a registration.

    Raises:
        SubjectUnreadable: not RFC 4514, or empty.
    """
    try:
        name = x509.Name.from_rfc4514_string(text, _ATTRIBUTE_OIDS)
    except ValueError as exc:
        raise SubjectUnreadable(text) from exc
    if not list(name):
        raise SubjectUnreadable(text)
    return name


def matches_subject(certificate: x509.Certificate, text: str) -> bool:
    """
    Whether the certificate bears exactly this subject: same attributes, same order, same values, case included.

    Raises:
        SubjectUnreadable: `text` is not RFC 4514.
    """
    return certificate.subject == parse_subject(text)
