"""
A print house over REST: one JSON job per letter, files inside as base64, taken over once per request id.

The delivery id is the request id and the idempotency key, so a lost job can be looked up and a repeated one is the same
job. Each job may carry a JWS by the gateway over its id, the digests of its files and the digest of its recipient
(RFC 8785 JSON), so that the print house can tell a changed job from ours.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urljoin

import aiohttp
import rfc8785

from gateway.adapters.base import Handed, Handover, Parcel, ParcelDocument, Proof, ProofUnusable
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
from gateway.domain.ids import DeliveryId
from gateway.domain.message import PostalAddress
from gateway.domain.status import DeliveryStatus, Reason
from gateway.errors import OutcomeUnknown, Refused, Unreachable

JobSigner = Callable[[Mapping[str, Any]], str]
"""Signs claims and returns a compact JWS."""

CANONICAL_STATUSES: Final[Mapping[str, DeliveryStatus]] = {
    status.name: status
    for status in DeliveryStatus
    if status not in (DeliveryStatus.WAITING, DeliveryStatus.DISPATCHING, DeliveryStatus.IN_DOUBT)
}
RETURN_REASONS: Final = frozenset(
    {
        "moved", "unknown", "refused", "not_collected", "address_incomplete", "address_nonexistent", "inaccessible",
        "deceased", "lost", "damaged", "other",
    }
)  # fmt: skip
_CAME_BACK: Final = frozenset({DeliveryStatus.RETURNED, DeliveryStatus.LOST})
_BARCODE: Final = re.compile(r"[A-Za-z0-9]{1,40}\Z")
_SHA256: Final = re.compile(r"[0-9a-f]{64}\Z")
_FILE: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}\Z")
_PDF: Final = "application/pdf"
MAX_PROOF_BYTES: Final = 5 * 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintRestSettings(CallTiming):
    """
    One print house.

    `api_key` None sends none. `status_map` and `reason_map` translate the house's words; a reason that neither the map
    nor the canonical set knows becomes `other`.
    """

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    api_key_header: str = "X-API-Key"
    public_administration: bool = True  # "RP" on the front
    envelope: str | None = None
    status_map: Mapping[str, DeliveryStatus] = field(default_factory=lambda: CANONICAL_STATUSES)
    reason_map: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a map to reasons that are none."""
        if not RETURN_REASONS.issuperset(self.reason_map.values()):
            raise ValueError(f"reason_map leads to {', '.join(sorted(RETURN_REASONS))}")


