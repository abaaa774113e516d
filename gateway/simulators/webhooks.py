"""
Webhooks of a print house to the sender of a job: Standard Webhooks, symmetric signature (`v1`).

Source: Standard Webhooks specification, "Webhook headers" and "Signature scheme". Events go out one after the other, in
the order in which they happened; one that fails stays undelivered until a redelivery is ordered.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import aiohttp
from aiohttp import web

from gateway.simulators.front import Clock
from gateway.simulators.records import Outcome, Records

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the mark of a secret, not one
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """`secret` is `whsec_` and base64; `tls` None trusts the usual authorities for https targets."""

    secret: str = field(repr=False)
    tls: ssl.SSLContext | None = None


@dataclass(slots=True, kw_only=True)
class Event:
    """One event and whether its receiver took it."""

    id: str
    request_id: str
    url: str
    payload: Mapping[str, Any] = field(repr=False)
    is_delivered: bool = False


def sign(secret: str, event_id: str, timestamp_s: int, body: bytes) -> str:
    """Return the `webhook-signature` of a body."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = f"{event_id}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


class WebhookSender:
    """Sends the events of one print house while its application runs."""

    def __init__(self, settings: WebhookSettings, *, records: Records, clock: Clock) -> None:
        self.events: list[Event] = []
        self._settings = settings
        self._records = records
        self._clock = clock
        self._queue: asyncio.Queue[Event] = asyncio.Queue()

    def post(self, event: Event) -> None:
        """Queue an event."""
        self.events.append(event)
        self._queue.put_nowait(event)

    def redeliver(self, *, everything: bool) -> int:
        """Queue the undelivered events again, or all of them, and return how many."""
        again = [event for event in self.events if everything or not event.is_delivered]
        for event in again:
            self._queue.put_nowait(event)
        return len(again)

    async def run(self, _app: web.Application) -> AsyncIterator[None]:
        """Send events between start and end of the application; for `cleanup_ctx`."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            sending = asyncio.create_task(self._send_all(session))
            yield
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending

    async def _send_all(self, session: aiohttp.ClientSession) -> None:
        while True:
            await self._send(session, await self._queue.get())

    async def _send(self, session: aiohttp.ClientSession, event: Event) -> None:
        call = self._records.open_call("webhook", event.id)
        body = json.dumps(event.payload).encode()
        timestamp_s = int(self._clock().timestamp())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": event.id,
            "webhook-timestamp": str(timestamp_s),
            "webhook-signature": sign(self._settings.secret, event.id, timestamp_s, body),
        }
        tls = True if self._settings.tls is None else self._settings.tls
        try:
            async with session.post(event.url, data=body, headers=headers, ssl=tls, allow_redirects=False) as response:
                call.status = response.status
                call.outcome = Outcome.ANSWERED
                event.is_delivered = HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES
        except (aiohttp.ClientError, TimeoutError) as error:
            call.outcome = Outcome.DISCONNECTED
            call.fault = type(error).__name__
        self._records.changed()
