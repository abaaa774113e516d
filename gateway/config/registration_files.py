"""
The registration together with the text it was read from, which is what the ledger keeps of every version.

The text of a version is canonical JSON (RFC 8785) from file name to content: `categories.toml`, and one
`senders/<name>.toml` for each sender, whatever the folders are called here. A version lives as long as the messages
that were accepted under it, so this form is fixed.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import rfc8785

from gateway.config.reader import ConfigInvalid, Findings, Table, parse_table, read_text, shown
from gateway.config.senders import build_registration, sender_files
from gateway.domain.registration import Registration
from gateway.errors import FieldError

_CATEGORIES: Final = "categories.toml"
_SENDERS: Final = "senders/"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationFiles:
    """A registration without a number yet (0), the text it was read from, and the SHA-256 of that text."""

    registration: Registration
    text: str
    digest: bytes


def read_registration(
    senders_dir: Path, categories_file: Path, *, authorities: Collection[str] | None
) -> RegistrationFiles:
    """
    Read every file once, so that what is kept is what was validated. Blocks.

    Raises:
        ConfigInvalid: a file cannot be read or holds mistakes; all mistakes of all files.
    """
    findings = Findings()
    files = {_CATEGORIES: categories_file}
    files |= {f"{_SENDERS}{file.name}": file for file in sender_files(senders_dir, findings)}
    found = {name: read_text(file, findings) for name, file in files.items()}
    texts = {name: text for name, text in found.items() if text is not None}
    tables = {
        name: parse_table(text, shown(files[name]), files[name].absolute().parent, findings)
        for name, text in texts.items()
    }
    registration = _build(tables, findings, version=0, authorities=authorities)
    canonical = rfc8785.dumps(texts)
    return RegistrationFiles(
        registration=registration, text=canonical.decode(), digest=hashlib.sha256(canonical).digest()
    )


def reread_registration(text: str, *, version: int, authorities: Collection[str] | None) -> Registration:
    """
    Read a version's text again, as the ledger kept it.

    Raises:
        ConfigInvalid: this program, or the configuration beside it, does not take what another one took.
    """
    findings = Findings()
    try:
        texts = json.loads(text)
    except ValueError:
        texts = None
    if (
        not isinstance(texts, dict)
        or _CATEGORIES not in texts
        or not all(isinstance(each, str) for each in texts.values())
    ):
        raise ConfigInvalid([FieldError(pointer=f"registration {version}", detail="is not the text of a registration")])
    tables = {
        name: parse_table(each, f"registration {version}: {name}", Path(), findings) for name, each in texts.items()
    }
    return _build(tables, findings, version=version, authorities=authorities)


def _build(
    tables: Mapping[str, Table | None], findings: Findings, *, version: int, authorities: Collection[str] | None
) -> Registration:
    senders = [table for name, table in tables.items() if name.startswith(_SENDERS)]
    return build_registration(tables.get(_CATEGORIES), senders, findings, version=version, authorities=authorities)
