"""
The gateway's configuration: one frozen dataclass per table of a TOML file.

`load` checks everything that the file itself can tell; what other files and certificates say is `preflight`'s.
Relative paths start at the file's folder. `config/gateway.example.toml` explains every key.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

from gateway.config.limits import (
    Limits,
    Retention,
    Workers,
    read_limits,
    read_polling,
    read_retention,
    read_retry,
    read_workers,
)
from gateway.config.providers import Provider, read_channels, read_providers
from gateway.config.reader import ConfigInvalid, Findings, Table, open_table
from gateway.config.values import (
    ADDRESS,
    BOOLEAN,
    Address,
    Kind,
    choice,
    integer,
    of_text,
    path_in,
    store_uri,
    text,
    web_address,
)
from gateway.domain.message import Channel
from gateway.domain.schedule import PollRules, RetryRules
from gateway.stores.postgres.addressing import POSTGRESQL, parse_address

Revocation = Literal["hard-fail", "soft-fail"]
TlsVersion = Literal["1.3", "1.2"]

_REVOCATIONS: Final[tuple[Revocation, ...]] = ("hard-fail", "soft-fail")
_TLS_VERSIONS: Final[tuple[TlsVersion, ...]] = ("1.3", "1.2")
_NAME: Final = text(longest=253, pattern=r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?", fix="must be like a host name")
_CA_NAME: Final = text(longest=64, pattern=r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", fix="must be of a-z 0-9 -")
_HTTPS: Final = web_address("https")
_WEB: Final = web_address("https", "http")
_LONGEST_SOCKET_PATH_BYTES: Final = 107  # sun_path of Linux, less the final NUL
_ENCLOSE_UP_TO_BYTES: Final = 131_072
_MOST_ENCLOSED_BYTES: Final = 524_288  # a message holds at most twice this in memory, and so at most 1 MiB


class Environment(StrEnum):
    """How much a mistake would hurt, and so what is refused."""

    DEVELOPMENT = "development"
    TEST = "test"
    PRODUCTION = "production"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """What this gateway is called, and where it finds its other files. `name` is the audience that messages sign."""

    name: str
    environment: Environment
    senders: Path
    categories: Path
    staff: Path
    security_matrix: Path
    state: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """Where senders connect, with mutual TLS."""

    bind: Address
    certificate: Path
    key_file: Path
    tls_minimum: TlsVersion
    public_url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipts:
    """What signs receipts, evidence and checkpoints; `past` is a folder of the certificates that did so before."""

    certificate: Path
    key_file: Path
    past: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCa:
    """An authority that issues senders' certificates."""

    name: str
    file: Path
    crl_file: Path | None
    revocation: Revocation


@dataclass(frozen=True, slots=True, kw_only=True)
class Portal:
    """Where recipients fetch their letters; without certificate and key it speaks plain HTTP."""

    bind: Address
    public_url: str
    certificate: Path | None
    key_file: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """Where commands of the staff arrive."""

    socket: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Ops:
    """Where metrics and health are read."""

    bind: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The URIs of the stores; a document of up to `enclose_up_to_bytes`, sealed, lies in the ledger."""

    ledger: str
    blobs: str
    keyring: str
    enclose_up_to_bytes: int = _ENCLOSE_UP_TO_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifiers:
    """Which identifiers are taken."""

    allow_test_ssin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration; `file` is where it was read."""

    file: Path
    gateway: Gateway
    intake: Intake
    receipts: Receipts
    client_cas: tuple[ClientCa, ...]
    portal: Portal
    admin: Admin
    ops: Ops
    stores: Stores
    providers: Mapping[str, Provider]
    channels: Mapping[Channel, tuple[str, ...]]
    limits: Limits
    retry: RetryRules
    polling: PollRules
    retention: Retention
    workers: Workers
    identifiers: Identifiers


def load(file: Path) -> Config:
    """
    Read a configuration file. Blocks.

    Raises:
        ConfigInvalid: the file cannot be read or holds mistakes; all of them.
    """
    findings = Findings()
    root = open_table(file, findings)
    if root is None:
        raise ConfigInvalid(findings.errors)
    gateway = _gateway(root.table("gateway"))
    url = _HTTPS if gateway.environment is Environment.PRODUCTION else _WEB
    providers, adapters = read_providers(root.table("providers"), url)
    config = Config(
        file=file.absolute(),
        gateway=gateway,
        intake=_intake(root.table("intake")),
        receipts=_receipts(root.table("receipts")),
        client_cas=_client_cas(root),
        portal=_portal(root.table("portal"), gateway.environment),
        admin=_admin(root.table("admin"), gateway.state),
        ops=Ops(bind=root.table("ops").optional("bind", ADDRESS, Address("127.0.0.1", 9464))),
        stores=_stores(root.table("stores"), gateway),
        providers=providers,
        channels=read_channels(root.table("channels"), adapters),
        limits=read_limits(root.table("limits")),
        retry=read_retry(root.table("retry")),
        polling=read_polling(root.table("polling")),
        retention=read_retention(root.table("retention")),
        workers=read_workers(root.table("workers")),
        identifiers=_identifiers(root.table("identifiers"), gateway.environment),
    )
    root.finish()
    findings.raise_if_any()
    return config


