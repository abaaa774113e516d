"""The Message Registry: takes messages over once per idempotency key, and tells whether they were read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http import HTTPStatus
from typing import Any, Final
from uuid import uuid4

from gateway.domain.ids import InvalidIdentifier, parse_enterprise_number
from gateway.simulators import magic
from gateway.simulators.ebox_boxes import Boxes
from gateway.simulators.ebox_message import (
    Dialect,
    Publication,
    check_content,
    invalid,
    parse_publication,
)
from gateway.simulators.ebox_settings import Triple
from gateway.simulators.ebox_upload import Upload
from gateway.simulators.front import Advance, Answer, Refusal
from gateway.simulators.records import Kept, Records
from gateway.simulators.tokens import SCOPE_PUBLICATION, SCOPE_REPRESENTATIVE, Grant

_LOCAL_TIME: Final = timezone(timedelta(hours=1))  # the registry writes an offset, not Z


@dataclass(slots=True, kw_only=True)
class Published:
    """A message in a box, with its reading state."""

    kept: Kept
    organisation: str  # of the token that published it
    recipient_type: str
    expires_at: datetime
    is_read: bool = False
    looks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishCall:
    """A publish request whose caller is known and whose parts have been read."""

    grant: Grant
    on_behalf_of: str | None
    key: str | None
    dialect: Dialect
    upload: Upload = field(repr=False)

    @property
    def facts(self) -> Mapping[str, str]:
        """What a fault order may match."""
        return self.upload.facts


class Registry:
    """The messages of one environment."""

    def __init__(self, *, triples: Iterable[Triple], boxes: Boxes, records: Records, advance: Advance) -> None:
        self.messages: dict[str, Published] = {}
        self._triples = tuple(triples)
        self._boxes = boxes
        self._records = records
        self._advance = advance
        self._used_keys: set[tuple[str, str, str]] = set()  # sender, application, key

    async def publish(self, call: PublishCall) -> Answer:
        """
        Take a message over.

        Raises:
            Refusal: 400, 403 or 409; nothing is kept and the key stays free.
        """
        facts = call.upload.facts
        used = None
        if call.key is not None and "sender" in facts and "application" in facts:
            used = (facts["sender"], facts["application"], call.key)
            if used in self._used_keys:
                raise Refusal(HTTPStatus.CONFLICT, "CONFLICT", "this idempotency key was used before")
        publication = parse_publication(call.upload.message, call.dialect)
        _check_sender(call, publication, self._boxes)
        triple = self._triple(publication)
        check_content(publication, call.upload.documents)
        self._boxes.check_recipient(publication)
        # Nothing is awaited between the look at the key and here, so one key is kept once.
        if used is not None:
            self._used_keys.add(used)
        return self._answer(self._keep(call, publication, triple))

    def _triple(self, publication: Publication) -> Triple:
        for triple in self._triples:
            if triple.covers(
                publication.sender,
                publication.application,
                publication.message_type,
                publication.recipient_type,
            ):
                return triple
        raise Refusal(
            HTTPStatus.BAD_REQUEST,
            "INVALID_SENDER",
            "sender, application and message type are not configured together for this kind of recipient",
        )

    def _keep(self, call: PublishCall, publication: Publication, triple: Triple) -> Published:
        kept = self._records.keep(
            id=str(uuid4()),
            key=call.key,
            recipient=publication.recipient_id,
            sender=publication.sender,
            documents=call.upload.documents,
            body=call.upload.message,
        )
        message = Published(
            kept=kept,
            organisation=call.grant.organisation,
            recipient_type=publication.recipient_type,
            expires_at=kept.kept_at + triple.validity,
        )
        self.messages[kept.id] = message
        return message

    def _answer(self, message: Published) -> Answer:
        recipient = message.kept.recipient
        if recipient in magic.IN_DOUBT:
            refusal = Refusal(HTTPStatus.GATEWAY_TIMEOUT, "GATEWAY_TIMEOUT", "no answer in time")
            return Answer(status=refusal.status, payload=status_message(refusal), kept_id=message.kept.id)
        payload = {"messageId": message.kept.id, "expirationDate": _timestamp(message.expires_at)}
        if self._boxes.is_unused(recipient):
            payload["code"] = "NO_DIGITAL_USER"
            payload["message"] = "the recipient has never opened the e-Box"
        return Answer(status=HTTPStatus.CREATED, payload=payload, kept_id=message.kept.id)

    def status(self, body: object, grant: Grant) -> Answer:
        """
        Answer `searchMessageStatus` for messages that this organisation published; others are left out.

        Raises:
            Refusal: 400 `INVALID_INPUT`, or 404 when none of the messages is known.
        """
        if not isinstance(body, list):
            raise invalid("an array is expected")
        found = []
        for message_id, recipient_type, recipient in map(_asked, body):
            message = self.messages.get(message_id)
            if (
                message is not None
                and message.organisation == grant.organisation
                and (message.recipient_type, message.kept.recipient) == (recipient_type, recipient)
            ):
                found.append(self._look_at(message))
        if body and not found:
            raise Refusal(HTTPStatus.NOT_FOUND, "NOT_FOUND", "none of these messages exists")
        return Answer(status=HTTPStatus.CREATED, payload=found)

    def _look_at(self, message: Published) -> dict[str, Any]:
        message.looks += 1
        recipient = message.kept.recipient
        reads_later = recipient not in magic.NEVER_READ | magic.WITHOUT_BOX
        moves_on = self._advance == "on-poll" and message.looks > 1
        if recipient == magic.CITIZEN_READ_AT_ONCE or (moves_on and reads_later):
            message.is_read = True
        return {
            "messageId": message.kept.id,
            "eboxId": {"eboxType": message.recipient_type, "eboxIdValue": recipient},
            "expirationDate": _timestamp(message.expires_at),
            "readStatus": message.is_read,
            "visible": True,
        }

    def mark_read(self, message_id: str) -> None:
        """
        Let the recipient open the main document.

        Raises:
            LookupError: no such message.
            ValueError: this recipient never reads.
        """
        if message_id not in self.messages:
            raise LookupError("no such message")
        message = self.messages[message_id]
        if message.kept.recipient in magic.NEVER_READ:
            raise ValueError("this recipient never reads")
        message.is_read = True


def status_message(refusal: Refusal) -> dict[str, Any]:
    """Return the `StatusMessage` of the Message Registry API."""
    return {
        "id": str(uuid4()),
        "code": refusal.code,
        "message": refusal.message,
        "environment": "test",
    }


def _check_sender(call: PublishCall, publication: Publication, boxes: Boxes) -> None:
    own = call.grant.organisation
    if call.on_behalf_of is None:
        if SCOPE_PUBLICATION not in call.grant.scopes:
            raise invalid("a representative names the sender in On-Behalf-Of-Enterprise-Number")
        sender = own
    else:
        if SCOPE_REPRESENTATIVE not in call.grant.scopes:
            raise Refusal(HTTPStatus.FORBIDDEN, "FORBIDDEN", "the token is not for publishing on behalf of others")
        try:
            sender = parse_enterprise_number(call.on_behalf_of)
        except InvalidIdentifier as error:
            raise invalid(str(error)) from error
        if not boxes.has_mandate(sender, own):
            raise Refusal(HTTPStatus.FORBIDDEN, "FORBIDDEN", "there is no mandate for this sender")
    if publication.sender != sender:
        raise Refusal(HTTPStatus.BAD_REQUEST, "INVALID_SENDER", "the sender is not the organisation of the caller")


def _asked(item: object) -> tuple[str, str, str]:
    entry = item if isinstance(item, dict) else {}
    box = entry.get("eboxId")
    box = box if isinstance(box, dict) else {}
    asked = (entry.get("messageId"), box.get("eboxType"), box.get("eboxIdValue"))
    match asked:
        case (str(message_id), str(ebox_type), str(ebox_id)):
            return message_id, ebox_type, ebox_id
        case _:
            raise invalid("messageId, eboxId.eboxType and eboxId.eboxIdValue are expected")


def _timestamp(at: datetime) -> str:
    return at.astimezone(_LOCAL_TIME).isoformat(timespec="seconds")
