"""
Looks at everything that the configuration points to, before anything starts: keys, certificates and the other files.

`load` tells what is wrong inside the configuration file; this tells what is wrong around it. Together they are
`gateway check-config`. Nothing is written, and nothing secret is repeated.
"""

import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from gateway.config import Config, EboxProvider, Environment, PrintRestProvider
from gateway.config.reader import ConfigInvalid, Findings, shown
from gateway.config.senders import load_registration
from gateway.config.staff import load_security_matrix, load_staff
from gateway.crypto.certs import (
    CertificateRejected,
    is_development,
    load_certificates,
    load_client_ca,
    require_current,
    require_strong_key,
)
from gateway.errors import FieldError

_LARGEST_SECRET_BYTES: Final = 65_536
_RSA_MIN_BITS: Final = 2048  # RS256: RFC 7518, section 3.3
_BEYOND_OWNER: Final = stat.S_IRWXG | stat.S_IRWXO


def preflight(config: Config, *, now: datetime) -> list[FieldError]:
    """Return what is wrong with the files that `config` names, as of `now`; empty when all is well. Blocks."""
    check = _Check(config=config, now=now)
    check.pair("intake", config.intake.certificate, config.intake.key_file)
    key = check.pair("receipts", config.receipts.certificate, config.receipts.key_file)
    if key is not None and not (isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)):
        check.wrong("receipts.key_file", config.receipts.key_file, "must be an EC key on the curve P-256, for ES256")
    if config.receipts.past is not None:
        check.past_receipts(config.receipts.past)
    if config.portal.certificate is not None and config.portal.key_file is not None:
        check.pair("portal", config.portal.certificate, config.portal.key_file)
    check.client_cas()
    check.providers()
    check.state()
    check.other_files()
    check.shared_keys()
    return check.findings.errors


