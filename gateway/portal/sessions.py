"""
Visits: for a quarter of an hour after the right code, a browser may read and download one letter.

A visit is a value in a cookie, kept nowhere else; it is keyed by the blind index of purpose "portal", so every replica
knows the visits that another began, and a rotation of that key ends none. Base64url, without padding, of:

    version 1 (1 byte) ‖ delivery id (16) ‖ message id (16) ‖ end, Unix seconds, big-endian (8) ‖ MAC (32)
    MAC = HMAC-SHA-256(K_v, "dgw.visit" 00 hexadecimal of the 41 bytes before it)
"""

import base64
import binascii
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Final
from uuid import UUID

from gateway.crypto.vault import BlindIndex
from gateway.domain.ids import DeliveryId, MessageId

LASTS: Final = timedelta(minutes=15)

_LABEL: Final = "dgw.visit"
_VERSION: Final = 1
_CLAIMS: Final = Struct(">B16s16sQ")
_MAC_BYTES: Final = 32
_LONGEST: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One letter, opened by its code; `ends_at` is in whole seconds."""

    delivery_id: DeliveryId
    message_id: MessageId
    ends_at: datetime


def write_visit(visit: Visit, index: BlindIndex) -> str:
    """Return the value of the cookie."""
    ends_s = int(visit.ends_at.timestamp())
    claims = _CLAIMS.pack(_VERSION, visit.delivery_id.bytes, visit.message_id.bytes, ends_s)
    return base64.urlsafe_b64encode(claims + index.of(_LABEL, claims.hex())).rstrip(b"=").decode("ascii")


def read_visit(cookie: str, index: BlindIndex, now: datetime) -> Visit | None:
    """Return the visit that a cookie proves, or None: forged, changed or ended."""
    if len(cookie) > _LONGEST:
        return None
    try:
        raw = base64.b64decode(cookie + "=" * (-len(cookie) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(raw) != _CLAIMS.size + _MAC_BYTES:
        return None
    claims, mac = raw[: _CLAIMS.size], raw[_CLAIMS.size :]
    if not any(hmac.compare_digest(mac, value) for _, value in index.candidates(_LABEL, claims.hex())):
        return None
    version, delivery_id, message_id, ends_s = _CLAIMS.unpack(claims)
    ends_at = datetime.fromtimestamp(ends_s, UTC)
    if version != _VERSION or ends_at <= now:
        return None
    return Visit(
        delivery_id=DeliveryId(UUID(bytes=delivery_id)), message_id=MessageId(UUID(bytes=message_id)), ends_at=ends_at
    )
