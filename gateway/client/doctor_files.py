"""The first half of an examination: the sender's file, the files that it names, and what its certificates can show."""

import os
import shlex
import ssl
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.client.findings import Check, Finding, failed, of_validity, ok, skipped, warning
from gateway.client.sender import SenderFileInvalid, SenderProfile, load_sender
from gateway.crypto.certs import (
    CertificateRejected,
    load_certificates,
    require_client_auth,
    require_digital_signature,
    require_strong_key,
)
from gateway.crypto.crls import extension_of, is_authority
from gateway.crypto.tls import TlsRefused, client_context
from gateway.errors import FieldError

__all__ = ["Papers", "address_of", "examine_certificates", "examine_files", "read_papers"]

_FILES: Final = ("ca", "certificate", "key", "signing_certificate", "signing_key", "receipt_certificate")
_PAIRS: Final = (("certificate", "key"), ("signing_certificate", "signing_key"))
_HTTPS_PORT: Final = 443
_NEW_CERTIFICATE: Final = "ask your certification authority for a new certificate, and have it registered"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Papers:
    """
    What could be read of a sender's file. `sender` is None where `load_sender` refused it, for the reasons in `errors`.

    `values` are the texts in the file, right or wrong; empty where it could not be read. `trust` verifies the gateway,
    also where nothing else can be used; None where `ca` cannot.
    """

    file: Path
    values: Mapping[str, str]
    errors: tuple[FieldError, ...]
    sender: SenderProfile | None
    certificate: x509.Certificate | None
    trust: ssl.SSLContext | None

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of the gateway; None where `base_url` does not tell."""
        if "base_url" not in self.values or "base_url" in map(self.key_of, self.errors):
            return None
        return address_of(self.values["base_url"])

    def path(self, key: str) -> Path | None:
        """Return the file that a key names."""
        return self.file.parent / self.values[key] if key in self.values else None

    def key_of(self, error: FieldError) -> str:
        """Return the key that an error is about; empty where it is about the file as a whole."""
        _, _, key = error.pointer.partition(f"{self.file}: ")
        return key


def address_of(base_url: str) -> tuple[str, int]:
    """Return host and port of an address that `load_sender` takes."""
    parts = urlsplit(base_url)
    return parts.hostname or "", parts.port or _HTTPS_PORT


def read_papers(file: Path) -> Papers:
    """Read a sender's file and all that it names, as far as that goes. Blocks."""
    values = _values(file)
    errors: tuple[FieldError, ...] = ()
    sender = None
    try:
        sender = load_sender(file)
    except SenderFileInvalid as invalid:
        errors = tuple(invalid.errors)
    if sender is not None:
        trust: ssl.SSLContext | None = sender.tls
    elif any(error.pointer == f"{file}: ca" for error in errors):
        trust = None
    else:
        trust = _trust(file.parent / values["ca"] if "ca" in values else None)
    return Papers(
        file=file,
        values=values,
        errors=errors,
        sender=sender,
        certificate=_certificate(file.parent / values["certificate"]) if "certificate" in values else None,
        trust=trust,
    )


# ── Files ──


def examine_files(papers: Papers) -> Iterator[Finding]:
    """Judge the sender's file and the files that it names. Blocks."""
    misfits = [pair for pair in _PAIRS if _fits(papers, *pair) is False]
    yield _of_sender_file(papers)
    if not papers.values:
        for check in (Check.FILES, Check.KEYS, Check.KEY_PROTECTION):
            yield skipped(check, "the sender's file names none")
        return
    yield _of_files(papers, misfits)
    yield _of_keys(papers, misfits)
    yield _of_key_protection(papers)


def _of_sender_file(papers: Papers) -> Finding:
    wrong = [error for error in papers.errors if not papers.values or not _is_about_a_file(papers, error)]
    if wrong:
        return failed(Check.SENDER_FILE, _listed(papers, wrong), f"correct {papers.file}")
    values = papers.values
    who = ", ".join([values["enterprise_number"], *([f"profile {values['profile']}"] if "profile" in values else [])])
    return ok(Check.SENDER_FILE, f"{papers.file} is for {values['gateway']} at {values['base_url']}, as {who}")


def _of_files(papers: Papers, misfits: list[tuple[str, str]]) -> Finding:
    """Judge whether every file is there and is what it should be; a key of another certificate is told elsewhere."""
    told_elsewhere = {key for _, key in misfits}
    if _PAIRS[0] in misfits and papers.trust is not None:
        told_elsewhere.add("")  # nothing else can be wrong with what they make together
    wrong = [
        error
        for error in papers.errors
        if _is_about_a_file(papers, error) and papers.key_of(error) not in told_elsewhere
    ]
    if wrong:
        return failed(Check.FILES, _listed(papers, wrong), "put each file where the sender's file says, in PEM")
    named = [key for key in _FILES if key in papers.values]
    system = "" if "ca" in named else "; without ca, the system's authorities are trusted"
    return ok(Check.FILES, f"{', '.join(named)}: all there{system}")


def _of_keys(papers: Papers, misfits: list[tuple[str, str]]) -> Finding:
    if misfits:
        found = "; ".join(f"{key} is not the key of {certificate}" for certificate, key in misfits)
        return failed(Check.KEYS, found, "name the key with which the certificate was requested")
    stated = [pair for pair in _PAIRS if set(pair) <= papers.values.keys()]
    if not stated or any(_fits(papers, *pair) is None for pair in stated):
        return skipped(Check.KEYS, "a certificate or key cannot be read")
    return ok(Check.KEYS, "; ".join(f"{key} fits {certificate}" for certificate, key in stated))


