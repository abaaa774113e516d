"""What the gateway says of a sender, and of its own certificates: `whoami` and `trust`, as types that may be shown."""

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gateway.client.answers import items_of, text_or_none
from gateway.client.problems import harmless
from gateway.crypto.values import instant

__all__ = ["Account", "Profile", "Quota", "Rights", "Trust", "account", "trust"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Of one day; `limit` and `left` None: no limit."""

    limit: int | None
    used: int
    left: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """A category that a profile may send, by which channels, and whether a dossier is needed."""

    category: str
    channels: tuple[str, ...]
    needs_dossier: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A profile that the certificate may use; `quotas` by what they limit."""

    id: str
    display_name: str
    rights: tuple[Rights, ...]
    quotas: dict[str, Quota]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """
    What `GET /api/v1/whoami` answers; texts as they may be shown.

    `clock_skew_s`: how far our clock is ahead of the gateway's, where we told it. `view` is the JSON as it came.
    """

    gateway: str
    server_at: datetime
    clock_skew_s: int | None
    certificate_ends_at: datetime
    certificate_days_left: int
    party: str
    sender_number: str
    sender_name: str
    profiles: tuple[Profile, ...]
    view: Mapping[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What `GET /api/v1/trust` answers: certificates in DER that sign receipts, those of now and those of before."""

    gateway: str
    present: frozenset[bytes]
    earlier: frozenset[bytes]


def account(value: Any) -> Account:
    """Return what `whoami` answered; to be called through `read`."""
    sender, certificate, skew_s = value["sender"], value["certificate"], value["clockSkewSeconds"]
    return Account(
        gateway=_shown(value["gateway"]),
        server_at=instant(value["serverTime"]),
        clock_skew_s=None if skew_s is None else int(skew_s),
        certificate_ends_at=instant(certificate["notAfter"]),
        certificate_days_left=int(certificate["daysLeft"]),
        party=_shown(value["party"]),
        sender_number=_shown(sender["enterpriseNumber"]),
        sender_name=_shown(sender["name"]),
        profiles=tuple(_profile(each) for each in items_of(value, "profiles")),
        view=dict(value),
    )


def trust(value: Any) -> Trust:
    """Return what `trust` answered; to be called through `read`."""
    signers = [each for each in items_of(value, "certificates") if "receipts" in each["uses"]]
    return Trust(
        gateway=_shown(value["gateway"]),
        present=frozenset(_der(each) for each in signers if each["present"] is True),
        earlier=frozenset(_der(each) for each in signers if each["present"] is not True),
    )


def _profile(value: Any) -> Profile:
    return Profile(
        id=_shown(value["id"]),
        display_name=_shown(value["displayName"]),
        rights=tuple(_rights(each) for each in items_of(value, "categories")),
        quotas={name: _quota(value["quota"][name]) for name in ("messages", "paper")},
    )


def _rights(value: Any) -> Rights:
    return Rights(
        category=_shown(value["category"]),
        channels=tuple(_shown(each) for each in items_of(value, "channels")),
        needs_dossier=value["recipients"] == "dossier",
    )


def _der(certificate: Any) -> bytes:
    return b64decode(certificate["x5c"][0], validate=True)


def _quota(value: Any) -> Quota:
    limit, left = value["limit"], value["left"]
    return Quota(
        limit=None if limit is None else int(limit), used=int(value["used"]), left=None if left is None else int(left)
    )


def _shown(value: object) -> str:
    found = text_or_none(value)
    if found is None:
        raise TypeError("not text")
    return harmless(found)
