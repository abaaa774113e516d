"""Settling: everything that one outcome changes, in one transaction."""

from dataclasses import replace
from datetime import datetime

from gateway.deliver.stages import DeliverDeps, Envelope, Letter, Outcome
from gateway.domain.journey import JourneyState, Verdict
from gateway.domain.message import Channel, PrintProduct
from gateway.domain.retention import Journey, keep_copy
from gateway.domain.routing import unread_rule_applies
from gateway.domain.schedule import send_by
from gateway.domain.status import DeliveryStatus, NextAction
from gateway.records.logs import Subject
from gateway.stores.model import DeliveryChange, DeliveryRecord, Log, LogEntry, MessageRecord, Settlement


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
