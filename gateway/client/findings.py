"""What an examination of a sender's side finds: one finding for each thing that is looked at, always in one order."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from cryptography import x509

__all__ = ["OWN_FILES", "SOON", "Check", "Finding", "Outcome", "failed", "of_validity", "ok", "skipped", "warning"]

Facts = Mapping[str, object]
_NO_FACTS: Final[Facts] = MappingProxyType({})

SOON: Final = timedelta(days=30)
"""How long before a certificate's end its owner is warned."""


class Check(StrEnum):
    """Everything that is looked at, in this order; the names stay as they are, for programs."""

    SENDER_FILE = "sender-file"
    FILES = "files"
    KEYS = "keys"
    KEY_PROTECTION = "key-protection"
    NAME_LOOKUP = "name-lookup"
    CONNECTION = "connection"
    TLS_VERSION = "tls-version"
    SERVER_CERTIFICATE = "server-certificate"
    CLIENT_PURPOSE = "client-purpose"
    CLIENT_KEY_USAGE = "client-key-usage"
    CLIENT_KEY_STRENGTH = "client-key-strength"
    CLIENT_VALIDITY = "client-validity"
    SIGNING_VALIDITY = "signing-validity"
    HANDSHAKE = "handshake"
    GATEWAY_NAME = "gateway-name"
    REGISTRATION = "registration"
    PROFILE = "profile"
    SIGNING_REGISTRATION = "signing-registration"
    QUOTA = "quota"
    CLOCK = "clock"
    RECEIPT_VALIDITY = "receipt-validity"
    RECEIPT_PUBLISHED = "receipt-published"


OWN_FILES: Final = frozenset({Check.SENDER_FILE, Check.FILES, Check.KEYS})
"""What stands in the sender's files, so that no command can use them while one of these fails."""


class Outcome(StrEnum):
    """How a check ended. `skipped`: it could not be made; nothing is known."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    What one check found, in a few lines of text, and what to do about it; no personal data.

    `facts` are the measured values, for programs. `unreachable`: the gateway could not be reached, or cannot take
    anything now, so that another time may bring another outcome.
    """

    check: Check
    outcome: Outcome
    found: str
    fix: str = ""
    facts: Facts = field(default_factory=dict)
    unreachable: bool = False


def ok(check: Check, found: str, facts: Facts = _NO_FACTS) -> Finding:
    """Return that all is well."""
    return Finding(check=check, outcome=Outcome.OK, found=found, facts=facts)


def warning(check: Check, found: str, fix: str, facts: Facts = _NO_FACTS) -> Finding:
    """Return what works now and may not for long."""
    return Finding(check=check, outcome=Outcome.WARNING, found=found, fix=fix, facts=facts)


def failed(check: Check, found: str, fix: str, facts: Facts = _NO_FACTS, *, unreachable: bool = False) -> Finding:
    """Return what keeps letters from being taken."""
    return Finding(check=check, outcome=Outcome.FAILED, found=found, fix=fix, facts=facts, unreachable=unreachable)


def skipped(check: Check, why: str) -> Finding:
    """Return why a check could not be made."""
    return Finding(check=check, outcome=Outcome.SKIPPED, found=why)


def of_validity(
    check: Check, certificate: x509.Certificate, now: datetime, *, fix: str, soon: timedelta = SOON, prefix: str = ""
) -> Finding:
    """Judge how long a certificate is still valid; `fix` is what to do when it has ended, or will within `soon`."""
    start_at, end_at = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    days_left = (end_at - now) // timedelta(days=1)
    facts = {"notAfter": end_at.isoformat(), "daysLeft": days_left}
    if now < start_at:
        found = f"{prefix}not yet valid: from {_moment(start_at)}"
        return failed(check, found, "wait until then, or set this machine's clock right", facts)
    if now > end_at:
        return failed(check, f"{prefix}expired on {_moment(end_at)}", fix, facts)
    found = f"{prefix}valid until {end_at:%Y-%m-%d}, {_days(days_left)} left"
    if end_at - now < soon:
        return warning(check, found, fix, facts)
    return ok(check, found, facts)


def _days(count: int) -> str:
    return {0: "less than a day", 1: "one day"}.get(count, f"{count} days")


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
