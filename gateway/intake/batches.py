"""Requests about batches: what became of each item, how it stands now, and stopping all that can be stopped."""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from aiohttp import web

from gateway.accept import BatchTaken, ItemOutcome, Outcome
from gateway.crypto.batches import read_stored_batch
from gateway.domain.batch import BatchItem
from gateway.domain.status import MessageStatus
from gateway.errors import Kind, Refusal
from gateway.intake import problems, views
from gateway.intake.caller import Caller
from gateway.intake.cancelling import stopped
from gateway.intake.handlers import IntakeDeps
from gateway.stores.model import BatchLink, BatchRecord, MessageRecord


def render_taken(taken: BatchTaken, public_url: str, correlation_id: str) -> web.Response:
    """Return 200 with what became of each item of a batch."""
    headers = {} if taken.batch_id is None else {"Location": f"{public_url}/api/v1/batches/{taken.batch_id}"}
    return web.json_response(
        {
            "batchId": None if taken.batch_id is None else str(taken.batch_id),
            "reference": taken.reference,
            "items": [_outcome(each, correlation_id) for each in taken.items],
        },
        headers=headers,
    )


async def batch(request: web.Request, caller: Caller, deps: IntakeDeps) -> web.Response:
    """`GET /api/v1/batches/{batchId}`: how each item stands now; another sender's or profile's is a 404."""
    record = await _own_batch(request, caller, deps)
    shown = []
    for each in await _items(record, deps):
        outcome = ItemOutcome(number=each.item.number, reference=each.item.reference, outcome=Outcome.MISSING)
        if each.message is not None and each.link is not None:
            outcome = ItemOutcome(
                number=each.item.number,
                reference=each.item.reference,
                outcome=Outcome.ACCEPTED if each.link.is_proof else Outcome.REPEATED,
                message_id=each.message.message_id,
                status=each.message.status,
                receipt=each.message.receipt_jws,
            )
        shown.append(_outcome(outcome, ""))
    return web.json_response(
        {
            "batchId": str(record.batch_id),
            "reference": record.reference,
            "profile": record.profile,
            "acceptedAt": views.when(record.accepted_at),
            "items": shown,
        }
    )


async def cancel(request: web.Request, caller: Caller, deps: IntakeDeps) -> web.Response:
    """`POST /api/v1/batches/{batchId}/cancel`: stop every item that can still be stopped, and tell of each."""
    record = await _own_batch(request, caller, deps)
    answers = []
    for each in await _items(record, deps):
        answer: dict[str, Any] = {"number": each.item.number, "reference": each.item.reference}
        if each.message is None:
            answers.append({**answer, "outcome": Outcome.MISSING})
            continue
        try:
            status, outcome = (await stopped(each.message, caller, deps)).status, str(MessageStatus.CANCELLED)
        except Refusal as refusal:
            if refusal.kind is not Kind.ALREADY_DISPATCHED:
                raise
            status = MessageStatus(str(refusal.extra["messageStatus"]))
            outcome = str(refusal.kind)
        answers.append({**answer, "outcome": outcome, "messageId": str(each.message.message_id), "status": status})
    return web.json_response({"batchId": str(record.batch_id), "reference": record.reference, "items": answers})


async def _own_batch(request: web.Request, caller: Caller, deps: IntakeDeps) -> BatchRecord:
    text = request.match_info["batchId"]
    try:
        record = await deps.ledger.batch(UUID(text))
    except ValueError:
        record = None
    if record is None or not caller.sees(record):
        raise Refusal(Kind.NOT_FOUND, "no batch of this caller's sender and profiles has this batchId")
    return record


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    item: BatchItem
    link: BatchLink | None
    message: MessageRecord | None


async def _items(record: BatchRecord, deps: IntakeDeps) -> list[_Item]:
    links = {link.number: link for link in await deps.ledger.batch_links(record.batch_id)}
    found = await deps.ledger.messages_by_id([link.message_id for link in links.values()])
    messages = {each.message_id: each for each in found}

    listed = await asyncio.to_thread(read_stored_batch, record.part)

    def of(item: BatchItem) -> _Item:
        link = links.get(item.number)
        return _Item(item=item, link=link, message=messages.get(link.message_id) if link is not None else None)

    return [of(item) for item in listed.items]


def _outcome(item: ItemOutcome, correlation_id: str) -> dict[str, Any]:
    answer: dict[str, Any] = {"number": item.number, "reference": item.reference, "outcome": item.outcome}
    if item.refusal is not None:
        answer["problem"] = problems.view(item.refusal, correlation_id)
        if item.refusal.retry_after_s is not None:
            answer["retryAfter"] = item.refusal.retry_after_s
    elif item.message_id is not None:
        answer |= {"messageId": str(item.message_id), "status": item.status, "receipt": item.receipt}
    return answer
