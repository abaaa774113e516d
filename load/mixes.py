"""How large documents are: fixed sizes, and the mix that X-Road's load tests use."""

import random
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

KB: Final = 1_000
MB: Final = 1_000_000

# Size of the document in bytes, and its share in tenths of a percent; they add up to 1,000.
MIXES: Final[Mapping[str, Mapping[int, int]]] = MappingProxyType(
    {
        "20k": {20 * KB: 1000},
        "100k": {100 * KB: 1000},
        "x-road": {2 * KB: 300, 10 * KB: 600, 100 * KB: 90, 2 * MB: 9, 10 * MB: 1},
    }
)
_WHOLE: Final = 1000


def sizes(mix: str, count: int) -> list[int]:
    """
    Return the sizes of `count` documents, in an order that is always the same and mixes them.

    Shares are exact to one document; what rounding leaves over goes to the most frequent size.

    Raises:
        KeyError: no such mix.
    """
    shares = MIXES[mix]
    numbers = {size: count * share // _WHOLE for size, share in shares.items()}
    most_frequent = max(shares, key=lambda size: shares[size])
    numbers[most_frequent] += count - sum(numbers.values())
    drawn = [size for size, number in numbers.items() for _ in range(number)]
    random.Random(mix).shuffle(drawn)  # noqa: S311 -- an order, no secret
    return drawn
