"""What the gateway sees of a caller: its certificate, for whom it acts, what it may send, what is left of its quota."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from aiohttp import hdrs, web

from gateway.domain.calendar import day_of
from gateway.domain.registration import Profile
from gateway.intake.caller import Caller
from gateway.intake.handlers import IntakeDeps
from gateway.intake.views import when
from gateway.stores.model import QuotaUse

_NOTHING = QuotaUse(messages=0, paper=0)


async def whoami(request: web.Request, caller: Caller, deps: IntakeDeps) -> web.Response:
    """`GET /api/v1/whoami`; with a `Date` header the sender's clock is compared with ours."""
    now = deps.clock()
    today = day_of(now)
    used = await deps.ledger.quota_use(caller.number, today)
    sender, peer = caller.sender, caller.peer
    profiles = [each for each in sender.profiles.values() if caller.profiles is None or each.id in caller.profiles]
    return web.json_response(
        {
            "gateway": deps.accept.settings.gateway_name,
            "serverTime": when(now),
            "clockSkewSeconds": _skew_s(request.headers.get(hdrs.DATE), now),
            "certificate": {
                "spkiSha256": peer.spki_sha256,
                "notAfter": when(peer.not_after),
                "daysLeft": (peer.not_after - now).days,
            },
            "party": peer.party,
            "sender": {"enterpriseNumber": sender.enterprise_number, "ovoCode": sender.ovo_code, "name": sender.name},
            "profiles": [_profile(each, used, today) for each in profiles],
        }
    )


def _profile(profile: Profile, used: Mapping[str, QuotaUse], today: date) -> dict[str, Any]:
    use = used.get(profile.id, _NOTHING)
    return {
        "id": profile.id,
        "displayName": profile.display_name,
        "holdSeconds": int(profile.hold.total_seconds()),
        "categories": [
            {
                "category": each.category,
                "channels": list(each.channels),
                "recipients": each.recipients,
                "retentionDays": each.retention.days,
            }
            for each in profile.authorisations.values()
        ],
        "quota": {
            "day": today.isoformat(),
            "messages": _quota(profile.quota.messages_per_day, use.messages),
            "paper": _quota(profile.quota.paper_per_day, use.paper),
        },
    }


def _quota(limit: int | None, used: int) -> dict[str, int | None]:
    return {"limit": limit, "used": used, "left": None if limit is None else max(0, limit - used)}


def _skew_s(text: str | None, now: datetime) -> int | None:
    """Return how far a `Date` header (RFC 9110, section 6.6.1) is ahead of `now`; None without one that can be read."""
    if text is None:
        return None
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return round(((at if at.tzinfo is not None else at.replace(tzinfo=UTC)) - now).total_seconds())
