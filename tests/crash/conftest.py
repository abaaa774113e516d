"""The gateway is a process of its own here."""

import pytest


@pytest.fixture
def loop_guard() -> None:
    """Guard nothing: in this process gateway code only starts others, which the standard library does blocking."""