class PrintRestAdapter:
    """Speaks to one print house; `session` becomes this adapter's own."""

    finds = True
    resend_is_safe = True

    def __init__(
        self,
        settings: PrintRestSettings,
        *,
        session: aiohttp.ClientSession,
        clock: Callable[[], datetime],
        sign: JobSigner | None = None,
    ) -> None:
        self._settings = settings
        self._http = HttpClient(session, settings, clock)
        self._sign = sign
        self._jobs_url = f"{settings.base_url.rstrip('/')}/print-jobs"

    async def send(self, parcel: Parcel, *, again: bool) -> Handover:  # noqa: ARG002 - a repeated job is the same job
        """
        Hand a job over under the delivery id.

        Raises:
            Refused: the house refuses this job.
            Unreachable: this call handed nothing over; with `again`, that says nothing about the earlier one.
            OutcomeUnknown: the answer was lost, is a 5xx or cannot be read.
            ChannelBlocked: the house refuses us.
            GatewayError: what a document's `open` raised; the request was cut off and hands nothing over.
        """
        headers = self._headers() | {"Idempotency-Key": str(parcel.delivery_id)}
        answer = await self._http.hand_over(self._jobs_url, headers=headers, body=self._body(parcel))
        judge(answer)
        match answer.status:
            case HTTPStatus.CREATED | HTTPStatus.OK:
                return self._read(answer, parcel.delivery_id)
            case HTTPStatus.CONFLICT:
                found = await self.find(parcel.delivery_id)
                if found is None:
                    raise OutcomeUnknown("answered 409, but the job is not there")
                return found
            case status if status < HTTPStatus.MULTIPLE_CHOICES:
                raise OutcomeUnknown(f"answered {status}, which the interface does not know")
            case _:
                raise Refused(Reason.REFUSED, _refusal_code(answer))

    async def find(self, delivery_id: DeliveryId) -> Handover | None:
        """
        Look a job up; None when the house itself says that it has none.

        Raises:
            OutcomeUnknown: the house could not be asked, or did not give an answer that tells.
        """
        try:
            answer = await self._look(delivery_id)
        except Unreachable as exc:
            raise OutcomeUnknown(exc.detail) from exc
        if answer.status == HTTPStatus.NOT_FOUND and answer.json() is not None:
            return None  # a 404 that is no JSON comes from something in between, which knows nothing of jobs
        if answer.status == HTTPStatus.OK:
            return self._read(answer, delivery_id)
        raise OutcomeUnknown(f"find: answered {answer.status}")

    async def status(self, handed: Handed) -> Handover:
        """
        Ask how far a job is.

        Raises:
            Unreachable: the house could not be asked, refused to tell, or used a word that no map knows.
        """
        answer = await self._look(handed.delivery_id)
        if answer.status != HTTPStatus.OK:
            raise Unreachable(f"status: answered {answer.status}")
        try:
            return self._read(answer, handed.delivery_id)
        except OutcomeUnknown as exc:
            raise Unreachable(f"status: {exc.detail}") from exc

    async def evidence(self, handed: Handed) -> list[Proof]:
        """
        Return the proofs that the house keeps of a job; what it lists in another form than agreed is left out.

        Raises:
            Unreachable: the house could not be asked, or refused to tell.
        """
        listed_at = f"{self._jobs_url}/{handed.delivery_id}/evidence"
        answer = await self._http.ask("evidence", "GET", listed_at, headers=self._headers())
        if answer.status == HTTPStatus.NOT_FOUND and answer.json() is not None:
            return []
        listed = answer.json()
        if answer.status != HTTPStatus.OK or not isinstance(listed, list):
            raise Unreachable(f"evidence: answered {answer.status}, and no list")
        return [proof for entry in listed if (proof := self._proof(entry, listed_at)) is not None]

    def _proof(self, entry: object, listed_at: str) -> Proof | None:
        kind, digest, uri = provider_word(member(entry, "type")), member(entry, "sha256"), member(entry, "uri")
        if kind is None or not isinstance(uri, str) or not isinstance(digest, str) or not _SHA256.match(digest):
            return None
        # Below the list itself, or our key and our trust would go wherever the house's answer points.
        at = urljoin(f"{listed_at}/", uri)
        if not at.startswith(f"{listed_at}/") or not _FILE.match(at.removeprefix(f"{listed_at}/")):
            return None
        sha256 = bytes.fromhex(digest)
        return Proof(kind=kind, media_type=_PDF, sha256=sha256, fetch=lambda: self._fetch(at, sha256))

    async def _fetch(self, at: str, sha256: bytes) -> bytes:
        """
        Return a proof of at most `MAX_PROOF_BYTES`.

        Raises:
            Unreachable: it could not be had.
            ProofUnusable: it is not what the house listed.
        """
        headers = self._headers() | {"Accept": _PDF}
        answer = await self._http.ask("proof", "GET", at, headers=headers, limit_bytes=MAX_PROOF_BYTES)
        if answer.status != HTTPStatus.OK or answer.media_type != _PDF:
            raise ProofUnusable(f"proof: answered {answer.status} with another thing than a PDF")
        if not hmac.compare_digest(hashlib.sha256(answer.body).digest(), sha256):
            raise ProofUnusable("proof: its digest is not the one that the house listed")
        return answer.body

    async def close(self) -> None:
        """Close the session."""
        await self._http.close()

    async def _look(self, delivery_id: DeliveryId) -> Answer:
        return await self._http.ask("look-up", "GET", f"{self._jobs_url}/{delivery_id}", headers=self._headers())

    def _headers(self) -> dict[str, str]:
        return {} if self._settings.api_key is None else {self._settings.api_key_header: self._settings.api_key}

    def _body(self, parcel: Parcel) -> StreamedBody:
        job = print_job(parcel, self._settings)
        if self._sign is not None:
            job["jws"] = self._sign(signed_claims(parcel, job["recipient"]))
        return streamed_job(job, parcel.documents)

    def _read(self, answer: Answer, delivery_id: DeliveryId) -> Handover:
        """Return what the house says of a job; a new one needs no status."""
        job = answer.json()
        if member(job, "requestId") != str(delivery_id):
            raise OutcomeUnknown(f"answered {answer.status}, but not about this job")
        word = provider_word(member(job, "status"))
        status = self._settings.status_map.get(word or "")
        if status is None and answer.status == HTTPStatus.CREATED:
            status = DeliveryStatus.ACCEPTED
        if status is None:
            raise OutcomeUnknown(f"the status {word} is in no map" if word else "the job has no status")
        barcode = member(job, "barcode")
        return Handover(
            status=status,
            provider_reference=str(delivery_id),
            code=self._reason(member(job, "reason"), status),
            barcode=barcode if isinstance(barcode, str) and _BARCODE.match(barcode) else None,
            status_at=_moment(member(member(job, "timestamps"), word or "")),
        )

    def _reason(self, value: object, status: DeliveryStatus) -> str | None:
        if value is None:
            return None
        word = provider_word(value) or "other"
        if status not in _CAME_BACK:
            return word
        canonical = self._settings.reason_map.get(word, word)
        return canonical if canonical in RETURN_REASONS else "other"


