"""
What can be wrong, by stable codes: monitoring and runbooks rest on them, so a code never changes its meaning.

A finding holds ids, states and counts; never a personal value, content or key.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never


class Grade(StrEnum):
    """How bad it is."""

    BROKEN = "broken"  # a promise is broken
    LATE = "late"  # nothing is lost, but something should have happened by now


class Code(StrEnum):
    """What is wrong; `told` says it in words."""

    ROW_UNREADABLE = "row-unreadable"
    ROW_STRAY = "row-stray"
    BLOB_MISSING = "blob-missing"
    BLOB_STRAY = "blob-stray"
    BLOB_NOT_ERASED = "blob-not-erased"
    BLOB_SIZE_WRONG = "blob-size-wrong"
    BLOB_BROKEN = "blob-broken"
    BLOB_DIFFERS = "blob-differs"
    ENCLOSURE_MISSING = "enclosure-missing"
    ENCLOSURE_STRAY = "enclosure-stray"
    ENCLOSURE_NOT_ERASED = "enclosure-not-erased"
    ENCLOSURE_SIZE_WRONG = "enclosure-size-wrong"
    ENCLOSURE_BROKEN = "enclosure-broken"
    ENCLOSURE_DIFFERS = "enclosure-differs"
    KEY_MISSING = "key-missing"
    KEY_BROKEN = "key-broken"
    KEY_NOT_DESTROYED = "key-not-destroyed"
    KEY_STRAY = "key-stray"
    COPY_WRONG = "copy-wrong"
    RETRIEVAL_MISSING = "retrieval-missing"
    RETRIEVAL_STRAY = "retrieval-stray"
    DELIVERY_IMPOSSIBLE = "delivery-impossible"
    DELIVERY_UNOWNED = "delivery-unowned"
    DELIVERY_GAP = "delivery-gap"
    ATTEMPT_GAP = "attempt-gap"
    HANDED_OVER_TWICE = "handed-over-twice"
    DELIVERED_TWICE = "delivered-twice"
    STATUS_DISAGREES = "status-disagrees"
    ENDED_BUT_QUEUED = "ended-but-queued"
    QUEUE_DISAGREES = "queue-disagrees"
    RECEIPT_INVALID = "receipt-invalid"
    RECEIPT_DIFFERS = "receipt-differs"
    SIGNED_MESSAGE_UNREADABLE = "signed-message-unreadable"
    SIGNED_MESSAGE_DIFFERS = "signed-message-differs"
    MESSAGE_UNPROVEN = "message-unproven"
    REFERENCE_MISSING = "reference-missing"
    REFERENCE_DIFFERS = "reference-differs"
    REFERENCE_STRAY = "reference-stray"
    ACCEPTANCE_UNLOGGED = "acceptance-unlogged"
    STATUS_UNLOGGED = "status-unlogged"
    QUOTA_TOO_LOW = "quota-too-low"
    FEED_GAP = "feed-gap"
    LATE = "late"
    LEASE_HELD = "lease-held"
    ERASURE_LATE = "erasure-late"


COUNTED: Final = (
    "messages", "documents", "deliveries", "blobs", "enclosures", "keys", "unsealed", "arriving", "being removed",
)  # fmt: skip
_LATE: Final = frozenset({Code.LATE, Code.LEASE_HELD, Code.ERASURE_LATE})
_RESTORE: Final = "find out what changed the store, and restore it from a backup of before"


def grade_of(code: Code) -> Grade:
    """Return how bad a code is."""
    return Grade.LATE if code in _LATE else Grade.BROKEN


def told(code: Code) -> str:
    """Return which promise is broken, and what to do, in one sentence."""
    match code:
        case Code.ROW_UNREADABLE:
            return f"the row of this message, or of its documents or deliveries, cannot be read; {_RESTORE}"
        case Code.ROW_STRAY:
            return f"a document, delivery or attempt belongs to nothing, so something accepted is gone; {_RESTORE}"
        case Code.BLOB_MISSING:
            return "a document that is still needed has no blob; put its file back from a backup of the blobs"
        case Code.BLOB_STRAY:
            return (
                "a blob belongs to no document and outlived the sweep; start the gateway, which removes it in an hour"
            )
        case Code.BLOB_NOT_ERASED:
            return (
                "a blob was noted as erased and is there (its key is gone); remove the file, as a restore may miss it"
            )
        case Code.BLOB_SIZE_WRONG:
            return "a blob has not the size of what was sealed; put its file back from a backup of the blobs"
        case Code.BLOB_BROKEN:
            return "a blob does not open under its key; put its file back from a backup of the blobs"
        case Code.BLOB_DIFFERS:
            return f"a blob opens to other content than the sender signed; keep both stores as they are, {_RESTORE}"
        case Code.ENCLOSURE_MISSING:
            return f"an enclosed document that is still needed is not in the ledger; {_RESTORE}"
        case Code.ENCLOSURE_STRAY:
            return f"an enclosure belongs to no enclosed document, so what it belonged to is gone; {_RESTORE}"
        case Code.ENCLOSURE_NOT_ERASED:
            return "the enclosure of an erased document is there (its key is gone); have it looked into"
        case Code.ENCLOSURE_SIZE_WRONG:
            return f"an enclosure has not the size of what was sealed; {_RESTORE}"
        case Code.ENCLOSURE_BROKEN:
            return f"an enclosure does not open under its key; {_RESTORE}"
        case Code.ENCLOSURE_DIFFERS:
            return f"an enclosure opens to other content than the sender signed; keep the ledger as it is, {_RESTORE}"
        case Code.KEY_MISSING:
            return "a data key that is still needed is gone, so what it sealed can never be read; restore the ledger"
        case Code.KEY_BROKEN:
            return "a data key does not open with the keyring; put back the keyring that belongs to this ledger"
        case Code.KEY_NOT_DESTROYED:
            return "copy and key of a document disagree on whether it is erased; its erasure must be carried out anew"
        case Code.KEY_STRAY:
            return f"a data key belongs to no document, message, dossier or log, so its owner is gone; {_RESTORE}"
        case Code.COPY_WRONG:
            return "what is kept of the documents does not follow from where the message stands; have it looked into"
        case Code.RETRIEVAL_MISSING:
            return "a cover page was printed whose code opens nothing; tell the sender that the copy cannot be fetched"
        case Code.RETRIEVAL_STRAY:
            return "a code still stands for a copy that is erased or was never there; have it looked into"
        case Code.DELIVERY_IMPOSSIBLE:
            return "a delivery stands where no rule leads; ask the provider how far it is before anything is done"
        case Code.DELIVERY_UNOWNED:
            return "a delivery that has not ended lacks an action, a due time or a deadline, so nobody comes for it"
        case Code.DELIVERY_GAP:
            return f"the deliveries of a message are not numbered 1, 2, 3 …, so one is gone; {_RESTORE}"
        case Code.ATTEMPT_GAP:
            return f"the attempts of a delivery are not those that it counted, so one is gone; {_RESTORE}"
        case Code.HANDED_OVER_TWICE:
            return "two attempts of one delivery were taken by the provider; ask it whether the letter went out twice"
        case Code.DELIVERED_TWICE:
            return "two channels took the letter although no rule lets the second follow; tell the sender"
        case Code.STATUS_DISAGREES:
            return "the status of a message does not follow from its deliveries; ask its providers, then the sender"
        case Code.ENDED_BUT_QUEUED:
            return "a message has ended and a delivery of it still waits for an action; stop it before a worker starts"
        case Code.QUEUE_DISAGREES:
            return f"the queue does not hold what a delivery waits for, so nobody comes for it in time; {_RESTORE}"
        case Code.RECEIPT_INVALID:
            return (
                "a receipt does not verify with any certificate of this gateway; add the one of then ([receipts] past)"
            )
        case Code.RECEIPT_DIFFERS:
            return f"a receipt states something else than the ledger holds; {_RESTORE}"
        case Code.SIGNED_MESSAGE_UNREADABLE:
            return f"the message that the sender signed does not open under its key; {_RESTORE}"
        case Code.SIGNED_MESSAGE_DIFFERS:
            return f"the message that the sender signed is not the one that was accepted; {_RESTORE}"
        case Code.MESSAGE_UNPROVEN:
            return f"neither a signature of its own nor a batch proves the message; {_RESTORE}"
        case Code.REFERENCE_MISSING:
            return "a message holds no reference, so sending it again would deliver it twice; restore the ledger"
        case Code.REFERENCE_DIFFERS:
            return "a reference stands for another message or other content, so a retry gets a wrong answer; restore it"
        case Code.REFERENCE_STRAY:
            return f"a reference names a message that is not there, or not under it; {_RESTORE}"
        case Code.ACCEPTANCE_UNLOGGED:
            return f"the traffic log of a message does not begin with its acceptance; {_RESTORE}"
        case Code.STATUS_UNLOGGED:
            return f"the traffic log does not tell the status at which the message or a delivery stands; {_RESTORE}"
        case Code.QUOTA_TOO_LOW:
            return "fewer messages were counted against a quota than were accepted that day; have it looked into"
        case Code.FEED_GAP:
            return (
                "the feed of a sender lacks a number, so the sender missed an event; begin a new epoch for its readers"
            )
        case Code.LATE:
            return "a delivery is past its deadline; start the gateway and look at it (gateway ops late)"
        case Code.LEASE_HELD:
            return "a worker held a delivery and never gave it back; start the gateway, which takes it up again"
        case Code.ERASURE_LATE:
            return "documents should have been erased by now; start the gateway, which erases them"
        case never:
            assert_never(never)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong; `id` is what it is about, `detail` holds states and numbers only."""

    code: Code
    id: str
    detail: str = ""

    @property
    def text(self) -> str:
        """The sentence, with the detail."""
        return told(self.code) + (f" ({self.detail})" if self.detail else "")


class Report:
    """Collects findings and counts; keeps at most `limit` findings of each code, and how many there were."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._totals: Counter[Code] = Counter()
        self._kept: list[Finding] = []
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))

    def add(self, findings: Iterable[Finding]) -> None:
        """Note findings."""
        for finding in findings:
            self._totals[finding.code] += 1
            if self._totals[finding.code] <= self._limit:
                self._kept.append(finding)

    @property
    def findings(self) -> list[Finding]:
        """The findings that were kept, those of one code together, in the order of `Code`."""
        order = {code: place for place, code in enumerate(Code)}
        return sorted(self._kept, key=lambda each: order[each.code])

    @property
    def totals(self) -> Mapping[Code, int]:
        """How many findings there were of each code."""
        return self._totals

    def total(self, grade: Grade) -> int:
        """Return how many findings of a grade there were."""
        return sum(number for code, number in self._totals.items() if grade_of(code) is grade)

    @property
    def is_clean(self) -> bool:
        """Whether there was nothing to find."""
        return not self._totals