def _of_key_protection(papers: Papers) -> Finding:
    if os.name == "nt":
        return skipped(Check.KEY_PROTECTION, "file modes do not tell on Windows who may read a key")
    modes: dict[Path, int] = {}
    for path in (papers.path(key) for _, key in _PAIRS):
        try:
            if path is not None:
                modes[path] = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue  # told under FILES
    if not modes:
        return skipped(Check.KEY_PROTECTION, "no key file is there")
    exposed = {path: mode for path, mode in modes.items() if mode & (stat.S_IRWXG | stat.S_IRWXO)}
    found = "; ".join(f"{path} has mode {mode:04o}" for path, mode in (exposed or modes).items())
    fix = "chmod 600 " + shlex.join(map(str, exposed))
    if any(mode & stat.S_IRWXO for mode in exposed.values()):
        return failed(Check.KEY_PROTECTION, f"everyone on this machine may use the key: {found}", fix)
    if exposed:
        return warning(Check.KEY_PROTECTION, f"others in its group may use the key: {found}", fix)
    return ok(Check.KEY_PROTECTION, f"for its owner alone: {found}")


# ── Certificates ──


def examine_certificates(papers: Papers, now: datetime) -> Iterator[Finding]:
    """Judge the sender's own certificates by what stands in them, as the gateway will."""
    certificate = papers.certificate
    if certificate is None:
        for check in (
            Check.CLIENT_PURPOSE,
            Check.CLIENT_KEY_USAGE,
            Check.CLIENT_KEY_STRENGTH,
            Check.CLIENT_VALIDITY,
        ):
            yield skipped(check, "the certificate cannot be read")
    else:
        yield _of_purpose(certificate)
        yield _of_key_usage(certificate)
        yield _of_key_strength(certificate)
        yield of_validity(Check.CLIENT_VALIDITY, certificate, now, fix=_NEW_CERTIFICATE)
    yield _of_signing(papers.sender, now)


def _of_purpose(certificate: x509.Certificate) -> Finding:
    fix = "ask your certification authority for a certificate with the extended key usage clientAuth"
    if is_authority(certificate):
        return failed(Check.CLIENT_PURPOSE, "this is the certificate of an authority, nobody's own", fix)
    try:
        require_client_auth(certificate)
    except CertificateRejected as exc:
        return failed(Check.CLIENT_PURPOSE, f"not for TLS clients: {exc.detail}", fix)
    return ok(Check.CLIENT_PURPOSE, "for TLS clients (extended key usage clientAuth)")


def _of_key_usage(certificate: x509.Certificate) -> Finding:
    if extension_of(certificate, x509.KeyUsage) is None:
        return ok(Check.CLIENT_KEY_USAGE, "not restricted (no key usage extension)")
    try:
        require_digital_signature(certificate)
    except CertificateRejected as exc:
        fix = "ask your certification authority for a certificate with the key usage digitalSignature"
        return failed(Check.CLIENT_KEY_USAGE, exc.detail, fix)
    return ok(Check.CLIENT_KEY_USAGE, "for signatures (key usage digitalSignature)")


def _of_key_strength(certificate: x509.Certificate) -> Finding:
    try:
        require_strong_key(certificate, ed25519_allowed=True)
    except CertificateRejected as exc:
        fix = "make a new key, EC P-256 or RSA of 3072 bits, and ask for a certificate for it"
        return failed(Check.CLIENT_KEY_STRENGTH, exc.detail, fix)
    match certificate.public_key():
        case rsa.RSAPublicKey() as key:
            kind = f"RSA of {key.key_size} bits"
        case ec.EllipticCurvePublicKey() as key:
            kind = f"EC P-{key.curve.key_size}"
        case _:
            kind = "Ed25519"
    return ok(Check.CLIENT_KEY_STRENGTH, kind)


def _of_signing(sender: SenderProfile | None, now: datetime) -> Finding:
    if sender is None:
        return skipped(Check.SIGNING_VALIDITY, "the sender's file cannot be used as it is")
    shared = sender.signing_certificate == sender.tls_certificate
    prefix = "the same certificate as for TLS, " if shared else ""
    return of_validity(Check.SIGNING_VALIDITY, sender.signing_certificate, now, fix=_NEW_CERTIFICATE, prefix=prefix)


def _fits(papers: Papers, certificate: str, key: str) -> bool | None:
    """Tell whether a key is that of a certificate; None where either is not there or cannot be read."""
    certificate_path, key_path = papers.path(certificate), papers.path(key)
    if certificate_path is None or key_path is None:
        return None
    found = _certificate(certificate_path)
    if found is None:
        return None
    try:
        return load_pem_private_key(key_path.read_bytes(), None).public_key() == found.public_key()
    except (OSError, TypeError, ValueError, UnsupportedAlgorithm):
        return None  # why is told under FILES


def _certificate(path: Path) -> x509.Certificate | None:
    try:
        return load_certificates(path)[0]
    except (OSError, CertificateRejected):
        return None  # why is told under FILES


def _trust(ca: Path | None) -> ssl.SSLContext | None:
    try:
        return client_context(ca)
    except TlsRefused:
        return None  # why is told under FILES


def _values(file: Path) -> dict[str, str]:
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}  # why is told by `load_sender`
    return {key: value for key, value in values.items() if isinstance(value, str) and value}


def _is_about_a_file(papers: Papers, error: FieldError) -> bool:
    """Tell whether an error is about what the named files hold, and not about how they are named."""
    key = papers.key_of(error)
    return not key or (key in _FILES and key in papers.values)


def _listed(papers: Papers, errors: list[FieldError]) -> str:
    return "\n".join(f"{papers.key_of(error) or papers.file}: {error.detail}" for error in errors)
