"""
The e-Box: publishing to the boxes of citizens and enterprises, and asking whether a message was read.

Sources: Message Registry API 2.1 (v2 dialect), federation API 1.3 and the e-Box pages for document senders. There is no
look-up by idempotency key: whether a lost message arrived is found out by sending it again under the same key, which is
answered 201 or 409, whatever the payload.
"""

import asyncio
import base64
import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any, Final, Literal
from urllib.parse import quote
from uuid import uuid4

import aiohttp
from joserfc.jwk import RSAKey

from gateway.adapters.base import Handed, Handover, Parcel, ParcelDocument
from gateway.adapters.gathering import Gathered
from gateway.adapters.http import (
    Answer,
    CallTiming,
    HttpClient,
    StreamedBody,
    document_chunks,
    judge,
    member,
    provider_word,
)
from gateway.adapters.oauth import Grant, OAuthClient, TokenSource
from gateway.domain.ids import DeliveryId, EnterpriseNumber
from gateway.domain.message import Channel, Recipient
from gateway.domain.status import DeliveryStatus, Reason
from gateway.errors import ChannelBlocked, OutcomeUnknown, Refused, Unreachable

_PUBLICATION: Final = "scope:document:management:consult:ws-eboxrestentreprise:publicationsender"
_REPRESENTATION: Final = "scope:document:management:consult:ws-eboxrestentreprise:eboxrepresentativepublication"
_PREFERENCES: Final = "scope:documentmanagement:ebox:enterprise:federation-rest:preference"

INVALID_INPUT: Final = "INVALID_INPUT"
INVALID_SENDER: Final = "INVALID_SENDER"
NO_DIGITAL_USER: Final = "NO_DIGITAL_USER"

_ATTENTION_LIMIT: Final = 100
_MESSAGE_ID: Final = re.compile(r"[!-~]{1,255}\Z")
_PLAIN_IN_NAME: Final = frozenset(map(chr, range(0x20, 0x7F))) - set('"\\%')
_KEPT_BY_ENCODE_URI_COMPONENT: Final = "!'()*"


@dataclass(frozen=True, slots=True, kw_only=True)
class EboxSettings(CallTiming):
    """
    One registry, seen by one OAuth client.

    `representative`: the client publishes for enterprises that gave it a mandate; else only for its own. The mandate is
    looked up at `partition_url`; None leaves that to the registry, which answers 403. `federation_url` None means that
    nothing is asked about recipients beforehand, `consent_check` false that citizens are not asked about; of those who
    are, up to `recipients_at_once` are asked about with one call.
    `conflict_means` is what a 409 on a repeated call stands for. `environment` is the registry's own name
    (`acceptation`, `production` …); an error that comes from another one blocks the channel.
    """

    base_url: str
    token_url: str
    audience: str
    client_id: str
    key_id: str | None = None
    publish_path: str = "publishMessage"
    search_path: str = "searchMessageStatus"
    federation_url: str | None = None
    partition_url: str | None = None
    representative: bool = True
    conflict_means: Literal["doubt", "accepted"] = "doubt"
    consent_check: bool = True
    recipients_at_once: int = 20
    environment: str | None = None
    mandate_cache_s: float = 300.0
    publication_scope: str = _PUBLICATION
    representation_scope: str = _REPRESENTATION
    preference_scope: str = _PREFERENCES

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        if self.consent_check and self.federation_url is None:
            raise ValueError("consent_check needs federation_url")


