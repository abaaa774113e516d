"""
The second spine: one delivery from the ledger to a provider, inside a worker.

open the letter → may it still go? → write down that a provider is called → call → settle. Whatever the provider did is
settled in one transaction, which also opens the next channel and says what is kept. A worker that dies anywhere leaves
the delivery with an action and a time in the ledger; the next worker takes it from there.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from io import BytesIO
from typing import Final, Protocol, TypeVar, assert_never

from pypdf import PdfReader
from pypdf.errors import PyPdfError

from gateway.adapters.base import Adapter, Handed, Handover, Parcel, ParcelDocument
from gateway.crypto.sealing import SealBroken, unseal
from gateway.crypto.vault import Dek, Vault
from gateway.domain import journey
from gateway.domain.calendar import day_of, end_of
from gateway.domain.dossier import in_force
from gateway.domain.ids import DeliveryId, EnterpriseNumber, sender_uuid
from gateway.domain.journey import JourneyState, Rules, Verdict
from gateway.domain.message import Channel, PrintProduct, Recipient
from gateway.domain.retention import Journey, keep_copy
from gateway.domain.routing import unread_rule_applies
from gateway.domain.schedule import send_by
from gateway.domain.status import DeliveryStatus, NextAction, Reason, may_follow
from gateway.errors import (
    BlobMissing,
    ChannelBlocked,
    DeliveryError,
    GatewayError,
    KeyringRefused,
    OutcomeUnknown,
    QuotaUsedUp,
    Refused,
    StoreUnavailable,
    Unreachable,
)
from gateway.records import personal
from gateway.records.logs import LogBook, Subject
from gateway.stores.documents import Documents
from gateway.stores.ledger import Ledger
from gateway.stores.model import (
    Claim,
    DeliveryChange,
    DeliveryRecord,
    DocumentRecord,
    Log,
    LogEntry,
    MessageRecord,
    PaperQuota,
    Settlement,
)

_log: Final = logging.getLogger(__name__)
# What does not mend by itself, or not soon: a damaged document, one that is gone, a key that is gone or refused.
_UNREADABLE: Final = (SealBroken, BlobMissing, KeyringRefused)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Envelope:
    """A delivery with its message, still sealed."""

    claim: Claim
    record: MessageRecord

    @property
    def delivery(self) -> DeliveryRecord:
        """The delivery at hand."""
        return self.claim.delivery


_E = TypeVar("_E", bound=Envelope)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Letter(Envelope):
    """A delivery with its message, opened."""

    meta: Dek
    recipient: Recipient
    attention_of: str | None

    @property
    def subject(self) -> str:
        """The subject line, unsealed."""
        return self._text("sealed_subject", self.record.sealed_subject)

    @property
    def purpose(self) -> str:
        """The purpose of the processing, unsealed."""
        return self._text("sealed_purpose", self.record.sealed_purpose)

    def _text(self, column: str, sealed: bytes) -> str:
        return personal.open_value(self.meta, self.record.message_id, column, sealed).decode()


class Covers(Protocol):
    """Makes the sealed cover page of a print delivery; see `gateway.covers.maker`."""

    async def ensure(self, letter: Letter) -> MessageRecord:
        """Return the message with the delivery's cover page among its documents, made now if there was none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A provider as workers see it. `settle_s`: how long a call may take effect after its deadline."""

    adapter: Adapter
    attempt_timeout_s: float
    settle_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverDeps:
    """What delivery needs; `draw` is random in [0, 1)."""

    ledger: Ledger
    documents: Documents
    vault: Vault
    destinations: Mapping[str, Destination]
    covers: Covers
    logbook: LogBook
    rules: Rules
    keep_undelivered: timedelta
    clock: Callable[[], datetime]
    ids: Callable[[], DeliveryId]
    draw: Callable[[], float]
    paper_per_day: Callable[[EnterpriseNumber, str], int | None]  # of a sender's profile; None: no limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    What a piece of work came to: a name for logs and metrics, the verdict, and what the provider told.

    `event` names it in the traffic log where the status, which stays as it was, does not.
    """

    name: str
    verdict: Verdict
    code: str | None = None
    provider_reference: str | None = None
    barcode: str | None = None
    attempted: bool = True
    disclosed: bool = False  # personal data reached the provider in this call; only of a `Letter`
    event: str | None = None


async def deliver(claim: Claim, deps: DeliverDeps) -> Outcome:
    """
    Do the next thing for a claimed delivery, and settle it.

    Raises:
        LeaseLost: somebody else holds it now; nothing was settled here.
        StoreUnavailable: it stays as it is and is taken up again when the lease ends.
    """
    envelope = await find_envelope(claim, deps)
    try:
        letter = await open_letter(envelope, deps)
    except _UNREADABLE as error:
        outcome = await _unopened(envelope, error, deps)
        await deps.ledger.settle(claim, await settlement(envelope, outcome, deps))
        return outcome
    match claim.delivery.next_action:
        case NextAction.SEND:
            outcome = await _stopped(letter, deps) or await _send(letter, deps, again=False)
        case NextAction.RECONCILE:
            outcome = await _reconcile(letter, deps)
        case NextAction.POLL:
            outcome = await _poll(letter, deps)
        case NextAction.DECIDE | NextAction.NONE:
            raise GatewayError(f"delivery {claim.delivery.delivery_id} was claimed with nothing to do")
        case never:
            assert_never(never)
    await deps.ledger.settle(claim, await settlement(letter, outcome, deps))
    return outcome


async def find_envelope(claim: Claim, deps: DeliverDeps) -> Envelope:
    """
    Read the message of a delivery.

    Raises:
        StoreUnavailable: it cannot be read now.
    """
    record = await deps.ledger.message(claim.delivery.message_id)
    if record is None:
        raise StoreUnavailable(f"the message of delivery {claim.delivery.delivery_id} cannot be read")
    return Envelope(claim=claim, record=record)


async def open_letter(envelope: Envelope, deps: DeliverDeps) -> Letter:
    """
    Unseal whom a message is for.

    Raises:
        StoreUnavailable: it cannot be read now.
        KeyringRefused, SealBroken: its key is gone or refused, or what it sealed is damaged.
    """
    record = envelope.record
    row = await deps.ledger.dek(record.meta_dek_id)
    if row is None:
        raise KeyringRefused(f"the key of message {record.message_id} is gone while it is still needed")
    meta = await deps.vault.open_dek(row, sender_uuid(record.sender))
    recipient, attention_of = personal.open_recipient(meta, record)
    return Letter(claim=envelope.claim, record=record, meta=meta, recipient=recipient, attention_of=attention_of)


async def _unopened(envelope: Envelope, error: GatewayError, deps: DeliverDeps) -> Outcome:
    """Its key or its seal is in the way: nobody can be called for it now."""
    delivery = envelope.delivery
    if delivery.next_action is NextAction.POLL:
        _tell_unreadable(envelope, error)
        verdict = journey.after_silent_poll(journey_state(envelope, deps), delivery.status, deps.clock(), deps.rules)
        return Outcome(name="poll-unanswered", verdict=verdict, attempted=False)
    return await _unreadable_before(envelope, error, deps, again=delivery.next_action is NextAction.RECONCILE)


# ── Send ──


async def _stopped(letter: Letter, deps: DeliverDeps) -> Outcome | None:
    """Return why a delivery that was surely not handed over must not go any more, or None."""
    now, record = deps.clock(), letter.record
    if record.deliver_before is not None and record.deliver_before <= now:
        reason = Reason.EXPIRED
    elif await _dossier_ended(letter, deps, now):
        reason = Reason.DOSSIER_ENDED
    else:
        return None
    return Outcome(name=str(reason), verdict=journey.never_sent(journey_state(letter, deps), reason), attempted=False)


async def _dossier_ended(letter: Letter, deps: DeliverDeps, now: datetime) -> bool:
    record = letter.record
    deferred_first_try = (
        record.deliver_not_before is not None and letter.delivery.number == 1 and letter.delivery.attempts == 0
    )
    if not record.dossier_rule or not deferred_first_try:
        return False
    index = await deps.vault.blind_index("recipient")
    candidates = personal.recipient_candidates(index, letter.recipient)
    dossiers = await deps.ledger.find_dossiers(record.sender, record.category, candidates)
    return not any(in_force(dossier, now) for dossier in dossiers)


async def _send(letter: Letter, deps: DeliverDeps, *, again: bool) -> Outcome:
    """Hand the letter over; the intent is durable before the call."""
    destination = deps.destinations[letter.delivery.provider]
    try:
        parcel = await _parcel(letter, deps)
    except Refused as refused:
        if again:  # an earlier call may have handed it over all the same
            return await _unreadable_before(letter, refused, deps, again=True)
        # No provider was asked, so none rejected it.
        reason, state = Reason(refused.reason), journey_state(letter, deps)
        verdict = journey.after_refusal(state, reason, status=DeliveryStatus.FAILED)
        return Outcome(name="refused", verdict=verdict, code=refused.code, attempted=False)
    except _UNREADABLE as error:
        return await _unreadable_before(letter, error, deps, again=again)
    try:
        letter = await _begin(letter, destination, deps, paper=_paper_quota(letter, deps))
    except QuotaUsedUp:
        return _postponed(letter, deps)
    try:
        async with asyncio.timeout(destination.attempt_timeout_s):
            handover = await destination.adapter.send(parcel, again=again)
    except TimeoutError:
        return _undelivered(letter, OutcomeUnknown("no answer before the attempt's deadline"), deps, again=again)
    except DeliveryError as error:
        return _undelivered(letter, error, deps, again=again)
    except GatewayError as error:
        return _unreadable(letter, error, deps, again=again)
    return _handed_over(letter, handover, deps)


def _paper_quota(letter: Envelope, deps: DeliverDeps) -> PaperQuota | None:
    record = letter.record
    limit = deps.paper_per_day(record.sender, record.profile) if letter.delivery.channel is Channel.PRINT else None
    if limit is None:
        return None
    return PaperQuota(sender=record.sender, profile=record.profile, day=day_of(deps.clock()), limit=limit)


def _postponed(letter: Envelope, deps: DeliverDeps) -> Outcome:
    next_day_at = end_of(day_of(deps.clock()))
    verdict = journey.after_quota(letter.record.status, journey_state(letter, deps), next_day_at=next_day_at)
    return Outcome(name="quota-exceeded", verdict=verdict, attempted=False)


async def _begin(letter: _E, destination: Destination, deps: DeliverDeps, *, paper: PaperQuota | None = None) -> _E:
    number = await deps.ledger.begin_attempt(
        letter.claim,
        longest=timedelta(seconds=destination.attempt_timeout_s),
        settle=timedelta(seconds=destination.settle_s),
        paper=paper,
    )
    delivery = replace(
        letter.delivery,
        status=DeliveryStatus.DISPATCHING,
        attempts=number,
        first_attempt_at=letter.delivery.first_attempt_at or deps.clock(),
    )
    return replace(letter, claim=replace(letter.claim, delivery=delivery))


def _handed_over(letter: Letter, handover: Handover, deps: DeliverDeps) -> Outcome:
    verdict = journey.after_handover(
        journey_state(letter, deps), handover.status, handover.reason, deps.clock(), deps.rules
    )
    return Outcome(
        name=str(handover.status),
        verdict=verdict,
        code=handover.code,
        provider_reference=handover.provider_reference,
        barcode=handover.barcode,
        disclosed=True,
    )


def _undelivered(letter: Letter, error: DeliveryError, deps: DeliverDeps, *, again: bool) -> Outcome:
    """Translate what an adapter raised; after an earlier doubt, only a refusal or an answer ends the doubt."""
    state, now = journey_state(letter, deps), deps.clock()
    adapter = deps.destinations[letter.delivery.provider].adapter
    can_reconcile = adapter.finds or adapter.resend_is_safe
    match error:
        case Refused(reason=reason, code=code):
            return Outcome(name="refused", verdict=journey.after_refusal(state, Reason(reason)), code=code)
        case OutcomeUnknown(for_good=for_good):
            verdict = journey.after_unknown(state, now, deps.rules, can_reconcile=can_reconcile and not for_good)
            return Outcome(name="unknown", verdict=verdict, disclosed=True)
        case Unreachable(retry_after_s=wish_s) if not again:
            verdict = journey.after_unreachable(state, now, deps.rules, wish_s=wish_s)
            return Outcome(name="unreachable", verdict=verdict)
        case ChannelBlocked() if not again:
            return Outcome(name="blocked", verdict=journey.after_unreachable(state, now, deps.rules))
        case _:
            verdict = journey.after_unknown(state, now, deps.rules, can_reconcile=can_reconcile)
            return Outcome(name="unknown", verdict=verdict)


def _unreadable(envelope: Envelope, error: GatewayError, deps: DeliverDeps, *, again: bool) -> Outcome:
    """
    A document of ours broke off: the call was cut off with it and handed nothing over.

    Tried again like any trouble, ever more rarely, until a person must look.
    """
    _tell_unreadable(envelope, error)
    state, now = journey_state(envelope, deps), deps.clock()
    if again:
        verdict = journey.after_unknown(state, now, deps.rules, can_reconcile=True)
    else:
        verdict = journey.after_unreachable(state, now, deps.rules, reason=Reason.DOCUMENT_UNREADABLE)
    # The letter's description goes before its documents.
    return Outcome(name=str(Reason.DOCUMENT_UNREADABLE), verdict=verdict, disclosed=True)


async def _unreadable_before(envelope: Envelope, error: GatewayError, deps: DeliverDeps, *, again: bool) -> Outcome:
    """It broke off before anybody was called. An attempt all the same, so that the ledger knows since when it fails."""
    destination = deps.destinations[envelope.delivery.provider]
    try:
        envelope = await _begin(envelope, destination, deps, paper=_paper_quota(envelope, deps))
    except QuotaUsedUp:
        return _postponed(envelope, deps)
    return replace(_unreadable(envelope, error, deps, again=again), disclosed=False)


def _tell_unreadable(envelope: Envelope, error: GatewayError) -> None:
    delivery = str(envelope.delivery.delivery_id)
    _log.error("document unreadable", extra={"delivery": delivery, "error": f"{type(error).__name__}: {error}"})


# ── Reconcile and poll ──


async def _reconcile(letter: Letter, deps: DeliverDeps) -> Outcome:
    """Find out whether an earlier call arrived, before anything is sent again."""
    destination = deps.destinations[letter.delivery.provider]
    if not destination.adapter.finds:
        return await _send(letter, deps, again=True)
    letter = await _begin(letter, destination, deps)
    try:
        async with asyncio.timeout(destination.attempt_timeout_s):
            found = await destination.adapter.find(letter.delivery.delivery_id)
    except TimeoutError:
        return _undelivered(letter, OutcomeUnknown("no answer before the attempt's deadline"), deps, again=True)
    except DeliveryError as error:
        return _undelivered(letter, error, deps, again=True)
    if found is None:
        verdict = journey.after_surely_absent(journey_state(letter, deps), deps.clock(), deps.rules)
        return Outcome(name="surely-absent", verdict=verdict)
    return _handed_over(letter, found, deps)


async def _poll(letter: Letter, deps: DeliverDeps) -> Outcome:
    """Ask the provider how far the delivery is."""
    delivery = letter.delivery
    destination = deps.destinations[delivery.provider]
    handed = Handed(
        delivery_id=delivery.delivery_id,
        channel=delivery.channel,
        sender=letter.record.sender,
        provider_reference=delivery.provider_reference,
        recipient=letter.recipient,
    )
    state = journey_state(letter, deps)
    try:
        async with asyncio.timeout(destination.attempt_timeout_s):
            answer = await destination.adapter.status(handed)
    except (TimeoutError, DeliveryError):
        verdict = journey.after_silent_poll(state, delivery.status, deps.clock(), deps.rules)
        return Outcome(name="poll-unanswered", verdict=verdict, attempted=False)
    now = deps.clock()
    if not may_follow(delivery.status, answer.status):
        # Old news, told late: where the delivery stands is known better already.
        verdict = journey.after_silent_poll(state, delivery.status, now, deps.rules)
        return Outcome(name="poll-out-of-order", verdict=verdict, attempted=False)
    if delivery.channel is Channel.PRINT:
        verdict = journey.after_handover(state, answer.status, answer.reason, now, deps.rules)
    else:
        verdict = journey.after_read_poll(state, read=bool(answer.read), now=now, rules=deps.rules)
    return Outcome(name=str(verdict.status), verdict=verdict, code=answer.code, barcode=answer.barcode, attempted=False)


# ── What goes to the provider ──


async def _parcel(letter: Letter, deps: DeliverDeps) -> Parcel:
    record, delivery = letter.record, letter.delivery
    if delivery.channel is Channel.PRINT:
        record = await deps.covers.ensure(letter)
    chosen = [document for document in record.documents if document.delivery_id in (None, delivery.delivery_id)]
    chosen.sort(key=lambda document: (document.kind != "cover", document.number))
    documents = [await _parcel_document(document, letter, deps) for document in chosen]
    return Parcel(
        delivery_id=delivery.delivery_id,
        message_id=record.message_id,
        channel=delivery.channel,
        sender=record.sender,
        sender_name=record.letterhead.sender_name,
        display_name=record.letterhead.display_name,
        profile=record.profile,
        category=record.category,
        recipient=letter.recipient,
        attention_of=letter.attention_of,
        subject=letter.subject,
        language=record.language,
        print_options=record.print_options,
        return_address=record.letterhead.return_address,
        ebox=record.route.ebox.get(delivery.channel),
        documents=tuple(documents),
    )


async def _parcel_document(document: DocumentRecord, letter: Letter, deps: DeliverDeps) -> ParcelDocument:
    sender_id = sender_uuid(letter.record.sender)
    row = await deps.ledger.dek(document.dek_id)
    if row is None:
        raise KeyringRefused(f"the key of document {document.document_id} is gone while it is still needed")
    dek = await deps.vault.open_dek(row, sender_id)

    def read() -> AsyncIterator[bytes]:
        return unseal(
            deps.documents.open(document),
            dek.key,
            expect_blob_id=document.document_id,
            expect_dek_id=document.dek_id,
            expect_sender_id=sender_id,
        )

    pages = document.pages
    if pages is None and letter.delivery.channel is Channel.PRINT:
        content = b"".join([chunk async for chunk in read()])
        pages = await asyncio.to_thread(_page_count, content)
    return ParcelDocument(
        filename=personal.open_filename(letter.meta, document),
        media_type=document.media_type,
        size_bytes=document.size_bytes,
        sha256=document.sha256,
        main=document.main,
        signed=document.signed,
        pages=pages,
        is_cover=document.kind == "cover",
        open=read,
    )


def _page_count(content: bytes) -> int:
    try:
        return len(PdfReader(BytesIO(content), strict=False).pages)
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Refused(reason=Reason.REFUSED, code="pdf-unreadable") from error


# ── Settle ──


def journey_state(letter: Envelope, deps: DeliverDeps) -> JourneyState:
    """Return what the pure decisions of `domain.journey` need to know of a letter."""
    delivery, record = letter.delivery, letter.record
    return JourneyState(
        channel=delivery.channel,
        route=record.route,
        registered=record.print_options.product is not PrintProduct.STANDARD,
        attempts=delivery.attempts,
        first_attempt_at=delivery.first_attempt_at,
        handed_over_at=delivery.handed_over_at,
        posted_at=delivery.posted_at,
        deliver_before=record.deliver_before,
        deadline_at=delivery.deadline_at,
        published_before=any(
            other.status is DeliveryStatus.DELIVERED and other.channel is not Channel.PRINT
            for other in record.deliveries
            if other.delivery_id != delivery.delivery_id
        ),
        draw=deps.draw(),
    )


async def settlement(letter: Envelope, outcome: Outcome, deps: DeliverDeps) -> Settlement:
    """Return everything that one outcome changes, for one transaction."""
    now, verdict, record = deps.clock(), outcome.verdict, letter.record
    following = _next_delivery(letter, verdict, now, deps)
    settled = replace(
        letter.delivery,
        status=verdict.status,
        next_action=verdict.next_action,
        posted_at=verdict.posted_at or letter.delivery.posted_at,
        handed_over_at=verdict.handed_over_at or letter.delivery.handed_over_at,
    )
    others = [other for other in record.deliveries if other.delivery_id != settled.delivery_id]
    deliveries = [*others, settled, *([following] if following is not None else [])]
    keep = keep_copy(
        verdict.message_status,
        [_journey(delivery, record) for delivery in deliveries],
        retention=record.retention,
        keep_undelivered=deps.keep_undelivered,
        now=now,
    )
    change = DeliveryChange(
        status=verdict.status,
        next_action=verdict.next_action,
        due_at=verdict.due_at,
        deadline_at=verdict.deadline_at,
        at=now,
        reason=verdict.reason,
        code=outcome.code,
        provider_reference=outcome.provider_reference,
        barcode=outcome.barcode,
        first_attempt_at=verdict.first_attempt_at,
        handed_over_at=verdict.handed_over_at,
        posted_at=verdict.posted_at,
        read_seen_at=verdict.read_seen_at,
        attempt_outcome=outcome.name if outcome.attempted else None,
    )
    return Settlement(
        change=change,
        message_revision=record.revision,
        message_status=verdict.message_status,
        keep=keep,
        next_delivery=following,
        logs=await _entries(letter, outcome, following, now, deps),
    )


def _journey(delivery: DeliveryRecord, record: MessageRecord) -> Journey:
    asked = delivery.next_action in (NextAction.POLL, NextAction.DECIDE)
    waiting_for_read = asked and unread_rule_applies(record.route, delivery.channel)
    return Journey(
        channel=delivery.channel,
        status=delivery.status,
        registered=record.print_options.product is not PrintProduct.STANDARD,
        may_fall_back=waiting_for_read,
        posted_at=delivery.posted_at,
    )


def _next_delivery(letter: Envelope, verdict: Verdict, now: datetime, deps: DeliverDeps) -> DeliveryRecord | None:
    if verdict.opens is None:
        return None
    return DeliveryRecord(
        delivery_id=deps.ids(),
        message_id=letter.record.message_id,
        number=max(delivery.number for delivery in letter.record.deliveries) + 1,
        channel=verdict.opens,
        provider=letter.record.route.providers[verdict.opens],
        lane=letter.record.lane,
        status_at=now,
        due_at=now,
        deadline_at=send_by(now, letter.record.deliver_before, deps.rules.retry),
    )


async def _entries(
    letter: Envelope, outcome: Outcome, following: DeliveryRecord | None, now: datetime, deps: DeliverDeps
) -> tuple[LogEntry, ...]:
    delivery, record, verdict = letter.delivery, letter.record, outcome.verdict
    told_before = verdict.status == delivery.status and verdict.reason is None and verdict.read_seen_at is None
    if told_before and not outcome.attempted and outcome.event is None:
        return ()  # a poll that brought no news
    subject = Subject(
        sender=record.sender, profile=record.profile, message_id=record.message_id, delivery_id=delivery.delivery_id
    )
    what: dict[str, str | int] = {
        "message": str(record.message_id),
        "delivery": str(delivery.delivery_id),
        "number": delivery.number,
        "channel": delivery.channel,
        "provider": delivery.provider,
        "status": verdict.status,
        "messageStatus": verdict.message_status,
        "attempt": delivery.attempts,
    }
    optional: dict[str, str | None] = {
        "reason": verdict.reason,
        "code": outcome.code,
        "barcode": outcome.barcode,
        "nextChannel": following.channel if following is not None else None,
    }
    what |= {key: value for key, value in optional.items() if value is not None}
    who = {"gateway": deps.logbook.gateway, "provider": delivery.provider}
    event = outcome.event or ("read" if verdict.read_seen_at is not None else str(verdict.status))
    entries = [deps.logbook.entry(Log.TRAFFIC, event, who=who, what=what, result=outcome.name, subject=subject, at=now)]
    if outcome.disclosed and isinstance(letter, Letter):
        disclosed = {key: what[key] for key in ("message", "delivery", "channel", "provider")}
        entries.append(
            deps.logbook.entry(
                Log.PRIVACY,
                "disclosed-to-provider",
                who=who,
                what={**disclosed, "legalBasis": record.legal_basis},
                result=outcome.name,
                subject=subject,
                personal=await deps.logbook.about(letter.recipient, letter.purpose, letter.meta),
                at=now,
            )
        )
    return tuple(entries)
