"""
The client of the sender interface.

    async with GatewayClient(load_sender(Path("sender.toml"))) as gateway:
        sent = await gateway.send(letter)
        async for state in gateway.follow(sent.message_id):
            ...

Whatever happens on the way, `send` may be called again with the same letter: its reference makes sure that it is
delivered once.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from email.utils import format_datetime
from functools import partial
from http import HTTPStatus
from itertools import islice
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID

from gateway.client.account import Account, account
from gateway.client.answers import (
    DossierState,
    MessageState,
    dossier_state,
    has_settled,
    items_of,
    message_state,
    read,
    text_or_none,
)
from gateway.client.batch import SentBatch, prepare_batch, sent_batch
from gateway.client.batch_state import BatchState, ItemState, batch_state, stopped_items
from gateway.client.body import BatchBody, ItemParts, LetterBody
from gateway.client.feed import EventPage, event_page
from gateway.client.letter import Letter, describe, message_of, new_reference
from gateway.client.problems import LetterInvalid, ReceiptWrong
from gateway.client.proof import Proven, proven, require_about, verified_receipt
from gateway.client.retrying import OnRetry, RetryRules, Sleep, changes_nothing_twice, may_repeat, patiently
from gateway.client.sender import SenderProfile
from gateway.client.transport import JOSE, Answer, CallTiming, Transport, new_correlation_id
from gateway.crypto.dialects import sign_in
from gateway.crypto.receipts import Receipt
from gateway.crypto.values import format_instant
from gateway.domain.ids import MessageId
from gateway.domain.message import DocumentEntry, Message, Recipient
from gateway.errors import FieldError

__all__ = ["FollowRules", "GatewayClient", "Sent"]

_MESSAGES: Final = "/api/v1/messages"
_BATCHES: Final = "/api/v1/batches"
_STATUS_IDS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowRules:
    """How often a followed message is looked at: after a change often, then ever less."""

    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    factor: float = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """
    The gateway has the letter, and proved it: keep `receipt_jws`, and `signed_message` with it.

    `repeated`: it had the letter already. `signed_message` holds the octets that `receipt.message_sha256` is of, which
    are personal data; None when an earlier run signed them. `tries` counts the calls that this took.
    """

    message_id: MessageId
    reference: str
    repeated: bool
    receipt: Receipt
    receipt_jws: str = field(repr=False)
    signed_message: bytes | None = field(repr=False)
    state: MessageState
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Signed:
    message: Message
    part: bytes


class GatewayClient:
    """
    Speaks to one gateway for one sender; to be used as `async with`, from one event loop.

    `clock` gives the present in UTC, `sleep` waits between tries and looks, `on_retry` is told of every failure that
    is tried again. Every method may raise `Problem`, `CertificateRefused`, `GatewayNotTrusted`, `NotReached` (after the
    tries of `retry`) and `UnexpectedAnswer`.
    """

    def __init__(
        self,
        sender: SenderProfile,
        *,
        timing: CallTiming | None = None,
        retry: RetryRules | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Sleep = asyncio.sleep,
        on_retry: OnRetry | None = None,
    ) -> None:
        self._sender = sender
        self._timing = timing or CallTiming()
        self._rules = retry or RetryRules()
        self._clock = clock
        self._sleep = sleep
        self._on_retry = on_retry
        self._transport: Transport | None = None

    async def __aenter__(self) -> Self:
        """Open the client; connections are made when they are needed."""
        self._transport = Transport(self._sender, self._timing, self._clock)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.close()

    # ── Letters ──

    async def send(self, letter: Letter) -> Sent:
        """
        Hand a letter over, and return once its receipt is verified.

        After a time-out or a lost connection, or when the gateway is busy or still receiving an earlier copy, the same
        letter is sent again with the same reference, signed anew only when its CreatedAt grows old.

        Raises:
            LetterInvalid: nothing was sent.
            Problem: the gateway refused; nothing was kept.
            NotReached: nobody knows whether it arrived; send the same letter again, whenever.
            ReceiptWrong: an answer came that proves nothing; do not count the letter as sent.
        """
        documents = letter.listed()
        entries = await asyncio.to_thread(describe, documents)
        contents = [document.content for document in documents]
        signed: list[_Signed] = []
        tries = 0

        async def once() -> Answer:
            nonlocal tries
            tries += 1
            if not signed or self._clock() - signed[-1].message.created_at >= self._rules.resign_after:
                signed.append(await asyncio.to_thread(self._sign, letter, entries, self._clock()))
            body = LetterBody(
                signed[-1].part,
                list(zip(entries, contents, strict=True)),
                stall_timeout_s=self._timing.stall_timeout_s,
                dialect=self._sender.dialect,
            )
            return await self._open().hand_over(_MESSAGES, body, correlation_id=new_correlation_id())

        answer = await self._patiently(once)
        return await asyncio.to_thread(self._sent, answer, signed, tries)

    async def send_batch(self, letters: Sequence[Letter], *, reference: str | None = None) -> SentBatch:
        """
        Hand up to 500 letters over under one signature, and return what became of each, the receipts verified.

        When the connection breaks, the same batch is sent again: first without its letters, to learn which of them the
        gateway has, then with the others. What is wrong with one letter is its own outcome; sent again, in a batch or
        alone, it has its own reference, so that it is delivered once. `reference` is that of the batch, by default a
        new one.

        Raises:
            LetterInvalid: nothing was sent, or a document changed on the way: letters before it may have been accepted.
            Problem: the gateway refused the batch, or its trouble did not end; letters may have been accepted.
            NotReached: some letters may have been accepted; send the same letters again, whenever.
            ReceiptWrong: an answer came that proves nothing; do not count the letters as sent.
        """
        prepared = await asyncio.to_thread(
            prepare_batch, self._sender, letters, reference or new_reference(), self._clock()
        )
        signed: list[tuple[datetime, bytes]] = []
        tried = False

        async def send(parts: Sequence[ItemParts]) -> SentBatch:
            now = self._clock()
            if not signed or now - signed[-1][0] >= self._rules.resign_after:
                signed.append((now, await asyncio.to_thread(prepared.sign, now)))
            batch = signed[-1][1]
            body = BatchBody(batch, parts, stall_timeout_s=self._timing.stall_timeout_s, dialect=self._sender.dialect)
            answer = await self._open().hand_over(_BATCHES, body, correlation_id=new_correlation_id())
            return await asyncio.to_thread(sent_batch, prepared, batch, answer.value)

        async def once() -> SentBatch:
            nonlocal tried
            if not tried:
                tried = True
                return await send(prepared.parts)
            known = await send(())
            # What was refused before the break goes once more too: why in detail, only the lost answer said.
            lacking = [part for part, item in zip(prepared.parts, known.items, strict=True) if not item.is_with_gateway]
            return await send(lacking) if lacking else known

        return await patiently(once, self._rules, sleep=self._sleep, on_retry=self._on_retry)

    async def batch(self, batch_id: UUID) -> BatchState:
        """
        Return how each item of a batch stands now.

        Raises:
            Problem: not-found, also for another sender's or profile's.
        """
        return read(batch_state, (await self._get(f"{_BATCHES}/{batch_id}", {})).value)

    async def cancel_batch(self, batch_id: UUID) -> list[ItemState]:
        """
        Stop every message of a batch for which no provider was called; return what became of each item.

        Raises:
            Problem: not-found.
        """
        return read(stopped_items, (await self._post(f"{_BATCHES}/{batch_id}/cancel", {})).value)

    async def status(self, message_id: UUID) -> MessageState:
        """
        Return where a message stands, with its timeline and receipt.

        Raises:
            Problem: not-found, also for another sender's or profile's.
        """
        return read(message_state, (await self._get(f"{_MESSAGES}/{message_id}", {})).value)

    async def find(self, reference: str) -> MessageState | None:
        """Return the message with this reference, with its timeline and receipt; None when this profile has none."""
        async with aclosing(self.messages(reference=reference)) as found:
            async for state in found:
                if self._sender.profile in (None, state.profile):
                    return await self.status(state.message_id)
        return None

    async def messages(
        self,
        *,
        reference: str | None = None,
        status: str | None = None,
        channel: str | None = None,
        accepted_from: datetime | None = None,
        accepted_until: datetime | None = None,
        page_size: int = 100,
    ) -> AsyncGenerator[MessageState, None]:
        """Yield the sender's messages in order of acceptance, of the profiles of its certificate; pages as it goes."""
        query = {
            "reference": reference,
            "status": status,
            "channel": channel,
            "from": None if accepted_from is None else format_instant(accepted_from),
            "until": None if accepted_until is None else format_instant(accepted_until),
            "limit": str(page_size),
        }
        asked = {name: value for name, value in query.items() if value is not None}
        while True:
            page = (await self._get(_MESSAGES, asked)).value
            for each in read(partial(items_of, name="messages"), page):
                yield read(message_state, each)
            cursor = read(lambda value: text_or_none(value.get("nextCursor")), page)
            if cursor is None:
                return
            asked["cursor"] = cursor

    async def status_many(self, message_ids: Iterable[UUID]) -> dict[UUID, MessageState]:
        """Return where many messages stand, 500 per call; those that the gateway does not know for us are left out."""
        found: dict[UUID, MessageState] = {}
        ids = iter(dict.fromkeys(message_ids))
        while chunk := list(islice(ids, _STATUS_IDS)):
            question = {"messages": [{"messageId": str(message_id)} for message_id in chunk]}
            answer = await self._post("/api/v1/statusRequest", question)
            for each in read(partial(items_of, name="messages"), answer.value):
                state = read(message_state, each)
                found[state.message_id] = state
        return found

    async def follow(
        self,
        message_id: UUID,
        *,
        until: Callable[[MessageState], bool] = has_settled,
        rules: FollowRules | None = None,
    ) -> AsyncGenerator[MessageState, None]:
        """
        Yield a message's state now and after every change, until `until` says that the last one was enough.

        By default that is when it was delivered, has ended otherwise, or waits for a person's decision.
        """
        rules = rules or FollowRules()
        last: MessageState | None = None
        wait_s = rules.first_wait_s
        while True:
            state = await self.status(message_id)
            if state != last:
                yield state
                last, wait_s = state, rules.first_wait_s
            if until(state):
                return
            await self._sleep(wait_s)
            wait_s = min(wait_s * rules.factor, rules.longest_wait_s)

    async def cancel(self, message_id: UUID) -> MessageState:
        """
        Stop a message for which no provider was called; return where it stands. One that was stopped stays so.

        Raises:
            Problem: already-dispatched, not-found.
        """
        return read(message_state, (await self._post(f"{_MESSAGES}/{message_id}/cancel", {})).value)

    async def events(self, after: str | None = None, *, limit: int = 100) -> EventPage:
        """
        Return the next events of the feed after a cursor, or from the oldest that is kept.

        Raises:
            Problem: cursor-expired or feed-restored: read on without a cursor.
        """
        query = {"limit": str(limit)} | ({} if after is None else {"after": after})
        return read(event_page, (await self._get("/api/v1/events", query)).value)

    async def evidence(self, message_id: UUID) -> list[Proven]:
        """
        Return every statement of the gateway about a message by now, in order, each verified.

        Raises:
            Problem: not-found.
            EvidenceWrong: a statement does not hold.
        """
        path = f"{_MESSAGES}/{message_id}/evidence"
        listed = read(partial(items_of, name="evidence"), (await self._get(path, {})).value)
        found = []
        for number in (read(lambda each: int(each["n"]), each) for each in listed):
            answer = await self._get(f"{path}/{number}", {}, {"Accept": JOSE})
            found.append(await asyncio.to_thread(self._proven, str(answer.value), message_id, number))
        return found

    # ── The sender itself ──

    async def whoami(self) -> Account:
        """Return what the gateway sees of the sender: its certificate, profiles, rights and quotas, and its clock."""
        date_ = format_datetime(self._clock(), usegmt=True)
        return read(account, (await self._get("/api/v1/whoami", {}, {"Date": date_})).value)

    # ── Dossiers ──

    async def register_dossier(
        self, about: Recipient, *, category: str, from_on: date, until_on: date | None = None
    ) -> UUID:
        """
        State that the sender handles a file about a person or company, and return the dossier's id.

        Two statements of the same are two dossiers, so this is tried again only while nothing can have come of it.

        Raises:
            NotReached: with `sent` true nobody knows whether it was registered; `dossiers` tells.
        """
        dossier: dict[str, Any] = {
            "recipient": _number_of(about),
            "category": category,
            "from": from_on.isoformat(),
        }
        if until_on is not None:
            dossier["until"] = until_on.isoformat()
        answer = await self._post("/api/v1/dossiers", {"dossiers": [dossier]}, repeat=changes_nothing_twice)
        return read(lambda value: UUID(value["dossiers"][0]["dossierId"]), answer.value)

    async def dossiers(self, about: Recipient) -> list[DossierState]:
        """Return the sender's dossiers about a person or company, ended ones too."""
        answer = await self._post("/api/v1/dossiers/search", {"recipients": [_number_of(about)]})
        return read(lambda value: [dossier_state(each) for each in value["results"][0]["dossiers"]], answer.value)

    # ── Inside ──

    def _sign(self, letter: Letter, entries: tuple[DocumentEntry, ...], now: datetime) -> _Signed:
        sender = self._sender
        message = message_of(
            letter,
            entries,
            gateway=sender.gateway,
            sender=sender.enterprise_number,
            ovo_code=sender.ovo_code,
            profile=sender.profile,
            created_at=now.replace(microsecond=0),
        )
        part = sign_in(sender.dialect, message, sender.signing_key, sender.signing_certificate)
        return _Signed(message=message, part=part)

    def _sent(self, answer: Answer, signed: list[_Signed], tries: int) -> Sent:
        """Believe an answer only as far as its receipt carries it."""
        state = read(message_state, answer.value)
        if state.receipt is None:
            raise ReceiptWrong("there is none in the answer")
        receipt = verified_receipt(state.receipt, self._sender.receipt_certificates)
        parts = {hashlib.sha256(each.part).hexdigest(): each.part for each in signed}
        repeated = answer.status == HTTPStatus.OK
        from_earlier_run = repeated and receipt.message_sha256 not in parts
        require_about(
            receipt, signed[-1].message, state.message_id, signed_sha256=None if from_earlier_run else parts.keys()
        )
        return Sent(
            message_id=state.message_id,
            reference=receipt.reference,
            repeated=repeated,
            receipt=receipt,
            receipt_jws=state.receipt,
            signed_message=parts.get(receipt.message_sha256),
            state=state,
            tries=tries,
        )

    def _proven(self, jws: str, message_id: UUID, number: int) -> Proven:
        return proven(
            jws,
            self._sender.receipt_certificates,
            gateway=self._sender.gateway,
            message_id=message_id,
            number=number,
        )

    async def _get(self, path: str, query: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        async def once() -> Answer:
            return await self._open().get(path, query, correlation_id=new_correlation_id(), headers=headers)

        return await self._patiently(once)

    async def _post(self, path: str, value: object, *, repeat: Callable[[BaseException], bool] = may_repeat) -> Answer:
        async def once() -> Answer:
            return await self._open().post(path, value, correlation_id=new_correlation_id())

        return await self._patiently(once, repeat=repeat)

    async def _patiently(
        self, once: Callable[[], Awaitable[Answer]], *, repeat: Callable[[BaseException], bool] = may_repeat
    ) -> Answer:
        return await patiently(once, self._rules, sleep=self._sleep, on_retry=self._on_retry, repeat=repeat)

    def _open(self) -> Transport:
        if self._transport is None:
            raise RuntimeError("the client is not open; use it as `async with GatewayClient(...) as gateway`")
        return self._transport


def _number_of(about: Recipient) -> dict[str, str]:
    if about.ssin is not None:
        return {"ssin": about.ssin}
    if about.enterprise_number is not None:
        return {"enterpriseNumber": about.enterprise_number}
    raise LetterInvalid([FieldError(pointer="/recipient", detail="a dossier is about a number, not an address")])
