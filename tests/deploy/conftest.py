"""Where the operations kit lies, and how its files are read."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project."""
    return ROOT


@pytest.fixture(scope="session")
def kit() -> Path:
    """The operations kit."""
    return ROOT / "deploy"
