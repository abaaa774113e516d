"""When requests are due: at random, as callers who know nothing of each other send them."""

import random
from collections.abc import Iterator


def arrivals(rate_per_s: float, count: int, *, seed: int = 0) -> Iterator[float]:
    """
    Return `count` times within `count / rate_per_s` seconds, in order, the same for the same seed.

    They are those of a Poisson process that came to this number (each equally likely to be anywhere), so that the rate
    that is offered is exactly the one that was asked for.

    Raises:
        ValueError: the rate is not above 0.
    """
    if rate_per_s <= 0:
        raise ValueError("a rate is above 0")
    draw = random.Random(seed)  # noqa: S311 -- a schedule, no secret
    length_s = count / rate_per_s
    return iter(sorted(draw.uniform(0.0, length_s) for _ in range(count)))