def own_uid(config: Config) -> int | None:
    """Return what `uid = "self"` stands for in the staff file: this process's user in development, else nobody."""
    return os.getuid() if config.gateway.environment is Environment.DEVELOPMENT else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    config: Config
    now: datetime
    findings: Findings = field(default_factory=Findings)
    keys: list[tuple[str, bytes]] = field(default_factory=list)  # where a private key stands, and its public half

    @property
    def is_production(self) -> bool:
        return self.config.gateway.environment is Environment.PRODUCTION

    def wrong(self, key: str, file: Path, detail: str) -> None:
        self.findings.add(f"{shown(self.config.file)}: {key}", f"{shown(file)} {detail}")

    # keys and certificates

    def pair(self, table: str, certificate_file: Path, key_file: Path) -> PrivateKeyTypes | None:
        """Look at a certificate with its intermediates, and at the key that belongs to it, which is returned."""
        key = self.private_key(f"{table}.key_file", key_file)
        chain = self.certificates(f"{table}.certificate", certificate_file)
        if not chain:
            return key
        for certificate, issuer in pairwise(chain):
            try:
                certificate.verify_directly_issued_by(issuer)
            except (ValueError, TypeError, InvalidSignature):
                self.wrong(
                    f"{table}.certificate",
                    certificate_file,
                    "must hold the certificate first, then the authority that issued it, then that one's issuer",
                )
                break
        if key is not None and _public(key) != _public(chain[0]):
            self.wrong(f"{table}.key_file", key_file, "is not the key of the certificate")
        return key

    def certificates(self, key: str, file: Path) -> tuple[x509.Certificate, ...]:
        """Read certificates; every one must be valid now, strong enough, and in production a real one."""
        try:
            found = load_certificates(file)
        except (OSError, CertificateRejected) as exc:
            self.wrong(key, file, _unreadable(exc))
            return ()
        self.judge(key, file, found)
        return found

    def judge(self, key: str, file: Path, certificates: Iterable[x509.Certificate]) -> None:
        details: dict[str, None] = {}  # in order, each once, however many of the certificates share it
        for certificate in certificates:
            try:
                require_current(certificate, self.now)
                require_strong_key(certificate, ed25519_allowed=False)
            except CertificateRejected as exc:
                details[f"holds a certificate that cannot be used: {exc}"] = None
            if self.is_production and is_development(certificate):
                details["was made for development, where everybody has the keys; get a real certificate"] = None
        for detail in details:
            self.wrong(key, file, detail)

    def past_receipts(self, folder: Path) -> None:
        """Look whether earlier certificates can be read; that they have expired is in the nature of things."""
        if not folder.is_dir():
            self.wrong("receipts.past", folder, "is not a folder")
            return
        for file in sorted(folder.glob("*.pem")):
            try:
                load_certificates(file)
            except (OSError, CertificateRejected) as exc:
                self.wrong("receipts.past", file, _unreadable(exc))

    def private_key(self, key: str, file: Path) -> PrivateKeyTypes | None:
        content = self.secret(key, file)
        if content is None:
            return None
        try:
            private = load_pem_private_key(content, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            self.wrong(key, file, "is not a private key in PEM without a password")
            return None
        self.keys.append((key, _public(private)))
        return private

    def secret(self, key: str, file: Path) -> bytes | None:
        """Read a file that nobody but its owner may touch."""
        try:
            with file.open("rb") as stream:
                mode = os.fstat(stream.fileno()).st_mode
                content = stream.read(_LARGEST_SECRET_BYTES + 1)
        except OSError as exc:
            self.wrong(key, file, _unreadable(exc))
            return None
        # systemd shows what it hands over as readable by a group: the mask of the ACL that admits this service alone.
        handed_over = str(file.parent) == os.environ.get("CREDENTIALS_DIRECTORY")
        if mode & (_BEYOND_OWNER & ~stat.S_IRGRP if handed_over else _BEYOND_OWNER):
            self.wrong(key, file, f"is open to others (mode {stat.S_IMODE(mode):04o}); chmod 600 {shown(file)}")
        if len(content) > _LARGEST_SECRET_BYTES:
            self.wrong(key, file, "is far too large for a secret")
            return None
        return content

    def shared_keys(self) -> None:
        """In production each duty has a key of its own, so that losing one does not lose the others."""
        first: dict[bytes, str] = {}
        for key, public in self.keys:
            if self.is_production and public in first:
                self.findings.add(
                    f"{shown(self.config.file)}: {key}", f"is the same key as {first[public]}; make one for each duty"
                )
            first.setdefault(public, key)

    # who is trusted, and who is spoken to

    def client_cas(self) -> None:
        for number, ca in enumerate(self.config.client_cas):
            key = f"client_cas[{number}]"
            try:
                loaded = load_client_ca(ca.name, ca.file, crl_file=None, revocation=ca.revocation)
            except (OSError, CertificateRejected) as exc:
                self.wrong(f"{key}.file", ca.file, _unreadable(exc))
                continue
            self.judge(f"{key}.file", ca.file, loaded.certificates)
            if ca.crl_file is None:
                continue
            try:
                loaded = load_client_ca(ca.name, ca.file, crl_file=ca.crl_file, revocation=ca.revocation)
            except (OSError, CertificateRejected) as exc:
                self.wrong(f"{key}.crl_file", ca.crl_file, _unreadable(exc))
                continue
            if ca.revocation == "hard-fail" and any(crl.next_update_at < self.now for crl in loaded.crls):
                self.wrong(f"{key}.crl_file", ca.crl_file, "has expired, so with hard-fail nobody gets in; renew it")

    def providers(self) -> None:
        for name, provider in self.config.providers.items():
            key = f"providers.{name}"
            if provider.call.ca_file is not None:
                self.certificates(f"{key}.ca_file", provider.call.ca_file)
            match provider:
                case EboxProvider():
                    private = self.private_key(f"{key}.key_file", provider.key_file)
                    if private is not None and not (
                        isinstance(private, rsa.RSAPrivateKey) and private.key_size >= _RSA_MIN_BITS
                    ):
                        self.wrong(
                            f"{key}.key_file", provider.key_file, f"must be an RSA key of {_RSA_MIN_BITS} bits or more"
                        )
                case PrintRestProvider() if provider.api_key_file is not None:
                    self.api_key(f"{key}.api_key_file", provider.api_key_file)
                case PrintRestProvider():
                    pass

    def api_key(self, key: str, file: Path) -> None:
        content = self.secret(key, file)
        if content is None:
            return
        try:
            is_one_word = len(content.decode("ascii").split()) == 1
        except UnicodeDecodeError:
            is_one_word = False
        if not is_one_word:
            self.wrong(key, file, "must hold the key alone, on one line, in ASCII")

    # the rest

    def state(self) -> None:
        folder = self.config.gateway.state
        try:
            mode = folder.stat().st_mode
        except FileNotFoundError:
            return  # made when the stores are
        except OSError as exc:
            self.wrong("gateway.state", folder, _unreadable(exc))
            return
        if not stat.S_ISDIR(mode):
            self.wrong("gateway.state", folder, "is not a folder")
        elif mode & (stat.S_IWGRP | stat.S_IWOTH):
            self.wrong("gateway.state", folder, f"can be written by others; chmod go-w {shown(folder)}")

    def other_files(self) -> None:
        gateway = self.config.gateway
        authorities = {ca.name for ca in self.config.client_cas}
        readings: tuple[Callable[[], object], ...] = (
            lambda: load_registration(gateway.senders, gateway.categories, version=0, authorities=authorities),
            lambda: load_staff(gateway.staff, self_uid=own_uid(self.config)),
            lambda: load_security_matrix(gateway.security_matrix),
        )
        for reading in readings:
            try:
                reading()
            except ConfigInvalid as exc:
                self.findings.errors.extend(exc.errors)


def _public(holder: PrivateKeyTypes | x509.Certificate) -> bytes:
    return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _unreadable(exc: OSError | CertificateRejected) -> str:
    if isinstance(exc, FileNotFoundError):
        return "does not exist"
    return f"cannot be read: {exc.strerror}" if isinstance(exc, OSError) else f"cannot be used: {exc}"
