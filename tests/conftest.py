"""Fixtures for every test."""

import importlib.util
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest

MAKE_PY = Path(__file__).parents[1] / "certs-dev" / "make.py"


@pytest.fixture(scope="session")
def certs_maker() -> ModuleType:
    """The module certs-dev/make.py; the dash in its folder keeps it from being imported by name."""
    spec = importlib.util.spec_from_file_location("make_dev_certs", MAKE_PY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def certs(certs_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with every certificate that certs-dev/make.py makes, one set for each worker. Read only."""
    directory = tmp_path_factory.mktemp("certs")
    certs_maker.make(directory, datetime.now(UTC))
    return directory
