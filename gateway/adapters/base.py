"""
What an adapter is: the code that speaks to one kind of provider.

The delivery id is the idempotency key of every call. An adapter never decides what happens next: it says what the
provider did, as a `Handover` or as one of the errors of `gateway.errors.DeliveryError`:

- `Refused`: the provider will never take this delivery; its reason may open the next channel.
- `Unreachable`: surely nothing was handed over (no connection, refused before the body, 408, 429).
- `OutcomeUnknown`: the body was on its way; it may have arrived (time-out, lost answer, 5xx).
- `ChannelBlocked`: the provider refuses us, not the letter (credentials, contract, mandate).
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from gateway.domain.ids import DeliveryId, EnterpriseNumber, MessageId
from gateway.domain.message import Channel, PrintOptions, Recipient
from gateway.domain.status import DeliveryStatus, Reason
from gateway.errors import DeliveryError


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ParcelDocument:
    """One file to hand over; `open` yields its bytes, unsealed, and raises when the seal does not hold to the end."""

    filename: str
    media_type: str
    size_bytes: int
    sha256: bytes
    main: bool
    signed: bool
    pages: int | None
    is_cover: bool
    open: Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Parcel:
    """
    All that a provider may need of one delivery; `repr` is hidden because it would be personal data.

    `attempt_deadline_at` bounds the whole call. `ebox` is (message type, application).
    """

    delivery_id: DeliveryId
    message_id: MessageId
    channel: Channel
    sender: EnterpriseNumber
    sender_name: str
    display_name: str
    profile: str
    category: str
    recipient: Recipient
    attention_of: str | None
    subject: str
    language: str
    print_options: PrintOptions
    return_address: tuple[str, ...]
    ebox: tuple[str, str] | None
    documents: tuple[ParcelDocument, ...]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Handed:
    """A delivery that a provider holds, for status calls."""

    delivery_id: DeliveryId
    channel: Channel
    sender: EnterpriseNumber
    provider_reference: str | None
    recipient: Recipient


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """
    What a provider says of a delivery.

    `status` is canonical; `reason` may accompany a success (`no-digital-user`: published, but the box was never
    opened); `code` is the provider's own word; `read` tells whether the recipient opened it, where that is known.
    """

    status: DeliveryStatus
    provider_reference: str | None = None
    reason: Reason | None = None
    code: str | None = None
    barcode: str | None = None
    status_at: datetime | None = None
    read: bool | None = None


class Adapter(Protocol):
    """One provider. `finds`: `find` can tell that a delivery surely never arrived."""

    @property
    def finds(self) -> bool:
        """Whether the provider has a look-up by our delivery id."""
        ...

    @property
    def resend_is_safe(self) -> bool:
        """Whether the provider dedupes on the delivery id, so that the same call may be made again."""
        ...

    async def send(self, parcel: Parcel, *, again: bool) -> Handover:
        """
        Hand a parcel over. `again` marks a reconciling call: an earlier call with this id may have arrived.

        Raises:
            DeliveryError: see the module text. With `again`, a "duplicate" answer means accepted only where the
                provider's `conflict_means` says so, else `OutcomeUnknown`.
        """
        ...

    async def find(self, delivery_id: DeliveryId) -> Handover | None:
        """
        Look a delivery up; None means that it surely never arrived.

        Raises:
            OutcomeUnknown: the provider cannot tell, or could not be asked.
        """
        ...

    async def status(self, handed: Handed) -> Handover:
        """
        Ask how far a delivery is.

        Raises:
            Unreachable: the provider could not be asked; nothing is known to have changed.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class ProofUnusable(DeliveryError):
    """What a provider gave as a proof is not what it listed; that says nothing of how well it is otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """
    A file by which a provider proves something of a delivery, such as that it was posted (`proof_of_posting`).

    `fetch` returns its bytes, of a bounded size. It raises `Unreachable` when they cannot be had now, `ProofUnusable`
    when they are not what the provider listed.
    """

    kind: str
    media_type: str
    sha256: bytes
    fetch: Callable[[], Awaitable[bytes]]


@runtime_checkable
class Proving(Protocol):
    """An adapter whose provider keeps proofs of what it did; not every provider does."""

    async def evidence(self, handed: Handed) -> list[Proof]:
        """
        Return the proofs of a delivery that there are by now, oldest first.

        Raises:
            Unreachable: the provider could not be asked.
        """
        ...


@runtime_checkable
class Foretelling(Protocol):
    """An adapter whose provider tells beforehand whom it would refuse; not every provider does."""

    async def forecast(self, channel: Channel, recipient: Recipient) -> Reason | None:
        """
        Return why the provider would refuse this recipient now, or None.

        Raises:
            Unreachable, ChannelBlocked: it could not be asked.
        """
        ...
