"""Whether everything that was accepted arrived, once: by the senders' digests and the providers' own records."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from load.figures import slope

# How much the memory of a gateway may grow with each message once it is warm. Caches are bounded and full by then; what
# is left is noise of the allocator: 10 MB in 50,000 messages.
GROWTH_LIMIT_BYTES: Final = 200.0
_WARM_UP: Final = 0.3  # share of the messages
_FEWEST_MESSAGES: Final = 10_000  # before that a slope says nothing
_FEWEST_SAMPLES: Final = 10


def delivery_faults(accepted: Collection[str], sent: Collection[str], kept: Iterable[Mapping[str, Any]]) -> list[str]:
    """
    Return what is wrong, in words; nothing when each of the documents `accepted` was taken over exactly once.

    `sent`: the digests of all that was sent, answered or not; a document without an answer may have arrived, once.
    """
    copies, keys = Counter[str](), Counter[str]()
    for each in kept:
        copies.update(document["sha256"] for document in each["documents"])
        keys[str(each["key"])] += 1
    missing = sum(1 for digest in accepted if copies[digest] == 0)
    doubled = sum(1 for digest in sent if copies[digest] > 1)
    repeated = sum(1 for count in keys.values() if count > 1)
    faults = ((missing, "accepted, but not delivered"), (doubled, "delivered twice"), (repeated, "keys used twice"))
    return [f"{count:,} {what}" for count, what in faults if count]


def growth_bytes(samples: Iterable[tuple[float, float]]) -> float | None:
    """
    Return by how many bytes memory grows with each message after warm-up; None where there were too few to tell.

    `samples`: messages done so far, and resident bytes, in order of time. One that was accepted and not delivered yet
    is half done.
    """
    points = list(samples)
    most = max((count for count, _ in points), default=0)
    warm = [(float(count), float(size)) for count, size in points if count >= most * _WARM_UP]
    if most < _FEWEST_MESSAGES or len(warm) < _FEWEST_SAMPLES or len({count for count, _ in warm}) < _FEWEST_SAMPLES:
        return None
    return slope(warm)
