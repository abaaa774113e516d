"""The last part of an examination: what the gateway says of the sender, its rights, its clock and its receipts."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.client.account import Account, Profile, Rights, Trust
from gateway.client.asking import Reply
from gateway.client.doctor_network import ALERTS_ABOUT_CERTIFICATES
from gateway.client.findings import SOON, Check, Finding, failed, of_validity, ok, skipped, warning
from gateway.client.handshake import own_fault
from gateway.client.problems import ClientError, NotReached, Problem
from gateway.client.sender import SenderProfile
from gateway.crypto.certs import spki_sha256
from gateway.errors import Kind

__all__ = ["examine_rights", "of_clock", "of_lost_handshake", "of_receipt_published", "of_receipt_validity"]

_SLOW_CLOCK: Final = timedelta(seconds=60)
_CLOCK_AHEAD_LIMIT: Final = timedelta(minutes=5)
_CLOCK_BEHIND_LIMIT: Final = timedelta(hours=24)
_LOW_QUOTA: Final = 0.1
_PLAIN_BASE_URL: Final = "check base_url: it must be the gateway's sender interface, without any path"


# ── The handshake ──


def of_lost_handshake(sender: SenderProfile, refused: str | None, lost: NotReached, now: datetime) -> Finding:
    """Judge a question without an answer; `refused` is what `handshake.refusal` found out about the connection."""
    if refused is None:
        found = f"the certificate was not refused, and yet there is no answer: {lost}"
        return failed(Check.HANDSHAKE, found, "try again later; if it lasts, ask the operator", unreachable=True)
    if not refused:
        found = "the gateway hangs up when it sees the certificate, without an alert to say why"
    else:
        found = (
            f"the gateway refuses the certificate with the TLS alert {refused}: {ALERTS_ABOUT_CERTIFICATES[refused]}"
        )
    fault = own_fault(sender.tls_certificate, now)
    return failed(Check.HANDSHAKE, found, _fix_of_alert(refused, faulty=fault is not None), {"alert": refused or None})


def _fix_of_alert(alert: str, *, faulty: bool) -> str:
    if alert == "certificate-revoked":
        return "ask your certification authority why, and for a new certificate; then have that registered"
    if faulty:
        return "get a certificate without the fault that is told under your certificates, and have it registered"
    match alert:
        case "certificate-expired":
            return "set this machine's clock right; if it is, the gateway's operator has to renew its revocation lists"
        case "unknown-ca":
            return (
                "ask the gateway's operator which authorities it takes certificates of; if yours is one, "
                "put its intermediate certificate behind your own in the file"
            )
        case _:
            return "ask the gateway's operator, whose log names the reason"


# ── Registration ──


def examine_rights(
    sender: SenderProfile, account: Account | ClientError, trust: Trust | ClientError
) -> Iterator[Finding]:
    """Judge the gateway's name, the registration, the profile with its rights, and its quota."""
    names = [each.gateway for each in (account, trust) if isinstance(each, Account | Trust)]
    yield _of_name(sender, names[0]) if names else skipped(Check.GATEWAY_NAME, "the gateway does not say its name")
    if not isinstance(account, Account):
        yield _of_refusal(sender, account)
        why = "the registration is not known"
        yield from (skipped(check, why) for check in (Check.PROFILE, Check.SIGNING_REGISTRATION, Check.QUOTA))
        return
    yield _of_registration(account)
    profile = _chosen(sender, account)
    yield _of_profile(sender, account, profile)
    yield skipped(
        Check.SIGNING_REGISTRATION,
        "only a signed message shows this: the first letter will tell, or a dry run (POST /api/v1/messages?mode=check)",
    )
    yield skipped(Check.QUOTA, "the profile is not known") if profile is None else _of_quota(profile)


def _of_name(sender: SenderProfile, name: str) -> Finding:
    if name == sender.gateway:
        return ok(Check.GATEWAY_NAME, f"{name}, as in the sender's file", {"gateway": name})
    fix = f'if this is the one you mean, write gateway = "{name}"; else correct base_url'
    found = f"this is {name}, and the sender's file names {sender.gateway}: it would refuse every letter"
    return failed(Check.GATEWAY_NAME, found, fix, {"gateway": name})


def _of_refusal(sender: SenderProfile, refusal: ClientError) -> Finding:
    if not isinstance(refusal, Problem):
        found = f"what answers is no gateway, or one of another version ({refusal})"
        return failed(Check.REGISTRATION, found, _PLAIN_BASE_URL)
    digest = spki_sha256(sender.tls_certificate)
    about = f", and name correlation id {refusal.correlation_id}" if refusal.correlation_id else ""
    match refusal.code:
        case Kind.SENDER_UNKNOWN:
            fix = f'compare enterprise_number and this certificate with your registration: spki_sha256 = "{digest}"'
        case Kind.CERTIFICATE_REVOKED:
            fix = "ask your certification authority for a new certificate, and have it registered"
        case Kind.NOT_FOUND:
            fix = f"{_PLAIN_BASE_URL}; or the gateway is older than this program"
        case _ if refusal.is_temporary:
            fix = f"try again later; if it lasts, ask the gateway's operator{about}"
        case code if code.startswith("http-"):
            fix = _PLAIN_BASE_URL  # no problem document, so no gateway
        case _:
            fix = f"ask the gateway's operator{about}"
    facts = {"code": refusal.code, "spkiSha256": digest}
    found = f"{refusal.code}: {refusal.detail}"
    return failed(Check.REGISTRATION, found, fix, facts, unreachable=refusal.is_temporary)


