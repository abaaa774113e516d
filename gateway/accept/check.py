"""
The dry run: everything that acceptance would look at, told as findings, and nothing kept but a log line.

Each stage is the same code as in `accept`; a stage that refuses ends what depends on it, and the rest is still looked
at where that makes sense, so that one call names as much as possible.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.accept.again import answer_again, known_reference
from gateway.accept.authenticate import authenticate, verify
from gateway.accept.authorise import authorise
from gateway.accept.spool import checked, expected_part, no_more_parts
from gateway.accept.stages import AcceptDeps, Order, RawMessage, SignedMessage
from gateway.crypto.identity import Peer
from gateway.domain.calendar import day_of
from gateway.domain.ids import EnterpriseNumber
from gateway.domain.message import Channel, Message, Recipient
from gateway.domain.status import Reason
from gateway.errors import DeliveryError, FieldError, Kind, Refusal
from gateway.records.logs import Subject
from gateway.stores.model import Log

Forecast = Callable[[str, Channel, Recipient], Awaitable[Reason | None]]
"""Asks a provider, by name, why it would refuse a recipient on a channel; None: it would not, or does not tell."""


class Severity(StrEnum):
    """What a finding means for a real hand-over."""

    ERROR = "error"  # it would be refused
    WARNING = "warning"  # it would be accepted, and something is worth knowing


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found; `code` is a problem code, or a word of its own for a warning."""

    severity: Severity
    code: str
    detail: str
    errors: Sequence[FieldError] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelForecast:
    """What would happen on one channel: `will-carry`, `skipped`, `would-refuse` or `unknown`, and why."""

    channel: Channel
    outlook: str
    why: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The outcome of a dry run. `message` is None where not even its fields could be read."""

    message: Message | None
    findings: tuple[Finding, ...]
    channels: tuple[ChannelForecast, ...] = ()

    @property
    def would_be_accepted(self) -> bool:
        """Whether a real hand-over of the same bytes would have been accepted just now."""
        return not any(finding.severity is Severity.ERROR for finding in self.findings)


async def check(raw: RawMessage, peer: Peer, deps: AcceptDeps, forecast: Forecast) -> Checked:
    """
    Look at a message as `accept` would, and keep nothing.

    Raises:
        StoreUnavailable: it could not be checked.
    """
    findings: list[Finding] = []
    try:
        verified = await verify(raw, peer, deps)
        signed = await authenticate(verified, raw.manifest, peer, deps)
    except Refusal as refusal:
        return Checked(message=None, findings=(_error(refusal),))
    await _log(signed, peer, deps)
    findings += await _reference(signed, deps)
    order = await _authorised(signed, deps, findings)
    findings += await _documents(signed, raw)
    findings += await _quota(signed, deps)
    channels = await _channels(order, forecast) if order is not None else ()
    return Checked(message=signed.message, findings=tuple(findings), channels=channels)


async def _reference(signed: SignedMessage, deps: AcceptDeps) -> list[Finding]:
    known = await known_reference(signed, deps)
    if known is None:
        return []
    try:
        await answer_again(signed, known, deps)
    except Refusal as refusal:
        return [_error(refusal)]
    return [_warning("reference-known", "this message was accepted before; handing it over again changes nothing")]


async def _authorised(signed: SignedMessage, deps: AcceptDeps, findings: list[Finding]) -> Order | None:
    try:
        return await authorise(signed, deps)
    except Refusal as refusal:
        findings.append(_error(refusal))
        return None


async def _documents(signed: SignedMessage, raw: RawMessage) -> list[Finding]:
    try:
        for entry in signed.message.documents:
            part = await expected_part(raw.parts, entry)
            async for _ in checked(part.chunks, entry):
                pass
        await no_more_parts(raw.parts)
    except Refusal as refusal:
        return [_error(refusal)]
    return []


async def _quota(signed: SignedMessage, deps: AcceptDeps) -> list[Finding]:
    limit = signed.profile.quota.messages_per_day
    if limit is None:
        return []
    today = day_of(deps.clock())
    used = (await deps.ledger.quota_use(signed.sender.enterprise_number, today)).get(signed.profile.id)
    left = limit - (used.messages if used is not None else 0)
    if left > 0:
        return []
    detail = f"all {limit} messages of today are used up; more are taken from tomorrow"
    return [Finding(severity=Severity.ERROR, code=Kind.QUOTA_EXCEEDED, detail=detail)]


async def _channels(order: Order, forecast: Forecast) -> tuple[ChannelForecast, ...]:
    found = [ChannelForecast(channel=skip.channel, outlook="skipped", why=skip.why) for skip in order.route.skipped]
    for channel in order.route.channels:
        try:
            reason = await forecast(order.route.providers[channel], channel, order.signed.message.recipient)
        except DeliveryError:
            found.append(ChannelForecast(channel=channel, outlook="unknown", why="the provider could not be asked"))
            continue
        outlook = "will-carry" if reason is None else "would-refuse"
        found.append(ChannelForecast(channel=channel, outlook=outlook, why=reason))
    return tuple(found)


async def _log(signed: SignedMessage, peer: Peer, deps: AcceptDeps) -> None:
    sender: EnterpriseNumber = signed.sender.enterprise_number
    key = await deps.logbook.log_key(sender)
    entry = deps.logbook.entry(
        Log.PRIVACY,
        "message-checked",
        who={"party": peer.party, "sender": sender, "profile": signed.profile.id},
        what={"reference": signed.message.reference, "category": signed.message.category},
        result="checked",
        subject=Subject(sender=sender, profile=signed.profile.id),
        personal=await deps.logbook.about(signed.message.recipient, signed.message.purpose, key),
    )
    await deps.ledger.append([entry])


def _error(refusal: Refusal) -> Finding:
    return Finding(severity=Severity.ERROR, code=refusal.kind, detail=refusal.detail, errors=refusal.errors)


def _warning(code: str, detail: str) -> Finding:
    return Finding(severity=Severity.WARNING, code=code, detail=detail)