class EboxAdapter:
    """
    Speaks to one registry; `session` becomes this adapter's own.

    Before a first call the recipient and the mandate are looked up. A reconciling call skips that: a refusal then would
    hide that the earlier call may have arrived, and the letter would go out twice.
    """

    finds = False
    resend_is_safe = True

    def __init__(
        self, settings: EboxSettings, *, session: aiohttp.ClientSession, key: RSAKey, clock: Callable[[], datetime]
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._http = HttpClient(session, settings, clock)
        client = OAuthClient(
            token_url=settings.token_url,
            audience=settings.audience,
            client_id=settings.client_id,
            key=key,
            key_id=settings.key_id,
        )
        self._tokens = TokenSource(self._http, client, clock)
        gather = partial(Gathered, at_once=settings.recipients_at_once, longest_s=settings.send_timeout_s / 2)
        self._consents, self._boxes = gather(self._consented), gather(self._with_box)
        self._mandated_until: dict[EnterpriseNumber, datetime] = {}

    async def send(self, parcel: Parcel, *, again: bool) -> Handover:
        """
        Publish a message under the delivery id.

        Raises:
            Refused: no consent, no box, or the registry refuses this message.
            Unreachable: this call handed nothing over; with `again`, that says nothing about the earlier one.
            OutcomeUnknown: the answer was lost, is a 5xx or cannot be read, or the key was used before.
            ChannelBlocked: the registry refuses us or this sender, or no message type is registered.
            GatewayError: what a document's `open` raised; the request was cut off and hands nothing over.
        """
        if parcel.ebox is None:
            raise ChannelBlocked("no e-Box message type is registered for this letter")
        await self._prepare(parcel, again=again)
        answer = await self._publish(parcel, parcel.ebox)
        judge(answer)
        if answer.status == HTTPStatus.CREATED:
            return _published(answer)
        if answer.status == HTTPStatus.CONFLICT:
            return self._used_before(answer, again=again)
        if answer.status < HTTPStatus.MULTIPLE_CHOICES:
            raise OutcomeUnknown(f"answered {answer.status}, which the registry's contract does not know")
        raise self._refusal(answer)

    async def find(self, delivery_id: DeliveryId) -> Handover | None:  # noqa: ARG002 - the contract's signature
        """
        Refuse: there is no such look-up.

        Raises:
            OutcomeUnknown: always.
        """
        raise OutcomeUnknown("an e-Box registry has no look-up by our id", for_good=True)

    async def status(self, handed: Handed) -> Handover:
        """
        Ask whether the recipient has opened the message. The registry tells no time of reading.

        Raises:
            Unreachable: the registry could not be asked, refused to tell, or does not know the message; or the message
                was accepted by a 409, which names none to ask about.
        """
        if handed.provider_reference is None:
            raise Unreachable("status: the registry never named this message")
        ebox_type, ebox_value = _box(handed.channel, handed.recipient)
        box = {"eboxType": ebox_type, "eboxIdValue": ebox_value}
        asked = [{"messageId": handed.provider_reference, "eboxId": box}]
        url = _joined(self._settings.base_url, self._settings.search_path)
        try:
            answer = await self._ask("status", "POST", url, self._registry_grant(handed.sender), asked)
        except ChannelBlocked as blocked:
            raise Unreachable(f"status: {blocked.detail}") from blocked
        found = answer.json() if answer.status in (HTTPStatus.OK, HTTPStatus.CREATED) else None
        for entry in found if isinstance(found, list) else ():
            is_read = member(entry, "readStatus")
            if member(entry, "messageId") == handed.provider_reference and isinstance(is_read, bool):
                return Handover(
                    status=DeliveryStatus.DELIVERED, provider_reference=handed.provider_reference, read=is_read
                )
        raise Unreachable(f"status: answered {answer.status}, without this message")

    async def close(self) -> None:
        """Break off the look-ups, and close the session."""
        await self._consents.close()
        await self._boxes.close()
        await self._http.close()

    async def _prepare(self, parcel: Parcel, *, again: bool) -> None:
        """
        Do all that goes before the hand-over, in half of its time.

        A caller's deadline for the whole attempt then falls into the hand-over itself, where it leaves a real doubt.
        """
        try:
            async with asyncio.timeout(self._settings.send_timeout_s / 2):
                if not again:
                    await self._check_recipient(parcel.channel, parcel.recipient)
                    await self._check_mandate(parcel.sender)
                await self._tokens.token(self._registry_grant(parcel.sender))
        except TimeoutError:
            raise Unreachable("the look-ups before publishing took too long") from None

    async def forecast(self, channel: Channel, recipient: Recipient) -> Reason | None:
        """
        Return `no-consent` for a citizen and `no-box` for a company of whom the federation says so, else None.

        Raises:
            Unreachable, ChannelBlocked: it could not be asked.
        """
        try:
            await self._check_recipient(channel, recipient)
        except Refused as refused:
            return Reason(refused.reason)
        return None

    async def _check_recipient(self, channel: Channel, recipient: Recipient) -> None:
        if self._settings.federation_url is None:
            return
        _, number = _box(channel, recipient)
        if channel is Channel.EBOX_ENTERPRISE:
            if not await self._boxes.holds(number):
                raise Refused(Reason.NO_BOX)
        elif self._settings.consent_check and not await self._consents.holds(number):
            raise Refused(Reason.NO_CONSENT)

    async def _consented(self, ssins: Sequence[str]) -> Mapping[str, bool]:
        """Tell of these citizens whether they consented."""
        found = await self._search("consent", "citizenEboxConsents/search", {"ssins": ssins})
        return {
            ssin: member(entry, "consent") is True for entry in found if isinstance(ssin := member(entry, "ssin"), str)
        }

    async def _with_box(self, numbers: Sequence[str]) -> Mapping[str, bool]:
        """Tell of these companies whether they have a box; of those without one the answer says nothing."""
        asked = {"eboxType": "ENTERPRISE", "eboxIdType": "EnterpriseNumber", "eboxIdValueList": numbers}
        found = await self._search("preferences", "eboxPreferences/search", asked)
        boxes = {member(member(entry, "eboxId"), "eboxIdValue") for entry in found}
        return {number: number in boxes for number in numbers}

    async def _search(self, what: str, path: str, asked: object) -> list[Any]:
        url = _joined(self._settings.federation_url or "", path)
        found = await self._look_up(what, "POST", url, self._preference_grant(), asked)
        if not isinstance(found, list):
            raise Unreachable(f"{what}: the answer cannot be read")
        return found

    async def _check_mandate(self, sender: EnterpriseNumber) -> None:
        if not self._settings.representative or self._settings.partition_url is None:
            return
        until = self._mandated_until.get(sender)
        if until is not None and self._clock() < until:
            return
        url = _joined(self._settings.partition_url, f"ebox/{sender}/hasMandate")
        found = await self._look_up("mandate", "GET", url, self._registry_grant(sender))
        has_mandate = member(found, "hasMandate")
        if not isinstance(has_mandate, bool):
            raise Unreachable("mandate: the answer cannot be read")
        if not has_mandate:
            raise ChannelBlocked("mandate: this sender has not mandated us", whole_channel=False)
        self._mandated_until[sender] = self._clock() + timedelta(seconds=self._settings.mandate_cache_s)

    async def _publish(self, parcel: Parcel, triple: tuple[str, str]) -> Answer:
        url = _joined(self._settings.base_url, self._settings.publish_path)
        key = {"Idempotency-Key": f'"{parcel.delivery_id}"'}  # a string of RFC 8941, so in quotes

        async def publish(token: str) -> Answer:
            headers = self._headers(token, parcel.sender) | key
            return await self._http.hand_over(url, headers=headers, body=publication(parcel, triple))

        return await self._tokens.call(self._registry_grant(parcel.sender), publish)

    async def _ask(self, what: str, method: str, url: str, grant: Grant, body: object = None) -> Answer:
        async def ask(token: str) -> Answer:
            headers = self._headers(token, grant.on_behalf_of)
            return await self._http.ask(what, method, url, headers=headers, body=body)

        return await self._tokens.call(grant, ask)

    async def _look_up(self, what: str, method: str, url: str, grant: Grant, body: object = None) -> Any:
        """Return what a look-up before publishing was answered, None when that cannot be read as JSON."""
        answer = await self._ask(what, method, url, grant, body)
        if answer.status == HTTPStatus.OK:
            return answer.json()
        code = provider_word(member(answer.json(), "code"))
        if answer.status == HTTPStatus.BAD_REQUEST and code == INVALID_INPUT:
            raise Refused(Reason.REFUSED, code)  # the number itself is not taken
        raise ChannelBlocked(f"{what}: answered {answer.status} {code or ''}".rstrip())

    def _used_before(self, answer: Answer, *, again: bool) -> Handover:
        """Judge a 409: the key was used before, and the registry does not tell for what."""
        is_trusted = self._settings.conflict_means == "accepted"
        if again and is_trusted:
            return Handover(status=DeliveryStatus.DELIVERED, code=str(answer.status))
        # The registry will answer every further call the same way; only a repeated one may be believed.
        raise OutcomeUnknown(f"answered {answer.status}: the key was used before", for_good=not is_trusted)

    def _refusal(self, answer: Answer) -> Refused | ChannelBlocked:
        content = answer.json()
        code = provider_word(member(content, "code")) or str(answer.status)
        environment = member(content, "environment")
        wanted = self._settings.environment
        if wanted is not None and isinstance(environment, str) and environment.casefold() != wanted.casefold():
            return ChannelBlocked(f"answered {code} from an environment that is not {wanted}")
        if code == INVALID_SENDER:
            return ChannelBlocked(
                f"answered {code}: sender, application and message type are not registered together",
                whole_channel=False,
            )
        return Refused(Reason.REFUSED, code)

    def _headers(self, token: str, sender: EnterpriseNumber | None) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {token}"}
        if self._settings.representative and sender is not None:
            headers["On-Behalf-Of-Enterprise-Number"] = sender
        return headers

    def _registry_grant(self, sender: EnterpriseNumber) -> Grant:
        if self._settings.representative:
            return Grant(scope=self._settings.representation_scope, on_behalf_of=sender)
        return Grant(scope=self._settings.publication_scope)

    def _preference_grant(self) -> Grant:
        return Grant(scope=self._settings.preference_scope)  # asked in our own name


def publication(parcel: Parcel, triple: tuple[str, str]) -> StreamedBody:
    """Return the multipart body of a publication: `messageToPublish`, then the files as they are read."""
    boundary = uuid4().hex
    description = json.dumps(message_to_publish(parcel, triple), ensure_ascii=False, separators=(",", ":"))
    opening = _part_head(boundary, 'name="messageToPublish"', "application/json") + description.encode() + b"\r\n"
    heads = [
        (
            _part_head(boundary, f'name="upfile{number}"; filename="{_filename(document)}"', document.media_type),
            document,
        )
        for number, document in enumerate(parcel.documents, start=1)
    ]
    closing = f"--{boundary}--\r\n".encode()

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield opening
        for head, document in heads:
            yield head
            async with aclosing(document_chunks(document)) as content:
                async for chunk in content:
                    yield chunk
            yield b"\r\n"
        yield closing

    size_bytes = len(opening) + sum(len(head) + document.size_bytes + 2 for head, document in heads) + len(closing)
    return StreamedBody(chunks, size_bytes=size_bytes, content_type=f"multipart/form-data; boundary={boundary}")


def message_to_publish(parcel: Parcel, triple: tuple[str, str]) -> dict[str, Any]:
    """Return the `MessageToPublish` of the v2 dialect; fields without a value are left out, since null is refused."""
    message_type, application = triple
    ebox_type, ebox_value = _box(parcel.channel, parcel.recipient)
    message: dict[str, Any] = {
        "recipient": {"eboxType": ebox_type, "eboxIdValue": ebox_value},
        "subject": {parcel.language: parcel.subject},
        "messageTypeId": message_type,
        "senderOrganizationId": parcel.sender,
        "senderApplicationId": application,
        "bodyMainContent": False,
        "replyAuthorized": False,
        "attachments": [_attachment(number, document) for number, document in enumerate(parcel.documents, start=1)],
    }
    if parcel.attention_of is not None and parcel.channel is Channel.EBOX_ENTERPRISE:
        message["forTheAttentionOf"] = {"type": "person", "name": parcel.attention_of[:_ATTENTION_LIMIT]}
    return message


def _attachment(number: int, document: ParcelDocument) -> dict[str, Any]:
    return {
        "httpPartName": f"upfile{number}",
        "mainContent": document.main,
        "attachmentSigned": document.signed,
        "digest": {
            "digestMethod": "sha_256",
            "digestValue": base64.urlsafe_b64encode(document.sha256).decode(),
        },
    }


def _box(channel: Channel, recipient: Recipient) -> tuple[str, str]:
    """Return type and number of the recipient's box; a route never leads here without that number."""
    if channel is Channel.EBOX_CITIZEN and recipient.ssin is not None:
        return "citizen", recipient.ssin
    if channel is Channel.EBOX_ENTERPRISE and recipient.enterprise_number is not None:
        return "enterprise", recipient.enterprise_number
    raise ValueError(f"a recipient on {channel} lacks the number that channel needs")


def _filename(document: ParcelDocument) -> str:
    """Return the name as it is, or encoded as JavaScript's `encodeURIComponent` does when it is not plain ASCII."""
    if _PLAIN_IN_NAME.issuperset(document.filename):
        return document.filename
    return quote(document.filename, safe=_KEPT_BY_ENCODE_URI_COMPONENT)


def _part_head(boundary: str, disposition: str, media_type: str) -> bytes:
    return (
        f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\nContent-Type: {media_type}\r\n\r\n"
    ).encode("ascii")


def _published(answer: Answer) -> Handover:
    content = answer.json()
    message_id = member(content, "messageId")
    if not isinstance(message_id, str) or not _MESSAGE_ID.match(message_id):
        raise OutcomeUnknown("answered 201, but the answer cannot be read")
    code = provider_word(member(content, "code"))
    return Handover(
        status=DeliveryStatus.DELIVERED,
        provider_reference=message_id,
        reason=Reason.NO_DIGITAL_USER if code == NO_DIGITAL_USER else None,
        code=code,
    )


def _joined(base_url: str, path: str) -> str:
    return f"{base_url.rstrip('/')}/{path.lstrip('/')}"