def _of_registration(account: Account) -> Finding:
    through = "" if account.party == account.sender_number else f", through processor {account.party}"
    found = f"known as {account.sender_name}, {account.sender_number}{through}"
    return ok(Check.REGISTRATION, found, {"sender": account.sender_number, "party": account.party})


def _chosen(sender: SenderProfile, account: Account) -> Profile | None:
    if sender.profile is None:
        return account.profiles[0] if len(account.profiles) == 1 else None
    return next((each for each in account.profiles if each.id == sender.profile), None)


def _of_profile(sender: SenderProfile, account: Account, profile: Profile | None) -> Finding:
    names = [each.id for each in account.profiles]
    known = ", ".join(names) or "none"
    if profile is None and sender.profile is None:
        found = f"the sender's file names no profile, and this certificate has not one but these: {known}"
        return failed(Check.PROFILE, found, "name one of them in profile", {"profiles": names})
    if profile is None:
        found = f"this certificate has no profile {sender.profile}; it has: {known}"
        return failed(Check.PROFILE, found, "correct profile, or have your registration changed", {"profiles": names})
    categories = {each.category: list(each.channels) for each in profile.rights}
    if not categories:
        found = f"{profile.id} has no category that it may send"
        return failed(Check.PROFILE, found, "have your registration changed", {"profile": profile.id})
    lines = [f"{profile.id}, {profile.display_name}, may send", *(f"- {_right(each)}" for each in profile.rights)]
    return ok(Check.PROFILE, "\n".join(lines), {"profile": profile.id, "categories": categories})


def _right(right: Rights) -> str:
    dossier = ", where there is a dossier" if right.needs_dossier else ""
    return f"{right.category} by {', '.join(right.channels)}{dossier}"


def _of_quota(profile: Profile) -> Finding:
    words: list[str] = []
    facts: dict[str, object] = {}
    low = False
    for name, quota in profile.quotas.items():
        facts[name] = {"limit": quota.limit, "left": quota.left}
        if quota.limit is None or quota.left is None:
            words.append(f"{name} without limit")
            continue
        words.append(f"{quota.left} of {quota.limit} {name} left")
        low = low or quota.left < _LOW_QUOTA * quota.limit
    found = f"today {', '.join(words)}"
    if low:
        fix = "keep what can wait until tomorrow, which begins at midnight in Brussels; or ask for a larger quota"
        return warning(Check.QUOTA, found, fix, facts)
    return ok(Check.QUOTA, found, facts)


# ── Clock and receipts ──


def of_clock(reply: Reply, account: Account | ClientError) -> Finding:
    """Judge our clock by the gateway's, taken to have been read half-way between the question and its answer."""
    server_at = account.server_at if isinstance(account, Account) else reply.date_at
    if server_at is None:
        return skipped(Check.CLOCK, "the gateway does not say what time it has")
    ahead = reply.asked_at + (reply.answered_at - reply.asked_at) / 2 - server_at
    facts = {"aheadSeconds": round(ahead.total_seconds(), 1)}
    found = _compared(ahead)
    fix = "let this machine keep its time by NTP"
    if ahead > _CLOCK_AHEAD_LIMIT or -ahead > _CLOCK_BEHIND_LIMIT:
        found += ": letters signed over 5 minutes ahead of it, or over 24 hours behind, are refused"
        return failed(Check.CLOCK, found, fix, facts)
    return warning(Check.CLOCK, found, fix, facts) if abs(ahead) > _SLOW_CLOCK else ok(Check.CLOCK, found, facts)


def _compared(ahead: timedelta) -> str:
    whole = timedelta(seconds=round(abs(ahead).total_seconds()))
    if not whole:
        return "equal to the gateway's, to the second"
    return f"{whole} {'ahead of' if ahead > timedelta(0) else 'behind'} the gateway's"


def of_receipt_validity(certificates: Sequence[x509.Certificate], now: datetime) -> Finding:
    """Judge whether one of the receipt certificates is valid now, and one will be in the time to come."""
    current = [each for each in certificates if each.not_valid_before_utc <= now <= each.not_valid_after_utc]
    judged = max(current or certificates, key=_end)
    is_succeeded = any(_end(each) > _end(judged) for each in certificates)
    return of_validity(
        Check.RECEIPT_VALIDITY,
        judged,
        now,
        fix="ask the gateway's operator for the next one, which may stand in the same file",
        soon=timedelta(0) if is_succeeded else SOON,
    )


def of_receipt_published(certificates: Sequence[x509.Certificate], trust: Trust | ClientError | None) -> Finding:
    """Compare the receipt certificates with those that the gateway says it signs with; None: it was not asked."""
    if trust is None:
        return skipped(Check.RECEIPT_PUBLISHED, "the gateway could not be asked")
    if not isinstance(trust, Trust):
        return skipped(Check.RECEIPT_PUBLISHED, f"the gateway does not tell its certificates ({trust})")
    own = {each.public_bytes(Encoding.DER) for each in certificates}
    if own & trust.present:
        return ok(Check.RECEIPT_PUBLISHED, "the one that the gateway signs with now")
    which = "one that it signed with before" if own & trust.earlier else "none that it ever signed with"
    prints = [each.fingerprint(hashes.SHA256()).hex() for each in certificates]
    return failed(
        Check.RECEIPT_PUBLISHED,
        f"not the one that the gateway signs with now, but {which}: no new receipt would hold",
        "ask the gateway's operator for the one in use, not through this connection, and add it to the file",
        {"sha256": prints},
    )


def _end(certificate: x509.Certificate) -> datetime:
    return certificate.not_valid_after_utc
