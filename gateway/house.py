"""
What every part of a running gateway shares: its stores, its keys, and what is in force.

`open_house` opens them in order and hands their closing to the caller's stack.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.clock import utc_now
from gateway.config import Config, Environment
from gateway.config.registration_files import RegistrationFiles, read_registration
from gateway.config.staff import load_security_matrix, load_staff
from gateway.crypto.certs import ClientCa, load_certificates, load_client_ca
from gateway.crypto.receipts import ReceiptSigner
from gateway.crypto.vault import Vault
from gateway.domain.ids import uuid7
from gateway.domain.registration import Registration
from gateway.domain.staff import SecurityMatrix, Staff
from gateway.errors import GatewayError
from gateway.preflight import own_uid
from gateway.records.logs import LogBook
from gateway.records.registrations import Overtaken, by_itself, next_step, require_needs_met, take_step
from gateway.stores.blobs import BlobStore
from gateway.stores.documents import Documents
from gateway.stores.files import sync_directory
from gateway.stores.keyring import Keyring
from gateway.stores.ledger import Ledger
from gateway.stores.measured import MeasuredBlobs
from gateway.stores.open import open_blobs, open_keyring, open_ledger
from gateway.telemetry import Metrics

_RANDOM_BYTES: Final = 10  # of one id
_IDS_FORESEEN: Final = 400
# The random octets of ids to come; what a deque gives, it gives to one thread only.
_foreseen: Final[deque[bytes]] = deque()
os.register_at_fork(after_in_child=_foreseen.clear)


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """
    Everything that can change while the gateway runs: what stands in its files, and the registration's number.

    It is replaced as a whole, so nobody ever sees half of a change. `certificates` are our own, by their duty: the leaf
    first, then its intermediates.
    """

    config: Config
    registration: Registration
    client_cas: tuple[ClientCa, ...]
    receipts: ReceiptSigner
    past_receipts: tuple[x509.Certificate, ...]  # certificates that signed before
    certificates: Mapping[str, tuple[x509.Certificate, ...]]
    staff: Staff
    matrix: SecurityMatrix


@dataclass(slots=True, kw_only=True)
class House:
    """What every part shares; `in_force` is asked anew at each use. `config` is the one that it was started with."""

    config: Config
    in_force: InForce
    ledger: Ledger
    blobs: BlobStore
    vault: Vault
    logbook: LogBook
    keyring: Keyring
    metrics: Metrics
    clock: Callable[[], datetime]
    ids: Callable[[], UUID]

    @property
    def documents(self) -> Documents:
        """Where documents are read from."""
        return Documents(ledger=self.ledger, blobs=self.blobs)


def fresh_id(clock: Callable[[], datetime] = utc_now) -> UUID:
    """Return a new UUIDv7."""
    return uuid7(int(clock().timestamp() * 1000), _random())


def _random() -> bytes:
    # A call for random octets lets go of the interpreter's lock, which costs far more than they do while another thread
    # waits for it; so they are taken from the system for many ids at once.
    while True:
        try:
            return _foreseen.popleft()
        except IndexError:
            octets = os.urandom(_IDS_FORESEEN * _RANDOM_BYTES)
            _foreseen.extend(octets[start : start + _RANDOM_BYTES] for start in range(0, len(octets), _RANDOM_BYTES))


def load_registration_of(config: Config) -> RegistrationFiles:
    """
    Read all registration files. Blocks.

    Raises:
        ConfigInvalid: with every mistake.
    """
    authorities = {ca.name for ca in config.client_cas}
    return read_registration(config.gateway.senders, config.gateway.categories, authorities=authorities)


def load_client_cas(config: Config) -> tuple[ClientCa, ...]:
    """
    Read the authorities of senders' certificates with their revocation lists. Blocks.

    Raises:
        CertificateRejected, OSError.
    """
    return tuple(
        load_client_ca(ca.name, ca.file, crl_file=ca.crl_file, revocation=ca.revocation) for ca in config.client_cas
    )


def read_files(config: Config) -> tuple[InForce, RegistrationFiles]:
    """
    Read every file that may change while the gateway runs; the registration has no number yet (0). Blocks.

    Raises:
        ConfigInvalid, CertificateRejected, GatewayError, OSError: a file cannot be used.
    """
    files = load_registration_of(config)
    certificates = _certificates(config)
    in_force = InForce(
        config=config,
        registration=files.registration,
        client_cas=load_client_cas(config),
        receipts=_receipt_signer(certificates["receipts"][0], config),
        past_receipts=_past_receipts(config.receipts.past),
        certificates=certificates,
        staff=load_staff(config.gateway.staff, self_uid=own_uid(config)),
        matrix=load_security_matrix(config.gateway.security_matrix),
    )
    return in_force, files


def make_state_folder(folder: Path) -> None:
    """Make the folder with the parents it lacks, so that a power cut after the first letter takes none. Blocks."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        sync_directory(each.parent)


