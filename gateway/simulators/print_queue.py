"""The jobs of a print house: taken over once per request id, moved on step by step, with evidence on the way."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from typing import Any, Final

from pypdf import PdfWriter

from gateway.simulators.front import Clock
from gateway.simulators.magic import PrintFate, print_fate
from gateway.simulators.print_job import PrintJob
from gateway.simulators.records import Kept, Records

STATUSES: Final = (
    "ACCEPTED",
    "REJECTED",
    "PRINTED",
    "ENCLOSED",
    "DISPATCHED",
    "IN_TRANSIT",
    "HELD",
    "DELIVERED",
    "RETURNED",
    "LOST",
    "FAILED",
    "CANCELLED",
)
REASONS: Final = (
    "moved",
    "unknown",
    "refused",
    "not_collected",
    "address_incomplete",
    "address_nonexistent",
    "inaccessible",
    "deceased",
    "lost",
    "damaged",
    "other",
)
SLOW_LOOKS: Final = 3

_A4_POINTS: Final = (595.28, 841.89)
# National item id: GTIN-14 with application identifier 01, then a serial number of 12 digits with identifier 21.
_BARCODE_PREFIX: Final = "010541288500452621"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A PDF that proves something about a job."""

    type: str  # proof_of_posting, acknowledgement or scan
    content: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        """Return the digest of the PDF in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A status and, for returned letters, why."""

    status: str
    reason: str | None = None


@dataclass(slots=True, kw_only=True)
class QueuedJob:
    """A job and how far it is."""

    job: PrintJob
    kept: Kept
    fingerprint: str
    fate: PrintFate
    to_come: list[Step]
    barcode: str | None
    base_url: str  # under which evidence can be fetched
    status: str = "ACCEPTED"
    reason: str | None = None
    sequence: int = 0  # counts the statuses, from 1
    looks: int = 0  # since the present status began
    timestamps: dict[str, datetime] = field(default_factory=dict)
    evidence: list[Evidence] = field(default_factory=list)

    def evidence_as_json(self) -> list[dict[str, str]]:
        """Return the list of proofs."""
        base = f"{self.base_url}/{self.job.request_id}/evidence"
        return [
            {"type": evidence.type, "sha256": evidence.sha256, "uri": f"{base}/{number}"}
            for number, evidence in enumerate(self.evidence, start=1)
        ]

    def as_json(self) -> dict[str, Any]:
        """Return the answer to a status request."""
        payload: dict[str, Any] = {
            "requestId": self.job.request_id,
            "status": self.status,
            "sheets": self.job.sheets,
            "timestamps": {status: rfc3339(at) for status, at in self.timestamps.items()},
        }
        if self.barcode is not None:
            payload["barcode"] = self.barcode
        if self.reason is not None:
            payload["reason"] = self.reason
        return payload


class PrintQueue:
    """All jobs of one print house; `on_status` hears of every status a job gets."""

    def __init__(self, *, records: Records, clock: Clock, on_status: Callable[[QueuedJob], None]) -> None:
        self.jobs: dict[str, QueuedJob] = {}
        self._records = records
        self._clock = clock
        self._on_status = on_status
        self._registered_count = 0

    def add(self, job: PrintJob, *, key: str, fingerprint: str, base_url: str) -> QueuedJob:
        """Take a job over; `base_url` is that of all jobs."""
        kept = self._records.keep(
            id=job.request_id,
            key=key,
            recipient=job.recipient_name,
            sender=None,
            documents=job.documents,
            body=job.body,
        )
        fate = print_fate(job.recipient_name, job.postcode, job.country)
        queued = QueuedJob(
            job=job,
            kept=kept,
            fingerprint=fingerprint,
            fate=fate,
            to_come=_steps(fate, is_registered=job.is_registered),
            barcode=self._barcode() if job.is_registered else None,
            base_url=base_url,
        )
        self.jobs[job.request_id] = queued
        self._enter(queued, Step(status="ACCEPTED"))
        return queued

    def _barcode(self) -> str:
        self._registered_count += 1
        return f"{_BARCODE_PREFIX}{self._registered_count:012d}"

    def look(self, queued: QueuedJob) -> None:
        """Move a job on because somebody looked at it."""
        queued.looks += 1
        needed = SLOW_LOOKS if queued.fate is PrintFate.SLOW else 1
        if queued.looks >= needed and queued.to_come:
            self._enter(queued, queued.to_come.pop(0))

    def advance(self, request_id: str, *, to: str | None = None, reason: str | None = None) -> QueuedJob:
        """
        Move a job on by one step, or put it in the status `to`, whatever it was.

        Raises:
            LookupError: no such job.
            ValueError: unknown status or reason.
        """
        if request_id not in self.jobs:
            raise LookupError("no such job")
        queued = self.jobs[request_id]
        if reason is not None and reason not in REASONS:
            raise ValueError(f"unknown reason; there are {', '.join(REASONS)}")
        if to is None:
            self.look(queued)
        elif to in STATUSES:
            self._enter(queued, Step(status=to, reason=reason))
        else:
            raise ValueError(f"unknown status; there are {', '.join(STATUSES)}")
        return queued

    def _enter(self, queued: QueuedJob, step: Step) -> None:
        queued.status = step.status
        queued.reason = step.reason
        queued.sequence += 1
        queued.looks = 0
        queued.timestamps[step.status] = self._clock()
        kind = _evidence_type(step.status, queued.job.product)
        if kind is not None:
            queued.evidence.append(Evidence(type=kind, content=_evidence_pdf(kind, queued)))
        self._on_status(queued)
        self._records.changed()


def rfc3339(at: datetime) -> str:
    """Return a UTC time that ends in Z."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _steps(fate: PrintFate, *, is_registered: bool) -> list[Step]:
    steps = [Step(status=status) for status in ("PRINTED", "ENCLOSED", "DISPATCHED")]
    if fate is PrintFate.RETURNED:
        return [*steps, Step(status="RETURNED", reason="unknown")]
    if fate is PrintFate.NOT_COLLECTED:
        return [*steps, Step(status="HELD"), Step(status="RETURNED", reason="not_collected")]
    return [*steps, Step(status="DELIVERED")] if is_registered else steps


def _evidence_type(status: str, product: str) -> str | None:
    by_status: Mapping[str, str] = {}
    if product != "standard":
        by_status = {"DISPATCHED": "proof_of_posting", "RETURNED": "scan"}
    if product == "registered_ar":
        by_status = {**by_status, "DELIVERED": "acknowledgement"}
    return by_status.get(status)


def _evidence_pdf(kind: str, queued: QueuedJob) -> bytes:
    writer = PdfWriter()
    writer.add_blank_page(*_A4_POINTS)
    writer.add_metadata({"/Title": f"{kind} {queued.barcode} {rfc3339(queued.timestamps[queued.status])}"})
    content = BytesIO()
    writer.write(content)
    return content.getvalue()
