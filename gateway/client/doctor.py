"""
`gateway client doctor`: everything between a sender's file and a letter that the gateway takes, looked at in order.

Nothing is sent that the gateway keeps, and nothing is changed. What cannot be looked at, because something before it
failed, is told as skipped; every examination has one finding for each `Check`, in the order in which they stand there.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.client.account import Trust, account, trust
from gateway.client.answers import read
from gateway.client.asking import Reply, ask
from gateway.client.doctor_files import Papers, address_of, examine_certificates, examine_files, read_papers
from gateway.client.doctor_gateway import (
    examine_rights,
    of_clock,
    of_lost_handshake,
    of_receipt_published,
    of_receipt_validity,
)
from gateway.client.doctor_network import Destination, examine_way
from gateway.client.findings import Check, Finding, Outcome, ok, skipped
from gateway.client.handshake import refusal
from gateway.client.problems import ClientError, NotReached, UnexpectedAnswer
from gateway.client.sender import SenderProfile
from gateway.client.transport import CallTiming

__all__ = ["examine"]

_T = TypeVar("_T")
Clock = Callable[[], datetime]

_WAY: Final = (Check.NAME_LOOKUP, Check.CONNECTION, Check.TLS_VERSION, Check.SERVER_CERTIFICATE)
_ANSWERED: Final = (
    Check.GATEWAY_NAME,
    Check.REGISTRATION,
    Check.PROFILE,
    Check.SIGNING_REGISTRATION,
    Check.QUOTA,
    Check.CLOCK,
)
_ANSWER_TIMEOUT_S: Final = 30.0  # nothing that is asked here takes a gateway long
_NO_SENDER: Final = "the sender's file cannot be used as it is"
_WHY_NOT: Final = {
    Outcome.FAILED: "whoever answers there is not known to be the gateway",
    Outcome.SKIPPED: "there is no TLS connection to the gateway",
}


async def examine(
    file: Path, *, timing: CallTiming | None = None, clock: Clock = lambda: datetime.now(UTC)
) -> AsyncGenerator[Finding, None]:
    """Examine the sender that a file describes, and yield each finding as soon as it is made."""
    timing = timing or CallTiming(answer_timeout_s=_ANSWER_TIMEOUT_S)
    papers = await asyncio.to_thread(read_papers, file)
    for finding in await asyncio.to_thread(lambda: tuple(examine_files(papers))):
        yield finding
    server = Outcome.SKIPPED
    async for finding in _examine_way(papers, timing, clock):
        yield finding
        server = finding.outcome  # the last one is about the gateway's certificate
    for finding in examine_certificates(papers, clock()):
        yield finding
    async for finding in _examine_gateway(papers.sender, timing, clock, why_not=_WHY_NOT.get(server)):
        yield finding


async def _examine_way(papers: Papers, timing: CallTiming, clock: Clock) -> AsyncGenerator[Finding, None]:
    address = papers.address
    if address is None:
        for finding in _skipped(_WAY, "base_url cannot be used"):
            yield finding
        return
    destination = Destination(
        host=address[0],
        port=address[1],
        trust=papers.trust,
        trusted_by=papers.values.get("ca"),
        timeout_s=timing.connect_timeout_s,
    )
    async for finding in examine_way(destination, clock()):
        yield finding


async def _examine_gateway(
    sender: SenderProfile | None, timing: CallTiming, clock: Clock, *, why_not: str | None
) -> AsyncGenerator[Finding, None]:
    published: Trust | ClientError | None = None
    if sender is None or why_not is not None:
        for finding in _skipped((Check.HANDSHAKE, *_ANSWERED), why_not or _NO_SENDER):
            yield finding
    else:
        try:
            reply = await ask(sender, "/api/v1/whoami", timing=timing, clock=clock)
        except NotReached as lost:
            yield of_lost_handshake(sender, await asyncio.to_thread(_refusal, sender, timing), lost, clock())
            for finding in _skipped(_ANSWERED, "the gateway gave no answer"):
                yield finding
        else:
            yield ok(Check.HANDSHAKE, "the gateway takes the certificate")
            known = _told(account, reply)
            published = await _published(sender, timing, clock)
            for finding in examine_rights(sender, known, published):
                yield finding
            yield of_clock(reply, known)
    if sender is None:
        yield skipped(Check.RECEIPT_VALIDITY, _NO_SENDER)
        yield skipped(Check.RECEIPT_PUBLISHED, _NO_SENDER)
        return
    yield of_receipt_validity(sender.receipt_certificates, clock())
    yield of_receipt_published(sender.receipt_certificates, published)


async def _published(sender: SenderProfile, timing: CallTiming, clock: Clock) -> Trust | ClientError:
    try:
        return _told(trust, await ask(sender, "/api/v1/trust", timing=timing, clock=clock))
    except NotReached as lost:
        return lost


def _told(parse: Callable[[Any], _T], reply: Reply) -> _T | ClientError:
    """Return what an answer says; the refusal that it is instead, or why it is no answer of a gateway."""
    if (problem := reply.problem) is not None:
        return problem
    try:
        return read(parse, reply.value)
    except UnexpectedAnswer as unexpected:
        return unexpected


def _refusal(sender: SenderProfile, timing: CallTiming) -> str | None:
    host, port = address_of(sender.base_url)
    return refusal(host, port, sender.tls, connect_timeout_s=timing.connect_timeout_s, wait_s=timing.verdict_wait_s)


def _skipped(checks: Iterable[Check], why: str) -> Iterator[Finding]:
    return (skipped(check, why) for check in checks)
