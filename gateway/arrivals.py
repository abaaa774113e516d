"""References whose first copy is arriving right now, in this process."""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.domain.ids import EnterpriseNumber
from gateway.errors import Kind, Refusal

_RETRY_AFTER_S = 5


class Arrivals:
    """
    Keeps a second copy out while the first is being received.

    This saves work and tells the sender to wait; what makes a reference unique is the ledger's commit.
    """

    def __init__(self) -> None:
        self._arriving: set[tuple[EnterpriseNumber, str, str]] = set()

    @contextmanager
    def receiving(self, sender: EnterpriseNumber, profile: str, reference: str) -> Iterator[None]:
        """
        Hold the reference while its message is being received.

        Raises:
            Refusal: still-receiving, when another copy holds it.
        """
        key = (sender, profile, reference)
        if key in self._arriving:
            raise Refusal(
                Kind.STILL_RECEIVING,
                "another copy of this message is arriving; send it again in a moment to learn its outcome",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._arriving.add(key)
        try:
            yield
        finally:
            self._arriving.discard(key)
