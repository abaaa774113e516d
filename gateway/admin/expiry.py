"""How many days are left of what ends by itself: our own certificates, and the revocation lists of the senders' CAs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509

from gateway.crypto.certs import ClientCa

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DaysLeft:
    """Days, negative once it is over: of certificates by their duty, of revocation lists by the name of their CA."""

    certificates: Mapping[str, float]
    crls: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiries:
    """
    What ends by itself; asked anew each time, so that what was renewed counts at once.

    `certificates` names each duty (`intake`, `receipts`, `portal`) with its certificate and the authorities shown with
    it: the first that ends counts. So it is with the lists of one CA. A CA without a list has no entry.
    """

    certificates: Callable[[], Mapping[str, Sequence[x509.Certificate]]]
    client_cas: Callable[[], Sequence[ClientCa]]

    def days_left(self, now: datetime) -> DaysLeft:
        """Return what is left at `now`."""
        return DaysLeft(
            certificates={
                duty: min((certificate.not_valid_after_utc - now) / _DAY for certificate in chain)
                for duty, chain in self.certificates().items()
                if chain
            },
            crls={
                ca.name: min((crl.next_update_at - now) / _DAY for crl in ca.crls)
                for ca in self.client_cas()
                if ca.crls
            },
        )
