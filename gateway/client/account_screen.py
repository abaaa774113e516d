"""What the commands show of a sender's account and of its feed of events."""

from datetime import UTC, datetime

from gateway.client.account import Account, Profile, Quota
from gateway.client.feed import Event, EventPage
from gateway.client.problems import harmless

__all__ = ["account_text", "events_text"]


def account_text(account: Account) -> str:
    """Return what the gateway sees of a sender."""
    for_whom = "" if account.party == account.sender_number else f", for whom {account.party} acts"
    skew_s = account.clock_skew_s
    clock = "not compared" if skew_s is None else f"{skew_s:+d} s from the gateway's"
    ends = f"{account.certificate_ends_at.astimezone(UTC):%Y-%m-%d}, in {account.certificate_days_left} days"
    lines = [
        f"{account.sender_number} {account.sender_name}{for_whom}",
        f"  gateway      {account.gateway}",
        f"  certificate  ends on {ends}",
        f"  clock        {clock}",
    ]
    return "\n".join([*lines, *(line for profile in account.profiles for line in _profile(profile))])


def events_text(page: EventPage) -> str:
    """Return one line for each event, and where to go on."""
    lines = [_event(event) for event in page.events] or ["Nothing that you were not shown before."]
    more = "There is more; go on with" if page.more else "Look again later with"
    return "\n".join([*lines, f"{more} --after {harmless(page.next_cursor)}"])


def _profile(profile: Profile) -> list[str]:
    lines = ["", f"Profile {profile.id}: {profile.display_name}"]
    for rights in profile.rights:
        dossier = ", to those about whom you registered a dossier" if rights.needs_dossier else ""
        lines.append(f"  may send     {rights.category} by {', '.join(rights.channels)}{dossier}")
    return lines + [f"  {name:<11}  {_quota(quota)}" for name, quota in profile.quotas.items()]


def _quota(quota: Quota) -> str:
    if quota.limit is None:
        return f"{quota.used} today, without limit"
    return f"{quota.used} today, {quota.left} of {quota.limit} left"


def _event(event: Event) -> str:
    facts = ", ".join(f"{name} {fact}" for name, fact in event.facts.items() if name != "deliveryId")
    status = f" -> {event.status}" if event.status is not None else ""
    words = f"{event.event}{status} ({facts})" if facts else f"{event.event}{status}"
    reference = event.reference if event.reference is not None else event.message_id
    return f"{event.number:>8}  {_moment(event.at)}  {harmless(str(reference))}  {harmless(words)}"


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
