"""
What any test can end with: `gateway verify` over the stores that its gateway left behind.

    await assert_clean(house.config)   # after the gateway has stopped
"""

from collections.abc import Awaitable, Callable
from datetime import datetime

import pytest

from gateway.clock import utc_now
from gateway.config import Config
from gateway.integrity.command import as_text, verify_stores
from gateway.integrity.findings import Grade

AssertClean = Callable[..., Awaitable[None]]


@pytest.fixture
def assert_clean() -> AssertClean:
    """Return a function that verifies the stores of a configuration, deep, and fails with every broken promise."""

    async def check(config: Config, *, clock: Callable[[], datetime] = utc_now, late: bool = True) -> None:
        """With `late`, nothing may be late either; a gateway that was killed leaves deliveries that are."""
        verdict = await verify_stores(config, clock=clock, deep=True)
        report = verdict.report
        assert not verdict.unchecked
        assert report.total(Grade.BROKEN) == 0, as_text(verdict)
        assert not late or report.total(Grade.LATE) == 0, as_text(verdict)

    return check
