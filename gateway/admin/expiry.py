"""How many days are left of what ends by itself: our own certificates, and the revocation lists of the senders' CAs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509

from gateway.crypto.certs import ClientCa

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """Days left, negative once it is over: of certificates by their duty, of revocation lists by the name of their CA."""

    certificate_days: Mapping[str, float]
    crl_days: Mapping[str, float]


def expiry(
    certificates: Mapping[str, Sequence[x509.Certificate]], client_cas: Iterable[ClientCa], now: datetime
) -> Expiry:
    """
    Return what is left at `now`.

    `certificates` names each duty (`intake`, `receipts`, `portal`) with its certificate and the authorities shown with
    it: the first that ends counts. So it is with the lists of one CA. A CA without a list has no entry.
    """
    return Expiry(
        certificate_days={
            duty: min(days_left(certificate.not_valid_after_utc, now) for certificate in chain)
            for duty, chain in certificates.items()
            if chain
        },
        crl_days={ca.name: min(days_left(crl.next_update_at, now) for crl in ca.crls) for ca in client_cas if ca.crls},
    )


def days_left(until: datetime, now: datetime) -> float:
    """Return the days from `now` to `until`."""
    return (until - now) / _DAY