def print_job(parcel: Parcel, settings: PrintRestSettings) -> dict[str, Any]:
    """Return the job without its documents."""
    if parcel.recipient.address is None:
        raise ValueError("a route never leads to print without an address")
    options = parcel.print_options
    job: dict[str, Any] = {
        "requestId": str(parcel.delivery_id),
        "product": options.product.value,
        "priority": options.priority.value,
        "publicAdministration": settings.public_administration,
        "duplex": options.duplex,
        "colour": options.colour,
        "recipient": _recipient(parcel.recipient.address),
        "metadata": {"profile": parcel.profile, "category": parcel.category},
    }
    if settings.envelope is not None:
        job["envelope"] = settings.envelope
    if parcel.return_address:
        job["returnAddress"] = _return_address(parcel.return_address)
    return job


def signed_claims(parcel: Parcel, recipient: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the gateway signs of a job: its id, the digests of its files in order, that of its recipient."""
    return {
        "requestId": str(parcel.delivery_id),
        "documents": [document.sha256.hex() for document in parcel.documents],
        "recipientSha256": hashlib.sha256(rfc8785.dumps(dict(recipient))).hexdigest(),
    }


def streamed_job(job: Mapping[str, Any], documents: Sequence[ParcelDocument]) -> StreamedBody:
    """Return a JSON body that encodes the documents while they are read; of a job of any size, only chunks are held."""
    opening = _json(job)[:-1] + b',"documents":['
    heads = [
        ((b"," if number > 1 else b"") + _json(_document(number, document))[:-1] + b',"base64":"', document)
        for number, document in enumerate(documents, start=1)
    ]
    after_document, closing = b'"}', b"]}"

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield opening
        for head, document in heads:
            yield head
            async with aclosing(_encoded(document)) as content:
                async for chunk in content:
                    yield chunk
            yield after_document
        yield closing

    size_bytes = len(opening) + len(closing)
    for head, document in heads:
        size_bytes += len(head) + 4 * ((document.size_bytes + 2) // 3) + len(after_document)
    return StreamedBody(chunks, size_bytes=size_bytes, content_type="application/json")


async def _encoded(document: ParcelDocument) -> AsyncGenerator[bytes, None]:
    """Yield the base64 text of a document; octets that make no full group of three wait for the next chunk."""
    rest = b""
    async with aclosing(document_chunks(document)) as content:
        async for chunk in content:
            ready = rest + chunk
            cut = len(ready) - len(ready) % 3
            rest = ready[cut:]
            yield base64.b64encode(ready[:cut])
    if rest:
        yield base64.b64encode(rest)


def _document(number: int, document: ParcelDocument) -> dict[str, Any]:
    entry: dict[str, Any] = {"order": number, "sha256": document.sha256.hex()}
    if document.pages is not None:
        entry["pages"] = document.pages
    return entry


def _recipient(address: PostalAddress) -> dict[str, Any]:
    recipient = {
        "name": address.name,
        "street": address.street,
        "number": address.house_number,
        "postcode": address.postcode,
        "municipality": address.municipality,
        "countryIso2": address.country,
    }
    return recipient if address.box is None else recipient | {"box": address.box}


def _return_address(lines: Sequence[str]) -> dict[str, Any]:
    """Return the address as a name and the lines below it, which are printed as the sender registered them."""
    return {"name": lines[0], "lines": list(lines[1:])} if len(lines) > 1 else {"lines": list(lines)}


def _refusal_code(answer: Answer) -> str:
    """Return the first of the house's error codes, or the HTTP status."""
    content = answer.json()
    errors = member(content, "errors")
    first = errors[0] if isinstance(errors, list) and errors else content
    return provider_word(member(first, "code")) or str(answer.status)


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return None if at.tzinfo is None else at.astimezone(UTC)


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
