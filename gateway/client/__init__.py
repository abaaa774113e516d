"""What a sender's program imports to hand letters to a gateway; see `api`."""

from gateway.client.account import Account
from gateway.client.answers import MessageState
from gateway.client.api import FollowRules, GatewayClient, Sent
from gateway.client.batch import ItemOutcome, ItemSent, SentBatch
from gateway.client.batch_state import BatchState, ItemState
from gateway.client.feed import Event, EventPage
from gateway.client.letter import Document, Letter, new_reference
from gateway.client.problems import (
    CertificateRefused,
    ClientError,
    EvidenceWrong,
    GatewayNotTrusted,
    LetterInvalid,
    NotReached,
    Problem,
    ReceiptWrong,
    UnexpectedAnswer,
)
from gateway.client.proof import Proven
from gateway.client.retrying import RetryRules
from gateway.client.sender import SenderFileInvalid, SenderProfile, load_sender
from gateway.client.transport import CallTiming

__all__ = [
    "Account",
    "BatchState",
    "CallTiming",
    "CertificateRefused",
    "ClientError",
    "Document",
    "Event",
    "EventPage",
    "EvidenceWrong",
    "FollowRules",
    "GatewayClient",
    "GatewayNotTrusted",
    "ItemOutcome",
    "ItemSent",
    "ItemState",
    "Letter",
    "LetterInvalid",
    "MessageState",
    "NotReached",
    "Problem",
    "Proven",
    "ReceiptWrong",
    "RetryRules",
    "SenderFileInvalid",
    "SenderProfile",
    "Sent",
    "SentBatch",
    "UnexpectedAnswer",
    "load_sender",
    "new_reference",
]
