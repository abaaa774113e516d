"""Requests about batches: what became of each item, how it stands now, and stopping all that can be stopped."""

import asyncio
from typing import Any
from uuid import UUID

from aiohttp import web

from gateway.accept import BatchTaken, ItemOutcome, Outcome, outcomes_of
from gateway.crypto.batches import read_stored_batch
from gateway.domain.status import MessageStatus
from gateway.errors import Kind, Refusal
from gateway.intake import problems, views
from gateway.intake.caller import Caller
from gateway.intake.cancelling import stopped
from gateway.intake.handlers import IntakeDeps
from gateway.stores.model import BatchRecord


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
    return web.json_response(
        {
            "batchId": str(record.batch_id),
            "reference": record.reference,
            "profile": record.profile,
            "acceptedAt": views.when(record.accepted_at),
            "items": [_outcome(each, "") for each in await _outcomes(record, deps)],
        }
    )


async def cancel(request: web.Request, caller: Caller, deps: IntakeDeps) -> web.Response:
    """`POST /api/v1/batches/{batchId}/cancel`: stop every item that can still be stopped, and tell of each."""
    record = await _own_batch(request, caller, deps)
    outcomes = await _outcomes(record, deps)
    found = await deps.ledger.messages_by_id([each.message_id for each in outcomes if each.message_id is not None])
    messages = {message.message_id: message for message in found}
    answers = []
    for each in outcomes:
        answer: dict[str, Any] = {"number": each.number, "reference": each.reference}
        message = None if each.message_id is None else messages.get(each.message_id)
        if message is None:
            # (A message that went in this moment is not with us either.)
            answers.append({**answer, "outcome": each.outcome if each.message_id is None else Outcome.MISSING})
            continue
        try:
            status, outcome = (await stopped(message, caller, deps)).status, str(MessageStatus.CANCELLED)
        except Refusal as refusal:
            if refusal.kind is not Kind.ALREADY_DISPATCHED:
                raise
            status = MessageStatus(str(refusal.extra["messageStatus"]))
            outcome = str(refusal.kind)
        answers.append({**answer, "outcome": outcome, "messageId": str(message.message_id), "status": status})
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


async def _outcomes(record: BatchRecord, deps: IntakeDeps) -> list[ItemOutcome]:
    listed = await asyncio.to_thread(read_stored_batch, record.part)
    return await outcomes_of(record.batch_id, listed.items, deps.ledger)


def _outcome(item: ItemOutcome, correlation_id: str) -> dict[str, Any]:
    answer: dict[str, Any] = {"number": item.number, "reference": item.reference, "outcome": item.outcome}
    if item.refusal is not None:
        answer |= {"code": item.refusal.kind, "problem": problems.view(item.refusal, correlation_id)}
        if item.refusal.retry_after_s is not None:
            answer["retryAfter"] = item.refusal.retry_after_s
    elif item.noted is not None:
        answer |= {"code": item.noted.kind, "refusedAt": views.when(item.noted.refused_at)}
    elif item.message_id is not None:
        answer |= {"messageId": str(item.message_id), "status": item.status, "receipt": item.receipt}
    return answer