def _gateway(table: Table) -> Gateway:
    path = path_in(table.folder)
    return Gateway(
        name=table.required("name", _NAME),
        environment=table.required("environment", choice(tuple(Environment))),
        senders=table.optional("senders", path, table.folder / "senders"),
        categories=table.optional("categories", path, table.folder / "categories.toml"),
        staff=table.optional("staff", path, table.folder / "staff.toml"),
        security_matrix=table.optional("security_matrix", path, table.folder / "security-matrix.toml"),
        state=table.required("state", path),
    )


def _intake(table: Table) -> Intake:
    path = path_in(table.folder)
    return Intake(
        bind=table.optional("bind", ADDRESS, Address("127.0.0.1", 8443)),
        certificate=table.required("certificate", path),
        key_file=table.required("key_file", path),
        tls_minimum=table.optional("tls_minimum", choice(_TLS_VERSIONS), "1.3"),
        public_url=table.optional("public_url", _HTTPS, None),
    )


def _receipts(table: Table) -> Receipts:
    path = path_in(table.folder)
    return Receipts(
        certificate=table.required("certificate", path),
        key_file=table.required("key_file", path),
        past=table.optional("past", path, None),
    )


def _client_cas(root: Table) -> tuple[ClientCa, ...]:
    found: dict[str, ClientCa] = {}
    for table in root.tables("client_cas", why="without an authority for client certificates no sender gets in"):
        path = path_in(table.folder)
        ca = ClientCa(
            name=table.required("name", _CA_NAME),
            file=table.required("file", path),
            crl_file=table.optional("crl_file", path, None),
            revocation=table.optional("revocation", choice(_REVOCATIONS), "hard-fail"),
        )
        if ca.crl_file is None and ca.revocation == "hard-fail":
            table.wrong("crl_file", 'is missing; only revocation = "soft-fail" does without a revocation list')
        if ca.name and ca.name in found:
            table.wrong("name", "stands there twice; each authority has its own name")
        found[ca.name] = ca
    return tuple(found.values())


def _portal(table: Table, environment: Environment) -> Portal:
    path = path_in(table.folder)
    portal = Portal(
        bind=table.optional("bind", ADDRESS, Address("127.0.0.1", 8444)),
        public_url=table.required("public_url", _WEB if environment is Environment.DEVELOPMENT else _HTTPS),
        certificate=table.optional("certificate", path, None),
        key_file=table.optional("key_file", path, None),
    )
    absent = [key for key in ("certificate", "key_file") if not table.states(key)]
    if len(absent) == 1:
        table.wrong(absent[0], "is missing; certificate and key_file go together")
    elif absent and environment is not Environment.DEVELOPMENT:
        table.wrong("certificate", "is missing; plain HTTP is for development only")
    return portal


def _admin(table: Table, state: Path) -> Admin:
    socket = table.optional("socket", path_in(table.folder), state / "admin.sock")
    if len(os.fsencode(socket)) > _LONGEST_SOCKET_PATH_BYTES:
        table.wrong(
            "socket", f"is too long for a socket, whose whole path has at most {_LONGEST_SOCKET_PATH_BYTES} bytes"
        )
    return Admin(socket=socket)


def _stores(table: Table, gateway: Gateway) -> Stores:
    ledger, blobs, keyring = "sqlite://{}", "file://{}", "local:{}"
    state = gateway.state
    stores = Stores(
        ledger=table.optional("ledger", _ledger_uri(ledger, table.folder), ledger.format(state / "ledger.db")),
        blobs=table.optional("blobs", store_uri("file", blobs, table.folder), blobs.format(state / "blobs")),
        keyring=table.optional("keyring", store_uri("local", keyring, table.folder), keyring.format(state / "keyring")),
        enclose_up_to_bytes=table.optional(
            "enclose_up_to_bytes", integer(0, _MOST_ENCLOSED_BYTES), _ENCLOSE_UP_TO_BYTES
        ),
    )
    if gateway.environment is Environment.PRODUCTION and _is_exposed(stores.ledger):
        table.wrong("ledger", "must not say sslmode=disable in production, unless the database is on this machine")
    return stores


def _ledger_uri(embedded_form: str, folder: Path) -> Kind[str]:
    """Read the URI of a ledger: of a file, see `store_uri`, or of a database, see `stores/postgres/addressing.py`."""
    embedded = store_uri("sqlite", embedded_form, folder)

    def parse(value: str) -> str:
        if not value.startswith(f"{POSTGRESQL}:"):
            return embedded.parse(value)
        parse_address(value)
        return value

    return of_text(parse, embedded.blank)


def _is_exposed(ledger: str) -> bool:
    return ledger.startswith(f"{POSTGRESQL}:") and parse_address(ledger).is_exposed


def _identifiers(table: Table, environment: Environment) -> Identifiers:
    allowed = table.optional("allow_test_ssin", BOOLEAN, Identifiers().allow_test_ssin)
    if allowed and environment is Environment.PRODUCTION:
        table.wrong("allow_test_ssin", "must be false in production: test numbers belong to nobody")
    return Identifiers(allow_test_ssin=allowed)
