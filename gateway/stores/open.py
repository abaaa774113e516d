"""From a URI to a store: the only module that knows every implementation."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gateway.errors import GatewayError
from gateway.stores.blobs import BlobStore
from gateway.stores.files import FileBlobs
from gateway.stores.keyring import Keyring
from gateway.stores.ledger import Ledger
from gateway.stores.local_keys import LocalKeyring
from gateway.stores.postgres import ledger as postgres
from gateway.stores.postgres.ledger import PostgresLedger
from gateway.stores.sqlite.ledger import SqliteLedger


class UnknownStore(GatewayError):
    """No implementation has this URI scheme."""


async def open_ledger(
    uri: str,
    *,
    clock: Callable[[], datetime],
    on_commit: Callable[[float, int], None] | None = None,
    alone: bool = False,
) -> Ledger:
    """
    Open the ledger; an embedded one is made when it is missing. `on_commit` hears of each commit: seconds, transactions
    in it. A database has its own clock, which several gateways share. `alone`: no gateway may have it open meanwhile,
    as is always so with an embedded one.

    Raises:
        UnknownStore, StoreInUse, StoreUnavailable.
    """
    match urlsplit(uri).scheme:
        case "sqlite":
            return await SqliteLedger.open(_path(uri), clock=clock, on_commit=on_commit)
        case "postgresql":
            return await PostgresLedger.open(uri, on_commit=on_commit, alone=alone)
        case scheme:
            raise UnknownStore(f"no ledger speaks {scheme}:; use sqlite:///path or postgresql://role@host/database")


async def migrate_ledger(
    uri: str, *, clock: Callable[[], datetime], owner_uri: str | None = None, grant: bool = False
) -> list[str]:
    """
    Bring the ledger's schema up to date; return the steps that were missing, where that is known.

    A database is migrated as the role of `owner_uri`, which is not that of the gateways; with `grant`, the role of
    `uri` gets the rights of a gateway. An embedded ledger applies what it lacks when it is opened.

    Raises:
        UnknownStore, StoreInUse, StoreUnavailable.
    """
    if urlsplit(uri).scheme == "postgresql":
        return await postgres.migrate(owner_uri or uri, serve_as=uri if grant else None)
    await (await open_ledger(uri, clock=clock)).close()
    return []


def open_blobs(uri: str) -> BlobStore:
    """
    Open the blob store.

    Raises:
        UnknownStore.
    """
    match urlsplit(uri).scheme:
        case "file":
            return FileBlobs(_path(uri))
        case scheme:
            raise UnknownStore(f"no blob store speaks {scheme}:; use file:///path")


async def open_keyring(uri: str, *, create_at: datetime | None = None) -> Keyring:
    """
    Open the keyring; with `create_at`, make a missing one first.

    Raises:
        UnknownStore, KeyringRefused.
    """
    match urlsplit(uri).scheme:
        case "local":
            path = _path(uri)
            if create_at is not None and not await asyncio.to_thread(path.exists):
                await LocalKeyring.create(path, at=create_at)
            return await LocalKeyring.open(path)
        case scheme:
            raise UnknownStore(f"no keyring speaks {scheme}:; use local:/path")


async def create_keyring(uri: str, *, at: datetime) -> str:
    """
    Make a keyring that is not there yet; return the id of its master key.

    Raises:
        UnknownStore, KeyringRefused: there is one already.
    """
    match urlsplit(uri).scheme:
        case "local":
            return await LocalKeyring.create(_path(uri), at=at)
        case scheme:
            raise UnknownStore(f"a keyring that speaks {scheme}: is made where it lives")


def folder_of(uri: str) -> Path | None:
    """Return the folder on a disk of this machine in which a store keeps its files, or None: it lives elsewhere."""
    match urlsplit(uri).scheme:
        case "sqlite":
            return _path(uri).parent
        case "file":
            return _path(uri)
        case _:
            return None


def ledger_exists(uri: str) -> bool:
    """Tell whether a ledger was made before, where that can be told without opening it; else say yes. Blocks."""
    return urlsplit(uri).scheme != "sqlite" or _path(uri).exists()


def _path(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path))
