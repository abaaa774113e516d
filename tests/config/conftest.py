"""Configuration to bend: nested dicts that load as they are, and ways to change one place of them."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from gateway.config import ConfigInvalid

Values = dict[str, Any]

EBOX: Values = {
    "adapter": "ebox",
    "base_url": "https://ebox.example/v2",
    "token_url": "https://ebox.example/token",
    "federation_url": "https://ebox.example/federation",
    "partition_url": "https://ebox.example/partition",
    "client_id": "us",
    "key_file": "ebox.key",
}
MINIMAL: Values = {
    "gateway": {"name": "gateway.example", "environment": "test", "state": "state"},
    "intake": {"certificate": "server.pem", "key_file": "server.key"},
    "receipts": {"certificate": "receipts.pem", "key_file": "receipts.key"},
    "client_cas": [{"name": "ca-a", "file": "ca-a.pem", "crl_file": "ca-a.crl"}],
    "portal": {"public_url": "https://letters.example", "certificate": "portal.pem", "key_file": "portal.key"},
    "providers": {"bosa": EBOX, "house-a": {"adapter": "print_rest", "base_url": "https://print.example/api"}},
    "channels": {"ebox-citizen": ["bosa"], "print": ["house-a"]},
}
SENDER: Values = {
    "enterprise_number": "0406798006",
    "name": "Gemeente Voorbeeld",
    "contact": {"dpo": "dpo@a.example", "technical": "it@a.example", "security": "ciso@a.example", "public": "09"},
    "agreements": {"print": "2026-01-10"},
    "certificates": [{"subject": "CN=a.example,O=A,C=BE", "issuer_ca": "ca-a", "uses": ["tls", "signing"]}],
    "profiles": [
        {
            "id": "desk",
            "display_name": "Desk",
            "authorisations": [
                {
                    "category": "tax",
                    "channels": ["ebox-citizen", "print"],
                    "recipients": "any",
                    "legal_basis": "Act 1",
                    "ebox": {"citizen": {"message_type": "T", "application": "APP"}},
                    "retention": "P90D",
                }
            ],
        }
    ],
}


@pytest.fixture
def minimal() -> Values:
    """The least that `load` takes."""
    return deepcopy(MINIMAL)


@pytest.fixture
def sender() -> Values:
    """One sender that `load_registration` takes, together with the category `tax`."""
    return deepcopy(SENDER)


@pytest.fixture
def changed() -> Callable[[Values, Mapping[str, Any]], Values]:
    """Change places of nested values; a step is a key or an index (`profiles/0/id`), and ... takes the place away."""

    def change(values: Values, changes: Mapping[str, Any]) -> Values:
        for path, value in changes.items():
            *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
            inner: Any = values
            for step in steps:
                inner = inner[step] if isinstance(step, int) else inner.setdefault(step, {})
            if value is ...:
                del inner[last]
            else:
                inner[last] = value
        return values

    return change


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Values], Path]:
    """Write a TOML file below the test's folder."""

    def write_toml(name: str, values: Values) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(tomli_w.dumps(values), "utf-8")
        return file

    return write_toml


@pytest.fixture
def mistakes(tmp_path: Path) -> Callable[[Callable[[], object]], dict[str, str]]:
    """Call what must refuse, and return its mistakes by pointer, with paths relative to the test's folder."""

    def refused(call: Callable[[], object]) -> dict[str, str]:
        with pytest.raises(ConfigInvalid) as caught:
            call()
        pointers = [error.pointer for error in caught.value.errors]
        assert len(set(pointers)) == len(pointers)
        return {error.pointer.replace(f"{tmp_path}/", ""): error.detail for error in caught.value.errors}

    return refused
