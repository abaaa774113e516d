"""The one error of everything that judges certificates, the words for its reasons, and what the library raises."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from gateway.errors import GatewayError

# All that the library raises on a certificate or list that is none, or on a field of it: a TypeError, for example, on
# a name with an attribute of a type that it does not expect there.
UNREADABLE_ERRORS: Final = (
    ValueError,
    TypeError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)


class Rule(StrEnum):
    """What a certificate, an authority or a revocation list failed."""

    UNREADABLE = "unreadable"
    NO_CERTIFICATE = "no-certificate"
    IS_A_CA = "is-a-ca"
    NOT_A_CA = "not-a-ca"
    WEAK_KEY = "weak-key"
    KEY_TYPE = "key-type"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    NO_CLIENT_AUTH_EKU = "no-client-auth-eku"
    NO_DIGITAL_SIGNATURE = "no-digital-signature"
    UNKNOWN_ISSUER = "unknown-issuer"
    PATH_INVALID = "path-invalid"
    NAME_CONSTRAINTS = "name-constraints-unsupported"
    REVOKED = "revoked"
    CRL_MISSING = "crl-missing"
    CRL_STALE = "crl-stale"
    CRL_NOT_YET_VALID = "crl-not-yet-valid"
    CRL_UNREADABLE = "crl-unreadable"
    CRL_TOO_LARGE = "crl-too-large"
    CRL_UNSUPPORTED = "crl-unsupported"
    CRL_ISSUER = "crl-issuer"
    CRL_SIGNATURE = "crl-signature"
    CRL_OLDER = "crl-older"


@dataclass(eq=False)
class CertificateRejected(GatewayError):
    """
    A certificate, or a list that speaks about certificates, is not to be relied on.

    `detail` holds dates, key sizes and numbers, never a subject: that of a person is a personal datum.
    """

    rule: Rule
    detail: str

    def __str__(self) -> str:
        """Return the rule and what was measured."""
        return f"{self.rule}: {self.detail}"