async def open_house(config: Config, clock: Callable[[], datetime], stack: AsyncExitStack) -> House:
    """
    Open everything that the parts share; `stack` closes it again. The registration of the files is put in force.

    Raises:
        StillNeeded: messages under way need what the files no longer have.
        GatewayError, OSError: something cannot be opened; what was opened before is closed by the stack.
    """
    metrics = Metrics()
    await asyncio.to_thread(make_state_folder, config.gateway.state)
    in_force, files = await asyncio.to_thread(read_files, config)

    def on_commit(seconds: float, transactions: int) -> None:
        metrics.commit_seconds.observe(seconds)
        metrics.commit_batch.observe(transactions)

    ledger = await open_ledger(config.stores.ledger, clock=clock, on_commit=on_commit)
    stack.push_async_callback(ledger.close)
    blobs = MeasuredBlobs(
        open_blobs(config.stores.blobs), lambda call, seconds: metrics.blob_seconds.labels(call=call).observe(seconds)
    )
    stack.push_async_callback(blobs.close)
    # A production keyring is made by hand: one made by itself after a lost disk would hide that every key is gone.
    create_at = None if config.gateway.environment is Environment.PRODUCTION else clock()
    keyring = await open_keyring(config.stores.keyring, create_at=create_at)
    stack.push_async_callback(keyring.close)
    ids = partial(fresh_id, clock)
    vault = Vault(keyring, ledger, clock, ids)
    logbook = LogBook(gateway=config.gateway.name, clock=clock, ids=ids, vault=vault, ledger=ledger)
    number = await _put_in_force(files, config.providers, ledger, logbook)
    return House(
        config=config,
        in_force=replace(in_force, registration=replace(in_force.registration, version=number)),
        ledger=ledger,
        blobs=blobs,
        vault=vault,
        logbook=logbook,
        keyring=keyring,
        metrics=metrics,
        clock=clock,
        ids=ids,
    )


async def _put_in_force(files: RegistrationFiles, providers: Collection[str], ledger: Ledger, logbook: LogBook) -> int:
    """Put the registration that a start found in force, unless it is; return its number."""
    occasion = by_itself("start-up", logbook.gateway)
    noted = await ledger.noted_providers()
    # Looking through all messages under way takes its time, so it is done when something can have been taken away.
    one_may_be_gone = not noted or not noted.issubset(providers)
    while (step := await next_step(files, ledger)).is_new or one_may_be_gone:
        await require_needs_met(files.registration, providers, ledger)
        one_may_be_gone = False
        if not step.is_new:
            continue
        entry = occasion.entry(logbook, result="in-force", what=step.told)
        with suppress(Overtaken):  # by another process that starts with us, likely with the same files
            await take_step(step, occasion, [entry], logbook.clock(), ledger)
    if noted != frozenset(providers):
        await ledger.note_providers(providers)
    return step.number_before


def _receipt_signer(certificate: x509.Certificate, config: Config) -> ReceiptSigner:
    key = load_pem_private_key(config.receipts.key_file.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise GatewayError(f"{config.receipts.key_file} must hold an EC P-256 key: receipts are signed with ES256")
    if key.public_key() != certificate.public_key():
        raise GatewayError(f"{config.receipts.key_file} is not the key of {config.receipts.certificate}")
    return ReceiptSigner(certificate, key)


def _certificates(config: Config) -> dict[str, tuple[x509.Certificate, ...]]:
    files = {"intake": config.intake.certificate, "receipts": config.receipts.certificate}
    if config.portal.certificate is not None:
        files["portal"] = config.portal.certificate
    return {duty: load_certificates(file) for duty, file in files.items()}


def _past_receipts(folder: Path | None) -> tuple[x509.Certificate, ...]:
    files = [] if folder is None else sorted(folder.glob("*.pem"))
    return tuple(load_certificates(file)[0] for file in files)
