"""Who is asking, for requests other than handing over a message: the party, and for which sender it asks."""

from dataclasses import dataclass

from gateway.crypto.identity import Peer
from gateway.domain.ids import EnterpriseNumber, InvalidIdentifier, parse_enterprise_number
from gateway.domain.registration import Registration, Sender
from gateway.errors import FieldError, Kind, Refusal
from gateway.stores.ledger import Ledger
from gateway.stores.model import BatchRecord, MessageFilter, MessageRecord

ON_BEHALF_OF = "On-Behalf-Of-Enterprise-Number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A party acting for a sender; `profiles` None: all of that sender's."""

    peer: Peer
    sender: Sender
    profiles: frozenset[str] | None

    @property
    def number(self) -> EnterpriseNumber:
        """The sender's enterprise number."""
        return self.sender.enterprise_number

    def sees(self, record: MessageRecord | BatchRecord) -> bool:
        """Tell whether a message or a batch is one of this caller's."""
        return record.sender == self.number and (self.profiles is None or record.profile in self.profiles)

    def own(self) -> MessageFilter:
        """Return the filter for everything that this caller may see."""
        return MessageFilter(sender=self.number, profiles=self.profiles)


async def identify(peer: Peer, on_behalf_of: str | None, registration: Registration, ledger: Ledger) -> Caller:
    """
    Return for whom `peer` acts: itself, or the sender in the header `On-Behalf-Of-Enterprise-Number`.

    Raises:
        Refusal: bad-request, sender-unknown, sender-suspended.
    """
    number = peer.party
    if on_behalf_of is not None:
        try:
            number = parse_enterprise_number(on_behalf_of)
        except InvalidIdentifier as error:
            raise Refusal(
                Kind.BAD_REQUEST,
                f"header {ON_BEHALF_OF}: {error}",
                errors=[FieldError(pointer=ON_BEHALF_OF, detail=str(error))],
            ) from error
    sender = registration.senders.get(number)
    if sender is None or (number != peer.party and peer.party not in sender.processors):
        raise Refusal(
            Kind.SENDER_UNKNOWN,
            f"the party of the client certificate may not act for the sender in {ON_BEHALF_OF}",
        )
    party = registration.senders.get(peer.party)
    active = sender.active and party is not None and party.active
    if not active or await ledger.is_suspended(number) or await ledger.is_suspended(peer.party):
        raise Refusal(Kind.SENDER_SUSPENDED, "this sender is suspended; contact the gateway's operator")
    # A certificate that its party limited to profiles of its own sees none of another sender's, whatever their names.
    limited_elsewhere = number != peer.party and peer.profiles is not None
    return Caller(peer=peer, sender=sender, profiles=frozenset() if limited_elsewhere else peer.profiles)
